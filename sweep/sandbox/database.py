"""Keeps queue, images' records, boards and render counts in SQLite, so that they outlive a kill; one thread writes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from sweep.errors import UsageError
from sweep.sandbox.batches import GraphTemplate
from sweep.sandbox.item_queue import QueueItem, SandboxQueue

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
_PUT_GRAPH = "INSERT INTO graphs (body) VALUES (?) ON CONFLICT DO UPDATE SET body = body RETURNING graph_id"
_RAISE_LAST_ID = "INSERT INTO records VALUES ('meta', 'last_id', ?1) ON CONFLICT DO UPDATE SET body = max(body + 0, ?1)"
_APART = {"item_id", "graph", "field_values", "session"}  # not among an item's facts
_FACTS = tuple(f.name for f in fields(QueueItem) if f.name not in _APART)


class Store:
    """One database file; without a path, nothing is kept. Each method returns after its commit, in the calls' order.

    Only one process at a time: two would hand out the same ids. The first call raises UsageError where another one
    has the folder; what holds it is a lock that goes with the process, however that ends.
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
        """Fill the queue with what was there before; items that were running come back as canceled."""

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
            db.execute(_RAISE_LAST_ID, (max(row[0] for row in values),))

        if rows:
            await self._do(work, None)

    async def delete(self, item_ids: Iterable[int]) -> None:
        """Forget items."""
        gone = [(item_id,) for item_id in item_ids]
        await self._do(lambda db: db.executemany("DELETE FROM items WHERE item_id = ?", gone) and None, None)

    async def records(self, kind: str) -> list[dict[str, Any]]:
        """List the records of a kind (`image`, `board`), in the order they were made."""
        query = "SELECT body FROM records WHERE kind = ? ORDER BY rowid"
        return await self._do(lambda db: [json.loads(row[0]) for row in db.execute(query, (kind,))], [])

    async def record(self, kind: str, name: str, body: dict[str, Any] | None, rendered: str | None = None) -> None:
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

    async def renders(self) -> dict[str, int]:
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
