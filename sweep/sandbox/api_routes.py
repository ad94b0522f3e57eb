"""The routes of the sandbox: the API of InvokeAI 3.2 to 6 and the older sessions API; and the server that has them."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field

from sweep.errors import UsageError, WorkflowError
from sweep.sandbox.graph_checks import GraphJson, read_graph
from sweep.sandbox.http_requests import (
    KEY,
    TOKEN_SECONDS,
    RefusedError,
    answer_request,
    cut_page,
    cut_window,
    read_body,
    read_member,
    read_parameter,
    read_value,
    refuse,
    refuse_value,
    refuse_web_pages,
    reply,
    route,
)
from sweep.sandbox.item_queue import Batch, QueueItem, initial_session, read_batch
from sweep.sandbox.model_catalogue import identifier
from sweep.sandbox.nodes import IMAGE_NODES
from sweep.sandbox.running_sandbox import Sandbox
from sweep.sandbox.sandbox_options import SandboxOptions
from sweep.sandbox.socket_events import EventEmitter, SessionEvents
from sweep.workflow import (
    Address,
    Json,
    Model,
    ModelRef,
    Ref,
    load_builtin_schemas,
    workflow_from,
    write_graph,
    write_openapi,
)


def _get_config(sandbox: Sandbox, _: web.Request) -> Any:
    return {"config": {"max_queue_size": sandbox.options.queue_limit, "generation_devices": "auto"}}


def _get_auth_status(sandbox: Sandbox, _: web.Request) -> Any:
    return {"setup_required": False, "multiuser_enabled": bool(sandbox.options.users)}


def _list_devices(sandbox: Sandbox, _: web.Request) -> Any:
    return [{"device": f"cuda:{n}"} for n in range(sandbox.options.workers)]


async def _log_in(sandbox: Sandbox, request: web.Request) -> Any:
    body = await read_body(request)
    given = body if isinstance(body, dict) else {}
    token = sandbox.accounts.log_in(given.get("email"), given.get("password"))
    if token is None:
        raise RefusedError(401, "Incorrect email or password")
    return {"token": token, "user": {"email": given["email"]}, "expires_in": TOKEN_SECONDS}


@functools.cache
def _write_nodes() -> bytes:
    return json.dumps(write_openapi(load_builtin_schemas())).encode()


def _list_workflows(sandbox: Sandbox, request: web.Request) -> Any:
    """List the workflow library, which a sandbox keeps in memory only."""
    kept = sandbox.workflows.values()
    return cut_page(request, [{key: record[key] for key in record if key != "workflow"} for record in kept])


def _get_workflow(sandbox: Sandbox, _: web.Request, workflow_id: str) -> Any:
    if workflow_id not in sandbox.workflows:
        raise RefusedError(404, "Workflow not found")
    return sandbox.workflows[workflow_id]


SERVER_ROUTES = (
    route("GET", "/api/v1/app/version", lambda sandbox, _: {"version": sandbox.version, "sandbox": True}),
    route("GET", "/api/v1/app/runtime_config", _get_config),
    route("GET", "/api/v1/app/generation_device_options", _list_devices),
    route("GET", "/api/v1/auth/status", _get_auth_status),
    route("POST", "/api/v1/auth/login", _log_in),
    route("GET", "/openapi.json", lambda *_: web.Response(body=_write_nodes(), content_type="application/json")),
    route("GET", "/api/v1/workflows/", _list_workflows),
    route("GET", "/api/v1/workflows/i/{workflow_id}", _get_workflow),
    route("GET", "/sandbox/renders", lambda sandbox, _: dict(sandbox.renders)),
)


_Ids = Annotated[list[int], Field(max_length=1000)]


async def _enqueue(sandbox: Sandbox, request: web.Request, queue_id: str) -> Any:
    body = await read_body(request)
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
    counts = sandbox.queue.counts("queue", queue_id)
    return {"queue": {"queue_id": queue_id, **counts}, "processor": _describe_processor(sandbox)}


def _pause_or_resume(sandbox: Sandbox, _: web.Request, step: str, **_queue: str) -> Any:
    sandbox.workers.paused = step == "pause"
    sandbox.workers.wake()
    return _describe_processor(sandbox)


def _count_batch(sandbox: Sandbox, _: web.Request, queue_id: str, batch_id: str) -> Any:
    return {"queue_id": queue_id, "batch_id": batch_id, **sandbox.queue.counts("batch", queue_id, batch_id)}


def _count_destination(sandbox: Sandbox, request: web.Request, queue_id: str) -> Any:
    destination = read_parameter(request, "destination")
    counts = sandbox.queue.counts("destination", queue_id, destination)
    return {"queue_id": queue_id, "destination": destination, **counts}


async def _summarise(sandbox: Sandbox, request: web.Request, queue_id: str) -> Any:
    ids = read_member(await read_body(request), "item_ids", _Ids)
    found = [sandbox.queue.items[item_id] for item_id in ids if item_id in sandbox.queue.items]
    told = (item.summarise() for item in found if item.queue_id == queue_id)
    return [{name: each[name] for name in each if not name.startswith("error_")} for each in told]


def _get_item(sandbox: Sandbox, _: web.Request, queue_id: str, item_id: str) -> Any:
    item = sandbox.queue.items.get(read_value(int, item_id, "path", "item_id"))
    if item is None or item.queue_id != queue_id:
        status, quoted = (404, "") if item is None else (500, "Unexpected error while fetching queue item: 404: ")
        raise RefusedError(status, f"{quoted}Queue item with id {item_id} not found in queue {queue_id}")
    return {name: value for name, value in item.describe().items() if value is not None}


async def _cancel_batches(sandbox: Sandbox, request: web.Request, queue_id: str) -> Any:
    """Cancel the items of batches, with the one event that InvokeAI sends for them."""
    ids = read_member(await read_body(request), "batch_ids", list[str])
    batches = [sandbox.queue.of_batch(queue_id, batch_id) for batch_id in dict.fromkeys(ids)]
    stopped = await sandbox.workers.cancel(item for batch in batches for item in batch)
    if stopped:
        told = {"queue_id": queue_id, "canceled_item_ids": [item.item_id for item in stopped]}
        await sandbox.events.send("queue_items_canceled", told)
    return {"canceled": len(stopped)}


_Q = "/api/v1/queue/{queue_id}"
QUEUE_ROUTES = (
    route("GET", "/api/v2/models/", lambda sandbox, _: {"models": list(map(asdict, sandbox.models.values()))}),
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


_Category = Literal["general", "mask", "control", "user", "other"]


async def _upload(sandbox: Sandbox, request: web.Request) -> web.Response:
    kinds = {"image_category": _Category, "is_intermediate": bool}
    facts = {name: read_parameter(request, name, kind) for name, kind in kinds.items()}
    form = await request.post()
    file = form.get("file")
    if not isinstance(file, web.FileField):
        raise refuse("missing", ("body", "file"), "Field required")
    try:
        record = await sandbox.images.upload(await asyncio.to_thread(file.file.read), file_name=file.filename, **facts)
    except (OSError, ValueError) as error:
        raise RefusedError(415, "Failed to read image") from error
    return reply(sandbox.images.describe(record["image_name"]), 201)


def _list_images(sandbox: Sandbox, request: web.Request) -> Any:
    found = list(sandbox.images.images.values())[:: 1 if request.query.get("order_dir") == "ASC" else -1]
    for name, kind in (("is_intermediate", bool), ("board_id", str)):
        if name in request.query:
            wanted = read_parameter(request, name, kind)
            found = [record for record in found if record[name] == wanted]
    listed = cut_window(request, found)
    return {**listed, "items": [sandbox.images.describe(record["image_name"]) for record in listed["items"]]}


async def _delete_image(sandbox: Sandbox, _: web.Request, name: str) -> Any:
    record = await sandbox.images.delete(name)
    sandbox.context.outputs.clear()  # some may name it
    return {"affected_boards": [record["board_id"] or "none"], "deleted_images": [name], "failed_images": []}


async def _serve_image(sandbox: Sandbox, _: web.Request, name: str) -> web.Response:
    return web.Response(body=await sandbox.images.read_content(name), content_type="image/png")


def _create_board(sandbox: Sandbox, request: web.Request) -> Any:
    return sandbox.images.create_board(read_parameter(request, "board_name"))


_IMAGES, _BOARDS = "/api/v1/images", "/api/v1/boards"
IMAGE_ROUTES = (
    route("POST", f"{_IMAGES}/upload", _upload),
    route("GET", f"{_IMAGES}/", _list_images),
    route("GET", f"{_IMAGES}/i/{{name}}", lambda sandbox, _, name: sandbox.images.describe(name)),
    route("DELETE", f"{_IMAGES}/i/{{name}}", _delete_image),
    route("GET", f"{_IMAGES}/i/{{name}}/full", _serve_image),
    route("POST", f"{_BOARDS}/", _create_board, 201),
    route("GET", f"{_BOARDS}/", lambda sandbox, _: list(sandbox.images.boards.values())),
)


_SESSION_QUEUE = "sessions"  # the queue id under which sessions wait


@dataclass(slots=True, kw_only=True)
class Session:
    """A posted graph, with its queue item once it is invoked."""

    id: str
    posted: Any
    graph: GraphJson
    item: QueueItem | None = None

    def to_api(self, sandbox: Sandbox) -> dict[str, Any]:
        """Return the session as InvokeAI 3 wrote it."""
        item = self.item
        whole = {**(item.load_session() if item else initial_session(self.id, self.graph)), "graph": self.posted}
        if sandbox.options.api == "portable":
            whole["is_complete"] = item is not None and item.is_ended and item.session is not None
        return whole


async def _create_session(sandbox: Sandbox, request: web.Request) -> Any:
    """Create a session for a posted graph, not running yet. Raises RefusedError with 422."""
    body = await read_body(request)
    is_wrapped = sandbox.options.api == "portable"
    posted = body.get("graph") if is_wrapped and isinstance(body, Mapping) else body
    if (is_wrapped or posted) and not isinstance(posted, Mapping):
        raise refuse_value(("body", "graph"), "Field required")
    posted = posted or {"id": str(uuid.uuid4()), "nodes": {}, "edges": []}
    is_portable = isinstance(posted.get("nodes"), list)
    graph = await asyncio.to_thread(_translate, sandbox, posted) if is_portable else posted
    template = read_graph(_identify_models(sandbox, graph), sandbox.types, "body", "graph")
    session = Session(id=str(uuid.uuid4()), posted=posted, graph=template)
    sandbox.sessions[session.id] = session
    return session.to_api(sandbox)


def _list_sessions(sandbox: Sandbox, request: web.Request) -> Any:
    return cut_page(request, [session.to_api(sandbox) for session in sandbox.sessions.values()])


def _find_session(sandbox: Sandbox, session_id: str) -> Session:
    """Find a session; a sandbox forgets them when it ends. Raises RefusedError with 404."""
    session: Session | None = sandbox.sessions.get(session_id)
    if session is None:
        raise RefusedError(404, "Not Found")
    return session


async def _invoke_session(sandbox: Sandbox, _: web.Request, session_id: str) -> None:
    """Start a session. Raises RefusedError with 400 where it has run already."""
    session = _find_session(sandbox, session_id)
    if session.item is None:
        batch = Batch(batch_id=session.id, graph=session.graph)
        made = sandbox.queue.enqueue(_SESSION_QUEUE, batch, prepend=False)
        if not made:
            raise RefusedError(503, "The queue is full")
        session.item = made[0]
        session.item.session_id = session.id
        await sandbox.store.save_items(made)
        sandbox.workers.wake()
    elif session.item.is_ended:
        raise RefusedError(400, "Session is already complete")


async def _cancel_session(sandbox: Sandbox, _: web.Request, session_id: str) -> None:
    item = _find_session(sandbox, session_id).item
    await sandbox.workers.cancel([item] if item else [])


def _list_session_images(sandbox: Sandbox, _: web.Request, session_id: str) -> Any:
    """Describe the images of a session that are not intermediate, in the order they were made."""
    session = _find_session(sandbox, session_id).to_api(sandbox)
    nodes = session["execution_graph"]["nodes"]
    kept = (
        result["image"]["image_name"]
        for prepared, result in session["results"].items()
        if nodes[prepared]["type"] in IMAGE_NODES and not nodes[prepared]["is_intermediate"]
    )
    return [sandbox.images.describe(name) for name in kept if name in sandbox.images.images]


def _list_models(sandbox: Sandbox, _: web.Request) -> Any:
    names = {"model_name": "name", "base_model": "base", "model_type": "type"}
    return {"models": [{to: getattr(model, name) for to, name in names.items()} for model in sandbox.models.values()]}


_S = "/api/v1/sessions"
SESSION_ROUTES = (
    route("GET", "/api/v1/models/", _list_models),
    route("POST", f"{_S}/", _create_session),
    route("GET", f"{_S}/", _list_sessions),
    route("GET", f"{_S}/{{session_id}}", lambda sandbox, _, **id_: _find_session(sandbox, **id_).to_api(sandbox)),
    route("PUT", f"{_S}/{{session_id}}/invoke", _invoke_session, 202),
    route("DELETE", f"{_S}/{{session_id}}/invoke", _cancel_session, 202),
)
SESSION_IMAGES = route("GET", f"{_S}/{{session_id}}/images", _list_session_images)  # of the portable form only


def _identify_models(sandbox: Sandbox, graph: Any) -> Any:
    """Replace references of InvokeAI 3, by name and base, with today's references of five keys."""
    if isinstance(graph, list):
        return [_identify_models(sandbox, value) for value in graph]
    if not isinstance(graph, Mapping):
        return graph
    if "model_name" not in graph or "base_model" not in graph:
        return {name: _identify_models(sandbox, value) for name, value in graph.items()}
    name, base, kind = graph["model_name"], graph["base_model"], graph.get("model_type")
    for model in sandbox.models.values():
        if (model.name, model.base) == (name, base) and kind in {None, model.type}:
            return identifier(model)
    return {"key": name, "hash": "", "name": name, "base": base, "type": kind or "main"}


def _translate(sandbox: Sandbox, document: Mapping[str, Any]) -> dict[str, Json]:
    """Translate a portable document to today's nodes, with the models that the sandbox has of their kind."""
    base = next((model.base for model in sandbox.models.values() if model.type == "main"), "sd-1")
    try:
        workflow = workflow_from(document).for_base(base)
    except WorkflowError as error:
        raise refuse_value(("body", "graph"), str(error)) from error

    def resolve(reference: Ref) -> Json:
        if not isinstance(reference, ModelRef):
            return reference.canonical()
        fitting = [model for model in sandbox.models.values() if model.type == reference.type]
        fitting.sort(key=lambda model: (model.name != reference.name, model.base != base))
        missing = Model(key=reference.name, hash="", name=reference.name, base=base, type=reference.type)
        return identifier((*fitting, missing)[0])

    files: dict[Address, Any] = {
        address: {"image_name": sandbox.images.find_upload(path) or path} for address, path in workflow.files.items()
    }
    return write_graph(workflow.graph.set(files), resolve)


def _find_nothing(*_request: Any, **_path: str) -> None:
    raise RefusedError(404, "Not Found")


_ROUTES = {"queue": QUEUE_ROUTES, "sessions": SESSION_ROUTES, "portable": (*SESSION_ROUTES, SESSION_IMAGES)}  # by API
_NO_ROUTE = route("*", "/{anything:.*}", _find_nothing)
_LARGEST = 256 * 2**20  # bytes of a request; a batch may carry many values


def _build_application(sandbox: Sandbox) -> web.Application:
    app = web.Application(middlewares=[refuse_web_pages, answer_request], client_max_size=_LARGEST)
    app[KEY] = sandbox
    sandbox.events.sio.attach(app, socketio_path="ws/socket.io")
    app.add_routes((*SERVER_ROUTES, *IMAGE_ROUTES, *_ROUTES[sandbox.options.api], _NO_ROUTE))
    return app


@asynccontextmanager
async def sandbox_server(options: SandboxOptions | None = None) -> AsyncIterator[Sandbox]:
    """Serve a sandbox at `sandbox.url` as long as the block lasts, on this event loop.

    Raises UsageError where the port is taken.
    """
    options = options or SandboxOptions()
    sandbox = Sandbox(options, EventEmitter if options.api == "queue" else SessionEvents)
    await sandbox.start()
    runner = web.AppRunner(_build_application(sandbox), access_log=None, shutdown_timeout=1.0)
    try:
        await runner.setup()
        try:
            await web.TCPSite(runner, options.host, options.port).start()
        except OSError as error:
            where, reason = f"{options.host}:{options.port}", os.strerror(error.errno or 0)
            raise UsageError(f"{where} cannot be used ({reason}).", hint="Choose another --port.") from error
        host, port = runner.addresses[0][:2]
        sandbox.url = f"http://{host}:{port}"
        yield sandbox
    finally:
        await runner.cleanup()
        await sandbox.stop()


async def serve_sandbox(options: SandboxOptions, announce: Callable[[str], None] = print) -> None:
    """Serve until cancelled; `announce` is given the URL once it answers."""
    async with sandbox_server(options) as sandbox:
        announce(sandbox.url)
        await asyncio.Event().wait()
