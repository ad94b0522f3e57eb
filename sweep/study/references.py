"""What each picture is compared with: its source, the same point of a baseline cell, or the first repeat."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sweep.errors import UsageError, did_you_mean
from sweep.study.contract import Group, Level
from sweep.study.layout import Layout
from sweep.study.picture import UnreadablePictureError, file_sha256


@dataclass(frozen=True, slots=True)
class Reference:
    """A picture to compare with. `sha256` decides whether a value is known; `missing` says why there is none."""

    path: Path | None = None
    sha256: str = ""
    missing: str | None = None


NOTHING = Reference()


def against_sources(keys: Sequence[str], sources: Mapping[str, Path]) -> list[Reference]:
    """By row: the picture its variation started from; none for text-to-image."""
    known: dict[Path, Reference] = {}
    for path in set(sources.values()):
        try:
            known[path] = Reference(path, file_sha256(path))
        except UnreadablePictureError as error:
            known[path] = Reference(missing=f"source: {error.message}")
    return [known[sources[key]] if key in sources else NOTHING for key in keys]


def check_baseline(layout: Layout, baseline: Group) -> str | None:
    """Why the baseline cell is not in the table (yet); None where it is.

    Raises UsageError where it names what is no axis.
    """
    for name, level in baseline.items():
        if name not in layout.names:
            near = did_you_mean(name, layout.names)
            raise UsageError(
                f"The baseline names {name}, which is no axis.{near}", hint=f"Axes: {_list(layout.names)}."
            )
        levels = layout.axis(name).levels
        if level_code(levels, level) is None:
            return f"the table has no {name} {level}; it has {_list([str(known) for known in levels[:12]])}"
    return None


def level_code(levels: Sequence[Level], level: Level) -> int | None:
    """Where a level stands among these; 7 is 7.0, but True is not 1."""
    same = (
        i for i, known in enumerate(levels) if known == level and isinstance(known, bool) == isinstance(level, bool)
    )
    return next(same, None)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def against_baseline(layout: Layout, baseline: Group, folder: Path) -> list[Reference]:
    """By row: the picture with the baseline's levels and its own levels of every other axis."""
    missing = check_baseline(layout, baseline)
    if missing:
        return [Reference(missing=missing)] * len(layout.frame)
    others = layout.combined([name for name in layout.names if name not in baseline])
    chosen = np.ones(len(layout.frame), dtype=np.bool_)
    for name, level in baseline.items():
        axis = layout.axis(name)
        chosen &= axis.codes == level_code(axis.levels, level)
    by_other: dict[int, Reference] = {}
    for row in np.flatnonzero(chosen & layout.pictures)[::-1]:
        by_other[int(others[row])] = picture_at(layout, int(row), folder)
    absent = Reference(missing="the baseline cell has no picture for this point")
    return [by_other.get(int(other), absent) for other in others]


def picture_at(layout: Layout, row: int, folder: Path) -> Reference:
    """A row's own picture."""
    return Reference(folder / str(layout.frame["image_path"].iloc[row]), picture_hash(layout, row, folder))


def picture_hash(layout: Layout, row: int, folder: Path) -> str:
    """The hash the record has of a row's file; of the file itself where it has none; empty where neither is there."""
    recorded = layout.frame["sha256"].iloc[row] if "sha256" in layout.frame else None
    if isinstance(recorded, str):
        return recorded
    try:
        return file_sha256(folder / str(layout.frame["image_path"].iloc[row]))
    except UnreadablePictureError:
        return ""


def against_first_repeat(layout: Layout, folder: Path) -> list[Reference]:
    """By row: the first picture of the same point, for all others of it that were rendered on their own."""
    points, repeats = layout.points, layout.repeats
    found = [NOTHING] * len(layout.frame)
    first: dict[int, int] = {}
    for row in np.flatnonzero(layout.pictures):
        point = int(points[row])
        if repeats[row] == 0:
            first.setdefault(point, int(row))
        elif point in first:
            found[row] = picture_at(layout, first[point], folder)
    return found


def joint_hash(parts: Sequence[str]) -> str:
    """One hash for several pictures, whatever their order; or for a text."""
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()
