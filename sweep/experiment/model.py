"""What an experiment is made of, as frozen dataclasses: settings, levels, axes, dimensions, variations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from sweep.errors import ExperimentError
from sweep.experiment.conditions import Condition
from sweep.experiment.document import Mark
from sweep.types import Scalar

AxisKind: TypeAlias = Literal["integer", "number", "text", "boolean", "image", "seed", "label"]
DesignKind: TypeAlias = Literal["full", "random", "sobol", "halton", "lhs", "one_at_a_time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputImage:
    """An image file of the experiment, upright. `shown` is the path as it was written; see `sweep.source_images`."""

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


def replace_words(text: str, replacements: Sequence[Replacement]) -> str:
    """Replace all at once what is found in `text` as it is written, the longest first.

    No replacement acts on what another one put in.

    Raises:
        ExperimentError: One finds nothing to replace, so that its points would all be the same image.
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
class SamplingDesign:
    """Which points of the grid are rendered. Drawn from `seed` alone, hence the same on every load."""

    kind: DesignKind = "full"
    points: int | None = None  # how many; None where the design itself says
    seed: int = 0
    baseline: Mapping[str, Scalar] = field(default_factory=dict)  # one_at_a_time: axis → value; else its first


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """A workflow, what is fixed, what is varied, which points count. Immutable.

    An axis wins over an input that sets the same target, so an input is the value at levels that leave it alone.
    """

    name: str  # also the name of its results folder: safe on every operating system
    description: str = ""
    workflow: str  # as written: a template's name or the path of a file
    workflow_path: Path | None = None  # the file, where it is one
    folder: Path  # what relative paths start from
    inputs: Mapping[str, Setting] = field(default_factory=dict)
    dimensions: tuple[Dimension, ...] = ()  # the first varies slowest
    condition: Condition | None = None  # where: and exclude:
    design: SamplingDesign = field(default_factory=SamplingDesign)
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # role → addresses, where the file settles it
    servers: tuple[str, ...] = ()
    board: str | None = None
    study: StudyOptions = field(default_factory=StudyOptions)
    text: str = ""  # as run: includes and overrides merged, `folder` absolute; loads again from any place
    undrawn: Mapping[str, int] = field(default_factory=dict)  # axes of seeds given by count alone → how many
    source: str = ""  # the file as it was named; empty where there is none
    notices: tuple[str, ...] = ()  # what was done that the file does not say (equal lines dropped, a stop not reached)
    marks: Mapping[str, tuple[Mark, Mark]] = field(default_factory=dict, repr=False)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Every axis, in the order of the definition; zipped ones too."""
        return tuple(axis for dimension in self.dimensions for axis in dimension.axes)

    def settings(self, variation: Variation, defaults: Mapping[str, Setting] | None = None) -> dict[str, Setting]:
        """All that `variation` sets, target → setting: inputs, above them its levels, then replacements in the text
        that results. `defaults` are the workflow's own values, for a text that only the workflow holds.

        Raises ExperimentError where a replacement finds nothing to replace.
        """
        result = dict(self.inputs)
        replacements: dict[str, list[Replacement]] = {}
        for level in variation.levels.values():
            for target, setting in level.settings.items():
                if isinstance(setting, Replacement):
                    replacements.setdefault(target, []).append(setting)
                else:
                    result[target] = setting
        for target, found in replacements.items():
            text = result.get(target, (defaults or {}).get(target))
            if not isinstance(text, str):
                raise ExperimentError(f"{target} has no text to replace {found[0].search!r} in.")
            result[target] = replace_words(text, found)
        return result

    def images(self) -> dict[str, InputImage]:
        """Every image the experiment uses, by SHA-256, in the order it names them."""
        found: dict[str, InputImage] = {}
        for setting in self.inputs.values():
            _collect_images(setting, found)
        for axis in self.axes:
            if axis.kind in ("image", "label"):
                for level in axis.levels:
                    for setting in level.settings.values():
                        _collect_images(setting, found)
        return found

    def find_mark(self, place: str, /, *, value: bool = False) -> Mark | None:
        """Find where the file says what stands at a dotted place ("inputs.steps", "axes.seed.2").

        Returns:
            The mark of the key, or of the value, or of what holds it where it has none of its own; None where the
            file does not say it.
        """
        while place:
            if place in self.marks:
                return self.marks[place][int(value)]
            place = place.rpartition(".")[0]
        return None

    def __post_init__(self) -> None:
        for name in ("inputs", "roles", "undrawn", "marks"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))


def _collect_images(setting: Any, found: dict[str, InputImage]) -> None:
    if isinstance(setting, InputImage):
        found.setdefault(setting.sha256, setting)
    elif isinstance(setting, Mapping):
        for part in setting.values():
            _collect_images(part, found)
    elif isinstance(setting, list):
        for part in setting:
            _collect_images(part, found)
