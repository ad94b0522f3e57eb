"""A posted batch: checked as InvokeAI checks it, and expanded into items in its order."""

from __future__ import annotations

import itertools
import math
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pydantic import BaseModel, ValidationError

from sweep.sandbox.requests import (
    EDGES,
    FRAME,
    OBJECT,
    Datum,
    Frame,
    NodeTypes,
    RefusedError,
    checked,
    fault,
    faults_of,
    value_fault,
)

Node = dict[str, Any]
_GRAPH = ("body", "batch", "graph")


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTemplate:
    """A checked graph in the form it is kept and echoed."""

    id: str
    nodes: Mapping[str, Node]
    edges: tuple[dict[str, Any], ...]

    def to_api(self) -> dict[str, Any]:
        return {"id": self.id, "nodes": self.nodes, "edges": self.edges}


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """What one item puts into the graph; `poison` says why the server will not be able to read it."""

    fields: tuple[dict[str, Any], ...] = ()
    poison: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch that was accepted."""

    frame: Frame
    graph: GraphTemplate
    poisons: Mapping[tuple[int, int, int], str] = field(default_factory=dict)  # (group, datum, value) → why

    def requested(self) -> int:
        """How many items it asks for."""
        return math.prod((len(group[0].items) if group else 0) for group in self.frame.data or ()) * self.frame.runs

    def expand(self) -> Iterator[Values]:
        """The items' values: runs slowest, then the groups in order, the last fastest; a group's data are zipped."""
        groups = self.frame.data or []
        sizes = [range(len(group[0].items) if group else 0) for group in groups]
        for _ in range(self.frame.runs):
            for places in itertools.product(*sizes):
                chosen = [(g, d, i) for g, i in enumerate(places) for d in range(len(groups[g]))]
                fields = tuple(_value(groups[g][d], i) for g, d, i in chosen)
                poison = next((self.poisons[place] for place in chosen if place in self.poisons), None)
                yield Values(fields=fields, poison=poison)

    def to_api(self) -> dict[str, Any]:
        """The echo in an enqueue's answer."""
        kept = self.frame.model_dump()
        order = ("batch_id", "origin", "destination", "data")
        rest = {"graph": self.graph.to_api(), "workflow": kept["workflow"], "runs": kept["runs"]}
        return {**{key: kept[key] for key in order}, **rest}


def _value(datum: Datum, index: int) -> dict[str, Any]:
    value = datum.items[index]
    plain = [_plain(item) for item in value] if isinstance(value, list) else _plain(value)
    return {"node_path": datum.node_path, "field_name": datum.field_name, "value": plain}


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else value


def read_batch(body: Any, types: NodeTypes) -> Batch:
    """The batch of an enqueue_batch body. Raises RefusedError with 422 and every fault found."""
    if not isinstance(body, dict) or body.get("batch") is None:
        raise RefusedError(422, [fault("missing", ("body", "batch"), "Field required")])
    posted = checked(OBJECT, body["batch"], "body", "batch")
    faults: list[dict[str, Any]] = []
    frame, graph = None, None
    try:
        frame = FRAME.validate_python(posted)
        faults += _data_faults(frame.data, posted.get("data"))
    except ValidationError as error:
        faults += faults_of(error, ("body", "batch"))
    try:
        graph = read_graph(posted.get("graph"), types, _GRAPH)
    except RefusedError as error:
        faults += error.detail
    if faults or frame is None or graph is None:
        raise RefusedError(422, faults)
    _check_targets(frame, graph, types, posted)
    return Batch(frame=frame, graph=graph, poisons=dict(_poisons(frame, graph, types)))


def read_graph(posted: Any, types: NodeTypes, loc: tuple[str, ...]) -> GraphTemplate:
    """A posted graph, checked. Raises RefusedError with 422."""
    if not isinstance(posted, dict):
        kind, message = ("missing", "Field required") if posted is None else _NO_OBJECT
        raise RefusedError(422, [fault(kind, loc, message, posted)])
    named: dict[str, Any] = checked(OBJECT, posted.get("nodes") or {}, *loc, "nodes")
    nodes, faults = _nodes(named, types, (*loc, "nodes"))
    try:
        edges = EDGES.validate_python(posted.get("edges") or [])
    except ValidationError as error:
        faults += faults_of(error, (*loc, "edges"))
        edges = []
    if faults:
        raise RefusedError(422, faults)
    kept = tuple(edge.model_dump() for edge in edges)
    wrong = _graph_fault(nodes, kept, types)
    if wrong:
        raise RefusedError(422, [value_fault(loc, wrong, posted)])
    return GraphTemplate(id=str(posted.get("id") or uuid.uuid4()), nodes=nodes, edges=kept)


_NO_OBJECT = ("model_attributes_type", "Input should be a valid dictionary or object to extract fields from")


def _nodes(
    posted: Mapping[str, Any], types: NodeTypes, loc: tuple[str, ...]
) -> tuple[dict[str, Node], list[dict[str, Any]]]:
    nodes: dict[str, Node] = {}
    faults: list[dict[str, Any]] = []
    for name, node in posted.items():
        kind = node.get("type") if isinstance(node, dict) else None
        if not isinstance(kind, str) or kind not in types.schemas:
            faults.append(_tag_fault(kind, types, (*loc, name), node))
            continue
        try:
            nodes[name] = types.accept(node)
        except ValidationError as error:
            faults += faults_of(error, (*loc, name, kind))
    return nodes, faults


def _tag_fault(kind: Any, types: NodeTypes, loc: tuple[str, ...], node: Any) -> dict[str, Any]:
    if not isinstance(node, dict):
        return fault(_NO_OBJECT[0], loc, _NO_OBJECT[1], node)
    if kind is None:
        message = "Unable to extract tag using discriminator 'type'"
        return fault("union_tag_not_found", loc, message, node, {"discriminator": "'type'"})
    tags = ", ".join(f"'{name}'" for name in types.schemas)
    message = f"Input tag '{kind}' found using 'type' does not match any of the expected tags: {tags}"
    context = {"discriminator": "'type'", "tag": str(kind), "expected_tags": tags}
    return fault("union_tag_invalid", loc, message, node, context)


def _graph_fault(nodes: Mapping[str, Node], edges: tuple[dict[str, Any], ...], types: NodeTypes) -> str | None:
    for name, node in nodes.items():
        if node["id"] != name:
            return f"Node ids must match, got {name} and {node['id']}"
    for edge in edges:
        wrong = _edge_fault(nodes, edge["source"], edge["destination"], types)
        if wrong:
            return wrong
    before: dict[str, set[str]] = {name: set() for name in nodes}
    for edge in edges:
        before[edge["destination"]["node_id"]].add(edge["source"]["node_id"])
    try:
        TopologicalSorter(before).prepare()
    except CycleError:
        return "Graph contains cycles"
    for edge in edges:
        wrong = _type_fault(nodes, edge["source"], edge["destination"], types)
        if wrong:
            return wrong
    return None


def _edge_fault(nodes: Mapping[str, Node], start: Node, end: Node, types: NodeTypes) -> str | None:
    if start["node_id"] not in nodes:
        return f"Edge source node {start['node_id']} does not exist in the graph"
    if end["node_id"] not in nodes:
        return f"Edge destination node {end['node_id']} does not exist in the graph"
    if start["field"] not in types.schemas[nodes[start["node_id"]]["type"]].outputs:
        return f"Edge source field {start['field']} does not exist in node {start['node_id']}"
    if not _has_field(nodes[end["node_id"]], end["field"], types):
        return f"Edge destination field {end['field']} does not exist in node {end['node_id']}"
    return None


def _has_field(node: Node, name: str, types: NodeTypes) -> bool:
    return name in {"id", "type"} or types.schemas[node["type"]].field(name) is not None


def _type_fault(nodes: Mapping[str, Node], start: Node, end: Node, types: NodeTypes) -> str | None:
    given = types.schemas[nodes[start["node_id"]]["type"]].outputs[start["field"]]
    schema = types.schemas[nodes[end["node_id"]]["type"]].field(end["field"])
    taken = schema.type if schema else "string"
    loose = {"any", "array"}
    fits = given == taken or {given, taken} & loose or (given, taken) in _COERCED
    if fits:
        return None
    return (
        f"Edge source and target types do not match "
        f"({start['node_id']}.{start['field']} -> {end['node_id']}.{end['field']})"
    )


_COERCED = {("integer", "number"), ("integer", "string"), ("number", "string")}


def _data_faults(data: list[list[Datum]] | None, posted: Any) -> list[dict[str, Any]]:
    loc = ("body", "batch", "data")
    seen: set[tuple[str, str]] = set()
    for group in data or ():
        if len({len(datum.items) for datum in group}) > 1:
            return [value_fault(loc, "Zipped batch items must all have the same length", posted)]
    for datum in itertools.chain.from_iterable(data or ()):
        kinds = {float if isinstance(item, int | float) else type(item) for item in datum.items}
        if len(kinds) > 1:
            return [value_fault(loc, "All items in a batch must have the same type", posted)]
    for datum in itertools.chain.from_iterable(data or ()):
        pair = (datum.node_path, datum.field_name)
        if pair in seen:
            return [value_fault(loc, "Each batch data must have unique node_id and field_name", posted)]
        seen.add(pair)
    return []


def _check_targets(frame: Frame, graph: GraphTemplate, types: NodeTypes, posted: Any) -> None:
    for datum in itertools.chain.from_iterable(frame.data or ()):
        node = graph.nodes.get(datum.node_path)
        if node is None:
            message = f"Node {datum.node_path} not found in graph"
        elif not _has_field(node, datum.field_name, types):
            message = f"Field {datum.field_name} not found in node {datum.node_path}"
        else:
            continue
        raise RefusedError(422, [value_fault(("body", "batch"), message, posted)])


def _poisons(frame: Frame, graph: GraphTemplate, types: NodeTypes) -> Iterator[tuple[tuple[int, int, int], str]]:
    """The values InvokeAI accepts and cannot read afterwards, with what it says then."""
    for g, group in enumerate(frame.data or ()):
        for d, datum in enumerate(group):
            for i in range(len(datum.items)):
                value = _value(datum, i)["value"]
                try:
                    put(graph.nodes[datum.node_path], datum.field_name, value, types)
                except (ValidationError, KeyError, ValueError) as error:
                    yield (g, d, i), _unreadable(datum.node_path, error)


def put(node: Node, name: str, value: Any, types: NodeTypes) -> Node:
    """The node with a value in it. Raises ValidationError, KeyError (no such type) or ValueError (another id)."""
    changed = types.accept({**node, name: value})
    if changed["id"] != node["id"]:
        raise ValueError(f"Node ids must match, got {node['id']} and {changed['id']}")
    return changed


def _unreadable(node: str, error: Exception) -> str:
    head = "1 validation error for GraphExecutionState\ngraph"
    if not isinstance(error, ValidationError):
        return f"{head}\n  Value error, {error}"
    entry = error.errors(include_url=False)[0]
    place = ".".join(map(str, (f"nodes.{node}", error.title, *entry["loc"])))
    value, kind = entry["input"], type(entry["input"]).__name__
    return f"{head}.{place}\n  {entry['msg']} [type={entry['type']}, input_value={value!r}, input_type={kind}]"
