"""How soon the command line answers."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.processes import command

NAME = "start"
QUICKSTART = Path(__file__).parent.parent / "experiments" / "quickstart.yaml"
ROUNDS = 7


def measure() -> list[Figure]:
    """Take the quickest of some starts, files cached."""
    return [
        _start("sweep --help", _quickest("--help"), 0.4),
        _start("sweep plan experiments/quickstart.yaml", _quickest("plan", str(QUICKSTART)), 1.0),
        _start("python -c pass, for comparison", _python(), None),
    ]


def _start(name: str, value: float, goal: float | None) -> Figure:
    return Figure(benchmark=NAME, name=name, value=value, unit="s", goal=goal)


def _quickest(*arguments: str) -> float:
    return min(command(*arguments).seconds for _ in range(ROUNDS))


def _python() -> float:
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        times.append(time.perf_counter() - begun)
    return min(times)
