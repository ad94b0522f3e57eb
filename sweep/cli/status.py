"""`sweep status`: how far a results folder is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sweep.cli import options as shared


def status(
    run: shared.Run,
    results: shared.ResultsRoot = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say how many points of a run are done, failed and open, also while it is going on."""
    from sweep.cli.console import say
    from sweep.cli.locating import results_folder
    from sweep.record.standing import standing

    folder = results_folder(run, results)
    now = standing(folder)
    if as_json:
        say(json.dumps(now.as_json()))
        return
    counts = now.counts
    say(f"{folder.name}  {counts.completed}/{counts.points} done" + (f"  {counts.failed} failed" if counts.failed else ""))
    still = counts.points - counts.completed - counts.failed - counts.cancelled
    if counts.cancelled:
        say(f"  cancelled  {counts.cancelled}")
    if still:
        say(f"  open       {still}" + (f", of them {counts.open} at a server" if counts.open else ""))
    if counts.former:
        say(f"  former     {counts.former} that the experiment no longer has")
    say(f"  run        {now.run_text()}")
