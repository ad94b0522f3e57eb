"""The values of a node as a file has them: blanks left out, and models by name instead of by a server's key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweep.workflow.graph import ModelRef, Value
from sweep.workflow.schemas import FieldSchema, builtin_schemas

_ATTRIBUTES = frozenset({"id", "type", "workflow"})
_TEXTS = frozenset({"string", "any"})


def node_fields(kind: str, values: Mapping[str, Any]) -> dict[str, Value]:
    """What is set on a node of that type, without what says nothing: null, an unchosen model, the default board.

    A node type that sweep does not know keeps all but nulls.
    """
    schema = builtin_schemas().get(kind)
    fields: dict[str, Value] = {}
    for name, value in values.items():
        if name not in _ATTRIBUTES and not _says_nothing(name, value, schema.field(name) if schema else None):
            fields[name] = references(value)
    return fields


def _says_nothing(name: str, value: Any, field: FieldSchema | None) -> bool:
    if name == "board" and (value in ("auto", "none", "", None) or value == {}):
        return True
    if value is None:
        return not (field and field.nullable and field.default is not None)
    if field is None:
        return False
    return not field.takes_value or (value in ("", {}) and field.type not in _TEXTS and field.type != "object")


def references(value: Any) -> Value:
    """The value with models by name, type and base in place of a server's keys, at any depth."""
    if isinstance(value, list):
        return [references(item) for item in value]
    if not isinstance(value, Mapping):
        return value  # type: ignore[no-any-return]  # a JSON scalar
    if _is_model(value):
        return ModelRef(value["name"], value["base"], value["type"])
    if {"model_name", "base_model"} <= value.keys():  # InvokeAI 3
        return ModelRef(str(value["model_name"]), str(value["base_model"]), str(value.get("model_type") or "main"))
    return {str(name): references(item) for name, item in value.items()}


def _is_model(value: Mapping[str, Any]) -> bool:
    named = all(isinstance(value.get(part), str) for part in ("name", "base", "type"))
    return named and "key" in value and not value.get("submodel_type")
