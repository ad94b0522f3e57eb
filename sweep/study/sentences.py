"""The sentences of a study: each finding in words, the headlines first, then metric by metric, then the limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from sweep.study.stats.intervals import CONFIDENCE, make_estimate
from sweep.study.stats.response_curves import UNEVEN
from sweep.study.stats.seeds_and_noise import STRENGTHS
from sweep.study.study_design import MOST_PAIRS
from sweep.study.study_json import (
    AdaptiveResult,
    AxisDistance,
    Choices,
    Curve,
    DesignFacts,
    Difference,
    Effects,
    Estimate,
    Group,
    Hold,
    LevelValue,
    MetricFacts,
    Recommendation,
    Sentence,
    StudyJson,
)
from sweep.study.wording import (
    capitalise,
    name_axis,
    write_cell,
    write_estimate,
    write_interval,
    write_level,
    write_mark,
    write_number,
    write_number_word,
    write_percent,
    write_place,
    write_units,
)
from sweep.text import format_count, join_words

MOST_HEADLINES = 5
PREFERRED = ("rating", "structure_coarse", "ms_ssim", "ssim", "delta_e", "diversity")  # metrics of the headlines
BESIDE: Final = ("delta_e", "diversity", "sharpness", "colourfulness")  # each tells what the ones before do not
MOST_ROWS = 8  # images that show a finding
MOST_INNER = 4  # levels in the middle of an axis that are named
MOST_COUNTS = 3  # levels whose counts follow the advised one
JUST_VISIBLE: Final = 2  # colour difference of two images
WORTH_NAMING = 0.05  # share of variance from which an interaction is named
FAR_ENOUGH = 8.0  # robust standard deviations from which an image has a sentence of its own
ENOUGH_SEEDS = 8  # fewer cannot show a long tail, and advice is called that of few seeds
SCALES = (("structure_fine", "fine detail"), ("structure_middle", "shapes"), ("structure_coarse", "layout"))
CHOSEN = (
    "An adaptive design has no means, curves, shares and differences: it chose its images by their values, so these "
    "would be biased. For them use design: {kind: rotated, share: 0.3}."
)


def choose_metric(metrics: Sequence[MetricFacts]) -> str | None:
    """Choose the metric of the headlines: the most telling one that was measured."""
    measured = [m["name"] for m in metrics if m["measured"]]
    return next((name for name in PREFERRED if name in measured), measured[0] if measured else None)


def sort_by_preference(metrics: Sequence[MetricFacts]) -> list[MetricFacts]:
    """Sort metrics by how well they suit the headlines, the most telling one first."""
    return sorted(
        metrics, key=lambda fact: PREFERRED.index(fact["name"]) if fact["name"] in PREFERRED else len(PREFERRED)
    )


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
    """Write the sentences of a study whose `words` are empty yet: headlines first, limits last.

    Args:
        data: The study.
        aliases: Axes that step together with another one.
        compared: Whether images were compared with a reference, or need none.
        taken: Metrics left out because an axis has their name.
    """
    facts = {fact["name"]: fact for fact in data["metrics"]}
    main = choose_metric(data["metrics"])
    measured = sorted((fact for fact in data["metrics"] if fact["measured"]), key=lambda fact: fact["name"] != main)
    axis = _choose_axis(data, main)
    said: list[Sentence] = []
    if data["adaptive"] is not None:
        measured, main, axis = [], data["adaptive"]["metric"], data["adaptive"]["axis"]
        said += describe_search(data["adaptive"], facts, data)
    said += [*describe_choices(data["choices"]), *describe_distances(data["distances"]), *describe_equal(data)]
    said += describe_scales(data, axis) if axis else []
    for fact in measured:
        mine = [advice for advice in data["recommendations"] if advice["metric"] == fact["name"]]
        said += [describe_recommendation(advice, fact, data) for advice in mine]
        said += describe_metric_findings(fact, data, is_main=fact["name"] == main)
    said += describe_unshown(data, {fact["name"]: fact for fact in measured}, main)
    said = _drop_repeated(said)
    limited: Iterable[str] = [CHOSEN]
    if data["adaptive"] is None:
        limited = list_design_limits(data["design"], aliases, measured=bool(measured), compared=compared)
    limits = [make_sentence("limit", text) for text in (*limited, *list_measuring_limits(data, taken))]
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
    told: set[object] = set()
    found = []
    for each in said:
        about = each["rows"][0] if each["kind"] == "outlier" else each["text"]
        if about not in told:
            found.append(each)
        told.add(about)
    return found


def select_headline_metrics(study: StudyJson, most: int = 3) -> list[MetricFacts]:
    """Select at most `most` of the measured metrics, the most telling first."""
    measured = {metric["name"]: metric for metric in study["metrics"] if metric["measured"]}
    names = dict.fromkeys(name for name in (choose_metric(study["metrics"]), *BESIDE) if name in measured)
    return [measured[name] for name in names if name][:most]


def select_headlines(study: StudyJson) -> list[str]:
    """Select the sentences that belong on top, in order."""
    return [each["text"] for each in study["words"] if each["headline"]]


def write_decision(study: StudyJson) -> str:
    """Write what to do, with the counts behind it and the weakest group; empty where the study has no such advice."""
    top = next((each for each in study["words"] if each["headline"] and each["kind"] == "recommendation"), None)
    if top is None:
        return ""
    facts = {fact["name"]: fact for fact in study["metrics"]}
    if study["adaptive"] is not None:
        weakest = [_write_weakest_found(study["adaptive"], facts, study)]
    else:
        advice = (a for a in study["recommendations"] if (a["metric"], a["axis"]) == (top["metric"], top["axis"]))
        weakest = [sentence for each in islice(advice, 1) for sentence in _write_weakest(each, study)]
    return " ".join(filter(None, [top["text"], *weakest]))


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


def describe_recommendation(advice: Recommendation, fact: MetricFacts, data: StudyJson) -> Sentence:
    """Write which level to use, the counts behind it, and what they cannot say."""
    name, axis, use = fact["name"], advice["axis"], advice["use"]
    counts = _list_counts(advice, data)
    text = _write_advice(advice, fact, counts[::-1] if advice["side"] == "from" else counts)
    kept = _list_kept(advice, counts)
    details = (*_write_weakest(advice, data), _write_breadth(advice, data), *_write_gap(advice, is_known=bool(kept)))
    found = [use] if use is not None else [hold["level"] for hold in kept]
    rows = [row for level in found[:MOST_COUNTS] for row in find_rows(data, {axis: level})][:MOST_ROWS]
    return make_sentence("recommendation", text, " ".join(details), metric=name, axis=axis, rows=rows)


def _write_advice(advice: Recommendation, fact: MetricFacts, counts: Sequence[Hold]) -> str:
    axis, label, mark = name_axis(advice["axis"]), fact["label"], write_mark(advice["wanted"], advice["threshold"])
    kept = f"{advice['threshold']:g} stars or more" if fact["name"] == "rating" else f"{label} stayed at {mark}"
    held = f"in {advice['held']} of {format_count(advice['images'], 'image')}"
    extreme, limit = ("highest", "or more") if advice["side"] == "from" else ("lowest", "or less")
    if advice["use"] is None:
        if inner := _list_kept(advice, counts):
            levels, images = [write_level(hold["level"]) for hold in inner], sum(hold["images"] for hold in inner)
            levels = levels if len(levels) <= MOST_INNER else [*levels[:MOST_INNER], f"{len(levels) - MOST_INNER} more"]
            where = f"{images} of {format_count(images, 'image')} there"
            return f"Only at {axis} {join_words(levels)} did every image hold: {kept} in {where}."
        if not any(hold["held"] for hold in counts):
            return f"No {axis} tested keeps {label} at {mark}: no image of any level held."
        end = f"at {write_level(counts[0]['level'])}, the {extreme}"
        return f"No {axis} tested is safe for every image: {kept} {held} {end}."
    later = counts[[hold["level"] for hold in counts].index(advice["use"]) + 1 :]
    use = write_level(advice["use"])
    if not later:
        return f"Any {axis} tested will do: {kept} {held} at {use} and at every other level."
    counted = ((f"in {hold['held']} of {hold['images']}", write_level(hold["level"])) for hold in later[:MOST_COUNTS])
    return f"Use {axis} {use} {limit}: {kept} {held} at {use}, {', '.join(f'{many} at {x}' for many, x in counted)}."


def _list_kept(advice: Recommendation, counts: Sequence[Hold]) -> list[Hold]:
    """List the levels at which all images held (two or more), where the level at the safe end is none of them."""
    kept = [hold for hold in counts if hold["held"] == hold["images"] > 1] if advice["use"] is None else []
    return sorted(kept, key=lambda hold: float(hold["level"] or 0))


def _list_counts(advice: Recommendation, data: StudyJson) -> list[Hold]:
    """List the counts of all images, by level."""
    return [hold for hold in _list_holds(advice, data) if not hold["group"]]


def _list_holds(advice: Recommendation, data: StudyJson) -> list[Hold]:
    """List all counts behind the advice: of all images and of each group, by level."""
    asked = (advice["metric"], advice["axis"], advice["threshold"])
    return [hold for hold in data["holds"] if (hold["metric"], hold["axis"], hold["threshold"]) == asked]


def _write_weakest(advice: Recommendation, data: StudyJson) -> Iterator[str]:
    """Write which group misses the threshold first; of groups that all miss it from one level on, the one with most.

    Nothing is said where only levels in the middle hold: then two sides are missed.
    """
    if _list_kept(advice, _list_counts(advice, data)):
        return
    low, high = (None if x is None else write_level(x) for x in (advice["bracket_low"], advice["bracket_high"]))
    mark, axis = write_mark(advice["wanted"], advice["threshold"]), name_axis(advice["axis"])
    for name in advice["weakest_group"] or {}:
        failures = _find_first_failures(advice, data, name)
        first = [hold for hold in failures if hold and hold["level"] == advice["bracket_high"]]
        written = [write_level(hold["group"][name], list_levels(data, name)) for hold in first]
        if len(first) == len(failures) > 1:
            shares = [hold["held"] / hold["images"] for hold in first]
            at = shares.index(min(shares))
            if shares.count(shares[at]) == 1:
                counted = f"{first[at]['held']} of {format_count(first[at]['images'], 'image')} held"
                yield f"At {axis} {high} the weakest {name_axis(name)} is {written[at]}: {counted}."
            continue
        miss = f"{'above' if advice['wanted'] == 'below' else 'below'} {advice['threshold']:g}"
        who, whose = f"the first {name_axis(name)} with images {miss} is", "its"
        if len(first) > 1:
            who, whose = f"the first levels of {name_axis(name)} with images {miss} are", "their"
        where = f"at {high}, the first level tested, not all {whose} images are at {mark}"
        if low is not None:
            where = f"at {low} all {whose} images stayed at {mark}, at {high} not all of them"
        way = "falls" if advice["side"] == "from" else "rises"
        yield f"As {axis} {way}, {who} {join_words(written)}: {where}."


def _find_first_failures(advice: Recommendation, data: StudyJson, name: str) -> list[Hold | None]:
    """Find, for each level of the axis `name`, the first level of the advice at which not all its images held."""
    found: dict[LevelValue, Hold | None] = {}
    holds = [hold for hold in _list_holds(advice, data) if name in hold["group"]]
    for hold in holds[::-1] if advice["side"] == "from" else holds:
        level = hold["group"][name]
        if found.get(level) is None:
            found[level] = hold if hold["held"] < hold["images"] else None
    return [found[level] for level in list_levels(data, name) if level in found]


def _write_breadth(advice: Recommendation, data: StudyJson) -> str:
    """Say how few seeds and other levels the advice rests on."""
    factors = {hold["axis"] for hold in data["holds"]} - {advice["axis"]}  # not those that step with another one
    others = [
        axis
        for axis in data["design"]["axes"]
        if axis["name"] in factors and axis["kind"] not in {"seed", "integer"} and not axis["numeric"]
    ]
    count = data["design"]["seeds"]
    seeds = f"{write_number_word(max(count, 1)).lower()} seed{'' if count < 2 else 's'}"
    tested = join_words([seeds, *(f"{len(axis['levels'])} levels of {name_axis(axis['name'])}" for axis in others[:2])])
    return f"Tested with {'only ' if count < ENOUGH_SEEDS else ''}{tested}: others may fail earlier."


def _write_gap(advice: Recommendation, *, is_known: bool) -> Iterator[str]:
    """Write which levels to test next, and where the mean passes the threshold. `is_known`: some levels do hold."""
    if is_known:
        return
    if advice["use"] is None:
        yield f"Test {'higher' if advice['side'] == 'from' else 'lower'} levels of {name_axis(advice['axis'])}."
    elif advice["levels_to_add"]:
        levels = ", ".join(f"{level:.12g}" for level in advice["levels_to_add"])
        yield f"To narrow the gap after {write_level(advice['use'])}, add {levels} (--set axes.{advice['axis']}=[…])."
    if advice["mean_crossing"] is not None and advice["low"] is not None and advice["high"] is not None:
        at = make_estimate(advice["mean_crossing"], advice["low"], advice["high"], method=advice["method"])
        where = write_place(at)
        yield f"(The mean over all images passes {advice['threshold']:g} {where}; single images miss it earlier.)"


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
    detail = f"(Tested levels, n = {write_units(found[0][1])}.)"
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
        has_intervals = any(low is not None for low in curve["low"])
        is_plain = verb in text and curve["low"][0] is not None
        parts = [
            *(f"It passes {c['threshold']:g} {write_place(c['at'])}." for c in passed),
            f"({basis if has_intervals else curve['interval']})",
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
        text = f"Most important for {fact['label']}: {', then '.join(names)}."
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
    start = f"{capitalise(names[0])} makes most of the change in {fact['label']}"
    if pairs and (pairs[0]["share"]["value"] or 0) > (top["value"] or 0):
        first, second = map(name_axis, pairs[0]["axes"])
        start = _write_dependence(fact, first, second)
    basis = f"{format_count(effects['n'], 'image')}, n = {format_count(top['n'], 'seed')}"
    detail = f"({basis}; estimates, no interval.)" + (f" {capitalise(effects['reason'])}." if effects["reason"] else "")
    yield make_sentence("share", f"{start}: {', '.join(parts)} of the variance.", detail, fact["name"])


def _write_dependence(fact: MetricFacts, first: str, second: str) -> str:
    return f"How {first} changes {fact['label']} depends on {second}"


def describe_differences(found: Sequence[Difference], fact: MetricFacts, data: StudyJson) -> Iterator[Sentence]:
    """Write the largest difference between levels of each axis that is not numeric, or that none was found."""
    for axis in dict.fromkeys(d["axis"] for d in found):
        pairs = [d for d in found if d["axis"] == axis and d["difference"]["value"] is not None]
        sure = [d for d in pairs if d["significant"]]
        if sure:
            yield _describe_largest(_find_largest(sure), len(sure), fact, data)
        elif any(d["difference"]["value"] for d in pairs) and any(d["p"] is not None for d in pairs):
            yield from _describe_no_difference(_find_largest(pairs), pairs, fact, data)


def _find_largest(pairs: Sequence[Difference]) -> Difference:
    """Find the largest difference, its levels in the order in which it is positive."""
    top = max(pairs, key=lambda d: abs(d["difference"]["value"] or 0.0))
    found = top["difference"]
    if (found["value"] or 0.0) >= 0:
        return top
    value, low, high = (None if v is None else -v for v in (found["value"], found["low"], found["high"]))
    turned = Estimate(**{**found, "value": value, "low": high, "high": low})
    return Difference(**{**top, "a": top["b"], "b": top["a"], "difference": turned})


def _describe_no_difference(
    top: Difference, pairs: Sequence[Difference], fact: MetricFacts, data: StudyJson
) -> Iterator[Sentence]:
    change, named = top["difference"], name_axis(top["axis"])
    bounds = [pair["difference"][side] for pair in pairs for side in ("low", "high")]
    if None in bounds:
        return  # some levels have too few seeds to tell
    seen = [value for value in data["rows"]["metrics"][fact["name"]] if value is not None]
    most = max(abs(bound or 0.0) for bound in bounds)
    if most > max(seen) - min(seen):
        return  # with so few seeds any difference is possible
    together = f", for all {top['pairs']} pairs of levels together" if top["pairs"] > 1 else ""
    average = _name_partner(data, fact["name"], top["axis"])
    text = f"No difference in {fact['label']} between levels of {named} was found{average}; "
    text += f"one of up to {write_number(most)} is possible."
    detail = f"(95 %{together}, n = {write_units(change)}.)"
    if any((pair["difference"]["low"] or 0.0) > 0 or (pair["difference"]["high"] or 0.0) < 0 for pair in pairs):
        text = f"{capitalise(fact['label'])} may differ between levels of {named}, or seem to by chance."
        detail = "So many comparisons were made that this difference shows nothing yet: render more seeds."
    yield make_sentence("limit", text, detail, fact["name"], top["axis"])


def _name_partner(data: StudyJson, metric: str, axis: str) -> str:
    """Name the axis over which differences are averaged although they depend on it; empty for none."""
    shares = [share for each in data["effects"] if each["metric"] == metric for share in each["shares"]]
    joint = [share["axes"] for share in shares if (share["share"]["value"] or 0) >= WORTH_NAMING]
    others = [name_axis(name) for axes in joint if axis in axes for name in axes if name != axis]
    return f" on average over {others[0]}" if others else ""


def _describe_largest(top: Difference, sure: int, fact: MetricFacts, data: StudyJson) -> Sentence:
    axis, detail, levels = top["axis"], "", list_levels(data, top["axis"])
    higher = f"{capitalise(fact['label'])} is higher with {name_axis(axis)} {write_level(top['b'], levels)}"
    text = f"{higher} than with {write_level(top['a'], levels)}, by {write_estimate(top['difference'])}."
    if top["pairs"] > 1:
        verb = "differs" if sure == 1 else "differ"
        detail = f"{sure} of {top['pairs']} pairs of levels {verb} (95 % for all together). "
        detail += "The largest difference is shown, so the true one is probably smaller."
    rows = [row for level in (top["b"], top["a"]) for row in find_rows(data, {axis: level})[:3]]
    return make_sentence("difference", text, detail, fact["name"], axis, rows)


def find_rows(data: StudyJson, group: Group, most: int = MOST_ROWS) -> list[int]:
    """Find the first rows with an image at these levels; in a table without images the first rows."""
    rows = data["rows"]
    columns = [(rows["axes"][name], level) for name, level in group.items()]
    shown = [i for i, path in enumerate(rows["image_path"]) if path is not None]
    places = shown or range(len(rows["key"]))
    return list(islice((i for i in places if all(column[i] == level for column, level in columns)), most))


def list_levels(data: StudyJson, axis: str) -> list[LevelValue]:
    """List the levels of an axis."""
    return next((each["levels"] for each in data["design"]["axes"] if each["name"] == axis), [])


def describe_equal(data: StudyJson) -> Iterator[Sentence]:
    """Write which levels of an axis give the same image."""
    for each in data["equal"]:
        name = name_axis(each["axis"])
        levels = list_levels(data, each["axis"])
        written = "; ".join(" and ".join(write_level(level, levels) for level in pair) for pair in each["pairs"][:3])
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
    varying = {axis["name"]: axis["levels"] for axis in data["design"]["axes"] if len(axis["levels"]) > 1}
    cell = write_cell({name: rows["axes"][name][top["row"]] for name in varying}, varying)
    verb = "is" if len(far) == 2 else "are"
    more = f" {format_count(len(far) - 1, 'more image')} {verb} far from the others, too." if len(far) > 1 else ""
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
            value, at = write_estimate(row["floor"]), write_level(row["floor_at"])
            text = f"{capitalise(fact['label'])} is {value} at strength {at}"
            text += ", where the image is only encoded and decoded: expect no better value."
            yield make_sentence("noise", text, metric=fact["name"])


def describe_distances(distances: Sequence[AxisDistance]) -> Iterator[Sentence]:
    """Write which axis decides a text-to-image grid, with a new seed as the yardstick."""
    words = [d for d in distances if not d["seed"]]
    seed = next((d for d in distances if d["seed"]), None)
    if not words or not words[0]["mean"] or (len(words) == 1 and seed is None):
        return  # nothing to compare
    names = [f"{name_axis(d['axis'])} {write_number(d['mean'])}" for d in words]
    top = words[0]
    text = f"{capitalise(name_axis(top['axis']))} decides the image."
    weak = [name_axis(d["axis"]) for d in words if seed is not None and d["mean"] < seed["mean"]]
    if seed is not None and top["mean"] < seed["mean"]:
        text = "No axis changes the image as much as a new seed does."
    elif top["mean"] < JUST_VISIBLE:
        text = "No axis changes the image visibly."
    elif weak:
        text += f" {capitalise(join_words(weak))} change{'s' if len(weak) == 1 else ''} less than a new seed does."
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
            count = format_count(each["choices"], "blind choice")
            verb = "does" if each["choices"] == 1 else "do"
            text = f"Your {count} {verb} not yet separate levels of {axis}."
        else:
            is_open = " Which of them comes first is open." if len(best) > 1 else ""
            text = f"You chose {axis} {join_words(best)} over the others.{is_open}"
        twice = ""
        if each["repeated"]:
            pairs = format_count(each["repeated"], "pair")
            twice = f"; of {pairs} that came twice you chose {each['alike']} alike"
        detail = f"({format_count(each['choices'], 'pair')}, chosen blind, {each['ties']} of them undecided{twice}.)"
        yield make_sentence("choice", text, detail, axis=each["axis"])


def describe_search(found: AdaptiveResult, facts: Mapping[str, MetricFacts], data: StudyJson) -> Iterator[Sentence]:
    """Write which level an adaptive design advises, which group misses first, and how the design ended."""
    open_groups = [group["group"] for group in found["groups"] if group["mean"] is None]
    if open_groups and all(group["use"] is not None for group in found["groups"] if group["mean"] is not None):
        yield _describe_no_crossing(found, open_groups[0], data)
        return
    fact, axis, use = facts.get(found["metric"]), name_axis(found["axis"]), found["use"]
    label, is_lower_better = (fact["label"], fact["direction"] == "lower") if fact else (found["metric"], False)
    mark = write_mark("below" if is_lower_better else "above", found["threshold"])
    text = f"No {axis} tested is safe for every image: {label} is not at {mark} even at the first level."
    if use is not None:
        limit = "more" if any(group["is_rising"] for group in found["groups"]) else "less"
        text = f"Use {axis} {use:g} or {limit}: {label} stayed at {mark} with every seed rendered."
    weakest = _write_weakest_found(found, facts, data)
    rows = find_rows(data, {found["axis"]: use}) if use is not None else []
    yield make_sentence("recommendation", text, weakest, found["metric"], found["axis"], rows)
    yield make_sentence("curve", *_write_ending(found), axis=found["axis"])


def _describe_no_crossing(found: AdaptiveResult, group: Group, data: StudyJson) -> Sentence:
    """Write why nothing is advised: the search is not at its end, or each seed of a group lost an image it needs."""
    if found["ending"] is None:
        return make_sentence("limit", _write_ending(found)[0], axis=found["axis"])
    seeds = f"every seed of {_write_levels(group, data)}" if group else "every seed"
    text = f"No {name_axis(found['axis'])} can be advised: with {seeds}, an image failed that the search needs."
    return make_sentence("recommendation", text, "Render them again with --retry-failed.", axis=found["axis"])


def _write_weakest_found(found: AdaptiveResult, facts: Mapping[str, MetricFacts], data: StudyJson) -> str:
    fact = facts.get(found["metric"])
    miss = "rose above" if fact and fact["direction"] == "lower" else "fell below"
    weakest = next((group for group in found["groups"] if group["group"] == found["weakest"]), None)
    if weakest is None or len(found["groups"]) < 2 or not weakest["inside"]:
        return ""
    low, high = f"{weakest['lowest']:.3g}", f"{weakest['highest']:.3g}"
    where = f"at {low}" if low == high else f"between {low} and {high}"
    text = f"Weakest {_write_names(weakest['group'])}: {_write_levels(weakest['group'], data)}, which {miss} "
    text += f"{found['threshold']:g} {where}, depending on the seed ({format_count(weakest['n'], 'seed')})."
    others = [_write_levels(group, data) for group in found["possible"] if group != weakest["group"]]
    if found["goal"] == "weakest" and others and found["ending"]:
        text += f" {capitalise(join_words(others[:3]))} may be as weak."
    return text


def _write_names(group: Group) -> str:
    return " and ".join(map(name_axis, group))


def _write_levels(group: Group, data: StudyJson) -> str:
    return ", ".join(write_level(level, list_levels(data, name)) for name, level in group.items())


def _write_ending(found: AdaptiveResult) -> tuple[str, str]:
    """Write how the search ended and where images pass the threshold on average; and how that was averaged."""
    start, place, detail = "Not at its end yet", "", ""
    if found["crossing"]["value"] is not None and found["goal"] != "weakest":
        at = f"{name_axis(found['axis'])} {write_estimate(found['crossing'])}"
        place = f": on average images pass {found['threshold']:g} at {at}"
        groups = f" of each {_write_names(found['weakest'])}" if found["weakest"] else ""
        detail = f"(Found for each seed{groups} by itself, then averaged.)"
    if found["ending"] is None:
        start += ","
    else:
        start = capitalise(found["ending"])
        if found["ending"] == "budget spent" and found["goal"] == "each":
            spent = "every seed is used" if found["seeds"] == found["seeds_there"] else "no more images are allowed"
            start += f" ({spent}; ±{found['within']:g} was asked)"
    return f"{start} with {found['used']} of the {found['full']:,} images of the full grid{place}.", detail


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


def list_design_limits(
    design: DesignFacts, aliases: Mapping[str, str], *, measured: bool, compared: bool
) -> Iterator[str]:
    """List what this design cannot show, whatever was measured. `compared`: whether anything has a reference."""
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
    if 2 <= seeds < ENOUGH_SEEDS:
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
