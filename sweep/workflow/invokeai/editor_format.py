"""The format in which InvokeAI's editor saves a workflow; its batch nodes become axes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from sweep.errors import Problem, WorkflowError
from sweep.workflow.graph import Address, BatchAxis, Edge, Graph, Names, Node, Value, Workflow, made_up
from sweep.workflow.invokeai.api_format import COLLECTING, node_fields, workflow_references
from sweep.workflow.invokeai.generators import GENERATORS, find_seed, generate
from sweep.workflow.validation import clean_graph, raise_for

BATCH_NODES = {  # type → the input that holds the values
    "image_batch": "images",
    "string_batch": "strings",
    "integer_batch": "integers",
    "float_batch": "floats",
}
_DRAWN = frozenset({"invocation", "notes", "connector", "current_image"})  # what a node is in the editor
_SAVED_INPUT = "saved_workflow_input::"


def is_editor(document: Mapping[str, Any]) -> bool:
    """Tell whether a document with a list of nodes is an editor's export, and not the portable form."""
    nodes = [node for node in document.get("nodes") or () if isinstance(node, Mapping)]
    return any(str(node.get("type")) in _DRAWN or "inputs" in _data(node) for node in nodes)


def from_editor(document: Mapping[str, Any], source: str) -> Workflow:
    """Return the graph of an export, with its batches as axes. Raises WorkflowError."""
    drawing = _Drawing(document, source)
    nodes = [drawing.node(name) for name in drawing.sent]
    hidden = drawing.types.keys() - drawing.sent.keys()  # batch nodes and generators
    edges = [edge for edge in drawing.edges if hidden.isdisjoint({edge.source.node, edge.destination.node})]
    graph = clean_graph(Graph.of(nodes, dict.fromkeys(edges)), source, COLLECTING)
    axes, notes = drawing.batches(Names(graph))
    return Workflow(
        graph=graph,
        kind="editor",
        name=str(document.get("name") or ""),
        batch_axes=axes,
        exposed=tuple(dict.fromkeys(address for address in _exposed(document) if address.node in graph.nodes)),
        labels=drawing.labels(),
        notes=notes,
    )


def _data(entry: Any) -> Mapping[str, Any]:
    data = entry.get("data") if isinstance(entry, Mapping) else None
    return data if isinstance(data, Mapping) else {}


class _Drawing:
    """An export's nodes and edges, indexed."""

    def __init__(self, document: Mapping[str, Any], source: str) -> None:
        self.source = source
        listed = [node for node in document["nodes"] if isinstance(node, Mapping) and "id" in node]
        for name, count in Counter(str(node["id"]) for node in listed).items():
            if count > 1:
                raise WorkflowError(f"{source}: two nodes have the id {name}.")
        self.data = {str(node["id"]): _data(node) for node in listed}
        invocations = [str(node["id"]) for node in listed if node.get("type", "invocation") == "invocation"]
        untyped = [name for name in invocations if not isinstance(self.data[name].get("type"), str)]
        raise_for([Problem(message=f"Node {name} has no type") for name in untyped], source)
        self.types = {name: str(self.data[name]["type"]) for name in invocations}
        self.sent = {n: kind for n, kind in self.types.items() if kind not in BATCH_NODES and kind not in GENERATORS}
        self.edges = tuple(self._edges(document))

    def _edges(self, document: Mapping[str, Any]) -> Iterator[Edge]:
        drawn = [e for e in document.get("edges") or () if isinstance(e, Mapping) and e.get("type") != "collapsed"]
        for entry in drawn:
            ends = [entry.get("source"), entry.get("sourceHandle"), entry.get("target"), entry.get("targetHandle")]
            if not all(isinstance(end, str) and end for end in ends):
                raise WorkflowError(f"{self.source}: an edge has no source and target with handles: {entry.get('id')}")
        wires = {Address(e["target"], e["targetHandle"]): Address(e["source"], e["sourceHandle"]) for e in drawn}
        for entry in drawn:
            target = Address(entry["target"], entry["targetHandle"])
            source = self._real_source(Address(entry["source"], entry["sourceHandle"]), wires)
            if source is not None and not self._is_drawn_only(target.node):
                yield Edge(source, target)

    def _is_drawn_only(self, node: str) -> bool:
        return node in self.data and node not in self.types

    def _real_source(self, source: Address, wires: Mapping[Address, Address]) -> Address | None:
        """Return the output an edge comes from, through any number of connectors; None where they lead nowhere."""
        seen: set[str] = set()
        while self._is_drawn_only(source.node):
            before = wires.get(Address(source.node, "in"))
            if before is None or source.node in seen:
                return None
            seen.add(source.node)
            source = before
        return source

    def _inputs(self, name: str) -> dict[str, Mapping[str, Any]]:
        inputs = self.data[name].get("inputs")
        entries = inputs.items() if isinstance(inputs, Mapping) else ()
        return {str(field): entry for field, entry in entries if isinstance(entry, Mapping)}

    def _values(self, name: str) -> dict[str, Any]:
        return {field: entry["value"] for field, entry in self._inputs(name).items() if "value" in entry}

    def labels(self) -> dict[Address, str]:
        """Return the labels that the author gave to single fields."""
        inputs = ((Address(name, field), entry) for name in self.sent for field, entry in self._inputs(name).items())
        return {address: str(entry["label"]) for address, entry in inputs if entry.get("label")}

    def node(self, name: str) -> Node:
        """Make one invocation as the editor would send it."""
        data, kind, values = self.data[name], self.types[name], self._values(name)
        packed = [field for field in values if field.startswith(_SAVED_INPUT)]
        if packed:
            values["workflow_inputs"] = {field.removeprefix(_SAVED_INPUT): values.pop(field) for field in packed}
        for attribute, key in (("use_cache", "useCache"), ("is_intermediate", "isIntermediate")):
            if isinstance(data.get(key), bool):
                values[attribute] = data[key]
        return Node(name, kind, node_fields(kind, values), str(data.get("label") or ""))

    def batches(self, names: Names) -> tuple[tuple[BatchAxis, ...], tuple[str, ...]]:
        """Return the batch nodes that feed something, as axes, and a note for each that cannot be one."""
        axes: list[BatchAxis] = []
        notes: list[str] = []
        for name in (name for name, kind in self.types.items() if kind in BATCH_NODES):
            fed = tuple(e.destination for e in self.edges if e.source.node == name and e.destination.node in self.sent)
            if not fed:
                continue
            kind = self.types[name]
            own = f"{names.called(fed[0].node)}.{fed[0].field}" if made_up(name) else name
            shown = str(self.data[name].get("label") or own)
            where = " and ".join(map(str, fed))
            values, drawn = self._batch_values(name, BATCH_NODES[kind])
            if values is None:
                notes.append(f"{shown} takes the images of a board, which only the editor can list: set {where}.")
                continue
            if not values:
                raise WorkflowError(f"{self.source}: {shown} ({kind}) holds no values.")
            chosen = str(self._values(name).get("batch_group_id") or "None")
            group = "" if chosen == "None" else chosen
            note = f"{shown} ({kind}) is an axis of {len(values)} values for {where}{drawn}."
            axes.append(BatchAxis(name=shown, addresses=fed, values=values, group=group, note=note))
        return tuple(axes), tuple(notes)

    def _batch_values(self, name: str, field: str) -> tuple[tuple[Value, ...] | None, str]:
        """Return the values of a batch node, its own or its generator's; None for images of a board.

        Beside them stands the end of a note on values that are drawn at random.
        """
        feeding = [edge.source.node for edge in self.edges if edge.destination == Address(name, field)]
        generator = next((node for node in feeding if self.types.get(node) in GENERATORS), None)
        if generator is None:
            held = self._values(name).get(field)
            return tuple(map(workflow_references, held)) if isinstance(held, list) else (), ""
        if self.types[generator] == "image_generator":
            return None, ""
        given = self._values(generator).get("generator")
        settings = given if isinstance(given, Mapping) else {}
        values = tuple(generate(str(self.data[generator].get("label") or generator), settings))
        seed = find_seed(settings)
        drawn = f", drawn here from seed {seed}: the same each time, not those the editor draws"
        return values, "" if seed is None else drawn


def _exposed(document: Mapping[str, Any]) -> Iterator[Address]:
    """Yield the fields on the workflow's form, then those of the older list."""
    form = document.get("form")
    elements = form.get("elements") if isinstance(form, Mapping) else None
    shown = [_data(each) for each in elements.values()] if isinstance(elements, Mapping) else []
    for entry in [*(data.get("fieldIdentifier") for data in shown), *(document.get("exposedFields") or ())]:
        if isinstance(entry, Mapping) and entry.get("nodeId") and entry.get("fieldName"):
            yield Address(str(entry["nodeId"]), str(entry["fieldName"]))
