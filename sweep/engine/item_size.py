"""The size of a server's next item: how many variations it has.

Each item costs a server a fixed time beside its variations (queueing, events, sessions). `FusionSize` finds how many
variations an item needs for that time to be a small share, from what the server's events tell of it. Towards the end
of a run items get smaller, so that no server idles while others have work.
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
ASSUMED: Final = 0.5  # fixed seconds of an item where no event told them, as behind a proxy that lets none through
SHARE: Final = 0.05  # of the variations' own time: a fixed time below this is not worth a longer item
REMEMBERED: Final = 5  # items whose fixed time is looked at
TIE: Final = 1e-6


class FusionSize:
    """Decides how many variations one server's next item has; `chosen` is the number that the user gave, if any."""

    def __init__(self, chosen: int | None = None, *, most: int = MOST_FUSED) -> None:
        self._chosen = chosen
        self._most = most
        self.longest = LONGEST_ITEM  # seconds an item may take
        self._asked: float | None = None  # since when the next item waits for the one at the server
        self._overheads: deque[float] = deque(maxlen=REMEMBERED)  # seconds an item, as events told
        self._latest = (1, 0.0)  # variations and seconds of the item that ended last
        self.seconds_each = 0.0  # of a variation of that item; 0 while none has ended

    @property
    def size(self) -> int:
        """Variations of the next item."""
        if self._chosen is not None:
            return self._chosen
        count, seconds = self._latest
        if not seconds:
            return 1
        # The median, the larger one of two: a busy server may send late that it took an item up, which then seems
        # to have cost it nothing.
        fixed = sorted(self._overheads or [min(ASSUMED, seconds / 2)])[len(self._overheads) // 2]
        each = max(0.0, seconds - fixed) / count
        if not each:
            return self._most
        return max(1, int(min(ceil(fixed / (SHARE * each)), self._most, (self.longest - fixed) / each)))

    @property
    def is_learning(self) -> bool:
        """Tell whether the next item's size depends on how long the item at the server takes."""
        return self._chosen is None and not self.seconds_each

    def compute_learning_pause(self, now: float) -> float:
        """Return how long the next item may still wait for the one at the server to tell its size, now being `now`."""
        if not self.is_learning:
            return 0.0
        self._asked = now if self._asked is None else self._asked
        return max(0.0, self._asked + LEARNING - now)

    def observe(self, count: int, seconds: float, overhead: float | None = None) -> None:
        """Learn from an item of `count` variations that took the server `seconds`, the loading of models included.

        Of these `overhead` came before the first node, where the server's events told. 0 seconds mean that the server
        does not tell, which ends the learning: one variation an item, then.
        """
        if seconds > 0:
            self._latest, self.seconds_each = (count, seconds), seconds / count
            if overhead is not None:
                self._overheads.append(overhead)
        elif self.is_learning:
            self._chosen = 1


def limit_to_share(size: int, remaining: int, workers: int) -> int:
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
