"""Plain data that remembers where it stood: line and column for every key and value, and the faults found there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from sweep.errors import ExperimentError, Problem

Place: TypeAlias = tuple[str | int, ...]  # the way from the top of a document to a value


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a text, counted from 1. `source` names another text than the experiment file itself.

    `opening` is how many characters stand before a text's own (1: a quote), where they all follow as they are.
    """

    line: int
    column: int
    source: str | None = None
    opening: int | None = None


@dataclass(slots=True)
class Document:
    """What a text holds, and where. `folder` is what relative paths in it start from."""

    data: Any
    folder: Path
    keys: dict[Place, Mark] = field(default_factory=dict)
    values: dict[Place, Mark] = field(default_factory=dict)
    folders: dict[Place, Path] = field(default_factory=dict)  # of values that came from a file in another folder

    def folder_of(self, place: Place) -> Path:
        """The folder that a relative path at `place` starts from."""
        while place:
            if place in self.folders:
                return self.folders[place]
            place = place[:-1]
        return self.folder

    def mark_of(self, place: Place, *, value: bool = False) -> Mark | None:
        """Of the key (or the value) at `place`, or else of the nearest thing above it."""
        while place:
            first, second = (self.values, self.keys) if value else (self.keys, self.values)
            mark = first.get(place) or second.get(place)
            if mark is not None:
                return mark
            place = place[:-1]
        return self.values.get(())


class Faults:
    """Collects every fault of a document before anything is raised."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []

    def key(self, place: Place, message: str) -> None:
        """A fault of what stands at `place`, shown at its key."""
        self._add(self.document.mark_of(place), message)

    def value(self, place: Place, message: str) -> None:
        """A fault shown at the value."""
        self._add(self.document.mark_of(place, value=True), message)

    def character(self, place: Place, message: str, at: int) -> None:
        """A fault of the text at `place` in its character `at`, from 1: shown just there, or else told by number."""
        mark = self.document.mark_of(place, value=True)
        if mark is None or mark.source is not None or mark.opening is None:
            self._add(mark, f"{message} (character {at})" if at > 1 else message)
        else:
            self._add(replace(mark, column=mark.column + mark.opening + at - 1), message)

    def _add(self, mark: Mark | None, message: str) -> None:
        problem = problem_at(mark, message)
        if problem not in self.problems:
            self.problems.append(problem)

    def raise_any(self, source: str) -> None:
        """Raises ExperimentError with every problem in the order of the file; returns where there is none."""
        if self.problems:
            ordered = sorted(self.problems, key=lambda p: (p.line is None, p.line or 0, p.column or 0))
            raise ExperimentError.of(ordered, source)


def problem_at(mark: Mark | None, message: str) -> Problem:
    """A Problem at `mark`; one from another text names it in its words, as it has no line in this file."""
    if mark is None:
        return Problem(message=message)
    if mark.source is None:
        return Problem(message=message, line=mark.line, column=mark.column)
    where = mark.source if mark.source.startswith("--set") else f"{mark.source} {mark.line}:{mark.column}"
    return Problem(message=f"{message} ({where})")


def dotted(place: Place) -> str:
    """axes.seed.count: a place as people write it."""
    return ".".join(str(part) for part in place)
