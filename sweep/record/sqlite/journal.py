"""The journal as a SQLite file: opens it, and reads what is on record."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sqlite3
from array import array
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Self, TypeVar

import anyio
from anyio.to_thread import run_sync

from sweep.errors import RecordError
from sweep.record.atomic_files import Checkpoint, no_checkpoint
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
from sweep.record.sqlite import writer as operations
from sweep.record.sqlite.schema import (
    JOURNAL_FILE,
    RUN_CACHE,
    BrokenSealError,
    connect_reader,
    connect_writer,
    has_table,
    sealing,
    telling,
)
from sweep.record.sqlite.writer import OPEN, OUTCOMES, Writer, moment
from sweep.types import Scalar

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
    """List the runs, oldest first."""
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
        linger: float = 0.0,
    ) -> Self:
        """Return the journal of `folder`; made where there is none, unless `create` is False.

        Hold a `FolderLock` on the folder. `now` gives aware times, `draw` a seed in [0, 2³²) of an axis. Raises
        CorruptRecordError where the file is damaged, RecordError where it is missing, of a newer format or
        cannot be opened, DiskFullError. What follows an intent (submitted, rendered, complete) waits up to `linger`
        seconds for the commit of another write.
        """
        with anyio.CancelScope(shield=True):  # who is cancelled meanwhile gets the journal all the same, and closes it
            db, reader = await run_sync(partial(_connect, Path(folder), create=create))
            place = Path(folder) / JOURNAL_FILE
            journal = cls(Writer(db, place, checkpoint, linger), reader, place, now, draw or _draw)
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

    async def begin_run(self, facts: RunFacts, points: Iterable[JournalPoint] = ()) -> int:
        write = partial(operations.begin_run, facts=facts, now=self._now(), points=points)
        return await self._writer.do("begin_run", write)

    async def end_run(self, run: int, ending: str, points: int | None = None) -> None:
        ended = partial(operations.end_run, run=run, ending=ending, now=self._now(), points=points)
        await self._writer.do("end_run", ended)

    async def fingerprint(self) -> str | None:
        return await self._read(read_fingerprint)

    async def indices(self, *states: JournalState) -> array[int]:
        return await self._read(partial(read_indices, states=states))

    async def keys(self, *states: JournalState) -> list[str]:
        return await self._read(partial(keys, states=states))

    async def identity(self) -> str:
        return await self._read(identity)

    async def rebase(self, points: Iterable[JournalPoint] | AsyncIterator[JournalPoint]) -> None:
        async for chunk in _chunks(points):
            await self._writer.do("rebase", partial(operations.rebase, points=chunk))

    async def seeds(self, axis: str, count: int) -> tuple[int, ...]:
        draw = partial(self._draw, axis)
        return await self._writer.do("seeds", partial(operations.seeds, axis=axis, count=count, draw=draw))

    async def standing(self, keys: Sequence[str]) -> dict[str, KeyStatus]:
        return await self._read(partial(read_key_status, keys=keys))

    async def ended_with(self, kind: str, url: str) -> list[str]:
        return await self._read(partial(ended_with, kind=kind, url=url))

    async def intend(self, point: JournalPoint, intent: Intent) -> None:
        await self._writer.do("intend", partial(operations.intend, point=point, intent=intent, now=self._now()))

    async def submitted(self, batch_id: str, item_id: str) -> None:
        write = partial(operations.submitted, batch_id=batch_id, item_id=item_id)
        await self._writer.do("submitted", write, urgent=False)

    async def rendered(self, key: str, times: Times) -> None:
        write = partial(operations.write_rendered, key=key, times=times)
        await self._writer.do("rendered", write, urgent=False)

    async def complete(self, key: str, renderings: Sequence[Rendering], times: Times) -> None:
        write = partial(operations.write_completed, key=key, renderings=tuple(renderings), times=times, now=self._now())
        await self._writer.do("complete", write, urgent=False)

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
        return await self._read(open_intents)

    async def keep_input(self, sha256: str, path: str, name: str, width: int, height: int) -> None:
        write = partial(operations.keep_input, sha256=sha256, path=path, name=name, width=width, height=height)
        await self._writer.do("keep_input", write)

    async def keep_uploads(self, url: str, names: Mapping[str, str]) -> None:
        await self._writer.do("keep_uploads", partial(operations.keep_uploads, url=url, names=dict(names)))

    async def uploads(self, url: str) -> dict[str, str]:
        return await self._read(partial(uploads, url=url))

    async def counts(self) -> Counts:
        return await self._read(counts)

    async def require_in_place(self) -> None:
        """Raise RecordError where the file is no longer the one that was opened: what is written to it is lost."""
        if await run_sync(_identity, self._place) != self._file:
            raise RecordError(f"{self._place} was moved or deleted while the run was writing to it.")

    async def aclose(self) -> None:
        """Finish every write that was asked for, also when the caller is being cancelled."""
        with anyio.CancelScope(shield=True):
            await run_sync(self._reader.close, limiter=self._reading)
            await self._writer.aclose()

    async def _read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        return await run_sync(self._query, query, limiter=self._reading)

    def _query(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        with telling(self._place):
            return query(self._reader)


def _identity(place: Path) -> tuple[int, int] | None:
    """Find which file lies at `place`; None where there is none, or none that can be seen."""
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
