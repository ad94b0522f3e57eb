"""Recommended levels: the images that hold a threshold are counted, and the last level at which all did is advised.

A mean over prompts is no advice: where the mean passes the threshold, four of ten new images of the same prompts miss
it (by simulation on two full grids). So images are counted level by level and group by group.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from sweep.study.observations import StudyDesign
from sweep.study.sentences import (
    find_rows,
    join_words,
    make_sentence,
    name_axis,
    write_interval,
    write_level,
    write_mark,
    write_number_word,
    write_place,
)
from sweep.study.stats.intervals import make_estimate
from sweep.study.stats.response_curves import BRACKET
from sweep.study.study_json import (
    Curve,
    Group,
    Hold,
    MetricFacts,
    Recommendation,
    Sentence,
    StudyJson,
)
from sweep.text import format_count

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
            rows = known & design.rows_of(group)
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
    holds = [hold for hold in holds if hold["metric"] == fact["name"]]
    for axis in design.numeric:
        curve = next(c for c in curves if (c["metric"], c["axis"]) == (fact["name"], axis) and not c["group"])
        for threshold in dict.fromkeys(hold["threshold"] for hold in holds):
            chosen = [hold for hold in holds if hold["axis"] == axis and hold["threshold"] == threshold]
            if chosen:
                found.append(_recommend(fact, curve, threshold, chosen))
    return found


def _recommend(fact: MetricFacts, curve: Curve, threshold: float, holds: Sequence[Hold]) -> Recommendation:
    whole = [hold for hold in holds if not hold["group"]]
    first, last = whole[0], whole[-1]
    if curve["falling"] is not None:
        is_rising = curve["falling"] == (fact["direction"] == "lower")
    else:  # no fit: by the counts at both ends
        is_rising = last["held"] / last["images"] > first["held"] / first["images"]
    if is_rising:
        whole.reverse()
    level, reached = _find_last_held(whole)
    shown = whole[max(reached, 0)]
    weakest, low, high = _find_weakest(holds, is_rising=is_rising)
    to_add = []
    if level is not None and reached + 1 < len(whole):
        to_add = _fill_gap(curve, level, _read_level(whole[reached + 1]))
    nothing = make_estimate(reason="no crossing was asked for")
    at = next((c["at"] for c in curve["crossings"] if c["threshold"] == threshold), nothing)
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
        levels_to_add=to_add,
        mean_crossing=at["value"],
        low=at["low"],
        high=at["high"],
        n=at["n"],
        method=at["method"],
    )


def _find_last_held(holds: Sequence[Hold]) -> tuple[float | None, int]:
    """Find the last level, and its place, up to which every image held; None and −1 where the first one failed."""
    failed = next((i for i, hold in enumerate(holds) if hold["held"] < hold["images"]), len(holds))
    return (_read_level(holds[failed - 1]) if failed else None), failed - 1


def _read_level(hold: Hold) -> float:
    return float(hold["level"] or 0)


def _find_weakest(holds: Sequence[Hold], *, is_rising: bool) -> tuple[Group | None, float | None, float | None]:
    """Find the group that fails first, and between which levels; none where all groups fail alike."""
    groups: dict[tuple[str, object], list[Hold]] = {}
    for hold in holds:
        for name, level in hold["group"].items():
            groups.setdefault((name, level), []).append(hold)
    failures = []
    for (name, _), members in groups.items():
        ordered = members[::-1] if is_rising else members
        level, place = _find_last_held(ordered)
        if place + 1 < len(ordered):
            failed = ordered[place + 1]
            high = _read_level(failed)
            score = (-high if is_rising else high, failed["held"] / failed["images"])
            failures.append((score, {name: failed["group"][name]}, level, high))
    scores = {score for score, *_ in failures}
    if not failures or (1 < len(groups) == len(failures) and len(scores) == 1):
        return None, None, None
    return min(failures, key=lambda failure: failure[0])[1:]


def _fill_gap(curve: Curve, low: float, high: float) -> list[float]:
    """Choose levels within a gap, with as many digits as its width deserves."""
    digits = max(0, 2 - int(np.floor(np.log10(abs(high - low)))))
    whole = all(float(x).is_integer() for x in curve["x"])
    inner = np.linspace(low, high, ADDED + 2)[1:-1].round(0 if whole else digits)
    return sorted({float(x) for x in inner} - {low, high})


ENOUGH_SEEDS = 8  # from which advice is not called that of few seeds

MOST_COUNTS = 3  # levels whose counts follow the advised one


def describe_recommendation(advice: Recommendation, fact: MetricFacts, data: StudyJson) -> Sentence:
    """Write which level to use, the counts behind it, and what they cannot say."""
    name, axis, threshold = fact["name"], advice["axis"], advice["threshold"]
    asked = (name, axis, threshold)
    whole = [hold for hold in data["holds"] if not hold["group"]]
    counts = [hold for hold in whole if (hold["metric"], hold["axis"], hold["threshold"]) == asked]
    text = _write_advice(advice, fact, counts[::-1] if advice["side"] == "from" else counts)
    parts = [_write_weakest(advice, fact), _write_breadth(advice, data), _write_gap(advice), _write_mean(advice)]
    rows = find_rows(data, {axis: advice["use"]}) if advice["use"] is not None else []
    return make_sentence("recommendation", text, " ".join(filter(None, parts)), metric=name, axis=axis, rows=rows)


def _write_advice(advice: Recommendation, fact: MetricFacts, counts: Sequence[Hold]) -> str:
    axis, label, mark = name_axis(advice["axis"]), fact["label"], write_mark(advice["wanted"], advice["threshold"])
    kept = f"{advice['threshold']:g} stars or more" if fact["name"] == "rating" else f"{label} stayed at {mark}"
    held = f"in {advice['held']} of {format_count(advice['images'], 'image')}"
    extreme, limit = ("highest", "or more") if advice["side"] == "from" else ("lowest", "or less")
    if advice["use"] is None:
        if not any(hold["held"] for hold in counts):
            return f"No {axis} tested keeps {label} at {mark}: no image of any level held."
        return f"No {axis} tested is safe for every image: {kept} {held} at {counts[0]['level']:g}, the {extreme}."
    later = counts[[hold["level"] for hold in counts].index(advice["use"]) + 1 :]
    if not later:
        return f"Any {axis} tested will do: {kept} {held} at {advice['use']:g} and at every other level."
    others = ", ".join(f"in {hold['held']} of {hold['images']} at {hold['level']:g}" for hold in later[:MOST_COUNTS])
    return f"Use {axis} {advice['use']:g} {limit}: {kept} {held} at {advice['use']:g}, {others}."


def _write_weakest(advice: Recommendation, fact: MetricFacts) -> str:
    if advice["weakest_group"] is None:
        return ""
    ((name, level),) = advice["weakest_group"].items()
    low, high = advice["bracket_low"], advice["bracket_high"]
    where = f"at {high:g}, the first level tested"
    if low is not None:
        where = f"between {name_axis(advice['axis'])} {low:g} and {high:g}"
    miss = "rise above" if fact["direction"] == "lower" else "fall below"
    return f"First {name_axis(name)} to {miss} {advice['threshold']:g}: {write_level(level)}, {where}."


def _write_breadth(advice: Recommendation, data: StudyJson) -> str:
    """Say how few seeds and other levels the advice rests on."""
    design, factors = data["design"], {test["axis"] for test in data["holds"]}
    others = [
        axis
        for axis in design["axes"]
        if axis["name"] != advice["axis"]
        and axis["kind"] not in {"seed", "integer"}
        and len(axis["levels"]) > 1
        and not axis["numeric"]
        and axis["name"] in factors  # not those that step with another one
    ]
    seeds = f"{write_number_word(max(design['seeds'], 1))} seed{'' if design['seeds'] < 2 else 's'}"
    tested = join_words([seeds, *(f"{len(axis['levels'])} levels of {name_axis(axis['name'])}" for axis in others[:2])])
    only = "only " if design["seeds"] < ENOUGH_SEEDS else ""
    return f"Tested with {only}{tested[0].lower()}{tested[1:]}: others may fail earlier."


def _write_gap(advice: Recommendation) -> str:
    if advice["use"] is None:
        return f"Test {'higher' if advice['side'] == 'from' else 'lower'} levels of {name_axis(advice['axis'])}."
    if not advice["levels_to_add"]:
        return ""
    levels = ", ".join(f"{level:g}" for level in advice["levels_to_add"])
    return f"To narrow the gap after {advice['use']:g}, add {levels} (--set axes.{advice['axis']}=[…])."


def _write_mean(advice: Recommendation) -> str:
    value, low, high = advice["mean_crossing"], advice["low"], advice["high"]
    if value is None or low is None or high is None:
        return ""
    shown = make_estimate(value, low, high, method=advice["method"])
    where = write_place(shown) if advice["method"] == BRACKET else f"at {write_interval(shown)}"
    return f"(The mean over all images passes {advice['threshold']:g} {where}; single images miss it earlier.)"
