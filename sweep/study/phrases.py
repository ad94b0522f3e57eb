"""Numbers, levels and intervals as they stand in a sentence."""

from __future__ import annotations

import math

from sweep.study.contract import DiversityCell, Estimate, Level, Sentence

SHORT = 48  # characters of a level in a sentence
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def sentence(
    kind: str, text: str, *, metric: str | None = None, axis: str | None = None, headline: bool = False
) -> Sentence:
    """One finding."""
    return Sentence(kind=kind, text=text, headline=headline, metric=metric, axis=axis)


def figure(value: float, width: float | None = None) -> str:
    """A number with the digits its interval's width deserves (two of the width), else three significant ones."""
    if width is not None and width > 0:
        decimals = min(max(1 - math.floor(math.log10(width)), 0), 6)
        text = f"{value:.{decimals}f}"
    else:
        text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        text = f"{value:.6f}" if "e" in text else text
    text = "0" if float(text) == 0 and "." not in text else text
    return text.replace("-", "−")


def with_interval(estimate: Estimate) -> str:
    """As in "0.45 (0.41–0.49, 95 %, n = 4 seeds)"; where there is no interval the bracket says why."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return f"unknown ({estimate['reason']})"
    if low is None or high is None:
        return f"{figure(value)} (no interval: {estimate['reason']})"
    if _same(estimate):
        return f"{figure(value)} (the same with each of {seeds_text(estimate)})"
    shown = interval_text(estimate)
    return f"{shown[:-1]}, {estimate['confidence'] * 100:.0f} %, n = {seeds_text(estimate)})"


def interval_text(estimate: Estimate) -> str:
    """As in "0.45 (0.41–0.49)", for where what is common to several is said once; without an interval the value."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "unknown"
    if low is None or high is None or _same(estimate):
        return figure(value)
    shown = [figure(v, high - low) for v in (value, low, high)]
    dash = " to " if "−" in "".join(shown) else "–"
    return f"{shown[0]} ({shown[1]}{dash}{shown[2]})"


def _same(estimate: Estimate) -> bool:
    """Whether the interval has no width but for rounding."""
    width = (estimate["high"] or 0.0) - (estimate["low"] or 0.0)
    return width <= 1e-9 * max(1.0, abs(estimate["value"] or 0.0))


def seeds_text(estimate: Estimate) -> str:
    """How many of what the interval rests on."""
    return counted(estimate["n"], "repeated point" if "repeated" in estimate["method"] else "seed")


def counted(n: int, what: str) -> str:
    """As in "4 seeds", "1 seed"."""
    return f"{n:,} {what}{'s' if n != 1 else ''}"


def worded(n: int) -> str:
    """A count that begins a sentence: a word up to twelve."""
    return capital(WORDS[n]) if n < len(WORDS) else f"{n:,}"


def level_text(level: Level) -> str:
    """A level as it stands in a sentence: text in quotes, shortened; numbers without empty decimals."""
    if isinstance(level, str):
        return f"“{level if len(level) <= SHORT else level[: SHORT - 1].rstrip() + '…'}”"
    if isinstance(level, float):
        return f"{level:.12g}".replace("-", "−")
    return "none" if level is None else str(level)


def percent(share: Estimate) -> str:
    """Whole percents, and tenths below two percent."""
    value, low, high = (None if v is None else 100 * v for v in (share["value"], share["low"], share["high"]))
    digits = 0 if (value or 0.0) >= 2 else 1
    text = f"{value or 0.0:.{digits}f} %"
    return text if low is None or high is None else f"{text} ({low:.{digits}f}–{high:.{digits}f} %)"


def negated(estimate: Estimate) -> Estimate:
    """The same difference the other way round."""
    value, low, high = (None if v is None else -v for v in (estimate["value"], estimate["low"], estimate["high"]))
    return Estimate(**{**estimate, "value": value, "low": high, "high": low})


def cell_text(cell: DiversityCell) -> str:
    """A cell by its levels."""
    levels = [f"{name} {level_text(level)}" for name, level in cell["cell"].items()]
    return ", ".join(levels) or "the only point"


def capital(text: str) -> str:
    """With a capital first, as at the start of a sentence."""
    return text[:1].upper() + text[1:] if not text.startswith("pHash") else text
