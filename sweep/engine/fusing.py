"""How many variations go to a server as one item: learnt from how long its items take.

A server spends a fixed time on each item beside rendering (InvokeAI 6.14.2 about 0.6 s, for collecting garbage). Items
of two sizes tell it apart from what a variation takes: seconds = fixed + each × size. The size is then the least at
which the fixed time is a small share, as far as the item stays short enough that stopping, or losing one to a crash,
costs seconds.
"""

from __future__ import annotations

from math import ceil
from typing import Final

MOST: Final = 64  # variations an item
LONGEST: Final = 10.0  # seconds an item may take
SHARE: Final = 0.1  # of the variations' own time: a fixed time below this is not worth a longer item
SECOND: Final = 4  # variations of the item that is compared with the first


class FusionSize:
    """The size for one server; `fixed` where a person chose it."""

    def __init__(self, fixed: int | None = None, *, most: int = MOST, longest: float = LONGEST) -> None:
        self._fixed = fixed
        self._most = most
        self._longest = longest
        self._least: dict[int, float] = {}  # by size: the fewest seconds an item took; loading a model only adds
        self._latest = 0.0  # seconds a variation, of the item that ended last

    @property
    def size(self) -> int:
        """Variations of the next item."""
        if self._fixed is not None:
            return self._fixed
        if not self._least:
            return 1
        wanted = SECOND if len(self._least) == 1 else self._paying()
        return max(1, min(wanted, self._most, int(self._longest / self._latest)))

    @property
    def learning(self) -> bool:
        """Whether the next item's size depends on what the one at the server tells."""
        return self._fixed is None and (not self._least or (len(self._least) == 1 and self.size > 1))

    def observe(self, count: int, seconds: float) -> None:
        """An item of `count` variations took the server `seconds`, its models' loading included; 0 where it does not
        tell, which ends the learning: then variations go one by one.
        """
        if self._fixed is None and not self._least and seconds <= 0:
            self._fixed = 1
        elif self._fixed is None and seconds > 0:
            self._least[count] = min(seconds, self._least.get(count, seconds))
            self._latest = seconds / count

    def _paying(self) -> int:
        """The least size at which the fixed time is below its share; as large as may be where nothing else is seen."""
        fewest, most = min(self._least), max(self._least)
        # An item of more variations is never truly the quicker one: a small one that took longer was loading models.
        short, long_ = min(self._least.values()), self._least[most]
        each = (long_ - short) / (most - fewest)
        fixed = short - each * fewest
        if each <= 0:
            return self._most
        return ceil(max(0.0, fixed) / (SHARE * each))
