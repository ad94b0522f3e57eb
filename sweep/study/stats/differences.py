"""Paired differences between levels of an axis, corrected for the number of comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np

from sweep.study.design import FloatArray, StudyDesign
from sweep.study.schema import Difference, MetricFacts
from sweep.study.stats.intervals import SKEWED, are_skewed, compute_p_value, estimate_mean, strip_interval

ALL_PAIRS = 8  # levels; with more, only neighbours and the two ends are compared
MOST_LEVELS_COMPARED = 50  # with more, only the two ends of a numeric axis: it is a sample, not a list of choices
FAMILY_CONFIDENCE = 0.05
PAIRED = "paired t over seeds"


def compare_levels(design: StudyDesign, fact: MetricFacts, axis: str) -> list[Difference]:
    """Compare pairs of levels of a factor (b minus a), each seed being its own control.

    Where seeds are the same at both levels, what they have in common cancels: intervals are two to three times
    narrower than unpaired ones. p values are corrected by Holm's method (1979, Scand. J. Stat. 6) over the pairs
    of this metric and axis. With one seed there is a difference without an interval. Where seeds' differences are
    skewed, the interval has `SKEWED` as its reason for caution.
    """
    levels, metric, of_cells = design.by_name[axis].levels, fact["name"], fact["reference"] == "cell"
    matrix = design.unit_matrix(metric, axis)
    pairs = _choose_pairs(len(levels), numeric=design.by_name[axis].numeric)
    steps = [_subtract_pair(matrix, a, b) for a, b in pairs]
    raw = [compute_p_value(step, pairwise=of_cells) if design.unit_count else None for step in steps]
    corrected = correct_holm(raw)
    uneven = bool(pairs) and not of_cells and design.unit_count > 0 and are_skewed(_subtract_pairs(matrix, pairs))
    found = []
    for (a, b), step, p, p_holm in zip(pairs, steps, raw, corrected, strict=True):
        value = estimate_mean(step, method=PAIRED, pairwise=of_cells)
        if not design.unit_count:
            value = strip_interval(value)
        elif uneven and value["low"] is not None:
            value["reason"] = SKEWED
        found.append(
            Difference(
                metric=metric,
                axis=axis,
                a=levels[a],
                b=levels[b],
                difference=value,
                p=p,
                p_holm=p_holm,
                significant=None if p_holm is None else p_holm < FAMILY_CONFIDENCE,
            )
        )
    return found


def _choose_pairs(levels: int, *, numeric: bool) -> list[tuple[int, int]]:
    if levels <= ALL_PAIRS:
        return list(combinations(range(levels), 2))
    if levels > MOST_LEVELS_COMPARED:
        return [(0, levels - 1)] if numeric else []
    neighbours = list(pairwise(range(levels))) if numeric else [(0, b) for b in range(1, levels)]
    ends = [(0, levels - 1)]
    return neighbours + [pair for pair in ends if pair not in neighbours]


def _subtract_pairs(matrix: FloatArray, pairs: Sequence[tuple[int, int]]) -> FloatArray:
    """Units × pairs."""
    return np.stack([matrix[:, b] - matrix[:, a] for a, b in pairs], axis=1)


def _subtract_pair(matrix: FloatArray, a: int, b: int) -> FloatArray:
    steps = matrix[:, b] - matrix[:, a]
    return steps[np.isfinite(steps)]


def correct_holm(raw: Sequence[float | None]) -> list[float | None]:
    """Correct p values by Holm's step-down method; None where there was none, which do not count as questions."""
    order = sorted((i for i, p in enumerate(raw) if p is not None), key=lambda i: raw[i] or 0.0)
    found: list[float | None] = [None] * len(raw)
    worst = 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min((raw[i] or 0.0) * (len(order) - rank), 1.0))
        found[i] = worst
    return found
