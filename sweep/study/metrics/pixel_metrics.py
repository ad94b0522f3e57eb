"""The metrics that are formulas of pixels: structure, tone and colour against a reference; one image; a cell.

No single number covers strengths from 0 to 1: fine structure and GMSD are spent by about 0.5, coarse structure and
colour move above it. So the panel goes by scale. `pixel_metrics.json` has the facts of each metric, for people to read.
Planes that several metrics share (luma, pyramid, OKLab) are computed once an image.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
from collections.abc import Callable
from functools import cache
from importlib import resources

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

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as the papers' rgb2gray
BINOMIAL = (1 / 16, 4 / 16, 6 / 16)  # outer, inner, middle tap; Burt and Adelson 1983, IEEE Trans. Commun. 31
COARSE_SIDE = 32  # px of the longest side where "coarse" begins
SMALL_SIDE = 64  # px of the longest side for colour


@compute_once
def luma(image: DecodedImage) -> Plane:
    """Return Y' of BT.601, 0–255, float32."""
    return np.asarray(image.rgb @ LUMA)


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
    return np.asarray(lms @ TO_LAB.T)


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


_RAW = np.exp(-((np.arange(6) - 5.0) ** 2) / (2 * 1.5**2))
GAUSSIAN = tuple(float(tap) for tap in _RAW / (2 * _RAW.sum() - _RAW[-1]))  # 11 taps, σ = 1.5 px
STABLE = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # C1, C2
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
GRADIENT_STABLE = 170.0  # for luma 0–255
HASH_SIDE, HASH_PIXELS = 16, 64
BINS = 256


def ssim(view: ImagePair) -> float:
    """Compute the structural similarity of luma, −1 to 1; NaN below 11 px.

    Gaussian window of 11 px and σ = 1.5, K1 = 0.01, K2 = 0.03, averaged where the window fits (as scikit-image with
    gaussian_weights and without sample covariance).
    """
    return compare_scales(view)[0][0]


def ms_ssim(view: ImagePair) -> float:
    """Compute the structural similarity over five scales of luma, halved by 2 × 2 means.

    Exponents 0.0448, 0.2856, 0.3001, 0.2363, 0.1333; negative contrast terms count as 0. Images too small for five
    scales use those that fit, with exponents scaled to the same sum.
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


def structure_fine(view: ImagePair) -> float:
    """Correlate the finest band of the Laplacian pyramids: luma minus its own blur (2–4 px at the working size)."""
    return correlate_band(view, 0)


def structure_middle(view: ImagePair) -> float:
    """Correlate the band half way down the pyramids (8–16 px at 512 px)."""
    return correlate_band(view, 1)


def structure_coarse(view: ImagePair) -> float:
    """Correlate the rest of the luma at 32 px: the composition."""
    return correlate_band(view, 2)


def gmsd(view: ImagePair) -> float:
    """Compute the gradient magnitude similarity deviation: 2 × 2 means, Prewitt gradients, c = 170.

    At most 0.5 by definition of a standard deviation of values in 0–1.
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


def delta_e(view: ImagePair) -> float:
    """Compute the mean Euclidean distance in OKLab times 100, at 64 px.

    Black against white is 100; 2 is about a just visible step, as CSS Color 4 takes it.
    """
    a, b = (compute_oklab(image) for image in view.pair)
    return float(100 * np.sqrt(((a - b) ** 2).sum(axis=-1)).mean(dtype=np.float64))


def tone_emd(view: ImagePair) -> float:
    """Compute the earth mover's distance between the luma histograms as a share of the tonal range.

    0 is equal tones, 1 black against white, wherever in the image. In one dimension it is the area between cumulative
    histograms.
    """
    a, b = map(compute_histogram, view.pair)
    return float(np.abs(np.cumsum(a - b)).sum() / (BINS - 1))


def phash_distance(view: ImagePair) -> float:
    """Compare 16 × 16 of the 64 × 64 DCT coefficients, each against their median. Unrelated images: 0.5."""
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


def sharpness(view: ImagePair) -> float:
    """Compute the root mean square of the finest Laplacian band of the luma (0–255).

    The square root keeps the unit of luma codes.
    """
    band = split_bands(view.image)[0]
    return float(math.sqrt(float(np.mean(band * band, dtype=np.float64))))


def contrast(view: ImagePair) -> float:
    """Compute the standard deviation of luma over its range."""
    return float(luma(view.image).std(dtype=np.float64) / 255)


def colourfulness(view: ImagePair) -> float:
    """Compute M3 of Hasler and Süsstrunk: 0 is grey, 15 slightly, 33 moderately, 59 quite, 109 extremely colourful."""
    red, green, blue = (view.image.rgb[..., i].astype(np.float32) for i in range(3))
    opponent = red - green, (red + green) / 2 - blue
    spread = math.hypot(*(float(plane.std(dtype=np.float64)) for plane in opponent))
    centre = math.hypot(*(float(plane.mean(dtype=np.float64)) for plane in opponent))
    return spread + 0.3 * centre


def entropy(view: ImagePair) -> float:
    """Compute the Shannon entropy of the luma histogram: 0 for one tone, 8 for all 256 equally."""
    shares = compute_histogram(view.image)
    known = shares[shares > 0]
    return abs(float((known * np.log2(known)).sum()))


def diversity(view: ImagePair) -> float:
    """Compute the mean colour difference to the other images of the cell; NaN for an image that is alone.

    Its mean over a cell is the mean pairwise distance.
    """
    return _mean_over_others(view, delta_e)


def diversity_structure(view: ImagePair) -> float:
    """Compute the mean of 1 − coarse correlation: 0 for one composition, 1 for unrelated ones."""
    return _mean_over_others(view, lambda pair: 1.0 - structure_coarse(pair))


def _mean_over_others(view: ImagePair, distance: Callable[[ImagePair], float]) -> float:
    if not view.others:
        return math.nan
    found = [distance(ImagePair(image=view.image, reference=other)) for other in view.others]
    return sum(found) / len(found)


def flip(view: ImagePair) -> float:
    """Compute the mean ꟻLIP at 67 pixels a degree: a monitor of 3,840 pixels and 0.7 m at a distance of 0.7 m.

    512 pixels then span 8 degrees. ꟻLIP is made for images of the same content flipped on a screen: for others it says
    little.
    """
    flip_evaluator = importlib.import_module("flip_evaluator")
    image, reference = (np.ascontiguousarray(p.rgb, dtype=np.float32) / 255 for p in view.pair)
    _, mean, _ = flip_evaluator.evaluate(reference, image, "LDR", True, False)
    return float(mean)


def replicate_error(view: ImagePair) -> float:
    """Compute the largest difference of a pixel; at full size, and only where points are repeated."""
    a, b = view.pair
    return float(np.abs(a.rgb.astype(np.int16) - b.rgb.astype(np.int16)).max())


def pixel_hash(view: ImagePair) -> float:
    """Hash the decoded pixels, to find levels that give the same image. A float holds 48 bits exactly."""
    rgb = view.image.rgb
    pixels = str(rgb.shape).encode() + np.ascontiguousarray(rgb).tobytes()
    return float(int.from_bytes(hashlib.blake2b(pixels, digest_size=6).digest(), "big"))


def _load_metrics() -> tuple[tuple[Metric, ...], dict[str, Metric]]:
    """Load the standard panel, and the other metrics by name: functions of this file with their facts for people."""
    text = (resources.files(__package__) / "pixel_metrics.json").read_text(encoding="utf-8")
    standard, others = (
        [Formula(**{**fact, "range": tuple(fact["range"])}, function=globals()[fact["name"]]) for fact in facts]
        for facts in json.loads(text).values()
    )
    return tuple(standard), {metric.name: metric for metric in others}


PANEL, OPTIONAL = _load_metrics()
SAME_POINT_METRIC, PIXEL_HASH_METRIC = OPTIONAL["replicate_error"], OPTIONAL["pixel_hash"]
