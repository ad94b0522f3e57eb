"""The sandbox as a web application: all its routes, those of images and boards, and how they are served over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from sweep.errors import UsageError
from sweep.sandbox.batches import RefusedError, read_required, refuse, refuse_choice
from sweep.sandbox.image_library import UnsavableImageError, spoil_image
from sweep.sandbox.node_types import document
from sweep.sandbox.options import SECONDS, FaultInjection, SandboxOptions
from sweep.sandbox.routes.legacy_sessions import SESSION_IMAGES, SESSION_ROUTES, SessionEvents
from sweep.sandbox.routes.middleware import KEY, answer_request, body_of, read_page, refuse_web_pages, reply, route
from sweep.sandbox.routes.queue_routes import QUEUE_ROUTES
from sweep.sandbox.service import Sandbox
from sweep.sandbox.socket_events import EventEmitter
from sweep.sandbox.workers import NODE_CACHE_SIZE

_CATEGORIES = ("general", "mask", "control", "user", "other")
_KEEP = {"Cache-Control": "max-age=31536000"}


def _is_true(text: str) -> bool:
    return text.lower() in {"true", "1"}


async def _upload(sandbox: Sandbox, request: web.Request) -> web.Response:
    category, intermediate = read_required(request.query, "image_category", "is_intermediate")
    if category not in _CATEGORIES:
        raise refuse_choice(("query", "image_category"), category, _CATEGORIES)
    form = await request.post()
    file, metadata = form.get("file"), form.get("metadata")
    if not isinstance(file, web.FileField):
        raise refuse("missing", ("body", "file"), "Field required")
    if not file.content_type.startswith("image"):
        raise RefusedError(415, "Not an image")
    try:
        record = await sandbox.images.upload(
            await asyncio.to_thread(file.file.read),
            image_category=category,
            is_intermediate=_is_true(intermediate),
            metadata=metadata if isinstance(metadata, str) else None,
            file_name=file.filename,
            **{name: request.query.get(name) for name in ("board_id", "session_id")},
        )
    except (OSError, ValueError) as error:
        raise RefusedError(415, "Failed to read image") from error
    except UnsavableImageError as error:
        raise RefusedError(500, "Failed to create image") from error
    response = reply(sandbox.images.dto(record["image_name"]), 201)
    response.headers["Location"] = record["image_url"]
    return response


def _list_names(sandbox: Sandbox, request: web.Request) -> list[str]:
    found = sandbox.images.listed(request.query, request.query.getall("categories", []))
    return [record["image_name"] for record in found]


def _list_images(sandbox: Sandbox, request: web.Request) -> Any:
    names = _list_names(sandbox, request)
    offset, limit = read_page(request, offset=0, limit=10)
    items = [sandbox.images.dto(name) for name in names[offset : offset + limit]]
    return {"limit": limit, "offset": offset, "total": len(names), "items": items}


def _list_image_names(sandbox: Sandbox, request: web.Request) -> Any:
    names = _list_names(sandbox, request)
    return {"image_names": names, "starred_count": 0, "total_count": len(names)}


async def _delete_image(sandbox: Sandbox, _: web.Request, name: str) -> Any:
    if name not in sandbox.images.images:
        raise RefusedError(404, "Image not found")
    board = sandbox.images.images[name]["board_id"] or "none"
    await sandbox.images.delete(name)
    sandbox.workers.cache.forget(name)
    return {"affected_boards": [board], "deleted_images": [name], "failed_images": []}


async def _serve_image(sandbox: Sandbox, _: web.Request, name: str) -> web.Response:
    record = sandbox.images.record(name)
    content = spoil_image(await sandbox.images.content(record["image_name"]), record.get("bad"))
    headers = {**_KEEP, "Content-Disposition": f'inline; filename="{record["image_name"]}"'}
    return web.Response(body=content, content_type="image/png", headers=headers)


async def _serve_thumbnail(sandbox: Sandbox, _: web.Request, name: str) -> web.Response:
    content = await asyncio.to_thread(sandbox.images.thumbnail, name)
    return web.Response(body=content, content_type="image/webp", headers=_KEEP)


def _read_metadata(sandbox: Sandbox, _: web.Request, name: str) -> Any:
    text = sandbox.images.record(name).get("metadata")
    return json.loads(text) if text else None


async def _create_board(sandbox: Sandbox, request: web.Request) -> Any:
    return await sandbox.images.create_board(*read_required(request.query, "board_name"))


def _list_boards(sandbox: Sandbox, request: web.Request) -> Any:
    found = [_describe_board(sandbox, board_id) for board_id in sandbox.images.boards]
    if _is_true(request.query.get("all", "")):
        return found
    offset, limit = read_page(request, offset=0, limit=10)
    return {"limit": limit, "offset": offset, "total": len(found), "items": found[offset : offset + limit]}


def _describe_board(sandbox: Sandbox, board_id: str) -> dict[str, Any]:
    count = len(_list_board_images(sandbox, board_id))
    return {**sandbox.images.boards[board_id], "image_count": count, "owner_username": "System"}


def _list_board_images(sandbox: Sandbox, board_id: str) -> list[str]:
    wanted = None if board_id == "none" else board_id
    if wanted is not None and wanted not in sandbox.images.boards:
        raise RefusedError(404, "Board not found")
    return [record["image_name"] for record in sandbox.images.images.values() if record["board_id"] == wanted]


async def _delete_board(sandbox: Sandbox, request: web.Request, board_id: str) -> Any:
    _list_board_images(sandbox, board_id)  # refuses an unknown board
    with_images = _is_true(request.query.get("include_images", ""))
    return await sandbox.images.delete_board(board_id, with_images=with_images)


_IMAGES, _BOARDS = "/api/v1/images", "/api/v1/boards"
IMAGE_ROUTES = (
    route("POST", f"{_IMAGES}/upload", _upload),
    route("GET", f"{_IMAGES}/", _list_images),
    route("GET", f"{_IMAGES}/names", _list_image_names),
    route("GET", f"{_IMAGES}/i/{{name}}", lambda sandbox, _, name: sandbox.images.dto(name)),
    route("DELETE", f"{_IMAGES}/i/{{name}}", _delete_image),
    route("GET", f"{_IMAGES}/i/{{name}}/full", _serve_image),
    route("GET", f"{_IMAGES}/i/{{name}}/thumbnail", _serve_thumbnail),
    route("GET", f"{_IMAGES}/i/{{name}}/metadata", _read_metadata),
    route("POST", f"{_BOARDS}/", _create_board, 201),
    route("GET", f"{_BOARDS}/", _list_boards),
    route("GET", f"{_BOARDS}/{{board_id}}", lambda sandbox, _, board_id: _describe_board(sandbox, board_id)),
    route(
        "GET", f"{_BOARDS}/{{board_id}}/image_names", lambda sandbox, _, board_id: _list_board_images(sandbox, board_id)
    ),
    route("DELETE", f"{_BOARDS}/{{board_id}}", _delete_board),
)


_LARGEST = 256 * 2**20  # bytes of a request; a batch may carry many values


def _config(sandbox: Sandbox, _: web.Request) -> Any:
    options = sandbox.options
    config = {
        "host": options.host,
        "port": options.port,
        "max_queue_size": options.queue_limit,
        "session_queue_mode": "round_robin",
        "node_cache_size": NODE_CACHE_SIZE,
        "max_queue_history": None,
        "clear_queue_on_startup": False,
        "generation_devices": "auto",
        "multiuser": bool(options.users),
    }
    return {"set_fields": [], "config": config}


def _devices(sandbox: Sandbox, _: web.Request) -> Any:
    names = [sandbox.workers.device(n) for n in range(sandbox.options.workers)]
    return [{"device": name, "name": "CPU" if name == "cpu" else "Sandbox"} for name in names]


def _auth_status(sandbox: Sandbox, _: web.Request) -> Any:
    off = dict.fromkeys(("setup_required", "strict_password_checking"), False)
    return {**off, "multiuser_enabled": bool(sandbox.options.users), "admin_email": None}


async def _log_in(sandbox: Sandbox, request: web.Request) -> Any:
    body = await body_of(request)
    given = body if isinstance(body, dict) else {}
    token = sandbox.accounts.log_in(given.get("email"), given.get("password"))
    if token is None:
        raise RefusedError(401, "Incorrect email or password")
    user = {"user_id": given["email"], "email": given["email"], "display_name": "", "is_admin": True, "is_active": True}
    return {"token": token, "user": user, "expires_in": int(SECONDS)}


async def _openapi(sandbox: Sandbox, _: web.Request) -> web.Response:
    text = await asyncio.to_thread(lambda: json.dumps(document(sandbox.types.schemas)))
    return web.Response(body=text.encode(), content_type="application/json")


def _list_workflows(sandbox: Sandbox, request: web.Request) -> Any:
    """List the library; a sandbox forgets it when it ends."""
    kept = list(sandbox.workflows.values())
    page, size = read_page(request, page=0, per_page=10)
    items = [{key: value for key, value in record.items() if key != "workflow"} for record in kept]
    found = items[page * size : (page + 1) * size]
    return {"page": page, "pages": -(-len(kept) // max(size, 1)), "per_page": size, "total": len(kept), "items": found}


async def _create_workflow(sandbox: Sandbox, request: web.Request) -> Any:
    workflow = (await body_of(request)).get("workflow")
    if not isinstance(workflow, dict):
        raise refuse("missing", ("body", "workflow"), "Field required")
    key = str(uuid.uuid4())
    record = {"workflow_id": key, "name": str(workflow.get("name")), "category": "user", "workflow": workflow}
    sandbox.workflows[key] = record
    return record


def _get_workflow(sandbox: Sandbox, _: web.Request, workflow_id: str) -> Any:
    if workflow_id not in sandbox.workflows:
        raise RefusedError(404, "Workflow not found")
    return sandbox.workflows[workflow_id]


_TYPES = (
    *("onnx", "main", "vae", "lora", "control_lora", "controlnet", "embedding", "ip_adapter", "clip_vision"),
    *("clip_embed", "t2i_adapter", "t5_encoder", "qwen3_encoder", "qwen_vl_encoder", "qwen3_vl_encoder"),
    *("mistral_encoder", "wan_t5_encoder", "gemma2_encoder", "spandrel_image_to_image", "siglip", "flux_redux"),
    *("llava_onevision", "prompt_enhancer", "text_llm", "external_image_generator", "pid_decoder", "unknown"),
)


def _find_models(sandbox: Sandbox, request: web.Request) -> list[dict[str, Any]]:
    """List the models that a query asks for."""
    query = request.query
    kind, bases = query.get("model_type", "main"), query.getall("base_models", [])
    if kind not in _TYPES:
        raise refuse_choice(("query", "model_type"), kind, _TYPES)
    return [
        record
        for record in sandbox.models.values()
        if all(query.get(f"model_{name}", record[name]) == record[name] for name in ("type", "name", "format"))
        and (not bases or record["base"] in bases)
    ]


def _list_models_of_version_3(sandbox: Sandbox, request: web.Request) -> Any:
    named = {f"model_{name}": name for name in ("name", "type", "format")} | {"base_model": "base"}
    same = {name: name for name in ("path", "description", "error", "variant")}
    records = _find_models(sandbox, request)
    return {"models": [{to: record.get(name) for to, name in (named | same).items()} for record in records]}


def _get_model(sandbox: Sandbox, _: web.Request, key: str) -> Any:
    if key not in sandbox.models:
        raise RefusedError(404, "model not found")
    return sandbox.models[key]


def _get_model_by_attributes(sandbox: Sandbox, request: web.Request) -> Any:
    names = ("name", "type", "base")
    asked = read_required(request.query, *names)
    for record in sandbox.models.values():
        if [record[name] for name in names] == asked:
            return record
    raise RefusedError(404, "No model found with these attributes")


async def _set_faults(sandbox: Sandbox, request: web.Request) -> None:
    try:
        sandbox.faults = FaultInjection(**(await body_of(request) or {}))
    except (TypeError, UsageError) as error:
        raise RefusedError(422, str(error)) from error


def _show_page(_: Sandbox, request: web.Request, **_path: str) -> web.Response:
    """Answer unknown GETs with a web page and refuse other methods, as InvokeAI does."""
    if request.method not in {"GET", "HEAD"}:
        raise RefusedError(405, "Method Not Allowed")
    head, body = "<title>sweep sandbox</title>", "A sweep sandbox, no InvokeAI."
    page = f"<!DOCTYPE html><html><head>{head}</head><body>{body}</body></html>"
    return web.Response(text=page, content_type="text/html")


def _find_nothing(*_request: Any, **_path: str) -> None:
    raise RefusedError(404, "Not Found")


_APP_ROUTES = (
    *IMAGE_ROUTES,
    route("GET", "/api/v1/app/version", lambda sandbox, _: {"version": sandbox.version, "sandbox": True}),
    route("GET", "/api/v1/app/runtime_config", _config),
    route("GET", "/api/v1/app/generation_device_options", _devices),
    route("GET", "/api/v1/app/invocation_cache/status", lambda sandbox, _: sandbox.workers.cache.status()),
    route("GET", "/api/v1/auth/status", _auth_status),
    route("POST", "/api/v1/auth/login", _log_in),
    route("GET", "/openapi.json", _openapi),
    route("GET", "/api/v1/workflows/", _list_workflows),
    route("POST", "/api/v1/workflows/", _create_workflow),
    route("GET", "/api/v1/workflows/i/{workflow_id}", _get_workflow),
    route("GET", "/sandbox/renders", lambda sandbox, _: dict(sandbox.renders)),
    route("GET", "/sandbox/stats", lambda sandbox, _: sandbox.stats()),
    route("PUT", "/sandbox/faults", _set_faults),
)
_OF_THE_QUEUE_API = (
    *QUEUE_ROUTES,
    route("GET", "/api/v2/models/", lambda sandbox, request: {"models": _find_models(sandbox, request)}),
    route("GET", "/api/v2/models/get_by_attrs", _get_model_by_attributes),
    route("GET", "/api/v2/models/i/{key}", _get_model),
    route("*", "/{anything:.*}", _show_page),
)
_OF_THE_SESSIONS_API = (
    *SESSION_ROUTES,
    route("GET", "/api/v1/models/", _list_models_of_version_3),
    route("*", "/{anything:.*}", _find_nothing),
)


def _build_application(sandbox: Sandbox) -> web.Application:
    app = web.Application(middlewares=[refuse_web_pages, answer_request], client_max_size=_LARGEST)
    app[KEY] = sandbox
    app.on_response_prepare.append(_sign)
    sandbox.events.sio.attach(app, socketio_path="ws/socket.io")
    app.add_routes(_APP_ROUTES)
    if sandbox.options.api == "portable":
        app.add_routes([SESSION_IMAGES])
    app.add_routes(_OF_THE_QUEUE_API if sandbox.options.api == "queue" else _OF_THE_SESSIONS_API)
    return app


async def _sign(_request: web.Request, response: web.StreamResponse) -> None:
    """Let every answer say that this is no InvokeAI."""
    response.headers["X-Sandbox"] = "sweep"


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
