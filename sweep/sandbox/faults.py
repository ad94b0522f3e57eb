"""The dice that decide which faults are committed: the same seed and the same chances give the same faults."""

from __future__ import annotations

import hashlib
from collections import Counter

from sweep.sandbox.options import HTTP_FAULTS, BadImage, Faults


def share(*parts: object) -> float:
    """A number in [0, 1) that depends on `parts` alone and looks random."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


class FaultDice:
    """Rolls for one server. `committed` counts the faults by name."""

    def __init__(self, faults: Faults, seed: int) -> None:
        self._faults = faults
        self.committed: Counter[str] = Counter()
        self._seed = seed
        self._chances: Counter[tuple[object, ...]] = Counter()
        self._requests = 0
        self._http = 0

    @property
    def faults(self) -> Faults:
        """What is being committed; new ones begin to count requests anew."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        self._requests = self._http = 0

    def happens(self, name: str, *about: object) -> bool:
        """Whether the fault `name` is committed now; `about` makes the chance depend on more than its number."""
        rate: float = getattr(self.faults, name)
        if not rate:
            return False
        chance = (name, *about)
        self._chances[chance] += 1
        hit = share(self._seed, *chance, self._chances[chance]) < rate
        self.committed[name] += hit
        return hit

    def http_fault(self, path: str) -> str | None:
        """The HTTP fault this request meets, if any."""
        faults = self.faults
        if faults.only not in path or (faults.most is not None and self._http >= faults.most):
            return None
        self._requests += 1
        if self._requests <= faults.spare:
            return None
        met = next((name for name in HTTP_FAULTS if self.happens(name)), None)
        self._http += met is not None
        return met

    def bad_image(self) -> BadImage | None:
        """How this rendering is bad, if it is."""
        kinds = self.faults.bad_images
        if not kinds or not self.happens("bad_image"):
            return None
        return kinds[(self.committed["bad_image"] - 1) % len(kinds)]
