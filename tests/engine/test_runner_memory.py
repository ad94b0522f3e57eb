"""What is in memory is what is in flight, however many points there are."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sweep.engine import events
from sweep.plan import Instance
from tests.support.engine_bench import AT_ONCE, Bench

SLOTS = 3
ASKED_TOGETHER = 16  # the points that come next, about which the record is asked in one go


@pytest.mark.slow
async def test_tasks_and_instances_are_as_many_as_are_in_flight(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    """Beside those that come next, about which the record is asked in one go; downloads hold a place of their own."""
    most = {"tasks": 0, "instances": 0}
    async with sandbox_with(latency=0.001) as server:
        around = len(asyncio.all_tasks())

        def watch(event: events.Event) -> None:
            if isinstance(event, events.Completed) and event.index % 40 == 39:
                gc.collect()
                alive = sum(isinstance(thing, Instance) for thing in gc.get_objects())
                most["instances"] = max(most["instances"], alive)
                most["tasks"] = max(most["tasks"], len(asyncio.all_tasks()) - around)

        bench.watch(watch)
        experiment = await bench.experiment(axes__seed={"start": 1, "count": 40})
        options = replace(AT_ONCE, concurrency=SLOTS, downloads=2, fuse=1)
        summary = await bench.run(experiment, server.url, options=options)
    assert summary.completed == 120
    places = 2 * SLOTS + 4 * 2
    assert most["instances"] <= places + 2 + ASKED_TOGETHER
    assert most["tasks"] <= 2 * places + 20
