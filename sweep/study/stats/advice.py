"""Advice for single images: how many held a threshold at each level, and up to which level all of them did.

A mean over prompts is no advice: where the mean passes the threshold, four of ten new images of the same prompts miss
it (by simulation on two full grids). So images are counted, level by level and group by group.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sweep.study.design import FloatArray, Mask, StudyDesign
from sweep.study.schema import Curve, Estimate, Group, Hold, MetricFacts, Recommendation
from sweep.study.stats.intervals import make_no_estimate

ADDED = 3  # levels offered for a gap


def count_holds(design: StudyDesign, fact: MetricFacts, thresholds: Sequence[float]) -> list[Hold]:
    """Count the images that hold each threshold, by axis, level and group. Empty for a metric without a direction."""
    if fact["direction"] == "neutral":
        return []
    response = design.response(fact["name"])
    known = np.isfinite(response)
    return [
        hold
        for threshold in thresholds
        for axis in design.factors
        for group in design.groups(axis)
        for hold in _count_group(design, fact, axis, threshold, group, response, known)
    ]


def _count_group(
    design: StudyDesign, fact: MetricFacts, axis: str, threshold: float, group: Group, response: FloatArray, known: Mask
) -> list[Hold]:
    rows = known & design.rows_of(group)
    codes = design.by_name[axis].codes[rows]
    good = response[rows] <= threshold if fact["direction"] == "lower" else response[rows] >= threshold
    levels = design.by_name[axis].levels
    images, held = np.bincount(codes, minlength=len(levels)), np.bincount(codes[good], minlength=len(levels))
    return [
        Hold(
            metric=fact["name"],
            axis=axis,
            threshold=threshold,
            level=level,
            group=group,
            held=int(held[i]),
            images=int(images[i]),
        )
        for i, level in enumerate(levels)
        if images[i]
    ]


def recommend_levels(
    design: StudyDesign, fact: MetricFacts, holds: Sequence[Hold], curves: Sequence[Curve]
) -> list[Recommendation]:
    """Advise a level of each numeric axis for each threshold of a metric. `holds` and `curves` are the metric's."""
    found = []
    for axis in design.numeric:
        curve = next(c for c in curves if c["axis"] == axis and not c["group"])
        for threshold in dict.fromkeys(hold["threshold"] for hold in holds):
            chosen = [hold for hold in holds if hold["axis"] == axis and hold["threshold"] == threshold]
            if chosen:
                found.append(_recommend(fact, curve, threshold, chosen))
    return found


def _recommend(fact: MetricFacts, curve: Curve, threshold: float, holds: Sequence[Hold]) -> Recommendation:
    whole = [hold for hold in holds if not hold["group"]]
    is_rising = _is_rising(fact, curve, whole)
    if is_rising:
        whole.reverse()
    level, reached = _find_last_held(whole)
    shown = whole[max(reached, 0)]
    weakest, low, high = _find_weakest(holds, is_rising=is_rising)
    after = whole[reached + 1] if reached + 1 < len(whole) else None
    at = _find_crossing(curve, threshold)
    return Recommendation(
        metric=fact["name"],
        axis=curve["axis"],
        threshold=threshold,
        wanted="below" if fact["direction"] == "lower" else "above",
        side="from" if is_rising else "up to",
        use=level,
        held=shown["held"],
        images=shown["images"],
        weakest_group=weakest,
        bracket_low=low,
        bracket_high=high,
        levels_to_add=_fill_gap(curve, level, _read_level(after)) if after and level is not None else [],
        mean_crossing=at["value"],
        low=at["low"],
        high=at["high"],
        n=at["n"],
        method=at["method"],
    )


def _is_rising(fact: MetricFacts, curve: Curve, whole: Sequence[Hold]) -> bool:
    """Tell whether images hold better at high levels; by the fit, else by the counts at both ends."""
    if curve["falling"] is not None:
        return curve["falling"] == (fact["direction"] == "lower")
    first, last = whole[0], whole[-1]
    return last["held"] / last["images"] > first["held"] / first["images"]


def _find_last_held(holds: Sequence[Hold]) -> tuple[float | None, int]:
    """Find the last level, and its place, up to which every image held; None and −1 where the first one failed."""
    failed = next((i for i, hold in enumerate(holds) if hold["held"] < hold["images"]), len(holds))
    return (_read_level(holds[failed - 1]) if failed else None), failed - 1


def _read_level(hold: Hold | None) -> float | None:
    return None if hold is None else float(hold["level"] or 0)


def _find_weakest(holds: Sequence[Hold], *, is_rising: bool) -> tuple[Group | None, float | None, float | None]:
    """Find the group that fails first, and between which levels; none where all groups fail alike."""
    groups: dict[tuple[str, object], list[Hold]] = {}
    for hold in holds:
        for name, level in hold["group"].items():
            groups.setdefault((name, level), []).append(hold)
    worst: tuple[float, float] | None = None
    scores = []
    found: tuple[Group | None, float | None, float | None] = (None, None, None)
    for (name, _), members in groups.items():
        ordered = members[::-1] if is_rising else members
        level, place = _find_last_held(ordered)
        if place + 1 == len(ordered):
            continue
        failed = ordered[place + 1]
        high = _read_level(failed)
        score = ((-1 if is_rising else 1) * (high or 0.0), failed["held"] / failed["images"])
        scores.append(score)
        if worst is None or score < worst:
            worst, found = score, ({name: members[0]["group"][name]}, level, high)
    is_alike = len(groups) > 1 and len(scores) == len(groups) and len(set(scores)) == 1
    return (None, None, None) if is_alike else found


def _find_crossing(curve: Curve, threshold: float) -> Estimate:
    nothing = make_no_estimate("no crossing was asked for")
    return next((c["at"] for c in curve["crossings"] if c["threshold"] == threshold), nothing)


def _fill_gap(curve: Curve, low: float, high: float | None) -> list[float]:
    """Choose levels within a gap, with as many digits as its width deserves."""
    if high is None:
        return []
    digits = max(0, 2 - int(np.floor(np.log10(abs(high - low)))))
    whole = all(float(x).is_integer() for x in curve["x"])
    inner = np.linspace(low, high, ADDED + 2)[1:-1].round(0 if whole else digits)
    return sorted({float(x) for x in inner} - {low, high})
