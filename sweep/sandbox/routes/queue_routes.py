"""Routes of the session queue."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from sweep.sandbox.batches import RefusedError, read_member, read_required, read_value
from sweep.sandbox.item_queue import QueueItem
from sweep.sandbox.routes.middleware import body_of, drop_nulls, route
from sweep.sandbox.service import Sandbox

_Q = "/api/v1/queue/{queue_id}"
_Ids = Annotated[list[int], Field(max_length=1000)]


def _queue_id(request: web.Request) -> str:
    return request.match_info["queue_id"]


def _find_item(sandbox: Sandbox, request: web.Request) -> QueueItem:
    return sandbox.item(_queue_id(request), read_value(int, request.match_info["item_id"], "path", "item_id"))


def _list_items(sandbox: Sandbox, request: web.Request, destination: str | None = None) -> list[QueueItem]:
    """List the items of the queue, or those of one destination."""
    items = sandbox.queue.of(_queue_id(request))
    return [item for item in items if destination in {None, item.destination}]


async def _enqueue(sandbox: Sandbox, request: web.Request) -> Any:
    return await sandbox.enqueue(_queue_id(request), await body_of(request))


def _describe_processor(sandbox: Sandbox) -> dict[str, bool]:
    return {"is_started": not sandbox.workers.paused, "is_processing": sandbox.workers.busy > 0}


def _status(sandbox: Sandbox, request: web.Request) -> Any:
    return {"queue": sandbox.queue.queue_status(_queue_id(request)), "processor": _describe_processor(sandbox)}


def _pause_or_resume(sandbox: Sandbox, request: web.Request) -> Any:
    sandbox.workers.paused = request.match_info["what"] == "pause"
    sandbox.workers.wake()
    return _describe_processor(sandbox)


def _batch_status(sandbox: Sandbox, request: web.Request) -> Any:
    return sandbox.queue.batch_status(_queue_id(request), request.match_info["batch_id"])


def _count_destination(sandbox: Sandbox, request: web.Request) -> Any:
    (destination,) = read_required(request.query, "destination")
    counts = sandbox.queue.counts("destination", _queue_id(request), destination)
    return {"queue_id": _queue_id(request), "destination": destination, **counts}


def _current(sandbox: Sandbox, request: web.Request) -> Any:
    item = sandbox.queue.current(_queue_id(request))
    return sandbox.full(item, "getting current queue item") if item else None


def _item_ids(sandbox: Sandbox, request: web.Request) -> Any:
    newest_first = request.query.get("order_dir", "DESC") == "DESC"
    ids = sorted((item.item_id for item in _list_items(sandbox, request)), reverse=newest_first)
    return {"item_ids": ids, "total_count": len(ids)}


def _list_all(sandbox: Sandbox, request: web.Request) -> Any:
    items = _list_items(sandbox, request, request.query.get("destination"))
    return [sandbox.full(item, "listing all queue items") for item in items]


async def _find_asked(sandbox: Sandbox, request: web.Request) -> list[QueueItem]:
    ids = read_member(await body_of(request), "item_ids", _Ids)
    items = sandbox.queue.items
    return [items[i] for i in ids if i in items and items[i].queue_id == _queue_id(request)]


async def _summarise(sandbox: Sandbox, request: web.Request) -> Any:
    return [item.summary() for item in await _find_asked(sandbox, request)]


async def _items_by_ids(sandbox: Sandbox, request: web.Request) -> Any:
    return [sandbox.full(item) for item in await _find_asked(sandbox, request) if not item.values.poison]


def _item(sandbox: Sandbox, request: web.Request) -> Any:
    return drop_nulls(sandbox.full(_find_item(sandbox, request)))


async def _delete_item(sandbox: Sandbox, request: web.Request) -> None:
    item = _find_item(sandbox, request)
    sandbox.full(item, "deleting queue item")
    await sandbox.remove([item])


async def _cancel_item(sandbox: Sandbox, request: web.Request) -> Any:
    item = _find_item(sandbox, request)
    sandbox.full(item, "canceling queue item")
    for stopped in await sandbox.cancel([item]):
        await sandbox.events.status_changed(stopped)
    return sandbox.full(item)


async def _cancel_batches(sandbox: Sandbox, request: web.Request) -> Any:
    ids = read_member(await body_of(request), "batch_ids", list[str])
    batches = [sandbox.queue.of_batch(_queue_id(request), batch_id) for batch_id in dict.fromkeys(ids)]
    return await _cancel_many(sandbox, request, (item for batch in batches for item in batch))


async def _cancel_pending(sandbox: Sandbox, request: web.Request) -> Any:
    pending = (item for item in _list_items(sandbox, request) if item.status == "pending")
    return await _cancel_many(sandbox, request, pending)


async def _cancel_many(sandbox: Sandbox, request: web.Request, items: Iterable[QueueItem]) -> Any:
    """Cancel in bulk, with the one event InvokeAI sends for it."""
    stopped = await sandbox.cancel(items)
    if stopped:
        await sandbox.events.items("canceled", _queue_id(request), [item.item_id for item in stopped])
    return {"canceled": len(stopped)}


async def _retry(sandbox: Sandbox, request: web.Request) -> Any:
    queue_id = _queue_id(request)
    ids = read_value(list[int], await body_of(request), "body")
    items = [sandbox.queue.items[item_id] for item_id in ids if item_id in sandbox.queue.items]
    for item in items:
        if item.queue_id != queue_id:
            raise RefusedError(404, f"Queue item with id {item.item_id} not found in queue {queue_id}")
        sandbox.full(item, "retrying queue items")
    return {"queue_id": queue_id, "retried_item_ids": await sandbox.retry(queue_id, items)}


async def _delete_destination(sandbox: Sandbox, request: web.Request) -> Any:
    return {"deleted": await sandbox.remove(_list_items(sandbox, request, request.match_info["destination"]))}


async def _prune(sandbox: Sandbox, request: web.Request) -> Any:
    return {"deleted": await sandbox.remove(item for item in _list_items(sandbox, request) if item.is_ended)}


async def _clear(sandbox: Sandbox, request: web.Request) -> Any:
    queue_id = _queue_id(request)
    deleted = await sandbox.remove(_list_items(sandbox, request))
    await sandbox.events.send("queue_cleared", {"queue_id": queue_id, "user_id": None}, room=queue_id)
    return {"deleted": deleted}


QUEUE_ROUTES = (
    route("POST", f"{_Q}/enqueue_batch", _enqueue),
    route("GET", f"{_Q}/status", _status),
    route("PUT", f"{_Q}/processor/{{what:pause|resume}}", _pause_or_resume),
    route("GET", f"{_Q}/b/{{batch_id}}/status", _batch_status),
    route("GET", f"{_Q}/counts_by_destination", _count_destination),
    route("GET", f"{_Q}/current", _current),
    route("GET", f"{_Q}/item_ids", _item_ids),
    route("GET", f"{_Q}/list_all", _list_all),
    route("POST", f"{_Q}/item_summaries_by_ids", _summarise),
    route("POST", f"{_Q}/items_by_ids", _items_by_ids),
    route("GET", f"{_Q}/i/{{item_id}}", _item),
    route("DELETE", f"{_Q}/i/{{item_id}}", _delete_item),
    route("PUT", f"{_Q}/i/{{item_id}}/cancel", _cancel_item),
    route("PUT", f"{_Q}/cancel_by_batch_ids", _cancel_batches),
    route("PUT", f"{_Q}/cancel_all_except_current", _cancel_pending),
    route("PUT", f"{_Q}/retry_items_by_id", _retry),
    route("DELETE", f"{_Q}/d/{{destination}}", _delete_destination),
    route("PUT", f"{_Q}/prune", _prune),
    route("PUT", f"{_Q}/clear", _clear),
)
