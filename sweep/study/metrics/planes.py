"""A decoded image and the planes that several metrics share: luma, pyramid, OKLab."""

from __future__ import annotations

import hashlib
import io
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from sweep.errors import SweepError

if TYPE_CHECKING:
    from PIL import Image


RgbArray: TypeAlias = npt.NDArray[np.uint8]  # height × width × 3, sRGB
Plane: TypeAlias = npt.NDArray[np.float32]
Derived = TypeVar("Derived")

MAX_MEASURED_PIXELS = 100_000_000  # an image beyond this is not decoded: it would not fit beside its neighbours


class UnreadableImageError(SweepError):
    """An image file is missing, broken or too large; the message says which of these."""


@dataclass(frozen=True, slots=True)
class _Memo:
    """Keeps what was computed of it, by name."""

    kept: dict[str, Any] = field(default_factory=dict, kw_only=True)

    def derived(self, name: str, compute: Callable[[Self], Derived]) -> Derived:
        """Compute something once, at the first call of this name."""
        if name not in self.kept:
            self.kept[name] = compute(self)
        value: Derived = self.kept[name]
        return value


@dataclass(frozen=True, slots=True)
class DecodedImage(_Memo):
    """RGB at a working size; arrays are not to be changed."""

    rgb: RgbArray


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePair(_Memo):
    """What a metric measures: an image, and where it asks for one a `reference` of the same size, the `prompt`, or
    the `others` of its cell.
    """

    image: DecodedImage
    reference: DecodedImage | None = None
    prompt: str | None = None
    others: tuple[DecodedImage, ...] = ()

    @property
    def pair(self) -> tuple[DecodedImage, DecodedImage]:
        """Image and reference; ValueError where there is none."""
        if self.reference is None:
            raise ValueError("this metric compares with a reference image, and the view has none")
        return self.image, self.reference


@dataclass(frozen=True, slots=True)
class SentImage:
    """The bytes of an image file, for a process on a host that has no such file."""

    name: str
    data: bytes


def decode(path: Path | SentImage) -> Image.Image:
    """Decode the whole image at `path` as RGB.

    Raises UnreadableImageError where it is missing, truncated, no image, or has more than 100 Mpx.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path if isinstance(path, Path) else io.BytesIO(path.data)) as image:
                if image.width * image.height > MAX_MEASURED_PIXELS:
                    raise UnreadableImageError(
                        f"{path.name} has {image.width} × {image.height} px, too many to measure."
                    )
                image.load()
                return image.convert("RGB")
    except FileNotFoundError:
        raise UnreadableImageError(f"{path.name} is not there.") from None
    except (OSError, ValueError, SyntaxError, MemoryError) as error:
        raise UnreadableImageError(f"{path.name} is not a complete image ({_first_line(error)}).") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError(f"{path.name} has too many pixels to measure.") from error


def _first_line(error: Exception) -> str:
    """Return the message without the path or the object that Pillow and the system end it with."""
    first = (str(error).splitlines() or [""])[0] or type(error).__name__
    return re.split(r":? ['<]", first)[0]


def working_shape(width: int, height: int, working_size: int) -> tuple[int, int]:
    """Return width and height with the longest side at most `working_size`; smaller images stay as they are."""
    longest = max(width, height)
    if longest <= working_size:
        return width, height
    return max(round(width * working_size / longest), 1), max(round(height * working_size / longest), 1)


def reduced(image: Image.Image, shape: tuple[int, int]) -> DecodedImage:
    """Resize the image to exactly this width and height: BOX where it shrinks, BICUBIC where it grows.

    A source of another size than its rendering comes to the rendering's size here, as the server brings it there.
    """
    from PIL import Image

    if image.size != shape:
        shrinks = image.width >= shape[0] and image.height >= shape[1]
        image = image.resize(shape, Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC)
    return DecodedImage(np.asarray(image))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of the file's bytes, hexadecimal. Raises UnreadableImageError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableImageError(f"{path.name} cannot be read ({error.strerror or error}).") from error


LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as the papers' rgb2gray
BINOMIAL = (1 / 16, 4 / 16, 6 / 16)  # outer, inner, middle tap; Burt and Adelson 1983, IEEE Trans. Commun. 31
COARSE_SIDE = 32  # px of the longest side where "coarse" begins
SMALL_SIDE = 64  # px of the longest side for colour


def luma(image: DecodedImage) -> Plane:
    """Return Y' of BT.601, 0–255, float32."""
    return image.derived("luma", lambda p: p.rgb @ LUMA)


def smooth(plane: Plane, taps: tuple[float, ...]) -> Plane:
    """Apply a symmetric separable filter whose result is smaller by len(taps) − 1 on each side.

    `taps`: from the outermost to the middle one.
    """
    return _along(_along(plane, taps).T, taps).T


def _along(plane: Plane, taps: tuple[float, ...]) -> Plane:
    """Filter down the columns. Pairs of equal taps are added first: a third fewer multiplications."""
    radius = len(taps) - 1
    height = plane.shape[0] - 2 * radius
    result = plane[radius : radius + height] * np.float32(taps[-1])
    pair = np.empty_like(result)
    for offset, tap in enumerate(taps[:-1]):
        mirrored = 2 * radius - offset
        np.add(plane[offset : offset + height], plane[mirrored : mirrored + height], out=pair)
        pair *= np.float32(tap)
        result += pair
    return result


def blur(plane: Plane) -> Plane:
    """Blur by five binomial taps each way, edges mirrored; the same size."""
    return smooth(np.pad(plane, 2, mode="reflect" if min(plane.shape) > 2 else "edge"), BINOMIAL)


def halved(plane: Plane) -> Plane:
    """Return the mean of 2 × 2 blocks; an odd last row or column is left out."""
    height, width = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
    even = plane[:height:2] + plane[1:height:2]
    return (even[:, :width:2] + even[:, 1:width:2]) * np.float32(0.25)


def bands(image: DecodedImage) -> tuple[Plane, Plane, Plane]:
    """Return fine, middle and coarse structure of the luma: a Laplacian pyramid's finest band, the one half way down,
    and the smooth rest at 32 px.
    """
    return image.derived("bands", _bands)


def _bands(image: DecodedImage) -> tuple[Plane, Plane, Plane]:
    level = luma(image)
    depth = max(round(math.log2(max(level.shape) / COARSE_SIDE)), 0)  # halvings to 32 px: 4 at 512 px
    found: dict[int, Plane] = {}
    for step in range(max(depth, 1)):
        low = blur(level)
        if step in {0, depth // 2}:
            found[step] = level - low
        level = low[::2, ::2] if depth else level
    return found[0], found[depth // 2], level


@cache
def linear_of_srgb() -> Plane:
    """Return the linear light of each of the 256 sRGB codes (IEC 61966-2-1)."""
    codes = np.arange(256) / 255
    return np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4).astype(np.float32)


TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    dtype=np.float32,
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    dtype=np.float32,
)


def oklab_of(linear: Plane) -> Plane:
    """Return OKLab of linear sRGB (last axis), with the matrices of B. Ottosson, "A perceptual color space for image
    processing" (2020).
    """
    lms = np.cbrt(linear @ TO_LMS.T)
    lab: Plane = lms @ TO_LAB.T
    return lab


def small_oklab(image: DecodedImage) -> Plane:
    """Return OKLab at 64 px: tone and colour without texture."""
    return image.derived("oklab", _small_oklab)


def _small_oklab(image: DecodedImage) -> Plane:
    from PIL import Image

    height, width = image.rgb.shape[:2]
    small = reduced(Image.fromarray(image.rgb), working_shape(width, height, SMALL_SIDE))
    return oklab_of(linear_of_srgb()[small.rgb])


@cache
def cosine_rows(count: int, size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Compute the first rows of the orthonormal DCT-II matrix of this size."""
    k, n = np.arange(count)[:, None], np.arange(size)[None, :]
    rows = np.cos(np.pi * (2 * n + 1) * k / (2 * size)) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return np.asarray(rows, dtype=np.float64)
