"""Adds the connections a graph obviously misses: where a node needs an input and exactly one output fits."""

from __future__ import annotations

from collections.abc import Iterator

from sweep.workflow.graph import Address, Edge, Graph
from sweep.workflow.schemas import FieldSchema, NodeSchemas

_ASKED = frozenset({("denoise_latents", "noise")})  # optional by its schema, but nothing comes out without it


def completed(graph: Graph, schemas: NodeSchemas) -> tuple[Graph, tuple[Edge, ...]]:
    """The graph with what could be completed, and the edges that were added, in order."""
    added: list[Edge] = []
    for node in graph.nodes.values():
        schema = schemas.get(node.type)
        for field in schema.fields.values() if schema else ():
            wanted = field.required or (node.type, field.name) in _ASKED
            address = Address(node.id, field.name)
            if not wanted or field.name in node.fields or graph.feeding(address):
                continue
            found = _only_fit(graph, schemas, address, field)
            if found is not None:
                added.append(Edge(found, address))
                graph = graph.adding(edges=[added[-1]])
    return graph, tuple(added)


def _only_fit(graph: Graph, schemas: NodeSchemas, address: Address, field: FieldSchema) -> Address | None:
    """The one output that can feed the field: of those of its type the ones of its name, of those the unused ones,
    and of a row of nodes that each change it (LoRAs) the last.
    """
    after = _downstream(graph, address.node)
    fits = [output for output in _outputs(graph, schemas, field.type) if output.node not in after]
    fits = [output for output in fits if output.field == field.name] or fits
    if len(fits) > 1:
        fits = [output for output in fits if not _used(graph, output, schemas, field.type)] or fits
    return fits[0] if len(fits) == 1 else None


def _outputs(graph: Graph, schemas: NodeSchemas, kind: str) -> Iterator[Address]:
    for node in graph.nodes.values():
        schema = schemas.get(node.type)
        for name, output in schema.outputs.items() if schema else ():
            if output == kind:
                yield Address(node.id, name)


def _used(graph: Graph, output: Address, schemas: NodeSchemas, kind: str) -> bool:
    """Whether an output is taken: a text by any node, anything else by a node that gives the same kind again."""
    takers = [graph.nodes[edge.destination.node] for edge in graph.edges if edge.source == output]
    if "Conditioning" in kind:
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
