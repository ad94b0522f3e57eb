"""How many variations go to a server as one item: learnt from how long its items take.

A server spends a fixed time on each item beside rendering (InvokeAI 6.14.2 about half a second, for collecting
garbage). Its events tell how long that was: from taking the item up to its first node. Where they are not heard, items
of two sizes tell it: seconds = fixed + each × size. The size is then the least at which the fixed time is a small
share, as far as the item stays short enough that stopping, or losing one to a crash, costs seconds.
"""

from __future__ import annotations

from math import ceil
from typing import Final

MOST: Final = 64  # variations an item
LONGEST: Final = 10.0  # seconds an item may take
SHARE: Final = 0.1  # of the variations' own time: a fixed time below this is not worth a longer item
SECOND: Final = 4  # variations of the item that is compared with the first


class FusionSize:
    """The size for one server; `chosen` where a person said it."""

    def __init__(self, chosen: int | None = None, *, most: int = MOST, longest: float = LONGEST) -> None:
        self._chosen = chosen
        self._most = most
        self._longest = longest
        self._told: tuple[float, float] | None = None  # seconds an item, and a variation, as events told them last
        self._least: dict[int, float] = {}  # by size: the fewest seconds an item took; loading a model only adds
        self._latest = 0.0  # seconds a variation, of the item that ended last

    @property
    def size(self) -> int:
        """Variations of the next item."""
        if self._chosen is not None:
            return self._chosen
        if not self._least:
            return 1
        if self._told is not None:
            fixed, each = self._told
            return self._within(self._paying(fixed, each), (self._longest - fixed) / each if each else self._most)
        wanted = SECOND if len(self._least) == 1 else self._paying(*self._fitted())
        return self._within(wanted, self._longest / self._latest)

    def _within(self, wanted: int, in_time: float) -> int:
        return max(1, int(min(wanted, self._most, in_time)))

    @property
    def learning(self) -> bool:
        """Whether the next item's size depends on what the one at the server tells."""
        if self._chosen is not None or not self._least:
            return self._chosen is None
        return self._told is None and len(self._least) == 1 and self.size > 1

    def observe(self, count: int, seconds: float, overhead: float | None = None) -> None:
        """An item of `count` variations took the server `seconds`, its models' loading included, of which `overhead`
        came before its first node. 0 seconds where it does not tell, which ends the learning: one by one, then.
        """
        if self._chosen is None and not self._least and seconds <= 0:
            self._chosen = 1
        elif self._chosen is None and seconds > 0:
            self._least[count] = min(seconds, self._least.get(count, seconds))
            self._latest = seconds / count
            if overhead is not None:
                self._told = (overhead, max(0.0, seconds - overhead) / count)

    def _fitted(self) -> tuple[float, float]:
        fewest, most = min(self._least), max(self._least)
        # An item of more variations is never truly the quicker one: a small one that took longer was loading models.
        short, long_ = min(self._least.values()), self._least[most]
        each = (long_ - short) / (most - fewest)
        return max(0.0, short - each * fewest), each

    def _paying(self, fixed: float, each: float) -> int:
        """The least size at which the fixed time is below its share; as large as may be where nothing else is seen."""
        return self._most if each <= 0 else ceil(fixed / (SHARE * each))
