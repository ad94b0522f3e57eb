"""The size of a server's next item: how many variations it has.

Each item costs a server a fixed time beside its variations (queueing, events, sessions). `FusionSize` finds how many
variations an item needs for that time to be a small share: from what the server reports, or by comparing two sizes.
Towards the end of a run items get smaller, so that no server idles while others have work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import ceil
from typing import Final

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
