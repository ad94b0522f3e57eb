"""The findings of a study as sentences: headlines first, then metric by metric, then what the study cannot show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from sweep.study.advice import describe_recommendation, describe_search
from sweep.study.formatting import (
    capitalise,
    find_rows,
    list_levels,
    make_sentence,
    name_axis,
    write_cell,
    write_estimate,
    write_interval,
    write_level,
    write_number,
    write_number_word,
    write_percent,
    write_place,
)
from sweep.study.stats.response_curves import FEW_THERE, UNEVEN
from sweep.study.stats.seeds_and_noise import STRENGTHS
from sweep.study.stats.t_tests import CONFIDENCE, is_nearer, is_shown, make_estimate
from sweep.study.study_design import MOST_PAIRS
from sweep.study.study_json import (
    Choices,
    Curve,
    DesignFacts,
    Difference,
    Effects,
    Estimate,
    MetricFacts,
    Sentence,
    StudyJson,
)
from sweep.text import format_count, join_words

JUST_VISIBLE = 2  # colour difference of two images
WORTH_NAMING = 0.05  # share of variance from which an interaction is named
MANY_SEEDS = 30  # of which one in ten is likely seen
FAR_ENOUGH = 8.0  # robust standard deviations from which an image has a sentence of its own
SCALES = (("structure_fine", "fine detail"), ("structure_middle", "shapes"), ("structure_coarse", "layout"))
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
    said += [*describe_choices(data["choices"]), *describe_distances(data), *describe_equal(data)]
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


def describe_metric_findings(fact: MetricFacts, data: StudyJson, *, is_main: bool) -> Iterator[Sentence]:
    """Write all sentences about one metric but advice; of others than the main one only shown effects."""
    name = fact["name"]
    for curve in data["curves"]:
        if curve["metric"] == name and not curve["group"] and (is_main or is_shown(curve["p_adjusted"])):
            mine = (name, curve["axis"])
            groups = [c for c in data["curves"] if c["group"] and (c["metric"], c["axis"]) == mine]
            yield from describe_curve(curve, fact, groups)
    if is_main:
        for each in data["effects"]:
            yield from describe_shares(each, fact) if each["metric"] == name else ()
    numeric = {axis["name"] for axis in data["design"]["axes"] if axis["numeric"]}
    pairs = [d for d in data["differences"] if d["metric"] == name and d["axis"] not in numeric]
    yield from (s for s in describe_differences(pairs, fact, data) if is_main or s["kind"] == "difference")
    yield from describe_outliers(data, fact)
    if is_main:
        yield from describe_noise(data, fact)


def describe_scales(data: StudyJson, axis: str) -> Iterator[Sentence]:
    """Write in which order detail, shapes and layout change along an axis."""
    found = []
    for name, label in SCALES:
        curves = (c for c in data["curves"] if (c["metric"], c["axis"], c["group"]) == (name, axis, {}))
        found += [(label, curve["half"]) for curve in curves if curve["half"]["low"] is not None]
    if len(found) < 2:
        return
    found.sort(key=lambda pair: pair[1]["value"] or 0.0)
    places = [f"for {label} {write_place(half)}" for label, half in found]
    is_first = (found[0][1]["high"] or 0.0) <= (found[1][1]["low"] or 0.0)
    start = f"Along {name_axis(axis)} the image changes in this order"
    detail = f"(Tested levels, n = {format_count(found[0][1]['n'], 'seed')}.)"
    if is_first:
        start = f"{capitalise(found[0][0])} changes first along {name_axis(axis)}"
        detail += f" So compare {found[0][0]} only at levels before that."
    yield make_sentence("curve", f"{start}: half of the change is reached {join_words(places)}.", detail, axis=axis)


def describe_curve(curve: Curve, fact: MetricFacts, groups: Sequence[Curve]) -> Iterator[Sentence]:
    """Write how a metric changes along an axis, or that it does not. `groups`: the curves at levels of other axes."""
    label, axis, about = capitalise(fact["label"]), name_axis(curve["axis"]), (fact["name"], curve["axis"])
    kinds = {warning["kind"] for warning in curve["warnings"]}
    known = [i for i, mean in enumerate(curve["mean"]) if mean is not None]
    if curve["falling"] is None:
        return
    is_sure, verb = is_shown(curve["p_adjusted"]), "falls" if curve["falling"] else "rises"
    if "flat" in kinds:
        hint = _name_hidden(groups)
        ending = f" on average. {hint}" if hint else ". Choose it freely."
        yield make_sentence("curve", f"{label}: no change along {axis}{ending}", "", *about)
    elif "unclear" in kinds or (not is_sure and curve["p"] is not None and max(curve["n"]) > 2):
        seeds, hint = format_count(max(curve["n"]), "seed"), _name_hidden(groups)
        average = " on average" if hint else ""
        text = f"No change of {fact['label']} along {axis} was found{average} with {seeds}."
        yield make_sentence("limit", text, hint or "More seeds could still show one.", *about)
    elif text := _write_change(curve, label, verb, (known[0], known[-1]), is_uneven=is_sure and "violated" in kinds):
        passed = [c for c in curve["crossings"] if c["at"]["value"] is not None and fact["direction"] == "neutral"]
        basis = f"{CONFIDENCE * 100:.0f} %, n = {format_count(max(curve['n']), 'seed')}"
        without = curve["interval"] if curve["interval"].startswith("no") else f"no interval: {FEW_THERE}"
        is_plain = verb in text and curve["low"][0] is not None
        parts = [
            *(f"It passes {c['threshold']:g} {write_place(c['at'])}." for c in passed),
            f"({without if curve['low'][known[0]] is None else basis})",
            *(f"{capitalise(w['message'])}." for w in curve["warnings"] if w["kind"] == "saturated" and is_plain),
        ]
        yield make_sentence("curve", text, " ".join(parts), *about)


def _name_hidden(groups: Sequence[Curve]) -> str:
    """Name the other axes at whose levels the metric may change although it does not on average; empty for none."""
    hidden = [c for c in groups if c["fit_x"] and all(warning["kind"] != "flat" for warning in c["warnings"])]
    names = dict.fromkeys(name_axis(name) for c in hidden if is_shown(c["p"] or 0.0) for name in c["group"])
    return f"It may change at single levels of {join_words(list(names))}: compare them one by one." if names else ""


def _write_change(curve: Curve, label: str, verb: str, ends: tuple[int, int], *, is_uneven: bool) -> str:
    """Write the values at both ends; nothing where seeds differ by more than these do."""
    axis = name_axis(curve["axis"])
    means, lows, highs = ([curve[name][i] for i in ends] for name in ("mean", "low", "high"))
    shown = zip(means, lows, highs, [write_level(curve["x"][i]) for i in ends], strict=True)
    first, last = (f"{write_interval(make_estimate(mean, low, high))} at {x}" for mean, low, high, x in shown)
    half = curve["half"]
    if half["reason"] == UNEVEN and is_uneven:
        return f"{label} goes up and down along {axis}: {first}, {last}."
    bounds = [v for v in (*lows, *highs) if v is not None]
    if len(bounds) == 4 and max(bounds[:2]) <= min(bounds[2:]):
        return ""
    has_direction = half["value"] is not None or len(curve["x"]) == 2
    if not (has_direction and is_shown(curve["p_adjusted"])):
        return f"{label}: {first} and {last} along {axis}."
    place = ""
    if half["low"] is not None and half["high"] is not None:
        is_narrow = half["high"] - half["low"] <= (curve["x"][-1] - curve["x"][0]) / 2  # else it says nothing
        place = f"; half of this change lies {write_place(half)}" if is_narrow else ""
    return f"{label} {verb} along {axis} from {first} to {last}{place}."


def describe_shares(effects: Effects, fact: MetricFacts) -> Iterator[Sentence]:
    """Write how much each axis explains, or in which order."""
    mains = [share for share in effects["shares"] if len(share["axes"]) == 1]
    if len(mains) < 2:
        return
    names, top = [name_axis(share["axes"][0]) for share in mains[:4]], mains[0]["share"]
    if top["value"] is None:
        detail = f"({capitalise(effects['reason'] or top['reason'] or '')}.)"
        text = f"Most important for {fact['label']}: {names[0]}."
        if len(effects["shares"][0]["axes"]) > 1:
            first, second = map(name_axis, effects["shares"][0]["axes"])
            text = f"{_write_dependence(fact, first, second)}."
        yield make_sentence("share", text, detail, fact["name"])
        return
    pairs = [s for s in effects["shares"] if len(s["axes"]) > 1 and (s["share"]["value"] or 0) >= WORTH_NAMING]
    if not (top["value"] or pairs):
        return
    parts = [f"{name} {write_percent(share['share'])}" for name, share in zip(names, mains, strict=False)]
    parts += [f"{' with '.join(map(name_axis, s['axes']))} {write_percent(s['share'])}" for s in pairs[:1]]
    start = f"Most of the change in {fact['label']} comes from {names[0]}"
    if pairs and (pairs[0]["share"]["value"] or 0) > (top["value"] or 0):
        first, second = map(name_axis, pairs[0]["axes"])
        start = _write_dependence(fact, first, second)
    basis = f"{format_count(effects['n'], 'image')}, n = {format_count(top['n'], 'seed')}"
    detail = f"({basis}; estimates, no interval.)" + (f" {capitalise(effects['reason'])}." if effects["reason"] else "")
    yield make_sentence("share", f"{start}: {', '.join(parts)} of the variance.", detail, fact["name"])


def _write_dependence(fact: MetricFacts, first: str, second: str) -> str:
    return f"How {fact['label']} changes with {first} depends on {second}"


def describe_differences(found: Sequence[Difference], fact: MetricFacts, data: StudyJson) -> Iterator[Sentence]:
    """Write the largest difference between levels of each axis that is not numeric, or that none was found."""
    for axis in dict.fromkeys(d["axis"] for d in found):
        pairs = [d for d in found if d["axis"] == axis and d["difference"]["value"] is not None]
        pairs.sort(key=lambda d: -abs(d["difference"]["value"] or 0.0))
        if sure := [d for d in pairs if d["significant"]]:
            yield _describe_largest(sure[0], len(sure), fact, data)
        elif any(d["difference"]["value"] for d in pairs) and any(d["p"] is not None for d in pairs):
            yield from _describe_no_difference(pairs, fact, data)


def _describe_largest(top: Difference, sure: int, fact: MetricFacts, data: StudyJson) -> Sentence:
    low, high, change, axis, detail = top["a"], top["b"], top["difference"], top["axis"], ""
    if (change["value"] or 0.0) < 0:
        low, high = high, low
        value, least, most = (None if v is None else -v for v in (change["value"], change["high"], change["low"]))
        change = Estimate(**{**change, "value": value, "low": least, "high": most})
    lower, higher = (write_level(level, list_levels(data, axis)) for level in (low, high))
    text = f"{capitalise(fact['label'])} is higher with {name_axis(axis)} {higher} than with {lower}, by "
    if top["pairs"] > 1:
        verb = "differs" if sure == 1 else "differ"
        detail = f"{sure} of {top['pairs']} pairs of levels {verb} (95 % for all together). "
        detail += "The largest difference is shown, so the true one is probably smaller."
    rows = [row for level in (high, low) for row in find_rows(data, {axis: level})[:3]]
    return make_sentence("difference", f"{text}{write_estimate(change)}.", detail, fact["name"], axis, rows)


def _describe_no_difference(pairs: Sequence[Difference], fact: MetricFacts, data: StudyJson) -> Iterator[Sentence]:
    changes, top, named = [pair["difference"] for pair in pairs], pairs[0], name_axis(pairs[0]["axis"])
    bounds = [bound for change in changes for bound in (change["low"], change["high"]) if bound is not None]
    if len(bounds) < 2 * len(pairs):
        return  # some levels have too few seeds to tell
    seen = [value for value in data["rows"]["metrics"][fact["name"]] if value is not None]
    most = max(map(abs, bounds))
    if most > max(seen) - min(seen):
        return  # with so few seeds any difference is possible
    together = f", for all {top['pairs']} pairs of levels together" if top["pairs"] > 1 else ""
    average = _name_partner(data, fact["name"], top["axis"])
    text = f"No difference in {fact['label']} between levels of {named} was found{average}; "
    text += f"one of up to {write_number(most)} is possible."
    detail = f"(95 %{together}, n = {format_count(changes[0]['n'], 'seed')}.)"
    if any((change["low"] or 0.0) > 0 or (change["high"] or 0.0) < 0 for change in changes):
        text = f"{capitalise(fact['label'])} may differ between levels of {named}, or seem to by chance."
        detail = "So many comparisons were made that this difference shows nothing yet: render more seeds."
    yield make_sentence("limit", text, detail, fact["name"], top["axis"])


def _name_partner(data: StudyJson, metric: str, axis: str) -> str:
    """Name the axis over which differences are averaged although they depend on it; empty for none."""
    shares = [share for each in data["effects"] if each["metric"] == metric for share in each["shares"]]
    joint = [share["axes"] for share in shares if (share["share"]["value"] or 0) >= WORTH_NAMING]
    others = [name_axis(name) for axes in joint if axis in axes for name in axes if name != axis]
    return f" on average over {others[0]}" if others else ""


def describe_equal(data: StudyJson) -> Iterator[Sentence]:
    """Write which levels of an axis give the same image."""
    for each in data["equal"]:
        name = name_axis(each["axis"])
        levels = list_levels(data, each["axis"])
        written = "; ".join(" and ".join(write_level(level, levels) for level in pair) for pair in each["pairs"][:3])
        text = f"Some levels of {name} gave the same image: {written}."
        if each["all"]:
            text = f"Nothing changes along {name}: all {each['levels']} levels gave the same images."
        yield make_sentence("equal", text, "(Compared pixel by pixel, everything else equal.)", axis=each["axis"])


def describe_outliers(data: StudyJson, fact: MetricFacts) -> Iterator[Sentence]:
    """Write which image is far from what its settings predict."""
    far = [o for o in data["outliers"] if o["metric"] == fact["name"] and abs(o["score"]) >= FAR_ENOUGH]
    if not far or fact["reference"] == "cell":
        return
    top, rows = far[0], data["rows"]
    varying = {axis["name"]: axis["levels"] for axis in data["design"]["axes"] if len(axis["levels"]) > 1}
    cell = write_cell({name: rows["axes"][name][top["row"]] for name in varying}, varying)
    more = f" Far from the others, too: {format_count(len(far) - 1, 'more image')}." if len(far) > 1 else ""
    text = (
        f"Look at image {rows['index'][top['row']]} ({cell}): its {fact['label']} is {write_number(top['value'])}, "
        f"where the others predict {write_number(top['expected'])}.{more}"
    )
    detail = "If it is broken, render it again with sweep redo, or leave it out: it moves every mean it is part of."
    yield make_sentence("outlier", text, detail, fact["name"], rows=[o["row"] for o in far])


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
            value, at = write_estimate(row["floor"]), write_level(row["floor_at"])
            text = f"{capitalise(fact['label'])} is {value} at strength {at}, where the image is "
            text += "nearly only encoded and decoded." if row["floor_at"] else "only encoded and decoded."
            yield make_sentence("noise", text, metric=fact["name"])


def describe_distances(data: StudyJson) -> Iterator[Sentence]:
    """Write along which axis images of a text-to-image grid differ most, with a new seed as the yardstick."""
    words = [d for d in data["distances"] if not d["seed"]]
    seed = next((d for d in data["distances"] if d["seed"]), None)
    if not words or not words[0]["mean"] or (len(words) == 1 and seed is None):
        return  # nothing to compare
    top, rows = words[0], data["rows"]
    seeds = rows["axes"].get(data["design"]["seed_axis"] or "", [None] * len(rows["key"]))
    names = [f"{name_axis(d['axis'])} {write_number(d['mean'])}" for d in words]
    rivals = [name_axis(d["axis"]) for d in words[1:] if not is_nearer(d, top, seeds)]
    weak = [name_axis(d["axis"]) for d in words if seed is not None and is_nearer(d, seed, seeds, len(words))]
    text = f"The image depends most on {name_axis(top['axis'])}."
    if weak[:1] == [name_axis(top["axis"])]:  # then those along which images differ less are weak, too
        text = "No axis changes the image as much as a new seed does."
    elif top["mean"] < JUST_VISIBLE:
        text = "No axis changes the image visibly."
    elif rivals:
        text = f"Images differ most along {name_axis(top['axis'])}; with other seeds it may be {join_words(rivals)}."
    if weak and weak[0] != name_axis(top["axis"]):
        text += f" A new seed changes the image more than {join_words(weak)}."
    elif seed is not None and not weak and not is_nearer(seed, top, seeds):
        text += " Whether a new seed changes the image more is open."
    yard = f"; two seeds of the same prompt {write_number(seed['mean'])}" if seed else ""
    drawn, whole = sum(len(d["distance"]) for d in words), sum(d["pairs"] for d in words)
    pairs = format_count(whole, "pair") if drawn == whole else f"{drawn:,} of {whole:,} pairs"
    if any(d["pairs"] > MOST_PAIRS for d in words):
        pairs += ", drawn by lot"
    detail = (
        f"Mean colour difference of images that differ in one axis alone: {', '.join(names)}{yard} "
        f"({JUST_VISIBLE} is about a just visible step; {pairs}, no interval)."
    )
    yield make_sentence("word", text, detail, axis=top["axis"], rows=[top["a"][0], top["b"][0]] if top["a"] else [])


def describe_choices(choices: Sequence[Choices]) -> Iterator[Sentence]:
    """Write which level was preferred in blind choices, and which order is open."""
    for each in choices:
        levels = [rank["level"] for rank in each["ranking"]]
        best = [write_level(rank["level"], levels) for rank in each["ranking"] if rank["rank_low"] == 1]
        axis = name_axis(each["axis"])
        if len(best) == len(each["ranking"]):
            text = f"Levels of {axis} are not yet separated by your {format_count(each['choices'], 'blind choice')}."
        else:
            is_open = " Which of them comes first is open." if len(best) > 1 else ""
            text = f"You chose {axis} {join_words(best)} over the others.{is_open}"
        twice = ""
        if each["repeated"]:
            pairs = format_count(each["repeated"], "pair")
            twice = f"; of {pairs} that came twice you chose {each['alike']} alike"
        detail = f"({format_count(each['choices'], 'pair')}, chosen blind, {each['ties']} of them undecided{twice}.)"
        yield make_sentence("choice", text, detail, axis=each["axis"])


def describe_unshown(data: StudyJson, measured: Sequence[MetricFacts], main: str | None) -> Iterator[Sentence]:
    """Write, once for each axis, on which metrics but the main one no effect of it is shown."""
    seeds = data["design"]["seeds"]
    if 0 < seeds < 3:
        if seeds == 2 and measured:
            yield make_sentence("limit", "Two seeds are too few to tell small effects from chance: four are useful.")
        return
    curves = [curve for curve in data["curves"] if not curve["group"]]
    tests = [*curves, *(d for d in data["differences"] if d["axis"] not in {curve["axis"] for curve in curves})]
    for axis in dict.fromkeys(test["axis"] for test in tests):
        tested = {test["metric"] for test in tests if test["axis"] == axis and test["p_adjusted"] is not None}
        shown = {test["metric"] for test in tests if test["axis"] == axis and is_shown(test["p_adjusted"])}
        if names := [fact["label"] for fact in measured if fact["name"] in tested - shown - {main}]:
            text = f"No effect of {name_axis(axis)} is shown on {join_words(names)}."
            yield make_sentence("limit", text, "More seeds could still show one.", axis=axis)


def list_limits(
    data: StudyJson, aliases: Mapping[str, str], *, measured: bool, compared: bool, taken: Sequence[str]
) -> Iterator[str]:
    """List what the study cannot show: by its design, then where something could not be measured, the first reason.

    `aliases`: axes that step together with another one. `compared`: whether images were compared with a reference, or
    need none. `taken`: metrics left out because an axis has their name.
    """
    if data["adaptive"] is None:
        yield from _list_design_limits(data["design"], aliases, measured=measured, compared=compared)
    else:
        yield (
            "An adaptive design has no means, curves, shares and differences: it chose its images by their values, "
            "so these would be biased. For means, curves and differences use design: {kind: rotated, share: 0.3}; for "
            "shares render at least 55 % of all combinations."
        )
    failed = max((fact["failed"] for fact in data["metrics"]), default=0)
    reason = next(filter(None, data["rows"]["reason"]), None)
    if failed and reason:
        many = f"{failed} images lack" if failed > 1 else "One image lacks"
        yield f"{many} a metric; the first reason: {reason.rstrip('.')}."
    for name in taken:
        yield f"The metric {name} is left out, because an axis has its name."


def _list_design_limits(
    design: DesignFacts, aliases: Mapping[str, str], *, measured: bool, compared: bool
) -> Iterator[str]:
    images, seeds = design["images"], design["seeds"]
    if not design["rows"]:
        yield "No results yet."
    elif not images:
        failures = f"{format_count(design['failed'], 'image')} failed, none was rendered"
        yield f"No results: {failures if design['failed'] else 'no image is rendered yet'}."
    elif not measured:
        yield "None of the images is measured."
    elif seeds < 2:
        what = "There is only one seed" if seeds else "There is no seed axis"
        yield f"{what}, so values have no intervals: other seeds may differ by any amount. Four seeds give useful ones."
    elif not design["seeds_shared"]:
        yield "Seeds differ between points, so differences are not paired and intervals are wider."
    if images and design["missing"]:
        failed = min(design["failed"], design["missing"])  # repeats may fail where another one has an image
        counts = ((failed, "failed"), (design["missing"] - failed, "not asked for, or not rendered yet"))
        why = [f"{count} {what}" for count, what in counts if count]
        verb = "has" if design["missing"] == 1 else "have"
        holes = f"{design['missing']} of {format_count(design['cells'], 'combination')} {verb} no image"
        yield f"{holes} ({', '.join(why)}): means are adjusted for them."
    if measured and not any(len(axis["levels"]) > 1 for axis in design["axes"] if axis["kind"] != "seed"):
        yield "Only one combination of settings was rendered: give an axis a second level to compare with."
    for late, early in aliases.items():
        yield f"Levels of {name_axis(late)} and {name_axis(early)} change together: their effects cannot be separated."
    if images and design["reference"] == "baseline":
        cell = ", ".join(f"{name_axis(name)} {write_level(level)}" for name, level in design["baseline"].items())
        yield (
            f"Images are compared with those at {cell}, everything else equal; those images equal their "
            "reference by construction."
        )
    if images and design["reference"] == "none" and not compared:
        yield (
            "Images have no source and no baseline, so nothing is compared with a reference. "
            "Name a baseline with sweep study RUN --baseline AXIS=LEVEL."
        )


def list_assumptions(data: StudyJson) -> Iterator[str]:
    """List what so few seeds cannot show, and for how many comparisons claims are corrected where there are several."""
    seeds = data["design"]["seeds"]
    if 2 <= seeds < MANY_SEEDS:
        yield (
            f"{write_number_word(seeds)} seeds cannot show whether now and then one lies far from the rest. "
            "If so, fewer than 95 of 100 such intervals hold: in the worst simulated case 52."
        )
    tests = [*data["curves"], *data["differences"]]
    tested = len({(test["metric"], test["axis"]) for test in tests if test["p_adjusted"] is not None})
    if tested > 1:
        yield (
            f"Effects are claimed with a correction for all {tested} comparisons (one for each metric and axis): if "
            "nothing had an effect, at most 5 of 100 such studies would claim one."
        )
