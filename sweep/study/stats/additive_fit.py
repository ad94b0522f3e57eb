"""Additive effects of factors by least squares: what holes in a grid are filled with, and averages are freed from."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Codes: TypeAlias = npt.NDArray[np.intp]
FloatArray: TypeAlias = npt.NDArray[np.float64]

ROUNDS = 30  # of backfitting; an additive fit of a grid with a few holes is at rest long before
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
    seen, sums = np.bincount(first) > 0, np.bincount(first, response)
    counts = np.maximum(np.bincount(first), 1)
    if not others:
        return AdditiveFit(sums / counts, [])
    widths = [int(codes.max()) + 1 for codes in others]
    crossed = np.hstack([_cross(first, codes) for codes in others])
    totals = np.concatenate([np.bincount(codes, response) for codes in others])
    shares = crossed / counts[:, None]
    if len(others) == 1 and (crossed[seen] == crossed[first[0]]).all():  # all were seen under the same conditions
        shifts = totals / np.maximum(crossed.sum(axis=0), 1)
    else:
        normal = np.block([[_cross(a, b) for b in others] for a in others])
        shifts = np.linalg.lstsq(normal - crossed.T @ shares, totals - shares.T @ sums, rcond=1e-10)[0]
    effects = np.split(shifts, np.cumsum(widths)[:-1])
    for effect, codes in zip(effects, others, strict=True):
        known = np.bincount(codes) > 0
        effect[:] = np.where(known, effect - effect[known].mean(), 0.0)
    return AdditiveFit((sums - crossed @ np.concatenate(effects)) / counts, effects)


def _cross(a: Codes, b: Codes) -> FloatArray:
    """Count how often each code of one factor meets each of the other."""
    height, width = int(a.max()) + 1, int(b.max()) + 1
    return np.bincount(a * width + b, minlength=height * width).reshape(height, width).astype(np.float64)


def average_evenly(response: FloatArray, joint: Codes, others: Codes, size: int) -> FloatArray:
    """Average the response by `joint`; where not all was seen under the same other conditions, less their effects."""
    counts = np.bincount(joint, minlength=size)
    if not len(response):
        return np.full(size, np.nan)
    width = int(others.max(initial=0)) + 1
    shifts = np.zeros(width)
    if width <= MOST_SOLVED and size * width <= MOST_CROSSED:
        shifts = fit_additive(response, joint, others).effects[0]
    else:  # mostly holes, and a table of them might not fit into memory
        weights = np.bincount(others, minlength=width)
        for _ in range(ROUNDS):
            means = np.bincount(joint, response - shifts[others], minlength=size) / np.maximum(counts, 1)
            shifts = np.bincount(others, response - means[joint], minlength=width) / np.maximum(weights, 1)
            shifts -= shifts[weights > 0].mean()
    totals = np.bincount(joint, response - shifts[others], minlength=size)
    means = totals / np.maximum(counts, 1)
    means[np.abs(means) < NO_ESTIMATE * np.abs(response).max(initial=0.0)] = 0.0
    return np.where(counts > 0, means, np.nan)


def fill_holes(matrix: FloatArray) -> FloatArray:
    """Replace missing entries by what unit and level predict additively (least squares).

    Units without any entry are left out; levels without any stay NaN.
    """
    matrix = matrix[np.isfinite(matrix).any(axis=1)]
    present = np.isfinite(matrix)
    if present.all():
        return matrix
    units, levels = np.nonzero(present)
    fit = fit_additive(matrix[present], levels, units)
    filled, holes = matrix.copy(), ~present & present.any(axis=0)
    filled[holes] = fit.predict(*np.nonzero(holes)[::-1])
    return filled
