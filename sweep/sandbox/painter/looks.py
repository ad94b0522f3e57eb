"""Looks of an image: which one a prompt asks for, and how it is graded and painted; noise and blends to paint with.

Images in the making are 3 × height × width, so that a plane times a colour runs along memory.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
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
    """Smooth noise around 0 with about unit spread; `rows` and `columns` are the coarsest octave's cells."""
    total = np.zeros((1, 1), np.float32)
    for octave in range(octaves):
        cells = (min(height, rows * 2**octave + 2), min(width, columns * 2**octave + 2))
        total = resize(total, *cells) + rng.standard_normal(cells, np.float32) * np.float32(0.55**octave)
    return resize(total, height, width)


def grain(rng: Rng, height: int, width: int) -> PaintPlane:
    """Return white noise of unit spread; large planes repeat a tile, which nobody sees."""
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


@dataclass(frozen=True, slots=True)
class Palette:
    """Five colours of a scene, as sRGB from 0 to 1."""

    zenith: Colour
    horizon: Colour
    light: Colour
    far: Colour
    near: Colour


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Amounts around 0: what a word adds to an image. 1 is strong."""

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
    fade: float = 0.0  # lifted blacks and sepia
    flat: float = 0.0  # few tones, as printed
    sharp: float = 0.0
    ink: float = 0.0  # drawn outlines
    haze: float = 0.0
    whiteness: float = 0.0  # a white backdrop

    def plus(self, other: Look, amount: float = 1.0) -> Look:
        """Return both together, `amount` of the other."""
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


_PALETTES = {  # zenith, horizon, light, far, near; and the words that ask for it: the hour before the place
    "night": ("070d24 27476b e8f1ff 1d3557 050a16", "night moon moonlight midnight stars starry dark"),
    "ember": ("1d1a2b d1523b ffb24d 6d2f3c 120b14", "fire ember volcano lava cyberpunk neon dragon"),
    "arctic": ("6fa8d6 eaf5fb ffffff a9cbe2 40668c", "winter snow arctic ice frost cold glacier"),
    "desert": ("4f93ad f7dcb4 ffe6b0 d99a6c 8a4328", "desert dunes sand canyon mars"),
    "autumn": ("8fa9bd f6dcae ffd488 c98d5a 55281c", "autumn fall october vintage sepia retro coffee brown"),
    "mist": (
        "8ea3ad e6ebe8 ffffff b2c0c2 3c4a4d",
        "mist fog foggy misty grey gray studio white minimal product professional",
    ),
    "dusk": ("2b2d5c f08a5d ffd08a 7b4f7c 1b1730", "dusk sunset evening twilight fantasy golden cinematic"),
    "dawn": ("5b7db1 f7c9b0 ffe9c4 b99cb4 2f3b52", "dawn sunrise morning pastel"),
    "rose": ("7c6fa8 f9cdd6 fff0ea b489ac 45274a", "rose pink flower flowers blossom cherry love"),
    "forest": ("a9c9b8 e9f2d5 fbffdc 6f9a7c 16352a", "forest woods jungle green spring garden"),
    "sea": ("2f6f9f cfe8e4 fff3d0 5f9fb0 0f3a52", "sea ocean lake water coast river underwater"),
    "noon": (
        "3f83c4 d7ecf5 fff8e2 8fb3c9 2f5a3c",
        "noon day daylight summer bright sunny natural lifestyle landscape meadow",
    ),
}
_BY_CHANCE = ("dawn", "noon", "dusk", "autumn", "mist", "desert", "sea", "rose", "forest")
_STILL = (
    "still product studio coffee cup mug portrait macro bottle vase pottery ceramic fruit apple object watch tabletop"
)

_LOOKS: Mapping[str, Look] = {
    "dramatic": Look(contrast=0.7, brightness=-0.3, vignette=0.8, sidelight=0.8),
    "shadows": Look(contrast=0.5, brightness=-0.18, vignette=0.5, sidelight=1.0),
    "cinematic": Look(contrast=0.4, vignette=0.5, warmth=0.25, saturation=-0.1, glow=0.3),
    "lighting": Look(sidelight=0.35, glow=0.15),
    "studio": Look(brightness=0.2, saturation=-0.25, whiteness=0.4, sharp=0.2),
    "white": Look(whiteness=0.7, brightness=0.2),
    "background": Look(vignette=-0.1),
    "painterly": Look(strokes=1.0, saturation=0.25),
    "oil": Look(strokes=1.0, contrast=0.15),
    "impressionist": Look(strokes=1.2, saturation=0.4),
    "brushstrokes": Look(strokes=0.7),
    "artistic": Look(strokes=0.35, saturation=0.15),
    "watercolor": Look(wash=1.0, brightness=0.2, saturation=0.1),
    "watercolour": Look(wash=1.0, brightness=0.2, saturation=0.1),
    "sketch": Look(ink=1.0, saturation=-0.7, brightness=0.2),
    "ink": Look(ink=1.0, saturation=-0.4),
    "vintage": Look(fade=0.9, grain=0.6, saturation=-0.3, warmth=0.4, vignette=0.4),
    "retro": Look(fade=0.6, grain=0.3, warmth=0.4),
    "sepia": Look(fade=1.0, saturation=-0.7, warmth=0.7),
    "film": Look(grain=0.7, fade=0.3),
    "noir": Look(saturation=-1.0, contrast=0.6, grain=0.4),
    "colors": Look(saturation=0.8, contrast=0.15),
    "colours": Look(saturation=0.8, contrast=0.15),
    "colorful": Look(saturation=0.9),
    "vibrant": Look(saturation=0.9, contrast=0.15),
    "enhanced": Look(contrast=0.2, saturation=0.15, sharp=0.3),
    "professional": Look(contrast=0.12, sharp=0.2),
    "macro": Look(sharp=0.8, glow=0.15, vignette=0.3),
    "textures": Look(sharp=0.6, contrast=0.15),
    "detailed": Look(sharp=0.6),
    "detail": Look(sharp=0.5),
    "natural": Look(warmth=0.25, brightness=0.12),
    "lifestyle": Look(warmth=0.35, brightness=0.12, glow=0.2),
    "golden": Look(warmth=0.7, glow=0.4),
    "sunset": Look(warmth=0.6, glow=0.4),
    "night": Look(brightness=-0.25, warmth=-0.5, glow=0.3),
    "dark": Look(brightness=-0.4, vignette=0.3),
    "bright": Look(brightness=0.3),
    "soft": Look(contrast=-0.3, glow=0.4, haze=0.2),
    "dreamy": Look(glow=0.7, contrast=-0.3, haze=0.3),
    "mist": Look(haze=0.7, contrast=-0.2),
    "fog": Look(haze=0.8, contrast=-0.2),
    "digital": Look(flat=0.9, saturation=0.4),
    "modern": Look(flat=0.4, warmth=-0.25, sharp=0.3),
    "poster": Look(flat=1.0, saturation=0.3),
    "warm": Look(warmth=0.7),
    "cold": Look(warmth=-0.7),
    "winter": Look(warmth=-0.4, brightness=0.15),
    "moody": Look(contrast=0.3, brightness=-0.25, saturation=-0.3, haze=0.3),
    # what one mostly does not want; as negative words these work the other way round
    "blurry": Look(sharp=-0.7, haze=0.3),
    "low": Look(sharp=-0.2),
    "oversaturated": Look(saturation=0.6),
    "noisy": Look(grain=0.6),
    "grainy": Look(grain=0.7),
    "distorted": Look(sharp=-0.1),
    "harsh": Look(contrast=0.5),
}
_IN_NEGATIVE = 0.45  # how much a negative word takes away
_CHANCE = 0.12  # how much an unknown word moves each amount at most
_CHANCES = ("contrast", "brightness", "saturation", "warmth", "vignette", "sidelight", "glow", "sharp")


def chance(*parts: object) -> float:
    """Compute a number in [0, 1) by hash."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def mood(prompt: str, negative: str, model: str) -> Mood:
    """Compute the mood of a prompt with this model, at full adherence."""
    words = _split(prompt)
    look = Look()
    for word in words:
        look = look.plus(_LOOKS.get(word) or _draw_look(word), 1.0 / (1 + 0.03 * len(words)))
    for word in _split(negative):
        if word in _LOOKS:
            look = look.plus(_LOOKS[word], -_IN_NEGATIVE)
    look = look.plus(_draw_look(model), 1.5)
    subject = " ".join(_split(prompt.split(",")[0]))
    asked = (name for name, (_, names) in _PALETTES.items() if set(words) & set(names.split()))
    name = next(asked, None) or _BY_CHANCE[int(chance("palette", subject, model) * len(_BY_CHANCE))]
    return Mood(
        palette=_read_palette(_PALETTES[name][0]),
        look=replace(look, grain=max(look.grain, 0.0)),
        is_still_life=bool(set(words) & set(_STILL.split())),
        accent=chance("accent", subject, model),
    )


def _split(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _read_palette(text: str) -> Palette:
    values = [int(colour, 16) for colour in text.split()]
    return Palette(*(((value >> 16) / 255, (value >> 8 & 255) / 255, (value & 255) / 255) for value in values))


def _draw_look(word: str) -> Look:
    """Draw a look from the words of a prompt; unknown words count too, by their hash."""
    return Look(**{name: (2 * chance(word, name) - 1) * _CHANCE for name in _CHANCES})


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
