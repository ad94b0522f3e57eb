"""The values an experiment is made of: settings, levels, axes, dimensions, points. All else here builds on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from sweep.errors import ExperimentError

Scalar: TypeAlias = str | int | float | bool | None
AxisKind: TypeAlias = Literal["integer", "number", "text", "boolean", "image", "seed", "label"]
DesignKind: TypeAlias = Literal["full", "random", "sobol", "halton", "lhs", "one_at_a_time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputImage:
    """A picture file of the experiment. `shown` is the path as it was written."""

    path: Path
    shown: str
    sha256: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """Search and replace on the text a target has otherwise: every `search` in it becomes `by`."""

    search: str
    by: str

    def apply(self, text: str) -> str:
        """Raises ExperimentError where there is nothing to replace: the points would all be the same picture."""
        if self.search not in text:
            raise ExperimentError(f'"{self.search}" does not occur in "{text}", so nothing would be replaced.')
        return text.replace(self.search, self.by)


# What a role or node.field is set to. A list is a stack (of LoRAs, ControlNets), a dict one entry of it or a model.
Setting: TypeAlias = "Scalar | list[Any] | dict[str, Any] | InputImage | Replacement"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Which points of the grid are rendered. Drawn from `seed` alone, hence the same on every load."""

    kind: DesignKind = "full"
    points: int | None = None  # how many; None where the design itself says
    seed: int = 0
    baseline: Mapping[str, Scalar] = field(default_factory=dict)  # one_at_a_time: axis → value; else its first
