"""Pydantic's errors in plain words with their place, and checks of axes against each other and against the inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from sweep.errors import did_you_mean
from sweep.experiment.axis_arguments import suggest_axis
from sweep.experiment.document import Document, DocumentPath, ProblemCollector, join_path, quote_source
from sweep.experiment.input_types import TEMPLATE_NAMES, quote
from sweep.experiment.model import Axis, Dimension, ReplacingLevels, Setting
from sweep.experiment.overrides import MERGED
from sweep.experiment.schema import (
    AXIS_KEYS,
    AXIS_TAGS,
    ExperimentFile,
    list_known_keys,
    list_section_keys,
)


def validate_shape(document: Document, problems: ProblemCollector[DocumentPath]) -> ExperimentFile:
    """Validate the file's shape; leave out what has problems, so that the rest is checked too."""
    data = document.data
    try:
        return ExperimentFile.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    pruned = {key: dict(part) if isinstance(part, dict) else part for key, part in data.items()}
    for detail in details:
        place = _locate(detail["loc"], document)
        _report(problems, document, place, detail)
        if not place:
            continue
        section = pruned.get(str(place[0]))
        if len(place) > 1 and place[0] in MERGED and isinstance(section, dict):
            section.pop(str(place[1]), None)
        else:
            pruned.pop(str(place[0]), None)
    pruned.setdefault("workflow", TEMPLATE_NAMES[0])
    try:
        return ExperimentFile.model_validate(pruned)
    except ValidationError:
        return ExperimentFile(workflow=TEMPLATE_NAMES[0])


def _locate(loc: Sequence[str | int], document: Document) -> DocumentPath:
    """Find where in the file: pydantic's way without the names of kinds, and without the zip that `axes.zip` spares."""
    place: DocumentPath = tuple(part for part in loc if part not in AXIS_TAGS)
    if place[:3] == ("axes", "zip", "zip") and place[:3] not in document.keys:
        return ("axes", *place[2:])
    return place


def _report(problems: ProblemCollector[DocumentPath], document: Document, place: DocumentPath, detail: Any) -> None:
    data: Mapping[str, Any] = document.data
    kind, raw, name = detail["type"], detail.get("input"), join_path(place)
    last = str(place[-1]) if place else ""
    if kind == "extra_forbidden":
        problems.add_at_key(place, _describe_unknown_key(place, data))
    elif kind == "missing":
        above = join_path(place[:-1])
        problems.add_at_key(place[:-1], f"{above} needs {last}" if above else f"{last} is missing")
    elif kind == "union_tag_not_found":
        problems.add_at_key(place, _describe_no_axis(name, raw))
    elif kind == "value_error":
        problems.add_at_value(place, f"{name} {detail['ctx']['error']}".strip())
    else:
        message = f"{name} {_describe(detail)}"
        if detail["type"] == "string_type" and isinstance(raw, int | float):
            message += f'; text that looks like something else needs quotes: "{quote(raw)}"'
        problems.add_at_value(place, quote_source(document, place, message))


def _describe_unknown_key(place: DocumentPath, data: Mapping[str, Any]) -> str:
    """Of a key that is not known there: the nearest that could stand there, or that it belongs to another kind."""
    last, beside, known = str(place[-1]), _list_siblings(place, data), _list_keys_known(place, data)
    if place[0] == "axes" and len(place) > 2 and last in AXIS_KEYS:
        others = ", ".join(key for key in beside if key in known)
        return f"{join_path(place[:-1])} cannot have {last} beside {others}"
    return f"{join_path(place)} is not known here.{did_you_mean(last, [key for key in known if key not in beside])}"


def _list_siblings(place: DocumentPath, data: Mapping[str, Any]) -> Sequence[str]:
    spec: Any = data
    for part in place[:-1]:
        spec = spec.get(str(part)) if isinstance(spec, dict) else None
    return [key for key in spec if key != place[-1]] if isinstance(spec, dict) else []


def _list_keys_known(place: DocumentPath, data: Mapping[str, Any]) -> Sequence[str]:
    if len(place) == 1:
        return tuple(ExperimentFile.model_fields)
    if place[0] == "axes":
        spec: Any = data
        for part in place[:-1]:
            spec = spec.get(str(part)) if isinstance(spec, dict) else None
        return list_known_keys(spec if isinstance(spec, dict) else ())
    return list_section_keys().get(str(place[0]), ())


def _describe_no_axis(name: str, raw: Any) -> str:
    if isinstance(raw, dict):
        if not raw:
            return f"{name} is empty; an axis needs at least one value"
        odd = next(iter(raw))
        return f"{name} is not a kind of axis: it has {', '.join(map(str, raw))}.{did_you_mean(str(odd), AXIS_KEYS)}"
    if raw is None:
        return f"{name} is empty; an axis needs at least one value"
    meant = suggest_axis(name.rpartition(".")[2], raw) if isinstance(raw, str) else None
    way = f"write {meant}" if meant else "one fixed value belongs to inputs"
    return f"{name} must be a list or a mapping, not {quote(raw)}; {way}"


def _describe(detail: Any) -> str:
    kind, raw, context = detail["type"], detail.get("input"), detail.get("ctx", {})
    wanted = {
        "string_type": "text",
        "int_type": "a whole number",
        "list_type": "a list",
        "dict_type": "a mapping",
        "model_type": "a mapping",
        "tuple_type": "a list",
    }.get(kind)
    if wanted:
        return f"must be {wanted}, not {quote(raw)}"
    match kind:
        case "greater_than_equal":
            return f"is {quote(raw)}, but must be at least {context['ge']}"
        case "less_than_equal":
            return f"is {quote(raw)}, but must be at most {context['le']}"
        case "literal_error":
            near = did_you_mean(raw, re.findall(r"'([^']+)'", context["expected"])) if isinstance(raw, str) else ""
            return f"must be {context['expected'].replace(chr(39), '')}, not {quote(raw)}.{near}"
        case "string_too_short":
            return "must not be empty"
    return str(detail["msg"]).lower()


def check_distinct_axes(problems: ProblemCollector[DocumentPath], dimensions: Sequence[Dimension]) -> None:
    """Check that no two axes have one name or set one target: only one of them could win."""
    names: set[str] = set()
    homes: dict[str, str] = {}
    for axis in (axis for dimension in dimensions for axis in dimension.axes):
        place = ("axes", axis.name)
        if axis.name in names:
            problems.add_at_key(place, f"there are two axes named {axis.name}")
        names.add(axis.name)
        for target in _collect_targets(axis):
            if target in homes and homes[target] != axis.name:
                problems.add_at_key(place, f"axes {homes[target]} and {axis.name} both set {target}")
            homes.setdefault(target, axis.name)


def _collect_targets(axis: Axis) -> set[str]:
    if isinstance(axis.levels, ReplacingLevels):
        return set()  # replacements add up
    if axis.kind == "label":
        return {target for level in axis.levels for target in level.settings}
    targets: Any = getattr(axis.levels, "targets", None)
    return set(targets if targets is not None else axis.levels[0].settings)


def check_replacements(
    problems: ProblemCollector[DocumentPath],
    inputs: Mapping[str, Setting],
    dimensions: Sequence[Dimension],
    notices: list[str],
) -> None:
    """Check that every replacement finds its text, as far as the file itself says what that is; add what to notice."""
    axes = [axis for dimension in dimensions for axis in dimension.axes]
    first: dict[tuple[str, str], str] = {}
    for axis in axes:
        levels = axis.levels
        if not isinstance(levels, ReplacingLevels):
            continue
        for target in levels.targets:
            search = levels.search
            place = ("axes", axis.name, "replace")
            texts = _collect_texts(target, inputs, axes)
            longer = {other for other in _list_searches(target, axes) if search in other and other != search}
            missing = next((text for text in texts if search not in text), None)
            other = first.setdefault((target, search), axis.name)
            if other != axis.name:
                problems.add_at_value(place, f'axes.{other} and axes.{axis.name} both replace "{search}"')
            elif missing is not None:
                message = f'axes.{axis.name}: "{search}" does not occur in the {target} {quote(missing)}'
                problems.add_at_value(place, message)
            elif inside := max((_count_inside(search, _remove(longer, text)) for text in texts), default=(0, 0)):
                notices += _note_inside(f"axes.{axis.name}", search, target, *inside)


def _list_searches(target: str, axes: Sequence[Axis]) -> set[str]:
    levels = [axis.levels for axis in axes]
    return {each.search for each in levels if isinstance(each, ReplacingLevels) and target in each.targets}


def _remove(searches: set[str], text: str) -> str:
    """Blank what longer replacements of other axes take, the longest first."""
    for search in sorted(searches, key=len, reverse=True):
        text = text.replace(search, "\0")
    return text


def _count_inside(search: str, text: str) -> tuple[int, int]:
    """Count where `search` stands inside a longer word, and where it stands at all."""
    word = re.findall(rf"(?<!\w){re.escape(search)}(?!\w)", text)
    return text.count(search) - len(word), text.count(search)


def _note_inside(place: str, search: str, target: str, inside: int, count: int) -> list[str]:
    if not inside:
        return []
    times = f"{count} times in the {target}, {inside} of them" if count > 1 else f"in the {target}"
    return [f'{place}: "{search}" occurs {times} inside a longer word; all of them are replaced.']


def _collect_texts(target: str, inputs: Mapping[str, Setting], axes: Sequence[Axis]) -> list[str]:
    setters = [a for a in axes if not isinstance(a.levels, ReplacingLevels) and target in _collect_targets(a)]
    if not setters:
        fixed = inputs.get(target)
        return [fixed] if isinstance(fixed, str) else []
    found = [level.settings.get(target, inputs.get(target)) for level in setters[0].levels]
    return [text for text in found if isinstance(text, str)]
