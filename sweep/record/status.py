"""Counts, marginals and history of a folder."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sweep.record.base import Counts
from sweep.record.lock import holder, in_use
from sweep.record.results import CSV, RecordedResults
from sweep.record.sqlite import journal as queries
from sweep.record.sqlite.journal import RunRecord
from sweep.record.sqlite.schema import JOURNAL_FILE, has_table, reading
from sweep.text import format_value


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderStatus:
    """Counts are of the points of the last run's definition, but for `former`, which it no longer has."""

    folder: str
    points: int
    completed: int
    failed: int
    cancelled: int
    open: int  # at a server, or on the way there and back
    pending: int  # not begun
    former: int
    run: str  # who writes now, or how the last run ended, in words
    state: str  # running, none, killed, or how the last run ended: completed, failures, interrupted …
    began_at: str | None  # of the last run, ISO 8601 in UTC
    ended_at: str | None
    table: str | None  # paths, None where there is no such file
    report: str | None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"schema": "sweep.status/1", **asdict(self)}


def folder_status(folder: Path) -> FolderStatus:
    """Count what is in a results folder. Raises RecordError where there are no results or they are damaged."""
    results = RecordedResults.open(folder)
    counts, runs = results.counts(), results.runs()
    return FolderStatus(
        folder=folder.as_posix(),
        points=counts.points,
        completed=counts.completed,
        failed=counts.failed,
        cancelled=counts.cancelled,
        open=counts.open,
        pending=max(0, counts.points - counts.completed - counts.failed - counts.cancelled - counts.open),
        former=counts.former,
        run=_run(folder, runs),
        state=_state(folder, runs),
        began_at=_iso(runs[-1].begun_at if runs else None),
        ended_at=_iso(runs[-1].ended_at if runs else None),
        table=_path(folder / CSV),
        report=_path(folder / "report.html"),
    )


def _state(folder: Path, runs: list[RunRecord]) -> str:
    if in_use(folder):
        return "running"
    return (runs[-1].ending or "killed") if runs else "none"


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _path(file: Path) -> str | None:
    return file.as_posix() if file.is_file() else None


def _run(folder: Path, runs: list[RunRecord]) -> str:
    if in_use(folder):
        return f"going on: {holder(folder) or 'another process'}"
    if not runs:
        return "none"
    last = runs[-1]
    if last.ending is None:
        return "was killed; run the same command again"
    return f"{last.ending} at {last.ended_at.astimezone():%Y-%m-%d %H:%M}" if last.ended_at else last.ending


_SAMPLE = 500  # latest renderings that estimates are made from


@dataclass(frozen=True, kw_only=True)
class Past:
    """All empty for a folder that is not there."""

    folder: Path | None = None
    fingerprint: str | None = None
    counts: Counts = field(default_factory=Counts)
    completed: int = 0  # points, former ones too
    seeds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    seconds: Sequence[float] = ()  # of the latest renderings
    sizes: Sequence[tuple[int, int]] = ()  # (pixels, bytes) of the latest images

    def count_states(self, keys: Iterable[str]) -> Counter[str]:
        """Count those of these keys that are on record by their state. Raises CorruptRecordError."""
        if self.folder is None:
            return Counter()
        with reading(self.folder) as db:
            if not db.execute("SELECT 1 FROM points LIMIT 1").fetchone():  # computing the keys takes seconds a million
                return Counter()
            rows = (db.execute("SELECT state FROM points WHERE key = ? LIMIT 1", (key,)).fetchone() for key in keys)
            return Counter(row[0] for row in rows if row)

    @property
    def pixels(self) -> int:
        """Pixels of the latest image; 0 where there is none."""
        return self.sizes[0][0] if self.sizes else 0

    def seeds_for(self, axis: str, count: int) -> tuple[int, ...]:
        """Return the seeds drawn so far, filled up with stand-ins: which numbers they are changes no count."""
        drawn = self.seeds.get(axis, ())[:count]
        taken = set(drawn)
        missing = (number for number in range(2 * count) if number not in taken)
        return (*drawn, *(next(missing) for _ in range(count - len(drawn))))


def read_sizes(folder: Path) -> Past:
    """Read only `sizes`: quick in a folder of any size. Raises CorruptRecordError."""
    if not (folder / JOURNAL_FILE).is_file():
        return Past()
    with reading(folder) as db:
        return Past(sizes=_sizes(db))


def _sizes(db: sqlite3.Connection) -> list[tuple[int, int]]:
    rows = db.execute("SELECT width * height, size FROM images LIMIT ?", (_SAMPLE,))
    return [(pixels, size) for pixels, size in rows]


def read_painted(folder: Path) -> frozenset[bool]:
    """Read whether completed images were painted by a sandbox (True) or come from real servers; empty without any."""
    with reading(folder) as db:
        if not db.execute("SELECT 1 FROM points WHERE state = 'completed' LIMIT 1").fetchone():
            return frozenset()
        servers = [server for run in queries.runs(db) for server in run.facts.servers]
    return frozenset(server.get("sandbox") == "true" for server in servers)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedWork:
    """What a run sent to one server: its items, and the input images that it uploaded."""

    name: str  # of the server
    items: Mapping[str, str]  # item id → batch id
    uploads: tuple[str, ...]  # names on the server


def read_submitted(folder: Path) -> dict[str, SubmittedWork]:
    """Read what was sent to each server, by its address. Raises RecordError where the journal cannot be read."""
    with reading(folder) as db:
        servers = dict(db.execute("SELECT url, max(server) FROM attempts GROUP BY url").fetchall())
        query = "SELECT DISTINCT item_id, batch_id FROM attempts WHERE url = ? AND item_id IS NOT NULL"
        return {
            url: SubmittedWork(
                name=name, items=dict(db.execute(query, (url,)).fetchall()), uploads=_read_uploads(db, url)
            )
            for url, name in servers.items()
        }


def _read_uploads(db: sqlite3.Connection, url: str) -> tuple[str, ...]:
    return tuple(queries.uploads(db, url).values()) if has_table(db, "uploads") else ()


def read_past(folder: Path) -> Past:
    """Read what a folder holds of earlier runs. Raises CorruptRecordError where the journal is damaged."""
    if not (folder / JOURNAL_FILE).is_file():
        return Past()
    with reading(folder) as db:
        done = db.execute("SELECT count(*) FROM points WHERE state = 'completed'").fetchone()[0]
        seconds = db.execute(
            "SELECT (finished_at - started_at) / 1e6 FROM points WHERE state = 'completed' AND started_at IS NOT NULL"
            " AND finished_at IS NOT NULL ORDER BY id DESC LIMIT ?",
            (_SAMPLE,),
        )
        return Past(
            folder=folder,
            fingerprint=queries.read_fingerprint(db),
            counts=queries.counts(db),
            completed=done,
            seeds={axis: tuple(json.loads(drawn)) for axis, drawn in db.execute("SELECT axis, drawn FROM seeds")},
            seconds=[value for (value,) in seconds],
            sizes=_sizes(db),
        )


@dataclass(slots=True)
class Mean:
    """A running mean of the values that are there."""

    total: float = 0.0
    count: int = 0

    def take(self, value: float | None) -> None:
        """Take one value; None counts for nothing."""
        if value is not None:
            self.total += value
            self.count += 1

    def add(self, other: Mean) -> None:
        """Take every value that another mean has taken."""
        self.total += other.total
        self.count += other.count

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
    """Count by axis, one entry for each of its values, in the order in which the values first appear.

    `rows` are those of the results table, `metrics` some of its columns; of a variation with several images the
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


def sum_up(group: Sequence[Marginal]) -> Marginal:
    """Merge all values of an axis into one entry, whose value says how many there were: "50 values: 42 … 91"."""
    some = ", ".join(entry.value for entry in group) if len(group) <= 4 else f"{group[0].value} … {group[-1].value}"
    merged = Marginal(group[0].axis, f"{len(group):,} values: {some}")
    for entry in group:
        merged.done += entry.done
        merged.failed += entry.failed
        merged.seconds.add(entry.seconds)
        for name, mean in entry.metrics.items():
            merged.metrics.setdefault(name, Mean()).add(mean)
    return merged


def _count(entry: Marginal, row: Mapping[str, Any]) -> None:
    entry.done += row["status"] == "completed"
    entry.failed += row["status"] == "failed"
    entry.seconds.take(row["render_seconds"])
    for name, mean in entry.metrics.items():
        mean.take(row[name])


def failures(rows: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Count the errors of failed rows."""
    return Counter(str(row["error"]) for row in rows if row["status"] == "failed")


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return format_value(value)
