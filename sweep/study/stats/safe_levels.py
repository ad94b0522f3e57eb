"""Safe levels: the images that hold a threshold are counted, and the last level at which all of them did is advised.

A mean over prompts is no advice: where the mean passes the threshold, four of ten new images of the same prompts miss
it (by simulation on two full grids). So images are counted level by level and group by group.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product, takewhile

import numpy as np

from sweep.study.stats.seeds_and_noise import do_levels_differ
from sweep.study.stats.t_tests import is_shown, make_estimate
from sweep.study.study_design import StudyDesign
from sweep.study.study_json import Curve, Group, Hold, MetricFacts, Recommendation

ADDED = 3  # levels offered for a gap


def count_holds(design: StudyDesign, fact: MetricFacts, thresholds: Sequence[float]) -> list[Hold]:
    """Count the images that hold each threshold, by axis, level and group. Empty for a metric without a direction."""
    if fact["direction"] == "neutral":
        return []
    response = design.response(fact["name"])
    known = np.isfinite(response)
    found = []
    for threshold, axis in product(thresholds, design.factors):
        good = response <= threshold if fact["direction"] == "lower" else response >= threshold
        levels, codes = design.by_name[axis].levels, design.by_name[axis].codes
        for group in design.groups(axis):
            rows = known & design.mask_rows(group)
            images, held = (np.bincount(codes[which], minlength=len(levels)) for which in (rows, rows & good))
            found += [
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
    return found


def recommend_levels(
    design: StudyDesign, fact: MetricFacts, holds: Sequence[Hold], curves: Sequence[Curve]
) -> list[Recommendation]:
    """Advise a level of each numeric axis for each threshold of a metric."""
    found = []
    whole = {curve["axis"]: curve for curve in curves if curve["metric"] == fact["name"] and not curve["group"]}
    mine = [hold for hold in holds if hold["metric"] == fact["name"]]
    for axis, threshold in product(design.numeric, dict.fromkeys(hold["threshold"] for hold in mine)):
        chosen = [hold for hold in mine if (hold["axis"], hold["threshold"]) == (axis, threshold)]
        if chosen:
            found.append(_recommend(design, fact, whole[axis], threshold, chosen))
    return found


def _recommend(
    design: StudyDesign, fact: MetricFacts, curve: Curve, threshold: float, holds: Sequence[Hold]
) -> Recommendation:
    whole = [hold for hold in holds if not hold["group"]]
    first, last = whole[0], whole[-1]
    if curve["falling"] is not None:
        is_rising = curve["falling"] == (fact["direction"] == "lower")
    else:  # no fit: by the counts at both ends
        is_rising = last["held"] / last["images"] > first["held"] / first["images"]
    whole = whole[::-1] if is_rising else whole
    safe = _count_safe(whole)
    shown = whole[max(safe - 1, 0)]
    use = _read_level(shown) if safe else None
    weakest, low, high = _find_weakest(holds, is_rising=is_rising)
    nothing = make_estimate(reason="no crossing was asked for")
    at = next((c["at"] for c in curve["crossings"] if c["threshold"] == threshold), nothing)
    return Recommendation(
        metric=fact["name"],
        axis=curve["axis"],
        threshold=threshold,
        wanted="below" if fact["direction"] == "lower" else "above",
        side="from" if is_rising else "up to",
        use=use,
        held=shown["held"],
        images=shown["images"],
        weakest_group=weakest,
        bracket_low=low,
        bracket_high=high,
        shown=is_shown(curve["p_adjusted"]) or do_levels_differ(design, curve["metric"], curve["axis"]),
        levels_to_add=_fill_gap(curve, use, _read_level(whole[safe])) if use is not None and safe < len(whole) else [],
        mean_crossing=at["value"],
        low=at["low"],
        high=at["high"],
        n=at["n"],
        method=at["method"],
    )


def _count_safe(holds: Sequence[Hold]) -> int:
    """Count the first levels at which every image held."""
    return sum(1 for _ in takewhile(lambda hold: hold["held"] == hold["images"], holds))


def _read_level(hold: Hold) -> float:
    return float(hold["level"] or 0)


def _find_weakest(holds: Sequence[Hold], *, is_rising: bool) -> tuple[Group | None, float | None, float | None]:
    """Find the group that fails first, and between which levels; none where all groups fail alike."""
    groups: dict[tuple[str, object], list[Hold]] = {}
    for hold in holds:
        for key in hold["group"].items():
            groups.setdefault(key, []).append(hold)
    failures = []
    for members in groups.values():
        ordered = members[::-1] if is_rising else members
        safe = _count_safe(ordered)
        if safe < len(ordered):
            failed, level = ordered[safe], _read_level(ordered[safe])
            score = -level if is_rising else level, failed["held"] / failed["images"]
            failures.append((score, failed["group"], _read_level(ordered[safe - 1]) if safe else None, level))
    if not failures or (1 < len(groups) == len(failures) and len({score for score, *_ in failures}) == 1):
        return None, None, None
    return min(failures, key=lambda failure: failure[0])[1:]


def _fill_gap(curve: Curve, low: float, high: float) -> list[float]:
    """Choose levels within a gap, with as many digits as its width deserves."""
    digits = max(0, 2 - int(np.floor(np.log10(abs(high - low)))))
    is_whole = all(float(x).is_integer() for x in curve["x"])
    inner = np.linspace(low, high, ADDED + 2)[1:-1].round(0 if is_whole else digits)
    return sorted({float(x) for x in inner} - {low, high})
