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
    """Say how far a run is, also while it goes on."""
    from sweep.cli.console import say
    from sweep.cli.locating import results_folder
    from sweep.record.standing import standing

    found = standing(results_folder(run, results))
    if as_json:
        say(json.dumps(found.to_json(), ensure_ascii=False))
        return
    share = f"  {100 * found.completed // found.points} %" if found.points else ""
    say(f"{Path(found.folder).name}  {found.completed:,}/{found.points:,} done{share}")
    for word, count in (
        ("failed", found.failed),
        ("cancelled", found.cancelled),
        ("at a server", found.open),
        ("not begun", found.pending),
    ):
        if count:
            say(f"  {word:<12} {count:,}")
    if found.former:
        say(f"  {'former':<12} {found.former:,} that the experiment no longer has")
    say(f"  {'last run':<12} {found.run}")
