"""Every kind of axis: what it makes, what it sets, and how its faults are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweep.experiment.experiment import Experiment
from sweep.experiment.model import InputImage, Replacement
from tests.experiment.conftest import Fail, Load, values_of, with_axes

HEAD = "workflow: img2img\ninputs: {prompt: a red car}\naxes:\n  "


def only(experiment: Experiment) -> tuple[str, str, list[Any]]:
    (axis,) = experiment.axes
    return axis.name, axis.kind, [level.value for level in axis.levels]


@pytest.mark.parametrize(
    ("axis", "kind", "values"),
    [
        ("steps: [10, 20]", "integer", [10, 20]),
        ("cfg_scale: [4, 7.5]", "number", [4.0, 7.5]),
        ("seed: [3, 1]", "seed", [3, 1]),
        ("seed: {start: 42, count: 4}", "seed", [42, 43, 44, 45]),
        ("noise.seed: [1, 2]", "seed", [1, 2]),
        ("variation: [yes, no]", "text", ["yes", "no"]),
        ("scheduler: [euler, ddim]", "text", ["euler", "ddim"]),
        ("model: [a, b@sdxl]", "text", ["a", "b@sdxl"]),
        ("lora: [null, film]", "text", [None, "film"]),
        ("vae: [null, fine]", "text", [None, "fine"]),
        ("board: [one, two]", "text", ["one", "two"]),
        ("l2i.tiled: [true, false]", "boolean", [True, False]),
        ("denoise.steps: [1, 2]", "integer", [1, 2]),
        ("denoise.cfg: [1, 2.5]", "number", [1.0, 2.5]),
        ("image: [shots/a.png]", "image", ["shots/a.png"]),
        ("image: {images: 'shots/*.png'}", "image", ["shots/a.png", "shots/b c.png"]),
        ("control_weight: {start: 0.5, stop: 1.5, num: 3}", "number", [0.5, 1.0, 1.5]),
    ],
)
def test_values_and_kinds(load: Load, axis: str, kind: str, values: list[Any]) -> None:
    name = axis.split(":")[0]
    experiment = load(HEAD + axis)
    assert only(experiment) == (name, kind, values)
    assert [type(v) for v in only(experiment)[2]] == [type(v) for v in values]
    for level in experiment.axes[0].levels:
        assert list(level.settings) == [name]
        setting = level.settings[name]
        assert (setting.shown if isinstance(setting, InputImage) else setting) == level.value


def test_a_name_of_ones_own_says_its_target(load: Load) -> None:
    experiment = load(HEAD + "text: {target: [pos.prompt, pos2.prompt], values: [a, b]}")
    assert only(experiment) == ("text", "text", ["a", "b"])
    assert experiment.axes[0].levels[1].settings == {"pos.prompt": "b", "pos2.prompt": "b"}


def test_labelled_values_set_several_things(load: Load) -> None:
    experiment = load(
        HEAD
        + "look: {values: {soft: {prompt: soft light, cfg_scale: 4}, photo: {image: shots/a.png}, plain: {steps: 5}}}"
    )
    assert only(experiment) == ("look", "label", ["soft", "photo", "plain"])
    soft, photo, _ = (level.settings for level in experiment.axes[0].levels)
    assert soft == {"prompt": "soft light", "cfg_scale": 4}
    assert isinstance(photo["image"], InputImage)
    assert [experiment.settings(v)["prompt"] for v in experiment.grid] == ["soft light", "a red car", "a red car"]


def test_labels_over_one_target(load: Load) -> None:
    experiment = load(HEAD + "lora: {values: {none: null, one: film, two: [{name: film, weight: 0.5}, grain]}}")
    assert [level.settings["lora"] for level in experiment.axes[0].levels] == [
        None,
        "film",
        [{"name": "film", "weight": 0.5}, "grain"],
    ]


def test_controls_hold_images(load: Load) -> None:
    experiment = load(
        "workflow: txt2img\ninputs:\n  controls:\n"
        "    - {model: canny, image: shots/a.png, weight: 0.8, begin: 0, end: 0.5}\n"
        "  node.image: {image: shots/b c.png}"
    )
    controls = experiment.inputs["controls"]
    assert isinstance(controls, list)
    (control,) = controls
    assert control["weight"] == 0.8
    assert isinstance(control["image"], InputImage)
    assert isinstance(experiment.inputs["node.image"], InputImage)
    assert len(experiment.images()) == 2


def test_lines_of_a_file(load: Load, folder: Path) -> None:
    (folder / "p.txt").write_text("\ufeffred car\r\n\n# not this\r\n  blue car \nred car\n", encoding="utf-8")
    experiment = load(HEAD + "prompt: {lines: p.txt}")
    assert only(experiment) == ("prompt", "text", ["red car", "blue car"])
    assert experiment.notices == ("axes.prompt: 1 of 3 values of p.txt are repeats and left out.",)
    (folder / "n.txt").write_text("1\n2.5\n")
    assert only(load(HEAD + "cfg_scale: {lines: n.txt}"))[2] == [1.0, 2.5]
    assert only(load(HEAD + "prompt: {lines: n.txt}"))[2] == ["1", "2.5"]


def test_columns_of_a_csv_file(load: Load, folder: Path) -> None:
    (folder / "t.csv").write_text('prompt;guidance;n\n"a; b";4;1\nb;5.5;1\n', encoding="utf-8")
    assert only(load(HEAD + "prompt: {csv: t.csv}"))[2] == ["a; b", "b"]
    assert only(load(HEAD + "cfg_scale: {csv: t.csv, column: guidance}"))[2] == [4.0, 5.5]
    both = load(HEAD + "rows: {csv: t.csv, columns: {prompt: prompt, cfg_scale: guidance, steps: n}}")
    assert [list(v.values.values()) for v in both.grid] == [["a; b", 4.0, 1], ["b", 5.5, 1]]


def test_settings_of_a_json_or_yaml_file(load: Load, folder: Path) -> None:
    (folder / "looks.json").write_text('{"soft": {"prompt": "s", "cfg_scale": 4}, "hard": {"image": "shots/a.png"}}')
    experiment = load(HEAD + "look: {settings: looks.json}")
    assert only(experiment) == ("look", "label", ["soft", "hard"])
    assert isinstance(experiment.axes[0].levels[1].settings["image"], InputImage)
    (folder / "list.yaml").write_text("- {label: few, steps: 5}\n- {steps: 50}\n")
    assert only(load(HEAD + "look: {settings: list.yaml}"))[2] == ["few", "2"]


def test_search_and_replace(load: Load) -> None:
    experiment = load(HEAD + "colour: {replace: red, with: [red, blue]}\n  thing: {replace: car, with: [boat]}")
    assert experiment.axes[0].levels[1].settings == {"prompt": Replacement(search="red", by="blue")}
    assert [experiment.settings(v)["prompt"] for v in experiment.grid] == ["a red boat", "a blue boat"]


def test_replacement_in_what_only_the_workflow_says() -> None:
    experiment = with_axes({"colour": {"replace": "red", "with": ["blue"], "target": "pos.prompt"}})
    assert experiment.settings(experiment.grid[0], {"pos.prompt": "a red hat"}) == {"pos.prompt": "a blue hat"}


def test_zip_of_every_kind(load: Load, folder: Path) -> None:
    (folder / "p.txt").write_text("x\ny\n")
    experiment = load(
        HEAD + "zip:\n    prompt: {lines: p.txt}\n    seed: {start: 1, count: 2}\n    image: {images: shots/*}\n"
        "  more:\n    zip: {steps: [1, 1], cfg_scale: {start: 1, stop: 2, step: 1}}"
    )
    assert [len(dimension.axes) for dimension in experiment.dimensions] == [3, 2]
    assert list(experiment.grid[3].values.values()) == ["y", 2, "shots/b c.png", 1, 2.0]


def test_seeds_by_count_are_drawn_later_and_once() -> None:
    experiment = with_axes({"seed": {"count": 3}, "zip": {"noise.seed": {"count": 2}, "prompt": ["a", "b"]}})
    assert experiment.undrawn == {"seed": 3, "noise.seed": 2}
    assert len(experiment.grid) == 6
    drawn = experiment.with_seeds({"seed": (9, 8, 7)}).with_seeds({"noise.seed": [1, 2]})
    assert not drawn.undrawn
    assert values_of(drawn, "seed") == [9, 8, 7]
    assert drawn.grid[5].values == {"seed": 7, "noise.seed": 2, "prompt": "b"}
    assert drawn.axes[0].kind == "seed"


def test_seeds_that_were_not_asked_for() -> None:
    from sweep.errors import ExperimentError

    experiment = with_axes({"seed": {"count": 3}, "steps": [1, 2]})
    for wrong in ({"steps": [1, 2]}, {"seed": [1, 2]}, {"seed": [1, 1, 2]}, {"seed": [1, 2, 2**32]}):
        with pytest.raises(ExperimentError):
            experiment.with_seeds(wrong)
    with pytest.raises(ExperimentError, match="not drawn"):
        _ = experiment.grid[0]


@pytest.mark.parametrize(
    ("axis", "problem"),
    [
        ("steps: []", "4:3  axes.steps is empty; an axis needs at least one value"),
        ("steps:", "4:3  axes.steps is empty; an axis needs at least one value"),
        ("steps: {}", "4:3  axes.steps is empty; an axis needs at least one value"),
        ("steps: 5", "4:3  axes.steps must be a list or a mapping, not 5; one fixed value belongs to inputs"),
        ("steps: [1, 2.5]", "4:14  axes.steps must be a whole number, not 2.5"),
        ("steps: [20, 20]", "4:15  axes.steps: 20 appears twice (values 1 and 2)"),
        ("cfg_scale: [4, 4.0]", "4:18  axes.cfg_scale: 4 appears twice (values 1 and 2)"),
        ("steps: {start: 1, stop: 2, step: 0.5}", "4:3  axes.steps must be whole numbers; these steps are not"),
        ("steps: {start: 1, stop: 2, stp: 1}", "4:3  axes.steps needs step"),
        (
            "prompt: [a, 3]",
            '4:15  axes.prompt must be text, not 3; text that looks like something else needs quotes: "3"',
        ),
        ("a.b: [true, 1]", "4:15  axes.a.b mixes true or false and numbers: true, 1"),
        ("a.b: [{x: 1}]", "4:9  axes.a.b.0 must be one plain value, not a mapping; values with parts get a label: "),
        ("sed: {count: 4}", "4:3  axes.sed is not a role or a node.field. Did you mean seed?"),
        ("x: {values: [1], target: promt}", "4:28  axes.x: target promt is not a role or a node.field. Did you mean "),
        ("model: {strat: 1}", "4:3  axes.model is not a kind of axis: it has strat. Did you mean start?"),
        ("denoise_strength: [0.2, 1.2]", "4:27  axes.denoise_strength is 1.2, but must be 0 to 1"),
        (
            "denoise_strength: {start: 0.2, stop: 1.2, step: 0.2}",
            "4:40  axes.denoise_strength reaches 1.2, but denoise_strength must be 0 to 1",
        ),
        ("steps: {start: 0, stop: 4, step: 1}", "4:18  axes.steps reaches 0, but steps must be at least 1"),
        ("prompt: {start: 0, stop: 4, step: 1}", "4:3  axes.prompt holds numbers, but prompt is set to a text"),
        ("seed: {start: 4294967295, count: 2}", "4:17  axes.seed: seeds are 0 to 4294967295; these reach 4294967296"),
        ("steps: {count: 3}", "4:3  axes.steps: count draws seeds, and steps is none; a range has start and stop"),
        ("zip: {prompt: [a, b, c], seed: [1, 2, 3, 4]}", "4:28  zip: prompt has 3 values, seed has 4."),
        ("zip: {prompt: [a, a], seed: [1, 1]}", "4:3  axes.zip: values 1 and 2 of all its axes are the same"),
        ("zip: {prompt: [a]}", "4:3  axes.zip needs at least two axes that step together"),
        ("l: {values: {a: x}}", "4:19  axes.l.a does not say what it sets; l is not a role or a node.field"),
        ("l: {values: {a: {}}}", "4:19  axes.l.a sets nothing"),
        ("l: {values: {}}", "4:15  axes.l is empty; an axis needs at least one value"),
        ("image: [shots/nope.png]", "4:11  axes.image.0 shots/nope.png does not exist"),
        ("image: [bad.png]", "4:11  axes.image.0 bad.png is no PNG: it does not decode as an image"),
        ("image: [shots]", "4:11  axes.image.0 shots is a folder"),
        ("image: {images: 'no/*'}", "4:19  axes.image: no file matches no/*"),
        ("prompt: {lines: nope.txt}", "4:19  axes.prompt: nope.txt does not exist"),
        ("prompt: {csv: nope.csv}", "4:17  axes.prompt: nope.csv does not exist"),
        ("c: {replace: green, with: [blue]}", '4:16  axes.c: "green" does not occur in the prompt "a red car"'),
        ("c: {replace: red, with: []}", "4:27  axes.c: with is empty; an axis needs at least one value"),
        ("lora: {replace: red, with: [a]}", "4:19  axes.lora: replace makes texts, but lora is none"),
        ("lora: [{name: a}]", "4:10  axes.lora.0 must be one plain value, not a mapping"),
    ],
)
def test_faults(faults: Fail, axis: str, problem: str) -> None:
    found = faults(HEAD + axis)
    assert any(line.startswith(problem) for line in found), found


def test_every_fault_of_one_axis_is_told(faults: Fail) -> None:
    assert len(faults(HEAD + "steps: [0, 1, -3]")) == 2
    labelled = "l: {values: {a: {stps: 3, prompt: 3}, b: {steps: 0, image: nope.png}}}"
    assert [line.split()[1] for line in faults(HEAD + labelled)] == [
        "axes.l.values.a.stps",
        "axes.l.values.a.prompt",
        "axes.l.values.b.steps",
        "axes.l.values.b.image",
    ]


def test_two_axes_may_not_set_one_thing(faults: Fail) -> None:
    both = "prompt: [a, b]\n  look: {values: {x: {prompt: c}}}"
    assert faults(HEAD + both) == ["5:3  axes prompt and look both set prompt."]
    again = "seed: [1]\n  more: {zip: {seed: [1, 2], steps: [1, 2]}}"
    assert any("two axes named seed" in line for line in faults(HEAD + again))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", "prompt,b\n1\n", "row 1 has 1 cells, the header 2"),
        ("t.csv", "a,b\n", "holds no row below its header"),
        ("t.csv", 'prompt\n"x\n', "is not CSV"),
        ("t.csv", "promt\nx\n", "has no column prompt. Did you mean promt?"),
        ("t.txt", "\n# only this\n", "holds no line"),
        ("t.json", "[1, 2]", "entry 1 must be a mapping"),
        ("t.json", '{"a": 1}', "a must be a mapping of what it sets, not 1"),
        ("t.json", "3", "must hold a mapping of labels"),
        ("t.json", '{"a": {', "t.json: 1:8"),
        ("t.json", '[{"label": "x", "steps": 1}, {"label": "x", "steps": 2}]', "the label x appears twice"),
    ],
)
def test_files_of_values_that_are_wrong(faults: Fail, folder: Path, name: str, content: str, said: str) -> None:
    (folder / name).write_text(content)
    key = {"csv": "csv", "txt": "lines", "json": "settings"}[name.split(".")[1]]
    (line,) = faults(HEAD + f"prompt: {{{key}: {name}}}")
    assert said in line


def test_a_file_of_values_that_is_not_utf8(faults: Fail, folder: Path) -> None:
    (folder / "p.txt").write_bytes(b"caf\xe9\n")
    assert "p.txt is not UTF-8 text (byte 3)" in faults(HEAD + "prompt: {lines: p.txt}")[0]
