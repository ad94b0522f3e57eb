"""Does a value have the shape that a TypedDict says? Strictly: no key more, none less."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict


def misfit(value: object, shape: Any, where: str = "$") -> str | None:
    """Where `value` first differs from `shape`; None where it fits."""
    origin, inner = get_origin(shape), get_args(shape)
    if is_typeddict(shape):
        return _misfit_of_dict(value, shape, where)
    if origin in (Union, UnionType):
        return None if any(misfit(value, each) is None for each in inner) else f"{where}: {value!r} is no {shape}"
    if origin is Literal:
        return None if value in inner else f"{where}: {value!r} is not of {inner}"
    if origin in (list, tuple, dict) and not isinstance(value, list | tuple | dict):
        return f"{where}: {value!r} is no {shape}"
    if origin is dict and isinstance(value, dict):
        return _first(misfit(each, inner[1], f"{where}.{name}") for name, each in value.items())
    if origin in (list, tuple) and isinstance(value, list | tuple):
        kinds = inner if origin is tuple else inner * len(value)
        return _first(
            misfit(each, kind, f"{where}[{i}]") for i, (each, kind) in enumerate(zip(value, kinds, strict=True))
        )
    return None if _is(value, shape) else f"{where}: {value!r} is no {shape}"


def _is(value: object, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return value is None if kind in (None, NoneType) else isinstance(value, kind)


def _misfit_of_dict(value: object, shape: Any, where: str) -> str | None:
    hints = get_type_hints(shape)
    if not isinstance(value, dict) or set(value) != set(hints):
        return f"{where}: keys {sorted(value) if isinstance(value, dict) else value!r} are not {sorted(hints)}"
    return _first(misfit(value[name], kind, f"{where}.{name}") for name, kind in hints.items())


def _first(found: Any) -> str | None:
    return next((each for each in found if each), None)
