"""Do the intervals keep their promise? 1,000 simulated studies with a planted effect must get it back."""

from __future__ import annotations

import numpy as np
import pytest

from sweep.study.stats.response_curves import analyse_curve
from sweep.study.stats.t_tests import estimate_mean
from sweep.study.study import make_study
from tests.support.planted_studies import AXES, STRENGTHS, logistic, planted

STUDIES = 1000
SEEDS = 4
DIFFERENCE = 0.05


class Population:
    """Seeds shift the curve along the axis (sd 0.04) and up (sd 0.02); every image has noise (sd 0.015)."""

    def __init__(self) -> None:
        rng = np.random.default_rng(7)
        middles = 0.55 + rng.normal(0, 0.04, (20_000, 1))
        self.mean = logistic(STRENGTHS[None, :], middles).mean(axis=0)
        fine = np.linspace(0, 1, 1001)
        curve = logistic(fine[None, :], middles[:4000]).mean(axis=0)
        self.half = float(np.interp(-(curve[0] + curve[-1]) / 2, -curve, fine))
        self.at_06 = float(np.interp(-0.6, -curve, fine))

    def find_drawn(self, rng: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        curves = logistic(STRENGTHS[None, :], 0.55 + rng.normal(0, 0.04, (SEEDS, 1)))
        return curves + rng.normal(0, 0.02, (SEEDS, 1)) + rng.normal(0, 0.015, curves.shape)

    def drawn_differences(self, rng: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Another prompt minus this one, by seed: the seeds' own offsets cancel, how they take the prompt does not."""
        return DIFFERENCE + rng.normal(0, 0.03, SEEDS) + rng.normal(0, 0.015, SEEDS) - rng.normal(0, 0.015, SEEDS)


@pytest.mark.slow
def test_intervals_cover_what_was_planted() -> None:
    population, rng = Population(), np.random.default_rng(11)
    hits = {"mean": 0, "half": 0, "threshold": 0, "difference": 0}
    for _ in range(STUDIES):
        matrix = population.find_drawn(rng)
        found = analyse_curve(STRENGTHS, matrix, thresholds=(0.6,))
        levels, half, crossings = found.levels, found.half, found.crossings
        at = crossings[0]["at"]
        step = estimate_mean(population.drawn_differences(rng), method="paired")
        hits["mean"] += bool(levels.low[5] <= population.mean[5] <= levels.high[5])
        hits["half"] += covers(half["low"], population.half, half["high"])
        hits["threshold"] += covers(at["low"], population.at_06, at["high"])
        hits["difference"] += covers(step["low"], DIFFERENCE, step["high"])

    coverage = {name: count / STUDIES for name, count in hits.items()}

    for name, share in coverage.items():  # a crossing is told by the tested levels around its interval
        assert 0.93 <= share <= (1.0 if name in ("half", "threshold") else 0.98), coverage


def covers(low: float | None, truth: float, high: float | None) -> bool:
    return low is not None and high is not None and low <= truth <= high


def test_rows_are_no_replicates() -> None:
    """What the interval would be if every row counted: it covers far too little, so the unit must be the seed."""
    rng, hits = np.random.default_rng(3), 0
    for _ in range(STUDIES):
        rows = np.repeat(rng.normal(0, 1, 4), 10) + rng.normal(0, 0.3, 40)
        found = estimate_mean(rows, method="rows")
        hits += covers(found["low"], 0.0, found["high"])

    assert hits / STUDIES < 0.8


@pytest.mark.parametrize("seed", range(5))
def test_the_planted_main_effect_is_ranked_first(seed: int) -> None:
    found = make_study(planted(np.random.default_rng(seed)), axes=AXES, metrics=["structure_coarse"])

    first = found.data["effects"][0]["shares"][0]

    assert first["axes"] == ["denoise_strength"]
    assert (first["share"]["value"] or 0) > 0.9
    assert (first["share"]["low"] or 0) < (first["share"]["value"] or 0) < 1
