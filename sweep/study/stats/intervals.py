"""Means and t intervals over seeds; symmetry check."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import stdtr, stdtrit

from sweep.study.design import Codes, FloatArray, Mask, StudyDesign
from sweep.study.schema import Estimate

CONFIDENCE = 0.95
NO_ESTIMATE = 1e-13  # of the largest value: what rounding leaves of a zero
ROUNDS = 30  # of backfitting; an additive fit of a grid with a few holes is at rest long before


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Mean and interval at every level; arrays of equal length, NaN where there is none."""

    mean: FloatArray
    low: FloatArray
    high: FloatArray
    n: Codes
    error: FloatArray  # standard error


def pairwise_factor(n: FloatArray) -> FloatArray:
    """By how much the standard error of a mean pairwise distance exceeds that of a plain mean of the n images'
    mean distances to the others: 2 (n − 1) / (n − 2), the jackknife of a U-statistic of order two
    (Arvesen 1969, Ann. Math. Stat. 40). Infinite for n < 3.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(n > 2, 2 * (n - 1) / np.where(n > 2, n - 2, 1), np.inf)


def band(matrix: FloatArray, *, pairwise: bool = False, confidence: float = CONFIDENCE) -> Band:
    """Mean and t interval down the columns of a units × levels matrix, NaN where a unit is missing."""
    present = np.isfinite(matrix)
    n = present.sum(axis=0)
    safe = np.maximum(n, 1)
    mean = np.where(n > 0, np.where(present, matrix, 0.0).sum(axis=0) / safe, np.nan)
    squares = np.where(present, (matrix - mean) ** 2, 0.0).sum(axis=0)
    error = np.where(n > 1, np.sqrt(squares / np.maximum(n - 1, 1) / safe), np.nan)
    if pairwise:
        factor = pairwise_factor(n.astype(np.float64))
        error = np.where(np.isfinite(factor), error * np.where(np.isfinite(factor), factor, 1.0), np.nan)
    half = error * t_quantile(n - 1, confidence)
    return Band(mean=mean, low=mean - half, high=mean + half, n=n.astype(np.intp), error=error)


def t_quantile(freedom: Codes | int, confidence: float = CONFIDENCE) -> FloatArray:
    """The two-sided quantile of Student's t; NaN below one degree of freedom."""
    freedom = np.asarray(freedom, dtype=np.float64)
    return np.where(freedom > 0, stdtrit(np.maximum(freedom, 1.0), 0.5 + confidence / 2), np.nan)


def t_test(values: FloatArray, *, pairwise: bool = False) -> float | None:
    """The two-sided p of the values' mean being zero; None for fewer than two, or where none differs from zero.

    `pairwise`: the values are mean distances to others, or differences of such; then None for fewer than three.
    """
    n = len(values)
    if n < (3 if pairwise else 2):
        return None
    error = float(values.std(ddof=1)) / n**0.5
    if pairwise:
        error *= float(pairwise_factor(np.array(n, dtype=np.float64)))
    mean = float(values.mean())
    if error == 0.0:
        return None if mean == 0.0 else 0.0
    return float(2 * stdtr(n - 1, -abs(mean) / error))


def estimate(values: FloatArray, *, method: str, pairwise: bool = False) -> Estimate:
    """The mean of one value a unit, with its t interval."""
    values = values[np.isfinite(values)]
    if not len(values):
        return no_estimate("nothing was measured", method=method)
    found = band(values[:, None], pairwise=pairwise)
    n = len(values)
    needed = 3 if pairwise else 2
    return Estimate(
        value=float(found.mean[0]),
        low=finite(found.low[0]),
        high=finite(found.high[0]),
        confidence=CONFIDENCE,
        n=n,
        method=method if n >= needed else "none",
        reason=None if n >= needed else few_units(n, pairwise=pairwise),
    )


def few_units(n: int, *, pairwise: bool = False) -> str:
    """Why there is no interval of a mean, or of a distance between pairs, over so few seeds."""
    if n == 0:
        return "there is no seed axis, so nothing is replicated"
    if n == 1:
        return "there is only one seed"
    return "a distance between seeds needs three of them at every point" if pairwise else f"{n} seeds are too few"


def no_estimate(reason: str, *, method: str = "none", n: int = 0) -> Estimate:
    """Nothing could be estimated, and why."""
    return Estimate(value=None, low=None, high=None, confidence=CONFIDENCE, n=n, method=method, reason=reason)


def unreplicated(estimate: Estimate) -> Estimate:
    """The same of a table without a seed axis: no n, no interval, and the reason."""
    found = estimate.copy()
    found["n"], found["low"], found["high"], found["method"] = 0, None, None, "none"
    if found["value"] is not None:
        found["reason"] = few_units(0)
    return found


def within(found: Estimate, lowest: float | None, highest: float | None) -> Estimate:
    """The same, its interval cut off where the metric ends."""
    cut = found.copy()
    if found["low"] is not None and lowest is not None:
        cut["low"] = max(found["low"], lowest)
    if found["high"] is not None and highest is not None:
        cut["high"] = min(found["high"], highest)
    return cut


def round_estimate(value: float) -> float:
    """Seven significant digits: more than any metric means, and half the length in JSON."""
    return float(f"{value:.7g}")


def finite(value: float | np.floating) -> float | None:
    """A plain float, or None for NaN and infinity."""
    return float(value) if np.isfinite(value) else None


def unit_matrix(layout: StudyDesign, metric: str, axis: str, rows: Mask) -> FloatArray:
    """The metric as units × levels of an axis, averaged over all else; NaN where nothing is there.

    Where cells are missing, the other factors' additive effects are taken out first, so that a hole at a difficult
    prompt does not look like an effect of the axis. Without units the matrix has one row.
    """
    response = layout.response(metric)
    rows = rows & np.isfinite(response)
    levels = len(layout.axis(axis).levels)
    units = np.maximum(layout.units[rows], 0)
    joint = units * levels + layout.axis(axis).codes[rows]
    others = layout.combined([name for name in layout.factors if name != axis])[rows]
    height = max(layout.unit_count, 1)
    return _means(response[rows], joint, others, height * levels).reshape(height, levels)


def _means(response: FloatArray, joint: Codes, others: Codes, size: int) -> FloatArray:
    counts = np.bincount(joint, minlength=size)
    if not len(response):
        return np.full(size, np.nan)
    width = int(others.max(initial=0)) + 1
    shifts = np.zeros(width)
    weights = np.bincount(others, minlength=width)
    for _ in range(0 if _is_crossed(joint, others, counts, width) else ROUNDS):
        means = np.bincount(joint, response - shifts[others], minlength=size) / np.maximum(counts, 1)
        shifts = np.bincount(others, response - means[joint], minlength=width) / np.maximum(weights, 1)
        shifts -= shifts[weights > 0].mean()
    totals = np.bincount(joint, response - shifts[others], minlength=size)
    means = totals / np.maximum(counts, 1)
    means[np.abs(means) < NO_ESTIMATE * np.abs(response).max(initial=0.0)] = 0.0
    return np.where(counts > 0, means, np.nan)


def _is_crossed(joint: Codes, others: Codes, counts: Codes, width: int) -> bool:
    """Whether every unit and level that is there was seen under the same other conditions."""
    if len(counts) * width > 4 * len(joint):
        return False  # mostly holes, and a table of them might not fit into memory
    crossed = np.bincount(joint * width + others, minlength=len(counts) * width).reshape(len(counts), width)
    present = crossed[counts > 0]
    return bool((present == present[:1]).all())


def fill_holes(matrix: FloatArray) -> FloatArray:
    """The matrix with missing entries replaced by what unit and level predict additively.

    Units without any entry are left out; levels without any stay NaN.
    """
    matrix = matrix[np.isfinite(matrix).any(axis=1)]
    present = np.isfinite(matrix)
    if present.all():
        return matrix
    shifts = np.zeros(len(matrix))
    levels = np.full(matrix.shape[1], np.nan)
    for _ in range(ROUNDS):
        rest = np.where(present, matrix - shifts[:, None], 0.0)
        seen = present.sum(axis=0)
        levels = np.where(seen > 0, rest.sum(axis=0) / np.maximum(seen, 1), np.nan)
        shifts = np.where(present, matrix - levels, 0.0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
        shifts -= shifts.mean()
    return np.where(present, matrix, levels + shifts[:, None])


SKEWED = "seeds are spread unevenly to both sides, so it holds less often than it says"
FALSE_ALARM_RATE = 0.01  # of all studies of symmetric seeds are warned for nothing, by metric and axis
DRAWN = 999  # rotations
LEAST_SEEDS = 4  # seeds; three say hardly anything of a shape
PLENTY = 64  # seeds from which the skewness is known well enough without a test, whose rotations grow with n squared
PER_SKEWNESS = 25  # seeds to the square of the skewness; fewer, and intervals hold less often than 94 times in 100


def skewness(values: FloatArray) -> FloatArray:
    """Of each column of (… × units × columns): third central moment over spread cubed; 0 where nothing differs."""
    rest = values - values.mean(axis=-2, keepdims=True)
    spread = np.sqrt((rest**2).mean(axis=-2))
    cubes = (rest**3).mean(axis=-2)
    there = spread > 1e-12
    return np.where(there, cubes / np.where(there, spread, 1.0) ** 3, 0.0)


def skewed(differences: FloatArray) -> bool:
    """Whether the columns of units × differences are skewed together, by more than so many units make up for.

    A rotation test (Langsrud 2005, Stat. Comput. 15): of normal units, however their columns hang together, the
    deviations from the mean are equally likely in every rotation that leaves the mean alone. So the sum of the columns'
    skewness is compared with that of rotated ones, exactly for any number of units. Who passes it needs, by Cochran's
    rule (1977, Sampling Techniques, 2.15), 25 units to the (mean) square of the skewness. Columns with a value
    missing do not count; below four units nothing is called skewed.
    """
    whole = differences[:, np.isfinite(differences).all(axis=0)]
    n = len(whole)
    if n < LEAST_SEEDS or not whole.shape[1]:
        return False
    rest = whole - whole.mean(axis=0)
    rest = rest[:, rest.std(axis=0) > 1e-12 * max(1.0, float(np.abs(whole).max()))]
    if not rest.shape[1]:
        return False
    found = skewness(rest)
    if n >= PER_SKEWNESS * float((found**2).mean()):
        return False
    if n >= PLENTY:
        return True
    here = abs(float(found.sum()))
    drawn = np.abs(skewness(_rotations(n) @ rest).sum(axis=-1))
    return bool((1 + (drawn >= here * (1 - 1e-9)).sum()) / (DRAWN + 1) <= FALSE_ALARM_RATE)


@cache
def _rotations(n: int) -> FloatArray:
    """Random orthogonal matrices that map the vector of ones to itself; the same ones every time."""
    rng = np.random.default_rng(n)
    around = np.linalg.qr(np.column_stack([np.ones(n), rng.normal(size=(n, n - 1))]))[0][:, 1:]
    turned, triangle = np.linalg.qr(rng.normal(size=(DRAWN, n - 1, n - 1)))
    turned *= np.sign(np.diagonal(triangle, axis1=1, axis2=2))[:, None, :]  # uniform over all rotations and reflections
    return np.asarray(around @ turned @ around.T, dtype=np.float64)
