"""The expansion of a graph while it runs: iterate nodes make copies of what follows them, collect nodes join them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sweep.sandbox.item_queue import initial_session
from sweep.sandbox.nodes import NodeFields
from sweep.sandbox.posted_batches import GraphTemplate


@dataclass(slots=True, kw_only=True)
class NodeCopy:
    """A copy of a node to run. `inputs` are (field, copy, output)."""

    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    source: str
    node: NodeFields
    place: Mapping[str, int]  # iterator's node id → which of its items; tells the copies of one node apart
    inputs: list[tuple[str, NodeCopy, str]]
    output: NodeFields = field(default_factory=dict)  # empty until it has run

    def __post_init__(self) -> None:
        self.node = {**self.node, "id": self.id}

    @property
    def path(self) -> tuple[int, ...]:
        """Return the position within the iterations around it, outermost first."""
        return tuple(self.place.values())


@dataclass(slots=True)
class ExpandedGraph:
    """A graph expanded for one run: `next` gives the node to run, `complete` takes its output.

    Nodes become ready when all before them are done. Among ready nodes InvokeAI stays with one class of node until
    no more of it is ready, then takes the alphabetically first.
    """

    session_id: str
    graph: GraphTemplate
    errors: dict[str, str] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    results: dict[str, NodeFields] = field(default_factory=dict)
    copies: dict[str, list[NodeCopy]] = field(default_factory=dict)
    _ready: dict[str, list[NodeCopy]] = field(default_factory=dict)
    _active: str | None = None
    _into: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)  # node → (field, source, output)
    _left: dict[str, set[str]] = field(default_factory=dict)  # node → sources not yet done
    _graph_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def __post_init__(self) -> None:
        self._into = {name: [] for name in self.graph.nodes}
        self._left = {name: set() for name in self.graph.nodes}
        for edge in self.graph.edges:
            start, end = edge["source"], edge["destination"]
            self._into[end["node_id"]].append((end["field"], start["node_id"], start["field"]))
            self._left[end["node_id"]].add(start["node_id"])
        for name in self.graph.nodes:
            if not self._into[name]:
                self._prepare(name)

    def next(self) -> NodeCopy | None:
        """Return the node to run now, None when nothing is ready."""
        if not self._ready.get(self._active or ""):
            kinds = [kind for kind, group in self._ready.items() if group]
            self._active = min(kinds, key=lambda kind: _CLASS_NAMES.get(kind, kind.replace("_", "")), default=None)
        if self._active is None:
            return None
        prepared = self._ready[self._active].pop(0)
        self._fill(prepared)
        return prepared

    def complete(self, prepared: NodeCopy, output: NodeFields) -> None:
        """Record a node's output, and make the nodes ready that waited for it."""
        prepared.output = self.results[prepared.id] = output
        if prepared.node["type"] in {"iterate", "collect"}:
            prepared.node["collection"] = []
        if all(copy.output for copy in self.copies[prepared.source]):
            self._source_done(prepared.source)

    def _source_done(self, source: str) -> None:
        self.history.append(source)
        for name, left in self._left.items():
            if source in left:
                left.discard(source)
                if not left:
                    self._prepare(name)

    def _prepare(self, name: str) -> None:
        node = self.graph.nodes[name]
        made = list(self._gather(name) if node["type"] == "collect" else self._join(name))
        if node["type"] == "iterate":
            made = [copy for parent in made for copy in _iterate(parent)]
        self.copies[name] = made
        ready = self._ready.setdefault(node["type"], [])
        ready += made
        ready.sort(key=lambda copy: copy.path)
        if not made:
            self._source_done(name)

    def _join(self, name: str) -> Iterator[NodeCopy]:
        """Make one copy for each way in which copies of the sources stand at the same place."""
        partial: list[tuple[dict[str, int], dict[str, NodeCopy]]] = [({}, {})]
        for source in dict.fromkeys(source for _, source, _ in self._into[name]):
            partial = [
                ({**place, **copy.place}, {**chosen, source: copy})
                for place, chosen in partial
                for copy in self.copies[source]
                if all(place.get(axis, index) == index for axis, index in copy.place.items())
            ]
        for place, chosen in partial:
            inputs = [(to, chosen[source], out) for to, source, out in self._into[name]]
            yield NodeCopy(source=name, node=self.graph.nodes[name], place=place, inputs=inputs)

    def _gather(self, name: str) -> Iterator[NodeCopy]:
        """Make one copy for all copies of the sources, as `collect` takes them together."""
        inputs = [
            (to, copy, out)
            for to, source, out in self._into[name]
            for copy in sorted(self.copies[source], key=lambda copy: copy.path)
        ]
        yield NodeCopy(source=name, node=self.graph.nodes[name], place={}, inputs=inputs)

    def _fill(self, prepared: NodeCopy) -> None:
        """Put the outputs that edges bring into the node's fields; of two edges into one field the last wins."""
        node = prepared.node
        if node["type"] == "collect":
            collection = list(node.get("collection") or [])
            for to, copy, out in prepared.inputs:
                collection += copy.output[out] if to == "collection" else [copy.output[out]]
            node["collection"] = collection
            return
        for to, copy, out in prepared.inputs:
            node[to] = copy.output[out]

    def to_api(self) -> dict[str, Any]:
        """Return the session in its present state, as InvokeAI writes it."""
        every = [copy for copies in self.copies.values() for copy in copies]
        edges = [
            {"source": {"node_id": start.id, "field": out}, "destination": {"node_id": copy.id, "field": to}}
            for copy in every
            for to, start, out in copy.inputs
        ]
        return {
            **initial_session(self.session_id, self.graph),
            "execution_graph": {"id": self._graph_id, "nodes": {copy.id: copy.node for copy in every}, "edges": edges},
            "executed": [*self.history, *self.results],
            "executed_history": self.history,
            "results": self.results,
            "errors": self.errors,
            "prepared_source_mapping": {copy.id: copy.source for copy in every},
            "source_prepared_mapping": {name: [copy.id for copy in made] for name, made in self.copies.items()},
            "prepared_iteration_paths": {copy.id: list(copy.path) for copy in every},
            "indegree": {copy.id: sum(1 for _, start, _ in copy.inputs if not start.output) for copy in every},
        }


def _iterate(parent: NodeCopy) -> Iterator[NodeCopy]:
    collection = parent.node.get("collection") or []
    for to, copy, out in parent.inputs:
        if to == "collection":
            collection = copy.output[out]
    for index in range(len(collection)):
        place = {**parent.place, parent.source: index}
        yield NodeCopy(source=parent.source, node={**parent.node, "index": index}, place=place, inputs=parent.inputs)


_CLASS_NAMES = {  # where the class's name sorts elsewhere than the type
    "i2l": "imagetolatents",
    "l2i": "latentstoimage",
    "add": "addinvocation",
    "img_resize": "imageresize",
}
