"""The server's socket: connect, subscribe, and connect again for as long as it is wanted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import aiohttp

from sweep.servers.http import Http, Timings
from sweep.servers.line import Line, LineError, Wanted, connected

SOCKET_PATH = "/ws/socket.io"
HANDSHAKE = 5.0  # seconds
GOODBYE = 1.0  # seconds for closing politely
SOCKET_FAULTS = (LineError, aiohttp.ClientError, OSError, TimeoutError, ValueError)
OF_NO_USE = frozenset({"invocation_progress", "generator_progress", "batch_enqueued", "model_load_started"})


def useful(event: str, text: str) -> bool:
    """Whether an event may say something: of nodes that are done, those that brought a picture."""
    return event not in OF_NO_USE and (event != "invocation_complete" or '"image_name"' in text)


class Events:
    """Feeds every useful event to `heard` and says by `changed` when the line comes up or goes down.

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
        wanted: Wanted = useful,
    ) -> None:
        self._http = http
        self._timings = timings
        self._subscriptions = subscriptions
        self._heard = heard
        self._changed = changed
        self._wanted = wanted
        self._line: Line | None = None
        self._stopped = asyncio.Event()

    @property
    def up(self) -> bool:
        """Whether events are heard at the moment."""
        return self._line is not None

    async def run(self) -> None:
        """Keep the line up until `stop`; never raises."""
        listening = asyncio.create_task(self._keep_up())
        try:
            await self._stopped.wait()
        finally:
            listening.cancel()
            await asyncio.wait([listening], timeout=GOODBYE)

    def stop(self) -> None:
        """End the line soon."""
        self._stopped.set()

    async def emit(self, event: str, data: dict[str, str]) -> None:
        """Tell the server something, where the line is up."""
        if self._line is not None:
            with contextlib.suppress(*SOCKET_FAULTS):
                await self._line.emit(event, data)

    async def _keep_up(self) -> None:
        pause = self._timings.reconnect
        while True:
            if await self._once():
                pause = self._timings.reconnect
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._timings.reconnect_most)

    async def _once(self) -> bool:
        """One connection from handshake to its end; True where there was one."""
        http, was_up = self._http, False
        token = {"token": http.token} if http.token else None
        try:
            async with asyncio.timeout(self._timings.connect + HANDSHAKE) as handshake:
                url = http.address.url + SOCKET_PATH
                async with connected(http.session, url, http.headers(), token) as line:
                    for event, data in self._subscriptions():
                        await line.emit(event, data)
                    handshake.reschedule(None)
                    was_up = True
                    self._set(line)
                    await line.listen(self._wanted, self._heard)
        except SOCKET_FAULTS:
            return was_up
        finally:
            self._set(None)
        return was_up

    def _set(self, line: Line | None) -> None:
        changed = (self._line is None) is not (line is None)
        self._line = line
        if changed:
            self._changed(line is not None)
