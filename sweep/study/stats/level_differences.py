"""Paired differences between the levels of an axis, and the correction of all tests of a study.

Test and interval share one correction for the number of pairs of a metric and axis; tests are then corrected over all
metrics and axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np

from sweep.study.stats.intervals import CONFIDENCE, ROUNDED, compute_p_value, estimate_mean, make_estimate, measure_step
from sweep.study.stats.variance_shares import LEAST_SEEDS
from sweep.study.study_design import StudyDesign
from sweep.study.study_json import Curve, Difference, MetricFacts

ALL_PAIRS = 8  # levels; with more, only neighbours and the two ends are compared
MOST_LEVELS_COMPARED = 50  # with more, only the two ends of a numeric axis: it is a sample, not a list of choices
PAIRED = "paired t over seeds"


def compare_levels(design: StudyDesign, fact: MetricFacts, axis: str) -> list[Difference]:
    """Compare pairs of levels of a factor (b minus a), each seed being its own control.

    Where seeds are the same at both levels, what they have in common cancels: intervals are two to three times
    narrower than unpaired ones. Of m pairs, p is multiplied by m and the interval has a confidence of 1 − 0.05 / m
    (Bonferroni), so all intervals of a metric and axis hold together in 95 % of studies. With one seed there is
    a difference without an interval. Two or three seeds that agree in every digit do so by rounding: they show nothing.
    """
    levels, metric, of_cells = design.by_name[axis].levels, fact["name"], fact["reference"] == "cell"
    matrix = design.unit_matrix(metric, axis)
    pairs = _choose_pairs(len(levels), numeric=design.by_name[axis].numeric)
    steps = [step[np.isfinite(step)] for step in (matrix[:, b] - matrix[:, a] for a, b in pairs)]
    spreads = [float(step.std(ddof=1)) for step in steps if len(step) > 1]
    # values are multiples of a step that seeds differ by less than: then seeds agree by rounding
    is_rounded = bool(spreads) and float(np.mean(spreads)) < measure_step(design.response(metric)) / 2
    has_units = design.unit_count > 0
    agreed = [is_rounded or (0 < len(step) < LEAST_SEEDS and step.std() == 0.0 != step[0]) for step in steps]
    raw = [
        compute_p_value(step, pairwise=of_cells) if has_units and not same else None
        for step, same in zip(steps, agreed, strict=True)
    ]
    asked = max(sum(p is not None for p in raw), 1)
    method = PAIRED if asked == 1 else f"{PAIRED}, Bonferroni-corrected for {asked} pairs"
    found = []
    for (a, b), step, p, same in zip(pairs, steps, raw, agreed, strict=True):
        confidence = 1 - (1 - CONFIDENCE) / asked
        value = estimate_mean(step, method=method, has_units=has_units, pairwise=of_cells, confidence=confidence)
        if has_units and same:
            value = make_estimate(value["value"], n=value["n"], reason=ROUNDED)
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
    order = sorted(range(len(values)), key=lambda i: values[i] / weights[i])
    left, worst, found = sum(weights), 0.0, [1.0] * len(values)
    for i in order:
        worst = max(worst, min(left * values[i] / weights[i], 1.0))
        found[i] = worst
        left -= weights[i]
    return found


def _choose_pairs(levels: int, *, numeric: bool) -> list[tuple[int, int]]:
    if levels <= ALL_PAIRS:
        return list(combinations(range(levels), 2))
    if levels > MOST_LEVELS_COMPARED:
        return [(0, levels - 1)] if numeric else []
    neighbours: Sequence[tuple[int, int]] = list(pairwise(range(levels))) if numeric else []
    ends = [(0, b) for b in range(1, levels)] if not numeric else [(0, levels - 1)]
    return [*neighbours, *ends]
