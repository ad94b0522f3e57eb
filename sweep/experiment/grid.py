"""The lazy grid and its designs: from an index to positions along each axis, and from there to a point.

With conditions, one bit is kept for each combination of the dimensions that they name. Dimensions that conditions tie
together make a component; components and the remaining dimensions are independent of each other, so the number of
points below any prefix of positions is a product of bit counts, and both directions take time in the number of
dimensions, not of points.

No point is made before it is asked for. Designs are pure functions of the grid and a seed.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Final, Protocol, overload

from sweep.errors import ExperimentError
from sweep.experiment.conditions import Clause, Condition
from sweep.experiment.model import (
    CellSeeds,
    Dimension,
    Level,
    SamplingDesign,
    Variation,
    find_position,
    make_value_reader,
    put_cell_seeds,
)
from sweep.types import Scalar

MAX_COMBINATIONS: Final = 20_000_000
_BLOCK: Final = 512  # bits between two kept counts


class Space(Protocol):
    """The points that count, in the order of the definition."""

    def __len__(self) -> int: ...

    def unrank(self, index: int) -> tuple[int, ...]:
        """Compute the position along each dimension of the point at `index`, 0 ≤ index < len."""
        ...

    def rank(self, digits: Sequence[int]) -> int | None:
        """Compute the index of the point at these positions; None where conditions exclude it."""
        ...


class Full:
    """Every combination."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)
        self._size = math.prod(self.sizes)

    def __len__(self) -> int:
        return self._size

    def unrank(self, index: int) -> tuple[int, ...]:
        found = []
        for size in reversed(self.sizes):
            index, digit = divmod(index, size)
            found.append(digit)
        return tuple(reversed(found))

    def rank(self, digits: Sequence[int]) -> int | None:
        index = 0
        for size, digit in zip(self.sizes, digits, strict=True):
            index = index * size + digit
        return index


class Bits:
    """A fixed row of bits that counts those set below any place, and finds the nth one set."""

    def __init__(self, flags: Iterator[bool], size: int) -> None:
        packed = bytearray((size + _BLOCK - 1) // _BLOCK * (_BLOCK // 8))
        for at, flag in enumerate(flags):
            if flag:
                packed[at >> 3] |= 1 << (at & 7)
        self._packed = bytes(packed)
        counts = array("Q", [0])
        for start in range(0, len(packed), _BLOCK // 8):
            counts.append(counts[-1] + int.from_bytes(packed[start : start + _BLOCK // 8], "little").bit_count())
        self._counts = counts

    def __len__(self) -> int:
        return self._counts[-1]

    def __getitem__(self, at: int) -> bool:
        return bool(self._packed[at >> 3] >> (at & 7) & 1)

    def _block(self, block: int) -> int:
        start = block * (_BLOCK // 8)
        return int.from_bytes(self._packed[start : start + _BLOCK // 8], "little")

    def below(self, at: int) -> int:
        """Return how many are set before `at`."""
        block, rest = divmod(at, _BLOCK)
        return self._counts[block] + ((self._block(block) & ((1 << rest) - 1)).bit_count() if rest else 0)

    def nth(self, number: int) -> int:
        """Find where the one with `number` others before it is."""
        block = bisect_right(self._counts, number) - 1
        word, missing, low, high = self._block(block), number - self._counts[block], 0, _BLOCK
        while high - low > 1:
            middle = (low + high) // 2
            if (word & ((1 << middle) - 1)).bit_count() > missing:
                high = middle
            else:
                low = middle
        return block * _BLOCK + low


@dataclass(frozen=True, slots=True)
class _Component:
    """Dimensions that conditions tie together, and which of their combinations count."""

    members: tuple[int, ...]
    strides: dict[int, int]  # by dimension: how many combinations one step spans
    bits: Bits


class Filtered:
    """The combinations for which a condition holds."""

    def __init__(self, full: Full, dimensions: Sequence[Dimension], condition: Condition) -> None:
        self._sizes = full.sizes
        self._components: list[_Component] = []
        self._of: dict[int, int] = {}
        for members, clauses in _group_tied(dimensions, condition):
            for member in members:
                self._of[member] = len(self._components)
            self._components.append(_make_component(dimensions, members, clauses))
        free = math.prod(size for at, size in enumerate(self._sizes) if at not in self._of)
        self._size = math.prod(len(c.bits) for c in self._components) * free

    def __len__(self) -> int:
        return self._size

    def unrank(self, index: int) -> tuple[int, ...]:
        if not 0 <= index < self._size:
            raise IndexError(index)
        starts = [0] * len(self._components)
        left = [len(component.bits) for component in self._components]
        below = self._size
        found = []
        for at, size in enumerate(self._sizes):
            k = self._of.get(at)
            if k is None:
                below //= size
                digit, index = divmod(index, below)
                found.append(digit)
                continue
            component, rest = self._components[k], below // left[k]
            stride, before = component.strides[at], component.bits.below(starts[k])
            digit = (component.bits.nth(before + index // rest) - starts[k]) // stride
            starts[k] += digit * stride
            passed = component.bits.below(starts[k]) - before
            left[k] = component.bits.below(starts[k] + stride) - before - passed
            index -= passed * rest
            below = left[k] * rest
            found.append(digit)
        return tuple(found)

    def rank(self, digits: Sequence[int]) -> int | None:
        for component in self._components:
            if not component.bits[sum(digits[m] * component.strides[m] for m in component.members)]:
                return None
        starts = [0] * len(self._components)
        left = [len(component.bits) for component in self._components]
        below, index = self._size, 0
        for at, (size, digit) in enumerate(zip(self._sizes, digits, strict=True)):
            k = self._of.get(at)
            if k is None:
                below //= size
                index += digit * below
                continue
            component, rest = self._components[k], below // left[k]
            stride, before = component.strides[at], component.bits.below(starts[k])
            starts[k] += digit * stride
            passed = component.bits.below(starts[k]) - before
            left[k] = component.bits.below(starts[k] + stride) - before - passed
            index += passed * rest
            below = left[k] * rest
        return index


def _group_tied(dimensions: Sequence[Dimension], condition: Condition) -> list[tuple[tuple[int, ...], list[Clause]]]:
    """Group clauses so that no two groups share a dimension, each with the dimensions it looks at, ascending."""
    home = {axis.name: at for at, dimension in enumerate(dimensions) for axis in dimension.axes}
    groups: list[tuple[set[int], list[Clause]]] = []
    for clause in condition.clauses:
        members, clauses = {home[name] for name in clause.names}, [clause]
        for group in [g for g in groups if g[0] & members]:
            groups.remove(group)
            members |= group[0]
            clauses = group[1] + clauses
        groups.append((members, clauses))
    return [(tuple(sorted(members)), clauses) for members, clauses in groups]


def _make_component(dimensions: Sequence[Dimension], members: tuple[int, ...], clauses: list[Clause]) -> _Component:
    sizes = [len(dimensions[member]) for member in members]
    size = math.prod(sizes)
    if size > MAX_COMBINATIONS:
        names = ", ".join(axis.name for member in members for axis in dimensions[member].axes)
        raise ExperimentError(
            f"The conditions tie {names} together: {size:,} combinations, the most is {MAX_COMBINATIONS:,}.",
            hint="Conditions that name fewer axes at once leave the others out of the count.",
        )
    strides, stride = {}, size
    for member, length in zip(members, sizes, strict=True):
        stride //= length
        strides[member] = stride
    named = {name for clause in clauses for name in clause.names}
    readers = [
        [
            (axis.name, lru_cache(4096)(make_value_reader(axis.levels)))
            for axis in dimensions[member].axes
            if axis.name in named
        ]
        for member in members
    ]
    values = _every_value(readers, sizes)
    return _Component(members, strides, Bits((all(c.holds(v) for c in clauses) for v in values), size))


def _every_value(
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


MAX_DRAWS: Final = 100  # for each point wanted, before the rest is drawn at random
_ROUNDS: Final = 6
_MASK: Final = (1 << 64) - 1


def choose_points(design: SamplingDesign, space: Space, dimensions: Sequence[Dimension]) -> Sequence[int]:
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
    cells = Cells(space, [len(dimension) for dimension in dimensions], at)
    if design.kind == "rotated":
        return _rotate_seeds(cells, design.share)
    others = [dimension for dimension in dimensions if dimension is not dimensions[at]]
    chosen = _choose_cells(design, cells, others)
    return SeedsOfCells(cells, chosen) if cells.is_full else Chosen(i for cell in chosen for i in cells.indices(cell))


def _choose_cells(design: SamplingDesign, space: Space, dimensions: Sequence[Dimension]) -> Sequence[int]:
    """Choose points, or cells that are rendered with every seed, by the design."""
    wanted, is_whole = min(design.points or 0, len(space)), not isinstance(space, Cells) or space.is_full
    match design.kind:
        case "random":
            if is_whole:
                return Shuffled(len(space), wanted, design.seed)
            return Chosen(islice(_shuffle(space, design.seed), wanted))
        case "one_at_a_time":
            return _choose_one_at_a_time(design, space, dimensions)
        case _:
            found = _choose_spread(_draw_points(design, len(dimensions), wanted), space, dimensions, wanted)
            for index in _shuffle(space, design.seed) if len(found) < wanted else ():
                if len(found) == wanted:
                    break
                found.setdefault(index)
            return Chosen(found)


def _shuffle(space: Space, seed: int) -> Iterator[int]:
    """Iterate over all that counts in a seeded order."""
    every = Shuffled(len(space), len(space), seed)
    if isinstance(space, Cells) and not space.is_full:
        return (index for index in every if space.rank(space.unrank(index)) is not None)
    return iter(every)


class Cells:
    """The points of a grid without its seeds: each cell stands for its points with every seed."""

    def __init__(self, space: Space, sizes: Sequence[int], at: int) -> None:
        self._space = space
        self._at = at
        self._others = Full([*sizes[:at], *sizes[at + 1 :]])
        self.seeds = sizes[at]
        self.is_full = isinstance(space, Full)

    def __len__(self) -> int:
        return len(self._others)

    def unrank(self, index: int) -> tuple[int, ...]:
        return self._others.unrank(index)

    def rank(self, digits: Sequence[int]) -> int | None:
        cell = self._others.rank(digits)
        return cell if self.is_full or (cell is not None and self.indices(cell)) else None

    def index(self, cell: int, seed: int) -> int | None:
        """Find the index in the grid of a cell with the seed at this position."""
        digits = self._others.unrank(cell)
        return self._space.rank((*digits[: self._at], seed, *digits[self._at :]))

    def indices(self, cell: int) -> list[int]:
        """List the indices in the grid of a cell with every seed that conditions leave."""
        found = (self.index(cell, seed) for seed in range(self.seeds))
        return [index for index in found if index is not None]

    def locate(self, index: int) -> tuple[int, int]:
        """Find the cell and the seed of a point of the grid."""
        digits = self._space.unrank(index)
        cell = self._others.rank([*digits[: self._at], *digits[self._at + 1 :]])
        assert cell is not None
        return cell, digits[self._at]


class SeedsOfCells(Sequence[int]):
    """Chosen cells of a grid without conditions, each with every seed, computed as they are asked for."""

    def __init__(self, cells: Cells, chosen: Sequence[int]) -> None:
        self._cells = cells
        self._chosen = chosen

    def __len__(self) -> int:
        return len(self._chosen) * self._cells.seeds

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[int]: ...
    def __getitem__(self, at: int | slice) -> int | Sequence[int]:
        if isinstance(at, slice):
            return [self[i] for i in range(len(self))[at]]
        cell, seed = divmod(range(len(self))[at], self._cells.seeds)
        index = self._cells.index(self._chosen[cell], seed)
        assert index is not None
        return index

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Find where `value` stands. Raises ValueError where it is not chosen."""
        cell, seed = self._cells.locate(value)
        found = self._chosen.index(cell) * self._cells.seeds + seed
        if start <= found < (len(self) if stop is None else stop):
            return found
        raise ValueError(f"{value!r} is not chosen")

    def __contains__(self, value: object) -> bool:
        try:
            self.index(value)
        except (ValueError, TypeError):
            return False
        return True


def _rotate_seeds(cells: Cells, share: float) -> Chosen:
    """Choose a share of the seeds for each cell, so that levels of every dimension meet all seeds about equally often.

    A balanced incomplete block design (Yates 1936, Ann. Eugen. 7), found greedily: each cell takes the seeds that its
    levels have met least often, then those that were with each other least often.
    """
    met: Counter[tuple[int, int, int]] = Counter()  # dimension, level, seed
    together: Counter[frozenset[int]] = Counter()
    counted = {cell: cells.unrank(cell) for cell in range(len(cells)) if cells.rank(cells.unrank(cell)) is not None}
    found: list[int] = []
    for number, (cell, asked) in enumerate(_count_rotated(counted, share * cells.seeds).items()):
        digits, chosen = counted[cell], list[int]()
        left = [seed for seed in range(cells.seeds) if cells.index(cell, seed) is not None]
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
            left.remove(best)
            together.update(frozenset((best, other)) for other in chosen)
            met.update((at, digit, best) for at, digit in enumerate(digits))
            chosen.append(best)
        found += [index for seed in chosen if (index := cells.index(cell, seed)) is not None]
    return Chosen(sorted(found))


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


class Shuffled(Sequence[int]):
    """The first `length` of a seeded permutation of range(size), computed as they are asked for, both ways.

    A Feistel network permutes the next larger power of four; what falls outside walks on until it is inside
    (Black and Rogaway, Ciphers with Arbitrary Finite Domains, 2002).
    """

    def __init__(self, size: int, length: int, seed: int) -> None:
        self._size = size
        self._length = length
        self._half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
        self._keys = [_mix(seed * 0x9E3779B97F4A7C15 + number + 1) for number in range(_ROUNDS)]

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[int]: ...
    def __getitem__(self, at: int | slice) -> int | Sequence[int]:
        if isinstance(at, slice):
            return [self[i] for i in range(self._length)[at]]
        return self._walk(range(self._length)[at], self._forward)

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Find where `value` stands. Raises ValueError where it is not chosen."""
        if isinstance(value, int) and 0 <= value < self._size:
            found = self._walk(value, self._backward)
            if start <= found < (self._length if stop is None else min(stop, self._length)):
                return found
        raise ValueError(f"{value!r} is not chosen")

    def __contains__(self, value: object) -> bool:
        try:
            self.index(value)
        except ValueError:
            return False
        return True

    def _walk(self, at: int, step: Callable[[int], int]) -> int:
        at = step(at)
        while at >= self._size:
            at = step(at)
        return at

    def _forward(self, at: int) -> int:
        low_mask = (1 << self._half) - 1
        left, right = at >> self._half, at & low_mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right ^ key) & low_mask)
        return left << self._half | right

    def _backward(self, at: int) -> int:
        low_mask = (1 << self._half) - 1
        left, right = at >> self._half, at & low_mask
        for key in reversed(self._keys):
            left, right = right ^ (_mix(left ^ key) & low_mask), left
        return left << self._half | right


def _mix(word: int) -> int:
    """Apply the finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    word &= _MASK
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _MASK
    return word ^ word >> 31


def _draw_points(design: SamplingDesign, axes: int, wanted: int) -> Iterator[Sequence[float]]:
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


def _choose_spread(
    draws: Iterator[Sequence[float]], space: Space, dimensions: Sequence[Dimension], wanted: int
) -> dict[int, None]:
    """Choose the first `wanted` different points that draws fall on, of those that conditions leave.

    Fewer where the draws hardly ever fall on one of these.
    """
    sizes = [len(dimension) for dimension in dimensions]
    found: dict[int, None] = {}
    for number, draw in enumerate(draws):
        if len(found) == wanted or number >= MAX_DRAWS * wanted:
            break
        index = space.rank([min(int(u * size), size - 1) for u, size in zip(draw, sizes, strict=True)])
        if index is not None:
            found[index] = None
    return found


class Chosen(Sequence[int]):
    """Drawn indices; finding one does not search them all."""

    def __init__(self, indices: Iterable[int]) -> None:
        self._indices = tuple(indices)
        self._places = {index: at for at, index in enumerate(self._indices)}

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[int]: ...
    def __getitem__(self, at: int | slice) -> int | Sequence[int]:
        return self._indices[at]

    def __contains__(self, value: object) -> bool:
        return value in self._places

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Find where `value` stands. Raises ValueError where it is not chosen."""
        at = self._places.get(value)
        if at is None or not start <= at < (len(self) if stop is None else stop):
            raise ValueError(f"{value!r} is not chosen")
        return at


def _choose_one_at_a_time(design: SamplingDesign, space: Space, dimensions: Sequence[Dimension]) -> Sequence[int]:
    """Choose the baseline, then for each dimension its other positions, in order, of those that conditions leave."""
    base = [_find_baseline(design, dimension) for dimension in dimensions]
    first = space.rank(base)
    if first is None:
        raise ExperimentError("The baseline of the design is a point that the conditions exclude.")
    found = {first: None}
    for at, dimension in enumerate(dimensions):
        for digit in range(len(dimension)):
            index = space.rank([*base[:at], digit, *base[at + 1 :]])
            if index is not None:
                found.setdefault(index)
    return Chosen(found)


def _find_baseline(design: SamplingDesign, dimension: Dimension) -> int:
    named = {axis.name: design.baseline[axis.name] for axis in dimension.axes if axis.name in design.baseline}
    for digit in range(len(dimension)) if len(named) > 1 else ():
        if all(axis.levels[digit].value == named[axis.name] for axis in dimension.axes if axis.name in named):
            return digit
    for axis in dimension.axes if len(named) == 1 else ():
        if axis.name in named:
            return find_position(axis.levels, named[axis.name]) or 0
    if named:
        raise ExperimentError(f"No step of the zip has {named} together; the baseline of the design names them.")
    return 0


MAX_POINTS: Final = 10**15
MAX_KEPT: Final = 4096  # levels of a dimension that are kept once made


class Grid(Sequence[Variation]):
    """Points in the order of the definition: the first axis varies slowest. Indices are dense over the points that
    count, those the condition and the design leave. Takes room for the levels of its axes and one bit for each
    combination of the axes that conditions name; nothing grows with the number of points.
    """

    def __init__(
        self, dimensions: Sequence[Dimension], condition: Condition | None = None, design: SamplingDesign | None = None
    ) -> None:
        self._dimensions = tuple(dimensions)
        self._condition = condition
        self._design = design or SamplingDesign()
        self._has_cell_seeds = any(dimension.has_cell_seeds for dimension in self._dimensions)
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
            self._chosen = choose_points(self._design, self.space, self._dimensions)
        return self._chosen

    def left_out(self, most: int) -> list[tuple[int, ...]]:
        """List the combinations that conditions leave out: the number of a level for each axis.

        Empty where they are more than `most`, or the full grid is too large to be walked.
        """
        full = Full([len(dimension) for dimension in self._dimensions])
        if not 0 < len(full) - len(self.space) <= most or len(full) > 20 * most:
            return []
        widths = [len(dimension.axes) for dimension in self._dimensions]
        excluded = (digits for digits in map(full.unrank, range(len(full))) if self.space.rank(digits) is None)
        return [tuple(d for d, width in zip(digits, widths, strict=True) for _ in range(width)) for digits in excluded]

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
        return self._make_variation(at, self.space.unrank(self.chosen[at]))

    def __iter__(self) -> Iterator[Variation]:
        for at, inner in enumerate(self.chosen):
            yield self._make_variation(at, self.space.unrank(inner))

    def _make_variation(self, index: int, digits: Sequence[int]) -> Variation:
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
        made[digit] = {axis.name: axis.levels[digit] for axis in self._dimensions[at].axes}
        return made[digit]

    def index_of(self, values: Mapping[str, Scalar]) -> int:
        """Find the index of the point with these values, one for each axis.

        Raises:
            ExperimentError: An axis is missing or unknown.
            LookupError: The grid has no such point.
        """
        if set(values) != set(self._names):
            odd = sorted(set(values) ^ set(self._names))
            raise ExperimentError(f"A point of this grid has one value for each of its axes; not so {', '.join(odd)}.")
        digits = []
        for at, dimension in enumerate(self._dimensions):
            digit = self._find_digit(at, dimension, values)
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

    def _find_digit(self, at: int, dimension: Dimension, values: Mapping[str, Scalar]) -> int | None:
        if len(dimension.axes) == 1:
            axis = dimension.axes[0]
            if isinstance(axis.levels, CellSeeds):
                return self._find_cell_seed(axis.levels, axis.name, values)
            return find_position(axis.levels, values[axis.name])
        rows = self._rows.get(at)
        if rows is None:
            columns = [[level.value for level in axis.levels] for axis in dimension.axes]
            rows = self._rows[at] = {row: n for n, row in reversed(list(enumerate(zip(*columns, strict=True))))}
        return rows.get(tuple(values[axis.name] for axis in dimension.axes))

    def _find_cell_seed(self, seeds: CellSeeds, name: str, values: Mapping[str, Scalar]) -> int | None:
        owners = {dimension.axes[0].name for dimension in self._dimensions if dimension.has_cell_seeds}
        others = {axis: value for axis, value in values.items() if axis not in owners}
        return next((at for at in range(len(seeds)) if seeds.draw(others, at) == values[name]), None)

    def __contains__(self, variation: object) -> bool:
        if not isinstance(variation, Variation) or not 0 <= variation.index < len(self):
            return False
        return self[variation.index] == variation

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Find where the variation stands; as for any sequence, ValueError where it does not."""
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


def check_grid_size(dimensions: Sequence[Dimension]) -> None:
    """Check that the product has no more points than an index is meant for. Raises ExperimentError."""
    size = 1
    for dimension in dimensions:
        size *= len(dimension)
    if size > MAX_POINTS:
        raise ExperimentError(f"The grid has {size:.3g} points; the most is {MAX_POINTS:.0e}.")
