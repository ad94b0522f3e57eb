"""Socket.IO subscription with reconnect."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp

from sweep.servers.invokeai import responses as reading
from sweep.servers.invokeai.http import Http, Timings

LARGEST_EVENT: Final = 16 * 1024 * 1024  # bytes; previews of large images come along
SILENCE: Final = 60.0  # seconds without a ping after which a line is taken to be dead, where the server does not say
LONGEST_SILENCE: Final = 600.0
_OPEN, _CLOSE, _PING, _PONG = "0", "1", "2", "3"  # packets of Engine.IO 4; 4 is a message, and 6 nothing
_CONNECTED, _DISCONNECTED, _EVENT, _REFUSED = "40", "41", "42", "44"

Wanted = Callable[[str, str], bool]
"""Whether an event is worth parsing, by its name and its text."""


class LineError(Exception):
    """The other side does not speak this protocol, refuses us, or has gone."""


class Line:
    """A connection that is up. Made by `connected`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, silence: float) -> None:
        self._socket = socket
        self._silence = silence

    async def emit(self, event: str, data: Any) -> None:
        """Tell the server something. Raises ConnectionError where the line is down."""
        await self._socket.send_str(_EVENT + json.dumps([event, data]))

    async def listen(self, wanted: Wanted, heard: Callable[[str, Any], None]) -> None:
        """Pass on the events that are wanted, until the line goes down (LineError, or TimeoutError for silence)."""
        async with asyncio.timeout(self._silence) as patience:
            while True:
                text = await _text(self._socket)
                if text == _PING:  # what the server promises to send, however little there is to tell
                    patience.reschedule(asyncio.get_running_loop().time() + self._silence)
                    await self._socket.send_str(_PONG)
                elif text.startswith(_EVENT):
                    _pass_on(text, wanted, heard)
                elif text.startswith((_DISCONNECTED, _CLOSE)):
                    raise LineError("the server hung up")


@asynccontextmanager
async def connected(
    session: aiohttp.ClientSession, url: str, headers: Mapping[str, str], auth: Mapping[str, str] | None
) -> AsyncIterator[Line]:
    """The line to `url` for as long as the block lasts. Raises LineError, aiohttp.ClientError, OSError."""
    socket = await session.ws_connect(
        f"{url}/?transport=websocket&EIO=4",
        headers=headers,
        max_msg_size=LARGEST_EVENT,
        timeout=aiohttp.ClientWSTimeout(ws_close=0.5),
    )
    try:
        async with asyncio.timeout(SILENCE):
            silence = await _introduce(socket, auth)
        yield Line(socket, silence)
        with contextlib.suppress(ConnectionError):
            await socket.send_str(_DISCONNECTED)
    finally:
        await socket.close()


async def _introduce(socket: aiohttp.ClientWebSocketResponse, auth: Mapping[str, str] | None) -> float:
    """Shake hands; how many seconds the server is never silent for."""
    opening = await _text(socket)
    if not opening.startswith(_OPEN):
        raise LineError("no handshake of a socket")
    about = reading.mapping(reading.parse(opening[1:].encode()))
    await socket.send_str(_CONNECTED + (json.dumps(dict(auth)) if auth else ""))
    while not (answer := await _text(socket)).startswith(_CONNECTED):
        if answer.startswith(_REFUSED):
            raise LineError("the server refused the socket")
        if answer == _PING:
            await socket.send_str(_PONG)
    told = reading.number(about.get("pingInterval")) + reading.number(about.get("pingTimeout"))  # milliseconds
    return min(told / 1000, LONGEST_SILENCE) or SILENCE


async def _text(socket: aiohttp.ClientWebSocketResponse) -> str:
    """The next message that is text. Raises LineError where none comes any more."""
    while True:
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            return str(message.data)
        if message.type is not aiohttp.WSMsgType.BINARY:  # attachments of events that nobody here listens to
            raise LineError("the line went down")


def _pass_on(text: str, wanted: Wanted, heard: Callable[[str, Any], None]) -> None:
    """`42["name",data]`, perhaps with the number of an acknowledgement before the bracket. Raises LineError."""
    begin = text.find('["', 2, 24)
    end = text.find('"', begin + 2)
    numbered = begin == 2 or text[2:begin].isdecimal()  # anything else is of another namespace
    if begin < 0 or end < 0 or not numbered or not wanted(text[begin + 2 : end], text):
        return
    try:
        event = reading.sequence(reading.parse(text[begin:].encode()))
    except ValueError:
        raise LineError("an event that is no JSON") from None
    heard(str(event[0]), event[1] if len(event) > 1 else None)


SOCKET_PATH = "/ws/socket.io"
HANDSHAKE = 5.0  # seconds
GOODBYE = 1.0  # seconds for closing politely
SOCKET_FAULTS = (LineError, aiohttp.ClientError, OSError, TimeoutError, ValueError)
OF_NO_USE = frozenset({"invocation_progress", "generator_progress", "batch_enqueued", "model_load_started"})


def useful(event: str, text: str) -> bool:
    """Whether an event may say something: of nodes that are done, those that brought an image."""
    return event not in OF_NO_USE and (event != "invocation_complete" or '"image_name"' in text)


class EventSubscription:
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
