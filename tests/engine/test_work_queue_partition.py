"""Lanes: every point once, each lane with its own models."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest

from sweep.engine.work_queue import partition_points
from sweep.experiment import Experiment
from sweep.plan import Plan, make_plan
from sweep.workflow import Model, load_builtin_schemas

MODELS = [Model(key=name, hash=name, name=name, base="sd-1", type="main") for name in ("one", "two", "three")]


def plan(folder: Path, **axes: object) -> Plan:
    data = {"name": "x", "workflow": "txt2img", "inputs": {"prompt": "a", "model": "one"}, "axes": axes}
    return make_plan(Experiment.from_dict(data, folder), load_builtin_schemas(), MODELS)


@pytest.mark.parametrize("first", ["seed", "model"])
def test_together_they_hold_every_point_once(tmp_path: Path, first: str) -> None:
    axes: dict[str, object] = {"model": ["one", "two", "three"], "seed": [1, 2, 3, 4]}
    made = plan(tmp_path, **{first: axes.pop(first), **axes})
    walks = [list(walk()) for walk in partition_points(made)]
    assert sorted(chain.from_iterable(walks)) == list(range(12))
    models = [{str(made.instance(made.grid[index]).model) for index in walk} for walk in walks]
    assert sorted(sorted(names) for names in models) == [["one"], ["three"], ["two"]]


@pytest.mark.parametrize(
    "more",
    [{"where": "seed != 2 or model == 'two'"}, {"design": {"kind": "random", "points": 4, "seed": 1}}],
    ids=["conditions", "design"],
)
def test_lanes_of_a_part_of_the_grid_hold_it_in_the_plans_order(tmp_path: Path, more: dict[str, object]) -> None:
    axes = {"steps": [2, 3], "model": ["one", "two", "three"], "seed": [1, 2, 3, 4]}
    data = {"name": "x", "workflow": "txt2img", "inputs": {"prompt": "a", "model": "one"}, "axes": axes, **more}
    made = make_plan(Experiment.from_dict(data, tmp_path), load_builtin_schemas(), MODELS)
    walks = [list(walk()) for walk in partition_points(made)]
    whole = list(made.order())
    assert 0 < len(whole) < 24
    assert sorted(chain.from_iterable(walks)) == list(range(len(whole)))
    assert all(walk == [index for index in whole if index in walk] for walk in walks)


def test_one_model_is_one_lane_in_the_plans_order(tmp_path: Path) -> None:
    made = plan(tmp_path, seed=[1, 2, 3], steps=[4, 5])
    (only,) = partition_points(made)
    assert list(only()) == list(made.order())
