"""How many variations go to a server as one item: learnt from how long its items take.

A server spends a fixed time on each item beside rendering (InvokeAI 6.14.2 about 0.6 s, for collecting garbage).
Whether sending several variations together pays is seen in the time a variation: the size is doubled while that falls
by a tenth at least, and the items stay short enough that stopping, or losing one to a crash, costs seconds.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 64  # variations an item
LONGEST: Final = 10.0  # seconds an item may take
WORTH: Final = 0.9  # time a variation, against half the size, below which the size is kept


class FusionSize:
    """The size for one server; `fixed` where a person chose it."""

    def __init__(self, fixed: int | None = None, *, most: int = MOST, longest: float = LONGEST) -> None:
        self.size = fixed or 1
        self._settled = fixed is not None
        self._most = most
        self._longest = longest
        self._warm = False
        self._smaller: float | None = None  # seconds a variation at half the size

    def observe(self, count: int, seconds: float) -> None:
        """An item of `count` variations took the server `seconds`. Its first one loads models, and does not count."""
        if not self._warm:
            self._warm = True
            return
        if self._settled or count != self.size or seconds <= 0:
            return
        each = seconds / count
        if self._smaller is not None and each > WORTH * self._smaller:
            self.size //= 2
            self._settled = True
        elif 2 * self.size > self._most or 2 * seconds > self._longest:
            self._settled = True
        else:
            self._smaller = each
            self.size *= 2
