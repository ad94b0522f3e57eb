"""Values to begin with for an axis over a field: around what the workflow has there, and what the field takes."""

from __future__ import annotations

import json
from collections.abc import Iterator

from sweep.workflow.checks import check_value
from sweep.workflow.graph import Value
from sweep.workflow.schemas import FieldSchema

_KNOWN = ("euler", "dpmpp_2m_k", "heun", "lcm")  # schedulers people compare with their own
_FEW = 3


def offered(role: str, field: FieldSchema | None, value: Value) -> str:
    """A YAML list of values, two or three where any are known to fit; empty where nothing is known of the field."""
    if field is None:
        return ""
    if field.type == "ImageField":
        return '{images: "*.png"}'
    if value is None:
        value = field.default
    fitting = [v for v in _values(role, field, value) if check_value(field, v) is None]
    distinct = {json.dumps(v, ensure_ascii=False): None for v in fitting}
    return f"[{', '.join(list(distinct)[:_FEW])}]" if distinct else ""


def _values(role: str, field: FieldSchema, value: Value) -> Iterator[Value]:
    if field.choices:
        yield from (value, *(name for name in _KNOWN if role == "scheduler"), *field.choices)
    elif field.type == "boolean":
        yield from (False, True)
    elif role.endswith("weight"):
        yield from (0, 0.5, 1)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _around(value, field)
    elif isinstance(value, str):
        yield value


def _around(value: float, field: FieldSchema) -> Iterator[float]:
    """A third less, the value, a third more; whole, and in the field's steps, where it wants that."""
    unit = field.multiple_of or (1 if field.type == "integer" else 0)
    if value == 0:
        yield from (-1, 0, 1)
        return
    for factor in (2 / 3, 1, 4 / 3):
        near = float(f"{value * factor:.2g}") if factor != 1 else value
        yield round(value * factor / unit) * int(unit) if unit and factor != 1 else near
