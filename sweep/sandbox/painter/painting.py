"""A painting: the parameters of one image, and how it is painted from them, always to the same pixels.

A scene is composed from prompt and seed. Strength replaces the source from fine to coarse: a seeded warp that grows
with strength takes the fine structure along first, because a shift of two pixels matters to a hair and not to a hill;
the prompt's look comes in with it; then the composed image takes over, fine structure before coarse. At strength 0
the source is returned as it is, at 1 it decides nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from sweep.sandbox.painter.filters import (
    PaintedImage,
    PaintPlane,
    apply_grade,
    apply_medium,
    grain,
    mix_bands,
    smooth_paint,
    to_floats,
    to_pixels,
    warp,
)
from sweep.sandbox.painter.prompt_words import Look, Mood, chance, mood
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


_LARGEST = 384  # composed at most this large, then enlarged


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
        out = warp(to_floats(source), painting.strength, rng)
        if painting.strength > 0.5:
            out = mix_bands(out, _compose(painting, wanted, *out.shape[1:]), painting.strength, rng)
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
    if wanted.is_still_life:
        out = still_life(rng, rows, columns, wanted.palette, wanted.accent, wanted.look.whiteness)
    else:
        out = landscape(rng, rows, columns, wanted.palette)
    if (rows, columns) != (height, width):
        image = Image.fromarray(to_pixels(out)).resize((width, height), Image.Resampling.BICUBIC)
        out = to_floats(np.asarray(image))
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
