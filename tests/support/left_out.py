"""What a run of the tests leaves out, told in one line each at its end, also when several processes run them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

LINES = pytest.StashKey[list[str]]()


def leave_out(config: pytest.Config, items: list[pytest.Item], gone: list[pytest.Item], why: str) -> None:
    """Deselect `gone`, and have the end of the run say how many they were and `why`."""
    if not gone:
        return
    leaving = set(gone)
    config.hook.pytest_deselected(items=gone)
    items[:] = [item for item in items if item not in leaving]
    config.stash.setdefault(LINES, []).append(f"left out: {len(gone)} {why}")


def send_lines(config: pytest.Config) -> None:
    """In a worker process of pytest-xdist: hand the lines to the process that writes the summary."""
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_out"] = config.stash.get(LINES, [])


def receive_lines(node: Any) -> None:
    """In the process that writes the summary: take a worker's lines; all workers say the same."""
    lines = node.config.stash.setdefault(LINES, [])
    lines.extend(line for line in getattr(node, "workeroutput", {}).get("left_out", []) if line not in lines)


def mark_rest_slow(cases: Iterable[Any], quick: int = 1) -> list[Any]:
    """Leave the first `quick` cases of a parametrised test in the default suite, and mark the others as slow."""
    found = list(cases)
    values = [case if isinstance(case, tuple) else (case,) for case in found[quick:]]
    return found[:quick] + [pytest.param(*value, marks=pytest.mark.slow) for value in values]
