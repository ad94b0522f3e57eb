"""Checks every value an experiment sets against the field it goes into: once each, not once a point."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sweep.errors import DefinitionError
from sweep.experiment import Dimension, InputImage, Level, ProblemCollector, Setting
from sweep.plan.bindings import Binding
from sweep.plan.rules import THE_FIELD, Slot
from sweep.plan.targets import choose_test_positions, levels_at
from sweep.text import truncate
from sweep.workflow import check_value

_SHOWN: Final = 60  # characters of a value in a sentence
_TEXTS: Final = 1_000  # texts looked at, of an axis of more


@dataclass(frozen=True, slots=True)
class ValidationContext:
    """Where the other axes stand while one is looked at, and which levels (`ours`) the graph at hand is meant for."""

    levels: Mapping[str, Level]
    ours: Callable[[Mapping[str, Level]], bool]


def check_fixed(binding: Binding, problems: ProblemCollector[str]) -> None:
    """Check what inputs alone decide."""
    places = {target: f"inputs.{target}" for target in binding.rule.targets if target in binding.uses.inputs}
    for slot, problem in _find_problems(binding, {}):
        place = places.get(slot.target if slot else "") or next(iter(places.values()), "inputs")
        value = binding.uses.inputs.get(place.removeprefix("inputs."))
        problems.add_at_value(place, _write_sentence(place, "is", value, problem))


def check_moved(
    binding: Binding, dimension: Dimension, around: ValidationContext, problems: ProblemCollector[str]
) -> None:
    """Check every value that one dimension writes through a binding."""
    axis = next(axis for axis in dimension.axes if axis.name in binding.axes)
    numeric = axis.kind in ("integer", "number", "seed")
    place = f"axes.{axis.name}"
    anyway = (
        {problem for _, problem in _find_problems(binding, around.levels)} if axis.name != binding.axes[0] else set()
    )
    found: dict[str, tuple[object, str, str]] = {}  # which problem → (value, sentence, place), the furthest of its kind
    for at in _choose_positions(binding, dimension):
        here = {**around.levels, **levels_at(dimension, at)}
        value = here[axis.name].value
        for slot, problem in _find_problems(binding, here) if around.ours(here) else ():
            if problem in anyway:
                continue  # another axis brings it about, and is told so
            kind = f"{slot.address if slot else ''} {_classify_problem(problem)}" if numeric else str(at)
            sentence = _write_sentence(place, "reaches" if numeric else "has", value, problem)
            if kind not in found or _is_further(value, found[kind][0]):
                found[kind] = (value, sentence, f"{place}.{at}")
    for _, sentence, where in found.values():
        problems.add_at_key(where, sentence)


def _choose_positions(binding: Binding, dimension: Dimension) -> Sequence[int]:
    """Find where to look: a long list of texts for fields that take any text says nothing new after a while."""
    positions = choose_test_positions(dimension)
    free = all(slot.schema.type == "string" and not slot.schema.choices for slot in binding.rule.slots)
    return positions[:_TEXTS] if free and len(positions) > _TEXTS and not binding.uses.is_replacing() else positions


def _classify_problem(problem: str) -> str:
    """Name the kind of a problem: those of one kind are told once, with the furthest value: those too large, those too
    small.
    """
    return "low" if "at least 0." in problem else problem.partition(", not ")[0]


def _is_further(value: object, than: object) -> bool:
    return isinstance(value, int | float) and isinstance(than, int | float) and abs(value) > abs(than)


def _find_problems(binding: Binding, levels: Mapping[str, Level]) -> Iterator[tuple[Slot | None, str]]:
    """(slot, end of a sentence) for each field that does not take its value."""
    try:
        written = binding.write(levels)
    except DefinitionError as error:
        yield None, error.message
        return
    told: set[str] = set()
    for slot in binding.rule.slots:
        if slot.address in written and (problem := check_value(slot.schema, written[slot.address])):
            if problem not in told:
                yield slot, f"{THE_FIELD}{slot.address} {problem}"
            told.add(problem)


def _write_sentence(place: str, verb: str, value: Setting, problem: str) -> str:
    end = "" if problem.endswith((".", "?", ")")) else "."
    if problem.startswith(THE_FIELD) and value is not None:
        return f"{place} {verb} {_show_value(value)}; {problem}{end}"
    return f"{place}: {problem}{end}"


def _show_value(value: Setting) -> str:
    if isinstance(value, InputImage):
        return value.shown
    return truncate(str(value), _SHOWN)
