"""Statistics of seeds and repeats: their ranking, outliers, equal levels, noise, determinism."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import fdtrc

from sweep.study.stats.additive_fit import Codes, FloatArray, fit_additive
from sweep.study.stats.t_tests import CONFIDENCE, estimate_mean, make_estimate
from sweep.study.study_design import Mask, StudyDesign, pair_codes
from sweep.study.study_json import Determinism, Direction, EqualLevels, Estimate, NoiseFacts, Outlier, SeedRow

FAR = 4.0  # robust standard deviations from what is expected
MOST_OUTLIERS = 20  # of one metric, the farthest first
REFITS = 5  # fits without the images found so far
SAME_PIXELS = "pixel_hash"  # the metric that identifies the decoded pixels of an image
STRENGTHS = ("denoise_strength", "denoising_strength", "strength")  # axes whose zero changes nothing
MAD_TO_SD = 1.4826  # for a normal distribution
NEAR_ZERO = 0.05  # the highest strength at which what is seen counts as the floor
NO_NOISE_INTERVAL = "some points may differ more than others"  # then 43 to 90 of 100 chi-square intervals hold
SAME_POINT = "replicate_error"  # the metric against the first repeat of the same point


def rank_seeds(design: StudyDesign, metric: str, direction: Direction) -> list[SeedRow]:
    """Rank seeds by how far they are from the others with everything else equal, the nearest to the reference first.

    Empty where there is one seed, where seeds of a plain table are texts, or where they are not shared between cells
    (then a seed cannot be told from its cell).
    """
    if design.seed is None or not design.seeds_shared or design.unit_count < 2:
        return []
    levels = design.by_name[design.seed].levels
    if any(isinstance(level, str) for level in levels):
        return []
    response = design.response(metric)
    rows = np.isfinite(response)
    if not rows.any():
        return []
    codes = design.by_name[design.seed].codes[rows]
    seen = pd.Series(response[rows]).groupby(codes).agg(["mean", "size"])
    (deviations,) = fit_additive(response[rows], design.cells[rows], codes).effects
    seen["deviation"] = deviations[seen.index]
    ranked = seen.sort_values("deviation", ascending=direction == "lower", kind="stable")
    return [
        SeedRow(metric=metric, seed=int(levels[code] or 0), mean=mean, deviation=deviation, rank=rank, n=int(n))
        for rank, (code, mean, n, deviation) in enumerate(ranked.itertuples(), start=1)
    ]


def find_outliers(design: StudyDesign, metric: str) -> list[Outlier]:
    """Find images far from the mean of their cell plus what their seed does everywhere, in robust standard deviations:
    those of all images, or where images of a level differ by more, those of the level (where a curve is steep, seeds
    differ). Needs three seeds; without them the axes' additive effects are expected. None in a table that has hardly
    more images than such effects: images there predict themselves.
    """
    response = design.response(metric)
    rows = np.flatnonzero(np.isfinite(response))
    y = response[rows]
    if len(y) < 8:
        return []
    effects = [design.cells[rows], design.units[rows]]
    if design.unit_count < 3:
        effects = [design.by_name[name].codes[rows] for name in design.factors] or effects[:1]
    effects.sort(key=lambda codes: -int(codes.max()))
    fitted = sum(len(np.unique(codes)) for codes in effects)
    if 2 * fitted > len(y):
        return []
    inflation = (len(y) / (len(y) - fitted)) ** 0.5 * MAD_TO_SD  # parameters leave residuals too small
    alike = [np.zeros_like(rows), *(design.by_name[name].codes[rows] for name in design.factors)]
    kept = np.ones(len(y), dtype=np.bool_)
    for _ in range(REFITS):
        expected = fit_additive(y[kept], *(codes[kept] for codes in effects)).predict(*effects)
        rest = y - expected
        spread = inflation * np.maximum.reduce([_measure_deviation(rest, codes) for codes in alike])
        if spread.min() <= 1e-12 * max(1e-3, float(np.abs(y).max())):
            return []
        # a fit lies nearer to the rows that it has seen; all scores are as if it had seen them
        scores = np.where(kept, 1.0, (len(y) - fitted) / len(y)) * rest / spread
        left_out = _choose_left_out(np.abs(scores), kept, effects)
        if not left_out.any():
            break
        kept &= ~left_out
    far = [i for i in np.argsort(-np.abs(scores))[:MOST_OUTLIERS] if abs(scores[i]) > FAR]
    return [
        Outlier(
            metric=metric,
            row=int(rows[i]),
            key=str(design.frame["key"].iloc[rows[i]]),
            value=float(y[i]),
            expected=float(expected[i]),
            score=float(scores[i]),
        )
        for i in far
    ]


def do_levels_differ(design: StudyDesign, metric: str, axis: str) -> bool:
    """Tell whether levels differ by more than seeds do, at the same settings of the other axes.

    F test of the levels at each cell, without what a seed has in common at all levels. It holds if the seeds of an axis
    without effect differ by chance from level to level. Where cells have hardly more than one seed, they must rise or
    fall alike (Kendall 1938, Biometrika 30). Of levels without common settings, all combinations are one cell.
    """
    is_linked = design.is_linked(axis, {})
    codes = [design.combine_others(axis), design.units * is_linked, design.by_name[axis].codes]
    means = pd.Series(design.response(metric)).groupby(codes).mean().dropna()
    settings, units, levels = (means.index.get_level_values(i).to_numpy(dtype=np.intp) for i in range(3))
    cells, values = settings * is_linked, np.asarray(means, dtype=np.float64)
    seeds, joint = (np.unique(pair_codes(cells, each), return_inverse=True)[1] for each in (units, levels))
    between = int(joint.max()) + 1 - len(np.unique(cells))
    within = len(values) - len(np.unique(seeds)) - between
    if 0 < between <= max(within, 0) ** 2:
        fits = [fit_additive(values, *each).predict(*each) for each in ((seeds,), (seeds, joint))]
        whole, rest = (float(((values - fit) ** 2).sum()) for fit in fits)
        return float(fdtrc(between, within, (whole - rest) / between / max(rest / within, 1e-300))) < 1 - CONFIDENCE
    table = pd.Series(values).groupby([seeds, levels]).mean().unstack().to_numpy()
    rises = float(sum(np.nansum(np.sign(table[:, step:] - table[:, :-step])) for step in range(1, table.shape[1])))
    counts = np.isfinite(table).sum(axis=1)
    spread = float((counts * (counts - 1) * (2 * counts + 5)).sum() / 18) ** 0.5
    return bool((abs(rises) - 1) / 1.96 > spread)


def _measure_deviation(rest: FloatArray, codes: Codes) -> FloatArray:
    """Measure, for each row, the median absolute deviation of the rows with its code; 0 for fewer than three."""
    values = pd.Series(rest)
    away = (values - values.groupby(codes).transform("median")).abs().groupby(codes)
    return np.where(away.transform("size") > 2, away.transform("median"), 0.0)


def _choose_left_out(scores: FloatArray, kept: Mask, effects: Sequence[Codes]) -> Mask:
    """Choose rows that are far, and the farthest that is kept of each of their effects' codes: they spoil the fit of
    the others. A row is kept if its code has less than two others.
    """
    chosen = kept & (scores > FAR)
    for codes in effects:
        worst = np.zeros(int(codes.max(initial=0)) + 1)
        np.maximum.at(worst, codes[kept], scores[kept])
        chosen &= (scores >= worst[codes]) & (np.bincount(codes[kept], minlength=len(worst))[codes] > 2)
    return chosen


def find_equal_levels(design: StudyDesign) -> list[EqualLevels]:
    """Find levels of each axis whose images have the same pixels, everything else equal.

    Compared are hashes of decoded pixels: files of equal images differ, since servers write the settings into them.
    At a strength of zero all images are the source, so there only levels of the strength are compared.
    """
    if SAME_PIXELS not in design.frame:
        return []
    pixels = design.response(SAME_PIXELS)
    known = np.isfinite(pixels) & (design.repeats == 0)
    strengths = [axis for axis in design.axes if axis.name in STRENGTHS and axis.levels[:1] == (0,)]
    found = []
    for name in design.factors:
        axis = design.by_name[name]
        unchanged = [each.codes == 0 for each in strengths if each is not axis]
        rows = np.flatnonzero(np.logical_and.reduce([known, *(~where for where in unchanged)]))
        others = design.match_images([name])[rows]
        order = np.lexsort((axis.codes[rows], others))
        codes, groups, values = axis.codes[rows][order], others[order], pixels[rows][order]
        next_to = (groups[1:] == groups[:-1]) & (codes[1:] == codes[:-1] + 1)
        asked = np.bincount(codes[1:][next_to], minlength=len(axis.levels))
        same = np.bincount(codes[1:][next_to & (values[1:] == values[:-1])], minlength=len(axis.levels))
        equal = [code for code in range(1, len(axis.levels)) if asked[code] and same[code] == asked[code]]
        if equal:
            pairs = [[axis.levels[code - 1], axis.levels[code]] for code in equal]
            every = len(equal) == len(axis.levels) - 1
            found.append(EqualLevels(axis=name, levels=len(axis.levels), pairs=pairs, all=every))
    return found


def estimate_noise(design: StudyDesign, metric: str) -> NoiseFacts:
    """Estimate the metric's spread between repeats of one point, and its value at a strength of (nearly) zero.

    The latter is what encoding and decoding alone cost. Differences smaller than these mean nothing.
    """
    floor, at = _estimate_floor(design, metric)
    return NoiseFacts(metric=metric, replicate=_estimate_replicate(design, metric), floor=floor, floor_at=at)


def _estimate_replicate(design: StudyDesign, metric: str) -> Estimate:
    if design.replicates < 2:
        return make_estimate(reason="no point was rendered twice (study: {replicates: 2})")
    points = pd.Series(design.response(metric)).groupby(design.points)
    freedom = points.count()[points.count() > 1] - 1
    if freedom.empty:
        return make_estimate(reason="no point has two images with a value")
    value = float((points.var() * freedom).sum() / freedom.sum()) ** 0.5
    return make_estimate(value, n=len(freedom), reason=NO_NOISE_INTERVAL)


def _estimate_floor(design: StudyDesign, metric: str) -> tuple[Estimate, float | None]:
    """Estimate the metric from the images at the lowest strength alone, over seed means."""
    axis = next((axis for axis in design.axes if axis.name in STRENGTHS and axis.numeric), None)
    if axis is None:
        return make_estimate(reason="there is no strength axis"), None
    at = float(axis.levels[0] or 0)
    if at > NEAR_ZERO:
        return make_estimate(reason=f"the lowest strength is {at:g}: add one of at most {NEAR_ZERO:g}"), None
    response = design.response(metric)
    rows = np.isfinite(response) & (axis.codes == 0)
    means = pd.Series(response[rows]).groupby(design.units[rows]).mean().to_numpy()
    return estimate_mean(means, method="t over seed means", has_units=design.unit_count > 0), at


def check_determinism(design: StudyDesign) -> Determinism | None:
    """Check whether the server gives the same pixels for the same point; None where no point was repeated."""
    if SAME_POINT not in design.frame:
        return None
    worst = pd.Series(design.response(SAME_POINT)).groupby(design.points).max().dropna()
    if worst.empty:
        return None
    total, same = len(worst), int((worst == 0).sum())
    start = f"{'One point was' if total == 1 else f'{total} points were'} rendered more than once"
    message = f"{start} and gave the same pixels every time."
    if same < total:
        message = f"{start}; {total - same} gave different pixels, by up to {worst.max():.3g} of 255: "
        message += "the server is not deterministic."
    return Determinism(points=total, same_pixels=same, message=message)
