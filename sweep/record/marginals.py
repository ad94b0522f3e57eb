"""What each value of each axis came to: how many done and failed, seconds a rendering, and means of metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Mean:
    """A running mean of the values that are there."""

    total: float = 0.0
    count: int = 0

    def take(self, value: float | None) -> None:
        """None counts for nothing."""
        if value is not None:
            self.total += value
            self.count += 1

    @property
    def value(self) -> float | None:
        """None where there was no value."""
        return self.total / self.count if self.count else None


@dataclass(slots=True)
class Marginal:
    """All variations that share one value of one axis."""

    axis: str
    value: str
    done: int = 0
    failed: int = 0
    seconds: Mean = field(default_factory=Mean)  # the server's rendering times, one a variation
    metrics: dict[str, Mean] = field(default_factory=dict)


def marginals(
    rows: Iterable[Mapping[str, Any]], axes: Sequence[str], metrics: Sequence[str] = ()
) -> dict[str, list[Marginal]]:
    """By axis, one for each of its values, in the order in which the values first appear.

    `rows` are those of the results table, `metrics` some of its columns; of a variation with several pictures the
    first row counts.
    """
    found: dict[str, dict[Any, Marginal]] = {axis: {} for axis in axes}
    seen: set[tuple[Any, Any]] = set()
    for row in rows:
        point = (row["index"], row["key"])
        if point in seen:
            continue
        seen.add(point)
        for axis in axes:
            value = row[axis]
            entry = found[axis].get(value)
            if entry is None:
                entry = found[axis][value] = Marginal(axis, _text(value), metrics={name: Mean() for name in metrics})
            _count(entry, row)
    return {axis: list(entries.values()) for axis, entries in found.items()}


def _count(entry: Marginal, row: Mapping[str, Any]) -> None:
    entry.done += row["status"] == "completed"
    entry.failed += row["status"] == "failed"
    entry.seconds.take(row["render_seconds"])
    for name, mean in entry.metrics.items():
        mean.take(row[name])


def failures(rows: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """What failed rows say, and how often each was said."""
    return Counter(str(row["error"]) for row in rows if row["status"] == "failed")


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return _digits(value) if isinstance(value, float) else str(value)


def _digits(value: float) -> str:
    """Six of them; all of a number that is large."""
    return f"{value:.6g}" if abs(value) < 1e6 else repr(value).removesuffix(".0")
