"""Observations: the measured rows of a table, laid out by axes, units of replication (seeds) and cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from sweep.errors import UsageError, did_you_mean
from sweep.study.stats.additive_fit import Codes, FloatArray, average_evenly
from sweep.study.study_json import AxisFacts, DesignFacts, Group, LevelValue

Mask: TypeAlias = npt.NDArray[np.bool_]

REPLICATE_COLUMN = "replicate"  # an axis of this name repeats a point with everything equal
SHARED = 2  # cells a seed must have on average for seeds to count as shared between cells
MOST_PAIRS = 120  # of images that differ in one axis; of more, so many are drawn
GRIDDED = 4  # images a distinct value, from which values count as rounded
MOST_GROUPS = 12  # an axis with more levels does not split curves


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyAxis:
    """An axis with the level of every row: `codes` count into `levels`."""

    name: str
    kind: str
    levels: tuple[LevelValue, ...]
    codes: Codes
    numeric: bool


@dataclass(frozen=True, kw_only=True)
class StudyDesign:
    """The rows of a study and their design.

    `factors` are the axes that vary and are neither seeds nor repeats nor `aliases` (axes that step together with
    another one, as zipped axes do: their effects cannot be told apart, the first stands for both).
    `units` is the unit of replication of each row: the seed where seeds are shared by all cells, else the rank of
    the seed within its cell; −1 where nothing is replicated.
    """

    frame: pd.DataFrame
    axes: tuple[StudyAxis, ...]
    factors: tuple[str, ...]
    aliases: Mapping[str, str]
    seed: str | None
    seeds_shared: bool
    units: Codes
    images: Mask  # rows with an image
    reference: Literal["source", "baseline", "none"] = "none"
    baseline: Group = field(default_factory=dict)
    _others: dict[str, Codes] = field(default_factory=dict)  # by axis: the cells of all other factors

    @cached_property
    def by_name(self) -> Mapping[str, StudyAxis]:
        """Axes by name."""
        return {axis.name: axis for axis in self.axes}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all axes, in order."""
        return tuple(axis.name for axis in self.axes)

    @cached_property
    def unit_count(self) -> int:
        """Number of units of replication; 0 where there is no seed axis."""
        return int(self.units.max(initial=-1)) + 1

    @cached_property
    def numeric(self) -> tuple[str, ...]:
        """Factors with response curves."""
        return tuple(name for name in self.factors if self.by_name[name].numeric)

    @cached_property
    def cells(self) -> Codes:
        """Return the cell of each row: a number for every combination of factor levels."""
        return self.combine_axes(self.factors)

    @cached_property
    def points(self) -> Codes:
        """Return the point of each row: everything equal but the repeat."""
        return self.combine_axes([name for name in self.names if name != REPLICATE_COLUMN])

    @cached_property
    def repeats(self) -> Codes:
        """Number the renderings of each point from 0 in the order of the table, one number per row.

        Several images of one rendering (with one key) have the same number.
        """
        keys = pd.factorize(self.frame["key"])[0] if "key" in self.frame else np.arange(len(self.frame))
        return _rank_within(self.points, keys.astype(np.intp))

    @cached_property
    def image_numbers(self) -> Codes:
        """Return the number of each row's image among those of its rendering, from 0: a batch has several."""
        rendering = pd.Series(pair_codes(self.points, self.repeats))
        return np.asarray(rendering.groupby(rendering).cumcount(), dtype=np.intp)

    @cached_property
    def replicates(self) -> int:
        """Number of renderings of the most repeated point; 0 in an empty table."""
        return int(self.repeats[self.images].max(initial=-1)) + 1

    def combine_axes(self, names: Iterable[str]) -> Codes:
        """Combine axes: a number by row for each combination of their levels that occurs; 0 everywhere for no axes."""
        joint = np.zeros(len(self.frame), dtype=np.intp)
        for name in names:
            mixed = pair_codes(joint, self.by_name[name].codes)
            joint = np.asarray(np.unique(mixed, return_inverse=True)[1], dtype=np.intp)
        return joint

    def match_images(self, axes: Iterable[str]) -> Codes:
        """Give one number to rows that differ in these axes alone: images of a batch match by their place in it."""
        others = self.combine_axes([name for name in self.names if name not in set(axes)])
        return pair_codes(others, self.image_numbers)

    def response(self, metric: str) -> FloatArray:
        """Read a metric by row; NaN where it was not measured."""
        return self.frame[metric].to_numpy(dtype=np.float64, na_value=np.nan)

    def measure_step(self, metric: str) -> float:
        """Measure the step that a metric's values are multiples of; 0 where they are not rounded to few values."""
        values = self.response(metric)
        known = values[np.isfinite(values)]
        distinct = np.unique(known)
        return float(np.diff(distinct).min()) if 2 <= len(distinct) <= len(known) / GRIDDED else 0.0

    def measure_coverage(self, group: Group) -> float:
        """Measure which part of all points × units of a group has an image: 1 where nothing is missing."""
        rows = self.images & self.mask_rows(group)
        units = np.unique(self.units[rows])
        free = [name for name in self.factors if name not in group]
        whole = math.prod(len(self.by_name[name].levels) for name in free) * max(len(units), 1)
        return len(np.unique(pair_codes(self.cells, self.units)[rows])) / max(whole, 1)

    def average_units(
        self, metric: str, axis: str, group: Group | None = None, *, without: int | None = None
    ) -> FloatArray:
        """Average a metric over the rows of a group to units × levels of an axis; NaN where nothing is there.

        Where cells are missing, the other factors' additive effects are taken out first, so that a hole at a difficult
        prompt does not look like an effect of the axis. Without units the matrix has one row.
        """
        response = self.response(metric)
        rows = np.isfinite(response) & self.mask_rows(group or {})
        if without is not None:
            rows &= self.units != without
        levels, codes = len(self.by_name[axis].levels), self.by_name[axis].codes
        joint = np.maximum(self.units[rows], 0) * levels + codes[rows]
        height = max(self.unit_count, 1)
        means = average_evenly(response[rows], joint, self.combine_others(axis)[rows], height * levels)
        return means.reshape(height, levels)

    def is_linked(self, axis: str, group: Group) -> bool:
        """Tell whether the levels of an axis can be compared: any two were rendered at the same other settings, or are
        linked by levels that were. If not, their difference may be that of the other settings, with every seed alike.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        rows = self.images & self.mask_rows(group)
        levels = self.by_name[axis].codes[rows]
        others = self.combine_others(axis)[rows] + len(self.by_name[axis].levels)
        size = int(others.max(initial=0)) + 1
        met = coo_array((np.ones(len(levels)), (levels, others)), shape=(size, size))
        return len(np.unique(connected_components(met, directed=False)[1][levels])) < 2

    def combine_others(self, axis: str) -> Codes:
        """Combine all other factors than this axis."""
        if axis not in self._others:
            self._others[axis] = self.combine_axes([name for name in self.factors if name != axis])
        return self._others[axis]

    def mask_rows(self, group: Group) -> Mask:
        """Select the rows with these levels."""
        found = np.ones(len(self.frame), dtype=np.bool_)
        for name, level in group.items():
            axis = self.by_name[name]
            found &= axis.codes == axis.levels.index(level)
        return found

    def group_originals(self, codes: Codes) -> dict[int, list[int]]:
        """Group the rows with an image by their code; repeats are left out."""
        found: dict[int, list[int]] = {}
        for row in np.flatnonzero(self.images & (self.repeats == 0)).tolist():
            found.setdefault(int(codes[row]), []).append(row)
        return found

    def groups(self, axis: str) -> list[Group]:
        """List the groups of a curve: all rows, then the levels of each other factor with few enough of them."""
        others = [self.by_name[name] for name in self.factors if name != axis]
        split = [{a.name: level} for a in others if len(a.levels) <= MOST_GROUPS for level in a.levels]
        return [Group(), *split]

    def describe(self) -> DesignFacts:
        """Describe the design for the JSON."""
        points = pair_codes(self.cells, self.units)
        counts = np.unique(points[self.images], return_counts=True)[1]
        present = len(counts)
        crossed = math.prod(len(self.by_name[name].levels) for name in self.factors) * max(self.unit_count, 1)
        distinct = len(np.unique(points))
        cells = crossed if crossed <= 2 * distinct else distinct
        status = self.frame["status"] if "status" in self.frame else pd.Series("completed", index=self.frame.index)
        seeds = 0
        if self.seed is not None:  # all there are, where cells share them
            seeds = len(self.by_name[self.seed].levels) if self.seeds_shared else self.unit_count
        return DesignFacts(
            axes=[AxisFacts(name=a.name, kind=a.kind, levels=list(a.levels), numeric=a.numeric) for a in self.axes],
            rows=len(self.frame),
            images=int(self.images.sum()),
            failed=int((status == "failed").sum()),
            cells=cells if len(self.frame) else 0,
            missing=cells - present if len(self.frame) else 0,
            balanced=bool(len(self.frame) and present == crossed and counts.min() == counts.max()),
            seed_axis=self.seed,
            seeds=seeds,
            seeds_shared=self.seeds_shared,
            replicates=max(self.replicates, 1),
            reference=self.reference,
            baseline=self.baseline,
        )


def convert_level(value: object) -> LevelValue:
    """Convert a table's value to a JSON value: no numpy scalars, no NaN."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool)) else str(value)


def read_design(
    frame: pd.DataFrame,
    axes: Sequence[tuple[str, str]],
    *,
    reference: Literal["source", "baseline", "none"] = "none",
    baseline: Group | None = None,
) -> StudyDesign:
    """Read the design of a results table with these axes (name, kind).

    Raises UsageError where an axis or a level of the baseline is not in the table.
    """
    found = tuple(_read_axis(frame, name, kind) for name, kind in axes)
    seed = next((a for a in found if a.kind == "seed"), None)
    varying = [a for a in found if len(a.levels) > 1 and a.name != REPLICATE_COLUMN]
    aliases = _find_aliases(varying)
    factors = tuple(a.name for a in varying if a is not seed and a.name not in aliases)
    if seed is not None and seed.name in aliases:
        seed = None  # it steps with another axis: nothing is replicated
    whole = np.ones(len(frame), dtype=np.bool_)
    design = StudyDesign(
        frame=frame,
        axes=found,
        factors=factors,
        aliases=aliases,
        seed=seed.name if seed else None,
        seeds_shared=True,
        units=np.full(len(frame), -1, dtype=np.intp),
        images=frame["image_path"].notna().to_numpy(dtype=np.bool_) if "image_path" in frame else whole,
        reference=reference,
        baseline=dict(baseline or {}),
    )
    if seed is None:
        return design
    cells = design.cells
    pairs = len(np.unique(pair_codes(cells, seed.codes)))
    is_shared = pairs >= min(SHARED, len(np.unique(cells))) * len(seed.levels)
    return replace(design, seeds_shared=is_shared, units=seed.codes if is_shared else _rank_within(cells, seed.codes))


def _rank_within(cells: Codes, codes: Codes) -> Codes:
    """Rank each row's code among the distinct codes of its cell, from 0."""
    return pd.Series(codes).groupby(cells).rank("dense").to_numpy(dtype=np.intp) - 1


def pair_codes(first: Codes, second: Codes) -> Codes:
    """Give one number to each pair of codes, in the order of pairs: one is compared faster than two."""
    return first * (int(second.max(initial=0)) + 2) + second


def _read_axis(frame: pd.DataFrame, name: str, kind: str) -> StudyAxis:
    if name not in frame:
        raise UsageError(f"The table has no column {name}.", hint=did_you_mean(name, map(str, frame.columns)).strip())
    column = frame[name]
    numeric = kind in {"integer", "number"} and not column.isna().any() and pd.api.types.is_numeric_dtype(column)
    if numeric and not pd.api.types.is_bool_dtype(column):
        levels, codes = np.unique(column.to_numpy(), return_inverse=True)
    else:
        numeric = False
        codes, unique = pd.factorize(column.astype(object), use_na_sentinel=False)
        levels = np.asarray(unique, dtype=object)
    values = tuple(map(convert_level, levels))
    numeric = numeric and len(values) > 1
    return StudyAxis(name=name, kind=kind, levels=values, codes=codes.astype(np.intp), numeric=numeric)


def _find_aliases(axes: Sequence[StudyAxis]) -> dict[str, str]:
    """Find axes that are one-to-one with an earlier one."""
    found: dict[str, str] = {}
    codes = np.stack([axis.codes for axis in axes if axis.kind != "seed"] or [np.zeros(0, dtype=np.intp)])
    cells = np.unique(codes, axis=1).shape[1]
    for position, late in enumerate(axes):
        for early in axes[:position]:
            if early.name not in found and _step_together(early, late, cells):
                found[late.name] = early.name
                break
    return found


def _step_together(early: StudyAxis, late: StudyAxis, cells: int) -> bool:
    """Tell whether two axes step one-to-one.

    Numbers that differ in each of the `cells` do so by chance in a random design: they must
    rise or fall together.
    """
    if len(early.levels) != len(late.levels):
        return False
    first = np.unique(pair_codes(early.codes, late.codes), return_index=True)[1]
    if len(first) != len(early.levels):
        return False
    repeats = cells > len(early.levels)
    steps = np.diff(late.codes[first])  # pairs come sorted by the first code
    return repeats or not (early.numeric and late.numeric) or bool((steps > 0).all() or (steps < 0).all())


BOOKKEEPING = frozenset(
    {"index", "key", "prompt", "status", "error", "attempts", "server", "model", "image_path", "image_name"}
    | {"width", "height", "sha256", "queued_at", "started_at", "finished_at", "render_seconds", "reason", "note"}
)  # columns of the results table that are neither axes nor metrics


def infer_axes(frame: pd.DataFrame, metrics: Sequence[str]) -> list[tuple[str, str]]:
    """Infer the axes of a plain table: every column that is no metric and no bookkeeping, its kind from its type.

    Real numbers that hardly repeat are measurements that nobody asked for, not levels.
    """
    return [
        (str(name), _infer_kind(str(name), frame[name]))
        for name in frame.columns
        if name not in metrics and name not in BOOKKEEPING and not _is_measurement(frame[name])
    ]


def _is_measurement(column: pd.Series) -> bool:
    if not pd.api.types.is_float_dtype(column) or len(column) <= 2:
        return False
    counts = column.value_counts()
    is_uneven = len(counts) > len(column) / 6 and counts.max() > 3 * counts.min()  # rounded values, as 0.01
    return bool(len(counts) > len(column) / 2 or is_uneven)


def _infer_kind(name: str, column: pd.Series) -> str:
    if name == "seed":
        return "seed"
    if pd.api.types.is_bool_dtype(column):
        return "boolean"
    if pd.api.types.is_integer_dtype(column):
        return "integer"
    return "number" if pd.api.types.is_numeric_dtype(column) else "text"


def add_bookkeeping(frame: pd.DataFrame) -> pd.DataFrame:
    """Add an index and a key to each row, where the table has none."""
    frame = frame.reset_index(drop=True)
    if "index" not in frame:
        frame.insert(0, "index", np.arange(len(frame)))
    if "key" not in frame:
        frame.insert(1, "key", [str(i) for i in frame["index"]])
    return frame
