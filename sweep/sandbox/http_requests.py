"""HTTP requests: how they are routed, read, refused in FastAPI's words, and admitted; injected faults, and accounts."""

from __future__ import annotations

import asyncio
import functools
import inspect
import ipaddress
import json
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import TypeAdapter, ValidationError

KEY: web.AppKey[Any] = web.AppKey("sandbox")  # of the `Sandbox` that answers


def route(method: str, path: str, answer: Callable[..., Any], status: int = 200) -> web.RouteDef:
    """Make a route. `answer` takes the sandbox, the request and the names in the path, by keyword.

    It gives, or awaits, the JSON of the answer or a whole response; a RefusedError that it raises is the answer, too.
    """

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            found = answer(request.app[KEY], request, **request.match_info)
            if inspect.isawaitable(found):
                found = await found
        except RefusedError as error:
            return reply({"detail": error.detail}, error.status)
        return found if isinstance(found, web.StreamResponse) else reply(found, status)

    return web.get(path, handle) if method == "GET" else web.route(method, path, handle)


def reply(body: Any, status: int = 200) -> web.Response:
    """Build a JSON answer, written as tightly as InvokeAI writes it."""
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return web.Response(body=text.encode(), status=status, content_type="application/json")


Loc = tuple[str | int, ...]


class RefusedError(Exception):
    """A request that is answered with `status` and `{"detail": detail}`."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


def refuse(kind: str, loc: Loc, message: str, context: Any = None) -> RefusedError:
    """Build a 422 with one problem, as FastAPI writes it."""
    problem = {"type": kind, "loc": list(loc), "msg": message}
    return RefusedError(422, [problem if context is None else {**problem, "ctx": context}])


def refuse_value(loc: Loc, message: str) -> RefusedError:
    """Build the 422 that InvokeAI's own validators cause when they raise ValueError."""
    return refuse("value_error", loc, f"Value error, {message}")


def refuse_invalid(error: ValidationError, *loc: str | int) -> RefusedError:
    """Build the 422 with all that pydantic found wrong at this place."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return RefusedError(422, [{**entry, "loc": [*loc, *entry["loc"]]} for entry in found])


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def read_value(kind: Any, value: Any, *loc: str | int) -> Any:
    """Return the value as the type `kind` takes it. Raises RefusedError with 422 where it does not."""
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        raise refuse_invalid(error, *loc) from error


def read_member(body: Any, name: str, kind: Any) -> Any:
    """Read the member `name` of a JSON body. Raises RefusedError with 422 where it is missing or wrong."""
    if not isinstance(body, dict) or name not in body:
        raise refuse("missing", ("body", name), "Field required")
    return read_value(kind, body[name], "body", name)


def read_parameter(request: web.Request, name: str, kind: Any = str) -> Any:
    """Read a query parameter that must be there. Raises RefusedError with 422 where it is missing or wrong."""
    if name not in request.query:
        raise refuse("missing", ("query", name), "Field required")
    return read_value(kind, request.query[name], "query", name)


async def read_body(request: web.Request) -> Any:
    """Read the JSON of a request. Raises RefusedError with FastAPI's 422 where it is none."""
    data = await request.read()
    try:
        return json.loads(data) if data else None
    except json.JSONDecodeError as error:
        raise refuse("json_invalid", ("body", error.pos), "JSON decode error") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(400, "There was an error parsing the body") from error


def _read_numbers(request: web.Request, **defaults: int) -> list[int]:
    """Read whole numbers of a query. Raises RefusedError with 422."""
    return [read_value(int, request.query.get(name, default), "query", name) for name, default in defaults.items()]


def cut_window(request: web.Request, items: Sequence[Any]) -> dict[str, Any]:
    """Answer with the items from `offset` on, at most `limit`, as the request asks."""
    offset, limit = _read_numbers(request, offset=0, limit=10)
    return {"limit": limit, "offset": offset, "total": len(items), "items": items[offset : offset + limit]}


def cut_page(request: web.Request, items: Sequence[Any]) -> dict[str, Any]:
    """Answer with the items of one `page` of `per_page` items, as the request asks."""
    page, size = _read_numbers(request, page=0, per_page=10)
    found = items[page * size : (page + 1) * size]
    pages = -(-len(items) // max(size, 1))
    return {"page": page, "pages": pages, "per_page": size, "total": len(items), "items": found}


TOKEN_SECONDS = 86_400  # a token's life as logins are told it, as with InvokeAI without remember_me


class Accounts:
    """Users by e-mail with their passwords, and the tokens they were given; without users no login is wanted."""

    def __init__(self, users: Mapping[str, str]) -> None:
        self.users = dict(users)
        self.logins = 0
        self._tokens: dict[str, str] = {}  # token → e-mail

    def log_in(self, email: object, password: object) -> str | None:
        """Issue a token; None where nobody has that e-mail and password."""
        if not isinstance(email, str) or not isinstance(password, str) or self.users.get(email) != password:
            return None
        self.logins += 1
        return self._issue(email)

    def _issue(self, email: str) -> str:
        token = secrets.token_urlsafe(32)
        self._tokens[token] = email
        return token

    def renew(self, token: str) -> str | None:
        """Issue another token for the same user, the old one staying valid; None for an invalid token."""
        email = self._tokens.get(token)
        return self._issue(email) if email else None

    def expire(self) -> None:
        """Let every token run out now."""
        self._tokens.clear()

    def explain_refusal(self, headers: Mapping[str, str], auth: Any = None) -> str | None:
        """Say why a request or a socket is turned away, in InvokeAI's words; None where it may come in."""
        if not self.users:
            return None
        token = read_bearer(headers) or (str(auth.get("token") or "") if isinstance(auth, Mapping) else "")
        if not token:
            return "Authentication required"
        return None if token in self._tokens else "Invalid or expired token"


def read_bearer(headers: Mapping[str, str]) -> str:
    """Read the token of an Authorization header; empty where there is none."""
    kind, _, token = headers.get("Authorization", "").partition(" ")
    return token if kind == "Bearer" else ""


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
    """Count requests, stall while garbage is collected, and commit HTTP faults."""
    sandbox = request.app[KEY]
    if request.path.startswith(("/ws/", "/sandbox/")):
        return await handler(request)
    resource = request.match_info.route.resource
    sandbox.requests[f"{request.method} {resource.canonical if resource else request.path}"] += 1
    async with sandbox.workers.garbage:
        pass
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


_OPEN_TO_ALL = frozenset({"/api/v1/auth/status", "/api/v1/auth/login", "/api/v1/app/version", "/openapi.json"})


async def _admit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests without a valid login where one is wanted; answer changes with a fresh token."""
    accounts: Accounts = request.app[KEY].accounts
    if request.path in _OPEN_TO_ALL:
        return await handler(request)
    refusal = accounts.explain_refusal(request.headers)
    if refusal:
        return reply({"detail": refusal}, 401)
    response = await handler(request)
    fresh = accounts.renew(read_bearer(request.headers)) if request.method != "GET" else None
    if fresh:
        response.headers["X-Refreshed-Token"] = fresh
    return response


def _refuse(status: HTTPStatus, sandbox: Any) -> web.Response:
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
