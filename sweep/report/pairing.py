"""Two results tables side by side: points paired by the values of the axes that both have."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pandas as pd

from sweep.report.data import plain
from sweep.report.material import AxisColumn, Material

if TYPE_CHECKING:
    from sweep.study.picture import Picture

MEASURED: Final = ("ssim", "structure_coarse", "delta_e")
"""Metrics of the study's panel that say how far a picture of one run is from its pair in the other."""
BETWEEN: Final = "between_"
CHANGE: Final = "change_"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows of two runs. `both`, `only_a` and `only_b` hold rows of the frames, by position; `axes` are those that
    both runs vary or fix, `lost` those that only one has.
    """

    axes: tuple[AxisColumn, ...]
    lost: tuple[str, ...]
    both: Sequence[tuple[int, int]]
    only_a: Sequence[int]
    only_b: Sequence[int]


def pair(a: Material, b: Material) -> Pairs:
    """Pairs the rows of two runs by the values of their common axes, and by number where a point has several."""
    names_b = {axis.name for axis in b.axes}
    axes = tuple(axis for axis in a.axes if axis.name in names_b)
    lost = sorted({axis.name for axis in a.axes} ^ names_b)
    rows_a, rows_b = _by_point(a, axes), _by_point(b, axes)
    return Pairs(
        axes,
        tuple(lost),
        [(row, rows_b[point]) for point, row in rows_a.items() if point in rows_b],
        [row for point, row in rows_a.items() if point not in rows_b],
        [row for point, row in rows_b.items() if point not in rows_a],
    )


def _by_point(material: Material, axes: Sequence[AxisColumn]) -> dict[Hashable, int]:
    columns = {axis.name: axis.column for axis in material.axes}
    values = [[plain(value) for value in material.frame[columns[axis.name]]] for axis in axes]
    found: dict[Hashable, int] = {}
    number: dict[Hashable, int] = {}
    for row in range(len(material.frame)):
        point = tuple(column[row] for column in values)
        at = number[point] = number.get(point, -1) + 1
        found[point, at] = row
    return found


def measured(a: Material, b: Material, pairs: Pairs) -> pd.DataFrame:
    """One row a pair: `same` where the files are equal byte for byte, and the metrics between the two pictures (of b,
    with a's as the reference); missing where either has no picture that can be read.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="compare") as pool:
        rows = list(pool.map(lambda at: _between(a, b, *at), pairs.both))
    columns = ["same", *(f"{BETWEEN}{name}" for name in MEASURED)]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"same": "boolean", **dict.fromkeys(columns[1:], "float64")})


def _between(a: Material, b: Material, row_a: int, row_b: int) -> tuple[bool | None, ...] | tuple[object, ...]:
    hash_a, hash_b = (_text(run, row, "sha256") for run, row in ((a, row_a), (b, row_b)))
    path_a, path_b = (_text(run, row, "image_path") for run, row in ((a, row_a), (b, row_b)))
    if hash_a is None or hash_b is None or path_a is None or path_b is None:
        return (None, *(None for _ in MEASURED))
    if hash_a == hash_b:
        return (True, 1.0, 1.0, 0.0)
    return (False, *distances(a.folder / path_a, b.folder / path_b))


def _text(material: Material, row: int, name: str) -> str | None:
    value = plain(material.frame[name].iloc[row])
    return value if isinstance(value, str) else None


def distances(a: Path, b: Path) -> tuple[float | None, ...]:
    """The metrics of `MEASURED` for the picture `b` with `a` as its reference; None where one cannot be read."""
    from sweep.study.picture import UnreadablePictureError, View, decode, reduced, working_shape
    from sweep.study.registry import resolve

    metrics = resolve(MEASURED)
    try:
        first, second = decode(a), decode(b)
    except UnreadablePictureError:
        return tuple(None for _ in metrics)
    by_size: dict[int, tuple[Picture, Picture]] = {}
    found: list[float | None] = []
    for metric in metrics:
        size = metric.working_size
        if size not in by_size:
            shape = working_shape(first.width, first.height, size)
            by_size[size] = reduced(first, shape), reduced(second, shape)
        reference, picture = by_size[size]
        found.append(float(metric.measure(View(picture=picture, reference=reference))))
    return tuple(found)


def joined(a: Material, b: Material, pairs: Pairs, between: pd.DataFrame) -> tuple[Material, pd.DataFrame]:
    """The table that a comparison shows: b's rows with what changed since a, then the points that only a has; and
    a's rows (sha256, image_path, width, height) in the same order, empty where a has none.
    """
    order_b = [row_b for _, row_b in pairs.both] + list(pairs.only_b)
    order_a = [row_a for row_a, _ in pairs.both]
    shown = b.frame.iloc[order_b].reset_index(drop=True)
    paired = len(pairs.both)
    nothing = pd.Series([float("nan")] * len(pairs.only_b), dtype="float64")
    for name in between.columns.drop("same"):
        shown[name] = pd.concat([between[name], nothing], ignore_index=True)
    for name in (name for name in b.metrics if name in a.metrics):
        before = pd.concat([a.frame[name].iloc[order_a], nothing])
        shown[f"{CHANGE}{name}"] = shown[name] - before.reset_index(drop=True)
    missing = a.frame.iloc[list(pairs.only_a)].copy()
    missing["status"], missing["error"] = "missing", None
    missing[["image_path", "sha256"]] = None
    own = {axis.name: axis.column for axis in a.axes}
    wanted = {own[axis.name]: axis.column for axis in b.axes if axis.name in own}
    kept = [*wanted, "index", "key", "status", "error"]
    table = pd.concat([shown, missing[kept].rename(columns=wanted)], ignore_index=True)
    table["index"] = range(len(table))
    columns = ["sha256", "image_path", "width", "height"]
    places = [*order_a, *([-1] * len(pairs.only_b)), *pairs.only_a]
    others = a.frame.reindex(columns=columns).reset_index(drop=True).reindex(places).reset_index(drop=True)
    assert len(others) == len(table) == paired + len(pairs.only_b) + len(pairs.only_a)
    names_a = {axis.name for axis in a.axes}
    return replace(b, frame=table, axes=tuple(axis for axis in b.axes if axis.name in names_a)), others
