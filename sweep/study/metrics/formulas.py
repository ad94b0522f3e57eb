"""The formula of each metric of pixels: structure, tone and colour against a reference; single images; a cell."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np

from sweep.study.metrics.planes import (
    DecodedImage,
    ImagePair,
    Plane,
    bands,
    cosine_rows,
    halved,
    luma,
    small_oklab,
    smooth,
)

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


BINS = 256


def delta_e(view: ImagePair) -> float:
    """Compute the mean colour difference at 64 px: Euclidean distance in OKLab times 100.

    2 is about a just visible step, as CSS Color 4 takes it. OKLab: B. Ottosson 2020. Black against white is 100.
    """
    a, b = (small_oklab(image) for image in view.pair)
    return float(100 * np.sqrt(((a - b) ** 2).sum(axis=-1)).mean(dtype=np.float64))


def tone_emd(view: ImagePair) -> float:
    """Earth mover's distance between the luma histograms, as a share of the tonal range: 0 equal tones, 1 black
    against white, wherever in the image.

    Rubner, Tomasi and Guibas 2000, Int. J. Comput. Vis. 40; in one dimension the area between cumulative histograms.
    """
    a, b = (image.derived("histogram", histogram) for image in view.pair)
    return float(np.abs(np.cumsum(a - b)).sum() / (BINS - 1))


def histogram(image: DecodedImage) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Share of pixels of each of 256 luma codes."""
    codes = np.rint(luma(image)).astype(np.uint8)
    return np.bincount(codes.ravel(), minlength=BINS) / codes.size


def sharpness(view: ImagePair) -> float:
    """Root mean square of the finest Laplacian band of the luma (0–255): lower for softer images.

    After the energy of Laplacian of Subbarao, Choi and Nikzad 1993, Opt. Eng. 32; the square root keeps the unit of
    luma codes.
    """
    band = bands(view.image)[0]
    return float(math.sqrt(float(np.mean(band * band, dtype=np.float64))))


def contrast(view: ImagePair) -> float:
    """Root mean square contrast: standard deviation of luma over its range, 0 to 0.5.

    Peli 1990, J. Opt. Soc. Am. A 7.
    """
    return float(luma(view.image).std(dtype=np.float64) / 255)


def colourfulness(view: ImagePair) -> float:
    """Return how colourful 8-bit RGB is: 0 grey, 15 slightly, 33 moderately, 59 quite, 109 extremely.

    Hasler and Süsstrunk 2003, Proc. SPIE 5007.
    """
    red, green, blue = (view.image.rgb[..., i].astype(np.float32) for i in range(3))
    opponent = red - green, (red + green) / 2 - blue
    spread = math.hypot(*(float(plane.std(dtype=np.float64)) for plane in opponent))
    centre = math.hypot(*(float(plane.mean(dtype=np.float64)) for plane in opponent))
    return spread + 0.3 * centre


def entropy(view: ImagePair) -> float:
    """Shannon entropy of the luma histogram in bits, 0 (one tone) to 8 (all 256 equally).

    Shannon 1948, Bell Syst. Tech. J. 27.
    """
    shares = view.image.derived("histogram", histogram)
    known = shares[shares > 0]
    return abs(float((known * np.log2(known)).sum()))


def diversity(view: ImagePair) -> float:
    """Mean colour difference (OKLab at 64 px, times 100) to the other images of the cell; NaN where it is alone.

    Its mean over a cell is the mean pairwise distance of the cell.
    """
    return _mean_over_others(view, delta_e)


def diversity_structure(view: ImagePair) -> float:
    """Mean of 1 − coarse correlation to the other images of the cell: 0 one composition, 1 unrelated ones."""
    return _mean_over_others(view, lambda pair: 1.0 - coarse(pair))


def _mean_over_others(view: ImagePair, distance: Callable[[ImagePair], float]) -> float:
    if not view.others:
        return math.nan
    found = [distance(ImagePair(image=view.image, reference=other)) for other in view.others]
    return sum(found) / len(found)


def replicate_error(view: ImagePair) -> float:
    """Largest difference of any channel of any pixel, in codes of 0–255: 0 says that pixels are the same."""
    a, b = view.pair
    return float(np.abs(a.rgb.astype(np.int16) - b.rgb.astype(np.int16)).max())


def pixel_hash(view: ImagePair) -> float:
    """Hash the pixels to a whole number below 2⁴⁸, which a float holds exactly."""
    rgb = view.image.rgb
    size = str(rgb.shape).encode()
    return float(
        int.from_bytes(hashlib.blake2b(size + np.ascontiguousarray(rgb).tobytes(), digest_size=6).digest(), "big")
    )
