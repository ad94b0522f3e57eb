"""Routes of the session queue."""

from __future__ import annotations

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from sweep.sandbox.http_requests import RefusedError, body_of, read_member, read_parameter, read_value, route
from sweep.sandbox.posted_batches import read_batch
from sweep.sandbox.running_sandbox import Sandbox

_Ids = Annotated[list[int], Field(max_length=1000)]


async def _enqueue(sandbox: Sandbox, request: web.Request, queue_id: str) -> Any:
    body = await body_of(request)
    batch = read_batch(body, sandbox.types)
    made = sandbox.queue.enqueue(queue_id, batch, prepend=bool(body.get("prepend", False)))
    await sandbox.store.save_items(made)
    sandbox.workers.wake()
    of_batch = sandbox.queue.of_batch(queue_id, batch.batch_id)
    return {
        "queue_id": queue_id,
        "enqueued": len(made),
        "requested": batch.count_items(),
        "batch": {"batch_id": batch.batch_id},
        "priority": made[0].priority if made else 0,
        "item_ids": sorted((item.item_id for item in of_batch), reverse=True),
    }


def _describe_processor(sandbox: Sandbox) -> dict[str, bool]:
    return {"is_started": not sandbox.workers.paused, "is_processing": sandbox.workers.busy > 0}


def _status(sandbox: Sandbox, _: web.Request, queue_id: str) -> Any:
    counts = {"queue_id": queue_id, **sandbox.queue.counts("queue", queue_id)}
    return {"queue": counts, "processor": _describe_processor(sandbox)}


def _pause_or_resume(sandbox: Sandbox, _: web.Request, step: str, **_queue: str) -> Any:
    sandbox.workers.paused = step == "pause"
    sandbox.workers.wake()
    return _describe_processor(sandbox)


def _count_batch(sandbox: Sandbox, _: web.Request, queue_id: str, batch_id: str) -> Any:
    counts = sandbox.queue.counts("batch", queue_id, batch_id)
    return {"queue_id": queue_id, "batch_id": batch_id, **counts}


def _count_destination(sandbox: Sandbox, request: web.Request, queue_id: str) -> Any:
    destination = read_parameter(request, "destination")
    counts = sandbox.queue.counts("destination", queue_id, destination)
    return {"queue_id": queue_id, "destination": destination, **counts}


async def _summarise(sandbox: Sandbox, request: web.Request, queue_id: str) -> Any:
    ids = read_member(await body_of(request), "item_ids", _Ids)
    found = [sandbox.queue.items[item_id] for item_id in ids if item_id in sandbox.queue.items]
    return [item.summarise() for item in found if item.queue_id == queue_id]


def _get_item(sandbox: Sandbox, _: web.Request, queue_id: str, item_id: str) -> Any:
    item = sandbox.queue.items.get(read_value(int, item_id, "path", "item_id"))
    if item is None or item.queue_id != queue_id:
        raise RefusedError(404, f"Queue item with id {item_id} not found in queue {queue_id}")
    return item.describe()


async def _cancel_batches(sandbox: Sandbox, request: web.Request, queue_id: str) -> Any:
    """Cancel the items of batches, with the one event that InvokeAI sends for them."""
    ids = read_member(await body_of(request), "batch_ids", list[str])
    batches = [sandbox.queue.of_batch(queue_id, batch_id) for batch_id in dict.fromkeys(ids)]
    stopped = await sandbox.workers.cancel(item for batch in batches for item in batch)
    if stopped:
        told = {"queue_id": queue_id, "canceled_item_ids": [item.item_id for item in stopped]}
        await sandbox.events.send("queue_items_canceled", told)
    return {"canceled": len(stopped)}


_Q = "/api/v1/queue/{queue_id}"
QUEUE_ROUTES = (
    route("POST", f"{_Q}/enqueue_batch", _enqueue),
    route("GET", f"{_Q}/status", _status),
    route("PUT", f"{_Q}/processor/{{step:pause|resume}}", _pause_or_resume),
    route("GET", f"{_Q}/b/{{batch_id}}/status", _count_batch),
    route("GET", f"{_Q}/counts_by_destination", _count_destination),
    route("GET", f"{_Q}/list_all", lambda sandbox, _, **of: [item.describe() for item in sandbox.queue.of(**of)]),
    route("POST", f"{_Q}/item_summaries_by_ids", _summarise),
    route("GET", f"{_Q}/i/{{item_id}}", _get_item),
    route("PUT", f"{_Q}/cancel_by_batch_ids", _cancel_batches),
)
