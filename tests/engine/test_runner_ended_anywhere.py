"""A run ended at any named point by its caller or by a stop: the lock is free, nothing is lost, nothing made twice.

The process lives on, as it does in a notebook. For processes that die there see tests/faults/test_crash_points.py.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import CoroutineType
from typing import Any, Literal

import anyio
import anyio.to_thread
import pytest

from sweep.engine.attempt import ENGINE_POINTS
from sweep.engine.runner import run
from sweep.engine.shutdown import Stop
from sweep.errors import StoppedError
from sweep.record import Checkpoint
from sweep.sandbox.running_sandbox import Sandbox
from sweep.servers import ConnectOptions, connect
from tests.support.crash_points import IMAGE_POINTS
from tests.support.engine_bench import AT_ONCE, QUICK, Bench

WRITES = ("begin_run", "intend", "mark_submitted", "mark_rendered", "complete")
ONE_EACH = replace(AT_ONCE, fuse=1)  # so that the items that completed are the renders
POINTS = (*ENGINE_POINTS, *IMAGE_POINTS, *(f"{name}.{step}-commit" for name in WRITES for step in ("before", "after")))
How = Literal["cancelled", "stage 1", "stage 2"]


async def end_at(point: str, how: How, bench: Bench, server: Sandbox) -> bool:
    """A run that is ended when it comes to `point`; whether it came there."""
    loop, stop, came = asyncio.get_running_loop(), Stop(), False
    experiment = await bench.experiment(axes__seed={"start": 1, "count": 16})
    client = connect(server.url, ConnectOptions(timings=QUICK))
    with anyio.CancelScope() as scope, suppress(StoppedError):
        end: dict[How, Callable[[], object]] = {
            "cancelled": scope.cancel,
            "stage 1": partial(stop.request, 1),
            "stage 2": partial(stop.request, 2),
        }

        def checkpoint(name: str) -> None:
            nonlocal came
            if name == point and not came:
                came = True
                loop.call_soon_threadsafe(end[how])  # many points are passed in other threads

        await call(experiment, client, bench, stop, checkpoint)
    return came


async def call(experiment: Any, client: Any, bench: Bench, stop: Stop, checkpoint: Checkpoint) -> None:
    results = bench.root / "results"
    await run(experiment, [client], options=ONE_EACH, results=results, stop=stop, checkpoint=checkpoint)


def left_behind() -> list[str]:
    """Tasks of the run's own code that are still there; the sandbox has some of its own in this loop."""
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    files = [coroutine.cr_code.co_filename for coroutine in coroutines if isinstance(coroutine, CoroutineType)]
    return [file for file in files if re.search(r"sweep/(engine|servers|record)/", file)]


def read_batches(folder: Path) -> list[str]:
    """Read the batch from which each completed point has its image; each batch is one item here."""
    with closing(sqlite3.connect(folder / "journal.sqlite")) as db:
        rows = db.execute("SELECT batch_id FROM attempts WHERE state = 'completed'").fetchall()
    return [batch for (batch,) in rows]


def every_point(how: How) -> Any:
    """Minutes on a busy machine; each third point is always tried."""
    return pytest.param(how, POINTS, marks=pytest.mark.full, id=f"{how} everywhere")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "points"),
    [("stage 2", POINTS[::3]), *(every_point(how) for how in ("cancelled", "stage 1", "stage 2"))],
)
async def test_ended_at_one_point_after_the_other(
    bench: Bench, sandbox_with: Callable[..., Any], how: How, points: tuple[str, ...]
) -> None:
    async with sandbox_with(latency=0.005) as server:
        for point in points:
            assert await end_at(point, how, bench, server), f"it never came to {point}: too few points"
            assert left_behind() == []
        many = await bench.experiment(axes__seed={"start": 1, "count": 16})
        summary = await bench.run(many, server.url, options=ONE_EACH)
        assert (summary.exit_code, summary.completed, summary.points) == (0, 48, 48)
        batches = {item.batch_id: item for item in server.queue.items.values()}
        sources = [batches[batch] for batch in await anyio.to_thread.run_sync(read_batches, summary.folder)]
        assert len({item.item_id for item in sources}) == len(server.renders) == 48
        items = server.queue.items.values()
        assert all(item in sources for item in items if item.status == "completed"), "an image rendered twice"
        kept = [item.status for item in sources if item.status != "completed"]  # cancelled when its image was made
        assert set(kept) <= ({"canceled"} if how == "stage 2" else set())
        assert how == "stage 2" or set(server.renders.values()) == {1}  # what is cancelled half-way is counted there
