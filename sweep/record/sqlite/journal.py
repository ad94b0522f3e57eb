"""The journal as a SQLite file: opens it, answers from one connection and writes through one thread, in group commits.

An operation once queued is carried out whatever becomes of the task that waits for it: a cancelled caller never halves
a write. After an error of the disk or of SQLite itself, every later operation is refused with that error, because what
is in the file is then unknown.

Operations that nobody's next request waits for linger a moment, so that they share the commit of one that is urgent:
a variation then costs one commit, not four.
"""

from __future__ import annotations

import asyncio
import json
import queue
import random
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeAlias, TypeVar

import anyio
from anyio.to_thread import run_sync

from sweep.errors import RecordError
from sweep.record.durable_files import Checkpoint, no_checkpoint
from sweep.record.sqlite import queries, updates
from sweep.record.sqlite.connection import (
    JOURNAL_FILE,
    RUN_CACHE,
    connect_reader,
    connect_writer,
    make_corrupt_error,
    make_record_error,
    translate_errors,
)

_T = TypeVar("_T")
_P = ParamSpec("_P")
_Method: TypeAlias = "Callable[Concatenate[SqliteJournal, _P], Coroutine[Any, Any, _T]]"
_File: TypeAlias = "tuple[int, int] | None"  # its device and number
_MOST_AT_ONCE = 512  # operations in one commit
_LINGERING = frozenset({"submitted", "rendered", "complete"})  # nobody's next request waits for them


@dataclass(frozen=True, slots=True)
class _Operation:
    name: str
    apply: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]


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

    async def do(self, name: str, apply: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `apply` inside a transaction and return its result once that is durable.

        An exception raised by `apply` undoes this operation alone and is raised here. One that is not urgent waits
        up to `linger` seconds for others to share the commit with; it never changes places with them.
        """
        if self._closed:
            raise RecordError(f"{self._place} has been closed.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._lingering.append(_Operation(name, apply, future))
        if name not in _LINGERING or not self._linger:
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
                self._broken = make_record_error(error, self._place)
            except Exception as error:  # noqa: BLE001  a thread that ended would leave its callers waiting for ever
                self._broken = RecordError(f"{self._place} could not be written ({error!r}).")
            self._roll_back()
        broken = self._broken
        return [type(broken)(broken.message, hint=broken.hint) for _ in batch]

    def _commit(self, batch: list[_Operation]) -> list[Any]:
        """Carry the batch out in one transaction; where one of it is refused, each in a transaction of its own.

        Savepoints would cost every operation two statements, and a copy of every page that it changes: all of a large
        journal for an edited definition.
        """
        if len(batch) > 1 and any(operation.name == "begin_run" for operation in batch):  # its points are an iterator
            return self._commit_each(batch)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            results = [operation.apply(self._db) for operation in batch]
        except Exception as error:
            if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError):
                raise
            self._db.execute("ROLLBACK")
            return [self._refuse(error)] if len(batch) == 1 else self._commit_each(batch)
        for operation in batch:
            self._checkpoint(f"{operation.name}.before-commit")
        self._db.execute("COMMIT")
        self.commits += 1
        for operation in batch:
            self._checkpoint(f"{operation.name}.after-commit")
        return results

    def _commit_each(self, batch: list[_Operation]) -> list[Any]:
        return [result for operation in batch for result in self._commit([operation])]

    def _refuse(self, error: Exception) -> Exception:
        """Return the error for the caller of an operation that was undone; the thread serves the others."""
        if isinstance(error, sqlite3.IntegrityError):
            return make_record_error(error, self._place)
        is_damage = isinstance(error, UnicodeDecodeError | json.JSONDecodeError)
        return make_corrupt_error(self._place, str(error)) if is_damage else error

    def _roll_back(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._broken = make_record_error(error, self._place)


def _answer(batch: list[_Operation], results: list[Any]) -> None:
    """Tell the callers, all at once; a loop that was closed meanwhile has nobody left to tell."""
    futures = [operation.future for operation in batch]
    with suppress(RuntimeError):  # it is closed
        futures[0].get_loop().call_soon_threadsafe(_settle, futures, results)


def _settle(futures: list[asyncio.Future[Any]], results: list[Any]) -> None:
    for future, result in zip(futures, results, strict=True):
        if future.done():  # its task was cancelled
            continue
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)


def _draw(_axis: str) -> int:
    """Draw a seed that every server takes: 0 … 2³² − 1."""
    return random.SystemRandom().randrange(2**32)


def _write(name: str, step: Callable[Concatenate[sqlite3.Connection, _P], _T]) -> _Method[_P, _T]:
    """Make the method of SqliteJournal that carries out `step` in the writer's thread."""

    async def method(self: SqliteJournal, /, *arguments: _P.args, **named: _P.kwargs) -> _T:
        return await self._writer.do(name, lambda db: step(db, *arguments, **named))

    return method


def _read(question: Callable[Concatenate[sqlite3.Connection, _P], _T]) -> _Method[_P, _T]:
    """Make the method of SqliteJournal that asks `question` of the connection for reading."""

    async def method(self: SqliteJournal, /, *arguments: _P.args, **named: _P.kwargs) -> _T:
        def ask() -> _T:
            with translate_errors(self._place):
                return question(self._reader, *arguments, **named)

        return await run_sync(ask, limiter=self._reading)

    return method


class SqliteJournal:
    """See `base.Journal`. Open it with `open`; it belongs to the event loop it was opened on.

    Writes go through one thread and share commits (WAL, synchronous=FULL); reads have a connection of their own and
    see every write that was acknowledged. A task cancelled while it waits leaves its write whole: done, or about to be.
    """

    def __init__(
        self, writer: Writer, reader: sqlite3.Connection, place: Path, file: _File, draw: Callable[[str], int]
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._reading = anyio.CapacityLimiter(1)
        self._place = place
        self._file = file
        self._draw = draw

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        create: bool = True,
        checkpoint: Checkpoint = no_checkpoint,
        draw: Callable[[str], int] | None = None,
        linger: float = 0.0,
    ) -> Self:
        """Return the journal of `folder`; made where there is none, unless `create` is False.

        Hold a `FolderLock` on the folder. `draw` gives a seed in [0, 2³²) of an axis. Raises
        CorruptRecordError where the file is damaged, RecordError where it is missing, of a newer format or
        cannot be opened, DiskFullError. What follows an intent (submitted, rendered, complete) waits up to `linger`
        seconds for the commit of another write.
        """
        with anyio.CancelScope(shield=True):  # who is cancelled meanwhile gets the journal all the same, and closes it
            db, reader, file = await run_sync(partial(_connect, Path(folder), create=create))
        place = Path(folder) / JOURNAL_FILE
        return cls(Writer(db, place, checkpoint, linger), reader, place, file, draw or _draw)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def commits(self) -> int:
        """Transactions committed since it was opened: what group commit is measured by."""
        return self._writer.commits

    begin_run = _write("begin_run", updates.begin_run)
    end_run = _write("end_run", updates.end_run)
    rebase = _write("rebase", updates.rebase)
    intend = _write("intend", updates.intend)
    mark_submitted = _write("mark_submitted", updates.mark_submitted)
    mark_rendered = _write("mark_rendered", updates.mark_rendered)
    complete = _write("complete", updates.complete)
    mark_attempt_failed = _write("mark_attempt_failed", updates.mark_attempt_failed)
    withdraw = _write("withdraw", updates.withdraw)
    fail = _write("fail", updates.fail)
    cancel = _write("cancel", updates.write_cancelled)
    reopen = _write("reopen", updates.reopen)
    keep_input = _write("keep_input", updates.keep_input)
    keep_uploads = _write("keep_uploads", updates.keep_uploads)

    fingerprint = _read(queries.fingerprint)
    indices = _read(queries.indices)
    keys = _read(queries.keys)
    identity = _read(queries.identity)
    find_statuses = _read(queries.find_statuses)
    list_ended_with = _read(queries.list_ended_with)
    open_intents = _read(queries.open_intents)
    uploads = _read(queries.uploads)
    counts = _read(queries.counts)

    async def seeds(self, axis: str, count: int) -> tuple[int, ...]:
        step = partial(updates.seeds, axis=axis, count=count, draw=partial(self._draw, axis))
        return await self._writer.do("seeds", step)

    async def require_in_place(self) -> None:
        """Raise RecordError where the file is no longer the one that was opened: what is written to it is lost."""
        if await run_sync(_identity, self._place) != self._file:
            raise RecordError(f"{self._place} was moved or deleted while the run was writing to it.")

    async def aclose(self) -> None:
        """Finish every write that was asked for, also when the caller is being cancelled."""
        with anyio.CancelScope(shield=True):
            await run_sync(self._reader.close, limiter=self._reading)
            await self._writer.aclose()


def _identity(place: Path) -> _File:
    """Find which file lies at `place`; None where there is none, or none that can be seen."""
    try:
        found = place.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _connect(folder: Path, *, create: bool) -> tuple[sqlite3.Connection, sqlite3.Connection, _File]:
    db = connect_writer(folder, create=create)
    try:
        with translate_errors(folder / JOURNAL_FILE):
            return db, connect_reader(folder, RUN_CACHE), _identity(folder / JOURNAL_FILE)
    except BaseException:
        db.close()
        raise
