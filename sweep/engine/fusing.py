"""How many variations go to a server as one item: learnt from how long its items take.

A server spends a fixed time on each item beside rendering (InvokeAI 6.14.2 about half a second, for collecting
garbage). Its events tell how long that was: from taking the item up to its first node. Where they are not heard, items
of two sizes tell it: seconds = fixed + each × size. The size is then the least at which the fixed time is a small
share, as far as the item stays short enough that stopping, or losing one to a crash, costs seconds.
"""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import Final

MOST: Final = 64  # variations an item
LONGEST: Final = 10.0  # seconds an item may take
SHARE: Final = 0.05  # of the variations' own time: a fixed time below this is not worth a longer item
REMEMBERED: Final = 5  # items whose fixed time is looked at
SECOND: Final = 4  # variations of the item that is compared with the first


class FusionSize:
    """The size for one server; `chosen` where a person said it."""

    def __init__(self, chosen: int | None = None, *, most: int = MOST, longest: float = LONGEST) -> None:
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
