"""What several metrics need of a picture: luma, pyramid, OKLab, in numpy alone and each computed once."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from sweep.study.picture import Picture, Plane

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as the papers' rgb2gray
BINOMIAL = (1 / 16, 4 / 16, 6 / 16)  # outer, inner, middle tap; Burt and Adelson 1983, IEEE Trans. Commun. 31
COARSE_SIDE = 32  # px of the longest side where "coarse" begins
SMALL_SIDE = 64  # px of the longest side for colour


def luma(picture: Picture) -> Plane:
    """Y' of BT.601, 0–255, float32."""
    return picture.derived("luma", lambda p: p.rgb @ LUMA)


def smooth(plane: Plane, taps: tuple[float, ...]) -> Plane:
    """A symmetric separable filter, "valid": the result is smaller by len(taps) − 1 on each side. `taps`: from the
    outermost to the middle one.
    """
    return _along(_along(plane, taps).T, taps).T


def _along(plane: Plane, taps: tuple[float, ...]) -> Plane:
    """Down the columns. Pairs of equal taps are added first: a third fewer multiplications."""
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


def blurred(plane: Plane) -> Plane:
    """Five binomial taps each way, edges mirrored; the same size."""
    return smooth(np.pad(plane, 2, mode="reflect" if min(plane.shape) > 2 else "edge"), BINOMIAL)


def halved(plane: Plane) -> Plane:
    """Mean of 2 × 2 blocks; an odd last row or column is left out."""
    height, width = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
    even = plane[:height:2] + plane[1:height:2]
    return (even[:, :width:2] + even[:, 1:width:2]) * np.float32(0.25)


def pyramid_depth(picture: Picture) -> int:
    """Halvings from the working size to the 32 px at which coarse structure is looked at: 4 at 512 px."""
    longest = max(picture.rgb.shape[:2])
    return max(round(math.log2(longest / COARSE_SIDE)), 0)


def bands(picture: Picture) -> tuple[Plane, Plane, Plane]:
    """Fine, middle and coarse structure of the luma: the finest band of a Laplacian pyramid, the one half way down,
    and the smooth rest at 32 px.
    """
    return picture.derived("bands", _bands)


def _bands(picture: Picture) -> tuple[Plane, Plane, Plane]:
    depth = pyramid_depth(picture)
    level = luma(picture)
    found: dict[int, Plane] = {}
    for step in range(max(depth, 1)):
        low = blurred(level)
        if step in {0, depth // 2}:
            found[step] = level - low
        level = low[::2, ::2] if depth else level
    return found[0], found[depth // 2], level


@cache
def linear_of_srgb() -> Plane:
    """Linear light of each of the 256 sRGB codes (IEC 61966-2-1)."""
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
    """OKLab of linear sRGB (last axis), with the matrices of B. Ottosson, "A perceptual color space for image
    processing" (2020).
    """
    lms = np.cbrt(linear @ TO_LMS.T)
    lab: Plane = lms @ TO_LAB.T
    return lab


def small_oklab(picture: Picture) -> Plane:
    """OKLab at 64 px: tone and colour without texture."""
    return picture.derived("oklab", lambda p: oklab_of(linear_of_srgb()[small_rgb(p, SMALL_SIDE)]))


def small_rgb(picture: Picture, side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """RGB with the longest side at most `side` px (BOX)."""
    from PIL import Image

    from sweep.study.picture import reduced, working_shape

    height, width = picture.rgb.shape[:2]
    return reduced(Image.fromarray(picture.rgb), working_shape(width, height, side)).rgb


@cache
def cosine_rows(count: int, size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The first rows of the orthonormal DCT-II matrix of this size."""
    k, n = np.arange(count)[:, None], np.arange(size)[None, :]
    rows = np.cos(np.pi * (2 * n + 1) * k / (2 * size)) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return np.asarray(rows, dtype=np.float64)
