"""Routes of the session queue, and of the sessions of InvokeAI 3."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from sweep.sandbox import legacy_sessions as sessions
from sweep.sandbox.batches import (
    INTEGERS,
    STRINGS,
    RefusedError,
    at_most,
    check_batch,
    integer,
    read_member,
    read_required,
)
from sweep.sandbox.events import batch_status, queue_status
from sweep.sandbox.queue import TERMINAL_STATUSES, QueueItem
from sweep.sandbox.routes.common import body_of, reply, sandbox_of, without_nulls

queue_routes = web.RouteTableDef()
_Q = "/api/v1/queue/{queue_id}"
_MOST = 1000


def _queue_id(request: web.Request) -> str:
    return request.match_info["queue_id"]


def _one(request: web.Request) -> QueueItem:
    item_id = integer(request.match_info["item_id"], "path", "item_id")
    return sandbox_of(request).item(_queue_id(request), item_id)


def _filter_ended(items: Any, *, ended: bool) -> list[QueueItem]:
    return [item for item in items if (item.status in TERMINAL_STATUSES) == ended]


@queue_routes.post(f"{_Q}/enqueue_batch")
async def enqueue_batch(request: web.Request) -> web.Response:
    return reply(await sandbox_of(request).enqueue(_queue_id(request), await body_of(request)))


@queue_routes.get(f"{_Q}/status")
async def get_queue_status(request: web.Request) -> web.Response:
    sandbox = sandbox_of(request)
    processor = {"is_started": not sandbox.processor.paused, "is_processing": sandbox.processor.busy > 0}
    return reply({"queue": queue_status(sandbox.queue, _queue_id(request)), "processor": processor})


@queue_routes.get(f"{_Q}/b/{{batch_id}}/status")
async def of_batch(request: web.Request) -> web.Response:
    return reply(batch_status(sandbox_of(request).queue, _queue_id(request), request.match_info["batch_id"]))


@queue_routes.get(f"{_Q}/counts_by_destination")
async def of_destination(request: web.Request) -> web.Response:
    (destination,) = read_required(request.query, ["destination"])
    counts = sandbox_of(request).queue.counts("destination", _queue_id(request), destination)
    return reply({"queue_id": _queue_id(request), "destination": destination, **counts})


@queue_routes.get(f"{_Q}/current")
async def current(request: web.Request) -> web.Response:
    sandbox = sandbox_of(request)
    item = sandbox.queue.current(_queue_id(request))
    return reply(sandbox.full(item, "getting current queue item") if item else None)


@queue_routes.get(f"{_Q}/next")
async def upcoming(request: web.Request) -> web.Response:
    sandbox = sandbox_of(request)
    item = sandbox.queue.peek(_queue_id(request))
    return reply(sandbox.full(item, "getting next queue item") if item else None)


@queue_routes.get(f"{_Q}/item_ids")
async def item_ids(request: web.Request) -> web.Response:
    ids = [item.item_id for item in sandbox_of(request).queue.of(_queue_id(request))]
    ids.sort(reverse=request.query.get("order_dir", "DESC") == "DESC")
    return reply({"item_ids": ids, "total_count": len(ids)})


@queue_routes.get(f"{_Q}/list_all")
async def list_all(request: web.Request) -> web.Response:
    sandbox = sandbox_of(request)
    wanted = request.query.get("destination")
    items = [item for item in sandbox.queue.of(_queue_id(request)) if wanted in {None, item.destination}]
    return reply([sandbox.full(item, "listing all queue items") for item in items])


async def _asked_ids(request: web.Request) -> list[QueueItem]:
    ids = read_member(await body_of(request), "item_ids", INTEGERS)
    at_most(ids, _MOST, "body", "item_ids")
    items = sandbox_of(request).queue.items
    return [items[i] for i in ids if i in items and items[i].queue_id == _queue_id(request)]


@queue_routes.post(f"{_Q}/item_summaries_by_ids")
async def summaries(request: web.Request) -> web.Response:
    return reply([item.summary() for item in await _asked_ids(request)])


@queue_routes.post(f"{_Q}/items_by_ids")
async def items_by_ids(request: web.Request) -> web.Response:
    sandbox = sandbox_of(request)
    return reply([sandbox.full(item) for item in await _asked_ids(request) if not item.values.poison])


@queue_routes.get(f"{_Q}/i/{{item_id}}")
async def get_item(request: web.Request) -> web.Response:
    return reply(without_nulls(sandbox_of(request).full(_one(request))))


@queue_routes.delete(f"{_Q}/i/{{item_id}}")
async def delete_item(request: web.Request) -> web.Response:
    item, sandbox = _one(request), sandbox_of(request)
    sandbox.full(item, "deleting queue item")
    await sandbox.remove([item])
    return reply(None)


@queue_routes.put(f"{_Q}/i/{{item_id}}/cancel")
async def cancel_item(request: web.Request) -> web.Response:
    item, sandbox = _one(request), sandbox_of(request)
    sandbox.full(item, "canceling queue item")
    for stopped in await sandbox.cancel([item]):
        await sandbox.events.status_changed(stopped)
    return reply(sandbox.full(item))


@queue_routes.put(f"{_Q}/cancel_by_batch_ids")
async def cancel_by_batch_ids(request: web.Request) -> web.Response:
    sandbox, queue_id = sandbox_of(request), _queue_id(request)
    ids = read_member(await body_of(request), "batch_ids", STRINGS)
    items = [item for batch_id in dict.fromkeys(ids) for item in sandbox.queue.of_batch(queue_id, batch_id)]
    return reply({"canceled": await sandbox.cancel_many(queue_id, items)})


@queue_routes.put(f"{_Q}/cancel_by_destination")
async def cancel_by_destination(request: web.Request) -> web.Response:
    (destination,) = read_required(request.query, ["destination"])
    items = [item for item in sandbox_of(request).queue.of(_queue_id(request)) if item.destination == destination]
    return reply({"canceled": await sandbox_of(request).cancel_many(_queue_id(request), items)})


@queue_routes.put(f"{_Q}/cancel_all_except_current")
async def cancel_all_except_current(request: web.Request) -> web.Response:
    items = [item for item in sandbox_of(request).queue.of(_queue_id(request)) if item.status == "pending"]
    return reply({"canceled": await sandbox_of(request).cancel_many(_queue_id(request), items)})


@queue_routes.put(f"{_Q}/delete_all_except_current")
async def delete_all_except_current(request: web.Request) -> web.Response:
    items = [item for item in sandbox_of(request).queue.of(_queue_id(request)) if item.status == "pending"]
    return reply({"deleted": await sandbox_of(request).remove(items)})


@queue_routes.put(f"{_Q}/retry_items_by_id")
async def retry(request: web.Request) -> web.Response:
    sandbox, queue_id = sandbox_of(request), _queue_id(request)
    ids = check_batch(INTEGERS, await body_of(request), "body")
    items = [sandbox.queue.items[item_id] for item_id in ids if item_id in sandbox.queue.items]
    for item in items:
        if item.queue_id != queue_id:
            raise RefusedError(404, f"Queue item with id {item.item_id} not found in queue {queue_id}")
        sandbox.full(item, "retrying queue items")
    return reply({"queue_id": queue_id, "retried_item_ids": await sandbox.retry(queue_id, items)})


@queue_routes.delete(f"{_Q}/d/{{destination}}")
async def delete_by_destination(request: web.Request) -> web.Response:
    name = request.match_info["destination"]
    items = [item for item in sandbox_of(request).queue.of(_queue_id(request)) if item.destination == name]
    return reply({"deleted": await sandbox_of(request).remove(items)})


@queue_routes.put(f"{_Q}/prune")
async def prune(request: web.Request) -> web.Response:
    items = _filter_ended(sandbox_of(request).queue.of(_queue_id(request)), ended=True)
    return reply({"deleted": await sandbox_of(request).remove(items)})


@queue_routes.put(f"{_Q}/clear")
async def clear_queue(request: web.Request) -> web.Response:
    sandbox, queue_id = sandbox_of(request), _queue_id(request)
    deleted = await sandbox.remove(sandbox.queue.of(queue_id))
    await sandbox.events.cleared(queue_id)
    return reply({"deleted": deleted})


@queue_routes.put(f"{_Q}/processor/{{what:pause|resume}}")
async def pause_or_resume(request: web.Request) -> web.Response:
    processor = sandbox_of(request).processor
    processor.paused = request.match_info["what"] == "pause"
    processor.wake()
    return reply({"is_started": not processor.paused, "is_processing": processor.busy > 0})


session_routes = web.RouteTableDef()
of_portable = web.RouteTableDef()
_S = "/api/v1/sessions"


def _session(request: web.Request) -> sessions.Session:
    return sessions.find(sandbox_of(request), request.match_info["session_id"])


def _reply(request: web.Request, session: sessions.Session) -> web.Response:
    body = sessions.session_state(session)
    if sandbox_of(request).options.api == "portable":
        body["is_complete"] = sessions.complete_session(session)
    return reply(body)


@session_routes.post(f"{_S}/")
async def create_session(request: web.Request) -> web.Response:
    return _reply(request, sessions.make_session(sandbox_of(request), await body_of(request)))


@session_routes.get(f"{_S}/")
async def list_sessions(request: web.Request) -> web.Response:
    page, size = (integer(request.query.get(n, d), "query", n) for n, d in (("page", "0"), ("per_page", "10")))
    every = list(sandbox_of(request).sessions.values())
    items = [sessions.session_state(session) for session in every[page * size : (page + 1) * size]]
    return reply({"items": items, "page": page, "pages": -(-len(every) // size), "per_page": size, "total": len(every)})


@session_routes.get(f"{_S}/{{session_id}}")
async def get(request: web.Request) -> web.Response:
    return _reply(request, _session(request))


@session_routes.put(f"{_S}/{{session_id}}/invoke")
async def invoke_session(request: web.Request) -> web.Response:
    await sessions.start_session(sandbox_of(request), _session(request))
    return reply(None, 202)


@session_routes.delete(f"{_S}/{{session_id}}/invoke")
async def cancel_session(request: web.Request) -> web.Response:
    item = _session(request).item
    await sandbox_of(request).cancel([item] if item else [])
    return reply(None, 202)


@of_portable.get(f"{_S}/{{session_id}}/images")
async def images(request: web.Request) -> web.Response:
    images = sandbox_of(request).images
    names = sessions.session_image_names(_session(request))
    return reply([images.dto(name) for name in names if name in images.images])


async def unknown_sessions_route(_request: web.Request) -> web.Response:
    """Unknown paths were simply not found."""
    raise RefusedError(404, "Not Found")
