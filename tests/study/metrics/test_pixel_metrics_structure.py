"""Structure metrics against scikit-image, against slow straightforward versions of their papers, and on ladders."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy import ndimage
from scipy.fft import dctn
from skimage.metrics import structural_similarity

from sweep.study.metrics import pixel_metrics as metrics
from sweep.study.metrics.base import ImagePair
from sweep.study.metrics.pixel_metrics import luma
from tests.support.study_images import decoded, mixed, photo, view

LADDER = (0.0, 0.7, 1.5, 3.0, 6.0, 12.0)
GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}


def pair(width: int = 256, height: int = 192) -> ImagePair:
    first = photo(1, width, height)
    return view(mixed(first, photo(2, width, height), 0.3), first)


def planes(looked_at: ImagePair) -> tuple[np.ndarray, np.ndarray]:
    first, second = looked_at.pair
    return luma(first).astype(np.float64), luma(second).astype(np.float64)


@pytest.mark.parametrize("size", [(256, 192), (97, 131), (512, 40), (11, 11)])
def test_ssim_is_scikit_images(size: tuple[int, int]) -> None:
    looked_at = pair(*size)

    expected = structural_similarity(*planes(looked_at), **GAUSSIAN)  # type: ignore[no-untyped-call]

    assert metrics.ssim(looked_at) == pytest.approx(expected, abs=2e-5)


def test_ms_ssim_is_its_papers_formula() -> None:
    looked_at = pair(400, 380)
    a, b = planes(looked_at)
    smooth = partial(ndimage.gaussian_filter, sigma=1.5, truncate=3.4)
    terms = []
    for _ in range(5):
        mean_a, mean_b = smooth(a), smooth(b)
        var_a, var_b, both = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2, smooth(a * b) - mean_a * mean_b
        contrast = ((2 * both + 58.5225) / (var_a + var_b + 58.5225))[5:-5, 5:-5]
        light = ((2 * mean_a * mean_b + 6.5025) / (mean_a**2 + mean_b**2 + 6.5025))[5:-5, 5:-5]
        terms.append((contrast.mean(), (contrast * light).mean()))
        height, width = a.shape[0] // 2 * 2, a.shape[1] // 2 * 2
        a, b = (p[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3)) for p in (a, b))
    values = [contrast for contrast, _ in terms[:4]] + [terms[4][1]]

    expected = math.prod(v**w for v, w in zip(values, (0.0448, 0.2856, 0.3001, 0.2363, 0.1333), strict=True))

    assert metrics.ms_ssim(looked_at) == pytest.approx(expected, abs=1e-4)


def test_gmsd_is_its_papers_formula() -> None:
    looked_at = pair()
    prewitt = np.array([[1, 0, -1]] * 3) / 3
    gradients = []
    for plane in planes(looked_at):
        half = plane.reshape(plane.shape[0] // 2, 2, plane.shape[1] // 2, 2).mean(axis=(1, 3))
        across, down = ndimage.convolve(half, prewitt), ndimage.convolve(half, prewitt.T)
        gradients.append(np.hypot(across, down)[1:-1, 1:-1])
    a, b = gradients

    expected = ((2 * a * b + 170) / (a**2 + b**2 + 170)).std()

    assert metrics.gmsd(looked_at) == pytest.approx(expected, abs=1e-5)


def test_phash_bits_are_the_signs_of_low_cosines_against_their_median() -> None:
    image = photo(3, 64, 64)
    low = dctn(luma(decoded(image)).astype(np.float64), norm="ortho")[:16, :16]

    expected = low > np.median(low)

    assert np.array_equal(metrics._phash(decoded(image)), expected)


def test_unrelated_images_differ_in_about_half_of_their_hash() -> None:
    distances = [metrics.phash_distance(view(photo(i), photo(i + 100))) for i in range(12)]

    assert 0.4 < np.mean(distances) < 0.6


@pytest.mark.parametrize("metric", [metrics.ssim, metrics.ms_ssim, metrics.structure_fine, metrics.structure_middle])
def test_likeness_falls_down_a_blur_ladder(metric: Callable[[ImagePair], float]) -> None:
    sharp = photo(4, 320, 320)

    values = [metric(view(sharp.filter(ImageFilter.GaussianBlur(r)), sharp)) for r in LADDER]

    assert values[0] == 1.0
    assert all(late < early for early, late in pairwise(values)), values


@pytest.mark.parametrize("metric", [metrics.gmsd, metrics.delta_e])
def test_distance_grows_along_a_blur_ladder(metric: Callable[[ImagePair], float]) -> None:
    sharp = photo(4, 320, 320)

    values = [metric(view(sharp.filter(ImageFilter.GaussianBlur(r)), sharp)) for r in LADDER[:5]]

    assert values[0] == 0.0
    assert values == sorted(values)
    assert values[2] < values[3] < values[4]


def test_sharpness_falls_down_a_blur_ladder() -> None:
    sharp = photo(4, 320, 320)

    values = [metrics.sharpness(view(sharp.filter(ImageFilter.GaussianBlur(r)))) for r in LADDER]

    assert all(late < early for early, late in pairwise(values)), values


@pytest.mark.slow
def test_scales_of_structure_go_in_order() -> None:
    """Along a strength axis fine structure is spent first, coarse last: that is what the panel is for."""
    source, other = photo(0, 512, 512), photo(9, 512, 512)
    halves = []
    for metric in (metrics.structure_fine, metrics.structure_middle, metrics.structure_coarse):
        values = [metric(view(mixed(source, other, s / 20), source)) for s in range(21)]
        halves.append(next(s for s, value in enumerate(values) if value < 0.5))

    assert halves == sorted(halves)
    assert halves[0] < halves[2]


def test_flat_images_are_alike_and_unlike_structured_ones() -> None:
    grey, lighter = Image.new("RGB", (128, 128), (90, 90, 90)), Image.new("RGB", (128, 128), (200, 200, 200))

    assert metrics.structure_coarse(view(grey, lighter)) == 1.0
    assert metrics.structure_coarse(view(photo(1, 128, 128), grey)) == 0.0


@pytest.mark.parametrize("size", [(10, 10), (3, 3), (1, 1), (1, 300)])
def test_images_too_small_for_a_window_have_no_ssim(size: tuple[int, int]) -> None:
    tiny = photo(1, *size)

    assert math.isnan(metrics.ssim(view(tiny, tiny)))
    assert math.isnan(metrics.ms_ssim(view(tiny, tiny)))
    assert metrics.structure_coarse(view(tiny, tiny)) == 1.0
