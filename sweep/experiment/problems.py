"""Problems of a definition, collected with their places to be reported at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Protocol, TypeAlias, TypeVar

from sweep.errors import DefinitionError, ExperimentError, Problem
from sweep.text import escape_breaks

DocumentPath: TypeAlias = tuple[str | int, ...]  # the way from the top of a document to a value


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a text, counted from 1, and facts about the value there that its data do not have."""

    line: int
    column: int
    source: str | None = None  # another text than the experiment file itself
    opening: int | None = None  # characters before a text's own (1: a quote), where they all follow as they are
    written: str = ""  # a plain scalar that is no text: 007, 1e3
    folder: Path | None = None  # from which a path starts that stands in an included file


P = TypeVar("P", contravariant=True)


class HasMarks(Protocol[P]):
    """A definition that knows where in its text a place stands: a document, or an experiment made of one."""

    def find_mark(self, place: P, /, *, value: bool = False) -> Mark | None: ...


class ProblemCollector(Generic[P]):
    """Collects every problem of a definition, each once, before anything is raised: one look then mends the file."""

    def __init__(self, definition: HasMarks[P], source: str, error: type[DefinitionError] = ExperimentError) -> None:
        self._definition = definition
        self._source = source  # the file's name, as the user wrote it
        self._error = error
        self._found: dict[Problem, None] = {}

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._found)

    def add_at_key(self, place: P, message: str, *, is_universal: bool = False) -> None:
        """Add a problem of what stands at `place`, shown at its key."""
        self._add(self._definition.find_mark(place), message, is_universal)

    def add_at_value(self, place: P, message: str) -> None:
        """Add a problem that is shown at the value."""
        self._add(self._definition.find_mark(place, value=True), message)

    def add_at_character(self, place: P, message: str, at: int) -> None:
        """Add a problem of the text at `place`, shown at its character `at` (from 1), or else with that number."""
        mark = self._definition.find_mark(place, value=True)
        if mark is None or mark.source is not None or mark.opening is None:
            self._add(mark, f"{message} (character {at})" if at > 1 else message)
        else:
            self._add(replace(mark, column=mark.column + mark.opening + at - 1), message)

    def _add(self, mark: Mark | None, message: str, is_universal: bool = False) -> None:
        self._found[replace(make_problem(mark, message), is_universal=is_universal)] = None

    def raise_any(self) -> None:
        """Raise the error with every problem, in the order of the file; return where there is none."""
        if self._found:
            ordered = sorted(self._found, key=lambda p: (p.line is None, p.line or 0, p.column or 0))
            raise self._error.of(ordered, self._source)


def make_problem(mark: Mark | None, message: str) -> Problem:
    """Make a Problem at `mark`; one from another text names that text in its message, as it has no line in the file."""
    if mark is None:
        return Problem(message=message)
    if mark.source is None:
        return Problem(message=message, line=mark.line, column=mark.column)
    where = mark.source if mark.source.startswith("--set") else f"{mark.source} {mark.line}:{mark.column}"
    return Problem(message=f"{message} ({where})")


def join_path(place: DocumentPath) -> str:
    """Write a place as people do: axes.seed.count."""
    return escape_breaks(".".join(str(part) for part in place))
