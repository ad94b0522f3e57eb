"""A cache of measured values in the journal of a folder, usable while a run writes there."""

from __future__ import annotations

import math
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Self

from sweep.record.sqlite.connection import (
    JOURNAL_FILE,
    BrokenSealError,
    build_update,
    connect_reader,
    connect_writer,
    seal,
    translate_errors,
)

_CHUNK = 1000  # values a transaction: the run's own writer waits for no more


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricKey:
    """Everything that decides a value: images by SHA-256, the metric and its version, the size it is worked out at."""

    image: str
    metric: str
    version: str
    reference: str = ""  # "" where the metric looks at one image alone
    working_size: int = 0  # pixels of the longer side; 0 is full size


class MetricCache:
    """The cache: `with MetricCache.open(folder) as cache:`; from any thread or process. Raises kinds of RecordError."""

    def __init__(self, db: sqlite3.Connection, place: Path) -> None:
        self._db = db
        self._place = place
        self._one = threading.Lock()

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[Self]:
        """Open the cache in the journal of `folder`, which must exist; in a folder that can only be read, to read."""
        place = folder / JOURNAL_FILE
        if os.access(folder, os.W_OK):
            db = connect_writer(folder, create=False)
            db.execute("PRAGMA synchronous = NORMAL")  # what a power cut takes is measured again
        else:
            with translate_errors(place):
                db = connect_reader(folder)
        cache = cls(db, place)
        try:
            yield cache
        finally:
            with cache._one:
                db.close()

    def get_many(self, keys: Iterable[MetricKey]) -> dict[MetricKey, float | None]:
        """Return the values that are known; None is a value, too: the metric is not defined for that image."""
        found: dict[MetricKey, float | None] = {}
        broken = 0
        with self._one, translate_errors(self._place):
            for key in dict.fromkeys(keys):  # equal images share a key
                place = _row(key)
                if row := self._db.execute(_GET, place).fetchone():
                    found[key] = row[0]
                    broken += seal(*place, row[0]) != row[1]
            if broken:
                raise BrokenSealError(f"{broken} measured values are not as they were written")
        return found

    def put_many(self, values: Mapping[MetricKey, float | None]) -> None:
        """Keep values, durable against a crash of the process when it returns.

        In a folder that can only be read nothing is kept: a later study measures again.
        """
        rows = iter(values.items())
        while chunk := list(islice(rows, _CHUNK)):
            with self._one, translate_errors(self._place):
                try:
                    with self._db:  # commits, or rolls back
                        self._db.execute("BEGIN IMMEDIATE")
                        self._put(chunk)
                except sqlite3.OperationalError as error:
                    if (error.sqlite_errorcode or 0) & 0xFF == sqlite3.SQLITE_READONLY:
                        return
                    raise

    def _put(self, chunk: list[tuple[MetricKey, float | None]]) -> None:
        names = {(key.metric,) for key, _ in chunk}
        self._db.executemany("INSERT OR IGNORE INTO metric_names (name, seal) VALUES (?, 0)", names)
        self._db.executemany(build_update("metric_names", (("puts", "puts + 1"),), "name = ?"), names)
        rows = [(*_row(key), None if value is None or math.isnan(value) else float(value)) for key, value in chunk]
        self._db.executemany(_PUT, [(*row, row[2], seal(*row)) for row in rows])


_WHICH = "image = ? AND reference = ? AND metric = ? AND version = ? AND working_size = ?"
_GET = f"SELECT value, seal FROM metrics WHERE {_WHICH}"  # noqa: S608  column names only
_PUT = (
    "INSERT OR REPLACE INTO metrics (image, reference, metric, version, working_size, value, put, seal)"
    " VALUES (?, ?, ?, ?, ?, ?, (SELECT puts FROM metric_names WHERE name = ?), ?)"
)
_row = attrgetter("image", "reference", "metric", "version", "working_size")  # of a MetricKey, in the seal's order
