"""Reading YAML gives plain data only, each problem has a place, and a file wins over the files it includes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from sweep.errors import ExperimentError
from sweep.experiment.experiment import Experiment
from sweep.experiment.yaml_document import MAX_DOCUMENT_BYTES, dump_yaml, read_text
from sweep.input_images import InputImage
from tests.experiment.conftest import Fail, Load, mark_place, values_of

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


def said(raw: bytes | str, tmp_path: Path) -> str:
    path = tmp_path / "x.yaml"
    path.write_bytes(raw.encode() if isinstance(raw, str) else raw)
    with pytest.raises(ExperimentError) as caught:
        Experiment.load(path)
    return str(caught.value).replace(str(path), "x.yaml").replace("\n ", "")


RENDER = "sweep run img2img --image x.yaml renders variations of it. sweep init x.yaml writes an experiment"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("", "x.yaml is empty. An experiment has at least a workflow."),
        ("# only a comment\n", "x.yaml is empty. An experiment has at least a workflow."),
        ("- a\n- b", "x.yaml: 1 problem 1:1  an experiment is a mapping."),
        ("text", "x.yaml: 1 problem 1:1  an experiment is a mapping."),
        ("a: 1\nb: [1,", "x.yaml: 1 problem 2:7  a value or a closing bracket is missing at the end."),
        ("a:\n\t- 1", "x.yaml: 1 problem 2:1  this line is indented with a tab; replace the tab with spaces."),
        ("a: b\n\tc: d", "x.yaml: 1 problem 2:1  this line is indented with a tab; replace the tab with spaces."),
        ("a: 1\nb: 2\na: 3", "x.yaml: 1 problem 3:1  a appears twice; first in line 1."),
        ("a: &x [1]\na: [*x]", "x.yaml: 1 problem 2:1  a appears twice; first in line 1."),
        ("a: {x: 1, x: 2}", "x.yaml: 1 problem 1:11  x appears twice; first in line 1."),
        ("a: 1\n---\nb: 2", "x.yaml: 1 problem 2:1  a second document begins here; a file holds one experiment."),
        ("a: .nan", "x.yaml: 1 problem 1:4  .nan is not a number that can be set."),
        ("a: 1e999", "x.yaml: 1 problem 1:4  1e999 is not a number that can be set."),
        ("a: " + "9" * 400, "x.yaml: 1 problem 1:4  a number of more than 300 digits."),
        ("? [a]\n: b", "x.yaml: 1 problem 1:3  a key must be plain text."),
        ("a: *b", "x.yaml: 1 problem 1:4  *b refers to nothing: there is no &b before it."),
        ("a: &a [*a]", "x.yaml: 1 problem 1:4  nested deeper than 40 levels; does an alias hold itself?"),
        ("a: " + "[" * 50 + "]" * 50, "x.yaml: 1 problem 1:43  nested deeper than 40 levels."),
        ("a: " + "[" * 50_000, "x.yaml: 1 problem 1:43  nested deeper than 40 levels."),
        (BOMB, "x.yaml: 1 problem 1:35  aliases expand to more than 100000 values."),
        ("a: 1".encode("utf-16"), "x.yaml: 1 problem 1:1  is UTF-16 text; save it as UTF-8."),
        (b"a: 1\nb: caf\xe9", "x.yaml: 1 problem 2:7  is not UTF-8 text from here on."),
        (b"\xef\xbb\xbfa: \xc3\xa9\xc3\xa9\xff", "x.yaml: 1 problem 1:6  is not UTF-8 text from here on."),
        ("a: 1\nb: \x07", "x.yaml: 1 problem 2:4  a control character, U+0007, is not allowed in YAML."),
        ("a: 1\n\0", "x.yaml: 1 problem 2:1  a control character, U+0000, is not allowed in YAML."),
        ('a: "b\nc: d', "x.yaml: 1 problem 1:4  this quote is never closed."),
        (
            "a: {b: c: d}",
            "x.yaml: 1 problem 1:9  a second colon in the line, or a wrong indent; text with ': ' in it needs quotes.",
        ),
        ("a: {b: [1, 2}", "x.yaml: 1 problem 1:13  expected ',' or ']', but got '}'."),
        ("a: [1, 2", "x.yaml: 1 problem 1:4  this bracket is never closed; ] is missing."),
        (
            "a: b\n c: d",
            "x.yaml: 1 problem 2:3  a second colon in the line, or a wrong indent; text with ': ' in it needs quotes.",
        ),
        ("a:\n  - 1\n b: 2", "x.yaml: 1 problem 3:2  the indentation fits nothing above it."),
        ('a: "\\ud83d"', "x.yaml: 1 problem 1:4  a \\ud… without the second \\ud… that it needs to be a character."),
        ("a: %b", "x.yaml: 1 problem 1:4  put text that begins with % in quotes."),
        ("a: &", "x.yaml: 1 problem 1:5  a name is missing after & or *; text that begins so needs quotes."),
        ("a:\n  b: 1\nc\nd: 2", "x.yaml: 1 problem 3:1  a key without its colon, or text that goes on too far left."),
        (
            b"\x89PNG\r\n\x1a\n",
            f"x.yaml is an image, not an experiment. {RENDER} for the workflow in it.",
        ),
        (
            '{"nodes": {}, "edges": []}',
            "x.yaml is a workflow, not an experiment. sweep init x.yaml writes an experiment for it.",
        ),
        (b"#" * (MAX_DOCUMENT_BYTES + 1), "x.yaml is larger than 2 MB; experiments are smaller."),
        (
            "<<: {a: 1}\nworkflow: txt2img",
            "x.yaml: 1 problem 1:1  merge keys (<<) are not part of YAML 1.2; use include: to build on another file.",
        ),
    ],
)
def test_files_that_are_no_experiment(raw: bytes | str, message: str, tmp_path: Path) -> None:
    assert said(raw, tmp_path) == message


def test_json_writes_some_characters_in_two_escapes(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    data = {"workflow": "txt2img", "inputs": {"prompt": "a 😀 face"}}
    path.write_text(json.dumps(data), encoding="ascii")
    assert Experiment.load(path).inputs["prompt"] == "a 😀 face"


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!custom", "!!binary"])
def test_tags_make_nothing(tag: str, tmp_path: Path) -> None:
    assert "is not allowed; an experiment is plain data" in said(f"a: {tag} x", tmp_path)


def test_no_such_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"none\.yaml does not exist"):
        Experiment.load(tmp_path / "none.yaml")
    with pytest.raises(ExperimentError, match="is a folder, not a file"):
        Experiment.load(tmp_path)


def test_a_byte_order_mark_and_windows_lines_are_welcome(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes("\ufeffworkflow: txt2img\r\naxes:\r\n  seed: [1, 2]\r\n".encode())
    experiment = Experiment.load(path)
    assert len(experiment.grid) == 2
    assert mark_place(experiment.find_mark("axes.seed")) == (3, 3)


def test_scalars_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    text = (
        "[yes, no, on, off, 012, 0o17, 0x1F, 1e3, .5, -3, +4, 1_000, 12:30, ~, null, true, 'true', !!str 5, 2026-01-01]"
    )
    assert read_text(text, folder=tmp_path, shown="x").data == [
        *("yes", "no", "on", "off", 12, 15, 31, 1000.0, 0.5, -3, 4, "1_000", "12:30"),
        *(None, None, True, "true", "5", "2026-01-01"),
    ]


def test_aliases_stand_for_what_they_name(tmp_path: Path) -> None:
    document = read_text("a: &x {y: [1, 2]}\nb: *x\n", folder=tmp_path, shown="x")
    assert document.data == {"a": {"y": [1, 2]}, "b": {"y": [1, 2]}}
    document.data["a"]["y"].append(3)
    assert document.data["b"]["y"] == [1, 2]


@given(st.text(alphabet="ab:-[]{}&*!#?'\"|>%@` \n\t,0.1\u00e9", max_size=60))
def test_any_text_is_data_or_a_fault(text: str) -> None:
    try:
        data = read_text(text, folder=Path(), shown="x").data
    except ExperimentError as error:
        data = str(error)
    assert isinstance(data, dict | list | str | int | float | bool | None)


def test_include_is_merged_entry_by_entry(load: Load, folder: Path) -> None:
    (folder / "base.yaml").write_text(
        "workflow: img2img\ndescription: base\ninputs: {prompt: a, steps: 9}\n"
        "axes: {cfg_scale: {start: 1, stop: 3, step: 1}, seed: [1, 2], steps: [3, 4]}"
    )
    experiment = load(
        "include: base.yaml\ndescription: top\ninputs: {steps: 10}\naxes: {cfg_scale: [4], steps: null, variation: [x]}"
    )
    assert experiment.description == "top"
    assert experiment.workflow == "img2img"
    assert experiment.inputs == {"prompt": "a", "steps": 10}
    assert [axis.name for axis in experiment.axes] == ["cfg_scale", "seed", "variation"]
    assert values_of(experiment, "cfg_scale") == [4.0]


def test_paths_of_a_base_file_start_from_its_folder(load: Load, folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "base.yaml").write_text("workflow: img2img\ninputs: {image: ../shots/a.png}")
    (folder / "more.yaml").write_text("include: deep/base.yaml\ninputs: {steps: 4}")
    image = load("include: [more.yaml]").inputs["image"]
    assert isinstance(image, InputImage)
    assert image.path == folder / "shots" / "a.png"
    assert image.shown == "shots/a.png"


def test_a_later_base_wins_over_an_earlier(load: Load, folder: Path) -> None:
    (folder / "one.yaml").write_text("workflow: img2img\ninputs: {steps: 1, prompt: one}")
    (folder / "two.yaml").write_text("inputs: {steps: 2}")
    assert load("include: [one.yaml, two.yaml]").inputs == {"steps": 2, "prompt": "one"}


def test_a_fault_in_a_base_file_is_told_with_its_name_and_place(faults: Fail, folder: Path) -> None:
    (folder / "base.yaml").write_text("workflow: img2img\ninputs:\n  steps: 0\n")
    assert faults("include: base.yaml\ninputs: {sed: 1}") == [
        "2:10  inputs.sed is neither an input (such as prompt) nor a NODE.FIELD. Did you mean seed?",
        "inputs.steps is 0, but must be at least 1 (base.yaml 3:10).",
    ]


def test_circles_and_missing_bases_are_refused(faults: Fail, folder: Path) -> None:
    (folder / "a.yaml").write_text("include: b.yaml")
    (folder / "b.yaml").write_text("include: a.yaml")
    assert "include goes in a circle: test.yaml → a.yaml → b.yaml → a.yaml" in faults("include: a.yaml")[0]
    assert "include goes in a circle: test.yaml → test.yaml" in faults("include: test.yaml")[0]
    assert faults("workflow: txt2img\ninclude: none.yaml") == ["2:10  include: none.yaml does not exist."]
    assert faults("include: 3") == ["1:10  include must be a file, or a list of files."]
    (folder / "list.yaml").write_text("- a")
    assert faults("include: list.yaml") == ["1:10  include: list.yaml does not hold a mapping."]


def test_folder_says_where_paths_start(load: Load, folder: Path) -> None:
    experiment = load("workflow: img2img\nfolder: shots\ninputs: {image: a.png}")
    assert experiment.folder == folder / "shots"
    assert (folder / "shots").as_posix() in experiment.text


@pytest.mark.parametrize(
    ("axis", "overrides", "names"),
    [
        ("{images: shots/*.png}", [], ["../../base/shots/a.png", "../../base/shots/b.png"]),
        ("{images: [shots/a*, shots/b*]}", [], ["../../base/shots/a.png", "../../base/shots/b.png"]),
        ("[shots/a.png, c.png]", ["axes.image.1=c.png"], ["../../base/shots/a.png", "c.png"]),
        ("[shots/a.png]", ["axes.image=[c.png]"], ["c.png"]),
        ("{csv: rows.csv, column: image}", [], ["c.png", "../../base/shots/b.png"]),
        ("{settings: looks.json}", [], ["c.png"]),
    ],
)
def test_paths_start_from_the_file_that_holds_them(
    tmp_path: Path, axis: str, overrides: list[str], names: list[str]
) -> None:
    """In a base file from its folder; given by --set, or in a table that it names, from that of the experiment."""
    base, own = tmp_path / "base", tmp_path / "own" / "deep"
    own.mkdir(parents=True)
    for path in (base / "shots" / "a.png", base / "shots" / "b.png", own / "c.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (ord(path.stem), 0, 0)).save(path)
    (base / "rows.csv").write_text("image\nc.png\n../../base/shots/b.png\n")
    (base / "looks.json").write_text('{"c": {"image": "c.png"}}')
    (base / "base.yaml").write_text(f"workflow: img2img\naxes: {{image: {axis}}}")
    (own / "x.yaml").write_text("include: ../../base/base.yaml")

    experiment = Experiment.load(own / "x.yaml", overrides)

    assert [image.shown for image in experiment.images().values()] == names
    assert Experiment.from_text(experiment.text).images() == experiment.images()


def test_folder_holds_for_the_experiment_and_not_for_its_base(load: Load, folder: Path) -> None:
    (folder / "base.yaml").write_text("workflow: img2img\ninputs: {image: shots/a.png, control_image: shots/a.png}")

    experiment = load("include: base.yaml\nfolder: shots\ninputs: {control_image: a.png}")

    assert [image.shown for image in experiment.inputs.values() if isinstance(image, InputImage)] == ["a.png", "a.png"]


_ODD = st.text(alphabet="0123456789.eExob+-_:#'\"{}[]&*!|>%@`,?~ nultrfasy\n\t=<\x85\u2028\ufeff\x7fé", max_size=6)
_VALUES = st.one_of(_ODD, st.floats(allow_nan=False, allow_infinity=False), st.lists(_ODD, max_size=2))


@given(st.dictionaries(_ODD, _VALUES, min_size=1))
@example({":)": ["?2#"], "a": "x\x85y", "<<": ""})
def test_what_is_written_is_read_back(data: dict[str, Any]) -> None:
    assert repr(read_text(dump_yaml(data), folder=Path(), shown="x").data) == repr(data)
