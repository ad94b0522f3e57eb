"""A client in a process of its own: runs a small experiment at each address that it reads, several at once.

Usage: python -m tests.support.mutation_client FOLDER RUNS_AT_ONCE READ_SECONDS

An address a line in, a line of JSON out as each run ends.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import anyio

from sweep.engine import RunOptions, run
from sweep.engine.run_options import Backoff
from sweep.errors import SweepError
from sweep.experiment import Experiment
from sweep.servers import ConnectOptions, connect
from sweep.servers.http import Timings

TIMINGS = Timings(
    read=float(sys.argv[3]),
    retry=0.01,
    poll_listening=0.3,
    poll_deaf=0.05,
    reconnect=0.05,
    reconnect_most=0.2,
    patience=1,
    gone=0.3,
)
OPTIONS = RunOptions(backoff=Backoff(base=0.01, cap=0.05), attempts=2, patience=2.0, takeover_after=0.0)
AT_ONCE = int(sys.argv[2])


async def run_at(url: str, folder: Path, number: int) -> str:
    definition: dict[str, Any] = {
        "name": f"m{number}",
        "workflow": "img2img",
        "inputs": {"image": "photo.png", "prompt": "a cup", "steps": 1, "width": 64, "height": 64},
        "axes": {"seed": [number * 10, number * 10 + 1]},
    }
    experiment = await anyio.to_thread.run_sync(Experiment.from_dict, definition, folder)
    servers = [connect(url, ConnectOptions(timings=TIMINGS))]
    summary = await run(experiment, servers, options=OPTIONS, results=folder / "results")
    return summary.ending


async def try_at(url: str, folder: Path, number: int, limiter: anyio.CapacityLimiter) -> None:
    async with limiter:
        begun = time.monotonic()
        answer: dict[str, Any] = {"url": url, "traceback": ""}
        try:
            answer["outcome"] = await run_at(url, folder, number)
        except SweepError as error:
            answer["outcome"] = f"{type(error).__name__}: {error.message}"
        except Exception:  # noqa: BLE001  what the test is about
            answer |= {"outcome": "exception", "traceback": traceback.format_exc()}
        answer["seconds"] = time.monotonic() - begun
        answer["megabytes"] = read_peak()
        print(json.dumps(answer), flush=True)


def read_peak() -> float:
    """Read the peak of this process's memory in MB; `ru_maxrss` would hold that of the process that started it."""
    line = next(line for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines() if "VmHWM" in line)
    return int(line.split()[1]) / 1000


async def try_all(folder: Path, urls: list[str]) -> None:
    limiter = anyio.CapacityLimiter(AT_ONCE)
    async with anyio.create_task_group() as group:
        for number, url in enumerate(urls):
            group.start_soon(try_at, url, folder, number, limiter)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    anyio.run(try_all, Path(sys.argv[1]), sys.stdin.read().split())
