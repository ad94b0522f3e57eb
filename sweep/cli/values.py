"""`name=value` as people type it on a command line."""

from __future__ import annotations

from collections.abc import Sequence

from sweep.errors import UsageError


def assignments(given: Sequence[str] | None, option: str) -> dict[str, str | int | float | bool | None]:
    """`["cfg_scale=7"]` as {"cfg_scale": 7}: numbers where they are. Raises UsageError."""
    found: dict[str, str | int | float | bool | None] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not (equals and name.strip()):
            raise UsageError(f"{option} {text} has no value.", hint=f"Write {option} axis=value.")
        found[name.strip()] = _value(value.strip())
    return found


def _value(text: str) -> str | int | float:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text
