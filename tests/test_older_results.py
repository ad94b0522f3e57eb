"""Results folders that an older version wrote open, give the same table, and resume without rendering anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sweep.engine import RunSummary, run
from sweep.experiment import Experiment
from sweep.record import CSV, RecordedResults, write_tables
from sweep.sandbox import SandboxOptions, sandbox_server
from tests.support.older_results import OLDER_RESULTS, copy_older_results


@pytest.fixture(params=OLDER_RESULTS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a results folder, to be written to."""
    return copy_older_results(request.param, tmp_path)


def test_older_results_give_the_same_table(folder: Path) -> None:
    before = (folder / CSV).read_text(encoding="utf-8")
    (folder / CSV).unlink()
    write_tables(folder)

    assert (folder / CSV).read_text(encoding="utf-8") == before
    assert RecordedResults.open(folder).verify() == []


def test_older_results_resume_without_rendering_and_keep_all_keys(folder: Path) -> None:
    keys = [row["key"] for row in RecordedResults.open(folder).rows()]
    models = ("tiny-sd:sd-1:main",) if folder.name.startswith("invokeai") else ("sd-1",)
    experiment = Experiment.load(folder.parents[1] / f"{folder.name}.yaml")

    async def resume() -> tuple[RunSummary, dict[str, int]]:
        async with sandbox_server(SandboxOptions(models=models)) as sandbox:
            return await run(experiment, [sandbox.url], results=folder.parent), dict(sandbox.renders)

    summary, renders = asyncio.run(resume())
    assert (summary.completed, summary.rendered, renders) == (len(keys), 0, {})
    assert [row["key"] for row in RecordedResults.open(folder).rows()] == keys
