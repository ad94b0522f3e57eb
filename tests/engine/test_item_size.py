"""Several variations an item: how many, and what becomes of each."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.engine import Stop, events, item_size
from sweep.engine.item_size import LEARNING, LONGEST_ITEM, MOST_FUSED, SHARE, SHORT_ITEM, FusionSize
from sweep.plan import Plan
from sweep.sandbox import FaultInjection
from sweep.sandbox.item_workers import Workers
from sweep.sandbox.running_sandbox import Sandbox
from sweep.servers import InvokeAI
from tests.support.engine_bench import AT_ONCE, Bench, chunks

FOUR = replace(AT_ONCE, fuse=4)


def learnt(fixed: float, each: float, rounds: int = 40) -> FusionSize:
    """The size learnt from a server that takes `fixed` seconds an item and `each` a variation."""
    size = FusionSize()
    size.observe(1, 30.0, fixed)  # loads the model
    for _ in range(rounds):
        size.observe(size.size, fixed + each * size.size, fixed)
    return size


def test_a_fixed_cost_an_item_is_worth_sharing() -> None:
    assert learnt(0.6, 0.05).size >= 16


def test_where_no_event_tells_the_fixed_time_it_is_assumed() -> None:
    size = FusionSize()
    assert (size.size, size.is_learning) == (1, True)
    size.observe(1, 0.45 + 0.065)
    assert not size.is_learning
    for _ in range(2):
        assert size.size > 16
        size.observe(size.size, 0.45 + 0.065 * size.size)
    assert size.size == MOST_FUSED


@given(st.floats(0, 20), st.floats(0.001, 20))
def test_items_keep_their_time_after_a_few_where_no_event_tells(fixed: float, each: float) -> None:
    size = FusionSize()
    for _ in range(40):
        size.observe(size.size, fixed + each * size.size)
    assert size.size == 1 or each * size.size <= LONGEST_ITEM * (1 + 1e-9)


def test_where_events_tell_the_fixed_time_one_item_tells_all() -> None:
    size = FusionSize()
    size.observe(1, 0.45 + 0.065, 0.45)
    assert (size.size, size.is_learning) == (MOST_FUSED, False)
    size.observe(MOST_FUSED, 0.45 + MOST_FUSED, 0.45)  # slower ones come
    assert size.size == 9


def test_an_event_that_came_late_misleads_nobody() -> None:
    """As seen at a real server: it collects garbage before it sends that it took the item up."""
    size = FusionSize()
    for overhead in (0.37, 0.015, 0.45):
        size.observe(size.size, 0.45 + 0.065 * size.size, overhead)
        assert size.size >= 47


@given(st.floats(0, 5), st.floats(0.01, 20), st.floats(0, 60))
def test_what_events_tell_is_kept_within_the_same_bounds(fixed: float, each: float, loading: float) -> None:
    size = FusionSize()
    for seconds in (loading, 0.0, 0.0, 0.0):
        size.observe(size.size, fixed + each * size.size + seconds, fixed)
    assert 1 <= size.size <= MOST_FUSED
    assert size.size == 1 or fixed + each * size.size <= LONGEST_ITEM * (1 + 1e-9)
    assert size.size == 1 or fixed * (1 + 1e-6) > SHARE * each * (size.size - 1)


def test_only_as_many_as_pay() -> None:
    assert learnt(0.25, 0.5).size == 10  # the fixed time is then a twentieth of the variations' own
    assert learnt(0.25, 1.5).size == 4


def test_a_model_loaded_by_the_first_item_misleads_nobody() -> None:
    size = FusionSize()
    for loading in (3.0, 0.0, 0.0):
        size.observe(size.size, loading + 0.45 + 0.065 * size.size)
    assert size.size == 64


def test_slow_images_are_sent_one_by_one() -> None:
    size = learnt(0.6, 6.0)
    assert (size.size, size.is_learning) == (1, False)


def test_images_that_become_slower_make_items_smaller() -> None:
    size = learnt(0.5, 0.05)
    before = size.size
    for _ in range(3):
        size.observe(size.size, 0.5 + 0.5 * size.size)
    assert 0.5 + 0.5 * size.size <= LONGEST_ITEM
    assert size.size < before


def test_no_fixed_cost_no_fusion() -> None:
    assert learnt(0.0, 0.5).size == 1


@given(st.floats(0, 20), st.floats(0.001, 20))
def test_an_item_is_never_longer_than_it_may_be_nor_larger(fixed: float, each: float) -> None:
    size = learnt(fixed, each).size
    assert 1 <= size <= MOST_FUSED
    assert size == 1 or fixed + each * size <= LONGEST_ITEM * (1 + 1e-9)


def test_a_size_a_person_chose_stays() -> None:
    size = FusionSize(8)
    for _ in range(5):
        size.observe(8, 100.0)
    assert size.size == 8


def test_a_server_that_tells_no_times_is_not_waited_for() -> None:
    size = FusionSize()
    size.observe(1, 0.0)
    assert (size.size, size.is_learning) == (1, False)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


async def test_fused_points_are_rows_of_their_own(bench: Bench, sandbox: Sandbox) -> None:
    summary = await bench.run(await bench.experiment(), sandbox.url, options=FOUR)
    assert (summary.exit_code, summary.completed) == (0, 6)
    assert len(sandbox.queue.items) == 2
    rows = await anyio.to_thread.run_sync(table, summary.folder)
    for row in rows:
        written = await anyio.to_thread.run_sync(chunks, summary.folder / row["image_path"])
        assert written["invokeai_metadata"]["sweep_key"] == row["key"]
        assert written["invokeai_metadata"]["sweep_values"]["seed"] == int(row["seed"])
    assert len({row["started_at"] for row in rows}) == 6


@pytest.mark.slow
async def test_the_first_item_tells_what_the_server_spends_on_each(
    bench: Bench, sandbox_with: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent beside it, since its size would be a guess."""
    monkeypatch.setattr(item_size, "LEARNING", 600.0)  # the first item is waited for, however slow this machine is
    auto = replace(AT_ONCE, fuse=None)
    async with sandbox_with(gc_pause=0.3) as server:
        many = await bench.experiment(axes__seed={"start": 1, "count": 20})
        summary = await bench.run(many, server.url, options=auto)
        items = sorted(server.queue.items.values(), key=lambda item: item.item_id)
    assert summary.completed == 60
    sizes = [sum(node["type"] == "l2i" for node in item.graph["nodes"].values()) for item in items]
    assert sizes[0] == 1
    assert max(sizes[1:]) > 4
    assert str(items[1].created_at) >= str(items[0].completed_at)  # nothing was queued beside the first


@pytest.mark.slow
async def test_without_events_the_first_items_length_tells(
    bench: Bench, sandbox_with: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_size, "LEARNING", 600.0)
    auto = replace(AT_ONCE, fuse=None)
    async with sandbox_with(latency=0.3) as server:
        server.events.send = _silent
        many = await bench.experiment(axes__seed={"start": 1, "count": 20})
        summary = await bench.run(many, server.url, options=auto)
        items = sorted(server.queue.items.values(), key=lambda item: item.item_id)
    assert summary.completed == 60
    sizes = [sum(node["type"] == "l2i" for node in item.graph["nodes"].values()) for item in items]
    assert sizes[0] == 1 < sizes[1]
    assert str(items[1].created_at) >= str(items[0].completed_at)


async def _silent(*_: object, **__: object) -> None:
    """A socket on which nothing is ever heard."""


def test_the_second_item_waits_for_the_first_but_not_for_a_long_one() -> None:
    size = FusionSize()
    assert size.compute_learning_pause(100.0) == LEARNING
    assert size.compute_learning_pause(100.5) == LEARNING - 0.5
    assert size.compute_learning_pause(100.0 + LEARNING) == 0.0
    size.observe(1, 0.5, 0.4)
    assert size.compute_learning_pause(100.6) == 0.0


def test_items_are_short_while_others_wait() -> None:
    size = FusionSize()
    size.observe(1, 0.7, 0.5)
    alone = size.size
    size.longest = SHORT_ITEM
    assert 1 <= size.size < alone
    assert 0.5 + 0.2 * size.size <= SHORT_ITEM * (1 + 1e-9)


async def test_others_that_wait_at_the_server_make_the_next_items_shorter(
    bench: Bench, sandbox_with: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: list[float] = []

    def bounded(self: FusionSize) -> int:
        bounds.append(self.longest)
        return 2

    async def one_waits(self: InvokeAI, ours: str) -> int:
        return 1

    monkeypatch.setattr(FusionSize, "size", property(bounded))
    monkeypatch.setattr(InvokeAI, "count_others_waiting", one_waits)
    async with sandbox_with() as server:
        summary = await bench.run(await bench.experiment(), server.url)
    assert summary.completed == 6
    assert bounds[-1] == SHORT_ITEM


async def test_a_server_that_does_not_tell_of_others_renders(
    bench: Bench, sandbox_with: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counts only shorten items; an account may submit without a right to read them."""
    monkeypatch.setattr(FusionSize, "size", 2)
    async with sandbox_with(faults=FaultInjection(error_403=1.0, only="counts_by_destination")) as server:
        summary = await bench.run(await bench.experiment(), server.url)
    assert (summary.exit_code, summary.completed) == (0, 6)


async def test_a_graph_that_cannot_be_fused_goes_one_by_one(
    bench: Bench, sandbox_with: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_size, "SHARE", 1e-9)  # a larger item always pays
    monkeypatch.setattr(Plan, "is_fusable", False)
    async with sandbox_with(latency=0.01) as server:
        summary = await bench.run(await bench.experiment(), server.url)
        assert len(server.queue.items) == summary.completed == 6


async def test_an_older_server_that_tells_no_times_goes_on_one_by_one(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    async with sandbox_with(api="sessions") as server:
        summary = await bench.run(await bench.experiment(), server.url, options=replace(AT_ONCE, fuse=None))
    assert (summary.completed, summary.exit_code) == (6, 0)


async def test_fused_and_single_give_the_same_images(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    async with sandbox_with(paint=True) as server:
        single = await bench.run(await bench.experiment(name="single"), server.url)
        fused = await bench.run(await bench.experiment(name="fused"), server.url, options=FOUR)

    def pixels(folder: Path) -> dict[str, bytes]:
        from PIL import Image

        return {row["key"]: Image.open(folder / row["image_path"]).tobytes() for row in table(folder)}

    one_by_one, together = [await anyio.to_thread.run_sync(pixels, run.folder) for run in (single, fused)]
    assert one_by_one == together
    assert len(set(together.values())) == 6


async def test_a_branch_that_fails_costs_its_neighbours_nothing(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    """A value the server fails at only when it runs: the culprit is a failed row, the others are completed."""
    async with sandbox_with(faults=FaultInjection(fail_rate=0.4)) as flaky:
        many = await bench.experiment(axes__seed={"start": 1, "count": 4})  # so many that some fail and some do not
        summary = await bench.run(many, flaky.url, options=replace(FOUR, attempts=1, alike=100))
    rows = await anyio.to_thread.run_sync(table, summary.folder)
    assert {row["status"] for row in rows} == {"completed", "failed"}
    assert {row["attempts"] for row in rows} == {"1"}


async def test_a_fused_item_of_a_run_broken_off_is_adopted(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    async with sandbox_with(latency=0.1) as server:
        async with anyio.create_task_group() as group:
            bench.watch(lambda event: group.cancel_scope.cancel() if isinstance(event, events.Started) else None)
            await bench.run(await bench.experiment(), server.url, options=FOUR)
        bench.watch(lambda _: None)
        summary = await bench.run(await bench.experiment(), server.url, options=FOUR)
        assert summary.completed == 6
        assert set(server.renders.values()) == {1}


@pytest.mark.parametrize(
    "faults",
    [
        FaultInjection(lost_answer=0.4, only="enqueue"),
        FaultInjection(truncated=0.4, only="/full"),
        FaultInjection(missing_event=0.4),
    ],
    ids=["lost-answer", "truncated", "missing-event"],
)
async def test_faults_cost_no_image_twice_when_fused(
    bench: Bench, sandbox_with: Callable[..., Any], faults: FaultInjection
) -> None:
    async with sandbox_with(faults=faults) as flaky:
        summary = await bench.run(await bench.experiment(), flaky.url, options=replace(FOUR, attempts=30))
        assert (summary.completed, summary.failed) == (6, 0)
        assert set(flaky.renders.values()) == {1}


def stop_after_two(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, faults: FaultInjection | None = None) -> Stop:
    """Cancel the run, with these faults from then on, when the sandbox has made two images; it finishes the third."""
    stop, make = Stop(), Workers._make

    async def make_until_cancelled(self: Workers, item: Any, node: Any, graph: str) -> Any:
        if sum(sandbox.renders.values()) == 2 and stop.stage == 0:
            sandbox.faults = faults or sandbox.faults
            stop.request(2)
            await self._cancels[item.item_id].wait()
        return await make(self, item, node, graph)

    monkeypatch.setattr(Workers, "_make", make_until_cancelled)
    return stop


async def test_a_cancelled_item_keeps_what_it_had_rendered(
    bench: Bench, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has made two of six images when it is told to cancel, and finishes the third."""
    stop = stop_after_two(sandbox, monkeypatch)
    six = replace(AT_ONCE, fuse=6, concurrency=1)
    summary = await bench.run(await bench.experiment(), sandbox.url, stop=stop, options=six)
    assert summary.ending == "cancelled"
    assert summary.completed in (2, 3)
    again = await bench.run(await bench.experiment(), sandbox.url, options=six)
    assert again.completed == 6
    assert sum(sandbox.renders.values()) <= 7  # the third may have come too late to be seen


async def test_what_a_cancelled_item_had_rendered_is_waited_for(
    bench: Bench, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The downloads break when it is cancelled, and for long in the next run."""
    stop = stop_after_two(sandbox, monkeypatch, FaultInjection(reset=1.0, only="/full", most=60))
    six = replace(AT_ONCE, fuse=6, concurrency=1)
    await bench.run(await bench.experiment(), sandbox.url, stop=stop, options=six)
    summary = await bench.run(await bench.experiment(), sandbox.url, options=six)
    assert summary.completed == 6
    assert sum(sandbox.renders.values()) <= 7


async def test_items_of_a_shard_get_small_towards_its_own_end(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    """As those of a whole grid: an item is at most a server's share of what remains of the shard."""
    many = await bench.experiment(axes__seed={"start": 1, "count": 8})
    async with sandbox_with() as one, sandbox_with() as other:
        await bench.run(many, one.url, other.url, options=replace(AT_ONCE, fuse=8, shard=(1, 3)))
        items = [*one.queue.items.values(), *other.queue.items.values()]
    sizes = [sum(node["type"] == "l2i" for node in item.graph["nodes"].values()) for item in items]
    assert max(sizes) == 2  # of about eight: two devices, two items each
