"""A ComfyUI forgets its queue when it dies: a point of which it dies has its attempts and no more."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sweep.experiment import Experiment
from sweep.record import RecordedResults
from tests.support.engine_bench import Bench
from tests.support.fake_comfyui import fake_comfyui

DEADLY = 3
GRAPH = {
    "a": {"class_type": "EmptyImage", "inputs": {"width": 8, "color": 0}},
    "out": {"class_type": "SaveImage", "inputs": {"images": ["a", 0]}},
}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def colours(bench: Bench) -> Experiment:
    """Six images of one colour each."""
    (bench.root / "colours.json").write_text(json.dumps(GRAPH), encoding="utf-8")
    axes = {"a.color": {"start": 0, "stop": 5, "step": 1}}
    return Experiment.from_dict({"name": "small", "workflow": "colours.json", "axes": axes}, bench.root)


def read_outcomes(bench: Bench) -> list[tuple[Any, str, int]]:
    """Return colour, status and attempts of the points that did not complete, and count the others."""
    rows: list[Any] = list(RecordedResults.open(bench.root / "results" / "small").rows())
    assert Counter(row["status"] for row in rows) == {"completed": 5, "failed": 1}
    return [(row["a.color"], row["status"], row["attempts"]) for row in rows if row["status"] != "completed"]


async def test_a_server_that_dies_of_one_point_fails_that_point_alone(bench: Bench) -> None:
    experiment = await asyncio.to_thread(colours, bench)
    async with fake_comfyui() as fake:
        fake.renders, fake.deadly = True, DEADLY
        await bench.run(experiment, fake.url)
        assert await asyncio.to_thread(read_outcomes, bench) == [(DEADLY, "failed", 4)]
        assert fake.deaths == 4


async def test_deaths_are_counted_over_restarts_of_the_client(bench: Bench) -> None:
    experiment = await asyncio.to_thread(colours, bench)
    async with fake_comfyui() as fake:
        fake.renders, fake.deadly = True, DEADLY
        for deaths in (1, 2):
            run = asyncio.create_task(bench.run(experiment, fake.url))
            for _ in range(deaths):
                await fake.died.acquire()
            run.cancel()
            await asyncio.wait([run])
        await bench.run(experiment, fake.url)
        assert await asyncio.to_thread(read_outcomes, bench) == [(DEADLY, "failed", 4)]
        assert fake.deaths == 4
