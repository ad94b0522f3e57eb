"""The routes of the sandbox but for its queue, and how they are served over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from sweep.errors import UsageError
from sweep.sandbox.batches import STRINGS, RefusedError, fault, integer, read_member, read_required
from sweep.sandbox.events import EventEmitter
from sweep.sandbox.image_nodes import spoil_image
from sweep.sandbox.images import UnsavableImageError
from sweep.sandbox.legacy_sessions import SessionEvents
from sweep.sandbox.options import SECONDS, FaultInjection, SandboxOptions
from sweep.sandbox.routes import queue as queue_routes
from sweep.sandbox.routes.common import KEY, answer, body_of, refuse_web_pages, reply, sandbox_of, sign
from sweep.sandbox.service import Sandbox
from sweep.workflow import FieldSchema, NodeSchema, NodeSchemas

_PRIMITIVES = frozenset({"integer", "number", "string", "boolean", "object", "array"})
_BOUNDS = {
    "minimum": "minimum",
    "maximum": "maximum",
    "exclusive_minimum": "exclusiveMinimum",
    "exclusive_maximum": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}


def document(schemas: NodeSchemas) -> dict[str, Any]:
    """Write an OpenAPI document from which a client reads back exactly these schemas."""
    classes: dict[str, Any] = {}
    for schema in schemas.values():
        classes[_class_name(schema.type)] = _node(schema)
        classes.setdefault(schema.output_class, _output(schema))
    return {
        "openapi": "3.1.0",
        "info": {"title": "sweep sandbox", "description": "Speaks InvokeAI's queue protocol.", "version": "1.0.0"},
        "paths": {},
        "components": {"schemas": classes},
    }


def _class_name(kind: str) -> str:
    return "".join(part.title() for part in kind.split("_")) + "Invocation"


def _node(schema: NodeSchema) -> dict[str, Any]:
    attribute = {"field_kind": "node_attribute"}
    return {
        "class": "invocation",
        "title": _class_name(schema.type),
        "type": "object",
        "properties": {
            "id": {**attribute, "type": "string"},
            "is_intermediate": {**attribute, "type": "boolean", "default": False, "input": "direct"},
            "use_cache": {**attribute, "type": "boolean", "default": schema.is_cached},
            **{name: _field(field) for name, field in schema.fields.items()},
            "type": {**attribute, "type": "string", "const": schema.type, "default": schema.type},
        },
        "required": ["type", "id"],
        "output": _field_schema(schema.output_class),
    }


def _output(schema: NodeSchema) -> dict[str, Any]:
    outputs = {name: {**_field_schema(kind), "field_kind": "output"} for name, kind in schema.outputs.items()}
    return {"class": "output", "title": schema.output_class, "type": "object", "properties": outputs}


def _field(field: FieldSchema) -> dict[str, Any]:
    kinds: list[dict[str, Any]] = []
    if field.type == "array":
        kinds.append({"type": "array", "items": _field_schema(field.items or "any")})
    else:
        kinds.append(_field_schema(field.type) | ({"enum": list(field.choices)} if field.choices else {}))
        if field.items:
            kinds.append({"type": "array", "items": _field_schema(field.items)})
    if field.nullable:
        kinds.append({"type": "null"})
    facts: dict[str, Any] = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    facts |= {"field_kind": "input", "input": field.input, "orig_required": field.required, "default": field.default}
    facts |= {said: bound for slot, said in _BOUNDS.items() if (bound := getattr(field, slot)) is not None}
    if field.model_types:
        facts["ui_model_type"] = list(field.model_types)
    if field.model_bases:
        facts["ui_model_base"] = list(field.model_bases)
    return facts


def _field_schema(kind: str) -> dict[str, Any]:
    if kind == "any":
        return {}
    return {"type": kind} if kind in _PRIMITIVES else {"$ref": f"#/components/schemas/{kind}"}


app_routes = web.RouteTableDef()
_IMAGES, _BOARDS = "/api/v1/images", "/api/v1/boards"
_CATEGORIES = ("general", "mask", "control", "user", "other")
_KEEP = {"Cache-Control": "max-age=31536000"}


@app_routes.get("/api/v1/app/version")
async def version(request: web.Request) -> web.Response:
    return reply({"version": sandbox_of(request).version, "sandbox": True})


@app_routes.get("/api/v1/app/runtime_config")
async def runtime_config(request: web.Request) -> web.Response:
    options = sandbox_of(request).options
    config = {
        "host": options.host,
        "port": options.port,
        "max_queue_size": options.queue_limit,
        "session_queue_mode": "round_robin" if options.affinity else "FIFO",
        "node_cache_size": options.node_cache_size,
        "max_queue_history": None,
        "clear_queue_on_startup": False,
        "generation_devices": "auto",
        "multiuser": sandbox_of(request).accounts.wanted,
    }
    return reply({"set_fields": [], "config": config})


@app_routes.get("/api/v1/app/generation_device_options")
async def devices(request: web.Request) -> web.Response:
    sandbox = sandbox_of(request)
    names = [sandbox.processor.device(n) for n in range(sandbox.options.workers)]
    return reply([{"device": name, "name": "CPU" if name == "cpu" else "Sandbox"} for name in names])


@app_routes.get("/api/v1/app/invocation_cache/status")
async def cache_status(request: web.Request) -> web.Response:
    return reply(sandbox_of(request).processor.cache.status())


@app_routes.put("/api/v1/app/invocation_cache/{what:enable|disable}")
async def cache_switch(request: web.Request) -> web.Response:
    cache = sandbox_of(request).processor.cache
    cache.enabled = request.match_info["what"] == "enable" and cache.size > 0
    return reply(None)


@app_routes.delete("/api/v1/app/invocation_cache")
async def cache_clear(request: web.Request) -> web.Response:
    sandbox_of(request).processor.cache.clear()
    return reply(None)


@app_routes.get("/api/v1/auth/status")
async def auth_status(request: web.Request) -> web.Response:
    wanted = sandbox_of(request).accounts.wanted
    off = dict.fromkeys(("setup_required", "strict_password_checking"), False)
    return reply({**off, "multiuser_enabled": wanted, "admin_email": None})


@app_routes.post("/api/v1/auth/login")
async def log_in(request: web.Request) -> web.Response:
    accounts, body = sandbox_of(request).accounts, await body_of(request)
    given = body if isinstance(body, dict) else {}
    token = accounts.log_in(given.get("email"), given.get("password"))
    if token is None:
        raise RefusedError(401, "Incorrect email or password")
    user = {"user_id": given["email"], "email": given["email"], "display_name": "", "is_admin": True, "is_active": True}
    return reply({"token": token, "user": user, "expires_in": int(SECONDS)})


@app_routes.get("/openapi.json")
async def openapi(request: web.Request) -> web.Response:
    schemas = sandbox_of(request).types.schemas
    text = await asyncio.to_thread(lambda: json.dumps(document(schemas)))
    return web.Response(body=text.encode(), content_type="application/json")


@app_routes.post(f"{_IMAGES}/upload")
async def upload(request: web.Request) -> web.Response:
    category, intermediate = read_required(request.query, ["image_category", "is_intermediate"])
    if category not in _CATEGORIES:
        expected = ", ".join(f"'{name}'" for name in _CATEGORIES[:-1]) + f" or '{_CATEGORIES[-1]}'"
        entry = fault(
            "enum", ("query", "image_category"), f"Input should be {expected}", category, {"expected": expected}
        )
        raise RefusedError(422, [entry])
    form = await request.post()
    file = form.get("file")
    if not isinstance(file, web.FileField):
        raise RefusedError(422, [fault("missing", ("body", "file"), "Field required")])
    if not file.content_type.startswith("image"):
        raise RefusedError(415, "Not an image")
    data = await asyncio.to_thread(file.file.read)
    facts = {name: request.query.get(name) for name in ("board_id", "session_id")}
    metadata = form.get("metadata")
    try:
        record = await sandbox_of(request).images.upload(
            data,
            image_category=category,
            is_intermediate=intermediate.lower() in {"true", "1"},
            metadata=metadata if isinstance(metadata, str) else None,
            file_name=file.filename,
            **facts,
        )
    except (OSError, ValueError) as error:
        raise RefusedError(415, "Failed to read image") from error
    except UnsavableImageError as error:
        raise RefusedError(500, "Failed to create image") from error
    response = reply(sandbox_of(request).images.dto(record["image_name"]), 201)
    response.headers["Location"] = record["image_url"]
    return response


@app_routes.get(f"{_IMAGES}/")
async def list_images(request: web.Request) -> web.Response:
    images = sandbox_of(request).images
    found = images.listed(request.query)
    offset, limit = (integer(request.query.get(n, d), "query", n) for n, d in (("offset", "0"), ("limit", "10")))
    items = [images.dto(record["image_name"]) for record in found[offset : offset + limit]]
    return reply({"limit": limit, "offset": offset, "total": len(found), "items": items})


@app_routes.get(f"{_IMAGES}/names")
async def list_image_names(request: web.Request) -> web.Response:
    names = [record["image_name"] for record in sandbox_of(request).images.listed(request.query)]
    return reply({"image_names": names, "starred_count": 0, "total_count": len(names)})


@app_routes.get(f"{_IMAGES}/i/{{name}}")
async def image_dto(request: web.Request) -> web.Response:
    return reply(sandbox_of(request).images.dto(request.match_info["name"]))


@app_routes.delete(f"{_IMAGES}/i/{{name}}")
async def delete_image(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if name not in sandbox_of(request).images.images:
        raise RefusedError(404, "Image not found")
    return reply(await _delete(request, [name]))


@app_routes.post(f"{_IMAGES}/delete")
async def delete_images(request: web.Request) -> web.Response:
    names = read_member(await body_of(request), "image_names", STRINGS)
    return reply(await _delete(request, names))


async def _delete(request: web.Request, names: list[str]) -> dict[str, Any]:
    sandbox = sandbox_of(request)
    there = [name for name in names if name in sandbox.images.images]
    boards = {sandbox.images.images[name]["board_id"] or "none" for name in there}
    for name in there:
        await sandbox.images.delete(name)
        sandbox.processor.cache.forget(name)
    return {"affected_boards": sorted(boards), "deleted_images": there, "failed_images": []}


@app_routes.get(f"{_IMAGES}/i/{{name}}/full")
async def full_image(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    images = sandbox_of(request).images
    record = images.record(name)
    content, kind = spoil_image(await images.content(name), record.get("bad"))
    headers = {**_KEEP, "Content-Disposition": f'inline; filename="{record["image_name"]}"'}
    return web.Response(body=content, content_type=kind, headers=headers)


@app_routes.get(f"{_IMAGES}/i/{{name}}/thumbnail")
async def thumbnail(request: web.Request) -> web.Response:
    content = await sandbox_of(request).images.thumbnail(request.match_info["name"])
    return web.Response(body=content, content_type="image/webp", headers=_KEEP)


@app_routes.get(f"{_IMAGES}/i/{{name}}/metadata")
async def image_metadata(request: web.Request) -> web.Response:
    text = sandbox_of(request).images.record(request.match_info["name"]).get("metadata")
    return reply(json.loads(text) if text else None)


@app_routes.get(f"{_IMAGES}/i/{{name}}/workflow")
async def image_workflow(request: web.Request) -> web.Response:
    record = sandbox_of(request).images.record(request.match_info["name"])
    return reply({"workflow": record.get("workflow"), "graph": record.get("graph")})


@app_routes.get(f"{_IMAGES}/i/{{name}}/urls")
async def image_urls(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    urls = {f"{what}_url": f"api/v1/images/i/{name}/{path}" for what, path in _URLS.items()}
    return reply({"image_name": name, **urls})


_URLS = {"image": "full", "thumbnail": "thumbnail"}


@app_routes.post(f"{_BOARDS}/")
async def create_board(request: web.Request) -> web.Response:
    (name,) = read_required(request.query, ["board_name"])
    return reply(await sandbox_of(request).images.create_board(name), 201)


@app_routes.get(f"{_BOARDS}/")
async def boards(request: web.Request) -> web.Response:
    found = [_with_count(request, board) for board in sandbox_of(request).images.boards.values()]
    if request.query.get("all", "").lower() in {"true", "1"}:
        return reply(found)
    offset, limit = (integer(request.query.get(n, d), "query", n) for n, d in (("offset", "0"), ("limit", "10")))
    return reply({"limit": limit, "offset": offset, "total": len(found), "items": found[offset : offset + limit]})


@app_routes.get(f"{_BOARDS}/{{board_id}}")
async def board(request: web.Request) -> web.Response:
    return reply({**_with_count(request, _board(request)), "owner_username": None})


@app_routes.get(f"{_BOARDS}/{{board_id}}/image_names")
async def board_images(request: web.Request) -> web.Response:
    board_id = request.match_info["board_id"]
    wanted = None if board_id == "none" else _board(request)["board_id"]
    images = sandbox_of(request).images.images.values()
    return reply([record["image_name"] for record in images if record["board_id"] == wanted])


@app_routes.get("/api/v1/workflows/")
async def workflows(request: web.Request) -> web.Response:
    """List the library; a sandbox forgets it when it ends."""
    kept = list(sandbox_of(request).workflows.values())
    page, size = (integer(request.query.get(n, d), "query", n) for n, d in (("page", "0"), ("per_page", "10")))
    items = [{key: value for key, value in record.items() if key != "workflow"} for record in kept]
    pages = -(-len(kept) // max(size, 1))
    found = items[page * size : (page + 1) * size]
    return reply({"page": page, "pages": pages, "per_page": size, "total": len(kept), "items": found})


@app_routes.post("/api/v1/workflows/")
async def create_workflow(request: web.Request) -> web.Response:
    document = (await body_of(request)).get("workflow")
    if not isinstance(document, dict):
        raise RefusedError(422, [fault("missing", ("body", "workflow"), "Field required")])
    key = str(uuid.uuid4())
    record = {"workflow_id": key, "name": str(document.get("name")), "category": "user", "workflow": document}
    sandbox_of(request).workflows[key] = record
    return reply(record)


@app_routes.get("/api/v1/workflows/i/{workflow_id}")
async def workflow(request: web.Request) -> web.Response:
    found = sandbox_of(request).workflows.get(request.match_info["workflow_id"])
    if found is None:
        raise RefusedError(404, "Workflow not found")
    return reply(found)


@app_routes.delete(f"{_BOARDS}/{{board_id}}")
async def delete_board(request: web.Request) -> web.Response:
    board_id = _board(request)["board_id"]
    with_images = request.query.get("include_images", "").lower() in {"true", "1"}
    return reply(await sandbox_of(request).images.delete_board(board_id, with_images=with_images))


def _board(request: web.Request) -> dict[str, Any]:
    found = sandbox_of(request).images.boards.get(request.match_info["board_id"])
    if found is None:
        raise RefusedError(404, "Board not found")
    return found


def _with_count(request: web.Request, found: Mapping[str, Any]) -> dict[str, Any]:
    images = sandbox_of(request).images.images.values()
    count = sum(record["board_id"] == found["board_id"] for record in images)
    return {**found, "image_count": count, "owner_username": "System"}


@app_routes.get("/sandbox/renders")
async def renders(request: web.Request) -> web.Response:
    return reply(dict(sandbox_of(request).renders))


@app_routes.get("/sandbox/stats")
async def app_stats(request: web.Request) -> web.Response:
    return reply(sandbox_of(request).stats())


@app_routes.put("/sandbox/faults")
async def set_faults(request: web.Request) -> web.Response:
    sandbox = sandbox_of(request)
    try:
        sandbox.faults = FaultInjection(**(await body_of(request) or {}))
    except (TypeError, UsageError) as error:
        raise RefusedError(422, str(error)) from error
    return reply(None)


_PAGE = (
    b"<!DOCTYPE html><html><head><title>sweep sandbox</title></head><body>A sweep sandbox, no InvokeAI.</body></html>"
)


async def unknown_route(request: web.Request) -> web.Response:
    """InvokeAI answers unknown GETs with its web page, and refuses other methods."""
    if request.method in {"GET", "HEAD"}:
        return web.Response(body=_PAGE, content_type="text/html")
    raise RefusedError(405, "Method Not Allowed")


model_routes = web.RouteTableDef()
of_version_3 = web.RouteTableDef()
_MODELS = "/api/v2/models"
_TYPES = (
    *("onnx", "main", "vae", "lora", "control_lora", "controlnet", "embedding", "ip_adapter", "clip_vision"),
    *("clip_embed", "t2i_adapter", "t5_encoder", "qwen3_encoder", "qwen_vl_encoder", "qwen3_vl_encoder"),
    *("mistral_encoder", "wan_t5_encoder", "gemma2_encoder", "spandrel_image_to_image", "siglip", "flux_redux"),
    *("llava_onevision", "prompt_enhancer", "text_llm", "external_image_generator", "pid_decoder", "unknown"),
)


@model_routes.get(f"{_MODELS}/")
async def list_models(request: web.Request) -> web.Response:
    query = request.query
    kind = query.get("model_type", "main")
    if kind not in _TYPES:
        expected = ", ".join(f"'{name}'" for name in _TYPES[:-1]) + f" or '{_TYPES[-1]}'"
        raise RefusedError(
            422, [fault("enum", ("query", "model_type"), f"Input should be {expected}", kind, {"expected": expected})]
        )
    wanted = [
        record
        for record in sandbox_of(request).models.values()
        if query.get("model_type") in {None, record["type"]}
        and query.get("model_name") in {None, record["name"]}
        and query.get("model_format") in {None, record["format"]}
        and ("base_models" not in query or record["base"] in query.getall("base_models"))
    ]
    return reply({"models": wanted})


@model_routes.get(f"{_MODELS}/get_by_attrs")
async def model_by_attrs(request: web.Request) -> web.Response:
    asked = read_required(request.query, ["name", "type", "base"])
    return _model(request, lambda record: [record["name"], record["type"], record["base"]] == asked)


@model_routes.get(f"{_MODELS}/get_by_hash")
async def model_by_hash(request: web.Request) -> web.Response:
    (asked,) = read_required(request.query, ["hash"])
    return _model(request, lambda record: record["hash"] == asked)


@model_routes.get(f"{_MODELS}/i/{{key}}")
async def model_by_key(request: web.Request) -> web.Response:
    key = request.match_info["key"]
    return _model(request, lambda record: record["key"] == key, "model not found")


def _model(request: web.Request, fits: Any, missing: str = "No model found with these attributes") -> web.Response:
    found = next((record for record in sandbox_of(request).models.values() if fits(record)), None)
    if found is None:
        raise RefusedError(404, missing)
    return reply(found)


@model_routes.get(f"{_MODELS}/stats")
async def model_stats(request: web.Request) -> web.Response:
    sandbox = sandbox_of(request)
    loads = sum(sandbox.processor.model_loads.values())
    loaded = [sandbox.models[key] for key in sandbox.processor.loaded]
    sizes = {f"{record['base']}:main:{record['name']}:unet": record["file_size"] for record in loaded}
    counts = {"hits": 0, "misses": loads, "high_watermark": 0, "in_cache": len(sizes), "cleared": 0, "cache_size": 0}
    return reply({**counts, "loaded_model_sizes": sizes})


@of_version_3.get("/api/v1/models/")
async def old_models(request: web.Request) -> web.Response:
    query = request.query
    wanted = [
        {
            "model_name": record["name"],
            "base_model": record["base"],
            "model_type": record["type"],
            "path": record["path"],
            "description": record["description"],
            "model_format": record["format"],
            "error": None,
            "variant": record.get("variant"),
        }
        for record in sandbox_of(request).models.values()
        if query.get("model_type") in {None, record["type"]}
        and ("base_models" not in query or record["base"] in query.getall("base_models"))
    ]
    return reply({"models": wanted})


_LARGEST = 256 * 2**20  # bytes of a request; a batch may carry many values


@asynccontextmanager
async def sandbox_server(options: SandboxOptions | None = None) -> AsyncIterator[Sandbox]:
    """Serve a sandbox at `sandbox.url` as long as the block lasts, on this event loop.

    Raises UsageError where the port is taken.
    """
    options = options or SandboxOptions()
    sandbox = Sandbox(options, EventEmitter if options.api == "queue" else SessionEvents)
    await sandbox.start()
    runner = web.AppRunner(_application(sandbox), access_log=None, shutdown_timeout=1.0)
    try:
        await runner.setup()
        site = web.TCPSite(runner, sandbox.options.host, sandbox.options.port)
        try:
            await site.start()
        except OSError as error:
            where = f"{sandbox.options.host}:{sandbox.options.port}"
            raise UsageError(
                f"{where} cannot be used ({os.strerror(error.errno or 0)}).", hint="Choose another --port."
            ) from error
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


def _application(sandbox: Sandbox) -> web.Application:
    app = web.Application(middlewares=[refuse_web_pages, answer], client_max_size=_LARGEST)
    app[KEY] = sandbox
    app.on_response_prepare.append(sign)
    sandbox.events.sio.attach(app, socketio_path="ws/socket.io")
    app.add_routes(app_routes)
    if sandbox.options.api == "queue":
        app.add_routes([*queue_routes.queue_routes, *model_routes])
        app.router.add_route("*", "/{anything:.*}", unknown_route)
        return app
    app.add_routes([*queue_routes.session_routes, *of_version_3])
    if sandbox.options.api == "portable":
        app.add_routes(queue_routes.of_portable)
    app.router.add_route("*", "/{anything:.*}", queue_routes.unknown_sessions_route)
    return app
