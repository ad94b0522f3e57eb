"""The order in which points are rendered: cheapest for the server, while an index stays the definition's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sweep.experiment.definition import Dimension
from sweep.experiment.grid import Grid
from sweep.experiment.space import Full
from sweep.plan.bodies import Body
from sweep.plan.nesting import ALL, Stage, StageKind, Work, best_nesting, least_work, walk, work
from sweep.workflow.graph import Node
from sweep.workflow.identity import computation_order
from sweep.workflow.schemas import NodeSchemas


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How the dimensions are nested, slowest first, and what that spares the server."""

    nesting: tuple[int, ...]
    chosen: Work
    definition: Work  # what the definition's own order would cost
    least: Work  # what no order can undercut


def choose_order(dimensions: Sequence[Dimension], bodies: Sequence[Body], schemas: NodeSchemas) -> Order:
    """The nesting with the least work for the body in which most depends on the dimensions (the one with LoRAs, where
    others have none). Counts are those of a full grid of such graphs, from a cold start, on one server.
    """
    sizes = [len(dimension) for dimension in dimensions]
    candidates = [stages_of(body, dimensions, schemas) for body in bodies]
    stages = max(candidates, key=lambda stages: sum(len(stage.factors) for stage in stages))
    nesting = best_nesting(sizes, stages)
    return Order(
        nesting=nesting,
        chosen=work(sizes, stages, nesting),
        definition=work(sizes, stages, range(len(sizes))),
        least=least_work(sizes, stages),
    )


def indices(grid: Grid, sizes: Sequence[int], nesting: Sequence[int], only: Mapping[int, int] = ALL) -> Iterator[int]:
    """Every index of the grid once, nested so; of the dimensions in `only`, that position alone. A full grid and one
    with conditions are walked without being made; the points of a design, which are a list anyway, are sorted.
    """
    picked = grid.chosen
    if not isinstance(picked, range):
        yield from _sorted(grid, picked, nesting, only)
        return
    full = Full(sizes)
    if isinstance(grid.space, Full):
        yield from walk(sizes, nesting, only)
        return
    for raw in walk(sizes, nesting, only):
        index = grid.space.rank(full.digits(raw))
        if index is not None:
            yield index


def _sorted(grid: Grid, picked: Sequence[int], nesting: Sequence[int], only: Mapping[int, int]) -> Iterator[int]:
    def digits(at: int) -> tuple[int, ...]:
        return grid.space.digits(picked[at])

    kept = (at for at in range(len(picked)) if all(digits(at)[factor] == place for factor, place in only.items()))
    yield from sorted(kept, key=lambda at: tuple(digits(at)[factor] for factor in nesting))


def stages_of(body: Body, dimensions: Sequence[Dimension], schemas: NodeSchemas) -> list[Stage]:
    """What each node of the graph does for the server, and on which dimensions it depends, upstream included."""
    home = {axis.name: at for at, dimension in enumerate(dimensions) for axis in dimension.axes}
    own: dict[str, set[int]] = {node: set() for node in body.graph.nodes}
    for binding in body.bindings:
        for slot in binding.rule.slots:
            own[slot.address.node].update(home[axis] for axis in binding.axes)
    sources: dict[str, list[str]] = {node: [] for node in body.graph.nodes}
    for edge in body.graph.edges:
        sources[edge.destination.node].append(edge.source.node)
    for node in computation_order(sources):
        own[node].update(*(own[source] for source in sources[node]))
    return [_stage(node, frozenset(own[node.id]), schemas) for node in body.graph.nodes.values()]


def _stage(node: Node, factors: frozenset[int], schemas: NodeSchemas) -> Stage:
    schema = schemas.get(node.type)
    cached = node.fields.get("use_cache", schema.use_cache if schema else True) is not False
    return Stage(_kind(node, schemas), factors, cached)


def _kind(node: Node, schemas: NodeSchemas) -> StageKind:
    schema = schemas.get(node.type)
    if schema is None:
        return "other"
    takes = {kind for field in schema.fields.values() for kind in field.model_types}
    if takes & {"lora", "control_lora"}:
        return "lora"
    if "main" in takes:
        return "model"
    if any("Conditioning" in kind for kind in schema.outputs.values()) and "prompt" in schema.fields:
        return "prompt"
    if "LatentsField" in schema.outputs.values() and any(f.type == "ImageField" for f in schema.fields.values()):
        return "image"
    return "other"
