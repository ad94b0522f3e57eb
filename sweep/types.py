"""Types that every layer shares."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeAlias, TypeVar, overload

Scalar: TypeAlias = str | int | float | bool | None  # one value of an axis, as a table and JSON hold it

T = TypeVar("T", covariant=True)


class LazySequence(Sequence[T]):
    """A sequence whose items are computed when they are asked for; a slice of it is one, too."""

    @abstractmethod
    def item(self, at: int) -> T:
        """Compute the item at position `at`, 0 ≤ at < len."""

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...
    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        places = range(len(self))[at]
        return self.item(places) if isinstance(places, int) else LazyPart(self, places)


class LazyPart(LazySequence[T]):
    """Selected items of a sequence, made on demand."""

    def __init__(self, whole: LazySequence[T], places: range) -> None:
        self._whole = whole
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def item(self, at: int) -> T:
        return self._whole.item(self._places[at])
