"""What makes two graphs give the same image: a digest of every node, and the key of what is wanted from a graph.

A node's digest covers its type, its fields that decide an image, and the digests of what feeds it (a Merkle DAG).
Node ids, labels and the order of nodes therefore do not matter, and two nodes with equal digests compute the same
thing, be they in one graph or in two.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from sweep.errors import WorkflowError
from sweep.workflow.dialect import Dialect
from sweep.workflow.graph import Address, BoardRef, Edge, Graph, ImageRef, ModelRef, Node, Value

_DIGEST_BYTES = 16
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, check_circular=False).encode
_PLAIN = frozenset({str, int, bool, type(None)})


def node_digests(graph: Graph, dialect: Dialect) -> Mapping[str, bytes]:
    """Return the digest (16 bytes) of every node, by id. Raises WorkflowError for a cycle or an edge from nowhere."""
    return Digests(graph, dialect).by_node


def graph_key(graph: Graph, outputs: Iterable[str], dialect: Dialect) -> str:
    """Return 32 hex digits that are equal exactly where the images of these output nodes are; see `Digests.key`."""
    return Digests(graph, dialect).key(outputs)


class Digests:
    """The digests of one graph's nodes; `with_fields` gives those of a changed graph without starting over."""

    __slots__ = ("_dialect", "_shape", "by_node", "graph")

    def __init__(
        self, graph: Graph, dialect: Dialect, *, _known: tuple[_Shape, dict[str, bytes]] | None = None
    ) -> None:
        """Digest every node of `graph`. Raises WorkflowError for a cycle or an edge from a missing node."""
        self.graph = graph
        self._dialect = dialect
        if _known is None:
            self._shape = _shape(graph, dialect)
            self.by_node: dict[str, bytes] = {}
            self._compute(self._shape.order)
        else:
            self._shape, self.by_node = _known

    def key(self, outputs: Iterable[str]) -> str:
        """Return the identity of what these nodes give; nodes that do not lead to them do not count, nor does order.

        Raises WorkflowError where one of them is not in the graph.
        """
        try:
            wanted = sorted([self.by_node[node] for node in outputs])
        except KeyError as missing:
            raise WorkflowError(f"The graph has no node {missing}") from None
        return blake2b(b"".join(wanted), digest_size=_DIGEST_BYTES).hexdigest()

    def with_fields(self, values: Mapping[Address, Value]) -> Digests:
        """Return the digests of `graph.set(values)`: only the nodes named and those downstream of them are computed.

        Raises WorkflowError where a node does not exist.
        """
        changed = Digests(self.graph.set(values), self._dialect, _known=(self._shape, dict(self.by_node)))
        changed._compute(self._shape.downstream(frozenset(address.node for address in values)))
        return changed

    def _compute(self, order: Iterable[str]) -> None:
        nodes, digests, shape = self.graph.nodes, self.by_node, self._shape
        for name in order:
            feeds = shape.incoming[name]
            fed = ",".join([f'[{field},"{digests[source].hex()}",{output}]' for field, source, output in feeds.written])
            text = f"[{shape.write_node(nodes[name])},[{fed}]]"
            digests[name] = blake2b(text.encode("ascii"), digest_size=_DIGEST_BYTES).digest()


@dataclass(frozen=True, slots=True)
class _Incoming:
    edges: tuple[tuple[str, str, str], ...]  # (field, source node, source field), by field, else in the graph's order
    written: tuple[tuple[str, str, str], ...]  # the same, the names of the fields as JSON
    fields: frozenset[str]  # the fields these edges feed, and those that decide nothing: their values do not count


class _Shape:
    """What of a graph stays when only values change: the order of computation and who feeds whom."""

    __slots__ = ("_downstream", "_written", "incoming", "order")

    def __init__(self, order: tuple[str, ...], incoming: dict[str, _Incoming]) -> None:
        self.order = order
        self.incoming = incoming
        self._downstream: dict[frozenset[str], tuple[str, ...]] = {}
        self._written: dict[str, tuple[Node, str]] = {}

    def write_node(self, node: Node) -> str:
        """Return the node's type and deciding fields as JSON, cached: from point to point most nodes are the same."""
        known = self._written.get(node.id)
        if known is not None and known[0] is node:
            return known[1]
        text = f"{_encode(node.type)},{_encode(_deciding(node, self.incoming[node.id].fields))}"
        self._written[node.id] = (node, text)
        return text

    def downstream(self, nodes: frozenset[str]) -> tuple[str, ...]:
        """Return these nodes and all downstream in order of computation; cached, as a sweep asks the same often."""
        known = self._downstream.get(nodes)
        if known is None:
            reached = set(nodes)
            for name in self.order:
                if not reached.isdisjoint([source for _, source, _ in self.incoming[name].edges]):
                    reached.add(name)
            known = self._downstream[nodes] = tuple(name for name in self.order if name in reached)
        return known


def _shape(graph: Graph, dialect: Dialect) -> _Shape:
    into: dict[str, list[Edge]] = {name: [] for name in graph.nodes}
    for edge in dict.fromkeys(graph.edges):
        for end in (edge.source, edge.destination):
            if end.node not in graph.nodes:
                raise WorkflowError(f"Edge {edge}: the graph has no node {end.node!r}")
        into[edge.destination.node].append(edge)
    incoming = {name: _incoming(dialect.ignored_fields(graph.nodes[name].type), edges) for name, edges in into.items()}
    sources = {name: {source for _, source, _ in feeds.edges} for name, feeds in incoming.items()}
    return _Shape(computation_order(sources), incoming)


def _incoming(ignored: frozenset[str], edges: Iterable[Edge]) -> _Incoming:
    feeds = [(e.destination.field, e.source.node, e.source.field) for e in edges if e.destination.field not in ignored]
    feeds.sort(key=lambda feed: feed[0])  # stable: several edges into one field make a collection, in their order
    written = tuple((_encode(field), source, _encode(output)) for field, source, output in feeds)
    return _Incoming(tuple(feeds), written, ignored.union(field for field, _, _ in feeds))


def computation_order(sources: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """List the nodes, each after all that feed it. Raises WorkflowError naming the nodes of a cycle."""
    waiting = {name: len(set(feeding)) for name, feeding in sources.items()}
    targets: dict[str, list[str]] = {name: [] for name in sources}
    for name, feeding in sources.items():
        for source in set(feeding):
            targets[source].append(name)
    ready = [name for name, count in waiting.items() if not count]
    for name in ready:  # grows while it is walked
        for target in targets[name]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    if len(ready) < len(waiting):
        raise WorkflowError(f"The nodes feed each other in a circle: {' → '.join(_cycle(sources, set(ready)))}")
    return tuple(ready)


def _cycle(sources: Mapping[str, Iterable[str]], done: set[str]) -> list[str]:
    """Make one circle among the nodes that are not done, its first node repeated at the end."""
    name = next(node for node in sources if node not in done)
    path: list[str] = []
    while name not in path:
        path.append(name)
        name = next(source for source in sources[name] if source not in done)
    return [name, *reversed(path[path.index(name) :])]


def _deciding(node: Node, left_out: frozenset[str]) -> dict[str, Any]:
    return {
        name: value if type(value) in _PLAIN else canonical(value)
        for name, value in node.fields.items()
        if name not in left_out
    }


def canonical(value: Value) -> Any:
    """Return the value as JSON in its one spelling: 1.0 is 1 and −0.0 is 0, references are what they name."""
    kind = type(value)
    known = _SPELLING.get(kind)
    return value if known is None else known(value)


def _float(value: float) -> float | int:
    return int(value) if value.is_integer() else value


_SPELLING: Mapping[type, Callable[[Any], Any]] = {
    float: _float,
    dict: lambda value: {str(name): canonical(item) for name, item in value.items()},
    list: lambda value: [canonical(item) for item in value],
    tuple: lambda value: [canonical(item) for item in value],
    ModelRef: ModelRef.canonical,
    ImageRef: ImageRef.canonical,
    BoardRef: BoardRef.canonical,
}
