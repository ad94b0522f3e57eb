"""Room on the disk is looked at before a run and while it goes on."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import anyio
import pytest

from sweep import record
from sweep.engine import startup as space
from sweep.errors import DiskFullError, RecordError
from sweep.sandbox.running_sandbox import Sandbox
from tests.support.engine_bench import Bench


def test_what_will_not_fit_is_said_with_both_numbers() -> None:
    space.require_space(space.RESERVE + 10, 10, "results/x")
    with pytest.raises(DiskFullError, match=r"results/x: the images will take about 5\.0 GB and 100 MB are free"):
        space.require_space(100_000_000, 5_000_000_000 - space.RESERVE, "results/x")


async def test_a_run_is_told_when_little_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("results/x")
    monkeypatch.setattr(record, "free_bytes", lambda _: 1_000_000)
    error = await space.wait_for_shortage(folder)
    assert (error.exit_code, error.message) == (4, "results/x: only 1 MB are free, too little to go on.")
    monkeypatch.setattr(record, "free_bytes", lambda _: space.RESERVE)
    with anyio.move_on_after(0.05) as waiting:
        await space.wait_for_shortage(folder)
    assert waiting.cancelled_caught


async def test_a_sweep_larger_than_the_disk_is_refused_before_anything_is_sent(bench: Bench, sandbox: Sandbox) -> None:
    huge = await bench.experiment(
        inputs__width=4096,
        inputs__height=4096,
        axes__seed={"start": 0, "count": 50_000_000},
        axes__denoise_strength=[0.5],
    )
    with pytest.raises(DiskFullError, match="the images will take about"):
        await bench.run(huge, sandbox.url)
    assert not sandbox.renders


async def test_a_disk_that_fails_is_an_error_of_the_record(
    bench: Bench, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the space is looked at while a run goes on, and where it keeps what it fetched."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    experiment = await bench.experiment()
    monkeypatch.setattr(space, "keep_fetched", fail)
    with pytest.raises(DiskFullError):
        await bench.run(experiment, sandbox.url)
    monkeypatch.setattr(shutil, "disk_usage", fail)
    with pytest.raises(RecordError, match="could not be read"):
        await space.wait_for_shortage(bench.root)
