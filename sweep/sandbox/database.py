"""Keeps queue, images' records, boards and render counts in SQLite, so that they outlive a kill; one thread writes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sweep.errors import UsageError
from sweep.sandbox.batches import BatchValues, GraphTemplate
from sweep.sandbox.queue import QueueItem, SandboxQueue

_T = TypeVar("_T")
_PATIENCE = 2.0  # seconds that a sandbox before may take to end
_TABLES = """
CREATE TABLE IF NOT EXISTS items (item_id INTEGER PRIMARY KEY, graph_id INTEGER NOT NULL, facts TEXT NOT NULL,
    status TEXT NOT NULL, session BLOB);
CREATE TABLE IF NOT EXISTS graphs (graph_id INTEGER PRIMARY KEY, body TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS records (kind TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (kind, name));
CREATE TABLE IF NOT EXISTS renders (key TEXT PRIMARY KEY, count INTEGER NOT NULL);
"""
_FACTS = (
    "queue_id",
    "batch_id",
    "origin",
    "destination",
    "workflow",
    "session_id",
    "status",
    "status_sequence",
    "priority",
    "created_at",
    "updated_at",
    "started_at",
    "completed_at",
    "error",
    "retried_from",
    "device",
)


class Store:
    """Keeps nothing: what a sandbox without a root has. `SqliteStore` keeps everything."""

    async def load(self, queue: SandboxQueue) -> None:
        """Fill the queue with what was there before; items that were running come back as canceled."""

    async def save(self, items: Iterable[QueueItem]) -> None:
        """Write items, new or changed."""

    async def delete(self, item_ids: Iterable[int]) -> None:
        """Forget items."""

    async def records(self, kind: str) -> list[dict[str, Any]]:  # noqa: ARG002 -- there are none of any kind
        """List the records of a kind (`image`, `board`), in the order they were made."""
        return []

    async def record(self, kind: str, name: str, body: dict[str, Any] | None, rendered: str | None = None) -> None:
        """Write one record, None deletes it; in the same transaction count a render of the key `rendered`."""

    async def renders(self) -> dict[str, int]:
        """Count renders by key so far."""
        return {}

    async def aclose(self) -> None:
        """Close the file."""


class SqliteStore(Store):
    """One database file. Each method returns after its commit, in the order of the calls.

    Only one process at a time: two would hand out the same ids. The first call raises UsageError where another one
    has the folder; what holds it is a lock that goes with the process, however that ends.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-store")
        self._db: sqlite3.Connection | None = None
        self._held: sqlite3.Connection | None = None

    async def _do(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        def run() -> _T:
            if self._db is None:
                self._held = _hold(self._path.with_name("in-use.sqlite"))
                self._db = sqlite3.connect(self._path)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")  # a kill loses nothing; a power cut may
                self._db.executescript(_TABLES)
            with self._db:
                return work(self._db)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    async def load(self, queue: SandboxQueue) -> None:
        def work(db: sqlite3.Connection) -> list[QueueItem]:
            query = "SELECT item_id, facts, session, body FROM items JOIN graphs USING (graph_id) ORDER BY item_id"
            return [_item(*row) for row in db.execute(query)]

        def last(db: sqlite3.Connection) -> int:
            row = db.execute("SELECT body FROM records WHERE kind = 'meta' AND name = 'last_id'").fetchone()
            return int(row[0]) if row else 0

        items = await self._do(work)
        for item in items:
            queue.add(item)
        queue.last_id = max(queue.last_id, await self._do(last))
        killed = [item for item in items if item.status == "in_progress"]
        for item in killed:
            queue.move(item, "canceled")
        await self.save(killed)

    async def save(self, items: Iterable[QueueItem]) -> None:
        rows = [(item.item_id, _graph(item), json.dumps(_facts(item)), item.status, item.session) for item in items]
        if not rows:
            return

        def work(db: sqlite3.Connection) -> None:
            bodies = {row[1] for row in rows}
            db.executemany("INSERT OR IGNORE INTO graphs (body) VALUES (?)", [(body,) for body in bodies])
            query = "SELECT graph_id FROM graphs WHERE body = ?"
            ids = {body: db.execute(query, (body,)).fetchone()[0] for body in bodies}
            values = [(item_id, ids[body], *rest) for item_id, body, *rest in rows]
            db.executemany("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?)", values)
            _raise_last_id(db, max(row[0] for row in rows))

        await self._do(work)

    async def delete(self, item_ids: Iterable[int]) -> None:
        gone = [(item_id,) for item_id in item_ids]
        await self._do(lambda db: db.executemany("DELETE FROM items WHERE item_id = ?", gone) and None)

    async def records(self, kind: str) -> list[dict[str, Any]]:
        query = "SELECT body FROM records WHERE kind = ? ORDER BY rowid"
        return await self._do(lambda db: [json.loads(row[0]) for row in db.execute(query, (kind,))])

    async def record(self, kind: str, name: str, body: dict[str, Any] | None, rendered: str | None = None) -> None:
        def work(db: sqlite3.Connection) -> None:
            if body is None:
                db.execute("DELETE FROM records WHERE kind = ? AND name = ?", (kind, name))
            else:
                db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (kind, name, json.dumps(body)))
            if rendered is not None:
                upsert = "INSERT INTO renders VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET count = count + 1"
                db.execute(upsert, (rendered,))

        await self._do(work)

    async def renders(self) -> dict[str, int]:
        return await self._do(lambda db: dict(db.execute("SELECT key, count FROM renders").fetchall()))

    async def aclose(self) -> None:
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


def _raise_last_id(db: sqlite3.Connection, item_id: int) -> None:
    upsert = "INSERT INTO records VALUES ('meta', 'last_id', ?) ON CONFLICT DO UPDATE SET body = max(body + 0, ?)"
    db.execute(upsert, (item_id, item_id))


def _graph(item: QueueItem) -> str:
    return json.dumps(item.graph.to_api())


def _facts(item: QueueItem) -> dict[str, Any]:
    facts = {name: getattr(item, name) for name in _FACTS}
    return {**facts, "fields": item.values.fields, "poison": item.values.poison}


def _item(item_id: int, facts: str, session: bytes | None, graph: str) -> QueueItem:
    kept = json.loads(facts)
    values = BatchValues(fields=tuple(kept.pop("fields")), poison=kept.pop("poison"))
    body = json.loads(graph)
    template = GraphTemplate(id=body["id"], nodes=body["nodes"], edges=tuple(body["edges"]))
    error = kept.pop("error")
    kept["error"] = tuple(error) if error else None
    return QueueItem(item_id=item_id, values=values, graph=template, session=session, **kept)
