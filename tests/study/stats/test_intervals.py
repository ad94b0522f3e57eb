"""Are skewed seeds noticed, and symmetric ones left in peace?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from sweep.study.stats.intervals import SKEWED, are_skewed, compute_band, compute_skewness, estimate_mean
from sweep.study.study import Study, make_study
from tests.support.planted_studies import AXES, planted

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Floats]
Draws = Callable[[np.random.Generator, tuple[int, int]], Floats]


def normal(rng: np.random.Generator, seeds: int, columns: int) -> Floats:
    return rng.normal(size=(seeds, columns))


def alike(rng: np.random.Generator, seeds: int, columns: int) -> Floats:
    """Normal seeds that do nearly the same in every column: one observation and not many."""
    return rng.normal(size=(seeds, 1)) + 0.2 * rng.normal(size=(seeds, columns))


def long_tailed(rng: np.random.Generator, seeds: int, columns: int) -> Floats:
    return rng.lognormal(0, 1, (seeds, columns))


def share_warned(draw: Draw, seeds: int, columns: int, studies: int = 300) -> float:
    rng = np.random.default_rng(2)
    return sum(are_skewed(draw(rng, seeds, columns)) for _ in range(studies)) / studies


@pytest.mark.parametrize("draw", [normal, alike])
@pytest.mark.parametrize(("seeds", "columns"), [(4, 1), (4, 3), (4, 11), (8, 10)])
def test_symmetric_seeds_are_hardly_ever_warned_of(draw: Draw, seeds: int, columns: int) -> None:
    assert share_warned(draw, seeds, columns) <= 0.03


@pytest.mark.parametrize(("seeds", "columns", "least"), [(4, 11, 0.15), (6, 10, 0.8), (8, 3, 0.5), (12, 3, 0.8)])
def test_long_tailed_seeds_are_warned_of_as_far_as_so_few_can_show_it(seeds: int, columns: int, least: float) -> None:
    assert share_warned(long_tailed, seeds, columns) >= least


def test_skewness_is_its_formula() -> None:
    values = np.array([[0.0], [0.0], [0.0], [4.0]])

    assert compute_skewness(values)[0] == pytest.approx((3 * (-1) ** 3 + 3**3) / 4 / (12 / 4) ** 1.5)
    assert compute_skewness(np.ones((4, 2))).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "matrix",
    [np.zeros((4, 5)), np.random.default_rng(1).lognormal(0, 2, (3, 5)), np.full((4, 2), np.nan), np.empty((4, 0))],
)
def test_what_does_not_differ_is_not_skewed(matrix: Floats) -> None:
    assert not are_skewed(matrix)


def test_many_seeds_make_up_for_skewness() -> None:
    rng = np.random.default_rng(1)

    assert not are_skewed(rng.gamma(4, size=(100, 10)))  # a skewness of 1: 25 seeds will do


def test_of_very_many_seeds_the_rule_alone_decides() -> None:
    """A thousand seeds: rotations of them would not fit into memory."""
    values = np.zeros((1000, 3))
    values[0] = 1.0

    assert are_skewed(values)
    assert not are_skewed(np.random.default_rng(1).normal(size=(1000, 3)))


def test_one_sample_that_looks_symmetric_is_no_better_covered() -> None:
    """Why single differences are not judged: where the interval fails, the tail was missed and nothing looks odd."""
    rng = np.random.default_rng(3)
    covered: dict[bool, list[bool]] = {True: [], False: []}
    for _ in range(4000):
        values = rng.exponential(size=4)
        found = estimate_mean(values, method="t")
        odd = abs(float(compute_skewness(values[:, None])[0])) > 1.0
        covered[odd].append((found["low"] or 0) <= 1.0 <= (found["high"] or 0))

    assert np.mean(covered[True]) > np.mean(covered[False])


@pytest.mark.parametrize(
    ("spread", "mean", "expected"),
    [
        (lambda rng, size: rng.gamma(4, size=size), 4.0, 0.93),
        (lambda rng, size: rng.exponential(size=size), 1.0, 0.88),
        (lambda rng, size: rng.lognormal(0, 1, size), np.exp(0.5), 0.82),
    ],
    ids=["gamma", "exponential", "log-normal"],
)
def test_coverage_of_skewed_seeds_is_what_the_words_say(spread: Draws, mean: float, expected: float) -> None:
    rng = np.random.default_rng(3)
    found = compute_band(spread(rng, (4, 20_000)))

    share = float(((found.low <= mean) & (mean <= found.high)).mean())

    assert share == pytest.approx(expected, abs=0.01)


def tailed(seeds: int) -> Study:
    rng = np.random.default_rng(4)
    frame = planted(rng, seeds=seeds, noise_sd=0.001, seed_sd=0.0)
    steps = (frame["denoise_strength"] * 10).round().astype(int)
    tail = rng.lognormal(0, 1, (seeds, 11)).cumsum(axis=1) * 0.02  # now and then a seed takes a long step
    frame["structure_coarse"] -= tail[frame["seed"] - 42, steps]
    return make_study(frame, axes=AXES, metrics=["structure_coarse"])


def test_a_study_of_skewed_seeds_says_so() -> None:
    found = tailed(8)

    along = [d for d in found.data["differences"] if d["axis"] == "denoise_strength"]
    assert {d["difference"]["reason"] for d in along} == {SKEWED}
    assert any("seeds are skewed, so" in text and "denoise_strength" in text for text in found.words)
    assert (found.differences["caution"].notna() == (found.differences["axis"] == "denoise_strength")).all()


def test_a_study_of_symmetric_seeds_says_nothing_of_it() -> None:
    found = make_study(planted(np.random.default_rng(4), seeds=8), axes=AXES, metrics=["structure_coarse"])

    assert not any("seeds are skewed, so" in text for text in found.words)
    assert not any("symmetric" in text for text in found.words)


def test_few_seeds_are_told_what_they_cannot_show() -> None:
    found = make_study(planted(np.random.default_rng(4)), axes=AXES, metrics=["structure_coarse"])

    assert any(text.startswith("Four seeds cannot show whether") for text in found.words)
