"""Noise of a metric when nothing is changed: repeats of one point, and the strength axis at zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import chdtri

from sweep.study.design import StudyDesign
from sweep.study.schema import Curve, Determinism, Estimate, NoiseFacts
from sweep.study.stats.intervals import CONFIDENCE, make_no_estimate

STRENGTHS = ("denoise_strength", "denoising_strength", "strength")  # axes whose zero changes nothing
NEAR_ZERO = 0.05  # the highest strength at which what is seen counts as the floor
SAME_POINT = "replicate_error"  # the metric against the first repeat of the same point


def estimate_noise(design: StudyDesign, metric: str, curves: Sequence[Curve]) -> NoiseFacts:
    """Estimate the metric's spread between repeats of one point, and its value at a strength of (nearly) zero.

    The latter is what encoding and decoding alone cost. Differences smaller than these mean nothing.
    """
    floor, at = _find_floor(metric, curves)
    return NoiseFacts(metric=metric, replicate=_estimate_replicate(design, metric), floor=floor, floor_at=at)


def _estimate_replicate(design: StudyDesign, metric: str) -> Estimate:
    if design.replicates < 2:
        return make_no_estimate("no point was rendered twice (study: {replicates: 2})")
    response = design.response(metric)
    rows = np.isfinite(response)
    if not rows.any():
        return make_no_estimate("nothing was measured")
    points = np.unique(design.points[rows], return_inverse=True)[1]
    counts = np.bincount(points)
    means = np.bincount(points, response[rows]) / counts
    squares = float(((response[rows] - means[points]) ** 2).sum())
    freedom = int((counts - 1).sum())
    if freedom < 1:
        return make_no_estimate("no point has two images")
    value = (squares / freedom) ** 0.5
    tail = (1 - CONFIDENCE) / 2
    return Estimate(
        value=value,
        low=value * (freedom / float(chdtri(freedom, tail))) ** 0.5,
        high=value * (freedom / float(chdtri(freedom, 1 - tail))) ** 0.5,
        confidence=CONFIDENCE,
        n=int((counts > 1).sum()),
        method="chi-square over repeated points",
        reason=None,
    )


def _find_floor(metric: str, curves: Sequence[Curve]) -> tuple[Estimate, float | None]:
    curve = next((c for c in curves if c["metric"] == metric and c["axis"] in STRENGTHS and not c["group"]), None)
    if curve is None:
        return make_no_estimate("there is no strength axis"), None
    if curve["x"][0] > NEAR_ZERO or curve["mean"][0] is None:
        return make_no_estimate(f"the lowest strength is {curve['x'][0]:g}: add one of at most {NEAR_ZERO:g}"), None
    return (
        Estimate(
            value=curve["mean"][0],
            low=curve["low"][0],
            high=curve["high"][0],
            confidence=CONFIDENCE,
            n=curve["n"][0],
            method="t over seed means" if curve["low"][0] is not None else "none",
            reason=None if curve["low"][0] is not None else curve["interval"].removeprefix("no interval: "),
        ),
        curve["x"][0],
    )


def check_determinism(design: StudyDesign) -> Determinism | None:
    """Check whether the server gives the same pixels for the same point; None where no point was repeated."""
    if SAME_POINT not in design.frame:
        return None
    error = design.response(SAME_POINT)
    rows = np.isfinite(error)
    if not rows.any():
        return None
    points = np.unique(design.points[rows], return_inverse=True)[1]
    worst = np.zeros(int(points.max()) + 1)
    np.maximum.at(worst, points, error[rows])
    total, same = len(worst), int((worst == 0).sum())
    said = "the same pixels every time" if same == total else f"different pixels, by up to {worst.max():.3g} of 255"
    message = f"{total} points were rendered more than once: {same} gave the same pixels."
    if same == total:
        message = f"{total} points were rendered more than once and gave {said}: the server is deterministic."
    else:
        message = f"{message} The others gave {said}: the server is not deterministic."
    return Determinism(points=total, same_pixels=same, message=message)
