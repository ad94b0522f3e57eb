"""Index ↔ positions along each dimension, over the whole product or over the points that conditions leave.

With conditions, one bit is kept for each combination of the dimensions that they name. Dimensions that conditions tie
together make a component; components and the remaining dimensions are independent of each other, so the number of
points below any prefix of positions is a product of bit counts, and both directions take time in the number of
dimensions, not of points.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

from sweep.errors import ExperimentError
from sweep.experiment.conditions import Clause, Condition
from sweep.experiment.levels import make_value_reader
from sweep.experiment.model import Dimension

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
        """How many are set before `at`."""
        block, rest = divmod(at, _BLOCK)
        return self._counts[block] + ((self._block(block) & ((1 << rest) - 1)).bit_count() if rest else 0)

    def nth(self, number: int) -> int:
        """Where the one with `number` others before it is."""
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
    """Clauses grouped so that no two groups share a dimension, each with the dimensions it looks at, ascending."""
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
