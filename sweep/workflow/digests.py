"""Digests of a graph's nodes, and the key of its outputs: equal keys mean equal images.

A node's digest covers its type, its fields that decide an image, and the digests of what feeds it (a Merkle DAG).
Node ids, labels and the order of nodes therefore do not matter, and two nodes with equal digests compute the same
thing, be they in one graph or in two.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from hashlib import blake2b
from typing import Any

from sweep.errors import WorkflowError
from sweep.workflow.dialect import Dialect
from sweep.workflow.graph import Address, BoardRef, Edge, Graph, ImageRef, ModelRef, Node, Value

_DIGEST_BYTES = 16
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, check_circular=False).encode
_PLAIN = frozenset({str, int, bool, type(None)})


@dataclass(frozen=True, slots=True)
class NodeChange:
    """Nodes with other fields, ready to be put into any graph that is the same but for nodes outside `nodes`."""

    nodes: Mapping[str, Node]
    texts: Mapping[str, str]
    downstream: tuple[str, ...]  # these nodes and all that they lead to, in order of computation


class Digests:
    """The digests of one graph's nodes; `with_fields` gives those of a changed graph without starting over."""

    __slots__ = ("_nodes", "_shape", "_texts", "by_node")

    def __init__(self, graph: Graph, dialect: Dialect) -> None:
        """Digest every node of `graph`. Raises WorkflowError for a cycle or an edge from a missing node."""
        self._nodes = graph.nodes
        self._shape = _Shape(graph, dialect)
        self._texts = {name: self._shape.write_node(node) for name, node in graph.nodes.items()}
        self.by_node: dict[str, str] = {}
        self._compute(self._shape.order)

    @property
    def graph(self) -> Graph:
        """Return the graph whose nodes these are."""
        return Graph(self._nodes, self._shape.edges)

    def key(self, outputs: Iterable[str]) -> str:
        """Return the identity of what these nodes give; nodes that do not lead to them do not count, nor does order.

        Raises WorkflowError where one of them is not in the graph.
        """
        try:
            wanted = sorted([self.by_node[node] for node in outputs])
        except KeyError as missing:
            raise WorkflowError(f"The graph has no node {missing}") from None
        return blake2b(bytes.fromhex("".join(wanted)), digest_size=_DIGEST_BYTES).hexdigest()

    def with_fields(self, values: Mapping[Address, Value]) -> Digests:
        """Return the digests of `graph.set(values)`: only the nodes named and those downstream of them are computed.

        Raises WorkflowError where a node does not exist.
        """
        return self.apply(self.prepare(values))

    def prepare(self, values: Mapping[Address, Value]) -> NodeChange:
        """Return the nodes with these values in them, for `apply`: what many graphs have in common is written once.

        Raises WorkflowError where a node does not exist.
        """
        changed = Graph(self._nodes, self._shape.edges).set(values).nodes
        nodes = {address.node: changed[address.node] for address in values}
        texts = {name: self._shape.write_node(node) for name, node in nodes.items()}
        return NodeChange(nodes, texts, self._shape.list_downstream(frozenset(nodes)))

    def apply(self, change: NodeChange) -> Digests:
        """Return the digests of the graph with these nodes, of which only those that they lead to are computed."""
        changed = Digests.__new__(Digests)
        changed._shape = self._shape
        changed._nodes = {**self._nodes, **change.nodes}
        changed._texts = {**self._texts, **change.texts}
        changed.by_node = self.by_node.copy()
        changed._compute(change.downstream)
        return changed

    def _compute(self, order: Iterable[str]) -> None:
        texts, digests, feeds = self._texts, self.by_node, self._shape.feeds
        for name in order:
            fed = ",".join([f'[{field},"{digests[source]}",{output}]' for field, source, output in feeds[name]])
            text = f"[{texts[name]},[{fed}]]".encode("ascii")
            digests[name] = blake2b(text, digest_size=_DIGEST_BYTES).hexdigest()


class _Shape:
    """The part of a graph that stays when values change: its edges, the order of computation, and who feeds whom."""

    __slots__ = ("_downstream", "_left_out", "edges", "feeds", "order")

    def __init__(self, graph: Graph, dialect: Dialect) -> None:
        self.edges = graph.edges
        into: dict[str, list[Edge]] = {name: [] for name in graph.nodes}
        for edge in dict.fromkeys(graph.edges):
            for end in (edge.source, edge.destination):
                if end.node not in graph.nodes:
                    raise WorkflowError(f"Edge {edge}: the graph has no node {end.node!r}")
            into[edge.destination.node].append(edge)
        self.feeds: dict[str, list[tuple[str, str, str]]] = {}  # node → (field as JSON, source node, output as JSON)
        self._left_out: dict[str, frozenset[str]] = {}  # fields that edges feed or that decide nothing, by node
        for name, edges in into.items():
            ignored = dialect.list_ignored_fields(graph.nodes[name].type)
            counted = [edge for edge in edges if edge.destination.field not in ignored]
            counted.sort(key=lambda edge: edge.destination.field)  # stable: several edges into one make a collection
            self.feeds[name] = [(_encode(e.destination.field), e.source.node, _encode(e.source.field)) for e in counted]
            self._left_out[name] = ignored.union(edge.destination.field for edge in counted)
        self.order = order_computation({name: {source for _, source, _ in feeds} for name, feeds in self.feeds.items()})
        self._downstream: dict[frozenset[str], tuple[str, ...]] = {}

    def write_node(self, node: Node) -> str:
        """Return the node's type and deciding fields as JSON."""
        left_out = self._left_out[node.id]
        deciding = {
            name: value if type(value) in _PLAIN else canonical(value)
            for name, value in node.fields.items()
            if name not in left_out
        }
        return f"{_encode(node.type)},{_encode(deciding)}"

    def list_downstream(self, nodes: frozenset[str]) -> tuple[str, ...]:
        """Return the nodes and all downstream of them in order of computation; cached, as the same is asked often."""
        known = self._downstream.get(nodes)
        if known is None:
            reached = set(nodes)
            for name in self.order:
                if not reached.isdisjoint([source for _, source, _ in self.feeds[name]]):
                    reached.add(name)
            known = self._downstream[nodes] = tuple(name for name in self.order if name in reached)
        return known


def order_computation(sources: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """List the nodes, each after all that feed it. Raises WorkflowError naming the nodes of a cycle."""
    sorter = TopologicalSorter[str](dict.fromkeys(sources, ()))
    for name, feeding in sources.items():
        sorter.add(name, *feeding)
    try:
        return tuple(sorter.static_order())
    except CycleError as error:
        raise WorkflowError(f"The nodes feed each other in a circle: {' → '.join(error.args[1])}") from None


def canonical(value: Value) -> Any:
    """Return the value as JSON in its one spelling: 1.0 is 1 and −0.0 is 0, references are what they name."""
    known = _SPELLING.get(type(value))
    return value if known is None else known(value)


_SPELLING: Mapping[type, Callable[[Any], Any]] = {
    float: lambda value: int(value) if value.is_integer() else value,
    dict: lambda value: {str(name): canonical(item) for name, item in value.items()},
    list: lambda value: [canonical(item) for item in value],
    tuple: lambda value: [canonical(item) for item in value],
    ModelRef: ModelRef.canonical,
    ImageRef: ImageRef.canonical,
    BoardRef: BoardRef.canonical,
}
