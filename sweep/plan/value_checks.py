"""Checks of the values that rules write into fields: problems, and notes of strengths that give the same image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

from sweep.errors import DefinitionError
from sweep.experiment import Dimension, Level, LinearLevels, Setting
from sweep.input_images import InputImage
from sweep.plan.field_rules import THE_FIELD, FieldRule, PlanContext, Slot
from sweep.text import join_words, truncate
from sweep.workflow import Dialect, Graph, Roles, Value, check_value

_STRENGTH: Final = "denoise_strength"
_LOOKED_AT: Final = 1_000  # strengths, and numbers of steps
_MOST: Final = 1_000  # steps tried to tell strengths apart
_LISTED: Final = 4
_SHOWN: Final = 60  # characters of a value in a sentence
_TOLD: Final = 20  # values of one axis that a field does not take


def check_rule_values(
    rules: Sequence[FieldRule],
    first: Mapping[str, Level],
    context: PlanContext,
    is_selected: Callable[[Mapping[str, Level]], bool],
) -> None:
    """Check every value that a rule writes, and add a problem for each that its field does not take.

    `first` are the levels of the axes that a value is not about. Levels for which `is_selected` is false need a graph
    of another variant: they are checked with that one.
    """
    for rule in rules:
        places = {target: f"inputs.{target}" for target in rule.targets if target in rule.uses.inputs}
        for slot, problem in _find_problems(rule, {}) if not rule.axes else ():  # inputs alone decide these fields
            place = places.get(slot.target if slot else "") or next(iter(places.values()), "inputs")
            value = rule.uses.inputs.get(place.removeprefix("inputs."))
            context.problems.add_at_value(place, _write_sentence(place, "is", value, problem))
        for dimension in context.experiment.dimensions:
            if any(axis.name in rule.axes for axis in dimension.axes):
                _check_moved(rule, dimension, first, context, is_selected)


def _check_moved(
    rule: FieldRule,
    dimension: Dimension,
    first: Mapping[str, Level],
    context: PlanContext,
    is_selected: Callable[[Mapping[str, Level]], bool],
) -> None:
    """Check every value that one dimension writes through a rule, the other axes at their first levels.

    Levels that need a graph of another variant are not checked with this one.
    """
    axis = next(axis for axis in dimension.axes if axis.name in rule.axes)
    numeric = axis.kind in ("integer", "number", "seed")
    place = f"axes.{axis.name}"
    anyway = {problem for _, problem in _find_problems(rule, first)} if axis.name != rule.axes[0] else set()
    found: dict[str, tuple[Any, str, str]] = {}  # which problem → (value, sentence, place), the furthest one
    for at in choose_test_positions(dimension):
        here = {**first, **dimension.levels_at(at)}
        if len(found) >= _TOLD or not is_selected(here):
            continue
        value: Any = here[axis.name].value
        for slot, problem in _find_problems(rule, here):
            if problem in anyway:
                continue  # another axis causes it, and has the problem
            sort = "low" if "at least 0." in problem else problem.partition(", not ")[0]  # too large, or too small
            kind = f"{slot.address if slot else ''} {sort}" if numeric else str(at)
            sentence = _write_sentence(place, "reaches" if numeric else "has", value, problem)
            if kind not in found or (numeric and abs(value) > abs(found[kind][0])):
                found[kind] = (value, sentence, f"{place}.{at}")
    for _, sentence, where in found.values():
        context.problems.add_at_key(where, sentence)


def note_strengths(graph: Graph, roles: Roles, context: PlanContext) -> Iterator[str]:
    """Note strengths that come to the same image, and how fields encode a strength."""
    if _STRENGTH not in context.uses:
        return
    targets = roles.targets.get(_STRENGTH, ())
    yield from context.schemas.dialect.note_encodings([(target.address, target.encode) for target in targets])
    values = [value for value in _keep_numbers(context.uses.settings(_STRENGTH)) if 0 <= value <= 1]
    steps = [target.address for target in roles.targets.get("steps", ())]
    own = (graph.nodes[address.node].fields.get(address.field) for address in steps)
    used = context.uses.settings("steps") if "steps" in context.uses else own
    counts = [int(count) for count in _keep_numbers(used) if count >= 1]
    if counts and values:
        count_steps = partial(context.schemas.dialect.count_steps, graph, [target.address for target in targets])
        yield from _note_equal(sorted(set(values)), min(counts), count_steps, context.schemas.dialect)


def _find_problems(rule: FieldRule, levels: Mapping[str, Level]) -> Iterator[tuple[Slot | None, str]]:
    """Yield (slot, end of a sentence) for each field that does not take its value."""
    try:
        written = rule.write(levels)
    except DefinitionError as error:
        yield None, error.message
        return
    told: set[str] = set()
    for slot in rule.slots:
        if slot.address in written and (problem := check_value(slot.schema, written[slot.address])):
            if problem not in told:
                yield slot, f"{THE_FIELD}{slot.address} {problem}"
            told.add(problem)


def _write_sentence(place: str, verb: str, value: Setting, problem: str) -> str:
    end = "" if problem.endswith((".", "?", ")")) else "."
    if problem.startswith(THE_FIELD) and value is not None:
        shown = value.shown if isinstance(value, InputImage) else truncate(str(value), _SHOWN)
        return f"{place} {verb} {shown}; {problem}{end}"
    return f"{place}: {problem}{end}"


def _keep_numbers(values: Iterable[Setting | Value]) -> list[float]:
    found = islice(values, _LOOKED_AT)
    return [value for value in found if isinstance(value, int | float) and not isinstance(value, bool)]


def _note_equal(
    strengths: Sequence[float], steps: int, count_steps: Callable[[float, int], int | None], dialect: Dialect
) -> Iterator[str]:
    groups: dict[int | None, list[float]] = {}
    for strength in strengths:
        groups.setdefault(count_steps(strength, steps), []).append(strength)
    equal = [(count, alike) for count, alike in groups.items() if len(alike) > 1]
    count, alike = equal[0] if equal else (None, [])
    if count is None:
        return
    words = [f"{strength:g}" for strength in alike[:_LISTED]]
    if len(alike) > _LISTED:
        words.append(f"{len(alike) - _LISTED} more")
    others = "; others do, too" if len(equal) > 1 else ""
    same = f"{join_words(words)} {dialect.equal_strengths.format(count=count)}"
    apart = (n for n in range(steps + 1, _MOST) if len({count_steps(s, n) for s in strengths}) == len(strengths))
    enough = next(apart, None)
    more = f" {enough} steps tell all of them apart." if enough else ""
    yield f"With {steps} steps, {_STRENGTH} {same}{others}.{more}"


_FEW: Final = 256  # levels of a range that are looked at one by one; of longer ones the ends tell


def thin(positions: Sequence[int], most: int) -> Sequence[int]:
    """Choose at most so many positions, at least two: the first, the last and some between."""
    count, most = len(positions), max(most, 2)
    return positions if count <= most else [positions[at * (count - 1) // (most - 1)] for at in range(most)]


def choose_test_positions(dimension: Dimension) -> Sequence[int]:
    """Choose the positions of a dimension whose check tells of all: every one, but of a long range the extremes."""
    count = len(dimension)
    is_range = len(dimension.axes) == 1 and isinstance(dimension.axes[0].levels, LinearLevels)
    return (0, 1, count - 1) if is_range and count > _FEW else range(count)
