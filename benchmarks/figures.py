"""What a benchmark gives: figures with their goals, and the machine they were measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number. `goal` is the bound it should keep: at least where `more` is better, else at most."""

    benchmark: str
    name: str
    value: float
    unit: str = ""
    goal: float | None = None
    more: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.more else self.value <= self.goal


def machine() -> dict[str, str]:
    """Where and when, in words."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": str(os.cpu_count() or 1),
        "processor": _processor(),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> str:
    info = Path("/proc/meminfo")
    if info.is_file():
        return f"{round(int(info.read_text().split()[1]) / 2**20)} GiB"
    return "unknown"


def markdown(figures: Iterable[Figure], about: dict[str, str]) -> str:
    """Write the table for the README, with the machine above it."""
    head = (
        f"Measured {about['date']} on {about['cores']} cores ({about['processor']}), {about['memory']}, "
        f"{about['system']}, Python {about['python']}."
    )
    rows = [_row(figure) for figure in figures]
    table = ["| benchmark | figure | measured | goal | |", "|---|---|---:|---:|---|", *rows]
    return "\n".join([head, "", *table])


def _row(figure: Figure) -> str:
    goal = "" if figure.goal is None else f"{'≥' if figure.more else '≤'} {_number(figure.goal)} {figure.unit}".strip()
    met = {None: "", True: "met", False: "**not met**"}[figure.met]
    value = f"{_number(figure.value)} {figure.unit}".strip()
    name = f"{figure.name} ({figure.note})" if figure.note else figure.name
    return f"| {figure.benchmark} | {name} | {value} | {goal} | {met} |"


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def as_json(figures: Sequence[Figure], about: dict[str, str]) -> dict[str, Any]:
    """Everything, for a file."""
    return {"machine": about, "figures": [{**asdict(figure), "met": figure.met} for figure in figures]}
