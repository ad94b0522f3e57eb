"""Means and t intervals over seeds, a check of their symmetry, and the noise floor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri, stdtr, stdtrit

from sweep.study.design import Codes, FloatArray, StudyDesign, solve_shifts
from sweep.study.schema import Determinism, Estimate, NoiseFacts

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
    if n < (3 if pairwise else 2):
        return None
    error = float(values.std(ddof=1)) / n**0.5
    if pairwise:
        error *= float(compute_pairwise_factor(np.array(n, dtype=np.float64)))
    mean = float(values.mean())
    if error == 0.0:
        return None if mean == 0.0 else 0.0
    return float(2 * stdtr(n - 1, -abs(mean) / error))


def estimate_mean(
    values: FloatArray, *, method: str, pairwise: bool = False, confidence: float = CONFIDENCE
) -> Estimate:
    """Estimate the mean of one value a unit, with its t interval."""
    values = values[np.isfinite(values)]
    if not len(values):
        return make_estimate(reason="nothing was measured", method=method)
    found = compute_band(values[:, None], pairwise=pairwise, confidence=confidence)
    n, value = len(values), float(found.mean[0])
    if n < (3 if pairwise else 2):
        return make_estimate(value, n=n, reason=explain_few_units(n, pairwise=pairwise))
    return make_estimate(value, *list_finite(np.array([found.low[0], found.high[0]])), n=n, method=method)


def explain_few_units(n: int, *, pairwise: bool = False) -> str:
    """Say why there is no interval of a mean, or of a distance between pairs, over so few seeds."""
    if n == 0:
        return "there is no seed axis, so nothing is replicated"
    if n == 1:
        return "there is only one seed"
    return "a distance between seeds needs three of them at every point" if pairwise else f"{n} seeds are too few"


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


def strip_interval(estimate: Estimate) -> Estimate:
    """Strip an estimate for a table without a seed axis: no n, no interval, and the reason."""
    reason = estimate["reason"] if estimate["value"] is None else explain_few_units(0)
    return make_estimate(estimate["value"], reason=reason)


def measure_step(values: FloatArray) -> float:
    """Measure the step that a metric's values are multiples of; 0 where they are not rounded to few values."""
    known = values[np.isfinite(values)]
    distinct = np.unique(known)
    return float(np.diff(distinct).min()) if 2 <= len(distinct) <= len(known) / GRIDDED else 0.0


def list_finite(values: FloatArray) -> list[float | None]:
    """Convert to plain floats, with None for NaN and infinity."""
    return [value if math.isfinite(value) else None for value in values.tolist()]


def round_digits(value: float) -> float:
    """Round to seven significant digits: half the length in JSON."""
    return float(f"{value:.7g}")


def fill_holes(matrix: FloatArray) -> FloatArray:
    """Replace missing entries by what unit and level predict additively (least squares).

    Units without any entry are left out; levels without any stay NaN.
    """
    matrix = matrix[np.isfinite(matrix).any(axis=1)]
    present = np.isfinite(matrix)
    if present.all():
        return matrix
    crossed, seen = present.T.astype(np.float64), present.sum(axis=0)
    sums = np.where(present, matrix, 0.0)
    shifts = solve_shifts(crossed, sums.sum(axis=0), sums.sum(axis=1))
    levels = np.where(seen > 0, (sums.sum(axis=0) - crossed @ shifts) / np.maximum(seen, 1), np.nan)
    return np.where(present, matrix, levels + shifts[:, None])


STRENGTHS = ("denoise_strength", "denoising_strength", "strength")  # axes whose zero changes nothing
NEAR_ZERO = 0.05  # the highest strength at which what is seen counts as the floor
SAME_POINT = "replicate_error"  # the metric against the first repeat of the same point


def estimate_noise(design: StudyDesign, metric: str) -> NoiseFacts:
    """Estimate the metric's spread between repeats of one point, and its value at a strength of (nearly) zero.

    The latter is what encoding and decoding alone cost. Differences smaller than these mean nothing.
    """
    floor, at = _estimate_floor(design, metric)
    return NoiseFacts(metric=metric, replicate=_estimate_replicate(design, metric), floor=floor, floor_at=at)


def _estimate_replicate(design: StudyDesign, metric: str) -> Estimate:
    if design.replicates < 2:
        return make_estimate(reason="no point was rendered twice (study: {replicates: 2})")
    response = design.response(metric)
    rows = np.isfinite(response)
    if not rows.any():
        return make_estimate(reason="nothing was measured")
    points = np.unique(design.points[rows], return_inverse=True)[1]
    counts = np.bincount(points)
    means = np.bincount(points, response[rows]) / counts
    squares = float(((response[rows] - means[points]) ** 2).sum())
    freedom = int((counts - 1).sum())
    if freedom < 1:
        return make_estimate(reason="no point has two images")
    value = (squares / freedom) ** 0.5
    tail = (1 - CONFIDENCE) / 2
    low, high = (value * (freedom / float(chdtri(freedom, part))) ** 0.5 for part in (tail, 1 - tail))
    return make_estimate(value, low, high, n=int((counts > 1).sum()), method="chi-square over repeated points")


def _estimate_floor(design: StudyDesign, metric: str) -> tuple[Estimate, float | None]:
    """Estimate the metric from the images at the lowest strength alone, over seed means."""
    axis = next((axis for axis in design.axes if axis.name in STRENGTHS and axis.numeric), None)
    if axis is None:
        return make_estimate(reason="there is no strength axis"), None
    at = float(axis.levels[0] or 0)
    if at > NEAR_ZERO:
        return make_estimate(reason=f"the lowest strength is {at:g}: add one of at most {NEAR_ZERO:g}"), None
    response = design.response(metric)
    rows = np.isfinite(response) & (axis.codes == 0)
    units = np.maximum(design.units[rows], 0)
    sums, counts = np.bincount(units, response[rows]), np.bincount(units)
    found = estimate_mean(sums[counts > 0] / counts[counts > 0], method="t over seed means")
    return (found if design.unit_count else strip_interval(found)), at


def check_determinism(design: StudyDesign) -> Determinism | None:
    """Check whether the server gives the same pixels for the same point; None where no point was repeated."""
    error = design.response(SAME_POINT) if SAME_POINT in design.frame else np.empty(0)
    rows = np.flatnonzero(np.isfinite(error))
    if not len(rows):
        return None
    points = np.unique(design.points[rows], return_inverse=True)[1]
    worst = np.zeros(int(points.max()) + 1)
    np.maximum.at(worst, points, error[rows])
    total, same = len(worst), int((worst == 0).sum())
    message = f"{total} points were rendered more than once"
    if same == total:
        message += " and gave the same pixels every time: the server is deterministic."
    else:
        message += (
            f": {same} gave the same pixels. The others gave different pixels, by up to {worst.max():.3g} of 255: "
        )
        message += "the server is not deterministic."
    return Determinism(points=total, same_pixels=same, message=message)
