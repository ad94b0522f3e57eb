"""The socket's protocol as bytes on a wire, and what an item's events spare: asking for what they told already."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sweep.servers.base import ItemEnded, ItemEvent, Ticket
from sweep.servers.credentials import ServerAddress
from sweep.servers.http import ConnectOptions, Http
from sweep.servers.invokeai.installed_models import InstalledModels
from sweep.servers.invokeai.invokeai_client import InvokeAI
from sweep.servers.invokeai.socketio import ConnectionLostError, SocketIOConnection, open_socket
from sweep.servers.tracker import ItemTracker
from tests.servers.building import Q, submission, summary, takes_items
from tests.servers.conftest import QUICK
from tests.servers.fake import Fake, payload

HELLO = '0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000}'
EVENTS = payload("events_completed_6_14")
WHOLE = payload("item_completed_6_14")
ITEM_ID = WHOLE["item_id"]
ITEM = ("GET", f"{Q}/i/{ITEM_ID}")


class Wire:
    """A server that says lines, and keeps what it was told."""

    def __init__(self, says: Sequence[str | bytes]) -> None:
        self.says = says
        self.told: list[str] = []
        self.queries: list[dict[str, str]] = []
        self.headers: list[str | None] = []

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.queries.append(dict(request.query))
        self.headers.append(request.headers.get("Authorization"))
        await socket.send_str(self.says[0])  # type: ignore[arg-type]
        self.told.append((await socket.receive()).data)
        for line in self.says[1:]:
            await (socket.send_bytes(line) if isinstance(line, bytes) else socket.send_str(line))
        async for message in socket:
            self.told.append(message.data)
        return socket


class Listener(SocketIOConnection):
    """Keeps the events it is given, and wants no dull ones."""

    def __init__(self, heard: list[Any]) -> None:
        http = Http(ServerAddress.parse("http://nobody.invalid"), ConnectOptions())
        super().__init__(http, ItemTracker(http.address.url, http.timings), InstalledModels(http))
        self.heard = heard

    def subscriptions(self) -> list[tuple[str, dict[str, str]]]:
        return []

    def is_wanted(self, event: str, text: str) -> bool:  # noqa: ARG002
        return event != "invocation_started"

    def handle_event(self, event: str, data: Any) -> None:
        self.heard.append((event, data))


@asynccontextmanager
async def wired(wire: Wire) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    app = web.Application()
    app.router.add_get("/ws/socket.io/", wire.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield session, f"http://127.0.0.1:{runner.addresses[0][1]}/ws/socket.io"
    finally:
        await runner.cleanup()


async def _hear(*says: str | bytes, auth: dict[str, str] | None = None) -> tuple[list[Any], Wire]:
    """What was heard until the server hung up."""
    wire = Wire([*says, "1"])
    heard: list[Any] = []
    async with wired(wire) as (session, url):
        with pytest.raises(ConnectionLostError):
            async with open_socket(session, url, {"Authorization": "Bearer t"}, auth) as (socket, silence):
                await Listener(heard).receive(socket, silence)
    return heard, wire


async def test_shakes_hands_and_says_who_we_are() -> None:
    _, wire = await _hear(HELLO, "40{}", auth={"token": "t"})
    assert wire.queries == [{"transport": "websocket", "EIO": "4"}]
    assert wire.headers == ["Bearer t"]
    assert wire.told[0] == '40{"token": "t"}'


async def test_what_is_wanted_is_heard_in_order_and_pings_are_answered() -> None:
    heard, wire = await _hear(
        HELLO,
        "40{}",
        '42["a",{"x":1}]',
        "2",
        '42["invocation_started",{',
        '4217["b"]',
        b"attachment",
        '42/other,["c",1]',
        '42["d",1,2]',
    )
    assert heard == [("a", {"x": 1}), ("b", None), ("d", 1)]
    assert "3" in wire.told


@pytest.mark.parametrize(
    "says",
    [
        ("what",),
        ('0["no object"', "40{}"),
        (HELLO, '44{"message":"Authentication required"}'),
        (HELLO, "40{}", '42["a",{'),
        (HELLO, "40{}", "41"),
        ('0{"pingInterval":true,"pingTimeout":"x"}', "40{}"),
    ],
    ids=["no socket.io", "no JSON", "refused", "a broken event", "disconnected", "no times"],
)
async def test_whatever_it_says_ends_as_an_error_of_ours(says: tuple[str, ...]) -> None:
    wire = Wire([*says, "1"])
    async with wired(wire) as (session, url):
        with pytest.raises((ConnectionLostError, ValueError)):
            async with open_socket(session, url, {}, None) as (socket, silence):
                await Listener([]).receive(socket, silence)


@pytest.fixture
async def listening(fake: Fake) -> AsyncIterator[InvokeAI]:
    takes_items(fake, ITEM_ID)
    fake.on(*ITEM, WHOLE)
    fake.on("POST", f"{Q}/item_summaries_by_ids", [summary(ITEM_ID, "pending")])
    server = InvokeAI(fake.url, ConnectOptions(timings=QUICK))
    await server.open()
    await fake.connected.wait()
    await asyncio.sleep(0)
    yield server
    await server.aclose()


async def _ended(fake: Fake, server: InvokeAI, events: Sequence[Any]) -> ItemEnded:
    ticket = await server.submit(submission())
    for name, data in events:
        await fake.emit(name, data)
    async with aclosing(server.hear(ticket)) as told:  # type: ignore[type-var]
        heard: list[ItemEvent] = [event async for event in told]
    assert isinstance(heard[-1], ItemEnded)
    return heard[-1]


async def test_an_item_that_events_told_in_full_is_not_asked_for(fake: Fake, listening: InvokeAI) -> None:
    ended = await _ended(fake, listening, EVENTS)
    assert fake.calls(*ITEM) == []
    asked = Ticket(batch_id="another", item_id=str(ITEM_ID), outputs=("l",))
    fake.on("POST", f"{Q}/item_summaries_by_ids", [summary(ITEM_ID, "completed", "another")])
    fake.on(*ITEM, {**WHOLE, "batch_id": "another"})
    async with aclosing(listening.hear(asked)) as told:  # type: ignore[type-var]
        whole = [event async for event in told][-1]
    assert len(fake.calls(*ITEM)) == 1
    assert isinstance(whole, ItemEnded)
    assert ended == whole
    assert (ended.overhead is None, whole.overhead) == (False, None)  # which only events tell


@pytest.mark.parametrize("missing", ["created_at", "completed_at", "invocation_complete", "everything but the end"])
async def test_what_events_did_not_tell_is_asked_for(fake: Fake, listening: InvokeAI, missing: str) -> None:
    events = json.loads(json.dumps(EVENTS))
    if missing == "everything but the end":
        events = events[-1:]
    events = [[name, {**data, missing: None}] for name, data in events if name != missing]
    ended = await _ended(fake, listening, events)
    assert len(fake.calls(*ITEM)) == 1
    assert len(ended.images) == 1
    assert ended.finished_at is not None


async def test_why_an_item_failed_is_asked_for(fake: Fake, listening: InvokeAI) -> None:
    fake.on(*ITEM, {**WHOLE, "status": "failed", "error_type": "ValueError", "error_message": "no"})
    events = [
        [name, {**data, "status": "failed"} if data.get("status") == "completed" else data] for name, data in EVENTS
    ]
    ended = await _ended(fake, listening, events)
    assert (ended.status, str(ended.error)) == ("failed", "no")


async def test_a_line_that_falls_silent_is_given_up() -> None:
    wire = Wire(['0{"pingInterval":20,"pingTimeout":10}', "40{}", "2", '42["a"]'])
    heard: list[Any] = []
    async with wired(wire) as (session, url):
        with pytest.raises(TimeoutError):
            async with open_socket(session, url, {}, None) as (socket, silence):
                await Listener(heard).receive(socket, silence)
    assert heard == [("a", None)]
