from __future__ import annotations

from collections import OrderedDict
from dataclasses import astuple
from itertools import islice, pairwise
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.plan.plan import Plan
from sweep.plan.rendering_order import RenderingCost, Stage, compute_rendering_cost, find_best_nesting, iterate_indices
from sweep.workflow import StageKind
from tests.plan.conftest import Plans

CACHE = 512  # node outputs that a server keeps

KINDS: list[StageKind] = ["model", "lora", "prompt", "image", "other"]
SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


def stages_over(count: int) -> st.SearchStrategy[list[Stage]]:
    dimensions = st.frozensets(st.integers(0, count - 1))
    return st.lists(st.builds(Stage, st.sampled_from(KINDS), dimensions), max_size=5)


def least_work(sizes: list[int], stages: list[Stage]) -> list[int]:
    """What no order can undercut: every distinct result of a kind has to be made once."""
    return [
        sum(prod(sizes[at] for at in stage.dimensions) for stage in stages if stage.kind == kind) for kind in KINDS[:4]
    ]


GRIDS = SIZES.flatmap(lambda sizes: st.tuples(st.just(sizes), stages_over(len(sizes))))


@given(SIZES, st.randoms(use_true_random=False))
def test_a_walk_meets_every_index_once(sizes: list[int], random: object) -> None:
    nesting = list(range(len(sizes)))
    random.shuffle(nesting)  # type: ignore[attr-defined]
    assert sorted(iterate_indices(sizes, nesting)) == list(range(prod(sizes)))


def test_the_definitions_own_nesting_is_the_definitions_order() -> None:
    assert list(iterate_indices([2, 3, 2], [0, 1, 2])) == list(range(12))
    assert list(iterate_indices([2, 3], [1, 0])) == [0, 3, 1, 4, 2, 5]


def test_an_empty_dimension_leaves_nothing_and_no_dimensions_leave_one_point() -> None:
    assert list(iterate_indices([2, 0, 3], [2, 0, 1])) == []
    assert list(iterate_indices([], [])) == [0]


def test_a_walk_over_a_huge_grid_starts_at_once() -> None:
    sizes = [10**6, 10**6, 10**6]
    assert list(islice(iterate_indices(sizes, [2, 1, 0]), 2)) == [0, 10**12]


@given(GRIDS)
def test_the_chosen_nesting_is_a_permutation_and_never_worse_than_the_definitions(
    grid: tuple[list[int], list[Stage]],
) -> None:
    sizes, stages = grid
    nesting = find_best_nesting(sizes, stages, CACHE)
    assert sorted(nesting) == list(range(len(sizes)))
    assert (
        compute_rendering_cost(sizes, stages, nesting, CACHE).cost
        <= compute_rendering_cost(sizes, stages, range(len(sizes)), CACHE).cost
    )
    cost = compute_rendering_cost(sizes, stages, nesting, CACHE)
    assert all(least <= counted for least, counted in zip(least_work(sizes, stages), astuple(cost), strict=True))


@given(SIZES, st.data())
def test_the_lower_bound_is_reached_where_later_stages_build_on_earlier_ones(
    sizes: list[int], data: st.DataObject
) -> None:
    """As they do in a graph: what encodes depends on the model, whatever else it depends on."""
    upto = sorted(data.draw(st.lists(st.integers(0, len(sizes)), min_size=3, max_size=3)))
    order = data.draw(st.permutations(range(len(sizes))))
    chain: list[StageKind] = ["model", "lora", "prompt"]
    stages = [Stage(kind, frozenset(order[:count])) for kind, count in zip(chain, upto, strict=True)]
    cost = compute_rendering_cost(sizes, stages, find_best_nesting(sizes, stages, CACHE), CACHE)
    assert list(astuple(cost)) == least_work(sizes, stages)


def test_models_go_slowest_then_loras_then_prompts_and_the_rest_fastest() -> None:
    sizes = [10, 4, 3, 20, 2]  # seed, variation, lora, strength, model
    stages = [
        Stage("model", frozenset({4})),
        Stage("lora", frozenset({4, 2})),
        Stage("prompt", frozenset({4, 2, 1})),
        Stage("other", frozenset({4, 2, 1, 0, 3})),
    ]
    assert find_best_nesting(sizes, stages, CACHE) == (4, 2, 1, 0, 3)
    assert compute_rendering_cost(sizes, stages, range(5), CACHE) == RenderingCost(
        models=10 * 4 * 3 * 20 * 2, loras=10 * 4 * 3 * 20 * 2, prompts=24
    )
    assert compute_rendering_cost(sizes, stages, find_best_nesting(sizes, stages, CACHE), CACHE) == RenderingCost(
        models=2, loras=6, prompts=24
    )


def test_a_prompt_is_encoded_anew_only_where_the_cache_overflowed() -> None:
    small = [5, 3, 4]  # strength, variation, seed: one cycle of variation and seed is 12 points
    stages = [Stage("prompt", frozenset({1})), Stage("other", frozenset({0, 1, 2}))]
    assert compute_rendering_cost(small, stages, [0, 1, 2], CACHE).prompts == 3
    large = [5, 3, 400]
    assert compute_rendering_cost(large, stages, [0, 1, 2], CACHE).prompts == 15
    assert compute_rendering_cost(large, stages, [1, 0, 2], CACHE).prompts == 3


@given(SIZES, st.integers(1, 40), st.data())
def test_predicted_encodings_are_a_real_caches_when_it_holds_all_or_a_whole_cycle_overflows(
    sizes: list[int], cache: int, data: st.DataObject
) -> None:
    """Against a simulated least-recently-used cache of unlimited size, where prediction has to be exact."""
    factors = data.draw(st.frozensets(st.integers(0, len(sizes) - 1)))
    nesting = data.draw(st.permutations(range(len(sizes))))
    stages = [Stage("prompt", factors), Stage("other", frozenset(range(len(sizes))))]
    held: OrderedDict[tuple[int, ...], None] = OrderedDict()
    misses = 0
    for index in iterate_indices(sizes, nesting):
        at, rest = [], index
        for size in reversed(sizes):
            rest, digit = divmod(rest, size)
            at.append(digit)
        at.reverse()
        name = tuple(at[factor] for factor in sorted(factors))
        misses += name not in held
        held[name] = None
    assert compute_rendering_cost(sizes, stages, nesting, cache=10**9).prompts == misses
    assert compute_rendering_cost(sizes, stages, nesting, cache=cache).prompts >= misses


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
    assert plan.nesting.chosen == RenderingCost(models=2, loras=4, prompts=12)
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
