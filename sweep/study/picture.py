"""One picture as metrics see it: decoded once, reduced once, and with what several metrics need computed once."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from sweep.errors import SweepError

if TYPE_CHECKING:
    from PIL import Image

Pixels: TypeAlias = npt.NDArray[np.uint8]  # height × width × 3, sRGB
Plane: TypeAlias = npt.NDArray[np.float32]
Derived = TypeVar("Derived")

MOST_PIXELS = 100_000_000  # a picture beyond this is not decoded: it would not fit beside its neighbours


class UnreadablePictureError(SweepError):
    """A picture file is missing, broken or too large; the message says which of these."""


@dataclass(frozen=True, slots=True)
class Picture:
    """RGB at a working size. `derived` keeps what was computed of it, by name; arrays are not to be changed."""

    rgb: Pixels
    kept: dict[str, Any] = field(default_factory=dict)

    def derived(self, name: str, compute: Callable[[Picture], Derived]) -> Derived:
        """What `compute` makes of this picture, computed at the first call of this name."""
        if name not in self.kept:
            self.kept[name] = compute(self)
        value: Derived = self.kept[name]
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a metric measures: a picture, and where it asks for one a `reference` of the same size, the `prompt`, or
    the `others` of its cell.
    """

    picture: Picture
    reference: Picture | None = None
    prompt: str | None = None
    others: tuple[Picture, ...] = ()
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def pair(self) -> tuple[Picture, Picture]:
        """Picture and reference; ValueError where there is none."""
        if self.reference is None:
            raise ValueError("this metric compares with a reference picture, and the view has none")
        return self.picture, self.reference

    def derived(self, name: str, compute: Callable[[View], Derived]) -> Derived:
        """What `compute` makes of this view, computed at the first call of this name."""
        if name not in self.kept:
            self.kept[name] = compute(self)
        value: Derived = self.kept[name]
        return value


def decode(path: Path) -> Image.Image:
    """The picture at `path`, decoded whole, as RGB.

    Raises UnreadablePictureError where it is missing, truncated, no picture, or has more than 100 Mpx.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise UnreadablePictureError(
                        f"{path.name} has {image.width} × {image.height} px, too many to measure."
                    )
                image.load()
                return image.convert("RGB")
    except FileNotFoundError:
        raise UnreadablePictureError(f"{path.name} is not there.") from None
    except (OSError, ValueError, SyntaxError, MemoryError) as error:
        raise UnreadablePictureError(f"{path.name} is no whole picture ({_first_line(error)}).") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadablePictureError(f"{path.name} has too many pixels to measure.") from error


def _first_line(error: Exception) -> str:
    """Of its message, without the path that Pillow and the system end it with."""
    first = (str(error).splitlines() or [""])[0] or type(error).__name__
    return re.split(r":? '", first)[0]


def working_shape(width: int, height: int, working_size: int) -> tuple[int, int]:
    """Width and height with the longest side at most `working_size`; smaller pictures stay as they are."""
    longest = max(width, height)
    if longest <= working_size:
        return width, height
    return max(round(width * working_size / longest), 1), max(round(height * working_size / longest), 1)


def reduced(image: Image.Image, shape: tuple[int, int]) -> Picture:
    """The picture at exactly this width and height: BOX where it shrinks, BICUBIC where it grows.

    A source of another size than its rendering comes to the rendering's size here, as the server brings it there.
    """
    from PIL import Image

    if image.size != shape:
        shrinks = image.width >= shape[0] and image.height >= shape[1]
        image = image.resize(shape, Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC)
    return Picture(np.asarray(image))


def file_sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, hexadecimal; UnreadablePictureError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnreadablePictureError(f"{path.name} cannot be read ({error.strerror or error}).") from error
