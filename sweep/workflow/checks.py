"""Whether a value fits a field, told in the end of a sentence before a server is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from sweep.errors import did_you_mean
from sweep.workflow.graph import BoardRef, ImageRef, ModelRef, Value
from sweep.workflow.schemas import FieldSchema

_MANY = 12  # choices up to this number are listed in full


def check_value(schema: FieldSchema, value: Value) -> str | None:
    """Why a value does not fit the field, as the end of a sentence ("takes 0 to 1, not 1.5"); None where it fits.

    A whole number fits a field of fractions, a yes or no does not; nothing fits a field that only edges feed.
    """
    if not schema.takes_value:
        return "takes no value, only an edge"
    if value is None:
        return None if schema.nullable or schema.type == "any" else "needs a value"
    if isinstance(value, list | tuple) and schema.items:
        single = replace(schema, type=schema.items, items="", nullable=False)
        return next((fault for item in value if (fault := check_value(single, item))), None)
    return _check_single(schema, value)


def _check_single(schema: FieldSchema, value: Value) -> str | None:
    match schema.type:
        case "integer" | "number":
            return _check_number(schema, value)
        case "string":
            if not isinstance(value, str):
                return f"takes text, not {_shown(value)}"
            return _check_choice(schema, value)
        case "boolean":
            return None if isinstance(value, bool) else f"takes true or false, not {_shown(value)}"
        case "array":
            return f"takes a list, not {_shown(value)}"
        case "ImageField":
            given = isinstance(value, ImageRef) or (isinstance(value, Mapping) and "image_name" in value)
            return None if given else f"takes a picture, not {_shown(value)}"
        case "ModelIdentifierField":
            return _check_model(schema, value)
        case "BoardField":
            given = isinstance(value, BoardRef | Mapping) or value in {"auto", "none"}
            return None if given else f"takes a board, not {_shown(value)}"
        case "any":
            return None
    return None if isinstance(value, Mapping) else f"takes {schema.type}, not {_shown(value)}"


def _check_number(schema: FieldSchema, value: Value) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"takes {_kind(schema)}, not {_shown(value)}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return f"takes {_kind(schema)}, not {value}"
        if schema.type == "integer" and not value.is_integer():
            return f"takes whole numbers, not {_shown(value)}"
    if schema.choices:
        return _check_choice(schema, f"{value:g}")
    if not _within(schema, value):
        return f"takes {range_of(schema)}, not {_shown(value)}"
    if schema.multiple_of and not math.isclose(remainder := math.remainder(value, schema.multiple_of), 0, abs_tol=1e-9):
        near = value - remainder
        return f"takes multiples of {schema.multiple_of:g}, not {_shown(value)} (nearest: {near:g})"
    return None


def _within(schema: FieldSchema, value: float) -> bool:
    return (
        (schema.minimum is None or value >= schema.minimum)
        and (schema.maximum is None or value <= schema.maximum)
        and (schema.exclusive_minimum is None or value > schema.exclusive_minimum)
        and (schema.exclusive_maximum is None or value < schema.exclusive_maximum)
    )


def range_of(schema: FieldSchema) -> str:
    """What a number of this field may be: "0 to 1", "more than 0", "multiples of 8"; empty where anything."""
    low, high = schema.minimum, schema.maximum
    if low is not None and high is not None:
        text = f"{low:.12g} to {high:.12g}"
    else:
        bounds = {
            "at least": low,
            "at most": high,
            "more than": schema.exclusive_minimum,
            "less than": schema.exclusive_maximum,
        }
        text = " and ".join(f"{words} {bound:.12g}" for words, bound in bounds.items() if bound is not None)
    steps = f"multiples of {schema.multiple_of:g}" if schema.multiple_of else ""
    return ", ".join(part for part in (text, steps) if part)


def _check_choice(schema: FieldSchema, value: str) -> str | None:
    if not schema.choices or value in schema.choices:
        return None
    known = f" It takes {', '.join(schema.choices)}." if len(schema.choices) <= _MANY else ""
    return f"does not take {value!r}.{did_you_mean(value, schema.choices)}{known}"


def _check_model(schema: FieldSchema, value: Value) -> str | None:
    if not isinstance(value, ModelRef):
        given = isinstance(value, Mapping) and "key" in value
        return None if given else f"takes a model, not {_shown(value)}"
    if schema.model_types and value.type and value.type not in schema.model_types:
        return f"takes a {' or '.join(schema.model_types)} model; {value.name} is a {value.type}"
    if schema.model_bases and value.base and value.base not in {*schema.model_bases, "any"}:
        return f"takes a model for {' or '.join(schema.model_bases)}; {value.name} is for {value.base}"
    return None


def _kind(schema: FieldSchema) -> str:
    return "whole numbers" if schema.type == "integer" else "numbers"


def _shown(value: Value) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
