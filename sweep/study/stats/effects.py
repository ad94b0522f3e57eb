"""Variance shares (functional ANOVA) of axes and pairs of axes, of images and of cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Literal, TypeAlias

import numpy as np

from sweep.study.design import Codes, FloatArray, Mask, StudyDesign
from sweep.study.schema import Effects, Estimate, Share
from sweep.study.stats.intervals import CONFIDENCE, compute_t_quantile, convert_finite, explain_few_units

Term: TypeAlias = tuple[int, ...]
IntervalMethod: TypeAlias = Literal["exact", "type II", "none"]

MOSTLY_HOLES = 4  # so many cells of the crossed grid to an image: the design is no grid
FEW_LEVELS = 24  # in such a design an axis with more is a sample and not a list of levels
RANGES = 8
MOST_COLUMNS = 600  # of a least-squares design; more, and only main effects are fitted
MOST_WORK = 20_000_000_000  # columns³ of all refits for the intervals of type II shares
SLICE = 8192  # rows of the design matrix that are in memory at once
RIDGE = 1e-12  # of the trace
JACKKNIFE = "jackknife over seeds"


def compute_effects(design: StudyDesign, metric: str) -> Effects:
    """Compute the variance shares of every varying axis (the seed is one) and every pair of them.

    On a balanced grid exactly, by functional ANOVA: the mean square of each inclusion–exclusion component of the
    cell means (Hoeffding 1948; Sobol 1993), which add to the variance. With missing cells by type II sums of squares
    (Yates 1934, J. Am. Stat. Assoc. 29) over the total. Intervals are t intervals of jackknife pseudo-values over
    seeds (Tukey 1958): how far the shares would move with other seeds. They need three seeds.
    """
    response = design.response(metric)
    rows = np.isfinite(response)
    factors, notes = _collect_factors(design, rows)
    y = response[rows]
    if len(y) < 3 or not factors:
        return make_no_effects(metric, len(y), "fewer than three images" if factors else "no axis varies")
    if float(y.var()) <= 1e-24 * max(1.0, float(np.abs(y).max()) ** 2):
        return make_no_effects(metric, len(y), "the metric is the same everywhere")
    names, codes = list(factors), list(factors.values())
    y = y - y.mean()
    method, terms, values = split_variance(y, codes)
    seeds = int(codes[-1].max()) + 1 if names[-1] == design.seed else min(design.unit_count, 1)
    intervals = _estimate_shares(y, codes, terms, values, method, seeds=seeds)
    shares = [Share(axes=[names[i] for i in t], share=e) for t, e in zip(terms, intervals, strict=True)]
    shares.sort(key=lambda share: -(share["share"]["value"] or 0.0))
    if method != "exact":
        notes.append("cells are missing or unequal, so shares need not add to 1")
    return Effects(
        metric=metric,
        method=method,
        shares=shares,
        rest=max(1.0 - float(sum(values)), 0.0),
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


def _list_terms(factors: int, order: int) -> list[Term]:
    return [term for size in range(1, order + 1) for term in combinations(range(factors), size)]


def split_variance(y: FloatArray, codes: Sequence[Codes]) -> tuple[IntervalMethod, list[Term], FloatArray]:
    """Compute the shares: the method, the terms and the values. `y` has mean zero; `codes` by factor count from 0."""
    sizes = [int(c.max()) + 1 for c in codes]
    cells = np.ravel_multi_index(tuple(codes), sizes) if np.prod(sizes) <= MOSTLY_HOLES * len(y) else None
    if cells is not None:
        counts = np.bincount(cells, minlength=int(np.prod(sizes)))
        if counts.min() == counts.max():
            cube = (np.bincount(cells, y, minlength=counts.size) / counts[0]).reshape(sizes)
            terms = _list_terms(len(sizes), 2)
            return "exact", terms, compute_exact_shares(cube, terms, float(y.var()))
    terms = _list_terms(len(sizes), 2)
    if sum(_count_columns(sizes, term) for term in terms) > min(MOST_COLUMNS, len(y) // 2):
        terms = _list_terms(len(sizes), 1)
    return "type II", terms, compute_type_two_shares(y, codes, terms)


def compute_exact_shares(cube: FloatArray, terms: Sequence[Term], variance: float) -> FloatArray:
    """Compute the share of each term in a full cube of cell means: main effects and pairs."""
    grand = cube.mean()
    mains = {i: cube.mean(axis=tuple(k for k in range(cube.ndim) if k != i)) - grand for i in range(cube.ndim)}
    found = []
    for term in terms:
        if len(term) == 1:
            component = mains[term[0]]
        else:
            a, b = term
            joint = cube.mean(axis=tuple(k for k in range(cube.ndim) if k not in term)) - grand
            component = joint - mains[a][:, None] - mains[b][None, :]
        found.append(float((component**2).mean()) / variance)
    return np.array(found)


def _count_columns(sizes: Sequence[int], term: Term) -> int:
    return int(np.prod([sizes[i] - 1 for i in term]))


def compute_type_two_shares(y: FloatArray, codes: Sequence[Codes], terms: Sequence[Term]) -> FloatArray:
    """Each term's drop in residual sum of squares when it joins all terms that do not contain it, over the total."""
    return _compute_shares(_compute_moments(y, codes, terms), terms)


@dataclass(frozen=True, slots=True)
class _Moments:
    """What least squares needs of a table: X'X, X'y, y'y, n and Σy, X having the columns of each term in turn. They
    add over rows, so leaving rows out is a subtraction.
    """

    gram: FloatArray
    projected: FloatArray
    square: float
    total: float
    n: int
    columns: tuple[tuple[int, ...], ...]  # of each term; column 0 is the intercept

    def without(self, other: _Moments) -> _Moments:
        return replace(
            self,
            gram=self.gram - other.gram,
            projected=self.projected - other.projected,
            square=self.square - other.square,
            total=self.total - other.total,
            n=self.n - other.n,
        )

    def explained(self, terms: Sequence[int]) -> float:
        """Of the sum of squares, by the intercept and these terms."""
        chosen = [0, *(column for term in terms for column in self.columns[term])]
        gram = self.gram[np.ix_(chosen, chosen)]
        ridge = RIDGE * float(np.trace(gram)) * np.eye(len(chosen))  # levels without rows leave it singular
        return float(self.projected[chosen] @ np.linalg.solve(gram + ridge, self.projected[chosen]))


def _compute_shares(moments: _Moments, terms: Sequence[Term]) -> FloatArray:
    variance = moments.square - moments.total**2 / max(moments.n, 1)
    found = []
    for i, term in enumerate(terms):
        base = [k for k, other in enumerate(terms) if not set(term) <= set(other)]
        found.append(max(moments.explained([*base, i]) - moments.explained(base), 0.0))
    return np.array(found) / variance if variance > 0 else np.zeros(len(terms))


def _compute_moments(
    y: FloatArray, codes: Sequence[Codes], terms: Sequence[Term], sizes: Sequence[int] | None = None
) -> _Moments:
    """In slices of rows, so that the design matrix never stands in memory whole."""
    sizes = sizes or [int(c.max()) + 1 for c in codes]
    widths = np.cumsum([1, *(_count_columns(sizes, term) for term in terms)])
    gram, projected = np.zeros((widths[-1], widths[-1])), np.zeros(widths[-1])
    for start in range(0, len(y), SLICE):
        part = slice(start, start + SLICE)
        blocks = [_code_term([c[part] for c in codes], term, sizes) for term in terms]
        rows = np.hstack([np.ones((len(y[part]), 1)), *blocks])
        gram += rows.T @ rows
        projected += rows.T @ y[part]
    columns = tuple(tuple(range(a, b)) for a, b in pairwise(widths.tolist()))
    return _Moments(gram, projected, float(y @ y), float(y.sum()), len(y), columns)


def _code_term(codes: Sequence[Codes], term: Term, sizes: Sequence[int]) -> FloatArray:
    """Effect coding of a term's levels: one column less a level, products for interactions."""
    block = np.ones((len(codes[0]), 1))
    for i in term:
        coded = np.vstack([np.eye(sizes[i] - 1), -np.ones(sizes[i] - 1)])[codes[i]]
        block = (block[:, :, None] * coded[:, None, :]).reshape(len(block), -1)
    return block


def _estimate_shares(
    y: FloatArray,
    codes: Sequence[Codes],
    terms: Sequence[Term],
    values: FloatArray,
    method: IntervalMethod,
    *,
    seeds: int,
) -> list[Estimate]:
    """`seeds`: levels of the last factor where that is the seed; 1 or 0 where it is not among them."""
    if seeds < 3:
        reason = explain_few_units(seeds) if seeds < 2 else "a share needs three seeds, and there are two"
        return [make_share_estimate(v, None, seeds, reason) for v in values]
    sizes = [int(c.max()) + 1 for c in codes]
    columns = sum(_count_columns(sizes, term) for term in terms)
    if method == "type II" and seeds * len(terms) * columns**3 > MOST_WORK:
        return [
            make_share_estimate(v, None, seeds, "the table is too large for intervals with cells missing")
            for v in values
        ]
    leave_out = _leave_out_exactly if method == "exact" else _leave_out_fitted
    half = compute_half_widths(values, leave_out(y, codes, terms, seeds))
    return [make_share_estimate(v, h, seeds, None) for v, h in zip(values, half, strict=True)]


def _leave_out_exactly(y: FloatArray, codes: Sequence[Codes], terms: Sequence[Term], seeds: int) -> FloatArray:
    """Compute the shares of the grid without each seed in turn, the seed being its last axis."""
    sizes = [int(c.max()) + 1 for c in codes]
    repeats = len(y) // int(np.prod(sizes))
    cells = np.ravel_multi_index(tuple(codes), sizes)
    cube = (np.bincount(cells, y, minlength=int(np.prod(sizes))) / repeats).reshape(sizes)
    n, sums, squares = np.bincount(codes[-1]), np.bincount(codes[-1], y), np.bincount(codes[-1], y * y)
    found = []
    for seed in range(seeds):
        left = len(y) - n[seed]
        variance = (squares.sum() - squares[seed]) / left - ((sums.sum() - sums[seed]) / left) ** 2
        without = np.delete(cube, seed, axis=-1)
        found.append(compute_exact_shares(without, terms, float(variance)) if variance > 0 else np.zeros(len(terms)))
    return np.array(found)


def _leave_out_fitted(y: FloatArray, codes: Sequence[Codes], terms: Sequence[Term], seeds: int) -> FloatArray:
    sizes = [int(c.max()) + 1 for c in codes]
    whole = _compute_moments(y, codes, terms, sizes)
    found = []
    for seed in range(seeds):
        rows = codes[-1] == seed
        found.append(
            _compute_shares(whole.without(_compute_moments(y[rows], [c[rows] for c in codes], terms, sizes)), terms)
        )
    return np.array(found)


def compute_half_widths(values: FloatArray, without: FloatArray) -> FloatArray:
    """Of the t intervals of jackknife pseudo-values; `without` is units × values, each without one unit."""
    n = len(without)
    pseudo = n * values - (n - 1) * without
    return np.asarray(pseudo.std(axis=0, ddof=1) / n**0.5 * compute_t_quantile(n - 1), dtype=np.float64)


def make_share_estimate(value: float, half: float | None, n: int, reason: str | None) -> Estimate:
    """Make a share with its interval, both within 0 and 1."""
    value = float(min(max(value, 0.0), 1.0))
    low = None if half is None else float(max(value - half, 0.0))
    high = None if half is None else float(min(value + half, 1.0))
    method = "none" if half is None else JACKKNIFE
    return Estimate(value=value, low=low, high=high, confidence=CONFIDENCE, n=n, method=method, reason=reason)


LEAST_BLOCKS = 3  # images a cell must have, so that two are left without one; and cells, to tell axes apart


@dataclass(frozen=True, slots=True)
class Cells:
    """The mean pairwise distance of every cell with two images or more, and what it is made of.

    `values` by cell; `codes` of each factor by cell; `distances` is units × cells: each image's mean distance to the
    others, NaN where a unit has no image there or more than one.
    """

    values: FloatArray
    codes: tuple[Codes, ...]
    names: tuple[str, ...]
    counts: Codes
    distances: FloatArray

    def without(self, unit: np.intp) -> FloatArray:
        """Compute the values with one unit's images left out.

        With d its mean distance to the n − 1 others and D the mean over all pairs: (n D − 2 d) / (n − 2).
        """
        left_out = self.distances[unit]
        rest = (self.counts * self.values - 2 * left_out) / np.maximum(self.counts - 2, 1)
        return np.where(np.isfinite(left_out), rest, self.values)


def collect_cells(design: StudyDesign, metric: str) -> Cells:
    """Collect the cells from the values of the images."""
    response = design.response(metric)
    rows = np.flatnonzero(np.isfinite(response))
    found, cells = np.unique(design.cells[rows], return_inverse=True)
    counts = np.bincount(cells, minlength=len(found))
    values = np.bincount(cells, response[rows], minlength=len(found)) / np.maximum(counts, 1)
    distances = np.full((max(design.unit_count, 1), len(found)), np.nan)
    units = np.maximum(design.units[rows], 0)
    once = np.bincount(units * max(len(found), 1) + cells, minlength=distances.size).reshape(distances.shape) == 1
    distances[units, cells] = response[rows]
    first = rows[np.unique(cells, return_index=True)[1]] if len(rows) else rows
    names = tuple(name for name in design.factors if len(np.unique(design.by_name[name].codes[first])) > 1)
    levels = (design.by_name[name].codes[first] for name in names)
    codes = tuple(np.asarray(np.unique(level, return_inverse=True)[1], dtype=np.intp) for level in levels)
    return Cells(values, codes, names, counts.astype(np.intp), np.where(once, distances, np.nan))


def compute_cell_effects(design: StudyDesign, metric: str) -> Effects:
    """Compute the variance shares of every varying axis and every pair of them, of a metric of cells.

    As `effects.effects_of`, without the seed, which a mean over pairs of seeds does not have. Intervals are t intervals
    of jackknife pseudo-values over seeds (Arvesen 1969, Ann. Math. Stat. 40); they need three images a cell.
    """
    cells = collect_cells(design, metric)
    n = int(cells.counts.sum())
    if not cells.names:
        return make_no_effects(metric, n, "no axis but the seed varies")
    if len(cells.values) < LEAST_BLOCKS:
        return make_no_effects(metric, n, "fewer than three points have images of two seeds")
    if float(cells.values.var()) <= 1e-24 * max(1.0, float(np.abs(cells.values).max()) ** 2):
        return make_no_effects(metric, n, "the metric is the same everywhere")
    y = cells.values - cells.values.mean()
    method, terms, values = split_variance(y, cells.codes)
    estimates = _estimate_cell_shares(cells, terms, method, values)
    shares = [Share(axes=[cells.names[i] for i in t], share=e) for t, e in zip(terms, estimates, strict=True)]
    shares.sort(key=lambda share: -(share["share"]["value"] or 0.0))
    return Effects(
        metric=metric,
        method=method,
        shares=shares,
        rest=max(1.0 - float(values.sum()), 0.0),
        variance=convert_finite(cells.values.var()),
        n=n,
        reason=None if method == "exact" else "cells are missing or unequal, so shares need not add to 1",
    )


def _estimate_cell_shares(
    cells: Cells, terms: list[Term], method: IntervalMethod, values: FloatArray
) -> list[Estimate]:
    known = np.isfinite(cells.distances)
    units = np.flatnonzero(known.any(axis=1))
    reason = None
    if len(units) < LEAST_BLOCKS or cells.counts.min() < LEAST_BLOCKS:
        reason = explain_few_units(len(units), pairwise=True)
    elif known.sum() < cells.counts.sum():
        reason = "a seed has several images in a cell"
    if reason:
        return [make_share_estimate(v, None, len(units), reason) for v in values]
    without = []
    for unit in units:
        y = cells.without(unit)
        again, _, shares = split_variance(y - y.mean(), cells.codes)
        if again != method or len(shares) != len(terms):
            raise AssertionError("the design does not depend on the values")
        without.append(shares)
    half = compute_half_widths(values, np.array(without))
    return [make_share_estimate(v, h, len(units), None) for v, h in zip(values, half, strict=True)]
