"""The findings of a study in order: the headlines, then metric by metric, then the limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sweep.study.recommendations import describe_recommendation
from sweep.study.sentences import (
    CHOSEN,
    describe_choices,
    describe_distances,
    describe_diversity,
    describe_equal,
    describe_metric_findings,
    describe_scales,
    describe_search,
    describe_unshown,
    list_assumptions,
    list_design_limits,
    list_measuring_limits,
    make_sentence,
)
from sweep.study.stats.seeds import STRENGTHS
from sweep.study.study_json import MetricFacts, Sentence, StudyJson

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
        mine = [advice for advice in data["recommendations"] if advice["metric"] == fact["name"]]
        said += [describe_recommendation(advice, fact, data) for advice in mine]
        said += describe_metric_findings(fact, data, is_main=fact["name"] == main)
    said += describe_unshown(data, {fact["name"]: fact for fact in measured}, main)
    said += describe_diversity(data["diversity"], facts)
    said = _drop_repeated(said)
    limited: Iterable[str] = [CHOSEN]
    if data["adaptive"] is None:
        limited = list_design_limits(data["design"], aliases, measured=bool(measured), compared=compared)
    limits = [make_sentence("limit", text) for text in (*limited, *list_measuring_limits(data, taken))]
    if measured and any("95 %" in each["text"] + each["detail"] for each in said):
        limits += [make_sentence("assumption", text) for text in list_assumptions(data)]
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
