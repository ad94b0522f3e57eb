"""Designs are drawn from their seed alone, hold no point twice, and only points that count."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import ExperimentError
from sweep.experiment.experiment import Experiment
from tests.experiment.conftest import with_axes

AXES: dict[str, Any] = {
    "denoise_strength": {"start": 0, "stop": 1, "step": 0.1},
    "cfg_scale": {"start": 1, "stop": 12, "step": 1},
    "seed": {"start": 1, "count": 20},
}
ADAPTIVE = {
    "kind": "adaptive",
    "axis": "denoise_strength",
    "metric": "structure_coarse",
    "threshold": 0.9,
    "for": "each prompt",
    "within": 0.03,
}
DRAWN = ["random", "sobol", "halton", "lhs"]


def designed(kind: str, points: int, seed: int = 0, **more: Any) -> Experiment:
    return with_axes(AXES, design={"kind": kind, "points": points, "seed": seed, "seeds": "one"}, **more)


def values(experiment: Experiment) -> list[tuple[Any, ...]]:
    return [tuple(variation.values.values()) for variation in experiment.grid]


@pytest.mark.parametrize("kind", DRAWN)
def test_the_same_on_every_load_and_another_with_another_seed(kind: str) -> None:
    """Peers draw Sobol and Latin hypercube points anew on every start, so nothing can be resumed."""
    assert values(designed(kind, 30)) == values(designed(kind, 30))
    assert values(designed(kind, 30)) != values(designed(kind, 30, seed=1))


@pytest.mark.parametrize("kind", DRAWN)
def test_no_point_twice_and_every_one_of_the_grid(kind: str) -> None:
    experiment = designed(kind, 100, where="denoise_strength <= 0.8")
    drawn = values(experiment)
    assert len(drawn) == len(set(drawn))
    assert len(drawn) == 100
    assert set(drawn) <= set(values(with_axes(AXES, where="denoise_strength <= 0.8")))


@pytest.mark.parametrize("kind", DRAWN)
def test_index_leads_both_ways(kind: str) -> None:
    grid = designed(kind, 40).grid
    for index, variation in enumerate(grid):
        assert grid.index_of(variation.values) == index == variation.index
    chosen = {tuple(variation.values.items()) for variation in grid}
    left_out = next(v for v in with_axes(AXES).grid if tuple(v.values.items()) not in chosen)
    with pytest.raises(LookupError):
        grid.index_of(left_out.values)


@pytest.mark.parametrize("kind", ["random", "sobol", "halton"])
def test_more_points_begin_with_the_fewer(kind: str) -> None:
    """So a study can grow: what was rendered stays in it. (Sobol draws in powers of two: within one.)"""
    assert values(designed(kind, 20)) == values(designed(kind, 30))[:20]


@pytest.mark.parametrize("kind", ["sobol", "halton", "lhs"])
def test_space_filling_reaches_every_level(kind: str) -> None:
    assert {point[0] for point in values(designed(kind, 44))} == {n / 10 for n in range(11)}


@pytest.mark.parametrize("kind", DRAWN)
def test_asking_for_more_than_there_are_gives_all(kind: str) -> None:
    axes = {"seed": [1, 2, 3], "steps": [4, 5]}
    experiment = with_axes(axes, design={"kind": kind, "points": 50})
    assert sorted(values(experiment)) == sorted(values(with_axes(axes)))


@pytest.mark.parametrize("kind", DRAWN)
def test_conditions_that_leave_next_to_nothing_are_drawn_from_all_the_same(kind: str) -> None:
    axes = {"a.x": {"start": 1, "stop": 2000, "step": 1}, "a.y": {"start": 1, "stop": 2000, "step": 1}}
    experiment = with_axes(axes, where=["a.x > 1995", "a.y > 1998"], design={"kind": kind, "points": 7})
    assert len(set(values(experiment))) == 7


def test_random_draws_from_a_million_million_at_once() -> None:
    axes = {f"a.x{n}": {"start": 0, "stop": 999, "step": 1} for n in range(4)}
    grid = with_axes(axes, design={"kind": "random", "points": 1_000_000}).grid
    assert len(grid) == 1_000_000
    assert grid.index_of(grid[654_321].values) == 654_321


@given(size=st.integers(1, 70), seed=st.integers(0, 2**64))
def test_a_random_design_of_every_point_is_a_permutation(size: int, seed: int) -> None:
    def draw(points: int) -> list[Any]:
        design = {"kind": "random", "points": points, "seed": seed}
        return [variation.values["a.x"] for variation in with_axes({"a.x": list(range(size))}, design=design).grid]

    every = draw(size)
    assert sorted(every) == list(range(size))
    assert draw(max(1, size // 2)) == every[: max(1, size // 2)]


def test_one_at_a_time_is_the_baseline_and_each_axis_by_itself() -> None:
    axes = {"denoise_strength": [0.2, 0.4, 0.6], "variation": ["a", "b"], "seed": [1, 2]}
    experiment = with_axes(
        axes, design={"kind": "one_at_a_time", "baseline": {"denoise_strength": 0.4}, "seeds": "one"}
    )
    assert values(experiment) == [(0.4, "a", 1), (0.2, "a", 1), (0.6, "a", 1), (0.4, "b", 1), (0.4, "a", 2)]
    assert values(with_axes(axes, design="one_at_a_time"))[0] == (0.2, "a", 1)


def test_one_at_a_time_leaves_out_what_does_not_count() -> None:
    axes = {"denoise_strength": [0.2, 0.4], "seed": [1, 2]}
    one = {"kind": "one_at_a_time", "seeds": "one"}
    experiment = with_axes(axes, design=one, exclude="seed == 2")
    assert values(experiment) == [(0.2, 1), (0.4, 1)]
    excluded = with_axes(axes, design=one, exclude="seed == 1 and denoise_strength == 0.2")
    with pytest.raises(ExperimentError, match="baseline"):
        len(excluded.grid)


CROSSED = {"denoise_strength": [0.2, 0.4, 0.6], "variation": ["a", "b"], "seed": [1, 2]}


def test_a_drawn_point_gets_every_seed_unless_one_is_asked_for() -> None:
    for kind in (*DRAWN, "one_at_a_time"):
        points = {} if kind == "one_at_a_time" else {"points": 3}
        for more in ({}, {"where": "seed == 2 or denoise_strength > 0.3"}):
            baseline = {"baseline": {"denoise_strength": 0.6}} if kind == "one_at_a_time" else {}
            grid = with_axes(CROSSED, design={"kind": kind, **points, **baseline}, **more).grid
            cells: dict[tuple[Any, ...], set[Any]] = {}
            for variation in grid:
                *cell, seed = variation.values.values()
                cells.setdefault(tuple(cell), set()).add(seed)
                assert grid.index_of(variation.values) == variation.index
            assert len(cells) == (4 if kind == "one_at_a_time" else 3), kind
            assert all(seeds == {1, 2} for cell, seeds in cells.items() if not more or cell[0] > 0.3), kind
    huge = {f"a.x{n}": {"start": 0, "stop": 999, "step": 1} for n in range(4)} | {"seed": {"start": 0, "count": 9}}
    grid = with_axes(huge, design={"kind": "random", "points": 5_000}).grid
    assert (len(grid), grid.index_of(grid[32_109].values)) == (45_000, 32_109)


def test_rotated_seeds_meet_every_level_about_equally_often() -> None:
    axes = {"denoise_strength": {"start": 0, "stop": 1, "num": 11}, "variation": list("abcde"), "seed": [*range(8)]}
    for share in (0.25, 0.3, 0.5):
        chosen = values(with_axes(axes, design={"kind": "rotated", "share": share}))
        assert len(chosen) == len(set(chosen)) == round(share * 440)
        for at in range(2):
            met: dict[tuple[Any, Any], int] = dict.fromkeys(product({p[at] for p in chosen}, range(8)), 0)
            for point in chosen:
                met[point[at], point[2]] += 1
            assert max(met.values()) - min(met.values()) <= 2
    half = with_axes(axes, design={"kind": "rotated", "share": 0.25}, where="seed > 3").grid
    assert {variation.values["seed"] for variation in half} == {4, 5, 6, 7}


@pytest.mark.parametrize(
    ("design", "message"),
    [
        ({"kind": "rotated"}, "rotated needs share"),
        ({"kind": "full", "share": 0.3}, "share belongs to rotated"),
        ({"kind": "adaptive"}, "adaptive needs axis: along which to look"),
        ({"kind": "random", "points": 3, "metric": "ssim"}, "metric belongs to adaptive"),
        ({**ADAPTIVE, "axis": "steps"}, "there is no axis named steps"),
        ({**ADAPTIVE, "for": "each lora"}, "there is no axis named lora"),
        ({**ADAPTIVE, "for": "every prompt"}, "design.for"),
        ({**ADAPTIVE, "for": "each cfg_scale", "at_most": 0.05}, "needs up to 216 before it can decide"),
        ({"kind": "full", "seeds": "one"}, "leave seeds: one out"),
        ({"kind": "random"}, "design random needs points"),
        ({"kind": "full", "points": 3}, "leave points out"),
        ({"kind": "sobol", "points": 3, "baseline": {"seed": 1}}, "baseline belongs to one_at_a_time"),
        ({"kind": "one_at_a_time", "baseline": {"seeds": 1}}, "no axis named seeds. Did you mean seed?"),
        ({"kind": "one_at_a_time", "baseline": {"seed": 99}}, "axis seed has no value 99"),
        ("sobl", "Did you mean sobol?"),
    ],
)
def test_designs_that_are_none(design: Any, message: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        with_axes(AXES, design=design)
    assert message in str(caught.value)


def test_a_full_grid_needs_neither_numpy_nor_scipy_nor_pillow() -> None:
    code = (
        "import sys; from sweep.experiment.experiment import Experiment\n"
        "e = Experiment.from_dict({'workflow': 'txt2img', 'axes': {'seed': [1, 2]}, 'where': 'seed > 1'})\n"
        "len(e.grid), e.grid.find_levels({})\n"
        "print({'numpy', 'scipy', 'pandas', 'PIL', 'asyncio'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
