"""`sweep merge`: make one results folder of several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep.text import format_count


def merge(
    folders: Annotated[
        list[Path], typer.Argument(help="Results folders of the same experiment.", show_default=False, metavar="FOLDER")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The merged results folder.", show_default=False, metavar="FOLDER")
    ],
) -> int:
    """Merge results folders of one experiment into one.

    Merges the parts of sweep run --shard, or what two people rendered. The same command again continues a merge that
    was interrupted. Exits with 1 if two folders have different images of the same point.
    """
    from sweep.cli.console import print_line
    from sweep.record import merge_results

    summary = merge_results(folders, output)
    known = f", {format_count(summary.known, 'point')} were there already" if summary.known else ""
    print_line(f"{output}: {format_count(summary.taken, 'point')} merged{known}.")
    for conflict in summary.conflicts:
        print_line(f"  point {conflict.index}: {conflict.source} has another image; the one in {output} is kept.")
    if summary.missing:
        print_line(f"{format_count(summary.missing, 'point')} not rendered yet.")
    return 1 if summary.conflicts else 0
