"""The grid: every point of an experiment, by index, without making any before it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, overload

from sweep.errors import ExperimentError
from sweep.experiment.conditions import Condition
from sweep.experiment.levels import position
from sweep.experiment.space import Filtered, Full, Space
from sweep.experiment.values import Design, Dimension, Level, Scalar, Variation

MAX_POINTS: Final = 10**15
MAX_KEPT: Final = 4096  # levels of a dimension that are kept once made


class Grid(Sequence[Variation]):
    """Points in the order of the definition: the first axis varies slowest. Indices are dense over the points that
    count, those the condition and the design leave. Takes room for the levels of its axes and one bit for each
    combination of the axes that conditions name; nothing grows with the number of points.
    """

    def __init__(
        self, dimensions: Sequence[Dimension], condition: Condition | None = None, design: Design | None = None
    ) -> None:
        self._dimensions = tuple(dimensions)
        self._condition = condition
        self._design = design or Design()
        self._names = tuple(axis.name for dimension in self._dimensions for axis in dimension.axes)
        self._space: Space | None = None
        self._chosen: Sequence[int] | None = None
        self._made: list[dict[int, dict[str, Level]]] = [{} for _ in self._dimensions]
        self._rows: dict[int, dict[tuple[Scalar, ...], int]] = {}

    @property
    def space(self) -> Space:
        """Index ↔ positions along the dimensions, of the grid before a design picks from it."""
        if self._space is None:
            full = Full([len(dimension) for dimension in self._dimensions])
            self._space = Filtered(full, self._dimensions, self._condition) if self._condition else full
        return self._space

    @property
    def chosen(self) -> Sequence[int]:
        """Indices into `space` of the points that are rendered, in their order."""
        if self._chosen is None:
            if self._design.kind == "full":
                self._chosen = range(len(self.space))
            else:
                from sweep.experiment.designs import choose

                self._chosen = choose(self._design, self.space, self._dimensions)
        return self._chosen

    def __len__(self) -> int:
        return len(self.chosen)

    @overload
    def __getitem__(self, index: int) -> Variation: ...
    @overload
    def __getitem__(self, index: slice) -> GridView: ...
    def __getitem__(self, index: int | slice) -> Variation | GridView:
        if isinstance(index, slice):
            return GridView(self, range(len(self))[index])
        at = range(len(self))[index]
        return self._variation(at, self.space.digits(self.chosen[at]))

    def __iter__(self) -> Iterator[Variation]:
        for at, inner in enumerate(self.chosen):
            yield self._variation(at, self.space.digits(inner))

    def _variation(self, index: int, digits: Sequence[int]) -> Variation:
        levels: dict[str, Level] = {}
        for at, digit in enumerate(digits):
            levels.update(self._made[at].get(digit) or self._make(at, digit))
        return Variation(index, levels)

    def _make(self, at: int, digit: int) -> dict[str, Level]:
        """The levels at one position of a dimension, kept for the next point that has them."""
        made = self._made[at]
        if len(made) >= MAX_KEPT:
            made.clear()
        made[digit] = {axis.name: axis.levels[digit] for axis in self._dimensions[at].axes}
        return made[digit]

    def index_of(self, values: Mapping[str, Scalar]) -> int:
        """The index of the point with these values, one for each axis. Raises ExperimentError where an axis is
        missing or unknown, and LookupError where the grid has no such point.
        """
        if set(values) != set(self._names):
            odd = sorted(set(values) ^ set(self._names))
            raise ExperimentError(f"A point of this grid has one value for each of its axes; not so {', '.join(odd)}.")
        digits = []
        for at, dimension in enumerate(self._dimensions):
            digit = self._digit(at, dimension, values)
            if digit is None:
                raise LookupError(f"no point has {', '.join(f'{a.name} {values[a.name]!r}' for a in dimension.axes)}")
            digits.append(digit)
        inner = self.space.rank(digits)
        if inner is None:
            raise LookupError("the conditions exclude this point")
        try:
            return self.chosen.index(inner)
        except ValueError:
            raise LookupError("the design does not choose this point") from None

    def _digit(self, at: int, dimension: Dimension, values: Mapping[str, Scalar]) -> int | None:
        if len(dimension.axes) == 1:
            axis = dimension.axes[0]
            return position(axis.levels, values[axis.name])
        rows = self._rows.get(at)
        if rows is None:
            columns = [[level.value for level in axis.levels] for axis in dimension.axes]
            rows = self._rows[at] = {row: n for n, row in reversed(list(enumerate(zip(*columns, strict=True))))}
        return rows.get(tuple(values[axis.name] for axis in dimension.axes))

    def __contains__(self, variation: object) -> bool:
        if not isinstance(variation, Variation) or not 0 <= variation.index < len(self):
            return False
        return self[variation.index] == variation

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Where the variation stands; as for any sequence, ValueError where it does not."""
        end = len(self) if stop is None else stop
        if value in self and start <= value.index < end:
            return int(value.index)
        raise ValueError(f"{value!r} is not in this part of the grid")


class GridView(Sequence[Variation]):
    """Some points of a grid, lazily; they keep the index they have there."""

    def __init__(self, grid: Grid, indices: range) -> None:
        self._grid = grid
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Variation: ...
    @overload
    def __getitem__(self, index: slice) -> GridView: ...
    def __getitem__(self, index: int | slice) -> Variation | GridView:
        if isinstance(index, slice):
            return GridView(self._grid, self.indices[index])
        return self._grid[self.indices[index]]

    def __iter__(self) -> Iterator[Variation]:
        return (self._grid[index] for index in self.indices)


def check_size(dimensions: Sequence[Dimension]) -> None:
    """Raises ExperimentError where the product has more points than any index is meant for."""
    size = 1
    for dimension in dimensions:
        size *= len(dimension)
    if size > MAX_POINTS:
        raise ExperimentError(f"The grid has {size:.3g} points; the most is {MAX_POINTS:.0e}.")
