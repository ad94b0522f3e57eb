"""`sweep status`: how far a results folder is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli import options as shared

if TYPE_CHECKING:
    from sweep.record.table import Results


def status(
    run: shared.Run,
    results: shared.ResultsRoot = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say how many points of a run are done, failed and open, also while it is going on."""
    from sweep.cli.console import say
    from sweep.cli.locating import results_folder
    from sweep.record.table import Results

    opened = Results.open(results_folder(run, results))
    counts = opened.counts()
    pending = counts.points - counts.completed - counts.failed - counts.cancelled - counts.open
    numbers = {
        "points": counts.points,
        "completed": counts.completed,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
        "open": counts.open,
        "pending": pending,
        "former": counts.former,
    }
    if as_json:
        say(json.dumps({"folder": opened.folder.as_posix(), **numbers, "run": last_run(opened)}))
        return
    share = f"  {100 * counts.completed // counts.points} %" if counts.points else ""
    say(f"{opened.folder.name}  {counts.completed}/{counts.points} done{share}")
    words = {"failed": "failed", "cancelled": "cancelled", "open": "at a server", "pending": "not begun"}
    for name, word in words.items():
        if numbers[name]:
            say(f"  {word:<12} {numbers[name]}")
    if counts.former:
        say(f"  {'former':<12} {counts.former} that the experiment no longer has")
    say(f"  {'last run':<12} {last_run(opened)}")


def last_run(opened: Results) -> str:
    """Who writes now, or how the last run ended."""
    from sweep.record.lock import holder, in_use

    if in_use(opened.folder):
        return f"going on: {holder(opened.folder) or 'another process'}"
    runs = opened.runs()
    if not runs:
        return "none"
    last = runs[-1]
    if last.ending is None:
        return "was killed; run the same command again"
    return f"{last.ending} at {last.ended_at.astimezone():%Y-%m-%d %H:%M}" if last.ended_at else last.ending
