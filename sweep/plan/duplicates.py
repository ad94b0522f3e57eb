"""Finds levels that would give the same picture as another: they cost a render and tell nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from sweep.experiment.definition import Dimension, Experiment, Level
from sweep.plan.bodies import Body
from sweep.plan.faults import Faults
from sweep.plan.rules import Written
from sweep.plan.shaping import Shapes
from sweep.workflow.identity import canonical

_MOST: Final = 1_000  # levels looked at along one dimension; values of longer ones come from ranges and differ


def check_distinct(experiment: Experiment, bodies: Sequence[Body], shapes: Shapes, faults: Faults) -> None:
    """Adds a fault where two steps of a dimension set every field alike, in graphs of the same shape.

    With conditions or a design the experiment may leave such points out, so nothing is said then.
    """
    if experiment.condition is not None or experiment.design.kind != "full":
        return
    for dimension in experiment.dimensions:
        if len(dimension) <= _MOST:
            for body in bodies:
                _check(dimension, body, shapes, faults)


def _check(dimension: Dimension, body: Body, shapes: Shapes, faults: Faults) -> None:
    seen: dict[str, str] = {}
    for levels in _steps(dimension):
        here = {**body.levels, **levels}
        if not shapes.suits(here, body.shape):
            continue
        shown = " and ".join(f"{name} {level.value}" for name, level in levels.items())
        twin = seen.setdefault(_text(body.values(here)), shown)
        if twin != shown:
            axis = dimension.axes[0].name
            faults.add(f"axes.{axis}", f"axes.{axis}: {shown} gives the same pictures as {twin}{_where(body, shapes)}.")
            return


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
