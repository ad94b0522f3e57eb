"""The server's socket: connect, subscribe, and connect again for as long as it is wanted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any

import aiohttp
import socketio
from socketio.exceptions import SocketIOError

from sweep.servers.http import Http, Timings

SOCKET_PATH = "/ws/socket.io"
LARGEST_EVENT = 16 * 1024 * 1024  # bytes; previews of large pictures come along
HANDSHAKE = 5.0  # seconds
GOODBYE = 1.0  # seconds for closing politely
SOCKET_FAULTS = (SocketIOError, aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError)


class Events:
    """Feeds every event to `heard` and says by `changed` when the line comes up or goes down.

    Only the websocket transport is used: the polling handshake of a real server answers 500 to any client that
    accepts gzip. Events are not replayed, and subscriptions end with the connection: who listens must look at the
    server's own state after every `changed(True)`.
    """

    def __init__(
        self,
        http: Http,
        timings: Timings,
        subscriptions: Callable[[], Iterable[tuple[str, dict[str, str]]]],
        heard: Callable[[str, Any], None],
        changed: Callable[[bool], None],
    ) -> None:
        self._http = http
        self._timings = timings
        self._subscriptions = subscriptions
        self._heard = heard
        self._changed = changed
        self._client: Any = None
        self._lost = asyncio.Event()
        self._stopped = asyncio.Event()
        self.up = False

    async def run(self) -> None:
        """Keep the line up until `stop`; never raises."""
        pause = self._timings.reconnect
        while not self._stopped.is_set():
            if await self._once():
                pause = self._timings.reconnect
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopped.wait()
            pause = min(pause * 2, self._timings.reconnect_most)

    def stop(self) -> None:
        """End the line soon. To cancel `run` is the harder way: in a handshake the socket's library swallows it, or
        leaves a connection open.
        """
        self._stopped.set()
        self._lost.set()

    async def emit(self, event: str, data: dict[str, str]) -> None:
        """Tell the server something, where the line is up."""
        if self.up:
            with contextlib.suppress(*SOCKET_FAULTS):
                await self._client.emit(event, data)

    async def _once(self) -> bool:
        """One connection from handshake to its end; True where there was one."""
        self._lost = lost = asyncio.Event()
        client = self._client = self._new_client(lost)
        connected = False
        try:
            async with asyncio.timeout(self._timings.connect + HANDSHAKE):
                await self._connect(client)
            connected = True
            if not self._stopped.is_set():
                self._set(up=True)
                await lost.wait()
        except SOCKET_FAULTS:
            return connected
        finally:
            self._set(up=False)
            with contextlib.suppress(*SOCKET_FAULTS):
                async with asyncio.timeout(GOODBYE):
                    await client.shutdown()
        return connected

    async def _connect(self, client: Any) -> None:
        await client.connect(
            self._http.address.origin,
            headers=self._http.headers(),
            auth={"token": self._http.token} if self._http.token else None,
            transports=["websocket"],
            socketio_path=self._http.address.prefix + SOCKET_PATH,
            wait_timeout=HANDSHAKE,
        )
        for event, data in self._subscriptions():
            await client.emit(event, data)

    def _new_client(self, lost: asyncio.Event) -> Any:
        silent = logging.Logger("sweep.socket", logging.CRITICAL + 1)  # at lower levels it would write our token
        client = socketio.AsyncClient(
            reconnection=False,
            handle_sigint=False,
            logger=silent,
            engineio_logger=silent,
            http_session=self._http.session,
            websocket_extra_options={"max_msg_size": LARGEST_EVENT},
        )

        async def on_event(event: str, *data: Any) -> None:
            self._heard(event, data[0] if data else None)

        async def on_disconnect(_reason: object = None) -> None:
            lost.set()

        client.on("*", on_event)
        client.on("disconnect", on_disconnect)
        return client

    def _set(self, *, up: bool) -> None:
        if self.up != up:
            self.up = up
            self._changed(up)
