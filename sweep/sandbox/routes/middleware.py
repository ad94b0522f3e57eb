"""Around all routes: who may come in, bodies read and answers written, requests counted, faults injected."""

from __future__ import annotations

import asyncio
import functools
import inspect
import ipaddress
import json
import math
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from sweep.sandbox.batches import RefusedError, read_value, refuse
from sweep.sandbox.image_library import UnknownImageError
from sweep.sandbox.options import bearer
from sweep.sandbox.service import Sandbox

KEY: web.AppKey[Sandbox] = web.AppKey("sandbox", Sandbox)
_FRESH_TOKEN = "X-Refreshed-Token"  # noqa: S105  (the name of a header)
_NESTED = (dict, list, tuple)
_OPEN_TO_ALL = frozenset({"/api/v1/auth/status", "/api/v1/auth/login", "/api/v1/app/version", "/openapi.json"})


def route(method: str, path: str, answer: Callable[..., Any], status: int = 200) -> web.RouteDef:
    """Make a route. `answer` takes the sandbox, the request and the names in the path, by keyword.

    It gives, or awaits, the JSON of the answer or a whole response.
    """

    async def handle(request: web.Request) -> web.StreamResponse:
        found = answer(request.app[KEY], request, **request.match_info)
        if inspect.isawaitable(found):
            found = await found
        return found if isinstance(found, web.StreamResponse) else reply(found, status)

    return web.get(path, handle) if method == "GET" else web.route(method, path, handle)


def reply(body: Any, status: int = 200) -> web.Response:
    """Build a JSON answer, written as tightly as InvokeAI writes it."""
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return web.Response(body=text.encode(), status=status, content_type="application/json")


def drop_nulls(value: Any) -> Any:
    """Return JSON without its nulls, at any depth. Scalars are not called for: an item has thousands."""
    if isinstance(value, dict):
        kept = ((key, item) for key, item in value.items() if item is not None)
        return {key: drop_nulls(item) if isinstance(item, _NESTED) else item for key, item in kept}
    return [drop_nulls(item) if isinstance(item, _NESTED) else item for item in value]


async def body_of(request: web.Request) -> Any:
    """Read the JSON of a request. Raises RefusedError with FastAPI's 422 where it is none."""
    data = await request.read()
    try:
        return json.loads(data) if data else None
    except json.JSONDecodeError as error:
        context = {"error": error.msg}
        raise refuse("json_invalid", ("body", error.pos), "JSON decode error", {}, context) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(400, "There was an error parsing the body") from error


def read_page(request: web.Request, **defaults: int) -> list[int]:
    """Read the whole numbers of a query that choose a page of a list. Raises RefusedError with 422."""
    return [read_value(int, request.query.get(name, default), "query", name) for name, default in defaults.items()]


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
    sandbox = request.app[KEY]
    if request.path.startswith("/ws/"):
        return await handler(request)
    if request.path.startswith("/sandbox/"):
        return await _handle(request, handler)
    resource = request.match_info.route.resource
    sandbox.requests[f"{request.method} {resource.canonical if resource else request.path}"] += 1
    await sandbox.workers.stalled.wait()
    met = sandbox.dice.http_fault(request.path)
    if met in _REFUSALS:
        return _refuse(met, sandbox)
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
    """Read only who has logged in, where a login is wanted. Whoever changes something is given a fresh token."""
    accounts = request.app[KEY].accounts
    if request.path in _OPEN_TO_ALL:
        return await _handle(request, handler)
    refusal = accounts.refusal(request.headers)
    if refusal:
        return reply({"detail": refusal}, 401)
    response = await _handle(request, handler)
    fresh = accounts.fresh(bearer(request.headers)) if request.method != "GET" else None
    if fresh:
        response.headers[_FRESH_TOKEN] = fresh
    return response


async def _handle(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RefusedError as error:
        return reply({"detail": error.detail}, error.status)
    except UnknownImageError:
        return reply({"detail": "Not Found"}, 404)


_REFUSALS = {
    "error_500": (500, "Internal Server Error"),
    "error_503": (503, "Service Unavailable"),
    "error_429": (429, "Too Many Requests"),
    "error_401": (401, "Authentication required"),
    "error_403": (403, "Forbidden"),
}


def _refuse(met: str, sandbox: Sandbox) -> web.Response:
    status, detail = _REFUSALS[met]
    response = reply({"detail": detail}, status)
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
