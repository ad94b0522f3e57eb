"""An experiment lists its images, settings and seeds; a test classifies each field as part of the key or not."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path

import pytest
from PIL import Image

from sweep.errors import ExperimentError, UnfetchedError
from sweep.experiment.axes import Replacement, replace_words
from sweep.experiment.experiment import Experiment
from sweep.experiment.value_files import write_fetched
from sweep.role_table import INPUT_NAMES, ROLE_NAMES, is_address
from tests.experiment.conftest import Load, image, settings_at, with_axes

DECIDES_A_IMAGE = {
    "workflow": "the graph",
    "workflow_path": "the file of the graph",
    "inputs": "values in the graph",
    "dimensions": "values in the graph",
    "roles": "which fields get them",
}
DECIDES_NO_IMAGE = {
    "name": "a label",
    "description": "a label",
    "folder": "where files lie, not what is in them",
    "clauses": "which points there are, not what one looks like",
    "design": "which points there are, not what one looks like",
    "servers": "who renders",
    "board": "where images go",
    "study": "how images are measured",
    "text": "how all this is written",
    "fetched": "where files come from, not what is in them",
    "notices": "for people",
    "source": "for people",
    "marks": "for people",
}


def test_every_field_is_known_to_decide_an_image_or_not() -> None:
    fields = {field.name for field in dataclasses.fields(Experiment)}
    assert fields == DECIDES_A_IMAGE.keys() | DECIDES_NO_IMAGE.keys()
    assert not DECIDES_A_IMAGE.keys() & DECIDES_NO_IMAGE.keys()


def test_settings_are_inputs_then_levels_then_replacements() -> None:
    experiment = with_axes(
        {
            "colour": {"replace": "red", "with": ["blue"]},
            "prompt": ["a red hat", "red shoes"],
            "look": {"values": {"low": {"cfg_scale": 2}, "plain": {"scheduler": "euler"}}},
            "seed": [7],
        },
        inputs={"prompt": "never seen red", "cfg_scale": 5, "steps": 9},
    )
    first, last = experiment.grid[0], experiment.grid[-1]
    assert settings_at(experiment, first) == {"prompt": "a blue hat", "cfg_scale": 2, "steps": 9, "seed": 7}
    assert settings_at(experiment, last) == {
        "prompt": "blue shoes",
        "cfg_scale": 5,
        "steps": 9,
        "seed": 7,
        "scheduler": "euler",
    }


def test_a_replacement_that_finds_nothing_is_told() -> None:
    with pytest.raises(ExperimentError, match="does not occur"):
        replace_words("a green hat", [Replacement(search="red", by="blue")])
    experiment = with_axes({"colour": {"replace": "red", "with": ["blue"]}})
    with pytest.raises(ExperimentError, match='"red" does not occur in "", so nothing would be replaced'):
        settings_at(experiment, experiment.grid[0])


def test_images_are_known_by_what_is_in_them(load: Load, folder: Path) -> None:
    (folder / "copy.png").write_bytes((folder / "shots" / "a.png").read_bytes())
    experiment = load("workflow: img2img\ninputs: {control_image: copy.png}\naxes: {image: {images: shots/*}}")
    found = experiment.images()
    assert [one.shown for one in found.values()] == ["copy.png", "shots/b c.png"]
    assert [(one.width, one.height) for one in found.values()] == [(8, 6), (4, 4)]
    image(folder / "shots" / "a.png", (8, 6), "green")
    assert set(load("workflow: img2img\ninputs: {image: shots/a.png}").images()) - set(found)


def test_a_broken_image_is_told(load: Load, folder: Path) -> None:
    whole = (folder / "shots" / "a.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) - 30])
    with pytest.raises(ExperimentError, match=r"2:17  inputs.image names cut.png, which is a broken image"):
        load("workflow: img2img\ninputs: {image: cut.png}")
    for brand in (b"heic", b"mif1"):
        (folder / "phone.jpg").write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic")
        with pytest.raises(ExperimentError, match=r"phone.jpg, which is a HEIC image; save it"):
            load("workflow: img2img\ninputs: {image: phone.jpg}")


def test_experiments_are_values(load: Load) -> None:
    text = "workflow: img2img\ninputs: {image: shots/a.png}\naxes: {seed: {start: 1, count: 3}, variation: [a, b]}"
    one, two = load(text), load(text)
    assert len(one.grid) == 6  # a grid that was made makes no difference
    assert one == two
    assert one != load(text, ["axes.variation=[a, c]"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        one.inputs["steps"] = 3  # type: ignore[index]


def test_roles_and_addresses() -> None:
    assert set(INPUT_NAMES) - {"controls"} == set(ROLE_NAMES) - {"board"}
    for address in ("pos.prompt", "a.b.c", "1234-5.seed", "my node.value"):
        assert is_address(address)
    for other in ("prompt", ".x", "x.", "a b", "x.1", "", " a.b", "a.b c"):
        assert not is_address(other)


def test_levels_can_be_copied() -> None:
    experiment = with_axes(
        {"seed": {"start": 1, "count": 3}, "steps": [1, 2], "cfg_scale": {"start": 1, "stop": 2, "num": 3}}
    )
    for axis in experiment.axes:
        assert copy.deepcopy(axis) == axis
        assert pickle.loads(pickle.dumps(axis)) == axis


def test_a_list_of_fetched_files_names_none_outside_its_folder(tmp_path: Path) -> None:
    inputs = tmp_path / "inputs"
    Image.new("RGB", (64, 64)).save(tmp_path / "secret.png")
    definition = {"workflow": "img2img", "inputs": {"image": "gallery:a.png", "prompt": "a cup"}}
    for file in ("../secret.png", (tmp_path / "secret.png").as_posix()):
        write_fetched(inputs, {"gallery:a.png": {"server": "http://gpu1:9090", "file": file}})
        with pytest.raises(UnfetchedError):
            Experiment.from_dict(definition, tmp_path)
    Image.new("RGB", (64, 64)).save(inputs / "secret.png")
    assert Experiment.from_dict(definition, tmp_path).images()


def test_a_list_of_fetched_files_that_is_damaged_counts_as_none(tmp_path: Path) -> None:
    for damaged in ("[]", "{", '{"gallery:a.png": 3}'):
        (tmp_path / "inputs").mkdir(exist_ok=True)
        (tmp_path / "inputs" / "fetched.json").write_text(damaged)
        with pytest.raises(UnfetchedError):
            Experiment.from_dict({"workflow": "img2img", "inputs": {"image": "gallery:a.png"}}, tmp_path)
