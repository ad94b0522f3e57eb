"""Named points between the steps of a write, where a fault test may have the process killed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Checkpoint: TypeAlias = Callable[[str], None]

IMAGE_POINTS = ("image.part-written", "image.part-synced", "image.renamed", "image.folder-synced")
"""In this order, for every picture saved."""

JOURNAL_OPERATIONS = (
    "begin_run",
    "end_run",
    "rebase",
    "seeds",
    "intend",
    "submitted",
    "rendered",
    "complete",
    "attempt_failed",
    "withdraw",
    "fail",
    "cancel",
    "reopen",
    "forget",
    "keep_input",
)

JOURNAL_POINTS = tuple(f"{name}.{step}" for name in JOURNAL_OPERATIONS for step in ("before-commit", "after-commit"))
"""`complete.before-commit`: executed, not committed; `complete.after-commit`: durable, its caller not told yet."""


def no_checkpoint(_name: str) -> None:
    """What is called at each point unless a test says otherwise: nothing happens."""
