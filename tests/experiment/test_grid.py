"""The grid is the product in the order of the file, by index both ways, and grows with nothing but its axes."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sweep.errors import ExperimentError
from sweep.experiment.experiment import Experiment
from sweep.experiment.grid import Grid
from tests.experiment.conftest import with_axes

MILLION = {
    "cfg_scale": {"start": 0, "stop": 9.9, "step": 0.1},
    "denoise_strength": {"start": 0, "stop": 1, "num": 100},
    "seed": {"start": 1, "count": 100},
}


def points(experiment: Experiment) -> list[tuple[Any, ...]]:
    return [tuple(variation.values.values()) for variation in experiment.grid]


def test_the_first_axis_varies_slowest() -> None:
    experiment = with_axes({"denoise_strength": [0.2, 0.4], "variation": ["a", "b"], "seed": [1, 2]})
    assert points(experiment) == list(itertools.product([0.2, 0.4], ["a", "b"], [1, 2]))
    assert [variation.index for variation in experiment.grid] == list(range(8))


def test_without_axes_there_is_one_point() -> None:
    grid = with_axes({}).grid
    assert len(grid) == 1
    assert grid[0].values == {}
    assert grid.index_of({}) == 0


def test_zipped_axes_step_together_where_they_stand() -> None:
    experiment = with_axes(
        {
            "cfg_scale": [1.0, 2.0],
            "zip": {"prompt": ["a", "b"], "seed": [3, 4]},
            "steps": [5, 6],
        }
    )
    assert points(experiment)[:4] == [(1.0, "a", 3, 5), (1.0, "a", 3, 6), (1.0, "b", 4, 5), (1.0, "b", 4, 6)]
    assert len(experiment.grid) == 8
    assert experiment.grid.index_of({"cfg_scale": 2.0, "prompt": "b", "seed": 4, "steps": 5}) == 6
    with pytest.raises(LookupError):
        experiment.grid.index_of({"cfg_scale": 2.0, "prompt": "b", "seed": 3, "steps": 5})


def test_indices_and_slices_are_those_of_a_list() -> None:
    grid = with_axes({"seed": [5, 6, 7, 8], "steps": [1, 2]}).grid
    everything = list(grid)
    for part in (slice(None), slice(2, 5), slice(None, None, -1), slice(-3, None), slice(5, 2, -2), slice(9, 20)):
        assert list(grid[part]) == everything[part]
    assert list(grid[1:7][::2][1:]) == everything[1:7][::2][1:]
    assert grid[1:7][-1] == everything[6]
    assert grid[-1] == everything[-1]
    for wrong in (8, -9):
        with pytest.raises(IndexError):
            grid[wrong]
    assert everything[3] in grid
    assert grid.index(everything[3]) == 3


def test_index_of_wants_every_axis() -> None:
    grid = with_axes({"seed": [1, 2], "steps": [1, 2]}).grid
    with pytest.raises(ExperimentError, match="steps"):
        grid.index_of({"seed": 1})
    with pytest.raises(LookupError):
        grid.index_of({"seed": 3, "steps": 1})


sizes = st.lists(st.integers(1, 5), min_size=1, max_size=5)


@given(sizes=sizes, data=st.data())
def test_conditions_leave_exactly_the_points_they_hold_for(sizes: list[int], data: st.DataObject) -> None:
    names = [f"a.x{n}" for n in range(len(sizes))]
    axes = {name: list(range(size)) for name, size in zip(names, sizes, strict=True)}
    some = st.tuples(st.sampled_from(names), st.sampled_from(names), st.integers(0, 6))
    clauses = data.draw(st.lists(some, max_size=3))
    texts = [f"{a} + {b} != {n}" for a, b, n in clauses]
    expected = [
        point
        for point in itertools.product(*axes.values())
        if all(point[names.index(a)] + point[names.index(b)] != n for a, b, n in clauses)
    ]
    assume(expected)  # conditions that leave nothing are an error
    experiment = with_axes(axes, where=texts)
    assert points(experiment) == expected
    for index, point in enumerate(expected):
        assert experiment.grid[index].values == dict(zip(names, point, strict=True))
    for point in itertools.product(*axes.values()):
        values = dict(zip(names, point, strict=True))
        if point in expected:
            assert experiment.grid.index_of(values) == expected.index(point)
        else:
            with pytest.raises(LookupError):
                experiment.grid.index_of(values)


@given(sizes=sizes)
def test_every_index_leads_to_its_point_and_back(sizes: list[int]) -> None:
    grid = with_axes({f"a.x{n}": list(range(size)) for n, size in enumerate(sizes)}).grid
    for index, variation in enumerate(grid):
        assert variation == grid[index]
        assert grid.index_of(variation.values) == index


def test_where_and_exclude_together() -> None:
    experiment = with_axes(
        {"denoise_strength": [0.2, 0.4, 0.6], "variation": ["a", "b"], "seed": [1, 2]},
        where=["denoise_strength < 0.5"],
        exclude=['variation == "a" and seed == 2', "denoise_strength == 0.4 and seed == 1"],
    )
    assert points(experiment) == [(0.2, "a", 1), (0.2, "b", 1), (0.2, "b", 2), (0.4, "b", 2)]


def test_a_million_points_cost_no_more_than_a_few() -> None:
    experiment = with_axes(MILLION, where="cfg_scale < 5 or seed % 2 == 0")
    tracemalloc.start()
    grid: Grid = experiment.grid
    assert len(grid) == 750_000
    for index in range(0, len(grid), 9_973):
        assert grid.index_of(grid[index].values) == index
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000  # bytes, for 750,000 points


def test_making_the_grid_makes_no_point() -> None:
    big = {f"a.x{n}": {"start": 0, "stop": 999, "step": 1} for n in range(5)}
    grid = with_axes(big).grid
    assert len(grid) == 10**15
    assert grid.index_of(grid[987_654_321_012_345].values) == 987_654_321_012_345


def test_more_points_than_any_index_is_meant_for() -> None:
    with pytest.raises(ExperimentError, match="points; the most is"):
        with_axes({f"a.x{n}": {"start": 0, "stop": 999, "step": 1} for n in range(6)})


def test_conditions_over_too_many_combinations_say_so() -> None:
    big = {f"a.x{n}": {"start": 0, "stop": 999, "step": 1} for n in range(3)}
    with pytest.raises(ExperimentError, match=r"a\.x0, a\.x1, a\.x2 together: 1,000,000,000 combinations"):
        len(with_axes(big, where="a.x0 < a.x1 < a.x2").grid)


def test_the_first_point_with_some_positions_is_found() -> None:
    grid = with_axes({"seed": [1, 2, 3], "steps": [4, 5], "cfg_scale": [1, 2]}, where="seed + steps == 7").grid
    assert grid.space.find_first({}) == (1, 1, 0)
    assert grid.space.find_first({0: 2, 2: 1}) == (2, 0, 1)
    assert grid.space.find_first({0: 0}) is None
    assert [grid.space.find_first({1: at}) for at in (0, 1)] == [(2, 0, 0), (1, 1, 0)]
    assert grid.find_levels({0: 0}) is None
