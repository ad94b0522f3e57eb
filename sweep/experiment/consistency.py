"""Axes held against each other and against the inputs: names, targets, and texts that replacements must find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sweep.experiment.document import Faults
from sweep.experiment.levels import ReplacingLevels
from sweep.experiment.values import Axis, Dimension, Setting
from sweep.experiment.vocabulary import said


def check_distinct(faults: Faults, dimensions: Sequence[Dimension]) -> None:
    """No two axes of one name, and no two that set one target: which of them would win?"""
    names: set[str] = set()
    homes: dict[str, str] = {}
    for axis in (axis for dimension in dimensions for axis in dimension.axes):
        place = ("axes", axis.name)
        if axis.name in names:
            faults.key(place, f"there are two axes named {axis.name}")
        names.add(axis.name)
        for target in _targets_of(axis):
            if target in homes and homes[target] != axis.name:
                faults.key(place, f"axes {homes[target]} and {axis.name} both set {target}")
            homes.setdefault(target, axis.name)


def _targets_of(axis: Axis) -> set[str]:
    if isinstance(axis.levels, ReplacingLevels):
        return set()  # replacements add up
    if axis.kind == "label":
        return {target for level in axis.levels for target in level.settings}
    targets: Any = getattr(axis.levels, "targets", None)
    return set(targets if targets is not None else axis.levels[0].settings)


def check_replacements(faults: Faults, inputs: Mapping[str, Setting], dimensions: Sequence[Dimension]) -> None:
    """Every replacement finds its text in what it acts on, as far as the file itself says what that is."""
    axes = [axis for dimension in dimensions for axis in dimension.axes]
    for axis in axes:
        if not isinstance(axis.levels, ReplacingLevels):
            continue
        for target in axis.levels.targets:
            texts = _texts_of(target, inputs, axes)
            missing = next((text for text in texts if axis.levels.search not in text), None)
            if missing is not None:
                faults.value(
                    ("axes", axis.name, "replace"),
                    f'axes.{axis.name}: "{axis.levels.search}" does not occur in the {target} {said(missing)}',
                )


def _texts_of(target: str, inputs: Mapping[str, Setting], axes: Sequence[Axis]) -> list[str]:
    setters = [a for a in axes if not isinstance(a.levels, ReplacingLevels) and target in _targets_of(a)]
    if not setters:
        fixed = inputs.get(target)
        return [fixed] if isinstance(fixed, str) else []
    found = [level.settings.get(target, inputs.get(target)) for level in setters[0].levels]
    return [text for text in found if isinstance(text, str)]
