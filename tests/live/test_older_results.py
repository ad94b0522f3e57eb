"""A results folder that an older version wrote against this InvokeAI resumes without rendering anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sweep.engine import run
from sweep.experiment import Experiment
from sweep.record import RecordedResults
from tests.support.older_results import copy_older_results


def test_older_results_resume_without_rendering_and_keep_all_keys(live_server: str, tmp_path: Path) -> None:
    folder = copy_older_results("invokeai-img2img", tmp_path)
    keys = [row["key"] for row in RecordedResults.open(folder).rows()]
    experiment = Experiment.load(tmp_path / "invokeai-img2img.yaml")
    summary = asyncio.run(run(experiment, [live_server], results=folder.parent))

    assert (summary.completed, summary.rendered) == (4, 0)
    assert [row["key"] for row in RecordedResults.open(folder).rows()] == keys
