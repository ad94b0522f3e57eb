"""How far a results folder is, in numbers, and who writes to it or how the last run ended in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from sweep.record.lock import holder, in_use
from sweep.record.queries import RunRecord
from sweep.record.table import Results


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Counts are of the points of the last run's definition, but for `former`, which it no longer has."""

    folder: str
    points: int
    completed: int
    failed: int
    cancelled: int
    open: int  # at a server, or on the way there and back
    pending: int  # not begun
    former: int
    run: str  # who writes now, or how the last run ended

    def to_json(self) -> dict[str, str | int]:
        """As plain JSON values."""
        return asdict(self)


def standing(folder: Path) -> Standing:
    """Raises RecordError where there are no results, and CorruptRecordError where they are damaged."""
    results = Results.open(folder)
    counts = results.counts()
    return Standing(
        folder=folder.as_posix(),
        points=counts.points,
        completed=counts.completed,
        failed=counts.failed,
        cancelled=counts.cancelled,
        open=counts.open,
        pending=max(0, counts.points - counts.completed - counts.failed - counts.cancelled - counts.open),
        former=counts.former,
        run=_run(folder, results.runs()),
    )


def _run(folder: Path, runs: list[RunRecord]) -> str:
    if in_use(folder):
        return f"going on: {holder(folder) or 'another process'}"
    if not runs:
        return "none"
    last = runs[-1]
    if last.ending is None:
        return "was killed; run the same command again"
    return f"{last.ending} at {last.ended_at.astimezone():%Y-%m-%d %H:%M}" if last.ended_at else last.ending
