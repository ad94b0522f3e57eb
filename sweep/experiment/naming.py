"""What every kind of axis is made with: its name and targets, a reader of values, and the error that tells a fault."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sweep.experiment.values import AxisKind, Scalar, Setting
from sweep.experiment.vocabulary import base_role, role_of


class AxisError(ValueError):
    """What is wrong with an axis, as a whole sentence without its full stop; `part` is where in the axis it is."""

    def __init__(self, message: str, *part: str | int) -> None:
        super().__init__(message)
        self.message = message
        self.part = part
        self.others: tuple[AxisError, ...] = ()  # further faults of the same axis

    @staticmethod
    def raise_any(faults: Sequence[AxisError]) -> None:
        """Raises the first, with the others; returns where there is none."""
        if faults:
            faults[0].others = tuple(faults[1:])
            raise faults[0]


@dataclass(frozen=True, slots=True)
class Naming:
    """What an axis is called, what it sets, and whether equal values may stand in it (zipped axes repeat theirs)."""

    name: str
    targets: tuple[str, ...]
    place: str  # how the file is told where: axes.seed
    repeats: bool = False


class SettingReader(Protocol):
    """Turns a raw value into what `target` is set to (a path into a picture); raises AxisError."""

    def __call__(self, target: str, raw: Any, *part: str | int) -> Setting: ...


def kind_of(targets: Sequence[str], values: Iterable[Scalar]) -> AxisKind:
    """The kind of column an axis makes: what its role says, or else what its values are."""
    role = role_of(targets[0]) if targets else None
    if role is not None and role.kind == "integer":
        return "seed" if base_role(targets[0]) == "seed" else "integer"
    if role is not None:
        return "number" if role.kind == "number" else "image" if role.kind == "image" else "text"
    types = {type(value) for value in values if value is not None}
    if types == {bool}:
        return "boolean"
    if types == {int}:
        return "seed" if targets and targets[0].endswith(".seed") else "integer"
    return "number" if types and types <= {int, float} else "text"
