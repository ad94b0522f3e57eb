"""Posted batches, checked as InvokeAI checks them and expanded into items in its order.

Requests are checked with pydantic, so that a refusal reads as InvokeAI's (and FastAPI's) does.
"""

from __future__ import annotations

import functools
import itertools
import math
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pydantic import BaseModel, Field, StrictStr, TypeAdapter, ValidationError

from sweep.sandbox.node_types import ImageField, NodeJson, NodeTypes

Loc = tuple[str | int, ...]


class RefusedError(Exception):
    """A request that is answered with `status` and `{"detail": detail}`."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


def _describe_fault(kind: str, loc: Loc, message: str, value: Any, context: Any) -> dict[str, Any]:
    """Make one entry of a 422's `detail`."""
    entry = {"type": kind, "loc": list(loc), "msg": message, "input": value}
    return entry if context is None else {**entry, "ctx": context}


def refuse(kind: str, loc: Loc, message: str, value: Any = None, context: Any = None) -> RefusedError:
    """Build a 422 with one fault, as FastAPI writes it."""
    return RefusedError(422, [_describe_fault(kind, loc, message, value, context)])


def refuse_value(loc: Loc, message: str, value: Any) -> RefusedError:
    """Build the 422 that InvokeAI's own validators cause when they raise ValueError."""
    return refuse("value_error", loc, f"Value error, {message}", value, {"error": {}})


def refuse_choice(loc: Loc, value: str, choices: Sequence[str]) -> RefusedError:
    """Build the 422 for a value that is none of the choices."""
    *most, last = (f"'{name}'" for name in choices)
    expected = f"{', '.join(most)} or {last}"
    return refuse("enum", loc, f"Input should be {expected}", value, {"expected": expected})


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def read_value(kind: Any, value: Any, *loc: str | int) -> Any:
    """Return the value as the type `kind` takes it. Raises RefusedError with 422 where it does not."""
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        raise RefusedError(422, _describe_faults(error, loc)) from error


def _describe_faults(error: ValidationError, loc: Loc) -> list[dict[str, Any]]:
    found = []
    for entry in error.errors(include_url=False):
        context = {"error": {}} if entry["type"] == "value_error" else entry.get("ctx")
        found.append(_describe_fault(entry["type"], (*loc, *entry["loc"]), entry["msg"], entry["input"], context))
    return found


def read_member(body: Any, name: str, kind: Any) -> Any:
    """Read the member `name` of a JSON body. Raises RefusedError with 422 where it is missing or wrong."""
    if not isinstance(body, dict) or name not in body:
        raise refuse("missing", ("body", name), "Field required")
    return read_value(kind, body[name], "body", name)


def read_required(query: Mapping[str, str], *names: str) -> list[str]:
    """Read query parameters that must be there. Raises RefusedError with 422 that lists all missing."""
    missing = [refuse("missing", ("query", name), "Field required") for name in names if name not in query]
    if missing:
        raise RefusedError(422, [fault for refusal in missing for fault in refusal.detail])
    return [query[name] for name in names]


class VideoField(BaseModel):
    """A video by its name."""

    video_name: str


_Scalar = StrictStr | float | int | ImageField | VideoField


class Datum(BaseModel):
    """One axis of a batch: the values one field takes."""

    node_path: str
    field_name: str
    items: list[_Scalar | list[_Scalar]] = Field(default_factory=list)


class BatchPoint(BaseModel):
    """One end of an edge."""

    node_id: str
    field: str


class BatchEdge(BaseModel):
    """From an output to an input."""

    source: BatchPoint
    destination: BatchPoint


class Frame(BaseModel):
    """A batch but for its graph, which the node schemas check."""

    batch_id: str = Field(default_factory=lambda: str(uuid.uuid4()))
    origin: str | None = None
    destination: str | None = None
    data: list[list[Datum]] | None = None
    workflow: dict[str, Any] | None = None
    runs: int = Field(default=1, ge=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTemplate:
    """A checked graph in the form it is kept and echoed."""

    id: str
    nodes: Mapping[str, NodeJson]
    edges: tuple[dict[str, Any], ...]

    def to_api(self) -> dict[str, Any]:
        return {"id": self.id, "nodes": self.nodes, "edges": self.edges}


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch that was accepted."""

    frame: Frame
    graph: GraphTemplate
    poisons: Mapping[tuple[int, int, int], str] = field(default_factory=dict)  # (group, datum, value) → why

    def _sizes(self) -> list[int]:
        return [len(group[0].items) if group else 0 for group in self.frame.data or ()]

    def requested(self) -> int:
        """Count the items it asks for."""
        return math.prod(self._sizes()) * self.frame.runs

    def expand(self) -> Iterator[tuple[tuple[dict[str, Any], ...], str | None]]:
        """Yield what each item puts into the graph, and why the server will not be able to read it, where it will not.

        Runs vary slowest, then the groups, the last fastest; a group's data are zipped.
        """
        groups = self.frame.data or []
        for _ in range(self.frame.runs):
            for places in itertools.product(*map(range, self._sizes())):
                chosen = [(g, d, i) for g, i in enumerate(places) for d in range(len(groups[g]))]
                poison = next((self.poisons[place] for place in chosen if place in self.poisons), None)
                yield tuple(_pick_value(groups[g][d], i) for g, d, i in chosen), poison

    def to_api(self) -> dict[str, Any]:
        """Return the batch as the answer to an enqueue repeats it."""
        kept = self.frame.model_dump()
        last = {"graph": self.graph.to_api(), "workflow": kept.pop("workflow"), "runs": kept.pop("runs")}
        return {**kept, **last}


def _pick_value(datum: Datum, index: int) -> dict[str, Any]:
    value = datum.items[index]
    plain = [_dump(item) for item in value] if isinstance(value, list) else _dump(value)
    return {"node_path": datum.node_path, "field_name": datum.field_name, "value": plain}


def _dump(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else value


def read_batch(body: Any, types: NodeTypes) -> Batch:
    """Read the batch of an enqueue_batch body. Raises RefusedError with 422 and every problem found."""
    posted = read_member(body, "batch", dict[str, Any])
    faults: list[dict[str, Any]] = []
    frame = _collect_faults(faults, _read_frame, posted)
    graph = _collect_faults(faults, read_graph, posted.get("graph"), types, ("body", "batch", "graph"))
    if faults:
        raise RefusedError(422, faults)
    _check_targets(frame, graph, types, posted)
    return Batch(frame=frame, graph=graph, poisons=dict(_find_poisons(frame, graph, types)))


def _collect_faults(faults: list[dict[str, Any]], read: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a reader reads; where it refuses, add to the faults."""
    try:
        return read(*arguments)
    except RefusedError as error:
        faults += error.detail
        return None


def _read_frame(posted: dict[str, Any]) -> Frame:
    frame: Frame = read_value(Frame, posted, "body", "batch")
    data = frame.data or []
    every = [datum for group in data for datum in group]
    kinds = ({float if isinstance(item, int | float) else type(item) for item in datum.items} for datum in every)
    message = None
    if any(len({len(datum.items) for datum in group}) > 1 for group in data):
        message = "Zipped batch items must all have the same length"
    elif any(len(found) > 1 for found in kinds):
        message = "All items in a batch must have the same type"
    elif len({(datum.node_path, datum.field_name) for datum in every}) < len(every):
        message = "Each batch data must have unique node_id and field_name"
    if message:
        raise refuse_value(("body", "batch", "data"), message, posted.get("data"))
    return frame


def read_graph(posted: Any, types: NodeTypes, loc: tuple[str, ...]) -> GraphTemplate:
    """Read and check a posted graph. Raises RefusedError with 422."""
    if posted is None:
        raise refuse("missing", loc, "Field required")
    _check_object(posted, loc)
    named: dict[str, Any] = read_value(dict[str, Any], posted.get("nodes") or {}, *loc, "nodes")
    faults: list[dict[str, Any]] = []
    nodes = {
        name: _collect_faults(faults, _read_node, node, types, (*loc, "nodes", name)) for name, node in named.items()
    }
    posted_edges = posted.get("edges") or []
    edges = _collect_faults(faults, read_value, list[BatchEdge], posted_edges, *loc, "edges")
    if faults:
        raise RefusedError(422, faults)
    kept = tuple(edge.model_dump() for edge in edges)
    wrong = _find_graph_fault(nodes, kept, types)
    if wrong:
        raise refuse_value(loc, wrong, posted)
    return GraphTemplate(id=str(posted.get("id") or uuid.uuid4()), nodes=nodes, edges=kept)


def _check_object(value: Any, loc: Loc) -> None:
    if not isinstance(value, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise refuse("model_attributes_type", loc, message, value)


def _read_node(node: Any, types: NodeTypes, loc: Loc) -> NodeJson:
    _check_object(node, loc)
    kind, context = node.get("type"), {"discriminator": "'type'"}
    if kind is None:
        raise refuse("union_tag_not_found", loc, "Unable to extract tag using discriminator 'type'", node, context)
    if not isinstance(kind, str) or kind not in types.schemas:
        tags = ", ".join(f"'{name}'" for name in types.schemas)
        message = f"Input tag '{kind}' found using 'type' does not match any of the expected tags: {tags}"
        raise refuse("union_tag_invalid", loc, message, node, {**context, "tag": str(kind), "expected_tags": tags})
    try:
        return types.accept(node)
    except ValidationError as error:
        raise RefusedError(422, _describe_faults(error, (*loc, kind))) from error


def _find_graph_fault(nodes: Mapping[str, NodeJson], edges: Sequence[dict[str, Any]], types: NodeTypes) -> str | None:
    for name, node in nodes.items():
        if node["id"] != name:
            return f"Node ids must match, got {name} and {node['id']}"
    before: dict[str, set[str]] = {name: set() for name in nodes}
    for edge in edges:
        wrong = _find_edge_fault(nodes, edge["source"], edge["destination"], types)
        if wrong:
            return wrong
        before[edge["destination"]["node_id"]].add(edge["source"]["node_id"])
    try:
        TopologicalSorter(before).prepare()
    except CycleError:
        return "Graph contains cycles"
    return None


_COERCED = {("integer", "number"), ("integer", "string"), ("number", "string")}


def _find_edge_fault(nodes: Mapping[str, NodeJson], start: NodeJson, end: NodeJson, types: NodeTypes) -> str | None:
    if start["node_id"] not in nodes:
        return f"Edge source node {start['node_id']} does not exist in the graph"
    if end["node_id"] not in nodes:
        return f"Edge destination node {end['node_id']} does not exist in the graph"
    given = types.schemas[nodes[start["node_id"]]["type"]].outputs.get(start["field"])
    if given is None:
        return f"Edge source field {start['field']} does not exist in node {start['node_id']}"
    if not types.has_field(nodes[end["node_id"]], end["field"]):
        return f"Edge destination field {end['field']} does not exist in node {end['node_id']}"
    schema = types.schemas[nodes[end["node_id"]]["type"]].field(end["field"])
    taken = schema.type if schema else "string"
    if given == taken or {given, taken} & {"any", "array"} or (given, taken) in _COERCED:
        return None
    ends = f"{start['node_id']}.{start['field']} -> {end['node_id']}.{end['field']}"
    return f"Edge source and target types do not match ({ends})"


def _check_targets(frame: Frame, graph: GraphTemplate, types: NodeTypes, posted: Any) -> None:
    for datum in itertools.chain.from_iterable(frame.data or ()):
        node = graph.nodes.get(datum.node_path)
        if node is None:
            message = f"Node {datum.node_path} not found in graph"
        elif not types.has_field(node, datum.field_name):
            message = f"Field {datum.field_name} not found in node {datum.node_path}"
        else:
            continue
        raise refuse_value(("body", "batch"), message, posted)


def _find_poisons(frame: Frame, graph: GraphTemplate, types: NodeTypes) -> Iterator[tuple[tuple[int, int, int], str]]:
    """Find values that InvokeAI accepts and cannot read afterwards, with the error it gives then."""
    for g, group in enumerate(frame.data or ()):
        for d, datum in enumerate(group):
            for i in range(len(datum.items)):
                try:
                    types.put(graph.nodes[datum.node_path], datum.field_name, _pick_value(datum, i)["value"])
                except (ValidationError, KeyError, ValueError) as error:
                    yield (g, d, i), _describe_poison(datum.node_path, error)


def _describe_poison(node: str, error: Exception) -> str:
    head = "1 validation error for GraphExecutionState\ngraph"
    if not isinstance(error, ValidationError):
        return f"{head}\n  Value error, {error}"
    entry = error.errors(include_url=False)[0]
    place = ".".join(map(str, (f"nodes.{node}", error.title, *entry["loc"])))
    value, kind = entry["input"], type(entry["input"]).__name__
    return f"{head}.{place}\n  {entry['msg']} [type={entry['type']}, input_value={value!r}, input_type={kind}]"
