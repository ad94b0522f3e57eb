"""What a results folder knows before a run begins, for forecasts: read at once, without taking the folder's lock."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sweep.record import queries
from sweep.record.base import Counts, KnownKeys, State
from sweep.record.schema import JOURNAL, reading

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
    sizes: Sequence[tuple[int, int]] = ()  # (pixels, bytes) of the latest pictures

    @cached_property
    def keys(self) -> KnownKeys:
        """Every key on record, read when first asked for: of a million it takes seconds. Raises CorruptRecordError."""
        if self.folder is None:
            return dict[str, State]()
        with reading(self.folder) as db:
            return queries.known_keys(db)

    @property
    def pixels(self) -> int:
        """Pixels of the latest picture; 0 where there is none."""
        return self.sizes[0][0] if self.sizes else 0

    def seeds_for(self, axis: str, count: int) -> tuple[int, ...]:
        """The seeds drawn so far, filled up with stand-ins: which numbers they are changes no count."""
        drawn = self.seeds.get(axis, ())[:count]
        taken = set(drawn)
        missing = (number for number in range(2 * count) if number not in taken)
        return (*drawn, *(next(missing) for _ in range(count - len(drawn))))


def read_sizes(folder: Path) -> Past:
    """Only `sizes`: quick in a folder of any size. Raises CorruptRecordError."""
    if not (folder / JOURNAL).is_file():
        return Past()
    with reading(folder) as db:
        return Past(sizes=_sizes(db))


def _sizes(db: sqlite3.Connection) -> list[tuple[int, int]]:
    rows = db.execute("SELECT width * height, size FROM images LIMIT ?", (_SAMPLE,))
    return [(pixels, size) for pixels, size in rows]


def read_past(folder: Path) -> Past:
    """Raises CorruptRecordError where the journal is damaged."""
    if not (folder / JOURNAL).is_file():
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
            fingerprint=queries.fingerprint(db),
            counts=queries.counts(db),
            completed=done,
            seeds={axis: tuple(json.loads(drawn)) for axis, drawn in db.execute("SELECT axis, drawn FROM seeds")},
            seconds=[value for (value,) in seconds],
            sizes=_sizes(db),
        )
