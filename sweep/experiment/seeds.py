"""Axes of seeds: counted from a start, or only counted and drawn later by whoever keeps the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sweep.errors import ExperimentError
from sweep.experiment.levels import LinearLevels, ListLevels, UndrawnLevels, fraction
from sweep.experiment.naming import AxisError, Naming
from sweep.experiment.values import Axis, Dimension
from sweep.experiment.vocabulary import SEED_MAX


def seed_axis(naming: Naming, count: int, start: int | None) -> Axis:
    """`count` seeds from start on, or still to be drawn where there is no start."""
    if start is None:
        return Axis(naming.name, "seed", UndrawnLevels(naming.name, count, naming.targets))
    if not (start >= 0 and start + count - 1 <= SEED_MAX):
        raise AxisError(f"{naming.place}: seeds are 0 to {SEED_MAX}; these reach {start + count - 1}", "start")
    return Axis(naming.name, "seed", LinearLevels(fraction(start), fraction(1), count, naming.targets, whole=True))


def drawn_dimensions(
    dimensions: tuple[Dimension, ...], seeds: Mapping[str, tuple[int, ...]], undrawn: Mapping[str, int]
) -> tuple[Dimension, ...]:
    """`dimensions` with the seeds of undrawn axes in their place. Raises ExperimentError where they do not fit."""
    for name, values in seeds.items():
        if name not in undrawn:
            raise ExperimentError(f"{name} is not an axis of seeds that are still to be drawn.")
        if len(values) != undrawn[name] or len(set(values)) != len(values):
            raise ExperimentError(f"Axis {name} needs {undrawn[name]} different seeds, not {len(values)}.")
        if not all(0 <= seed <= SEED_MAX for seed in values):
            raise ExperimentError(f"Seeds are 0 to {SEED_MAX}.")

    def drawn(axis: Axis) -> Axis:
        if axis.name not in seeds or not isinstance(axis.levels, UndrawnLevels):
            return axis
        return replace(axis, levels=ListLevels(seeds[axis.name], axis.levels.targets))

    return tuple(Dimension(tuple(drawn(axis) for axis in dimension.axes)) for dimension in dimensions)
