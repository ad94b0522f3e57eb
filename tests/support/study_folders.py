"""A small img2img results folder, as a run leaves it: what its points are and how they are painted."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import pandas as pd
from PIL import Image

from sweep.study import measure_now
from sweep.types import Scalar
from tests.support.study_images import mixed, photo

KINDS = {"denoise_strength": "number", "variation": "text", "seed": "seed"}
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
VARIATIONS = ("studio, white", "dramatic")
SEEDS = (42, 43, 44)
POINTS: list[dict[str, Scalar]] = [
    {"denoise_strength": s, "variation": v, "seed": k} for s in STRENGTHS for v in VARIATIONS for k in SEEDS
]
SOURCE = photo(0, 96, 96)


def painted(values: Mapping[str, Scalar]) -> Image.Image:
    """Strength takes the source away; the seed decides what comes instead, the variation how much of it."""
    share = float(values["denoise_strength"] or 0) * (1.0 if values["variation"] == "dramatic" else 0.8)
    return mixed(SOURCE, photo(int(values["seed"] or 0), 96, 96), share)


async def measure(folder: Path, **asked: Any) -> pd.DataFrame:
    """`measure_now` without blocking the event loop."""
    return await anyio.to_thread.run_sync(partial(measure_now, folder, **asked))
