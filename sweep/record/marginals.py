"""What each value of each axis came to: how many done and failed, and how long a rendering took on average."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Marginal:
    """All variations that share one value of one axis. `seconds` are the server's rendering times, one a variation."""

    axis: str
    value: str
    done: int = 0
    failed: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def mean_seconds(self) -> float | None:
        """Mean rendering time in seconds; None where no time is known."""
        return sum(self.seconds) / len(self.seconds) if self.seconds else None


def marginals(rows: Iterable[Mapping[str, Any]], axes: Sequence[str]) -> list[Marginal]:
    """One for each value of each axis, in the order in which the values first appear.

    `rows` are those of the results table; of a variation with several pictures the first row counts.
    """
    found: dict[tuple[str, Any], Marginal] = {}
    seen: set[tuple[Any, Any]] = set()
    for row in rows:
        point = (row["index"], row["key"])
        if point in seen:
            continue
        seen.add(point)
        for axis in axes:
            value = row[axis]
            entry = found.setdefault((axis, value), Marginal(axis, _text(value)))
            entry.done += row["status"] == "completed"
            entry.failed += row["status"] == "failed"
            if row["render_seconds"] is not None:
                entry.seconds.append(row["render_seconds"])
    order = {axis: position for position, axis in enumerate(axes)}
    return sorted(found.values(), key=lambda entry: order[entry.axis])


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)
