"""Edges of portable documents, which name no family's nodes: read, and completed where only one output fits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from sweep.errors import Problem
from sweep.text import truncate
from sweep.workflow.graph import Address, Edge, Graph
from sweep.workflow.schemas import FieldSchema, NodeSchema


def read_edge(entry: Any, problems: list[Problem]) -> Edge | None:
    """Return an edge written as source and destination with node_id and field; None and a problem for anything else."""
    ends = [entry.get(end) if isinstance(entry, Mapping) else None for end in ("source", "destination")]
    parts = [end.get(part) if isinstance(end, Mapping) else None for end in ends for part in ("node_id", "field")]
    if not all(isinstance(part, str) and part for part in parts):
        problems.append(
            Problem(message=f"An edge has no source and destination with node_id and field: {truncate(str(entry), 80)}")
        )
        return None
    source, output, destination, name = map(str, parts)
    return Edge(Address(source, output), Address(destination, name))


def complete_graph(
    graph: Graph, schemas: Mapping[str, NodeSchema], asked: Collection[tuple[str, str]] = ()
) -> tuple[Graph, tuple[Edge, ...]]:
    """Return the graph with the edges that a portable document left out, and those edges in order.

    Args:
        graph: the graph as far as it is wired.
        schemas: its node types; what is required and has neither value nor edge is looked for.
        asked: further inputs to look for, as (node type, field): optional, but nothing comes out without them.
    """
    added: list[Edge] = []
    for node in graph.nodes.values():
        schema = schemas.get(node.type)
        for field in schema.fields.values() if schema else ():
            wanted = field.required or (node.type, field.name) in asked
            address = Address(node.id, field.name)
            if not wanted or field.name in node.fields or graph.feeding(address):
                continue
            found = _only_fit(graph, schemas, address, field)
            if found is not None:
                added.append(Edge(found, address))
                graph = graph.adding(edges=[added[-1]])
    return graph, tuple(added)


def _only_fit(graph: Graph, schemas: Mapping[str, NodeSchema], address: Address, field: FieldSchema) -> Address | None:
    """Return the one output that can feed the field: of those of its type the ones of its name, then the unused ones,
    and of a row of nodes that each change it (LoRAs) the last.
    """
    after = _downstream(graph, address.node)
    fits = [output for output in _outputs(graph, schemas, field.type) if output.node not in after]
    fits = [output for output in fits if output.field == field.name] or fits
    if len(fits) > 1:
        fits = [output for output in fits if not _used(graph, output, schemas, field.type)] or fits
    return fits[0] if len(fits) == 1 else None


def _outputs(graph: Graph, schemas: Mapping[str, NodeSchema], kind: str) -> Iterator[Address]:
    for node in graph.nodes.values():
        schema = schemas.get(node.type)
        for name, output in schema.outputs.items() if schema else ():
            if output == kind:
                yield Address(node.id, name)


def _used(graph: Graph, output: Address, schemas: Mapping[str, NodeSchema], kind: str) -> bool:
    """Tell whether an output is taken: a text by any node, anything else by a node that gives the same kind again."""
    takers = [graph.nodes[edge.destination.node] for edge in graph.edges if edge.source == output]
    if "conditioning" in kind.lower():
        return bool(takers)
    return any(kind in schema.outputs.values() for node in takers if (schema := schemas.get(node.type)))


def _downstream(graph: Graph, node: str) -> frozenset[str]:
    reached = {node}
    waiting = [node]
    for name in waiting:
        new = {edge.destination.node for edge in graph.targets(name)} - reached
        reached |= new
        waiting.extend(new)
    return frozenset(reached)
