"""`sweep plan`: what a run would do, without doing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli import options as shared

if TYPE_CHECKING:
    from sweep.cli.serving import Access
    from sweep.engine.forecast import Forecast
    from sweep.experiment.definition import Experiment


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
    access = Access.of(server, ca_file, credentials)
    forecast = anyio.run(_forecast, experiment, access, results)
    if as_json:
        say(json.dumps(to_json(forecast), ensure_ascii=False))
        return
    from sweep.cli.planned import plan_lines

    for line in plan_lines(forecast):
        say(line)


async def _forecast(experiment: Experiment, access: Access, results: Path) -> Forecast:
    from sweep.engine.forecast import foresee

    addresses = access.wanted(experiment)
    if addresses:
        from sweep.cli.serving import servers_for

        async with servers_for(addresses, access) as servers:
            return await foresee(experiment, servers, results)
    from sweep.sandbox.models import catalogue
    from sweep.workflow.schemas import builtin_schemas

    return await foresee(experiment, (), results, nodes=builtin_schemas(), models=catalogue(("sd-1",)))
