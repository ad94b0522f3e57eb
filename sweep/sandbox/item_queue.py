"""Batches, the queue of their items in memory, and the SQLite file that keeps them and all other records."""

from __future__ import annotations

import asyncio
import base64
import heapq
import itertools
import json
import sqlite3
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field

from sweep.errors import UsageError
from sweep.sandbox.graph_checks import GraphJson, NodeTypes, read_graph
from sweep.sandbox.http_requests import read_member, read_value, refuse_value

STATUSES = ("pending", "in_progress", "waiting", "completed", "failed", "canceled")
TERMINAL_STATUSES = frozenset({"completed", "failed", "canceled"})


def now() -> str:
    """Return the time as InvokeAI writes it: UTC without a time zone."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


@dataclass(slots=True, kw_only=True)
class QueueItem:
    """An item of the queue. `session` is the final session as compressed JSON, None until it has ended."""

    item_id: int
    status: str = "pending"
    priority: int = 0
    batch_id: str
    destination: str | None
    session_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: str = field(default_factory=now)
    started_at: str | None = None
    completed_at: str | None = None
    queue_id: str
    error_type: str | None = None
    error_message: str | None = None
    graph: GraphJson
    session: str | None = None

    @property
    def is_ended(self) -> bool:
        """Tell whether the item has completed, failed or been canceled."""
        return self.status in TERMINAL_STATUSES

    def keep_session(self, session: dict[str, Any]) -> None:
        """Store the session as it ended."""
        compressed = zlib.compress(json.dumps(session, separators=(",", ":")).encode(), 1)
        self.session = base64.b64encode(compressed).decode()

    def load_session(self) -> dict[str, Any]:
        """Return the session as it ended, or as it begins: InvokeAI stores nothing in between."""
        if self.session is None:
            return initial_session(self.session_id, self.graph)
        session: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(self.session)))
        return session

    def summarise(self) -> dict[str, Any]:
        """Describe the item without its graph and session."""
        return {name: getattr(self, name) for name in _SUMMARY}

    def describe(self) -> dict[str, Any]:
        """Describe the item with its session."""
        return {**self.summarise(), "session": self.load_session()}


_SUMMARY = tuple(f.name for f in fields(QueueItem) if f.name not in {"graph", "session"})


def initial_session(session_id: str, graph: GraphJson) -> dict[str, Any]:
    """Build the session of an item that has not ended."""
    return {
        "id": session_id,
        "graph": graph,
        "execution_graph": {"nodes": {}, "edges": []},
        "executed": [],
        "results": {},
        "errors": {},
        "prepared_source_mapping": {},
        "prepared_iteration_paths": {},
    }


class Datum(BaseModel):
    """An axis of a batch. The sandbox takes none with values: sweep puts those into the graph."""

    node_path: str
    field_name: str
    items: list[Any] = Field(default_factory=list, max_length=0)


class Batch(BaseModel):
    """A posted batch, with its checked graph. It makes an item a run; with an axis, which has no values, none."""

    batch_id: str = Field(default_factory=lambda: str(uuid.uuid4()))
    destination: str | None = None
    data: list[list[Datum]] | None = None
    runs: int = Field(default=1, ge=1)
    graph: GraphJson

    def count_items(self) -> int:
        """Count the items that it asks for."""
        return 0 if self.data else self.runs


def read_batch(body: Any, types: NodeTypes) -> Batch:
    """Read the batch of an enqueue_batch body. Raises RefusedError with 422."""
    posted = read_member(body, "batch", dict[str, Any])
    graph = read_graph(posted.get("graph"), types, "body", "batch", "graph")
    batch: Batch = read_value(Batch, {**posted, "graph": graph}, "body", "batch")
    for datum in itertools.chain.from_iterable(batch.data or ()):
        name, field_ = datum.node_path, datum.field_name
        if name not in graph["nodes"]:
            raise refuse_value(("body", "batch"), f"Node {name} not found in graph")
        if field_ not in graph["nodes"][name]:
            raise refuse_value(("body", "batch"), f"Field {field_} not found in node {name}")
    return batch


class SandboxQueue:
    """Keeps the items of all queue ids in memory, quickly; the caller stores them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.items: dict[int, QueueItem] = {}
        self._waiting: list[tuple[int, int]] = []  # heap of (-priority, item id), also of items that wait no longer
        self._of_batch: dict[tuple[str, str], list[QueueItem]] = {}
        self._counts: dict[tuple[str, ...], Counter[str]] = {}

    def enqueue(self, queue_id: str, batch: Batch, *, prepend: bool) -> list[QueueItem]:
        """Make the items of a batch, as many as there is room for."""
        room = max(0, self.limit - self.counts("queue", queue_id)["pending"])
        first = self.take()
        facts = {name: getattr(batch, name) for name in ("batch_id", "destination", "graph")}
        facts |= {"queue_id": queue_id, "priority": (first.priority if first else 0) + 1 if prepend else 0}
        made = [QueueItem(item_id=len(self.items) + 1 + n, **facts) for n in range(min(room, batch.count_items()))]
        for item in made:
            self.add(item)
        return made

    def add(self, item: QueueItem) -> None:
        """Add an item, a new one or one of an earlier process."""
        self.items[item.item_id] = item
        self._of_batch.setdefault((item.queue_id, item.batch_id), []).append(item)
        self._count(item, 1)
        if item.status == "pending":
            heapq.heappush(self._waiting, (-item.priority, item.item_id))

    def move(self, item: QueueItem, status: str) -> None:
        """Change an item's status, and its times with it."""
        self._count(item, -1)
        item.status = status
        if status == "in_progress":
            item.started_at = now()
        elif item.is_ended:
            item.completed_at = now()
        self._count(item, 1)

    def take(self) -> QueueItem | None:
        """Return the next item to render, None where there is none."""
        while self._waiting:
            item = self.items[self._waiting[0][1]]
            if item.status == "pending":
                return item
            heapq.heappop(self._waiting)
        return None

    def of(self, queue_id: str) -> Iterator[QueueItem]:
        """Yield all items of a queue id, oldest first."""
        return (item for item in self.items.values() if item.queue_id == queue_id)

    def of_batch(self, queue_id: str, batch_id: str) -> list[QueueItem]:
        """List the items of a batch, oldest first."""
        return self._of_batch.get((queue_id, batch_id), [])

    def counts(self, *of: str) -> dict[str, int]:
        """Count items by status of ("queue", id), ("batch", queue id, id) or ("destination", queue id, name)."""
        found = self._counts.get(of, Counter())
        return {**{status: found[status] for status in STATUSES}, "total": sum(found.values())}

    def _count(self, item: QueueItem, by: int) -> None:
        for of in (
            ("queue", item.queue_id),
            ("batch", item.queue_id, item.batch_id),
            ("destination", item.queue_id, item.destination or ""),
        ):
            self._counts.setdefault(of, Counter())[item.status] += by


_T = TypeVar("_T")
_PATIENCE = 2.0  # seconds to wait for another sandbox to end
# The lock is held until the process ends, also by a kill. A kill loses nothing that was committed; a power cut may.
_OPENING = """
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS records (kind TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (kind, name));
"""
_PUT = "INSERT INTO records VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET body = excluded.body"
_DELETE = "DELETE FROM records WHERE kind = ? AND name = ?"
_READ = "SELECT name, body FROM records WHERE kind = ? ORDER BY rowid"


class Store:
    """Records by kind and name in a database file; without a path, nothing is stored.

    A method returns after its commit, in the order of calls. Only one process may use the file at a time, as two would
    hand out the same ids: the first call raises UsageError where another one has it.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-store")
        self._db: sqlite3.Connection | None = None

    async def load(self, kind: str) -> dict[str, Any]:
        """Return the records of a kind by name, in the order they were made."""
        return await self._do(lambda db: {name: json.loads(body) for name, body in db.execute(_READ, (kind,))}, {})

    async def save(self, *records: tuple[str, str, Any]) -> None:
        """Write records (kind, name, body) in one transaction; a body of None deletes its record."""
        if self._path is None or not records:
            return
        gone = [(kind, name) for kind, name, body in records if body is None]
        kept = [(kind, name, json.dumps(body, default=asdict)) for kind, name, body in records if body is not None]

        def write(db: sqlite3.Connection) -> None:
            db.executemany(_DELETE, gone)
            db.executemany(_PUT, kept)

        await self._do(write, None)

    async def save_items(self, items: list[QueueItem]) -> None:
        """Write items, new or changed."""
        await self.save(*(("item", str(item.item_id), item) for item in items))

    async def load_queue(self, queue: SandboxQueue) -> None:
        """Fill the queue with the stored items; those that were running come back as canceled."""
        for facts in (await self.load("item")).values():
            queue.add(QueueItem(**facts))
        killed = [item for item in queue.items.values() if item.status == "in_progress"]
        for item in killed:
            queue.move(item, "canceled")
        await self.save_items(killed)

    async def _do(self, work: Callable[[sqlite3.Connection], _T], nothing: _T) -> _T:
        """Do the work in a transaction; without a database return `nothing`."""
        path = self._path
        if path is None:
            return nothing

        def run() -> _T:
            if self._db is None:
                self._db = _open(path)
            with self._db:
                return work(self._db)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    async def aclose(self) -> None:
        """Close the file."""
        if self._db is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._db.close)
        self._thread.shutdown(wait=False)


def _open(path: Path) -> sqlite3.Connection:
    """Open the database for this process alone. Raises UsageError where another process has it."""
    db = sqlite3.connect(path, timeout=_PATIENCE)
    try:
        db.executescript(_OPENING)
    except sqlite3.OperationalError:
        db.close()
        hint = "Stop it, or take another --root."
        raise UsageError(f"{path.parent} is in use by another sandbox.", hint=hint) from None
    return db
