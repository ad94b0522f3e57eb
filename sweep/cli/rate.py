"""`sweep rate`: ratings and blind choices made on the page, added to a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep.cli import options as shared


def rate(
    run: shared.RunArgument,
    ratings: Annotated[Path, typer.Argument(help="File that the page exported.", show_default=False)],
    results: shared.ResultsRoot = Path("results"),
) -> int:
    """Add ratings and blind choices to a run.

    They become columns (rating, rejected, note), and sweep study uses them. While sweep view serves a run, the page
    keeps them in the run by itself.
    """
    from sweep.cli.console import print_line
    from sweep.cli.options import find_run
    from sweep.study import add_ratings
    from sweep.text import format_count

    folder = find_run(run, results)
    added = add_ratings(folder, ratings)
    rated, chosen = format_count(len(added.marks), "rated image"), format_count(len(added.choices), "blind choice")
    print_line(f"{folder.name} has {rated} and {chosen}. sweep study {run} uses them.")
    return 0
