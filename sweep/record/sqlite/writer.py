"""The one thread that writes the journal: callers queue operations, those that wait together share a commit.

An operation once queued is carried out whatever becomes of the task that waits for it: a cancelled caller never
halves a write. After an error of the disk or of SQLite itself, every later operation is refused with that error,
because what is in the file is then unknown.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sweep.errors import RecordError
from sweep.record.files import Checkpoint
from sweep.record.sqlite.schema import corrupt, record_error

_T = TypeVar("_T")
_MOST_AT_ONCE = 512  # operations in one commit


@dataclass(frozen=True, slots=True)
class _Operation:
    name: str
    apply: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class Writer:
    """Owns `db` from now on. `commits` counts the transactions committed so far."""

    def __init__(self, db: sqlite3.Connection, place: Path, checkpoint: Checkpoint) -> None:
        self._db = db
        self._place = place
        self._checkpoint = checkpoint
        self._queue: queue.SimpleQueue[_Operation | None] = queue.SimpleQueue()
        self._broken: RecordError | None = None
        self._closed = False
        self.commits = 0
        self._thread = threading.Thread(target=self._serve, name="sweep-journal", daemon=True)
        self._thread.start()

    async def do(self, name: str, apply: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `apply` inside a transaction and return its result once that is durable.

        A RecordError raised by `apply` undoes this operation alone and is raised here.
        """
        if self._closed:
            raise RecordError(f"{self._place} has been closed.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._queue.put(_Operation(name, apply, future, loop))
        return await future

    async def aclose(self) -> None:
        """Carry out what is queued, then close the file. May be called again."""
        if not self._closed:
            self._closed = True
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
            batch.append(item)
            if len(batch) == _MOST_AT_ONCE:
                return batch, True
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _results(self, batch: list[_Operation]) -> list[Any]:
        """One result an operation; an exception where it failed."""
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
        self._db.execute("BEGIN IMMEDIATE")
        results = [self._apply(operation) for operation in batch]
        for operation in batch:
            self._checkpoint(f"{operation.name}.before-commit")
        self._db.execute("COMMIT")
        self.commits += 1
        for operation in batch:
            self._checkpoint(f"{operation.name}.after-commit")
        return results

    def _apply(self, operation: _Operation) -> Any:
        self._db.execute("SAVEPOINT operation")
        try:
            result = operation.apply(self._db)
        except sqlite3.IntegrityError as error:
            self._db.execute("ROLLBACK TO operation")
            result = record_error(error, self._place)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001  handed to the caller: the thread serves the others
            self._db.execute("ROLLBACK TO operation")
            damaged = isinstance(error, UnicodeDecodeError | json.JSONDecodeError)
            result = corrupt(self._place, str(error)) if damaged else error
        self._db.execute("RELEASE operation")
        return result

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
