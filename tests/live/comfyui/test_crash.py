"""Exactly once, by the files on the server's disk: clients and servers are killed without a goodbye."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import sweep
from sweep.servers import ConnectOptions, connect
from tests.support.live_comfyui import LiveComfyUI
from tests.support.scenes import PATIENT

POINTS = 12
EXPERIMENT = """\
name: live
workflow: txt2img
inputs: {model: tiny-sd, prompt: a cup, width: 64, height: 64, steps: 2}
axes: {seed: {start: 1, count: %d}}
"""


def started(folder: Path, server: LiveComfyUI) -> subprocess.Popen[bytes]:
    """A run in a process of its own, to be killed."""
    command = [sys.executable, "-m", "sweep", "run", "experiment.yaml", "--server", server.url]
    return subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(Path(sweep.__file__).parents[1])})


def wait_for(server: LiveComfyUI, images: int) -> None:
    until = time.monotonic() + 120
    while len(server.saved) < images and time.monotonic() < until:
        time.sleep(0.05)


def test_a_killed_client_renders_nothing_twice(own_comfyui: LiveComfyUI, tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT % POINTS, encoding="utf-8")
    for kill in range(1, 4):
        process = started(tmp_path, own_comfyui)
        wait_for(own_comfyui, kill * 3)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert started(tmp_path, own_comfyui).wait() == 0

    table = sweep.Results.open(tmp_path / "results" / "live").table()
    assert list(table["status"]) == ["completed"] * POINTS
    assert len(own_comfyui.saved) == POINTS


def test_what_a_killed_server_had_finished_is_fetched_from_its_disk(own_comfyui: LiveComfyUI, tmp_path: Path) -> None:
    experiment = sweep.Experiment.from_text(EXPERIMENT % POINTS, tmp_path)

    async def run_and_kill() -> None:
        server = connect(own_comfyui.url, ConnectOptions(timings=PATIENT))
        running = asyncio.create_task(sweep.run(experiment, [server], results=tmp_path / "results"))
        for images in (4, 8):
            await asyncio.to_thread(wait_for, own_comfyui, images)
            await asyncio.to_thread(own_comfyui.kill)
            await asyncio.to_thread(own_comfyui.start)
        await running

    asyncio.run(run_and_kill())
    table = sweep.Results.open(tmp_path / "results" / "live").table()
    assert list(table["status"]) == ["completed"] * POINTS
    assert len(own_comfyui.saved) == POINTS
