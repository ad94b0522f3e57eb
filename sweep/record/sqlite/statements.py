"""The SQL of the journal: each question that is asked of it, and each step of a variation that is written to it.

A step checks that it is legal before it changes anything, and raises RecordError where it is not.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from sweep.errors import RecordError
from sweep.record.base import (
    Counts,
    ExperimentFacts,
    Failure,
    Intent,
    JournalPoint,
    JournalState,
    KeyStatus,
    Rendering,
    RunFacts,
    Times,
)
from sweep.record.sqlite.connection import (
    FULL_CACHE,
    RUN_CACHE,
    SEALED,
    BrokenSealError,
    fetch,
    has_table,
    insert,
    sealing,
    updating,
)
from sweep.types import Scalar

# ruff: noqa: S608  what varies in the SQL is column names from connection.py, never a value

OPEN = ("intended", "submitted", "rendered")
OUTCOMES = ("completed", "failed", "cancelled")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RENDERING = SEALED["images"][2:]  # the fields of a Rendering
_RUN_FACTS = ("experiment", "fingerprint", "points", "command", "sweep_version")
_NONE_OPEN = "has no open attempt"
_IS_OPEN = f" AND state IN {OPEN}"
_TIMES = ("queued_at", "started_at", "finished_at")
_KNOWN_TIMES = {name: f"coalesce(:{name}, {name})" for name in _TIMES}  # those that are not known stay what they were
_NO_TIMES = dict.fromkeys(_TIMES, "NULL")
_TOGETHER = 500  # points that one statement looks up
_ENCODER = json.JSONEncoder(ensure_ascii=False)


def to_microseconds(moment: datetime) -> int:
    """Return a time as it is stored: microseconds since 1970, UTC. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(stored: int) -> datetime:
    """Return a stored time."""
    return _EPOCH + timedelta(microseconds=stored)


_CURRENT = "(SELECT definition FROM runs ORDER BY number DESC LIMIT 1)"
_COUNTED = (*OUTCOMES, *OPEN)
_NUMBERS = "SELECT definition, {} FROM points GROUP BY definition".format(
    ", ".join(f"count(*) FILTER (WHERE state = '{state}')" for state in _COUNTED)
)
"""Grouped by what the index is sorted by, in one pass: by state as well, all rows would be sorted first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run of the folder. `ended_at` and `ending` are None while it is going on, or where it was killed."""

    number: int
    facts: RunFacts
    begun_at: datetime
    ended_at: datetime | None
    ending: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """An attempt at a variation, ended or not. `error` names class and reason."""

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


def read_indices(db: sqlite3.Connection, *states: JournalState) -> array[int]:
    slots = ", ".join("?" * len(states))
    query = f"SELECT idx FROM points WHERE definition = {_CURRENT} AND state IN ({slots}) ORDER BY idx"
    rows = db.execute(query, states)
    return array("q", [index for (index,) in rows])


def keys(db: sqlite3.Connection, *states: JournalState) -> list[str]:
    slots = ", ".join("?" * len(states))
    query = f"SELECT DISTINCT key FROM points WHERE definition = {_CURRENT} AND state IN ({slots})"
    return [key for (key,) in db.execute(query, states)]


def identity(db: sqlite3.Connection) -> str:
    row = db.execute("SELECT begun_at, fingerprint FROM runs ORDER BY number LIMIT 1").fetchone()
    if row is None:
        raise RecordError("No run has begun in this folder.")
    return hashlib.blake2b(f"{row[0]} {row[1]}".encode(), digest_size=8).hexdigest()


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
    query = f"SELECT points, axes, definition, seal = {sealing('runs')} FROM runs ORDER BY number DESC LIMIT 1"
    last = db.execute(query).fetchone()
    if last is None:
        return Counts()
    points, axes, definition, whole = last
    _believe(whole, "the last run")
    by_definition = {of: dict(zip(_COUNTED, numbers, strict=True)) for of, *numbers in db.execute(_NUMBERS)}
    current = by_definition.pop(definition, dict.fromkeys(_COUNTED, 0))
    return Counts(
        points=points,
        **{state: current[state] for state in OUTCOMES},
        open=sum(current[state] for state in OPEN),
        former=sum(found[state] for found in by_definition.values() for state in OUTCOMES),
        axes=_axes(axes),
    )


def runs(db: sqlite3.Connection) -> list[RunRecord]:
    """List the runs, oldest first."""
    return [_run(row) for row in fetch(db, f"SELECT *, seal = {sealing('runs')} AS whole FROM runs ORDER BY number")]


def _run(row: dict[str, Any]) -> RunRecord:
    _believe(row["whole"], f"run {row['number']}")
    lists = {"axes": _axes(row["axes"]), "servers": tuple(json.loads(row["servers"]))}
    return RunRecord(
        number=row["number"],
        facts=RunFacts(**{name: row[name] for name in _RUN_FACTS} | lists),
        begun_at=from_microseconds(row["begun_at"]),
        ended_at=None if row["ended_at"] is None else from_microseconds(row["ended_at"]),
        ending=row["ending"],
    )


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
    row = None
    if has_table(db, "experiments"):
        query = f"SELECT facts, seal = {sealing('experiments')} FROM experiments WHERE run = ?"
        row = db.execute(query, (last[0].number,)).fetchone()
    if row is None:
        return ExperimentFacts.from_yaml(last[0].facts.experiment, last[0].facts.axes)
    _believe(row[1], f"the experiment of run {last[0].number}")
    return ExperimentFacts.from_json(row[0])


def axes_of_definitions(db: sqlite3.Connection) -> Iterator[tuple[int, tuple[tuple[str, str], ...]]]:
    """Yield (definition, its axes), the current one first."""
    rows = db.execute(
        f"SELECT definition, axes, min(seal = {sealing('runs')}) FROM runs GROUP BY definition ORDER BY definition DESC"
    )
    for definition, axes, whole in rows:
        _believe(whole, f"definition {definition}")
        yield definition, _axes(axes)


def metric_names(db: sqlite3.Connection) -> list[str]:
    """Return the name of every metric that was ever put, sorted."""
    names = []
    for name, whole in db.execute(f"SELECT name, seal = {sealing('metric_names')} FROM metric_names ORDER BY name"):
        _believe(whole, f"the name of metric {name}")
        names.append(name)
    return names


def history(db: sqlite3.Connection, key: str) -> list[AttemptRecord]:
    """List every attempt at `key`, oldest first, those before a reopening too."""
    rows = fetch(
        db,
        "SELECT number, run, server, batch_id, item_id, state, begun_at, ended_at, kind || ': ' || message AS error"
        " FROM attempts WHERE key = ? ORDER BY id",
        key,
    )
    for row in rows:
        row["begun_at"] = from_microseconds(row["begun_at"])
        row["ended_at"] = None if row["ended_at"] is None else from_microseconds(row["ended_at"])
    return [AttemptRecord(**row) for row in rows]


def _believe(whole: object, what: str) -> None:
    if not whole:
        raise BrokenSealError(f"{what} is not as it was written")


def _axes(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), str(kind)) for name, kind in json.loads(text))


def begin_run(db: sqlite3.Connection, now: datetime, facts: RunFacts, points: Iterable[JournalPoint] = ()) -> int:
    last = db.execute("SELECT number, definition, fingerprint FROM runs ORDER BY number DESC LIMIT 1").fetchone()
    number, definition = (last[0] + 1, last[1] + (last[2] != facts.fingerprint)) if last else (1, 1)
    run = {
        **_pick(facts, _RUN_FACTS),
        "number": number,
        "definition": definition,
        "axes": json.dumps(facts.axes),
        "servers": json.dumps([dict(server) for server in facts.servers]),
        "begun_at": to_microseconds(now),
    }
    insert(db, "runs", run)
    if facts.experiment_facts is not None:
        insert(db, "experiments", {"run": number, "facts": facts.experiment_facts.to_json()})
    if db.execute("SELECT 1 FROM points LIMIT 1").fetchone():  # else computing their keys would be in vain
        db.execute(f"PRAGMA cache_size = -{FULL_CACHE}")
        coming = iter(points)
        while chunk := list(islice(coming, _TOGETHER)):
            _move_to(db, definition, chunk)
        db.execute(f"PRAGMA cache_size = -{RUN_CACHE}")
    return number


def end_run(db: sqlite3.Connection, now: datetime, run: int, ending: str, points: int | None = None) -> None:
    ended = (("ended_at", ":now"), ("ending", ":ending"), ("points", "coalesce(:points, points)"))
    values = {"now": to_microseconds(now), "ending": ending, "points": points, "run": run}
    if not db.execute(updating("runs", ended, "number = :run"), values).rowcount:
        raise RecordError(f"There is no run {run} on record.")


def _move_to(db: sqlite3.Connection, definition: int, chunk: Sequence[JournalPoint]) -> None:
    """Give points of a new definition the rows of earlier ones, where their keys are on record."""
    query = f"SELECT key FROM points WHERE key IN ({', '.join('?' * len(chunk))})"
    known = {key for (key,) in db.execute(query, [point.key for point in chunk])}
    there = [point for point in chunk if point.key in known]
    rows = [
        {"key": point.key, "definition": definition, "index": point.index, "values": _write_values(point)}
        for point in there
    ]
    if db.executemany(_MOVE, rows).rowcount < len(there):  # some have one key: they need a row each
        for point in there:
            _place(db, point, definition)


def rebase(db: sqlite3.Connection, points: Iterable[JournalPoint]) -> None:
    _, definition = _current(db)
    for point in points:
        if _state(db, point.key) is None:
            raise RecordError(f"Key {point.key} is not on record.")
        _place(db, point, definition)


def seeds(db: sqlite3.Connection, axis: str, count: int, draw: Callable[[], int]) -> tuple[int, ...]:
    row = db.execute("SELECT drawn FROM seeds WHERE axis = ?", (axis,)).fetchone()
    drawn: list[int] = json.loads(row[0]) if row else []
    if len(drawn) < count:
        distinct = dict.fromkeys(drawn)
        while len(distinct) < count:
            distinct[draw()] = None
        drawn = list(distinct)
        insert(db, "seeds", {"axis": axis, "drawn": json.dumps(drawn)}, verb="INSERT OR REPLACE")
    return tuple(drawn[:count])


def intend(db: sqlite3.Connection, now: datetime, point: JournalPoint, intent: Intent) -> None:
    run, definition = _current(db)
    state = _state(db, point.key)
    if state not in (None, "pending"):
        raise RecordError(f"Key {point.key} is {state}; it cannot be attempted.")
    if state is None:
        _insert_point(db, point, definition, "intended", 1, intent.server)
    else:
        _place(db, point, definition)
        counted = {"state": "'intended'", "attempts": "attempts + 1", "server": ":server"}
        _set(db, point.key, counted, server=intent.server)
    attempt = {
        **_pick(intent, ("key", "number", "server", "url", "batch_id", "item_id")),
        "state": "intended",
        "run": run,
        "outputs": json.dumps(intent.outputs),
        "begun_at": to_microseconds(now),
    }
    insert(db, "attempts", attempt)


def submitted(db: sqlite3.Connection, batch_id: str, item_id: str) -> None:
    rows = db.execute("SELECT key, state FROM attempts WHERE batch_id = ? AND ended_at IS NULL", (batch_id,)).fetchall()
    if not rows:
        raise RecordError(f"Batch {batch_id} {_NONE_OPEN}.")
    db.execute(
        "UPDATE attempts SET item_id = ?, state = CASE state WHEN 'intended' THEN 'submitted' ELSE state END"
        " WHERE batch_id = ? AND ended_at IS NULL",
        (item_id, batch_id),
    )
    for key, state in rows:
        if state == "intended":
            _set(db, key, {"state": "'submitted'"})


def write_rendered(db: sqlite3.Connection, key: str, times: Times) -> None:
    _set_open(db, key, {"state": "'rendered'", **_KNOWN_TIMES}, **_name_times(times))
    db.execute("UPDATE attempts SET state = 'rendered' WHERE key = ? AND ended_at IS NULL", (key,))


def write_completed(
    db: sqlite3.Connection, now: datetime, key: str, renderings: Sequence[Rendering], times: Times
) -> None:
    images = [
        {"key": key, "ordinal": ordinal, **_pick(one, _RENDERING), "image_name": _text(one.image_name)}
        for ordinal, one in enumerate(renderings)
    ]
    if not images:
        raise RecordError(f"Key {key} cannot be completed without an image.")
    done = {"state": "'completed'", "kind": "NULL", "message": "NULL", **_KNOWN_TIMES}
    try:
        _set_open(db, key, done, **_name_times(times))
    except RecordError:
        if _state(db, key) != "completed":
            raise
        columns = ", ".join(SEALED["images"])
        if fetch(db, f"SELECT {columns} FROM images WHERE key = ? ORDER BY ordinal", key) != images:
            raise RecordError(f"Key {key} is completed already, with other images.") from None
        return
    for image in images:
        insert(db, "images", image)
    _end_attempt(db, key, "completed", now)


def attempt_failed(db: sqlite3.Connection, now: datetime, key: str, failure: Failure) -> None:
    _set_open(db, key, {"state": "'pending'", **_NO_TIMES})
    _end_attempt(db, key, "failed", now, failure)


def withdraw(db: sqlite3.Connection, key: str) -> None:
    _set_open(db, key, {"state": "'pending'", "attempts": "attempts - 1", **_NO_TIMES})
    db.execute("DELETE FROM attempts WHERE key = ? AND ended_at IS NULL", (key,))


def fail(db: sqlite3.Connection, now: datetime, point: JournalPoint, failure: Failure) -> None:
    _, definition = _current(db)
    state = _state(db, point.key)
    if state == "failed":
        kept = db.execute("SELECT kind, message FROM points WHERE key = ?", (point.key,)).fetchone()
        if kept == _told(failure):
            return
    if state in OUTCOMES:
        raise RecordError(f"Key {point.key} is {state}; it cannot fail.")
    _place(db, point, definition)
    if state in OPEN:
        _end_attempt(db, point.key, "failed", now, failure)
    kind, message = _told(failure)
    _set(db, point.key, {"state": "'failed'", "kind": ":kind", "message": ":message"}, kind=kind, message=message)


def write_cancelled(db: sqlite3.Connection, now: datetime, key: str) -> None:
    state = _state(db, key)
    if state == "cancelled":
        return
    if state is None or state in OUTCOMES:
        raise RecordError(f"Key {key} is {state or 'not on record'}; it cannot be cancelled.")
    if state in OPEN:
        _end_attempt(db, key, "cancelled", now)
    _set(db, key, {"state": "'cancelled'"})


def reopen(db: sqlite3.Connection, keys: Iterable[str]) -> int:
    return _forget_outcomes(db, keys, ("failed", "cancelled"))


def forget(db: sqlite3.Connection, keys: Iterable[str]) -> int:
    return _forget_outcomes(db, keys, ("completed",))


def _forget_outcomes(db: sqlite3.Connection, keys: Iterable[str], states: Sequence[str]) -> int:
    """Make those of `keys` that are in one of these states pending, without images; return how many they were."""
    found = {key for key in keys if _state(db, key) in states}
    nothing = dict.fromkeys(("kind", "message", "server", *_TIMES), "NULL")
    for key in found:
        db.execute("DELETE FROM images WHERE key = ?", (key,))
        _set(db, key, {"state": "'pending'", "attempts": "0", **nothing})
    return len(found)


def keep_input(db: sqlite3.Connection, sha256: str, path: str, name: str, width: int, height: int) -> None:
    row = {"sha256": sha256, "path": path, "name": name, "width": width, "height": height}
    insert(db, "inputs", row, verb="INSERT OR REPLACE")


def keep_uploads(db: sqlite3.Connection, url: str, names: Mapping[str, str]) -> None:
    rows = [(url, sha256, _text(name)) for sha256, name in names.items()]
    db.executemany("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?)", rows)


def _current(db: sqlite3.Connection) -> tuple[int, int]:
    """Return number and definition of the last run."""
    row = db.execute("SELECT number, definition FROM runs ORDER BY number DESC LIMIT 1").fetchone()
    if row is None:
        raise RecordError("No run has begun in this folder.")
    return row[0], row[1]


def _state(db: sqlite3.Connection, key: str) -> str | None:
    row = db.execute("SELECT state FROM points WHERE key = ? LIMIT 1", (key,)).fetchone()
    return row[0] if row else None


def _place(db: sqlite3.Connection, point: JournalPoint, definition: int) -> None:
    """Put the point into its row: the one at its index, else one of an earlier definition, else a new one."""
    rows = db.execute("SELECT id, definition, idx FROM points WHERE key = ?", (point.key,)).fetchall()
    own = [row for row in rows if row[1:] == (definition, point.index)] or [row for row in rows if row[1] < definition]
    if not rows:
        _insert_point(db, point, definition, "pending", 0, None)
    else:
        rowid = own[0][0] if own else _copy(db, rows[0][0])
        new = {"id": rowid, "definition": definition, "index": point.index, "values": _write_values(point)}
        db.execute(_MOVE_ROW, new)


def _insert_point(
    db: sqlite3.Connection, point: JournalPoint, definition: int, state: str, attempts: int, server: str | None
) -> None:
    """Put a key that is not on record into a new row."""
    row = {
        **_pick(point, ("key", "prompt", "model", "source")),
        "definition": definition,
        "idx": point.index,
        "axis_values": _write_values(point),
        "state": state,
        "attempts": attempts,
        "server": server,
    }
    insert(db, "points", row)


def _write_values(point: JournalPoint) -> str:
    return _ENCODER.encode(dict(point.values))


def _copy(db: sqlite3.Connection, rowid: int) -> int | None:
    columns = ", ".join(SEALED["points"])
    return db.execute(
        f"INSERT INTO points ({columns}, seal) SELECT {columns}, seal FROM points WHERE id = ?", (rowid,)
    ).lastrowid


# A key decides prompt, model and source: they stay.
_MOVED = (("definition", ":definition"), ("idx", ":index"), ("axis_values", ":values"))
_MOVE = updating("points", _MOVED, "id = (SELECT id FROM points WHERE key = :key AND definition < :definition LIMIT 1)")
_MOVE_ROW = updating("points", _MOVED, "id = :id")


def _set(db: sqlite3.Connection, key: str, new: Mapping[str, str], where: str = "", **values: object) -> int:
    """Set columns of the rows of `key` to SQL expressions over `values`; return how many rows those are."""
    return db.execute(updating("points", tuple(new.items()), f"key = :key{where}"), {"key": key, **values}).rowcount


def _set_open(db: sqlite3.Connection, key: str, new: Mapping[str, str], **values: object) -> None:
    """Set columns of a key with an open attempt. Raises RecordError, with nothing changed, where it has none."""
    if not _set(db, key, new, _IS_OPEN, **values):
        raise RecordError(f"Key {key} is {_state(db, key) or 'not on record'} and {_NONE_OPEN}.")


def _name_times(times: Times) -> dict[str, int | None]:
    known = ((name, getattr(times, name)) for name in _TIMES)
    return {name: None if moment is None else to_microseconds(moment) for name, moment in known}


def _end_attempt(db: sqlite3.Connection, key: str, state: str, now: datetime, failure: Failure | None = None) -> None:
    kind, message = _told(failure) if failure else (None, None)
    db.execute(
        "UPDATE attempts SET state = ?, ended_at = ?, kind = ?, message = ? WHERE key = ? AND ended_at IS NULL",
        (state, to_microseconds(now), kind, message, key),
    )


def _pick(record: object, names: Iterable[str]) -> dict[str, Any]:
    """Return these attributes, named as the columns that keep them."""
    return {name: getattr(record, name) for name in names}


def _told(failure: Failure) -> tuple[str, str]:
    return _text(failure.kind), _text(failure.message)


def _text(text: str) -> str:
    """Make what a server sent storable: JSON can hold halves of surrogate pairs, UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode()
