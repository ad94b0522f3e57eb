"""HTTP requests: routes, reading bodies and queries, refusals in FastAPI's words, and the accounts of users."""

from __future__ import annotations

import functools
import inspect
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

# records and answers of InvokeAI, with the values that they have where a sandbox has no others
RECORDS: dict[str, Any] = json.loads((resources.files(__package__) / "api_records.json").read_text("utf-8"))
KEY: web.AppKey[Any] = web.AppKey("sandbox")  # of the `Sandbox` that answers
_NESTED = (dict, list, tuple)


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


Loc = tuple[str | int, ...]


class RefusedError(Exception):
    """A request that is answered with `status` and `{"detail": detail}`."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


def refuse(kind: str, loc: Loc, message: str, value: Any = None, context: Any = None) -> RefusedError:
    """Build a 422 with one fault, as FastAPI writes it."""
    fault = {"type": kind, "loc": list(loc), "msg": message, "input": value}
    return RefusedError(422, [fault if context is None else {**fault, "ctx": context}])


def refuse_value(loc: Loc, message: str, value: Any) -> RefusedError:
    """Build the 422 that InvokeAI's own validators cause when they raise ValueError."""
    return refuse("value_error", loc, f"Value error, {message}", value, {"error": {}})


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def read_value(kind: Any, value: Any, *loc: str | int) -> Any:
    """Return the value as the type `kind` takes it. Raises RefusedError with 422 where it does not."""
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        raise RefusedError(422, describe_faults(error, loc)) from error


def describe_faults(error: ValidationError, loc: Loc) -> list[dict[str, Any]]:
    """Describe what pydantic refuses, as FastAPI does in a 422."""
    found: list[dict[str, Any]] = []
    for entry in error.errors(include_url=False):
        context = {"error": {}} if entry["type"] == "value_error" else entry.get("ctx")
        found += refuse(entry["type"], (*loc, *entry["loc"]), entry["msg"], entry["input"], context).detail
    return found


def collect_faults(faults: list[dict[str, Any]], read: Callable[..., Any], *arguments: Any) -> Any:
    """Call a reader; where it refuses, add its faults to the list and return None."""
    try:
        return read(*arguments)
    except RefusedError as error:
        faults += error.detail
        return None


def read_member(body: Any, name: str, kind: Any) -> Any:
    """Read the member `name` of a JSON body. Raises RefusedError with 422 where it is missing or wrong."""
    if not isinstance(body, dict) or name not in body:
        raise refuse("missing", ("body", name), "Field required")
    return read_value(kind, body[name], "body", name)


def read_required(query: Mapping[str, str], *names: str) -> list[str]:
    """Read query parameters that must be there. Raises RefusedError with 422 that lists all missing."""
    missing = [refuse("missing", ("query", name), "Field required").detail[0] for name in names if name not in query]
    if missing:
        raise RefusedError(422, missing)
    return [query[name] for name in names]


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


TOKEN_SECONDS = 86_400.0  # a token is valid, as with InvokeAI without remember_me


class Accounts:
    """Users by e-mail with their passwords, and the tokens they were given; without users no login is wanted."""

    def __init__(self, users: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        self.users = dict(users)
        self.logins = 0
        self._clock = clock
        self._tokens: dict[str, tuple[str, float]] = {}  # token → (e-mail, when it runs out)

    def log_in(self, email: object, password: object) -> str | None:
        """Issue a token; None where nobody has that e-mail and password."""
        if not isinstance(email, str) or not isinstance(password, str) or self.users.get(email) != password:
            return None
        self.logins += 1
        return self._issue(email)

    def _issue(self, email: str) -> str:
        token = secrets.token_urlsafe(32)
        self._tokens[token] = (email, self._clock() + TOKEN_SECONDS)
        return token

    def find_user(self, token: str) -> str | None:
        """Return the e-mail of a token's user; None for a token that is unknown or has run out."""
        email, until = self._tokens.get(token, ("", 0.0))
        return email if email and self._clock() < until else None

    def renew(self, token: str) -> str | None:
        """Issue another token for the same user, the old one staying valid; None for an invalid token."""
        email = self.find_user(token)
        return self._issue(email) if email else None

    def expire(self) -> None:
        """Let every token run out now."""
        self._tokens.clear()

    def explain_refusal(self, headers: Mapping[str, str], auth: Any = None) -> str | None:
        """Say why a request or a socket is turned away, in InvokeAI's words; None where it may come in."""
        if not self.users:
            return None
        token = bearer(headers) or (str(auth.get("token") or "") if isinstance(auth, Mapping) else "")
        if not token:
            return "Authentication required"
        return None if self.find_user(token) else "Invalid or expired token"


def bearer(headers: Mapping[str, str]) -> str:
    """Read the token of an Authorization header; empty where there is none."""
    kind, _, token = headers.get("Authorization", "").partition(" ")
    return token if kind == "Bearer" else ""
