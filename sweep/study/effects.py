"""Which axis explains how much of a metric's variance, alone and together with another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Literal, TypeAlias

import numpy as np

from sweep.study.contract import Effects, Estimate, Share
from sweep.study.layout import Codes, Floats, Layout, Mask
from sweep.study.replication import CONFIDENCE, few_units, t_quantile

Term: TypeAlias = tuple[int, ...]
Method: TypeAlias = Literal["exact", "type II", "none"]

MOSTLY_HOLES = 4  # so many cells of the crossed grid to a picture: the design is no grid
FEW_LEVELS = 24  # in such a design an axis with more is a sample and not a list of levels
RANGES = 8
MOST_COLUMNS = 600  # of a least-squares design; more, and only main effects are fitted
MOST_WORK = 20_000_000_000  # columns³ of all refits for the intervals of type II shares
SLICE = 8192  # rows of the design matrix that are in memory at once
RIDGE = 1e-12  # of the trace
JACKKNIFE = "jackknife over seeds"


def effects_of(layout: Layout, metric: str) -> Effects:
    """The variance shares of every varying axis (the seed is one) and every pair of them.

    On a balanced grid exactly, by functional ANOVA: the mean square of each inclusion–exclusion component of the
    cell means (Hoeffding 1948; Sobol 1993), which add to the variance. With missing cells by type II sums of squares
    (Yates 1934, J. Am. Stat. Assoc. 29) over the total. Intervals are t intervals of jackknife pseudo-values over
    seeds (Tukey 1958): how far the shares would move with other seeds. They need three seeds.
    """
    response = layout.response(metric)
    rows = np.isfinite(response)
    factors, notes = _factors(layout, rows)
    y = response[rows]
    if len(y) < 3 or not factors:
        return no_effects(metric, len(y), "fewer than three pictures" if factors else "no axis varies")
    if float(y.var()) <= 1e-24 * max(1.0, float(np.abs(y).max()) ** 2):
        return no_effects(metric, len(y), "the metric is the same everywhere")
    names, codes = list(factors), list(factors.values())
    y = y - y.mean()
    method, terms, values = variance_shares(y, codes)
    seeds = int(codes[-1].max()) + 1 if names[-1] == layout.seed else min(layout.unit_count, 1)
    intervals = _intervals(y, codes, terms, values, method, seeds=seeds)
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


def _factors(layout: Layout, rows: Mask) -> tuple[dict[str, Codes], list[str]]:
    """The codes of every axis that varies, the seed last; and what was done to axes with very many levels."""
    found: dict[str, Codes] = {}
    notes = []
    cells = math.prod(len(layout.axis(name).levels) for name in layout.factors) * max(layout.unit_count, 1)
    sparse = cells > MOSTLY_HOLES * int(rows.sum())
    for name in layout.factors:
        axis, codes = layout.axis(name), layout.axis(name).codes[rows]
        if sparse and len(axis.levels) > FEW_LEVELS:
            if not axis.numeric:
                notes.append(f"{name} has too many levels to be split")
                continue
            codes = codes * RANGES // len(axis.levels)
            notes.append(f"{name} was taken in {RANGES} ranges")
        found[name] = codes
    if layout.seed and layout.unit_count > 1:
        found[layout.seed] = layout.units[rows]
    found = {name: np.asarray(np.unique(c, return_inverse=True)[1], dtype=np.intp) for name, c in found.items()}
    return {name: codes for name, codes in found.items() if codes.max(initial=0) > 0}, notes


def no_effects(metric: str, n: int, reason: str) -> Effects:
    """Nothing can be split, and why."""
    return Effects(metric=metric, method="none", shares=[], rest=None, variance=None, n=n, reason=reason)


def _terms(factors: int, order: int) -> list[Term]:
    return [term for size in range(1, order + 1) for term in combinations(range(factors), size)]


def variance_shares(y: Floats, codes: Sequence[Codes]) -> tuple[Method, list[Term], Floats]:
    """How the shares were found, of which terms, and the shares. `y` has mean zero; `codes` by factor count from 0."""
    sizes = [int(c.max()) + 1 for c in codes]
    cells = np.ravel_multi_index(tuple(codes), sizes) if np.prod(sizes) <= MOSTLY_HOLES * len(y) else None
    if cells is not None:
        counts = np.bincount(cells, minlength=int(np.prod(sizes)))
        if counts.min() == counts.max():
            cube = (np.bincount(cells, y, minlength=counts.size) / counts[0]).reshape(sizes)
            terms = _terms(len(sizes), 2)
            return "exact", terms, exact_shares(cube, terms, float(y.var()))
    terms = _terms(len(sizes), 2)
    if sum(_columns(sizes, term) for term in terms) > min(MOST_COLUMNS, len(y) // 2):
        terms = _terms(len(sizes), 1)
    return "type II", terms, type_two_shares(y, codes, terms)


def exact_shares(cube: Floats, terms: Sequence[Term], variance: float) -> Floats:
    """The share of each term in a full cube of cell means: main effects and pairs."""
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


def _columns(sizes: Sequence[int], term: Term) -> int:
    return int(np.prod([sizes[i] - 1 for i in term]))


def type_two_shares(y: Floats, codes: Sequence[Codes], terms: Sequence[Term]) -> Floats:
    """Each term's drop in residual sum of squares when it joins all terms that do not contain it, over the total."""
    return _shares_of(_moments(y, codes, terms), terms)


@dataclass(frozen=True, slots=True)
class _Moments:
    """What least squares needs of a table: X'X, X'y, y'y, n and Σy, X having the columns of each term in turn. They
    add over rows, so leaving rows out is a subtraction.
    """

    gram: Floats
    projected: Floats
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


def _shares_of(moments: _Moments, terms: Sequence[Term]) -> Floats:
    variance = moments.square - moments.total**2 / max(moments.n, 1)
    found = []
    for i, term in enumerate(terms):
        base = [k for k, other in enumerate(terms) if not set(term) <= set(other)]
        found.append(max(moments.explained([*base, i]) - moments.explained(base), 0.0))
    return np.array(found) / variance if variance > 0 else np.zeros(len(terms))


def _moments(y: Floats, codes: Sequence[Codes], terms: Sequence[Term], sizes: Sequence[int] | None = None) -> _Moments:
    """In slices of rows, so that the design matrix never stands in memory whole."""
    sizes = sizes or [int(c.max()) + 1 for c in codes]
    widths = np.cumsum([1, *(_columns(sizes, term) for term in terms)])
    gram, projected = np.zeros((widths[-1], widths[-1])), np.zeros(widths[-1])
    for start in range(0, len(y), SLICE):
        part = slice(start, start + SLICE)
        blocks = [_block([c[part] for c in codes], term, sizes) for term in terms]
        design = np.hstack([np.ones((len(y[part]), 1)), *blocks])
        gram += design.T @ design
        projected += design.T @ y[part]
    columns = tuple(tuple(range(a, b)) for a, b in pairwise(widths.tolist()))
    return _Moments(gram, projected, float(y @ y), float(y.sum()), len(y), columns)


def _block(codes: Sequence[Codes], term: Term, sizes: Sequence[int]) -> Floats:
    """Effect coding of a term's levels: one column less a level, products for interactions."""
    block = np.ones((len(codes[0]), 1))
    for i in term:
        coded = np.vstack([np.eye(sizes[i] - 1), -np.ones(sizes[i] - 1)])[codes[i]]
        block = (block[:, :, None] * coded[:, None, :]).reshape(len(block), -1)
    return block


def _intervals(
    y: Floats, codes: Sequence[Codes], terms: Sequence[Term], values: Floats, method: Method, *, seeds: int
) -> list[Estimate]:
    """`seeds`: levels of the last factor where that is the seed; 1 or 0 where it is not among them."""
    if seeds < 3:
        reason = few_units(seeds) if seeds < 2 else "a share needs three seeds, and there are two"
        return [share_estimate(v, None, seeds, reason) for v in values]
    sizes = [int(c.max()) + 1 for c in codes]
    columns = sum(_columns(sizes, term) for term in terms)
    if method == "type II" and seeds * len(terms) * columns**3 > MOST_WORK:
        return [
            share_estimate(v, None, seeds, "the table is too large for intervals with cells missing") for v in values
        ]
    leave_out = _without_each_exactly if method == "exact" else _without_each_fitted
    half = half_widths(values, leave_out(y, codes, terms, seeds))
    return [share_estimate(v, h, seeds, None) for v, h in zip(values, half, strict=True)]


def _without_each_exactly(y: Floats, codes: Sequence[Codes], terms: Sequence[Term], seeds: int) -> Floats:
    """The shares of the grid without each seed in turn, the seed being its last axis."""
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
        found.append(exact_shares(without, terms, float(variance)) if variance > 0 else np.zeros(len(terms)))
    return np.array(found)


def _without_each_fitted(y: Floats, codes: Sequence[Codes], terms: Sequence[Term], seeds: int) -> Floats:
    sizes = [int(c.max()) + 1 for c in codes]
    whole = _moments(y, codes, terms, sizes)
    found = []
    for seed in range(seeds):
        rows = codes[-1] == seed
        found.append(_shares_of(whole.without(_moments(y[rows], [c[rows] for c in codes], terms, sizes)), terms))
    return np.array(found)


def half_widths(values: Floats, without: Floats) -> Floats:
    """Of the t intervals of jackknife pseudo-values; `without` is units × values, each without one unit."""
    n = len(without)
    pseudo = n * values - (n - 1) * without
    return np.asarray(pseudo.std(axis=0, ddof=1) / n**0.5 * t_quantile(n - 1), dtype=np.float64)


def share_estimate(value: float, half: float | None, n: int, reason: str | None) -> Estimate:
    """A share with its interval, both within 0 and 1."""
    value = float(min(max(value, 0.0), 1.0))
    low = None if half is None else float(max(value - half, 0.0))
    high = None if half is None else float(min(value + half, 1.0))
    method = "none" if half is None else JACKKNIFE
    return Estimate(value=value, low=low, high=high, confidence=CONFIDENCE, n=n, method=method, reason=reason)
