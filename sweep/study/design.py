"""Axes, units of replication and cells of a table."""

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
from sweep.study.schema import AxisFacts, DesignFacts, Group, LevelValue

Codes: TypeAlias = npt.NDArray[np.intp]
FloatArray: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]

REPLICATE_COLUMN = "replicate"  # an axis of this name repeats a point with everything equal
SHARED = 0.5  # of all cell × seed pairs must be there for seeds to count as shared between cells
MOST_GROUPS = 12  # an axis with more levels does not split curves


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutAxis:
    """An axis with the level of every row: `codes` count into `levels`."""

    name: str
    kind: str
    levels: tuple[LevelValue, ...]
    codes: Codes
    numeric: bool

    @property
    def varies(self) -> bool:
        """Whether there is more than one level."""
        return len(self.levels) > 1

    def facts(self) -> AxisFacts:
        """For the JSON."""
        return AxisFacts(name=self.name, kind=self.kind, levels=list(self.levels), numeric=self.numeric)


@dataclass(frozen=True, kw_only=True)
class StudyDesign:
    """The rows of a study and their design.

    `factors` are the axes that vary and are neither seeds nor repeats nor `aliases` (axes that step together with
    another one, as zipped axes do: their effects cannot be told apart, the first stands for both).
    `units` is the unit of replication of each row: the seed where seeds are shared by all cells, else the rank of
    the seed within its cell; −1 where nothing is replicated.
    """

    frame: pd.DataFrame
    axes: tuple[LayoutAxis, ...]
    factors: tuple[str, ...]
    aliases: Mapping[str, str]
    seed: str | None
    seeds_shared: bool
    units: Codes
    images: Mask  # rows with an image
    reference: Literal["source", "baseline", "none"] = "none"
    baseline: Group = field(default_factory=dict)

    def axis(self, name: str) -> LayoutAxis:
        """The axis of that name; KeyError where there is none."""
        return {axis.name: axis for axis in self.axes}[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Of all axes, in order."""
        return tuple(axis.name for axis in self.axes)

    @property
    def unit_count(self) -> int:
        """How many units of replication there are; 0 where there is no seed axis."""
        return int(self.units.max(initial=-1)) + 1

    @property
    def numeric(self) -> tuple[str, ...]:
        """Factors with response curves."""
        return tuple(name for name in self.factors if self.axis(name).numeric)

    @cached_property
    def cells(self) -> Codes:
        """The cell of each row: a number for every combination of factor levels."""
        return self.combined(self.factors)

    @cached_property
    def points(self) -> Codes:
        """The point of each row: everything equal but the repeat."""
        return self.combined([name for name in self.names if name != REPLICATE_COLUMN])

    @cached_property
    def repeats(self) -> Codes:
        """Which rendering of its point a row is, from 0, in the order of the table. Several images of one rendering
        (with one key) have the same number.
        """
        keys = pd.factorize(self.frame["key"])[0] if "key" in self.frame else np.arange(len(self.frame))
        return _rank_within(self.points, keys.astype(np.intp))

    @property
    def replicates(self) -> int:
        """How often the most repeated point was rendered; 0 in an empty table."""
        return int(self.repeats[self.images].max(initial=-1)) + 1

    def compared_with(self, reference: Literal["source", "baseline", "none"]) -> StudyDesign:
        """The same, saying what its images are compared with."""
        return replace(self, reference=reference)

    def with_columns(self, columns: Mapping[str, FloatArray | pd.Series]) -> StudyDesign:
        """The same with these columns added to the table."""
        return replace(self, frame=self.frame.assign(**columns))

    def combined(self, names: Iterable[str]) -> Codes:
        """A number for every combination of levels of these axes that occurs, by row; 0 everywhere for none."""
        joint = np.zeros(len(self.frame), dtype=np.intp)
        for name in names:
            axis = self.axis(name)
            mixed = joint * max(len(axis.levels), 1) + axis.codes
            joint = np.asarray(np.unique(mixed, return_inverse=True)[1], dtype=np.intp)
        return joint

    def response(self, metric: str) -> FloatArray:
        """The metric by row; NaN where it was not measured."""
        return self.frame[metric].to_numpy(dtype=np.float64, na_value=np.nan)

    def rows_of(self, group: Group) -> Mask:
        """Rows with these levels."""
        found = np.ones(len(self.frame), dtype=np.bool_)
        for name, level in group.items():
            axis = self.axis(name)
            found &= axis.codes == axis.levels.index(level)
        return found

    def groups(self, axis: str) -> list[Group]:
        """Everything, then the levels of each other factor with few enough of them."""
        others = [self.axis(name) for name in self.factors if name != axis]
        split = [{a.name: level} for a in others if len(a.levels) <= MOST_GROUPS for level in a.levels]
        return [Group(), *split]

    def design(self) -> DesignFacts:
        """For the JSON."""
        points = np.unique(np.stack([self.cells, self.units])[:, self.images], axis=1, return_counts=True)
        present, counts = points[0].shape[1], points[1]
        crossed = math.prod(len(self.axis(name).levels) for name in self.factors) * max(self.unit_count, 1)
        distinct = np.unique(np.stack([self.cells, self.units]), axis=1).shape[1]
        cells = crossed if crossed <= 2 * distinct else distinct
        status = self.frame["status"] if "status" in self.frame else pd.Series("completed", index=self.frame.index)
        return DesignFacts(
            axes=[axis.facts() for axis in self.axes],
            rows=len(self.frame),
            images=int(self.images.sum()),
            failed=int((status == "failed").sum()),
            cells=cells if len(self.frame) else 0,
            missing=cells - present if len(self.frame) else 0,
            balanced=bool(len(self.frame) and present == crossed and counts.min() == counts.max()),
            seed_axis=self.seed,
            seeds=len(self.axis(self.seed).levels) if self.seed else 0,
            seeds_shared=self.seeds_shared,
            replicates=max(self.replicates, 1),
            reference=self.reference,
            baseline=self.baseline,
        )


def plain_level(value: object) -> LevelValue:
    """A table's value as JSON has it: no numpy scalars, no NaN."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool)) else str(value)


def read_layout(
    frame: pd.DataFrame,
    axes: Sequence[tuple[str, str]],
    *,
    reference: Literal["source", "baseline", "none"] = "none",
    baseline: Group | None = None,
) -> StudyDesign:
    """The layout of a results table with these axes (name, kind).

    Raises UsageError where an axis or a level of the baseline is not in the table.
    """
    found = tuple(_read_axis(frame, name, kind) for name, kind in axes)
    seed = next((a for a in found if a.kind == "seed"), None)
    varying = [a for a in found if a.varies and a.name != REPLICATE_COLUMN]
    aliases = _aliases(varying)
    factors = tuple(a.name for a in varying if a is not seed and a.name not in aliases)
    if seed is not None and seed.name in aliases:
        seed = None  # it steps with another axis: nothing is replicated
    layout = StudyDesign(
        frame=frame,
        axes=found,
        factors=factors,
        aliases=aliases,
        seed=seed.name if seed else None,
        seeds_shared=True,
        units=np.full(len(frame), -1, dtype=np.intp),
        images=_images(frame),
        reference=reference,
        baseline=dict(baseline or {}),
    )
    return _with_units(layout, seed) if seed else layout


def _with_units(layout: StudyDesign, seed: LayoutAxis) -> StudyDesign:
    cells = layout.cells
    pairs = np.unique(np.stack([cells, seed.codes]), axis=1).shape[1]
    shared = pairs > SHARED * len(np.unique(cells)) * len(seed.levels)
    units = seed.codes if shared else _rank_within(cells, seed.codes)
    return replace(layout, seed=seed.name, seeds_shared=bool(shared), units=units)


def _rank_within(cells: Codes, codes: Codes) -> Codes:
    """The rank of each row's code among the distinct codes of its cell, from 0."""
    pairs, inverse = np.unique(np.stack([cells, codes]), axis=1, return_inverse=True)
    starts = np.searchsorted(pairs[0], pairs[0], side="left")
    ranks = np.arange(pairs.shape[1]) - starts
    return np.asarray(ranks[inverse.ravel()], dtype=np.intp)


def _images(frame: pd.DataFrame) -> Mask:
    if "image_path" not in frame:
        return np.ones(len(frame), dtype=np.bool_)
    return frame["image_path"].notna().to_numpy(dtype=np.bool_)


def _read_axis(frame: pd.DataFrame, name: str, kind: str) -> LayoutAxis:
    if name not in frame:
        raise UsageError(f"The table has no column {name}.", hint=did_you_mean(name, map(str, frame.columns)).strip())
    column = frame[name]
    numeric = kind in {"integer", "number"} and not column.isna().any() and pd.api.types.is_numeric_dtype(column)
    if numeric and not pd.api.types.is_bool_dtype(column):
        levels, codes = np.unique(column.to_numpy(), return_inverse=True)
        values = tuple(plain_level(level) for level in levels)
    else:
        numeric = False
        codes, uniques = pd.factorize(column.astype(object), use_na_sentinel=False)
        values = tuple(plain_level(level) for level in uniques)
    return LayoutAxis(
        name=name, kind=kind, levels=values, codes=codes.astype(np.intp), numeric=numeric and len(values) > 1
    )


def _aliases(axes: Sequence[LayoutAxis]) -> dict[str, str]:
    """Axes that are one-to-one with an earlier one."""
    found: dict[str, str] = {}
    codes = np.stack([axis.codes for axis in axes if axis.kind != "seed"] or [np.zeros(0, dtype=np.intp)])
    cells = np.unique(codes, axis=1).shape[1]
    for position, late in enumerate(axes):
        for early in axes[:position]:
            if early.name not in found and _step_together(early, late, cells):
                found[late.name] = early.name
                break
    return found


def _step_together(early: LayoutAxis, late: LayoutAxis, cells: int) -> bool:
    """One-to-one. Numbers that are different in each of the `cells` are so by chance in a random design: they must
    rise or fall together.
    """
    if len(early.levels) != len(late.levels):
        return False
    pairs = np.unique(np.stack([early.codes, late.codes]), axis=1)
    if pairs.shape[1] != len(early.levels):
        return False
    repeats = cells > len(early.levels)
    steps = np.diff(pairs[1])  # pairs come sorted by the first code
    return repeats or not (early.numeric and late.numeric) or bool((steps > 0).all() or (steps < 0).all())


BOOKKEEPING = frozenset(
    {"index", "key", "prompt", "status", "error", "attempts", "server", "model", "image_path", "image_name"}
    | {"width", "height", "sha256", "queued_at", "started_at", "finished_at", "render_seconds", "reason"}
)  # columns of the results table that are neither axes nor metrics


def infer_axes(frame: pd.DataFrame, metrics: Sequence[str]) -> list[tuple[str, str]]:
    """Axes of a plain table: every column that is no metric and no bookkeeping, its kind from its type.

    Real numbers that hardly repeat are measurements, not levels.
    """
    return [
        (str(name), _kind(str(name), frame[name]))
        for name in frame.columns
        if name not in metrics and name not in BOOKKEEPING and not is_measurement(frame[name])
    ]


def is_measurement(column: pd.Series) -> bool:
    """Whether a column looks like measured values rather than an axis's levels."""
    return bool(pd.api.types.is_float_dtype(column) and len(column) > 2 and column.nunique() > len(column) / 2)


def _kind(name: str, column: pd.Series) -> str:
    if name == "seed":
        return "seed"
    if pd.api.types.is_bool_dtype(column):
        return "boolean"
    if pd.api.types.is_integer_dtype(column):
        return "integer"
    return "number" if pd.api.types.is_numeric_dtype(column) else "text"


def with_bookkeeping(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with an index and a key for each row, where it has none."""
    frame = frame.reset_index(drop=True)
    if "index" not in frame:
        frame.insert(0, "index", np.arange(len(frame)))
    if "key" not in frame:
        frame.insert(1, "key", [str(i) for i in frame["index"]])
    return frame
