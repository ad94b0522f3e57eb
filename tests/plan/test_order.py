from __future__ import annotations

from itertools import islice, pairwise

import pytest

from sweep.plan.axis_order import RenderingCost
from sweep.plan.plan import Plan
from tests.plan.conftest import Plans


def switches(plan: Plan, axis: str) -> int:
    """How often the axis steps on the way through the order."""
    grid = plan.grid
    values = [grid[index].values[axis] for index in plan.order()]
    return sum(1 for before, after in pairwise(values) if before != after)


def test_models_are_slowest_then_loras_then_prompts_whatever_the_definition_says(plans: Plans) -> None:
    plan = plans(
        inputs={"prompt": "a cup"},
        axes={
            "seed": [1, 2, 3],
            "cfg_scale": [2, 3],
            "variation": ["red", "blue"],
            "lora": ["glow", "ink"],
            "model": ["small", "other"],
        },
    )
    assert [switches(plan, axis) for axis in ("model", "lora", "variation")] == [1, 3, 7]
    assert plan.nesting.chosen.models == plan.nesting.least.models == 2
    assert plan.nesting.chosen == plan.nesting.least
    assert plan.nesting.definition.models == 48


def test_every_index_comes_once_and_replicates_stay_together(plans: Plans) -> None:
    plan = plans(axes={"seed": [1, 2], "variation": ["red", "blue", "green"]}, study={"replicates": 2})
    order = list(plan.order())
    assert sorted(order) == list(range(12))
    assert [index // 2 for index in order[::2]] == [index // 2 for index in order[1::2]]
    assert switches(plan, "variation") == 2


@pytest.mark.parametrize(
    "sections",
    [
        {"where": "seed > 1 or variation == 'red'"},
        {"exclude": ["variation == 'blue' and cfg_scale > 2"]},
        {"design": {"kind": "random", "points": 9, "seed": 1}},
        {"design": {"kind": "one_at_a_time"}},
    ],
)
def test_conditions_and_designs_keep_every_point_and_the_cheap_order(sections: dict[str, object], plans: Plans) -> None:
    plan = plans(axes={"seed": [1, 2, 3], "cfg_scale": [2, 3], "variation": ["red", "blue"]}, **sections)
    assert sorted(plan.order()) == list(range(len(plan)))
    assert switches(plan, "variation") == 1


def test_images_are_encoded_once_each(plans: Plans) -> None:
    plan = plans(
        "img2img",
        inputs={"prompt": "x"},
        axes={"denoise_strength": [0.2, 0.6], "image": ["wide.png", "tall.png"], "seed": [1, 2]},
    )
    assert switches(plan, "image") == 1
    assert plan.nesting.chosen == RenderingCost(models=1, prompts=2, images=2)


def test_a_million_points_are_walked_without_being_made(plans: Plans) -> None:
    plan = plans(
        axes={"seed": {"start": 0, "count": 100_000}, "variation": ["a", "b", "c", "d", "e"], "cfg_scale": [1, 2]}
    )
    assert len(plan) == 10**6
    assert list(islice(plan.order(), 3)) == [0, 1, 10]
    assert plan.fingerprint
