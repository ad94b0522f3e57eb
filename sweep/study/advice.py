"""Advice in sentences: which level to use, the counts behind it, and which group misses the threshold first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sweep.study.formatting import (
    ENOUGH_SEEDS,
    capitalise,
    find_rows,
    list_levels,
    make_sentence,
    name_axis,
    write_estimate,
    write_level,
    write_mark,
    write_number_word,
    write_place,
)
from sweep.study.stats.t_tests import UNLINKED, make_estimate
from sweep.study.study_json import AdaptiveResult, Group, Hold, MetricFacts, Recommendation, Sentence, StudyJson
from sweep.text import format_count, join_words

MOST_INNER = 4  # levels in the middle of an axis that are named
NO_EFFECT = "may have no effect."
MOST_COUNTS = 3  # levels whose counts follow the advised one


def write_decision(study: StudyJson) -> str:
    """Write what to do, with the counts behind it and the weakest group; empty where the study has no such advice."""
    top = next((each for each in study["words"] if each["headline"] and each["kind"] == "recommendation"), None)
    if top is None:
        return ""
    if study["adaptive"] is not None:
        weakest = [_write_weakest_found(study["adaptive"], study)]
    else:
        about = (top["metric"], top["axis"])
        advice = next(each for each in study["recommendations"] if (each["metric"], each["axis"]) == about)
        weakest = [*_write_weakest(advice, study)]
    return " ".join(filter(None, [top["text"], *weakest]))


def describe_recommendation(advice: Recommendation, fact: MetricFacts, data: StudyJson) -> Sentence:
    """Write which level to use, the counts behind it, and what they cannot say."""
    kept, hint = _list_kept(advice, data), _find_hint(advice, data)
    text = _write_advice(advice, fact, data, is_unsure=bool(hint))
    details = [*_write_weakest(advice, data), *_write_breadth(advice, data), *([] if kept else _write_gap(advice))]
    details += [hint] if NO_EFFECT in text else []
    found = [hold["level"] for hold in kept] if advice["use"] is None else [advice["use"]]
    rows = [row for level in found[:MOST_COUNTS] for row in find_rows(data, {advice["axis"]: level})]
    return make_sentence("recommendation", text, " ".join(details), fact["name"], advice["axis"], rows)


def _write_advice(advice: Recommendation, fact: MetricFacts, data: StudyJson, *, is_unsure: bool) -> str:
    axis, mark = name_axis(advice["axis"]), write_mark(advice["wanted"], advice["threshold"])
    counts = [hold for hold in _list_holds(advice, data) if not hold["group"]]
    kept = f"{advice['threshold']:g} stars or more" if fact["name"] == "rating" else f"{fact['label']} stayed at {mark}"
    held = f"in {advice['held']} of {format_count(advice['images'], 'image')}"
    extreme, limit = ("highest", "or more") if advice["side"] == "from" else ("lowest", "or less")
    doubt = f"{capitalise(axis)} {NO_EFFECT} " if is_unsure else ""
    if advice["use"] is None:
        if inner := _list_kept(advice, data):
            levels, images = [write_level(hold["level"]) for hold in inner], sum(hold["images"] for hold in inner)
            levels = levels if len(levels) <= MOST_INNER else [*levels[:MOST_INNER], f"{len(levels) - MOST_INNER} more"]
            where = f"{images} of {format_count(images, 'image')} there"
            return f"{doubt}Only at {axis} {join_words(levels)} did every image hold: {kept} in {where}."
        if not any(hold["held"] for hold in counts):
            return f"No {axis} tested keeps {fact['label']} at {mark}: no image of any level held."
        end = f"at {write_level(counts[0]['level'])}, the {extreme}"
        return f"No {axis} tested is safe for every image: {kept} {held} {end}."
    later = counts[[hold["level"] for hold in counts].index(advice["use"]) + 1 :][:MOST_COUNTS]
    use = write_level(advice["use"])
    if not later:
        return f"Any {axis} tested will do: {kept} {held} at {use} and at every other level."
    rest = ", ".join(f"in {hold['held']} of {hold['images']} at {write_level(hold['level'])}" for hold in later)
    start = f"{doubt}If there is one, use" if doubt else f"Use {axis}"
    return f"{start} {use} {limit}: {kept} {held} at {use}, {rest}."


def _find_hint(advice: Recommendation, data: StudyJson) -> str:
    """Say what would tell whether counts differ by chance; empty where levels differ by more than chance.

    That is shown by the curve, or by images that differ in this axis alone. Where there are none such, it is shown by
    the combinations of settings, or if the axis explains most of the variance.
    """
    metric, axis = advice["metric"], advice["axis"]
    curve = next(c for c in data["curves"] if (c["metric"], c["axis"]) == (metric, axis) and not c["group"])
    shares = next((each["shares"] for each in data["effects"] if each["metric"] == metric), [])
    if advice["shown"] or curve["half"]["reason"] != UNLINKED:
        return "" if advice["shown"] else "More seeds would tell."
    return "" if shares and shares[0]["axes"] == [axis] else f"A full or rotated design would tell: {UNLINKED}."


def _list_holds(advice: Recommendation, data: StudyJson) -> list[Hold]:
    """List the counts behind the advice, of all images and of each group, level by level from the safe end."""
    asked = (advice["metric"], advice["axis"], advice["threshold"])
    holds = [hold for hold in data["holds"] if (hold["metric"], hold["axis"], hold["threshold"]) == asked]
    return holds[::-1] if advice["side"] == "from" else holds


def _list_kept(advice: Recommendation, data: StudyJson) -> list[Hold]:
    """List the levels at which all images held (two or more), where the level at the safe end is none of them."""
    if advice["use"] is not None:
        return []
    held = [hold for hold in _list_holds(advice, data) if not hold["group"] and hold["held"] == hold["images"] > 1]
    return sorted(held, key=lambda hold: float(hold["level"] or 0))


def _write_weakest(advice: Recommendation, data: StudyJson) -> Iterator[str]:
    """Write which group misses the threshold first.

    Nothing is said where all groups do, or where only levels in the middle hold: then two sides are missed.
    """
    if _list_kept(advice, data):
        return
    mark, axis = write_mark(advice["wanted"], advice["threshold"]), name_axis(advice["axis"])
    high = advice["bracket_high"]
    for name in advice["weakest_group"] or {}:
        levels = list_levels(data, name)
        holds = [hold for hold in _list_holds(advice, data) if name in hold["group"] and hold["level"] == high]
        if len(holds) < len(levels):
            continue  # a design with holes: others may miss it there, too
        holds.sort(key=lambda hold: levels.index(hold["group"][name]))
        first = [hold for hold in holds if hold["held"] < hold["images"]]
        if len(first) == len(levels) > 1:
            continue  # which of them fails most is chance
        fail, whose, other = "fails", "its", "another value"
        if len(first) > 1:
            fail, whose, other = "fail", "their", "others"
        named = [hold["group"][name] for hold in first]
        written = [write_level(level, levels) for level in named]
        held, images = sum(hold["held"] for hold in first), sum(hold["images"] for hold in first)
        kept = f"{held} of {whose} {format_count(images, 'image')} stayed at {mark} at {axis} {write_level(high)}"
        if advice["bracket_low"] is not None:
            kept = f"all {whose} images stayed at {mark} at {axis} {write_level(advice['bracket_low'])}, and "
            kept += f"{held} of {images} at {write_level(high)}"
        doubt = "" if _are_weaker(named, advice, name, data) else f" With other seeds, {other} may fail first."
        yield f"Of the values of {name_axis(name)}, {join_words(written)} {fail} first: {kept}.{doubt}"


def _are_weaker(named: Sequence[object], advice: Recommendation, axis: str, data: StudyJson) -> bool:
    """Tell whether these levels are on average shown to be worse than each other level of their axis."""
    pairs = [d for d in data["differences"] if (d["metric"], d["axis"]) == (advice["metric"], axis)]
    is_above, count = advice["wanted"] == "above", len(named) * (len(list_levels(data, axis)) - len(named))
    sure = [d for d in pairs if d["significant"] and (d["a"] in named) != (d["b"] in named)]
    return count == sum(((d["difference"]["value"] or 0.0) > 0) == ((d["a"] in named) == is_above) for d in sure)


def _write_breadth(advice: Recommendation, data: StudyJson) -> Iterator[str]:
    """Say how few seeds and other levels were tested at the advised level, and how many new seeds may miss it there."""
    if advice["use"] is None:
        return
    asked = {hold["axis"] for hold in data["holds"]} - {advice["axis"]}  # not those that step with another one
    factors = [axis for axis in data["design"]["axes"] if axis["name"] in asked]
    seed, rows = data["design"]["seed_axis"], find_rows(data, {advice["axis"]: advice["use"]})
    there = {name: len({levels[row] for row in rows}) for name, levels in data["rows"]["axes"].items()}
    count = max(there.get(seed or "", 1) if data["design"]["seeds_shared"] else data["design"]["seeds"], 1)
    parts = [f"{write_number_word(count).lower()} seed{'' if count < 2 else 's'}"]
    for axis in factors:
        some = "" if there[axis["name"]] == len(axis["levels"]) else f"{there[axis['name']]} of "
        parts.append(f"{some}{len(axis['levels'])} levels of {name_axis(axis['name'])}")
    whole = advice["images"] // math.prod(len(axis["levels"]) for axis in factors)  # seeds, if each had all levels
    tested = f"Tested there with {'only ' if count < ENOUGH_SEEDS else ''}{join_words(parts[:3])}"
    names = join_words([name_axis(axis["name"]) for axis in factors[:2]])
    other = f", and other levels of {names} may miss it earlier" if names else ""
    yield f"{tested}: {_write_chance(max(min(count, whole), 1))}{other}."


def _write_chance(seeds: int) -> str:
    """Write how often a new seed is the first to miss: all are alike, so in 1 of n + 1 cases."""
    return f"up to about 1 of {seeds + 1} new seeds may still miss it"


def _write_gap(advice: Recommendation) -> Iterator[str]:
    """Write which levels to test next, and where the mean passes the threshold."""
    if advice["use"] is None:
        yield f"Test {'higher' if advice['side'] == 'from' else 'lower'} levels of {name_axis(advice['axis'])}."
    elif advice["levels_to_add"]:
        levels = ", ".join(f"{level:.12g}" for level in advice["levels_to_add"])
        yield f"To narrow the gap after {write_level(advice['use'])}, add {levels} (--set axes.{advice['axis']}=[…])."
    if advice["mean_crossing"] is not None and advice["low"] is not None and advice["high"] is not None:
        at = make_estimate(advice["mean_crossing"], advice["low"], advice["high"], method=advice["method"])
        where = write_place(at)
        yield f"(The mean over all images passes {advice['threshold']:g} {where}; single images miss it earlier.)"


def describe_search(found: AdaptiveResult, data: StudyJson) -> Iterator[Sentence]:
    """Write which level an adaptive design advises, which group misses first, and how the design ended."""
    open_groups = [group["group"] for group in found["groups"] if group["mean"] is None]
    if open_groups and all(group["use"] is not None for group in found["groups"] if group["mean"] is not None):
        yield _describe_no_crossing(found, open_groups[0], data)
        return
    label = next((fact["label"] for fact in data["metrics"] if fact["name"] == found["metric"]), found["metric"])
    mark = write_mark("below" if _is_lower_better(found, data) else "above", found["threshold"])
    axis, use, rows, detail = name_axis(found["axis"]), found["use"], [], _write_weakest_found(found, data)
    why = f"at the end of the axis where images should hold, {label} of some missed {mark}"
    if len({group["is_rising"] for group in found["groups"] if group["inside"]}) > 1:
        why = f"some images stay at {label} {mark} at its low end alone, others at its high end"
    text = f"No {axis} can be advised: {why}."
    if use is not None:
        limit, worse = ("more", "less") if any(group["is_rising"] for group in found["groups"]) else ("less", "more")
        rows = find_rows(data, {found["axis"]: use})
        kept = f"{label} stayed at {mark} in {len(rows)} of {format_count(len(rows), 'image')} rendered there"
        text = f"Use {axis} {use:g} or {limit}: {kept}."
        chance = _write_chance(min(group["n"] for group in found["groups"]))
        detail += f" If images only get worse with {worse} {axis}, {chance}; the search sees no dip between its images."
    yield make_sentence("recommendation", text, detail.strip(), found["metric"], found["axis"], rows)
    yield make_sentence("curve", *_write_ending(found), axis=found["axis"])


def _is_lower_better(found: AdaptiveResult, data: StudyJson) -> bool:
    return any(fact["direction"] == "lower" for fact in data["metrics"] if fact["name"] == found["metric"])


def _describe_no_crossing(found: AdaptiveResult, group: Group, data: StudyJson) -> Sentence:
    """Write why nothing is advised: the search is not at its end, or each seed of a group lost an image it needs."""
    if found["ending"] is None:
        return make_sentence("limit", _write_ending(found)[0], axis=found["axis"])
    seeds = f"every seed of {_write_levels(group, data)}" if group else "every seed"
    text = f"No {name_axis(found['axis'])} can be advised: with {seeds}, an image failed that the search needs."
    return make_sentence("recommendation", text, "Render them again with --retry-failed.", axis=found["axis"])


def _write_weakest_found(found: AdaptiveResult, data: StudyJson) -> str:
    weakest = next((group for group in found["groups"] if group["group"] == found["weakest"]), None)
    if weakest is None or len(found["groups"]) < 2 or not weakest["inside"]:
        return ""
    miss = "rose above" if _is_lower_better(found, data) else "fell below"
    low, high = f"{weakest['lowest']:.3g}", f"{weakest['highest']:.3g}"
    where = f"at {low}" if low == high else f"between {low} and {high}, depending on the seed"
    text = f"Weakest {_write_names(weakest['group'])}: {_write_levels(weakest['group'], data)}, which {miss} "
    text += f"{found['threshold']:g} {where} ({format_count(weakest['n'], 'seed')})."
    others = [_write_levels(group, data) for group in found["possible"] if group != weakest["group"]]
    if others and found["ending"]:
        text += f" {capitalise(join_words(others[:3]))} may be as weak."
    return text


def _write_names(group: Group) -> str:
    return " and ".join(map(name_axis, group))


def _write_levels(group: Group, data: StudyJson) -> str:
    return ", ".join(write_level(level, list_levels(data, name)) for name, level in group.items())


def _write_ending(found: AdaptiveResult) -> tuple[str, str]:
    """Write how the search ended and where images pass the threshold on average; and how that was averaged."""
    start, place, detail = "Not at its end yet,", "", ""
    if found["crossing"]["value"] is not None and found["goal"] != "weakest":
        at = f"{name_axis(found['axis'])} {write_estimate(found['crossing'])}"
        place = f": on average images pass {found['threshold']:g} at {at}"
        groups = f" of each {_write_names(found['weakest'])}" if found["weakest"] else ""
        detail = f"(Found for each seed{groups} by itself, then averaged.)"
    if found["ending"] is not None:
        start = capitalise(found["ending"])
        if found["goal"] == "each" and found["crossing"]["reason"]:
            start = f"Ended, as {found['crossing']['reason']},"
        elif found["ending"] == "budget spent" and found["goal"] == "weakest":
            start = "Ended without knowing the weakest,"
        elif found["ending"] == "budget spent":
            spent = "every seed is used" if found["seeds"] == found["seeds_there"] else "no more images are allowed"
            start += f" ({spent}; ±{found['within']:g} was asked)"
    return f"{start} with {found['used']} of the {found['full']:,} images of the full grid{place}.", detail
