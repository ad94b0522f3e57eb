"""Another model under the same name makes other images: its server takes no part, from the start or from then on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import anyio
import pytest

from sweep.engine import events
from sweep.engine.server_pool import index_models
from sweep.errors import ServerUnsupportedError
from sweep.sandbox.service import Sandbox
from sweep.workflow import Model, ModelRef
from tests.support.engine_bench import AT_ONCE, Bench
from tests.support.ports import free_port


def other_weights(server: Sandbox) -> None:
    """As after somebody installed another file under the same name."""
    for record in server.models.values():
        record["hash"] = "blake3:of other weights"


def said(bench: Bench, server: Sandbox) -> list[str]:
    return [e.reason for e in bench.of(events.ServerChanged) if server.url[7:] in e.server and e.state == "left"]


async def test_a_server_with_other_weights_takes_no_part(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    async with sandbox_with(latency=0.02) as first, sandbox_with() as other:
        other_weights(other)
        summary = await bench.run(await bench.experiment(), first.url, other.url)
        assert (summary.exit_code, summary.completed) == (0, 6)
        assert len(first.renders) == 6
        assert not other.renders
        (reason,) = said(bench, other)
        assert "another model of the name sandbox-sd15: the hashes differ" in reason


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
        summary = await bench.run(await bench.experiment(), f"http://127.0.0.1:{port}")
        over.set()
    assert (summary.exit_code, summary.ending) == (3, "no-server")
    assert isinstance(summary.error, ServerUnsupportedError)
    assert "the hashes differ" in summary.reason
    assert 0 < summary.completed < 6


async def listens(port: int) -> bool:
    try:
        await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
    except OSError:
        return False
    return True


async def test_a_server_whose_weights_are_mended_comes_back(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    async with sandbox_with(latency=0.2) as first, sandbox_with() as other:
        right = {key: record["hash"] for key, record in other.models.items()}
        other_weights(other)

        def mend(event: events.Event) -> None:
            if isinstance(event, events.Completed):
                for key, record in other.models.items():
                    record["hash"] = right[key]

        bench.watch(mend)
        experiment = await bench.experiment(axes__seed={"start": 1, "count": 8})
        summary = await bench.run(experiment, first.url, other.url, options=replace(AT_ONCE, concurrency=1, fuse=1))
        assert (summary.exit_code, summary.completed) == (0, 24)
        assert other.renders
        assert set((first.renders + other.renders).values()) == {1}


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_of_one_name_the_one_that_will_be_used_is_compared(order: int) -> None:
    """The client names the one with the smallest key in its graphs, in whatever order the server lists them."""
    two = [Model(key=key, hash=f"blake3:{key}", name="m", base="sd-1", type="main") for key in ("a", "b")]
    assert index_models(two[::order])[ModelRef("m", "sd-1", "main")].key == "a"
