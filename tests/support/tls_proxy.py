"""A reverse proxy before a server: TLS with a private authority, a prefix of its own, the socket passed through."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

TLS = Path(__file__).parents[1] / "fixtures" / "tls"
CA = TLS / "ca.pem"
_OWN = {"host", "connection", "upgrade", "content-length", "transfer-encoding", "content-encoding"}


def _passed_on(headers: aiohttp.typedefs.LooseHeaders) -> dict[str, str]:
    pairs = dict(headers).items()
    return {k: v for k, v in pairs if k.lower() not in _OWN and not k.lower().startswith("sec-websocket")}


class _Proxy:
    def __init__(self, target: str, prefix: str, session: aiohttp.ClientSession) -> None:
        self._target = target
        self._prefix = prefix
        self._session = session

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Anything under the prefix goes on; nothing else is known here."""
        if not request.path.startswith(f"{self._prefix}/"):
            return web.Response(status=404, text="no such site")
        url = self._target + str(request.rel_url).removeprefix(self._prefix)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request, url)
        sent = await request.read()
        async with self._session.request(
            request.method, url, data=sent or None, headers=_passed_on(request.headers), allow_redirects=False
        ) as answer:
            return web.Response(status=answer.status, headers=_passed_on(answer.headers), body=await answer.read())

    async def _socket(self, request: web.Request, url: str) -> web.StreamResponse:
        async with self._session.ws_connect(url, headers=_passed_on(request.headers)) as behind:
            before = web.WebSocketResponse()
            await before.prepare(request)
            ways = [asyncio.create_task(_pass(*ends)) for ends in ((before, behind), (behind, before))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await before.close()
        return before


async def _pass(
    source: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
    sink: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
) -> None:
    with contextlib.suppress(ConnectionError):
        async for message in source:
            if message.type is aiohttp.WSMsgType.TEXT:
                await sink.send_str(message.data)


@asynccontextmanager
async def proxy(target: str, prefix: str) -> AsyncIterator[str]:
    """The https address under which `target` is served as long as the block lasts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    await asyncio.to_thread(context.load_cert_chain, TLS / "server.pem", TLS / "server.key")
    async with aiohttp.ClientSession() as session:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{anything:.*}", _Proxy(target, prefix, session).handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
            yield f"https://127.0.0.1:{runner.addresses[0][1]}{prefix}"
        finally:
            await runner.cleanup()
