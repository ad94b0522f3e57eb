"""`sweep table`: the results table, in the format somebody needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sweep.cli import options as shared


def table(
    run: shared.Run,
    format_: Annotated[
        Literal["csv", "parquet", "json", "md"], typer.Option("--format", "-f", help="What to write.")
    ] = "csv",
    where: Annotated[
        str | None, typer.Option(help="Only rows for which this holds: \"denoise_strength > 0.4 and seed == 42\".")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Also points the experiment no longer has.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead of the terminal.")
    ] = None,
    results: shared.ResultsRoot = Path("results"),
) -> None:
    """Print or write the results table, also while the run is going on."""
    import sys

    from sweep.cli.locating import results_folder
    from sweep.errors import UsageError
    from sweep.experiment.conditions import row_filter
    from sweep.record.export import export
    from sweep.record.table import Results

    opened = Results.open(results_folder(run, results))
    rows = row_filter(where) if where else None
    if output is None and format_ == "parquet":
        raise UsageError("Parquet is not text.", hint="Give --output FILE.")
    if output is not None:
        export(opened, output, format_, where=rows, former=all_)
    else:
        sys.stdout.write(opened.text(format_, where=rows, former=all_))
