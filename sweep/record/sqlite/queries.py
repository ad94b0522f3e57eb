"""The journal's reads: runs, counts, points, attempts and facts, each by one query.

A row that carries a seal is checked against it, and raises BrokenSealError where it is not as it was written.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sweep.errors import RecordError
from sweep.record.base import Counts, ExperimentFacts, Intent, JournalState, KeyStatus, RunFacts
from sweep.record.sqlite.connection import fetch, fetch_sealed, has_table
from sweep.types import Scalar

# ruff: noqa: S608  what varies in the SQL is names of states and columns, never a value

OPEN = ("intended", "submitted", "rendered")
OUTCOMES = ("completed", "failed", "cancelled")
RUN_FACTS = ("experiment", "fingerprint", "points", "command", "sweep_version")  # kept as they are
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURRENT = "(SELECT definition FROM runs ORDER BY number DESC LIMIT 1)"
_COUNTED = (*OUTCOMES, *OPEN)
_NUMBERS = "SELECT definition, {} FROM points GROUP BY definition".format(
    ", ".join(f"count(*) FILTER (WHERE state = '{state}')" for state in _COUNTED)
)
"""Grouped by what the index is sorted by, in one pass: by state as well, all rows would be sorted first."""


def to_microseconds(moment: datetime) -> int:
    """Return a time as it is stored: microseconds since 1970, UTC. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_microseconds(stored: int) -> datetime:
    """Return a stored time."""
    return EPOCH + timedelta(microseconds=stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run of the folder. `ended_at` and `ending` are None while it is going on, or where it was killed."""

    number: int
    facts: RunFacts
    begun_at: datetime
    ended_at: datetime | None
    ending: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPoint:
    """A point of the current definition without an outcome: at a server, or waiting for its next attempt."""

    key: str
    index: int
    values: Mapping[str, Scalar]
    state: str  # pending: between two attempts; intended, submitted, rendered: at a server
    attempts: int


def fingerprint(db: sqlite3.Connection) -> str | None:
    row = db.execute("SELECT fingerprint FROM runs ORDER BY number DESC LIMIT 1").fetchone()
    return row[0] if row else None


def indices(db: sqlite3.Connection, *states: JournalState) -> array[int]:
    slots = ", ".join("?" * len(states))
    query = f"SELECT idx FROM points WHERE definition = {_CURRENT} AND state IN ({slots}) ORDER BY idx"
    rows = db.execute(query, states)
    return array("q", (index for (index,) in rows))  # a list of a million numbers would take 36 MB


def keys(db: sqlite3.Connection, *states: JournalState) -> list[str]:
    slots = ", ".join("?" * len(states))
    query = f"SELECT DISTINCT key FROM points WHERE definition = {_CURRENT} AND state IN ({slots})"
    return [key for (key,) in db.execute(query, states)]


def identity(db: sqlite3.Connection) -> str:
    row = db.execute("SELECT begun_at, fingerprint FROM runs ORDER BY number LIMIT 1").fetchone()
    if row is None:
        raise RecordError("No run has begun in this folder.")
    return hashlib.blake2b(f"{row[0]} {row[1]}".encode(), digest_size=8).hexdigest()


def find_statuses(db: sqlite3.Connection, keys: Sequence[str]) -> dict[str, KeyStatus]:
    found = {}
    for key in keys:
        row = db.execute("SELECT state, attempts FROM points WHERE key = ? LIMIT 1", (key,)).fetchone()
        if row:
            found[key] = KeyStatus(state=None if row[0] == "pending" else row[0], attempts=row[1])
    return found


def list_ended_with(db: sqlite3.Connection, kind: str, url: str) -> list[str]:
    rows = db.execute(
        "SELECT batch_id FROM attempts WHERE kind = ? AND url = ? GROUP BY batch_id ORDER BY max(id) DESC LIMIT 1000",
        (kind, url),
    )
    return [batch for (batch,) in rows]


def open_intents(db: sqlite3.Connection) -> list[Intent]:
    rows = fetch(
        db,
        "SELECT key, number, server, url, batch_id, item_id, outputs, state,"
        f" (SELECT min(idx) FROM points WHERE points.key = attempts.key AND definition = {_CURRENT}) AS 'index',"
        " (SELECT ending = 'cancelled' FROM runs WHERE number = attempts.run) AS is_cancel_requested"
        " FROM attempts WHERE ended_at IS NULL ORDER BY id",
    )
    for row in rows:
        row["outputs"] = tuple(json.loads(row["outputs"]))
        row["is_cancel_requested"] = bool(row["is_cancel_requested"])
    return [Intent(**row) for row in rows]


def uploads(db: sqlite3.Connection, url: str) -> dict[str, str]:
    return dict(db.execute("SELECT sha256, name FROM uploads WHERE url = ?", (url,)).fetchall())


def counts(db: sqlite3.Connection) -> Counts:
    last = fetch_sealed(db, "runs", "ORDER BY number DESC LIMIT 1")
    if not last:
        return Counts()
    by_definition = {of: dict(zip(_COUNTED, numbers, strict=True)) for of, *numbers in db.execute(_NUMBERS)}
    current = by_definition.pop(last[0]["definition"], dict.fromkeys(_COUNTED, 0))
    return Counts(
        points=last[0]["points"],
        **{state: current[state] for state in OUTCOMES},
        open=sum(current[state] for state in OPEN),
        former=sum(found[state] for found in by_definition.values() for state in OUTCOMES),
    )


def runs(db: sqlite3.Connection) -> list[RunRecord]:
    """List the runs, oldest first."""
    return [
        RunRecord(
            number=row["number"],
            facts=RunFacts(
                **{name: row[name] for name in RUN_FACTS},
                axes=_read_axes(row["axes"]),
                servers=tuple(json.loads(row["servers"])),
            ),
            begun_at=from_microseconds(row["begun_at"]),
            ended_at=None if row["ended_at"] is None else from_microseconds(row["ended_at"]),
            ending=row["ending"],
        )
        for row in fetch_sealed(db, "runs", "ORDER BY number")
    ]


def open_points(db: sqlite3.Connection) -> list[OpenPoint]:
    """Read the points that are begun and have no outcome yet, by index."""
    rows = fetch(
        db,
        f"SELECT key, idx AS 'index', axis_values AS 'values', state, attempts FROM points"
        f" WHERE definition = {_CURRENT} AND (state IN {OPEN} OR state = 'pending' AND attempts > 0) ORDER BY idx",
    )
    return [OpenPoint(**row | {"values": json.loads(row["values"])}) for row in rows]


def experiment_facts(db: sqlite3.Connection) -> ExperimentFacts:
    """Return the facts of the experiment as last run; empty before the first run."""
    last = runs(db)[-1:]
    if not last:
        return ExperimentFacts()
    is_kept = has_table(db, "experiments")
    rows = fetch_sealed(db, "experiments", "WHERE run = ?", last[0].number) if is_kept else []
    if rows:
        return ExperimentFacts.from_json(rows[0]["facts"])
    return ExperimentFacts.from_yaml(last[0].facts.experiment, last[0].facts.axes)


def axes_by_definition(db: sqlite3.Connection) -> dict[int, tuple[tuple[str, str], ...]]:
    """Return the (name, kind) of the axes of each definition, the current one first."""
    return {row["definition"]: _read_axes(row["axes"]) for row in fetch_sealed(db, "runs", "ORDER BY number DESC")}


def _read_axes(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), str(kind)) for name, kind in json.loads(text))


def metric_names(db: sqlite3.Connection) -> list[str]:
    """Return the name of every metric that was ever put, sorted."""
    return [row["name"] for row in fetch_sealed(db, "metric_names", "ORDER BY name")]
