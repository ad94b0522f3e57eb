"""Follows a graph's edges backwards: where a field's value really comes from, and which nodes lead to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from sweep.workflow.graph import Address, Edge, Graph, Value
from sweep.workflow.identity import UNDECIDING
from sweep.workflow.schemas import FieldSchema, NodeSchema, NodeSchemas

ANYTHING = frozenset({"any", "array"})  # the types of collect, iterate and if: what they pass on is not said
PICTURES = frozenset({"ImageField", "LatentsField"}) | ANYTHING


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

    def feeding(self, address: Address) -> tuple[Edge, ...]:
        """The edges into a field."""
        return self._into.get(address.node, {}).get(address.field, ())

    def schema(self, node: str) -> NodeSchema | None:
        """The schema of a node; None for a type nobody knows, or a node that is not there."""
        found = self.graph.nodes.get(node)
        return self.schemas.get(found.type) if found else None

    def has(self, node: str, field: str) -> bool:
        """Whether the node takes that input."""
        schema = self.schema(node)
        return schema is not None and field in schema.fields

    def kind(self, node: str) -> str:
        """The type of a node."""
        return self.graph.nodes[node].type

    def value(self, address: Address) -> Value:
        """What stands on a field, or would by default; None where neither."""
        node = self.graph.nodes[address.node]
        if address.field in node.fields:
            return node.fields[address.field]
        schema = self.schema(address.node)
        field = schema.fields.get(address.field) if schema else None
        return field.default if field else None

    def settle(self, address: Address) -> tuple[Address, tuple[Edge, ...]]:
        """Where to write so that the field gets a value, and which edges must go for it.

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
        """The field whose value this output gives on as it is, where its node does nothing but hold that value."""
        schema = self.schema(output.node)
        if schema is None:
            return None
        inputs = [field for name, field in schema.fields.items() if name not in UNDECIDING]
        if len(inputs) != 1 or inputs[0].name != output.field or schema.outputs.get(output.field) != inputs[0].type:
            return None
        if not inputs[0].takes_value or inputs[0].type == "array":
            return None
        if inputs[0].type == "ImageField" and self.kind(output.node) != "image":
            return None  # a filter: what it gives is not what it took
        return Address(output.node, output.field)

    def upstream(
        self, address: Address, through: Callable[[FieldSchema], bool], stop: Callable[[str], bool]
    ) -> Iterator[str]:
        """Nodes from which edges lead to the field, nearest first: on from each by the inputs that `through` lets
        pass, but not beyond a node where `stop` says so.
        """
        waiting = [edge.source.node for edge in self.feeding(address)]
        seen: set[str] = set()
        for node in waiting:  # grows while it is walked
            if node in seen:
                continue
            seen.add(node)
            yield node
            if not stop(node):
                waiting.extend(edge.source.node for edge in self._edges_through(node, through))

    def _edges_through(self, node: str, through: Callable[[FieldSchema], bool]) -> Iterator[Edge]:
        schema = self.schema(node)
        if schema is None:
            return
        for name, edges in self._into.get(node, {}).items():
            field = schema.fields.get(name)
            if field is not None and through(field):
                yield from edges

    def before(self, nodes: Iterable[str]) -> frozenset[str]:
        """These nodes and all that lead to them, but for what only decides metadata."""
        reached = set(nodes)
        waiting = list(reached)
        for node in waiting:
            for field, edges in self._into.get(node, {}).items():
                new = {edge.source.node for edge in edges} - reached if field not in UNDECIDING else set()
                reached |= new
                waiting.extend(new)
        return frozenset(reached)


def of_type(*kinds: str) -> Callable[[FieldSchema], bool]:
    """Lets an input pass where it takes one of these types, or anything."""
    wanted = frozenset(kinds) | ANYTHING
    return lambda field: field.type in wanted


def conditioning(field: FieldSchema) -> bool:
    """Lets an input pass where it takes an encoded prompt of whatever family, or anything."""
    return "Conditioning" in field.type or field.type in ANYTHING
