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
    as_json: shared.AsJson = False,
    quiet: shared.Quiet = False,
    results: shared.ResultsRoot = Path("results"),
) -> int:
    """Test whether a run meets requirements.

    Exits with 1 and lists the rows that miss a requirement. Conditions are about columns of the results table, metrics
    or counts (points, completed, failed, cancelled, pending). Metrics are measured first if necessary.
    """
    from sweep.checks import check_run, describe_row, write_junit
    from sweep.cli.console import CountBar, print_answer
    from sweep.cli.options import find_run
    from sweep.record import RecordedResults, folder_status, replace_atomically

    folder = find_run(run, results)
    with CountBar("measuring") as count:
        found = check_run(folder, require or (), count)
    axes = [name for name, _ in RecordedResults.open(folder).axes]
    if junit is not None:
        with replace_atomically(junit) as file:
            file.write(write_junit(found, folder.name, axes).encode("utf-8"))
    is_met = all(each.is_met for each in found)
    status = folder_status(folder).to_json()
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
    print_answer(lines, answer, as_json=as_json, quiet=quiet)
    return 0 if is_met else 1
