"""Designs choose the points of the grid that are rendered: pure functions of the grid and a seed, and their checks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from sweep.errors import ExperimentError, did_you_mean
from sweep.experiment.axes import Dimension, LazySequence
from sweep.experiment.file_schema import DesignSpec, ExperimentFile
from sweep.experiment.grid import Space
from sweep.experiment.problems import DocumentPath, ProblemCollector
from sweep.role_table import quote

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Cells(Space):
    """The points of a grid without its seeds: each cell stands for its points with every seed."""

    def __init__(self, space: Space, at: int) -> None:
        super().__init__([*space.sizes[:at], *space.sizes[at + 1 :]])
        self._space = space
        self._at = at
        self.seeds = space.sizes[at]

    def has_seeds(self, cell: int) -> bool:
        """Tell whether conditions leave the cell a seed."""
        return self._space.is_full or bool(self.indices(cell))

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


MAX_DRAWS: Final = 100  # for each point wanted, before the rest is drawn at random


def choose_points(design: DesignSpec, space: Space, dimensions: Sequence[Dimension]) -> Sequence[int]:
    """Choose the points of a design, as indices into `space` in the order drawn: for the same design always the same.

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
    return SeedsOfCells(cells, chosen) if space.is_full else tuple(i for cell in chosen for i in cells.indices(cell))


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
    draws = islice(_draw_points(design, len(space.sizes), wanted), MAX_DRAWS * wanted)
    spread = (
        space.rank([min(int(u * size), size - 1) for u, size in zip(draw, space.sizes, strict=True)]) for draw in draws
    )
    for index in chain(spread, every):  # some come again, or are none that conditions leave
        if len(found) == wanted:
            break
        if index is not None:
            found[index] = None
    return tuple(found)


def _draw_points(design: DesignSpec, axes: int, wanted: int) -> Iterator[Sequence[float]]:
    """Draw points of the unit cube, without end, as some fall on one level or on none that counts."""
    from scipy.stats import qmc

    if axes == 0 or wanted == 0:
        return
    if design.kind in ("lhs", "halton"):
        sampler = (qmc.LatinHypercube if design.kind == "lhs" else qmc.Halton)(axes, rng=design.seed)
        while True:
            yield from sampler.random(wanted).tolist()
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


LEAST_ADAPTIVE_SEEDS: Final = 4  # of an adaptive design: their spread decides how many follow
LEAST_ADAPTIVE_LEVELS: Final = 4  # of its axis
MAX_POINTS: Final = 10**15


@dataclass
class DesignValidator:
    """Checks the design and the baselines of an experiment against its axes."""

    file: ExperimentFile
    problems: ProblemCollector[DocumentPath]
    dimensions: Sequence[Dimension]
    broken: Collection[str]  # axes of the file that have problems of their own

    def __post_init__(self) -> None:
        self.axes = {axis.name: axis for dimension in self.dimensions for axis in dimension.axes}
        self.points = math.prod(len(dimension) for dimension in self.dimensions)  # of the full grid
        self.seeds = max((len(dimension) for dimension in self.dimensions if dimension.is_seeds), default=0)

    def check(self) -> None:
        design = self.file.design
        self._check_cell("design", design.baseline)
        least = {"rotated": 2, "adaptive": LEAST_ADAPTIVE_SEEDS}.get(design.kind, 0)
        if least and any(dimension.cell_seeds for dimension in self.dimensions):
            self._refuse("kind", f"design {design.kind} needs the same seeds at every point: leave each_cell out")
        if self.seeds < least:
            needed = f"an axis of at least {least} seeds"
            self._refuse("kind", f"design {design.kind} needs {needed}; this grid has {self.seeds}")
        if design.kind == "adaptive":
            self._check_adaptive(design)
        self._check_cell("study", self.file.study.baseline)
        if self.points > MAX_POINTS:
            message = f"The grid has {self.points:.3g} points; the most is {MAX_POINTS:.0e}."
            self.problems.add_at_key(("axes",), message)

    def _refuse(self, key: str, message: str) -> None:
        self.problems.add_at_value(("design", key), message)

    def _check_adaptive(self, design: DesignSpec) -> None:
        """Check that an adaptive design has a numeric axis, groups and a whole grid to choose from."""
        axis, group = self.axes.get(design.axis or ""), (design.for_ or "each prompt").split()[1]
        others = [name for name, other in self.axes.items() if other is not axis and other.kind != "seed"]
        if axis is None:
            self._refuse("axis", f"there is no axis named {design.axis}.{did_you_mean(design.axis or '', self.axes)}")
        elif axis.kind not in ("integer", "number") or len(axis.levels) < LEAST_ADAPTIVE_LEVELS:
            self._refuse("axis", f"{design.axis} is no numeric axis of {LEAST_ADAPTIVE_LEVELS} levels or more")
        if group != "prompt" and group not in others:
            self._refuse("for", f"there is no axis named {group}.{did_you_mean(group, others)}")
        if self.file.where or self.file.exclude or any(len(dimension.axes) > 1 for dimension in self.dimensions):
            self._refuse("kind", "design adaptive needs a grid without conditions and zip")
        if self.file.study.replicates > 1:
            self.problems.add_at_value(("study", "replicates"), "design adaptive renders each point once")
        if axis is not None:
            self._check_budget(design, len(axis.levels))

    def _check_budget(self, design: DesignSpec, levels: int) -> None:
        """Check that the design may render both ends of each group's axis, and a bisection for its first seeds."""
        first = 1 if design.goal == "weakest" else LEAST_ADAPTIVE_SEEDS
        groups = self.points // (levels * max(self.seeds, 1))
        least = groups * (2 + first * math.ceil(math.log2(levels + 1)))
        allowed = design.at_most * self.points
        if allowed < least:
            has = f"design.at_most {design.at_most:g} allows {allowed:.0f} of {self.points} images"
            needs = f"this design needs up to {least} before it can decide"
            self._refuse("at_most", f"{has}; {needs}: at_most must be {least / self.points:.2f} or more")

    def _check_cell(self, section: str, cell: Mapping[str, Any]) -> None:
        for name, value in cell.items():
            place, axis = (section, "baseline", name), self.axes.get(name)
            if axis is None:
                if name not in self.broken:
                    self.problems.add_at_key(place, f"there is no axis named {name}.{did_you_mean(name, self.axes)}")
            elif axis.levels.why_unknown:
                self.problems.add_at_value(place, f"{name} {axis.levels.why_unknown}")
            elif axis.levels.position(value) is None:
                self.problems.add_at_value(place, f"axis {name} has no value {quote(value)}")
