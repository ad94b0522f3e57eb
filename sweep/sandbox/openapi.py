"""The sandbox's /openapi.json: node schemas written the way InvokeAI describes its nodes."""

from __future__ import annotations

from typing import Any

from sweep.workflow.schemas import FieldSchema, NodeSchema, NodeSchemas

_PRIMITIVES = frozenset({"integer", "number", "string", "boolean", "object", "array"})
_BOUNDS = {
    "minimum": "minimum",
    "maximum": "maximum",
    "exclusive_minimum": "exclusiveMinimum",
    "exclusive_maximum": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}


def document(schemas: NodeSchemas) -> dict[str, Any]:
    """An OpenAPI document from which a client reads back exactly these schemas."""
    classes: dict[str, Any] = {}
    for schema in schemas.values():
        classes[_class_name(schema.type)] = _node(schema)
        classes.setdefault(schema.output_class, _output(schema))
    return {
        "openapi": "3.1.0",
        "info": {"title": "sweep sandbox", "description": "Speaks InvokeAI's queue protocol.", "version": "1.0.0"},
        "paths": {},
        "components": {"schemas": classes},
    }


def _class_name(kind: str) -> str:
    return "".join(part.title() for part in kind.split("_")) + "Invocation"


def _node(schema: NodeSchema) -> dict[str, Any]:
    attribute = {"field_kind": "node_attribute"}
    return {
        "class": "invocation",
        "title": _class_name(schema.type),
        "type": "object",
        "properties": {
            "id": {**attribute, "type": "string"},
            "is_intermediate": {**attribute, "type": "boolean", "default": False, "input": "direct"},
            "use_cache": {**attribute, "type": "boolean", "default": schema.use_cache},
            **{name: _field(field) for name, field in schema.fields.items()},
            "type": {**attribute, "type": "string", "const": schema.type, "default": schema.type},
        },
        "required": ["type", "id"],
        "output": _named(schema.output_class),
    }


def _output(schema: NodeSchema) -> dict[str, Any]:
    outputs = {name: {**_named(kind), "field_kind": "output"} for name, kind in schema.outputs.items()}
    return {"class": "output", "title": schema.output_class, "type": "object", "properties": outputs}


def _field(field: FieldSchema) -> dict[str, Any]:
    kinds: list[dict[str, Any]] = []
    if field.type == "array":
        kinds.append({"type": "array", "items": _named(field.items or "any")})
    else:
        kinds.append(_named(field.type) | ({"enum": list(field.choices)} if field.choices else {}))
        if field.items:
            kinds.append({"type": "array", "items": _named(field.items)})
    if field.nullable:
        kinds.append({"type": "null"})
    facts: dict[str, Any] = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    facts |= {"field_kind": "input", "input": field.input, "orig_required": field.required, "default": field.default}
    facts |= {said: bound for slot, said in _BOUNDS.items() if (bound := getattr(field, slot)) is not None}
    if field.model_types:
        facts["ui_model_type"] = list(field.model_types)
    if field.model_bases:
        facts["ui_model_base"] = list(field.model_bases)
    return facts


def _named(kind: str) -> dict[str, Any]:
    if kind == "any":
        return {}
    return {"type": kind} if kind in _PRIMITIVES else {"$ref": f"#/components/schemas/{kind}"}
