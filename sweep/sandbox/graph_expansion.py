"""The expansion of a graph while it runs: iterate nodes make copies of what follows them, collect nodes join them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from sweep.sandbox.graph_checks import GraphJson
from sweep.sandbox.item_queue import initial_session
from sweep.sandbox.nodes import NodeFields


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

    def fill(self) -> None:
        """Put the outputs that edges bring into the node's fields; of two edges into one field the last wins."""
        if self.node["type"] == "collect":
            collection = list(self.node.get("collection") or [])
            for to, copy, out in self.inputs:
                collection += copy.output[out] if to == "collection" else [copy.output[out]]
            self.node["collection"] = collection
        else:
            self.node |= {to: copy.output[out] for to, copy, out in self.inputs}


class ExpandedGraph:
    """A graph expanded for one run, with what became of the copies of its nodes."""

    def __init__(self, session_id: str, graph: GraphJson) -> None:
        self.errors: dict[str, str] = {}  # by copy
        self.history: list[str] = []  # nodes of which all copies have run
        self.copies: dict[str, list[NodeCopy]] = {}
        self._session_id = session_id
        self._graph = graph
        self._into: dict[str, list[tuple[str, str, str]]] = {name: [] for name in graph["nodes"]}
        for edge in graph["edges"]:
            start, end = edge["source"], edge["destination"]
            self._into[end["node_id"]].append((end["field"], start["node_id"], start["field"]))

    def expand(self) -> Iterator[NodeCopy]:
        """Yield the copies to run, in an order that edges allow; the caller sets each one's output before the next."""
        order = TopologicalSorter({name: [source for _, source, _ in into] for name, into in self._into.items()})
        for name in order.static_order():
            self.copies[name] = self._make_copies(name)
            for copy in self.copies[name]:
                copy.fill()
                yield copy
            self.history.append(name)

    def _make_copies(self, name: str) -> list[NodeCopy]:
        kind = self._graph["nodes"][name]["type"]
        made = list(self._gather(name) if kind == "collect" else self._join(name))
        if kind == "iterate":
            made = [copy for parent in made for copy in _iterate(parent)]
        return sorted(made, key=lambda copy: copy.path)

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
            yield NodeCopy(source=name, node=self._graph["nodes"][name], place=place, inputs=inputs)

    def _gather(self, name: str) -> Iterator[NodeCopy]:
        """Make one copy for all copies of the sources, as `collect` takes them together."""
        inputs = [(to, copy, out) for to, source, out in self._into[name] for copy in self.copies[source]]
        yield NodeCopy(source=name, node=self._graph["nodes"][name], place={}, inputs=inputs)

    def to_api(self) -> dict[str, Any]:
        """Return the session in its present state, as InvokeAI writes it."""
        every = [copy for copies in self.copies.values() for copy in copies]
        results = {copy.id: copy.output for copy in every if copy.output}
        return {
            **initial_session(self._session_id, self._graph),
            "execution_graph": {"nodes": {copy.id: copy.node for copy in every}, "edges": []},
            "executed": [*self.history, *results],
            "results": results,
            "errors": self.errors,
            "prepared_source_mapping": {copy.id: copy.source for copy in every},
            "prepared_iteration_paths": {copy.id: list(copy.path) for copy in every},
        }


def _iterate(parent: NodeCopy) -> Iterator[NodeCopy]:
    parent.fill()
    for index in range(len(parent.node.get("collection") or [])):
        place = {**parent.place, parent.source: index}
        yield NodeCopy(source=parent.source, node={**parent.node, "index": index}, place=place, inputs=parent.inputs)
