"""A proxy before a server that changes its answers and events: what a client must stand of an untrusted server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

_OWN = {"host", "connection", "upgrade", "content-length", "transfer-encoding", "content-encoding", "accept-encoding"}


@dataclass(slots=True)
class Exchange:
    """One answer on its way back, to be changed in place. With `trickle` one byte leaves every so many seconds."""

    method: str
    path: str
    request: bytes
    status: int
    headers: dict[str, str]
    body: bytes
    trickle: float | None = None
    hang: bool = False

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @json.setter
    def json(self, value: Any) -> None:
        self.body = json.dumps(value).encode()


Mutation = Callable[[Exchange], None]
EventMutation = Callable[[str], str]


@dataclass(slots=True)
class MutatingProxy:
    """`mutate` sees every answer, `mutate_event` every text of the socket from the server."""

    target: str
    mutate: Mutation = lambda _: None
    mutate_event: EventMutation = lambda text: text
    is_prefixed: bool = False  # the first step of each path is for `mutate`, not for the server
    url: str = ""
    seen: Counter[str] = field(default_factory=Counter)  # "GET /path" → how many
    release: asyncio.Event = field(default_factory=asyncio.Event)  # set at the end: lets what hangs go

    async def handle(self, request: web.Request, session: aiohttp.ClientSession) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request, session)
        sent = await request.read()
        self.seen[f"{request.method} {request.path}"] += 1
        url = self.target + self._behind(request.raw_path)
        headers = _pass_headers(request.headers)
        async with session.request(request.method, url, data=sent or None, headers=headers) as answer:
            exchange = Exchange(
                request.method, request.path, sent, answer.status, _pass_headers(answer.headers), await answer.read()
            )
        self.mutate(exchange)
        if exchange.hang:
            await self.release.wait()
        if exchange.trickle is not None:
            return await self._trickle(request, exchange)
        return web.Response(status=exchange.status, headers=exchange.headers, body=exchange.body)

    def _behind(self, path: str) -> str:
        """The path at the server: without its first step where that is the proxy's."""
        return "/" + path.split("/", 2)[2] if self.is_prefixed else path

    async def _trickle(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        response = web.StreamResponse(status=exchange.status, headers=exchange.headers)
        response.content_length = len(exchange.body)
        await response.prepare(request)
        with contextlib.suppress(ConnectionError, TimeoutError):
            for place in range(len(exchange.body)):
                await response.write(exchange.body[place : place + 1])
                async with asyncio.timeout(exchange.trickle):
                    await self.release.wait()
        return response

    async def _socket(self, request: web.Request, session: aiohttp.ClientSession) -> web.StreamResponse:
        before = web.WebSocketResponse()
        await before.prepare(request)
        async with session.ws_connect(self.target + self._behind(request.raw_path)) as behind:
            ways = [
                asyncio.create_task(_pass(before, behind, lambda text: text)),
                asyncio.create_task(_pass(behind, before, lambda text: self.mutate_event(text))),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        await before.close()
        return before


def _pass_headers(headers: Mapping[str, str]) -> dict[str, str]:
    kept = {k: v for k, v in headers.items() if k.lower() not in _OWN}
    return {k: v for k, v in kept.items() if not k.lower().startswith("sec-websocket")}


async def _pass(source: Any, sink: Any, change: EventMutation) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await sink.send_str(change(message.data))


@asynccontextmanager
async def open_proxy(
    target: str, mutate: Mutation = lambda _: None, *, prefixed: bool = False
) -> AsyncIterator[MutatingProxy]:
    """Serve a proxy before `target` for as long as the block lasts."""
    proxy = MutatingProxy(target, mutate, is_prefixed=prefixed)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        app = web.Application(client_max_size=2**30)

        async def handle(request: web.Request) -> web.StreamResponse:
            return await proxy.handle(request, session)

        app.router.add_route("*", "/{tail:.*}", handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        proxy.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
        try:
            yield proxy
        finally:
            proxy.release.set()
            await runner.cleanup()


def hide_the_sandbox(exchange: Exchange) -> None:
    """A sandbox is not remembered in the user's file; as an InvokeAI it is."""
    if exchange.path.endswith("/app/version"):
        exchange.json = {"version": exchange.json["version"]}
