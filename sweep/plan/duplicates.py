"""Finds points that would be the same image as another: they have one key, so only one of them can be kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from sweep.experiment import Dimension, Experiment, Level, ProblemCollector
from sweep.plan.bindings import BoundGraph
from sweep.plan.graph_variants import VariantSelector
from sweep.plan.plan import Plan
from sweep.plan.rules import Written
from sweep.workflow import canonical

_LEVELS: Final = 1_000  # levels looked at along one dimension; values of longer ones come from ranges and differ
_POINTS: Final = 5_000  # points whose keys are compared anyway: some 30 µs each


def check_distinct_points(plan: Plan, problems: ProblemCollector[str]) -> None:
    """Add a problem where two points have the same key.

    Looks along each dimension for steps that set every field alike. Where conditions or a design may have left such
    points out, and in any small grid, the keys themselves are compared.
    """
    experiment = plan.experiment
    alike = list(_find_equal_steps(experiment, plan.bound_graphs, plan.variants))
    if alike and experiment.condition is None and experiment.design.kind == "full":
        for place, message in alike:
            problems.add_at_key(place, message)
    elif alike or len(plan) <= _POINTS:
        _compare_keys(plan, problems)


def _find_equal_steps(
    experiment: Experiment, bound_graphs: Sequence[BoundGraph], variants: VariantSelector
) -> Iterator[tuple[str, str]]:
    """(place, sentence) for each dimension in which two steps give the same graph."""
    for dimension in experiment.dimensions:
        if len(dimension) <= _LEVELS:
            for bound in bound_graphs:
                yield from _compare_steps(dimension, bound, variants)


def _compare_steps(dimension: Dimension, bound: BoundGraph, variants: VariantSelector) -> Iterator[tuple[str, str]]:
    seen: dict[str, str] = {}
    for levels in _iterate_steps(dimension):
        here = {**bound.levels, **levels}
        if not variants.is_selected(here, bound.variant):
            continue
        shown = " and ".join(f"{name} {level.value}" for name, level in levels.items())
        twin = seen.setdefault(_serialize(bound.values(here)), shown)
        if twin != shown:
            place = f"axes.{dimension.axes[0].name}"
            yield place, f"{place}: {shown} gives the same images as {twin}{_describe_variant(bound, variants)}."
            return


def _compare_keys(plan: Plan, problems: ProblemCollector[str]) -> None:
    seen: dict[str, int] = {}
    for index, key in plan.keys(range(len(plan))):
        twin = seen.setdefault(key, index)
        if twin != index:
            problems.add_at_key(
                "axes",
                f"Points {_describe_point(plan, twin)} and {_describe_point(plan, index)} are the same image; "
                "leave one out.",
            )
            return


def _describe_point(plan: Plan, index: int) -> str:
    values = " · ".join(f"{name} {value}" for name, value in plan.grid[index].values.items())
    return f"{index} ({values})"


def _iterate_steps(dimension: Dimension) -> Iterator[dict[str, Level]]:
    for at in range(len(dimension)):
        yield {axis.name: axis.levels[at] for axis in dimension.axes}


def _serialize(written: Written) -> str:
    return json.dumps({str(address): canonical(value) for address, value in written.items()}, sort_keys=True)


def _describe_variant(bound: BoundGraph, variants: VariantSelector) -> str:
    """Say what has to be excluded where the levels only coincide in one variant of the graph."""
    said = [f"{axis} is {_describe_level(bound.levels, axis)}" for axis in variants.axes]
    return f" where {' and '.join(said)}; leave those points out with exclude" if said else ""


def _describe_level(levels: Mapping[str, Level], axis: str) -> str:
    value = levels[axis].value
    return "null" if value is None else str(value)
