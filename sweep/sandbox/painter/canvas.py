"""Noise, blends and planes of pixels: what scenes and looks are painted with.

Images in the making are 3 × height × width, so that a plane times a colour runs along memory.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Colour = tuple[float, float, float]
PaintPlane = NDArray[np.float32]
PaintedImage = NDArray[np.uint8]
Rng = np.random.Generator


def colour(value: Colour) -> PaintPlane:
    """Convert a colour to an array of 3 × 1 × 1."""
    return np.array(value, np.float32).reshape(3, 1, 1)


def smooth_paint(values: Any) -> Any:
    """0 below 0, 1 above 1, and a soft way between."""
    t = np.clip(values, 0, 1)
    return t * t * (3 - 2 * t)


def mix(a: Any, b: Any, t: Any) -> Any:
    """Interpolate from `a` at t = 0 to `b` at t = 1."""
    return a + (b - a) * t


def resize(values: PaintPlane, height: int, width: int) -> PaintPlane:
    """Resize a plane smoothly."""
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def clouds(rng: Rng, height: int, width: int, rows: int, columns: int, octaves: int = 3) -> PaintPlane:
    """Smooth noise around 0 with about unit spread; `rows` and `columns` are the coarsest octave's cells."""
    total = np.zeros((1, 1), np.float32)
    for octave in range(octaves):
        cells = (min(height, rows * 2**octave + 2), min(width, columns * 2**octave + 2))
        total = resize(total, *cells) + rng.standard_normal(cells, np.float32) * np.float32(0.55**octave)
    return resize(total, height, width)


def grain(rng: Rng, height: int, width: int) -> PaintPlane:
    """White noise of unit spread; large planes repeat a tile, which nobody sees."""
    tile = rng.standard_normal((min(height, 160), min(width, 160)), np.float32)
    again = (-(-height // tile.shape[0]), -(-width // tile.shape[1]))
    return np.tile(tile, again)[:height, :width]


def line(rng: Rng, width: int, cells: int, octaves: int = 5, roughness: float = 0.5) -> PaintPlane:
    """Draw a ragged line from about −1 to 1, one value a column."""
    x = np.linspace(0, 1, width, dtype=np.float32)
    total = np.zeros(width, np.float32)
    for octave in range(octaves):
        count = cells * 2**octave + 2
        points = rng.uniform(-1, 1, count).astype(np.float32)
        place = x * (count - 1)
        left = np.minimum(place.astype(int), count - 2)
        total += mix(points[left], points[left + 1], smooth_paint(place - left)) * np.float32(roughness**octave)
    return total


@lru_cache(maxsize=8)
def grid(height: int, width: int) -> tuple[PaintPlane, PaintPlane]:
    """Row and column of each pixel, from 0 to 1. Shared: do not write to them."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return y / np.float32(height), x / np.float32(width)


def to_pixels(values: PaintPlane) -> PaintedImage:
    """3 × height × width floats from 0 to 1 as height × width × 3 bytes."""
    scaled = np.clip(values, 0, 1) * np.float32(255) + np.float32(0.5)
    return np.ascontiguousarray(scaled.astype(np.uint8).transpose(1, 2, 0))


def to_floats(pixels: PaintedImage) -> PaintPlane:
    """Height × width × 3 bytes as 3 × height × width floats from 0 to 1."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32) * np.float32(1 / 255)


def blur_paint(values: PaintPlane, radius: float) -> PaintPlane:
    """Blur an image by `radius` pixels; computed small, as blur needs no detail."""
    factor = max(1, int(radius / 2))
    image = Image.fromarray(to_pixels(values))
    height, width = values.shape[1:]
    small = image.reduce(factor) if factor > 1 else image
    soft = small.filter(ImageFilter.BoxBlur(max(1, round(radius / factor))))
    return to_floats(np.asarray(soft.resize((width, height), Image.Resampling.BICUBIC)))
