"""Means over seeds and paired differences between levels: t intervals, tests, and why an estimate has no interval.

Test and interval of a difference share one correction for the number of pairs of a metric and axis; tests are then
corrected over all metrics and axes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from sweep.study.stats.additive_fit import Codes, FloatArray
from sweep.study.study_design import StudyDesign
from sweep.study.study_json import AxisDistance, Curve, Difference, Estimate, LevelValue, MetricFacts

CONFIDENCE = 0.95
ALL_PAIRS = 8  # levels; with more, only neighbours and the two ends are compared
MOST_LEVELS_COMPARED = 50  # with more, only the two ends of a numeric axis: it is a sample, not a list of choices
PAIRED = "paired t over seeds"
LEAST_SEEDS = 4  # for sizes of effects; below that a ranking only
ROUNDED = "its values are rounded so coarsely that an interval would be too narrow"
UNLINKED = "its levels were rendered at different settings of the other axes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Mean and interval at every level; arrays of equal length, NaN where there is none."""

    mean: FloatArray
    low: FloatArray
    high: FloatArray
    n: Codes


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
    return Band(mean=mean, low=mean - half, high=mean + half, n=n.astype(np.intp))


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


def list_finite(values: FloatArray) -> list[float | None]:
    """Convert to plain floats, with None for NaN and infinity."""
    return [value if math.isfinite(value) else None for value in values.tolist()]


def round_digits(values: FloatArray) -> FloatArray:
    """Round to seven significant digits: half the length in JSON."""
    return np.array([float(f"{value:.7g}") for value in values.tolist()], dtype=np.float64)


def compare_levels(design: StudyDesign, fact: MetricFacts, axis: str) -> list[Difference]:
    """Compare pairs of levels of a factor (b minus a), each seed being its own control.

    Where seeds are the same at both levels, what they have in common cancels: intervals are two to three times
    narrower than unpaired ones. Of m pairs, p is multiplied by m and the interval has a confidence of 1 − 0.05 / m
    (Bonferroni), so all intervals of a metric and axis hold together in 95 % of studies. With one seed there is
    a difference without an interval. Two or three seeds that agree in every digit do so by rounding: they show nothing.
    """
    levels, metric, of_cells = design.by_name[axis].levels, fact["name"], fact["reference"] == "cell"
    matrix, is_linked = design.average_units(metric, axis), design.is_linked(axis, {})
    pairs = _choose_pairs(len(levels), numeric=design.by_name[axis].numeric)
    steps = [step[np.isfinite(step)] for step in (matrix[:, b] - matrix[:, a] for a, b in pairs)]
    spreads = [float(step.std(ddof=1)) for step in steps if len(step) > 1]
    # values are multiples of a step that seeds differ by less than: then seeds agree by rounding
    is_rounded = bool(spreads) and float(np.mean(spreads)) < design.measure_step(metric) / 2
    has_units = design.unit_count > 0
    agreed = [is_rounded or (0 < len(step) < LEAST_SEEDS and step.std() == 0.0 != step[0]) for step in steps]
    raw = [
        compute_p_value(step, pairwise=of_cells) if has_units and is_linked and not same else None
        for step, same in zip(steps, agreed, strict=True)
    ]
    asked = max(sum(p is not None for p in raw), 1)
    method = PAIRED if asked == 1 else f"{PAIRED}, Bonferroni-corrected for {asked} pairs"
    found = []
    for (a, b), step, p, same in zip(pairs, steps, raw, agreed, strict=True):
        confidence = 1 - (1 - CONFIDENCE) / asked
        value = estimate_mean(step, method=method, has_units=has_units, pairwise=of_cells, confidence=confidence)
        if has_units and (same or not is_linked):
            value = make_estimate(value["value"], n=value["n"], reason=ROUNDED if is_linked else UNLINKED)
        corrected = None if p is None else min(p * asked, 1.0)
        found.append(
            Difference(
                metric=metric,
                axis=axis,
                a=levels[a],
                b=levels[b],
                difference=value,
                p=p,
                p_adjusted=corrected,
                pairs=asked,
                significant=None if corrected is None else corrected < 1 - CONFIDENCE,
            )
        )
    return found


def is_shown(p: float | None) -> bool:
    """Tell whether a test, corrected for all comparisons, shows an effect."""
    return p is not None and p < 1 - CONFIDENCE


def is_nearer(near: AxisDistance, far: AxisDistance, seeds: Sequence[LevelValue], tests: int = 1) -> bool:
    """Tell whether images are nearer along one axis than along another, also with new seeds: paired t test over seeds.

    `seeds` has the seed of each row; a distance between two seeds counts for both. `tests`: for Bonferroni.
    """
    means = []
    for each in (near, far):
        both = [pd.Series(each["distance"], index=[seeds[row] for row in rows]) for rows in (each["a"], each["b"])]
        means.append(pd.concat(both).groupby(level=0).mean())
    steps = np.asarray((means[1] - means[0]).dropna(), dtype=np.float64)
    p = compute_p_value(steps, pairwise=near["seed"] or far["seed"])
    return is_shown(p and p * tests) and bool(steps.mean() > 0)


def correct_claims(curves: Sequence[Curve], differences: Sequence[Difference], main: str | None) -> None:
    """Correct tests over all metrics and axes, in place: at most 5 % of studies claim an effect where there is none.

    The tests of a metric and axis are a family: that of the curve, else that of the most different pair. Families are
    corrected by the weighted procedure of Holm 1979 (Scand. J. Stat. 6): half of the 5 % is for the main metric, which
    is known beforehand. A pair is significant where its family is and its own p, times the number of pairs, is small.
    """
    whole = [curve for curve in curves if not curve["group"]]
    found = {(curve["metric"], curve["axis"]): curve["p"] for curve in whole if curve["p"] is not None}
    for pair in differences:
        family = pair["metric"], pair["axis"]
        if pair["p_adjusted"] is not None and family not in {(c["metric"], c["axis"]) for c in whole}:
            found[family] = min(found.get(family, 1.0), pair["p_adjusted"])
    names = list(found)
    ours = sum(metric == main for metric, _ in names)
    weights = [0.5 / ours if metric == main else 0.5 / max(len(names) - ours, 1) for metric, _ in names]
    adjusted = dict(zip(names, adjust_p_values([found[name] or 0.0 for name in names], weights), strict=True))
    for curve in whole:
        curve["p_adjusted"] = adjusted.get((curve["metric"], curve["axis"]))
    for pair in differences:
        if pair["p_adjusted"] is not None:
            pair["p_adjusted"] = max(pair["p_adjusted"], adjusted.get((pair["metric"], pair["axis"]), 0.0))
            pair["significant"] = pair["p_adjusted"] < 1 - CONFIDENCE


def adjust_p_values(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Adjust p values by the weighted procedure of Holm 1979; with equal weights it is the plain one."""
    ratios, found = np.divide(values, weights), np.empty(len(values))
    order = np.argsort(ratios, kind="stable")
    left = np.cumsum(np.asarray(weights)[order][::-1])[::-1]
    found[order] = np.minimum(np.maximum.accumulate(left * ratios[order]), 1.0)
    return list(found.tolist())


def _choose_pairs(levels: int, *, numeric: bool) -> list[tuple[int, int]]:
    if levels <= ALL_PAIRS:
        return list(itertools.combinations(range(levels), 2))
    if levels > MOST_LEVELS_COMPARED:
        return [(0, levels - 1)] if numeric else []
    return [*itertools.pairwise(range(levels)), (0, levels - 1)] if numeric else [(0, b) for b in range(1, levels)]
