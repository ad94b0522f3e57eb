"""Response curves: how a metric answers a numeric axis, where it passes a threshold, and when not to believe it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression

from sweep.study.design import FloatArray, StudyDesign
from sweep.study.schema import Crossing, Curve, CurveWarning, Estimate, Group, MetricFacts
from sweep.study.stats.intervals import (
    CONFIDENCE,
    SKEWED,
    Band,
    are_skewed,
    compute_band,
    explain_few_units,
    fill_holes,
    list_finite,
    make_no_estimate,
    round_all,
    strip_interval,
)

FINE = 201  # points of the fitted curve
SPENT = 0.02  # of the range is left where a metric counts as saturated
STRETCH = 0.15  # of the axis it must be spent over to be worth a warning
VIOLATION = 0.05  # of the range by which means may miss the monotone fit where no interval tells better
TURNED = 0.2  # of the range of means; a fit that misses by more stands for nothing
SHOWN = 4  # every so many-th point of the fit is told
FLAT = "the metric does not change measurably along this axis"
UNEVEN = "the curve is not monotone"
TURNED_BY_BASELINE = "the baseline lies within this axis, where the metric turns"
ANYWHERE = "its interval is the whole range tested"
INVERTED = "inverted 95 % t band over seed curves"
CurveKind: TypeAlias = Literal["saturated", "violated", "flat", "one-seed", "missing", "skewed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A monotone curve on a fine grid: isotonic regression of the means, then a shape-keeping cubic through them
    (PCHIP, Fritsch and Carlson 1980, SIAM J. Numer. Anal. 17).
    """

    x: FloatArray
    y: FloatArray
    at_levels: FloatArray
    falling: bool

    @property
    def range(self) -> float:
        """Highest minus lowest value."""
        return float(abs(self.y[-1] - self.y[0]))


def fit_monotone(x: FloatArray, mean: FloatArray, weights: FloatArray) -> Fit | None:
    """Fit the better of a rising and a falling isotonic curve; None below two levels. `x` ascending, all finite."""
    if len(x) < 2:
        return None
    fits = {falling: isotonic_regression(mean, weights=weights, increasing=not falling).x for falling in (False, True)}
    misses = {falling: float((weights * (mean - fit) ** 2).sum()) for falling, fit in fits.items()}
    falling = misses[True] < misses[False]
    fine = np.linspace(x[0], x[-1], FINE)
    return Fit(x=fine, y=PchipInterpolator(x, fits[falling])(fine), at_levels=fits[falling], falling=falling)


def find_crossing(fit: Fit, threshold: float) -> float | None:
    """Find where the fit passes the threshold: the middle of a stretch that lies on it; None where it never does."""
    rest = fit.y - threshold
    on = np.flatnonzero(np.abs(rest) <= 1e-12 * max(fit.range, 1e-300))
    if len(on):
        return float((fit.x[on[0]] + fit.x[on[-1]]) / 2)
    change = np.flatnonzero(np.diff(np.sign(rest)))
    if not len(change):
        return None
    i = int(change[0])
    return float(fit.x[i] + (fit.x[i + 1] - fit.x[i]) * rest[i] / (rest[i] - rest[i + 1]))


def invert_band(x: FloatArray, curves: FloatArray, value: float, *, pairwise: bool = False) -> Estimate:
    """Compute the interval of a crossing of zero at `value`: the levels whose t band contains zero.

    That is test inversion, as in Fieller 1954, J. R. Stat. Soc. B 16.

    `curves` is units × levels. It needs two units, makes no assumption on the curve's shape beyond its
    interpolation, and cannot fail where single seeds never cross. An interval as wide as the axis says nothing: then
    there is no estimate.
    """
    n = len(curves)
    if n < (3 if pairwise else 2):
        reason = explain_few_units(n, pairwise=pairwise)
        return Estimate(value=value, low=None, high=None, confidence=CONFIDENCE, n=n, method="none", reason=reason)
    fine = np.linspace(x[0], x[-1], FINE)
    smooth = compute_band(PchipInterpolator(x, curves, axis=1)(fine), pairwise=pairwise)
    inside = np.flatnonzero((smooth.low <= 0) & (smooth.high >= 0))
    low = min(_find_edge(fine, smooth, int(inside[0]), -1), value) if len(inside) else value
    high = max(_find_edge(fine, smooth, int(inside[-1]), 1), value) if len(inside) else value
    if (low, high) == (fine[0], fine[-1]):
        return make_no_estimate(ANYWHERE, n=n)
    open_end = bool(len(inside)) and (inside[0] == 0 or inside[-1] == FINE - 1)
    return Estimate(
        value=value,
        low=float(low),
        high=float(high),
        confidence=CONFIDENCE,
        n=n,
        method=INVERTED,
        reason="the interval reaches the end of the range tested" if open_end else None,
    )


def _find_edge(fine: FloatArray, smooth: Band, i: int, step: int) -> float:
    """Find the border of the accepted levels, interpolated between grid point i and its neighbour outside."""
    j = i + step
    if not 0 <= j < len(fine):
        return float(fine[i])
    bound = smooth.low if smooth.low[j] > 0 else smooth.high
    share = bound[i] / (bound[i] - bound[j]) if bound[i] != bound[j] else 0.0
    return float(fine[i] + (fine[j] - fine[i]) * min(max(share, 0.0), 1.0))


def analyse_curve(
    x: FloatArray,
    matrix: FloatArray,
    *,
    thresholds: Sequence[float] = (),
    pairwise: bool = False,
    turns: str | None = None,
) -> tuple[Band, Fit | None, Estimate, list[Crossing], list[CurveWarning]]:
    """Analyse one units × levels matrix: band, fit, half-range level, crossings, warnings.

    `turns`: why the curve cannot be monotone, where that is known beforehand.
    """
    levels = compute_band(matrix, pairwise=pairwise)
    known = np.isfinite(levels.mean)
    if known.sum() < 2:
        reason = "fewer than two levels were measured"
        return levels, None, make_no_estimate(reason), [], [_make_warning("missing", reason)]
    inner = x[known]
    fit = fit_monotone(inner, levels.mean[known], levels.n[known].astype(np.float64))
    if fit is None:
        raise AssertionError("two levels give a fit")
    curves = fill_holes(matrix[:, known])
    flat = _is_flat(curves)
    useless = FLAT if flat else turns or _explain_unfit(levels, fit)
    half = make_no_estimate(useless, n=len(curves)) if useless else _find_half(inner, curves, fit, pairwise=pairwise)
    passes = [
        _find_passing(inner, curves, fit, threshold, pairwise=pairwise, useless=useless) for threshold in thresholds
    ]
    warnings = _collect_warnings(x, levels, fit, len(curves), flat=flat)
    return levels, fit, half, passes, warnings


def _is_flat(curves: FloatArray) -> bool:
    """Tell whether no level can be told from the first one: paired t intervals, Bonferroni-corrected, all contain zero.

    Fewer than three seeds cannot tell (with two the quantile is above 12): then only a constant is flat.
    """
    steps = curves[:, 1:] - curves[:, :1]
    if not np.any(steps):
        return True
    if len(curves) < 3:
        return False
    found = compute_band(steps, confidence=1 - (1 - CONFIDENCE) / steps.shape[1])
    return bool(((found.low <= 0) & (found.high >= 0)).all())


def _explain_unfit(levels: Band, fit: Fit) -> str | None:
    """Say why the curve has no crossings: it turns round by more than a monotone fit can describe."""
    means = levels.mean[np.isfinite(levels.mean)]
    miss = float(np.abs(means - fit.at_levels).max())
    return UNEVEN if miss > TURNED * float(np.ptp(means)) else None


def _find_half(x: FloatArray, curves: FloatArray, fit: Fit, *, pairwise: bool) -> Estimate:
    value = find_crossing(fit, float(fit.y[0] + fit.y[-1]) / 2)
    if value is None:
        return make_no_estimate("the fit does not pass half of its range", n=len(curves))
    middle = (curves[:, :1] + curves[:, -1:]) / 2
    return invert_band(x, curves - middle, value, pairwise=pairwise)


def _find_passing(
    x: FloatArray, curves: FloatArray, fit: Fit, threshold: float, *, pairwise: bool, useless: str | None
) -> Crossing:
    means, value = curves.mean(axis=0), find_crossing(fit, threshold)
    if (means > threshold).all() or (means < threshold).all():
        side = "above" if means[0] > threshold else "below"
        at = make_no_estimate(f"the metric stays {side} {threshold:g} over the range tested", n=len(curves))
    elif useless or value is None:
        at = make_no_estimate(useless or "single levels pass it and the fit does not", n=len(curves))
    else:
        at = invert_band(x, curves - threshold, value, pairwise=pairwise)
    return Crossing(threshold=threshold, at=at)


def _collect_warnings(x: FloatArray, levels: Band, fit: Fit, n: int, *, flat: bool) -> list[CurveWarning]:
    found: list[CurveWarning] = []
    if n < 2:
        found.append(_make_warning("one-seed", explain_few_units(n)))
    if not np.isfinite(levels.mean).all():
        found.append(
            _make_warning("missing", f"{int(np.isnan(levels.mean).sum())} of {len(x)} levels were not measured")
        )
    if flat:
        return [*found, _make_warning("flat", FLAT)]
    return [*found, *_find_saturation(fit), *_find_violation(x, levels, fit)]


def _find_saturation(fit: Fit) -> list[CurveWarning]:
    span = fit.x[-1] - fit.x[0]
    spent_late = fit.x[np.abs(fit.y - fit.y[-1]) <= SPENT * fit.range][0]
    spent_early = fit.x[np.abs(fit.y - fit.y[0]) <= SPENT * fit.range][-1]
    found = []
    if spent_early - fit.x[0] >= STRETCH * span:
        found.append(_make_stretch(float(fit.x[0]), float(spent_early), f"Below {spent_early:.3g}"))
    if fit.x[-1] - spent_late >= STRETCH * span:
        found.append(_make_stretch(float(spent_late), float(fit.x[-1]), f"Above {spent_late:.3g}"))
    return found


def _make_stretch(low: float, high: float, where: str) -> CurveWarning:
    message = f"{where} this metric barely changes, so ignore differences there"
    return CurveWarning(kind="saturated", message=message, low=low, high=high)


def _find_violation(x: FloatArray, levels: Band, fit: Fit) -> list[CurveWarning]:
    known = np.isfinite(levels.mean)
    misses = np.abs(levels.mean[known] - fit.at_levels)
    half = (levels.high - levels.low)[known] / 2
    allowed = np.where(np.isfinite(half), np.maximum(half, SPENT * fit.range), VIOLATION * fit.range)
    wrong = x[known][misses > allowed]
    if not len(wrong):
        return []
    worst = float(misses.max())
    message = f"the curve is not monotone: means miss the monotone fit by up to {worst:.3g}"
    return [CurveWarning(kind="violated", message=message, low=float(wrong[0]), high=float(wrong[-1]))]


def _make_warning(kind: CurveKind, message: str) -> CurveWarning:
    return CurveWarning(kind=kind, message=message, low=None, high=None)


def compute_curve(
    design: StudyDesign, fact: MetricFacts, axis: str, group: Group, *, thresholds: Sequence[float] = ()
) -> Curve:
    """Compute the curve of a metric along numeric `axis` for the rows of `group`.

    The mean at a level is the mean over seeds of what each seed has there on average over the other axes, its
    interval a t interval over those seed means, as far as the metric can go. Of a metric that is a mean distance to the
    other images of the cell (diversity) intervals are wider.
    """
    metric, pairwise = fact["name"], fact["reference"] == "cell"
    x = np.asarray(design.by_name[axis].levels, dtype=np.float64)
    matrix = design.unit_matrix(metric, axis, group)
    if not design.unit_count:
        matrix = matrix[:1]
    turns = TURNED_BY_BASELINE if fact["reference"] == "image" and _is_baseline_within(design, axis) else None
    levels, fit, half, passes, warnings = analyse_curve(
        x, matrix, thresholds=thresholds, pairwise=pairwise, turns=turns
    )
    lowest, highest = fact["range"]
    if not design.unit_count:
        half, passes, warnings = _strip_pseudo_seed(half, passes, warnings)
    elif not group and not pairwise and are_skewed(matrix):
        warnings.append(_make_warning("skewed", f"of each interval: {SKEWED}"))
    seeds = int(levels.n.max(initial=0)) if design.unit_count else 0
    enough = seeds >= (3 if pairwise else 2)
    return Curve(
        metric=metric,
        axis=axis,
        group=group,
        x=x.tolist(),
        mean=list_finite(levels.mean),
        low=list_finite(np.clip(levels.low, lowest, None)),
        high=list_finite(np.clip(levels.high, None, highest)),
        n=[int(v) if design.unit_count else 0 for v in levels.n],
        interval=f"95 % t interval over {seeds} seed means"
        if enough
        else f"no interval: {explain_few_units(seeds, pairwise=pairwise)}",
        fit_x=round_all(fit.x[::SHOWN]) if fit else [],
        fit_y=round_all(fit.y[::SHOWN]) if fit else [],
        falling=fit.falling if fit else None,
        half=half,
        crossings=passes,
        warnings=warnings,
    )


def _is_baseline_within(design: StudyDesign, axis: str) -> bool:
    """Tell whether images are compared with a level that has others on both sides, which makes the curve turn."""
    if design.reference != "baseline" or axis not in design.baseline:
        return False
    levels = design.by_name[axis].levels
    return design.baseline[axis] in levels[1:-1]


def _strip_pseudo_seed(
    half: Estimate, passes: list[Crossing], warnings: list[CurveWarning]
) -> tuple[Estimate, list[Crossing], list[CurveWarning]]:
    """Remove the one pseudo-seed that a table without a seed axis has."""
    said = [_make_warning("one-seed", explain_few_units(0)) if w["kind"] == "one-seed" else w for w in warnings]
    return strip_interval(half), [Crossing(threshold=c["threshold"], at=strip_interval(c["at"])) for c in passes], said
