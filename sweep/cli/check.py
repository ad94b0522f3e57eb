"""`sweep check`: test a run in a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from sweep.cli import options as shared

_MAX_ROWS: Final = 20  # rows that missed a requirement; --json lists all


def check(
    run: shared.RunArgument,
    require: Annotated[
        list[str] | None,
        typer.Option(
            help='What must hold: "ssim >= 0.9 where denoise_strength <= 0.4", "failed == 0". Repeat for more.',
            metavar="CONDITION",
        ),
    ] = None,
    junit: Annotated[
        Path | None,
        typer.Option(help="Also write a JUnit report to this file.", show_default=False, metavar="FILE"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing; only set the exit code.")] = False,
    results: shared.ResultsRoot = Path("results"),
) -> int:
    """Test whether a run meets requirements.

    Exits with 1 and lists the rows that miss a requirement. Conditions are about columns of the results table, metrics
    or counts (points, completed, failed, cancelled, pending). Metrics are measured first if necessary.
    """
    from sweep.checks import check_run, describe_row, write_junit
    from sweep.cli.console import CountBar, print_json, print_line
    from sweep.cli.options import find_run
    from sweep.record import RecordedResults, replace_atomically

    folder = find_run(run, results)
    with CountBar("measuring") as count:
        found = check_run(folder, require or (), count)
    axes = [name for name, _ in RecordedResults.open(folder).axes]
    if junit is not None:
        with replace_atomically(junit) as file:
            file.write(write_junit(found, folder.name, axes).encode("utf-8"))
    is_met = all(each.is_met for each in found)
    if as_json:
        print_json(
            {
                "schema": "sweep.check/1",
                "folder": folder.as_posix(),
                "state": "passed" if is_met else "failed",
                "requirements": [each.to_json() for each in found],
            }
        )
    elif not quiet:
        for each in found:
            print_line(f"✓ {each.requirement}" if each.is_met else f"✗ {each.requirement}: {each.summary}")
            for row in each.missed[:_MAX_ROWS]:
                print_line(f"    {describe_row(row, axes)}")
            if len(each.missed) > _MAX_ROWS:
                print_line(f"    … {len(each.missed) - _MAX_ROWS:,} more; --json lists all")
    return 0 if is_met else 1
