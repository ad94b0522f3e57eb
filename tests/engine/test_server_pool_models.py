"""Another model under the same name makes other images: its server takes no part, from the start or from then on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import anyio
import pytest

from sweep import Results
from sweep.engine import events, make_forecast
from sweep.errors import ServerUnsupportedError
from sweep.plan.model_finder import index_models
from sweep.sandbox.running_sandbox import Sandbox
from sweep.servers import InvokeAI, MissingModelError, Submission, Ticket, connect
from sweep.workflow import Model, ModelRef
from tests.support.engine_bench import AT_ONCE, MOST_OPEN, ONE_BY_ONE, Bench
from tests.support.ports import free_port


def other_weights(server: Sandbox) -> None:
    """As after somebody installed another file under the same name."""
    for key, model in server.models.items():
        server.models[key] = replace(model, hash="blake3:of other weights")


def said(bench: Bench, server: Sandbox) -> list[str]:
    return [e.reason for e in bench.of(events.ServerChanged) if server.url[7:] in e.server and e.state == "left"]


@pytest.mark.slow
async def test_a_server_with_other_weights_takes_no_part(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    """The weights that most servers have are right, in whatever order the servers are given."""
    async with sandbox_with() as first, sandbox_with() as other, sandbox_with() as third:
        other_weights(other)
        for number, urls in enumerate(permutations([first.url, other.url, third.url])):
            bench.told.clear()
            summary = await bench.run(await bench.experiment(name=f"order{number}"), *urls)
            assert (summary.exit_code, summary.completed) == (0, 6)
            (reason,) = said(bench, other)
            assert "another model of the name sandbox-sd15: the hashes differ" in reason
        assert not other.renders


async def test_a_server_that_comes_back_with_other_weights_stays_away(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    """Where it was the only one the run ends at once: waiting would not bring the old weights back."""
    port = free_port()
    begun, over = anyio.Event(), anyio.Event()
    bench.watch(lambda event: begun.set() if isinstance(event, events.Completed) else None)

    async def replaced() -> None:
        async with AsyncExitStack() as held:
            async with sandbox_with(port=port, latency=0.1):
                await begun.wait()
            other = await held.enter_async_context(sandbox_with(port=port))
            other_weights(other)
            await over.wait()
            assert not other.renders

    async with anyio.create_task_group() as group:
        group.start_soon(replaced)
        while not await listens(port):  # noqa: ASYNC110
            await anyio.sleep(0.01)
        experiment = await bench.experiment(axes__seed={"start": 1, "count": 3})
        summary = await bench.run(experiment, f"http://127.0.0.1:{port}", options=ONE_BY_ONE)
        over.set()
    assert (summary.exit_code, summary.ending) == (3, "no-server")
    assert isinstance(summary.error, ServerUnsupportedError)
    assert "the hashes differ" in summary.reason
    assert 0 < summary.completed <= MOST_OPEN


async def listens(port: int) -> bool:
    try:
        await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
    except OSError:
        return False
    return True


@pytest.mark.slow
async def test_a_server_whose_weights_are_mended_comes_back(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    async with sandbox_with(latency=0.2) as first, sandbox_with(latency=0.2) as third, sandbox_with() as other:
        right = dict(other.models)
        other_weights(other)

        def mend(event: events.Event) -> None:
            if isinstance(event, events.Completed):
                other.models.update(right)

        bench.watch(mend)
        experiment = await bench.experiment(axes__seed={"start": 1, "count": 8})
        options = replace(AT_ONCE, concurrency=1, fuse=1)
        summary = await bench.run(experiment, first.url, other.url, third.url, options=options)
        assert (summary.exit_code, summary.completed) == (0, 24)
        assert other.renders
        assert set((first.renders + other.renders + third.renders).values()) == {1}


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_of_one_name_the_one_that_will_be_used_is_compared(order: int) -> None:
    """The client names the one with the smallest key in its graphs, in whatever order the server lists them."""
    two = [Model(key=key, hash=f"blake3:{key}", name="m", base="sd-1", type="main") for key in ("a", "b")]
    assert index_models(two[::order])[ModelRef("m", "sd-1", "main")].key == "a"


def models(*names: str) -> dict[str, Any]:
    return {"models": tuple(f"{name}:sd-1:main" for name in names)}


def name_of(server: Sandbox) -> str:
    return "sandbox " + server.url.removeprefix("http://")


def read_table(folder: Path) -> Any:
    return Results.open(folder).table()


async def test_a_server_that_lacks_a_model_of_an_axis_renders_the_other_points(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    """In whatever order the servers are given, and also where none has all models."""
    axes = {"model": ["a", "b", "c"], "seed": {"start": 1, "count": 4}}
    async with sandbox_with(**models("a", "b")) as left, sandbox_with(**models("b", "c")) as right:
        for number, urls in enumerate([(left.url, right.url), (right.url, left.url)]):
            experiment = await bench.experiment(name=f"models{number}", axes=axes)
            summary = await bench.run(experiment, *urls, options=replace(AT_ONCE, fuse=1))
            assert (summary.exit_code, summary.completed, summary.rendered) == (0, 12, 12)
            table = await anyio.to_thread.run_sync(read_table, summary.folder)
            assert set(table[table.model == "a"].server) == {name_of(left)}
            assert set(table[table.model == "c"].server) == {name_of(right)}
        notes = [event.message for event in bench.of(events.Notice)]
        assert f"{name_of(left)} has no main model c (sd-1), so it renders 8 of 12 points." in notes
        assert sum((left.renders + right.renders).values()) == 24


@pytest.mark.slow
async def test_points_wait_for_the_only_server_that_has_their_model(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    """A run ends with the reason where it stays away, and the same command completes it when it is back."""
    axes = {"model": ["a", "b"], "seed": {"start": 1, "count": 3}}
    port = free_port()
    begun, over = anyio.Event(), anyio.Event()
    bench.watch(lambda event: begun.set() if isinstance(event, events.RunStarted) else None)
    urls: list[str] = []

    async def leave() -> None:
        async with sandbox_with(port=port, latency=0.5, **models("b")):
            over.set()
            await begun.wait()

    async with sandbox_with(**models("a")) as left, anyio.create_task_group() as group:
        group.start_soon(leave)
        await over.wait()
        urls = [left.url, f"http://127.0.0.1:{port}"]
        experiment = await bench.experiment(axes=axes)
        first = await bench.run(experiment, *urls, options=replace(AT_ONCE, patience=0.5))
        assert (first.exit_code, first.completed) == (3, 3)
        assert f"{name_of(left)} has no main model b (sd-1)" in first.reason
        assert str(port) in first.reason
        async with sandbox_with(port=port, **models("b")):
            again = await bench.run(experiment, *urls)
        assert (again.exit_code, again.completed, again.rendered) == (0, 6, 3)
        assert set(left.renders.values()) == {1}


def share(server: Sandbox, lacking: str, count: int) -> str:
    return f"{name_of(server)} {lacking}, so it renders {count} of 6 points"


async def test_a_forecast_says_who_renders_what(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    axes = {"model": ["a", "b", "c"], "seed": {"start": 1, "count": 2}}
    async with sandbox_with(**models("a")) as left, sandbox_with(**models("b", "c")) as right:
        for urls in [(left.url, right.url), (right.url, left.url)]:
            forecast = await make_forecast(await bench.experiment(axes=axes), list(map(connect, urls)), bench.root)
            lefts = share(left, "has no main model b (sd-1) and has no main model c (sd-1)", 2)
            rights = share(right, "has no main model a (sd-1)", 4)
            assert sorted(forecast.shares) == sorted([lefts, rights])


async def test_a_run_ends_whose_only_server_lost_the_model(
    bench: Bench, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody deleted it there: nothing comes back that could wake who waits for work."""
    submit, taken = InvokeAI.submit, 0

    async def submit_once(client: InvokeAI, submission: Submission) -> Ticket:
        nonlocal taken
        taken += 1
        if taken > 1:
            lost = next(ref for ref in submission.graph.references() if isinstance(ref, ModelRef))
            raise MissingModelError("deleted", ref=lost)
        return await submit(client, submission)

    monkeypatch.setattr(InvokeAI, "submit", submit_once)
    with anyio.fail_after(30):
        summary = await bench.run(await bench.experiment(), sandbox.url, options=ONE_BY_ONE)
    assert (summary.exit_code, summary.completed) == (3, 1)
    assert "has no main model sandbox-sd15 any more" in summary.reason
