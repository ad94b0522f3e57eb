"""What a picture of the sandbox depends on: everything a diffusion would depend on, and nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One ControlNet at work: `image` is the digest of its picture."""

    model: str
    image: str
    weight: float
    begin: float = 0.0
    end: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Painting:
    """One picture to paint. `source` is the digest of the picture it starts from, None for none.

    `strength` goes from 0, the source as it is, to 1, a picture the source no longer decides.
    """

    width: int
    height: int
    seed: int
    prompt: str
    negative: str = ""
    model: str = ""
    steps: int = 20
    cfg_scale: float = 7.5
    scheduler: str = "euler"
    strength: float = 1.0
    loras: tuple[tuple[str, float], ...] = ()
    controls: tuple[Control, ...] = ()
    clip_skip: int = 0
    source: str | None = None

    def digest(self) -> str:
        """A hash of all of it."""
        return hashlib.blake2b(repr(self).encode(), digest_size=16).hexdigest()

    def sized(self, width: int, height: int) -> Painting:
        """The same at another size."""
        return replace(self, width=width, height=height)
