"""The experiments of the repository load and ask a question, and their JSON Schema is current."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from sweep.experiment.experiment import Experiment
from sweep.experiment.file_schema import ExperimentFile, make_experiment_schema
from sweep.experiment.yaml_document import read_file
from tests.experiment.conftest import TYPO

SCHEMA_FILE = "experiment.schema.json"
FOLDER = Path(__file__).parents[2] / "experiments"
SHIPPED = sorted(FOLDER.glob("*.yaml"))
POINTS = {
    "cfg_steps": 60,
    "denoise_study": 132,
    "looks": 18,
    "product_review": 24,
    "photo_restyle": 24,
    "prompt_matrix": 60,
    "quickstart": 18,
}


def test_which_there_are() -> None:
    assert {path.stem for path in SHIPPED} == POINTS.keys()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_each_loads_and_asks_a_question(path: Path) -> None:
    experiment = Experiment.load(path)
    assert experiment.name == path.stem
    assert len(experiment.grid) == POINTS[path.stem]
    assert experiment.description.endswith("?")
    assert not experiment.notices
    assert "model" not in experiment.inputs  # the server's only model is meant
    assert path.read_text(encoding="utf-8").startswith(f"# yaml-language-server: $schema={SCHEMA_FILE}\n")


def test_the_study_is_what_it_says() -> None:
    strength, variation, seed = Experiment.load(FOLDER / "denoise_study.yaml").axes
    assert [level.value for level in strength.levels] == [n / 10 for n in range(11)]
    assert len(variation.levels) == 3
    assert [level.value for level in seed.levels] == [42, 43, 44, 45]


def test_the_schema_file_is_current() -> None:
    """`sweep schema > experiments/experiment.schema.json` writes it anew."""
    assert json.loads((FOLDER / SCHEMA_FILE).read_text(encoding="utf-8")) == make_experiment_schema()


@pytest.fixture(scope="module")
def editor() -> Draft202012Validator:
    Draft202012Validator.check_schema(make_experiment_schema())
    return Draft202012Validator(make_experiment_schema())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_an_editor_finds_no_fault_in_them(path: Path, editor: Draft202012Validator) -> None:
    assert not [error.message for error in editor.iter_errors(read_file(path, path.name).data)]


@pytest.mark.parametrize(
    "part",
    [
        {"axes": {"zip": {"prompt": ["a"], "seed": {"count": 1}}}},
        {"axes": {"more": {"zip": {"prompt": ["a"], "seed": [1]}}}},
        {"axes": {"look": {"values": {"a": {"steps": 3}}}, "c": {"replace": "a", "with": ["b"]}}},
        {"axes": {"p": {"dynamic": ["{a|b}"], "wildcards": "w", "target": "pos.prompt"}}},
        {"axes": {"g": {"csv": "t.csv", "columns": ["a.b", "prompt"]}}},
        {"design": "one_at_a_time", "include": ["a.yaml", "b.yaml"], "roles": {"prompt": ["a.b"]}, "where": "a > 1"},
    ],
)
def test_an_editor_knows_every_way_of_writing(part: dict[str, Any], editor: Draft202012Validator) -> None:
    assert not [error.message for error in editor.iter_errors({"workflow": "txt2img", **part})]


def test_an_editor_finds_faults_too(editor: Draft202012Validator) -> None:
    from sweep.experiment.yaml_document import read_text

    found = list(editor.iter_errors(read_text(TYPO, folder=FOLDER, shown="typo").data))
    assert {error.path[0] for error in found if error.path} == {"axes", "design", "study"}
    assert any("descriptoin" in error.message for error in found)


def test_every_field_is_described() -> None:
    schema = make_experiment_schema()
    for name, model in {"experiment": schema, **schema["$defs"]}.items():
        assert model.get("description"), name
        for field, told in model["properties"].items():
            assert told.get("description"), f"{name}.{field}"
    assert set(schema["properties"]) == set(ExperimentFile.model_fields)


def test_images_are_small_squares_with_a_licence() -> None:
    told = (FOLDER / "images" / "README.md").read_text(encoding="utf-8")
    for path in (FOLDER / "images").glob("*.png"):
        assert f"`{path.name}`" in told
        assert path.stat().st_size < 500_000
        with Image.open(path) as image:
            assert image.size == (512, 512)
            assert not image.info
