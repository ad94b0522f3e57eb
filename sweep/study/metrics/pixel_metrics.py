"""The metrics that are formulas of pixels: structure, tone and colour against a reference; one image; a cell.

No single number covers strengths from 0 to 1: fine structure and GMSD are spent by about 0.5, coarse structure and
colour move above it. So the panel goes by scale. The first paragraph of a formula's docstring is what people read.
Planes that several metrics share (luma, pyramid, OKLab) are computed once an image.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from sweep.study.metrics.base import (
    DecodedImage,
    Formula,
    ImagePair,
    Metric,
    Plane,
    compute_once,
    compute_working_shape,
    resize_image,
)
from sweep.study.study_json import Direction, ReferenceKind

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as the papers' rgb2gray
BINOMIAL = (1 / 16, 4 / 16, 6 / 16)  # outer, inner, middle tap; Burt and Adelson 1983, IEEE Trans. Commun. 31
COARSE_SIDE = 32  # px of the longest side where "coarse" begins
SMALL_SIDE = 64  # px of the longest side for colour


@compute_once
def luma(image: DecodedImage) -> Plane:
    """Return Y' of BT.601, 0–255, float32."""
    found: Plane = image.rgb @ LUMA
    return found


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


def halve(plane: Plane) -> Plane:
    """Return the mean of 2 × 2 blocks; an odd last row or column is left out."""
    height, width = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
    even = plane[:height:2] + plane[1:height:2]
    return (even[:, :width:2] + even[:, 1:width:2]) * np.float32(0.25)


@compute_once
def split_bands(image: DecodedImage) -> tuple[Plane, Plane, Plane]:
    """Return fine, middle and coarse structure of the luma: a Laplacian pyramid's finest band, the one half way down,
    and the smooth rest at 32 px.
    """
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
def compute_linear_light() -> Plane:
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


def convert_to_oklab(linear: Plane) -> Plane:
    """Return OKLab of linear sRGB (last axis), with the matrices of B. Ottosson, "A perceptual color space for image
    processing" (2020).
    """
    lms = np.cbrt(linear @ TO_LMS.T)
    lab: Plane = lms @ TO_LAB.T
    return lab


@compute_once
def compute_oklab(image: DecodedImage) -> Plane:
    """Return OKLab at 64 px: tone and colour without texture."""
    from PIL import Image

    height, width = image.rgb.shape[:2]
    small = resize_image(Image.fromarray(image.rgb), compute_working_shape(width, height, SMALL_SIDE))
    return convert_to_oklab(compute_linear_light()[small.rgb])


@cache
def compute_cosine_rows(count: int, size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Compute the first rows of the orthonormal DCT-II matrix of this size."""
    k, n = np.arange(count)[:, None], np.arange(size)[None, :]
    rows = np.cos(np.pi * (2 * n + 1) * k / (2 * size)) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return np.asarray(rows, dtype=np.float64)


Function: TypeAlias = Callable[[ImagePair], float]
METRICS: dict[str, Formula] = {}  # by name, in the order of this file

WANG = "Wang, Bovik, Sheikh and Simoncelli 2004, doi:10.1109/TIP.2003.819861"
WANG_MS = "Wang, Simoncelli and Bovik 2003, doi:10.1109/ACSSC.2003.1292216"
BURT = "Pyramid of Burt and Adelson 1983, doi:10.1109/TCOM.1983.1095851; Pearson's r"
XUE = "Xue, Zhang, Mou and Bovik 2014, doi:10.1109/TIP.2013.2293423"
OKLAB = "OKLab of B. Ottosson 2020, bottosson.github.io/posts/oklab"
FLIP = "Andersson et al. 2020, doi:10.1145/3406183"
LARGEST = "maximum of absolute differences"
BLAKE = "BLAKE2b of the decoded pixels, 48 bits"

FULL = 16_384  # px: whole images
TONAL = "of the tonal range"
DELTA_E = "ΔE (OKLab × 100)"
RUBNER = "Rubner, Tomasi and Guibas 2000, doi:10.1023/A:1026543900054"
KRAWETZ = "N. Krawetz 2011, hackerfactor.com (Looks like it), at 16 × 16"
SUBBARAO = "after Subbarao, Choi and Nikzad 1993, doi:10.1117/12.147706"
PELI = "Peli 1990, doi:10.1364/JOSAA.7.002032"
HASLER = "Hasler and Süsstrunk 2003, doi:10.1117/12.477378"
SHANNON = "Shannon 1948, doi:10.1002/j.1538-7305.1948.tb01338.x"


def _make_metric(
    name: str,
    label: str,
    direction: Direction,
    bounds: tuple[float | None, float | None],
    reference: ReferenceKind,
    **facts: Any,
) -> Callable[[Function], Function]:
    """Make a function a metric; the first paragraph of its docstring is the summary."""

    def make(function: Function) -> Function:
        summary = " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())
        METRICS[name] = Formula(
            name=name,
            label=label,
            summary=summary,
            direction=direction,
            range=bounds,
            reference=reference,
            function=function,
            **facts,
        )
        return function

    return make


_RAW = np.exp(-((np.arange(6) - 5.0) ** 2) / (2 * 1.5**2))
GAUSSIAN = tuple(float(tap) for tap in _RAW / (2 * _RAW.sum() - _RAW[-1]))  # 11 taps, σ = 1.5 px
STABLE = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # C1, C2
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
GRADIENT_STABLE = 170.0  # for luma 0–255
HASH_SIDE, HASH_PIXELS = 16, 64


@_make_metric("ssim", "SSIM", "higher", (-1.0, 1.0), "image", cost=9.0, source=WANG)
def ssim(view: ImagePair) -> float:
    """Likeness of local structure, spent early on a strength axis. It does not see colour.

    Structural similarity of luma, −1 to 1: Gaussian window of 11 px and σ = 1.5, K1 = 0.01, K2 = 0.03, averaged where
    the window fits (as scikit-image with gaussian_weights and without sample covariance). NaN below 11 px.
    """
    return compare_scales(view)[0][0]


@_make_metric("ms_ssim", "MS-SSIM", "higher", (0.0, 1.0), "image", cost=4.0, source=WANG_MS)
def ms_ssim(view: ImagePair) -> float:
    """Likeness of structure over five scales. It does not see colour, nor what a thing is.

    Five scales of luma halved by 2 × 2 means, exponents 0.0448, 0.2856, 0.3001, 0.2363, 0.1333; negative contrast
    terms count as 0. Images too small for five scales use those that fit, with exponents scaled to the same sum.
    """
    found = compare_scales(view)
    if not math.isfinite(found[0][0]):
        return math.nan
    weights = np.array(SCALE_WEIGHTS[: len(found)])
    weights *= sum(SCALE_WEIGHTS) / weights.sum()
    terms = np.array([contrast for _, contrast in found[:-1]] + [found[-1][0]])
    return float(np.prod(np.maximum(terms, 0.0) ** weights))


@compute_once
def compare_scales(view: ImagePair) -> list[tuple[float, float]]:
    """List (SSIM, its contrast-structure part) at each of up to five scales."""
    a, b = (luma(image) for image in view.pair)
    total, rest = a + b, a - b
    found: list[tuple[float, float]] = []
    while min(total.shape) > 2 * (len(GAUSSIAN) - 1) and len(found) < len(SCALE_WEIGHTS):
        found.append(_ssim_of(total, rest))
        total, rest = halve(total), halve(rest)
    return found or [(math.nan, math.nan)]


def _ssim_of(total: Plane, rest: Plane) -> tuple[float, float]:
    """Compute it from sum and difference of two planes, which takes four filters instead of five."""
    c1, c2 = STABLE
    mean_total, mean_rest = smooth(total, GAUSSIAN) ** 2, smooth(rest, GAUSSIAN) ** 2
    var_total = smooth(total * total, GAUSSIAN) - mean_total
    var_rest = smooth(rest * rest, GAUSSIAN) - mean_rest
    contrast = _ratio(var_total, var_rest, c2)
    full = _ratio(mean_total, mean_rest, c1)
    full *= contrast
    return float(full.mean(dtype=np.float64)), float(contrast.mean(dtype=np.float64))


def _ratio(total: Plane, rest: Plane, constant: float) -> Plane:
    """Return (2ab + c) / (a² + b² + c) from (a + b)² and (a − b)²."""
    twice = np.float32(2 * constant)
    return (total - rest + twice) / (total + rest + twice)


def correlate_band(view: ImagePair, which: int) -> float:
    """Compute Pearson's r of one band of both images. Two bands without any structure are alike (1); one is not (0)."""
    a, b = (split_bands(image)[which].astype(np.float64) for image in view.pair)
    a, b = a - a.mean(), b - b.mean()
    power = float((a * a).sum()), float((b * b).sum())
    empty = [p <= 1e-6 * a.size for p in power]
    if any(empty):
        return 1.0 if all(empty) else 0.0
    if np.array_equal(a, b):
        return 1.0
    return float(np.clip((a * b).sum() / math.sqrt(power[0] * power[1]), -1.0, 1.0))


@_make_metric("structure_fine", "fine detail", "higher", (-1.0, 1.0), "image", cost=4.0, source=BURT)
def fine(view: ImagePair) -> float:
    """Correlation of the finest detail: separates low strengths. It does not see likeness after a shift.

    The finest band of the Laplacian pyramid: a level minus its own blur (2–4 px at the working size).
    """
    return correlate_band(view, 0)


@_make_metric("structure_middle", "likeness of shapes", "higher", (-1.0, 1.0), "image", cost=1.0, source=BURT)
def middle(view: ImagePair) -> float:
    """Correlation of shapes of a fortieth of the image: separates middle strengths. It does not see colour.

    The band half way down the pyramid (8–16 px at 512 px).
    """
    return correlate_band(view, 1)


@_make_metric("structure_coarse", "layout of light and dark", "higher", (-1.0, 1.0), "image", cost=0.5, source=BURT)
def coarse(view: ImagePair) -> float:
    """Likeness of where light and dark lie: 1 unchanged, 0 unrelated. It does not see blur or things.

    What is left of the luma at 32 px: the composition.
    """
    return correlate_band(view, 2)


@_make_metric("gmsd", "gradient deviation (GMSD)", "lower", (0.0, 0.5), "image", cost=1.5, source=XUE)
def gmsd(view: ImagePair) -> float:
    """Unevenness of the changes of edges. It does not see colour, nor an even change.

    Gradient magnitude similarity deviation: 2 × 2 means, Prewitt gradients, c = 170. At most 0.5 by definition of a
    standard deviation of values in 0–1.
    """
    a, b = map(_gradient, view.pair)
    if not a.size:
        return math.nan
    similarity = (2 * a * b + GRADIENT_STABLE) / (a * a + b * b + GRADIENT_STABLE)
    return float(similarity.std(dtype=np.float64))


@compute_once
def _gradient(image: DecodedImage) -> Plane:
    plane = halve(luma(image))
    if min(plane.shape) < 3:
        return np.empty((0, 0), dtype=np.float32)
    rows = plane[:-2] + plane[1:-1] + plane[2:]
    columns = plane[:, :-2] + plane[:, 1:-1] + plane[:, 2:]
    across = (rows[:, 2:] - rows[:, :-2]) / np.float32(3)
    down = (columns[2:] - columns[:-2]) / np.float32(3)
    return np.sqrt(across * across + down * down)


BINS = 256


@_make_metric(
    "delta_e", "colour difference", "lower", (0.0, None), "image", cost=1.5, source=OKLAB, unit="ΔE (OKLab × 100)"
)
def delta_e(view: ImagePair) -> float:
    """Mean difference of colour and tone; 2 is about a just visible step. It does not see texture.

    Euclidean distance in OKLab times 100 at 64 px. Black against white is 100; 2 is about a just visible step, as CSS
    Color 4 takes it.
    """
    a, b = (compute_oklab(image) for image in view.pair)
    return float(100 * np.sqrt(((a - b) ** 2).sum(axis=-1)).mean(dtype=np.float64))


@_make_metric(
    "tone_emd", "tonal shift", "lower", (0.0, 1.0), "image", cost=1.0, source=RUBNER, unit="of the tonal range"
)
def tone_emd(view: ImagePair) -> float:
    """Distance by which tones moved. It does not see where in the image, nor colour.

    Earth mover's distance between the luma histograms as a share of the tonal range: 0 equal tones, 1 black against
    white, wherever in the image. In one dimension it is the area between cumulative histograms.
    """
    a, b = map(compute_histogram, view.pair)
    return float(np.abs(np.cumsum(a - b)).sum() / (BINS - 1))


@_make_metric("phash_distance", "pHash distance", "lower", (0.0, 1.0), "image", cost=1.5, source=KRAWETZ)
def phash_distance(view: ImagePair) -> float:
    """Share of differing bits of a perceptual hash: another image at a glance. It does not see detail.

    16 × 16 of the 64 × 64 DCT coefficients against their median. Unrelated images: 0.5.
    """
    a, b = map(_phash, view.pair)
    return float((a != b).mean())


@compute_once
def _phash(image: DecodedImage) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    from PIL import Image

    plane = Image.fromarray(luma(image), mode=None).resize((HASH_PIXELS, HASH_PIXELS), Image.Resampling.BOX)
    rows = compute_cosine_rows(HASH_SIDE, HASH_PIXELS)
    coefficients = rows @ np.asarray(plane, dtype=np.float64) @ rows.T
    return np.asarray(coefficients > np.median(coefficients), dtype=np.bool_)


@compute_once
def compute_histogram(image: DecodedImage) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return the share of pixels of each of 256 luma codes."""
    codes = np.rint(luma(image)).astype(np.uint8)
    return np.bincount(codes.ravel(), minlength=BINS) / codes.size


@_make_metric("sharpness", "sharpness", "neutral", (0.0, 255.0), "none", cost=0.5, source=SUBBARAO, unit="luma codes")
def sharpness(view: ImagePair) -> float:
    """Strength of the finest detail. It does not see whether that is texture or noise.

    Root mean square of the finest Laplacian band of the luma (0–255); the square root keeps the unit of luma codes.
    """
    band = split_bands(view.image)[0]
    return float(math.sqrt(float(np.mean(band * band, dtype=np.float64))))


@_make_metric("contrast", "contrast", "neutral", (0.0, 0.5), "none", cost=0.3, source=PELI, unit=TONAL)
def contrast(view: ImagePair) -> float:
    """Spread of tones. It does not see where they lie.

    Standard deviation of luma over its range.
    """
    return float(luma(view.image).std(dtype=np.float64) / 255)


@_make_metric("colourfulness", "colourfulness", "neutral", (0.0, None), "none", cost=3.0, source=HASLER)
def colourfulness(view: ImagePair) -> float:
    """Colourfulness from 0 (grey) to above 100 (extremely colourful). It does not see which colours, nor where.

    0 is grey, 15 slightly, 33 moderately, 59 quite, 109 extremely colourful.
    """
    red, green, blue = (view.image.rgb[..., i].astype(np.float32) for i in range(3))
    opponent = red - green, (red + green) / 2 - blue
    spread = math.hypot(*(float(plane.std(dtype=np.float64)) for plane in opponent))
    centre = math.hypot(*(float(plane.mean(dtype=np.float64)) for plane in opponent))
    return spread + 0.3 * centre


@_make_metric("entropy", "entropy", "neutral", (0.0, 8.0), "none", cost=0.2, source=SHANNON, unit="bit")
def entropy(view: ImagePair) -> float:
    """Evenness of the use of all tones. It does not see where, nor whether that is detail or noise.

    Shannon entropy of the luma histogram: 0 for one tone, 8 for all 256 equally.
    """
    shares = compute_histogram(view.image)
    known = shares[shares > 0]
    return abs(float((known * np.log2(known)).sum()))


@_make_metric(
    "diversity",
    "diversity of colour",
    "neutral",
    (0.0, None),
    "cell",
    cost=0.3,
    source=OKLAB,
    unit="ΔE (OKLab × 100)",
    working_size=128,
)
def diversity(view: ImagePair) -> float:
    """Mean colour difference between the images of one cell, across seeds. It does not see what they show.

    OKLab at 64 px, times 100; NaN for an image that is alone. Its mean over a cell is the mean pairwise distance.
    """
    return _mean_over_others(view, delta_e)


@_make_metric(
    "diversity_structure",
    "diversity of composition",
    "neutral",
    (0.0, 2.0),
    "cell",
    cost=0.3,
    source=BURT,
    working_size=128,
)
def diversity_structure(view: ImagePair) -> float:
    """Mean difference of layout between the images of one cell, across seeds. It does not see colour.

    1 − coarse correlation: 0 for one composition, 1 for unrelated ones.
    """
    return _mean_over_others(view, lambda pair: 1.0 - coarse(pair))


def _mean_over_others(view: ImagePair, distance: Callable[[ImagePair], float]) -> float:
    if not view.others:
        return math.nan
    found = [distance(ImagePair(image=view.image, reference=other)) for other in view.others]
    return sum(found) / len(found)


PANEL: tuple[Metric, ...] = tuple(METRICS.values())  # what is measured when no metric is named


@_make_metric("flip", "visible difference (ꟻLIP)", "lower", (0.0, 1.0), "image", cost=360.0, source=FLIP, version="2")
def flip(view: ImagePair) -> float:
    """Mean difference seen when flipping between both images, 512 px long at 67 px a degree: 9 cm at 70 cm. It does not
    see finer noise.

    67 pixels a degree is a monitor of 3,840 pixels and 0.7 m at a distance of 0.7 m; 512 pixels then span 8 degrees.
    ꟻLIP is made for images of the same content flipped on a screen: for others it says little.
    """
    flip_evaluator = importlib.import_module("flip_evaluator")
    image, reference = (np.ascontiguousarray(p.rgb, dtype=np.float32) / 255 for p in view.pair)
    _, mean, _ = flip_evaluator.evaluate(reference, image, "LDR", True, False)
    return float(mean)


@_make_metric(
    "replicate_error",
    "difference between repeats",
    "lower",
    (0.0, 255.0),
    "image",
    cost=8.0,
    source=LARGEST,
    working_size=FULL,
)
def replicate_error(view: ImagePair) -> float:
    """Largest pixel difference to the first image of the same point.

    It is measured only where points are repeated, at full size.
    """
    a, b = view.pair
    return float(np.abs(a.rgb.astype(np.int16) - b.rgb.astype(np.int16)).max())


@_make_metric("pixel_hash", "pixel hash", "neutral", (0.0, 2.0**48), "none", cost=4.0, source=BLAKE, working_size=FULL)
def pixel_hash(view: ImagePair) -> float:
    """Hash that two images share only if all their pixels are equal.

    Not shown: it says which levels give the same image. A float holds 48 bits exactly.
    """
    rgb = view.image.rgb
    pixels = str(rgb.shape).encode() + np.ascontiguousarray(rgb).tobytes()
    return float(int.from_bytes(hashlib.blake2b(pixels, digest_size=6).digest(), "big"))


SAME_POINT_METRIC, PIXEL_HASH_METRIC = METRICS["replicate_error"], METRICS["pixel_hash"]
