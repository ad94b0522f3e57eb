"""What a network can do to one call: every fault becomes one of ours, and only what may be repeated is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from aioresponses import aioresponses

from sweep.errors import ServerUnreachableError, TransientError, VariationError
from sweep.servers.credentials import ServerAddress
from sweep.servers.http import ConnectOptions, Http, NoAnswerError, Request
from tests.servers.conftest import QUICK

URL = "http://gpu1:9090"
KEY = ConnectionKey("gpu1", 9090, False, True, None, None, None)
FAULTS: list[tuple[BaseException, str]] = [
    (TimeoutError(), "no answer in time"),
    (aiohttp.ServerTimeoutError(), "no answer in time"),
    (aiohttp.ServerDisconnectedError(), "it closed the connection"),
    (aiohttp.ClientPayloadError("short"), "connection broken"),
    (aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "Connection refused")), "connection refused"),
    (aiohttp.ClientConnectorError(KEY, OSError(113, "No route to host")), "no route to host"),
    (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-2, "unknown")), "no such host"),
    (aiohttp.ClientOSError(104, "Connection reset by peer"), "connection reset by peer"),
    (ConnectionResetError(), "connection reset"),
    (aiohttp.InvalidURL("x"), "connection broken"),
]


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    opened = Http(ServerAddress.parse(URL), ConnectOptions(timings=QUICK))
    await opened.open()
    yield opened
    await opened.aclose()


@pytest.fixture
async def wire() -> AsyncIterator[aioresponses]:
    with aioresponses() as mocked:
        yield mocked


@pytest.mark.parametrize(("fault", "words"), FAULTS)
async def test_every_fault_is_ours_and_says_why(http: Http, wire: aioresponses, fault: Any, words: str) -> None:
    wire.post(f"{URL}/x", exception=fault)

    with pytest.raises(NoAnswerError) as caught:
        await http.send(Request("POST", "/x", "asking"))

    assert str(caught.value) == f"{URL} did not answer while asking ({words})."
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(("fault", "words"), FAULTS)
async def test_at_the_start_each_means_that_nobody_is_there(wire: aioresponses, fault: Any, words: str) -> None:
    wire.get(f"{URL}/x", exception=fault, repeat=True)
    http = Http(ServerAddress.parse(URL), ConnectOptions(timings=QUICK))

    with pytest.raises(ServerUnreachableError, match=words):
        await http.introduce(lambda: http.get("/x", "asking"))


@pytest.mark.parametrize(
    ("method", "repeat", "sent"),
    [("GET", True, 2), ("POST", False, 1), ("POST", True, 2), ("PUT", True, 2), ("DELETE", False, 1)],
)
async def test_only_what_may_be_repeated_is(
    http: Http, wire: aioresponses, method: Any, repeat: bool, sent: int
) -> None:
    wire.add(f"{URL}/x", method, exception=aiohttp.ServerDisconnectedError())
    wire.add(f"{URL}/x", method, payload={"fine": True})
    call = http.send(Request(method, "/x", "asking", can_repeat=repeat))

    if sent == 2:
        assert (await call).body == {"fine": True}
    else:
        with pytest.raises(NoAnswerError):
            await call
    assert sum(len(calls) for calls in wire.requests.values()) == sent


async def test_a_slow_answer_is_not_asked_for_twice(http: Http, wire: aioresponses) -> None:
    wire.get(f"{URL}/x", exception=TimeoutError(), repeat=True)

    with pytest.raises(NoAnswerError):
        await http.get("/x", "asking")

    assert sum(len(calls) for calls in wire.requests.values()) == 1


async def test_a_cancelled_call_is_cancelled(http: Http, wire: aioresponses) -> None:
    wire.get(f"{URL}/x", exception=asyncio.CancelledError())

    with pytest.raises(asyncio.CancelledError):
        await http.get("/x", "asking")


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b"<html>"])
async def test_what_is_no_json_is_transient(http: Http, wire: aioresponses, body: bytes) -> None:
    wire.get(f"{URL}/x", body=body)

    with pytest.raises(TransientError, match="not JSON"):
        await http.get("/x", "asking")


async def test_an_empty_answer_is_nothing(http: Http, wire: aioresponses) -> None:
    wire.put(f"{URL}/x", status=202, body=b"")

    assert (await http.send(Request("PUT", "/x", "asking"))).body is None


async def test_more_bytes_than_allowed_are_refused_before_they_are_read(http: Http, wire: aioresponses) -> None:
    wire.get(f"{URL}/x", body=b"", headers={"Content-Length": "999999999999"})

    with pytest.raises(VariationError, match="more than 100 bytes"):
        await http.download("/x", "downloading", 100)
