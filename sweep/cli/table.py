"""`sweep table`: print or write the results table."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, TextIO, TypeAlias, cast

import typer

from sweep.cli.console import SafeText
from sweep.cli.options import ChosenRun, complete_columns, output_option
from sweep.errors import UsageError

TableFormat: TypeAlias = Literal["csv", "excel", "xlsx", "parquet", "json", "md"]
FORMATS: Final[Mapping[str, TableFormat]] = {
    ".csv": "csv",
    ".xlsx": "xlsx",
    ".parquet": "parquet",
    ".json": "json",
    ".md": "md",
}


def table(
    chosen: ChosenRun,
    form: Annotated[
        TableFormat | None,
        typer.Option(
            "--format",
            "-f",
            help="csv, excel (CSV for Excel), xlsx, parquet, json or md. Default: by the ending of --output, or csv.",
            metavar="FORMAT",
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            help='Only rows that meet this condition: "denoise_strength > 0.4 and seed == 42".', metavar="CONDITION"
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Only these columns, in this order: seed,steps,ssim. Inputs can be columns, too.",
            metavar="NAMES",
            autocompletion=complete_columns,
        ),
    ] = None,
    former: Annotated[
        bool, typer.Option("--all", help="Include points that the experiment no longer asks for.")
    ] = False,
    output: Annotated[Path | None, output_option("Write to this file instead of the terminal.")] = None,
) -> None:
    """Print or write the results table of a run.

    The table has one row per image and one per failed point. This works while the run is going on.
    """
    from sweep.results import compile_where

    opened = chosen.open()
    rows = compile_where(opened, where, former=former) if where else None
    form = _choose_format(form, output)
    names = [name.strip() for name in columns.split(",")] if columns is not None else None
    if names == [""]:
        raise UsageError("--columns names no column.", hint="Write --columns seed,status.")
    if output is not None:
        opened.write_file(output, form, all=former, where=rows, columns=names)
    elif form == "parquet" or form == "xlsx":
        raise UsageError(f"{form} is a binary format.", hint="Choose a file with --output.")
    else:
        opened.stream(cast("TextIO", SafeText(sys.stdout)), form, all=former, where=rows, columns=names)


def _choose_format(form: TableFormat | None, output: Path | None) -> TableFormat:
    """Return the format that was chosen, or that of the file's ending.

    Raises UsageError for an unknown ending, and for an ending of another format: a file must be what its name says.
    """
    if output is None:
        return form or "csv"
    ending, known = output.suffix.lower(), f"Use {', '.join(FORMATS)}"
    by_ending = FORMATS.get(ending)
    if not ending and form is None:
        raise UsageError(f"{output.name} has no ending that names a format.", hint=f"{known}, or --format.")
    if by_ending is None and (form is None or ending in (".xls", ".ods", ".tsv")):
        raise UsageError(f"{output.name}: sweep cannot write {ending} files.", hint=f"{known}.")
    if form and by_ending not in (None, "csv" if form == "excel" else form):
        hint = "Leave out --format, or rename the file."
        raise UsageError(f"{output.name} is not a name for the format {form}.", hint=hint)
    return form or by_ending or "csv"
