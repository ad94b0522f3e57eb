"""Walks a graph upstream, and completes the edges that a portable document leaves out where only one output fits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from sweep.errors import Problem
from sweep.text import truncate
from sweep.workflow.dialect import FieldSchema, NodeSchema, NodeSchemas
from sweep.workflow.graph import Address, Edge, Graph, Value

ANYTHING = frozenset({"any", "array"})  # types of nodes that pass on whatever they are given


class Wiring:
    """A graph with its schemas, indexed for walking upstream. Node types without a schema end a walk."""

    def __init__(self, graph: Graph, schemas: NodeSchemas) -> None:
        self.graph = graph
        self.schemas = schemas

    @cached_property
    def _into(self) -> dict[str, dict[str, tuple[Edge, ...]]]:
        index: dict[str, dict[str, tuple[Edge, ...]]] = {}
        for edge in self.graph.edges:
            fields = index.setdefault(edge.destination.node, {})
            fields[edge.destination.field] = (*fields.get(edge.destination.field, ()), edge)
        return index

    @cached_property
    def input_types(self) -> frozenset[str]:
        """The types of all inputs of the graph's nodes."""
        schemas = [self.schemas.get(node.type) for node in self.graph.nodes.values()]
        return frozenset(field.type for schema in schemas if schema for field in schema.fields.values())

    def feeding(self, address: Address) -> tuple[Edge, ...]:
        """Return the edges into a field."""
        return self._into.get(address.node, {}).get(address.field, ())

    def schema(self, node: str) -> NodeSchema | None:
        """Return the schema of a node; None for an unknown type or a missing node."""
        found = self.graph.nodes.get(node)
        return self.schemas.get(found.type) if found else None

    def has(self, node: str, field: str) -> bool:
        """Return whether the node has that input."""
        schema = self.schema(node)
        return schema is not None and field in schema.fields

    def kind(self, node: str) -> str:
        """Return the type of a node."""
        return self.graph.nodes[node].type

    def value(self, address: Address) -> Value:
        """Return what stands on a field, or would by default; None where neither does."""
        node = self.graph.nodes[address.node]
        if address.field in node.fields:
            return node.fields[address.field]
        schema = self.schema(address.node)
        field = schema.fields.get(address.field) if schema else None
        return field.default if field else None

    def settle(self, address: Address) -> tuple[Address, tuple[Edge, ...]]:
        """Return where to write so that the field gets a value, and which edges must go for it.

        A field without an edge is written itself. One that is fed by a node that merely holds a value (string,
        integer, image, …) is written there. One that is fed by a computation (rand_int, string_join, …) is written
        itself, and its edges are cut.
        """
        seen = {address}
        here = address
        while edges := self.feeding(here):
            held = self._held(edges[-1].source)
            if held is None or held in seen:
                return address, self.feeding(address)
            here = held
            seen.add(here)
        return here, ()

    def _held(self, output: Address) -> Address | None:
        """Return the field whose value this output gives on as it is, where its node only holds that value."""
        schema = self.schema(output.node)
        field = self.schemas.dialect.held_field(self.kind(output.node), schema, output.field) if schema else None
        return Address(output.node, field) if field is not None else None

    def upstream(
        self,
        address: Address,
        types: Collection[str] | None = None,
        until: Collection[str] = (),
        skip: Collection[str] = (),
    ) -> list[str]:
        """List the nodes from which edges lead to the field, nearest first.

        Args:
            address: the field to start from.
            types: types of the inputs to walk on through, besides those that take anything; None for every input.
            until: do not walk beyond a node that has an input of one of these names.
            skip: names of inputs not to walk through.
        """
        waiting = [edge.source.node for edge in self.feeding(address)]
        seen: dict[str, None] = {}
        for node in waiting:  # grows while it is walked
            if node in seen:
                continue
            seen[node] = None
            schema = self.schema(node)
            if schema is None or any(name in schema.fields for name in until):
                continue
            for name, edges in self._into.get(node, {}).items():
                field = schema.fields.get(name)
                if field and name not in skip and (types is None or field.type in types or field.type in ANYTHING):
                    waiting.extend(edge.source.node for edge in edges)
        return list(seen)


def nodes_before(graph: Graph, nodes: Iterable[str], ignored: Collection[str] = ()) -> frozenset[str]:
    """Return these nodes and all from which edges lead to them, but for edges into fields of the `ignored` names."""
    sources: dict[str, list[str]] = {}
    for edge in graph.edges:
        if edge.destination.field not in ignored:
            sources.setdefault(edge.destination.node, []).append(edge.source.node)
    reached = set(nodes)
    waiting = list(reached)
    while waiting:
        new = set(sources.get(waiting.pop(), ())) - reached
        reached |= new
        waiting.extend(new)
    return frozenset(reached)


def pruned(graph: Graph, outputs: tuple[str, ...]) -> Graph:
    """Return the graph with only what leads to these nodes: a server runs every node it is sent, and what was cut off
    may fail there.
    """
    needed = nodes_before(graph, outputs)
    nodes = {name: node for name, node in graph.nodes.items() if name in needed}
    return Graph(nodes, tuple(edge for edge in graph.edges if edge.destination.node in needed))


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
