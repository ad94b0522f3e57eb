"""Limits of a run: how much is done at once, back-off, the size of fused items, the failures that end it; task groups.

A server's limit follows AIMD (additive increase, multiplicative decrease), as congestion control does: it is halved
when the server asks for less and grows by about one a round trip. Concurrency has two levels: a slot at the server,
released when the server is done, within a slot of the run, released when the images are saved. So a GPU never waits
for a download, and memory stays bounded where downloads are slow.

Each item costs a server a fixed time beside its variations (queueing, events, sessions). `FusionSize` finds how many
variations an item needs for that time to be a small share: from what the server reports, or by comparing two sizes.

Task groups re-raise the first exception instead of an ExceptionGroup.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from sweep.engine.events import Listener, Notice
from sweep.errors import UsageError

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
async def report_wait(listener: Listener, message: str, after: float = REPORT_WAIT_AFTER) -> AsyncIterator[None]:
    """Tell the listener what is waited for where the body takes longer than `after` seconds."""
    async with open_task_group() as group:

        async def report() -> None:
            await anyio.sleep(after)
            listener(Notice(message=message))

        group.start_soon(report)
        yield
        group.cancel_scope.cancel()


class ChangeSignal:
    """Wakes everybody who waits for a change. Read `event` before you look at the state, then wait for it."""

    def __init__(self) -> None:
        self.event = anyio.Event()

    def notify(self) -> None:
        """Wake those who wait now; who reads `event` from now on waits for the next change."""
        self.event.set()
        self.event = anyio.Event()


@dataclass(frozen=True, slots=True)
class Limit:
    """AIMD limit of items in flight at a server: `value` moves between 1 and `most`."""

    most: int
    value: float

    @classmethod
    def start(cls, most: int) -> Limit:
        return cls(most, float(most))

    @property
    def allowed(self) -> int:
        return max(1, int(self.value))

    def increase(self) -> Limit:
        """Return the limit after a success: one more per `value` successes, so about one more a round trip."""
        return replace(self, value=min(float(self.most), self.value + 1 / self.value))

    def halve(self) -> Limit:
        return replace(self, value=max(1.0, self.value / 2))


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


MOST_FUSED: Final = 64  # variations an item
MOST_NODES: Final = 512  # of an item's graph: as many outputs as a server keeps, and every image holds the whole graph
LONGEST_ITEM: Final = 10.0  # seconds an item may take
SHORT_ITEM: Final = 2.0  # seconds an item may take while items of other people wait behind it
LEARNING: Final = 2.0  # seconds the second item may wait for the first: a longer first item keeps the server busy
SHARE: Final = 0.05  # of the variations' own time: a fixed time below this is not worth a longer item
REMEMBERED: Final = 5  # items whose fixed time is looked at
TIE: Final = 1e-6
SECOND: Final = 4  # variations of the item that is compared with the first


class FusionSize:
    """Decides how many variations one server's next item has; `chosen` is the number that the user gave, if any."""

    def __init__(self, chosen: int | None = None, *, most: int = MOST_FUSED, longest: float = LONGEST_ITEM) -> None:
        self._chosen = chosen
        self._most = most
        self.longest = longest  # seconds an item may take
        self._asked: float | None = None  # since when the next item waits for the one at the server
        self._overheads: deque[float] = deque(maxlen=REMEMBERED)  # seconds an item, as events told
        self._least: dict[int, float] = {}  # by size: the fewest seconds an item took; loading a model only adds
        self._latest = (1, 0.0)  # variations and seconds of the item that ended last
        self.seconds_each = 0.0  # of a variation of that item; 0 while none has ended

    @property
    def size(self) -> int:
        """Variations of the next item."""
        if self._chosen is not None:
            return self._chosen
        if not self._least:
            return 1
        count, seconds = self._latest
        if self._overheads:
            # The median, the larger one of two: a busy server may send late that it took an item up, which then seems
            # to have cost it nothing.
            fixed = sorted(self._overheads)[len(self._overheads) // 2]
            each = max(0.0, seconds - fixed) / count
            return self._bound(
                self._worthwhile_size(fixed, each), (self.longest - fixed) / each if each else self._most
            )
        wanted = SECOND if len(self._least) == 1 else self._worthwhile_size(*self._fit_two_sizes())
        return self._bound(wanted, self.longest * count / seconds)

    def _bound(self, wanted: int, in_time: float) -> int:
        return max(1, int(min(wanted, self._most, in_time)))

    @property
    def is_learning(self) -> bool:
        """Tell whether the next item's size depends on how long the item at the server takes."""
        if self._chosen is not None or not self._least:
            return self._chosen is None
        return not self._overheads and len(self._least) == 1 and self.size > 1

    def seconds_to_learn(self, now: float) -> float:
        """Return how long the next item may still wait for the one at the server to tell its size, now being `now`."""
        if not self.is_learning:
            return 0.0
        self._asked = now if self._asked is None else self._asked
        return max(0.0, self._asked + LEARNING - now)

    def observe(self, count: int, seconds: float, overhead: float | None = None) -> None:
        """Learn from an item of `count` variations that took the server `seconds`, the loading of models included.

        Args:
            count: Variations of the item.
            seconds: 0 where the server does not tell, which ends the learning: one variation an item, then.
            overhead: The seconds of them before the first node, where the server's events told.
        """
        self._asked = None
        if seconds > 0:
            self.seconds_each = seconds / count
        if self._chosen is None and not self._least and seconds <= 0:
            self._chosen = 1
        elif self._chosen is None and seconds > 0:
            self._least[count] = min(seconds, self._least.get(count, seconds))
            self._latest = (count, seconds)
            if overhead is not None:
                self._overheads.append(overhead)

    def _fit_two_sizes(self) -> tuple[float, float]:
        fewest, most = min(self._least), max(self._least)
        # An item of more variations is never truly the quicker one: a small one that took longer was loading models.
        short, long_ = min(self._least.values()), self._least[most]
        each = (long_ - short) / (most - fewest)
        return max(0.0, short - each * fewest), each

    def _worthwhile_size(self, fixed: float, each: float) -> int:
        """Return the least size at which the fixed time is below its share; the largest where each costs nothing."""
        return self._most if each <= 0 else ceil(fixed / (SHARE * each))


def bound_by_share(size: int, remaining: int, workers: int) -> int:
    """Return the size of the next item: `size`, but fewer towards the end, so that no server idles.

    This is guided self-scheduling: an item is at most an equal share of what remains.
    """
    return max(1, min(size, -(-remaining // workers)))


def is_done_sooner_elsewhere(points: int, own: float, others: Iterable[tuple[float, float]]) -> bool:
    """Return whether others would render all `points` that remain before a server that would be done at `own`.

    This is list scheduling by the earliest completion: at the end, a slow server that takes one more item is what
    everybody waits for. At least one server never has to hold back: the one that would be done first.

    Args:
        points: Variations that no server has yet.
        own: When the server would have rendered what it has, and its next item; in monotonic seconds.
        others: Of each other server, when it has rendered what it has, and the seconds it takes for a variation.
    """
    room = 0
    for ready, each in others:
        if own > ready:
            room += ceil((own - ready) / each - TIE) - 1  # at the same time is not sooner, or both would hold back
            if room >= points:
                return True
    return False


class ByteBudget:
    """Bytes that all downloads of a run together may hold in memory."""

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._is_short = False  # somebody waits
        self._changes = ChangeSignal()

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        """Wait until `size` bytes are free and hold them; more than there are in all takes all."""
        size = min(size, self._total)
        while self._free < size:
            self._is_short = True
            await self._changes.event.wait()
        self._free -= size
        try:
            yield
        finally:
            self._free += size
            if self._is_short:
                self._is_short = False
                self._changes.notify()


class ItemSlot:
    """The two slots that one item holds. Releasing one twice changes nothing."""

    def __init__(self, server_slots: anyio.CapacityLimiter, run_slots: anyio.CapacityLimiter) -> None:
        self._server_slots: anyio.CapacityLimiter | None = server_slots
        self._run_slots: anyio.CapacityLimiter | None = run_slots

    def release_server(self) -> None:
        """Give the server's slot back: the server is done with the item."""
        if self._server_slots is not None:
            self._server_slots.release_on_behalf_of(self)
            self._server_slots = None

    def release(self) -> None:
        """Give both slots back: the item is over."""
        self.release_server()
        if self._run_slots is not None:
            self._run_slots.release_on_behalf_of(self)
            self._run_slots = None


class RunSlots:
    """Limits the items of a run that are rendering, downloading or being written to `most`."""

    def __init__(self, most: int) -> None:
        self._slots = anyio.CapacityLimiter(most)

    async def acquire(self, server_slots: anyio.CapacityLimiter) -> ItemSlot:
        """Wait for a slot of the run, then for one of the server."""
        slot = ItemSlot(server_slots, self._slots)
        await _acquire(self._slots, slot)
        try:
            await _acquire(server_slots, slot)
        except BaseException:
            self._slots.release_on_behalf_of(slot)
            raise
        return slot


async def _acquire(limiter: anyio.CapacityLimiter, slot: ItemSlot) -> None:
    """Acquire a slot; one that is free without a turn of the event loop, which its own method takes."""
    try:
        limiter.acquire_on_behalf_of_nowait(slot)
    except anyio.WouldBlock:
        await limiter.acquire_on_behalf_of(slot)


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
            f"--max-failures {text} is not a limit of failures.",
            hint="Write a number such as 20 or a share such as 10%.",
        )

    def is_reached(self, failed: int, finished: int) -> bool:
        """Tell whether the run should end, `failed` of `finished` variations having failed in it."""
        if self.count is not None and failed >= self.count:
            return True
        return self.share is not None and finished >= self.least and failed > self.share * finished


class FailurePolicy:
    """Counts the outcomes of this run; `reason` says why it should end, empty while it should not."""

    def __init__(self, limit: FailureLimit, most_alike: int) -> None:
        self._limit = limit
        self._most_alike = most_alike
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
