"""Whole runs against a real sandbox: every point once, every outcome a row, every stop clean."""

from __future__ import annotations

import csv
import shlex
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from PIL import Image

from sweep.engine import events, runner
from sweep.engine.run_options import FailureLimit
from sweep.engine.shutdown import Stop
from sweep.errors import DiskFullError, PlanError, ServerUnreachableError, StoppedError, UsageError
from sweep.record import RecordedResults
from sweep.sandbox import FaultInjection
from sweep.sandbox.item_workers import Workers
from sweep.sandbox.running_sandbox import Sandbox
from sweep.workflow import load_workflow
from tests.support.engine_bench import AT_ONCE, MOST_OPEN, ONE_BY_ONE, Bench, chunks

pytestmark = pytest.mark.usefixtures("loop_may_not_block")


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


async def rows(folder: Path) -> list[dict[str, str]]:
    return await anyio.to_thread.run_sync(table, folder)


async def test_every_point_is_rendered_once_and_its_image_says_what_its_row_says(
    bench: Bench, sandbox: Sandbox
) -> None:
    summary = await bench.run(await bench.experiment(), sandbox.url)
    assert (summary.exit_code, summary.completed, summary.rendered) == (0, 6, 6)
    found = await rows(summary.folder)
    assert [row["index"] for row in found] == [str(number) for number in range(6)]
    assert set(sandbox.renders.values()) == {1}
    assert len(sandbox.renders) == 6
    for row in found:
        image = summary.folder / row["image_path"]
        written = await anyio.to_thread.run_sync(chunks, image)
        nodes = (await anyio.to_thread.run_sync(load_workflow, image)).graph.nodes  # its own, fused or not
        assert nodes["noise"].fields["seed"] == int(row["seed"])
        assert nodes["denoise"].fields["denoising_start"] == pytest.approx(1 - float(row["denoise_strength"]))
        assert nodes["prompt"].fields["prompt"] == row["prompt"]
        assert written["invokeai_metadata"]["sweep_key"] == row["key"]
        assert (row["status"], row["attempts"], row["error"]) == ("completed", "1", "")


async def test_the_command_on_record_can_be_typed_again(bench: Bench, sandbox: Sandbox) -> None:
    typed = ("sweep", "run", "my cups.yaml", "--set", "axes.seed={start: 1, count: 2}")
    options = replace(AT_ONCE, command=typed)
    summary = await bench.run(await bench.experiment(), sandbox.url, options=options)
    runs = await anyio.to_thread.run_sync(lambda: RecordedResults.open(summary.folder).runs())
    assert shlex.split(runs[-1].facts.command) == list(typed)


async def test_the_same_command_again_renders_nothing(bench: Bench, sandbox: Sandbox) -> None:
    await bench.run(await bench.experiment(), sandbox.url)
    again = await bench.run(await bench.experiment(), sandbox.url)
    assert (again.exit_code, again.completed, again.rendered) == (0, 6, 0)
    assert sum(sandbox.renders.values()) == 6


async def test_an_edited_experiment_renders_only_its_new_points(bench: Bench, sandbox: Sandbox) -> None:
    first = await bench.run(await bench.experiment(), sandbox.url)
    before = {row["key"]: row["image_path"] for row in await rows(first.folder)}
    edited = await bench.experiment(axes__denoise_strength=[0.1, 0.2, 0.8])
    second = await bench.run(edited, sandbox.url)
    assert (second.completed, second.rendered, second.former) == (6, 2, 2)
    after = {row["key"]: row["image_path"] for row in await rows(second.folder)}
    kept = before.keys() & after.keys()
    assert len(kept) == 4
    assert all(before[key] == after[key] for key in kept)
    assert sum(sandbox.renders.values()) == 8


async def test_points_that_fail_are_rows_and_may_be_tried_again(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    many = await bench.experiment(axes__seed={"start": 1, "count": 3})  # so many that some fail and some do not
    async with sandbox_with(faults=FaultInjection(fail_rate=0.5)) as flaky:
        summary = await bench.run(many, flaky.url, options=replace(AT_ONCE, attempts=1, alike=100))
    assert summary.exit_code == 1
    assert 0 < summary.failed < 9
    found = await rows(summary.folder)
    assert len(found) == 9
    assert all(bool(row["error"]) == (row["status"] == "failed") == (not row["image_path"]) for row in found)
    async with sandbox_with() as sound:
        left_alone = await bench.run(many, sound.url)
        assert (left_alone.rendered, left_alone.failed) == (0, summary.failed)
        mended = await bench.run(many, sound.url, options=replace(AT_ONCE, retry_failed=True))
    assert (mended.exit_code, mended.completed, mended.rendered) == (0, 9, summary.failed)


@pytest.mark.parametrize(
    "faults",
    [
        FaultInjection(lost_answer=0.5, only="enqueue_batch"),
        FaultInjection(error_500=0.3, only="/full", most=4),
        FaultInjection(truncated=0.5, only="/full", most=4),
        FaultInjection(reset=0.3, only="enqueue_batch"),
        FaultInjection(error_503=0.4, only="enqueue_batch", retry_after=0),
        FaultInjection(missing_event=0.3),
        FaultInjection(doubled_event=0.5),
    ],
    ids=["lost-answer", "500", "truncated", "reset", "503", "missing-event", "doubled-event"],
)
async def test_faults_of_the_way_cost_no_image_twice(
    bench: Bench, sandbox_with: Callable[..., Any], faults: FaultInjection
) -> None:
    async with sandbox_with(faults=faults) as flaky:
        summary = await bench.run(await bench.experiment(), flaky.url, options=replace(AT_ONCE, attempts=20))
        assert (summary.completed, summary.failed) == (6, 0)
        assert set(flaky.renders.values()) == {1}


async def test_two_servers_share_the_work(
    bench: Bench, sandbox_with: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither makes an image before both have an item."""
    make = Workers._make

    async def make_together(*arguments: Any) -> Any:
        while not (one.queue.items and other.queue.items):  # noqa: ASYNC110
            await anyio.sleep(0.005)
        return await make(*arguments)

    monkeypatch.setattr(Workers, "_make", make_together)
    async with sandbox_with() as one, sandbox_with() as other:
        summary = await bench.run(await bench.experiment(), one.url, other.url, options=replace(AT_ONCE, concurrency=1))
        assert summary.completed == 6
        assert len(one.renders) + len(other.renders) == 6
        assert one.renders
        assert other.renders


async def test_the_work_of_a_server_that_dies_goes_to_the_other(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    async with sandbox_with() as sound, AsyncExitStack() as held:
        doomed = await held.enter_async_context(sandbox_with(latency=60))
        started = anyio.Event()
        bench.watch(lambda event: started.set() if isinstance(event, events.Submitted) else None)

        async def kill() -> None:
            await started.wait()
            await held.aclose()

        async with anyio.create_task_group() as group:
            group.start_soon(kill)
            summary = await bench.run(await bench.experiment(), doomed.url, sound.url)
        assert summary.completed == 6
        assert set(sound.renders.values()) == {1}
        assert [event.state for event in bench.of(events.ServerChanged)].count("left") == 1


async def test_stage_one_finishes_what_is_in_flight(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    stop = Stop()
    bench.watch(lambda event: stop.request(1) if isinstance(event, events.Completed) else None)
    experiment = await bench.experiment(axes__seed={"start": 1, "count": 3})
    async with sandbox_with(latency=0.1) as server:
        summary = await bench.run(experiment, server.url, stop=stop, options=ONE_BY_ONE)
        assert (summary.exit_code, summary.ending) == (130, "interrupted")
        assert 0 < summary.completed <= MOST_OPEN
        assert sum(server.renders.values()) == summary.completed
        again = await bench.run(experiment, server.url)
        assert again.completed == 9
        assert set(server.renders.values()) == {1}


async def test_stage_two_cancels_only_what_is_ours(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    stop = Stop()
    bench.watch(lambda event: stop.request(2) if isinstance(event, events.Started) else None)
    async with sandbox_with(latency=60) as server:
        summary = await bench.run(await bench.experiment(), server.url, stop=stop)
        assert (summary.exit_code, summary.ending, summary.completed) == (130, "cancelled", 0)
        statuses = {item.status for item in server.queue.items.values()}
        assert statuses == {"canceled"}
    async with sandbox_with() as server:
        again = await bench.run(await bench.experiment(), server.url)
        assert (again.exit_code, again.completed) == (0, 6)


async def test_a_run_broken_off_is_taken_up_where_the_server_is(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    """As after a kill: nothing is cancelled, the server renders on, and the next run adopts what it finds."""
    async with sandbox_with(latency=0.05) as server:
        async with anyio.create_task_group() as group:
            bench.watch(lambda event: group.cancel_scope.cancel() if isinstance(event, events.Started) else None)
            await bench.run(await bench.experiment(), server.url)
        heard: list[events.Event] = []
        bench.watch(heard.append)
        summary = await bench.run(await bench.experiment(), server.url)
        assert summary.completed == 6
        assert set(server.renders.values()) == {1}
        told = [event.index for event in heard if isinstance(event, events.Completed)]
        assert sorted(told) == sorted(set(told)) != []  # also that of a point that was looked at before it was taken up


async def test_failures_that_are_alike_end_the_run(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    experiment = await bench.experiment(axes__seed={"start": 1, "count": 10})
    async with sandbox_with(faults=FaultInjection(fail_rate=1.0)) as broken:
        summary = await bench.run(experiment, broken.url, options=replace(ONE_BY_ONE, alike=5))
    assert (summary.ending, summary.exit_code) == ("stopped-by-failures", 1)
    assert 5 <= summary.failed <= 5 + MOST_OPEN
    assert "failed alike" in summary.reason


async def test_a_limit_of_failures_ends_the_run(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    async with sandbox_with(faults=FaultInjection(fail_rate=1.0)) as broken:
        options = replace(AT_ONCE, failures=FailureLimit(count=2))
        summary = await bench.run(await bench.experiment(), broken.url, options=options)
    assert summary.ending == "stopped-by-failures"


async def test_nobody_there_is_an_error_before_anything_is_written(bench: Bench) -> None:
    with pytest.raises(ServerUnreachableError, match="does not answer"):
        await bench.run(await bench.experiment(), "http://127.0.0.1:9")


async def test_a_value_the_field_does_not_take_is_told_before_anything_is_sent(bench: Bench, sandbox: Sandbox) -> None:
    experiment = await bench.experiment(inputs__scheduler="eulr")
    with pytest.raises(PlanError, match="euler"):
        await bench.run(experiment, sandbox.url)
    assert not sandbox.renders
    assert not await anyio.Path(bench.root / "results" / "small").exists()


async def test_a_run_stopped_before_it_began_leaves_no_folder(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    folder, stop = anyio.Path(bench.root / "results" / "small"), Stop()
    async with sandbox_with(faults=FaultInjection(slow=1.0, slow_seconds=600)) as server:

        async def interrupt() -> None:
            while not await (folder / "journal.sqlite").exists():  # noqa: ASYNC110
                await anyio.sleep(0.005)
            stop.request(1)

        async with anyio.create_task_group() as group:
            group.start_soon(interrupt)
            with pytest.raises(StoppedError, match="before anything was sent"):
                await bench.run(await bench.experiment(), server.url, stop=stop)
    assert not await folder.exists()


async def test_a_shard_renders_its_part_only(bench: Bench, sandbox: Sandbox) -> None:
    done = 0
    for part in (1, 2, 3):
        summary = await bench.run(await bench.experiment(), sandbox.url, options=replace(AT_ONCE, shard=(part, 3)))
        done += summary.rendered
        assert summary.completed == done
    assert done == 6


async def test_seeds_given_by_count_are_drawn_once(bench: Bench, sandbox: Sandbox) -> None:
    experiment = await bench.experiment(axes__seed={"count": 2})
    first = await bench.run(experiment, sandbox.url)
    drawn = {row["seed"] for row in await rows(first.folder)}
    more = await bench.run(await bench.experiment(axes__seed={"count": 3}), sandbox.url)
    assert (more.completed, more.rendered) == (9, 3)
    assert drawn < {row["seed"] for row in await rows(more.folder)}


@pytest.mark.parametrize("how", ["deleted", "moved"])
async def test_a_results_folder_that_goes_meanwhile_ends_the_run(
    bench: Bench, sandbox_with: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What is written to a deleted file is lost in silence: better to stop at once than after a night."""
    monkeypatch.setattr(runner, "LOOK_EVERY", 0.05)
    folder, begun = bench.root / "results" / "small", anyio.Event()
    bench.watch(lambda event: begun.set() if isinstance(event, events.Completed) else None)

    async def interfere() -> None:
        await begun.wait()
        if how == "deleted":
            await anyio.to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))
        else:
            await anyio.Path(folder).rename(bench.root / "elsewhere")

    async with sandbox_with(latency=0.2) as server, anyio.create_task_group() as group:
        group.start_soon(interfere)
        experiment = await bench.experiment(axes__seed={"start": 1, "count": 100})  # a minute's work, one by one
        summary = await bench.run(experiment, server.url, options=ONE_BY_ONE)
    assert (summary.exit_code, summary.ending) == (4, "record-broken")
    assert "was moved or deleted while the run was writing to it" in summary.reason
    assert 0 < summary.rendered < 300


async def test_a_listener_that_fails_fails_as_itself_and_costs_nothing(bench: Bench, sandbox: Sandbox) -> None:
    def fail(event: events.Event) -> None:
        if isinstance(event, events.Completed):
            raise ZeroDivisionError("in a listener")

    bench.watch(fail)
    with pytest.raises(ZeroDivisionError, match="in a listener"):
        await bench.run(await bench.experiment(), sandbox.url)
    bench.watch(lambda _: None)
    summary = await bench.run(await bench.experiment(), sandbox.url)
    assert (summary.exit_code, summary.completed) == (0, 6)
    assert set(sandbox.renders.values()) == {1}


def kept_sources(folder: Path) -> list[tuple[str, int]]:
    """Mode and EXIF orientation of each input image that the folder keeps."""
    found = []
    for path in set(RecordedResults.open(folder).sources.values()):
        with Image.open(path) as kept:
            found.append((kept.mode, kept.getexif().get(0x0112, 1)))
    return found


async def test_photographs_of_every_kind_are_rendered_and_kept_upright(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    def photographs() -> None:
        picture = Image.linear_gradient("L").resize((128, 64)).convert("RGB")
        turned = Image.Exif()
        turned[0x0112] = 6
        picture.save(bench.root / "turned.jpg", exif=turned)
        picture.convert("CMYK").save(bench.root / "cmyk.jpg")

    await anyio.to_thread.run_sync(photographs)
    axes = {"image": ["turned.jpg", "cmyk.jpg"]}
    experiment = await bench.experiment(inputs={"prompt": "a cup", "steps": 2}, axes=axes)

    async with sandbox_with(paint=True) as sandbox:
        summary = await bench.run(experiment, sandbox.url)

    assert (summary.exit_code, summary.completed) == (0, 2)
    sizes = {row["image"]: (row["width"], row["height"]) for row in await rows(summary.folder)}
    assert sizes == {"turned.jpg": ("64", "128"), "cmyk.jpg": ("128", "64")}
    assert await anyio.to_thread.run_sync(kept_sources, summary.folder) == [("RGB", 1), ("RGB", 1)]


async def test_a_run_without_a_server_is_refused(bench: Bench) -> None:
    with pytest.raises(UsageError, match="at least one server"):
        await bench.run(await bench.experiment())


async def test_the_table_follows_an_edit_and_a_kill_though_nothing_is_rendered(
    bench: Bench, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def count_rows(**changes: Any) -> int:
        summary = await bench.run(await bench.experiment(**changes), sandbox.url)
        return len(await rows(summary.folder))

    assert await count_rows() == 6
    assert await count_rows(axes__denoise_strength=[0.2]) == 2
    with monkeypatch.context() as patch:  # as where the disk is full, or the process dies
        patch.setattr(runner, "write_tables", fail_to_write)
        await bench.run(await bench.experiment(), sandbox.url)
    assert await count_rows() == 6
    assert sum(sandbox.renders.values()) == 6


def fail_to_write(_: Path) -> None:
    raise DiskFullError("full")
