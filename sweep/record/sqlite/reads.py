"""Queries; a compact set of keys."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

from sweep.errors import RecordError
from sweep.record.base import Counts, Intent, JournalState, KeyStatus, RunFacts
from sweep.record.experiment_facts import ExperimentFacts
from sweep.record.sqlite.schema import BrokenSealError, has_table, sealing
from sweep.record.sqlite.writes import OPEN, OUTCOMES, moment
from sweep.types import Scalar

_WIDTH = 16  # bytes of a key's digest
_BUCKETS = 65536  # by the digest's first two bytes
_STATES: tuple[JournalState, ...] = ("intended", "submitted", "rendered", "completed", "failed", "cancelled")


class CompactKeys:
    """A fixed set of keys with their states: `key in known`, `known.get(key)`, `len(known)`.

    Sorted 128-bit digests in one bytes object, found by bucket.
    """

    __slots__ = ("_digests", "_starts", "_states")

    def __init__(self, states: Iterable[tuple[str, str]]) -> None:
        codes: dict[str, bytes] = {name: bytes((code,)) for code, name in enumerate(_STATES)}
        entries = [_digest(key) + codes[state] for key, state in states]
        entries.sort()
        digests, marks, sizes, last = bytearray(), bytearray(), [0] * (_BUCKETS + 1), b""
        for entry in entries:
            if entry != last:
                digests += entry[:_WIDTH]
                marks.append(entry[_WIDTH])
                sizes[_bucket(entry) + 1] += 1
                last = entry
        self._digests, self._states = bytes(digests), bytes(marks)
        self._starts = array("L", accumulate(sizes))

    def get(self, key: str, /) -> JournalState | None:
        """Return the state of `key`, None where it is not known."""
        digest = _digest(key)
        bucket = _bucket(digest)
        start, end = self._starts[bucket] * _WIDTH, self._starts[bucket + 1] * _WIDTH
        while (found := self._digests.find(digest, start, end)) >= 0:
            if found % _WIDTH == 0:
                return _STATES[self._states[found // _WIDTH]]
            start = found + 1
        return None

    def __contains__(self, key: object, /) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    def __len__(self) -> int:
        return len(self._states)


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=_WIDTH).digest()


def _bucket(digest: bytes) -> int:
    return digest[0] << 8 | digest[1]


# ruff: noqa: S608  what varies in the SQL is column names from schema.py, never a value


_CURRENT = "(SELECT definition FROM runs ORDER BY number DESC LIMIT 1)"
_COUNTED = (*OUTCOMES, *OPEN)
_NUMBERS = "SELECT definition, {} FROM points GROUP BY definition".format(
    ", ".join(f"count(*) FILTER (WHERE state = '{state}')" for state in _COUNTED)
)
"""Grouped by what the index is sorted by, in one pass: by state as well, all rows would be sorted first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run of the folder. `ended_at` and `ending` are None while it is going on, or where it was killed."""

    number: int
    facts: RunFacts
    begun_at: datetime
    ended_at: datetime | None
    ending: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One attempt at a variation, ended or not. `error` names class and reason."""

    number: int
    run: int
    server: str
    batch_id: str
    item_id: str | None
    state: str
    begun_at: datetime
    ended_at: datetime | None
    error: str | None


def read_fingerprint(db: sqlite3.Connection) -> str | None:
    row = db.execute("SELECT fingerprint FROM runs ORDER BY number DESC LIMIT 1").fetchone()
    return row[0] if row else None


def read_known_keys(db: sqlite3.Connection) -> CompactKeys:
    return CompactKeys(db.execute("SELECT key, state FROM points WHERE state <> 'pending'"))


def completed_indices(db: sqlite3.Connection) -> array[int]:
    rows = db.execute(f"SELECT idx FROM points WHERE definition = {_CURRENT} AND state = 'completed' ORDER BY idx")
    return array("q", [index for (index,) in rows])


def read_indices(db: sqlite3.Connection, states: Sequence[JournalState]) -> array[int]:
    slots = ", ".join("?" * len(states))
    rows = db.execute(
        f"SELECT idx FROM points WHERE definition = {_CURRENT} AND state IN ({slots}) ORDER BY idx", tuple(states)
    )
    return array("q", [index for (index,) in rows])


def keys(db: sqlite3.Connection, states: Sequence[JournalState]) -> list[str]:
    slots = ", ".join("?" * len(states))
    rows = db.execute(
        f"SELECT DISTINCT key FROM points WHERE definition = {_CURRENT} AND state IN ({slots})", tuple(states)
    )
    return [key for (key,) in rows]


def identity(db: sqlite3.Connection) -> str:
    row = db.execute("SELECT begun_at, fingerprint FROM runs ORDER BY number LIMIT 1").fetchone()
    if row is None:
        raise RecordError("No run has begun in this folder.")
    return hashlib.blake2b(f"{row[0]} {row[1]}".encode(), digest_size=8).hexdigest()


def attempts(db: sqlite3.Connection, key: str) -> int:
    row = db.execute("SELECT attempts FROM points WHERE key = ? LIMIT 1", (key,)).fetchone()
    return int(row[0]) if row else 0


def read_key_status(db: sqlite3.Connection, keys: Sequence[str]) -> dict[str, KeyStatus]:
    found = {}
    for key in keys:
        row = db.execute("SELECT state, attempts FROM points WHERE key = ? LIMIT 1", (key,)).fetchone()
        if row:
            found[key] = KeyStatus(state=None if row[0] == "pending" else row[0], attempts=row[1])
    return found


def ended_with(db: sqlite3.Connection, kind: str, url: str) -> list[str]:
    rows = db.execute(
        "SELECT batch_id FROM attempts WHERE kind = ? AND url = ? GROUP BY batch_id ORDER BY max(id) DESC LIMIT 1000",
        (kind, url),
    )
    return [batch for (batch,) in rows]


def open_intents(db: sqlite3.Connection) -> list[Intent]:
    rows = db.execute(
        "SELECT key, number, server, url, batch_id, item_id, outputs, state,"
        f" (SELECT min(idx) FROM points WHERE points.key = attempts.key AND definition = {_CURRENT}),"
        " (SELECT ending = 'cancelled' FROM runs WHERE number = attempts.run)"
        " FROM attempts WHERE ended_at IS NULL ORDER BY id"
    )
    return [
        Intent(
            key=key,
            number=number,
            server=server,
            url=url,
            batch_id=batch_id,
            item_id=item_id,
            outputs=tuple(json.loads(outputs)),
            state=state,
            index=index,
            is_cancel_requested=bool(cancelled),
        )
        for key, number, server, url, batch_id, item_id, outputs, state, index, cancelled in rows
    ]


def uploads(db: sqlite3.Connection, url: str) -> dict[str, str]:
    return dict(db.execute("SELECT sha256, name FROM uploads WHERE url = ?", (url,)).fetchall())


def counts(db: sqlite3.Connection) -> Counts:
    last = db.execute(
        f"SELECT points, axes, definition, seal = {sealing('runs')} FROM runs ORDER BY number DESC LIMIT 1"
    ).fetchone()
    if last is None:
        return Counts()
    points, axes, definition, whole = last
    _believe(whole, "the last run")
    current: dict[str, int] = {}
    former = 0
    for of, *numbers in db.execute(_NUMBERS):
        found = dict(zip(_COUNTED, numbers, strict=True))
        if of == definition:
            current = found
        else:
            former += sum(found[state] for state in OUTCOMES)
    return Counts(
        points=points,
        completed=current.get("completed", 0),
        failed=current.get("failed", 0),
        cancelled=current.get("cancelled", 0),
        open=sum(current.get(state, 0) for state in OPEN),
        former=former,
        axes=_axes(axes),
    )


def runs(db: sqlite3.Connection) -> list[RunRecord]:
    """Oldest first."""
    rows = db.execute(
        "SELECT number, fingerprint, experiment, axes, points, servers, command, sweep_version, begun_at, ended_at,"
        f" ending, seal = {sealing('runs')} FROM runs ORDER BY number"
    )
    return [_run(row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPoint:
    """A point of the current definition without an outcome: at a server, or waiting for its next attempt."""

    key: str
    index: int
    values: Mapping[str, Scalar]
    state: str  # pending: between two attempts; intended, submitted, rendered: at a server
    attempts: int


def open_points(db: sqlite3.Connection) -> list[OpenPoint]:
    """Read the points that are begun and have no outcome yet, by index."""
    slots = ", ".join("?" * len(OPEN))
    rows = db.execute(
        f"SELECT key, idx, axis_values, state, attempts FROM points WHERE definition = {_CURRENT}"
        f" AND (state IN ({slots}) OR state = 'pending' AND attempts > 0) ORDER BY idx",
        tuple(OPEN),
    )
    return [
        OpenPoint(key=key, index=index, values=json.loads(values), state=state, attempts=attempts)
        for key, index, values, state, attempts in rows
    ]


def experiment_facts(db: sqlite3.Connection) -> ExperimentFacts:
    """Return the facts of the experiment as last run; empty before the first run."""
    last = runs(db)[-1:]
    if not last:
        return ExperimentFacts()
    row = None
    if has_table(db, "experiments"):
        query = f"SELECT facts, seal = {sealing('experiments')} FROM experiments WHERE run = ?"
        row = db.execute(query, (last[0].number,)).fetchone()
    if row is None:
        return ExperimentFacts.from_yaml(last[0].facts.experiment, last[0].facts.axes)
    _believe(row[1], f"the experiment of run {last[0].number}")
    return ExperimentFacts.from_json(row[0])


def axes_of_definitions(db: sqlite3.Connection) -> Iterator[tuple[int, tuple[tuple[str, str], ...]]]:
    """(definition, its axes), the current one first."""
    rows = db.execute(
        f"SELECT definition, axes, min(seal = {sealing('runs')}) FROM runs GROUP BY definition ORDER BY definition DESC"
    )
    for definition, axes, whole in rows:
        _believe(whole, f"definition {definition}")
        yield definition, _axes(axes)


def metric_names(db: sqlite3.Connection) -> list[str]:
    """Of every metric that was ever put, sorted."""
    names = []
    for name, whole in db.execute(f"SELECT name, seal = {sealing('metric_names')} FROM metric_names ORDER BY name"):
        _believe(whole, f"the name of metric {name}")
        names.append(name)
    return names


def history(db: sqlite3.Connection, key: str) -> list[AttemptRecord]:
    """Every attempt at `key`, oldest first, those before a reopening too."""
    rows = db.execute(
        "SELECT number, run, server, batch_id, item_id, state, begun_at, ended_at, kind, message FROM attempts"
        " WHERE key = ? ORDER BY id",
        (key,),
    )
    return [
        AttemptRecord(
            number=number,
            run=run,
            server=server,
            batch_id=batch_id,
            item_id=item_id,
            state=state,
            begun_at=_known(moment(begun)),
            ended_at=moment(ended),
            error=None if kind is None else f"{kind}: {message}",
        )
        for number, run, server, batch_id, item_id, state, begun, ended, kind, message in rows
    ]


def _run(row: tuple[object, ...]) -> RunRecord:
    number, fingerprint_, experiment, axes, points, servers, command, version, begun, ended, ending, whole = row
    _believe(whole, f"run {number}")
    return RunRecord(
        number=int(str(number)),
        facts=RunFacts(
            experiment=str(experiment),
            fingerprint=str(fingerprint_),
            axes=_axes(str(axes)),
            points=int(str(points)),
            servers=tuple(json.loads(str(servers))),
            command=str(command),
            sweep_version=str(version),
        ),
        begun_at=_known(moment(int(str(begun)))),
        ended_at=None if ended is None else moment(int(str(ended))),
        ending=None if ending is None else str(ending),
    )


def _believe(whole: object, what: str) -> None:
    if not whole:
        raise BrokenSealError(f"{what} is not as it was written")


def _axes(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), str(kind)) for name, kind in json.loads(text))


def _known(at: datetime | None) -> datetime:
    assert at is not None
    return at
