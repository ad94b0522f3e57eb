"""A small img2img results folder, as a run leaves it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from sweep.types import Scalar
from tests.study.images import mixed, photo, write_results

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


@pytest.fixture
async def results(tmp_path: Path) -> Path:
    """30 images: 5 strengths × 2 variations × 3 seeds, all completed, with their source."""
    return await write_results(tmp_path / "a study", POINTS, painted, kinds=KINDS, source=SOURCE)
