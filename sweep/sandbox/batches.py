"""Posted batches, checked as InvokeAI checks them and expanded into items in its order.

Requests are checked with pydantic, so that a refusal reads as InvokeAI's (and FastAPI's) does.
"""

from __future__ import annotations

import functools
import itertools
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, Field, StrictStr, TypeAdapter, ValidationError, create_model

from sweep.workflow import FieldSchema, NodeSchema, NodeSchemas, builtin_schemas

_T = TypeVar("_T")
Loc = tuple[str | int, ...]


class RefusedError(Exception):
    """A request that is answered with `status` and `{"detail": detail}`."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


def fault(kind: str, loc: Loc, message: str, value: Any = None, context: Any = None) -> dict[str, Any]:
    """Make one entry of a 422's `detail`."""
    entry = {"type": kind, "loc": list(loc), "msg": message, "input": value}
    return entry if context is None else {**entry, "ctx": context}


def batch_value_problem(loc: Loc, message: str, value: Any) -> dict[str, Any]:
    """Build the entry that InvokeAI's own validators make when they raise ValueError."""
    return fault("value_error", loc, f"Value error, {message}", value, {"error": {}})


def faults_of(error: ValidationError, loc: Loc) -> list[dict[str, Any]]:
    """Turn Pydantic's complaints into entries of a 422's `detail`."""
    found = []
    for entry in error.errors(include_url=False):
        context = {"error": {}} if entry["type"] == "value_error" else entry.get("ctx")
        found.append(fault(entry["type"], (*loc, *entry["loc"]), entry["msg"], entry["input"], context))
    return found


def check_batch(adapter: TypeAdapter[_T], value: Any, *loc: str | int) -> _T:
    """`value` as the adapter takes it. Raises RefusedError with 422 where it does not."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise RefusedError(422, faults_of(error, loc)) from error


class ImageField(BaseModel):
    """An image by its name; the class's own name stands in refusals."""

    image_name: str


class VideoField(BaseModel):
    """A video by its name."""

    video_name: str


class ModelIdentifierField(BaseModel):
    """A model as graphs name it."""

    key: str
    hash: str
    name: str
    base: str
    type: str
    submodel_type: str | None = None


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


class NodeTypes:
    """Checks single nodes against the schemas; a type's model is built when it is first asked for."""

    def __init__(self, schemas: NodeSchemas) -> None:
        self.schemas = schemas
        self._models: dict[str, type[BaseModel]] = {}

    def accept(self, node: Mapping[str, Any]) -> dict[str, Any]:
        """Return the node as the server keeps it: values coerced, defaults filled in, unknown fields dropped.

        Raises ValidationError. The node's type must be known.
        """
        schema = self.schemas[node["type"]]
        model = self._models.get(schema.type)
        if model is None:
            model = self._models[schema.type] = _model(schema)
        kept = model.model_validate(node).model_dump(by_alias=True, warnings=False)
        return {**kept, "type": kept.pop("type")}


@functools.cache
def builtin_types() -> NodeTypes:
    """Return the checks of the packaged node types, whose models all sandboxes of a process share."""
    return NodeTypes(builtin_schemas())


_GUIDED = frozenset({"denoise_latents", "denoise_latents_meta", "tiled_multi_diffusion_denoise_latents"})


def _check_guidance(value: Any) -> Any:
    """Refuse what InvokeAI's own validator of these nodes refuses, which its schema does not say."""
    if any(isinstance(scale, int | float) and scale < 1 for scale in (value if isinstance(value, list) else [value])):
        raise ValueError("cfg_scale must be greater than 1")
    return value


def _model(schema: NodeSchema) -> type[BaseModel]:
    fields: dict[str, Any] = {
        "n_id": (str, Field(alias="id", default_factory=lambda: str(uuid.uuid4()))),
        "n_intermediate": (bool, Field(alias="is_intermediate", default=False)),
        "n_cache": (bool, Field(alias="use_cache", default=schema.is_cached)),
        **{f"f_{index}": _definition(field) for index, field in enumerate(schema.fields.values())},
        "n_type": (Literal[schema.type], Field(alias="type")),
    }
    if schema.type in _GUIDED and "cfg_scale" in schema.fields:
        place = f"f_{list(schema.fields).index('cfg_scale')}"
        kind, default = fields[place]
        fields[place] = (Annotated[kind, AfterValidator(_check_guidance)], default)
    extra: Literal["allow", "ignore"] = "allow" if schema.type == "core_metadata" else "ignore"
    return create_model(schema.type, __config__={"extra": extra}, **fields)


def _definition(field: FieldSchema) -> tuple[Any, Any]:
    bounds = Field(
        ge=field.minimum,
        le=field.maximum,
        gt=field.exclusive_minimum,
        lt=field.exclusive_maximum,
        multiple_of=field.multiple_of,
    )
    single = _annotation(field)
    if field.type in {"integer", "number"}:
        single = Annotated[single, bounds]
    if field.items and field.type != "array":
        single = single | _list_of(field.items)
    if field.nullable or field.default is None:
        single = single | None
    return single, Field(alias=field.name, default=field.default)


def _annotation(field: FieldSchema) -> Any:
    if field.type == "array":
        return _list_of(field.items)
    if field.choices:
        return Literal[tuple(int(c) for c in field.choices) if field.type == "integer" else field.choices]
    return _PYTHON.get(field.type, Any)


def _list_of(kind: str) -> Any:
    return list.__class_getitem__(_PYTHON.get(kind, Any))


_PYTHON: dict[str, Any] = {
    "integer": int,
    "number": float,
    "string": str,
    "boolean": bool,
    "ImageField": ImageField,
    "ModelIdentifierField": ModelIdentifierField,
}

FRAME = TypeAdapter(Frame)
EDGES = TypeAdapter(list[BatchEdge])
INTEGERS = TypeAdapter(list[int])
STRINGS = TypeAdapter(list[str])
OBJECT = TypeAdapter(dict[str, Any])
STRING = TypeAdapter(str)


def read_member(body: Any, name: str, adapter: TypeAdapter[_T]) -> _T:
    """Read the member `name` of a JSON body. Raises RefusedError with 422 where it is missing or wrong."""
    if not isinstance(body, dict) or name not in body:
        raise RefusedError(422, [fault("missing", ("body", name), "Field required")])
    return check_batch(adapter, body[name], "body", name)


def at_most(values: Sequence[_T], limit: int, *loc: str) -> Sequence[_T]:
    """`values`, if there are no more than `limit` of them."""
    if len(values) > limit:
        message = f"List should have at most {limit} items after validation, not {len(values)}"
        context = {"field_type": "List", "max_length": limit, "actual_length": len(values)}
        raise RefusedError(422, [fault("too_long", loc, message, list(values), context)])
    return values


def integer(text: str, *loc: str) -> int:
    """Read a number of the path or query. Raises RefusedError with 422."""
    try:
        return int(text)
    except ValueError as error:
        message = "Input should be a valid integer, unable to parse string as an integer"
        raise RefusedError(422, [fault("int_parsing", loc, message, text)]) from error


def read_required(query: Mapping[str, str], names: Sequence[str], place: str = "query") -> list[str]:
    """Read query parameters that must be there. Raises RefusedError with 422 that lists all missing."""
    missing = [fault("missing", (place, name), "Field required") for name in names if name not in query]
    if missing:
        raise RefusedError(422, missing)
    return [query[name] for name in names]


NodeJson = dict[str, Any]
_GRAPH = ("body", "batch", "graph")


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTemplate:
    """A checked graph in the form it is kept and echoed."""

    id: str
    nodes: Mapping[str, NodeJson]
    edges: tuple[dict[str, Any], ...]

    def to_api(self) -> dict[str, Any]:
        return {"id": self.id, "nodes": self.nodes, "edges": self.edges}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchValues:
    """The values one item puts into the graph; `poison` says why the server will not be able to read them."""

    fields: tuple[dict[str, Any], ...] = ()
    poison: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch that was accepted."""

    frame: Frame
    graph: GraphTemplate
    poisons: Mapping[tuple[int, int, int], str] = field(default_factory=dict)  # (group, datum, value) → why

    def requested(self) -> int:
        """Count the items it asks for."""
        return math.prod((len(group[0].items) if group else 0) for group in self.frame.data or ()) * self.frame.runs

    def expand(self) -> Iterator[BatchValues]:
        """Yield the items' values: runs slowest, then the groups, the last fastest; a group's data are zipped."""
        groups = self.frame.data or []
        sizes = [range(len(group[0].items) if group else 0) for group in groups]
        for _ in range(self.frame.runs):
            for places in itertools.product(*sizes):
                chosen = [(g, d, i) for g, i in enumerate(places) for d in range(len(groups[g]))]
                fields = tuple(_value(groups[g][d], i) for g, d, i in chosen)
                poison = next((self.poisons[place] for place in chosen if place in self.poisons), None)
                yield BatchValues(fields=fields, poison=poison)

    def to_api(self) -> dict[str, Any]:
        """Return the batch as the answer to an enqueue repeats it."""
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
    """Read the batch of an enqueue_batch body. Raises RefusedError with 422 and every problem found."""
    if not isinstance(body, dict) or body.get("batch") is None:
        raise RefusedError(422, [fault("missing", ("body", "batch"), "Field required")])
    posted = check_batch(OBJECT, body["batch"], "body", "batch")
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
    """Read and check a posted graph. Raises RefusedError with 422."""
    if not isinstance(posted, dict):
        kind, message = ("missing", "Field required") if posted is None else _NO_OBJECT
        raise RefusedError(422, [fault(kind, loc, message, posted)])
    named: dict[str, Any] = check_batch(OBJECT, posted.get("nodes") or {}, *loc, "nodes")
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
        raise RefusedError(422, [batch_value_problem(loc, wrong, posted)])
    return GraphTemplate(id=str(posted.get("id") or uuid.uuid4()), nodes=nodes, edges=kept)


_NO_OBJECT = ("model_attributes_type", "Input should be a valid dictionary or object to extract fields from")


def _nodes(
    posted: Mapping[str, Any], types: NodeTypes, loc: tuple[str, ...]
) -> tuple[dict[str, NodeJson], list[dict[str, Any]]]:
    nodes: dict[str, NodeJson] = {}
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


def _graph_fault(nodes: Mapping[str, NodeJson], edges: tuple[dict[str, Any], ...], types: NodeTypes) -> str | None:
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


def _edge_fault(nodes: Mapping[str, NodeJson], start: NodeJson, end: NodeJson, types: NodeTypes) -> str | None:
    if start["node_id"] not in nodes:
        return f"Edge source node {start['node_id']} does not exist in the graph"
    if end["node_id"] not in nodes:
        return f"Edge destination node {end['node_id']} does not exist in the graph"
    if start["field"] not in types.schemas[nodes[start["node_id"]]["type"]].outputs:
        return f"Edge source field {start['field']} does not exist in node {start['node_id']}"
    if not _has_field(nodes[end["node_id"]], end["field"], types):
        return f"Edge destination field {end['field']} does not exist in node {end['node_id']}"
    return None


def _has_field(node: NodeJson, name: str, types: NodeTypes) -> bool:
    return name in {"id", "type"} or types.schemas[node["type"]].field(name) is not None


def _type_fault(nodes: Mapping[str, NodeJson], start: NodeJson, end: NodeJson, types: NodeTypes) -> str | None:
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
            return [batch_value_problem(loc, "Zipped batch items must all have the same length", posted)]
    for datum in itertools.chain.from_iterable(data or ()):
        kinds = {float if isinstance(item, int | float) else type(item) for item in datum.items}
        if len(kinds) > 1:
            return [batch_value_problem(loc, "All items in a batch must have the same type", posted)]
    for datum in itertools.chain.from_iterable(data or ()):
        pair = (datum.node_path, datum.field_name)
        if pair in seen:
            return [batch_value_problem(loc, "Each batch data must have unique node_id and field_name", posted)]
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
        raise RefusedError(422, [batch_value_problem(("body", "batch"), message, posted)])


def _poisons(frame: Frame, graph: GraphTemplate, types: NodeTypes) -> Iterator[tuple[tuple[int, int, int], str]]:
    """Find values that InvokeAI accepts and cannot read afterwards, with the error it gives then."""
    for g, group in enumerate(frame.data or ()):
        for d, datum in enumerate(group):
            for i in range(len(datum.items)):
                value = _value(datum, i)["value"]
                try:
                    put(graph.nodes[datum.node_path], datum.field_name, value, types)
                except (ValidationError, KeyError, ValueError) as error:
                    yield (g, d, i), _unreadable(datum.node_path, error)


def put(node: NodeJson, name: str, value: Any, types: NodeTypes) -> NodeJson:
    """Set a value of a node. Raises ValidationError, KeyError (no such type) or ValueError (another id)."""
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
