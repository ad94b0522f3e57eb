"""Formats numbers, estimates, levels and cells for the sentences of a study, and makes a sentence of a text.

A number always stands with its interval and n, or with the reason for none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from sweep.study.stats.response_curves import BRACKET
from sweep.study.study_json import Estimate, Group, LevelValue, Sentence, StudyJson
from sweep.text import format_count, format_value, truncate_apart

MOST_ROWS = 8  # images that show a finding
ENOUGH_SEEDS = 8  # advice from fewer is called that of few seeds
_SHORT = 48  # characters of a level in a sentence
_MOST_DECIMALS = 6
_GROUPED = 10_000  # numbers from which digits stand in groups of three
_LEAST_POWER = -5  # numbers below this power of ten have an exponent
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def write_number(value: float, width: float | None = None) -> str:
    """Write a number with the digits its interval's width deserves (two of the width), else three significant ones."""
    power = math.floor(math.log10(abs(value))) if value else 0
    decimals = 1 - math.floor(math.log10(width)) if width else max(2 - power, 0)
    shown = min(max(decimals, 0), _MOST_DECIMALS)
    if power < _LEAST_POWER and decimals > _MOST_DECIMALS:
        text = f"{value:.{max(decimals + power, 0)}e}"
    else:
        text = f"{round(value, decimals):.{shown}f}"
    if not width and 0 < decimals <= _MOST_DECIMALS:
        text = text.rstrip("0").rstrip(".")
    number = float(text)
    text = f"{number:,.{shown}f}" if abs(number) >= _GROUPED else text
    return (text if number else text.removeprefix("-")).replace("-", "−")


def write_estimate(estimate: Estimate) -> str:
    """Write as in "0.45 (0.41–0.49, 95 %, n = 4 seeds)"; without an interval the bracket says why."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return f"unknown ({estimate['reason']})"
    if low is None or high is None:
        return f"{write_number(value)} (no interval: {estimate['reason']})"
    if _is_point(estimate):
        return f"{write_number(value)} (the same with each of {format_count(estimate['n'], 'seed')})"
    shown = write_interval(estimate)
    return f"{shown[:-1]}, {estimate['confidence'] * 100:.0f} %, n = {format_count(estimate['n'], 'seed')})"


def write_interval(estimate: Estimate) -> str:
    """Write as in "0.45 (0.41–0.49)", where confidence and n stand elsewhere; without an interval the value."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "unknown"
    if low is None or high is None or _is_point(estimate):
        return write_number(value)
    shown = [write_number(v, high - low) for v in (value, low, high)]
    dash = " to " if "−" in "".join(shown) else "–"
    return f"{shown[0]} ({shown[1]}{dash}{shown[2]})"


def _is_point(estimate: Estimate) -> bool:
    """Tell whether the interval has no width but for rounding."""
    width = (estimate["high"] or 0.0) - (estimate["low"] or 0.0)
    return width <= 1e-9 * max(1e-3, abs(estimate["value"] or 0.0))


def write_number_word(n: int) -> str:
    """Write a count that begins a sentence: a word up to twelve."""
    return capitalise(_WORDS[n]) if n < len(_WORDS) else f"{n:,}"


def write_level(level: LevelValue, among: Iterable[LevelValue] = ()) -> str:
    """Write a level for a sentence: text in quotes, shortened; numbers as in tables.

    `among`: the levels of its axis. A text that begins like another one is shortened to the part in which they differ.
    """
    if isinstance(level, str):
        return f"“{truncate_apart(level, [other for other in among if isinstance(other, str)], _SHORT)}”"
    if isinstance(level, float):
        return format_value(level).replace("-", "−")
    return "none" if level is None else format_value(level)


def write_percent(share: Estimate) -> str:
    """Write a share in whole percents, and in tenths below two percent."""
    percent = 100 * (share["value"] or 0.0)
    return f"{percent:.{0 if percent >= 2 else 1}f} %"


def write_cell(cell: Group, among: Mapping[str, Sequence[LevelValue]]) -> str:
    """Write a cell, or an image, by its levels. `among`: the levels of each axis."""
    levels = (f"{name_axis(name)} {write_level(level, among[name])}" for name, level in cell.items())
    return ", ".join(levels) or "the only point"


def capitalise(text: str) -> str:
    """Capitalise the start of a sentence."""
    is_name = text.startswith("pHash") or "." in text.partition(" ")[0]  # an address: decode.tiled
    return text if is_name else text[:1].upper() + text[1:]


def name_axis(name: str) -> str:
    """Write an axis for a sentence: spaces instead of underscores."""
    return name.replace("_", " ")


def write_mark(wanted: str, threshold: float) -> str:
    """Write a threshold as a mark to keep: "0.9 or more"."""
    return f"{threshold:g} or {'more' if wanted == 'above' else 'less'}"


def write_place(at: Estimate) -> str:
    """Write the place of a crossing: the tested levels around it, or its interval."""
    if at["method"] == BRACKET:
        return f"between {write_level(at['low'])} and {write_level(at['high'])}"
    return f"at {write_interval(at)}"


def make_sentence(
    kind: str, text: str, detail: str = "", metric: str | None = None, axis: str | None = None, rows: Sequence[int] = ()
) -> Sentence:
    """Make a sentence that is no headline yet."""
    shown = list(rows[:MOST_ROWS])
    return Sentence(kind=kind, text=text, detail=detail, headline=False, metric=metric, axis=axis, rows=shown)


def find_rows(data: StudyJson, group: Group) -> list[int]:
    """Find the rows with an image at these levels; in a table without images all rows."""
    rows = data["rows"]
    columns = [(rows["axes"][name], level) for name, level in group.items()]
    shown = [i for i, path in enumerate(rows["image_path"]) if path is not None]
    places = shown or range(len(rows["key"]))
    return [i for i in places if all(column[i] == level for column, level in columns)]


def list_levels(data: StudyJson, axis: str) -> list[LevelValue]:
    """List the levels of an axis."""
    return next((each["levels"] for each in data["design"]["axes"] if each["name"] == axis), [])
