"""Graphs for a server to look at before anything is queued: each value of each axis once, by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from sweep.experiment.definition import Axis, Level
from sweep.plan.bodies import Body
from sweep.plan.settings import telling_levels
from sweep.workflow.graph import Graph

MOST: Final = 64  # values of one axis; of longer axes the first, the last and some between: all have one type


def probes(
    body: Body, axes: Sequence[Axis], first: Mapping[str, Level], ours: Callable[[Mapping[str, Level]], bool]
) -> Iterator[tuple[str, Graph]]:
    """(where the value stands, a graph with it in it), beginning with the graph that has every axis at `first`.

    Levels that are not `ours`, since they need a graph of another shape, are left out, as is what changes nothing.
    """
    base = body.values(first)
    yield "workflow", body.graph.set(base)
    for axis in axes:
        bindings = [binding for binding in body.bindings if axis.name in binding.axes]
        for level in _spread(telling_levels(axis)):
            here = {**first, axis.name: level}
            if not ours(here):
                continue
            written = dict(base)
            for binding in bindings:
                written.update(binding.write(here))
            if written != base:
                yield f"axes.{axis.name}", body.graph.set(written)


def _spread(levels: Sequence[Level]) -> Iterator[Level]:
    count = len(levels)
    if count <= MOST:
        yield from levels
        return
    yield from (levels[at * (count - 1) // (MOST - 1)] for at in range(MOST))
