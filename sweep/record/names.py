"""File names a person can read, safe on every system: `0007_s0.40_studio-lighting_seed43`."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping

from sweep.record.base import Scalar

IMAGES = "images"  # sub-folders of a results folder
INPUTS = "inputs"
LONGEST = 120  # characters of a file's name, suffixes and extension included
_STEM = LONGEST - 20  # room for _<key8>, _<ordinal> and .webp
_STEM_BYTES = 200  # of UTF-8: systems allow 255 for a name
_TEXT = 40  # characters of one text value
_SHARDED_ABOVE = 2000  # points
_SHARD = 1000  # points a folder
_SHORT = {
    "denoise_strength": "s",
    "cfg_scale": "cfg",
    "lora_weight": "lora",
    "control_weight": "control",
    "width": "w",
    "height": "h",
}
_OWN_WORDS = {"variation", "prompt", "negative_prompt", "scheduler", "model", "image", "lora", "control_image"}
"""Axes whose text stands for itself, without the axis's name."""


def file_stem(index: int, values: Mapping[str, Scalar], *, points: int, kinds: Mapping[str, str] | None = None) -> str:
    """The name of a variation's picture without extension, with its sub-folder and "/" above 2,000 `points`.

    `kinds` are the axes' kinds, as in an experiment; without them the values' types decide. The index makes it unique
    among the points of one definition, and its digits keep it clear of names reserved by Windows.
    """
    kinds = kinds or {}
    width = max(4, len(str(max(points - 1, 0))))
    parts = [_part(name, value, kinds.get(name, "")) for name, value in values.items()]
    stem = _cut("_".join([f"{index:0{width}d}", *filter(None, parts)]), _STEM, _STEM_BYTES)
    return f"{index // _SHARD:03d}/{stem}" if points > _SHARDED_ABOVE else stem


def slug(text: str, longest: int = _TEXT) -> str:
    """`text` in lower case, words joined by "-": accents go, other scripts stay, all else is a divider.

    Never empty: a text without a letter or digit in any script becomes a short hash of itself.
    """
    kept = "".join(_plain(character) for character in unicodedata.normalize("NFKC", text).lower())
    words = re.sub(r"-+", "-", kept).strip("-")
    return _cut(words, longest, 2 * longest) or "x" + hashlib.blake2b(text.encode(), digest_size=3).hexdigest()


def _part(axis: str, value: Scalar, kind: str) -> str:
    word = axis.rpartition(".")[2]
    role, _, number = word.rpartition("_")
    if role in _SHORT and number.isdecimal() and isinstance(value, int | float):
        return f"{_SHORT[role]}{number}-{_number(value, two_places=False)}"
    name = _SHORT.get(word, "" if word in _OWN_WORDS else slug(word, 16))
    if value is None or value == "":
        return f"{name}-none" if name else "none"
    if isinstance(value, bool):
        return name or word if value else f"no-{name or word}"
    if isinstance(value, int | float):
        return f"{name}{_number(value, two_places=word == 'denoise_strength')}"
    if kind == "image":
        return slug(value.replace("\\", "/").rpartition("/")[2].rpartition(".")[0] or value)
    return slug(value) if kind in ("text", "label") or not name else f"{name}-{slug(value)}"


def _number(value: float, *, two_places: bool) -> str:
    if isinstance(value, int) and not two_places:
        return str(value)
    if two_places and float(padded := f"{value:.2f}") == value:
        return padded
    return f"{value:.6g}".replace("+", "")


def _plain(character: str) -> str:
    first = unicodedata.normalize("NFKD", character)[0]
    if first.isascii():
        return first if first.isalnum() else "-"
    return character if unicodedata.category(character)[0] in "LNM" else "-"


def _cut(text: str, characters: int, size: int) -> str:
    """At most so many characters and UTF-8 bytes, not ending in what Windows drops or a divider."""
    short = text[:characters].encode()[:size].decode(errors="ignore")
    return short.rstrip("-_. ")
