"""Who answers: versions, strangers, silence, and which API it speaks."""

from __future__ import annotations

from typing import Any, NoReturn

import anyio
import pytest
from aiohttp import web
from anyio import to_thread

from sweep.errors import ServerError, ServerRefusedError, ServerUnreachableError, ServerUnsupportedError
from sweep.sandbox import SandboxOptions, sandbox_server
from sweep.servers.discovery import connect
from sweep.servers.http import ConnectOptions
from sweep.servers.invokeai.invokeai_client import InvokeAI
from tests.servers.conftest import QUICK
from tests.servers.fake import Fake, replies, status
from tests.support.ports import free_port


async def _open(fake: Fake) -> Any:
    server = InvokeAI(fake.url, ConnectOptions(timings=QUICK))
    try:
        return await server.open()
    finally:
        await server.aclose()


async def test_nobody_there_is_one_sentence_and_a_hint() -> None:
    url = f"http://127.0.0.1:{free_port()}"

    with pytest.raises(ServerUnreachableError) as caught:
        await connect(url, ConnectOptions(timings=QUICK)).open()

    assert str(caught.value) == (
        f"{url} does not answer (connection refused). Start the server, or correct the address. "
        "sweep run without --server uses the sandbox."
    )


async def test_a_host_that_does_not_exist_is_told_with_the_one_it_resembles(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*_: object, **__: object) -> NoReturn:
        raise OSError("Name or service not known")

    monkeypatch.setattr("aiohttp.ThreadedResolver.resolve", resolve)

    with pytest.raises(ServerUnreachableError) as caught:
        await connect("http://localhots:9090", ConnectOptions(timings=QUICK)).open()

    assert str(caught.value) == "http://localhots:9090 does not answer (no such host). Did you mean localhost?"


@pytest.mark.parametrize("version", ["3.4.0", "4.0.0", "4.2.9", "5.15.0", "6.0.0rc1", "6.14.2", "v6.14.2"])
async def test_releases_with_a_queue_are_spoken_to(fake: Fake, version: str) -> None:
    fake.on("GET", "/api/v1/app/version", {"version": version})

    assert (await _open(fake)).version == version


async def test_a_version_steers_no_terminal(fake: Fake) -> None:
    fake.on("GET", "/api/v1/app/version", {"version": "6.14.2.\x1b[2J\u202e" + "A" * 1_000_000})

    version = (await _open(fake)).version
    assert version.startswith("6.14.2.\\x1b[2J\\u202eAAA")
    assert len(version) <= 240


@pytest.mark.parametrize("version", ["3.1.1", "7.0.0", "latest", "", "6", "²³.1"])
async def test_another_version_is_refused_in_a_sentence(fake: Fake, version: str) -> None:
    fake.on("GET", "/api/v1/app/version", {"version": version})

    with pytest.raises(ServerUnsupportedError, match=fake.url):
        await _open(fake)


@pytest.mark.parametrize(
    "answer",
    [
        lambda *_: web.Response(text="<html>It works!</html>", content_type="text/html"),
        lambda *_: web.Response(body=b"[" * 50_000, content_type="application/json"),
        lambda *_: web.json_response([1, 2]),
        lambda *_: web.json_response({"version": 5}),
        status(404),
        status(500, {"detail": "no"}),
        status(301, None, Location="http://example.org/"),
    ],
)
async def test_a_stranger_is_no_invokeai(fake: Fake, answer: Any) -> None:
    fake.on("GET", "/api/v1/app/version", answer)

    with pytest.raises(ServerError, match=fake.url):
        await _open(fake)


async def test_an_overloaded_server_is_unreachable_for_now(fake: Fake) -> None:
    fake.on("GET", "/api/v1/app/version", status(503))

    with pytest.raises(ServerUnreachableError, match="overloaded"):
        await _open(fake)


async def test_a_server_that_a_proxy_does_not_reach_is_unreachable_for_now(fake: Fake) -> None:
    """A restart behind a proxy: the run asks again; it gives up a server that speaks another protocol."""
    for place in list(fake.answers):
        fake.on(*place, status(502))
    fake.on("GET", "/system_stats", status(502))

    with pytest.raises(ServerUnreachableError, match="502"):
        await connect(fake.url, ConnectOptions(timings=QUICK)).open()


async def test_a_server_that_is_overloaded_for_a_moment_is_asked_again(fake: Fake) -> None:
    fake.on("GET", "/api/v1/app/version", replies(status(503), status(429), {"version": "6.14.2"}))

    assert (await _open(fake)).version == "6.14.2"


async def test_a_server_that_refuses_us_says_so(fake: Fake) -> None:
    fake.on("GET", "/api/v1/queue/default/status", status(403, {"detail": "Forbidden"}))

    with pytest.raises(ServerRefusedError, match="does not allow"):
        await _open(fake)


@pytest.mark.parametrize(
    ("config", "devices", "capacity"),
    [
        ({"device": "auto", "generation_devices": "auto"}, [{"device": "cuda:0"}, {"device": "cuda:1"}], 2),
        ({"device": "cuda:1", "generation_devices": "auto"}, [{"device": "cuda:0"}, {"device": "cuda:1"}], 1),
        ({"device": "auto", "generation_devices": ["cuda:0"]}, [{"device": "cuda:0"}, {"device": "cuda:1"}], 1),
        ({}, [], 1),
        ({"max_queue_size": "many"}, {"odd": 1}, 1),
    ],
)
async def test_capacity_is_one_item_a_generation_device(fake: Fake, config: Any, devices: Any, capacity: int) -> None:
    fake.on("GET", "/api/v1/app/runtime_config", {"config": config})
    fake.on("GET", "/api/v1/app/generation_device_options", devices)

    assert (await _open(fake)).capacity == capacity


async def test_what_older_servers_cannot_tell_is_left_open(fake: Fake) -> None:
    fake.on("GET", "/api/v1/app/runtime_config", status(404))
    fake.on("GET", "/api/v1/app/generation_device_options", status(404))

    info = await _open(fake)

    assert (info.capacity, info.max_pending, info.sandbox) == (1, None, False)


async def test_a_prefix_of_a_proxy_belongs_to_every_address(fake: Fake) -> None:
    fake.prefix = "/invoke"
    server = connect(fake.url + "/invoke/", ConnectOptions(timings=QUICK))

    info = await server.open()
    await server.aclose()

    assert info.url == server.url == f"{fake.url}/invoke"


async def test_closing_is_harmless_before_and_after_and_twice(fake: Fake) -> None:
    server = connect(fake.url, ConnectOptions(timings=QUICK))
    await server.aclose()
    assert (await server.open()).url == fake.url
    await server.aclose()
    await server.aclose()
    assert (await server.open()).url == fake.url, "it may be opened again"
    await server.aclose()


async def test_a_queue_of_our_own_is_used_everywhere(fake: Fake) -> None:
    fake.on("GET", "/api/v1/queue/my queue/status", {"queue": {}})
    fake.on("POST", "/api/v1/queue/my queue/enqueue_batch", {"enqueued": 0, "item_ids": []})
    server = connect(fake.url, ConnectOptions(timings=QUICK, queue_id="my queue"))

    await server.open()
    await fake.connected.wait()
    await server.aclose()

    assert fake.subscriptions == [{"queue_id": "my queue"}]


async def test_servers_that_answer_alike_share_their_node_types(fake: Fake, client: InvokeAI) -> None:
    node = {"class": "invocation", "properties": {"type": {"const": "noise"}}, "output": {"$ref": "#/x/Noise"}}
    fake.on("GET", "/openapi.json", {"components": {"schemas": {"Noise": node}}})
    other = InvokeAI(fake.url, ConnectOptions(timings=QUICK))
    await other.open()
    try:
        first = await client.schemas()
        assert await other.schemas() is first
    finally:
        await other.aclose()


async def test_servers_that_answer_differently_share_no_node_types(fake: Fake, client: InvokeAI) -> None:
    other = InvokeAI(fake.url, ConnectOptions(timings=QUICK))
    await other.open()
    try:
        for server, kind in ((client, "noise"), (other, "compel")):
            node = {"class": "invocation", "properties": {"type": {"const": kind}}, "output": {"$ref": "#/x/Any"}}
            fake.on("GET", "/openapi.json", {"components": {"schemas": {"Any": node}}})
            assert set(await server.schemas()) == {kind}
    finally:
        await other.aclose()


async def test_a_server_that_was_closed_opens_again_in_another_event_loop() -> None:
    """`sweep clean` asks first what may be deleted, and deletes it after the answer, each in a loop of its own."""
    async with sandbox_server(SandboxOptions()) as sandbox:
        server = connect(sandbox.url, ConnectOptions(timings=QUICK))

        async def open_and_close() -> str:
            try:
                return (await server.open()).name
            finally:
                await server.aclose()

        names = [await to_thread.run_sync(anyio.run, open_and_close) for _ in range(2)]
    assert names[0] == names[1]
