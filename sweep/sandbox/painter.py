"""Paints pictures with numpy: deterministic, quick, and answering to its parameters the way a diffusion does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sweep.sandbox.painting import Painting

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


def paint(painting: Painting, source: Pixels | None, controls: Sequence[Pixels] = ()) -> Pixels:
    """The picture, height × width × 3. `source` and `controls` are the pictures the painting names."""
    rng = np.random.default_rng(int(painting.digest()[:8], 16))
    y, x = np.mgrid[0 : painting.height, 0 : painting.width].astype(np.float32)
    base = np.stack([x / painting.width, y / painting.height, 0.5 + 0 * x], -1) * rng.random(3, np.float32)
    if source is not None:
        base = base * painting.strength + (source / np.float32(255)) * (1 - painting.strength)
    return (np.clip(base, 0, 1) * 255).astype(np.uint8)
