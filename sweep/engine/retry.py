"""How long to wait before the next attempt: exponential back-off with full jitter.

Why full jitter and not a fixed ladder: a server that comes back is met by all its clients at once; spreading them
over the whole interval takes the least work to get everybody through (Brooker, "Exponential Backoff and Jitter", 2015).
"""

from __future__ import annotations

import random
from dataclasses import dataclass


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
