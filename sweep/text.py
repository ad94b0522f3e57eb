"""Short texts for people: truncated sentences, numbers without noise, durations, counts with their plural."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def make_list(given: str | Iterable[_T]) -> list[_T | str]:
    """Make a list; a text that is given alone would else be read letter by letter."""
    return [given] if isinstance(given, str) else list(given)


def truncate(text: str, length: int) -> str:
    """Return the text in at most `length` characters; "…" stands for what was cut off."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def truncate_apart(text: str, among: Iterable[str], length: int) -> str:
    """Return the text on one line in at most `length` characters; where it begins like another one `among` these, what
    both have in common is cut off: "…window light, red", "…window light, blue". The beginning stays where others
    differ in that alone: "Photo…light, red", "Pastel…light, red".
    """
    plain = " ".join(text.split())
    others = {" ".join(other.split()) for other in among if len(plain) > length} - {plain}
    alike = [other for other in others if other[: length - 1] == plain[: length - 1]]
    if not alike:
        return truncate(plain, length)
    common = max(_count_common(plain, other) for other in alike)
    first = common - length // 2
    word = plain.rfind(" ", 0, max(first, 0) + 1) + 1
    rest = plain[first if first - word > length // 2 else word :]
    if unlike := [other for other in others.difference(alike) if rest in other]:  # they differ in the beginning alone
        beginning = truncate(plain, max(_count_common(plain, other) for other in unlike) + 4)
        beginning = beginning if len(beginning) <= length // 2 else f"…{beginning[1 - length // 2 :]}"
        return truncate(f"{beginning}{plain[common - (length - len(beginning)) // 2 :]}", length)
    return f"…{truncate(rest, length - 1)}"


def _count_common(text: str, other: str) -> int:
    """Count the characters with which both texts begin."""
    return next((i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))


def format_number(value: float) -> str:
    """Write a number in at most six digits, and every digit of a large one: 0.1, 7.5, 1.09091, 20, 4294967295."""
    return f"{value:.6g}" if abs(value) < 1e6 else repr(value).removesuffix(".0")


def format_value(value: object) -> str:
    """Write a value of an axis on one line: 0.1, true, a red cat, "" for an empty text; no value at all is none."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return format_number(value) if isinstance(value, float) else " ".join(str(value).split()) or '""'


def format_count(count: int, noun: str) -> str:
    """Write a count with its noun, as in "1 seed", "2,000 seeds"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_size(size: float) -> str:
    """Write a size in decimal units: 61 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.1f} {unit}" if unit in ("GB", "TB") else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:,.1f} PB"


def format_seconds(seconds: float) -> str:
    """Write a duration: 0.8 s, 12 s, 2 min 51 s, 3 h 05 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def quote_argument(value: object) -> str:
    """Quote a name or path, so that people can copy the command it stands in."""
    return shlex.quote(str(value))


_CONTROLS = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (
        *(code for code in range(32) if code not in (9, 10)),  # a tab and a line feed only move the cursor
        *range(127, 160),
        *(0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),  # change the direction of text
        *(0x2028, 0x2029),  # break lines
    )
}


def escape_controls(text: str) -> str:
    """Write control characters as escapes, so that text of servers and files cannot steer a terminal."""
    return text if text.isprintable() else text.translate(_CONTROLS)


def escape_breaks(text: str) -> str:
    """Write control characters as escapes, line breaks too: text that stands inside a sentence."""
    return escape_controls(text).replace("\n", "\\n")


def join_words(words: Sequence[str]) -> str:
    """Join words for a sentence."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
