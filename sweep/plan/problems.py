"""Collects every fault of a plan, each with its place in the experiment's file, so that one look mends them all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sweep.errors import DefinitionError, PlanError, Problem
from sweep.experiment import Experiment


class PlanProblems:
    """The faults found so far, each once."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._found: dict[str, Problem] = {}

    def add(self, place: str, message: str, *, value: bool = False) -> None:
        """A fault at a place of the file such as axes.steps, or of the `value` there; the sentence is to begin with
        what it is about.
        """
        where = self._experiment.where_value_is if value else self._experiment.where_is
        line, column = where(place) or (None, None)
        self._found.setdefault(message, Problem(message=message, line=line, column=column))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._found)

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Turns a DefinitionError raised inside into a fault at this place."""
        try:
            yield
        except DefinitionError as error:
            self.add(place, f"{place}: {error}", value=True)

    def raise_any(self) -> None:
        """Raises PlanError with all of them, in the order of the file, if there are any."""
        if self._found:
            problems = sorted(self._found.values(), key=lambda fault: (fault.line or 0, fault.column or 0))
            raise PlanError.of(problems, self._source())

    def _source(self) -> str:
        return self._experiment.source or self._experiment.name
