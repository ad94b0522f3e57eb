"""Items that a server took and does not know any more: attempts are counted over the deaths of either side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest

from sweep.engine import events
from sweep.sandbox.running_sandbox import Sandbox
from tests.support.engine_bench import AT_ONCE, Bench
from tests.support.mutating_proxy import open_proxy

ATTEMPTS = replace(AT_ONCE, attempts=3)


async def run_until_started(bench: Bench, experiment: Any, url: str) -> bool:
    """Run until an item is taken up, then die; whether one was."""
    started = False
    with anyio.CancelScope() as scope:

        def die(event: events.Event) -> None:
            nonlocal started
            if isinstance(event, events.Started):
                started = True
                scope.cancel()

        bench.watch(die)
        await bench.run(experiment, url, options=ATTEMPTS)
    return started


@pytest.mark.slow
@pytest.mark.parametrize("fuse", [1, 2])
async def test_variation_that_kills_a_forgetful_server_fails_after_its_attempts(
    bench: Bench, sandbox_with: Callable[..., Any], fuse: int
) -> None:
    """The client dies, too, each time: the count is the journal's."""
    experiment = await bench.experiment(axes={"seed": [1]})
    async with sandbox_with() as first, open_proxy(first.url) as proxy:
        for _ in range(ATTEMPTS.attempts):
            async with sandbox_with(latency=60) as server:
                proxy.target = server.url
                assert await run_until_started(bench, experiment, proxy.url)
        proxy.target = first.url
        bench.watch(lambda _: None)
        summary = await bench.run(experiment, proxy.url, options=replace(ATTEMPTS, fuse=fuse))
        assert (summary.exit_code, summary.failed) == (1, 1)
        assert not first.renders


async def test_neighbours_of_a_poisonous_variation_in_one_item_complete(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    """Of a fused item that a server forgot every variation is tried by itself."""
    experiment = await bench.experiment(axes={"seed": [1, 2, 3]})
    async with sandbox_with() as good, open_proxy(good.url) as proxy:
        async with sandbox_with(latency=60) as server:
            proxy.target = server.url
            with anyio.CancelScope() as scope:
                bench.watch(lambda event: scope.cancel() if isinstance(event, events.Started) else None)
                await bench.run(experiment, proxy.url, options=replace(ATTEMPTS, fuse=3))
        proxy.target = good.url
        bench.watch(lambda _: None)
        summary = await bench.run(experiment, proxy.url, options=replace(ATTEMPTS, fuse=3))
    assert (summary.exit_code, summary.completed) == (0, 3)
    assert sorted(good.renders.values()) == [1, 1, 1]
    assert len(good.queue.items) == 3


@pytest.mark.slow
async def test_intent_that_never_arrived_counts_no_attempt(bench: Bench, sandbox: Sandbox) -> None:
    experiment = await bench.experiment(axes={"seed": [1]})
    for _ in range(2 * ATTEMPTS.attempts):
        with anyio.CancelScope() as scope:
            bench.watch(lambda event: scope.cancel() if isinstance(event, events.Submitted) else None)
            await bench.run(experiment, sandbox.url, options=ATTEMPTS)
    bench.watch(lambda _: None)
    summary = await bench.run(experiment, sandbox.url, options=ATTEMPTS)
    assert (summary.exit_code, summary.completed) == (0, 1)
