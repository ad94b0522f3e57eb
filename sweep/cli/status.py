"""Look at a run: `sweep status`, `sweep table`, and `sweep check` for a pipeline; `sweep stop` and `cancel` end it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, TextIO, TypeAlias, cast

import typer

from sweep import engine, record
from sweep.cli.console import MeasuringBar, SafeText, print_error, print_json, print_line
from sweep.cli.shared_options import (
    NO_RUNS,
    AnswerPrinter,
    ChosenRun,
    ResultsRoot,
    complete_columns,
    find_run,
    list_runs,
    output_option,
    run_argument,
)
from sweep.errors import RecordError, UsageError
from sweep.text import quote_argument


def status_command(
    run: Annotated[str | None, run_argument()] = None,
    results: ResultsRoot = Path("results"),
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> int:
    """Show the progress of a run (works while it is running).

    Without RUN, prints one line for each run in --results.

    Args:
        run: The name of a run in --results, or the path of its folder.
        as_json: Print one JSON object; without RUN, a list.
    """
    if run is None:
        return _print_all(results, as_json=as_json)
    found = record.folder_status(find_run(run, results))
    if as_json:
        print_json(found.to_json())
    else:
        for line in _folder_lines(found):
            print_line(line)
    return 0


def _print_all(root: Path, *, as_json: bool) -> int:
    """Print a line for each run under `root`, report unreadable ones and return the exit code."""
    found: list[record.FolderStatus] = []
    unread: list[RecordError] = []
    for name in list_runs(root):
        try:
            found.append(record.folder_status(root / name))
        except RecordError as error:
            unread.append(error)
    if as_json:
        print_json([status.to_json() for status in found])
    else:
        for line in _run_lines(found) if found or unread else [NO_RUNS.format(root=root)]:
            print_line(line)
    for each in unread:
        print_error(each)
    return unread[0].exit_code if unread else 0


def _folder_lines(found: record.FolderStatus) -> list[str]:
    lines = [f"{Path(found.folder).name}  {_done_text(found)} done{_percent_text(found)}"]
    for word, count in (
        ("failed", found.failed),
        ("cancelled", found.cancelled),
        ("at a server", found.open),
        ("not started", found.pending),
    ):
        if count:
            lines.append(f"  {word:<12} {count:,}")
    if found.former:
        lines.append(f"  {'former':<12} {found.former:,} that the experiment no longer asks for")
    return [*lines, f"  {'last run':<12} {found.run}"]


def _run_lines(all_found: list[record.FolderStatus]) -> list[str]:
    rows = [
        (
            Path(found.folder).name,
            _done_text(found),
            _percent_text(found).strip(),
            f"{found.failed:,} failed" if found.failed else "",
            found.run,
        )
        for found in all_found
    ]
    name, done, share, failed, _ = (max(map(len, column)) for column in zip(*rows, strict=True)) if rows else (0,) * 5
    gap = "  " if failed else ""
    return [f"{a:<{name}}  {b:>{done}}  {c:>{share}}  {d:>{failed}}{gap}{e}" for a, b, c, d, e in rows]


def _done_text(found: record.FolderStatus) -> str:
    return f"{found.completed:,}/{found.points:,}"


def _percent_text(found: record.FolderStatus) -> str:
    return f"  {100 * found.completed // found.points} %" if found.points else ""


def stop(chosen: ChosenRun) -> None:
    """Stop a run after the jobs in flight are finished.

    The same as Ctrl-C in the terminal of the run.
    """
    _request_stop(chosen, 1)


def cancel(chosen: ChosenRun) -> None:
    """Cancel the jobs of a run on its servers and stop it.

    The same as a second Ctrl-C in the terminal of the run. Jobs of other people are not touched.
    """
    _request_stop(chosen, 2)


def _request_stop(chosen: ChosenRun, stage: int) -> None:
    folder = chosen.folder()
    noted = record.read_holder(folder)
    words = "finishes the jobs in flight" if stage == 1 else "cancels its jobs on the servers"
    if record.is_in_use(folder):
        engine.request_stop(folder, stage)
        print_line(f"{folder.name}: {noted or 'the run'} {words}.")
    elif noted is not None and noted.elsewhere():
        engine.request_stop(folder, stage)
        print_line(f"{folder.name}: if {noted} is still running on its machine, it {words}.")
    else:
        hint = f"sweep status {quote_argument(chosen.run)} shows how the last run ended."
        raise UsageError(f"Nothing is running in {folder}.", hint=hint)


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
    form: Annotated[TableFormat | None, typer.Option("--format", "-f", metavar="FORMAT")] = None,
    where: Annotated[str | None, typer.Option(metavar="CONDITION")] = None,
    columns: Annotated[str | None, typer.Option(metavar="NAMES", autocompletion=complete_columns)] = None,
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
    status = record.folder_status(folder).to_json()
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
