"""The words of a prompt: which of them the painter knows, and how each changes scene, palette, light and style."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib import resources

from sweep.sandbox.painter.landscape_and_still_life import Palette, colour


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
