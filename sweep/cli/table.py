"""The results table of a run: `sweep table` prints or writes it, `sweep check` tests it against requirements."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, TextIO, TypeAlias, cast, get_args

import typer

from sweep import record
from sweep.cli.console import MeasuringBar, SafeText
from sweep.cli.shared_options import AnswerPrinter, ChosenRun, output_option
from sweep.errors import UsageError

TableFormat: TypeAlias = Literal["csv", "excel", "xlsx", "parquet", "json", "md"]
FORMATS: Final[Mapping[str, TableFormat]] = {f".{form}": form for form in get_args(TableFormat) if form != "excel"}


def table(
    chosen: ChosenRun,
    form: Annotated[TableFormat | None, typer.Option("--format", "-f", metavar="FORMAT")] = None,
    where: Annotated[str | None, typer.Option(metavar="CONDITION")] = None,
    columns: Annotated[str | None, typer.Option(metavar="NAMES")] = None,
    former: Annotated[bool, typer.Option("--all")] = False,
    output: Annotated[Path | None, output_option()] = None,
) -> None:
    """Print or write the results table of a run.

    The table has one row per image and one per failed point. This works while the run is going on.

    Args:
        form: csv, excel (CSV for Excel), xlsx, parquet, json or md. Default: by the ending of --output, or csv.
        where: Only rows that meet this condition: "denoise_strength > 0.4 and seed == 42".
        columns: Only these columns, in this order: seed,steps,ssim. Inputs can be columns, too.
        former: Include points that the experiment no longer asks for.
        output: Write to this file instead of the terminal.
    """
    from sweep.notebook_results import Results

    opened, where = Results.open(chosen.folder()), where or None
    form = _choose_format(form, output)
    names = None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
    if names == []:
        raise UsageError("--columns names no column.", hint="Write --columns seed,status.")
    if output is not None:
        opened.write_file(output, form, all=former, where=where, columns=names)
    elif form == "parquet" or form == "xlsx":
        raise UsageError(f"{form} is a binary format.", hint="Choose a file with --output.")
    else:
        opened.stream(cast("TextIO", SafeText(sys.stdout)), form, all=former, where=where, columns=names)


def _choose_format(form: TableFormat | None, output: Path | None) -> TableFormat:
    """Return the format that was chosen, or that of the file's ending.

    Raises UsageError for an unknown ending, and for an ending of another format: a file must be what its name says.
    """
    if output is None:
        return form or "csv"
    ending, known = output.suffix.lower(), "Use .csv, .xlsx (Excel), .parquet, .json or .md"
    by_ending = FORMATS.get(ending)
    if not ending and form is None:
        raise UsageError(f"{output.name} has no ending that names a format.", hint=f"{known}, or --format.")
    if by_ending is None and (form is None or ending in (".xls", ".ods", ".tsv")):
        raise UsageError(f"{output.name}: sweep cannot write {ending} files.", hint=f"{known}.")
    if form and by_ending not in (None, "csv" if form == "excel" else form):
        hint = "Leave out --format, or rename the file."
        raise UsageError(f"{output.name} is not a name for the format {form}.", hint=hint)
    return form or by_ending or "csv"


_MAX_ROWS: Final = 20  # rows that missed a requirement; --json lists all


def check(
    chosen: ChosenRun,
    printer: AnswerPrinter,
    require: Annotated[list[str] | None, typer.Option(metavar="CONDITION")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE")] = None,
) -> int:
    """Test whether a run meets requirements.

    Exits with 1 and lists the rows that miss a requirement. Conditions are about columns of the results table, metrics
    or counts (points, completed, failed, cancelled, pending). Metrics are measured first if necessary.

    Args:
        require: A requirement: "ssim >= 0.9 where denoise_strength <= 0.4", or "failed == 0". Repeat for more.
        junit: Also write a JUnit report to this file.
    """
    from sweep.requirements import check_run, describe_row, write_junit

    folder = chosen.folder()
    with MeasuringBar() as count:
        found = check_run(folder, require or (), count)
    axes = [name for name, _ in record.RecordedResults.open(folder).axes]
    if junit is not None:
        with record.replace_atomically(junit) as file:
            file.write(write_junit(found, folder.name, axes).encode("utf-8"))
    is_met = all(each.is_met for each in found)
    status = record.read_folder_status(folder).to_json()
    answer = {
        "schema": "sweep.check/1",
        "state": "passed" if is_met else "failed",
        **{name: status[name] for name in ("folder", "ended_at", "table", "report")},
        "junit": junit.as_posix() if junit else None,
        "requirements": [each.to_json() for each in found],
    }
    lines: list[str] = []
    for each in found:
        lines.append(f"✓ {each.requirement}" if each.is_met else f"✗ {each.requirement}: {each.summary}")
        lines += (f"    {describe_row(row, axes)}" for row in each.missed[:_MAX_ROWS])
        if len(each.missed) > _MAX_ROWS:
            lines.append(f"    … {len(each.missed) - _MAX_ROWS:,} more; --json lists all")
    printer.print(lines, answer)
    return 0 if is_met else 1
