"""The journal of a results folder in SQLite: `SqliteJournal`, which keeps the contract of `base.Journal`."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from array import array
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Self, TypeVar

import anyio
from anyio.to_thread import run_sync

from sweep.errors import RecordError
from sweep.record.base import Counts, Failure, Intent, JournalPoint, JournalState, KeyStatus, Rendering, RunFacts, Times
from sweep.record.files import Checkpoint, no_checkpoint
from sweep.record.sqlite import reads as queries
from sweep.record.sqlite import writes as operations
from sweep.record.sqlite.reads import CompactKeys
from sweep.record.sqlite.schema import JOURNAL_FILE, RUN_CACHE, connect_reader, connect_writer, telling
from sweep.record.sqlite.writer import Writer

_T = TypeVar("_T")
_CHUNK = 500  # points a commit when very many are written at once


def _now() -> datetime:
    return datetime.now(UTC)


def _draw(_axis: str) -> int:
    """Draw a seed that every server takes: 0 … 2³² − 1."""
    return random.SystemRandom().randrange(2**32)


class SqliteJournal:
    """See `base.Journal`. Open it with `open`; it belongs to the event loop it was opened on.

    Writes go through one thread and share commits (WAL, synchronous=FULL); reads have a connection of their own and
    see every write that was acknowledged. A task cancelled while it waits leaves its write whole: done, or about to be.
    """

    def __init__(
        self,
        writer: Writer,
        reader: sqlite3.Connection,
        place: Path,
        now: Callable[[], datetime],
        draw: Callable[[str], int],
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._reading = anyio.CapacityLimiter(1)
        self._place = place
        self._file: tuple[int, int] | None = None
        self._now = now
        self._draw = draw

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        create: bool = True,
        checkpoint: Checkpoint = no_checkpoint,
        now: Callable[[], datetime] = _now,
        draw: Callable[[str], int] | None = None,
    ) -> Self:
        """Return the journal of `folder`; made where there is none, unless `create` is False.

        Hold a `FolderLock` on the folder. `now` gives aware times, `draw` a seed in [0, 2³²) of an axis. Raises
        CorruptRecordError where the file is damaged, RecordError where it is missing, of a newer format or
        cannot be opened, DiskFullError.
        """
        db, reader = await run_sync(partial(_connect, Path(folder), create=create))
        place = Path(folder) / JOURNAL_FILE
        journal = cls(Writer(db, place, checkpoint), reader, place, now, draw or _draw)
        journal._file = await run_sync(_identity, place)
        return journal

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def commits(self) -> int:
        """Transactions committed since it was opened: what group commit is measured by."""
        return self._writer.commits

    async def begin_run(self, facts: RunFacts, kept: Iterable[JournalPoint] = ()) -> int:
        write = partial(operations.begin_run, facts=facts, now=self._now(), kept=kept)
        return await self._writer.do("begin_run", write)

    async def end_run(self, run: int, ending: str) -> None:
        await self._writer.do("end_run", partial(operations.end_run, run=run, ending=ending, now=self._now()))

    async def fingerprint(self) -> str | None:
        return await self._read(queries.read_fingerprint)

    async def known_keys(self) -> CompactKeys:
        return await self._read(queries.read_known_keys)

    async def completed_indices(self) -> array[int]:
        return await self._read(queries.completed_indices)

    async def indices(self, *states: JournalState) -> array[int]:
        return await self._read(partial(queries.read_indices, states=states))

    async def keys(self, *states: JournalState) -> list[str]:
        return await self._read(partial(queries.keys, states=states))

    async def identity(self) -> str:
        return await self._read(queries.identity)

    async def rebase(self, points: Iterable[JournalPoint] | AsyncIterator[JournalPoint]) -> None:
        async for chunk in _chunks(points):
            await self._writer.do("rebase", partial(operations.rebase, points=chunk))

    async def seeds(self, axis: str, count: int) -> tuple[int, ...]:
        draw = partial(self._draw, axis)
        return await self._writer.do("seeds", partial(operations.seeds, axis=axis, count=count, draw=draw))

    async def attempts(self, key: str) -> int:
        return await self._read(partial(queries.attempts, key=key))

    async def standing(self, keys: Sequence[str]) -> dict[str, KeyStatus]:
        return await self._read(partial(queries.read_key_status, keys=keys))

    async def ended_with(self, kind: str, url: str) -> list[str]:
        return await self._read(partial(queries.ended_with, kind=kind, url=url))

    async def intend(self, point: JournalPoint, intent: Intent) -> None:
        await self._writer.do("intend", partial(operations.intend, point=point, intent=intent, now=self._now()))

    async def submitted(self, batch_id: str, item_id: str) -> None:
        await self._writer.do("submitted", partial(operations.submitted, batch_id=batch_id, item_id=item_id))

    async def rendered(self, key: str, times: Times) -> None:
        await self._writer.do("rendered", partial(operations.write_rendered, key=key, times=times))

    async def complete(self, key: str, renderings: Sequence[Rendering], times: Times) -> None:
        write = partial(operations.write_completed, key=key, renderings=tuple(renderings), times=times, now=self._now())
        await self._writer.do("complete", write)

    async def attempt_failed(self, key: str, failure: Failure) -> None:
        write = partial(operations.attempt_failed, key=key, failure=failure, now=self._now())
        await self._writer.do("attempt_failed", write)

    async def withdraw(self, key: str) -> None:
        await self._writer.do("withdraw", partial(operations.withdraw, key=key))

    async def fail(self, point: JournalPoint, failure: Failure) -> None:
        await self._writer.do("fail", partial(operations.fail, point=point, failure=failure, now=self._now()))

    async def cancel(self, key: str) -> None:
        await self._writer.do("cancel", partial(operations.write_cancelled, key=key, now=self._now()))

    async def reopen(self, keys: Iterable[str]) -> int:
        return await self._writer.do("reopen", partial(operations.reopen, keys=tuple(keys)))

    async def forget(self, keys: Iterable[str]) -> int:
        return await self._writer.do("forget", partial(operations.forget, keys=tuple(keys)))

    async def open_intents(self) -> list[Intent]:
        return await self._read(queries.open_intents)

    async def keep_input(self, sha256: str, path: str, name: str, width: int, height: int) -> None:
        write = partial(operations.keep_input, sha256=sha256, path=path, name=name, width=width, height=height)
        await self._writer.do("keep_input", write)

    async def keep_uploads(self, url: str, names: Mapping[str, str]) -> None:
        await self._writer.do("keep_uploads", partial(operations.keep_uploads, url=url, names=dict(names)))

    async def uploads(self, url: str) -> dict[str, str]:
        return await self._read(partial(queries.uploads, url=url))

    async def counts(self) -> Counts:
        return await self._read(queries.counts)

    async def require_in_place(self) -> None:
        """Raise RecordError where the file is no longer the one that was opened: what is written to it is lost."""
        if await run_sync(_identity, self._place) != self._file:
            raise RecordError(f"{self._place} was moved or deleted while the run was writing to it.")

    async def aclose(self) -> None:
        """Every write that was asked for is done first, also when the caller is being cancelled."""
        with anyio.CancelScope(shield=True):
            await run_sync(self._reader.close, limiter=self._reading)
            await self._writer.aclose()

    async def _read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        return await run_sync(self._query, query, limiter=self._reading)

    def _query(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        with telling(self._place):
            return query(self._reader)


def _identity(place: Path) -> tuple[int, int] | None:
    """Which file lies at `place`; None where there is none, or none that can be seen."""
    try:
        found = place.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _connect(folder: Path, *, create: bool) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    db = connect_writer(folder, create=create)
    try:
        with telling(folder / JOURNAL_FILE):
            return db, connect_reader(folder, RUN_CACHE)
    except BaseException:
        db.close()
        raise


async def _chunks(points: Iterable[JournalPoint] | AsyncIterator[JournalPoint]) -> AsyncIterator[list[JournalPoint]]:
    if isinstance(points, AsyncIterator):
        chunk: list[JournalPoint] = []
        async for point in points:
            chunk.append(point)
            if len(chunk) == _CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk
        return
    iterator = iter(points)
    while several := list(islice(iterator, _CHUNK)):
        yield several
        await asyncio.sleep(0)  # where the points are computed as they are asked for, others get their turn
