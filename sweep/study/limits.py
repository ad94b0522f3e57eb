"""What limits everything a study says: sentences about the design and the measuring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweep.study.contract import Design, MetricFacts, Sentence
from sweep.study.phrases import counted, level_text, sentence, worded

ENOUGH = 8  # seeds from which a long tail shows (`symmetry.skewed` finds most of them)


def design_limits(design: Design, aliases: Mapping[str, str], *, measured: bool, compared: bool) -> list[Sentence]:
    """What this design cannot tell, whatever was measured. `compared`: whether anything was, with a reference."""
    said = [*_nothing(design, measured=measured), *_seeds(design, measured=measured), *_holes(design)]
    if design["pictures"] and not any(axis["numeric"] for axis in design["axes"]):
        said.append("No axis is numeric, so there are no response curves.")
    said += [
        f"{late} steps together with {early}: their effects cannot be told apart." for late, early in aliases.items()
    ]
    if design["pictures"] and design["reference"] == "baseline":
        cell = ", ".join(f"{name} {level_text(level)}" for name, level in design["baseline"].items())
        said.append(
            f"Pictures are compared with those at {cell}, everything else equal; those themselves are like their "
            "reference by construction."
        )
    if design["pictures"] and design["reference"] == "none" and not compared:
        said.append(
            "Pictures have no source and no baseline was named, so nothing is compared with a reference: "
            "sweep study RUN --baseline AXIS=LEVEL names one."
        )
    return [sentence("limit", text) for text in said]


def _nothing(design: Design, *, measured: bool) -> list[str]:
    if not design["rows"]:
        return ["There are no rows yet, so there is nothing to say."]
    if not design["pictures"]:
        why = f"all {design['failed']} variations failed" if design["failed"] else "no picture is there yet"
        return [f"Nothing can be said: {why}."]
    return [] if measured else ["Pictures are there but none was measured."]


def _seeds(design: Design, *, measured: bool) -> list[str]:
    if not design["pictures"] or not measured:
        return []
    seeds = design["seeds"]
    if seeds < 2:
        what = "There is only one seed" if seeds else "There is no seed axis"
        text = f"{what}, so values have no intervals: nobody knows how far other seeds are from them."
        return [f"{text} Four seeds give useful ones."]
    if design["seeds_shared"]:
        return []
    return ["Seeds differ between points, so differences are not paired and intervals are wider."]


def assumptions(design: Design) -> list[Sentence]:
    """What so few seeds cannot show."""
    if not 2 <= design["seeds"] < ENOUGH:
        return []
    text = (
        f"{worded(design['seeds'])} seeds cannot show whether seeds are spread symmetrically, as intervals take it: "
        "where they are strongly skewed, 82 to 93 of 100 such intervals hold instead of 95."
    )
    return [sentence("assumption", text)]


def _holes(design: Design) -> list[str]:
    if not design["pictures"] or not (design["failed"] or design["missing"]):
        return []
    failed, others = design["failed"], design["missing"] - design["failed"]
    why = [f"{failed} failed"] if failed else []
    why += [f"{others} not asked for, or not rendered yet"] if others > 0 else []
    text = f"{design['missing']} of {counted(design['cells'], 'combination')} have no picture ({', '.join(why)}): "
    return [f"{text}shares are from least squares, and means are adjusted for the holes."]


def measuring_limits(
    metrics: Sequence[MetricFacts], reasons: Sequence[str | None], taken: Sequence[str]
) -> list[Sentence]:
    """What could not be measured, and the first reason for it. `taken`: metrics whose column is an axis's."""
    said = []
    failed = max((fact["failed"] for fact in metrics), default=0)
    known = [reason for reason in reasons if reason]
    if failed and known:
        many = f"{failed} pictures lack" if failed > 1 else "One picture lacks"
        said.append(f"{many} a metric; the first reason: {known[0].rstrip('.')}.")
    said += [f"The metric {name} is left out, because an axis has its name." for name in taken]
    return [sentence("limit", text) for text in said]
