"""Slots, AIMD concurrency, back-off, adaptive fusion size."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

import anyio


@dataclass(frozen=True, slots=True)
class Limit:
    """`value` moves between 1 and `most`; `allowed` is what may be in flight now."""

    most: int
    value: float

    @classmethod
    def of(cls, most: int) -> Limit:
        """A limit that starts at its most."""
        return cls(most, float(most))

    @property
    def allowed(self) -> int:
        return max(1, int(self.value))

    def succeeded(self) -> Limit:
        """One more per `value` successes, so about one more a round trip of everything in flight."""
        return replace(self, value=min(float(self.most), self.value + 1 / self.value))

    def overloaded(self) -> Limit:
        """Half, but never less than one."""
        return replace(self, value=max(1.0, self.value / 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waits in seconds. `base=0` never waits, which is how tests run."""

    base: float = 1.0
    factor: float = 2.0
    cap: float = 60.0

    def ceiling(self, attempt: int) -> float:
        """The longest wait after the `attempt`-th failure, counted from 1."""
        return min(self.cap, self.base * self.factor ** min(attempt - 1, 64))

    def delay(self, attempt: int, chance: random.Random, at_least: float | None = None) -> float:
        """A wait drawn from [0, ceiling]; never shorter than `at_least`, what the server itself asked for."""
        drawn = chance.uniform(0, self.ceiling(attempt))
        return drawn if at_least is None else max(drawn, at_least)


MOST_FUSED: Final = 64  # variations an item
LONGEST_BACKOFF: Final = 10.0  # seconds an item may take
SHARE: Final = 0.05  # of the variations' own time: a fixed time below this is not worth a longer item
REMEMBERED: Final = 5  # items whose fixed time is looked at
SECOND: Final = 4  # variations of the item that is compared with the first


class FusionSize:
    """The size for one server; `chosen` where a person said it."""

    def __init__(self, chosen: int | None = None, *, most: int = MOST_FUSED, longest: float = LONGEST_BACKOFF) -> None:
        self._chosen = chosen
        self._most = most
        self._longest = longest
        self._overheads: deque[float] = deque(maxlen=REMEMBERED)  # seconds an item, as events told
        self._least: dict[int, float] = {}  # by size: the fewest seconds an item took; loading a model only adds
        self._latest = (1, 0.0)  # variations and seconds of the item that ended last

    @property
    def size(self) -> int:
        """Variations of the next item."""
        if self._chosen is not None:
            return self._chosen
        if not self._least:
            return 1
        count, seconds = self._latest
        if self._overheads:
            fixed = self._told()
            each = max(0.0, seconds - fixed) / count
            return self._within(self._paying(fixed, each), (self._longest - fixed) / each if each else self._most)
        wanted = SECOND if len(self._least) == 1 else self._paying(*self._fitted())
        return self._within(wanted, self._longest * count / seconds)

    def _within(self, wanted: int, in_time: float) -> int:
        return max(1, int(min(wanted, self._most, in_time)))

    @property
    def learning(self) -> bool:
        """Whether the next item's size depends on what the one at the server tells."""
        if self._chosen is not None or not self._least:
            return self._chosen is None
        return not self._overheads and len(self._least) == 1 and self.size > 1

    def observe(self, count: int, seconds: float, overhead: float | None = None) -> None:
        """An item of `count` variations took the server `seconds`, its models' loading included, of which `overhead`
        came before its first node. 0 seconds where it does not tell, which ends the learning: one by one, then.
        """
        if self._chosen is None and not self._least and seconds <= 0:
            self._chosen = 1
        elif self._chosen is None and seconds > 0:
            self._least[count] = min(seconds, self._least.get(count, seconds))
            self._latest = (count, seconds)
            if overhead is not None:
                self._overheads.append(overhead)

    def _told(self) -> float:
        """The median, the larger one of two: a busy server may send late that it took an item up, which then seems to
        have cost it nothing.
        """
        return sorted(self._overheads)[len(self._overheads) // 2]

    def _fitted(self) -> tuple[float, float]:
        fewest, most = min(self._least), max(self._least)
        # An item of more variations is never truly the quicker one: a small one that took longer was loading models.
        short, long_ = min(self._least.values()), self._least[most]
        each = (long_ - short) / (most - fewest)
        return max(0.0, short - each * fewest), each

    def _paying(self, fixed: float, each: float) -> int:
        """The least size at which the fixed time is below its share; as large as may be where nothing else is seen."""
        return self._most if each <= 0 else ceil(fixed / (SHARE * each))


class ItemSlot:
    """What one item holds. Giving back twice changes nothing."""

    def __init__(self, slots: anyio.CapacityLimiter, places: anyio.CapacityLimiter) -> None:
        self._slots: anyio.CapacityLimiter | None = slots
        self._places: anyio.CapacityLimiter | None = places

    def give_slot_back(self) -> None:
        """The server is done with the item."""
        if self._slots is not None:
            self._slots.release_on_behalf_of(self)
            self._slots = None

    def leave(self) -> None:
        """The item is over."""
        self.give_slot_back()
        if self._places is not None:
            self._places.release_on_behalf_of(self)
            self._places = None


class RunSlots:
    """All places of a run: `most` items may be rendering, downloading or being written."""

    def __init__(self, most: int) -> None:
        self._places = anyio.CapacityLimiter(most)

    async def enter(self, slots: anyio.CapacityLimiter) -> ItemSlot:
        """Wait for a place and a slot at a server."""
        place = ItemSlot(slots, self._places)
        await self._places.acquire_on_behalf_of(place)
        try:
            await slots.acquire_on_behalf_of(place)
        except BaseException:
            self._places.release_on_behalf_of(place)
            raise
        return place
