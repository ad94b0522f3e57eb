"""The findings of a study as sentences: a number always with its interval and n, or with the reason for none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from sweep.study.schema import (
    Curve,
    Determinism,
    Difference,
    DiversityCell,
    Effects,
    Estimate,
    LevelValue,
    MetricFacts,
    NoiseFacts,
    SeedRow,
    Sentence,
    StudyJson,
)
from sweep.study.stats.curves import FLAT, UNEVEN
from sweep.study.stats.intervals import CONFIDENCE, SKEWED
from sweep.text import format_count, truncate

_SHORT = 48  # characters of a level in a sentence
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def make_sentence(
    kind: str,
    text: str,
    detail: str = "",
    *,
    metric: str | None = None,
    axis: str | None = None,
    rows: Sequence[int] = (),
) -> Sentence:
    """Make one finding."""
    return Sentence(kind=kind, text=text, detail=detail, headline=False, metric=metric, axis=axis, rows=list(rows))


def write_number(value: float, width: float | None = None) -> str:
    """Write a number with the digits its interval's width deserves (two of the width), else three significant ones."""
    if width is not None and width > 0:
        decimals = min(max(1 - math.floor(math.log10(width)), 0), 6)
        text = f"{value:.{decimals}f}"
    else:
        text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        text = f"{value:.6f}" if "e" in text else text
    text = "0" if float(text) == 0 and "." not in text else text
    return text.replace("-", "−")


def write_estimate(estimate: Estimate) -> str:
    """Write as in "0.45 (0.41–0.49, 95 %, n = 4 seeds)"; without an interval the bracket says why."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return f"unknown ({estimate['reason']})"
    if low is None or high is None:
        return f"{write_number(value)} (no interval: {estimate['reason']})"
    if _same(estimate):
        return f"{write_number(value)} (the same with each of {write_units(estimate)})"
    shown = write_interval(estimate)
    return f"{shown[:-1]}, {estimate['confidence'] * 100:.0f} %, n = {write_units(estimate)})"


def write_interval(estimate: Estimate) -> str:
    """Write as in "0.45 (0.41–0.49)", where confidence and n stand elsewhere; without an interval the value."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "unknown"
    if low is None or high is None or _same(estimate):
        return write_number(value)
    shown = [write_number(v, high - low) for v in (value, low, high)]
    dash = " to " if "−" in "".join(shown) else "–"
    return f"{shown[0]} ({shown[1]}{dash}{shown[2]})"


def _same(estimate: Estimate) -> bool:
    """Tell whether the interval has no width but for rounding."""
    width = (estimate["high"] or 0.0) - (estimate["low"] or 0.0)
    return width <= 1e-9 * max(1.0, abs(estimate["value"] or 0.0))


def write_units(estimate: Estimate) -> str:
    """Write how many seeds or repeated points the interval rests on."""
    return format_count(estimate["n"], "repeated point" if "repeated" in estimate["method"] else "seed")


def write_number_word(n: int) -> str:
    """Write a count that begins a sentence: a word up to twelve."""
    return capitalise(_WORDS[n]) if n < len(_WORDS) else f"{n:,}"


def write_level(level: LevelValue) -> str:
    """Write a level for a sentence: text in quotes, shortened; numbers without empty decimals."""
    if isinstance(level, str):
        return f"“{truncate(level, _SHORT)}”"
    if isinstance(level, float):
        return f"{level:.12g}".replace("-", "−")
    return "none" if level is None else str(level)


def write_percent(share: Estimate) -> str:
    """Write a share in whole percents, and in tenths below two percent."""
    value, low, high = (None if v is None else 100 * v for v in (share["value"], share["low"], share["high"]))
    digits = 0 if (value or 0.0) >= 2 else 1
    text = f"{value or 0.0:.{digits}f} %"
    return text if low is None or high is None else f"{text} ({low:.{digits}f}–{high:.{digits}f} %)"


def negate(estimate: Estimate) -> Estimate:
    """Reverse a difference."""
    value, low, high = (None if v is None else -v for v in (estimate["value"], estimate["low"], estimate["high"]))
    return Estimate(**{**estimate, "value": value, "low": high, "high": low})


def write_cell(cell: DiversityCell) -> str:
    """Write a cell by its levels."""
    levels = [f"{name} {write_level(level)}" for name, level in cell["cell"].items()]
    return ", ".join(levels) or "the only point"


def capitalise(text: str) -> str:
    """Capitalise the start of a sentence."""
    return text[:1].upper() + text[1:] if not text.startswith("pHash") else text


WORTH_NAMING = 0.05  # share of variance from which an interaction is told


def recommend(curve: Curve, facts: MetricFacts) -> list[Sentence]:
    """Recommend what to set the axis to so that the metric keeps to its thresholds, or say why that is unknown."""
    found = []
    for passed in curve["crossings"]:
        text = _advice(curve, facts, passed["threshold"], passed["at"])
        found.append(make_sentence("recommendation", text, metric=facts["name"], axis=curve["axis"]))
    return found


def _advice(curve: Curve, facts: MetricFacts, threshold: float, at: Estimate) -> str:
    axis, label = curve["axis"], facts["label"]
    wanted = "below" if facts["direction"] == "lower" else "above"
    reason = at["reason"] or ""
    if at["value"] is None and "stays" in reason:
        return _staying(curve, facts, threshold, "above" if "above" in reason else "below", wanted)
    if at["value"] is None:
        where = f"Where along {axis} {label} passes {threshold:g} cannot be said"
        return f"{where} (n = {format_count(at['n'], 'seed')}): {reason}."
    if facts["direction"] == "neutral":
        moves = "falls" if curve["falling"] else "rises"
        return f"{capitalise(label)} {moves} through {threshold:g} at {axis} {write_estimate(at)}.{_caveat(curve, at)}"
    side = "below" if bool(curve["falling"]) == (wanted == "above") else "above"
    return f"To keep {label} {wanted} {threshold:g}, stay {side} {axis} {write_estimate(at)}.{_caveat(curve, at)}"


def _staying(curve: Curve, facts: MetricFacts, threshold: float, side: str, wanted: str) -> str:
    """Say how near the mean comes to a threshold that it never passes."""
    known = [i for i, mean in enumerate(curve["mean"]) if mean is not None]
    nearest = min(known, key=lambda i: abs((curve["mean"][i] or 0.0) - threshold))
    extreme = "lowest" if side == "above" else "highest"
    said = (
        f"{capitalise(facts['label'])} stays {side} {threshold:g} from {curve['axis']} {curve['x'][0]:g} to "
        f"{curve['x'][-1]:g}: its {extreme} mean is {write_estimate(_at(curve, nearest))}, at {curve['x'][nearest]:g}."
    )
    if facts["direction"] == "neutral":
        return said
    verdict = "any of these levels will do" if side == wanted else "none of these levels will do"
    low, high = curve["low"][nearest], curve["high"][nearest]
    if low is not None and high is not None and low <= threshold <= high:
        verdict += " on average, but that interval reaches beyond"
    return f"{said} To keep it {wanted} {threshold:g}, {verdict}."


def _at(curve: Curve, i: int) -> Estimate:
    """Read the mean at a level."""
    low = curve["low"][i]
    reason = None if low is not None else curve["interval"].removeprefix("no interval: ")
    return Estimate(
        value=curve["mean"][i],
        low=low,
        high=curve["high"][i],
        confidence=CONFIDENCE,
        n=curve["n"][i],
        method="t over seed means" if low is not None else "none",
        reason=reason,
    )


def _caveat(curve: Curve, at: Estimate) -> str:
    said = f" Caution: {at['reason']}." if at["low"] is not None and at["reason"] else ""
    said += _interpolated(curve, at)
    for warning in curve["warnings"]:
        if warning["kind"] == "violated":
            said += " The curve is not monotone, so a second passing cannot be ruled out."
        if warning["kind"] == "saturated":
            said += f" {capitalise(warning['message'])}."
    return said


def _interpolated(curve: Curve, at: Estimate) -> str:
    """Say that the interval lies between two tested levels, where nothing was rendered."""
    value, low, high = at["value"], at["low"], at["high"]
    if value is None or low is None or high is None:
        return ""
    around = [(a, b) for a, b in pairwise(curve["x"]) if a <= low and high <= b]
    if not around:
        return ""
    return f" Interpolated between {around[0][0]:g} and {around[0][1]:g}; nothing in between was rendered."


def describe_range(curve: Curve, facts: MetricFacts) -> Sentence:
    """Describe the metric at both ends of the axis, and where half of the change is done."""
    text = _way(curve, capitalise(facts["label"]))
    return make_sentence("recommendation", text, metric=facts["name"], axis=curve["axis"])


def _way(curve: Curve, label: str) -> str:
    half, axis = curve["half"], curve["axis"]
    known = [i for i, mean in enumerate(curve["mean"]) if mean is not None]
    if len(known) < 2:
        return f"{label} along {axis}: {half['reason']}."
    if half["reason"] == FLAT:
        return f"{label} does not change measurably along {axis} (n = {format_count(half['n'], 'seed')})."
    ends = [(_at(curve, i), curve["x"][i]) for i in (known[0], known[-1])]
    first, last = (f"{write_interval(mean)} at {x:g}" for mean, x in ends)
    basis = _basis(ends[-1][0])
    if half["value"] is None:
        why = "the curve goes up and down" if half["reason"] == UNEVEN else half["reason"]
        return (
            f"{label} along {axis} is {first} and {last} ({basis}). Where half of that is passed cannot be said: {why}."
        )
    verb = "falls" if curve["falling"] else "rises"
    way = f"{label} {verb} along {axis} from {first} to {last}, half of it by {write_interval(half)} ({basis})."
    return way + _caveat(curve, half)


def _basis(estimate: Estimate) -> str:
    """Write confidence and n, which several intervals share."""
    if estimate["low"] is None:
        return f"no interval: {estimate['reason']}"
    return f"{CONFIDENCE:.0%}".replace("%", " %") + f", n = {format_count(estimate['n'], 'seed')}"


def describe_shares(effects: Effects, facts: MetricFacts) -> Sentence:
    """Describe how much each axis explains."""
    if not effects["shares"]:
        text = f"What explains {facts['label']} cannot be said: {effects['reason']}."
        return make_sentence("limit", text, metric=facts["name"])
    named = [s for s in effects["shares"] if len(s["axes"]) == 1][:4]
    named += [s for s in effects["shares"] if len(s["axes"]) > 1 and (s["share"]["value"] or 0) >= WORTH_NAMING][:1]
    parts = [
        f"{' × '.join(s['axes'])} {'explains ' if not i else ''}{write_percent(s['share'])}"
        for i, s in enumerate(named)
    ]
    basis = _basis(named[0]["share"])
    note = f" {capitalise(effects['reason'])}." if effects["reason"] else ""
    images = format_count(effects["n"], "image")
    text = f"Of the variance of {facts['label']}, {', '.join(parts)} ({basis}; {images}).{note}"
    return make_sentence("share", text, metric=facts["name"])


def describe_differences(found: Sequence[Difference], facts: MetricFacts) -> list[Sentence]:
    """Describe the largest difference between levels of each axis that is not numeric."""
    said = []
    for axis in dict.fromkeys(d["axis"] for d in found):
        pairs = [d for d in found if d["axis"] == axis and d["difference"]["value"] is not None]
        if pairs:
            said.append(make_sentence("difference", _largest(axis, pairs, facts), metric=facts["name"], axis=axis))
    return said


def _largest(axis: str, pairs: Sequence[Difference], facts: MetricFacts) -> str:
    sure = [d for d in pairs if d["significant"]]
    top = max(sure or pairs, key=lambda d: abs(d["difference"]["value"] or 0.0))
    change = top["difference"]
    a, b = write_level(top["a"]), write_level(top["b"])
    if (change["value"] or 0.0) < 0:
        a, b, change = b, a, negate(change)
    if not sure and any(d["significant"] is not None for d in pairs):
        largest = f"{b} and {a} are {write_estimate(change)} apart"
        if len(pairs) == 1:
            return f"In {facts['label']} the levels of {axis} cannot be told apart: {largest}."
        return f"In {facts['label']} no two levels of {axis} can be told apart (Holm-corrected): at most, {largest}."
    text = f"{capitalise(facts['label'])} is higher with {axis} {b} than with {a}, by {write_estimate(change)}"
    if not sure or len(pairs) == 1:
        return f"{text}."
    return f"{text}; {len(sure)} of {len(pairs)} pairs of levels differ (Holm-corrected)."


def describe_skew(found: Sequence[Difference], facts: MetricFacts) -> list[Sentence]:
    """Warn of axes whose difference intervals are too narrow, because seeds are skewed."""
    axes = dict.fromkeys(d["axis"] for d in found if d["difference"]["reason"] == SKEWED)
    return [
        make_sentence(
            "limit",
            f"Caution: {SKEWED}. This concerns differences in {facts['label']} along {axis}.",
            metric=facts["name"],
            axis=axis,
        )
        for axis in axes
    ]


def describe_seeds(rows: Sequence[SeedRow], facts: MetricFacts) -> list[Sentence]:
    """Describe the seeds at both ends of the ranking."""
    if len(rows) < 2:
        return []
    best, last = rows[0], rows[-1]
    spread = abs(best["deviation"] - last["deviation"])
    nearest = "nearest to the reference" if facts["direction"] != "neutral" else "highest"
    counts = sorted({row["n"] for row in rows})
    text = (
        f"In {facts['label']}, seed {best['seed']} is {nearest} on average and seed {last['seed']} "
        f"{'farthest' if facts['direction'] != 'neutral' else 'lowest'}, {write_number(spread)} apart "
        f"(n = {'–'.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} images a seed, descriptive: "
        "no interval for single seeds)."
    )
    return [make_sentence("seed", text, metric=facts["name"], axis=None)]


def describe_noise(noise: Sequence[NoiseFacts], determinism: Determinism | None, facts: MetricFacts) -> list[Sentence]:
    """Describe what a metric does when nothing is changed."""
    said = [make_sentence("noise", determinism["message"])] if determinism else []
    for row in noise:
        if row["metric"] != facts["name"]:
            continue
        if row["replicate"]["value"]:
            text = f"Repeats of one point differ in {facts['label']} by a standard deviation of "
            said.append(make_sentence("noise", f"{text}{write_estimate(row['replicate'])}.", metric=facts["name"]))
        if row["floor"]["value"] is not None and row["floor_at"] is not None and facts["reference"] == "image":
            text = f"At strength {row['floor_at']:g} {facts['label']} is {write_estimate(row['floor'])}: "
            said.append(make_sentence("noise", f"{text}what encoding and decoding alone do.", metric=facts["name"]))
    return said


def describe_diversity(cells: Sequence[DiversityCell], facts: Mapping[str, MetricFacts]) -> list[Sentence]:
    """Describe the most and the least diverse cell."""
    said = []
    for metric in dict.fromkeys(cell["metric"] for cell in cells):
        known = [c for c in cells if c["metric"] == metric and c["value"]["value"] is not None]
        if len(known) < 2:
            continue
        ranked = sorted(known, key=lambda c: c["value"]["value"] or 0.0)
        low, high = ranked[0], ranked[-1]
        text = (
            f"Images differ most between seeds at {write_cell(high)}: {facts[metric]['label']} "
            f"{write_estimate(high['value'])}. They differ least at {write_cell(low)}: {write_estimate(low['value'])}."
        )
        said.append(make_sentence("diversity", text, metric=metric))
    return said


def describe_metric_findings(fact: MetricFacts, data: StudyJson) -> list[Sentence]:
    """Write all sentences about one metric."""
    name = fact["name"]
    said: list[Sentence] = []
    for curve in data["curves"]:
        if curve["metric"] == name and not curve["group"]:
            said += recommend(curve, fact) or [describe_range(curve, fact)]
    said += [describe_shares(effects, fact) for effects in data["effects"] if effects["metric"] == name]
    plain_axes = {axis["name"] for axis in data["design"]["axes"] if not axis["numeric"]}
    pairs = [d for d in data["differences"] if d["metric"] == name]
    said += describe_differences([d for d in pairs if d["axis"] in plain_axes], fact)
    said += describe_skew(pairs, fact)
    said += describe_seeds([row for row in data["seeds"] if row["metric"] == name], fact)
    return said + describe_noise(data["noise"], data["determinism"], fact)
