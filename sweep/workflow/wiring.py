"""`Wiring`: a graph with the schemas of its nodes, for walking upstream along its edges."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cached_property

from sweep.workflow.dialect import NodeSchemas
from sweep.workflow.graph import Address, Edge, Graph, Value
from sweep.workflow.node_schemas import FieldSchema, NodeSchema

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

    def list_edges_into(self, address: Address) -> tuple[Edge, ...]:
        return self._into.get(address.node, {}).get(address.field, ())

    def schema(self, node: str) -> NodeSchema | None:
        found = self.graph.nodes.get(node)
        return self.schemas.get(found.type) if found else None

    def field(self, address: Address) -> FieldSchema | None:
        schema = self.schema(address.node)
        return schema.fields.get(address.field) if schema else None

    def has(self, node: str, field: str) -> bool:
        return self.field(Address(node, field)) is not None

    def first(self, node: str, *names: str) -> Address | None:
        """Return the first of these inputs that the node has."""
        return next((Address(node, name) for name in names if self.has(node, name)), None)

    def first_fields(self, nodes: Iterable[str], *names: str) -> Iterator[Address]:
        """Yield the first of these inputs on each of the nodes."""
        return (found for node in nodes if (found := self.first(node, *names)))

    def inputs(self, node: str, *types: str) -> list[Address]:
        schema = self.schema(node)
        return [Address(node, name) for name, field in schema.fields.items() if field.type in types] if schema else []

    def choices(self, address: Address) -> tuple[str, ...]:
        """Return the values that an input takes, where it takes no other."""
        field = self.field(address)
        return field.choices if field else ()

    def kind(self, node: str) -> str:
        return self.graph.nodes[node].type

    def value(self, address: Address) -> Value:
        """Return a field's value, or its default; None where it has neither."""
        node = self.graph.nodes[address.node]
        if address.field in node.fields:
            return node.fields[address.field]
        field = self.field(address)
        return field.default if field else None

    def find_settled_value(self, address: Address) -> Value:
        """Return the value that a field gets, from a node that merely holds it or its own."""
        return self.value(self.settle(address)[0])

    def settle(self, address: Address) -> tuple[Address, tuple[Edge, ...]]:
        """Return the address to write so that the field gets a value, and the edges to cut for that.

        A field without an edge is written itself. One that is fed by a node that merely holds a value (string,
        integer, image, …) is written there. One that is fed by a computation (rand_int, string_join, …) is written
        itself, and its edges are cut.
        """
        seen = {address}
        here = address
        while edges := self.list_edges_into(here):
            output = edges[-1].source
            schema = self.schema(output.node)
            held = (
                self.schemas.dialect.find_held_field(self.kind(output.node), schema, output.field) if schema else None
            )
            here = Address(output.node, held or "")
            if held is None or here in seen:
                return address, self.list_edges_into(address)
            seen.add(here)
        return here, ()

    def upstream(
        self,
        address: Address,
        types: Collection[str] | None = None,
        until: Callable[[str], bool] = lambda _: False,
        skip: Collection[str] = (),
    ) -> list[str]:
        """List the nodes from which edges lead to the field, nearest first.

        Args:
            address: the field to start from.
            types: types of the inputs to walk on through, besides those that take anything; None for every input.
            until: tells of a node whether not to walk beyond it.
            skip: names of inputs not to walk through.
        """
        waiting = [edge.source.node for edge in self.list_edges_into(address)]
        seen: dict[str, None] = {}
        for node in waiting:  # grows while it is walked
            if node in seen:
                continue
            seen[node] = None
            schema = self.schema(node)
            if schema is None or until(node):
                continue
            for name, edges in self._into.get(node, {}).items():
                field = schema.fields.get(name)
                if field and name not in skip and (types is None or field.type in types or field.type in ANYTHING):
                    waiting.extend(edge.source.node for edge in edges)
        return list(seen)
