"""`sweep plan`: what a run would do, without doing it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli import options as shared
from sweep.cli.checking import check_metrics

if TYPE_CHECKING:
    from sweep.engine.forecast import Forecast
    from sweep.experiment.definition import Experiment
    from sweep.servers.base import Server
    from sweep.workflow.schemas import Model, NodeSchemas


def plan(
    file: shared.ExperimentFile,
    server: shared.Servers = None,
    set_: shared.Overrides = None,
    results: shared.ResultsRoot = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    ca_file: shared.CaFile = None,
    credentials: shared.Credentials = None,
) -> None:
    """Show what a run would do, and render nothing.

    Points, done and new; the fields that the axes set; the order; time and disk. With --server its nodes
    and models are asked; without, InvokeAI 6.14.2's nodes and the sandbox's models are taken.
    """
    import anyio

    from sweep.cli.console import say
    from sweep.cli.serving import Access
    from sweep.engine.forecast import as_json as to_json
    from sweep.experiment.definition import Experiment

    experiment = Experiment.load(file, set_ or ())
    check_metrics(experiment)
    servers = Access.of(server, ca_file, credentials).clients(experiment)
    forecast = anyio.run(_forecast, experiment, servers, results, None if servers else _sandbox())
    if as_json:
        say(json.dumps(to_json(forecast), ensure_ascii=False))
        return
    from sweep.cli.planned import plan_lines

    for line in plan_lines(forecast):
        say(line)


def _sandbox() -> tuple[NodeSchemas, Sequence[Model]]:
    """What the sandbox would have, without starting it."""
    from sweep.sandbox.models import catalogue
    from sweep.sandbox.options import SandboxOptions
    from sweep.workflow.schemas import builtin_schemas

    return builtin_schemas(), catalogue(SandboxOptions().models)


async def _forecast(
    experiment: Experiment,
    servers: Sequence[Server],
    results: Path,
    known: tuple[NodeSchemas, Sequence[Model]] | None,
) -> Forecast:
    from sweep.engine.forecast import foresee

    if known is None:
        return await foresee(experiment, servers, results)
    nodes, models = known
    return await foresee(experiment, (), results, nodes=nodes, models=models)
