"""Checks of posted graphs against the node schemas, as InvokeAI makes them."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, create_model

from sweep.sandbox.http_requests import Loc, read_value, refuse, refuse_invalid, refuse_value
from sweep.workflow import FieldSchema, NodeSchema, NodeSchemas, load_builtin_schemas

NodeJson = dict[str, Any]
GraphJson = dict[str, Any]  # id, nodes by id, edges: checked, in the form that answers repeat


class ImageField(BaseModel):
    """An image by its name."""

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


@functools.cache
def builtin_types() -> NodeTypes:
    """Return the checks of the packaged node types, whose models all sandboxes of a process share."""
    return NodeTypes(load_builtin_schemas())


_GUIDED = frozenset({"denoise_latents", "denoise_latents_meta", "tiled_multi_diffusion_denoise_latents"})


def _build_model(schema: NodeSchema) -> type[BaseModel]:
    fields: dict[str, Any] = {
        "n_id": (str, Field(alias="id", default_factory=lambda: str(uuid.uuid4()))),
        "n_intermediate": (bool, Field(alias="is_intermediate", default=False)),
        "n_cache": (bool, Field(alias="use_cache", default=schema.is_cached)),
    }
    for index, field_ in enumerate(schema.fields.values()):
        if schema.type in _GUIDED and field_.name == "cfg_scale":
            field_ = replace(field_, minimum=1)  # as a validator of InvokeAI's wants it; its schema does not say so
        if (schema.type, field_.name) == ("noise", "seed"):
            field_ = replace(field_, minimum=None, maximum=None)  # any other seed wraps
        fields[f"f_{index}"] = (_annotate(field_), Field(alias=field_.name, default=field_.default))
    fields["n_type"] = (Literal[schema.type], Field(alias="type"))
    extra: Literal["allow", "ignore"] = "allow" if schema.type == "core_metadata" else "ignore"
    return create_model(schema.type, __config__={"extra": extra, "coerce_numbers_to_str": True}, **fields)


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


def read_graph(posted: Any, types: NodeTypes, *loc: str) -> GraphJson:
    """Read and check a posted graph. Raises RefusedError with 422."""
    if posted is None:
        raise refuse("missing", loc, "Field required")
    _check_object(posted, loc)
    named: dict[str, Any] = read_value(dict[str, Any], posted.get("nodes") or {}, *loc, "nodes")
    nodes = {name: _read_node(node, types, (*loc, "nodes", name)) for name, node in named.items()}
    posted_edges = read_value(list[PostedEdge], posted.get("edges") or [], *loc, "edges")
    edges = [edge.model_dump() for edge in posted_edges]
    wrong = _find_graph_problem(nodes, edges, types.schemas)
    if wrong:
        raise refuse_value(loc, wrong)
    return {"id": str(posted.get("id") or uuid.uuid4()), "nodes": nodes, "edges": edges}


def _check_object(value: Any, loc: Loc) -> None:
    if not isinstance(value, dict):
        raise refuse("model_attributes_type", loc, "Input should be a valid dictionary")


def _read_node(node: Any, types: NodeTypes, loc: Loc) -> NodeJson:
    _check_object(node, loc)
    kind = node.get("type")
    if not isinstance(kind, str) or kind not in types.schemas:
        message = f"Input tag '{kind}' found using 'type' does not match any of the expected tags"
        raise refuse("union_tag_invalid", loc, message, {"tag": str(kind)})
    try:
        return types.accept(node)
    except ValidationError as error:
        raise refuse_invalid(error, *loc, kind) from error


def _find_graph_problem(
    nodes: Mapping[str, NodeJson], edges: Sequence[dict[str, Any]], schemas: NodeSchemas
) -> str | None:
    for name, node in nodes.items():
        if node["id"] != name:
            return f"Node ids must match, got {name} and {node['id']}"
    before: dict[str, set[str]] = {name: set() for name in nodes}
    for edge in edges:
        wrong = _find_edge_problem(nodes, edge["source"], edge["destination"], schemas)
        if wrong:
            return wrong
        before[edge["destination"]["node_id"]].add(edge["source"]["node_id"])
    try:
        TopologicalSorter(before).prepare()
    except CycleError:
        return "Graph contains cycles"
    return None


_COERCED = {("integer", "number"), ("integer", "string"), ("number", "string")}


def _find_edge_problem(
    nodes: Mapping[str, NodeJson], start: dict[str, str], end: dict[str, str], schemas: NodeSchemas
) -> str | None:
    for node_id in (start["node_id"], end["node_id"]):
        if node_id not in nodes:
            return f"Edge node {node_id} does not exist in the graph"
    given = schemas[nodes[start["node_id"]]["type"]].outputs.get(start["field"])
    taken = schemas[nodes[end["node_id"]]["type"]].field(end["field"])
    ends = f"{start['node_id']}.{start['field']} -> {end['node_id']}.{end['field']}"
    if given is None or taken is None:
        return f"Edge field does not exist ({ends})"
    if given == taken.type or {given, taken.type} & {"any", "array"} or (given, taken.type) in _COERCED:
        return None
    return f"Edge source and target types do not match ({ends})"
