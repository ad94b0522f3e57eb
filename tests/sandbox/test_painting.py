"""The painter's promises: the same again, strength from fine to coarse, and parameters that matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sweep.sandbox.painter.landscape_and_still_life import PaintedImage
from sweep.sandbox.painter.painting import Control, Painting, paint, read_mood

PLAIN = Painting(width=96, height=96, seed=1, prompt="a lake", model="m")
SOURCE = paint(replace(PLAIN, seed=77, prompt="a cup of coffee"), None)


def _band(pixels: PaintedImage, radius: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Structure of about `radius` pixels: what is left of two means of different width."""
    grey = pixels.mean(2)
    wide, narrow = (_mean(grey, r) for r in (2 * radius + 1, radius))
    return narrow - wide


def _mean(
    grey: np.ndarray[tuple[int, ...], np.dtype[np.float64]], radius: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    image = Image.fromarray(grey.astype(np.float32)).resize((96 // radius, 96 // radius), Image.Resampling.BOX)
    return np.asarray(image.resize((96, 96), Image.Resampling.BILINEAR), np.float64)


def _kept(strength: float, radius: int) -> float:
    """Correlation with the source in one band, the mean over seeds."""
    start = _band(SOURCE, radius).ravel()
    found = []
    for seed in range(4):
        image = paint(replace(PLAIN, seed=seed, strength=strength, source="s"), SOURCE)
        found.append(np.corrcoef(start, _band(image, radius).ravel())[0, 1])
    return float(np.mean(found))


def test_paint_is_deterministic() -> None:
    assert np.array_equal(paint(PLAIN, None), paint(PLAIN, None))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"prompt": "a dune"},
        {"prompt": "a lake, dramatic lighting"},
        {"negative": "dark, oversaturated"},
        {"model": "other"},
        {"steps": 4},
        {"cfg_scale": 12.0},
        {"scheduler": "ddim"},
        {"loras": (("sandbox-ink", 0.8),)},
        {"loras": (("sandbox-glow", 0.4),)},
    ],
    ids=str,
)
def test_paint_depends_on_all_that_a_diffusion_depends_on(change: dict[str, object]) -> None:
    changed = replace(PLAIN, **change)  # type: ignore[arg-type]
    assert changed.digest() != PLAIN.digest()
    assert not np.array_equal(paint(changed, None), paint(PLAIN, None))


def test_paint_at_strength_0_is_the_source_and_at_1_is_independent_of_it() -> None:
    assert np.array_equal(paint(replace(PLAIN, strength=0.0, source="s"), SOURCE), SOURCE)
    elsewhere = np.ascontiguousarray(SOURCE[::-1])
    whole = replace(PLAIN, strength=1.0, source="s")
    assert np.array_equal(paint(whole, SOURCE), paint(whole, elsewhere))


def test_paint_strength_replaces_fine_structure_first() -> None:
    fine = [_kept(strength, 1) for strength in (0.1, 0.4, 0.7, 0.95)]
    coarse = [_kept(strength, 8) for strength in (0.1, 0.4, 0.7, 0.95)]
    assert fine == sorted(fine, reverse=True)
    assert coarse == sorted(coarse, reverse=True)
    assert fine[0] > 0.8
    assert coarse[1] > 0.8 > fine[1]
    assert coarse[3] < 0.4


def test_paint_with_a_lora_of_weight_0_is_unchanged() -> None:
    assert np.array_equal(paint(replace(PLAIN, loras=(("sandbox-ink", 0.0),)), None), paint(PLAIN, None))


def test_paint_with_a_control_image_has_its_edges() -> None:
    lines = np.zeros((96, 96, 3), np.uint8)
    lines[:, 46:50] = 255
    control = Control(model="sandbox-canny", image="i", weight=1.0)
    difference = np.abs(paint(replace(PLAIN, controls=(control,)), None, [lines]).astype(int) - paint(PLAIN, None))
    assert difference[:, 44:52].mean() > 4 * difference[:, :30].mean()


def test_prompt_words_change_the_look() -> None:
    def bright(prompt: str) -> float:
        return float(paint(replace(PLAIN, prompt=prompt), None).mean())

    def colourful(prompt: str) -> float:
        image = paint(replace(PLAIN, prompt=prompt), None).astype(float)
        return float((image.max(2) - image.min(2)).mean())

    assert bright("a valley, night") < bright("a valley")
    assert bright("a cup, dramatic shadows") < bright("a cup") < bright("a cup, white background")
    assert colourful("a valley, vibrant colors") > colourful("a valley") > colourful("a valley, noir")
    assert read_mood("a valley", "blurry", "m").look.sharp > read_mood("a valley", "", "m").look.sharp


@given(st.integers(8, 90), st.integers(8, 90), st.text(max_size=20), st.integers(0, 2**32 - 1), st.floats(0, 1))
@settings(max_examples=15)
def test_paint_accepts_any_size_and_prompt(width: int, height: int, prompt: str, seed: int, strength: float) -> None:
    source = np.full((height, width, 3), 90, np.uint8)
    painting = Painting(width=width, height=height, seed=seed, prompt=prompt, strength=strength, source="s")
    for image in (paint(painting, source), paint(replace(painting, source=None), None)):
        assert image.shape == (height, width, 3)
        assert image.dtype == np.uint8
