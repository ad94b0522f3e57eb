"""The words of a prompt: the palette and the look that each asks for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

Colour = tuple[float, float, float]


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
    fade: float = 0.0  # lifted blacks and sepia
    flat: float = 0.0  # few tones, as printed
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


def read_mood(prompt: str, negative: str, model: str) -> Mood:
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
