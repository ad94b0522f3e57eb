"""Metrics of tone and colour against a reference, of single images, and of the images of a cell."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np

from sweep.study.metrics.planes import DecodedImage, ImagePair, bands, luma, small_oklab
from sweep.study.metrics.structure import coarse

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
