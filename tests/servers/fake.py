"""A server that says exactly what a test tells it to, over real sockets: for what no whole server does on demand."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import socketio
from aiohttp import web

PAYLOADS = Path(__file__).parent / "payloads"
Handler: TypeAlias = Callable[[web.Request, bytes], Any]


def payload(name: str) -> Any:
    """A recorded answer."""
    return json.loads((PAYLOADS / f"{name}.json").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    data: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.data)


@dataclass(slots=True)
class Fake:
    """Answers by method and path. An answer is JSON, a web.Response, an exception class (the connection breaks), or a
    function of the request that returns one; a list is used up one by one, its last element staying.
    """

    answers: dict[tuple[str, str], Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    prefix: str = ""
    sio: Any = None
    connections: int = 0
    subscriptions: list[dict[str, Any]] = field(default_factory=list)
    auths: list[Any] = field(default_factory=list)
    transports: list[str] = field(default_factory=list)
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    sids: list[str] = field(default_factory=list)

    def on(self, method: str, path: str, answer: Any) -> None:
        self.answers[method, path] = answer

    def calls(self, method: str, path: str) -> list[Asked]:
        return [one for one in self.asked if (one.method, one.path) == (method, path)]

    async def emit(self, event: str, data: Any) -> None:
        await self.sio.emit(event, data)

    async def drop_sockets(self) -> None:
        """Every line goes down."""
        self.connected.clear()
        for sid in list(self.sids):
            await self.sio.disconnect(sid)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        path = request.path.removeprefix(self.prefix)
        self.asked.append(Asked(request.method, path, dict(request.query), dict(request.headers), data))
        answer = self.answers.get((request.method, path), web.json_response({"detail": "Not Found"}, status=404))
        if isinstance(answer, list) and answer and isinstance(answer[0], Reply):
            answer = (answer.pop(0) if len(answer) > 1 else answer[0]).answer
        if callable(answer) and not isinstance(answer, type):
            answer = answer(request, data)
            if asyncio.iscoroutine(answer):
                answer = await answer
        if isinstance(answer, type) and issubclass(answer, BaseException):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)


@dataclass(frozen=True, slots=True)
class Reply:
    """One of several answers to come."""

    answer: Any


def replies(*answers: Any) -> list[Reply]:
    """These in turn, the last one for ever."""
    return [Reply(answer) for answer in answers]


def status(code: int, body: Any = None, **headers: str) -> Handler:
    """An answer of that status, made anew for each request."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _request, _data: web.json_response(body or {}, status=code, headers=named)


@asynccontextmanager
async def fake_server(prefix: str = "", tls: ssl.SSLContext | None = None) -> AsyncIterator[Fake]:
    """An InvokeAI that has nothing and is asked nothing, until a test adds to it."""
    fake = Fake(prefix=prefix)
    fake.sio = sio = socketio.AsyncServer(async_mode="aiohttp", cors_allowed_origins="*")
    app = web.Application()
    sio.attach(app, socketio_path=f"{prefix}/ws/socket.io".lstrip("/"))

    @sio.event  # type: ignore[untyped-decorator]
    async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
        fake.connections += 1
        fake.sids.append(sid)
        fake.auths.append(auth)
        fake.transports.append(environ["aiohttp.request"].query["transport"])

    @sio.event  # type: ignore[untyped-decorator]
    async def disconnect(sid: str) -> None:
        fake.sids.remove(sid)

    @sio.event  # type: ignore[untyped-decorator]
    async def subscribe_queue(sid: str, data: dict[str, Any]) -> None:
        fake.subscriptions.append(data)
        fake.connected.set()

    app.router.add_route("*", "/{anything:.*}", fake.handle)
    for path, answer in (
        ("/api/v1/app/version", {"version": "6.14.2"}),
        ("/api/v1/queue/default/status", {"queue": {"pending": 0, "in_progress": 0}, "processor": {}}),
        ("/api/v1/app/runtime_config", {"config": {"max_queue_size": 10000, "device": "auto"}}),
        ("/api/v1/app/generation_device_options", [{"device": "cpu"}]),
    ):
        fake.on("GET", path, answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    fake.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}{prefix}"
    try:
        yield fake
    finally:
        await runner.cleanup()
