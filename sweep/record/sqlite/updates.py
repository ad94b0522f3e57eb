"""The journal's writes: each step of a variation, and what else a run puts on record.

A step checks that it is legal before it changes anything, and raises RecordError where it is not.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sweep.errors import RecordError
from sweep.record.base import Failure, Intent, JournalPoint, Rendering, RunFacts, Times
from sweep.record.sqlite.connection import FULL_CACHE, RUN_CACHE, SEALED, build_update, fetch, insert
from sweep.record.sqlite.queries import OPEN, OUTCOMES, RUN_FACTS, to_microseconds

# ruff: noqa: S608  what varies in the SQL is column names from connection.py, never a value

_RENDERING = SEALED["images"][2:]  # the fields of a Rendering
_NONE_OPEN = "has no open attempt"
_IS_OPEN = f" AND state IN {OPEN}"
_TIMES = ("queued_at", "started_at", "finished_at")
_KNOWN_TIMES = {name: f"coalesce(:{name}, {name})" for name in _TIMES}  # those that are not known stay what they were
_NO_TIMES = dict.fromkeys(_TIMES, "NULL")
_TOGETHER = 500  # points that one statement looks up
_ENCODER = json.JSONEncoder(ensure_ascii=False)


def begin_run(db: sqlite3.Connection, facts: RunFacts, points: Iterable[JournalPoint] = ()) -> int:
    last = db.execute("SELECT number, definition, fingerprint FROM runs ORDER BY number DESC LIMIT 1").fetchone()
    number, definition = (last[0] + 1, last[1] + (last[2] != facts.fingerprint)) if last else (1, 1)
    run = {
        **_pick(facts, RUN_FACTS),
        "number": number,
        "definition": definition,
        "axes": json.dumps(facts.axes),
        "servers": json.dumps([dict(server) for server in facts.servers]),
        "begun_at": _now(),
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


def end_run(db: sqlite3.Connection, run: int, ending: str, points: int | None = None) -> None:
    ended = (("ended_at", ":now"), ("ending", ":ending"), ("points", "coalesce(:points, points)"))
    values = {"now": _now(), "ending": ending, "points": points, "run": run}
    if not db.execute(build_update("runs", ended, "number = :run"), values).rowcount:
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


def rebase(db: sqlite3.Connection, points: Sequence[JournalPoint]) -> None:
    _, definition = _find_current(db)
    for point in points:
        if _find_state(db, point.key) is None:
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


def intend(db: sqlite3.Connection, point: JournalPoint, intent: Intent) -> None:
    run, definition = _find_current(db)
    state = _find_state(db, point.key)
    if state not in (None, "pending"):
        raise RecordError(f"Key {point.key} is {state}; it cannot be attempted.")
    if state is None:
        _insert_point(db, point, definition, state="intended", attempts=1, server=intent.server)
    else:
        _place(db, point, definition)
        counted = {"state": "'intended'", "attempts": "attempts + 1", "server": ":server"}
        _set(db, point.key, counted, server=intent.server)
    attempt = {
        **_pick(intent, ("key", "number", "server", "url", "batch_id", "item_id")),
        "state": "intended",
        "run": run,
        "outputs": json.dumps(intent.outputs),
        "begun_at": _now(),
    }
    insert(db, "attempts", attempt)


def mark_submitted(db: sqlite3.Connection, batch_id: str, item_id: str) -> None:
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


def mark_rendered(db: sqlite3.Connection, key: str, times: Times) -> None:
    _set_open(db, key, {"state": "'rendered'", **_KNOWN_TIMES}, **_name_times(times))
    db.execute("UPDATE attempts SET state = 'rendered' WHERE key = ? AND ended_at IS NULL", (key,))


def complete(db: sqlite3.Connection, key: str, renderings: Sequence[Rendering], times: Times) -> None:
    images = [
        {"key": key, "ordinal": ordinal, **_pick(one, _RENDERING), "image_name": _make_storable(one.image_name)}
        for ordinal, one in enumerate(renderings)
    ]
    if not images:
        raise RecordError(f"Key {key} cannot be completed without an image.")
    done = {"state": "'completed'", "kind": "NULL", "message": "NULL", **_KNOWN_TIMES}
    try:
        _set_open(db, key, done, **_name_times(times))
    except RecordError:
        if _find_state(db, key) != "completed":
            raise
        columns = ", ".join(SEALED["images"])
        if fetch(db, f"SELECT {columns} FROM images WHERE key = ? ORDER BY ordinal", key) != images:
            raise RecordError(f"Key {key} is completed already, with other images.") from None
        return
    for image in images:
        insert(db, "images", image)
    _end_attempt(db, key, "completed")


def mark_attempt_failed(db: sqlite3.Connection, key: str, failure: Failure) -> None:
    _set_open(db, key, {"state": "'pending'", **_NO_TIMES})
    _end_attempt(db, key, "failed", failure)


def withdraw(db: sqlite3.Connection, key: str) -> None:
    _set_open(db, key, {"state": "'pending'", "attempts": "attempts - 1", **_NO_TIMES})
    db.execute("DELETE FROM attempts WHERE key = ? AND ended_at IS NULL", (key,))


def fail(db: sqlite3.Connection, point: JournalPoint, failure: Failure) -> None:
    _, definition = _find_current(db)
    state = _find_state(db, point.key)
    if state == "failed":
        kept = db.execute("SELECT kind, message FROM points WHERE key = ?", (point.key,)).fetchone()
        if kept == _write_failure(failure):
            return
    if state in OUTCOMES:
        raise RecordError(f"Key {point.key} is {state}; it cannot fail.")
    _place(db, point, definition)
    if state in OPEN:
        _end_attempt(db, point.key, "failed", failure)
    kind, message = _write_failure(failure)
    _set(db, point.key, {"state": "'failed'", "kind": ":kind", "message": ":message"}, kind=kind, message=message)


def write_cancelled(db: sqlite3.Connection, key: str) -> None:
    state = _find_state(db, key)
    if state == "cancelled":
        return
    if state is None or state in OUTCOMES:
        raise RecordError(f"Key {key} is {state or 'not on record'}; it cannot be cancelled.")
    if state in OPEN:
        _end_attempt(db, key, "cancelled")
    _set(db, key, {"state": "'cancelled'"})


def reopen(db: sqlite3.Connection, keys: Sequence[str]) -> int:
    found = {key for key in keys if _find_state(db, key) in OUTCOMES}
    nothing = dict.fromkeys(("kind", "message", "server", *_TIMES), "NULL")
    for key in found:
        db.execute("DELETE FROM images WHERE key = ?", (key,))
        _set(db, key, {"state": "'pending'", "attempts": "0", **nothing})
    return len(found)


def keep_input(db: sqlite3.Connection, sha256: str, path: str, name: str, width: int, height: int) -> None:
    row = {"sha256": sha256, "path": path, "name": name, "width": width, "height": height}
    insert(db, "inputs", row, verb="INSERT OR REPLACE")


def keep_uploads(db: sqlite3.Connection, url: str, names: Mapping[str, str]) -> None:
    rows = [(url, sha256, _make_storable(name)) for sha256, name in names.items()]
    db.executemany("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?)", rows)


def _find_current(db: sqlite3.Connection) -> tuple[int, int]:
    """Return number and definition of the last run."""
    row = db.execute("SELECT number, definition FROM runs ORDER BY number DESC LIMIT 1").fetchone()
    if row is None:
        raise RecordError("No run has begun in this folder.")
    return row[0], row[1]


def _find_state(db: sqlite3.Connection, key: str) -> str | None:
    row = db.execute("SELECT state FROM points WHERE key = ? LIMIT 1", (key,)).fetchone()
    return row[0] if row else None


def _place(db: sqlite3.Connection, point: JournalPoint, definition: int) -> None:
    """Put the point into its row: the one at its index, else one of an earlier definition, else a new one."""
    rows = db.execute("SELECT id, definition, idx FROM points WHERE key = ?", (point.key,)).fetchall()
    own = [row for row in rows if row[1:] == (definition, point.index)] or [row for row in rows if row[1] < definition]
    if not rows:
        _insert_point(db, point, definition)
    else:
        rowid = own[0][0] if own else _copy(db, rows[0][0])
        new = {"id": rowid, "definition": definition, "index": point.index, "values": _write_values(point)}
        db.execute(_MOVE_ROW, new)


def _insert_point(db: sqlite3.Connection, point: JournalPoint, definition: int, **begun: object) -> None:
    """Put a key that is not on record into a new row: pending, but for what `begun` says."""
    row = {
        **_pick(point, ("key", "prompt", "model", "source")),
        "definition": definition,
        "idx": point.index,
        "axis_values": _write_values(point),
        "state": "pending",
        "attempts": 0,
        **begun,
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
_MOVE = build_update(
    "points", _MOVED, "id = (SELECT id FROM points WHERE key = :key AND definition < :definition LIMIT 1)"
)
_MOVE_ROW = build_update("points", _MOVED, "id = :id")


def _set(db: sqlite3.Connection, key: str, new: Mapping[str, str], where: str = "", **values: object) -> int:
    """Set columns of the rows of `key` to SQL expressions over `values`; return how many rows those are."""
    return db.execute(build_update("points", tuple(new.items()), f"key = :key{where}"), {"key": key, **values}).rowcount


def _set_open(db: sqlite3.Connection, key: str, new: Mapping[str, str], **values: object) -> None:
    """Set columns of a key with an open attempt. Raises RecordError, with nothing changed, where it has none."""
    if not _set(db, key, new, _IS_OPEN, **values):
        raise RecordError(f"Key {key} is {_find_state(db, key) or 'not on record'} and {_NONE_OPEN}.")


def _name_times(times: Times) -> dict[str, int | None]:
    known = ((name, getattr(times, name)) for name in _TIMES)
    return {name: None if moment is None else to_microseconds(moment) for name, moment in known}


def _end_attempt(db: sqlite3.Connection, key: str, state: str, failure: Failure | None = None) -> None:
    kind, message = _write_failure(failure) if failure else (None, None)
    db.execute(
        "UPDATE attempts SET state = ?, ended_at = ?, kind = ?, message = ? WHERE key = ? AND ended_at IS NULL",
        (state, _now(), kind, message, key),
    )


def _pick(record: object, names: Iterable[str]) -> dict[str, Any]:
    """Return these attributes, named as the columns that keep them."""
    return {name: getattr(record, name) for name in names}


def _write_failure(failure: Failure) -> tuple[str, str]:
    return _make_storable(failure.kind), _make_storable(failure.message)


def _make_storable(text: str) -> str:
    """Make what a server sent storable: JSON can hold halves of surrogate pairs, UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode()


def _now() -> int:
    return to_microseconds(datetime.now(UTC))
