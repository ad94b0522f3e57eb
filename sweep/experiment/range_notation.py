"""Numbers and ranges as people type them: `0.2:0.8:0.2`, `1, 2, ..., 10`, `10-30 (+5)`, `10-30 [5]`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from sweep.experiment.axes import DecimalNumber, LinearLevels, to_fraction
from sweep.role_table import strip_number
from sweep.text import truncate

MAX_TYPED: Final = 10_000  # values that a typed list with ranges in it is expanded to
MAX_DIGITS: Final = 300  # of a whole number

_NUMBER: Final = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_DOTS: Final = r"(?:\.\.\.?|…)"
_RANGE = re.compile(
    rf"(?P<start>{_NUMBER})\s*(?:(?P<colon>:)|-|–|{_DOTS})\s*(?P<stop>{_NUMBER})"
    rf"(?(colon)(?:\s*:\s*(?P<by>{_NUMBER}))?|(?:\s*\(\s*(?P<step>{_NUMBER})\s*\)|\s*\[\s*(?P<num>[0-9]+)\s*\])?)"
)
_CONTINUED = re.compile(rf"(?:(?<=,)|^)\s*({_NUMBER})\s*,\s*(?:({_NUMBER})\s*,\s*)?{_DOTS}\s*,\s*({_NUMBER})\s*(?=,|$)")
_DRAWN = re.compile(r"(?:random|count)\s*[:=*x]?\s*([0-9]+)", re.IGNORECASE)


def parse_number(text: str) -> DecimalNumber | None:
    """Parse a number as it is written, 20 as an int, 20.0 as a float; infinity for one that is too large, else None."""
    if not re.fullmatch(_NUMBER, text):
        return None
    if text.lstrip("+-").isdecimal():
        return int(text) if len(text) <= MAX_DIGITS else math.inf
    return float(text)


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


def parse_numbers(text: str, name: str) -> list[DecimalNumber] | dict[str, Any]:
    """Parse numbers and ranges between commas; one range alone stays a range. Raises ValueError with a sentence."""
    if strip_number(name) == "seed" and (drawn := _DRAWN.fullmatch(text)):
        return {"count": int(drawn[1])}
    parts = [_parse_token(token.strip()) for token in _CONTINUED.sub(_write_range, text).split(",")]
    if len(parts) == 1 and isinstance(parts[0], dict):
        return parts[0]
    values: list[DecimalNumber] = []
    for part in parts:
        values += _expand(part) if isinstance(part, dict) else [part]
        if len(values) > MAX_TYPED:
            raise ValueError(f"these are more than {MAX_TYPED:,} values; one range alone may be longer")
    return values


def _write_range(continued: re.Match[str]) -> str:
    """Write `1, 2, ..., 10` as the range 1:10:1."""
    first, second, last = continued.groups()
    return f"{first}:{last}:{Decimal(second) - Decimal(first)}" if second else f"{first}:{last}"


def _parse_token(token: str) -> DecimalNumber | dict[str, Any]:
    if re.fullmatch(_DOTS, token):
        raise ValueError(f"{token} stands between numbers, as in 1, 2, ..., 10")
    found = _RANGE.fullmatch(token)
    if found is None:
        return _read_number(token)
    start, stop, step = _read_number(found["start"]), _read_number(found["stop"]), found["by"] or found["step"]
    if found["num"]:
        return {"start": start, "stop": stop, "num": int(found["num"])}
    if step is None and not (isinstance(start, int) and isinstance(stop, int)):
        raise ValueError(f"the range from {start} to {stop} needs a step, as in {start}:{stop}:0.1")
    return {"start": start, "stop": stop, "step": _read_number(step) if step else 1 if stop >= start else -1}


def _read_number(text: str) -> DecimalNumber:
    number = parse_number(text)
    if number is None:
        raise ValueError(f'"{truncate(text, 40)}" is not a number or a range' if text else "a value is empty")
    if math.isinf(number):
        raise ValueError(f"{truncate(text, 40)} is not a number that can be set")
    return number


def _expand(part: Mapping[str, DecimalNumber]) -> list[DecimalNumber]:
    first, last, num = to_fraction(part["start"]), to_fraction(part["stop"]), part.get("num")
    step = to_fraction(part["step"]) if num is None else (last - first) / max(int(num) - 1, 1)
    if num is None and (step == 0 or (last - first) / step < 0):
        raise ValueError(f"a step of {part['step']} does not lead from {part['start']} to {part['stop']}")
    count = math.floor((last - first) / step) + 1 if num is None else int(num)
    whole = step.denominator == 1 and all(isinstance(number, int) for number in part.values())
    levels = LinearLevels((), first, step, min(count, MAX_TYPED + 1), whole)
    return [levels.value(at) for at in range(len(levels))]
