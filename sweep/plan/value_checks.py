"""Checks of a plan: each value against the field it sets, and points that come to the same image."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice, product
from typing import Final

from sweep.errors import DefinitionError
from sweep.experiment import Axis, Dimension, InputImage, Level, ProblemCollector, Setting
from sweep.plan.field_rules import THE_FIELD, Assignments, FieldRule, Slot, is_replacing
from sweep.plan.graph_variants import BoundGraph, VariantSelector
from sweep.plan.plan import Plan, choose_test_positions
from sweep.role_table import strip_number
from sweep.text import truncate
from sweep.workflow import Dialect, Graph, Roles, Value, canonical, check_value

_SHOWN: Final = 60  # characters of a value in a sentence
_TEXTS: Final = 1_000  # texts looked at, of an axis of more


def check_fixed(rule: FieldRule, problems: ProblemCollector[str]) -> None:
    """Check the fields that inputs alone decide."""
    places = {target: f"inputs.{target}" for target in rule.targets if target in rule.uses.inputs}
    for slot, problem in _find_problems(rule, {}):
        place = places.get(slot.target if slot else "") or next(iter(places.values()), "inputs")
        value = rule.uses.inputs.get(place.removeprefix("inputs."))
        problems.add_at_value(place, _write_sentence(place, "is", value, problem))


def check_moved(
    rule: FieldRule,
    dimension: Dimension,
    first: Mapping[str, Level],
    is_ours: Callable[[Mapping[str, Level]], bool],
    problems: ProblemCollector[str],
) -> None:
    """Check every value that one dimension writes through a rule, the other axes at their `first` levels.

    Levels that are not `is_ours` are meant for a graph of another variant.
    """
    axis = next(axis for axis in dimension.axes if axis.name in rule.axes)
    numeric = axis.kind in ("integer", "number", "seed")
    place = f"axes.{axis.name}"
    anyway = {problem for _, problem in _find_problems(rule, first)} if axis.name != rule.axes[0] else set()
    found: dict[str, tuple[object, str, str]] = {}  # which problem → (value, sentence, place), the furthest of its kind
    for at in _choose_positions(rule, dimension):
        here = {**first, **dimension.levels_at(at)}
        value = here[axis.name].value
        for slot, problem in _find_problems(rule, here) if is_ours(here) else ():
            if problem in anyway:
                continue  # another axis brings it about, and is told so
            sort = "low" if "at least 0." in problem else problem.partition(", not ")[0]  # too large, or too small
            kind = f"{slot.address if slot else ''} {sort}" if numeric else str(at)
            sentence = _write_sentence(place, "reaches" if numeric else "has", value, problem)
            if kind not in found or _is_further(value, found[kind][0]):
                found[kind] = (value, sentence, f"{place}.{at}")
    for _, sentence, where in found.values():
        problems.add_at_key(where, sentence)


def _choose_positions(rule: FieldRule, dimension: Dimension) -> Sequence[int]:
    """Choose the positions to check: of a long list of texts for fields that take any text, the first are enough."""
    positions = choose_test_positions(dimension)
    free = all(slot.schema.type == "string" and not slot.schema.choices for slot in rule.slots)
    if not free or any(is_replacing(axis, target) for target, axes in rule.uses.axes.items() for axis in axes):
        return positions  # words are replaced in each text it meets
    return positions[:_TEXTS]


def _is_further(value: object, than: object) -> bool:
    return isinstance(value, int | float) and isinstance(than, int | float) and abs(value) > abs(than)


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


_LEVELS: Final = 1_000  # levels looked at along one dimension; values of longer ones come from ranges and differ
_POINTS: Final = 5_000  # points whose keys are compared anyway: some 15 µs each


def check_distinct_points(plan: Plan, problems: ProblemCollector[str]) -> None:
    """Add a problem where two points have the same key.

    Looks along each dimension for steps that set every field alike. Where conditions or a design may have left such
    points out, and in any small grid, the keys themselves are compared.
    """
    experiment = plan.experiment
    short = [dimension for dimension in experiment.dimensions if len(dimension) <= _LEVELS]
    pairs = product(short, plan.bound_graphs)
    alike = [found for dimension, bound in pairs if (found := _find_equal_steps(dimension, bound, plan.variants))]
    if alike and not experiment.clauses and experiment.design.kind == "full":
        for place, message in alike:
            problems.add_at_key(place, message)
    elif alike or len(plan) <= _POINTS:
        _compare_keys(plan, problems)


def _find_equal_steps(dimension: Dimension, bound: BoundGraph, variants: VariantSelector) -> tuple[str, str] | None:
    """Return (place, sentence) where two steps of the dimension give the same graph."""
    seen: dict[str, str] = {}
    for at in range(len(dimension)):
        levels = dimension.levels_at(at)
        here = {**bound.levels, **levels}
        if not variants.is_selected(here, bound.variant):
            continue
        shown = " and ".join(f"{name} {level.value}" for name, level in levels.items())
        written = {str(address): canonical(value) for address, value in bound.values(here).items()}
        twin = seen.setdefault(json.dumps(written, sort_keys=True), shown)
        if twin != shown and not _weighs_no_lora(dimension.axes, here):
            place = f"axes.{dimension.axes[0].name}"
            return place, f"{place}: {shown} gives the same images as {twin}{_describe_variant(bound, variants)}."
    return None


def _compare_keys(plan: Plan, problems: ProblemCollector[str]) -> None:
    seen: dict[str, int] = {}
    for index, key in plan.keys(range(len(plan))):
        twin = seen.setdefault(key, index)
        if twin == index:
            continue
        levels, others = plan.grid[twin].levels, plan.grid[index].levels
        if not _weighs_no_lora([axis for axis in plan.axes if levels[axis.name] != others[axis.name]], levels):
            both = f"{_describe_point(plan, twin)} and {_describe_point(plan, index)}"
            problems.add_at_key("axes", f"Points {both} are the same image; leave one out.")
            return


def _weighs_no_lora(axes: Sequence[Axis], levels: Mapping[str, Level]) -> bool:
    """Tell whether these axes only weigh a LoRA, of which the point has none: its weights share one image, in a row
    each.
    """
    weights = [strip_number(target) == "lora_weight" for axis in axes for target in axis.levels.targets]
    settings = [setting for level in levels.values() for setting in level.settings.items()]
    loras = [value for name, value in settings if strip_number(name) == "lora"]
    return bool(weights) and all(weights) and None in loras


def _describe_point(plan: Plan, index: int) -> str:
    values = " · ".join(f"{name} {value}" for name, value in plan.grid[index].values.items())
    return f"{index} ({values})"


def _describe_variant(bound: BoundGraph, variants: VariantSelector) -> str:
    """Name the points to exclude where the levels only coincide in one variant of the graph."""
    values = {axis: bound.levels[axis].value for axis in variants.axes}
    said = [f"{axis} is {'null' if value is None else value}" for axis, value in values.items()]
    return f" where {' and '.join(said)}; leave those points out with exclude" if said else ""


STRENGTH: Final = "denoise_strength"
_LOOKED_AT: Final = 1_000  # strengths, and numbers of steps
_MOST: Final = 1_000  # steps tried to tell strengths apart
_LISTED: Final = 4


def note_strengths(graph: Graph, roles: Roles, uses: Assignments, dialect: Dialect) -> Iterator[str]:
    """Yield notes on strengths that come to the same image, and on how fields encode a strength."""
    if STRENGTH not in uses:
        return
    targets = roles.targets.get(STRENGTH, ())
    yield from dialect.note_encodings([(target.address, target.encode) for target in targets])
    values = [value for value in _keep_numbers(uses.settings(STRENGTH)) if 0 <= value <= 1]
    own = (
        graph.nodes[target.address.node].fields.get(target.address.field) for target in roles.targets.get("steps", ())
    )
    counts = [int(count) for count in _keep_numbers(uses.settings("steps") if "steps" in uses else own) if count >= 1]
    if counts and values:
        count_steps = partial(dialect.count_steps, graph, [target.address for target in targets])
        yield from _note_equal(sorted(set(values)), min(counts), count_steps, dialect)


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
    same = f"{', '.join(words[:-1])} and {words[-1]} {dialect.equal_strengths.format(count=count)}"
    apart = (n for n in range(steps + 1, _MOST) if len({count_steps(s, n) for s in strengths}) == len(strengths))
    enough = next(apart, None)
    more = f" {enough} steps tell all of them apart." if enough else ""
    yield f"With {steps} steps, {STRENGTH} {same}{others}.{more}"
