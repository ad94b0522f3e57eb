"""Untrusted JSON of servers: parsed within limits, and each value read as the type it should have, or none."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sweep.text import escape_breaks, truncate

SENTENCE_LENGTH = 240
NAME_LENGTH = 255
DEEPEST_ANSWER = 200
MOST_PARTS = 500_000  # objects and arrays of one answer: each takes some 70 bytes of memory, and 3 on the wire
LARGEST_INTEGER = 2**63


def parse(data: bytes | str) -> Any:
    """Parse JSON. Raises ValueError also where it has more parts, or deeper ones, than any server has to say."""
    text = data if isinstance(data, str) else data.decode(json.detect_encoding(data), "surrogatepass")
    parts = text.count("[") + text.count("{")
    if parts > MOST_PARTS:
        raise ValueError("too many parts")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if parts > DEEPEST_ANSWER and _is_deeper_than(value, DEEPEST_ANSWER):
        raise ValueError("nested too deeply")
    return value


def _is_deeper_than(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        containers = [each for each in level if isinstance(each, dict | list)]
        level = [inner for each in containers for inner in (each.values() if isinstance(each, dict) else each)]
        if not level:
            return False
    return True


def mapping(value: Any) -> dict[str, Any]:
    """Return `value` where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """Return `value` where it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """Return `value` where it is a string with something in it, else None."""
    return value if isinstance(value, str) and value else None


def sendable(value: Any) -> str | None:
    """Return `value` where it is a string that a header or the path of an address can carry, else None."""
    found = text(value)
    return found if found and found.isascii() and found.isprintable() else None


def as_integer(value: Any) -> int | None:
    """Return `value` where it is an integer of at most 64 bits, else None."""
    is_one = isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST_INTEGER
    return value if is_one else None


def number(value: Any) -> int:
    """Return `value` where it is an integer of at most 64 bits, else 0."""
    return as_integer(value) or 0


def integers(value: Any) -> list[int]:
    """Return the integers in an array, else nothing."""
    return [found for each in sequence(value) if (found := as_integer(each)) is not None]


def timestamp(value: Any) -> datetime | None:
    """Return a server's time, aware; one without a zone means UTC."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter of an offset that leads out of the calendar
        return None


def shorten(text: str) -> str:
    """Return the first line of `text` for files and terminals: truncated, its control characters as escapes."""
    line = next(iter(text.strip().splitlines()), "").strip()
    return truncate(escape_breaks(line[: SENTENCE_LENGTH + 1]), SENTENCE_LENGTH)


def plain_name(value: Any) -> str | None:
    """Return `value` where it is a name that people can read: no longer than names are, without control characters."""
    found = text(value)
    return found if found and len(found) <= NAME_LENGTH and escape_breaks(found) == found else None
