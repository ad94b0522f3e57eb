"""Paints images with numpy: deterministic, quick, and answering to its parameters as a diffusion does.

Strength replaces the source from fine to coarse. A seeded warp that grows with strength takes the fine structure
along first, because a shift of two pixels matters to a hair and not to a hill; the prompt's look comes in with it;
then an image composed from prompt and seed alone takes over, fine structure before coarse. At strength 0 the source
is returned as it is, at 1 it decides nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from sweep.sandbox.painter.canvas import (
    Look,
    Mood,
    PaintedImage,
    PaintPlane,
    Rng,
    apply_grade,
    apply_medium,
    chance,
    clouds,
    grain,
    mix,
    mood,
    smooth_paint,
    to_floats,
    to_pixels,
)
from sweep.sandbox.painter.scenes import landscape, still_life


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One ControlNet at work: `image` is the digest of its image."""

    model: str
    image: str
    weight: float
    begin: float = 0.0
    end: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Painting:
    """One image to paint. `source` is the digest of the image it starts from, None for none.

    `strength` goes from 0, the source as it is, to 1, an image the source no longer decides.
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
        """Hash all fields."""
        return hashlib.blake2b(repr(self).encode(), digest_size=16).hexdigest()

    def sized(self, width: int, height: int) -> Painting:
        """Return the same painting at another size."""
        return replace(self, width=width, height=height)


_LARGEST = 384  # composed at most this large, then enlarged
_CELL = 32  # pixels of the warp's mesh


def paint(painting: Painting, source: PaintedImage | None, controls: Sequence[PaintedImage] = ()) -> PaintedImage:
    """Paint the image, height × width × 3. `source` and `controls` are the images the painting names."""
    if source is not None and painting.strength <= 0:
        return source
    height, width = painting.height, painting.width
    wanted = mood(painting.prompt, painting.negative, painting.model)
    look = _look(wanted.look, painting)
    rng = np.random.default_rng([painting.seed, 11])
    if source is None or painting.strength >= 1:
        out = _compose(painting, wanted, height, width)
        amount = 1.0
    else:
        out = _replace(to_floats(source), painting, wanted, rng)
        amount = float(smooth_paint(painting.strength * 1.75))
    for control, pixels in zip(painting.controls, controls, strict=False):
        out = _apply_control(out, to_floats(pixels), control)
    out = apply_medium(out, look, rng, amount)
    out = apply_grade(out, look, wanted.palette.light, rng, amount)
    return to_pixels(_add_traces(out, painting, amount))


def _look(look: Look, painting: Painting) -> Look:
    """Compute the prompt's look as guidance, LoRAs and few steps leave it."""
    adherence = 1.55 * painting.cfg_scale / (painting.cfg_scale + 4.2)
    out = look.times(adherence)
    burnt = max(0.0, painting.cfg_scale - 11) / 9
    out = out.plus(Look(contrast=0.5, saturation=0.6, sharp=0.4), burnt)
    for name, weight in painting.loras:
        out = out.plus(_lora(name), weight)
    return replace(out, sharp=out.sharp - 0.9 * float(np.exp(-painting.steps / 5)))


def _lora(name: str) -> Look:
    if "ink" in name:
        return Look(ink=1.0, saturation=-0.55, contrast=0.25)
    if "glow" in name:
        return Look(glow=1.1, warmth=0.35, brightness=0.1)
    signs = {key: 2 * chance(name, key) - 1 for key in ("saturation", "warmth", "contrast", "strokes", "glow", "haze")}
    return Look(**signs)


def _compose(painting: Painting, wanted: Mood, height: int, width: int) -> PaintPlane:
    """Compose an image from prompt, model and seed, without a source."""
    scale = min(1.0, _LARGEST / max(height, width))
    rows, columns = max(8, round(height * scale)), max(8, round(width * scale))
    about = painting.prompt.split(",")[0].lower()
    rng = np.random.default_rng([painting.seed, int(chance(painting.model, about, painting.clip_skip) * 2**32)])
    subject = chance("front", about)
    if wanted.scene == "still":
        out = still_life(rng, rows, columns, wanted.palette, wanted.accent, wanted.look.whiteness)
    else:
        out = landscape(rng, rows, columns, wanted.palette, subject)
    if (rows, columns) != (height, width):
        image = Image.fromarray(to_pixels(out)).resize((width, height), Image.Resampling.BICUBIC)
        out = to_floats(np.asarray(image))
    return out


def _replace(source: PaintPlane, painting: Painting, wanted: Mood, rng: Rng) -> PaintPlane:
    """Warp the source and replace it with a composed image, from fine to coarse."""
    strength = painting.strength
    out = _warp(source, strength, rng)
    if strength <= 0.5:
        return out
    composed = _compose(painting, wanted, *source.shape[1:])
    return _mix_bands(out, composed, strength, rng)


def _warp(source: PaintPlane, strength: float, rng: Rng) -> PaintPlane:
    height, width = source.shape[1:]
    reach = 0.06 * strength**1.9 * min(height, width)
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
            quad = [v for r, c in corners for v in (x[c] + shift[0][r, c], y[r] + shift[1][r, c])]
            box = (round(x[j]), round(y[i]), round(x[j + 1]), round(y[i + 1]))
            mesh.append((box, [float(v) for v in quad]))
    pad = int(reach * 4) + 1
    image = Image.fromarray(np.pad(to_pixels(source), ((pad, pad), (pad, pad), (0, 0)), mode="reflect"))
    mesh = [(box, tuple(v + pad for v in quad)) for box, quad in mesh]
    warped = image.transform((width, height), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
    return to_floats(np.asarray(warped))


def _mix_bands(source: PaintPlane, composed: PaintPlane, strength: float, rng: Rng) -> PaintPlane:
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
    out = np.empty((3, height, width), np.float32)
    for channel in range(3):
        plane = Image.fromarray(np.ascontiguousarray(values[channel]))
        out[channel] = np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR))
    return out


def _apply_control(values: PaintPlane, control: PaintPlane, how: Control) -> PaintPlane:
    """Impress the control image's structure on the image, as its weight and span say."""
    grey = control.mean(0)
    amount = how.weight * max(0.0, how.end - how.begin)
    if "depth" in how.model:
        shape = grey - grey.mean()
    else:
        rows, columns = np.gradient(grey)
        shape = -smooth_paint(np.hypot(rows, columns) * 5)
    return np.asarray(values * (1 + np.float32(0.55 * amount) * shape), np.float32)


def _add_traces(values: PaintPlane, painting: Painting, amount: float) -> PaintPlane:
    """Add the sampler's traces: noise that more steps remove, and each scheduler's own fine grain."""
    name = painting.scheduler
    rng = np.random.default_rng([painting.seed, int(chance(name) * 2**32)])
    left = 0.16 * float(np.exp(-painting.steps / 3.2)) + (0.011 if name.endswith(("_a", "sde", "_sde_k")) else 0.005)
    noise = grain(rng, *values.shape[1:])
    return np.asarray(values + np.float32(left * amount) * noise, np.float32)
