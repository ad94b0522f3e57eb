"""Options of a run: what a user may choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sweep.engine.limits import Backoff, FailureLimit
from sweep.errors import UsageError


def parse_shard(text: str) -> tuple[int, int]:
    """Parse `2/5`, the second of five parts, into `(2, 5)`. Raises UsageError."""
    part, slash, parts = text.partition("/")
    if slash and part.strip().isdigit() and parts.strip().isdigit() and 1 <= int(part) <= int(parts):
        return int(part), int(parts)
    raise UsageError(f"--shard {text} is not a part of a grid.", hint="Write K/N with K from 1 to N, such as 2/5.")


def parse_fusion(text: str) -> int | None:
    """Parse the variations of an item: None for `auto`, 1 for `off`, else the number. Raises UsageError."""
    if text == "auto":
        return None
    if text == "off":
        return 1
    if text.isdigit() and int(text) >= 1:
        return int(text)
    raise UsageError(
        f"--fuse {text} is not a number of points per item.", hint="Write off, auto or a number such as 8."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Settings of a run: limits, retries, storage.

    `alike` is the number of failures with the same words, and no success between them, after which the cause is
    taken to be common and the run ends. `patience` is how long, in seconds, a run without any usable server waits
    for one to come back. `max_image_bytes` bounds a single download.
    """

    concurrency: int | None = None  # items at a server at once; None: two for each of its devices
    downloads: int = 8  # images fetched and written at once, over all servers
    attempts: int = 4  # of one variation, over all runs until --retry-failed
    backoff: Backoff = field(default_factory=Backoff)
    failures: FailureLimit = field(default_factory=FailureLimit)
    alike: int = 10
    patience: float = 900.0
    retry_failed: bool = False
    verify: bool = False  # read every completed image at the start; otherwise only its size is looked at
    takeover_after: float = 60.0  # seconds a server is away before others render what it has
    priority: int = 0
    idle_only: bool = False
    board: str | None = None
    intermediate: bool = False
    max_image_bytes: int = 128 * 1024 * 1024
    download_bytes: int = 192 * 1024 * 1024  # that all downloads together may hold in memory
    fuse: int | None = None  # variations an item; None: as many as pay, and one where the graph cannot be fused
    shard: tuple[int, int] | None = None  # (k, n): only the k-th of n parts of the grid, k from 1
    user_cache: Path | None = None  # the user's file of uploads; None: only the journal remembers them
    tells_steps: bool = False  # somebody watches: report how far each image is, where servers say so
    command: Sequence[str] = ()  # what was typed, for the record
