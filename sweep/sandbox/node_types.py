"""Node types: their schemas as checks of single nodes, and as the OpenAPI document that describes them."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, create_model

from sweep.workflow import FieldSchema, NodeSchema, NodeSchemas, builtin_schemas

NodeJson = dict[str, Any]


class ImageField(BaseModel):
    """An image by its name; the class's own name stands in refusals."""

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
    """Refuse what InvokeAI's own validator of these nodes refuses, which its schema does not say."""
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


_PRIMITIVES = frozenset({"integer", "number", "string", "boolean", "object", "array"})
_BOUNDS = {
    "minimum": "minimum",
    "maximum": "maximum",
    "exclusive_minimum": "exclusiveMinimum",
    "exclusive_maximum": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}


def document(schemas: NodeSchemas) -> dict[str, Any]:
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
