"""The lazy grid: it computes a point's positions along the axes from its index, and its variation from these."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sweep.errors import ExperimentError
from sweep.experiment.axes import Dimension, LazySequence, Level
from sweep.experiment.conditions import Clause
from sweep.types import Scalar


@dataclass(frozen=True, slots=True)
class Variation:
    """A point of the grid: its levels by axis name, in the order of the definition; `index` counts from 0."""

    index: int
    levels: Mapping[str, Level]

    @property
    def values(self) -> dict[str, Scalar]:
        """Return the values that the results table shows, by axis."""
        return {name: level.value for name, level in self.levels.items()}


MAX_COMBINATIONS: Final = 20_000_000


@dataclass(frozen=True, slots=True)
class _Component:
    """Dimensions that conditions tie together, and which of their combinations count."""

    strides: Mapping[int, int]  # by dimension: how many combinations one step spans
    places: Sequence[int]  # of the combinations that count, ascending


class _Prefix:
    """The combinations of a component that begin with the positions chosen so far: a part of its places."""

    def __init__(self, component: _Component) -> None:
        self._component = component
        self._start = 0
        self._first, self._end = 0, len(component.places)

    def __len__(self) -> int:
        return self._end - self._first

    def find_digit(self, at: int, number: int) -> int:
        """Find the position along dimension `at` of the combination with `number` others before it."""
        return (self._component.places[self._first + number] - self._start) // self._component.strides[at]

    def narrow(self, at: int, digit: int) -> int:
        """Choose a position along dimension `at`; return how many combinations come before those it leaves."""
        places, stride, before = self._component.places, self._component.strides[at], self._first
        self._start += digit * stride
        self._first = bisect_left(places, self._start, self._first, self._end)
        self._end = bisect_left(places, self._start + stride, self._first, self._end)
        return self._first - before


class Space:
    """The points that conditions leave, in the order of the definition: index ↔ position along each dimension.

    Of the dimensions that conditions tie together, the combinations that count are kept. The number of points below any
    prefix of positions is then a product, and both directions take time in the number of dimensions, not of points.
    """

    def __init__(self, sizes: Sequence[int], components: Sequence[_Component] = ()) -> None:
        self.sizes = tuple(sizes)
        self._components = components
        self._first_places: dict[tuple[int, tuple[int, ...]], Any] = {}  # who asks for one combination asks for many
        self._of = {member: number for number, each in enumerate(components) for member in each.strides}
        free = math.prod(size for at, size in enumerate(sizes) if at not in self._of)
        self._size = math.prod(len(component.places) for component in components) * free

    @property
    def is_full(self) -> bool:
        """Tell whether every combination counts."""
        return not self._components

    def __len__(self) -> int:
        return self._size

    def unrank(self, index: int) -> tuple[int, ...]:
        """Compute the position along each dimension of the point at `index`. Raises IndexError."""
        if not 0 <= index < self._size:
            raise IndexError(index)
        prefixes = [_Prefix(component) for component in self._components]
        below = self._size
        digits = []
        for at, size in enumerate(self.sizes):
            number = self._of.get(at)
            if number is None:
                below //= size
                digit, index = divmod(index, below)
            else:
                prefix = prefixes[number]
                others = below // len(prefix)
                digit = prefix.find_digit(at, index // others)
                index -= prefix.narrow(at, digit) * others
                below = len(prefix) * others
            digits.append(digit)
        return tuple(digits)

    def rank(self, digits: Sequence[int]) -> int | None:
        """Compute the index of the point at these positions; None where conditions exclude it."""
        prefixes = [_Prefix(component) for component in self._components]
        below, index = self._size, 0
        for at, (size, digit) in enumerate(zip(self.sizes, digits, strict=True)):
            if below == 0:
                return None
            number = self._of.get(at)
            if number is None:
                below //= size
                index += digit * below
            else:
                prefix = prefixes[number]
                others = below // len(prefix)
                index += prefix.narrow(at, digit) * others
                below = len(prefix) * others
        return index if below else None

    def find_first(self, fixed: Mapping[int, int]) -> tuple[int, ...] | None:
        """Find the first point that counts with these positions along some dimensions; None where there is none."""
        digits = [fixed.get(at, 0) for at in range(len(self.sizes))]
        for component in self._components:
            members = tuple(at for at in component.strides if at in fixed)
            index = 0
            for at in members:
                index = index * self.sizes[at] + fixed[at]
            place = int(self._find_first_places(component, members)[index])
            if place < 0:
                return None
            for at, stride in component.strides.items():
                digits[at] = place // stride % self.sizes[at]
        return tuple(digits)

    def _find_first_places(self, component: _Component, members: tuple[int, ...]) -> Any:
        """Find the first place of a component for each combination of positions along these dimensions; -1 for none."""
        if not members:
            return component.places[:1] or [-1]
        key = (next(iter(component.strides)), members)
        if key not in self._first_places:
            import numpy as np

            places = np.asarray(component.places, np.int32)
            index = np.zeros_like(places)
            for at in members:
                index = index * self.sizes[at] + places // component.strides[at] % self.sizes[at]
            found = np.full(math.prod(self.sizes[at] for at in members), -1, np.int32)
            found[index[::-1]] = places[::-1]  # of several, the one that is written last stays
            self._first_places[key] = found
        return self._first_places[key]


def make_space(dimensions: Sequence[Dimension], clauses: Sequence[Clause]) -> Space:
    """Make the space of the points that the clauses leave. Raises ExperimentError for too many combinations."""
    components = [_make_component(dimensions, *group) for group in _group_tied(dimensions, clauses)]
    return Space([len(dimension) for dimension in dimensions], components)


def _group_tied(dimensions: Sequence[Dimension], clauses: Sequence[Clause]) -> list[tuple[list[int], list[Clause]]]:
    """Group clauses so that no two groups share a dimension, each with the dimensions it looks at, ascending."""
    home = {axis.name: at for at, dimension in enumerate(dimensions) for axis in dimension.axes}
    groups: list[tuple[set[int], list[Clause]]] = []
    for clause in clauses:
        members, tied = {home[name] for name in clause.names}, [clause]
        for group in [g for g in groups if g[0] & members]:
            groups.remove(group)
            members |= group[0]
            tied = group[1] + tied
        groups.append((members, tied))
    return [(sorted(members), tied) for members, tied in groups]


def _make_component(dimensions: Sequence[Dimension], members: Sequence[int], clauses: Sequence[Clause]) -> _Component:
    sizes = [len(dimensions[member]) for member in members]
    size = math.prod(sizes)
    if size > MAX_COMBINATIONS:
        names = ", ".join(axis.name for member in members for axis in dimensions[member].axes)
        raise ExperimentError(
            f"The conditions tie {names} together: {size:,} combinations, the most is {MAX_COMBINATIONS:,}.",
            hint="Conditions that name fewer axes at once leave the others out of the count.",
        )
    named = {name for clause in clauses for name in clause.names}
    readers = [
        [(a.name, lru_cache(4096)(a.levels.value)) for a in dimensions[member].axes if a.name in named]
        for member in members
    ]
    values = enumerate(_iterate_values(readers, sizes))
    places = array("I", (at for at, point in values if all(clause.holds(point) for clause in clauses)))
    return _Component({member: math.prod(sizes[at + 1 :]) for at, member in enumerate(members)}, places)


def _iterate_values(
    readers: Sequence[Sequence[tuple[str, Callable[[int], Any]]]], sizes: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Iterate over every combination, the first dimension slowest, in one dict that changes under the reader."""
    values: dict[str, Any] = {}

    def walk(depth: int) -> Iterator[dict[str, Any]]:
        if depth == len(sizes):
            yield values
            return
        for at in range(sizes[depth]):
            for name, read in readers[depth]:
                values[name] = read(at)
            yield from walk(depth + 1)

    return walk(0)


MAX_KEPT: Final = 4096  # levels of a dimension that are kept once made


class Grid(LazySequence[Variation]):
    """The variations that conditions and the design leave, made when asked for; the first axis varies slowest.

    Memory is taken for levels, and for what conditions tie together; nothing grows with the number of points.
    """

    def __init__(self, dimensions: Sequence[Dimension], space: Space, chosen: Sequence[int]) -> None:
        self.space = space  # of the points that conditions leave, before a design chooses from them
        self.chosen = chosen  # indices into `space` of the points that are rendered, in their order
        self._dimensions = tuple(dimensions)
        self._has_cell_seeds = any(dimension.cell_seeds for dimension in self._dimensions)
        self._levels_at = [lru_cache(MAX_KEPT)(dimension.levels_at) for dimension in self._dimensions]

    def list_left_out(self, most: int) -> list[tuple[int, ...]]:
        """List the combinations that conditions leave out, by level numbers; none where they are more than `most`."""
        full = Space(self.space.sizes)
        if not 0 < len(full) - len(self.space) <= most or len(full) > 20 * most:
            return []
        widths = [len(dimension.axes) for dimension in self._dimensions]
        excluded = (digits for digits in map(full.unrank, range(len(full))) if self.space.rank(digits) is None)
        return [tuple(d for d, width in zip(digits, widths, strict=True) for _ in range(width)) for digits in excluded]

    def __len__(self) -> int:
        return len(self.chosen)

    def item(self, at: int) -> Variation:
        return Variation(at, self._make_levels(self.space.unrank(self.chosen[at])))

    def find_levels(self, fixed: Mapping[int, int]) -> dict[str, Level] | None:
        """Find the levels of the first point that conditions leave with these positions along some dimensions, if any.

        A design may not choose it.
        """
        digits = self.space.find_first(fixed)
        return None if digits is None else self._make_levels(digits)

    def _make_levels(self, digits: Sequence[int]) -> dict[str, Level]:
        levels: dict[str, Level] = {}
        for make_levels, digit in zip(self._levels_at, digits, strict=True):
            levels.update(make_levels(digit))
        if self._has_cell_seeds:
            put_cell_seeds(self._dimensions, digits, levels)
        return levels

    def index_of(self, values: Mapping[str, Scalar]) -> int:
        """Find the index of the point with these values, one for each axis.

        Raises:
            ExperimentError: An axis is missing or unknown.
            LookupError: The grid has no such point.
        """
        names = {axis.name for dimension in self._dimensions for axis in dimension.axes}
        if odd := sorted(set(values) ^ names):
            raise ExperimentError(f"A point of this grid has one value for each of its axes; not so {', '.join(odd)}.")
        owners = {dimension.axes[0].name for dimension in self._dimensions if dimension.cell_seeds}
        others = {axis: value for axis, value in values.items() if axis not in owners}
        digits = []
        for dimension in self._dimensions:
            if seeds := dimension.cell_seeds:
                seed = values[dimension.axes[0].name]
                digit = next((at for at in range(len(seeds)) if seeds.draw(others, at) == seed), None)
            else:
                digit = dimension.find_position(values)
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


def put_cell_seeds(dimensions: Sequence[Dimension], digits: Sequence[int], levels: dict[str, Level]) -> None:
    """Put the seeds of this combination into `levels`, where there is an axis of them."""
    owners = {d.axes[0].name: (d.cell_seeds, at) for d, at in zip(dimensions, digits, strict=True) if d.cell_seeds}
    others = {name: level.value for name, level in levels.items() if name not in owners}
    for name, (seeds, at) in owners.items():
        seed = seeds.draw(others, at)
        levels[name] = Level(seed, dict.fromkeys(seeds.targets, seed))
