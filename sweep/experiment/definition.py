"""An experiment as values: what is varied, what is fixed, which points count. Read from a file by `loading`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

Scalar: TypeAlias = str | int | float | bool | None
AxisKind: TypeAlias = Literal["integer", "number", "text", "boolean", "image", "seed", "label"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputImage:
    """A picture file of the experiment. `shown` is the path as it was written."""

    path: Path
    shown: str
    sha256: str
    width: int
    height: int


Setting: TypeAlias = "Scalar | list[Any] | dict[str, Any] | InputImage"  # what a role or node.field is set to


@dataclass(frozen=True, slots=True)
class Level:
    """One value of an axis: `value` stands in the results table, `settings` says what it sets (target → setting,
    a target being a role or a node.field address).
    """

    value: Scalar
    settings: Mapping[str, Setting]


@dataclass(frozen=True, slots=True)
class Axis:
    """One column of the grid. `levels` may be computed on demand: it is a sequence, not a list."""

    name: str
    kind: AxisKind
    levels: Sequence[Level]


@dataclass(frozen=True, slots=True)
class Dimension:
    """One factor of the product: a single axis, or several zipped axes of equal length that step together."""

    axes: tuple[Axis, ...]

    def __len__(self) -> int:
        return len(self.axes[0].levels)


@dataclass(frozen=True, slots=True)
class Variation:
    """One point of the grid. `levels` by axis name, in the order of the definition; `index` counts from 0."""

    index: int
    levels: Mapping[str, Level]

    @property
    def values(self) -> dict[str, Scalar]:
        """What the results table shows, by axis."""
        return {name: level.value for name, level in self.levels.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOptions:
    """What the `study:` section of an experiment asks for."""

    metrics: tuple[str, ...] = ()  # empty: the standard panel
    replicates: int = 1  # how often each point is rendered with everything equal, for the noise floor
    baseline: Mapping[str, Scalar] = field(default_factory=dict)  # the cell txt2img results are compared with
