"""A painting: the parameters of one image, the look its prompt asks for, and how both always give the same pixels.

A scene is composed from prompt and seed. Strength replaces the source from fine to coarse: a seeded warp that grows
with strength takes the fine structure along first, because a shift of two pixels matters to a hair and not to a hill;
the prompt's look comes in with it; then the composed image takes over, fine structure before coarse. At strength 0
the source is returned as it is, at 1 it decides nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib import resources
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from sweep.sandbox.painter.landscape_and_still_life import (
    PaintedImage,
    PaintPlane,
    Palette,
    Rng,
    blur_paint,
    clouds,
    colour,
    grain,
    grid,
    mix,
    paint_landscape,
    paint_still_life,
    resize,
    smooth_paint,
    to_floats,
    to_pixels,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A ControlNet that shapes an image; `image` is the digest of its control image."""

    model: str
    image: str
    weight: float
    begin: float = 0.0
    end: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Painting:
    """The parameters of an image to paint. `source` is the digest of the image it starts from, None for none.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The amounts that a word adds to an image, around 0; 1 is strong."""

    contrast: float = 0.0
    brightness: float = 0.0
    saturation: float = 0.0
    warmth: float = 0.0
    vignette: float = 0.0
    sidelight: float = 0.0
    glow: float = 0.0
    strokes: float = 0.0  # oil paint
    wash: float = 0.0  # watercolour
    grain: float = 0.0
    sharp: float = 0.0
    ink: float = 0.0  # drawn outlines
    haze: float = 0.0
    whiteness: float = 0.0  # a white backdrop

    def plus(self, other: Look, amount: float = 1.0) -> Look:
        """Add `amount` of another look to this one."""
        return Look(**{f.name: getattr(self, f.name) + amount * getattr(other, f.name) for f in fields(Look)})

    def times(self, amount: float) -> Look:
        """Return the same look, weaker or stronger."""
        return Look().plus(self, amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mood:
    """The look and the scene that a prompt asks for."""

    palette: Palette
    look: Look
    is_still_life: bool  # else a landscape
    accent: float  # hue from 0 to 1 for what stands out


_WORDS = json.loads((resources.files(__package__) / "prompt_words.json").read_text("utf-8"))
_PALETTES = {
    name: Palette(*(colour([part / 255 for part in bytes.fromhex(text)]) for text in entry["colours"]))
    for name, entry in _WORDS["palettes"].items()
}
_LOOKS, _LORAS = ({word: Look(**amounts) for word, amounts in _WORDS[kind].items()} for kind in ("looks", "loras"))
_IN_NEGATIVE = 0.45  # how much a negative word takes away
_MOST = 0.12  # how much an unknown word moves each amount at most
_DRAWN = ("contrast", "brightness", "saturation", "warmth", "vignette", "sidelight", "glow", "sharp")
_DRAWN_BY_LORAS = ("saturation", "warmth", "contrast", "strokes", "glow", "haze")


def chance(*parts: object) -> float:
    """Compute a number in [0, 1) by hash."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def read_mood(prompt: str, negative: str, model: str) -> Mood:
    """Compute the mood of a prompt with this model, at full adherence."""
    words = _split(prompt)
    look = Look()
    for word in words:
        look = look.plus(_LOOKS.get(word) or _draw_look(word, _DRAWN, _MOST), 1.0 / (1 + 0.03 * len(words)))
    for word in _split(negative):
        look = look.plus(_LOOKS.get(word, Look()), -_IN_NEGATIVE)
    look = look.plus(_draw_look(model, _DRAWN, _MOST), 1.5)
    subject = " ".join(_split(prompt.split(",")[0]))
    by_chance = _WORDS["palettes_by_chance"]
    asked = (name for name, entry in _WORDS["palettes"].items() if set(words) & set(entry["words"]))
    name = next(asked, None) or by_chance[int(chance("palette", subject, model) * len(by_chance))]
    return Mood(
        palette=_PALETTES[name],
        look=replace(look, grain=max(look.grain, 0.0)),
        is_still_life=bool(set(words) & set(_WORDS["still_life"])),
        accent=chance("accent", subject, model),
    )


def _split(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _draw_look(word: str, names: Sequence[str], most: float = 1.0) -> Look:
    """Draw these amounts of a look from a word's hash: words without a look of their own change the image too."""
    return Look(**{name: (2 * chance(word, name) - 1) * most for name in names})


def read_lora(name: str) -> Look:
    """Return what a LoRA of this name adds at weight 1."""
    known = (look for word, look in _LORAS.items() if word in name)
    return next(known, None) or _draw_look(name, _DRAWN_BY_LORAS)


def paint(painting: Painting, source: PaintedImage | None, controls: Sequence[PaintedImage] = ()) -> PaintedImage:
    """Paint the image, height × width × 3. `source` and `controls` are the images the painting names."""
    if source is not None and painting.strength <= 0:
        return source
    height, width = painting.height, painting.width
    wanted = read_mood(painting.prompt, painting.negative, painting.model)
    look = _adapt_look(wanted.look, painting)
    rng = np.random.default_rng([painting.seed, 11])
    if source is None or painting.strength >= 1:
        out = _compose(painting, wanted, height, width)
        amount = 1.0
    else:
        out = _warp(to_floats(source), painting.strength, rng)
        if painting.strength > 0.5:
            out = _mix_bands(out, _compose(painting, wanted, *out.shape[1:]), painting.strength, rng)
        amount = float(smooth_paint(painting.strength * 1.75))
    for control, pixels in zip(painting.controls, controls, strict=False):
        out = _apply_control(out, to_floats(pixels), control)
    look = look.times(amount)
    out = _apply_medium(out, look, rng)
    out = _apply_grade(out, look, wanted.palette.light, rng)
    return to_pixels(_add_traces(out, painting, amount))


def _adapt_look(look: Look, painting: Painting) -> Look:
    """Compute the prompt's look as guidance, LoRAs and few steps leave it."""
    adherence = 1.55 * painting.cfg_scale / (painting.cfg_scale + 4.2)
    out = look.times(adherence)
    burnt = max(0.0, painting.cfg_scale - 11) / 9
    out = out.plus(Look(contrast=0.5, saturation=0.6, sharp=0.4), burnt)
    for name, weight in painting.loras:
        out = out.plus(read_lora(name), weight)
    return replace(out, sharp=out.sharp - 0.9 * float(np.exp(-painting.steps / 5)))


_LARGEST = 384  # composed at most this large, then enlarged


def _compose(painting: Painting, wanted: Mood, height: int, width: int) -> PaintPlane:
    """Compose an image from prompt, model and seed, without a source."""
    scale = min(1.0, _LARGEST / max(height, width))
    rows, columns = max(8, round(height * scale)), max(8, round(width * scale))
    about = painting.prompt.split(",")[0].lower()
    rng = np.random.default_rng([painting.seed, int(chance(painting.model, about, painting.clip_skip) * 2**32)])
    if wanted.is_still_life:
        out = paint_still_life(rng, rows, columns, wanted.palette, wanted.accent, wanted.look.whiteness)
    else:
        out = paint_landscape(rng, rows, columns, wanted.palette)
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


def _apply_grade(values: PaintPlane, look: Look, light: PaintPlane, rng: Rng) -> PaintPlane:
    """Grade the image in this look: tone, colour, light."""
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
        out += (light - out) * veil
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
    """Apply saturation and warmth in place."""
    grey = np.float32(0.299) * out[0] + np.float32(0.587) * out[1] + np.float32(0.114) * out[2]
    warm = 1 + np.float32(look.warmth) * colour((0.11, 0.02, -0.16))
    vivid = np.float32(max(0.0, 1 + 0.65 * look.saturation))
    out *= vivid * warm
    out += grey * ((1 - vivid) * warm)


def _apply_medium(out: PaintPlane, look: Look, rng: Rng) -> PaintPlane:
    if look.strokes > 0.05:
        out = mix(out, _paint_strokes(out, rng), np.float32(min(1.0, look.strokes)))
    if look.wash > 0.05:
        out = mix(out, _paint_wash(out, rng), np.float32(min(1.0, look.wash)))
    if look.ink > 0.05:
        steep = np.hypot(*np.gradient(out.mean(0)))
        out = out * (1 - np.float32(min(1.0, look.ink)) * np.asarray(smooth_paint(steep * 9 - 0.25), np.float32))
    if abs(look.sharp) > 0.05:
        soft = blur_paint(out, max(1.0, out.shape[1] / 330))
        out = out + (out - soft) * np.float32(np.clip(look.sharp, -1, 1.4))
    return np.asarray(out, np.float32)


def _paint_strokes(values: PaintPlane, rng: Rng) -> PaintPlane:
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


def _paint_wash(values: PaintPlane, rng: Rng) -> PaintPlane:
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


def _warp(source: PaintPlane, strength: float, rng: Rng) -> PaintPlane:
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


def _mix_bands(source: PaintPlane, composed: PaintPlane, strength: float, rng: Rng) -> PaintPlane:
    """Mix two images by frequency band: the composed one comes first in fine bands, and not everywhere at once."""
    height, width = source.shape[1:]
    local = strength + np.float32(0.16 * (1 - strength)) * clouds(rng, height, width, 3, 3, 2)
    fine = smooth_paint((local - 0.58) / 0.34)
    a, b, small = source, composed, local[None]
    for _ in range(min(3, max(0, int(np.log2(min(height, width))) - 3))):
        a, b, small = _halve(a), _halve(b), _halve(small)
    late = smooth_paint((small - 0.65) / 0.33) - smooth_paint((small - 0.58) / 0.34)
    coarse = [resize(plane, height, width, Image.Resampling.BILINEAR) for plane in (b - a) * late]
    return np.asarray(mix(source, composed, fine) + coarse, np.float32)


def _halve(values: PaintPlane) -> PaintPlane:
    height, width = values.shape[1] // 2 * 2, values.shape[2] // 2 * 2
    even = values[:, :height, :width]
    summed = (even[:, 0::2, 0::2] + even[:, 1::2, 0::2] + even[:, 0::2, 1::2] + even[:, 1::2, 1::2]) * np.float32(0.25)
    return np.asarray(summed, np.float32)
