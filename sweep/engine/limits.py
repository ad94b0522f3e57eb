"""Limits of a run: its options, how much is done at once, back-off, the failures that end it; task groups.

A server's limit follows AIMD (additive increase, multiplicative decrease), as congestion control does: it is halved
when the server asks for less and grows by about one a round trip. Concurrency has two levels: a slot at the server,
released when the server is done, within a slot of the run, released when the images are saved. So a GPU never waits
for a download, and memory stays bounded where downloads are slow.

Task groups re-raise the first exception instead of an ExceptionGroup.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from sweep.engine.events import Listener, Notice
from sweep.errors import UsageError
from sweep.text import format_count

FEWEST_FINISHED: Final = 10  # variations before a share of failures says anything
REPORT_WAIT_AFTER: Final = 4.0  # seconds without a word after which a person is told what is waited for


@asynccontextmanager
async def open_task_group() -> AsyncIterator[TaskGroup]:
    """Open a task group that raises the first exception of its tasks or its body, not a group of them.

    So `except RecordError` around it catches a full disk, whether one task met it or eight did.
    """
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise _find_first(errors) from None


def _find_first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = errors.exceptions[0]
    return _find_first(inner) if isinstance(inner, BaseExceptionGroup) else inner


async def run_all(*calls: Awaitable[Any]) -> None:
    """Await all of them at once, so that they share one commit; one that fails does not stop the others.

    Raises:
        Exception: The first that one of them raised, once all have ended.
    """
    if len(calls) <= 1:
        for call in calls:
            await call
        return
    errors: list[Exception] = []

    async def run_one(call: Awaitable[Any]) -> None:
        try:
            await call
        except Exception as error:  # noqa: BLE001 - raised again below, once all are through
            errors.append(error)

    async with anyio.create_task_group() as group:
        for call in calls:
            group.start_soon(run_one, call)
    if errors:
        raise errors[0]


@asynccontextmanager
async def report_wait(listener: Listener, message: str) -> AsyncIterator[None]:
    """Tell the listener what is waited for where the body takes longer than a few seconds."""
    async with open_task_group() as group:

        async def report() -> None:
            await anyio.sleep(REPORT_WAIT_AFTER)
            listener(Notice(message=message))

        group.start_soon(report)
        yield
        group.cancel_scope.cancel()


class ChangeSignal:
    """Wakes everybody who waits for a change. Read `event` before you look at the state, then wait for it."""

    def __init__(self) -> None:
        self.event = anyio.Event()

    def notify(self) -> None:
        self.event.set()
        self.event = anyio.Event()


class Limit:
    """AIMD limit of the items in flight at a server, between 1 and `most`. Each takes one of its `slots`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._value = float(most)
        self.slots = anyio.CapacityLimiter(most)

    def reset(self, most: int) -> None:
        self.most = most
        self._set(most)

    def increase(self) -> None:
        """Allow more after a success: one more per `value` successes, so about one more a round trip."""
        self._set(self._value + 1 / self._value)

    def halve(self) -> None:
        self._set(self._value / 2)

    def _set(self, value: float) -> None:
        self._value = min(max(1.0, value), self.most)
        if self.slots.total_tokens != int(self._value):
            self.slots.total_tokens = int(self._value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential back-off with full jitter, in seconds. `base=0` never waits, which is how tests run."""

    base: float = 1.0
    factor: float = 2.0
    cap: float = 60.0

    def longest_delay(self, attempt: int) -> float:
        """Return the longest wait after the `attempt`-th failure, counted from 1."""
        return min(self.cap, self.base * self.factor ** min(attempt - 1, 64))

    def draw_delay(self, attempt: int, chance: random.Random, at_least: float | None = None) -> float:
        """Draw a wait from [0, longest]; never shorter than `at_least`, which the server itself asked for."""
        drawn = chance.uniform(0, self.longest_delay(attempt))
        return drawn if at_least is None else max(drawn, at_least)


class ItemSlot:
    """The slot of the run and the slot of a server that one item holds. Releasing one twice changes nothing."""

    def __init__(self) -> None:
        self._held: list[anyio.CapacityLimiter] = []  # the run's first

    @classmethod
    async def acquire(cls, run_slots: anyio.CapacityLimiter, server_slots: anyio.CapacityLimiter) -> ItemSlot:
        """Wait for a slot of the run, then for one of the server."""
        slot = cls()
        try:
            for limiter in (run_slots, server_slots):
                await limiter.acquire_on_behalf_of(slot)
                slot._held.append(limiter)
        except BaseException:
            slot.release()
            raise
        return slot

    def release_server(self) -> None:
        """Give the server's slot back: the server is done with the item."""
        if len(self._held) > 1:
            self._held.pop().release_on_behalf_of(self)

    def release(self) -> None:
        """Give both slots back: the item is over."""
        while self._held:
            self._held.pop().release_on_behalf_of(self)


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
