"""All that a study says, in order: what belongs on top, then metric by metric, and what limits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweep.study.contract import Effects, MetricFacts, Sentence, StudyJson
from sweep.study.limits import assumptions, design_limits, measuring_limits
from sweep.study.noise import STRENGTHS
from sweep.study.words import (
    difference_text,
    diversity_text,
    half_range,
    noise_text,
    recommendation,
    seed_text,
    shares_text,
    skewed_text,
)

PREFERRED = ("structure_coarse", "ms_ssim", "ssim", "delta_e", "diversity")  # what headlines speak of


def main_metric(metrics: Sequence[MetricFacts]) -> str | None:
    """The metric that headlines speak of: the most telling one that was measured."""
    measured = [m["name"] for m in metrics if m["measured"]]
    return next((name for name in PREFERRED if name in measured), measured[0] if measured else None)


def main_axis(axes: Sequence[str], effects: Sequence[Effects], metric: str | None) -> str | None:
    """The axis of these that headlines speak of: denoise strength, else the one that explains most."""
    if named := next((axis for axis in axes if axis in STRENGTHS), None):
        return named
    shares = next((e["shares"] for e in effects if e["metric"] == metric), [])
    ranked = [share["axes"][0] for share in shares if len(share["axes"]) == 1 and share["axes"][0] in axes]
    return ranked[0] if ranked else next(iter(axes), None)


def sentences_of(
    data: StudyJson, aliases: Mapping[str, str], *, compared: bool, taken: Sequence[str]
) -> list[Sentence]:
    """Of a study whose `words` are empty yet: headlines first, limits last.

    `aliases`: axes that step together with another one. `compared`: whether pictures were compared with a reference, or
    need none. `taken`: metrics left out because an axis has their name.
    """
    facts = {fact["name"]: fact for fact in data["metrics"]}
    main = main_metric(data["metrics"])
    measured = [fact for fact in data["metrics"] if fact["measured"]]
    said: list[Sentence] = []
    for fact in sorted(measured, key=lambda fact: fact["name"] != main):
        said += _about(fact, data)
    said += diversity_text(data["diversity"], facts)
    limits = design_limits(data["design"], aliases, measured=bool(measured), compared=compared)
    _mark_headlines(said if measured else limits[:1], data, main)
    limits += measuring_limits(data["metrics"], data["rows"]["reason"], taken)
    limits += assumptions(data["design"]) if measured else []
    return sorted(_once(said) + limits, key=lambda sentence: not sentence["headline"])


def _mark_headlines(said: Sequence[Sentence], data: StudyJson, main: str | None) -> None:
    """What the main metric does along its main axis (without a numeric one: the largest difference), and the shares."""
    varying = [axis for axis in data["design"]["axes"] if len(axis["levels"]) > 1 and axis["kind"] != "seed"]
    numeric = [axis["name"] for axis in varying if axis["numeric"]]
    others = [axis["name"] for axis in varying if not axis["numeric"]]
    axis = main_axis(numeric or others, data["effects"], main)
    kind = "recommendation" if numeric else "difference"
    for sentence in said:
        of_axis = sentence["kind"] == kind and sentence["axis"] == axis
        sentence["headline"] = main is None or (sentence["metric"] == main and (sentence["kind"] == "share" or of_axis))


def _about(fact: MetricFacts, data: StudyJson) -> list[Sentence]:
    name = fact["name"]
    said: list[Sentence] = []
    for curve in data["curves"]:
        if curve["metric"] == name and not curve["group"]:
            said += recommendation(curve, fact) or [half_range(curve, fact)]
    said += [shares_text(effects, fact) for effects in data["effects"] if effects["metric"] == name]
    plain_axes = {axis["name"] for axis in data["design"]["axes"] if not axis["numeric"]}
    pairs = [d for d in data["differences"] if d["metric"] == name]
    said += difference_text([d for d in pairs if d["axis"] in plain_axes], fact)
    said += skewed_text(pairs, fact)
    said += seed_text([row for row in data["seeds"] if row["metric"] == name], fact)
    return said + noise_text(data["noise"], data["determinism"], fact)


def _once(said: Sequence[Sentence]) -> list[Sentence]:
    return list({sentence["text"]: sentence for sentence in reversed(said)}.values())[::-1]
