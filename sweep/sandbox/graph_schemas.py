"""Schemas of nodes and graphs: checks of what is posted, and the OpenAPI document that tells them to clients."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError, create_model

from sweep.sandbox.requests import Loc, RefusedError, collect_faults, describe_faults, read_value, refuse, refuse_value
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

    def put(self, node: NodeJson, name: str, value: Any) -> NodeJson:
        """Set a value of a node. Raises ValidationError, KeyError (no such type) or ValueError (another id)."""
        changed = self.accept({**node, name: value})
        if changed["id"] != node["id"]:
            raise ValueError(f"Node ids must match, got {node['id']} and {changed['id']}")
        return changed

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
    """One end of an edge."""

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


_PRIMITIVES = frozenset({"integer", "number", "string", "boolean", "object", "array"})
_BOUNDS = {
    "minimum": "minimum",
    "maximum": "maximum",
    "exclusive_minimum": "exclusiveMinimum",
    "exclusive_maximum": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}


def write_openapi(schemas: NodeSchemas) -> dict[str, Any]:
    """Write an OpenAPI document from which a client reads back exactly these schemas."""
    classes: dict[str, Any] = {}
    for schema in schemas.values():
        name = "".join(part.title() for part in schema.type.split("_")) + "Invocation"
        classes[name] = {"class": "invocation", "title": name, "type": "object", **_describe_node(schema)}
        outputs = {name: {**_refer(kind), "field_kind": "output"} for name, kind in schema.outputs.items()}
        output = {"class": "output", "title": schema.output_class, "type": "object", "properties": outputs}
        classes.setdefault(schema.output_class, output)
    return {
        "openapi": "3.1.0",
        "info": {"title": "sweep sandbox", "description": "Speaks InvokeAI's queue protocol.", "version": "1.0.0"},
        "paths": {},
        "components": {"schemas": classes},
    }


def _describe_node(schema: NodeSchema) -> dict[str, Any]:
    attribute = {"field_kind": "node_attribute"}
    return {
        "properties": {
            "id": {**attribute, "type": "string"},
            "is_intermediate": {**attribute, "type": "boolean", "default": False, "input": "direct"},
            "use_cache": {**attribute, "type": "boolean", "default": schema.is_cached},
            **{name: _describe_field(field) for name, field in schema.fields.items()},
            "type": {**attribute, "type": "string", "const": schema.type, "default": schema.type},
        },
        "required": ["type", "id"],
        "output": _refer(schema.output_class),
    }


def _describe_field(field: FieldSchema) -> dict[str, Any]:
    many = {"type": "array", "items": _refer(field.items or "any")}
    kinds = [many] if field.type == "array" else [_refer(field.type)]
    if field.type != "array" and field.choices:
        kinds[0]["enum"] = list(field.choices)
    if field.type != "array" and field.items:
        kinds.append(many)
    if field.nullable:
        kinds.append({"type": "null"})
    facts: dict[str, Any] = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    facts |= {"field_kind": "input", "input": field.input, "orig_required": field.required, "default": field.default}
    facts |= {said: bound for slot, said in _BOUNDS.items() if (bound := getattr(field, slot)) is not None}
    facts |= {"ui_model_type": list(field.model_types)} if field.model_types else {}
    facts |= {"ui_model_base": list(field.model_bases)} if field.model_bases else {}
    return facts


def _refer(kind: str) -> dict[str, Any]:
    """Return the schema of a type: a primitive one, a reference to its class, or nothing where any will do."""
    if kind == "any":
        return {}
    return {"type": kind} if kind in _PRIMITIVES else {"$ref": f"#/components/schemas/{kind}"}
