"""The options of a run: retries and back-off, the failures that end it, its part of the grid, its downloads."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sweep.errors import UsageError
from sweep.text import format_count

FEWEST_FINISHED: Final = 10  # variations before a share of failures says anything


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential back-off with full jitter, in seconds. `base=0` never waits, which is how tests run."""

    base: float = 1.0
    factor: float = 2.0
    cap: float = 60.0

    def compute_longest_delay(self, attempt: int) -> float:
        """Return the longest wait after the `attempt`-th failure, counted from 1."""
        return min(self.cap, self.base * self.factor ** min(attempt - 1, 64))

    def draw_delay(self, attempt: int, chance: random.Random, at_least: float | None = None) -> float:
        """Draw a wait from [0, longest]; never shorter than `at_least`, which the server itself asked for."""
        drawn = chance.uniform(0, self.compute_longest_delay(attempt))
        return drawn if at_least is None else max(drawn, at_least)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureLimit:
    """The number of failed variations that ends the run: at `count` of them, or at `share` of all finished (0 to 1)."""

    count: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> FailureLimit:
        """Parse `20` (a count) or `20%` (a share). Raises UsageError."""
        number, percent, rest = text.strip().partition("%")
        with suppress(ValueError):
            if percent and not rest and 0 <= float(number) <= 100:
                return cls(share=float(number) / 100)
            if not percent and int(number) >= 1:
                return cls(count=int(number))
        raise UsageError(
            f"--max-failures {text} is not a limit of failures.",
            hint="Write a number such as 20 or a share such as 10%.",
        )

    def is_reached(self, failed: int, finished: int) -> bool:
        if self.count is not None and failed >= self.count:
            return True
        return self.share is not None and finished >= FEWEST_FINISHED and failed > self.share * finished


class FailurePolicy:
    """Counts the outcomes of this run; `reason` says why it should end, empty while it should not."""

    def __init__(self, limit: FailureLimit, most_alike: int) -> None:
        self._limit = limit
        self._most_alike = most_alike
        self._failures: Counter[str] = Counter()  # the last ones, all alike
        self._wastes: Counter[str] = Counter()
        self.succeeded = 0
        self.failed = 0
        self.reason = ""

    @property
    def outcomes(self) -> int:
        return self.succeeded + self.failed

    def count(self, failure: str | None) -> str:
        """Count one outcome (None: it succeeded); return `reason` at the moment it becomes true, else nothing."""
        if failure is None:
            self.succeeded += 1
            self._failures.clear()
            self._wastes.clear()
        else:
            self.failed += 1
        if self._limit.is_reached(self.failed, self.outcomes):
            return self._end_for(f"{format_count(self.failed, 'variation')} failed, which is the limit given")
        return self._count_alike(self._failures, failure, "variations failed alike") if failure is not None else ""

    def count_waste(self, failure: str) -> str:
        """Count an attempt that rendered and brought nothing; return `reason` at the moment it becomes true."""
        return self._count_alike(self._wastes, failure, "images could not be fetched")

    def _count_alike(self, counter: Counter[str], failure: str, what: str) -> str:
        """Count a failure; one with other words begins anew."""
        if failure not in counter:
            counter.clear()
        counter[failure] += 1
        alike = counter[failure]
        return self._end_for(f"The last {alike} {what} ({failure})") if alike >= self._most_alike else ""

    def _end_for(self, reason: str) -> str:
        if self.reason:
            return ""
        self.reason = f"{reason}; no more are begun."
        return self.reason


def parse_shard(text: str) -> tuple[int, int]:
    """Parse `2/5`, the second of five parts, into `(2, 5)`. Raises UsageError."""
    part, _, parts = text.partition("/")
    with suppress(ValueError):
        if 1 <= int(part) <= int(parts):
            return int(part), int(parts)
    raise UsageError(f"--shard {text} is not a part of a grid.", hint="Write K/N with K from 1 to N, such as 2/5.")


def parse_fusion(text: str) -> int | None:
    """Parse the variations of an item: None for `auto`, 1 for `off`, else the number. Raises UsageError."""
    if text in ("auto", "off"):
        return None if text == "auto" else 1
    with suppress(ValueError):
        if int(text) >= 1:
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
    fuse: int | None = None  # variations an item; None: as many as pay, and one where the graph cannot be fused
    shard: tuple[int, int] | None = None  # (k, n): only the k-th of n parts of the grid, k from 1
    user_cache: Path | None = None  # the user's file of uploads; None: only the journal remembers them
    tells_steps: bool = False  # somebody watches: report how far each image is, where servers say so
    command: Sequence[str] = ()  # what was typed, for the record
