"""What a picture is made with: oil, watercolour, print, ink, or a sharp lens."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from sweep.sandbox.canvas import Floats, Rng, blurred, clouds, mix, resized, smooth, to_floats, to_pixels
from sweep.sandbox.mood import Look


def worked(values: Floats, look: Look, rng: Rng, amount: float = 1.0) -> Floats:
    """The picture in the medium of this look."""
    look = look.times(amount)
    out = values
    if look.strokes > 0.05:
        out = mix(out, _strokes(out, rng), np.float32(min(1.0, look.strokes)))
    if look.wash > 0.05:
        out = mix(out, _wash(out, rng), np.float32(min(1.0, look.wash)))
    if look.flat > 0.05:
        out = mix(out, _flat(out), np.float32(min(0.9, 0.8 * look.flat)))
    if look.ink > 0.05:
        out = out * (1 - np.float32(min(1.0, look.ink)) * _outlines(out))
    if abs(look.sharp) > 0.05:
        soft = blurred(out, max(1.0, out.shape[1] / 330))
        out = out + (out - soft) * np.float32(np.clip(look.sharp, -1, 1.4))
    return np.asarray(out, np.float32)


def _strokes(values: Floats, rng: Rng) -> Floats:
    """Dabs of paint: colour from a softened picture, shifted along strokes, with the relief of bristles."""
    height, width = values.shape[1:]
    image = Image.fromarray(to_pixels(values))
    small = image.reduce(4) if min(height, width) > 160 else image
    dabs = small.filter(ImageFilter.MedianFilter(3))
    paint = to_floats(np.asarray(dabs.resize((width, height), Image.Resampling.BICUBIC)))
    angle = clouds(rng, height, width, 3, 3, 2)
    along = resized(rng.standard_normal((max(2, height // 12), max(2, width // 3)), np.float32), height, width)
    across = resized(rng.standard_normal((max(2, height // 3), max(2, width // 12)), np.float32), height, width)
    bristle = mix(along, across, smooth(angle * 1.5 + 0.5))
    relief = np.clip(paint - blurred(paint, height / 60), -0.2, 0.2).mean(0)
    return np.asarray(paint * (1 + np.float32(0.07) * bristle + np.float32(0.9) * relief), np.float32)


def _wash(values: Floats, rng: Rng) -> Floats:
    """Pigment in water: soft areas, darker rims, blooms, on rough paper."""
    height, width = values.shape[1:]
    soft = blurred(values, max(1.0, height / 110))
    tones = np.asarray(np.round(soft * 7) / 7, np.float32)
    area = mix(soft, tones, np.float32(0.5))
    rim = np.abs(soft - blurred(tones, max(1.0, height / 200))).sum(0)
    bloom = clouds(rng, height, width, 5, 5, 3)
    paper = clouds(rng, height, width, height // 5, width // 5, 1)
    out = 1 - (1 - area) * (0.78 + 0.16 * bloom)
    out = out * (1 - 0.9 * np.clip(rim, 0, 0.3))
    return np.asarray(mix(out, np.float32(1), np.float32(0.12)) + np.float32(0.012) * paper, np.float32)


def _flat(values: Floats) -> Floats:
    image = Image.fromarray(to_pixels(values)).filter(ImageFilter.MedianFilter(3))
    return np.asarray(np.round(to_floats(np.asarray(image)) * 6) / 6, np.float32)


def _outlines(values: Floats) -> Floats:
    grey = values.mean(0)
    rows, columns = np.gradient(grey)
    return np.asarray(smooth(np.hypot(rows, columns) * 9 - 0.25), np.float32)
