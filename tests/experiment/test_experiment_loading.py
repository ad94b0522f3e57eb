"""Loading a file reports all its problems at once, each with line, column and the nearest right word."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sweep.errors import ExperimentError
from sweep.experiment.experiment import Experiment
from tests.experiment.conftest import TYPO, Fail, Load, mark_place


def test_a_design_of_more_points_than_there_are_is_noticed(load: Load) -> None:
    asked = load("workflow: txt2img\naxes: {seed: [1, 2]}\ndesign: {kind: random, points: 7}")
    assert (len(asked.grid), asked.notices) == (2, ("design asks for 7 points; the grid has 2.",))


def test_every_fault_at_once_in_the_order_of_the_file(faults: Fail) -> None:
    assert faults(TYPO) == [
        "2:11  workflow: img2im is neither a built-in workflow nor a file. Did you mean img2img?",
        (
            "4:3  inputs.denoise_strenght is neither an input (such as prompt) nor a NODE.FIELD. "
            "Did you mean denoise_strength?"
        ),
        "5:10  inputs.image names bad.png, which is no PNG: it does not decode as an image.",
        "6:18  inputs.control_image names nope.png, which does not exist; write the path of your image.",
        "7:10  inputs.steps is 0, but must be at least 1.",
        '8:14  inputs.cfg_scale must be a number, not "7".',
        "9:9  inputs.seed is -1, but must be 0 to 4294967295.",
        "10:10  inputs.width must be a whole number, not 2.5.",
        "11:1  descriptoin is not known here. Did you mean description?",
        "13:40  axes.denoise_strength reaches 1.2, but denoise_strength must be 0 to 1.",
        "16:5  zip: prompt has 3 values, seed has 4.",
        "17:28  axes.a.b.stpe is not known here. Did you mean step?",
        "18:35  where: there is no axis named sed. Did you mean seed?",
        "20:10  exclude: write == to compare, not =.",
        "21:5  exclude: there is no axis named nope. Text needs quotes; a name with a space or a dash needs backticks.",
        (
            "22:16  design.kind must be full, random, sobol, halton, lhs, one_at_a_time, rotated or adaptive, "
            'not "randm". Did you mean random?'
        ),
        "23:9  roles.promt is not a role. Did you mean prompt?",
        "23:16  roles.promt: x is not written node.field.",
        "23:27  roles.prompt: pos is not written node.field.",
        "24:11  localhost is not the URL of a server, as http://host:9090 is.",
        "25:9  study.metric is not known here. Did you mean metrics?",
        "25:34  study.replicates is 0, but must be at least 1.",
    ]


def test_the_message_names_the_file_as_it_was_written(
    load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    Path("x.yaml").write_text("workflow: txt2img\nsteps: 3\n")
    with pytest.raises(ExperimentError) as caught:
        Experiment.load("x.yaml")
    assert str(caught.value) == "x.yaml: 1 problem\n  2:1  steps is not known here; write it under inputs."


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("inputs: {}", "1:1  workflow is missing"),
        ("workflow: [a]", "1:11  workflow must be text, not a list"),
        ("workflow: flows/none.json", "1:11  workflow: flows/none.json does not exist"),
        ("workflow: ./txt2img", "1:11  workflow: ./txt2img does not exist. Did you mean txt2img?"),
        ("workflow: shots", "1:11  workflow: shots is a folder, not a file"),
        (
            "workflow: zzz",
            "neither a built-in workflow nor a file. Built-in workflows: txt2img, img2img, controlnet, lora.",
        ),
        ("workflow: txt2img\nname: a/b", '2:7  name "a/b" is no folder name on some systems'),
        ("workflow: txt2img\nname: CON", '2:7  name "CON" is no folder name on some systems'),
        ("workflow: txt2img\nname: 'x '", '2:7  name "x " is no folder name on some systems'),
        ("workflow: txt2img\nname: ../x", "is no folder name on some systems"),
        ("workflow: txt2img\nname: 3", "2:7  name must be text, not 3"),
        ("workflow: txt2img\naxes: [1]", "2:7  axes must be a mapping, not a list"),
        ("workflow: txt2img\ninputs:", "2:1  inputs must be a mapping, not null"),
        ("workflow: txt2img\ninputs: {board: x}", "2:10  inputs.board: write board: … at the top level of the file"),
        ("workflow: txt2img\ninputs: {lora: [{nam: x}]}", "has nam, which is not known there; known are name, weight"),
        ("workflow: txt2img\ninputs: {lora: [{name: x, weight: a}]}", 'has weight "a", which is not a number'),
        ("workflow: txt2img\ninputs: {lora: 3}", "must be a name, {name, weight} or a list of these, not 3"),
        ("workflow: txt2img\ninputs: {controls: x}", 'must be a list of {model, image, weight, begin, end}, not "x"'),
        ("workflow: txt2img\ninputs: {controls: [{model: m}]}", "needs image"),
        ("workflow: txt2img\ninputs: {controls: [{model: m, image: 3}]}", "image must be the path of an image, not 3"),
        (
            "workflow: txt2img\ninputs: {controls: [{model: m, image: x, begin: 0.5, end: 0.2}]}",
            "inputs.controls begins after its end",
        ),
        ("workflow: txt2img\ninputs: {controls: [{model: m, image: x, end: 2}]}", "has end 2, but it must be 0 to 1"),
        ("workflow: txt2img\ninputs: {control_weight: 3}", "inputs.control_weight is 3, but must be -1 to 2"),
        ("workflow: txt2img\ninputs: {model: {base: sdxl}}", "inputs.model needs the model's name"),
        ("workflow: txt2img\ninputs: {scheduler: ''}", "inputs.scheduler must not be empty"),
        ("workflow: txt2img\nwhere: [3]", "2:8  where must be text or a list of texts, not 3"),
        ("workflow: txt2img\naxes: {seed: [1]}\nwhere: seed > 1", "3:1  the conditions leave no point of the grid"),
        ("workflow: txt2img\naxes: {seed: [1]}\nexclude: seed == 1", "3:1  the conditions leave no point of the grid"),
        ("workflow: txt2img\naxes: {seed: {count: 2}}\nwhere: seed > 1", "where: seed has seeds that are not drawn"),
        ("workflow: txt2img\naxes: {seed: [1]}\nstudy: {baseline: {seed: 2}}", "3:26  axis seed has no value 2"),
        ("workflow: txt2img\naxes: {seed: {count: 2}}\nstudy: {baseline: {seed: 2}}", "are not drawn before the run"),
    ],
)
def test_faults(faults: Fail, text: str, problem: str) -> None:
    found = faults(text)
    assert len(found) == 1
    assert problem in found[0]


def test_a_fault_of_an_axis_is_not_told_again_as_an_unknown_axis(faults: Fail) -> None:
    found = faults(
        "workflow: txt2img\naxes: {seed: [a], zip: {prompt: [a], steps: [1, 2]}}\nwhere: seed > 1 and steps > 1"
    )
    assert [line.split()[0] for line in found] == ["2:15", "2:38"]


def test_what_a_whole_file_becomes(load: Load, folder: Path) -> None:
    (folder / "flow.json").write_text("{}")
    experiment = load(
        "name: a b\ndescription: why?\nworkflow: flow.json\ninputs: {steps: 3, image: shots/a.png}\n"
        "axes: {seed: [1]}\nroles: {prompt: pos.prompt, seed: [a.seed, b.seed]}\nservers: ['http://gpu:9090/x']\n"
        "board: mine\nstudy: {metrics: [ssim], replicates: 2, baseline: {seed: 1}}\ndesign: full"
    )
    assert (experiment.name, experiment.description, experiment.workflow) == ("a b", "why?", "flow.json")
    assert experiment.workflow_path == folder / "flow.json"
    assert experiment.folder == folder
    assert experiment.roles == {"prompt": ("pos.prompt",), "seed": ("a.seed", "b.seed")}
    assert experiment.servers == ("http://gpu:9090/x",)
    assert (experiment.board, experiment.study.metrics, experiment.study.replicates) == ("mine", ("ssim",), 2)
    assert experiment.study.baseline == {"seed": 1}
    assert load("workflow: txt2img").name == "test"
    assert load("workflow: txt2img").workflow_path is None


def test_where_things_stand(load: Load) -> None:
    experiment = load(
        "workflow: txt2img\ninputs:\n  steps: 3\naxes:\n  noise.seed: {start: 1, count: 2}\n  cfg_scale: [1, 2]\n"
    )
    assert mark_place(experiment.find_mark("inputs.steps")) == (3, 3)
    assert mark_place(experiment.find_mark("inputs.steps", value=True)) == (3, 10)
    assert mark_place(experiment.find_mark("axes.noise.seed.count")) == (5, 26)
    assert mark_place(experiment.find_mark("axes.cfg_scale.1")) == (6, 18)
    assert mark_place(experiment.find_mark("axes.cfg_scale.9")) == (6, 3)
    assert experiment.find_mark("board") is None


def test_the_text_as_run_loads_again_from_anywhere(load: Load, folder: Path, tmp_path: Path) -> None:
    (folder / "p.txt").write_text("a\nb\n")
    (folder / "base").mkdir()
    (folder / "base" / "q.txt").write_text("1\n2\n")
    (folder / "base" / "base.yaml").write_text(
        "workflow: img2img\ninputs: {image: ../shots/a.png, steps: 9}\naxes: {steps: {lines: q.txt}, seed: [1, 2]}"
    )
    first = load(
        "include: base/base.yaml\nwhere: steps < 2\n"
        "axes: {prompt: {lines: p.txt}, seed: null, image: {images: 'shots/*'}}",
        ["inputs.cfg_scale=3"],
    )
    elsewhere = tmp_path / "results" / "experiment.yaml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(first.text, encoding="utf-8")
    again = Experiment.load(elsewhere)
    assert list(again.grid) == list(first.grid)
    assert again.inputs == first.inputs
    assert (again.name, again.folder, again.text) == (first.name, first.folder, first.text)


def test_from_dict_is_the_file_that_holds_it(load: Load, folder: Path) -> None:
    data: dict[str, Any] = {
        "workflow": "img2img",
        "inputs": {"image": Path("shots/a.png")},
        "axes": {"seed": range(3), "variation": ("a", "b")},
    }
    experiment = Experiment.from_dict(data, folder)
    assert len(experiment.grid) == 6
    assert experiment.name == "experiment"
    with pytest.raises(ExperimentError, match=r"experiment: 1 problem\n  inputs.steps is 0"):
        Experiment.from_dict({"workflow": "txt2img", "inputs": {"steps": 0}})
    text = "workflow: txt2img\naxes: {seed: [1, 2]}"
    assert list(Experiment.from_text(text, folder).grid) == list(load(text).grid)


def test_from_dict_takes_enums_tables_and_numbers_of_single_precision() -> None:
    class Scheduler(StrEnum):
        EULER = "euler"
        DDIM = "ddim"

    axes: dict[str, Any] = {
        "scheduler": list(Scheduler),
        "denoise_strength": np.array([0.3, 0.7], dtype="float32"),
        "zip": pd.DataFrame({"cfg_scale": np.array([7.1, 7.5], dtype="float32"), "steps": [4, 8]}),
    }
    experiment = Experiment.from_dict({"workflow": "img2img", "inputs": {"prompt": Scheduler.DDIM}, "axes": axes})
    assert experiment.inputs["prompt"] == "ddim"
    assert experiment.grid[-1].values == {"scheduler": "ddim", "denoise_strength": 0.7, "cfg_scale": 7.5, "steps": 8}
    assert experiment.grid[0].values["cfg_scale"] == 7.1


def test_values_that_no_server_takes_are_refused(faults: Fail) -> None:
    head = "workflow: txt2img\n"
    for text, problem in {
        "inputs: {width: 1000000000}": "inputs.width is 1000000000, but must be 1 to 16384",
        'inputs: {prompt: "a\\0b"}': "inputs.prompt holds a control character, U+0000",
        'inputs: {negative_prompt: "a\\0b"}': "inputs.negative_prompt holds a control character, U+0000",
        f"inputs: {{negative_prompt: {'a' * 200_001}}}": "inputs.negative_prompt has 200,001 characters",
        f"axes: {{prompt: [a, {'b' * 20_001}]}}": "axes.prompt has 20,001 characters; the most is 20,000",
        "axes: {width: [512, 1000000000]}": "axes.width is 1000000000, but must be 1 to 16384",
        f"inputs: {{prompt: {'a' * 20_001}}}": "inputs.prompt has 20,001 characters; the most is 20,000",
        'inputs: {pos.prompt: "a\\0b"}': "inputs.pos.prompt holds a control character, U+0000",
        'axes: {variation: [a, "b\\x1b[2J"]}': "axes.variation holds a control character, U+001B",
        'axes: {"": [1, 2]}': 'axes: "" is no name of an axis',
        'axes: {"a\\nb": {values: {x: {seed: 1}}}}': r'axes: "a\nb" is no name of an axis; write it on one line',
        'inputs: {"a\\nb": 1}': r"inputs.a\nb is neither an input (such as prompt) nor a NODE.FIELD",
        'name: "a\\nb"': r'name "a\nb" is no folder name on some systems',
        'axes: {look: {values: {"a\\nb": {sed: 1}}}}': r"axes.look.values.a\nb.sed is neither an input",
        'axes: {"a\\e[2Jb": [1, 2]}': r'axes: "a\x1b[2Jb" is no name of an axis; write it on one line',
    }.items():
        assert problem in faults(head + text)[0], text


def test_a_range_as_an_input_is_told_as_the_axis_it_means(faults: Fail) -> None:
    for written, meant in {"10-30 (+5)": "{start: 10, stop: 30, step: 5}", "10, 20": "[10, 20]"}.items():
        (said,) = faults(f"workflow: txt2img\ninputs: {{steps: '{written}'}}")
        assert said.endswith(f'a whole number, not "{written}"; several values are an axis: axes: {{steps: {meant}}}.')
    (said,) = faults("workflow: txt2img\ninputs: {steps: '20'}")
    assert said.endswith('must be a whole number, not "20".')


def test_a_path_that_no_system_takes_is_no_file(faults: Fail) -> None:
    long = "a/" + "b" * 5_000
    assert "does not exist" in faults(f"workflow: {long}")[0]
    assert "does not exist" in faults(f"workflow: txt2img\ninclude: {long}")[0]
    assert "cannot be read" in faults(f"workflow: img2img\ninputs: {{image: ~nobody-here/{long}.png}}")[0]


def test_an_image_of_a_server_is_no_workflow(faults: Fail) -> None:
    for name in ("gallery:a.png", "board:cups"):
        assert faults(f"workflow: {name}") == [
            f"1:11  workflow: {name} is no workflow; library:NAME names one of a server."
        ]


def test_a_path_with_a_null_character_is_no_file(faults: Fail) -> None:
    for text in (
        r'{workflow: "a\0b/c.json"}',
        r'{workflow: txt2img, include: "a\0b/c"}',
        r'{workflow: img2img, folder: "a\0b", inputs: {image: a.png}}',
        r'{workflow: txt2img, axes: {prompt: {lines: "a\0b/c.txt"}}}',
        r'{workflow: img2img, axes: {image: {images: "a\0b/*.png"}}}',
        r'{workflow: img2img, inputs: {load.image: {image: "a\0b/c.png"}}}',
    ):
        (said,) = faults(text)
        assert "does not exist" in said or "no file matches" in said, text


def test_whole_numbers_may_be_written_with_decimals(load: Load) -> None:
    experiment = load("workflow: txt2img\ninputs: {width: 512.0}\naxes: {look: {values: {a: {steps: 3.0}}}}")
    assert repr(dict(experiment.inputs)) == "{'width': 512}"
    assert repr(experiment.grid[0].levels["look"].settings["steps"]) == "3"
    counted = load(
        "workflow: txt2img\naxes: {seed: {start: 4.0, count: 1e2}, cfg_scale: {start: 1, stop: 2, num: 2.0}}"
    )
    assert (len(counted.grid), repr(counted.grid[0].values["seed"])) == (200, "4")


def test_arrays_are_lists_of_values() -> None:
    experiment = Experiment.from_dict(
        {
            "workflow": "img2img",
            "inputs": {"steps": np.int64(5)},
            "axes": {"denoise_strength": np.array([0.25, 0.5]), "seed": list(np.arange(2))},
        }
    )
    assert experiment.inputs["steps"] == 5
    assert [list(point.values.values()) for point in experiment.grid] == [[0.25, 0], [0.25, 1], [0.5, 0], [0.5, 1]]
    assert Experiment.from_text(experiment.text).axes == experiment.axes


def test_values_that_only_python_can_give_are_refused() -> None:
    for name, value in (("seed", math.nan), ("width", math.inf), ("cfg_scale", 10**400), ("prompt", "\ud800")):
        for part in ({"inputs": {name: value}}, {"axes": {name: [value]}}):
            with pytest.raises(ExperimentError, match=rf"{name} (must be a|holds half a character)"):
                Experiment.from_dict({"workflow": "txt2img", **part})


def test_a_decimal_comma_is_told_from_two_values(faults: Fail) -> None:
    (said,) = faults("workflow: txt2img\ninputs: {cfg_scale: '7,5'}")
    assert '"7,5"; a decimal number is 7.5; several values are an axis: axes: {cfg_scale: [7, 5]}' in said


def test_images_go_only_where_images_are_taken(faults: Fail) -> None:
    for text in ("axes: {prompt: {images: shots/*.png}}", "inputs: {prompt: {image: shots/a.png}}"):
        assert "is set to an image, which prompt is not" in faults(f"workflow: txt2img\n{text}")[0]
    assert "axes.image is empty" in faults("workflow: img2img\naxes: {image: {images: []}}")[0]
