"""A study's findings as sentences: never a number without its interval and n, and never silence where one is due."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sweep.study.contract import (
    Curve,
    Design,
    Determinism,
    Difference,
    DiversityCell,
    Effects,
    Estimate,
    Level,
    MetricFacts,
    Noise,
    SeedRow,
    Sentence,
)
from sweep.study.noise import STRENGTHS

PREFERRED = ("structure_coarse", "ms_ssim", "ssim", "delta_e", "diversity")  # what headlines speak of
WORTH_NAMING = 0.05  # share of variance from which an interaction is told
SHORT = 48  # characters of a level in a sentence


def sentence(
    kind: str, text: str, *, metric: str | None = None, axis: str | None = None, headline: bool = False
) -> Sentence:
    """One finding."""
    return Sentence(kind=kind, text=text, headline=headline, metric=metric, axis=axis)


def main_metric(metrics: Sequence[MetricFacts]) -> str | None:
    """The metric that headlines speak of: the most telling one that was measured."""
    measured = [m["name"] for m in metrics if m["measured"]]
    return next((name for name in PREFERRED if name in measured), measured[0] if measured else None)


def main_axis(axes: Sequence[str], effects: Sequence[Effects], metric: str | None) -> str | None:
    """The numeric axis that headlines speak of: denoise strength, else the one that explains most."""
    if named := next((axis for axis in axes if axis in STRENGTHS), None):
        return named
    shares = next((e["shares"] for e in effects if e["metric"] == metric), [])
    ranked = [share["axes"][0] for share in shares if len(share["axes"]) == 1 and share["axes"][0] in axes]
    return ranked[0] if ranked else next(iter(axes), None)


def figure(value: float, width: float | None = None) -> str:
    """A number with the digits its interval's width deserves (two of the width), else three significant ones."""
    if width is not None and width > 0:
        decimals = min(max(1 - math.floor(math.log10(width)), 0), 6)
        text = f"{value:.{decimals}f}"
    else:
        text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    text = "0" if float(text) == 0 and "." not in text else text
    return text.replace("-", "−")


def with_interval(estimate: Estimate) -> str:
    """As in "0.45 (0.41–0.49, 95 %, n = 4 seeds)"; where there is no interval the bracket says why."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return f"unknown ({estimate['reason']})"
    if low is None or high is None:
        return f"{figure(value)} (no interval: {estimate['reason']})"
    shown = [figure(v, high - low) for v in (value, low, high)]
    dash = " to " if "−" in "".join(shown) else "–"
    certain = f"{estimate['confidence'] * 100:.0f} %, n = {seeds_text(estimate)}"
    return f"{shown[0]} ({shown[1]}{dash}{shown[2]}, {certain})"


def seeds_text(estimate: Estimate) -> str:
    """How many of what the interval rests on."""
    unit = "repeated point" if "repeated" in estimate["method"] else "seed"
    return f"{estimate['n']} {unit}{'s' if estimate['n'] != 1 else ''}"


def level_text(level: Level) -> str:
    """A level as it stands in a sentence: text in quotes, shortened."""
    if isinstance(level, str):
        return f"“{level if len(level) <= SHORT else level[: SHORT - 1].rstrip() + '…'}”"
    return "none" if level is None else str(level)


def recommendation(curve: Curve, facts: MetricFacts) -> list[Sentence]:
    """What to set the axis to so that the metric keeps to its thresholds, or why that cannot be said."""
    found = []
    for passed in curve["crossings"]:
        text = _advice(curve, facts, passed["threshold"], passed["at"])
        found.append(sentence("recommendation", text, metric=facts["name"], axis=curve["axis"]))
    return found


def _advice(curve: Curve, facts: MetricFacts, threshold: float, at: Estimate) -> str:
    axis, label = curve["axis"], facts["label"]
    wanted = "below" if facts["direction"] == "lower" else "above"
    goal = f"To keep {label} {wanted} {threshold:g}"
    ends = f"{curve['x'][0]:g} to {curve['x'][-1]:g}"
    if at["value"] is None:
        stays = f"stays {'above' if 'above' in (at['reason'] or '') else 'below'} {threshold:g}"
        if "stays" not in (at["reason"] or ""):
            return f"Where {label} passes {threshold:g} cannot be said: {at['reason']}."
        verdict = "any of them will do" if stays.split()[1] == wanted else "none of them will do"
        seeds = f"n = {at['n']} seeds" if at["n"] > 1 else "without an interval, as nothing is replicated over seeds"
        return f"Over {axis} from {ends}, mean {label} {stays}: {goal[0].lower()}{goal[1:]}, {verdict} ({seeds})."
    side = "below" if bool(curve["falling"]) == (wanted == "above") else "above"
    if facts["direction"] == "neutral":
        moves = "falls" if curve["falling"] else "rises"
        return f"{_capital(label)} {moves} through {threshold:g} at {axis} {with_interval(at)}.{_caveat(curve, at)}"
    return f"{goal}, stay {side} {axis} {with_interval(at)}.{_caveat(curve, at)}"


def _caveat(curve: Curve, at: Estimate) -> str:
    said = ""
    if at["value"] is not None and at["low"] is not None and at["reason"]:
        said = f" Mind: {at['reason']}."
    if any(warning["kind"] == "violated" for warning in curve["warnings"]):
        said += " The curve is not monotone, so a second passing cannot be ruled out."
    return said


def half_range(curve: Curve, facts: MetricFacts) -> Sentence:
    """Where half of what the axis does to the metric is done."""
    half, label = curve["half"], _capital(facts["label"])
    if half["value"] is None:
        text = f"{label} along {curve['axis']}: {half['reason']} (n = {half['n']} seeds)."
    else:
        verb = "fallen" if curve["falling"] else "risen"
        text = f"{label} has {verb} through half of its range at {curve['axis']} {with_interval(half)}."
    return sentence("recommendation", text, metric=facts["name"], axis=curve["axis"])


def shares_text(effects: Effects, facts: MetricFacts) -> Sentence:
    """Which axis explains how much."""
    if not effects["shares"]:
        text = f"What explains {facts['label']} cannot be said: {effects['reason']}."
        return sentence("limit", text, metric=facts["name"])
    named = [s for s in effects["shares"] if len(s["axes"]) == 1][:4]
    named += [s for s in effects["shares"] if len(s["axes"]) > 1 and (s["share"]["value"] or 0) >= WORTH_NAMING][:1]
    parts = [
        f"{' × '.join(s['axes'])} {'explains ' if not i else ''}{_percent(s['share'])}" for i, s in enumerate(named)
    ]
    first = named[0]["share"]
    basis = f"95 %, n = {first['n']} seeds" if first["low"] is not None else f"no interval: {first['reason']}"
    pictures = f"{effects['n']} pictures"
    note = f" {_capital(effects['reason'])}." if effects["reason"] else ""
    text = f"Of the variance of {facts['label']}, {', '.join(parts)} ({basis}, {pictures}).{note}"
    return sentence("share", text, metric=facts["name"])


def _percent(share: Estimate) -> str:
    """Whole percents, and tenths below two percent."""
    value, low, high = (None if v is None else 100 * v for v in (share["value"], share["low"], share["high"]))
    digits = 0 if (value or 0.0) >= 2 else 1
    text = f"{value or 0.0:.{digits}f} %"
    return text if low is None or high is None else f"{text} ({low:.{digits}f}–{high:.{digits}f} %)"


def difference_text(found: Sequence[Difference], facts: MetricFacts) -> list[Sentence]:
    """The largest difference between levels of each axis that is not numeric, or that there is none to speak of."""
    said = []
    for axis in dict.fromkeys(d["axis"] for d in found):
        pairs = [d for d in found if d["axis"] == axis and d["difference"]["value"] is not None]
        if pairs:
            said.append(sentence("difference", _largest(axis, pairs, facts), metric=facts["name"], axis=axis))
    return said


def _largest(axis: str, pairs: Sequence[Difference], facts: MetricFacts) -> str:
    sure = [d for d in pairs if d["significant"]]
    if not sure and any(d["significant"] is not None for d in pairs):
        n = max(d["difference"]["n"] for d in pairs)
        return f"No two levels of {axis} differ measurably in {facts['label']} (n = {n} seeds, Holm-corrected)."
    top = max(sure or pairs, key=lambda d: abs(d["difference"]["value"] or 0.0))
    change = top["difference"]
    a, b = level_text(top["a"]), level_text(top["b"])
    if (change["value"] or 0.0) < 0:
        a, b = b, a
        change = _negated(change)
    text = f"{_capital(facts['label'])} is higher with {axis} {b} than with {a}, by {with_interval(change)}"
    return text + (f"; {len(sure)} of {len(pairs)} pairs differ (Holm-corrected)." if sure else ".")


def _negated(estimate: Estimate) -> Estimate:
    value, low, high = (None if v is None else -v for v in (estimate["value"], estimate["low"], estimate["high"]))
    return Estimate(**{**estimate, "value": value, "low": high, "high": low})


def seed_text(rows: Sequence[SeedRow], facts: MetricFacts) -> list[Sentence]:
    """The seeds at both ends of the ranking."""
    if len(rows) < 2:
        return []
    best, last = rows[0], rows[-1]
    spread = abs(best["deviation"] - last["deviation"])
    nearest = "nearest to the reference" if facts["direction"] != "neutral" else "highest"
    text = (
        f"In {facts['label']}, seed {best['seed']} is {nearest} on average and seed {last['seed']} "
        f"{'farthest' if facts['direction'] != 'neutral' else 'lowest'}, {figure(spread)} apart "
        f"(n = {best['n']} pictures a seed, descriptive: no interval for single seeds)."
    )
    return [sentence("seed", text, metric=facts["name"], axis=None)]


def noise_text(noise: Sequence[Noise], determinism: Determinism | None, facts: MetricFacts) -> list[Sentence]:
    """How much of what is seen is there when nothing changes."""
    said = [sentence("noise", determinism["message"])] if determinism else []
    for row in noise:
        if row["metric"] != facts["name"]:
            continue
        if row["replicate"]["value"] is not None:
            text = f"Repeats of one point differ in {facts['label']} by a standard deviation of "
            said.append(sentence("noise", f"{text}{with_interval(row['replicate'])}.", metric=facts["name"]))
        if row["floor"]["value"] is not None and row["floor_at"] is not None and facts["reference"] == "picture":
            text = f"At strength {row['floor_at']:g} {facts['label']} is {with_interval(row['floor'])}: "
            said.append(sentence("noise", f"{text}the noise floor of encoding and decoding.", metric=facts["name"]))
    return said


def diversity_text(cells: Sequence[DiversityCell], facts: Mapping[str, MetricFacts]) -> list[Sentence]:
    """The most and the least diverse cell."""
    said = []
    for metric in dict.fromkeys(cell["metric"] for cell in cells):
        known = [c for c in cells if c["metric"] == metric and c["value"]["value"] is not None]
        if len(known) < 2:
            continue
        ranked = sorted(known, key=lambda c: c["value"]["value"] or 0.0)
        low, high = ranked[0], ranked[-1]
        text = (
            f"Pictures differ most between seeds at {cell_text(high)}: {facts[metric]['label']} "
            f"{with_interval(high['value'])}. They differ least at {cell_text(low)}: {with_interval(low['value'])}."
        )
        said.append(sentence("diversity", text, metric=metric))
    return said


def cell_text(cell: DiversityCell) -> str:
    """A cell by its levels."""
    levels = [f"{name} {level_text(level)}" for name, level in cell["cell"].items()]
    return ", ".join(levels) or "the only point"


def design_limits(design: Design, aliases: Mapping[str, str], *, measured: bool, compared: bool) -> list[Sentence]:
    """What this design cannot tell, whatever was measured."""
    said = []
    if not design["rows"]:
        said.append("There are no rows yet, so there is nothing to say.")
    elif not design["pictures"]:
        why = f"all {design['failed']} variations failed" if design["failed"] else "no picture is there yet"
        said.append(f"Nothing can be said: {why}.")
    elif not measured:
        said.append("Pictures are there but none was measured.")
    elif design["seeds"] < 2:
        what = "There is one seed" if design["seeds"] else "There is no seed axis"
        said.append(f"{what}: values are shown without intervals. Four seeds would give them.")
    if design["pictures"] and (design["failed"] or design["missing"]):
        said.append(
            f"{design['missing']} of {design['cells']} points have no picture ({design['failed']} failed): "
            "shares are from least squares, and means are adjusted for the holes."
        )
    if design["pictures"] and not any(axis["numeric"] for axis in design["axes"]):
        said.append("No axis is numeric, so there are no response curves.")
    if design["seeds"] > 1 and not design["seeds_shared"]:
        said.append("Seeds differ between points, so differences are not paired and intervals are wider.")
    said += [
        f"{late} steps together with {early}: their effects cannot be told apart." for late, early in aliases.items()
    ]
    if design["pictures"] and design["reference"] == "none" and not compared:
        said.append(
            "Pictures have no source and no baseline was named, so nothing is compared with a reference "
            "(study: {baseline: {axis: level}} names one)."
        )
    return [sentence("limit", text) for text in said]


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


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if not text.startswith("pHash") else text
