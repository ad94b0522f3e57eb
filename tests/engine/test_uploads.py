"""Input images are uploaded once per server and content, over runs and experiments."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest
from PIL import Image

from sweep.engine import delete_leftovers, events, find_leftovers, find_user_cache
from sweep.engine.concurrency import Limit
from sweep.engine.server_pool import PooledServer
from sweep.engine.uploads import UploadMemory
from sweep.record import read_submitted
from sweep.sandbox.running_sandbox import Sandbox
from sweep.servers import InvokeAI, ServerInfo, connect
from tests.support.engine_bench import AT_ONCE, Bench
from tests.support.left_out import mark_rest_slow
from tests.support.mutating_proxy import Exchange, hide_the_sandbox, open_proxy
from tests.support.ports import free_port

UPLOAD = "POST /api/v1/images/upload"


async def test_resumed_run_uploads_no_image_again(bench: Bench, sandbox: Sandbox) -> None:
    await bench.run(await bench.experiment(axes={"seed": [1]}), sandbox.url)
    summary = await bench.run(await bench.experiment(axes={"seed": [1, 2]}), sandbox.url)
    assert (summary.rendered, sandbox.requests[UPLOAD]) == (1, 1)


@pytest.mark.slow
async def test_server_that_joins_late_is_sent_no_image_again(
    bench: Bench, sandbox_with: Callable[..., Any], tmp_path: Path
) -> None:
    port = free_port()
    url, late_options = f"http://127.0.0.1:{port}", {"port": port, "root": tmp_path / "server", "latency": 0.05}
    async with sandbox_with(**late_options) as server:
        await bench.run(await bench.experiment(axes={"seed": [1]}), url)
        assert server.requests[UPLOAD] == 1
    async with AsyncExitStack() as held, sandbox_with(latency=0.05) as first:
        begun, late = anyio.Event(), []
        bench.watch(lambda event: begun.set() if isinstance(event, events.Completed) else None)

        async def come() -> None:
            await begun.wait()
            late.append(await held.enter_async_context(sandbox_with(**late_options)))

        async with anyio.create_task_group() as group:
            group.start_soon(come)
            experiment = await bench.experiment(axes__seed={"start": 2, "count": 20})
            await bench.run(experiment, first.url, url, options=replace(AT_ONCE, fuse=1))
        assert late[0].renders
        assert (first.requests[UPLOAD], late[0].requests[UPLOAD]) == (1, 0)


async def test_an_upload_beside_a_second_recall_is_kept(bench: Bench) -> None:
    """Several items may be the first at a server that joins late; one of them uploads while another still asks."""
    server = InvokeAI("http://127.0.0.1:9090")
    info = ServerInfo(name="late", url=server.url, version="6.14.2", api="queue")
    answers, kept = [anyio.Event(), anyio.Event()], {}

    class Slow:
        async def uploads(self, _url: str) -> dict[str, str]:
            await answers[asked.pop()].wait()
            return {}

        async def keep_uploads(self, _url: str, names: dict[str, str]) -> None:
            kept.update(names)

    asked, pooled = [1, 0], PooledServer(server, info, Limit(2))
    memory = UploadMemory(cast("Any", Slow()), None, await bench.experiment())
    async with anyio.create_task_group() as group:
        for _ in answers:
            group.start_soon(memory.recall, pooled)
        await anyio.wait_all_tasks_blocked()
        answers[0].set()
        await anyio.wait_all_tasks_blocked()
        server.uploads["sha"] = "name.png"
        answers[1].set()
    await memory.keep(pooled)
    assert kept == {"sha": "name.png"}


@pytest.mark.parametrize("body", [b'{"detail": "no"}', b"<h1>Not Found</h1>", b""])
async def test_image_that_the_server_lost_is_uploaded_again(bench: Bench, sandbox: Sandbox, body: bytes) -> None:
    lost = False

    def lose(exchange: Exchange) -> None:
        if lost and exchange.method == "GET" and "/images/i/" in exchange.path and not exchange.path.endswith("/full"):
            exchange.status, exchange.body = 404, body

    async with open_proxy(sandbox.url, lose) as proxy:
        await bench.run(await bench.experiment(axes={"seed": [1]}), proxy.url)
        lost = True
        summary = await bench.run(await bench.experiment(axes={"seed": [1, 2]}), proxy.url)
    assert (summary.rendered, proxy.seen[UPLOAD]) == (1, 2)


@pytest.mark.parametrize("damage", mark_rest_slow(["", "{", "[1]", '{"http://x": 3}'], quick=2))
async def test_other_experiment_finds_the_upload_in_the_users_file(
    bench: Bench, sandbox: Sandbox, tmp_path: Path, damage: str
) -> None:
    cache = tmp_path / "cache" / "uploads.json"
    options = replace(AT_ONCE, user_cache=cache)
    async with open_proxy(sandbox.url, hide_the_sandbox) as proxy:
        await bench.run(await bench.experiment(axes={"seed": [1]}), proxy.url, options=options)
        if damage:
            await anyio.to_thread.run_sync(cache.write_text, damage)
        other = await bench.experiment(name="other", axes={"seed": [2]})
        summary = await bench.run(other, proxy.url, options=options)
    assert (summary.exit_code, proxy.seen[UPLOAD]) == (0, 2 if damage else 1)


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"SWEEP_CACHE": "/c", "HOME": "/h"}, "/c/sweep/uploads.json"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/sweep/uploads.json"),
        ({"HOME": "/h"}, "/h/.cache/sweep/uploads.json"),
        ({}, None),
    ],
)
def test_users_file_lies_where_the_system_keeps_caches(environ: dict[str, str], path: str | None) -> None:
    assert find_user_cache(environ) == (Path(path) if path else None)


async def test_clean_deletes_what_the_run_left_and_nothing_else(bench: Bench, sandbox: Sandbox) -> None:
    """Not its results, and not what another run left. The img_resize of a wider image makes intermediates."""
    wide: dict[str, Any] = {"inputs__width": 128, "inputs__height": 128, "axes": {"seed": [1, 2]}}
    await bench.run(await bench.experiment(**wide), sandbox.url, options=replace(AT_ONCE, fuse=1))
    other = await bench.experiment(name="other", **wide, inputs__prompt="another")
    await bench.run(other, sandbox.url, options=replace(AT_ONCE, fuse=1))
    before = dict(sandbox.images.images)
    work = await anyio.to_thread.run_sync(read_submitted, bench.root / "results" / "small")
    (left,) = await find_leftovers(work, [connect(sandbox.url)])
    assert await delete_leftovers(left, connect(sandbox.url)) == len(left.images)
    gone = before.keys() - sandbox.images.images.keys()
    assert gone == set(left.images)
    assert len([name for name in gone if before[name]["is_intermediate"]]) >= 1
    assert len([name for name in gone if before[name]["image_category"] == "user"]) == 1, "its upload"
    assert not [name for name in gone if before[name]["session_id"] is not None and not before[name]["is_intermediate"]]
    (again,) = await find_leftovers(work, [connect(sandbox.url)])
    assert again.images == ()
    summary = await bench.run(await bench.experiment(**{**wide, "axes": {"seed": [3]}}), sandbox.url)
    assert summary.exit_code == 0, "the input is uploaded again"


async def test_clean_keeps_what_a_person_starred(bench: Bench, sandbox: Sandbox) -> None:
    await bench.run(await bench.experiment(axes={"seed": [1]}), sandbox.url)
    for record in sandbox.images.images.values():
        record["starred"] = True
    work = await anyio.to_thread.run_sync(read_submitted, bench.root / "results" / "small")
    (left,) = await find_leftovers(work, [connect(sandbox.url)])
    assert left.images == ()


async def test_clean_says_which_server_cannot_tell_what_the_run_left(bench: Bench, sandbox: Sandbox) -> None:
    """And cleans the others: some items cannot be read for as long as they are in the queue."""

    def fail(exchange: Exchange) -> None:
        if "/default/i/" in exchange.path:
            exchange.status, exchange.json = 500, {"detail": "Unexpected error"}

    async with open_proxy(sandbox.url) as proxy:
        await bench.run(await bench.experiment(axes={"seed": [1]}), proxy.url)
        work = await anyio.to_thread.run_sync(read_submitted, bench.root / "results" / "small")
        proxy.mutate = fail
        (left,) = await find_leftovers(work, [connect(proxy.url)])
    assert (left.images, "cannot read item" in left.reason) == ((), True)


async def test_point_is_rendered_where_one_of_two_servers_takes_no_upload_of_this_size(
    bench: Bench, sandbox: Sandbox
) -> None:
    def limit(exchange: Exchange) -> None:
        if f"{exchange.method} {exchange.path}" == UPLOAD:
            exchange.status, exchange.body = 413, b"<html><title>413 Request Entity Too Large</title></html>"

    async with open_proxy(sandbox.url, limit) as proxy:
        summary = await bench.run(await bench.experiment(), proxy.url, sandbox.url)
        assert (summary.completed, summary.failed) == (6, 0)
        alone = await bench.run(await bench.experiment(name="alone", axes={"seed": [1]}), proxy.url)
        assert (alone.completed, alone.failed) == (0, 1)
        told = {event.error for event in bench.of(events.Retrying)}
        assert told
        assert all("photo.png" in error and "413" in error and "raise its limit" in error for error in told)


async def test_refused_image_takes_no_attempt_of_points_fused_with_it_and_is_not_sent_over_and_over(
    bench: Bench, sandbox: Sandbox
) -> None:
    """An item of several points is refused whole where the server does not take one of their images."""
    photo = await anyio.Path(bench.root / "photo.png").read_bytes()
    Image.new("RGB", (64, 64), "red").save(bench.root / "refused.png")
    refused: list[int] = []

    def refuse(exchange: Exchange) -> None:
        if f"{exchange.method} {exchange.path}" == UPLOAD and photo not in exchange.request:
            refused.append(1)
            exchange.status, exchange.body = 415, b'{"detail": "Not an image"}'

    two = {"inputs": {"prompt": "a cup", "width": 64, "height": 64}, "axes": {"image": ["refused.png", "photo.png"]}}
    async with open_proxy(sandbox.url, refuse) as proxy:
        once = await bench.run(await bench.experiment(**two), proxy.url, options=replace(AT_ONCE, attempts=1, fuse=2))
        assert (once.completed, once.failed) == (1, 1)
        refused.clear()
        alone = await bench.experiment(name="alone", axes={"seed": [1]}, inputs__image="refused.png")
        summary = await bench.run(alone, proxy.url)
    assert (summary.failed, len(refused)) == (1, 1 + 2), "once by the check, and twice by attempts"


async def test_journal_keeps_only_uploads_of_its_own_run(bench: Bench, sandbox: Sandbox, tmp_path: Path) -> None:
    """What the user's file knows of other runs is used and is not this run's to delete."""
    options = replace(AT_ONCE, user_cache=tmp_path / "cache" / "uploads.json")
    async with open_proxy(sandbox.url, hide_the_sandbox) as proxy:
        await bench.run(await bench.experiment(axes={"seed": [1]}), proxy.url, options=options)
        await bench.run(await bench.experiment(name="other", axes={"seed": [2]}), proxy.url, options=options)
        work = await anyio.to_thread.run_sync(read_submitted, bench.root / "results" / "other")
        assert work[proxy.url].uploads == ()
        work = await anyio.to_thread.run_sync(read_submitted, bench.root / "results" / "small")
        assert len(work[proxy.url].uploads) == 1
