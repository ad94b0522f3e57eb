"""--axis understands ranges as other tools write them, --set wins over the file, and slips are answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import DefinitionError, ExperimentError, UsageError
from sweep.experiment import Experiment, parse_axis, parse_input, write_experiment
from tests.experiment.conftest import Fail, Load, image, values_of

TYPED: dict[str, Any] = {
    "denoise_strength=0.2:0.8:0.2": {"start": 0.2, "stop": 0.8, "step": 0.2},
    "seed=1,2,3": [1, 2, 3],
    "seed=1:5": {"start": 1, "stop": 5, "step": 1},
    "seed=1-5": {"start": 1, "stop": 5, "step": 1},
    "seed=random:4": {"count": 4},
    "seed={count: 4}": {"count": 4},
    "steps=1, 2, ..., 10": {"start": 1, "stop": 10, "step": 1},
    "steps=1, ..., 10": {"start": 1, "stop": 10, "step": 1},
    "cfg_scale=1, 1.5, .., 3": {"start": 1, "stop": 3, "step": 0.5},
    "steps=10-30 (+5)": {"start": 10, "stop": 30, "step": 5},
    "steps=30-10 (-5)": {"start": 30, "stop": 10, "step": -5},
    "steps=10-30 [5]": {"start": 10, "stop": 30, "num": 5},
    "steps=1-3, 10, 20-40 (+10)": [1, 2, 3, 10, 20, 30, 40],
    "control_weight=-0.5:0.5:0.5": {"start": -0.5, "stop": 0.5, "step": 0.5},
    "variation=@prompts.txt": {"lines": "prompts.txt"},
    "prompt=@looks.csv:Look": {"csv": "looks.csv", "column": "Look"},
    "prompt=@C:\\looks.CSV:Look: all": {"csv": "C:\\looks.CSV", "column": "Look: all"},
    "prompt=@C:\\looks.tsv": {"csv": "C:\\looks.tsv", "column": "prompt"},
    "style=@styles.yaml": {"settings": "styles.yaml"},
    "image=shots/*.png": {"images": ["shots/*.png"]},
    "image=a.png, b.png": ["a.png", "b.png"],
    'prompt="a cat, asleep", a dog': ["a cat, asleep", "a dog"],
    "prompt=a cat, asleep || a dog": ["a cat, asleep", "a dog"],
    "variation=007, 1e3": ["007", "1e3"],
    "variation={red|blue} hat": ["{red|blue} hat"],
    "vae=null, better": [None, "better"],
    "denoise.steps=3,4": [3, 4],
    "l2i.tiled=true,false": [True, False],
    "sampler.scheduler=euler, lms": ["euler", "lms"],
}


def test_axes_are_understood_as_people_type_them() -> None:
    for text, values in TYPED.items():
        assert parse_axis(text) == (text.partition("=")[0], values), text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("steps", "has no values. Write NAME=VALUES."),
        ("=1", "has no name."),
        ("steps=few", '"few" is not a number or a range. Write a list'),
        ("steps=1,,2", "a value is empty."),
        ("steps=1, ...", "... stands between numbers, as in 1, 2, ..., 10."),
        ("steps=1-5, ..., 9", "... stands between numbers"),
        ("steps=1, ..., 5:2", "... stands between numbers"),
        ("steps=10-30:5", '"10-30:5" is not a number or a range.'),
        ("denoise_strength=0.2-0.8", "the range from 0.2 to 0.8 needs a step, as in 0.2:0.8:0.1."),
        ("steps=3, 1:9:-1", "a step of -1 does not lead from 1 to 9."),
        ("steps=3, 1:99999999", "these are more than 10,000 values; one range alone may be longer."),
        ("cfg_scale=1e999", "1e999 is not a number that can be set."),
        ("variation=@", "@ needs the path of a file."),
    ],
)
def test_an_axis_that_cannot_be_read_is_answered_with_the_right_form(text: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_axis(text)

    assert str(caught.value).startswith("--axis ")
    assert problem in str(caught.value)


def test_an_axis_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="--axis seed is given twice"):
        write_experiment("txt2img", ["seed=1", "seed=2"])


def test_a_written_experiment_loads_with_the_values_that_were_typed(tmp_path: Path) -> None:
    image(tmp_path / "x.png")
    (tmp_path / "prompts.txt").write_text("by night\n007\n", encoding="utf-8")
    axes = ["denoise_strength=0.2:0.8:0.2", "seed=1,2,3", "variation=@prompts.txt", "cfg_scale=1, 2, ..., 4"]

    text = write_experiment("img2img", axes, {"image": "x.png", "prompt": "photo: a #cat"}, name="typed")
    experiment = Experiment.from_text(text, tmp_path)

    assert experiment.name == "typed"
    assert experiment.inputs["prompt"] == "photo: a #cat"
    assert len(experiment.grid) == 4 * 3 * 2 * 4
    assert experiment.grid[1].values == {"denoise_strength": 0.2, "seed": 1, "variation": "by night", "cfg_scale": 2.0}


def test_an_experiment_saved_elsewhere_finds_the_same_files(tmp_path: Path) -> None:
    image(tmp_path / "x.png")
    saved = tmp_path / "made" / "typed.yaml"
    saved.parent.mkdir()

    given: dict[str, Any] = {"inputs": {"image": "x.png"}, "paths_from": tmp_path, "saved_in": saved.parent}
    saved.write_text(write_experiment("img2img", ["seed=1,2"], **given), encoding="utf-8")

    assert (
        Experiment.load(saved).inputs["image"]
        == Experiment.from_text(write_experiment("img2img", ["seed=1,2"], {"image": "x.png"}), tmp_path).inputs["image"]
    )


def test_a_range_typed_into_a_file_is_answered_with_the_mapping(faults: Fail) -> None:
    assert (
        "axes.steps: in a file, write {start: 10, stop: 30, step: 5}, not"
        in faults('workflow: txt2img\naxes: {steps: "10-30 (+5)"}')[0]
    )
    assert "write {start: 1, stop: 5, step: 1}, not" in faults("workflow: txt2img\naxes: {seed: 1-5}")[0]
    assert "for one fixed value, set it under inputs" in faults("workflow: txt2img\naxes: {seed: 15}")[0]


@given(st.text(max_size=60), st.sampled_from(["seed", "steps", "cfg_scale", "prompt", "image", "vae", "a.b", "@"]))
def test_no_typed_axis_raises_anything_but_a_definition_error(text: str, name: str) -> None:
    try:
        axes = Experiment.from_text(write_experiment("txt2img", [f"{name}={text}"])).axes
    except DefinitionError as error:
        told = str(error)
    else:
        told = ", ".join(axis.name for axis in axes)
    assert told


PLAIN = "workflow: txt2img\ninputs: {prompt: a, steps: 3}\naxes: {seed: {start: 1, count: 3}, a.b: [1, 2]}"


def test_overrides(load: Load) -> None:
    experiment = load(
        PLAIN,
        [
            "axes.seed.count=2",
            "axes.a.b=[5, 6]",
            "axes.a.b.1=7",
            "inputs.steps=30",
            "inputs.noise.width=64",
            "axes.cfg_scale=[2, 3.5]",
            "name=other",
            "study.replicates=2",
            "design.kind=random",
            "design.points=3",
            "design.seeds=one",
        ],
    )
    assert values_of(experiment, "seed") == [1, 2]
    assert values_of(experiment, "a.b") == [5, 7]
    assert values_of(experiment, "cfg_scale") == [2.0, 3.5]
    assert experiment.inputs == {"prompt": "a", "steps": 30, "noise.width": 64}
    assert (experiment.name, experiment.study.replicates, len(experiment.grid)) == ("other", 2, 3)
    assert "count: 2" in experiment.text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("axes.seeed.count=3", "no key axes.seeed.count. Did you mean axes.seed?"),
        ("axis.seed=[1]", "no key axis.seed. Did you mean axes?"),
        ("inputs.stps=3", "no key inputs.stps. Did you mean inputs.steps?"),
        ("steps=3", "no key steps. Did you mean inputs.steps?"),
        ("seed=3", "no key seed. Did you mean axes.seed?"),
        ("stps=3", "no key stps. Did you mean inputs.steps?"),
        ("inputs.steps", "has no value"),
        ("=3", "has no value"),
        ("design.pionts=3", "no key design.pionts. Did you mean design.points?"),
        ("name.x=3", "name is one value"),
        ("inputs.cfg_scale=[2,3", "this bracket is never closed; ] is missing."),
        ("axes.a.b.7=3", "axes.a.b holds no 7"),
        ("axes.seed.start.x=3", "axes.seed.start holds no x"),
    ],
)
def test_overrides_that_lead_nowhere(load: Load, override: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(PLAIN, [override])
    assert message in str(caught.value)


def test_a_slip_in_the_file_is_not_suggested_for_the_same_slip(load: Load) -> None:
    with pytest.raises(UsageError, match=r"Did you mean study\.metrics\?"):
        load(f"{PLAIN}\nstudy: {{metrcs: [a]}}\n", ["study.metrcs=5"])


def test_input_that_an_axis_sets_is_no_override(load: Load) -> None:
    with pytest.raises(UsageError, match=r"--set inputs\.seed changes nothing: the axis seed sets this input"):
        load(PLAIN, ["inputs.seed=3"])
    assert len(load(PLAIN, ["inputs.seed=3", "axes.seed=null"]).grid) == 2
    with pytest.raises(UsageError, match=r"no key inputs\.sed\. Did you mean axes\.seed\?"):
        load(PLAIN, ["inputs.sed=3"])


def test_a_wrong_value_names_the_override(load: Load) -> None:
    with pytest.raises(ExperimentError, match=r"inputs.steps is 0, but must be at least 1 \(--set inputs.steps\)"):
        load(PLAIN, ["inputs.steps=0"])
    with pytest.raises(
        ExperimentError, match=r"replicates must be a whole number, not \"x\" \(--set study.replicates\)"
    ):
        load(PLAIN, ["study.replicates=x"])


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("inputs.prompt=photo: cat", "YAML reads photo: cat as a mapping."),
        ("inputs.prompt=#hashtag", "YAML reads #hashtag as a comment."),
        ("inputs.prompt=[a cat:1.2]", "YAML reads [a cat:1.2] as a list."),
        ("inputs.prompt=&cat", "YAML reads &cat as nothing."),
        ("inputs.prompt=&a cat", 'YAML reads &a cat as "cat".'),
        ("inputs.prompt=shelf # 3", 'YAML reads shelf # 3 as "shelf".'),
        ("inputs.prompt={red|blue} cat", "--set inputs.prompt={red|blue} cat:"),
    ],
)
def test_a_text_that_lost_its_quotes_in_the_shell_is_answered_with_them(
    load: Load, override: str, problem: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load(PLAIN, [override])

    path, _, text = override.partition("=")
    assert problem in str(caught.value)
    assert f"""--set '{path}="{text}"'""" in str(caught.value)
    assert load(PLAIN, [f'{path}="{text}"']).inputs["prompt"] == text


def test_a_text_in_the_quotes_or_lines_of_yaml_is_taken_as_it_is_read(load: Load) -> None:
    for written, text in {
        "'shelf # 3'": "shelf # 3",
        '"a\\tb"': "a\tb",
        "two\n  lines": "two lines",
        "it's": "it's",
    }.items():
        assert load(PLAIN, [f"inputs.negative_prompt={written}"]).inputs["negative_prompt"] == text


def test_an_include_by_set_is_refused_as_it_comes_too_late(load: Load) -> None:
    with pytest.raises(UsageError, match="--set include: a file is included before --set is applied"):
        load(PLAIN, ["include=base.yaml"])


def test_an_override_that_looks_like_a_number_is_quoted_as_it_is_written(load: Load) -> None:
    with pytest.raises(ExperimentError, match='needs quotes: "007"'):
        load(PLAIN, ["inputs.prompt=007"])


def test_inputs_are_what_they_set_and_not_what_they_look_like() -> None:
    for typed, value in {
        "l2i.tiled=true": True, "denoise.cfg_scale=7.5": 7.5, "a.b=null": None, "a.b=x": "x", "steps=1e1": 10.0,
        "steps=nan": "nan", "steps=1_0": "1_0", "negative_prompt=2024": "2024", "prompt=true": "true", "vae=null": None,
        "model=null": "null", "lora=[a, b]": ["a", "b"], "lora=a": "a",
    }.items():  # fmt: skip
        name, _, text = typed.partition("=")
        assert repr(parse_input(name, text)) == repr(value), typed


def test_set_takes_an_axis_out(load: Load, faults: Fail) -> None:
    text = "workflow: txt2img\naxes: {seed: [1, 2], steps: [5, 6]}"
    assert [axis.name for axis in load(text, ["axes.steps=null"]).axes] == ["seed"]
    assert "axes.steps is empty" in faults(text, ["axes.steps="])[0]
    assert "axes.cfg_scale is empty" in faults(text, ["axes.cfg_scale=null"])[0]


def test_a_written_experiment_has_what_set_changes() -> None:
    text = write_experiment("txt2img", ["seed=1,2", "steps=3,4"], overrides=["axes.steps=null", "inputs.cfg_scale=5"])
    experiment = Experiment.from_text(text)
    assert ([axis.name for axis in experiment.axes], dict(experiment.inputs)) == (["seed"], {"cfg_scale": 5})
