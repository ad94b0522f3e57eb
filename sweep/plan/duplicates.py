"""Finds points that would be the same image as another: they have one key, so only one of them can be kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from sweep.experiment import Dimension, Experiment, Level
from sweep.plan.bindings import Body
from sweep.plan.graph_variants import Shapes
from sweep.plan.plan import Plan
from sweep.plan.problems import PlanProblems
from sweep.plan.rules import Written
from sweep.workflow import canonical

_LEVELS: Final = 1_000  # levels looked at along one dimension; values of longer ones come from ranges and differ
_POINTS: Final = 5_000  # points whose keys are compared anyway: some 30 µs each


def check_distinct_points(plan: Plan, faults: PlanProblems) -> None:
    """Adds a fault where two points have the same key.

    Looks along each dimension for steps that set every field alike. Where conditions or a design may have left such
    points out, and in any small grid, the keys themselves are compared.
    """
    experiment = plan.experiment
    alike = list(_alike(experiment, plan.bodies, plan.shapes))
    if alike and experiment.condition is None and experiment.design.kind == "full":
        for place, message in alike:
            faults.add(place, message)
    elif alike or len(plan) <= _POINTS:
        _compare(plan, faults)


def _alike(experiment: Experiment, bodies: Sequence[Body], shapes: Shapes) -> Iterator[tuple[str, str]]:
    """(place, sentence) for each dimension in which two steps give the same graph."""
    for dimension in experiment.dimensions:
        if len(dimension) <= _LEVELS:
            for body in bodies:
                yield from _along(dimension, body, shapes)


def _along(dimension: Dimension, body: Body, shapes: Shapes) -> Iterator[tuple[str, str]]:
    seen: dict[str, str] = {}
    for levels in _steps(dimension):
        here = {**body.levels, **levels}
        if not shapes.suits(here, body.shape):
            continue
        shown = " and ".join(f"{name} {level.value}" for name, level in levels.items())
        twin = seen.setdefault(_text(body.values(here)), shown)
        if twin != shown:
            place = f"axes.{dimension.axes[0].name}"
            yield place, f"{place}: {shown} gives the same images as {twin}{_where(body, shapes)}."
            return


def _compare(plan: Plan, faults: PlanProblems) -> None:
    seen: dict[str, int] = {}
    for index, key in plan.keys(range(len(plan))):
        twin = seen.setdefault(key, index)
        if twin != index:
            faults.add(
                "axes", f"Points {_point(plan, twin)} and {_point(plan, index)} are the same image; leave one out."
            )
            return


def _point(plan: Plan, index: int) -> str:
    values = " · ".join(f"{name} {value}" for name, value in plan.grid[index].values.items())
    return f"{index} ({values})"


def _steps(dimension: Dimension) -> Iterator[dict[str, Level]]:
    for at in range(len(dimension)):
        yield {axis.name: axis.levels[at] for axis in dimension.axes}


def _text(written: Written) -> str:
    return json.dumps({str(address): canonical(value) for address, value in written.items()}, sort_keys=True)


def _where(body: Body, shapes: Shapes) -> str:
    """What has to be excluded where the levels only coincide in one shape of the graph."""
    said = [f"{axis} is {_said(body.levels, axis)}" for axis in shapes.axes]
    return f" where {' and '.join(said)}; leave those points out with exclude" if said else ""


def _said(levels: Mapping[str, Level], axis: str) -> str:
    value = levels[axis].value
    return "null" if value is None else str(value)
