"""Which settings an experiment makes: by its inputs, by the levels of its axes, and where two of them meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from sweep.experiment.definition import Axis, Experiment, Level, Replacement, Scalar, Setting
from sweep.experiment.levels import LazyLevels, LinearLevels, ListLevels, LogLevels

_FEW = 256  # levels looked at one by one; of longer axes of numbers the extremes tell


def targets_of(axis: Axis) -> tuple[str, ...]:
    """What an axis sets, in the order its levels name it."""
    if isinstance(axis.levels, LazyLevels):
        return axis.levels.targets
    return tuple(dict.fromkeys(chain.from_iterable(level.settings for level in axis.levels)))


def telling_levels(axis: Axis) -> Sequence[Level]:
    """Levels that are all right only if every level is: all of a short axis, the extremes of a long one of numbers."""
    levels = axis.levels
    if len(levels) <= _FEW:
        return levels
    if isinstance(levels, LinearLevels | LogLevels):
        return [levels[0], levels[1], levels[-1]]
    if isinstance(levels, ListLevels) and {type(value) for value in levels.values} <= {int, float}:
        ends = (min(levels.values, key=_number), max(levels.values, key=_number))
        return [levels[levels.values.index(value)] for value in ends]
    return levels


def _replaces(axis: Axis, target: str) -> bool:
    """Whether the axis only replaces words in what the target says otherwise."""
    first = axis.levels[0].settings if len(axis.levels) else {}
    return isinstance(first.get(target), Replacement)


def _number(value: Scalar) -> float:
    return value if isinstance(value, int | float) else 0.0


@dataclass(frozen=True, slots=True)
class Uses:
    """Who sets what: target → the axes whose levels may set it; inputs by themselves."""

    inputs: Mapping[str, Setting]
    axes: Mapping[str, tuple[Axis, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Experiment) -> Uses:
        axes: dict[str, tuple[Axis, ...]] = {}
        for axis in experiment.axes:
            for target in targets_of(axis):
                axes[target] = (*axes.get(target, ()), axis)
        return cls(experiment.inputs, axes)

    def __iter__(self) -> Iterator[str]:
        """Every target that is set."""
        return iter(dict.fromkeys((*self.inputs, *self.axes)))

    def __contains__(self, target: object) -> bool:
        return target in self.inputs or target in self.axes

    def clashing(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Targets that two axes or more set outright, with the axes: only one of them could have its way."""
        for target, axes in self.axes.items():
            names = tuple(axis.name for axis in axes if not _replaces(axis, target))
            if len(names) > 1:
                yield target, names

    def places(self, target: str) -> tuple[str, ...]:
        """Where the file sets it: inputs.steps, axes.steps."""
        by_axes = tuple(f"axes.{axis.name}" for axis in self.axes.get(target, ()))
        return by_axes or (f"inputs.{target}",)

    def merged(
        self, targets: Sequence[str], levels: Mapping[str, Level], defaults: Mapping[str, Setting]
    ) -> dict[str, Setting]:
        """The settings of these targets at these levels: inputs, above them levels, then replacements in their text.

        Raises ExperimentError where a replacement finds nothing to replace.
        """
        settings = {target: self.inputs[target] for target in targets if target in self.inputs}
        replacements: list[tuple[str, Replacement]] = []
        for target in targets:
            for axis in self.axes.get(target, ()):
                made = levels[axis.name].settings
                if target not in made:
                    continue
                setting = made[target]
                if isinstance(setting, Replacement):
                    replacements.append((target, setting))
                else:
                    settings[target] = setting
        for target, replacement in replacements:
            text = settings.get(target, defaults.get(target))
            settings[target] = replacement.apply(text if isinstance(text, str) else "")
        return settings
