"""The steps of the record's writes at which fault tests end a process."""

from __future__ import annotations

IMAGE_POINTS = ("image.part-written", "image.part-synced", "image.renamed", "image.folder-synced")
"""In this order, for every image saved."""

JOURNAL_OPERATIONS = (
    "begin_run",
    "end_run",
    "rebase",
    "seeds",
    "intend",
    "mark_submitted",
    "mark_rendered",
    "complete",
    "mark_attempt_failed",
    "withdraw",
    "fail",
    "cancel",
    "reopen",
    "keep_input",
    "keep_uploads",
)

JOURNAL_POINTS = tuple(f"{name}.{step}" for name in JOURNAL_OPERATIONS for step in ("before-commit", "after-commit"))
"""`complete.before-commit`: executed, not committed; `complete.after-commit`: durable, its caller not told yet."""
