"""The shares of a metric's variance that axes and pairs of axes explain.

The axes of an experiment are fixed, seeds are a random sample. So a share is a variance component from which the part
that seeds' noise alone would give is taken out: noise explains nothing. Shares have no intervals: with four to eight
seeds, none of those tried covers what it says (by simulation). Below four seeds only the order is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import TypeAlias

import numpy as np

from sweep.study.stats.additive_fit import Codes, FloatArray
from sweep.study.stats.response_curves import SPARSE
from sweep.study.stats.t_tests import LEAST_SEEDS, make_estimate
from sweep.study.study_design import Mask, StudyDesign
from sweep.study.study_json import Effects, Share

Term: TypeAlias = tuple[int, ...]

MOSTLY_HOLES = 4  # so many cells of the crossed grid to an image: the design is no grid
FEW_LEVELS = 24  # in such a design an axis with more is a sample and not a list of levels
RANGES = 8
MOST_COLUMNS = 600  # of a least-squares design; more, and only main effects are fitted
LEAST_CELLS = 16  # combinations without seeds, for sizes: of fewer, those that stand out do so by chance, too
LEAST_FREEDOM = 4  # images more than levels, where cells are missing: fewer show no error to compare with
LEAST_PART = 0.5  # of the variance; smaller parts that stand out among noise are overstated (by simulation)
SLICE = 8192  # rows of the design matrix that are in memory at once
RIDGE = 1e-12  # of the trace
NOTHING_STANDS_OUT = "no axis stands out from how single images differ"
NO_INTERVAL = "shares have no intervals"
ONLY_ORDER = f"below {LEAST_SEEDS} seeds or {LEAST_CELLS} combinations sizes and further places are not sure"
SPARSE_SHARES = "too few of all combinations were rendered for sizes and further places"
HOLES = "cells are missing or unequal, so shares need not add to 100 %"


def compute_effects(design: StudyDesign, metric: str) -> Effects:
    """Compute the variance shares of every varying axis, every pair of them, and the seed.

    On a balanced grid exactly: the components of the functional ANOVA (Hoeffding 1948; Sobol 1993), each less what the
    seeds give by chance (expected mean squares of a mixed model; Searle, Casella and McCulloch 1992, Variance
    Components, 4). With cells missing by ω² of type II sums of squares (Hays 1963; Yates 1934). How seeds differ from
    point to point is the error term, so it is part of the rest.
    """
    response = design.response(metric)
    rows = np.isfinite(response)
    factors, notes = _collect_factors(design, rows)
    y = response[rows]
    if len(y) < 3 or not factors:
        return make_no_effects(metric, len(y), "fewer than three images" if factors else "no axis varies")
    if float(y.var()) <= 1e-24 * max(1.0, float(np.abs(y).max()) ** 2):
        return make_no_effects(metric, len(y), "the metric is the same everywhere")
    names = list(factors)
    if names == [design.seed]:
        return make_no_effects(metric, len(y), "no axis but the seed varies")
    has_seeds = names[-1] == design.seed
    exact, terms, values, total = split_variance(y - y.mean(), list(factors.values()), has_seeds=has_seeds)
    seeds = int(factors[names[-1]].max()) + 1 if has_seeds else 0
    is_sparse = not exact and design.measure_coverage({}) < SPARSE
    is_small = len(np.unique(design.cells[rows])) < LEAST_CELLS
    known = total > 0 and seeds >= LEAST_SEEDS and not is_sparse and not is_small
    has_error = exact or len(y) > sum(int(codes.max()) for codes in factors.values()) + LEAST_FREEDOM
    parts = values / total if total > 0 and has_error else np.zeros_like(values)
    is_fixed = [not has_seeds or len(names) - 1 not in term for term in terms]
    if max((part for part, fixed in zip(parts, is_fixed, strict=True) if fixed), default=0.0) < LEAST_PART:
        return make_no_effects(metric, len(y), NOTHING_STANDS_OUT)
    if not design.seeds_shared:  # the rank of a seed within its cell is no factor: its part is chance
        terms, parts = [term for term, fixed in zip(terms, is_fixed, strict=True) if fixed], parts[is_fixed]
    reason = NO_INTERVAL if known else (SPARSE_SHARES if is_sparse else ONLY_ORDER)
    shares = []
    for t in np.argsort(-parts, kind="stable"):
        if parts[t] > 0 or len(terms[t]) == 1:
            value = float(min(max(parts[t], 0.0), 1.0)) if known else None
            share = make_estimate(value, n=seeds, reason=reason)
            shares.append(Share(axes=[names[i] for i in terms[t]], share=share))
    notes += [] if exact else [SPARSE_SHARES if is_sparse else HOLES]
    return Effects(
        metric=metric,
        method="exact" if exact else "type II",
        shares=shares,
        rest=max(1.0 - float(parts.sum()), 0.0) if known else None,
        variance=float(y.var()),
        n=len(y),
        reason="; ".join(notes) or None,
    )


def _collect_factors(design: StudyDesign, rows: Mask) -> tuple[dict[str, Codes], list[str]]:
    """Collect the codes of every axis that varies, the seed last; and notes on axes with very many levels."""
    found: dict[str, Codes] = {}
    notes = []
    cells = math.prod(len(design.by_name[name].levels) for name in design.factors) * max(design.unit_count, 1)
    sparse = cells > MOSTLY_HOLES * int(rows.sum())
    for name in design.factors:
        axis, codes = design.by_name[name], design.by_name[name].codes[rows]
        if sparse and len(axis.levels) > FEW_LEVELS:
            if not axis.numeric:
                notes.append(f"{name} has too many levels to be split")
                continue
            codes = codes * RANGES // len(axis.levels)
            notes.append(f"{name} was taken in {RANGES} ranges")
        found[name] = codes
    if design.seed and design.unit_count > 1:
        found[design.seed] = design.units[rows]
    found = {name: np.asarray(np.unique(c, return_inverse=True)[1], dtype=np.intp) for name, c in found.items()}
    return {name: codes for name, codes in found.items() if codes.max(initial=0) > 0}, notes


def make_no_effects(metric: str, n: int, reason: str) -> Effects:
    """Make an empty result that says why."""
    return Effects(metric=metric, method="none", shares=[], rest=None, variance=None, n=n, reason=reason)


def split_variance(
    y: FloatArray, codes: Sequence[Codes], *, has_seeds: bool
) -> tuple[bool, list[Term], FloatArray, float]:
    """Split the variance: whether exactly, the terms, their components and the total.

    Args:
        y: Values with mean zero.
        codes: Levels by factor, counted from 0; the seed is last where `has_seeds`.
        has_seeds: Whether the last factor is a sample of seeds.
    """
    sizes = [int(c.max()) + 1 for c in codes]
    terms: list[Term] = [(i,) for i in range(len(sizes))]
    terms += combinations(range(len(sizes) - has_seeds), 2)
    if np.prod(sizes) <= MOSTLY_HOLES * len(y):
        cells = np.ravel_multi_index(tuple(codes), sizes)
        counts = np.bincount(cells, minlength=int(np.prod(sizes)))
        if counts.min() == counts.max():
            cube = (np.bincount(cells, y, minlength=counts.size) / counts[0]).reshape(sizes)
            return True, terms, *_split_exactly(cube, terms, has_seeds=has_seeds)
    if sum(math.prod(sizes[i] - 1 for i in term) for term in terms) > min(MOST_COLUMNS, len(y) - 2):
        terms = [term for term in terms if len(term) == 1]
    return False, terms, *_split_by_least_squares(y, codes, terms)


def _split_exactly(cube: FloatArray, terms: Sequence[Term], *, has_seeds: bool) -> tuple[FloatArray, float]:
    """Split a full cube of cell means: unbiased components of each term, and the unbiased total."""
    if not has_seeds:
        found = np.array([float((_component(cube, term, 0) ** 2).mean()) for term in terms])
        return found, float(cube.var())
    fixed, seeds = cube.ndim - 1, cube.shape[-1]
    found = np.zeros(len(terms))
    for i, term in enumerate(terms):
        if term == (fixed,):
            continue
        each = _component(cube, term, 1)  # of each seed by itself
        mean = each.mean(axis=-1)
        spread = ((each - mean[..., None]) ** 2).sum(axis=-1) / (seeds - 1)
        found[i] = max(float((mean**2).mean() - spread.mean() / seeds), 0.0)
    means = cube.reshape(-1, seeds)
    rest = means - means.mean(axis=1, keepdims=True) - means.mean(axis=0) + means.mean()
    error = float((rest**2).sum()) / max((seeds - 1) * (len(means) - 1), 1)
    found[terms.index((fixed,))] = max(float(means.mean(axis=0).var(ddof=1)) - error / len(means), 0.0)
    between = means.mean(axis=1)
    total = max(float(between.var()) - error * (1 - 1 / len(means)) / seeds, 0.0)
    return found, total + found[terms.index((fixed,))] + error


def _component(cube: FloatArray, term: Term, kept: int) -> FloatArray:
    """Compute the inclusion–exclusion component of a term; the last `kept` dimensions are not averaged over."""
    fixed = cube.ndim - kept
    grand = cube.mean(axis=tuple(range(fixed)))
    mains = [cube.mean(axis=tuple(k for k in range(fixed) if k != i)) - grand for i in term]
    if len(term) == 1:
        return np.asarray(mains[0], dtype=np.float64)
    joint = cube.mean(axis=tuple(k for k in range(fixed) if k not in term)) - grand
    return np.asarray(joint - mains[0][:, None] - mains[1][None, :], dtype=np.float64)


def _split_by_least_squares(y: FloatArray, codes: Sequence[Codes], terms: Sequence[Term]) -> tuple[FloatArray, float]:
    """Split by ω²: each term's type II sum of squares less its degrees of freedom times the residual mean square."""
    sizes = [int(c.max()) + 1 for c in codes]
    widths = np.cumsum([1, *(math.prod(sizes[i] - 1 for i in term) for term in terms)])
    gram, projected = _compute_moments(y, codes, terms, int(widths[-1]), sizes)
    columns = [list(range(a, b)) for a, b in pairwise(widths.tolist())]

    def explain(chosen: Sequence[int]) -> float:
        picked = [0, *(column for i in chosen for column in columns[i])]
        part = gram[np.ix_(picked, picked)]
        ridge = RIDGE * float(np.trace(part)) * np.eye(len(picked))  # levels without rows leave it singular
        return float(projected[picked] @ np.linalg.solve(part + ridge, projected[picked]))

    square = float(y @ y)
    freedom = max(len(y) - int(widths[-1]), 1)
    error = max(square - explain(range(len(terms))), 0.0) / freedom
    found = []
    for i, term in enumerate(terms):
        base = [k for k, other in enumerate(terms) if not set(term) <= set(other)]
        found.append(max(explain([*base, i]) - explain(base) - len(columns[i]) * error, 0.0))
    return np.array(found), square + error


def _compute_moments(
    y: FloatArray, codes: Sequence[Codes], terms: Sequence[Term], width: int, sizes: Sequence[int]
) -> tuple[FloatArray, FloatArray]:
    """Compute X'X and X'y in slices of rows, so that the design matrix never stands in memory whole."""
    gram, projected = np.zeros((width, width)), np.zeros(width)
    for start in range(0, len(y), SLICE):
        part = slice(start, start + SLICE)
        blocks = [_code_term([c[part] for c in codes], term, sizes) for term in terms]
        rows = np.hstack([np.ones((len(y[part]), 1)), *blocks])
        gram += rows.T @ rows
        projected += rows.T @ y[part]
    return gram, projected


def _code_term(codes: Sequence[Codes], term: Term, sizes: Sequence[int]) -> FloatArray:
    """Code a term's levels by effects: one column less than levels, products for interactions."""
    block = np.ones((len(codes[0]), 1))
    for i in term:
        coded = np.vstack([np.eye(sizes[i] - 1), -np.ones(sizes[i] - 1)])[codes[i]]
        block = (block[:, :, None] * coded[:, None, :]).reshape(len(block), -1)
    return block
