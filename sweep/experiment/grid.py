"""The lazy grid and its designs: from an index to positions along each axis, and from there to a point.

No point is made before it is asked for. Designs are pure functions of the grid and a seed.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from sweep.errors import ExperimentError
from sweep.experiment.axes import CellSeeds, Dimension, LazySequence, Level, Variation, put_cell_seeds
from sweep.experiment.conditions import Clause
from sweep.experiment.file_schema import FULL_DESIGN, DesignSpec
from sweep.types import Scalar

if TYPE_CHECKING:
    from numpy.typing import NDArray

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

    Of the dimensions that conditions tie together, the combinations that count are kept. These components and the
    remaining dimensions are independent of each other, so the number of points below any prefix of positions is a
    product, and both directions take time in the number of dimensions, not of points.
    """

    def __init__(self, sizes: Sequence[int], components: Sequence[_Component] = ()) -> None:
        self.sizes = tuple(sizes)
        self._components = components
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


class Cells(Space):
    """The points of a grid without its seeds: each cell stands for its points with every seed."""

    def __init__(self, space: Space, at: int) -> None:
        super().__init__([*space.sizes[:at], *space.sizes[at + 1 :]])
        self._space = space
        self._at = at
        self.seeds = space.sizes[at]

    @property
    def is_full(self) -> bool:
        """Tell whether every cell has every seed."""
        return self._space.is_full

    def has_seeds(self, cell: int) -> bool:
        """Tell whether conditions leave the cell a seed."""
        return self.is_full or bool(self.indices(cell))

    def rank(self, digits: Sequence[int]) -> int | None:
        """Compute the number of the cell at these positions; None where conditions leave it no seed."""
        cell = super().rank(digits)
        return cell if cell is not None and self.has_seeds(cell) else None

    def index(self, cell: int, seed: int) -> int | None:
        """Find the index in the grid of a cell with the seed at this position."""
        digits = self.unrank(cell)
        return self._space.rank((*digits[: self._at], seed, *digits[self._at :]))

    def indices(self, cell: int) -> list[int]:
        """List the indices in the grid of a cell with every seed that conditions leave."""
        found = (self.index(cell, seed) for seed in range(self.seeds))
        return [index for index in found if index is not None]

    def locate(self, index: int) -> tuple[int, int]:
        """Find the cell and the seed of a point of the grid."""
        digits = self._space.unrank(index)
        cell = super().rank([*digits[: self._at], *digits[self._at + 1 :]])
        assert cell is not None
        return cell, digits[self._at]


class SeedsOfCells(LazySequence[int]):
    """Chosen cells of a grid without conditions, each with every seed, computed as they are asked for."""

    def __init__(self, cells: Cells, chosen: Sequence[int]) -> None:
        self._cells = cells
        self._chosen = chosen

    def __len__(self) -> int:
        return len(self._chosen) * self._cells.seeds

    def item(self, at: int) -> int:
        cell, seed = divmod(at, self._cells.seeds)
        index = self._cells.index(self._chosen[cell], seed)
        assert index is not None
        return index

    def index(self, value: int, *_: int) -> int:
        """Find where `value` stands. Raises ValueError where it is not chosen."""
        cell, seed = self._cells.locate(value)
        return self._chosen.index(cell) * self._cells.seeds + seed


MAX_DRAWS: Final = 100  # for each point wanted, before the rest is drawn at random


def choose_points(design: DesignSpec, space: Space, dimensions: Sequence[Dimension]) -> Sequence[int]:
    """Choose the points of a design: the same design of the same grid always chooses the same.

    Returns:
        Indices into `space`, each once, in the order drawn; all of them where the design asks for more than there are.

    Raises:
        ExperimentError: A baseline is no point of the grid.
    """
    if design.kind in ("full", "adaptive"):
        return range(len(space))
    at = next((at for at, dimension in enumerate(dimensions) if dimension.is_seeds), None)
    if at is None or design.seeds == "one":
        return _choose_cells(design, space, dimensions)
    cells = Cells(space, at)
    if design.kind == "rotated":
        return _rotate_seeds(cells, design.share or 1.0)
    chosen = _choose_cells(design, cells, [*dimensions[:at], *dimensions[at + 1 :]])
    return SeedsOfCells(cells, chosen) if cells.is_full else tuple(i for cell in chosen for i in cells.indices(cell))


def _choose_cells(design: DesignSpec, space: Space, dimensions: Sequence[Dimension]) -> Sequence[int]:
    """Choose points, or cells that are rendered with every seed, by the design."""
    if design.kind == "one_at_a_time":
        return _choose_one_at_a_time(design, space, dimensions)
    wanted = min(design.points or 0, len(space))
    every = _shuffle(len(space), design.seed)
    if isinstance(space, Cells):
        every = filter(space.has_seeds, every)
    if design.kind == "random":
        return tuple(islice(every, wanted))
    found: dict[int, None] = {}
    for index in chain(_spread_points(design, space, wanted), every):
        if len(found) == wanted:
            break
        found[index] = None
    return tuple(found)


def _spread_points(design: DesignSpec, space: Space, wanted: int) -> Iterator[int]:
    """Iterate over the points that even draws fall on, of those that conditions leave; some come again."""
    for draw in islice(_draw_points(design, len(space.sizes), wanted), MAX_DRAWS * wanted):
        index = space.rank([min(int(u * size), size - 1) for u, size in zip(draw, space.sizes, strict=True)])
        if index is not None:
            yield index


def _draw_points(design: DesignSpec, axes: int, wanted: int) -> Iterator[Sequence[float]]:
    """Draw points of the unit cube, without end. A Latin hypercube has `wanted`; others follow it, as some of its
    points fall on one level or on none that counts.
    """
    from scipy.stats import qmc

    if axes == 0 or wanted == 0:
        return
    if design.kind == "lhs":
        hypercube = qmc.LatinHypercube(axes, rng=design.seed)
        while True:
            yield from hypercube.random(wanted).tolist()
    if design.kind == "halton":
        halton = qmc.Halton(axes, rng=design.seed)
        while True:
            yield from halton.random(1024).tolist()
    sobol = qmc.Sobol(axes, rng=design.seed, bits=40)
    power = max(1, math.ceil(math.log2(wanted)))
    yield from sobol.random_base2(power).tolist()
    while True:
        yield from sobol.random_base2(power).tolist()  # doubles what there is: stays balanced
        power += 1


def _choose_one_at_a_time(design: DesignSpec, space: Space, dimensions: Sequence[Dimension]) -> Sequence[int]:
    """Choose the baseline, then for each dimension its other positions, in order, of those that conditions leave."""
    base = []
    for dimension in dimensions:
        digit = dimension.find_position(design.baseline)
        if digit is None:
            named = {axis.name: design.baseline[axis.name] for axis in dimension.axes if axis.name in design.baseline}
            raise ExperimentError(f"No step of the zip has {named} together; the baseline of the design names them.")
        base.append(digit)
    first = space.rank(base)
    if first is None:
        raise ExperimentError("The baseline of the design is a point that the conditions exclude.")
    others = (
        space.rank([*base[:at], digit, *base[at + 1 :]])
        for at, dimension in enumerate(dimensions)
        for digit in range(len(dimension))
    )
    return tuple(dict.fromkeys([first, *(index for index in others if index is not None)]))


def _rotate_seeds(cells: Cells, share: float) -> Sequence[int]:
    """Choose a share of the seeds for each cell, so that levels of every dimension meet all seeds about equally often.

    A balanced incomplete block design (Yates 1936, Ann. Eugen. 7), found greedily: each cell takes the seeds that its
    levels have met least often, then those that were with each other least often.
    """
    met: Counter[tuple[int, int, int]] = Counter()  # dimension, level, seed
    together: Counter[frozenset[int]] = Counter()
    counted = {cell: cells.unrank(cell) for cell in range(len(cells)) if cells.has_seeds(cell)}
    found: list[int] = []
    for number, (cell, asked) in enumerate(_count_rotated(counted, share * cells.seeds).items()):
        digits, chosen = counted[cell], list[int]()
        left = {seed: index for seed in range(cells.seeds) if (index := cells.index(cell, seed)) is not None}
        while left and len(chosen) < asked:
            scores = {
                seed: (
                    sum(met[at, digit, seed] for at, digit in enumerate(digits)),
                    sum(together[frozenset((seed, other))] for other in chosen),
                    (seed - number) % cells.seeds,
                )
                for seed in left
            }
            best = min(left, key=scores.__getitem__)
            found.append(left.pop(best))
            together.update(frozenset((best, other)) for other in chosen)
            met.update((at, digit, best) for at, digit in enumerate(digits))
            chosen.append(best)
    return tuple(sorted(found))


def _count_rotated(cells: Mapping[int, Sequence[int]], mean: float) -> dict[int, int]:
    """Count the seeds of each cell: `mean` rounded down or up, at least one.

    Which are rounded up is spread over all dimensions by a Kronecker sequence (Niederreiter 1992, Random Number
    Generation and Quasi-Monte Carlo Methods, 3).
    """
    low = max(1, math.floor(mean))
    more = max(0, round(mean * len(cells)) - low * len(cells))

    def place(cell: int) -> float:
        return math.fsum(digit * math.sqrt(_PRIMES[at % len(_PRIMES)]) for at, digit in enumerate(cells[cell])) % 1

    chosen = set(sorted(cells, key=place)[:more])
    return {cell: low + (cell in chosen) for cell in cells}


_PRIMES: Final = (2, 3, 5, 7, 11, 13)
_ROUNDS: Final = 6
_CHUNK: Final = 4096  # numbers that are shuffled at once


def _shuffle(size: int, seed: int) -> Iterator[int]:
    """Iterate over range(size) in a seeded order, each number computed when it is asked for.

    A Feistel network permutes the next larger power of four; what falls outside walks on until it is inside
    (Black and Rogaway, Ciphers with Arbitrary Finite Domains, 2002).
    """
    import numpy as np

    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    low = 2**half - 1
    rounds = [(seed * 0x9E3779B97F4A7C15 + number + 1) % 2**64 for number in range(_ROUNDS)]
    keys = _mix(np.array(rounds, dtype=np.uint64))

    def permute(words: NDArray[Any]) -> NDArray[Any]:
        left, right = words >> half, words & low
        for key in keys:
            left, right = right, left ^ (_mix(right ^ key) & low)
        return left << half | right  # type: ignore[no-any-return]

    for start in range(0, size, _CHUNK):
        found = permute(np.arange(start, min(start + _CHUNK, size), dtype=np.uint64))
        while (outside := found >= size).any():
            found[outside] = permute(found[outside])
        yield from found.tolist()


def _mix(words: NDArray[Any]) -> NDArray[Any]:
    """Apply the finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    words = (words ^ words >> 30) * 0xBF58476D1CE4E5B9
    words = (words ^ words >> 27) * 0x94D049BB133111EB
    return words ^ words >> 31  # type: ignore[no-any-return]


MAX_KEPT: Final = 4096  # levels of a dimension that are kept once made


class Grid(LazySequence[Variation]):
    """Points in the order of the definition: the first axis varies slowest. Indices are dense over the points that
    count, those the conditions and the design leave. Takes room for the levels of its axes and for each combination
    that conditions leave of the axes they name; nothing grows with the number of points.
    """

    def __init__(
        self, dimensions: Sequence[Dimension], clauses: Sequence[Clause] = (), design: DesignSpec = FULL_DESIGN
    ) -> None:
        self._dimensions = tuple(dimensions)
        self._clauses = clauses
        self._design = design
        self._has_cell_seeds = any(dimension.has_cell_seeds for dimension in self._dimensions)
        self._made: list[dict[int, dict[str, Level]]] = [{} for _ in self._dimensions]

    @cached_property
    def space(self) -> Space:
        """The space of the grid before a design chooses from it: index ↔ positions along the dimensions."""
        return make_space(self._dimensions, self._clauses)

    @cached_property
    def chosen(self) -> Sequence[int]:
        """The indices into `space` of the points that are rendered, in their order."""
        return choose_points(self._design, self.space, self._dimensions)

    def left_out(self, most: int) -> list[tuple[int, ...]]:
        """List the combinations that conditions leave out: the number of a level for each axis.

        Empty where they are more than `most`, or the full grid is too large to be walked.
        """
        full = Space(self.space.sizes)
        if not 0 < len(full) - len(self.space) <= most or len(full) > 20 * most:
            return []
        widths = [len(dimension.axes) for dimension in self._dimensions]
        excluded = (digits for digits in map(full.unrank, range(len(full))) if self.space.rank(digits) is None)
        return [tuple(d for d, width in zip(digits, widths, strict=True) for _ in range(width)) for digits in excluded]

    def __len__(self) -> int:
        return len(self.chosen)

    def item(self, at: int) -> Variation:
        return self._make_variation(at, self.chosen[at])

    def __iter__(self) -> Iterator[Variation]:
        return (self._make_variation(at, inner) for at, inner in enumerate(self.chosen))

    def _make_variation(self, index: int, inner: int) -> Variation:
        digits = self.space.unrank(inner)
        levels: dict[str, Level] = {}
        for at, digit in enumerate(digits):
            levels.update(self._made[at].get(digit) or self._make_levels(at, digit))
        if self._has_cell_seeds:
            put_cell_seeds(self._dimensions, digits, levels)
        return Variation(index, levels)

    def _make_levels(self, at: int, digit: int) -> dict[str, Level]:
        """Make the levels at one position of a dimension, and keep them for the next point that has them."""
        made = self._made[at]
        if len(made) >= MAX_KEPT:
            made.clear()
        made[digit] = self._dimensions[at].levels_at(digit)
        return made[digit]

    def index_of(self, values: Mapping[str, Scalar]) -> int:
        """Find the index of the point with these values, one for each axis.

        Raises:
            ExperimentError: An axis is missing or unknown.
            LookupError: The grid has no such point.
        """
        names = {axis.name for dimension in self._dimensions for axis in dimension.axes}
        if set(values) != names:
            odd = sorted(set(values) ^ names)
            raise ExperimentError(f"A point of this grid has one value for each of its axes; not so {', '.join(odd)}.")
        owners = {dimension.axes[0].name for dimension in self._dimensions if dimension.has_cell_seeds}
        digits = []
        for dimension in self._dimensions:
            seeds = dimension.axes[0].levels
            if isinstance(seeds, CellSeeds):
                name = dimension.axes[0].name
                others = {axis: value for axis, value in values.items() if axis not in owners}
                digit = next((at for at in range(len(seeds)) if seeds.draw(others, at) == values[name]), None)
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

    def __contains__(self, variation: object) -> bool:
        if not isinstance(variation, Variation) or not 0 <= variation.index < len(self):
            return False
        return self[variation.index] == variation
