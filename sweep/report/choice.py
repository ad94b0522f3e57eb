"""Which rows of the results a sheet, an animation or a filmstrip shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.errors import UsageError, did_you_mean
from sweep.report.data import Level, axis_data
from sweep.report.material import AxisColumn, Material


@dataclass(frozen=True, slots=True)
class Levels:
    """An axis with its levels in order and each row's index into them."""

    axis: AxisColumn
    levels: Sequence[Level]
    at: Sequence[int]

    def label(self, index: int) -> str:
        """A level as people read it."""
        return label(self.levels[index], self.axis.kind)


def label(level: Level, kind: str = "") -> str:
    """A level as people read it: short numbers, file names without their folder."""
    if level is None:
        return "none"
    if isinstance(level, bool):
        return "yes" if level else "no"
    if isinstance(level, float):
        return f"{level:.6g}"
    return str(level).rsplit("/", 1)[-1] if kind == "image" else str(level)


def levels_of(material: Material, name: str) -> Levels:
    """The axis called `name`. Raises UsageError where there is none."""
    for axis in material.axes:
        if axis.name == name:
            data = axis_data(axis, material.frame)
            return Levels(axis, data["levels"], data["at"])
    names = [axis.name for axis in material.axes]
    known = f"{material.name} has the axes {', '.join(names)}." if names else f"{material.name} has no axes."
    raise UsageError(f"{name} is not an axis.{did_you_mean(name, names)}", hint=known)


def fixed_rows(material: Material, free: Sequence[str], fixed: Mapping[str, Any]) -> tuple[list[int], dict[str, str]]:
    """The rows at one level of every axis that is not `free`, and those levels as text by axis.

    Where `fixed` does not say, it is the axis's first level that still has rows. Raises UsageError for an unknown
    axis or level.
    """
    for name in fixed:
        levels_of(material, name)
    rows = list(range(len(material.frame)))
    said: dict[str, str] = {}
    for axis in material.axes:
        if axis.name in free and axis.name not in fixed:
            continue
        known = levels_of(material, axis.name)
        index = (
            _wanted(known, fixed[axis.name]) if axis.name in fixed else min((known.at[row] for row in rows), default=0)
        )
        rows = [row for row in rows if known.at[row] == index]
        if len(known.levels) > 1:
            said[axis.name] = known.label(index)
    return rows, said


def _wanted(known: Levels, value: Any) -> int:
    labels = [known.label(index) for index in range(len(known.levels))]
    for index, level in enumerate(known.levels):
        if level == value or labels[index] == str(value):
            return index
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    for index, level in enumerate(known.levels):
        if isinstance(level, int | float) and level == number:
            return index
    hint = f"Its levels are {', '.join(labels[:20])}{', …' if len(labels) > 20 else ''}."
    raise UsageError(f"{known.axis.name} has no level {value}.{did_you_mean(str(value), labels)}", hint=hint)
