"""The web application: middleware for access and injected faults, the remaining routes, and serving it."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import json
import math
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from sweep.errors import UsageError
from sweep.sandbox.graph_execution import NODE_CACHE_SIZE
from sweep.sandbox.http_requests import (
    KEY,
    RECORDS,
    TOKEN_SECONDS,
    Accounts,
    RefusedError,
    bearer,
    body_of,
    cut_page,
    read_required,
    read_value,
    reply,
    route,
)
from sweep.sandbox.routes.image_routes import IMAGE_ROUTES
from sweep.sandbox.routes.queue_routes import QUEUE_ROUTES
from sweep.sandbox.routes.session_routes import SESSION_IMAGES, SESSION_ROUTES, SessionEvents
from sweep.sandbox.running_sandbox import Sandbox
from sweep.sandbox.sandbox_options import FaultInjection, SandboxOptions
from sweep.sandbox.socket_events import EventEmitter
from sweep.workflow import FieldSchema, NodeSchema, NodeSchemas


@web.middleware
async def refuse_web_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a page of another site sends: it must not reach the fault switches of a sandbox on this machine.

    Such a request names the site in Origin, or reaches the sandbox under the site's name (DNS rebinding).
    """
    name = urlsplit(f"//{request.host}").hostname or ""
    origin = request.headers.get("Origin")
    if not _is_own_name(name, request.app[KEY].options.host):
        return reply({"detail": f"{name} is not a name of this sandbox."}, 403)
    if origin is not None and urlsplit(origin).netloc != request.host:
        return reply({"detail": f"Requests from {origin} are not allowed."}, 403)
    return await handler(request)


@functools.lru_cache
def _is_own_name(name: str, own: str) -> bool:
    if name in ("localhost", own):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@web.middleware
async def answer_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn refusals into answers, count, stall while garbage is collected, and commit HTTP faults."""
    sandbox: Sandbox = request.app[KEY]
    if request.path.startswith("/ws/"):
        return await handler(request)
    if request.path.startswith("/sandbox/"):
        return await _handle(request, handler)
    resource = request.match_info.route.resource
    sandbox.requests[f"{request.method} {resource.canonical if resource else request.path}"] += 1
    await sandbox.workers.answering.wait()
    met = sandbox.dice.draw_http_fault(request.path)
    if met and met.startswith("error_"):
        return _refuse(HTTPStatus(int(met.removeprefix("error_"))), sandbox)
    if met == "reset":
        return _cut(request)
    if met == "slow":
        await asyncio.sleep(sandbox.faults.slow_seconds)
    response = await _admit(request, handler)
    if met == "lost_answer":
        return _cut(request)
    if met == "truncated" and isinstance(response, web.Response):
        return await _truncate(request, response)
    return response


async def _admit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests without a valid login where one is wanted; answer changes with a fresh token."""
    accounts: Accounts = request.app[KEY].accounts
    if request.path in _OPEN_TO_ALL:
        return await _handle(request, handler)
    refusal = accounts.explain_refusal(request.headers)
    if refusal:
        return reply({"detail": refusal}, 401)
    response = await _handle(request, handler)
    fresh = accounts.renew(bearer(request.headers)) if request.method != "GET" else None
    if fresh:
        response.headers[_FRESH_TOKEN] = fresh
    return response


async def _handle(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RefusedError as error:
        return reply({"detail": error.detail}, error.status)


def _refuse(status: HTTPStatus, sandbox: Sandbox) -> web.Response:
    response = reply({"detail": "Authentication required" if status == 401 else status.phrase}, status)
    if status in {503, 429} and sandbox.faults.retry_after:
        response.headers["Retry-After"] = str(math.ceil(sandbox.faults.retry_after))
    return response


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=499)


async def _truncate(request: web.Request, response: web.Response) -> web.StreamResponse:
    body = response.body if isinstance(response.body, bytes) else b""
    half = web.StreamResponse(status=response.status, headers=response.headers)
    half.content_length = len(body)
    await half.prepare(request)
    await half.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return half


def _get_config(sandbox: Sandbox, _: web.Request) -> Any:
    options = sandbox.options
    facts = {"host": options.host, "port": options.port, "max_queue_size": options.queue_limit}
    facts |= {"node_cache_size": NODE_CACHE_SIZE, "multiuser": bool(options.users)}
    return {"set_fields": [], "config": {**RECORDS["runtime_config"], **facts}}


def _devices(sandbox: Sandbox, _: web.Request) -> Any:
    names = [sandbox.workers.name_device(n) for n in range(sandbox.options.workers)]
    return [{"device": name, "name": "CPU" if name == "cpu" else "Sandbox"} for name in names]


def _get_auth_status(sandbox: Sandbox, _: web.Request) -> Any:
    return {**RECORDS["auth_status"], "multiuser_enabled": bool(sandbox.options.users)}


async def _log_in(sandbox: Sandbox, request: web.Request) -> Any:
    body = await body_of(request)
    given = body if isinstance(body, dict) else {}
    token = sandbox.accounts.log_in(given.get("email"), given.get("password"))
    if token is None:
        raise RefusedError(401, "Incorrect email or password")
    user = {**RECORDS["user"], "user_id": given["email"], "email": given["email"]}
    return {"token": token, "user": user, "expires_in": int(TOKEN_SECONDS)}


async def _openapi(sandbox: Sandbox, _: web.Request) -> web.Response:
    text = await asyncio.to_thread(lambda: json.dumps(write_openapi(sandbox.types.schemas)))
    return web.Response(body=text.encode(), content_type="application/json")


_PRIMITIVES = frozenset({"integer", "number", "string", "boolean", "object", "array"})
_BOUNDS = {"minimum": "minimum", "maximum": "maximum", "exclusive_minimum": "exclusiveMinimum"}
_BOUNDS |= {"exclusive_maximum": "exclusiveMaximum", "multiple_of": "multipleOf"}


def write_openapi(schemas: NodeSchemas) -> dict[str, Any]:
    """Write an OpenAPI document from which a client reads back exactly these schemas."""
    classes: dict[str, Any] = {}
    for schema in schemas.values():
        name = "".join(part.title() for part in schema.type.split("_")) + "Invocation"
        classes[name] = {"class": "invocation", "title": name, "type": "object", **_describe_node(schema)}
        outputs = {name: {**_refer(kind), "field_kind": "output"} for name, kind in schema.outputs.items()}
        output = {"class": "output", "title": schema.output_class, "type": "object", "properties": outputs}
        classes.setdefault(schema.output_class, output)
    return {**RECORDS["openapi"], "components": {"schemas": classes}}


def _describe_node(schema: NodeSchema) -> dict[str, Any]:
    common = RECORDS["node_attributes"]
    fields = {name: _describe_field(field) for name, field in schema.fields.items()}
    is_cached = {**common["use_cache"], "default": schema.is_cached}
    kind = {**common["id"], "const": schema.type, "default": schema.type}
    return {
        "properties": {**common, "use_cache": is_cached, **fields, "type": kind},
        "required": ["type", "id"],
        "output": _refer(schema.output_class),
    }


def _describe_field(field: FieldSchema) -> dict[str, Any]:
    one = {**_refer(field.type), **({"enum": list(field.choices)} if field.choices else {})}
    many = {"type": "array", "items": _refer(field.items or "any")}
    kinds = [] if field.type == "array" else [one]
    kinds += [many] if field.type == "array" or field.items else []
    kinds += [{"type": "null"}] if field.nullable else []
    facts: dict[str, Any] = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    facts |= {"field_kind": "input", "input": field.input, "orig_required": field.required, "default": field.default}
    facts |= {said: bound for slot, said in _BOUNDS.items() if (bound := getattr(field, slot)) is not None}
    facts |= {"ui_model_type": list(field.model_types)} if field.model_types else {}
    facts |= {"ui_model_base": list(field.model_bases)} if field.model_bases else {}
    return facts


def _refer(kind: str) -> dict[str, Any]:
    """Return the schema of a type: a primitive one, a reference to its class, or nothing where any will do."""
    if kind == "any":
        return {}
    return {"type": kind} if kind in _PRIMITIVES else {"$ref": f"#/components/schemas/{kind}"}


def _list_workflows(sandbox: Sandbox, request: web.Request) -> Any:
    """List the workflow library, which a sandbox keeps in memory only."""
    kept = sandbox.workflows.values()
    return cut_page(request, [{key: record[key] for key in record if key != "workflow"} for record in kept])


def _get_workflow(sandbox: Sandbox, _: web.Request, workflow_id: str) -> Any:
    if workflow_id not in sandbox.workflows:
        raise RefusedError(404, "Workflow not found")
    return sandbox.workflows[workflow_id]


_ModelType = StrEnum("_ModelType", RECORDS["model_types"])  # type: ignore[misc]  # its members are data


def _find_models(sandbox: Sandbox, request: web.Request) -> list[dict[str, Any]]:
    """List the models that a query asks for."""
    query = request.query
    kind, bases = query.get("model_type", "main"), query.getall("base_models", [])
    read_value(_ModelType, kind, "query", "model_type")
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
    route("GET", "/api/v1/app/runtime_config", _get_config),
    route("GET", "/api/v1/app/generation_device_options", _devices),
    route("GET", "/api/v1/app/invocation_cache/status", lambda sandbox, _: sandbox.workers.cache.status()),
    route("GET", "/api/v1/auth/status", _get_auth_status),
    route("POST", "/api/v1/auth/login", _log_in),
    route("GET", "/openapi.json", _openapi),
    route("GET", "/api/v1/workflows/", _list_workflows),
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


_LARGEST = 256 * 2**20  # bytes of a request; a batch may carry many values


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
    """Mark every answer as one of a sandbox."""
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


_FRESH_TOKEN = "X-Refreshed-Token"  # noqa: S105  (the name of a header)
_OPEN_TO_ALL = frozenset({"/api/v1/auth/status", "/api/v1/auth/login", "/api/v1/app/version", "/openapi.json"})
