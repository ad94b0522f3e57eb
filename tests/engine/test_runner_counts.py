"""What a run costs in counts: requests, polls, commits, model loads, bytes, doubles. Nothing is timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from sweep.engine.runner import Runner, run
from sweep.engine.shutdown import Stop
from sweep.engine.startup import prepare
from sweep.record import RecordedResults
from sweep.sandbox.running_sandbox import Sandbox
from sweep.servers import ConnectOptions, connect
from sweep.servers.http import Timings
from tests.support.engine_bench import AT_ONCE, Bench

POINTS = 18
Q = "/api/v1/queue/{queue_id}"
SUBMITTED = f"POST {Q}/enqueue_batch"
FETCHED = "GET /api/v1/images/i/{name}/full"
POLLS = (f"POST {Q}/item_summaries_by_ids", f"GET {Q}/b/{{batch_id}}/status", f"GET {Q}/i/{{item_id}}")

pytestmark = pytest.mark.usefixtures("loop_may_not_block")


async def _counted(bench: Bench, server: Sandbox, points: int = POINTS, **options: Any) -> Counter[str]:
    """Requests of a run beyond those of a run that finds nothing to do, with the waiting times people have."""
    experiment = await bench.experiment(axes__seed={"start": 1, "count": points // 3})
    summary = await bench.run(experiment, server.url, options=replace(AT_ONCE, **options), timings=Timings())
    assert summary.rendered == points
    whole = Counter(server.requests)
    await bench.run(experiment, server.url, options=replace(AT_ONCE, **options), timings=Timings())
    start = server.requests - whole
    return whole - start


async def test_a_variation_takes_two_requests(bench: Bench, sandbox: Sandbox) -> None:
    """One that submits it and one that brings its image. What came of it, the socket told."""
    counted = await _counted(bench, sandbox, fuse=1)
    checked = counted[SUBMITTED] - POINTS  # each value of each axis, once, before anything is queued
    assert 0 <= checked <= 3 + POINTS // 3
    assert counted[FETCHED] == POINTS
    asked = sum(counted[poll] for poll in POLLS)
    assert asked < 0.1 * POINTS


async def test_a_fused_variation_takes_one_request_and_its_share_of_another(bench: Bench, sandbox: Sandbox) -> None:
    counted = await _counted(bench, sandbox, fuse=10, concurrency=1)
    items = len(sandbox.queue.items)
    assert items <= POINTS // 10 + 2  # the last ones are smaller
    assert counted[FETCHED] == POINTS
    assert sum(counted[poll] for poll in POLLS) < 0.1 * POINTS
    assert set(sandbox.renders.values()) == {1}


async def test_every_image_is_sent_once_and_kept_as_it_was_sent(bench: Bench, sandbox: Sandbox) -> None:
    experiment = await bench.experiment()
    summary = await bench.run(experiment, sandbox.url)
    table = await anyio.to_thread.run_sync(lambda: RecordedResults.open(summary.folder).table())
    kept = await anyio.to_thread.run_sync(_read, summary.folder, list(table["image_path"]))
    sent = [await sandbox.images.read_content(name) for name in table["image_name"]]
    assert sandbox.requests[FETCHED] == len(table) == len(set(sent)) == 6
    assert kept == sent
    assert set(sandbox.renders.values()) == {1}


def _read(folder: Path, paths: list[str]) -> list[bytes]:
    return [(folder / path).read_bytes() for path in paths]


async def test_models_are_loaded_once_each(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    """The definition has the model fastest; it is rendered slowest."""
    async with sandbox_with(models=("sd-1", "sd-1-b")) as server:
        names = [model.name for model in server.models.values() if model.type == "main"]
        experiment = await bench.experiment(axes={"seed": {"start": 1, "count": 6}, "model": names})
        summary = await bench.run(experiment, server.url)
        assert summary.completed == 12
        assert dict(server.workers.model_loads) == dict.fromkeys(names, 1)


@pytest.mark.slow
async def test_many_variations_at_once_share_their_commits(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    """Four steps of a variation are durable before they are told; those of neighbours are made durable together."""
    experiment = await bench.experiment(axes__seed={"start": 1, "count": POINTS // 3})
    options = replace(AT_ONCE, concurrency=POINTS)
    async with sandbox_with(workers=4) as server:
        clients = [connect(server.url)]
        async with prepare(experiment, clients, bench.root / "results", options, lambda _: None) as context:
            before = context.journal.commits
            await Runner(context, Stop()).run()
            commits = context.journal.commits - before
    assert commits < 4 * POINTS


async def test_without_the_socket_it_is_asked_in_one_request_for_all(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    """Events that never come cost polls, but no more for eighteen items than for one."""
    async with sandbox_with() as deaf:
        deaf.events.send = _silent
        clients = [connect(deaf.url, ConnectOptions(timings=Timings(poll_listening=0.2, poll_deaf=0.2)))]
        experiment = await bench.experiment(axes__seed={"start": 1, "count": POINTS // 3})
        options = replace(AT_ONCE, concurrency=POINTS)
        began = anyio.current_time()
        summary = await run(experiment, clients, options=options, results=bench.root / "results")
        assert summary.completed == POINTS
        assert deaf.requests[POLLS[0]] <= 1 + (anyio.current_time() - began) / 0.2
        assert set(deaf.renders.values()) == {1}


async def _silent(*_: object, **__: object) -> None:
    return None
