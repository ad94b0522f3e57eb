"""Effects on a metric that belongs to a cell and not to a picture: how different its pictures are across seeds.

Each picture holds its mean distance to the others of its cell. Those values share every distance with another picture,
so a seed explains nothing of them by itself, and leaving a seed out changes the values of all others: the cell is the
unit, and its mean pairwise distance is the value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sweep.study.contract import Effects, Estimate, Share
from sweep.study.effects import Method, Term, half_widths, no_effects, share_estimate, variance_shares
from sweep.study.layout import Codes, Floats, Layout
from sweep.study.replication import few_units, finite

LEAST = 3  # pictures a cell must have, so that two are left without one; and cells, to tell axes apart


@dataclass(frozen=True, slots=True)
class Cells:
    """The mean pairwise distance of every cell with two pictures or more, and what it is made of.

    `values` by cell; `codes` of each factor by cell; `distances` is units × cells: each picture's mean distance to the
    others, NaN where a unit has no picture there or more than one.
    """

    values: Floats
    codes: tuple[Codes, ...]
    names: tuple[str, ...]
    counts: Codes
    distances: Floats

    def without(self, unit: np.intp) -> Floats:
        """The values with one unit's pictures left out: with d its mean distance to the n − 1 others and D the mean
        over all pairs, (n D − 2 d) / (n − 2).
        """
        left_out = self.distances[unit]
        rest = (self.counts * self.values - 2 * left_out) / np.maximum(self.counts - 2, 1)
        return np.where(np.isfinite(left_out), rest, self.values)


def cells_of(layout: Layout, metric: str) -> Cells:
    """From the values of the pictures."""
    response = layout.response(metric)
    rows = np.flatnonzero(np.isfinite(response))
    found, cells = np.unique(layout.cells[rows], return_inverse=True)
    counts = np.bincount(cells, minlength=len(found))
    values = np.bincount(cells, response[rows], minlength=len(found)) / np.maximum(counts, 1)
    distances = np.full((max(layout.unit_count, 1), len(found)), np.nan)
    units = np.maximum(layout.units[rows], 0)
    once = np.bincount(units * max(len(found), 1) + cells, minlength=distances.size).reshape(distances.shape) == 1
    distances[units, cells] = response[rows]
    first = rows[np.unique(cells, return_index=True)[1]] if len(rows) else rows
    names = tuple(name for name in layout.factors if len(np.unique(layout.axis(name).codes[first])) > 1)
    codes = tuple(
        np.asarray(np.unique(layout.axis(name).codes[first], return_inverse=True)[1], dtype=np.intp) for name in names
    )
    return Cells(values, codes, names, counts.astype(np.intp), np.where(once, distances, np.nan))


def cell_effects_of(layout: Layout, metric: str) -> Effects:
    """The variance shares of every varying axis and every pair of them, of a metric of cells.

    As `effects.effects_of`, without the seed, which a mean over pairs of seeds does not have. Intervals are t intervals
    of jackknife pseudo-values over seeds (Arvesen 1969, Ann. Math. Stat. 40); they need three pictures a cell.
    """
    cells = cells_of(layout, metric)
    n = int(cells.counts.sum())
    if not cells.names:
        return no_effects(metric, n, "no axis but the seed varies")
    if len(cells.values) < LEAST:
        return no_effects(metric, n, "fewer than three points have pictures of two seeds")
    if float(cells.values.var()) <= 1e-24 * max(1.0, float(np.abs(cells.values).max()) ** 2):
        return no_effects(metric, n, "the metric is the same everywhere")
    y = cells.values - cells.values.mean()
    method, terms, values = variance_shares(y, cells.codes)
    estimates = _estimates(cells, terms, method, values)
    shares = [Share(axes=[cells.names[i] for i in t], share=e) for t, e in zip(terms, estimates, strict=True)]
    shares.sort(key=lambda share: -(share["share"]["value"] or 0.0))
    return Effects(
        metric=metric,
        method=method,
        shares=shares,
        rest=max(1.0 - float(values.sum()), 0.0),
        variance=finite(cells.values.var()),
        n=n,
        reason=None if method == "exact" else "cells are missing or unequal, so shares need not add to 1",
    )


def _estimates(cells: Cells, terms: list[Term], method: Method, values: Floats) -> list[Estimate]:
    known = np.isfinite(cells.distances)
    units = np.flatnonzero(known.any(axis=1))
    reason = None
    if len(units) < LEAST or cells.counts.min() < LEAST:
        reason = few_units(len(units), pairwise=True)
    elif known.sum() < cells.counts.sum():
        reason = "a seed has several pictures in a cell"
    if reason:
        return [share_estimate(v, None, len(units), reason) for v in values]
    without = []
    for unit in units:
        y = cells.without(unit)
        again, _, shares = variance_shares(y - y.mean(), cells.codes)
        if again != method or len(shares) != len(terms):
            raise AssertionError("the design does not depend on the values")
        without.append(shares)
    half = half_widths(values, np.array(without))
    return [share_estimate(v, h, len(units), None) for v, h in zip(values, half, strict=True)]
