"""Filters on images in the making: noise, blends, blur, grading, paint media, and the warp of a source.

Images in the making are 3 × height × width, so that a plane times a colour runs along memory.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sweep.sandbox.painter.prompt_words import Colour, Look

PaintPlane = NDArray[np.float32]
PaintedImage = NDArray[np.uint8]
Rng = np.random.Generator


def colour(value: Colour) -> PaintPlane:
    """Convert a colour to an array of 3 × 1 × 1."""
    return np.array(value, np.float32).reshape(3, 1, 1)


def smooth_paint(values: Any) -> Any:
    """Rise softly from 0 at 0 to 1 at 1, and stay there."""
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
    """Make smooth noise around 0 of about unit spread; the coarsest octave has `rows` × `columns` cells."""
    total = np.zeros((1, 1), np.float32)
    for octave in range(octaves):
        cells = (min(height, rows * 2**octave + 2), min(width, columns * 2**octave + 2))
        total = resize(total, *cells) + rng.standard_normal(cells, np.float32) * np.float32(0.55**octave)
    return resize(total, height, width)


def grain(rng: Rng, height: int, width: int) -> PaintPlane:
    """Make white noise of unit spread; large planes repeat a tile, which nobody sees."""
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
    """Return row and column of each pixel, from 0 to 1. Shared: do not write to them."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return y / np.float32(height), x / np.float32(width)


def to_pixels(values: PaintPlane) -> PaintedImage:
    """Return 3 × height × width floats from 0 to 1 as height × width × 3 bytes."""
    scaled = np.clip(values, 0, 1) * np.float32(255) + np.float32(0.5)
    return np.ascontiguousarray(scaled.astype(np.uint8).transpose(1, 2, 0))


def to_floats(pixels: PaintedImage) -> PaintPlane:
    """Return height × width × 3 bytes as 3 × height × width floats from 0 to 1."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32) * np.float32(1 / 255)


def blur_paint(values: PaintPlane, radius: float) -> PaintPlane:
    """Blur an image by `radius` pixels; computed small, as blur needs no detail."""
    factor = max(1, int(radius / 2))
    image = Image.fromarray(to_pixels(values))
    height, width = values.shape[1:]
    small = image.reduce(factor) if factor > 1 else image
    soft = small.filter(ImageFilter.BoxBlur(max(1, round(radius / factor))))
    return to_floats(np.asarray(soft.resize((width, height), Image.Resampling.BICUBIC)))


def apply_grade(values: PaintPlane, look: Look, light: Colour, rng: Rng, amount: float = 1.0) -> PaintPlane:
    """Grade the image in this look: tone, colour, light; `amount` scales it."""
    look = look.times(amount)
    height, width = values.shape[1:]
    y, x = grid(height, width)
    fall = mix(np.float32(0.62), np.float32(1.22), smooth_paint(1.15 - x - 0.25 * y))
    side = mix(np.float32(1), fall, np.float32(min(1.0, abs(look.sidelight) * 0.7)))
    corner = smooth_paint(((x - 0.5) ** 2 + (y - 0.5) ** 2) * 1.9)
    out = values * np.asarray(side * (1 - np.float32(np.clip(look.vignette, -0.3, 0.85)) * corner), np.float32)
    _apply_tone(out, look)
    _apply_colour(out, look)
    if look.haze > 0:
        veil = np.float32(min(0.5, 0.32 * look.haze)) * smooth_paint(1.2 - y)
        out += (colour(light) - out) * veil
    if look.glow > 0.05:
        soft = blur_paint(out, height / 42)
        out += np.float32(min(0.6, 0.42 * look.glow)) * soft * soft * (1 - np.clip(out, 0, 1))
    if look.grain > 0.02:
        out += grain(rng, height, width) * np.float32(0.045 * min(1.5, look.grain))
    return out


def _apply_tone(out: PaintPlane, look: Look) -> None:
    """Apply brightness and contrast in place."""
    out *= 1 + np.float32(np.clip(1.15 * look.brightness, -0.8, 1.5)) * (1 - out)
    strong = np.float32(np.clip(look.contrast, -0.9, 0.85))
    curve = np.clip(out, 0, 1)
    steep = 3 - 2 * curve
    curve *= curve
    curve *= steep
    out += (curve - out) * strong


def _apply_colour(out: PaintPlane, look: Look) -> None:
    """Apply saturation, warmth and the colours of old prints, in place."""
    grey = np.float32(0.299) * out[0] + np.float32(0.587) * out[1] + np.float32(0.114) * out[2]
    warm = 1 + np.float32(look.warmth) * colour((0.11, 0.02, -0.16))
    vivid = np.float32(max(0.0, 1 + 0.65 * look.saturation))
    out *= vivid * warm
    out += grey * ((1 - vivid) * warm)
    if look.fade > 0:
        share, black = np.float32(min(0.75, 0.55 * look.fade)), np.float32(min(1.0, look.fade))
        out += (grey * colour((1.04, 0.92, 0.72)) - out) * share
        out *= 1 - np.float32(0.12) * black
        out += colour((0.10, 0.085, 0.07)) * black


def apply_medium(values: PaintPlane, look: Look, rng: Rng, amount: float = 1.0) -> PaintPlane:
    """Render the image in the medium of this look."""
    look = look.times(amount)
    out = values
    if look.strokes > 0.05:
        out = mix(out, _strokes(out, rng), np.float32(min(1.0, look.strokes)))
    if look.wash > 0.05:
        out = mix(out, _wash(out, rng), np.float32(min(1.0, look.wash)))
    if look.flat > 0.05:
        image = Image.fromarray(to_pixels(out)).filter(ImageFilter.MedianFilter(3))
        tones = np.asarray(np.round(to_floats(np.asarray(image)) * 6) / 6, np.float32)
        out = mix(out, tones, np.float32(min(0.9, 0.8 * look.flat)))
    if look.ink > 0.05:
        steep = np.hypot(*np.gradient(out.mean(0)))
        out = out * (1 - np.float32(min(1.0, look.ink)) * np.asarray(smooth_paint(steep * 9 - 0.25), np.float32))
    if abs(look.sharp) > 0.05:
        soft = blur_paint(out, max(1.0, out.shape[1] / 330))
        out = out + (out - soft) * np.float32(np.clip(look.sharp, -1, 1.4))
    return np.asarray(out, np.float32)


def _strokes(values: PaintPlane, rng: Rng) -> PaintPlane:
    """Paint dabs: colour from a softened image, shifted along strokes, with the relief of bristles."""
    height, width = values.shape[1:]
    image = Image.fromarray(to_pixels(values))
    small = image.reduce(4) if min(height, width) > 160 else image
    dabs = small.filter(ImageFilter.MedianFilter(3))
    paint = to_floats(np.asarray(dabs.resize((width, height), Image.Resampling.BICUBIC)))
    angle = clouds(rng, height, width, 3, 3, 2)
    along = resize(rng.standard_normal((max(2, height // 12), max(2, width // 3)), np.float32), height, width)
    across = resize(rng.standard_normal((max(2, height // 3), max(2, width // 12)), np.float32), height, width)
    bristle = mix(along, across, smooth_paint(angle * 1.5 + 0.5))
    relief = np.clip(paint - blur_paint(paint, height / 60), -0.2, 0.2).mean(0)
    return np.asarray(paint * (1 + np.float32(0.07) * bristle + np.float32(0.9) * relief), np.float32)


def _wash(values: PaintPlane, rng: Rng) -> PaintPlane:
    """Paint pigment in water: soft areas, darker rims, blooms, on rough paper."""
    height, width = values.shape[1:]
    soft = blur_paint(values, max(1.0, height / 110))
    tones = np.asarray(np.round(soft * 7) / 7, np.float32)
    area = mix(soft, tones, np.float32(0.5))
    rim = np.abs(soft - blur_paint(tones, max(1.0, height / 200))).sum(0)
    bloom = clouds(rng, height, width, 5, 5, 3)
    paper = clouds(rng, height, width, height // 5, width // 5, 1)
    out = 1 - (1 - area) * (0.78 + 0.16 * bloom)
    out = out * (1 - 0.9 * np.clip(rim, 0, 0.3))
    return np.asarray(mix(out, np.float32(1), np.float32(0.12)) + np.float32(0.012) * paper, np.float32)


_CELL = 32  # pixels of the warp's mesh


def warp(source: PaintPlane, strength: float, rng: Rng) -> PaintPlane:
    """Shift the source's parts against each other, so that fine structure is lost first."""
    height, width = source.shape[1:]
    reach = 0.06 * strength**1.9 * min(height, width)
    pad = int(reach * 4) + 1
    rows, columns = max(2, height // _CELL), max(2, width // _CELL)
    shift = [
        reach * (0.9 * clouds(rng, rows + 1, columns + 1, 3, 3, 1) + 0.3 * clouds(rng, rows + 1, columns + 1, 6, 6, 1))
        for _ in range(2)
    ]
    y = np.linspace(0, height, rows + 1)
    x = np.linspace(0, width, columns + 1)
    mesh: list[Any] = []
    for i in range(rows):
        for j in range(columns):
            corners = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)]
            quad = [float(v) + pad for r, c in corners for v in (x[c] + shift[0][r, c], y[r] + shift[1][r, c])]
            mesh.append(((round(x[j]), round(y[i]), round(x[j + 1]), round(y[i + 1])), quad))
    image = Image.fromarray(np.pad(to_pixels(source), ((pad, pad), (pad, pad), (0, 0)), mode="reflect"))
    warped = image.transform((width, height), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
    return to_floats(np.asarray(warped))


def mix_bands(source: PaintPlane, composed: PaintPlane, strength: float, rng: Rng) -> PaintPlane:
    """Mix two images by frequency band: the composed one comes first in fine bands, and not everywhere at once."""
    height, width = source.shape[1:]
    local = strength + np.float32(0.16 * (1 - strength)) * clouds(rng, height, width, 3, 3, 2)
    fine = smooth_paint((local - 0.58) / 0.34)
    a, b, local = source, composed, local[None]
    for _ in range(min(3, max(0, int(np.log2(min(height, width))) - 3))):
        a, b, local = _halve(a), _halve(b), _halve(local)
    late = smooth_paint((local - 0.65) / 0.33) - smooth_paint((local - 0.58) / 0.34)
    return np.asarray(mix(source, composed, fine) + _enlarge((b - a) * late, height, width), np.float32)


def _halve(values: PaintPlane) -> PaintPlane:
    height, width = values.shape[1] // 2 * 2, values.shape[2] // 2 * 2
    even = values[:, :height, :width]
    summed = (even[:, 0::2, 0::2] + even[:, 1::2, 0::2] + even[:, 0::2, 1::2] + even[:, 1::2, 1::2]) * np.float32(0.25)
    return np.asarray(summed, np.float32)


def _enlarge(values: PaintPlane, height: int, width: int) -> PaintPlane:
    planes = (Image.fromarray(np.ascontiguousarray(plane, np.float32)) for plane in values)
    return np.stack([np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR)) for plane in planes])
