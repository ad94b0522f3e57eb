"""Levels that are computed when they are looked at: ranges, long lists of values, seeds still to be drawn."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import TypeAlias, overload

from sweep.errors import ExperimentError
from sweep.experiment.model import Level, Replacement, Setting
from sweep.types import Scalar

DecimalNumber: TypeAlias = int | float


def to_fraction(number: DecimalNumber) -> Fraction:
    """Turn a number into the fraction it was written as: 0.1 is one tenth, not the nearest double."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


class LazyLevels(Sequence[Level]):
    """A sequence of levels that set each of `targets` to their value. Holds values, or only how to compute them."""

    def __init__(self, targets: tuple[str, ...]) -> None:
        self.targets = targets

    @abstractmethod
    def value(self, at: int) -> Scalar:
        """Compute the value at position `at`, 0 ≤ at < len."""

    def position(self, value: Scalar) -> int | None:
        """Where `value` stands first; None where it does not."""
        return next((at for at in range(len(self)) if self.value(at) == value), None)

    def _setting(self, value: Scalar) -> Setting:
        return value

    @overload
    def __getitem__(self, at: int) -> Level: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Level]: ...
    def __getitem__(self, at: int | slice) -> Level | Sequence[Level]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        value = self.value(at % len(self))
        setting = self._setting(value)
        return Level(value, dict.fromkeys(self.targets, setting))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LazyLevels) or type(self) is not type(other):
            return NotImplemented
        return self.__dict__.keys() == other.__dict__.keys() and all(
            value == other.__dict__[name] for name, value in self.__dict__.items() if not name.startswith("_")
        )

    def __hash__(self) -> int:
        return hash((type(self), len(self), self.targets))


class LinearLevels(LazyLevels):
    """first, first + step, …: `count` levels in exact fractions, whole numbers where `whole`."""

    def __init__(
        self, first: Fraction, step: Fraction, count: int, targets: tuple[str, ...], *, whole: bool = False
    ) -> None:
        super().__init__(targets)
        self.first = first
        self.step = step
        self.size = count
        self.whole = whole
        self._scale = math.lcm(first.denominator, step.denominator)
        self._origin, self._stride = int(first * self._scale), int(step * self._scale)

    def __len__(self) -> int:
        return self.size

    def value(self, at: int) -> DecimalNumber:
        scaled = self._origin + self._stride * at
        return scaled // self._scale if self.whole else scaled / self._scale  # a quotient of ints is rounded once

    def position(self, value: Scalar) -> int | None:
        if isinstance(value, str | None):
            return None
        guess = round((to_fraction(value) - self.first) / self.step) if self.step else 0
        return guess if 0 <= guess < self.size and self.value(guess) == value else None


class LogLevels(LazyLevels):
    """`count` levels from first to last in equal ratios, rounded to 12 significant digits; both ends exact."""

    def __init__(
        self, first: DecimalNumber, last: DecimalNumber, count: int, targets: tuple[str, ...], *, whole: bool
    ) -> None:
        super().__init__(targets)
        self.first = first
        self.last = last
        self.size = count
        self.whole = whole

    def __len__(self) -> int:
        return self.size

    def exact(self, at: int) -> Decimal:
        """Compute the level at `at` before it becomes an int or a float."""
        if at in (0, self.size - 1):
            return Decimal(repr(self.first if at == 0 else self.last))
        with localcontext() as context:
            context.prec = 40
            first, last = Decimal(repr(self.first)), Decimal(repr(self.last))
            level: Decimal = first * ((last / first).ln() * at / (self.size - 1)).exp()
            context.prec = 12
            return +level

    def value(self, at: int) -> DecimalNumber:
        exact = self.exact(at)
        return int(exact) if self.whole else float(exact)


class ListLevels(LazyLevels):
    """Values as they are, each level made when it is looked at."""

    def __init__(self, values: Sequence[Scalar], targets: tuple[str, ...]) -> None:
        super().__init__(targets)
        self.values = tuple(values)
        self._places: dict[Scalar, int] = {}

    def __len__(self) -> int:
        return len(self.values)

    def value(self, at: int) -> Scalar:
        return self.values[at]

    def position(self, value: Scalar) -> int | None:
        if not self._places:
            self._places = {v: at for at, v in reversed(list(enumerate(self.values)))}
        return self._places.get(value)


class ReplacingLevels(ListLevels):
    """Texts that each take the place of `search` in what the target says otherwise."""

    def __init__(self, search: str, values: Sequence[str], targets: tuple[str, ...]) -> None:
        super().__init__(values, targets)
        self.search = search

    def _setting(self, value: Scalar) -> Setting:
        return Replacement(search=self.search, by=str(value))


class UndrawnLevels(LazyLevels):
    """Seeds of which only the number is known. They are drawn once, by whoever keeps the record."""

    def __init__(self, name: str, count: int, targets: tuple[str, ...]) -> None:
        super().__init__(targets)
        self.name = name
        self.size = count

    def __len__(self) -> int:
        return self.size

    def value(self, at: int) -> Scalar:
        raise ExperimentError(
            f"Seed {at + 1} of axis {self.name} is not drawn yet.",
            hint="Experiment.with_seeds gives them their values.",
        )


def find_position(levels: Sequence[Level], value: Scalar) -> int | None:
    """Where in `levels` the value stands; None where it does not."""
    if isinstance(levels, LazyLevels):
        return levels.position(value)
    return next((at for at, level in enumerate(levels) if level.value == value), None)


def make_value_reader(levels: Sequence[Level]) -> Callable[[int], Scalar]:
    """Position → value, without making levels where that can be spared."""
    return levels.value if isinstance(levels, LazyLevels) else lambda at: levels[at].value
