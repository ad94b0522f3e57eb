"""Findings as sentences."""

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
)
from sweep.study.stats.curves import FLAT, UNEVEN
from sweep.study.stats.intervals import CONFIDENCE, SKEWED
from sweep.text import format_count, truncate

_SHORT = 48  # characters of a level in a sentence
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def make_sentence(
    kind: str, text: str, *, metric: str | None = None, axis: str | None = None, headline: bool = False
) -> Sentence:
    """One finding."""
    return Sentence(kind=kind, text=text, headline=headline, metric=metric, axis=axis)


def figure(value: float, width: float | None = None) -> str:
    """A number with the digits its interval's width deserves (two of the width), else three significant ones."""
    if width is not None and width > 0:
        decimals = min(max(1 - math.floor(math.log10(width)), 0), 6)
        text = f"{value:.{decimals}f}"
    else:
        text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        text = f"{value:.6f}" if "e" in text else text
    text = "0" if float(text) == 0 and "." not in text else text
    return text.replace("-", "−")


def with_interval(estimate: Estimate) -> str:
    """As in "0.45 (0.41–0.49, 95 %, n = 4 seeds)"; where there is no interval the bracket says why."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return f"unknown ({estimate['reason']})"
    if low is None or high is None:
        return f"{figure(value)} (no interval: {estimate['reason']})"
    if _same(estimate):
        return f"{figure(value)} (the same with each of {seeds_text(estimate)})"
    shown = interval_text(estimate)
    return f"{shown[:-1]}, {estimate['confidence'] * 100:.0f} %, n = {seeds_text(estimate)})"


def interval_text(estimate: Estimate) -> str:
    """As in "0.45 (0.41–0.49)", for where what is common to several is said once; without an interval the value."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "unknown"
    if low is None or high is None or _same(estimate):
        return figure(value)
    shown = [figure(v, high - low) for v in (value, low, high)]
    dash = " to " if "−" in "".join(shown) else "–"
    return f"{shown[0]} ({shown[1]}{dash}{shown[2]})"


def _same(estimate: Estimate) -> bool:
    """Whether the interval has no width but for rounding."""
    width = (estimate["high"] or 0.0) - (estimate["low"] or 0.0)
    return width <= 1e-9 * max(1.0, abs(estimate["value"] or 0.0))


def seeds_text(estimate: Estimate) -> str:
    """How many of what the interval rests on."""
    return format_count(estimate["n"], "repeated point" if "repeated" in estimate["method"] else "seed")


def worded(n: int) -> str:
    """A count that begins a sentence: a word up to twelve."""
    return capital(_WORDS[n]) if n < len(_WORDS) else f"{n:,}"


def level_text(level: LevelValue) -> str:
    """A level as it stands in a sentence: text in quotes, shortened; numbers without empty decimals."""
    if isinstance(level, str):
        return f"“{truncate(level, _SHORT)}”"
    if isinstance(level, float):
        return f"{level:.12g}".replace("-", "−")
    return "none" if level is None else str(level)


def percent(share: Estimate) -> str:
    """Whole percents, and tenths below two percent."""
    value, low, high = (None if v is None else 100 * v for v in (share["value"], share["low"], share["high"]))
    digits = 0 if (value or 0.0) >= 2 else 1
    text = f"{value or 0.0:.{digits}f} %"
    return text if low is None or high is None else f"{text} ({low:.{digits}f}–{high:.{digits}f} %)"


def negated(estimate: Estimate) -> Estimate:
    """The same difference the other way round."""
    value, low, high = (None if v is None else -v for v in (estimate["value"], estimate["low"], estimate["high"]))
    return Estimate(**{**estimate, "value": value, "low": high, "high": low})


def cell_text(cell: DiversityCell) -> str:
    """A cell by its levels."""
    levels = [f"{name} {level_text(level)}" for name, level in cell["cell"].items()]
    return ", ".join(levels) or "the only point"


def capital(text: str) -> str:
    """With a capital first, as at the start of a sentence."""
    return text[:1].upper() + text[1:] if not text.startswith("pHash") else text


WORTH_NAMING = 0.05  # share of variance from which an interaction is told


def recommendation(curve: Curve, facts: MetricFacts) -> list[Sentence]:
    """What to set the axis to so that the metric keeps to its thresholds, or why that cannot be said."""
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
        return f"{capital(label)} {moves} through {threshold:g} at {axis} {with_interval(at)}.{_caveat(curve, at)}"
    side = "below" if bool(curve["falling"]) == (wanted == "above") else "above"
    return f"To keep {label} {wanted} {threshold:g}, stay {side} {axis} {with_interval(at)}.{_caveat(curve, at)}"


def _staying(curve: Curve, facts: MetricFacts, threshold: float, side: str, wanted: str) -> str:
    """The nearest that the mean comes to the threshold, and what follows."""
    known = [i for i, mean in enumerate(curve["mean"]) if mean is not None]
    nearest = min(known, key=lambda i: abs((curve["mean"][i] or 0.0) - threshold))
    extreme = "lowest" if side == "above" else "highest"
    said = (
        f"{capital(facts['label'])} stays {side} {threshold:g} from {curve['axis']} {curve['x'][0]:g} to "
        f"{curve['x'][-1]:g}: its {extreme} mean is {with_interval(_at(curve, nearest))}, at {curve['x'][nearest]:g}."
    )
    if facts["direction"] == "neutral":
        return said
    verdict = "any of these levels will do" if side == wanted else "none of these levels will do"
    low, high = curve["low"][nearest], curve["high"][nearest]
    if low is not None and high is not None and low <= threshold <= high:
        verdict += " on average, but that interval reaches beyond"
    return f"{said} To keep it {wanted} {threshold:g}, {verdict}."


def _at(curve: Curve, i: int) -> Estimate:
    """The mean at a level."""
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
    said = f" Mind: {at['reason']}." if at["low"] is not None and at["reason"] else ""
    said += _interpolated(curve, at)
    for warning in curve["warnings"]:
        if warning["kind"] == "violated":
            said += " The curve is not monotone, so a second passing cannot be ruled out."
        if warning["kind"] == "saturated":
            said += f" {capital(warning['message'])}."
    return said


def _interpolated(curve: Curve, at: Estimate) -> str:
    """That the interval knows nothing of what happens between two levels, where it lies between them."""
    value, low, high = at["value"], at["low"], at["high"]
    if value is None or low is None or high is None:
        return ""
    around = [(a, b) for a, b in pairwise(curve["x"]) if a <= low and high <= b]
    return f" That is read between {around[0][0]:g} and {around[0][1]:g}, where nothing was tested." if around else ""


def half_range(curve: Curve, facts: MetricFacts) -> Sentence:
    """From where to where the metric goes along the axis, and where half of that is done."""
    text = _way(curve, capital(facts["label"]))
    return make_sentence("recommendation", text, metric=facts["name"], axis=curve["axis"])


def _way(curve: Curve, label: str) -> str:
    half, axis = curve["half"], curve["axis"]
    known = [i for i, mean in enumerate(curve["mean"]) if mean is not None]
    if len(known) < 2:
        return f"{label} along {axis}: {half['reason']}."
    if half["reason"] == FLAT:
        return f"{label} does not change measurably along {axis} (n = {format_count(half['n'], 'seed')})."
    ends = [(_at(curve, i), curve["x"][i]) for i in (known[0], known[-1])]
    first, last = (f"{interval_text(mean)} at {x:g}" for mean, x in ends)
    basis = _basis(ends[-1][0])
    if half["value"] is None:
        why = "the curve goes up and down" if half["reason"] == UNEVEN else half["reason"]
        return (
            f"{label} along {axis} is {first} and {last} ({basis}). Where half of that is passed cannot be said: {why}."
        )
    verb = "falls" if curve["falling"] else "rises"
    way = f"{label} {verb} along {axis} from {first} to {last}, half of it by {interval_text(half)} ({basis})."
    return way + _caveat(curve, half)


def _basis(estimate: Estimate) -> str:
    """What is common to several intervals."""
    if estimate["low"] is None:
        return f"no interval: {estimate['reason']}"
    return f"{CONFIDENCE:.0%}".replace("%", " %") + f", n = {format_count(estimate['n'], 'seed')}"


def shares_text(effects: Effects, facts: MetricFacts) -> Sentence:
    """Which axis explains how much."""
    if not effects["shares"]:
        text = f"What explains {facts['label']} cannot be said: {effects['reason']}."
        return make_sentence("limit", text, metric=facts["name"])
    named = [s for s in effects["shares"] if len(s["axes"]) == 1][:4]
    named += [s for s in effects["shares"] if len(s["axes"]) > 1 and (s["share"]["value"] or 0) >= WORTH_NAMING][:1]
    parts = [
        f"{' × '.join(s['axes'])} {'explains ' if not i else ''}{percent(s['share'])}" for i, s in enumerate(named)
    ]
    basis = _basis(named[0]["share"])
    note = f" {capital(effects['reason'])}." if effects["reason"] else ""
    images = format_count(effects["n"], "image")
    text = f"Of the variance of {facts['label']}, {', '.join(parts)} ({basis}; {images}).{note}"
    return make_sentence("share", text, metric=facts["name"])


def difference_text(found: Sequence[Difference], facts: MetricFacts) -> list[Sentence]:
    """The largest difference between levels of each axis that is not numeric, or that there is none to speak of."""
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
    a, b = level_text(top["a"]), level_text(top["b"])
    if (change["value"] or 0.0) < 0:
        a, b, change = b, a, negated(change)
    if not sure and any(d["significant"] is not None for d in pairs):
        largest = f"{b} and {a} are {with_interval(change)} apart"
        if len(pairs) == 1:
            return f"In {facts['label']} the levels of {axis} cannot be told apart: {largest}."
        return f"In {facts['label']} no two levels of {axis} can be told apart (Holm-corrected): at most, {largest}."
    text = f"{capital(facts['label'])} is higher with {axis} {b} than with {a}, by {with_interval(change)}"
    if not sure or len(pairs) == 1:
        return f"{text}."
    return f"{text}; {len(sure)} of {len(pairs)} pairs of levels differ (Holm-corrected)."


def skewed_text(found: Sequence[Difference], facts: MetricFacts) -> list[Sentence]:
    """Of which axes' differences the intervals are not to be trusted wholly."""
    axes = dict.fromkeys(d["axis"] for d in found if d["difference"]["reason"] == SKEWED)
    return [
        make_sentence(
            "limit",
            f"Mind of every interval of a difference in {facts['label']} along {axis}: {SKEWED}.",
            metric=facts["name"],
            axis=axis,
        )
        for axis in axes
    ]


def seed_text(rows: Sequence[SeedRow], facts: MetricFacts) -> list[Sentence]:
    """The seeds at both ends of the ranking."""
    if len(rows) < 2:
        return []
    best, last = rows[0], rows[-1]
    spread = abs(best["deviation"] - last["deviation"])
    nearest = "nearest to the reference" if facts["direction"] != "neutral" else "highest"
    counts = sorted({row["n"] for row in rows})
    text = (
        f"In {facts['label']}, seed {best['seed']} is {nearest} on average and seed {last['seed']} "
        f"{'farthest' if facts['direction'] != 'neutral' else 'lowest'}, {figure(spread)} apart "
        f"(n = {'–'.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} images a seed, descriptive: "
        "no interval for single seeds)."
    )
    return [make_sentence("seed", text, metric=facts["name"], axis=None)]


def noise_text(noise: Sequence[NoiseFacts], determinism: Determinism | None, facts: MetricFacts) -> list[Sentence]:
    """How much of what is seen is there when nothing changes."""
    said = [make_sentence("noise", determinism["message"])] if determinism else []
    for row in noise:
        if row["metric"] != facts["name"]:
            continue
        if row["replicate"]["value"]:
            text = f"Repeats of one point differ in {facts['label']} by a standard deviation of "
            said.append(make_sentence("noise", f"{text}{with_interval(row['replicate'])}.", metric=facts["name"]))
        if row["floor"]["value"] is not None and row["floor_at"] is not None and facts["reference"] == "image":
            text = f"At strength {row['floor_at']:g} {facts['label']} is {with_interval(row['floor'])}: "
            said.append(make_sentence("noise", f"{text}what encoding and decoding alone do.", metric=facts["name"]))
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
            f"Images differ most between seeds at {cell_text(high)}: {facts[metric]['label']} "
            f"{with_interval(high['value'])}. They differ least at {cell_text(low)}: {with_interval(low['value'])}."
        )
        said.append(make_sentence("diversity", text, metric=metric))
    return said
