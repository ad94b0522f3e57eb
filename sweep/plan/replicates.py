"""Each point several times over, with everything equal: for the noise floor of a study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, overload

from sweep.experiment.definition import Axis, Level, Variation

REPLICATE: Final = "replicate"  # name of the axis that counts them, from 1


def replicate_axis(count: int) -> Axis:
    """The axis that stands for the repetitions; it sets nothing."""
    return Axis(REPLICATE, "integer", tuple(Level(number, {}) for number in range(1, count + 1)))


class Replicated(Sequence[Variation]):
    """Every point of `points`, `count` times one after the other: the axis `replicate` varies fastest."""

    def __init__(self, points: Sequence[Variation], count: int) -> None:
        self._points = points
        self._levels = replicate_axis(count).levels

    def __len__(self) -> int:
        return len(self._points) * len(self._levels)

    @overload
    def __getitem__(self, index: int) -> Variation: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Variation]: ...
    def __getitem__(self, index: int | slice) -> Variation | Sequence[Variation]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        point, number = divmod(at, len(self._levels))
        return self._repeated(self._points[point], at, number)

    def __iter__(self) -> Iterator[Variation]:
        count = len(self._levels)
        for variation in self._points:
            for number in range(count):
                yield self._repeated(variation, variation.index * count + number, number)

    def _repeated(self, variation: Variation, index: int, number: int) -> Variation:
        return Variation(index, {**variation.levels, REPLICATE: self._levels[number]})
