"""Posted batches and graphs: checks against the node schemas as InvokeAI makes them, and expansion into items."""

from __future__ import annotations

import functools
import itertools
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    PrivateAttr,
    StrictStr,
    ValidationError,
    create_model,
    field_validator,
)

from sweep.sandbox.http_requests import (
    Loc,
    RefusedError,
    collect_faults,
    describe_faults,
    read_member,
    read_value,
    refuse,
    refuse_value,
)
from sweep.workflow import FieldSchema, NodeSchema, NodeSchemas, builtin_schemas

NodeJson = dict[str, Any]


class ImageField(BaseModel):
    """An image by its name. Refusals name this class as InvokeAI does."""

    image_name: str


class ModelIdentifierField(BaseModel):
    """A model as graphs name it."""

    key: str
    hash: str
    name: str
    base: str
    type: str
    submodel_type: str | None = None


class NodeTypes:
    """Checks single nodes against the schemas; a type's model is built when it is first asked for."""

    def __init__(self, schemas: NodeSchemas) -> None:
        self.schemas = schemas
        self._models: dict[str, type[BaseModel]] = {}

    def accept(self, node: Mapping[str, Any]) -> NodeJson:
        """Return the node as the server keeps it: values coerced, defaults filled in, unknown fields dropped.

        Raises ValidationError. The node's type must be known.
        """
        schema = self.schemas[node["type"]]
        model = self._models.get(schema.type)
        if model is None:
            model = self._models[schema.type] = _build_model(schema)
        kept = model.model_validate(node).model_dump(by_alias=True, warnings=False)
        return {**kept, "type": kept.pop("type")}

    def has_field(self, node: NodeJson, name: str) -> bool:
        """Tell whether a node of this type has an input of this name."""
        return name in {"id", "type"} or self.schemas[node["type"]].field(name) is not None


@functools.cache
def builtin_types() -> NodeTypes:
    """Return the checks of the packaged node types, whose models all sandboxes of a process share."""
    return NodeTypes(builtin_schemas())


_GUIDED = frozenset({"denoise_latents", "denoise_latents_meta", "tiled_multi_diffusion_denoise_latents"})


def _check_guidance(value: Any) -> Any:
    """Refuse a scale below 1, as InvokeAI's own validator of these nodes does; its schema does not say so."""
    if any(isinstance(scale, int | float) and scale < 1 for scale in (value if isinstance(value, list) else [value])):
        raise ValueError("cfg_scale must be greater than 1")
    return value


def _build_model(schema: NodeSchema) -> type[BaseModel]:
    fields: dict[str, Any] = {
        "n_id": (str, Field(alias="id", default_factory=lambda: str(uuid.uuid4()))),
        "n_intermediate": (bool, Field(alias="is_intermediate", default=False)),
        "n_cache": (bool, Field(alias="use_cache", default=schema.is_cached)),
    }
    for index, field_ in enumerate(schema.fields.values()):
        kind = _annotate(field_)
        if schema.type in _GUIDED and field_.name == "cfg_scale":
            kind = Annotated[kind, AfterValidator(_check_guidance)]
        fields[f"f_{index}"] = (kind, Field(alias=field_.name, default=field_.default))
    fields["n_type"] = (Literal[schema.type], Field(alias="type"))
    extra: Literal["allow", "ignore"] = "allow" if schema.type == "core_metadata" else "ignore"
    return create_model(schema.type, __config__={"extra": extra}, **fields)


def _annotate(field: FieldSchema) -> Any:
    kind: Any = _PYTHON.get(field.type, Any)
    if field.type == "array":
        kind = _list_of(field.items)
    elif field.choices:
        kind = Literal[tuple(int(c) for c in field.choices) if field.type == "integer" else field.choices]
    if field.type in {"integer", "number"}:
        inside = Field(ge=field.minimum, le=field.maximum, multiple_of=field.multiple_of)
        kind = Annotated[kind, inside, Field(gt=field.exclusive_minimum, lt=field.exclusive_maximum)]
    if field.items and field.type != "array":
        kind = kind | _list_of(field.items)
    return kind | None if field.nullable or field.default is None else kind


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


class EdgeEnd(BaseModel):
    """A field of a node, where an edge begins or ends."""

    node_id: str
    field: str


class PostedEdge(BaseModel):
    """An edge from an output to an input."""

    source: EdgeEnd
    destination: EdgeEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTemplate:
    """A checked graph, in the form that the queue stores and answers repeat."""

    id: str
    nodes: Mapping[str, NodeJson]
    edges: tuple[dict[str, Any], ...]

    def to_api(self) -> dict[str, Any]:
        return {"id": self.id, "nodes": self.nodes, "edges": self.edges}


def read_graph(posted: Any, types: NodeTypes, loc: tuple[str, ...]) -> GraphTemplate:
    """Read and check a posted graph. Raises RefusedError with 422."""
    if posted is None:
        raise refuse("missing", loc, "Field required")
    _check_object(posted, loc)
    named: dict[str, Any] = read_value(dict[str, Any], posted.get("nodes") or {}, *loc, "nodes")
    faults: list[dict[str, Any]] = []
    nodes = {
        name: collect_faults(faults, _read_node, node, types, (*loc, "nodes", name)) for name, node in named.items()
    }
    posted_edges = posted.get("edges") or []
    edges = collect_faults(faults, read_value, list[PostedEdge], posted_edges, *loc, "edges")
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
        raise RefusedError(422, describe_faults(error, (*loc, kind))) from error


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


_Scalar = StrictStr | float | int | ImageField


class Datum(BaseModel):
    """An axis of a batch: the values that a field takes."""

    node_path: str
    field_name: str
    items: list[_Scalar | list[_Scalar]] = Field(default_factory=list)


class Batch(BaseModel):
    """A posted batch; the node schemas check its graph, and its values in the graph."""

    batch_id: str = Field(default_factory=lambda: str(uuid.uuid4()))
    origin: str | None = None
    destination: str | None = None
    data: list[list[Datum]] | None = None
    workflow: dict[str, Any] | None = None
    runs: int = Field(default=1, ge=1)
    graph: Any  # a GraphTemplate, once it is checked
    _poisons: dict[tuple[int, int, int], str] = PrivateAttr(default_factory=dict)  # (group, datum, value) → why

    @field_validator("data")
    @classmethod
    def _check_data(cls, data: list[list[Datum]] | None) -> list[list[Datum]] | None:
        every = [datum for group in data or [] for datum in group]
        kinds = ({float if isinstance(item, int | float) else type(item) for item in datum.items} for datum in every)
        if any(len({len(datum.items) for datum in group}) > 1 for group in data or []):
            raise ValueError("Zipped batch items must all have the same length")
        if any(len(found) > 1 for found in kinds):
            raise ValueError("All items in a batch must have the same type")
        if len({(datum.node_path, datum.field_name) for datum in every}) < len(every):
            raise ValueError("Each batch data must have unique node_id and field_name")
        return data

    def use_graph(self, graph: GraphTemplate, types: NodeTypes, posted: Any) -> None:
        """Take the checked graph, and check the values that go into it. Raises RefusedError with 422."""
        self.graph = graph
        for g, group in enumerate(self.data or ()):
            for d, datum in enumerate(group):
                _check_target(graph, datum, types, posted)
                for i in range(len(datum.items)):
                    poison = _find_poison(graph.nodes[datum.node_path], _pick_value(datum, i), types)
                    if poison:
                        self._poisons[g, d, i] = poison

    def _sizes(self) -> list[int]:
        return [len(group[0].items) if group else 0 for group in self.data or ()]

    def count_items(self) -> int:
        """Count the items that it asks for."""
        return math.prod(self._sizes()) * self.runs

    def expand(self) -> Iterator[tuple[tuple[dict[str, Any], ...], str | None]]:
        """Yield the values that each item puts into the graph, with the error where the server cannot read them later.

        Runs vary slowest, then the groups, the last fastest; a group's data are zipped.
        """
        groups = self.data or []
        for _ in range(self.runs):
            for places in itertools.product(*map(range, self._sizes())):
                chosen = [(g, d, i) for g, i in enumerate(places) for d in range(len(groups[g]))]
                poison = next((self._poisons[place] for place in chosen if place in self._poisons), None)
                yield tuple(_pick_value(groups[g][d], i) for g, d, i in chosen), poison

    def to_api(self) -> dict[str, Any]:
        """Return the batch as the answer to an enqueue repeats it."""
        kept = self.model_dump(exclude={"graph"})
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
    batch: Batch = collect_faults(faults, read_value, Batch, {"graph": None, **posted}, "body", "batch")
    graph = collect_faults(faults, read_graph, posted.get("graph"), types, ("body", "batch", "graph"))
    if faults:
        raise RefusedError(422, faults)
    batch.use_graph(graph, types, posted)
    return batch


def _check_target(graph: GraphTemplate, datum: Datum, types: NodeTypes, posted: Any) -> None:
    node = graph.nodes.get(datum.node_path)
    if node is None:
        raise refuse_value(("body", "batch"), f"Node {datum.node_path} not found in graph", posted)
    if not types.has_field(node, datum.field_name):
        message = f"Field {datum.field_name} not found in node {datum.node_path}"
        raise refuse_value(("body", "batch"), message, posted)


def _find_poison(node: NodeJson, entry: dict[str, Any], types: NodeTypes) -> str | None:
    """Return the error that InvokeAI gives later for a value that it accepts and cannot read then; None without."""
    head = "1 validation error for GraphExecutionState\ngraph"
    try:
        changed = types.accept({**node, entry["field_name"]: entry["value"]})
    except KeyError as error:  # there is no such type
        return f"{head}\n  Value error, {error}"
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        place = ".".join(map(str, (f"nodes.{node['id']}", error.title, *wrong["loc"])))
        value, kind = wrong["input"], type(wrong["input"]).__name__
        return f"{head}.{place}\n  {wrong['msg']} [type={wrong['type']}, input_value={value!r}, input_type={kind}]"
    if changed["id"] != node["id"]:
        return f"{head}\n  Value error, Node ids must match, got {node['id']} and {changed['id']}"
    return None
