"""The order of a study's sentences: at most five headlines on top, the other findings by metric, then the limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sweep.study.advice import describe_recommendation, describe_search
from sweep.study.findings import (
    describe_choices,
    describe_distances,
    describe_equal,
    describe_metric_findings,
    describe_scales,
    describe_unshown,
    list_assumptions,
    list_limits,
    make_sentence,
)
from sweep.study.stats.seeds_and_noise import STRENGTHS
from sweep.study.study_json import MetricFacts, Sentence, StudyJson

MOST_HEADLINES = 5
PREFERRED = ("rating", "structure_coarse", "ms_ssim", "ssim", "delta_e", "diversity")  # metrics of the headlines
BESIDE: Final = ("delta_e", "diversity", "sharpness", "colourfulness")  # each tells what the ones before do not


def sort_by_preference(metrics: Sequence[MetricFacts]) -> list[MetricFacts]:
    """Sort metrics by how well they suit the headlines, the most telling one first."""
    ranks = {name: rank for rank, name in enumerate(PREFERRED)}
    return sorted(metrics, key=lambda fact: ranks.get(fact["name"], len(ranks)))


def choose_metric(metrics: Sequence[MetricFacts]) -> str | None:
    """Choose the metric of the headlines: the most telling one that was measured."""
    return next((fact["name"] for fact in sort_by_preference(metrics) if fact["measured"]), None)


def _choose_axis(data: StudyJson, main: str | None) -> str | None:
    """Choose the axis of the headlines, a numeric one if any: denoise strength, else the one that explains most."""
    varying = [axis for axis in data["design"]["axes"] if len(axis["levels"]) > 1 and axis["kind"] != "seed"]
    axes = [axis["name"] for axis in varying if axis["numeric"]] or [axis["name"] for axis in varying]
    shares = next((e["shares"] for e in data["effects"] if e["metric"] == main), [])
    ranked = [share["axes"][0] for share in shares if len(share["axes"]) == 1 and share["axes"][0] in axes]
    return next((axis for axis in axes if axis in STRENGTHS), next(iter([*ranked, *axes]), None))


def write_sentences(
    data: StudyJson, aliases: Mapping[str, str], *, compared: bool, taken: Sequence[str]
) -> list[Sentence]:
    """Write the sentences of a study whose `words` are empty yet: headlines first, limits last (see `list_limits`)."""
    main, search = choose_metric(data["metrics"]), data["adaptive"]
    axis = _choose_axis(data, main)
    measured = sorted((fact for fact in data["metrics"] if fact["measured"]), key=lambda fact: fact["name"] != main)
    said: list[Sentence] = []
    if search is not None:
        measured, main, axis = [], search["metric"], search["axis"]
        said += describe_search(search, data)
    said += [*describe_choices(data["choices"]), *describe_distances(data["distances"]), *describe_equal(data)]
    said += describe_scales(data, axis) if axis else []
    for fact in measured:
        mine = [advice for advice in data["recommendations"] if advice["metric"] == fact["name"]]
        said += [describe_recommendation(advice, fact, data) for advice in mine]
        said += describe_metric_findings(fact, data, is_main=fact["name"] == main)
    said += describe_unshown(data, measured, main)
    said = _drop_repeated(said)
    limited = list_limits(data, aliases, measured=bool(measured), compared=compared, taken=taken)
    limits = [make_sentence("limit", text) for text in limited]
    if measured and any("95 %" in each["text"] + each["detail"] for each in said):
        limits += [make_sentence("assumption", text) for text in list_assumptions(data)]
    if not said and not limits:
        limits = [make_sentence("limit", "No effect of any setting was found.")]
    top = _rank(said, main, axis) or [each for each in [*said, *limits] if each["kind"] == "limit"][:1]
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
    told: dict[object, Sentence] = {}
    for each in said:
        told.setdefault(each["rows"][0] if each["kind"] == "outlier" else each["text"], each)
    return list(told.values())


def select_headline_metrics(study: StudyJson, most: int = 3) -> list[MetricFacts]:
    """Select at most `most` of the measured metrics, the most telling first."""
    measured = {metric["name"]: metric for metric in study["metrics"] if metric["measured"]}
    names = dict.fromkeys([choose_metric(study["metrics"]), *BESIDE])
    return [measured[name] for name in names if name in measured][:most]


def select_headlines(study: StudyJson) -> list[str]:
    """Select the sentences that belong on top, in order."""
    return [each["text"] for each in study["words"] if each["headline"]]
