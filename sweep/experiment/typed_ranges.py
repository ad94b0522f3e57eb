"""Numbers and ranges as people type them: `0.2:0.8:0.2`, `1, 2, ..., 10`, `10-30 (+5)`, `10-30 [5]`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, TypeAlias

from sweep.role_table import strip_number
from sweep.text import truncate

Number: TypeAlias = int | float
MAX_TYPED: Final = 10_000  # values that a typed list with ranges in it is expanded to

_NUMBER: Final = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_COLONS = re.compile(rf"({_NUMBER})\s*:\s*({_NUMBER})(?:\s*:\s*({_NUMBER}))?")
_DASH = re.compile(rf"({_NUMBER})\s*(?:-|–|\.\.\.?|…)\s*({_NUMBER})(?:\s*\(\s*({_NUMBER})\s*\)|\s*\[\s*(\d+)\s*\])?")
_ELLIPSIS: Final = ("...", "..", "…")
_DRAWN = re.compile(r"(?:random|count)\s*[:=*x]?\s*(\d+)", re.IGNORECASE)


def suggest_axis(name: str, text: str) -> str | None:
    """Suggest how an experiment file holds an axis that somebody typed as one text; None where it is no range."""
    try:
        found = parse_numbers(text, name)
    except ValueError:
        return None
    if isinstance(found, list) and len(found) < 2:
        return None
    if isinstance(found, dict):
        return "{" + ", ".join(f"{key}: {value}" for key, value in found.items()) + "}"
    return f"[{', '.join(map(str, found))}]"


def parse_numbers(text: str, name: str) -> list[Number] | dict[str, Any]:
    """Parse numbers and ranges between commas; one range alone stays a range, however long it is."""
    if strip_number(name) == "seed" and (drawn := _DRAWN.fullmatch(text)):
        return {"count": int(drawn[1])}
    tokens = [token.strip() for token in text.split(",")]
    parts = list(_group(tokens))
    if len(parts) == 1 and isinstance(parts[0], dict):
        return parts[0]
    values: list[Number] = []
    for part in parts:
        values += _expand(part) if isinstance(part, dict) else [part]
        if len(values) > MAX_TYPED:
            raise ValueError(f"these are more than {MAX_TYPED:,} values; one range alone may be longer")
    return values


def _group(tokens: Sequence[str]) -> Iterator[Number | dict[str, Any]]:
    """Yield numbers and ranges; `1, 2, ..., 10` is one range."""
    at = 0
    while at < len(tokens):
        for before in (2, 1):
            end = at + before + 1
            if end < len(tokens) and tokens[end - 1] in _ELLIPSIS:
                first, *second = [_read_number(token) for token in tokens[at : end - 1]]
                step = _plain(_exact(second[0]) - _exact(first)) if second else None
                yield _make_range(first, _read_number(tokens[end]), step)
                at = end + 1
                break
        else:
            yield _parse_token(tokens[at])
            at += 1


def _parse_token(token: str) -> Number | dict[str, Any]:
    if re.fullmatch(_NUMBER, token):
        return _read_number(token)
    if found := _COLONS.fullmatch(token) or _DASH.fullmatch(token):
        start, stop, step = _read_number(found[1]), _read_number(found[2]), found[3]
        if found.re is _DASH and found[4]:
            return {"start": start, "stop": stop, "num": int(found[4])}
        return _make_range(start, stop, _read_number(step) if step else None)
    if token in _ELLIPSIS:
        raise ValueError(f"{token} stands between numbers, as in 1, 2, ..., 10")
    raise ValueError(f'"{truncate(token, 40)}" is not a number or a range' if token else "a value is empty")


def _make_range(start: Number, stop: Number, step: Number | None) -> dict[str, Any]:
    if step is None and not (isinstance(start, int) and isinstance(stop, int)):
        raise ValueError(f"the range from {start} to {stop} needs a step, as in {start}:{stop}:0.1")
    return {"start": start, "stop": stop, "step": (1 if stop >= start else -1) if step is None else step}


def _expand(part: Mapping[str, Any]) -> list[Number]:
    first, last = _exact(part["start"]), _exact(part["stop"])
    if "num" in part:
        step = (last - first) / max(part["num"] - 1, 1)
        count = part["num"]
    else:
        step = _exact(part["step"])
        if step == 0 or (last - first) / step < 0:
            raise ValueError(f"a step of {part['step']} does not lead from {part['start']} to {part['stop']}")
        count = int((last - first) / step) + 1
    if count > MAX_TYPED:
        raise ValueError(f"these are more than {MAX_TYPED:,} values; one range alone may be longer")
    return [_plain(first + step * at) for at in range(count)]


def _read_number(text: str) -> Number:
    if not re.fullmatch(_NUMBER, text):
        raise ValueError(f'"{truncate(text, 40)}" is not a number')
    number = int(text) if re.fullmatch(r"[+-]?\d{1,300}", text) else float(text)
    if not math.isfinite(number):
        raise ValueError(f"{truncate(text, 40)} is not a number that can be set")
    return number


def _exact(number: Number) -> Decimal:
    return Decimal(repr(number))


def _plain(number: Decimal) -> Number:
    return int(number) if number == number.to_integral_value() and "." not in str(number) else float(number)
