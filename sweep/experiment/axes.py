"""Axes and their levels as frozen dataclasses: lists, ranges, seeds. A level is made when it is asked for."""

from __future__ import annotations

import json
import math
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from hashlib import blake2b
from typing import Any, ClassVar, Final, Literal, TypeAlias, TypeVar, overload

from sweep.errors import ExperimentError
from sweep.input_images import InputImage
from sweep.role_table import SEED_MAX
from sweep.types import Scalar

AxisKind: TypeAlias = Literal["integer", "number", "text", "boolean", "image", "seed", "label"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """Search and replace on the text a target has otherwise: every `search` in it becomes `by`."""

    search: str
    by: str


def replace_words(text: str, replacements: Sequence[Replacement]) -> str:
    """Replace all at once what is found in `text` as it is written, the longest first.

    No replacement acts on what another one put in. Raises ExperimentError where one finds nothing to replace.
    """
    by = {replacement.search: replacement.by for replacement in replacements}
    longest = sorted(by, key=len, reverse=True)
    found: set[str] = set()

    def put(match: re.Match[str]) -> str:
        found.add(match[0])
        return by[match[0]]

    result = re.sub("|".join(map(re.escape, longest)), put, text)
    for search in by:
        if search not in text:
            raise ExperimentError(f'"{search}" does not occur in "{text}", so nothing would be replaced.')
        if search not in found:
            longer = next(other for other in longest if search in other)
            raise ExperimentError(f'"{search}" occurs in "{text}" only within "{longer}", which is replaced, too.')
    return result


# What a role or node.field is set to. A list is a stack (of LoRAs, ControlNets), a dict one entry of it or a model.
Setting: TypeAlias = "Scalar | list[Any] | dict[str, Any] | InputImage | Replacement"


@dataclass(frozen=True, slots=True)
class Level:
    """A level of an axis: the value that the results table shows, and the settings that it makes, by target."""

    value: Scalar
    settings: Mapping[str, Setting]


@dataclass(frozen=True, slots=True)
class Axis:
    """A column of the results table: its name, its kind of values, and its levels."""

    name: str
    kind: AxisKind
    levels: LevelSequence


@dataclass(frozen=True, slots=True)
class Dimension:
    """A factor of the product: a single axis, or several zipped axes of equal length that step together."""

    axes: tuple[Axis, ...]

    def __len__(self) -> int:
        return len(self.axes[0].levels)

    def levels_at(self, position: int) -> dict[str, Level]:
        """Return the levels of its axes at a position, by axis."""
        return {axis.name: axis.levels[position] for axis in self.axes}

    @property
    def cell_seeds(self) -> CellSeeds | None:
        """Return the seeds that each combination of the other axes has of its own; None for any other axis."""
        levels = self.axes[0].levels
        return levels if isinstance(levels, CellSeeds) else None

    @property
    def is_seeds(self) -> bool:
        """Tell whether the axis repeats the other dimensions with several seeds."""
        return len(self.axes) == 1 and self.axes[0].kind == "seed" and len(self) > 1

    def find_position(self, values: Mapping[str, Scalar]) -> int | None:
        """Find the first step at which its axes have these values, or any where `values` does not name them."""
        named = [(axis.levels, values[axis.name]) for axis in self.axes if axis.name in values]
        if len(named) == 1:
            return named[0][0].position(named[0][1])
        steps = (at for at in range(len(self)) if all(levels.value(at) == value for levels, value in named))
        return next(steps, None)


@dataclass(frozen=True, slots=True)
class Assignments:
    """The settings of an experiment by target: its inputs, and the axes whose levels may set the target."""

    inputs: Mapping[str, Setting]
    axes: Mapping[str, tuple[Axis, ...]]

    @classmethod
    def of(cls, inputs: Mapping[str, Setting], axes: Iterable[Axis]) -> Assignments:
        by_target: dict[str, tuple[Axis, ...]] = {}
        for axis in axes:
            for target in axis.levels.targets:
                by_target[target] = (*by_target.get(target, ()), axis)
        return cls(inputs, by_target)

    def __iter__(self) -> Iterator[str]:
        """List every target that is set."""
        return iter(dict.fromkeys((*self.inputs, *self.axes)))

    def __contains__(self, target: object) -> bool:
        return target in self.inputs or target in self.axes

    def settings(self, target: str) -> Iterator[Setting]:
        """Collect everything a target is ever set to, by inputs and by each level of an axis."""
        if target in self.inputs:
            yield self.inputs[target]
        for axis in self.axes.get(target, ()):
            yield from (level.settings[target] for level in axis.levels if target in level.settings)

    def locate(self, target: str) -> str:
        """Find where the file sets it: inputs.steps, axes.steps."""
        return f"axes.{self.axes[target][0].name}" if target in self.axes else f"inputs.{target}"

    def merge(
        self, targets: Iterable[str], levels: Mapping[str, Level], defaults: Mapping[str, Setting]
    ) -> dict[str, Setting]:
        """Merge the settings of these targets at these levels: inputs, then levels, then replacements in their text.

        `defaults` are the workflow's own. Raises ExperimentError where a replacement finds nothing to replace.
        """
        settings: dict[str, Setting] = {}
        for target in targets:
            if target in self.inputs:
                settings[target] = self.inputs[target]
            replacements: list[Replacement] = []
            for axis in self.axes.get(target, ()):
                setting = levels[axis.name].settings.get(target, _UNSET)
                if isinstance(setting, Replacement):
                    replacements.append(setting)
                elif setting is not _UNSET:
                    settings[target] = setting
            if replacements:
                text = settings.get(target, defaults.get(target))
                settings[target] = replace_words(text if isinstance(text, str) else "", replacements)
        return settings


_UNSET: Final[Any] = object()  # None is a setting


DecimalNumber: TypeAlias = int | float


def to_fraction(number: DecimalNumber) -> Fraction:
    """Turn a number into the fraction it was written as: 0.1 is one tenth, not the nearest double."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


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


@dataclass(frozen=True)
class LevelSequence(LazySequence[Level]):
    """The levels of an axis, which set `targets`. Holds them, or their values, or only how to compute these."""

    why_unknown: ClassVar[str] = ""  # why nobody can name a value of it in the file, after the axis's name

    targets: tuple[str, ...]

    @abstractmethod
    def value(self, at: int) -> Scalar:
        """Compute the value at position `at`, 0 ≤ at < len."""

    def position(self, value: Scalar) -> int | None:
        """Find where `value` stands first; None where it does not."""
        return next((at for at in range(len(self)) if self.value(at) == value), None)

    def item(self, at: int) -> Level:
        value = self.value(at)
        return Level(value, dict.fromkeys(self.targets, self._setting(value)))

    def _setting(self, value: Scalar) -> Setting:
        return value


@dataclass(frozen=True)
class MadeLevels(LevelSequence):
    """Levels that exist already: each sets targets of its own, or an image that was read."""

    levels: tuple[Level, ...]

    def __len__(self) -> int:
        return len(self.levels)

    def value(self, at: int) -> Scalar:
        return self.levels[at].value

    def item(self, at: int) -> Level:
        return self.levels[at]


@dataclass(frozen=True)
class LinearLevels(LevelSequence):
    """first, first + step, … in exact fractions, whole numbers where `whole`."""

    first: Fraction
    step: Fraction
    size: int
    whole: bool

    def __len__(self) -> int:
        return self.size

    @cached_property
    def _scaled(self) -> tuple[int, int, int]:
        scale = math.lcm(self.first.denominator, self.step.denominator)
        return int(self.first * scale), int(self.step * scale), scale

    def value(self, at: int) -> DecimalNumber:
        first, step, scale = self._scaled
        scaled = first + step * at
        return scaled // scale if self.whole else scaled / scale  # a quotient of ints is rounded once

    def position(self, value: Scalar) -> int | None:
        if isinstance(value, str | None):
            return None
        guess = round((to_fraction(value) - self.first) / self.step) if self.step else 0
        return guess if 0 <= guess < self.size and self.value(guess) == value else None


@dataclass(frozen=True)
class ListLevels(LevelSequence):
    """Values as they are written; each level is made when it is asked for."""

    values: tuple[Scalar, ...]

    def __len__(self) -> int:
        return len(self.values)

    def value(self, at: int) -> Scalar:
        return self.values[at]

    @cached_property
    def _positions(self) -> dict[Scalar, int]:
        return {value: at for at, value in reversed(list(enumerate(self.values)))}

    def position(self, value: Scalar) -> int | None:
        return self._positions.get(value)


@dataclass(frozen=True)
class ReplacingLevels(ListLevels):
    """Texts that each take the place of `search` in what the target says otherwise."""

    search: str

    def _setting(self, value: Scalar) -> Setting:
        return Replacement(search=self.search, by=str(value))


@dataclass(frozen=True)
class UndrawnLevels(LevelSequence):
    """Seeds of which only the number is known. The first run draws them and records them."""

    why_unknown = "has seeds that are not drawn before the run; give them a start"

    name: str
    size: int

    def __len__(self) -> int:
        return self.size

    def value(self, at: int) -> Scalar:
        raise ExperimentError(
            f"Seed {at + 1} of axis {self.name} is not drawn yet.",
            hint="Experiment.with_seeds gives them their values.",
        )


@dataclass(frozen=True)
class CellSeeds(LevelSequence):
    """`size` seeds for each combination of the other axes, drawn from the values there.

    Adding a level to another axis leaves the seeds of all combinations that were there before.
    """

    why_unknown = "has other seeds in each combination; leave it out"

    size: int
    start: int

    def __len__(self) -> int:
        return self.size

    def value(self, at: int) -> int:
        return self.draw({}, at)

    def draw(self, others: Mapping[str, Scalar], at: int) -> int:
        """Draw the seed number `at` for these values of the other axes; the seeds of a combination all differ."""
        plain = sorted(
            (name, float(value) if type(value) is int else value) for name, value in others.items()
        )  # 1 is 1.0
        digest = blake2b(json.dumps([self.start, plain]).encode(), digest_size=4).digest()
        return (int.from_bytes(digest, "big") + at * _STRIDE) % (SEED_MAX + 1)


_STRIDE: Final = 0x9E3779B1  # odd, so that no two seeds of a combination are equal
