"""Additive effects of factors by least squares: what holes in a grid are filled with, and averages are freed from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Codes: TypeAlias = npt.NDArray[np.intp]
FloatArray: TypeAlias = npt.NDArray[np.float64]

ROUNDS = 30  # of backfitting
MOST_SOLVED = 300  # effects that are solved for exactly
MOST_CROSSED = 2_000_000  # counts of a crossed table
NO_ESTIMATE = 1e-13  # of the largest value: what rounding leaves of a zero


class AdditiveFit(NamedTuple):
    """Means by code of the first factor, effects by code of each other one (with mean zero), both 0 where unseen."""

    means: FloatArray
    effects: list[FloatArray]

    def predict(self, first: Codes, *others: Codes) -> FloatArray:
        """Predict the response at these codes."""
        shifts = sum((effect[codes] for effect, codes in zip(self.effects, others, strict=True)), np.zeros(len(first)))
        return np.asarray(self.means[first] + shifts, dtype=np.float64)


def fit_additive(response: FloatArray, first: Codes, *others: Codes) -> AdditiveFit:
    """Fit additive effects of factors by least squares; on a balanced table these are plain marginal means.

    The first factor may have very many levels: what it explains is taken out of the equations of the others.
    """
    widths = [int(codes.max()) + 1 for codes in others]
    counts, sums = np.bincount(first), np.bincount(first, response)
    seen, counts = counts > 0, np.maximum(counts, 1)
    if not others:
        return AdditiveFit(sums / counts, [])
    if sum(widths) > MOST_SOLVED or len(counts) * sum(widths) > MOST_CROSSED:
        return _backfit(response, first, others)
    crossed = np.hstack([_cross(first, codes) for codes in others])
    totals = np.concatenate([np.bincount(codes, response) for codes in others])
    shares = crossed / counts[:, None]
    if len(others) == 1 and (crossed[seen] == crossed[first[0]]).all():  # all were seen under the same conditions
        shifts = totals / np.maximum(crossed.sum(axis=0), 1)
    else:
        normal = np.block([[_cross(a, b) for b in others] for a in others])
        shifts = np.linalg.lstsq(normal - crossed.T @ shares, totals - shares.T @ sums, rcond=1e-10)[0]
    effects = [_centre(*pair) for pair in zip(np.split(shifts, np.cumsum(widths)[:-1]), others, strict=True)]
    return AdditiveFit((sums - crossed @ np.concatenate(effects)) / counts, effects)


def _backfit(response: FloatArray, first: Codes, others: Sequence[Codes]) -> AdditiveFit:
    """Fit one factor after the other, again and again: of mostly holes, a table might not fit into memory."""
    factors = (first, *others)
    effects = [np.zeros(int(codes.max()) + 1) for codes in factors]
    weights = [np.maximum(np.bincount(codes), 1) for codes in factors]
    rest = response
    for _ in range(ROUNDS):
        for k, codes in [*enumerate(factors), (0, first)]:
            rest = rest + effects[k][codes]
            effect = np.bincount(codes, rest) / weights[k]
            effects[k] = _centre(effect, codes) if k else effect
            rest = rest - effects[k][codes]
    return AdditiveFit(effects[0], effects[1:])


def _centre(effect: FloatArray, codes: Codes) -> FloatArray:
    seen = np.bincount(codes) > 0
    return np.where(seen, effect - effect[seen].mean(), 0.0)


def _cross(a: Codes, b: Codes) -> FloatArray:
    """Count how often each code of one factor meets each of the other."""
    height, width = int(a.max()) + 1, int(b.max()) + 1
    return np.bincount(a * width + b, minlength=height * width).reshape(height, width).astype(np.float64)


def average_evenly(response: FloatArray, joint: Codes, others: Codes, size: int) -> FloatArray:
    """Average the response by `joint`; where not all was seen under the same other conditions, less their effects."""
    found = np.full(size, np.nan)
    if len(response):
        means = fit_additive(response, joint, others).means
        means[np.abs(means) < NO_ESTIMATE * np.abs(response).max()] = 0.0
        seen = np.unique(joint)
        found[seen] = means[seen]
    return found


def fill_holes(matrix: FloatArray) -> FloatArray:
    """Replace missing entries by what unit and level predict additively (least squares).

    Units without any entry are left out; levels without any stay NaN.
    """
    matrix = matrix[np.isfinite(matrix).any(axis=1)]
    present = np.isfinite(matrix)
    if present.all():
        return matrix
    filled, holes = matrix.copy(), ~present & present.any(axis=0)
    # levels first: what no unit has seen side by side is taken for their difference, not for one of the units
    factors = (1, 0) if len(matrix) <= MOST_SOLVED else (0, 1)
    known, wanted = ([np.nonzero(mask)[factor] for factor in factors] for mask in (present, holes))
    filled[holes] = fit_additive(matrix[present], *known).predict(*wanted)
    return filled
