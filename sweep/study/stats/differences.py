"""Paired differences between levels of an axis. Test and interval share one correction for the number of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np

from sweep.study.design import FloatArray, StudyDesign
from sweep.study.schema import Difference, MetricFacts
from sweep.study.stats.intervals import CONFIDENCE, compute_p_value, estimate_mean, strip_interval

ALL_PAIRS = 8  # levels; with more, only neighbours and the two ends are compared
MOST_LEVELS_COMPARED = 50  # with more, only the two ends of a numeric axis: it is a sample, not a list of choices
PAIRED = "paired t over seeds"


def compare_levels(design: StudyDesign, fact: MetricFacts, axis: str) -> list[Difference]:
    """Compare pairs of levels of a factor (b minus a), each seed being its own control.

    Where seeds are the same at both levels, what they have in common cancels: intervals are two to three times
    narrower than unpaired ones. Of m pairs, p is multiplied by m and the interval has a confidence of 1 − 0.05 / m
    (Bonferroni), so all intervals of a metric and axis hold together in 95 % of studies, and a pair is significant
    exactly where its interval excludes zero. With one seed there is a difference without an interval.
    """
    levels, metric, of_cells = design.by_name[axis].levels, fact["name"], fact["reference"] == "cell"
    matrix = design.unit_matrix(metric, axis)
    pairs = _choose_pairs(len(levels), numeric=design.by_name[axis].numeric)
    steps = [_subtract_pair(matrix, a, b) for a, b in pairs]
    raw = [compute_p_value(step, pairwise=of_cells) if design.unit_count else None for step in steps]
    asked = max(sum(p is not None for p in raw), 1)
    method = PAIRED if asked == 1 else f"{PAIRED}, Bonferroni-corrected for {asked} pairs"
    found = []
    for (a, b), step, p in zip(pairs, steps, raw, strict=True):
        value = estimate_mean(step, method=method, pairwise=of_cells, confidence=1 - (1 - CONFIDENCE) / asked)
        corrected = None if p is None else min(p * asked, 1.0)
        found.append(
            Difference(
                metric=metric,
                axis=axis,
                a=levels[a],
                b=levels[b],
                difference=value if design.unit_count else strip_interval(value),
                p=p,
                p_adjusted=corrected,
                pairs=asked,
                significant=None if corrected is None else corrected < 1 - CONFIDENCE,
            )
        )
    return found


def _choose_pairs(levels: int, *, numeric: bool) -> list[tuple[int, int]]:
    if levels <= ALL_PAIRS:
        return list(combinations(range(levels), 2))
    if levels > MOST_LEVELS_COMPARED:
        return [(0, levels - 1)] if numeric else []
    neighbours: Sequence[tuple[int, int]] = list(pairwise(range(levels))) if numeric else []
    ends = [(0, b) for b in range(1, levels)] if not numeric else [(0, levels - 1)]
    return [*neighbours, *ends]


def _subtract_pair(matrix: FloatArray, a: int, b: int) -> FloatArray:
    steps = matrix[:, b] - matrix[:, a]
    return np.asarray(steps[np.isfinite(steps)], dtype=np.float64)
