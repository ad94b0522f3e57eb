"""Axes whose values are listed: one function a kind, what a file says in and levels out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any, Final

from sweep.experiment.levels import LinearLevels, ListLevels, LogLevels, ReplacingLevels, UndrawnLevels
from sweep.experiment.naming import AxisError, Naming, SettingReader, kind_of
from sweep.experiment.values import Axis, Dimension, Level, Scalar, Setting
from sweep.experiment.vocabulary import is_picture, said, value_fault

MAX_TOLD: Final = 20  # faults of one axis; who has more has one reason for all


def list_axis(naming: Naming, values: Sequence[Scalar], read: SettingReader) -> Axis:
    """The values as written. Raises AxisError for an empty list, a value its role cannot have, one that stands twice
    (a slip: both would be the same picture).
    """
    if not values:
        raise AxisError(f"{naming.place} is empty; an axis needs at least one value")
    faults = [
        AxisError(f"{naming.place} {fault}", at)
        for at, value in enumerate(values)
        for fault in {value_fault(target, value) for target in naming.targets}
        if fault
    ]
    AxisError.raise_any(faults[:MAX_TOLD])
    kind = kind_of(naming.targets, values)
    plain = [float(v) if kind == "number" and isinstance(v, int) else v for v in values]
    _one_type(naming, plain)
    if not naming.repeats:
        _no_twins(naming, plain)
    if kind == "image" or any(is_picture(target) for target in naming.targets):
        levels = [_level(naming, value, value, read, at) for at, value in enumerate(plain)]
        return Axis(naming.name, "image", tuple(levels))
    return Axis(naming.name, kind, ListLevels(plain, naming.targets))


def _level(naming: Naming, value: Scalar, raw: Any, read: SettingReader, *part: str | int) -> Level:
    return Level(value, {target: read(target, raw, *part) for target in naming.targets})


def _one_type(naming: Naming, values: Sequence[Scalar]) -> None:
    names = {bool: "true or false", int: "numbers", float: "numbers", str: "text"}
    first = next((v for v in values if v is not None), None)
    for at, value in enumerate(values):
        if value is not None and names[type(value)] != names[type(first)]:
            raise AxisError(
                f"{naming.place} mixes {names[type(first)]} and {names[type(value)]}: {said(first)}, {said(value)}", at
            )


def _no_twins(naming: Naming, values: Sequence[Scalar]) -> None:
    seen: dict[Hashable, int] = {}
    for at, value in enumerate(values):
        if value in seen:
            raise AxisError(f"{naming.place}: {said(value)} stands twice (values {seen[value] + 1} and {at + 1})", at)
        seen[value] = at


def listed_axis(naming: Naming, values: Sequence[Scalar], read: SettingReader, origin: str) -> tuple[Axis, list[str]]:
    """As `list_axis`, for values out of a file or a template: one that comes again is dropped, with a notice, since
    there it is no slip of this experiment's writer.
    """
    kept = list(values) if naming.repeats else list(dict.fromkeys(values))
    dropped = len(values) - len(kept)
    notices = [f"{naming.place}: {dropped} of {len(values)} values of {origin} are repeats and left out."]
    return list_axis(naming, kept, read), notices if dropped else []


def replace_axis(naming: Naming, search: str, by: Sequence[str]) -> Axis:
    """Levels that replace `search` in the text of each target."""
    if not by:
        raise AxisError(f"{naming.place}: with is empty; an axis needs at least one value", "with")
    _no_twins(naming, by)
    return Axis(naming.name, "text", ReplacingLevels(search, by, naming.targets))


def labelled_axis(naming: Naming, values: Mapping[str, Any], read: SettingReader) -> Axis:
    """Levels named by their labels; a mapping sets each of its targets, anything else the axis's own."""
    if not values:
        raise AxisError(f"{naming.place} is empty; an axis needs at least one value", "values")
    levels: list[Level] = []
    faults: list[AxisError] = []
    for label, raw in values.items():
        try:
            levels.append(Level(label, _labelled_settings(naming, label, raw, read)))
        except AxisError as error:
            faults += [error, *error.others]
    AxisError.raise_any(faults[:MAX_TOLD])
    return Axis(naming.name, "label", tuple(levels))


def _labelled_settings(naming: Naming, label: str, raw: Any, read: SettingReader) -> dict[str, Setting]:
    part = ("values", label)
    if not isinstance(raw, Mapping):
        if not naming.targets:
            raise AxisError(
                f"{naming.place}.{label} does not say what it sets; {naming.name} is not a role or a node.field", *part
            )
        return {target: read(target, raw, *part) for target in naming.targets}
    if not raw:
        raise AxisError(f"{naming.place}.{label} sets nothing", *part)
    settings: dict[str, Setting] = {}
    faults: list[AxisError] = []
    for target, value in raw.items():
        try:
            settings[target] = read(target, value, *part, target)
        except AxisError as error:
            faults.append(error)
    AxisError.raise_any(faults)
    return settings


def image_axis(naming: Naming, paths: Sequence[str], read: SettingReader) -> Axis:
    """One level a picture, in the order given; the value is its path as shown."""
    levels = [_level(naming, shown, {"image": shown}, read, "images") for shown in paths]
    return Axis(naming.name, "image", tuple(levels))


def matching_files(folder: Path, patterns: Sequence[str], place: str) -> list[str]:
    """Files that match, each once, sorted by name within a pattern, written relative to `folder` with "/".
    Raises AxisError where a pattern matches nothing.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        names = glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207  Path.glob takes no absolute one
        hits = sorted(Path(name).as_posix() for name in names if (folder / name).is_file())
        if not hits:
            raise AxisError(f"{place}: no file matches {pattern}", "images")
        found |= dict.fromkeys(hits)
    return list(found)


def zipped(axes: Sequence[Axis], place: str) -> Dimension:
    """Axes that step together. Raises AxisError where their lengths differ, or a row comes twice."""
    if len(axes) < 2:
        raise AxisError(f"{place} needs at least two axes that step together")
    first = axes[0]
    for axis in axes[1:]:
        if len(axis.levels) != len(first.levels):
            raise AxisError(f"zip: {first.name} has {_count(first)}, {axis.name} has {len(axis.levels)}.", axis.name)
    if not any(isinstance(axis.levels, LinearLevels | LogLevels | UndrawnLevels) for axis in axes):
        rows: dict[tuple[Scalar, ...], int] = {}
        for at in range(len(first.levels)):
            row = tuple(axis.levels[at].value for axis in axes)
            if row in rows:
                raise AxisError(f"{place}: values {rows[row] + 1} and {at + 1} of all its axes are the same")
            rows[row] = at
    return Dimension(tuple(axes))


def _count(axis: Axis) -> str:
    return f"{len(axis.levels)} value{'s' if len(axis.levels) != 1 else ''}"
