"""The web application: middleware for access and injected faults, all routes put together, and serving it."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from sweep.errors import UsageError
from sweep.sandbox.http_requests import KEY, Accounts, RefusedError, bearer, reply, route
from sweep.sandbox.queue_api_routes import IMAGE_ROUTES, QUEUE_ROUTES, SERVER_ROUTES
from sweep.sandbox.running_sandbox import Sandbox
from sweep.sandbox.sandbox_options import SandboxOptions
from sweep.sandbox.sessions_api_routes import SESSION_IMAGES, SESSION_ROUTES
from sweep.sandbox.socket_events import EventEmitter, SessionEvents


@web.middleware
async def refuse_web_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a page of another site sends: it must not use a sandbox on this machine.

    Such a request names the site in Origin, or reaches the sandbox under the site's name (DNS rebinding).
    """
    name = urlsplit(f"//{request.host}").hostname or ""
    origin = request.headers.get("Origin")
    if not _is_own_name(name, request.app[KEY].options.host):
        return reply({"detail": f"{name} is not a name of this sandbox."}, 403)
    if origin is not None and urlsplit(origin).netloc != request.host:
        return reply({"detail": f"Requests from {origin} are not allowed."}, 403)
    return await handler(request)


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


_FRESH_TOKEN = "X-Refreshed-Token"  # noqa: S105  (the name of a header)
_OPEN_TO_ALL = frozenset({"/api/v1/auth/status", "/api/v1/auth/login", "/api/v1/app/version", "/openapi.json"})
