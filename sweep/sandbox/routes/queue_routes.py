"""Routes of the session queue."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from sweep.sandbox.http_requests import RefusedError, body_of, drop_nulls, read_member, read_required, read_value, route
from sweep.sandbox.item_queue import QueueItem
from sweep.sandbox.posted_batches import read_batch
from sweep.sandbox.running_sandbox import Sandbox

_Ids = Annotated[list[int], Field(max_length=1000)]


async def _enqueue(sandbox: Sandbox, request: web.Request, queue_id: str) -> Any:
    body = await body_of(request)
    batch = read_batch(body, sandbox.types)
    made = sandbox.queue.enqueue(queue_id, batch, prepend=bool(body.get("prepend", False)))
    await sandbox.store.save(made)
    of_batch = sandbox.queue.of_batch(queue_id, batch.batch_id)
    answer = {
        "queue_id": queue_id,
        "enqueued": len(made),
        "requested": batch.count_items(),
        "batch": batch.to_api(),
        "priority": made[0].priority if made else 0,
        "item_ids": sorted((item.item_id for item in of_batch), reverse=True),
    }
    await sandbox.events.batch_enqueued(answer)
    sandbox.workers.wake()
    return answer


def _find_item(sandbox: Sandbox, queue_id: str, item_id: str) -> QueueItem:
    """Find an item of this queue. Raises RefusedError with InvokeAI's 404, 422 and 500."""
    item = sandbox.queue.items.get(read_value(int, item_id, "path", "item_id"))
    message = f"Queue item with id {item_id} not found in queue {queue_id}"
    if item is None:
        raise RefusedError(404, message)
    if item.queue_id != queue_id:
        raise RefusedError(500, f"Unexpected error while fetching queue item: 404: {message}")
    return item


def _describe_item(sandbox: Sandbox, item: QueueItem, doing: str = "fetching queue item") -> dict[str, Any]:
    """Describe an item with its session. Raises RefusedError with 500 for a poisonous one, as InvokeAI does."""
    if item.poison:
        raise RefusedError(500, f"Unexpected error while {doing}: {item.poison}")
    return {**item.describe(), "session": item.load_session(sandbox.types), "workflow": item.workflow}


async def _remove(sandbox: Sandbox, items: Iterable[QueueItem]) -> dict[str, int]:
    """Cancel and forget items."""
    gone = list(items)
    await sandbox.workers.cancel(gone)
    gone = [item for item in gone if item.item_id in sandbox.queue.items]
    await sandbox.store.delete(sandbox.queue.remove(gone))
    return {"deleted": len(gone)}


def _describe_processor(sandbox: Sandbox) -> dict[str, bool]:
    return {"is_started": not sandbox.workers.paused, "is_processing": sandbox.workers.busy > 0}


def _status(sandbox: Sandbox, _: web.Request, queue_id: str) -> Any:
    return {"queue": sandbox.queue.queue_status(queue_id), "processor": _describe_processor(sandbox)}


def _pause_or_resume(sandbox: Sandbox, _: web.Request, step: str, **_queue: str) -> Any:
    sandbox.workers.paused = step == "pause"
    sandbox.workers.wake()
    return _describe_processor(sandbox)


def _count_destination(sandbox: Sandbox, request: web.Request, queue_id: str) -> Any:
    (destination,) = read_required(request.query, "destination")
    counts = sandbox.queue.counts("destination", queue_id, destination)
    return {"queue_id": queue_id, "destination": destination, **counts}


def _item_ids(sandbox: Sandbox, request: web.Request, queue_id: str) -> Any:
    newest_first = request.query.get("order_dir", "DESC") == "DESC"
    ids = sorted((item.item_id for item in sandbox.queue.of(queue_id)), reverse=newest_first)
    return {"item_ids": ids, "total_count": len(ids)}


def _list_all(sandbox: Sandbox, request: web.Request, queue_id: str) -> Any:
    items = sandbox.queue.of(queue_id, request.query.get("destination"))
    return [_describe_item(sandbox, item, "listing all queue items") for item in items]


async def _find_asked(sandbox: Sandbox, request: web.Request, queue_id: str) -> list[QueueItem]:
    ids = read_member(await body_of(request), "item_ids", _Ids)
    items = sandbox.queue.items
    return [items[i] for i in ids if i in items and items[i].queue_id == queue_id]


async def _summarise(sandbox: Sandbox, request: web.Request, **place: str) -> Any:
    return [item.summarise() for item in await _find_asked(sandbox, request, **place)]


async def _describe_asked(sandbox: Sandbox, request: web.Request, **place: str) -> Any:
    asked = await _find_asked(sandbox, request, **place)
    return [_describe_item(sandbox, item) for item in asked if not item.poison]


def _get_item(sandbox: Sandbox, _: web.Request, **place: str) -> Any:
    return drop_nulls(_describe_item(sandbox, _find_item(sandbox, **place)))


async def _delete_item(sandbox: Sandbox, _: web.Request, **place: str) -> None:
    item = _find_item(sandbox, **place)
    _describe_item(sandbox, item, "deleting queue item")
    await _remove(sandbox, [item])


async def _cancel_item(sandbox: Sandbox, _: web.Request, **place: str) -> Any:
    item = _find_item(sandbox, **place)
    _describe_item(sandbox, item, "canceling queue item")
    for stopped in await sandbox.workers.cancel([item]):
        await sandbox.events.status_changed(stopped)
    return _describe_item(sandbox, item)


async def _cancel_batches(sandbox: Sandbox, request: web.Request, queue_id: str) -> Any:
    """Cancel the items of batches, with the one event that InvokeAI sends for them."""
    ids = read_member(await body_of(request), "batch_ids", list[str])
    batches = [sandbox.queue.of_batch(queue_id, batch_id) for batch_id in dict.fromkeys(ids)]
    stopped = await sandbox.workers.cancel(item for batch in batches for item in batch)
    if stopped:
        await sandbox.events.items("canceled", queue_id, [item.item_id for item in stopped])
    return {"canceled": len(stopped)}


async def _retry(sandbox: Sandbox, request: web.Request, queue_id: str) -> Any:
    ids = read_value(list[int], await body_of(request), "body")
    items = [sandbox.queue.items[item_id] for item_id in ids if item_id in sandbox.queue.items]
    for item in items:
        if item.queue_id != queue_id:
            raise RefusedError(404, f"Queue item with id {item.item_id} not found in queue {queue_id}")
        _describe_item(sandbox, item, "retrying queue items")
    copies = sandbox.queue.retry(items)
    await sandbox.store.save(copies)
    originals = [copy.retried_from for copy in copies if copy.retried_from is not None]
    if originals:
        await sandbox.events.items("retried", queue_id, originals)
    sandbox.workers.wake()
    return {"queue_id": queue_id, "retried_item_ids": originals}


async def _clear(sandbox: Sandbox, _: web.Request, queue_id: str) -> Any:
    answer = await _remove(sandbox, sandbox.queue.of(queue_id))
    await sandbox.events.send("queue_cleared", {"queue_id": queue_id, "user_id": None}, room=queue_id)
    return answer


_Q = "/api/v1/queue/{queue_id}"
QUEUE_ROUTES = (
    route("POST", f"{_Q}/enqueue_batch", _enqueue),
    route("GET", f"{_Q}/status", _status),
    route("PUT", f"{_Q}/processor/{{step:pause|resume}}", _pause_or_resume),
    route("GET", f"{_Q}/b/{{batch_id}}/status", lambda sandbox, _, **batch: sandbox.queue.batch_status(**batch)),
    route("GET", f"{_Q}/counts_by_destination", _count_destination),
    route("GET", f"{_Q}/item_ids", _item_ids),
    route("GET", f"{_Q}/list_all", _list_all),
    route("POST", f"{_Q}/item_summaries_by_ids", _summarise),
    route("POST", f"{_Q}/items_by_ids", _describe_asked),
    route("GET", f"{_Q}/i/{{item_id}}", _get_item),
    route("DELETE", f"{_Q}/i/{{item_id}}", _delete_item),
    route("PUT", f"{_Q}/i/{{item_id}}/cancel", _cancel_item),
    route("PUT", f"{_Q}/cancel_by_batch_ids", _cancel_batches),
    route("PUT", f"{_Q}/retry_items_by_id", _retry),
    route("DELETE", f"{_Q}/d/{{destination}}", lambda sandbox, _, **of: _remove(sandbox, sandbox.queue.of(**of))),
    route("PUT", f"{_Q}/clear", _clear),
)
