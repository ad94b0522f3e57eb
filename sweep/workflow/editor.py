"""Converts an export of InvokeAI's workflow editor (meta.version 1 to 4) to the graph the editor would send.

The rules are those of the editor itself: only invocations count, connectors are followed back to the output they
stand for, a value under an edge is void, and batch nodes turn into lists of values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sweep.errors import Problem, WorkflowError
from sweep.workflow.generators import BATCH_NODES, GENERATORS, drawn_from, generated
from sweep.workflow.graph import Address, Edge, Graph, Node, Value
from sweep.workflow.loaded import BatchAxis, Workflow, sound
from sweep.workflow.naming import Names, made_up
from sweep.workflow.soundness import raise_for
from sweep.workflow.values import node_fields, references

_DRAWN = frozenset({"notes", "connector", "current_image"})  # nodes that are never sent
_SAVED_INPUT = "saved_workflow_input::"


def is_editor(document: Mapping[str, Any]) -> bool:
    """Whether a document with a list of nodes is an editor's export, and not the portable form."""
    nodes = [node for node in document.get("nodes") or () if isinstance(node, Mapping)]
    return any(str(node.get("type")) in {"invocation", *_DRAWN} or "inputs" in _data(node) for node in nodes)


def from_editor(document: Mapping[str, Any], source: str) -> Workflow:
    """The graph of an export, with its batches as axes. Raises WorkflowError, see `formats.load_workflow`."""
    drawing = _Drawing(document, source)
    nodes = [drawing.node(name) for name in drawing.sent]
    edges = [edge for edge in drawing.edges if not drawing.batching(edge)]
    graph = sound(Graph.of(nodes, dict.fromkeys(edges)), source)
    axes, notes = drawing.batches(Names(graph))
    return Workflow(
        graph=graph,
        kind="editor",
        name=str(document.get("name") or ""),
        batch_axes=axes,
        exposed=tuple(dict.fromkeys(address for address in _exposed(document) if address.node in graph.nodes)),
        labels=dict(drawing.labels()),
        notes=notes,
    )


def _data(node: Mapping[str, Any]) -> Mapping[str, Any]:
    data = node.get("data")
    return data if isinstance(data, Mapping) else {}


class _Drawing:
    """An export's nodes and edges, indexed."""

    def __init__(self, document: Mapping[str, Any], source: str) -> None:
        self.source = source
        listed = [node for node in document["nodes"] if isinstance(node, Mapping) and "id" in node]
        self.nodes = {str(node["id"]): node for node in listed}
        if len(self.nodes) < len(listed):
            ids = [str(node["id"]) for node in listed]
            twice = next(name for at, name in enumerate(ids) if name in ids[:at])
            raise WorkflowError(f"{source}: two nodes have the id {twice}.")
        invocations = {
            name: node for name, node in self.nodes.items() if node.get("type", "invocation") == "invocation"
        }
        untyped = [name for name in invocations if not isinstance(_data(invocations[name]).get("type"), str)]
        raise_for([Problem(message=f"Node {name} has no type") for name in untyped], source)
        self.types = {name: str(_data(node)["type"]) for name, node in invocations.items()}
        self.sent = {n: kind for n, kind in self.types.items() if kind not in BATCH_NODES and kind not in GENERATORS}
        self.edges = tuple(self._edges(document))

    def _edges(self, document: Mapping[str, Any]) -> Iterator[Edge]:
        drawn = [e for e in document.get("edges") or () if isinstance(e, Mapping) and e.get("type") != "collapsed"]
        for entry in drawn:
            ends = [entry.get("source"), entry.get("sourceHandle"), entry.get("target"), entry.get("targetHandle")]
            if not all(isinstance(end, str) and end for end in ends):
                raise WorkflowError(f"{self.source}: an edge has no source and target with handles: {entry.get('id')}")
        wires = {(str(e["target"]), str(e["targetHandle"])): e for e in drawn}
        for entry in drawn:
            target = Address(str(entry["target"]), str(entry["targetHandle"]))
            if self._drawn_only(target.node):
                continue
            found = self._real_source(entry, wires)
            if found is not None:
                yield Edge(found, target)

    def batching(self, edge: Edge) -> bool:
        """Whether an edge comes from or leads to a batch node or generator, none of which is sent."""
        kinds = {self.types.get(edge.source.node), self.types.get(edge.destination.node)}
        return not kinds.isdisjoint(BATCH_NODES.keys() | GENERATORS)

    def _drawn_only(self, node: str) -> bool:
        return node in self.nodes and node not in self.types

    def _real_source(
        self, entry: Mapping[str, Any], wires: Mapping[tuple[str, str], Mapping[str, Any]]
    ) -> Address | None:
        """The output an edge comes from, through any number of connectors; None where they lead nowhere."""
        seen: set[str] = set()
        while self._drawn_only(node := str(entry["source"])):
            before = wires.get((node, "in"))
            if before is None or node in seen:
                return None
            seen.add(node)
            entry = before
        return Address(node, str(entry["sourceHandle"]))

    def node(self, name: str) -> Node:
        """One invocation as the editor would send it."""
        data = _data(self.nodes[name])
        kind = self.types[name]
        values = dict(self._inputs(name))
        packed = {
            key.removeprefix(_SAVED_INPUT): values.pop(key) for key in list(values) if key.startswith(_SAVED_INPUT)
        }
        if packed:
            values["workflow_inputs"] = packed
        for attribute, key in (("use_cache", "useCache"), ("is_intermediate", "isIntermediate")):
            if isinstance(data.get(key), bool):
                values[attribute] = data[key]
        return Node(name, kind, node_fields(kind, values), str(data.get("label") or ""))

    def _inputs(self, name: str) -> Iterator[tuple[str, Any]]:
        inputs = _data(self.nodes[name]).get("inputs")
        for field, entry in inputs.items() if isinstance(inputs, Mapping) else ():
            if isinstance(entry, Mapping) and "value" in entry:
                yield str(field), entry["value"]

    def labels(self) -> Iterator[tuple[Address, str]]:
        """What the author called single fields."""
        for name in self.sent:
            inputs = _data(self.nodes[name]).get("inputs")
            for field, entry in inputs.items() if isinstance(inputs, Mapping) else ():
                if isinstance(entry, Mapping) and entry.get("label"):
                    yield Address(name, str(field)), str(entry["label"])

    def batches(self, names: Names) -> tuple[tuple[BatchAxis, ...], tuple[str, ...]]:
        """The batch nodes that feed something, as axes, and a note for each that cannot be one."""
        axes: list[BatchAxis] = []
        notes: list[str] = []
        for name, kind in self.types.items():
            if kind not in BATCH_NODES:
                continue
            fed = tuple(e.destination for e in self.edges if e.source.node == name and e.destination.node in self.sent)
            if not fed:
                continue
            own = f"{names.called(fed[0].node)}.{fed[0].field}" if made_up(name) else name
            shown = str(_data(self.nodes[name]).get("label") or own)
            where = " and ".join(map(str, fed))
            values = self._values(name, kind)
            if values is None:
                notes.append(f"{shown} takes the pictures of a board, which only the editor can list: set {where}.")
                continue
            if not values:
                raise WorkflowError(f"{self.source}: {shown} ({kind}) holds no values.")
            note = f"{shown} ({kind}) is an axis of {len(values)} values for {where}{self._drawn(name, kind)}."
            axes.append(BatchAxis(name=shown, addresses=fed, values=values, group=self._group(name), note=note))
        return tuple(axes), tuple(notes)

    def _group(self, name: str) -> str:
        chosen = str(dict(self._inputs(name)).get("batch_group_id") or "None")
        return "" if chosen == "None" else chosen

    def _values(self, name: str, kind: str) -> tuple[Value, ...] | None:
        """The values of a batch node, its own or its generator's; None for pictures of a board."""
        generator = self._generator(name, kind)
        if generator is None:
            held = dict(self._inputs(name)).get(BATCH_NODES[kind])
            return tuple(references(value) for value in held) if isinstance(held, list) else ()
        if self.types[generator] == "image_generator":
            return None
        shown = str(_data(self.nodes[generator]).get("label") or generator)
        return tuple(generated(shown, self._settings(generator)))

    def _generator(self, name: str, kind: str) -> str | None:
        """The generator that fills a batch node, where one does."""
        feeding = [e.source.node for e in self.edges if e.destination == Address(name, BATCH_NODES[kind])]
        return next((node for node in feeding if self.types.get(node) in GENERATORS), None)

    def _settings(self, generator: str) -> Mapping[str, Any]:
        settings = dict(self._inputs(generator)).get("generator")
        return settings if isinstance(settings, Mapping) else {}

    def _drawn(self, name: str, kind: str) -> str:
        """What a note says further of values that are drawn at random."""
        generator = self._generator(name, kind)
        seed = drawn_from(self._settings(generator)) if generator is not None else None
        return (
            f", drawn here from seed {seed}: the same each time, not those the editor draws" if seed is not None else ""
        )


def _exposed(document: Mapping[str, Any]) -> Iterator[Address]:
    """The fields on the workflow's form, then those of the older list."""
    form = document.get("form")
    elements = form.get("elements") if isinstance(form, Mapping) else None
    entries = (
        [e.get("data") for e in elements.values() if isinstance(e, Mapping)] if isinstance(elements, Mapping) else []
    )
    shown = [entry.get("fieldIdentifier") for entry in entries if isinstance(entry, Mapping)]
    for entry in [*shown, *(document.get("exposedFields") or ())]:
        if isinstance(entry, Mapping) and entry.get("nodeId") and entry.get("fieldName"):
            yield Address(str(entry["nodeId"]), str(entry["fieldName"]))
