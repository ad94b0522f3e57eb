"""Memory of a client over 100,000 points: as much after the last tenth as after the first.

`python -m benchmarks.memory [POINTS]`; about five minutes for 100,000.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import anyio

from benchmarks.figures import Figure
from benchmarks.processes import MILLION, in_process, sandboxes
from benchmarks.rendering import definition
from sweep.engine import RunOptions, events, run
from sweep.experiment import Experiment
from sweep.sandbox import SandboxOptions

POINTS = 100_000
FEWER = 10_000  # where all benchmarks run one after the other
PER_ITEM = 32  # variations an item: a hundred thousand single ones would measure the sandbox


def resident() -> float:
    """MB this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MILLION


def tenths(points: int, url: str, root: str) -> list[float]:
    """MB in memory after each tenth of the points."""
    experiment = Experiment.from_dict(definition("memory", points), Path(root))
    seen: list[float] = []
    done = 0

    def hear(event: events.Event) -> None:
        nonlocal done
        if isinstance(event, events.Completed):
            done += 1
            if done % (points // 10) == 0:
                seen.append(resident())

    async def go() -> None:
        options = RunOptions(fuse=PER_ITEM, concurrency=4)
        await run(experiment, [url], options=options, results=Path(root), listener=hear)

    anyio.run(go)
    return seen


def measure() -> list[Figure]:
    """In MB; what counts is that the last is no more than the first."""
    with tempfile.TemporaryDirectory() as root, sandboxes([SandboxOptions(paint=False)]) as (url,):
        seen = in_process(tenths, FEWER, url, root).value
    about = f"of {FEWER:,} points"
    return [
        Figure(benchmark="memory", name=f"after the first tenth {about}", value=seen[0], unit="MB"),
        Figure(benchmark="memory", name=f"after the last tenth {about}", value=seen[-1], unit="MB"),
    ]


def main(points: int) -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as root, sandboxes([SandboxOptions(paint=False)]) as (url,):
        measured = in_process(tenths, points, url, root)
    print(f"{points} points in {measured.seconds:.0f} s; MB after each tenth: "
          f"{' '.join(f'{each:.0f}' for each in measured.value)}; at most {measured.peak:.0f} MB")  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else POINTS)
