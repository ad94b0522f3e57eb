"""Servers that come late, refuse, or are known under another address."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import anyio
import anyio.to_thread
import pytest

from sweep.engine import attempt, events, run
from sweep.engine.shutdown import Stop
from sweep.errors import PlanError, ServerError
from sweep.record import read_submitted
from sweep.sandbox import FaultInjection
from sweep.sandbox.running_sandbox import Sandbox
from tests.support.engine_bench import AT_ONCE, Bench
from tests.support.mutating_proxy import Exchange, open_proxy
from tests.support.ports import free_port


@pytest.mark.slow
async def test_a_server_that_is_up_later_joins(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    port = free_port()
    async with AsyncExitStack() as held, sandbox_with(latency=0.05) as first:
        begun, late = anyio.Event(), []
        bench.watch(lambda event: begun.set() if isinstance(event, events.Completed) else None)

        async def come() -> None:
            await begun.wait()
            late.append(await held.enter_async_context(sandbox_with(port=port, latency=0.05)))

        async with anyio.create_task_group() as group:
            group.start_soon(come)
            experiment = await bench.experiment(axes__seed={"start": 1, "count": 20})
            summary = await bench.run(
                experiment, first.url, f"http://127.0.0.1:{port}", options=replace(AT_ONCE, fuse=1)
            )
        assert summary.completed == 60
        assert late[0].renders
        assert set((first.renders + late[0].renders).values()) == {1}
        assert [e.state for e in bench.of(events.ServerChanged)] == ["joined", "back"]


@pytest.mark.slow
async def test_a_server_that_refuses_us_for_a_while_is_asked_again(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    async with sandbox_with(latency=0.02) as moody, sandbox_with(latency=0.05) as other:

        def watch(event: events.Event) -> None:
            if isinstance(event, events.RunStarted):
                moody.faults = FaultInjection(error_401=1.0, only="enqueue_batch", most=1)

        bench.watch(watch)
        experiment = await bench.experiment(axes__seed={"start": 1, "count": 10})
        summary = await bench.run(experiment, moody.url, other.url)
        assert summary.completed == 30
        assert set((moody.renders + other.renders).values()) == {1}
        states = [event.state for event in bench.of(events.ServerChanged) if moody.url[7:] in event.server]
        assert states == ["joined", "left", "back"]


async def break_off(bench: Bench, url: str, **options: Any) -> None:
    """Run the bench's experiment until its first image is begun, and cancel the run."""
    async with anyio.create_task_group() as group:
        bench.watch(lambda event: group.cancel_scope.cancel() if isinstance(event, events.Started) else None)
        await bench.run(await bench.experiment(), url, **options)


async def test_items_are_found_at_a_server_given_under_another_name(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    """What an interrupted run left there is taken up, not rendered again."""
    async with sandbox_with(latency=0.1) as server:
        await break_off(bench, server.url)
        bench.watch(lambda _: None)
        summary = await bench.run(await bench.experiment(), server.url.replace("127.0.0.1", "localhost"))
        assert summary.completed == 6
        assert set(server.renders.values()) == {1}


async def test_a_point_taken_out_meanwhile_is_cancelled_where_it_is(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    async with sandbox_with(latency=60) as server:
        await break_off(bench, server.url, options=replace(AT_ONCE, concurrency=1))
        bench.watch(lambda _: server_is_quick(server))
        edited = await bench.experiment(axes__denoise_strength=[0.6])
        summary = await bench.run(edited, server.url)
        assert (summary.completed, summary.exit_code) == (2, 0)
        assert [item.status for item in server.queue.items.values()].count("canceled") == 1
        assert len(server.renders) == 2


def server_is_quick(server: Sandbox) -> None:
    object.__setattr__(server.options, "latency", 0.0)


@pytest.mark.parametrize("stage", [1, 2])
async def test_a_stop_does_not_wait_for_a_server_asked_about_old_items(
    bench: Bench, sandbox_with: Callable[..., Any], stage: int
) -> None:
    """An interrupted run left items at a server; the next run asks for them, the server hangs, and somebody stops."""
    async with sandbox_with(latency=60) as server, sandbox_with() as other:
        await break_off(bench, server.url)
        stop = Stop()

        def hang(event: events.Event) -> None:
            if isinstance(event, events.RunStarted):
                server.faults = FaultInjection(slow=1.0, slow_seconds=600)
                stop.request(stage)

        bench.watch(hang)
        summary = await bench.run(
            await bench.experiment(), server.url.replace("127.0.0.1", "localhost"), other.url, stop=stop
        )
        assert summary.exit_code == 130
        assert summary.completed == 0


async def test_an_item_whose_server_left_too_often_is_cancelled_there(
    bench: Bench, sandbox_with: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is submitted anew: it would be rendered twice."""
    monkeypatch.setattr(attempt, "MOST_STRANDINGS", 0)

    def mislead(exchange: Exchange) -> None:
        if exchange.path.endswith("item_summaries_by_ids") and not bench.of(events.ServerChanged)[1:]:
            exchange.status = 418

    async with sandbox_with(latency=60) as server, open_proxy(server.url) as proxy:
        proxy.mutate = mislead
        async with anyio.create_task_group() as group:

            def watch(event: events.Event) -> None:
                if isinstance(event, events.Submitted) and event.attempt == 2:
                    group.cancel_scope.cancel()

            bench.watch(watch)
            await bench.run(await bench.experiment(axes={"seed": [1]}), proxy.url)
        assert [item.status for item in server.queue.items.values()] == ["canceled"]


async def test_an_item_that_was_found_is_on_record_like_one_that_was_submitted(bench: Bench, sandbox: Sandbox) -> None:
    """A run that died before it knew: what the item left on the server could not be found later."""

    class DeathError(Exception):
        pass

    def die(name: str) -> None:
        if name == attempt.TAKEN:
            raise DeathError

    experiment = await bench.experiment(axes={"seed": [1]})
    with pytest.raises(DeathError):
        await run(experiment, [sandbox.url], results=bench.root / "results", checkpoint=die)
    assert (await bench.run(experiment, sandbox.url)).completed == 1
    (work,) = (await anyio.to_thread.run_sync(read_submitted, bench.root / "results" / "small")).values()
    assert list(work.items) == [str(item) for item in sandbox.queue.items]


async def test_a_server_that_cannot_be_asked_before_the_run_leaves_it_to_the_others(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    for question in ("/models", "openapi.json", "enqueue_batch"):
        faults = FaultInjection(error_500=1.0, only=question)
        experiment = await bench.experiment(name=question.strip("/"), axes={"seed": [1, 2]})
        async with sandbox_with() as good, sandbox_with(faults=faults) as bad, sandbox_with(faults=faults) as worse:
            summary = await bench.run(experiment, bad.url, good.url, worse.url)
            assert (summary.exit_code, summary.completed) == (0, 2)
            bench.told.clear()
            with pytest.raises(ServerError, match="500 while"):
                await bench.run(await bench.experiment(name="alone"), bad.url)
            assert [
                event for event in bench.of(events.ServerChanged) if event.state == "left"
            ] == []  # the error says it


async def test_a_server_that_stumbles_over_its_models_once_is_asked_again(bench: Bench, sandbox: Sandbox) -> None:
    """While the plan is made it was asked patiently; the second look is a single one."""
    asked = 0

    def stumble(exchange: Exchange) -> None:
        nonlocal asked
        asked += "/models" in exchange.path
        if "/models" in exchange.path and asked == 2:
            exchange.status = 500

    async with open_proxy(sandbox.url, stumble) as proxy:
        assert (await bench.run(await bench.experiment(axes={"seed": [1]}), proxy.url)).completed == 1
    assert asked > 2


async def test_a_server_that_refuses_a_question_before_the_run_leaves_it_to_the_others(
    bench: Bench, sandbox: Sandbox
) -> None:
    def refuse(exchange: Exchange) -> None:
        if "/models" in exchange.path:
            exchange.status = 422

    async with open_proxy(sandbox.url, refuse) as proxy:
        summary = await bench.run(await bench.experiment(axes={"seed": [1]}), proxy.url, sandbox.url)
        assert summary.completed == 1
        with pytest.raises(ServerError, match="refused the request"):
            await bench.run(await bench.experiment(name="alone"), proxy.url)
        lacking = await bench.experiment(name="lacking", inputs__model="rare")
        with pytest.raises(PlanError, match="refused the request"):  # which may have it
            await bench.run(lacking, proxy.url, sandbox.url)
