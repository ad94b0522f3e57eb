"""Which findings are told, headlines, limitations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sweep.study.schema import DesignFacts, Effects, MetricFacts, Sentence, StudyJson
from sweep.study.stats.noise import STRENGTHS
from sweep.study.wording import (
    difference_text,
    diversity_text,
    half_range,
    level_text,
    make_sentence,
    noise_text,
    recommendation,
    seed_text,
    shares_text,
    skewed_text,
    worded,
)
from sweep.text import format_count

ENOUGH = 8  # seeds from which a long tail shows (`symmetry.skewed` finds most of them)


def design_limits(design: DesignFacts, aliases: Mapping[str, str], *, measured: bool, compared: bool) -> list[Sentence]:
    """What this design cannot tell, whatever was measured. `compared`: whether anything was, with a reference."""
    said = [*_nothing(design, measured=measured), *_seeds(design, measured=measured), *_holes(design)]
    if design["images"] and not any(axis["numeric"] for axis in design["axes"]):
        said.append("No axis is numeric, so there are no response curves.")
    said += [
        f"{late} steps together with {early}: their effects cannot be told apart." for late, early in aliases.items()
    ]
    if design["images"] and design["reference"] == "baseline":
        cell = ", ".join(f"{name} {level_text(level)}" for name, level in design["baseline"].items())
        said.append(
            f"Images are compared with those at {cell}, everything else equal; those themselves are like their "
            "reference by construction."
        )
    if design["images"] and design["reference"] == "none" and not compared:
        said.append(
            "Images have no source and no baseline was named, so nothing is compared with a reference: "
            "sweep study RUN --baseline AXIS=LEVEL names one."
        )
    return [make_sentence("limit", text) for text in said]


def _nothing(design: DesignFacts, *, measured: bool) -> list[str]:
    if not design["rows"]:
        return ["There are no rows yet, so there is nothing to say."]
    if not design["images"]:
        why = f"all {design['failed']} variations failed" if design["failed"] else "no image is there yet"
        return [f"Nothing can be said: {why}."]
    return [] if measured else ["Images are there but none was measured."]


def _seeds(design: DesignFacts, *, measured: bool) -> list[str]:
    if not design["images"] or not measured:
        return []
    seeds = design["seeds"]
    if seeds < 2:
        what = "There is only one seed" if seeds else "There is no seed axis"
        text = f"{what}, so values have no intervals: nobody knows how far other seeds are from them."
        return [f"{text} Four seeds give useful ones."]
    if design["seeds_shared"]:
        return []
    return ["Seeds differ between points, so differences are not paired and intervals are wider."]


def assumptions(design: DesignFacts) -> list[Sentence]:
    """What so few seeds cannot show."""
    if not 2 <= design["seeds"] < ENOUGH:
        return []
    text = (
        f"{worded(design['seeds'])} seeds cannot show whether seeds are spread symmetrically, as intervals take it: "
        "where they are strongly skewed, 82 to 93 of 100 such intervals hold instead of 95."
    )
    return [make_sentence("assumption", text)]


def _holes(design: DesignFacts) -> list[str]:
    if not design["images"] or not (design["failed"] or design["missing"]):
        return []
    failed, others = design["failed"], design["missing"] - design["failed"]
    why = [f"{failed} failed"] if failed else []
    why += [f"{others} not asked for, or not rendered yet"] if others > 0 else []
    text = f"{design['missing']} of {format_count(design['cells'], 'combination')} have no image ({', '.join(why)}): "
    return [f"{text}shares are from least squares, and means are adjusted for the holes."]


def measuring_limits(
    metrics: Sequence[MetricFacts], reasons: Sequence[str | None], taken: Sequence[str]
) -> list[Sentence]:
    """What could not be measured, and the first reason for it. `taken`: metrics whose column is an axis's."""
    said = []
    failed = max((fact["failed"] for fact in metrics), default=0)
    known = [reason for reason in reasons if reason]
    if failed and known:
        many = f"{failed} images lack" if failed > 1 else "One image lacks"
        said.append(f"{many} a metric; the first reason: {known[0].rstrip('.')}.")
    said += [f"The metric {name} is left out, because an axis has its name." for name in taken]
    return [make_sentence("limit", text) for text in said]


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

    `aliases`: axes that step together with another one. `compared`: whether images were compared with a reference, or
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
    for each in said:
        of_axis = each["kind"] == kind and each["axis"] == axis
        each["headline"] = main is None or (each["metric"] == main and (each["kind"] == "share" or of_axis))


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


BESIDE: Final = ("delta_e", "diversity", "sharpness", "colourfulness")  # each tells what the ones before do not


def headline_metrics(study: StudyJson, most: int = 3) -> list[MetricFacts]:
    """At most `most` of the measured metrics, the most telling first."""
    measured = {metric["name"]: metric for metric in study["metrics"] if metric["measured"]}
    names = dict.fromkeys(name for name in (main_metric(study["metrics"]), *BESIDE) if name in measured)
    return [measured[name] for name in names if name][:most]


def headline_sentences(study: StudyJson) -> list[str]:
    """The sentences that belong on top, in order."""
    return [sentence["text"] for sentence in study["words"] if sentence["headline"]]
