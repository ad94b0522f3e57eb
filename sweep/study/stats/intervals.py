"""Means and t intervals over seeds; estimates without an interval, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from sweep.study.stats.additive_fit import Codes, FloatArray
from sweep.study.study_json import Estimate

CONFIDENCE = 0.95
GRIDDED = 4  # images a distinct value, from which values count as rounded
ROUNDED = "its values are rounded so coarsely that an interval would be too narrow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Mean and interval at every level; arrays of equal length, NaN where there is none."""

    mean: FloatArray
    low: FloatArray
    high: FloatArray
    n: Codes
    error: FloatArray  # standard error


def compute_pairwise_factor(n: FloatArray) -> FloatArray:
    """Compute by how much the standard error of a mean pairwise distance exceeds that of a plain mean of the n images'
    mean distances to the others: 2 (n − 1) / (n − 2), the jackknife of a U-statistic of order two
    (Arvesen 1969, Ann. Math. Stat. 40). NaN for n < 3.
    """
    return np.where(n > 2, 2 * (n - 1) / np.where(n > 2, n - 2, 1), np.nan)


def compute_band(matrix: FloatArray, *, pairwise: bool = False, confidence: float = CONFIDENCE) -> Band:
    """Compute mean and t interval down the columns of a units × levels matrix, NaN where a unit is missing."""
    present = np.isfinite(matrix)
    n = present.sum(axis=0)
    safe = np.maximum(n, 1)
    mean = np.where(n > 0, np.where(present, matrix, 0.0).sum(axis=0) / safe, np.nan)
    squares = np.where(present, (matrix - mean) ** 2, 0.0).sum(axis=0)
    error = np.where(n > 1, np.sqrt(squares / np.maximum(n - 1, 1) / safe), np.nan)
    if pairwise:
        error = error * compute_pairwise_factor(n.astype(np.float64))
    half = error * compute_t_quantile(n - 1, confidence)
    return Band(mean=mean, low=mean - half, high=mean + half, n=n.astype(np.intp), error=error)


def compute_t_quantile(freedom: Codes | int, confidence: float = CONFIDENCE) -> FloatArray:
    """Compute the two-sided quantile of Student's t; NaN below one degree of freedom."""
    freedom = np.asarray(freedom, dtype=np.float64)
    return np.where(freedom > 0, stdtrit(np.maximum(freedom, 1.0), 0.5 + confidence / 2), np.nan)


def compute_p_value(values: FloatArray, *, pairwise: bool = False) -> float | None:
    """Compute the two-sided p of the values' mean being zero; None for fewer than two, or where none differs from zero.

    `pairwise`: the values are mean distances to others, or differences of such; then None for fewer than three.
    """
    n = len(values)
    if explain_few_units(n, pairwise=pairwise):
        return None
    error = float(values.std(ddof=1)) / n**0.5
    if pairwise:
        error *= float(compute_pairwise_factor(np.array(n, dtype=np.float64)))
    mean = float(values.mean())
    if error == 0.0:
        return None if mean == 0.0 else 0.0
    return float(2 * stdtr(n - 1, -abs(mean) / error))


def estimate_mean(
    values: FloatArray,
    *,
    method: str,
    has_units: bool = True,
    pairwise: bool = False,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Estimate the mean of one value a unit, with its t interval; without units (no seed axis) the value alone."""
    values = values[np.isfinite(values)]
    if not len(values):
        return make_estimate(reason="nothing was measured", method=method if has_units else "none")
    found = compute_band(values[:, None], pairwise=pairwise, confidence=confidence)
    n, value = len(values) if has_units else 0, float(found.mean[0])
    if reason := explain_few_units(n, pairwise=pairwise):
        return make_estimate(value, n=n, reason=reason)
    return make_estimate(value, *list_finite(np.array([found.low[0], found.high[0]])), n=n, method=method)


def explain_few_units(n: int, *, pairwise: bool = False) -> str | None:
    """Say why so few seeds give no interval of a mean, or of a distance between pairs; None where they give one."""
    if n == 0:
        return "there is no seed axis, so nothing is replicated"
    if n == 1:
        return "there is only one seed"
    return "a distance between seeds needs three of them at every point" if pairwise and n < 3 else None


def make_estimate(
    value: float | None = None,
    low: float | None = None,
    high: float | None = None,
    *,
    n: int = 0,
    method: str = "none",
    reason: str | None = None,
) -> Estimate:
    """Make an estimate; without a value or an interval, `reason` says why."""
    return Estimate(value=value, low=low, high=high, confidence=CONFIDENCE, n=n, method=method, reason=reason)


def measure_step(values: FloatArray) -> float:
    """Measure the step that a metric's values are multiples of; 0 where they are not rounded to few values."""
    known = values[np.isfinite(values)]
    distinct = np.unique(known)
    return float(np.diff(distinct).min()) if 2 <= len(distinct) <= len(known) / GRIDDED else 0.0


def list_finite(values: FloatArray) -> list[float | None]:
    """Convert to plain floats, with None for NaN and infinity."""
    return [value if math.isfinite(value) else None for value in values.tolist()]


def round_digits(values: FloatArray) -> FloatArray:
    """Round to seven significant digits: half the length in JSON."""
    return np.array([float(f"{value:.7g}") for value in values.tolist()], dtype=np.float64)
