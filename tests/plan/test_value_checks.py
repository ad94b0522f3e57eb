from __future__ import annotations

from pathlib import Path

import pytest

from sweep.experiment import Experiment
from sweep.plan.planner import make_plan
from sweep.workflow import Address, Model, load_builtin_schemas
from tests.plan.conftest import Plans

IMAGE = {"image": "wide.png"}


@pytest.mark.parametrize(
    ("strength", "steps", "run"), [(0.7, 3, 3), (0.4, 3, 2), (0, 20, 0), (1, 20, 20), (0.3, 10, 3), (0.05, 4, 1)]
)
def test_steps_that_are_run(strength: float, steps: int, run: int) -> None:
    """Counted on InvokeAI 6.14.2 for the first two; at 4 steps 0.6, 0.7 and 0.75 were the same image there."""
    dialect = load_builtin_schemas().dialect
    start = Address("denoise", "denoising_start")
    assert dialect.count_steps(dialect.template("img2img", "sd-1"), [start], strength, steps) == run


def test_strengths_that_come_to_the_same_are_told_with_a_cure(plans: Plans) -> None:
    plan = plans("img2img", inputs={**IMAGE, "steps": 4}, axes={"denoise_strength": [0.2, 0.6, 0.7]})
    (note,) = plan.notes
    assert note.startswith(
        "With 4 steps, denoise_strength 0.6 and 0.7 come to 3 of them with the usual spacing, and then"
    )
    assert note.endswith("give the same image. 5 steps tell all of them apart.")


def test_the_fewest_steps_decide(plans: Plans) -> None:
    axes = {"denoise_strength": {"start": 0, "stop": 1, "step": 0.1}, "steps": [5, 30]}
    (note,) = plans("img2img", inputs=IMAGE, axes=axes).notes
    assert note.startswith("With 5 steps, denoise_strength 0.1 and 0.2 come to 1 of them with the usual spacing")
    assert note.endswith("10 steps tell all of them apart.")
    many = {"denoise_strength": {"start": 0.01, "stop": 0.2, "num": 20}, "steps": [5]}
    (note,) = plans("img2img", inputs=IMAGE, axes=many).notes
    assert "0.01, 0.02, 0.03, 0.04 and 16 more come to 1 of them" in note


def test_enough_steps_are_not_worth_a_word(plans: Plans) -> None:
    strengths = {"denoise_strength": {"start": 0, "stop": 1, "step": 0.1}}
    assert plans("img2img", inputs={**IMAGE, "steps": 20}, axes=strengths).notes == ()
    assert plans("img2img", inputs={**IMAGE, "steps": 2, "denoise_strength": 0.5}, axes={"seed": [1]}).notes == ()


def test_a_mapping_that_is_no_straight_line_is_told(images: Path) -> None:
    made = Experiment.from_dict(
        {"name": "t", "workflow": "img2img", "inputs": {**IMAGE, "denoise_strength": 0.5}, "axes": {"seed": [1, 2]}},
        folder=images,
    )
    plan = make_plan(made, load_builtin_schemas(), [Model(key="k", hash="", name="dev", base="flux", type="main")])
    assert any("denoise.denoising_start is 1 − denoise_strength^0.2, as InvokeAI's own page" in n for n in plan.notes)
    assert not any("give the same image" in note for note in plan.notes)
