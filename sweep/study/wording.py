"""The findings of a study as sentences: a number always with its interval and n, or with the reason for none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sweep.study.schema import (
    AdaptiveResult,
    AxisDistance,
    Choices,
    Curve,
    Determinism,
    Difference,
    DiversityCell,
    Effects,
    Estimate,
    Group,
    Hold,
    LevelValue,
    MetricFacts,
    NoiseFacts,
    Recommendation,
    Sentence,
    StudyJson,
)
from sweep.study.stats.curves import BRACKET, UNEVEN
from sweep.study.stats.intervals import CONFIDENCE, make_estimate
from sweep.text import format_count, format_value, truncate

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
    return "none" if level is None else format_value(level)


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
    levels = [f"{name_axis(name)} {write_level(level)}" for name, level in cell["cell"].items()]
    return ", ".join(levels) or "the only point"


def capitalise(text: str) -> str:
    """Capitalise the start of a sentence."""
    is_name = text.startswith("pHash") or "." in text.partition(" ")[0]  # an address: decode.tiled
    return text if is_name else text[:1].upper() + text[1:]


ENOUGH_SEEDS = 8  # from which advice is not called that of few seeds
WORTH_NAMING = 0.05  # share of variance from which an interaction is named
MOST_COUNTS = 3  # levels whose counts follow the advised one
FAR_ENOUGH = 8.0  # robust standard deviations from which an image has a sentence of its own
SCALES = (("structure_fine", "fine detail"), ("structure_middle", "shapes"), ("structure_coarse", "layout"))


def name_axis(name: str) -> str:
    """Write an axis for a sentence: spaces instead of underscores."""
    return name.replace("_", " ")


def _write_mark(wanted: str, threshold: float) -> str:
    return f"{threshold:g} or {'more' if wanted == 'above' else 'less'}"


def describe_recommendation(advice: Recommendation, fact: MetricFacts, data: StudyJson) -> Sentence:
    """Write which level to use, the counts behind it, and what they cannot say."""
    axis = advice["axis"]
    counts = [
        hold
        for hold in data["holds"]
        if (hold["metric"], hold["axis"], hold["threshold"]) == (fact["name"], axis, advice["threshold"])
        and not hold["group"]
    ]
    counts = counts[::-1] if advice["side"] == "from" else counts
    text = _write_advice(advice, fact, counts)
    parts = [_write_weakest(advice, fact), _write_breadth(advice, data), _write_gap(advice), _write_mean(advice)]
    rows = _find_rows(data, {axis: advice["use"]}) if advice["use"] is not None else []
    detail = " ".join(part for part in parts if part)
    return make_sentence("recommendation", text, detail, metric=fact["name"], axis=axis, rows=rows)


def _write_advice(advice: Recommendation, fact: MetricFacts, counts: Sequence[Hold]) -> str:
    axis, label, mark = name_axis(advice["axis"]), fact["label"], _write_mark(advice["wanted"], advice["threshold"])
    kept = f"{label} stayed at {mark}"
    if fact["name"] == "rating":
        kept = f"{advice['threshold']:g} stars or more"
    held = f"in {advice['held']} of {format_count(advice['images'], 'image')}"
    if advice["use"] is None:
        first = counts[0]
        extreme = "highest" if advice["side"] == "from" else "lowest"
        if not any(hold["held"] for hold in counts):
            return f"No {axis} tested keeps {label} at {mark}: no image of any level held."
        place = f"{held} at {first['level']:g}, the {extreme}"
        return f"No {axis} tested is safe for every image: {kept} {place}."
    later = counts[[hold["level"] for hold in counts].index(advice["use"]) + 1 :]
    if not later:
        return f"Any {axis} tested will do: {kept} {held} at {advice['use']:g} and at every other level."
    limit = "or more" if advice["side"] == "from" else "or less"
    first_counts = [f"in {hold['held']} of {hold['images']} at {hold['level']:g}" for hold in later[:MOST_COUNTS]]
    return f"Use {axis} {advice['use']:g} {limit}: {kept} {held} at {advice['use']:g}, {', '.join(first_counts)}."


def _write_weakest(advice: Recommendation, fact: MetricFacts) -> str:
    if advice["weakest_group"] is None:
        return ""
    ((name, level),) = advice["weakest_group"].items()
    low, high = advice["bracket_low"], advice["bracket_high"]
    where = (
        f"at {high:g}, the first level tested"
        if low is None
        else f"between {name_axis(advice['axis'])} {low:g} and {high:g}"
    )
    miss = "rise above" if fact["direction"] == "lower" else "fall below"
    return f"First {name_axis(name)} to {miss} {advice['threshold']:g}: {write_level(level)}, {where}."


def _write_miss(fact: MetricFacts | None, threshold: float) -> str:
    return f"{'rose above' if fact and fact['direction'] == 'lower' else 'fell below'} {threshold:g}"


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
    shown = make_estimate(value, low, high)
    is_gap = advice["method"] == BRACKET
    where = f"between {low:g} and {high:g}" if is_gap else f"at {write_interval(shown)}"
    return f"(The mean over all images passes {advice['threshold']:g} {where}; single images miss it earlier.)"


def describe_scales(data: StudyJson, axis: str) -> list[Sentence]:
    """Write in which order detail, shapes and layout change along an axis."""
    found = []
    for name, label in SCALES:
        curve = next((c for c in data["curves"] if c["metric"] == name and c["axis"] == axis and not c["group"]), None)
        if curve is not None and curve["half"]["value"] is not None and curve["half"]["low"] is not None:
            found.append((label, curve["half"]))
    if len(found) < 2:
        return []
    found.sort(key=lambda pair: pair[1]["value"] or 0.0)
    places = [f"half of the {label} {_write_place(half)}" for label, half in found]
    is_first = (found[0][1]["high"] or 0.0) <= (found[1][1]["low"] or 0.0)
    start = f"{capitalise(found[0][0])} changes first along {name_axis(axis)}" if is_first else None
    text = f"{start or f'Along {name_axis(axis)} the image changes in this order'}: {join_words(places)}."
    detail = f"(Tested levels, n = {write_units(found[0][1])}.)"
    detail += f" So compare {found[0][0]} only at levels before that." if is_first else ""
    return [make_sentence("curve", text, detail, metric=None, axis=axis)]


def _write_place(at: Estimate) -> str:
    if at["method"] == BRACKET:
        return f"between {at['low']:g} and {at['high']:g}"
    return f"by {write_interval(at)}"


def describe_curve(curve: Curve, fact: MetricFacts) -> list[Sentence]:
    """Write how a metric changes along an axis, or that it does not."""
    label, axis = capitalise(fact["label"]), name_axis(curve["axis"])
    kinds = {warning["kind"]: warning for warning in curve["warnings"]}
    known = [i for i, mean in enumerate(curve["mean"]) if mean is not None]
    if len(known) < 2 or curve["falling"] is None:
        return []
    if "flat" in kinds:
        text = f"{label}: no change along {axis}. Choose it freely."
        return [make_sentence("curve", text, metric=fact["name"], axis=curve["axis"])]
    is_sure = is_shown(curve["p_adjusted"])
    if "unclear" in kinds or (not is_sure and curve["p"] is not None and max(curve["n"]) > 2):
        seeds = format_count(max(curve["n"]), "seed")
        text = f"No change of {fact['label']} along {axis} was found with {seeds}."
        return [
            make_sentence("limit", text, "More seeds could still show one.", metric=fact["name"], axis=curve["axis"])
        ]
    first, last = (_write_end(curve, i) for i in (known[0], known[-1]))
    verb = "falls" if curve["falling"] else "rises"
    half = curve["half"]
    passed = [c for c in curve["crossings"] if c["at"]["value"] is not None and fact["direction"] == "neutral"]
    if half["reason"] == UNEVEN and is_sure and "violated" in kinds:
        text = f"{label} goes up and down along {axis}: {first}, {last}."
    elif _do_overlap(curve, known[0], known[-1]):
        return []  # seeds differ by more than both ends do
    elif half["value"] is None or not is_sure:
        text = f"{label}: {first} and {last} along {axis}."
    else:
        text = f"{label} {verb} along {axis} from {first} to {last}{_write_half(half, curve)}."
    parts = [f"It passes {c['threshold']:g} {_write_place(c['at'])}." for c in passed]
    parts += [_write_basis(curve)]
    parts += [
        f"{capitalise(w['message'])}."
        for w in curve["warnings"]
        if w["kind"] == "saturated" and verb in text and curve["low"][0] is not None
    ]
    detail = " ".join(parts)
    return [make_sentence("curve", text, detail, metric=fact["name"], axis=curve["axis"])]


def is_shown(p: float | None) -> bool:
    """Tell whether a test, corrected for all comparisons, shows an effect."""
    return p is not None and p < 1 - CONFIDENCE


def _write_half(half: Estimate, curve: Curve) -> str:
    """Write where half of a change lies, where that says something: within half of the range."""
    low, high = half["low"], half["high"]
    if low is None or high is None or high - low > (curve["x"][-1] - curve["x"][0]) / 2:
        return ""
    return f"; half of this change lies {_write_place(half)}"


def _do_overlap(curve: Curve, first: int, last: int) -> bool:
    """Tell whether the intervals at both ends overlap; without intervals they do not."""
    (a, b), (c, d) = ((curve["low"][i], curve["high"][i]) for i in (first, last))
    return a is not None and b is not None and c is not None and d is not None and max(a, c) <= min(b, d)


def _write_end(curve: Curve, i: int) -> str:
    value, low, high = curve["mean"][i], curve["low"][i], curve["high"][i]
    return f"{write_interval(make_estimate(value, low, high))} at {curve['x'][i]:g}"


def _write_basis(curve: Curve) -> str:
    n = max(curve["n"], default=0)
    if all(low is None for low in curve["low"]):
        return f"({curve['interval']})"
    return f"({CONFIDENCE * 100:.0f} %, n = {format_count(n, 'seed')})"


def describe_shares(effects: Effects, fact: MetricFacts) -> list[Sentence]:
    """Write how much each axis explains, or in which order."""
    mains = [share for share in effects["shares"] if len(share["axes"]) == 1]
    if len(mains) < 2:
        return []
    names = [name_axis(share["axes"][0]) for share in mains[:4]]
    if mains[0]["share"]["value"] is None:
        text = f"Most important for {fact['label']}: {', then '.join(names)}."
        return [
            make_sentence(
                "share",
                text,
                f"({capitalise(effects['reason'] or mains[0]['share']['reason'] or '')}.)",
                metric=fact["name"],
            )
        ]
    parts = [f"{name} {write_percent(share['share'])}" for name, share in zip(names, mains, strict=False)]
    pairs = [s for s in effects["shares"] if len(s["axes"]) > 1 and (s["share"]["value"] or 0) >= WORTH_NAMING]
    parts += [f"{' with '.join(map(name_axis, s['axes']))} {write_percent(s['share'])}" for s in pairs[:1]]
    if not (mains[0]["share"]["value"] or pairs):
        return []
    text = f"{capitalise(names[0])} makes most of the change in {fact['label']}: {', '.join(parts)} of the variance."
    if pairs and (pairs[0]["share"]["value"] or 0) > (mains[0]["share"]["value"] or 0):
        first, second = map(name_axis, pairs[0]["axes"])
        text = f"What {first} does to {fact['label']} depends on {second}: {', '.join(parts)} of the variance."
    basis = f"{format_count(effects['n'], 'image')}, n = {format_count(mains[0]['share']['n'], 'seed')}"
    detail = f"({basis}; estimates, no interval.)"
    if effects["reason"]:
        detail += f" {capitalise(effects['reason'])}."
    return [make_sentence("share", text, detail, metric=fact["name"])]


def describe_differences(found: Sequence[Difference], fact: MetricFacts, data: StudyJson) -> list[Sentence]:
    """Write the largest difference between levels of each axis that is not numeric, or that none was found."""
    said = []
    for axis in dict.fromkeys(d["axis"] for d in found):
        pairs = [d for d in found if d["axis"] == axis and d["difference"]["value"] is not None]
        if pairs and any(d["difference"]["value"] for d in pairs) and any(d["p"] is not None for d in pairs):
            said.append(_describe_largest(axis, pairs, fact, data))
    return [sentence for sentence in said if sentence is not None]


def _describe_largest(axis: str, pairs: Sequence[Difference], fact: MetricFacts, data: StudyJson) -> Sentence | None:
    sure = [d for d in pairs if d["significant"]]
    top = max(sure or pairs, key=lambda d: abs(d["difference"]["value"] or 0.0))
    change = top["difference"]
    a, b = top["a"], top["b"]
    if (change["value"] or 0.0) < 0:
        a, b, change = b, a, negate(change)
    label, named = fact["label"], name_axis(axis)
    together = f", for all {top['pairs']} pairs of levels together" if top["pairs"] > 1 else ""
    if not sure:
        low, high = change["low"] or 0.0, change["high"] or 0.0
        seen = [value for value in data["rows"]["metrics"][fact["name"]] if value is not None]
        if max(abs(low), abs(high)) > max(seen) - min(seen):
            return None  # with so few seeds any difference is possible
        most = write_number(max(abs(low), abs(high)))
        text = f"No difference in {label} between levels of {named} was found; one of up to {most} is possible."
        detail = f"(95 %{together}, n = {write_units(change)}.)"
        if low > 0:
            text = f"{capitalise(label)} may differ between levels of {named}, or seem to by chance."
            detail = "So many comparisons were made that this difference shows nothing yet: render more seeds."
        return make_sentence("limit", text, detail, metric=fact["name"], axis=axis)
    higher = f"{capitalise(label)} is higher with {named} {write_level(b)}"
    text = f"{higher} than with {write_level(a)}, by {write_estimate(change)}."
    detail = ""
    if top["pairs"] > 1:
        detail = f"{len(sure)} of {top['pairs']} pairs of levels differ (95 % for all together). "
        detail += "The largest difference is shown, so the true one is probably smaller."
    rows = [row for level in (b, a) for row in _find_rows(data, {axis: level})[:3]]
    return make_sentence("difference", text, detail, metric=fact["name"], axis=axis, rows=rows)


def _find_rows(data: StudyJson, group: Group, most: int = 8) -> list[int]:
    """Find the first rows with an image at these levels."""
    rows = data["rows"]
    columns = [(rows["axes"][name], level) for name, level in group.items()]
    found = (i for i in range(len(rows["key"])) if all(column[i] == level for column, level in columns))
    return [i for i, _ in zip(found, range(most), strict=False)]


def describe_equal(data: StudyJson) -> list[Sentence]:
    """Write which levels of an axis give the same image."""
    said = []
    for axis in data["equal"]:
        name, pairs, levels = axis["axis"], axis["pairs"], axis["levels"]
        if axis["all"]:
            text = f"{capitalise(name_axis(name))} changes nothing: all {levels} levels gave the same images."
        else:
            written = "; ".join(f"{write_level(a)} and {write_level(b)}" for a, b in pairs[:3])
            text = f"Some levels of {name_axis(name)} gave the same image: {written}."
        said.append(make_sentence("equal", text, "(Compared pixel by pixel, everything else equal.)", axis=name))
    return said


def describe_outliers(data: StudyJson, fact: MetricFacts) -> list[Sentence]:
    """Write which image is far from what its settings predict."""
    far = [o for o in data["outliers"] if o["metric"] == fact["name"] and abs(o["score"]) >= FAR_ENOUGH]
    if not far or fact["reference"] == "cell":
        return []
    top, rows = far[0], data["rows"]
    varying = [axis["name"] for axis in data["design"]["axes"] if len(axis["levels"]) > 1]
    cell = ", ".join(f"{name_axis(name)} {write_level(rows['axes'][name][top['row']])}" for name in varying)
    more = f" {len(far) - 1} more images are as odd." if len(far) > 1 else ""
    text = (
        f"Look at image {rows['index'][top['row']]} ({cell}): its {fact['label']} is {write_number(top['value'])}, "
        f"where the others predict {write_number(top['expected'])}.{more}"
    )
    detail = "If it is broken, render it again with sweep redo, or leave it out: it moves every mean it is part of."
    return [make_sentence("outlier", text, detail, metric=fact["name"], rows=[o["row"] for o in far[:8]])]


def describe_noise(noise: Sequence[NoiseFacts], determinism: Determinism | None, fact: MetricFacts) -> list[Sentence]:
    """Write what a metric does when nothing is changed."""
    said = [make_sentence("noise", determinism["message"])] if determinism else []
    for row in noise:
        if row["metric"] != fact["name"]:
            continue
        if row["replicate"]["value"]:
            text = f"Repeats of one point differ in {fact['label']} by a standard deviation of "
            said.append(make_sentence("noise", f"{text}{write_estimate(row['replicate'])}.", metric=fact["name"]))
        if row["floor"]["value"] is not None and row["floor_at"] is not None and fact["reference"] == "image":
            text = f"{capitalise(fact['label'])} is {write_estimate(row['floor'])} at strength {row['floor_at']:g}"
            text += ", where the image is only encoded and decoded: expect no better value."
            said.append(make_sentence("noise", text, metric=fact["name"]))
    return said


def describe_diversity(cells: Sequence[DiversityCell], facts: Mapping[str, MetricFacts]) -> list[Sentence]:
    """Write the most and the least diverse cell, where their intervals do not overlap."""
    said = []
    for metric in dict.fromkeys(cell["metric"] for cell in cells):
        known = [c for c in cells if c["metric"] == metric and c["value"]["low"] is not None]
        if len(known) < 2:
            continue
        ranked = sorted(known, key=lambda c: c["value"]["value"] or 0.0)
        low, high = ranked[0], ranked[-1]
        if (low["value"]["high"] or 0.0) >= (high["value"]["low"] or 0.0):
            continue
        text = (
            f"Seeds differ most at {write_cell(high)}: {facts[metric]['label']} {write_estimate(high['value'])}. "
            f"They differ least at {write_cell(low)}: {write_estimate(low['value'])}."
        )
        said.append(make_sentence("diversity", text, metric=metric))
    return said


def describe_distances(distances: Sequence[AxisDistance]) -> list[Sentence]:
    """Write which axis decides a text-to-image grid, with a new seed as the yardstick."""
    colour = [d for d in distances if d["metric"] == "colour"]
    words = [d for d in colour if not d["seed"]]
    seed = next((d for d in colour if d["seed"]), None)
    if not words:
        return []
    names = [f"{name_axis(d['axis'])} {write_number(d['mean'])}" for d in words]
    top = words[0]
    text = f"{capitalise(name_axis(top['axis']))} decides the image."
    weak = [name_axis(d["axis"]) for d in words if seed is not None and d["mean"] < seed["mean"]]
    if seed is not None and top["mean"] < seed["mean"]:
        text = "No axis changes the image as much as a new seed does."
    elif weak:
        text += f" {capitalise(' and '.join(weak))} change{'s' if len(weak) == 1 else ''} less than a new seed does."
    yard = f"; two seeds of the same prompt {write_number(seed['mean'])}" if seed else ""
    pairs = format_count(sum(d["pairs"] for d in words), "pair")
    detail = (
        f"Mean colour difference of images that differ in one axis alone: {', '.join(names)}{yard} "
        f"(2 is about a just visible step; {pairs}, no interval)."
    )
    return [make_sentence("word", text, detail, axis=top["axis"], rows=[top["a"][0], top["b"][0]] if top["a"] else [])]


def describe_choices(choices: Sequence[Choices]) -> list[Sentence]:
    """Write which level was preferred in blind choices, and which order is open."""
    said = []
    for each in choices:
        best = [rank for rank in each["ranking"] if rank["rank_low"] == 1]
        names = " and ".join(write_level(rank["level"]) for rank in best)
        if len(best) == len(each["ranking"]):
            count = format_count(each["choices"], "blind choice")
            text = f"Your {count} do not yet separate levels of {name_axis(each['axis'])}."
        else:
            open_ = " Which of them comes first is open." if len(best) > 1 else ""
            text = f"You chose {name_axis(each['axis'])} {names} over the others.{open_}"
        twice = (
            f"; of {each['repeated']} pairs that came twice you chose {each['alike']} alike" if each["repeated"] else ""
        )
        detail = f"({format_count(each['choices'], 'pair')}, chosen blind, {each['ties']} of them undecided{twice}.)"
        said.append(make_sentence("choice", text, detail, axis=each["axis"]))
    return said


def describe_search(found: AdaptiveResult | None, facts: Mapping[str, MetricFacts], data: StudyJson) -> list[Sentence]:
    """Write which level an adaptive design advises, which group misses first, and how the design ended."""
    if found is None or all(group["mean"] is None for group in found["groups"]):
        return []
    fact, axis = facts.get(found["metric"]), name_axis(found["axis"])
    label = fact["label"] if fact else found["metric"]
    mark = _write_mark("below" if fact and fact["direction"] == "lower" else "above", found["threshold"])
    rising = any(group["is_rising"] for group in found["groups"])
    if found["use"] is None:
        text = f"No {axis} tested is safe for every image: {label} is not at {mark} even at the first level."
    else:
        limit = "more" if rising else "less"
        text = f"Use {axis} {found['use']:g} or {limit}: {label} stayed at {mark} with every seed rendered."
    weakest = _write_weakest_found(found, fact)
    rows = _find_rows(data, {found["axis"]: found["use"]}) if found["use"] is not None else []
    return [
        make_sentence("recommendation", text, weakest, metric=found["metric"], axis=found["axis"], rows=rows),
        make_sentence("curve", _write_ending(found), _write_crossing(found), axis=found["axis"]),
    ]


def _write_weakest_found(found: AdaptiveResult, fact: MetricFacts | None) -> str:
    weakest = next((group for group in found["groups"] if group["group"] == found["weakest"]), None)
    if weakest is None or len(found["groups"]) < 2 or weakest["lowest"] is None or weakest["highest"] is None:
        return ""
    names = " and ".join(name_axis(name) for name in weakest["group"])
    low, high = weakest["lowest"], weakest["highest"]
    where = f"at {low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"between {low:.3g} and {high:.3g}"
    if not weakest["inside"]:
        return ""
    others = [group for group in found["possible"] if group != weakest["group"]]
    miss = _write_miss(fact, found["threshold"])
    text = f"Weakest {names}: {_write_levels(weakest['group'])}, which {miss} {where}"
    text += f", depending on the seed ({format_count(weakest['n'], 'seed')})."
    if found["goal"] == "weakest" and others and found["ending"]:
        text += f" {capitalise(' and '.join(map(_write_levels, others[:3])))} may be as weak."
    return text


def _write_levels(group: Group) -> str:
    return ", ".join(write_level(level) for level in group.values())


def _write_crossing(found: AdaptiveResult) -> str:
    if found["crossing"]["value"] is None or found["goal"] == "weakest":
        return ""
    groups = " and ".join(name_axis(name) for name in (found["weakest"] or {}))
    return f"(Found for each seed{f' of each {groups}' if groups else ''} by itself, then averaged.)"


def _write_ending(found: AdaptiveResult) -> str:
    at, images = found["crossing"], f"{found['used']} of the {found['full']:,} images of the full grid"
    place = f": on average images pass {found['threshold']:g} at {name_axis(found['axis'])} {write_estimate(at)}"
    place = "" if at["value"] is None or found["goal"] == "weakest" else place
    if found["ending"] is None:
        return f"Not at its end yet, with {images}{place}."
    why = ""
    if found["ending"] == "budget spent" and found["goal"] == "each":
        spent = "every seed is used" if found["seeds"] == found["seeds_there"] else "no more images are allowed"
        why = f" ({spent}; ±{found['within']:g} was asked)"
    return f"{capitalise(found['ending'])}{why} with {images}{place}."


def describe_metric_findings(fact: MetricFacts, data: StudyJson, *, is_main: bool) -> list[Sentence]:
    """Write all sentences about one metric; of others than the main one only advice and what is shown."""
    name = fact["name"]
    said = [describe_recommendation(r, fact, data) for r in data["recommendations"] if r["metric"] == name]
    curves = [curve for curve in data["curves"] if curve["metric"] == name and not curve["group"]]
    curves = [curve for curve in curves if is_main or is_shown(curve["p_adjusted"])]
    said += [sentence for curve in curves for sentence in describe_curve(curve, fact)]
    if is_main:
        said += [s for each in data["effects"] if each["metric"] == name for s in describe_shares(each, fact)]
    numeric = {axis["name"] for axis in data["design"]["axes"] if axis["numeric"]}
    pairs = [d for d in data["differences"] if d["metric"] == name and d["axis"] not in numeric]
    said += [s for s in describe_differences(pairs, fact, data) if is_main or s["kind"] == "difference"]
    said += describe_outliers(data, fact)
    return said + (describe_noise(data["noise"], data["determinism"], fact) if is_main else [])


def describe_unshown(data: StudyJson, facts: Mapping[str, MetricFacts], main: str | None) -> list[Sentence]:
    """Write, once for each axis, on which metrics but the main one no effect of it is shown."""
    if 0 < data["design"]["seeds"] < 3:
        text = f"{write_number_word(data['design']['seeds'])} seeds are too few to tell small effects from chance"
        return [make_sentence("limit", f"{text}: four are useful.")] if data["design"]["seeds"] == 2 and facts else []
    tests = [*(curve for curve in data["curves"] if not curve["group"]), *data["differences"]]
    numeric = {curve["axis"] for curve in data["curves"]}
    tests = [test for test in tests if "x" in test or test["axis"] not in numeric]
    said = []
    for axis in dict.fromkeys(test["axis"] for test in tests):
        tested = {test["metric"] for test in tests if test["axis"] == axis and test["p_adjusted"] is not None}
        shown = {test["metric"] for test in tests if test["axis"] == axis and is_shown(test["p_adjusted"])}
        if names := [fact["label"] for name, fact in facts.items() if name in tested - shown - {main}]:
            text = f"No effect of {name_axis(axis)} is shown on {join_words(names)}."
            said.append(make_sentence("limit", text, "More seeds could still show one.", axis=axis))
    return said


def join_words(words: Sequence[str]) -> str:
    """Join words for a sentence."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
