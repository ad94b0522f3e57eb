"""The findings of a study: advice from the images that held a threshold, then metric by metric, then the limitations.

A mean over prompts is no advice: where the mean passes the threshold, four of ten new images of the same prompts miss
it (by simulation on two full grids). So images are counted, level by level and group by group, and the advised level is
the last one at which all of them held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Final

import numpy as np

from sweep.study.observations import StudyDesign
from sweep.study.schema import (
    Curve,
    DesignFacts,
    Group,
    Hold,
    MetricFacts,
    Recommendation,
    Sentence,
    StudyJson,
)
from sweep.study.stats.intervals import make_estimate
from sweep.study.stats.seeds import STRENGTHS
from sweep.study.wording import (
    describe_choices,
    describe_distances,
    describe_diversity,
    describe_equal,
    describe_metric_findings,
    describe_scales,
    describe_search,
    describe_unshown,
    make_sentence,
    write_level,
    write_number_word,
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


CHOSEN = (
    "An adaptive design has no means, curves, shares and differences: it chose its images by their values, so these "
    "would be biased. For them use design: {kind: rotated, share: 0.3}."
)
ENOUGH = 8  # seeds; fewer cannot show a long tail


def _list_design_limits(
    design: DesignFacts, aliases: Mapping[str, str], *, measured: bool, compared: bool
) -> Iterator[str]:
    """List what this design cannot show, whatever was measured. `compared`: whether anything has a reference."""
    images, seeds = design["images"], design["seeds"]
    if not design["rows"]:
        yield "No results yet."
    elif not images:
        failures = f"all {design['failed']} images failed"
        yield f"No results: {failures if design['failed'] else 'no image is rendered yet'}."
    elif not measured:
        yield "None of the images is measured."
    elif seeds < 2:
        what = "There is only one seed" if seeds else "There is no seed axis"
        yield f"{what}, so values have no intervals: other seeds may differ by any amount. Four seeds give useful ones."
    elif not design["seeds_shared"]:
        yield "Seeds differ between points, so differences are not paired and intervals are wider."
    if images and (design["failed"] or design["missing"]):
        failed, others = design["failed"], design["missing"] - design["failed"]
        why = [f"{failed} failed"] if failed else []
        why += [f"{others} not asked for, or not rendered yet"] if others > 0 else []
        verb = "has" if design["missing"] == 1 else "have"
        holes = f"{design['missing']} of {format_count(design['cells'], 'combination')} {verb} no image"
        yield f"{holes} ({', '.join(why)}): means are adjusted for them."
    if measured and not any(len(axis["levels"]) > 1 for axis in design["axes"] if axis["kind"] != "seed"):
        yield "Only one combination of settings was rendered: give an axis a second level to compare with."
    for late, early in aliases.items():
        yield f"{late} steps together with {early}: their effects cannot be separated."
    if images and design["reference"] == "baseline":
        cell = ", ".join(f"{name} {write_level(level)}" for name, level in design["baseline"].items())
        yield (
            f"Images are compared with those at {cell}, everything else equal; those images equal their "
            "reference by construction."
        )
    if images and design["reference"] == "none" and not compared:
        yield (
            "Images have no source and no baseline, so nothing is compared with a reference. "
            "Name a baseline with sweep study RUN --baseline AXIS=LEVEL."
        )


def _list_measuring_limits(data: StudyJson, taken: Sequence[str]) -> Iterator[str]:
    """List what could not be measured, with the first reason. `taken`: metrics whose column is an axis's."""
    failed = max((fact["failed"] for fact in data["metrics"]), default=0)
    reason = next(filter(None, data["rows"]["reason"]), None)
    if failed and reason:
        many = f"{failed} images lack" if failed > 1 else "One image lacks"
        yield f"{many} a metric; the first reason: {reason.rstrip('.')}."
    for name in taken:
        yield f"The metric {name} is left out, because an axis has its name."


def _list_assumptions(data: StudyJson) -> Iterator[str]:
    """List what so few seeds cannot show, and for how many comparisons claims are corrected where there are several."""
    seeds = data["design"]["seeds"]
    if 2 <= seeds < ENOUGH:
        yield (
            f"{write_number_word(seeds)} seeds cannot show whether now and then one lies far from the rest. "
            "If so, 92 to 94 of 100 such intervals hold instead of 95."
        )
    tests = [*data["curves"], *data["differences"]]
    tested = len({(test["metric"], test["axis"]) for test in tests if test["p_adjusted"] is not None})
    if tested > 1:
        yield (
            f"Effects are claimed with a correction for all {tested} comparisons (one for each metric and axis): if "
            "nothing had an effect, at most 5 of 100 such studies would claim one."
        )


MOST_HEADLINES = 5
PREFERRED = ("rating", "structure_coarse", "ms_ssim", "ssim", "delta_e", "diversity")  # what headlines speak of


def choose_metric(metrics: Sequence[MetricFacts]) -> str | None:
    """Choose the metric of the headlines: the most telling one that was measured."""
    measured = [m["name"] for m in metrics if m["measured"]]
    return next((name for name in PREFERRED if name in measured), measured[0] if measured else None)


def _choose_axis(data: StudyJson, main: str | None) -> str | None:
    """Choose the axis of the headlines, a numeric one if any: denoise strength, else the one that explains most."""
    varying = [axis for axis in data["design"]["axes"] if len(axis["levels"]) > 1 and axis["kind"] != "seed"]
    axes = [axis["name"] for axis in varying if axis["numeric"]] or [axis["name"] for axis in varying]
    shares = next((e["shares"] for e in data["effects"] if e["metric"] == main), [])
    ranked = [share["axes"][0] for share in shares if len(share["axes"]) == 1 and share["axes"][0] in axes]
    return next((axis for axis in axes if axis in STRENGTHS), next(iter([*ranked, *axes]), None))


def write_findings(
    data: StudyJson, aliases: Mapping[str, str], *, compared: bool, taken: Sequence[str]
) -> list[Sentence]:
    """Write the findings of a study whose `words` are empty yet: headlines first, limits last.

    Args:
        data: The study.
        aliases: Axes that step together with another one.
        compared: Whether images were compared with a reference, or need none.
        taken: Metrics left out because an axis has their name.
    """
    facts = {fact["name"]: fact for fact in data["metrics"]}
    main = choose_metric(data["metrics"])
    measured = sorted((fact for fact in data["metrics"] if fact["measured"]), key=lambda fact: fact["name"] != main)
    axis = _choose_axis(data, main)
    if data["adaptive"] is not None:
        measured, main, axis = [], data["adaptive"]["metric"], data["adaptive"]["axis"]
    said = [
        *describe_search(data["adaptive"], facts, data),
        *describe_choices(data["choices"]),
        *describe_distances(data["distances"]),
        *describe_equal(data),
    ]
    said += describe_scales(data, axis) if axis else []
    for fact in measured:
        said += describe_metric_findings(fact, data, is_main=fact["name"] == main)
    said += describe_unshown(data, {fact["name"]: fact for fact in measured}, main)
    said += describe_diversity(data["diversity"], facts)
    said = _drop_repeated(said)
    limited: Iterable[str] = [CHOSEN]
    if data["adaptive"] is None:
        limited = _list_design_limits(data["design"], aliases, measured=bool(measured), compared=compared)
    limits = [make_sentence("limit", text) for text in (*limited, *_list_measuring_limits(data, taken))]
    if measured and any("95 %" in each["text"] + each["detail"] for each in said):
        limits += [make_sentence("assumption", text) for text in _list_assumptions(data)]
    if not said and not limits:
        limits = [make_sentence("limit", "No effect of any setting was found.")]
    top = _rank(said, main, axis) or limits[:1]
    for each in top:
        each["headline"] = True
    return [*top, *(each for each in [*said, *limits] if not each["headline"])]


def _rank(said: Sequence[Sentence], main: str | None, axis: str | None) -> list[Sentence]:
    """Rank findings by what a person would do differently, and keep the first five.

    Choices and advice come first, then levels that make no difference, then differences, and what explains them. Each
    kind is told once, of the main metric; then the largest difference in another metric.
    """
    wanted: list[Sentence] = []
    has_advice = any(each["kind"] in {"choice", "recommendation", "word"} for each in said)
    early, late = ("difference", "curve") if has_advice else ("curve", "difference")
    for kind in ("choice", "recommendation", "word", "equal", early, late, "share", "outlier"):
        found = [each for each in said if each["kind"] == kind and each["metric"] in {None, main}]
        if kind in {"recommendation", "difference"}:
            found = [each for each in found if each["axis"] == axis] or found
        if kind == "share" and any(each["kind"] == "word" for each in wanted):
            found = []  # which axis decides is told already
        if kind == "curve" and any(each["kind"] == "recommendation" for each in wanted):
            found = [each for each in found if each["metric"] is None]  # the scales; the curve itself is in the advice
        wanted += found[: 2 if kind == "equal" else 1]
    others = [each for each in said if each["kind"] == "difference" and each["metric"] in BESIDE]
    return [*wanted, *[each for each in others if each not in wanted][:1]][:MOST_HEADLINES]


def _drop_repeated(said: Sequence[Sentence]) -> list[Sentence]:
    """Drop a sentence that is there already, and an outlier that another metric has told already."""
    told: set[object] = set()
    found = []
    for each in said:
        about = each["rows"][0] if each["kind"] == "outlier" else each["text"]
        if about not in told:
            found.append(each)
        told.add(about)
    return found


BESIDE: Final = ("delta_e", "diversity", "sharpness", "colourfulness")  # each tells what the ones before do not


def select_headline_metrics(study: StudyJson, most: int = 3) -> list[MetricFacts]:
    """Select at most `most` of the measured metrics, the most telling first."""
    measured = {metric["name"]: metric for metric in study["metrics"] if metric["measured"]}
    names = dict.fromkeys(name for name in (choose_metric(study["metrics"]), *BESIDE) if name in measured)
    return [measured[name] for name in names if name][:most]


def select_headlines(study: StudyJson) -> list[str]:
    """Select the sentences that belong on top, in order."""
    return [each["text"] for each in study["words"] if each["headline"]]


def write_decision(study: StudyJson) -> str:
    """Write what to do, with the counts behind it and the weakest group; empty where the study has no such advice."""
    top = next((each for each in study["words"] if each["headline"] and each["kind"] == "recommendation"), None)
    if top is None:
        return ""
    weakest = top["detail"].partition(". ")[0] if top["detail"].startswith(("First ", "Weakest ")) else ""
    return f"{top['text']} {weakest.rstrip('.')}." if weakest else top["text"]
