"""A graph as every family of servers can take it: typed nodes with fields, and edges between fields.

A graph is an immutable value that names no server: a model is a `ModelRef` and an input image an `ImageRef` until a
client puts one server's own identifiers in their place. So the same graph, and the same key, serves every server of a
run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from sweep.errors import WorkflowError

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """One field of one node, written `node.field`. Node ids may hold dots: the last one divides."""

    node: str
    field: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse `node.field`. Raises WorkflowError where `text` is something else."""
        node, dot, name = text.rpartition(".")
        if not (dot and node and name):
            raise WorkflowError(f"{text!r} is not an address; addresses are written node.field")
        return cls(node, name)

    def __str__(self) -> str:
        return f"{self.node}.{self.field}"


@dataclass(frozen=True, slots=True, order=True)
class ModelRef:
    """A model by what it is called, not by a server's key for it. `base` is the family of models, as sd-1 or sdxl."""

    name: str
    base: str
    type: str = "main"

    def canonical(self) -> Json:
        return {"$model": {"name": self.name, "base": self.base, "type": self.type}}


@dataclass(frozen=True, slots=True, order=True)
class ImageRef:
    """An input image by the SHA-256 of its file, in lower-case hex."""

    sha256: str

    def canonical(self) -> Json:
        return {"$image": self.sha256}


@dataclass(frozen=True, slots=True, order=True)
class BoardRef:
    """A board by name; each server has (or makes) its own id for it."""

    name: str

    def canonical(self) -> Json:
        return {"$board": self.name}


Ref: TypeAlias = ModelRef | ImageRef | BoardRef
Value: TypeAlias = "Json | Ref | list[Any] | dict[str, Any]"  # the containers may hold references, too


def map_refs(value: Value, resolve: Callable[[Ref], Json]) -> Json:
    """`value` with each reference in it, at any depth, replaced by what `resolve` makes of it."""
    if isinstance(value, ModelRef | ImageRef | BoardRef):
        return resolve(value)
    if isinstance(value, Mapping):
        return {name: map_refs(item, resolve) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [map_refs(item, resolve) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class Node:
    """One node: `fields` are the values set on it, without `id` and `type`; a field fed by an edge has none."""

    id: str
    type: str
    fields: Mapping[str, Value] = field(default_factory=dict)
    label: str = ""  # what its author called it; empty where nobody did


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """From an output field to an input field."""

    source: Address
    destination: Address

    def __str__(self) -> str:
        return f"{self.source} → {self.destination}"


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes by id, in the order of their definition, and edges. Making one does not check it: see `check`."""

    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...] = ()

    @classmethod
    def of(cls, nodes: Iterable[Node], edges: Iterable[str | Edge] = ()) -> Graph:
        """Return a graph from nodes and edges, the latter also written `"noise.noise → denoise.noise"` (or `->`)."""
        return cls({node.id: node for node in nodes}, tuple(e if isinstance(e, Edge) else _edge(e) for e in edges))

    def set(self, values: Mapping[Address, Value]) -> Graph:
        """Return the same graph with these fields holding these values; other nodes are shared, not copied.

        Raises WorkflowError where a node does not exist.
        """
        nodes = dict(self.nodes)
        for address, value in values.items():
            node = nodes.get(address.node)
            if node is None:
                raise WorkflowError(f"{address}: the graph has no node {address.node!r}")
            nodes[address.node] = Node(node.id, node.type, {**node.fields, address.field: value}, node.label)
        return Graph(nodes, self.edges)

    def references(self) -> frozenset[Ref]:
        """Return every model, image and board that the graph names."""
        found: set[Ref] = set()
        waiting: list[Any] = [value for node in self.nodes.values() for value in node.fields.values()]
        while waiting:
            value = waiting.pop()
            if isinstance(value, ModelRef | ImageRef | BoardRef):
                found.add(value)
            elif isinstance(value, Mapping):
                waiting.extend(value.values())
            elif isinstance(value, list | tuple):
                waiting.extend(value)
        return frozenset(found)

    def feeding(self, address: Address) -> tuple[Edge, ...]:
        """Return the edges into a field, in order."""
        return tuple(edge for edge in self.edges if edge.destination == address)

    def sources(self, node: str) -> tuple[Edge, ...]:
        """Return the edges into a node, in order."""
        return tuple(edge for edge in self.edges if edge.destination.node == node)

    def targets(self, node: str) -> tuple[Edge, ...]:
        """Return the edges out of a node, in order."""
        return tuple(edge for edge in self.edges if edge.source.node == node)

    def without_edges(self, edges: Iterable[Edge]) -> Graph:
        """Return the same graph less these edges."""
        gone = set(edges)
        return replace(self, edges=tuple(edge for edge in self.edges if edge not in gone))

    def adding(self, nodes: Iterable[Node] = (), edges: Iterable[str | Edge] = ()) -> Graph:
        """Return the same graph with more nodes and edges; a node of the same id is replaced."""
        more = Graph.of(nodes, edges)
        return Graph({**self.nodes, **more.nodes}, self.edges + more.edges)


def _edge(text: str) -> Edge:
    source, _, destination = text.replace("->", "→").partition("→")
    return Edge(Address.parse(source.strip()), Address.parse(destination.strip()))
