"""Response curves of a metric along a numeric axis: means with intervals, a monotone fit, crossings and warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression

from sweep.study.stats.additive_fit import FloatArray, fill_holes
from sweep.study.stats.t_tests import (
    CONFIDENCE,
    ROUNDED,
    UNLINKED,
    Band,
    compute_band,
    compute_p_value,
    compute_t_quantile,
    explain_few_units,
    list_finite,
    make_estimate,
    round_digits,
)
from sweep.study.study_design import Mask, StudyDesign
from sweep.study.study_json import Crossing, Curve, CurveWarning, Estimate, Group, MetricFacts

FINE = 201  # points of the fitted curve
SPENT = 0.02  # of the range is left where a metric counts as saturated
STRETCH = 0.15  # of the axis it must be spent over to be worth a warning
VIOLATION = 0.05  # of the range by which means may miss the monotone fit where no interval tells better
TURNED = 0.2  # of the range of means; a fit that misses by more stands for nothing
LEAST_JACKKNIFE = 6  # seeds; intervals of four hold too seldom (by simulation)
SHOWN = 4  # every so many-th point of the fit is told
EQUIVALENT = 0.02  # of a bounded metric's range: means that stay within it are called equal
FLAT = "the metric does not change along this axis"
UNCLEAR = "no change along this axis was found"
COARSE = 4  # steps of a rounded metric, divided by the number of seeds, that seeds must differ by
UNEVEN = "the curve is not monotone"
TURNED_BY_BASELINE = "the baseline lies within this axis, where the metric turns"
ANYWHERE = "its interval is the whole range tested"
INVERTED = "inverted 95 % t band over seed curves"
JACKKNIFE = "jackknife over seeds"
BRACKET = "the tested levels around it"
NOT_RENDERED = "how the mean runs between tested levels was not seen"
FEW_THERE = "too few seeds were rendered at some levels"
LEAST_OF_GROUP = 0.2  # of a group's points × seeds must have an image for intervals: 88 of 100 held at a tenth
SPARSE = 0.55  # of all points × seeds must have an image for missing ones to be filled in; below it seeds are left out
CurveKind: TypeAlias = Literal["saturated", "violated", "flat", "unclear", "one-seed", "missing"]


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


def fit_monotone(x: FloatArray, mean: FloatArray, weights: FloatArray) -> Fit:
    """Fit the better of a rising and a falling isotonic curve to two or more levels; `x` ascends, all are finite."""
    fits = {falling: isotonic_regression(mean, weights=weights, increasing=not falling).x for falling in (False, True)}
    misses = {falling: float((weights * (mean - fit) ** 2).sum()) for falling, fit in fits.items()}
    falling = misses[True] < misses[False]
    fine = np.linspace(x[0], x[-1], FINE)
    return Fit(x=fine, y=PchipInterpolator(x, fits[falling])(fine), at_levels=fits[falling], falling=falling)


def find_crossing(fit: Fit, threshold: float | None) -> float | None:
    """Find where the fit passes the threshold, by default half of its range: the middle of a stretch that lies on it;
    None where it never does.
    """
    rest = fit.y - (float(fit.y[0] + fit.y[-1]) / 2 if threshold is None else threshold)
    on = np.flatnonzero(np.abs(rest) <= 1e-12 * max(fit.range, 1e-300))
    if len(on):
        return float((fit.x[on[0]] + fit.x[on[-1]]) / 2)
    change = np.flatnonzero(np.diff(np.sign(rest)))
    if not len(change):
        return None
    i = int(change[0])
    return float(fit.x[i] + (fit.x[i + 1] - fit.x[i]) * rest[i] / (rest[i] - rest[i + 1]))


def invert_band(x: FloatArray, curves: FloatArray, value: float, *, n: int, pairwise: bool) -> Estimate:
    """Estimate a crossing of zero at `value` by the levels whose t band contains zero, and the next ones outside.

    That is test inversion, as in Fieller 1954, J. R. Stat. Soc. B 16. It needs two units, makes no assumption on the
    curve's shape, and cannot fail where single seeds never cross. `curves` is units × levels, of `n` units.
    """
    if reason := explain_few_units(n, pairwise=pairwise):
        return make_estimate(value, n=n, reason=reason)
    band = compute_band(curves, pairwise=pairwise)
    inside = np.flatnonzero((band.low < 0) & (band.high > 0))
    if not len(inside):  # between two levels, or seeds agree
        return bracket_crossing(x, value, value, value, n=n, method=INVERTED)
    first, last = inside[0], inside[-1]
    low, high = min(x[max(first - 1, 0)], value), max(x[min(last + 1, len(x) - 1)], value)
    reason = "the interval reaches the end of the range tested" if first == 0 or last == len(x) - 1 else None
    return bracket_crossing(x, value, low, high, n=n, method=INVERTED, reason=reason)


def bracket_crossing(
    x: FloatArray, value: float, low: float, high: float, *, n: int, method: str, reason: str | None = None
) -> Estimate:
    """Estimate a crossing by the tested levels around an interval: how the curve runs between levels was not seen.

    So it is no 95 % interval: it holds more often (always, in nearly all simulated studies). As wide as the axis it
    says nothing: then there is no estimate.
    """
    below = max(int(np.searchsorted(x, low, side="right")) - 1, 0)
    above = min(int(np.searchsorted(x, high, side="left")), len(x) - 1)
    if below == above:
        return make_estimate(value, low, high, n=n, method=method, reason=reason)
    if (below, above) == (0, len(x) - 1):
        return make_estimate(reason=ANYWHERE, n=n)
    return make_estimate(value, float(x[below]), float(x[above]), n=n, method=BRACKET, reason=reason or NOT_RENDERED)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveAnalysis:
    """The analysis of a units × levels matrix. `half` is the level at which half of the fit's range is passed."""

    levels: Band
    fit: Fit | None
    half: Estimate
    crossings: list[Crossing]
    warnings: list[CurveWarning]
    p: float | None  # of no change


@dataclass(frozen=True, slots=True, kw_only=True)
class _Locator:
    """The curves of all units without holes, and their fit: locates where the metric passes a threshold."""

    x: FloatArray
    curves: FloatArray
    n: int  # units; 0 without a seed axis
    left_out: FloatArray | None  # mean curves without each unit, of a design with many holes
    fit: Fit
    pairwise: bool
    useless: str | None  # why the fit stands for nothing

    def locate(self, threshold: float | None, unmet: str) -> Estimate:
        """Locate where the fit passes a threshold, by default half of its range."""
        value = find_crossing(self.fit, threshold)
        if self.useless or value is None:
            return make_estimate(reason=self.useless or unmet, n=self.n)
        if self.left_out is not None:
            return _jackknife_crossing(self.x, self.left_out, value, threshold)
        passed = (self.curves[:, :1] + self.curves[:, -1:]) / 2 if threshold is None else threshold
        return invert_band(self.x, self.curves - passed, value, n=self.n, pairwise=self.pairwise)

    def cross(self, threshold: float) -> Crossing:
        means = self.curves.mean(axis=0)
        if (means > threshold).all() or (means < threshold).all():
            side = "above" if means[0] > threshold else "below"
            reason = f"the mean stays {side} {threshold:g} over the range tested"
            return Crossing(threshold=threshold, at=make_estimate(reason=reason, n=self.n))
        return Crossing(threshold=threshold, at=self.locate(threshold, "single levels pass it and the fit does not"))


def analyse_curve(
    x: FloatArray,
    matrix: FloatArray,
    *,
    thresholds: Sequence[float] = (),
    pairwise: bool = False,
    useless: str | None = None,
    span: float | None = None,
    without: Sequence[FloatArray] | None = None,
    has_units: bool = True,
) -> CurveAnalysis:
    """Analyse one units × levels matrix.

    Args:
        x: The levels, ascending.
        matrix: One row a unit (seed), NaN where it has no image.
        thresholds: Values whose crossing is looked for.
        pairwise: Whether values are mean distances to the other images of a cell.
        useless: Why a fit stands for nothing, where that is known beforehand.
        span: Highest minus lowest value the metric can have; None without bounds.
        without: The matrix without each unit in turn, of a design with so many holes that intervals must be made by
            leaving seeds out; None where units have (nearly) all levels.
        has_units: Whether rows are units; without a seed axis there is one row, and no interval or test.
    """
    levels = compute_band(matrix, pairwise=pairwise)
    known = np.isfinite(levels.mean)
    if known.sum() < 2:
        reason = "fewer than two levels were measured"
        missing = [_make_warning("missing", reason)]
        half = make_estimate(reason=reason)
        return CurveAnalysis(levels=levels, fit=None, half=half, crossings=[], warnings=missing, p=None)
    inner, curves, left_out = x[known], fill_holes(matrix[:, known]), None
    tested = matrix[:, known]
    if without is not None and len(curves) > 1:
        left_out = np.array([fill_holes(each[:, known]).mean(axis=0) for each in without])
        tested = _jackknife_band(levels, known, curves.mean(axis=0), left_out)
    means = levels.mean[known]
    fit = fit_monotone(inner, means, levels.n[known].astype(np.float64))
    is_unknown = useless == UNLINKED or (left_out is not None and not np.isfinite(tested).all())
    change, p = (None, None) if is_unknown else _judge_change(inner, tested, span, pairwise=pairwise)
    is_uneven = float(np.abs(means - fit.at_levels).max()) > TURNED * float(np.ptp(means))  # no monotone curve fits
    useless, n = change or useless or (UNEVEN if is_uneven else None), len(curves) if has_units else 0
    locator = _Locator(x=inner, curves=curves, n=n, left_out=left_out, fit=fit, pairwise=pairwise, useless=useless)
    return CurveAnalysis(
        levels=levels,
        fit=fit,
        half=locator.locate(None, "the fit does not pass half of its range"),
        crossings=list(map(locator.cross, thresholds)),
        warnings=_collect_warnings(x, levels, fit, n, change=change),
        p=p,
    )


def _jackknife_band(levels: Band, known: Mask, mean: FloatArray, left_out: FloatArray) -> FloatArray:
    """Replace a band, in place, by the additive fit and its jackknife over two or more units. Return its
    units × levels: pseudo-values, as if each unit had a curve of its own (Tukey 1958).
    """
    n = len(left_out)
    pseudo = n * mean - (n - 1) * left_out
    half = pseudo.std(axis=0, ddof=1) / n**0.5 * compute_t_quantile(n - 1)
    levels.mean[known] = mean
    levels.low[known], levels.high[known] = mean - half, mean + half
    return np.asarray(pseudo, dtype=np.float64)


def _judge_change(
    x: FloatArray, curves: FloatArray, span: float | None, *, pairwise: bool
) -> tuple[str | None, float | None]:
    """Say that the metric does not change, or that no change was found, None where it changes; and the p of no change.

    It changes where slopes of seeds agree on it, or one level differs from the first one (t tests, Bonferroni), without
    what is missing. It does not where all levels' intervals lie within two per cent of the metric's range of each other
    (two one-sided tests; Schuirmann 1987, J. Pharmacokinet. Biopharm. 15). Below three seeds only p is told.
    """
    curves = curves[np.isfinite(curves).sum(axis=1) > 1]
    steps, here = curves[:, 1:] - curves[:, :1], np.isfinite(curves)
    if len(curves) and (np.nanmax(curves, axis=1) == np.nanmin(curves, axis=1)).all():
        return FLAT, None
    away = np.where(here, x - (here @ x / here.sum(axis=1))[:, None], 0.0)
    slopes = (away * np.nan_to_num(curves)).sum(axis=1) / (away**2).sum(axis=1)
    tested = [(slopes, 2), *((step[np.isfinite(step)], 2 * len(steps.T)) for step in steps.T)]
    known = [p * asked for values, asked in tested if (p := compute_p_value(values, pairwise=pairwise)) is not None]
    p = min([*known, 1.0]) if known else None
    if len(curves) < 3 or p is None or p < 1 - CONFIDENCE:
        return None, p
    band = compute_band(steps, confidence=1 - 2 * (1 - CONFIDENCE) / steps.shape[1], pairwise=pairwise)
    widest = float(np.abs(np.concatenate([band.low, band.high])).max())
    return (FLAT if span is not None and widest <= EQUIVALENT * span else UNCLEAR), p


def _jackknife_crossing(x: FloatArray, left_out: FloatArray, value: float, threshold: float | None) -> Estimate:
    """Compute the interval of a crossing from the curves without each unit; without a threshold of half the range."""
    n = len(left_out)
    if n < LEAST_JACKKNIFE or not np.isfinite(left_out).all():
        return make_estimate(value, n=n, reason=FEW_THERE)
    places = [find_crossing(fit_monotone(x, mean, np.ones(len(x))), threshold) for mean in left_out]
    known = np.array([place for place in places if place is not None])
    if len(known) < n:
        return make_estimate(value, n=n, reason="without one of the seeds the curve does not pass it")
    pseudo = n * value - (n - 1) * known
    half = float(pseudo.std(ddof=1) / n**0.5 * compute_t_quantile(n - 1))
    return bracket_crossing(x, value, value - half, value + half, n=n, method=JACKKNIFE)


def _collect_warnings(x: FloatArray, levels: Band, fit: Fit, n: int, *, change: str | None) -> list[CurveWarning]:
    found: list[CurveWarning] = []
    known = np.isfinite(levels.mean)
    if n < 2:
        found.append(_make_warning("one-seed", explain_few_units(n) or ""))
    if not known.all():
        found.append(_make_warning("missing", f"{int((~known).sum())} of {len(x)} levels were not measured"))
    if change:
        return [*found, _make_warning("flat" if change == FLAT else "unclear", change)]
    spent = _find_saturation(x[known], fit) if n > 1 else []
    misses = np.abs(levels.mean[known] - fit.at_levels)
    half = (levels.high - levels.low)[known] / 2
    allowed = np.where(np.isfinite(half), np.maximum(half, SPENT * fit.range), VIOLATION * fit.range)
    wrong = x[known][misses > allowed]
    if len(wrong):
        message = f"the curve is not monotone: means miss the monotone fit by up to {float(misses.max()):.3g}"
        spent.append(_make_warning("violated", message, float(wrong[0]), float(wrong[-1])))
    return [*found, *spent]


def _find_saturation(x: FloatArray, fit: Fit) -> list[CurveWarning]:
    """Find the tested levels at both ends between which the fit barely changes: between levels nothing was seen."""
    y, least = fit.at_levels, STRETCH * (x[-1] - x[0])
    late, early = (x[np.abs(y - end) <= SPENT * fit.range] for end in (y[-1], y[0]))
    stretches = ((x[0], early[-1], f"Up to {early[-1]:.3g}"), (late[0], x[-1], f"From {late[0]:.3g} on"))
    means_little = "this metric barely changes, so ignore differences there"
    return [
        _make_warning("saturated", f"{where} {means_little}", float(low), float(high))
        for low, high, where in stretches
        if high - low >= least
    ]


def _make_warning(kind: CurveKind, message: str, low: float | None = None, high: float | None = None) -> CurveWarning:
    return CurveWarning(kind=kind, message=message, low=low, high=high)


def compute_curve(
    design: StudyDesign, fact: MetricFacts, axis: str, group: Group, *, thresholds: Sequence[float] = ()
) -> Curve:
    """Compute the curve of a metric along numeric `axis` for the rows of `group`.

    The mean at a level is the mean over seeds of what each seed has there on average over the other axes, its
    interval a t interval over those seed means, as far as the metric can go. Of a metric that is a mean distance to the
    other images of the cell (diversity) intervals are wider.
    """
    metric, pairwise, has_units = fact["name"], fact["reference"] == "cell", design.unit_count > 0
    x = np.asarray(design.by_name[axis].levels, dtype=np.float64)
    matrix = design.average_units(metric, axis, group)
    lowest, highest = fact["range"]
    is_sparse = design.unit_count > 1 and design.measure_coverage(group) < SPARSE
    is_linked = design.is_linked(axis, group)
    without_each = None
    if is_sparse and not pairwise:
        without_each = [design.average_units(metric, axis, group, without=unit) for unit in range(design.unit_count)]
    # compared with a baseline that has levels of this axis on both sides, the curve turns there
    is_compared = fact["reference"] == "image" and design.reference == "baseline"
    is_turning = is_compared and design.baseline.get(axis) in design.by_name[axis].levels[1:-1]
    found = analyse_curve(
        x,
        matrix,
        thresholds=thresholds,
        pairwise=pairwise,
        useless=(TURNED_BY_BASELINE if is_turning else None) if is_linked else UNLINKED,
        span=None if lowest is None or highest is None else highest - lowest,
        without=without_each,
        has_units=has_units,
    )
    levels, fit, counts = found.levels, found.fit, found.levels.n * has_units
    seeds = int(counts.max(initial=0))
    reason = explain_few_units(seeds, pairwise=pairwise) or (None if is_linked else UNLINKED)
    reason = reason or _find_doubt(design, metric, group, matrix, is_sparse=is_sparse)
    low, high = levels.low, levels.high
    if reason in (FEW_THERE, ROUNDED, UNLINKED):
        low = high = np.full(len(x), np.nan)
    return Curve(
        metric=metric,
        axis=axis,
        group=group,
        x=x.tolist(),
        mean=list_finite(np.clip(levels.mean, lowest, highest)),  # adjusted for holes it can leave the range
        low=list_finite(np.clip(low, lowest, None)),
        high=list_finite(np.clip(high, None, highest)),
        n=counts.tolist(),
        interval=f"no interval: {reason}" if reason else f"95 % t interval over {seeds} seed means",
        fit_x=round_digits(fit.x[::SHOWN]).tolist() if fit else [],
        fit_y=round_digits(fit.y[::SHOWN]).tolist() if fit else [],
        falling=fit.falling if fit else None,
        half=found.half,
        crossings=found.crossings,
        p=found.p,
        p_adjusted=None,
        warnings=found.warnings,
    )


def _find_doubt(design: StudyDesign, metric: str, group: Group, matrix: FloatArray, *, is_sparse: bool) -> str | None:
    """Say why the t intervals of a curve would hold too seldom; None where they hold."""
    if group and is_sparse:
        seeds = np.isfinite(matrix).any(axis=1).sum()
        return FEW_THERE if seeds < LEAST_JACKKNIFE or design.measure_coverage(group) < LEAST_OF_GROUP else None
    return ROUNDED if _is_too_coarse(design, metric, group, matrix) else None


def _is_too_coarse(design: StudyDesign, metric: str, group: Group, matrix: FloatArray) -> bool:
    """Tell whether seeds differ by so few steps of a rounded metric that the t interval would hold too seldom (below
    0.93 by simulation of rounded normal values): by less than 4 / n steps, or with fewer than three seeds.
    """
    step, images = design.measure_step(metric), int(np.isfinite(design.response(metric)[design.mask_rows(group)]).sum())
    filled = np.isfinite(matrix)
    n = filled.sum(axis=0)
    if not step or not (n > 1).any():
        return False
    each = step * float(filled.sum()) / images
    spread = float(np.nanstd(matrix[:, n > 1], axis=0, ddof=1).mean())
    return bool(n.max() < 3 or spread < COARSE * each / n.max())
