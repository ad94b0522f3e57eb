"""What a user may choose of a run, and the circuit breaker that ends one in which everything fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sweep.engine.concurrency import Backoff
from sweep.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureLimit:
    """The number of failed variations that ends the run: at `count` of them, or at `share` of all finished (0 to 1)."""

    count: int | None = None
    share: float | None = None
    least: int = 10  # finished variations before a share says anything

    @classmethod
    def parse(cls, text: str) -> FailureLimit:
        """Parse `20` (a count) or `20%` (a share). Raises UsageError."""
        number = text.strip().removesuffix("%")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if text.strip().endswith("%") and 0 <= value <= 100:
            return cls(share=value / 100)
        if value >= 1 and value == int(value) and not text.strip().endswith("%"):
            return cls(count=int(value))
        raise UsageError(
            f"{text!r} is not a limit of failures.", hint="Write a number such as 20 or a share such as 10%."
        )

    def is_reached(self, failed: int, finished: int) -> bool:
        """Tell whether the run should end, `failed` of `finished` variations having failed in it."""
        if self.count is not None and failed >= self.count:
            return True
        return self.share is not None and finished >= self.least and failed > self.share * finished


def parse_shard(text: str) -> tuple[int, int]:
    """Parse `2/5`, the second of five parts, into `(2, 5)`. Raises UsageError."""
    part, slash, parts = text.partition("/")
    if slash and part.strip().isdigit() and parts.strip().isdigit() and 1 <= int(part) <= int(parts):
        return int(part), int(parts)
    raise UsageError(f"{text!r} is not a part of a grid.", hint="Write K/N with K from 1 to N, such as 2/5.")


def parse_fusion(text: str) -> int | None:
    """Parse the variations of an item: None for `auto`, 1 for `off`, else the number. Raises UsageError."""
    if text == "auto":
        return None
    if text == "off":
        return 1
    if text.isdigit() and int(text) >= 1:
        return int(text)
    raise UsageError(f"{text!r} is not a number of points per item.", hint="Write off, auto or a number such as 8.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run goes about its work.

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


class FailurePolicy:
    """Counts the outcomes of this run; `reason` says why it should end, empty while it should not."""

    def __init__(self, options: RunOptions) -> None:
        self._limit = options.failures
        self._most_alike = options.alike
        self._last = ""
        self._alike = 0
        self._last_waste = ""
        self._wasted = 0
        self.succeeded = 0
        self.failed = 0
        self.reason = ""

    @property
    def outcomes(self) -> int:
        """Variations that this run brought to an end."""
        return self.succeeded + self.failed

    def count(self, failure: str | None) -> str:
        """Count one outcome (None: it succeeded); return `reason` at the moment it becomes true, else nothing."""
        if failure is None:
            self.succeeded += 1
            self._alike, self._last = 0, ""
            self._wasted = 0
        else:
            self.failed += 1
            self._alike = self._alike + 1 if failure == self._last else 1
            self._last = failure
        if self.reason:
            return ""
        self.reason = self._judge()
        return self.reason

    def count_waste(self, failure: str) -> str:
        """Count an attempt that rendered and brought nothing; return `reason` at the moment it becomes true."""
        self._wasted = self._wasted + 1 if failure == self._last_waste else 1
        self._last_waste = failure
        if self.reason or self._wasted < self._most_alike:
            return ""
        self.reason = f"The last {self._wasted} images could not be fetched ({failure}); no more are begun."
        return self.reason

    def _judge(self) -> str:
        if self._limit.is_reached(self.failed, self.failed + self.succeeded):
            return f"{self.failed} variations failed, which is the limit given; no more are begun."
        if self._alike >= self._most_alike:
            return f"The last {self._alike} variations failed alike ({self._last}); no more are begun."
        return ""
