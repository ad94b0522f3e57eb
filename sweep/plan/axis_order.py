"""The cheapest order to render in: how to nest the axes so that a server repeats the least of its expensive work.

A server loads a model, patches LoRAs into it, encodes prompts and images, denoises. A stage repeats when one of the
factors it depends on changes, unless its result is still in the server's node cache. Points are not sorted, which would
cost memory in the size of the grid: the factors are, which costs nothing, and every index stays the definition's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import prod
from types import MappingProxyType
from typing import Final

from sweep.experiment import Dimension, Grid, Space
from sweep.plan.graph_variants import BoundGraph
from sweep.workflow import Node, NodeSchemas, StageKind, computation_order

_ALL: Final[Mapping[int, int]] = MappingProxyType({})  # no factor is held at one position
_SEARCHED: Final = 7  # factors of which every nesting is tried: 5,040 of them


@dataclass(frozen=True, slots=True)
class Stage:
    """One node's work: `factors` are those it depends on, by position in the definition."""

    kind: StageKind
    factors: frozenset[int]
    cached: bool = True  # whether the server keeps the node's output


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderingCost:
    """How often a server that renders alone does each kind of work, from a cold start."""

    models: int = 0
    loras: int = 0
    prompts: int = 0
    images: int = 0

    def __le__(self, other: RenderingCost) -> bool:
        """Tell whether it is no more of any kind of work than the other."""
        return (
            self.models <= other.models
            and self.loras <= other.loras
            and self.prompts <= other.prompts
            and self.images <= other.images
        )

    @property
    def cost(self) -> tuple[int, int, int]:
        """For comparing: seconds for a model, then a LoRA, then for either encoder."""
        return self.models, self.loras, self.prompts + self.images


def find_best_nesting(sizes: Sequence[int], stages: Sequence[Stage], cache: int) -> tuple[int, ...]:
    """Find the order of the factors, slowest first, with the least work; among equals the nearest to the definition.

    Up to seven factors that any expensive stage depends on, every nesting is tried; beyond that, factors go in the
    order models, LoRAs, encoders. Factors nothing expensive depends on (seed, strength, steps) stay fastest.
    """
    costly = [stage for stage in stages if stage.kind != "other"]
    rank = {factor: _rank_factor(factor, costly) for factor in range(len(sizes))}
    idle = tuple(factor for factor in rank if rank[factor] == len(_KINDS))
    first = tuple(sorted((factor for factor in rank if factor not in idle), key=lambda factor: rank[factor]))
    if len(first) > _SEARCHED:
        return first + idle
    natural = tuple(factor for factor in rank if factor not in idle)
    return min(
        (head + idle for head in permutations(natural)),
        key=lambda nesting: compute_rendering_cost(sizes, stages, nesting, cache).cost,
    )


def compute_rendering_cost(
    sizes: Sequence[int], stages: Sequence[Stage], nesting: Sequence[int], cache: int
) -> RenderingCost:
    """Return how often each kind of stage is done for the full grid of `sizes` in this nesting (slowest first)."""
    done = dict.fromkeys(_KINDS, 0)
    overflows = _find_overflows(sizes, stages, nesting, cache)
    for kind, factors in {(stage.kind, stage.factors) for stage in stages if stage.kind != "other"}:
        alike = sum(1 for stage in stages if (stage.kind, stage.factors) == (kind, factors))
        done[kind] += alike * _count_repeats(sizes, factors, nesting, overflows, kept=kind in ("prompt", "image"))
    return RenderingCost(models=done["model"], loras=done["lora"], prompts=done["prompt"], images=done["image"])


def compute_least_work(sizes: Sequence[int], stages: Sequence[Stage]) -> RenderingCost:
    """Compute what no order can undercut: every distinct result has to be made once."""
    done = dict.fromkeys(_KINDS, 0)
    for stage in stages:
        if stage.kind != "other":
            done[stage.kind] += prod(sizes[factor] for factor in stage.factors)
    return RenderingCost(models=done["model"], loras=done["lora"], prompts=done["prompt"], images=done["image"])


def iterate_indices(sizes: Sequence[int], nesting: Sequence[int], only: Mapping[int, int] = _ALL) -> Iterator[int]:
    """List every index of the full grid (row-major over `sizes`) once, in the order of the nesting, lazily; of the
    factors in `only`, that position alone.
    """
    strides = [prod(sizes[factor + 1 :]) for factor in range(len(sizes))]
    yield from _walk([_list_offsets(sizes[factor], strides[factor], only.get(factor)) for factor in nesting], 0)


def _list_offsets(size: int, stride: int, position: int | None) -> range:
    if position is not None:
        return range(position * stride, position * stride + 1)
    return range(0, size * stride, stride) if stride else range(1)


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


_KINDS: Final[tuple[StageKind, ...]] = ("model", "lora", "prompt", "image")


def _rank_factor(factor: int, costly: Sequence[Stage]) -> int:
    return min((_KINDS.index(stage.kind) for stage in costly if factor in stage.factors), default=len(_KINDS))


def _find_overflows(sizes: Sequence[int], stages: Sequence[Stage], nesting: Sequence[int], cache: int) -> list[bool]:
    """Tell for each level of the nesting whether one cycle of all inside it makes more entries than the cache holds."""
    overflows: list[bool] = []
    for level in range(len(nesting)):
        inside = set(nesting[level + 1 :])
        entries = sum(prod(sizes[factor] for factor in stage.factors & inside) for stage in stages if stage.cached)
        overflows.append(entries > cache)
    return overflows


def _count_repeats(
    sizes: Sequence[int], factors: frozenset[int], nesting: Sequence[int], overflows: Sequence[bool], *, kept: bool
) -> int:
    """Distinct results, times the cycles in which they are made anew.

    A factor the stage does not depend on, slower than one it does, brings every result back once a cycle; it is
    found in the cache (`kept`) where the cycle did not overflow it. Weights are not kept: memory may hold one model.
    """
    inmost = max((level for level, factor in enumerate(nesting) if factor in factors), default=-1)
    count = 1
    for level, factor in enumerate(nesting[: inmost + 1]):
        if factor in factors or not kept or overflows[level]:
            count *= sizes[factor]
    return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How the dimensions are nested, slowest first, and what that spares the server."""

    nesting: tuple[int, ...]
    chosen: RenderingCost
    definition: RenderingCost  # what the definition's own order would cost
    least: RenderingCost  # what no order can undercut


def choose_order(dimensions: Sequence[Dimension], bound_graphs: Sequence[BoundGraph], schemas: NodeSchemas) -> Order:
    """Choose the nesting with the least work for the graph that depends most on the dimensions (the one with LoRAs).

    Counts are those of a full grid of such graphs, from a cold start, on one server.
    """
    sizes = [len(dimension) for dimension in dimensions]
    candidates = [list_stages(bound, dimensions, schemas) for bound in bound_graphs]
    stages = max(candidates, key=lambda stages: sum(len(stage.factors) for stage in stages))
    cache = schemas.dialect.cached_outputs
    nesting = find_best_nesting(sizes, stages, cache)
    return Order(
        nesting=nesting,
        chosen=compute_rendering_cost(sizes, stages, nesting, cache),
        definition=compute_rendering_cost(sizes, stages, range(len(sizes)), cache),
        least=compute_least_work(sizes, stages),
    )


def order_indices(
    grid: Grid, sizes: Sequence[int], nesting: Sequence[int], only: Mapping[int, int] = _ALL
) -> Iterator[int]:
    """List every index of the grid once, nested so; of the dimensions in `only`, that position alone. A full grid and
    one with conditions are walked without being made; the points of a design, which are a list anyway, are sorted.
    """
    picked = grid.chosen
    if not isinstance(picked, range):
        yield from _sort_indices(grid, picked, nesting, only)
        return
    full = Space(sizes)
    if grid.space.is_full:
        yield from iterate_indices(sizes, nesting, only)
        return
    for raw in iterate_indices(sizes, nesting, only):
        index = grid.space.rank(full.unrank(raw))
        if index is not None:
            yield index


def _sort_indices(grid: Grid, picked: Sequence[int], nesting: Sequence[int], only: Mapping[int, int]) -> Iterator[int]:
    def digits(at: int) -> tuple[int, ...]:
        return grid.space.unrank(picked[at])

    kept = (at for at in range(len(picked)) if all(digits(at)[factor] == place for factor, place in only.items()))
    yield from sorted(kept, key=lambda at: tuple(digits(at)[factor] for factor in nesting))


def list_stages(bound: BoundGraph, dimensions: Sequence[Dimension], schemas: NodeSchemas) -> list[Stage]:
    """List what each node of the graph does for the server, and the dimensions it depends on, upstream included."""
    home = {axis.name: at for at, dimension in enumerate(dimensions) for axis in dimension.axes}
    own: dict[str, set[int]] = {node: set() for node in bound.graph.nodes}
    for binding in bound.bindings:
        for slot in binding.rule.slots:
            own[slot.address.node].update(home[axis] for axis in binding.axes)
    sources: dict[str, list[str]] = {node: [] for node in bound.graph.nodes}
    for edge in bound.graph.edges:
        sources[edge.destination.node].append(edge.source.node)
    for node in computation_order(sources):
        own[node].update(*(own[source] for source in sources[node]))
    return [_make_stage(node, frozenset(own[node.id]), schemas) for node in bound.graph.nodes.values()]


def _make_stage(node: Node, factors: frozenset[int], schemas: NodeSchemas) -> Stage:
    schema = schemas.get(node.type)
    return Stage(schemas.dialect.classify(schema), factors, schemas.dialect.is_cached(node, schema))
