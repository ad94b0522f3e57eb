"""Tone, colour and single-image metrics against published values and other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image
from scipy.stats import wasserstein_distance
from skimage.measure import shannon_entropy

from sweep.study.metrics import pixel_metrics
from sweep.study.metrics.pixel_metrics import compute_linear_light, convert_to_oklab, luma
from tests.support.study_images import decoded, photo, view

BLACK, WHITE = Image.new("RGB", (64, 64)), Image.new("RGB", (64, 64), (255, 255, 255))


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((255, 255, 255), (1.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 0, 0), (0.62796, 0.22486, 0.12585)),  # these six as CSS Color 4's sample conversions give them
        ((0, 255, 0), (0.86644, -0.23389, 0.17950)),
        ((0, 0, 255), (0.45201, -0.03246, -0.31153)),
        ((255, 255, 0), (0.96798, -0.07137, 0.19857)),
    ],
)
def test_oklab_of_known_colours(rgb: tuple[int, ...], lab: tuple[float, ...]) -> None:
    found = convert_to_oklab(compute_linear_light()[np.array([rgb], dtype=np.uint8)])[0]

    assert found == pytest.approx(lab, abs=5e-4)


def test_black_against_white_is_the_whole_scale() -> None:
    assert pixel_metrics.delta_e(view(BLACK, WHITE)) == pytest.approx(100, abs=0.01)
    assert pixel_metrics.tone_emd(view(BLACK, WHITE)) == pytest.approx(1)


def test_tonal_shift_is_the_wasserstein_distance_of_tones() -> None:
    first, second = photo(1), photo(2)
    tones = [np.rint(luma(decoded(image))).ravel() for image in (first, second)]

    expected = wasserstein_distance(*tones) / 255

    assert pixel_metrics.tone_emd(view(first, second)) == pytest.approx(expected, abs=1e-9)


def test_tonal_shift_does_not_see_where_tones_are() -> None:
    image = photo(1)

    assert pixel_metrics.tone_emd(view(image, image.rotate(180))) == 0.0


def test_entropy_is_scikit_images() -> None:
    image = photo(1)

    expected = shannon_entropy(np.rint(luma(decoded(image))).astype(np.uint8), base=2)  # type: ignore[no-untyped-call]

    assert pixel_metrics.entropy(view(image)) == pytest.approx(expected)
    assert pixel_metrics.entropy(view(BLACK)) == 0.0


def test_entropy_and_contrast_of_a_ramp_of_all_tones() -> None:
    ramp = Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 16, axis=0).repeat(3, axis=2))

    assert pixel_metrics.entropy(view(ramp)) == pytest.approx(8.0)
    assert pixel_metrics.contrast(view(ramp)) == pytest.approx(np.arange(256).std() / 255, abs=1e-6)


def test_contrast_reaches_from_nothing_to_a_half() -> None:
    halves = Image.new("RGB", (64, 64))
    halves.paste(WHITE, (32, 0))

    assert pixel_metrics.contrast(view(BLACK)) == 0.0
    assert pixel_metrics.contrast(view(halves)) == pytest.approx(0.5, abs=1e-6)


def test_grey_has_no_colourfulness_and_primaries_have_much() -> None:
    grey = photo(1).convert("L").convert("RGB")
    stripes = Image.fromarray(np.eye(3, dtype=np.uint8).repeat(20, axis=0)[None].repeat(10, axis=0) * 255)

    assert pixel_metrics.colourfulness(view(grey)) == pytest.approx(0, abs=1e-4)
    assert pixel_metrics.colourfulness(view(stripes)) > 109  # "extremely colourful" in the paper


def test_colourfulness_of_one_colour_is_its_distance_from_grey() -> None:
    """From the paper's formula by hand: rg = 200, yb = 100 − 50; no spread."""
    colour = Image.new("RGB", (8, 8), (200, 0, 50))

    assert pixel_metrics.colourfulness(view(colour)) == pytest.approx(0.3 * math.hypot(200, 50), abs=1e-3)


def test_diversity_over_a_cell_is_the_mean_pairwise_distance() -> None:
    images = [photo(i, 128, 128) for i in range(4)]
    pairs = [pixel_metrics.delta_e(view(a, b)) for i, a in enumerate(images) for b in images[:i]]

    by_image = [pixel_metrics.diversity(view(a, others=[b for b in images if b is not a])) for a in images]

    assert np.mean(by_image) == pytest.approx(np.mean(pairs))


def test_diversity_is_nothing_for_equal_images_and_unknown_for_one() -> None:
    image = photo(1, 128, 128)

    assert pixel_metrics.diversity(view(image, others=[image.copy()])) == 0.0
    assert pixel_metrics.diversity_structure(view(image, others=[image.copy()])) == 0.0
    assert math.isnan(pixel_metrics.diversity(view(image)))


def test_one_changed_pixel_is_found_between_repeats() -> None:
    image, other = photo(1), photo(1)
    red, green, blue = (int(v) for v in np.asarray(image)[5, 5])
    other.putpixel((5, 5), (red, green, blue ^ 1))

    assert pixel_metrics.replicate_error(view(image, image.copy())) == 0.0
    assert pixel_metrics.replicate_error(view(image, other)) == 1.0
