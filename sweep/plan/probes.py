"""Graphs for a server to look at before anything is queued: each value of each axis once, by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from sweep.experiment.definition import Dimension, Level
from sweep.plan.bodies import Body
from sweep.plan.settings import step, telling_positions
from sweep.workflow.graph import Graph

MOST: Final = 64  # steps of one dimension; of longer ones the first, the last and some between: all are of one type


def probes(
    body: Body, dimensions: Sequence[Dimension], ours: Callable[[Mapping[str, Level]], bool]
) -> Iterator[tuple[str, Graph]]:
    """(where the value stands, a graph with it in it), beginning with the graph at the first levels of the body.

    Levels that are not `ours`, since they need a graph of another shape, are left out, as is what changes nothing.
    """
    base = body.values(body.levels)
    yield "workflow", body.graph.set(base)
    for dimension in dimensions:
        names = {axis.name for axis in dimension.axes}
        bindings = [binding for binding in body.bindings if not names.isdisjoint(binding.axes)]
        for at in _spread(telling_positions(dimension)):
            levels = step(dimension, at)
            here = {**body.levels, **levels}
            if not ours(here):
                continue
            written = dict(base)
            for binding in bindings:
                written.update(binding.write(here))
            if written != base:
                yield (
                    " · ".join(f"axes.{name} {level.value}" for name, level in levels.items()),
                    body.graph.set(written),
                )


def _spread(positions: Sequence[int]) -> Iterator[int]:
    count = len(positions)
    if count <= MOST:
        yield from positions
        return
    yield from (positions[at * (count - 1) // (MOST - 1)] for at in range(MOST))
