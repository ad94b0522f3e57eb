"""InvokeAI's node types: read from the OpenAPI document of a server or from the packaged copy, and written as one."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from sweep.errors import WorkflowError
from sweep.workflow.node_schemas import FieldSchema, NodeSchema, read_packaged, read_table

COMMON: Final[Mapping[str, FieldSchema]] = {  # every node has these
    "is_intermediate": FieldSchema(name="is_intermediate", type="boolean", input="direct", default=False),
    "use_cache": FieldSchema(name="use_cache", type="boolean", input="direct", default=True),
}
_OWN_PACK = "invokeai"
_OPEN_TYPES = frozenset({"core_metadata", "call_saved_workflow"})  # these take fields their schema does not name
_BOUNDS = {
    "minimum": "minimum",
    "ge": "minimum",
    "maximum": "maximum",
    "le": "maximum",
    "exclusiveMinimum": "exclusive_minimum",
    "gt": "exclusive_minimum",
    "exclusiveMaximum": "exclusive_maximum",
    "lt": "exclusive_maximum",
    "multipleOf": "multiple_of",
}
_PRIMITIVES = frozenset({"integer", "number", "string", "boolean", "object", "array"})
_NOT_INPUTS = frozenset({"id", "type", "is_intermediate", "use_cache", "workflow"})
_MISSHAPEN = (TypeError, AttributeError, KeyError, IndexError, ValueError, RecursionError)


@functools.cache
def load_packaged_nodes() -> Mapping[str, NodeSchema]:
    """Return the node types of InvokeAI 6.14.2, as packaged with sweep."""
    return read_packaged(read_table(str(__package__), "nodes-6.14.2.json"), COMMON)


def parse_openapi(document: Mapping[str, Any]) -> dict[str, NodeSchema]:
    """Return every node type that an OpenAPI document of InvokeAI 3.2 to 6.x describes.

    Raises WorkflowError where the document describes no nodes at all.
    """
    components = document.get("components")
    classes = components.get("schemas") if isinstance(components, Mapping) else None
    classes = classes if isinstance(classes, Mapping) else {}
    found: dict[str, NodeSchema] = {}
    for schema in classes.values():
        with suppress(*_MISSHAPEN):  # a malformed one counts as a node that the server does not have
            is_node = schema.get("class") == "invocation" or ("output" in schema and "class" not in schema)
            if is_node and "type" in schema["properties"]:
                node = _node(schema, classes)
                found[node.type] = node
    if not found:
        raise WorkflowError("The OpenAPI document describes no nodes: is this an InvokeAI server?")
    return found


def _node(schema: Mapping[str, Any], classes: Mapping[str, Any]) -> NodeSchema:
    properties = schema["properties"]
    said = properties["type"]
    kind = str(said.get("default") or said.get("const") or said.get("enum", [""])[0])
    cache = properties.get("use_cache", {}).get("default", True)
    output_class = _name(schema.get("output", {}))
    outputs = classes.get(output_class, {}).get("properties", {})
    return NodeSchema(
        type=kind,
        fields={name: _openapi_field(name, facts) for name, facts in properties.items() if name not in _NOT_INPUTS},
        outputs={name: _types(facts)[0] for name, facts in outputs.items() if name not in {"type", "output_meta"}},
        output_class=output_class,
        is_cached=bool(cache),
        is_open=kind in _OPEN_TYPES,
        is_custom=schema.get("node_pack", _OWN_PACK) != _OWN_PACK,
        common=COMMON,
    )


def _openapi_field(name: str, facts: Mapping[str, Any]) -> FieldSchema:
    options = _options(facts)
    kind, items, nullable = _types(facts)
    bounds: dict[str, Any] = {}
    for source in (*options, facts):
        bounds.update({_BOUNDS[key]: source[key] for key in source.keys() & _BOUNDS.keys()})
    if not all(isinstance(bound, int | float) for bound in bounds.values()):
        raise TypeError(f"{name} has bounds that are no numbers")
    choices = next((source["enum"] for source in (facts, *options) if "enum" in source), ())
    # servers before 6.8 say which models a field takes by its ui_type
    by_ui_type = read_table(str(__package__), "model_ui_types.json").get(str(facts.get("ui_type")), ())
    said = facts.get("input")
    return FieldSchema(
        name=name,
        type=kind,
        items=items,
        input=said if said in {"direct", "connection"} else "any",
        required=bool(facts.get("orig_required", False)),
        default=facts.get("default", facts.get("orig_default")),
        choices=tuple(str(choice) for choice in choices),
        nullable=nullable,
        model_types=_strings(facts.get("ui_model_type", by_ui_type)),
        model_bases=_strings(facts.get("ui_model_base", ())),
        **bounds,
    )


def _options(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the members of a union, flattened; the field itself where it is no union."""
    union = facts.get("anyOf") or facts.get("oneOf") or facts.get("allOf")
    if not union:
        return [facts]
    return [option for member in union for option in _options(member)]


def _types(facts: Mapping[str, Any]) -> tuple[str, str, bool]:
    """Return the type, what a list of it holds (empty: no lists), and whether null is allowed."""
    options = _options(facts)
    singles = [name for option in options if (name := _name(option)) not in {"null", "array"}]
    lists = [_types(option.get("items", {}))[0] for option in options if option.get("type") == "array"]
    nullable = any(option.get("type") == "null" for option in options)
    if lists and not singles:
        return "array", lists[0], nullable
    distinct = list(dict.fromkeys(singles))
    if set(distinct) == {"integer", "number"}:
        distinct = ["number"]
    return distinct[0] if len(distinct) == 1 else "any", lists[0] if lists else "", nullable


def _name(facts: Mapping[str, Any]) -> str:
    if "$ref" in facts:
        return str(facts["$ref"]).rsplit("/", 1)[-1]
    return str(facts.get("type", "any"))


def _strings(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(str(item) for item in value or ())


def write_openapi(nodes: Mapping[str, NodeSchema]) -> dict[str, Any]:
    """Write an OpenAPI document from which `parse_openapi` reads back exactly these node types."""
    classes: dict[str, Any] = {}
    for node in nodes.values():
        name = "".join(part.title() for part in node.type.split("_")) + "Invocation"
        properties = {name: _describe_field(field) for name, field in {**COMMON, **node.fields}.items()}
        properties["use_cache"]["default"] = node.is_cached
        properties |= {"id": {"type": "string"}, "type": {"const": node.type, "default": node.type}}
        class_ = {"class": "invocation", "title": name, "type": "object", "properties": properties}
        classes[name] = {**class_, "required": ["type", "id"], "output": _refer(node.output_class)}
        outputs = {name: _refer(kind) for name, kind in node.outputs.items()}
        classes.setdefault(node.output_class, {"class": "output", "type": "object", "properties": outputs})
    about = {"title": "sweep", "version": "1.0.0"}
    return {"openapi": "3.1.0", "info": about, "paths": {}, "components": {"schemas": classes}}


def _describe_field(field: FieldSchema) -> dict[str, Any]:
    one = {**_refer(field.type), **({"enum": list(field.choices)} if field.choices else {})}
    many = {"type": "array", "items": _refer(field.items or "any")}
    kinds = [] if field.type == "array" else [one]
    kinds += [many] if field.type == "array" or field.items else []
    kinds += [{"type": "null"}] if field.nullable else []
    facts: dict[str, Any] = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    facts |= {"input": field.input, "orig_required": field.required, "default": field.default}
    facts |= {name: bound for name, slot in _BOUNDS.items() if (bound := getattr(field, slot)) is not None}
    facts |= {"ui_model_type": list(field.model_types)} if field.model_types else {}
    facts |= {"ui_model_base": list(field.model_bases)} if field.model_bases else {}
    return facts


def _refer(kind: str) -> dict[str, Any]:
    """Return the schema of a type: a primitive one, a reference to its class, or nothing where any will do."""
    if kind == "any":
        return {}
    return {"type": kind} if kind in _PRIMITIVES else {"$ref": f"#/components/schemas/{kind}"}
