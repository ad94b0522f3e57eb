"""The cheapest order to render in: how to nest the axes so that a server repeats the least of its expensive work.

A server loads a model, patches LoRAs into it, encodes prompts and images, denoises. A stage repeats when one of the
dimensions it depends on changes, unless its result is still in the server's node cache. Points are not sorted, which
would cost memory in the size of the grid: the dimensions are, and every index stays the definition's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import prod
from types import MappingProxyType
from typing import Final

from sweep.experiment import Dimension, Grid, Space
from sweep.plan.graph_binder import BoundGraph
from sweep.workflow import NodeSchemas, StageKind, order_computation

ALL_POSITIONS: Final[Mapping[int, int]] = MappingProxyType({})  # no dimension is held at one position
_SEARCHED: Final = 7  # dimensions of which every nesting is tried: 5,040 of them
_KINDS: Final[tuple[StageKind, ...]] = ("model", "lora", "prompt", "image")  # the most expensive first


@dataclass(frozen=True, slots=True)
class Stage:
    """The work of a node, with the dimensions it depends on by their position in the definition."""

    kind: StageKind
    dimensions: frozenset[int]
    cached: bool = True  # whether the server keeps the node's output


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderingCost:
    """Counts of each kind of work that a server does which renders alone, from a cold start."""

    models: int = 0
    loras: int = 0
    prompts: int = 0
    images: int = 0

    @property
    def cost(self) -> tuple[int, int, int]:
        """Return the counts to compare by: models take the longest, then LoRAs, then either encoder."""
        return self.models, self.loras, self.prompts + self.images


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderingOrder:
    """The nesting of the dimensions, slowest first, and the work that it costs the server."""

    nesting: tuple[int, ...]
    chosen: RenderingCost
    definition: RenderingCost  # what the definition's own order would cost


def choose_order(
    dimensions: Sequence[Dimension], bound_graphs: Sequence[BoundGraph], schemas: NodeSchemas
) -> RenderingOrder:
    """Choose the nesting with the least work for the graph that depends most on the dimensions (the one with LoRAs).

    Counts are those of a full grid of such graphs, from a cold start, on one server.
    """
    sizes = [len(dimension) for dimension in dimensions]
    candidates = [list_stages(bound, dimensions, schemas) for bound in bound_graphs]
    stages = max(candidates, key=lambda stages: sum(len(stage.dimensions) for stage in stages))
    cache = schemas.dialect.cached_outputs
    nesting = find_best_nesting(sizes, stages, cache)
    return RenderingOrder(
        nesting=nesting,
        chosen=compute_rendering_cost(sizes, stages, nesting, cache),
        definition=compute_rendering_cost(sizes, stages, range(len(sizes)), cache),
    )


def list_stages(bound: BoundGraph, dimensions: Sequence[Dimension], schemas: NodeSchemas) -> list[Stage]:
    """List what each node of the graph does for the server, and the dimensions it depends on, upstream included."""
    home = {axis.name: at for at, dimension in enumerate(dimensions) for axis in dimension.axes}
    own: dict[str, set[int]] = {node: set() for node in bound.graph.nodes}
    for rule in bound.rules:
        for slot in rule.slots:
            own[slot.address.node].update(home[axis] for axis in rule.axes)
    sources: dict[str, list[str]] = {node: [] for node in bound.graph.nodes}
    for edge in bound.graph.edges:
        sources[edge.destination.node].append(edge.source.node)
    for name in order_computation(sources):
        own[name].update(*(own[source] for source in sources[name]))
    stages: list[Stage] = []
    for node in bound.graph.nodes.values():
        schema = schemas.get(node.type)
        is_cached = schemas.dialect.is_cached(node, schema)
        stages.append(Stage(schemas.dialect.classify(schema), frozenset(own[node.id]), is_cached))
    return stages


def find_best_nesting(sizes: Sequence[int], stages: Sequence[Stage], cache: int) -> tuple[int, ...]:
    """Find the nesting of the dimensions, slowest first, with the least work; among equals the definition's nearest.

    Of up to seven dimensions that any expensive stage depends on, every nesting is tried; beyond that, they go in the
    order models, LoRAs, encoders. Dimensions nothing expensive depends on (seed, strength, steps) stay fastest.
    """
    rank = {
        at: min((_KINDS.index(s.kind) for s in stages if s.kind != "other" and at in s.dimensions), default=None)
        for at in range(len(sizes))
    }
    idle = tuple(at for at, kind in rank.items() if kind is None)
    costly = [(kind, at) for at, kind in rank.items() if kind is not None]
    if len(costly) > _SEARCHED:
        return tuple(at for _, at in sorted(costly)) + idle
    return min(
        (head + idle for head in permutations(at for _, at in costly)),
        key=lambda nesting: compute_rendering_cost(sizes, stages, nesting, cache).cost,
    )


def compute_rendering_cost(
    sizes: Sequence[int], stages: Sequence[Stage], nesting: Sequence[int], cache: int
) -> RenderingCost:
    """Return how often each kind of stage is done for the full grid of `sizes` in this nesting (slowest first)."""
    done = dict.fromkeys(_KINDS, 0)
    overflows: list[bool] = []  # at each level: whether one cycle of all inside makes more entries than the cache holds
    for level in range(len(nesting)):
        inside = set(nesting[level + 1 :])
        entries = sum(prod(sizes[at] for at in stage.dimensions & inside) for stage in stages if stage.cached)
        overflows.append(entries > cache)
    for stage in stages:
        if stage.kind != "other":
            done[stage.kind] += _count_repeats(sizes, stage, nesting, overflows)
    return RenderingCost(models=done["model"], loras=done["lora"], prompts=done["prompt"], images=done["image"])


def _count_repeats(sizes: Sequence[int], stage: Stage, nesting: Sequence[int], overflows: Sequence[bool]) -> int:
    """Count the distinct results, times the cycles in which they are made anew.

    A dimension the stage does not depend on, slower than one it does, brings every result back once a cycle; an encoded
    prompt or image is found in the cache where the cycle did not overflow it. Of models, memory may hold only one.
    """
    is_kept = stage.kind in ("prompt", "image")
    inmost = max((level for level, at in enumerate(nesting) if at in stage.dimensions), default=-1)
    return prod(
        sizes[at]
        for level, at in enumerate(nesting[: inmost + 1])
        if at in stage.dimensions or not is_kept or overflows[level]
    )


def order_indices(
    grid: Grid, sizes: Sequence[int], nesting: Sequence[int], only: Mapping[int, int] = ALL_POSITIONS
) -> Iterator[int]:
    """List every index of the grid once, nested so; of the dimensions in `only`, that position alone. A full grid and
    one with conditions are walked without being made; the points of a design, which are a list anyway, are sorted.
    """
    picked, space = grid.chosen, grid.space
    if not isinstance(picked, range):
        points = ((at, space.unrank(inner)) for at, inner in enumerate(picked))
        kept = [(at, digits) for at, digits in points if all(digits[place] == only[place] for place in only)]
        kept.sort(key=lambda point: [point[1][place] for place in nesting])
        yield from (at for at, _ in kept)
    elif space.is_full:
        yield from iterate_indices(sizes, nesting, only)
    else:
        full = Space(sizes)
        ranks = (space.rank(full.unrank(raw)) for raw in iterate_indices(sizes, nesting, only))
        yield from (index for index in ranks if index is not None)


def iterate_indices(
    sizes: Sequence[int], nesting: Sequence[int], only: Mapping[int, int] = ALL_POSITIONS
) -> Iterator[int]:
    """List every index of the full grid (row-major over `sizes`) once, in the order of the nesting, lazily; of the
    dimensions in `only`, that position alone.
    """
    loops: list[range] = []
    for at in nesting:
        stride = prod(sizes[at + 1 :]) or 1  # 0 where a dimension is empty, which then ends the walk
        first, end = (only[at], only[at] + 1) if at in only else (0, sizes[at])
        loops.append(range(first * stride, end * stride, stride))
    return _walk(loops, 0)


def _walk(loops: Sequence[range], start: int) -> Iterator[int]:
    if not loops:
        yield start
        return
    here = range(loops[0].start + start, loops[0].stop + start, loops[0].step)
    if len(loops) == 1:
        yield from here
        return
    for offset in here:
        yield from _walk(loops[1:], offset)
