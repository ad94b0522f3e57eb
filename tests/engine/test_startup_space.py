"""Room on the disk is looked at before a run and while it goes on."""

from __future__ import annotations

import errno
import shutil

import pytest

from sweep.engine import runner, startup
from sweep.engine.startup import RESERVE
from sweep.errors import DiskFullError, RecordError
from sweep.sandbox.running_sandbox import Sandbox
from tests.support.engine_bench import ONE_BY_ONE, Bench


async def test_a_run_is_told_when_little_is_left(
    bench: Bench, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins nothing more; with space again, the same command goes on."""
    experiment = await bench.experiment(axes__seed={"start": 0, "count": 20})
    monkeypatch.setattr(runner, "free_bytes", lambda _: 1_000_000)
    summary = await bench.run(experiment, sandbox.url, options=ONE_BY_ONE)
    assert (summary.exit_code, summary.completed < 60) == (4, True)
    assert summary.reason.endswith("small: only 1 MB are free, too little to go on.")
    monkeypatch.setattr(runner, "free_bytes", lambda _: RESERVE)
    assert (await bench.run(experiment, sandbox.url)).exit_code == 0


async def test_a_sweep_larger_than_the_disk_is_refused_before_anything_is_sent(bench: Bench, sandbox: Sandbox) -> None:
    huge = await bench.experiment(
        inputs__width=4096,
        inputs__height=4096,
        axes__seed={"start": 0, "count": 50_000_000},
        axes__denoise_strength=[0.5],
    )
    with pytest.raises(
        DiskFullError, match=r"small: the images will take about [\d,.]+ [TP]B and [\d.]+ [GT]B are free"
    ):
        await bench.run(huge, sandbox.url)
    assert not sandbox.renders


async def test_a_disk_that_fails_is_an_error_of_the_record(
    bench: Bench, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the space is looked at, and where it keeps what it fetched."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    experiment = await bench.experiment()
    with monkeypatch.context() as patch:
        patch.setattr(startup, "keep_fetched", fail)
        with pytest.raises(DiskFullError):
            await bench.run(experiment, sandbox.url)
    monkeypatch.setattr(shutil, "disk_usage", fail)
    with pytest.raises(RecordError, match="could not be read"):
        await bench.run(experiment, sandbox.url)
