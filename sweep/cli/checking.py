"""What an experiment asks of a layer that it may not know: checked before anything is rendered for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweep.experiment.definition import Experiment


def check_metrics(experiment: Experiment) -> None:
    """Raises ExperimentError, with the place in the file, where `study: {metrics: …}` names none that is known here."""
    if not experiment.study.metrics:
        return
    from sweep.errors import ExperimentError, Problem, UsageError
    from sweep.study.registry import resolve

    problems = []
    for at, name in enumerate(experiment.study.metrics):
        try:
            resolve([name])
        except UsageError as error:
            line, column = experiment.where_value_is(f"study.metrics.{at}") or (None, None)
            problems.append(Problem(message=f"study.metrics: {error}", line=line, column=column))
    if problems:
        raise ExperimentError.of(problems, experiment.source or experiment.name)
