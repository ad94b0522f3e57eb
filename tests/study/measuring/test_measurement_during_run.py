"""Measuring costs a run nothing and a person's Ctrl-C no more than a moment."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE

import anyio
import anyio.to_thread
import pandas as pd
import pytest
from anyio.streams.text import TextReceiveStream
from PIL import Image

from sweep.engine import run
from sweep.experiment import Experiment
from sweep.sandbox import sandbox_server
from sweep.types import Scalar
from tests.support.odd_metrics import BRIGHTNESS, gated
from tests.support.study_folders import measure
from tests.support.study_images import photo, write_results


def cats(count: int, folder: Path) -> Experiment:
    definition = {
        "name": "both",
        "workflow": "txt2img",
        "inputs": {"prompt": "a cat", "steps": 4, "width": 64, "height": 64},
        "axes": {"seed": {"start": 1, "count": count}},
    }
    return Experiment.from_dict(definition, folder)


@pytest.fixture
def experiments(tmp_path: Path) -> tuple[Experiment, Experiment]:
    """Four cats, and eight more."""
    return cats(4, tmp_path), cats(12, tmp_path)


@pytest.mark.slow
async def test_a_run_goes_on_to_its_end_whatever_measuring_does(
    tmp_path: Path, experiments: tuple[Experiment, Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker hangs in the middle of the first image; everything is submitted, rendered and downloaded meanwhile."""
    gate = tmp_path / "gate"
    monkeypatch.setenv("SWEEP_TEST_GATE", str(gate))
    gate.touch()
    os.mkfifo(f"{gate}.reached")
    few, more = experiments
    tables: list[pd.DataFrame] = []

    async def look() -> None:
        tables.append(await measure(tmp_path / "both", metrics=[replace(BRIGHTNESS, function=gated)], workers=1))

    with gate.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        async with sandbox_server() as sandbox, anyio.create_task_group() as group:
            await run(few, [sandbox.url], results=tmp_path)
            group.start_soon(look)
            reached = await anyio.to_thread.run_sync(lambda: os.open(f"{gate}.reached", os.O_RDONLY))
            summary = await run(more, [sandbox.url], results=tmp_path)
            during = len(tables)
            fcntl.flock(held, fcntl.LOCK_UN)
        os.close(reached)

    assert (summary.completed, summary.rendered, during) == (12, 8, 0)
    assert tables[0]["brightness"].notna().sum() == 4  # what was there when it began


MEASURES = """
import sys
from sweep.cli import console

class PrintedCount(console.MeasuringBar):
    def __call__(self, done, total):
        print(done, flush=True)

console.MeasuringBar = PrintedCount
from sweep.cli.main import run_cli
sys.exit(run_cli(["study", sys.argv[1], "--workers", "2"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
async def test_nothing_outlives_the_command(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    """Workers hold the command's stderr, so its end is theirs. Ctrl-C goes to all of them, as a terminal sends it."""
    points: list[dict[str, Scalar]] = [{"seed": seed} for seed in range(300)]

    def paint(values: Mapping[str, Scalar]) -> Image.Image:
        return photo(int(values["seed"] or 0), 32, 32)

    folder = await write_results(tmp_path / "r", points, paint, kinds={"seed": "seed"})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", MEASURES, str(folder)]
    async with await anyio.open_process(command, env=environment, stderr=PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        seen = ""
        async for text in TextReceiveStream(process.stdout):
            seen += text
            if seen.count("\n") >= 20:
                break
        if sent is signal.SIGINT:
            os.killpg(process.pid, sent)
        else:
            process.send_signal(sent)
        errors = "".join([text async for text in TextReceiveStream(process.stderr)])

    assert process.returncode == code
    assert "Traceback" not in errors
    if sent is signal.SIGINT:
        assert errors.splitlines() == [
            "Interrupted. The values measured so far are kept; run the same command to measure the rest."
        ]
