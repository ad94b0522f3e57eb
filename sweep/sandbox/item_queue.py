"""Posted batches, checked and expanded as InvokeAI does it, and the queue of their items, in memory."""

from __future__ import annotations

import itertools
import json
import math
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from pydantic import BaseModel, Field, StrictStr, ValidationError

from sweep.sandbox.graph_expansion import initial_session
from sweep.sandbox.graph_schemas import GraphTemplate, ImageField, NodeTypes, read_graph
from sweep.sandbox.requests import RefusedError, collect_faults, read_member, read_value, refuse_value

_Scalar = StrictStr | float | int | ImageField


class Datum(BaseModel):
    """One axis of a batch: the values one field takes."""

    node_path: str
    field_name: str
    items: list[_Scalar | list[_Scalar]] = Field(default_factory=list)


class BatchSettings(BaseModel):
    """A posted batch without its graph, which the node schemas check."""

    batch_id: str = Field(default_factory=lambda: str(uuid.uuid4()))
    origin: str | None = None
    destination: str | None = None
    data: list[list[Datum]] | None = None
    workflow: dict[str, Any] | None = None
    runs: int = Field(default=1, ge=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """An accepted batch."""

    settings: BatchSettings
    graph: GraphTemplate
    poisons: Mapping[tuple[int, int, int], str] = field(default_factory=dict)  # (group, datum, value) → why

    def _sizes(self) -> list[int]:
        return [len(group[0].items) if group else 0 for group in self.settings.data or ()]

    def count_items(self) -> int:
        """Count the items that it asks for."""
        return math.prod(self._sizes()) * self.settings.runs

    def expand(self) -> Iterator[tuple[tuple[dict[str, Any], ...], str | None]]:
        """Yield the values that each item puts into the graph, with the error where the server cannot read them later.

        Runs vary slowest, then the groups, the last fastest; a group's data are zipped.
        """
        groups = self.settings.data or []
        for _ in range(self.settings.runs):
            for places in itertools.product(*map(range, self._sizes())):
                chosen = [(g, d, i) for g, i in enumerate(places) for d in range(len(groups[g]))]
                poison = next((self.poisons[place] for place in chosen if place in self.poisons), None)
                yield tuple(_pick_value(groups[g][d], i) for g, d, i in chosen), poison

    def to_api(self) -> dict[str, Any]:
        """Return the batch as the answer to an enqueue repeats it."""
        kept = self.settings.model_dump()
        last = {"graph": self.graph.to_api(), "workflow": kept.pop("workflow"), "runs": kept.pop("runs")}
        return {**kept, **last}


def _pick_value(datum: Datum, index: int) -> dict[str, Any]:
    value = datum.items[index]
    plain = [_dump(item) for item in value] if isinstance(value, list) else _dump(value)
    return {"node_path": datum.node_path, "field_name": datum.field_name, "value": plain}


def _dump(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else value


def read_batch(body: Any, types: NodeTypes) -> Batch:
    """Read the batch of an enqueue_batch body. Raises RefusedError with 422 and every problem found."""
    posted = read_member(body, "batch", dict[str, Any])
    faults: list[dict[str, Any]] = []
    settings = collect_faults(faults, _read_settings, posted)
    graph = collect_faults(faults, read_graph, posted.get("graph"), types, ("body", "batch", "graph"))
    if faults:
        raise RefusedError(422, faults)
    _check_targets(settings, graph, types, posted)
    return Batch(settings=settings, graph=graph, poisons=dict(_find_poisons(settings, graph, types)))


def _read_settings(posted: dict[str, Any]) -> BatchSettings:
    settings: BatchSettings = read_value(BatchSettings, posted, "body", "batch")
    data = settings.data or []
    every = [datum for group in data for datum in group]
    kinds = ({float if isinstance(item, int | float) else type(item) for item in datum.items} for datum in every)
    message = None
    if any(len({len(datum.items) for datum in group}) > 1 for group in data):
        message = "Zipped batch items must all have the same length"
    elif any(len(found) > 1 for found in kinds):
        message = "All items in a batch must have the same type"
    elif len({(datum.node_path, datum.field_name) for datum in every}) < len(every):
        message = "Each batch data must have unique node_id and field_name"
    if message:
        raise refuse_value(("body", "batch", "data"), message, posted.get("data"))
    return settings


def _check_targets(settings: BatchSettings, graph: GraphTemplate, types: NodeTypes, posted: Any) -> None:
    for datum in itertools.chain.from_iterable(settings.data or ()):
        node = graph.nodes.get(datum.node_path)
        if node is None:
            message = f"Node {datum.node_path} not found in graph"
        elif not types.has_field(node, datum.field_name):
            message = f"Field {datum.field_name} not found in node {datum.node_path}"
        else:
            continue
        raise refuse_value(("body", "batch"), message, posted)


def _find_poisons(
    settings: BatchSettings, graph: GraphTemplate, types: NodeTypes
) -> Iterator[tuple[tuple[int, int, int], str]]:
    """Find values that InvokeAI accepts and cannot read afterwards, with the error it gives then."""
    for g, group in enumerate(settings.data or ()):
        for d, datum in enumerate(group):
            for i in range(len(datum.items)):
                try:
                    types.put(graph.nodes[datum.node_path], datum.field_name, _pick_value(datum, i)["value"])
                except (ValidationError, KeyError, ValueError) as error:
                    yield (g, d, i), _describe_poison(datum.node_path, error)


def _describe_poison(node: str, error: Exception) -> str:
    head = "1 validation error for GraphExecutionState\ngraph"
    if not isinstance(error, ValidationError):
        return f"{head}\n  Value error, {error}"
    entry = error.errors(include_url=False)[0]
    place = ".".join(map(str, (f"nodes.{node}", error.title, *entry["loc"])))
    value, kind = entry["input"], type(entry["input"]).__name__
    return f"{head}.{place}\n  {entry['msg']} [type={entry['type']}, input_value={value!r}, input_type={kind}]"


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


class SandboxQueue:
    """All items of all queue ids. Every method is quick and touches no file; the caller stores the items."""

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
        shared = {name: getattr(batch.settings, name) for name in ("batch_id", "origin", "destination", "workflow")}
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
