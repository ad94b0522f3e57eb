"""The queue in memory: items in every state, who is next, and the counts clients ask for."""

from __future__ import annotations

import json
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sweep.sandbox.batches import Batch, GraphTemplate
from sweep.sandbox.graph_execution import initial_session
from sweep.sandbox.node_types import NodeTypes

STATUSES = ("pending", "in_progress", "waiting", "completed", "failed", "canceled")
TERMINAL_STATUSES = frozenset({"completed", "failed", "canceled"})
_AHEAD = 32  # how far a worker looks for an item whose model it has loaded


def now() -> str:
    """Return the time as InvokeAI writes it: UTC without a time zone."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


@dataclass(slots=True, kw_only=True)
class QueueItem:
    """One queue item. `session` is the final session as compressed JSON, None until it has ended."""

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
        """Tell whether its status will not change any more."""
        return self.status in TERMINAL_STATUSES

    def bound(self, types: NodeTypes) -> GraphTemplate:
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
            return initial_session(self.session_id, self.bound(types))
        session: dict[str, Any] = json.loads(zlib.decompress(self.session))
        return session

    def describe_error(self) -> dict[str, str | None]:
        """Return type, message and traceback of its error as the API names them."""
        names = ("error_type", "error_message", "error_traceback")
        return dict(zip(names, self.error or (None, None, None), strict=True))

    def facts(self) -> dict[str, Any]:
        """Return everything but session and workflow, as `i/{id}` gives it."""
        return {
            **{name: getattr(self, name) for name in _TOLD},
            **self.describe_error(),
            **_OWNER,
            "field_values": list(self.field_values),
            "retried_from_item_id": self.retried_from,
            **dict.fromkeys(_CALLS),
        }

    def summary(self) -> dict[str, Any]:
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


class SandboxQueue:
    """All items of all queue ids. Every method is quick and touches no file; persistence is the caller's."""

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
        first = self.peek(queue_id) if prepend else None
        priority = (first.priority if first else 0) + 1 if prepend else 0
        shared = {name: getattr(batch.frame, name) for name in ("batch_id", "origin", "destination", "workflow")}
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
        """Take in an item, new or from an earlier life."""
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

    def peek(self, queue_id: str) -> QueueItem | None:
        """Return the next item of one queue id."""
        for priority in sorted(self._pending, reverse=True):
            for item in self._pending[priority].values():
                if item.queue_id == queue_id:
                    return item
        return None

    def of(self, queue_id: str, destination: str | None = None) -> Iterator[QueueItem]:
        """Yield all items of a queue id, or those of one destination, oldest first."""
        for item in self.items.values():
            if item.queue_id == queue_id and destination in {None, item.destination}:
                yield item

    def of_batch(self, queue_id: str, batch_id: str) -> list[QueueItem]:
        """List the items of a batch, oldest first."""
        return list(self._of_batch.get((queue_id, batch_id), {}).values())

    def current(self, queue_id: str) -> QueueItem | None:
        """Return a running item of a queue id."""
        return next((item for item in self._running.values() if item.queue_id == queue_id), None)

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
        item = self.current(queue_id)
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
