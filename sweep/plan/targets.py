"""Assignments: which targets an experiment sets, by which axes, and to what at given levels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from sweep.experiment import (
    Axis,
    Dimension,
    Experiment,
    LazyLevels,
    Level,
    LinearLevels,
    ListLevels,
    LogLevels,
    Replacement,
    Setting,
    replace_words,
)

_FEW: Final = 256  # levels of a range that are looked at one by one; of longer ones the ends tell
_MANY: Final = 10_000  # the same of a list of numbers


def list_targets(axis: Axis) -> tuple[str, ...]:
    """List what an axis sets, in the order its levels name it."""
    if isinstance(axis.levels, LazyLevels):
        return axis.levels.targets
    return tuple(dict.fromkeys(chain.from_iterable(level.settings for level in axis.levels)))


def choose_test_positions(dimension: Dimension) -> Sequence[int]:
    """Choose positions that are all right only if every one is: all of a short dimension, the extremes of a long range
    or of a long list of numbers. Zipped axes are looked at step by step, as they never meet otherwise.
    """
    count = len(dimension)
    if len(dimension.axes) > 1 or count <= _FEW:
        return range(count)
    levels = dimension.axes[0].levels
    if isinstance(levels, LinearLevels | LogLevels):
        return (0, 1, count - 1)
    if count > _MANY and isinstance(levels, ListLevels) and {type(value) for value in levels.values} <= {int, float}:
        numbers = [value for value in levels.values if isinstance(value, int | float)]
        odd = [value for value in numbers if value != int(value)][:1]
        return sorted({numbers.index(value) for value in (min(numbers), max(numbers), *odd)})
    return range(count)


def levels_at(dimension: Dimension, position: int) -> dict[str, Level]:
    """Return the levels of all axes of a dimension at a position."""
    return {axis.name: axis.levels[position] for axis in dimension.axes}


def _is_replacing(axis: Axis, target: str) -> bool:
    """Tell whether the axis only replaces words in what the target says otherwise."""
    first = axis.levels[0].settings if len(axis.levels) else {}
    return isinstance(first.get(target), Replacement)


@dataclass(frozen=True, slots=True)
class Assignments:
    """Who sets what: target → the axes whose levels may set it; inputs by themselves."""

    inputs: Mapping[str, Setting]
    axes: Mapping[str, tuple[Axis, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Experiment) -> Assignments:
        axes: dict[str, tuple[Axis, ...]] = {}
        for axis in experiment.axes:
            for target in list_targets(axis):
                axes[target] = (*axes.get(target, ()), axis)
        return cls(experiment.inputs, axes)

    def __iter__(self) -> Iterator[str]:
        """List every target that is set."""
        return iter(dict.fromkeys((*self.inputs, *self.axes)))

    def __contains__(self, target: object) -> bool:
        return target in self.inputs or target in self.axes

    def settings(self, target: str) -> Iterator[Setting]:
        """Collect everything a target is ever set to, by inputs and by each level of an axis."""
        if target in self.inputs:
            yield self.inputs[target]
        for axis in self.axes.get(target, ()):
            yield from (level.settings[target] for level in axis.levels if target in level.settings)

    def is_replacing(self) -> bool:
        """Tell whether any axis replaces words, so that each text it meets has to be looked at."""
        return any(_is_replacing(axis, target) for target, axes in self.axes.items() for axis in axes)

    def find_clashes(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Find the targets that two axes or more set outright, with the axes: only one of them could have its way."""
        for target, axes in self.axes.items():
            names = tuple(axis.name for axis in axes if not _is_replacing(axis, target))
            if len(names) > 1:
                yield target, names

    def locate(self, target: str) -> tuple[str, ...]:
        """Find where the file sets it: inputs.steps, axes.steps."""
        by_axes = tuple(f"axes.{axis.name}" for axis in self.axes.get(target, ()))
        return by_axes or (f"inputs.{target}",)

    def merge(
        self, targets: Sequence[str], levels: Mapping[str, Level], defaults: Mapping[str, Setting]
    ) -> dict[str, Setting]:
        """Merge the settings of these targets at these levels: inputs, then levels, then replacements in their text.

        Raises:
            ExperimentError: A replacement finds nothing to replace.
        """
        settings = {target: self.inputs[target] for target in targets if target in self.inputs}
        replacements: dict[str, list[Replacement]] = {}
        for target in targets:
            for axis in self.axes.get(target, ()):
                made = levels[axis.name].settings
                if target not in made:
                    continue
                setting = made[target]
                if isinstance(setting, Replacement):
                    replacements.setdefault(target, []).append(setting)
                else:
                    settings[target] = setting
        for target, found in replacements.items():
            text = settings.get(target, defaults.get(target))
            settings[target] = replace_words(text if isinstance(text, str) else "", found)
        return settings
