"""A server that answers, and takes nothing: it leaves, is asked again, and is not waited for without an end."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest

from sweep.engine import events
from sweep.engine.concurrency import Limit
from sweep.engine.server_pool import MOST_REFUSALS, PooledServer, ServerPool
from sweep.errors import OverloadedError
from sweep.sandbox import FaultInjection
from sweep.sandbox.running_sandbox import Sandbox
from sweep.servers import ServerInfo, connect
from tests.support.engine_bench import AT_ONCE, Bench

REFUSES = FaultInjection(error_503=1.0, only="enqueue_batch", retry_after=0)
REFUSES_429 = FaultInjection(error_429=1.0, only="enqueue_batch", retry_after=0)
IMPATIENT = replace(AT_ONCE, patience=0.5)


def refuse_once_begun(bench: Bench, server: Sandbox, faults: FaultInjection = REFUSES) -> None:
    """So that it lets the run begin."""
    bench.watch(lambda e: setattr(server, "faults", faults) if isinstance(e, events.RunStarted) else None)


def changes(bench: Bench) -> list[str]:
    return [event.state for event in bench.of(events.ServerChanged)]


@pytest.mark.parametrize("faults", [REFUSES, REFUSES_429], ids=["503", "429"])
async def test_a_run_ends_whose_only_server_refuses_everything(
    bench: Bench, sandbox_with: Callable[..., Any], faults: FaultInjection
) -> None:
    async with sandbox_with() as server:
        refuse_once_begun(bench, server, faults)
        summary = await bench.run(await bench.experiment(), server.url, options=IMPATIENT)
        assert (summary.exit_code, summary.ending, summary.rendered) == (3, "no-server", 0)
        assert re.search(r"has refused \d+ submissions in a row: .* is overloaded \((503|429)", summary.reason)
        assert "left" in changes(bench)
        server.faults = FaultInjection()
        bench.watch(lambda _: None)
        again = await bench.run(await bench.experiment(), server.url)
        assert (again.exit_code, again.completed) == (0, 6)
        assert set(server.renders.values()) == {1}


async def test_a_server_that_takes_work_again_is_back_for_good(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    async with sandbox_with() as server:
        refuse_once_begun(bench, server, replace(REFUSES, most=2 * MOST_REFUSALS + 3))
        summary = await bench.run(await bench.experiment(), server.url)
        assert (summary.exit_code, summary.completed) == (0, 6)
        assert set(server.renders.values()) == {1}
        assert changes(bench).count("left") >= 2, "it is asked again, and leaves again"
        assert changes(bench)[-1] == "back"


async def test_others_do_the_work_of_a_server_that_refuses(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    """And nobody waits for the one that refuses, however impatient."""
    async with sandbox_with() as tired, sandbox_with(latency=0.2) as well:
        refuse_once_begun(bench, tired)
        summary = await bench.run(await bench.experiment(), tired.url, well.url, options=IMPATIENT)
        assert (summary.exit_code, summary.completed) == (0, 6)
        assert set(well.renders.values()) == {1}
        assert not tired.renders


@pytest.mark.parametrize("path", ["/models/", "/enqueue_batch"])  # which checks a graph, too
async def test_a_run_begins_without_a_server_that_asks_for_a_long_pause(
    bench: Bench, sandbox_with: Callable[..., Any], path: str
) -> None:
    """It asks for an hour while the plan is made: the others begin."""
    hour = FaultInjection(error_503=1.0, only=path, retry_after=3600)
    async with sandbox_with(faults=hour) as tired, sandbox_with() as well:
        summary = await bench.run(await bench.experiment(), tired.url, well.url)
        assert (summary.exit_code, summary.completed) == (0, 6)
        assert set(well.renders.values()) == {1}
        assert not tired.renders
    (reason,) = [event.reason for event in bench.of(events.ServerChanged) if event.state == "left"]
    assert "asks for a pause of 3600 s" in str(reason)


async def test_a_server_that_has_something_of_ours_is_not_asked_for_more(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    """One refusal, and the item it took before is waited for: it does not leave meanwhile."""
    async with sandbox_with(latency=1.0) as server:
        refuse_once_begun(bench, server, replace(REFUSES, spare=1, most=3))
        experiment = await bench.experiment(axes__denoise_strength=[0.5])
        summary = await bench.run(experiment, server.url, options=replace(IMPATIENT, patience=0.2))
        assert (summary.exit_code, summary.completed) == (0, 2)
        assert set(server.renders.values()) == {1}
        assert changes(bench) == ["joined"]


async def test_an_image_is_waited_for_where_the_server_is_overloaded(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    """It was paid for: 503 to a download is no reason to render it again."""
    async with sandbox_with(faults=FaultInjection(error_503=1.0, only="/full", most=60, retry_after=0)) as server:
        summary = await bench.run(await bench.experiment(), server.url)
        assert (summary.completed, summary.failed) == (6, 0)
        assert set(server.renders.values()) == {1}


def member() -> PooledServer:
    server = connect("http://127.0.0.1:9090")
    return PooledServer(server, ServerInfo(name="one", url=server.url, version="6.14.2", api="queue"), Limit(64))


async def test_refusals_of_one_moment_are_one() -> None:
    """Sixty-four items refused together say no more than one."""
    one = member()
    for _ in range(64):
        assert one.record_refusal(OverloadedError("full"), delay=60.0) is None
    assert one.refusals == 1


async def test_a_member_that_left_is_not_asked_before_it_said() -> None:
    one = member()
    pool = ServerPool([one], lambda _: None, AT_ONCE)
    one.record_refusal(OverloadedError("full"), delay=60.0)
    assert pool.draw_pause(one, 1) > 59.0
    assert ServerPool([member()], lambda _: None, AT_ONCE).draw_pause(member(), 1) < 1.0


async def test_the_last_refusal_is_the_reason() -> None:
    one = member()
    reasons = [one.record_refusal(OverloadedError(f"full {n}"), delay=0.0) for n in range(MOST_REFUSALS)]
    assert reasons[:-1] == [None] * (MOST_REFUSALS - 1)
    assert reasons[-1] is not None
    assert f"full {MOST_REFUSALS - 1}" in reasons[-1].message
    assert anyio.current_time() >= one.held_until
