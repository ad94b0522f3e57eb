"""A server that others use too: few of our items wait there, and none while theirs do, if that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import aiohttp
import anyio

from sweep.engine import events
from sweep.engine.run_options import RunOptions
from sweep.engine.shutdown import Stop
from sweep.sandbox import FaultInjection
from sweep.sandbox.item_queue import QueueItem
from sweep.sandbox.running_sandbox import Sandbox
from tests.support.engine_bench import AT_ONCE, Bench

IDLE_ONLY = replace(AT_ONCE, idle_only=True)


async def of_somebody_else(server: Sandbox) -> None:
    """An item that is not ours."""
    graph = {"id": "g", "nodes": {"n": {"id": "n", "type": "integer", "value": 1}}, "edges": []}
    body = {"batch": {"batch_id": "theirs", "destination": "canvas", "graph": graph, "runs": 1}}
    async with aiohttp.ClientSession() as session:
        await (await session.post(f"{server.url}/api/v1/queue/default/enqueue_batch", json=body)).read()


async def test_no_more_wait_there_than_its_devices_can_use(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    async with sandbox_with(latency=0.02) as server:
        assert (await bench.run(await bench.experiment(), server.url, options=replace(AT_ONCE, fuse=1))).completed == 6
        items = list(server.queue.items.values())
    for item in items:
        waiting = [each for each in items if each.created_at <= item.created_at < str(each.started_at)]
        assert len(waiting) <= 2


async def test_priority_goes_ahead_of_what_waits(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    async with sandbox_with() as server:
        await bench.run(await bench.experiment(), server.url, options=replace(AT_ONCE, priority=1))
        assert all(item.priority > 0 for item in server.queue.items.values())


async def test_idle_only_waits_for_others(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    async with sandbox_with(latency=0.3) as server:
        await of_somebody_else(server)
        summary = await bench.run(await bench.experiment(), server.url, options=IDLE_ONLY)
        assert summary.completed == 6
        theirs, *ours = sorted(server.queue.items.values(), key=lambda item: item.item_id)
        assert all(item.created_at >= theirs.completed_at for item in ours)


async def test_a_run_ends_though_one_of_its_servers_is_never_idle(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    async with sandbox_with(latency=600) as busy, sandbox_with() as free:
        await of_somebody_else(busy)
        summary = await bench.run(await bench.experiment(), busy.url, free.url, options=IDLE_ONLY)
        assert (summary.exit_code, summary.completed) == (0, 6)
        assert len(busy.queue.items) == 1


async def test_a_run_ends_though_one_of_its_servers_asked_for_an_hour(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    """Retry-After holds the server that sent it, not the end of the run."""
    async with sandbox_with() as tired, sandbox_with(latency=0.05) as free:
        faults = FaultInjection(error_503=1.0, only="enqueue_batch", retry_after=3600)
        bench.watch(lambda e: setattr(tired, "faults", faults) if isinstance(e, events.RunStarted) else None)
        summary = await bench.run(await bench.experiment(), tired.url, free.url)
        assert (summary.exit_code, summary.completed) == (0, 6)
        assert not tired.renders


async def test_a_stop_does_not_wait_for_a_server_that_asked_for_an_hour(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    stop = Stop()
    async with sandbox_with() as tired:
        tired.faults = FaultInjection()

        def watch(event: events.Event) -> None:
            if isinstance(event, events.RunStarted):
                tired.faults = FaultInjection(error_503=1.0, only="enqueue_batch", retry_after=3600)
            if isinstance(event, events.Submitted):
                stop.request(1)

        bench.watch(watch)
        summary = await bench.run(await bench.experiment(), tired.url, stop=stop)
    assert (summary.exit_code, summary.ending) == (130, "interrupted")


async def test_a_request_on_its_way_leaves_no_item_behind(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    """Stage 2 while a submission has left and is not answered: what arrives late is cancelled, too."""
    stop = Stop()
    async with sandbox_with(latency=60) as server:

        def watch(event: events.Event) -> None:
            if isinstance(event, events.RunStarted):
                server.faults = FaultInjection(slow=1.0, slow_seconds=0.25, only="enqueue_batch")
            if isinstance(event, events.Submitted):
                stop.request(2)

        bench.watch(watch)
        summary = await bench.run(await bench.experiment(), server.url, stop=stop)
        assert (summary.exit_code, summary.ending) == (130, "cancelled")
        assert {item.status for item in server.queue.items.values()} <= {"canceled"}


async def test_what_was_done_when_it_was_cancelled_is_not_rendered_again(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    """Stage 2 after the server is done and before the image is here: the next run fetches it."""
    stop = Stop()
    async with sandbox_with(faults=FaultInjection(slow=1.0, slow_seconds=0.5, only="/full")) as server:

        async def soon() -> None:
            while not any(i.status == "completed" for i in server.queue.items.values()):  # noqa: ASYNC110
                await anyio.sleep(0.005)
            stop.request(2)

        async with anyio.create_task_group() as group:
            group.start_soon(soon)
            await bench.run(await bench.experiment(), server.url, stop=stop)
        done = {_key(item) for item in server.queue.items.values() if item.status == "completed"}
        server.faults = FaultInjection()
        summary = await bench.run(await bench.experiment(), server.url)
        assert summary.completed == 6
        assert done
        assert {server.renders[key] for key in done} == {1}  # another may have been cut short while it was rendered


def _key(item: QueueItem) -> str:
    return next(str(node["sweep_key"]) for node in item.graph["nodes"].values() if "sweep_key" in node)


async def test_an_image_is_waited_for_rather_than_rendered_again(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    """The download breaks again and again: the server leaves and comes back, the image is fetched in the end."""
    async with sandbox_with(faults=FaultInjection(reset=1.0, only="/full", most=30)) as server:
        summary = await bench.run(await bench.experiment(), server.url, options=RunOptions(backoff=AT_ONCE.backoff))
        assert (summary.completed, summary.failed) == (6, 0)
        assert set(server.renders.values()) == {1}
