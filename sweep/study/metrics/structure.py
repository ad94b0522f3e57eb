"""Full-reference metrics of structure: SSIM, MS-SSIM, bands, gradients, perceptual hash."""

from __future__ import annotations

import math

import numpy as np

from sweep.study.metrics.planes import DecodedImage, ImagePair, Plane, bands, cosine_rows, halved, luma, smooth

_RAW = np.exp(-((np.arange(6) - 5.0) ** 2) / (2 * 1.5**2))
GAUSSIAN = tuple(float(tap) for tap in _RAW / (2 * _RAW.sum() - _RAW[-1]))  # 11 taps, σ = 1.5 px
STABLE = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # C1, C2
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
GRADIENT_STABLE = 170.0  # for luma 0–255
HASH_SIDE, HASH_PIXELS = 16, 64


def ssim(view: ImagePair) -> float:
    """Structural similarity of luma, −1 to 1, 1 for equal images.

    Wang, Bovik, Sheikh and Simoncelli 2004, IEEE Trans. Image Process. 13: Gaussian window of 11 px and σ = 1.5, K1 =
    0.01, K2 = 0.03, averaged where the window fits (as scikit-image with gaussian_weights and without sample
    covariance). NaN below 11 px.
    """
    return scales(view)[0][0]


def ms_ssim(view: ImagePair) -> float:
    """Multi-scale SSIM of luma, 0 to 1, 1 for equal images.

    Wang, Simoncelli and Bovik 2003, Asilomar: five scales halved by 2 × 2 means, exponents 0.0448, 0.2856, 0.3001,
    0.2363, 0.1333; negative contrast terms count as 0. Images too small for five scales use those that fit, with
    exponents scaled to the same sum.
    """
    found = scales(view)
    if not math.isfinite(found[0][0]):
        return math.nan
    weights = np.array(SCALE_WEIGHTS[: len(found)])
    weights *= sum(SCALE_WEIGHTS) / weights.sum()
    terms = np.array([contrast for _, contrast in found[:-1]] + [found[-1][0]])
    return float(np.prod(np.maximum(terms, 0.0) ** weights))


def scales(view: ImagePair) -> list[tuple[float, float]]:
    """(SSIM, its contrast-structure part) at each of up to five scales; computed once for both metrics."""
    return view.derived("ssim scales", _scales)


def _scales(view: ImagePair) -> list[tuple[float, float]]:
    a, b = (luma(image) for image in view.pair)
    total, rest = a + b, a - b
    found: list[tuple[float, float]] = []
    while min(total.shape) > 2 * (len(GAUSSIAN) - 1) and len(found) < len(SCALE_WEIGHTS):
        found.append(_ssim_of(total, rest))
        total, rest = halved(total), halved(rest)
    return found or [(math.nan, math.nan)]


def _ssim_of(total: Plane, rest: Plane) -> tuple[float, float]:
    """From sum and difference of two planes: SSIM asks only for what these give with four filters instead of five."""
    c1, c2 = STABLE
    mean_total, mean_rest = smooth(total, GAUSSIAN) ** 2, smooth(rest, GAUSSIAN) ** 2
    var_total = smooth(total * total, GAUSSIAN) - mean_total
    var_rest = smooth(rest * rest, GAUSSIAN) - mean_rest
    contrast = _ratio(var_total, var_rest, c2)
    full = _ratio(mean_total, mean_rest, c1)
    full *= contrast
    return float(full.mean(dtype=np.float64)), float(contrast.mean(dtype=np.float64))


def _ratio(total: Plane, rest: Plane, constant: float) -> Plane:
    """(2ab + c) / (a² + b² + c) from (a + b)² and (a − b)²."""
    twice = np.float32(2 * constant)
    return (total - rest + twice) / (total + rest + twice)


def band_correlation(view: ImagePair, which: int) -> float:
    """Compute Pearson's r of one band of both images. Two bands without any structure are alike (1); one is not (0)."""
    a, b = (bands(image)[which].astype(np.float64) for image in view.pair)
    a, b = a - a.mean(), b - b.mean()
    power = float((a * a).sum()), float((b * b).sum())
    empty = [p <= 1e-6 * a.size for p in power]
    if any(empty):
        return 1.0 if all(empty) else 0.0
    if np.array_equal(a, b):
        return 1.0
    return float(np.clip((a * b).sum() / math.sqrt(power[0] * power[1]), -1.0, 1.0))


def fine(view: ImagePair) -> float:
    """Correlation of the finest band of the Laplacian pyramid (detail of 2–4 px at the working size), −1 to 1.

    Pyramid: Burt and Adelson 1983, IEEE Trans. Commun. 31; the band is a level minus its own blur.
    """
    return band_correlation(view, 0)


def middle(view: ImagePair) -> float:
    """Correlation of the band half way down the pyramid (detail of 8–16 px at 512 px), −1 to 1."""
    return band_correlation(view, 1)


def coarse(view: ImagePair) -> float:
    """Correlation of what is left of the luma at 32 px: the composition, −1 to 1."""
    return band_correlation(view, 2)


def gmsd(view: ImagePair) -> float:
    """Gradient magnitude similarity deviation, 0 for equal images, higher for more (and more uneven) distortion.

    Xue, Zhang, Mou and Bovik 2014, IEEE Trans. Image Process. 23: 2 × 2 means, Prewitt gradients, c = 170. At most 0.5
    by definition of a standard deviation of values in 0–1.
    """
    a, b = (image.derived("gradient", _gradient) for image in view.pair)
    if not a.size:
        return math.nan
    similarity = (2 * a * b + GRADIENT_STABLE) / (a * a + b * b + GRADIENT_STABLE)
    return float(similarity.std(dtype=np.float64))


def _gradient(image: DecodedImage) -> Plane:
    plane = halved(luma(image))
    if min(plane.shape) < 3:
        return np.empty((0, 0), dtype=np.float32)
    rows = plane[:-2] + plane[1:-1] + plane[2:]
    columns = plane[:, :-2] + plane[:, 1:-1] + plane[:, 2:]
    across = (rows[:, 2:] - rows[:, :-2]) / np.float32(3)
    down = (columns[2:] - columns[:-2]) / np.float32(3)
    return np.sqrt(across * across + down * down)


def phash_distance(view: ImagePair) -> float:
    """Share of the 256 bits by which the perceptual hashes of both images differ, 0 to 1; unrelated ones: 0.5.

    N. Krawetz, "Looks like it" (2011), with 16 × 16 of the 64 × 64 DCT coefficients against their median.
    """
    a, b = (image.derived("phash", _phash) for image in view.pair)
    return float((a != b).mean())


def _phash(image: DecodedImage) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    from PIL import Image

    plane = Image.fromarray(luma(image), mode=None).resize((HASH_PIXELS, HASH_PIXELS), Image.Resampling.BOX)
    rows = cosine_rows(HASH_SIDE, HASH_PIXELS)
    coefficients = rows @ np.asarray(plane, dtype=np.float64) @ rows.T
    return np.asarray(coefficients > np.median(coefficients), dtype=np.bool_)
