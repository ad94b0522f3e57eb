"""Writes to the journal: one thread, group commits, one method for each step of a variation.

An operation once queued is carried out whatever becomes of the task that waits for it: a cancelled caller never halves
a write. After an error of the disk or of SQLite itself, every later operation is refused with that error, because what
is in the file is then unknown.

Operations that nobody's next request waits for linger a moment, so that they share the commit of one that is urgent:
a variation then costs one commit, not four.

Each checks that the step is legal before it changes anything, and raises RecordError where it is not.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sweep.errors import RecordError
from sweep.record.atomic_files import Checkpoint
from sweep.record.base import Failure, Intent, JournalPoint, Rendering, RunFacts, Times
from sweep.record.sqlite.schema import FULL_CACHE, RUN_CACHE, SEALED, corrupt, record_error, seal, sealing

_T = TypeVar("_T")
_MOST_AT_ONCE = 512  # operations in one commit
_ONCE = frozenset({"begin_run"})  # reads an iterator, so it cannot be carried out a second time


@dataclass(frozen=True, slots=True)
class _Operation:
    name: str
    apply: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class Writer:
    """Owns `db` from now on. `commits` counts the transactions committed so far."""

    def __init__(self, db: sqlite3.Connection, place: Path, checkpoint: Checkpoint, linger: float = 0.0) -> None:
        self._db = db
        self._place = place
        self._checkpoint = checkpoint
        self._linger = linger
        self._lingering: list[_Operation] = []
        self._queue: queue.SimpleQueue[list[_Operation] | None] = queue.SimpleQueue()
        self._broken: RecordError | None = None
        self._closed = False
        self.commits = 0
        self._thread = threading.Thread(target=self._serve, name="sweep-journal", daemon=True)
        self._thread.start()

    async def do(self, name: str, apply: Callable[[sqlite3.Connection], _T], *, urgent: bool = True) -> _T:
        """Run `apply` inside a transaction and return its result once that is durable.

        A RecordError raised by `apply` undoes this operation alone and is raised here. One that is not `urgent` waits
        up to `linger` seconds for others to share the commit with; it never changes places with them.
        """
        if self._closed:
            raise RecordError(f"{self._place} has been closed.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._lingering.append(_Operation(name, apply, future, loop))
        if urgent or not self._linger:
            self._flush()
        elif len(self._lingering) == 1:
            loop.call_later(self._linger, self._flush)
        return await future

    def _flush(self) -> None:
        """Give the thread what lingers; it is not woken before, which costs more than the operation."""
        if self._lingering:
            self._queue.put(self._lingering)
            self._lingering = []

    async def aclose(self) -> None:
        """Carry out what is queued, then close the file. May be called again."""
        if not self._closed:
            self._closed = True
            self._flush()
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _serve(self) -> None:
        open_ = True
        while open_:
            batch, open_ = self._take()
            if batch:
                _answer(batch, self._results(batch))
        self._db.close()

    def _take(self) -> tuple[list[_Operation], bool]:
        """Return the next operations, and whether more may come."""
        batch: list[_Operation] = []
        item = self._queue.get()
        while item is not None:
            batch += item
            if len(batch) >= _MOST_AT_ONCE:
                return batch, True
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _results(self, batch: list[_Operation]) -> list[Any]:
        """Return one result an operation; an exception where it failed."""
        if self._broken is None:
            try:
                return self._commit(batch)
            except sqlite3.Error as error:
                self._broken = record_error(error, self._place)
            except Exception as error:  # noqa: BLE001  a thread that ended would leave its callers waiting for ever
                self._broken = RecordError(f"{self._place} could not be written ({error!r}).")
            self._roll_back()
        broken = self._broken
        return [type(broken)(broken.message, hint=broken.hint) for _ in batch]

    def _commit(self, batch: list[_Operation]) -> list[Any]:
        """Carry the batch out in one transaction; where one of it is refused, anew with a savepoint for each.

        An operation by itself has none: SQLite would copy every page it changes, all of a large journal for an edited
        definition.
        """
        self._db.execute("BEGIN IMMEDIATE")
        if len(batch) == 1:
            results = [self._apply(batch[0], "ROLLBACK", "BEGIN IMMEDIATE")]
        else:
            results = self._apply_unguarded(batch) or [self._apply_guarded(operation) for operation in batch]
        for operation in batch:
            self._checkpoint(f"{operation.name}.before-commit")
        self._db.execute("COMMIT")
        self.commits += 1
        for operation in batch:
            self._checkpoint(f"{operation.name}.after-commit")
        return results

    def _apply_unguarded(self, batch: list[_Operation]) -> list[Any] | None:
        """Return the results, or None where one was refused, and none carried out: a savepoint costs two statements."""
        if any(operation.name in _ONCE for operation in batch):
            return None
        try:
            return [operation.apply(self._db) for operation in batch]
        except Exception as error:
            if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError):
                raise
            self._db.execute("ROLLBACK")
            self._db.execute("BEGIN IMMEDIATE")
            return None

    def _apply_guarded(self, operation: _Operation) -> Any:
        self._db.execute("SAVEPOINT operation")
        result = self._apply(operation, "ROLLBACK TO operation")
        self._db.execute("RELEASE operation")
        return result

    def _apply(self, operation: _Operation, *undo: str) -> Any:
        """Return the result of the operation, or the error it is refused with, undone by these statements."""
        try:
            return operation.apply(self._db)
        except sqlite3.IntegrityError as error:
            refusal: Exception = record_error(error, self._place)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001  handed to the caller: the thread serves the others
            damaged = isinstance(error, UnicodeDecodeError | json.JSONDecodeError)
            refusal = corrupt(self._place, str(error)) if damaged else error
        for statement in undo:
            self._db.execute(statement)
        return refusal

    def _roll_back(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._broken = record_error(error, self._place)


def _answer(batch: list[_Operation], results: list[Any]) -> None:
    """Tell the callers, all of one loop at once; a loop that was closed meanwhile has nobody left to tell."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for operation, result in zip(batch, results, strict=True):
        loops.setdefault(operation.loop, []).append((operation.future, result))
    for loop, answers in loops.items():
        with suppress(RuntimeError):  # it is closed
            loop.call_soon_threadsafe(_settle, answers)


def _settle(answers: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in answers:
        if future.done():  # its task was cancelled
            continue
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)


# ruff: noqa: S608  what varies in the SQL is column names from schema.py, never a value


OPEN = ("intended", "submitted", "rendered")
OUTCOMES = ("completed", "failed", "cancelled")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_IMAGE_COLUMNS = SEALED["images"]
_NONE_OPEN = "has no open attempt"
_IS_OPEN = f" AND state IN {OPEN}"
_TIMES = ("queued_at", "started_at", "finished_at")
_KNOWN_TIMES = {name: f"coalesce(:{name}, {name})" for name in _TIMES}  # those that are not known stay what they were
_NO_TIMES = dict.fromkeys(_TIMES, "NULL")
_TOGETHER = 500  # points that one statement looks up
_ENCODER = json.JSONEncoder(ensure_ascii=False)


def microseconds(moment: datetime | None) -> int | None:
    """Return how times are stored: since 1970, UTC. Raises ValueError for a naive one."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment(microseconds_since_1970: int | None) -> datetime | None:
    """Return the inverse of `microseconds`."""
    return None if microseconds_since_1970 is None else _EPOCH + timedelta(microseconds=microseconds_since_1970)


def begin_run(db: sqlite3.Connection, facts: RunFacts, now: datetime, points: Iterable[JournalPoint] = ()) -> int:
    last = db.execute("SELECT definition, fingerprint FROM runs ORDER BY number DESC LIMIT 1").fetchone()
    definition = 1 if last is None else last[0] + (last[1] != facts.fingerprint)
    number = db.execute(
        "INSERT INTO runs (definition, fingerprint, experiment, axes, points, servers, command, sweep_version,"
        " begun_at, seal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
        (
            *(definition, facts.fingerprint, facts.experiment, json.dumps(facts.axes), facts.points),
            *(json.dumps([dict(server) for server in facts.servers]), facts.command, facts.sweep_version),
            microseconds(now),
        ),
    ).lastrowid
    _reseal(db, "runs", "number", number)
    if facts.experiment_facts is not None:
        db.execute("INSERT INTO experiments VALUES (?, ?, 0)", (number, facts.experiment_facts.to_json()))
        _reseal(db, "experiments", "run", number)
    if db.execute("SELECT 1 FROM points LIMIT 1").fetchone():  # else computing their keys would be in vain
        db.execute(f"PRAGMA cache_size = -{FULL_CACHE}")
        for chunk in _split(points):
            _rebase_chunk(db, chunk, definition)
        db.execute(f"PRAGMA cache_size = -{RUN_CACHE}")
    assert number is not None
    return number


def end_run(db: sqlite3.Connection, run: int, ending: str, now: datetime, points: int | None = None) -> None:
    changed = db.execute("UPDATE runs SET ended_at = ?, ending = ? WHERE number = ?", (microseconds(now), ending, run))
    if not changed.rowcount:
        raise RecordError(f"There is no run {run} on record.")
    if points is not None:
        db.execute("UPDATE runs SET points = ? WHERE number = ?", (points, run))
        _reseal(db, "runs", "number", run)


def rebase(db: sqlite3.Connection, points: Iterable[JournalPoint]) -> None:
    _, definition = _current(db)
    for chunk in _split(points):
        if unknown := _rebase_chunk(db, chunk, definition):
            raise RecordError(f"Key {unknown[0]} is not on record.")


def _split(points: Iterable[JournalPoint]) -> Iterator[list[JournalPoint]]:
    coming = iter(points)
    while chunk := list(islice(coming, _TOGETHER)):
        yield chunk


def _rebase_chunk(db: sqlite3.Connection, chunk: Sequence[JournalPoint], definition: int) -> list[str]:
    """Rebase up to `_TOGETHER` points: with two statements where each has one row, of an earlier definition.

    Returns:
        The keys that are not on record.
    """
    query = f"SELECT id, {', '.join(SEALED['points'])} FROM points WHERE key IN ({', '.join('?' * len(chunk))})"
    rows: dict[str, tuple[Any, ...]] = {}
    several = {key for key, times in Counter([point.key for point in chunk]).items() if times > 1}
    for row in db.execute(query, [point.key for point in chunk]):
        if rows.setdefault(row[1], row) is not row:
            several.add(row[1])
    changes: list[tuple[Any, ...]] = []
    for point in chunk:
        key = point.key
        if key not in rows:
            continue
        rowid, _, former, _, _, prompt, model, source, *outcome = rows[key]
        if key in several or former == definition:
            _reseal(db, "points", "id", _place(db, point, definition))
            continue
        prompt = prompt if point.prompt is None else point.prompt
        model = model if point.model is None else point.model
        source = source if point.source is None else point.source
        new = (definition, point.index, _write_values(point), prompt, model, source)
        changes.append((*new, seal(key, *new, *outcome), rowid))
    db.executemany(
        "UPDATE points SET definition = ?, idx = ?, axis_values = ?, prompt = ?, model = ?, source = ?, seal = ?"
        " WHERE id = ?",
        changes,
    )
    return [point.key for point in chunk if point.key not in rows]


def seeds(db: sqlite3.Connection, axis: str, count: int, draw: Callable[[], int]) -> tuple[int, ...]:
    row = db.execute("SELECT drawn FROM seeds WHERE axis = ?", (axis,)).fetchone()
    drawn: list[int] = json.loads(row[0]) if row else []
    if len(drawn) < count:
        taken = set(drawn)
        while len(drawn) < count:
            seed = draw()
            if seed not in taken:
                taken.add(seed)
                drawn.append(seed)
        db.execute("INSERT OR REPLACE INTO seeds VALUES (?, ?, 0)", (axis, json.dumps(drawn)))
        _reseal(db, "seeds", "axis", axis)
    return tuple(drawn[:count])


def intend(db: sqlite3.Connection, point: JournalPoint, intent: Intent, now: datetime) -> None:
    run, definition = _current(db)
    state = _state(db, point.key)
    if state not in (None, "pending"):
        raise RecordError(f"Key {point.key} is {state}; it cannot be attempted.")
    if state is None:
        _insert(db, point, definition, "intended", 1, intent.server)
    else:
        _place(db, point, definition)
        counted = {"state": "'intended'", "attempts": "attempts + 1", "server": ":server"}
        _set(db, point.key, counted, server=intent.server)
    db.execute(
        "INSERT INTO attempts (key, number, run, server, url, batch_id, item_id, outputs, state, begun_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'intended', ?)",
        (
            *(point.key, intent.number, run, intent.server, intent.url, intent.batch_id, intent.item_id),
            *(json.dumps(intent.outputs), microseconds(now)),
        ),
    )


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
    db: sqlite3.Connection, key: str, renderings: Sequence[Rendering], times: Times, now: datetime
) -> None:
    rows = [_image_row(key, ordinal, rendering) for ordinal, rendering in enumerate(renderings)]
    if not rows:
        raise RecordError(f"Key {key} cannot be completed without an image.")
    done = {"state": "'completed'", "kind": "NULL", "message": "NULL", **_KNOWN_TIMES}
    try:
        _set_open(db, key, done, **_name_times(times))
    except RecordError:
        if _state(db, key) != "completed":
            raise
        columns = ", ".join(_IMAGE_COLUMNS)
        kept = db.execute(f"SELECT {columns} FROM images WHERE key = ? ORDER BY ordinal", (key,)).fetchall()
        if kept != rows:
            raise RecordError(f"Key {key} is completed already, with other images.") from None
        return
    slots = ", ".join("?" * (len(_IMAGE_COLUMNS) + 1))
    sealed = [(*row, seal(*row)) for row in rows]
    db.executemany(f"INSERT INTO images ({', '.join(_IMAGE_COLUMNS)}, seal) VALUES ({slots})", sealed)
    _end_attempt(db, key, "completed", now)


def attempt_failed(db: sqlite3.Connection, key: str, failure: Failure, now: datetime) -> None:
    _set_open(db, key, {"state": "'pending'", **_NO_TIMES})
    _end_attempt(db, key, "failed", now, failure)


def withdraw(db: sqlite3.Connection, key: str) -> None:
    _set_open(db, key, {"state": "'pending'", "attempts": "attempts - 1", **_NO_TIMES})
    db.execute("DELETE FROM attempts WHERE key = ? AND ended_at IS NULL", (key,))


def fail(db: sqlite3.Connection, point: JournalPoint, failure: Failure, now: datetime) -> None:
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


def write_cancelled(db: sqlite3.Connection, key: str, now: datetime) -> None:
    state = _state(db, key)
    if state == "cancelled":
        return
    if state is None or state in OUTCOMES:
        raise RecordError(f"Key {key} is {state or 'not on record'}; it cannot be cancelled.")
    if state in OPEN:
        _end_attempt(db, key, "cancelled", now)
    _set(db, key, {"state": "'cancelled'"})


def reopen(db: sqlite3.Connection, keys: Iterable[str]) -> int:
    found = {key for key in keys if _state(db, key) in ("failed", "cancelled")}
    for key in found:
        _forget_outcome(db, key)
    return len(found)


def forget(db: sqlite3.Connection, keys: Iterable[str]) -> int:
    found = {key for key in keys if _state(db, key) == "completed"}
    for key in found:
        db.execute("DELETE FROM images WHERE key = ?", (key,))
        _forget_outcome(db, key)
    return len(found)


def keep_input(db: sqlite3.Connection, sha256: str, path: str, name: str, width: int, height: int) -> None:
    db.execute("INSERT OR REPLACE INTO inputs VALUES (?, ?, ?, ?, ?, 0)", (sha256, path, name, width, height))
    _reseal(db, "inputs", "sha256", sha256)


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


def _place(db: sqlite3.Connection, point: JournalPoint, definition: int) -> int | None:
    """Put the point into its row: the one at its index, else one of an earlier definition, else a new one.

    Returns the row's id. The caller has to seal the row, which every `_set` of its key does.
    """
    facts = (definition, point.index, _write_values(point), point.prompt, point.model, point.source)
    rows = db.execute("SELECT id, definition, idx FROM points WHERE key = ?", (point.key,)).fetchall()
    own = [row for row in rows if row[1:] == (definition, point.index)] or [row for row in rows if row[1] < definition]
    if own:
        rowid: int | None = own[0][0]
    elif rows:
        rowid = _copy(db, rows[0][0])
    else:
        return _insert(db, point, definition, "pending", 0, None)
    db.execute(
        "UPDATE points SET definition = ?, idx = ?, axis_values = ?, prompt = coalesce(?, prompt),"
        " model = coalesce(?, model), source = coalesce(?, source) WHERE id = ?",
        (*facts, rowid),
    )
    return rowid


def _insert(
    db: sqlite3.Connection, point: JournalPoint, definition: int, state: str, attempts: int, server: str | None
) -> int | None:
    """Put a key that is not on record into a new row; return the row's id."""
    columns = SEALED["points"]
    facts = (definition, point.index, _write_values(point), point.prompt, point.model, point.source)
    row = (point.key, *facts, state, None, None, attempts, server, None, None, None)
    slots = ", ".join("?" * (len(columns) + 1))
    return db.execute(f"INSERT INTO points ({', '.join(columns)}, seal) VALUES ({slots})", (*row, seal(*row))).lastrowid


def _write_values(point: JournalPoint) -> str:
    return _ENCODER.encode(dict(point.values))


def _copy(db: sqlite3.Connection, rowid: int) -> int | None:
    columns = ", ".join(SEALED["points"])
    return db.execute(
        f"INSERT INTO points ({columns}, seal) SELECT {columns}, seal FROM points WHERE id = ?", (rowid,)
    ).lastrowid


@cache
def _update(assignments: tuple[tuple[str, str], ...], where: str) -> str:
    """Return SQL that sets columns of points to expressions, and the seal to that of the new row, in one statement."""
    new = dict(assignments)
    sealed = ", ".join(new.get(column, column) for column in SEALED["points"])
    sets = ", ".join(f"{column} = {expression}" for column, expression in assignments)
    return f"UPDATE points SET {sets}, seal = seal({sealed}) WHERE key = :key{where}"


def _set(db: sqlite3.Connection, key: str, new: Mapping[str, str], where: str = "", **values: object) -> int:
    """Set columns of the rows of `key` to SQL expressions over `values`; return how many rows those are."""
    return db.execute(_update(tuple(new.items()), where), {"key": key, **values}).rowcount


def _set_open(db: sqlite3.Connection, key: str, new: Mapping[str, str], **values: object) -> None:
    """Do the same for a key with an open attempt; change nothing and raise RecordError where it has none."""
    if not _set(db, key, new, _IS_OPEN, **values):
        raise RecordError(f"Key {key} is {_state(db, key) or 'not on record'} and {_NONE_OPEN}.")


def _name_times(times: Times) -> dict[str, int | None]:
    return {name: microseconds(getattr(times, name)) for name in _TIMES}


def _end_attempt(db: sqlite3.Connection, key: str, state: str, now: datetime, failure: Failure | None = None) -> None:
    kind, message = _told(failure) if failure else (None, None)
    db.execute(
        "UPDATE attempts SET state = ?, ended_at = ?, kind = ?, message = ? WHERE key = ? AND ended_at IS NULL",
        (state, microseconds(now), kind, message, key),
    )


def _forget_outcome(db: sqlite3.Connection, key: str) -> None:
    nothing = dict.fromkeys(("kind", "message", "server", *_TIMES), "NULL")
    _set(db, key, {"state": "'pending'", "attempts": "0", **nothing})


def _told(failure: Failure) -> tuple[str, str]:
    return _text(failure.kind), _text(failure.message)


def _text(text: str) -> str:
    """Make what a server sent storable: JSON can hold halves of surrogate pairs, UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode()


def _image_row(key: str, ordinal: int, rendering: Rendering) -> tuple[object, ...]:
    return (
        *(key, ordinal, rendering.path, _text(rendering.image_name), rendering.node, rendering.iteration),
        *(rendering.width, rendering.height, rendering.sha256, rendering.size),
    )


def _reseal(db: sqlite3.Connection, table: str, column: str, value: object) -> None:
    db.execute(f"UPDATE {table} SET seal = {sealing(table)} WHERE {column} = ?", (value,))
