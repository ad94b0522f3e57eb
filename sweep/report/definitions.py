"""What two experiments fix differently, read from their files as run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

_COMPARED: Final = ("workflow", "inputs")
_MOST_TEXT: Final = 60  # characters of a value


def differences(before: str, after: str) -> list[str]:
    """For example ["cfg_scale 7.5 → 4"]: what is fixed in both experiments, or in one of them, and not the same.

    Texts that cannot be read have no differences.
    """
    a, b = _fixed(before), _fixed(after)
    if a is None or b is None:
        return []
    names = dict.fromkeys([*a, *b])
    return [f"{name} {_text(a.get(name))} → {_text(b.get(name))}" for name in names if a.get(name) != b.get(name)]


def _fixed(text: str) -> dict[str, Any] | None:
    try:
        told = YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        return None
    if not isinstance(told, Mapping):
        return None
    fixed: dict[str, Any] = {}
    for name in _COMPARED:
        value = told.get(name)
        fixed |= {str(key): value[key] for key in value} if isinstance(value, Mapping) else {name: value}
    return fixed


def _text(value: object) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 1]}…"
