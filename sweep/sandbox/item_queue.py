"""The queue of items in memory, and the SQLite file that keeps them, the records of images and the counts."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sweep.errors import UsageError
from sweep.sandbox.http_requests import RECORDS
from sweep.sandbox.posted_batches import Batch, GraphTemplate, NodeTypes

STATUSES = ("pending", "in_progress", "waiting", "completed", "failed", "canceled")
TERMINAL_STATUSES = frozenset({"completed", "failed", "canceled"})
_AHEAD = 32  # how far a worker looks for an item whose model it has loaded


def now() -> str:
    """Return the time as InvokeAI writes it: UTC without a time zone."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


@dataclass(slots=True, kw_only=True)
class QueueItem:
    """An item of the queue. `session` is the final session as compressed JSON, None until it has ended."""

    item_id: int
    status: str = "pending"
    status_sequence: int = 0
    priority: int = 0
    batch_id: str
    origin: str | None
    destination: str | None
    session_id: str
    created_at: str = field(default_factory=now)
    updated_at: str = field(default_factory=now)
    started_at: str | None = None
    completed_at: str | None = None
    queue_id: str
    device: str | None = None
    graph: GraphTemplate
    field_values: tuple[dict[str, Any], ...] = ()  # that are put into the graph
    poison: str | None = None  # why the server cannot read its values, as on InvokeAI
    workflow: dict[str, Any] | None
    error: tuple[str, str, str] | None = None  # type, message, traceback
    retried_from: int | None = None
    session: bytes | None = None

    @property
    def is_ended(self) -> bool:
        """Tell whether the item has completed, failed or been canceled."""
        return self.status in TERMINAL_STATUSES

    def bind(self, types: NodeTypes) -> GraphTemplate:
        """Return the graph with this item's values in it. The item must not be poisonous."""
        nodes = dict(self.graph.nodes)
        for entry in self.field_values:
            changed = {**nodes[entry["node_path"]], entry["field_name"]: entry["value"]}
            nodes[entry["node_path"]] = types.accept(changed)
        return GraphTemplate(id=self.graph.id, nodes=nodes, edges=self.graph.edges)

    def keep_session(self, session: dict[str, Any]) -> None:
        """Store the session as it ended."""
        self.session = zlib.compress(json.dumps(session, separators=(",", ":")).encode(), 1)

    def load_session(self, types: NodeTypes) -> dict[str, Any]:
        """Return the session as it ended, or as it begins."""
        if self.session is None:
            return initial_session(self.session_id, self.bind(types))
        session: dict[str, Any] = json.loads(zlib.decompress(self.session))
        return session

    def describe_error(self) -> dict[str, str | None]:
        """Return type, message and traceback of its error as the API names them."""
        names = ("error_type", "error_message", "error_traceback")
        return dict(zip(names, self.error or (None, None, None), strict=True))

    def describe(self) -> dict[str, Any]:
        """Describe the item without session and workflow, as `i/{id}` does."""
        return {
            **{name: getattr(self, name) for name in _TOLD},
            **self.describe_error(),
            **_OWNER,
            "field_values": list(self.field_values),
            "retried_from_item_id": self.retried_from,
            **dict.fromkeys(_CALLS),
        }

    def summarise(self) -> dict[str, Any]:
        """Summarise the item as item_summaries_by_ids does."""
        summary = {name: getattr(self, name) for name in _SUMMARY}
        return {**summary, **_OWNER, "field_values": list(self.field_values), "parent_item_id": None}


_APART = {"graph", "field_values", "poison", "workflow", "error", "retried_from", "session"}
_TOLD = tuple(f.name for f in fields(QueueItem) if f.name not in _APART)
_OWNER = {"user_id": "system", "user_display_name": "System", "user_email": "system@system.invokeai"}
_CALLS = ("workflow_call_id", "parent_item_id", "parent_session_id", "root_item_id", "workflow_call_depth")
_TIMES = ("created_at", "started_at", "completed_at")
_SUMMARY = ("item_id", *_TIMES, "status", "device", "origin", "destination", "batch_id")
_RETRIED = ("queue_id", "batch_id", "origin", "destination", "graph", "field_values", "poison", "workflow", "priority")


def initial_session(session_id: str, graph: GraphTemplate) -> dict[str, Any]:
    """Build the session of an item that has not ended: InvokeAI stores nothing in between."""
    execution = {"id": str(uuid.uuid5(uuid.NAMESPACE_OID, session_id)), "nodes": {}, "edges": []}
    return {**RECORDS["session"], "id": session_id, "graph": graph.to_api(), "execution_graph": execution}


class SandboxQueue:
    """Keeps the items of all queue ids in memory, quickly; the caller stores them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.items: dict[int, QueueItem] = {}
        self.max_pending = 0  # the most items that ever waited at once
        self.last_id = 0
        self._pending: dict[int, dict[int, QueueItem]] = {}  # priority → item id → item
        self._running: dict[int, QueueItem] = {}
        self._of_batch: dict[tuple[str, str], dict[int, QueueItem]] = {}
        self._counts: dict[tuple[str, ...], Counter[str]] = {}

    def enqueue(self, queue_id: str, batch: Batch, *, prepend: bool) -> list[QueueItem]:
        """Expand a batch into queue items, as many as there is room for."""
        room = self.limit - self.counts("queue", queue_id)["pending"]
        groups = self._pending.items() if prepend else ()
        ahead = (number for number, group in groups if any(item.queue_id == queue_id for item in group.values()))
        priority = max(ahead, default=0) + prepend
        shared = {name: getattr(batch, name) for name in ("batch_id", "origin", "destination", "workflow")}
        shared |= {"queue_id": queue_id, "graph": batch.graph, "priority": priority}
        expanded = islice(batch.expand(), max(room, 0))
        return [self._make(**shared, field_values=values, poison=poison) for values, poison in expanded]

    def retry(self, items: Iterable[QueueItem]) -> list[QueueItem]:
        """Enqueue copies of failed and canceled items."""
        return [
            self._make(**{name: getattr(item, name) for name in _RETRIED}, retried_from=item.item_id)
            for item in items
            if item.status in {"failed", "canceled"}
        ]

    def _make(self, **facts: Any) -> QueueItem:
        item = QueueItem(item_id=self.last_id + 1, session_id=str(uuid.uuid4()), **facts)
        self.add(item)
        return item

    def add(self, item: QueueItem) -> None:
        """Add an item, a new one or one of an earlier process."""
        self.last_id = max(self.last_id, item.item_id)
        self.items[item.item_id] = item
        self._of_batch.setdefault((item.queue_id, item.batch_id), {})[item.item_id] = item
        self._count(item, 1)
        if item.status == "pending":
            self._pending.setdefault(item.priority, {})[item.item_id] = item
            self.max_pending = max(self.max_pending, sum(map(len, self._pending.values())))

    def move(self, item: QueueItem, status: str) -> None:
        """Change an item's status, its times and its sequence number with it."""
        self._take_out(item)
        item.status, item.status_sequence = status, item.status_sequence + 1
        item.updated_at = now()
        if status == "in_progress":
            item.started_at = item.updated_at
            self._running[item.item_id] = item
        elif item.is_ended:
            item.completed_at = item.updated_at
        self._count(item, 1)

    def remove(self, items: Iterable[QueueItem]) -> list[int]:
        """Forget items; return their ids."""
        gone = list(items)
        for item in gone:
            self._take_out(item)
            del self.items[item.item_id]
            of_batch = self._of_batch[item.queue_id, item.batch_id]
            del of_batch[item.item_id]
            if not of_batch:
                del self._of_batch[item.queue_id, item.batch_id]
        return [item.item_id for item in gone]

    def take(self, prefers: Callable[[QueueItem], bool] | None) -> QueueItem | None:
        """Take the next item to render, None where there is none or a poisonous one blocks the way."""
        priority = max(self._pending, default=None)
        if priority is None:
            return None
        head = list(islice(self._pending[priority].values(), _AHEAD))
        if head[0].poison:
            return None
        wanted = (item for item in head if prefers and not item.poison and prefers(item))
        return next(wanted, head[0])

    def of(self, queue_id: str, destination: str | None = None) -> Iterator[QueueItem]:
        """Yield all items of a queue id, or those of one destination, oldest first."""
        for item in self.items.values():
            if item.queue_id == queue_id and destination in {None, item.destination}:
                yield item

    def of_batch(self, queue_id: str, batch_id: str) -> list[QueueItem]:
        """List the items of a batch, oldest first."""
        return list(self._of_batch.get((queue_id, batch_id), {}).values())

    def counts(self, *of: str) -> dict[str, int]:
        """Count items by status of ("queue", id), ("batch", queue id, id) or ("destination", queue id, name)."""
        found = self._counts.get(of, Counter())
        return {**{status: found[status] for status in STATUSES}, "total": sum(found.values())}

    def batch_status(self, queue_id: str, batch_id: str) -> dict[str, Any]:
        """Count a batch's items by status; all zeros for an unknown one."""
        first = next(iter(self._of_batch.get((queue_id, batch_id), {}).values()), None)
        labels = {"origin": first and first.origin, "destination": first and first.destination}
        return {"queue_id": queue_id, "batch_id": batch_id, **labels, **self.counts("batch", queue_id, batch_id)}

    def queue_status(self, queue_id: str) -> dict[str, Any]:
        """Count a queue id's items by status, with its current item."""
        item = next((item for item in self._running.values() if item.queue_id == queue_id), None)
        about = {name: getattr(item, name, None) for name in ("item_id", "batch_id", "session_id")}
        counts = self.counts("queue", queue_id)
        mine = {"user_pending": counts["pending"], "user_in_progress": counts["in_progress"]}
        return {"queue_id": queue_id, **about, **counts, **mine}

    def _count(self, item: QueueItem, by: int) -> None:
        for of in (
            ("queue", item.queue_id),
            ("batch", item.queue_id, item.batch_id),
            ("destination", item.queue_id, item.destination or ""),
        ):
            self._counts.setdefault(of, Counter())[item.status] += by

    def _take_out(self, item: QueueItem) -> None:
        """Take an item out of the counts, of those that wait and of those that run."""
        self._count(item, -1)
        self._running.pop(item.item_id, None)
        group = self._pending.get(item.priority, {})
        group.pop(item.item_id, None)
        if not group:
            self._pending.pop(item.priority, None)


_T = TypeVar("_T")
_PATIENCE = 2.0  # seconds to wait for another sandbox to end
_TABLES = (resources.files(__package__) / "item_queue.sql").read_text("utf-8")
_PUT_GRAPH = "INSERT INTO graphs (body) VALUES (?) ON CONFLICT DO UPDATE SET body = body RETURNING graph_id"
_RAISE_LAST_ID = (
    "INSERT INTO records VALUES ('meta', 'last_id', :id) ON CONFLICT DO UPDATE SET body = max(body + 0, :id)"
)
_COLUMNS = {"item_id", "graph", "field_values", "session"}  # kept beside the facts
_FACTS = tuple(f.name for f in fields(QueueItem) if f.name not in _COLUMNS)


class Store:
    """The database file; without a path, nothing is stored. A method returns after its commit, in the order of calls.

    Only one process may use it at a time, as two would hand out the same ids. The first call raises UsageError where
    another process has the folder: a lock holds it, which the system releases when the process ends, also by a kill.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-store")
        self._db: sqlite3.Connection | None = None
        self._held: sqlite3.Connection | None = None

    async def _do(self, work: Callable[[sqlite3.Connection], _T], nothing: _T) -> _T:
        """Do the work in a transaction; without a database return `nothing`."""
        path = self._path
        if path is None:
            return nothing

        def run() -> _T:
            if self._db is None:
                self._held = _hold(path.with_name("in-use.sqlite"))
                self._db = sqlite3.connect(path)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")  # a kill loses nothing; a power cut may
                self._db.executescript(_TABLES)
            with self._db:
                return work(self._db)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    async def load(self, queue: SandboxQueue) -> None:
        """Fill the queue with the stored items; those that were running come back as canceled."""

        def work(db: sqlite3.Connection) -> None:
            for row in db.execute(
                "SELECT item_id, facts, session, body FROM items JOIN graphs USING (graph_id) ORDER BY item_id"
            ):
                queue.add(_read_item(*row))
            for row in db.execute("SELECT body FROM records WHERE kind = 'meta' AND name = 'last_id'"):
                queue.last_id = max(queue.last_id, int(row[0]))

        await self._do(work, None)
        killed = [item for item in queue.items.values() if item.status == "in_progress"]
        for item in killed:
            queue.move(item, "canceled")
        await self.save(killed)

    async def save(self, items: Iterable[QueueItem]) -> None:
        """Write items, new or changed."""
        rows = [_write_item(item) for item in items if self._path is not None]

        def work(db: sqlite3.Connection) -> None:
            ids = {body: db.execute(_PUT_GRAPH, (body,)).fetchone()[0] for body in {body for body, _ in rows}}
            values = [(item_id, ids[body], *rest) for body, (item_id, *rest) in rows]
            db.executemany("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?)", values)
            db.execute(_RAISE_LAST_ID, {"id": max(row[0] for row in values)})

        if rows:
            await self._do(work, None)

    async def delete(self, item_ids: Iterable[int]) -> None:
        """Delete items."""
        gone = [(item_id,) for item_id in item_ids]
        await self._do(lambda db: db.executemany("DELETE FROM items WHERE item_id = ?", gone) and None, None)

    async def load_records(self, kind: str) -> list[dict[str, Any]]:
        """List the records of a kind (`image`, `board`), in the order they were made."""
        query = "SELECT body FROM records WHERE kind = ? ORDER BY rowid"
        return await self._do(lambda db: [json.loads(row[0]) for row in db.execute(query, (kind,))], [])

    async def save_record(self, kind: str, name: str, body: dict[str, Any] | None, rendered: str | None = None) -> None:
        """Write one record, None deletes it; in the same transaction count a render of the key `rendered`."""

        def work(db: sqlite3.Connection) -> None:
            if body is None:
                db.execute("DELETE FROM records WHERE kind = ? AND name = ?", (kind, name))
            else:
                db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (kind, name, json.dumps(body)))
            if rendered is not None:
                upsert = "INSERT INTO renders VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET count = count + 1"
                db.execute(upsert, (rendered,))

        await self._do(work, None)

    async def load_renders(self) -> dict[str, int]:
        """Count renders by key so far."""
        return await self._do(lambda db: dict(db.execute("SELECT key, count FROM renders").fetchall()), {})

    async def aclose(self) -> None:
        """Close the file."""
        for connection in (self._db, self._held):
            if connection is not None:
                await asyncio.get_running_loop().run_in_executor(self._thread, connection.close)
        self._thread.shutdown(wait=False)


def _hold(path: Path) -> sqlite3.Connection:
    """Open a connection that keeps others from opening theirs. Raises UsageError where another process has one."""
    connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        connection.close()
        raise UsageError(
            f"{path.parent} is in use by another sandbox.", hint="Stop it, or take another --root."
        ) from None
    return connection


def _write_item(item: QueueItem) -> tuple[str, tuple[Any, ...]]:
    """Return the graph's JSON, and the item's row without it."""
    facts = {name: getattr(item, name) for name in _FACTS}
    body = json.dumps({**facts, "fields": item.field_values})
    return json.dumps(item.graph.to_api()), (item.item_id, body, item.status, item.session)


def _read_item(item_id: int, facts: str, session: bytes | None, graph: str) -> QueueItem:
    kept, body = json.loads(facts), json.loads(graph)
    values = tuple(kept.pop("fields"))
    template = GraphTemplate(id=body["id"], nodes=body["nodes"], edges=tuple(body["edges"]))
    kept["error"] = tuple(kept["error"]) if kept["error"] else None
    return QueueItem(item_id=item_id, field_values=values, graph=template, session=session, **kept)
