"""Facts of earlier runs of a folder, for the next one: drawn seeds, rendering times, sizes, work sent to servers."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sweep.record.base import Counts
from sweep.record.sqlite import journal as queries
from sweep.record.sqlite.schema import JOURNAL_FILE, has_table, reading

_SAMPLE = 500  # latest renderings that estimates are made from


@dataclass(frozen=True, kw_only=True)
class Past:
    """Facts of a folder's earlier runs; all empty where there is no such folder."""

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
    """Work that a run sent to one server: its items, and the input images that it uploaded."""

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
