"""The sentences of a study, about one thing each: a curve, a difference, an outlier, a limit of the design.

A number always stands with its interval and n, or with the reason for none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from sweep.study.stats.intervals import CONFIDENCE, make_estimate
from sweep.study.stats.response_curves import BRACKET, UNEVEN
from sweep.study.study_json import (
    AdaptiveResult,
    AxisDistance,
    Choices,
    Curve,
    DesignFacts,
    Difference,
    DiversityCell,
    Effects,
    Estimate,
    Group,
    LevelValue,
    MetricFacts,
    Sentence,
    StudyJson,
)
from sweep.text import format_count, format_value, truncate

_SHORT = 48  # characters of a level in a sentence
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def make_sentence(
    kind: str,
    text: str,
    detail: str = "",
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


def write_cell(cell: Group) -> str:
    """Write a cell, or an image, by its levels."""
    return ", ".join(f"{name_axis(name)} {write_level(level)}" for name, level in cell.items()) or "the only point"


def capitalise(text: str) -> str:
    """Capitalise the start of a sentence."""
    is_name = text.startswith("pHash") or "." in text.partition(" ")[0]  # an address: decode.tiled
    return text if is_name else text[:1].upper() + text[1:]


WORTH_NAMING = 0.05  # share of variance from which an interaction is named

FAR_ENOUGH = 8.0  # robust standard deviations from which an image has a sentence of its own
SCALES = (("structure_fine", "fine detail"), ("structure_middle", "shapes"), ("structure_coarse", "layout"))


def name_axis(name: str) -> str:
    """Write an axis for a sentence: spaces instead of underscores."""
    return name.replace("_", " ")


def write_mark(wanted: str, threshold: float) -> str:
    return f"{threshold:g} or {'more' if wanted == 'above' else 'less'}"


def describe_scales(data: StudyJson, axis: str) -> Iterator[Sentence]:
    """Write in which order detail, shapes and layout change along an axis."""
    found = []
    for name, label in SCALES:
        curve = next((c for c in data["curves"] if c["metric"] == name and c["axis"] == axis and not c["group"]), None)
        if curve is not None and curve["half"]["value"] is not None and curve["half"]["low"] is not None:
            found.append((label, curve["half"]))
    if len(found) < 2:
        return
    found.sort(key=lambda pair: pair[1]["value"] or 0.0)
    places = [f"half of the {label} {write_place(half)}" for label, half in found]
    is_first = (found[0][1]["high"] or 0.0) <= (found[1][1]["low"] or 0.0)
    start = f"Along {name_axis(axis)} the image changes in this order"
    detail = f"(Tested levels, n = {write_units(found[0][1])}.)"
    if is_first:
        start = f"{capitalise(found[0][0])} changes first along {name_axis(axis)}"
        detail += f" So compare {found[0][0]} only at levels before that."
    yield make_sentence("curve", f"{start}: {join_words(places)}.", detail, axis=axis)


def write_place(at: Estimate) -> str:
    if at["method"] == BRACKET:
        return f"between {at['low']:g} and {at['high']:g}"
    return f"by {write_interval(at)}"


def describe_curve(curve: Curve, fact: MetricFacts) -> Iterator[Sentence]:
    """Write how a metric changes along an axis, or that it does not."""
    label, axis, about = capitalise(fact["label"]), name_axis(curve["axis"]), (fact["name"], curve["axis"])
    kinds = {warning["kind"] for warning in curve["warnings"]}
    known = [i for i, mean in enumerate(curve["mean"]) if mean is not None]
    if len(known) < 2 or curve["falling"] is None:
        return
    is_sure, verb = is_shown(curve["p_adjusted"]), "falls" if curve["falling"] else "rises"
    if "flat" in kinds:
        yield make_sentence("curve", f"{label}: no change along {axis}. Choose it freely.", "", *about)
    elif "unclear" in kinds or (not is_sure and curve["p"] is not None and max(curve["n"]) > 2):
        text = f"No change of {fact['label']} along {axis} was found with {format_count(max(curve['n']), 'seed')}."
        yield make_sentence("limit", text, "More seeds could still show one.", *about)
    elif text := _write_change(curve, label, verb, (known[0], known[-1]), is_uneven=is_sure and "violated" in kinds):
        passed = [c for c in curve["crossings"] if c["at"]["value"] is not None and fact["direction"] == "neutral"]
        basis = f"{CONFIDENCE * 100:.0f} %, n = {format_count(max(curve['n']), 'seed')}"
        has_intervals = any(low is not None for low in curve["low"])
        is_plain = verb in text and curve["low"][0] is not None
        parts = [
            *(f"It passes {c['threshold']:g} {write_place(c['at'])}." for c in passed),
            f"({basis if has_intervals else curve['interval']})",
            *(f"{capitalise(w['message'])}." for w in curve["warnings"] if w["kind"] == "saturated" and is_plain),
        ]
        yield make_sentence("curve", text, " ".join(parts), *about)


def _write_change(curve: Curve, label: str, verb: str, ends: tuple[int, int], *, is_uneven: bool) -> str:
    """Write the values at both ends; nothing where seeds differ by more than these do."""
    axis = name_axis(curve["axis"])
    means, lows, highs = ([curve[name][i] for i in ends] for name in ("mean", "low", "high"))
    shown = zip(means, lows, highs, [curve["x"][i] for i in ends], strict=True)
    first, last = (f"{write_interval(make_estimate(mean, low, high))} at {x:g}" for mean, low, high, x in shown)
    half = curve["half"]
    if half["reason"] == UNEVEN and is_uneven:
        return f"{label} goes up and down along {axis}: {first}, {last}."
    bounds = [v for v in (*lows, *highs) if v is not None]
    if len(bounds) == 4 and max(bounds[:2]) <= min(bounds[2:]):
        return ""
    if half["value"] is None or not is_shown(curve["p_adjusted"]):
        return f"{label}: {first} and {last} along {axis}."
    place = ""
    if half["low"] is not None and half["high"] is not None:
        is_narrow = half["high"] - half["low"] <= (curve["x"][-1] - curve["x"][0]) / 2  # else it says nothing
        place = f"; half of this change lies {write_place(half)}" if is_narrow else ""
    return f"{label} {verb} along {axis} from {first} to {last}{place}."


def is_shown(p: float | None) -> bool:
    """Tell whether a test, corrected for all comparisons, shows an effect."""
    return p is not None and p < 1 - CONFIDENCE


def describe_shares(effects: Effects, fact: MetricFacts) -> Iterator[Sentence]:
    """Write how much each axis explains, or in which order."""
    mains = [share for share in effects["shares"] if len(share["axes"]) == 1]
    if len(mains) < 2:
        return
    names, top = [name_axis(share["axes"][0]) for share in mains[:4]], mains[0]["share"]
    if top["value"] is None:
        detail = f"({capitalise(effects['reason'] or top['reason'] or '')}.)"
        yield make_sentence(
            "share", f"Most important for {fact['label']}: {', then '.join(names)}.", detail, fact["name"]
        )
        return
    pairs = [s for s in effects["shares"] if len(s["axes"]) > 1 and (s["share"]["value"] or 0) >= WORTH_NAMING]
    if not (top["value"] or pairs):
        return
    parts = [f"{name} {write_percent(share['share'])}" for name, share in zip(names, mains, strict=False)]
    parts += [f"{' with '.join(map(name_axis, s['axes']))} {write_percent(s['share'])}" for s in pairs[:1]]
    start = f"{capitalise(names[0])} makes most of the change in {fact['label']}"
    if pairs and (pairs[0]["share"]["value"] or 0) > (top["value"] or 0):
        first, second = map(name_axis, pairs[0]["axes"])
        start = f"What {first} does to {fact['label']} depends on {second}"
    basis = f"{format_count(effects['n'], 'image')}, n = {format_count(top['n'], 'seed')}"
    detail = f"({basis}; estimates, no interval.)" + (f" {capitalise(effects['reason'])}." if effects["reason"] else "")
    yield make_sentence("share", f"{start}: {', '.join(parts)} of the variance.", detail, fact["name"])


def describe_differences(found: Sequence[Difference], fact: MetricFacts, data: StudyJson) -> Iterator[Sentence]:
    """Write the largest difference between levels of each axis that is not numeric, or that none was found."""
    for axis in dict.fromkeys(d["axis"] for d in found):
        pairs = [d for d in found if d["axis"] == axis and d["difference"]["value"] is not None]
        if not (any(d["difference"]["value"] for d in pairs) and any(d["p"] is not None for d in pairs)):
            continue
        if sure := [d for d in pairs if d["significant"]]:
            yield _describe_largest(axis, sure, fact, data)
        else:
            yield from _describe_no_difference(axis, _find_largest(pairs), fact, data)


def _find_largest(pairs: Sequence[Difference]) -> Difference:
    """Find the largest difference, its levels in the order in which it is positive."""
    top = max(pairs, key=lambda d: abs(d["difference"]["value"] or 0.0))
    found = top["difference"]
    if (found["value"] or 0.0) >= 0:
        return top
    value, low, high = (None if v is None else -v for v in (found["value"], found["low"], found["high"]))
    turned = Estimate(**{**found, "value": value, "low": high, "high": low})
    return Difference(**{**top, "a": top["b"], "b": top["a"], "difference": turned})


def _describe_no_difference(axis: str, top: Difference, fact: MetricFacts, data: StudyJson) -> Iterator[Sentence]:
    change, label, named = top["difference"], fact["label"], name_axis(axis)
    low, high = change["low"] or 0.0, change["high"] or 0.0
    seen = [value for value in data["rows"]["metrics"][fact["name"]] if value is not None]
    most = max(abs(low), abs(high))
    if most > max(seen) - min(seen):
        return  # with so few seeds any difference is possible
    if low > 0:
        text = f"{capitalise(label)} may differ between levels of {named}, or seem to by chance."
        detail = "So many comparisons were made that this difference shows nothing yet: render more seeds."
    else:
        possible = f"one of up to {write_number(most)} is possible"
        text = f"No difference in {label} between levels of {named} was found; {possible}."
        together = f", for all {top['pairs']} pairs of levels together" if top["pairs"] > 1 else ""
        detail = f"(95 %{together}, n = {write_units(change)}.)"
    yield make_sentence("limit", text, detail, fact["name"], axis)


def _describe_largest(axis: str, sure: Sequence[Difference], fact: MetricFacts, data: StudyJson) -> Sentence:
    top = _find_largest(sure)
    higher = f"{capitalise(fact['label'])} is higher with {name_axis(axis)} {write_level(top['b'])}"
    text = f"{higher} than with {write_level(top['a'])}, by {write_estimate(top['difference'])}."
    detail = ""
    if top["pairs"] > 1:
        detail = f"{len(sure)} of {top['pairs']} pairs of levels differ (95 % for all together). "
        detail += "The largest difference is shown, so the true one is probably smaller."
    rows = [row for level in (top["b"], top["a"]) for row in find_rows(data, {axis: level})[:3]]
    return make_sentence("difference", text, detail, fact["name"], axis, rows)


def find_rows(data: StudyJson, group: Group, most: int = 8) -> list[int]:
    """Find the first rows with an image at these levels."""
    rows = data["rows"]
    columns = [(rows["axes"][name], level) for name, level in group.items()]
    found = (i for i in range(len(rows["key"])) if all(column[i] == level for column, level in columns))
    return list(islice(found, most))


def describe_equal(data: StudyJson) -> Iterator[Sentence]:
    """Write which levels of an axis give the same image."""
    for each in data["equal"]:
        name = name_axis(each["axis"])
        written = "; ".join(f"{write_level(a)} and {write_level(b)}" for a, b in each["pairs"][:3])
        text = f"Some levels of {name} gave the same image: {written}."
        if each["all"]:
            text = f"{capitalise(name)} changes nothing: all {each['levels']} levels gave the same images."
        yield make_sentence("equal", text, "(Compared pixel by pixel, everything else equal.)", axis=each["axis"])


def describe_outliers(data: StudyJson, fact: MetricFacts) -> Iterator[Sentence]:
    """Write which image is far from what its settings predict."""
    far = [o for o in data["outliers"] if o["metric"] == fact["name"] and abs(o["score"]) >= FAR_ENOUGH]
    if not far or fact["reference"] == "cell":
        return
    top, rows = far[0], data["rows"]
    varying = [axis["name"] for axis in data["design"]["axes"] if len(axis["levels"]) > 1]
    cell = write_cell({name: rows["axes"][name][top["row"]] for name in varying})
    more = f" {len(far) - 1} more images are as odd." if len(far) > 1 else ""
    text = (
        f"Look at image {rows['index'][top['row']]} ({cell}): its {fact['label']} is {write_number(top['value'])}, "
        f"where the others predict {write_number(top['expected'])}.{more}"
    )
    detail = "If it is broken, render it again with sweep redo, or leave it out: it moves every mean it is part of."
    yield make_sentence("outlier", text, detail, fact["name"], rows=[o["row"] for o in far[:8]])


def describe_noise(data: StudyJson, fact: MetricFacts) -> Iterator[Sentence]:
    """Write what a metric does when nothing is changed."""
    if data["determinism"]:
        yield make_sentence("noise", data["determinism"]["message"])
    for row in data["noise"]:
        if row["metric"] != fact["name"]:
            continue
        if row["replicate"]["value"]:
            text = f"Repeats of one point differ in {fact['label']} by a standard deviation of "
            yield make_sentence("noise", f"{text}{write_estimate(row['replicate'])}.", metric=fact["name"])
        if row["floor"]["value"] is not None and row["floor_at"] is not None and fact["reference"] == "image":
            text = f"{capitalise(fact['label'])} is {write_estimate(row['floor'])} at strength {row['floor_at']:g}"
            text += ", where the image is only encoded and decoded: expect no better value."
            yield make_sentence("noise", text, metric=fact["name"])


def describe_diversity(cells: Sequence[DiversityCell], facts: Mapping[str, MetricFacts]) -> Iterator[Sentence]:
    """Write the most and the least diverse cell, where their intervals do not overlap."""
    for metric in dict.fromkeys(cell["metric"] for cell in cells):
        known = [c for c in cells if c["metric"] == metric and c["value"]["low"] is not None]
        ranked = sorted(known, key=lambda c: c["value"]["value"] or 0.0)
        if ranked and (ranked[0]["value"]["high"] or 0.0) < (ranked[-1]["value"]["low"] or 0.0):
            low, high = ranked[0], ranked[-1]
            most = f"{write_cell(high['cell'])}: {facts[metric]['label']} {write_estimate(high['value'])}"
            least = f"{write_cell(low['cell'])}: {write_estimate(low['value'])}"
            yield make_sentence(
                "diversity", f"Seeds differ most at {most}. They differ least at {least}.", metric=metric
            )


def describe_distances(distances: Sequence[AxisDistance]) -> Iterator[Sentence]:
    """Write which axis decides a text-to-image grid, with a new seed as the yardstick."""
    words = [d for d in distances if not d["seed"]]
    seed = next((d for d in distances if d["seed"]), None)
    if not words:
        return
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
    yield make_sentence("word", text, detail, axis=top["axis"], rows=[top["a"][0], top["b"][0]] if top["a"] else [])


def describe_choices(choices: Sequence[Choices]) -> Iterator[Sentence]:
    """Write which level was preferred in blind choices, and which order is open."""
    for each in choices:
        best = [write_level(rank["level"]) for rank in each["ranking"] if rank["rank_low"] == 1]
        axis = name_axis(each["axis"])
        if len(best) == len(each["ranking"]):
            count = format_count(each["choices"], "blind choice")
            text = f"Your {count} do not yet separate levels of {axis}."
        else:
            is_open = " Which of them comes first is open." if len(best) > 1 else ""
            text = f"You chose {axis} {' and '.join(best)} over the others.{is_open}"
        twice = ""
        if each["repeated"]:
            twice = f"; of {each['repeated']} pairs that came twice you chose {each['alike']} alike"
        detail = f"({format_count(each['choices'], 'pair')}, chosen blind, {each['ties']} of them undecided{twice}.)"
        yield make_sentence("choice", text, detail, axis=each["axis"])


def describe_search(
    found: AdaptiveResult | None, facts: Mapping[str, MetricFacts], data: StudyJson
) -> Iterator[Sentence]:
    """Write which level an adaptive design advises, which group misses first, and how the design ended."""
    if found is None or all(group["mean"] is None for group in found["groups"]):
        return
    fact, axis, use = facts.get(found["metric"]), name_axis(found["axis"]), found["use"]
    label, is_lower_better = (fact["label"], fact["direction"] == "lower") if fact else (found["metric"], False)
    mark = write_mark("below" if is_lower_better else "above", found["threshold"])
    text = f"No {axis} tested is safe for every image: {label} is not at {mark} even at the first level."
    if use is not None:
        limit = "more" if any(group["is_rising"] for group in found["groups"]) else "less"
        text = f"Use {axis} {use:g} or {limit}: {label} stayed at {mark} with every seed rendered."
    weakest = _write_weakest_found(found, "rose above" if is_lower_better else "fell below")
    rows = find_rows(data, {found["axis"]: use}) if use is not None else []
    yield make_sentence("recommendation", text, weakest, found["metric"], found["axis"], rows)
    yield make_sentence("curve", *_write_ending(found), axis=found["axis"])


def _write_weakest_found(found: AdaptiveResult, miss: str) -> str:
    weakest = next((group for group in found["groups"] if group["group"] == found["weakest"]), None)
    if weakest is None or len(found["groups"]) < 2 or weakest["lowest"] is None or weakest["highest"] is None:
        return ""
    if not weakest["inside"]:
        return ""
    low, high = f"{weakest['lowest']:.3g}", f"{weakest['highest']:.3g}"
    where = f"at {low}" if low == high else f"between {low} and {high}"
    others = [group for group in found["possible"] if group != weakest["group"]]
    text = f"Weakest {_write_names(weakest['group'])}: {_write_levels(weakest['group'])}, which {miss} "
    text += f"{found['threshold']:g} {where}, depending on the seed ({format_count(weakest['n'], 'seed')})."
    if found["goal"] == "weakest" and others and found["ending"]:
        text += f" {capitalise(' and '.join(map(_write_levels, others[:3])))} may be as weak."
    return text


def _write_names(group: Group) -> str:
    return " and ".join(map(name_axis, group))


def _write_levels(group: Group) -> str:
    return ", ".join(write_level(level) for level in group.values())


def _write_ending(found: AdaptiveResult) -> tuple[str, str]:
    """Write how the search ended and where images pass the threshold on average; and how that was averaged."""
    images, place, detail = f"{found['used']} of the {found['full']:,} images of the full grid", "", ""
    if found["crossing"]["value"] is not None and found["goal"] != "weakest":
        at = f"{name_axis(found['axis'])} {write_estimate(found['crossing'])}"
        place = f": on average images pass {found['threshold']:g} at {at}"
        groups = f" of each {_write_names(found['weakest'])}" if found["weakest"] else ""
        detail = f"(Found for each seed{groups} by itself, then averaged.)"
    if found["ending"] is None:
        return f"Not at its end yet, with {images}{place}.", detail
    why = ""
    if found["ending"] == "budget spent" and found["goal"] == "each":
        spent = "every seed is used" if found["seeds"] == found["seeds_there"] else "no more images are allowed"
        why = f" ({spent}; ±{found['within']:g} was asked)"
    return f"{capitalise(found['ending'])}{why} with {images}{place}.", detail


def describe_metric_findings(fact: MetricFacts, data: StudyJson, *, is_main: bool) -> Iterator[Sentence]:
    """Write all sentences about one metric but advice; of others than the main one only shown effects."""
    name = fact["name"]
    for curve in data["curves"]:
        if curve["metric"] == name and not curve["group"] and (is_main or is_shown(curve["p_adjusted"])):
            yield from describe_curve(curve, fact)
    if is_main:
        for each in data["effects"]:
            yield from describe_shares(each, fact) if each["metric"] == name else ()
    numeric = {axis["name"] for axis in data["design"]["axes"] if axis["numeric"]}
    pairs = [d for d in data["differences"] if d["metric"] == name and d["axis"] not in numeric]
    yield from (s for s in describe_differences(pairs, fact, data) if is_main or s["kind"] == "difference")
    yield from describe_outliers(data, fact)
    if is_main:
        yield from describe_noise(data, fact)


def describe_unshown(data: StudyJson, facts: Mapping[str, MetricFacts], main: str | None) -> Iterator[Sentence]:
    """Write, once for each axis, on which metrics but the main one no effect of it is shown."""
    seeds = data["design"]["seeds"]
    if 0 < seeds < 3:
        if seeds == 2 and facts:
            yield make_sentence("limit", "Two seeds are too few to tell small effects from chance: four are useful.")
        return
    tests = [*(curve for curve in data["curves"] if not curve["group"]), *data["differences"]]
    numeric = {curve["axis"] for curve in data["curves"]}
    tests = [test for test in tests if "x" in test or test["axis"] not in numeric]
    for axis in dict.fromkeys(test["axis"] for test in tests):
        tested = {test["metric"] for test in tests if test["axis"] == axis and test["p_adjusted"] is not None}
        shown = {test["metric"] for test in tests if test["axis"] == axis and is_shown(test["p_adjusted"])}
        if names := [fact["label"] for name, fact in facts.items() if name in tested - shown - {main}]:
            text = f"No effect of {name_axis(axis)} is shown on {join_words(names)}."
            yield make_sentence("limit", text, "More seeds could still show one.", axis=axis)


def join_words(words: Sequence[str]) -> str:
    """Join words for a sentence."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


CHOSEN = (
    "An adaptive design has no means, curves, shares and differences: it chose its images by their values, so these "
    "would be biased. For them use design: {kind: rotated, share: 0.3}."
)
ENOUGH = 8  # seeds; fewer cannot show a long tail


def list_design_limits(
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


def list_measuring_limits(data: StudyJson, taken: Sequence[str]) -> Iterator[str]:
    """List what could not be measured, with the first reason. `taken`: metrics whose column is an axis's."""
    failed = max((fact["failed"] for fact in data["metrics"]), default=0)
    reason = next(filter(None, data["rows"]["reason"]), None)
    if failed and reason:
        many = f"{failed} images lack" if failed > 1 else "One image lacks"
        yield f"{many} a metric; the first reason: {reason.rstrip('.')}."
    for name in taken:
        yield f"The metric {name} is left out, because an axis has its name."


def list_assumptions(data: StudyJson) -> Iterator[str]:
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
