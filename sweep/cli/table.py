"""`sweep table`: print or write the results table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

import typer

from sweep.cli import options as shared

if TYPE_CHECKING:
    from sweep.record import RecordedResults, Where


TableFormat: TypeAlias = Literal["csv", "parquet", "json", "md"]
FORMATS: Final[Mapping[str, TableFormat]] = {".csv": "csv", ".parquet": "parquet", ".json": "json", ".md": "md"}


def table(
    run: shared.RunArgument,
    form: Annotated[
        TableFormat | None,
        typer.Option(
            "--format",
            "-f",
            help="csv, parquet, json or md (default: from the ending of --output, or else csv).",
            show_default=False,
            metavar="FORMAT",
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            help='Only rows that meet this condition: "denoise_strength > 0.4 and seed == 42".', metavar="CONDITION"
        ),
    ] = None,
    former: Annotated[
        bool, typer.Option("--all", help="Include points that the experiment no longer asks for.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write to this file instead of the terminal.", show_default=False, metavar="FILE"
        ),
    ] = None,
    results: shared.ResultsRoot = Path("results"),
) -> None:
    """Print or write the results table of a run.

    The table has one row per image and one per failed point. This works while the run is going on.
    """
    import sys

    from sweep.cli.options import find_run
    from sweep.errors import UsageError
    from sweep.record import RecordedResults

    opened = RecordedResults.open(find_run(run, results))
    rows = _filter(opened, where, former=former) if where else None
    form = form or _format_of(output)
    if form == "parquet":
        if output is None:
            raise UsageError("Parquet is a binary format.", hint="Choose a file with --output.")
        opened.write_parquet(output, all=former, where=rows)
    elif output is not None:
        opened.write_text(output, form, all=former, where=rows)
    else:
        opened.stream(sys.stdout, form, all=former, where=rows)


def _format_of(output: Path | None) -> TableFormat:
    """Return the format of a file's ending; CSV without one."""
    return FORMATS.get(output.suffix.lower(), "csv") if output else "csv"


def _filter(opened: RecordedResults, where: str, *, former: bool) -> Where:
    """Compile `--where` to a test of rows. Raises UsageError if it is wrong."""
    from sweep.errors import UsageError
    from sweep.experiment import ConditionError, NamedAxis, ValueKind, compile_clause

    kinds: dict[str, ValueKind] = {
        "integer": "number",
        "number": "number",
        "text": "text",
        "boolean": "boolean",
        "time": "any",
    }
    columns = [NamedAxis(column.name, kinds[column.kind]) for column in opened.columns(all=former)]
    try:
        clause = compile_clause(where, columns, wanted=True)
    except ConditionError as error:
        said = error.message if error.message.endswith((".", "?")) else f"{error.message}."
        raise UsageError(f"--where, character {error.column}: {said}") from error
    return clause.holds
