"""The points apart by the models and LoRAs they need, so that each of several servers can keep to its own.

One server alone walks the lanes one after the other, which is the plan's own order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from math import prod
from typing import Final

from sweep.plan.nesting import StageKind
from sweep.plan.order import stages_of
from sweep.plan.plan import Plan

MOST: Final = 64  # lanes; where models and LoRAs make more, the models alone divide, or nothing does

Lane = Callable[[], Iterator[int]]  # the indices of one lane, from the first, in the plan's order


def lanes(plan: Plan) -> list[Lane]:
    """One lane for each combination of models and LoRAs that the axes make; one for all where they make none.

    Together they hold every index once. A lane is walked lazily, and passes no point of the others.
    """
    dimensions = plan.experiment.dimensions
    sizes = [len(dimension) for dimension in dimensions]
    for kinds in _DIVIDING:
        factors = _factors(plan, kinds)
        if factors and prod(sizes[factor] for factor in factors) <= MOST:
            places = product(*(range(sizes[factor]) for factor in factors))
            return [partial(plan.order, dict(zip(factors, place, strict=True))) for place in places]
    return [plan.order]


_DIVIDING: Final[tuple[frozenset[StageKind], ...]] = (frozenset({"model", "lora"}), frozenset({"model"}))


def _factors(plan: Plan, kinds: frozenset[StageKind]) -> tuple[int, ...]:
    """The dimensions that decide which models or LoRAs a point needs."""
    dimensions = plan.experiment.dimensions
    found = {
        factor
        for body in plan.bodies
        for stage in stages_of(body, dimensions, plan.schemas)
        if stage.kind in kinds
        for factor in stage.factors
    }
    found |= {
        at
        for at, dimension in enumerate(dimensions)
        if len(plan.bodies) > 1 and any(axis.name in plan.shapes.axes for axis in dimension.axes)
    }
    return tuple(sorted(found))
