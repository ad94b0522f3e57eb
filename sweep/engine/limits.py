"""How many items a server is given at once: additive increase, multiplicative decrease.

Only an answer that says "too much" (429, 503) or none at all lowers the limit. Latency never does: steps and size
change it by themselves, and a slow picture is not an overloaded server.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


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
