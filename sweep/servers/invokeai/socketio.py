"""The Socket.IO connection on which InvokeAI tells its events, kept up over reconnects.

python-socketio is not used here: its engine starts a task for each message, and it parses every preview image, which
costs more than the events that matter. Only the websocket transport is used: the polling handshake of a real server
answers 500 to any client that accepts gzip.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp

from sweep.servers.http import Http
from sweep.servers.invokeai.installed_models import InstalledModels
from sweep.servers.tracker import EventConnection, ItemTracker
from sweep.servers.untrusted_json import mapping, number, parse, sequence

LARGEST_EVENT: Final = 16 * 1024 * 1024  # bytes; previews of large images come along
SILENCE: Final = 60.0  # seconds without a ping after which a connection counts as dead, where the server does not say
LONGEST_SILENCE: Final = 600.0
SOCKET_PATH: Final = "/ws/socket.io"
HANDSHAKE: Final = 5.0  # seconds
_OPEN, _CLOSE, _PING, _PONG = "0", "1", "2", "3"  # packets of Engine.IO 4; 4 is a message, and 6 nothing
_CONNECTED, _DISCONNECTED, _EVENT, _REFUSED = "40", "41", "42", "44"


class ConnectionLostError(Exception):
    """The other side does not speak this protocol, refuses us, or has gone."""


SOCKET_ERRORS: Final = (ConnectionLostError, aiohttp.ClientError, OSError, TimeoutError, ValueError)


IDLE_EVENTS: Final = frozenset({"generator_progress", "batch_enqueued", "model_load_started"})  # tell nothing of use
FREQUENT_EVENTS: Final = frozenset({"invocation_started", "invocation_progress"})  # of each node and each step


class SocketIOConnection(EventConnection):
    """The connection to one server: the base of its API, which says what it subscribes to and takes the events."""

    def __init__(self, http: Http, tracker: ItemTracker, models: InstalledModels) -> None:
        super().__init__(http)
        self._url = http.address.url
        self._tracker = tracker
        self._models = models
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    @abstractmethod
    def subscriptions(self) -> Iterable[tuple[str, dict[str, str]]]:
        """Return the events to send whenever the connection is up: subscriptions end with it."""

    @abstractmethod
    def is_wanted(self, event: str, text: str) -> bool:
        """Return whether a frequent event is worth parsing, by its name and its text."""

    @abstractmethod
    def handle_event(self, event: str, data: Any) -> None:
        """Take one event."""

    async def emit(self, event: str, data: dict[str, str]) -> None:
        """Send an event, where the connection is up."""
        if self._socket is not None:
            with contextlib.suppress(*SOCKET_ERRORS):
                await send_event(self._socket, event, data)

    async def connect_once(self) -> bool:
        http, was_up = self._http, False
        token = {"token": http.token} if http.token else None
        try:
            async with asyncio.timeout(http.timings.connect + HANDSHAKE) as handshake:
                url = http.address.url + SOCKET_PATH
                async with open_socket(http.session, url, http.headers(), token) as (socket, silence):
                    for event, data in self.subscriptions():
                        await send_event(socket, event, data)
                    handshake.reschedule(None)
                    was_up, self._socket = True, socket
                    self._tracker.note_connection(is_up=True)
                    await self.receive(socket, silence)
        except SOCKET_ERRORS:
            return was_up
        finally:
            self._socket = None
            if was_up:
                self._models.loaded.clear()  # another process may answer next
                self._tracker.note_connection(is_up=False)
        return was_up

    async def receive(self, socket: aiohttp.ClientWebSocketResponse, silence: float) -> None:
        """Take the wanted events until the connection ends.

        It ends as ConnectionLostError, or as TimeoutError where the server falls silent.
        """
        async with asyncio.timeout(silence) as patience:
            while True:
                message = await socket.receive()
                text = _read_text(message)
                if text == _PING:  # what the server promises to send, however little there is to tell
                    patience.reschedule(asyncio.get_running_loop().time() + silence)
                    await socket.send_str(_PONG)
                elif text.startswith(_EVENT):
                    self._parse(text)
                elif text.startswith((_DISCONNECTED, _CLOSE)):
                    raise ConnectionLostError("the server hung up")

    def _parse(self, text: str) -> None:
        """Parse `42["name",data]`, perhaps with the number of an acknowledgement before the bracket, and handle it."""
        begin = text.find('["', 2, 24)
        end = text.find('"', begin + 2)
        is_ours = begin == 2 or text[2:begin].isdecimal()  # anything else is of another namespace
        if begin < 0 or end < 0 or not is_ours:
            return
        name = text[begin + 2 : end]
        is_idle = name in IDLE_EVENTS or (name == "invocation_complete" and '"image_name"' not in text)  # no image
        if is_idle or (name in FREQUENT_EVENTS and not self.is_wanted(name, text)):
            return
        try:
            event = sequence(parse(text[begin:]))
        except ValueError:
            raise ConnectionLostError("an event that is not JSON") from None
        self.handle_event(str(event[0]), event[1] if len(event) > 1 else None)


@asynccontextmanager
async def open_socket(
    session: aiohttp.ClientSession, url: str, headers: Mapping[str, str], auth: Mapping[str, str] | None
) -> AsyncIterator[tuple[aiohttp.ClientWebSocketResponse, float]]:
    """Connect to `url` for as long as the block lasts; give the socket and for how long it is never silent.

    Raises ConnectionLostError, aiohttp.ClientError, OSError.
    """
    socket = await session.ws_connect(
        f"{url}/?transport=websocket&EIO=4",
        headers=headers,
        max_msg_size=LARGEST_EVENT,
        timeout=aiohttp.ClientWSTimeout(ws_close=0.5),
    )
    try:
        async with asyncio.timeout(SILENCE):
            silence = await _introduce(socket, auth)
        yield socket, silence
        with contextlib.suppress(ConnectionError):
            await socket.send_str(_DISCONNECTED)
    finally:
        await socket.close()


async def send_event(socket: aiohttp.ClientWebSocketResponse, event: str, data: Any) -> None:
    """Send one event. Raises ConnectionError where the connection is down."""
    await socket.send_str(_EVENT + json.dumps([event, data]))


async def _introduce(socket: aiohttp.ClientWebSocketResponse, auth: Mapping[str, str] | None) -> float:
    """Shake hands; return for how many seconds the server is never silent."""
    opening = _read_text(await socket.receive())
    if not opening.startswith(_OPEN):
        raise ConnectionLostError("no handshake of a socket")
    about = mapping(parse(opening[1:]))
    await socket.send_str(_CONNECTED + (json.dumps(dict(auth)) if auth else ""))
    while not (answer := _read_text(await socket.receive())).startswith(_CONNECTED):
        if answer.startswith(_REFUSED):
            raise ConnectionLostError("the server refused the socket")
        if answer == _PING:
            await socket.send_str(_PONG)
    told = number(about.get("pingInterval")) + number(about.get("pingTimeout"))  # milliseconds
    return min(told / 1000, LONGEST_SILENCE) or SILENCE


def _read_text(message: aiohttp.WSMessage) -> str:
    """Return a message's text, empty where it is no text. Raises ConnectionLostError where it is the last."""
    if message.type is aiohttp.WSMsgType.TEXT:
        return str(message.data)
    if message.type is not aiohttp.WSMsgType.BINARY:  # attachments of events that nobody here listens to
        raise ConnectionLostError("the connection went down")
    return ""
