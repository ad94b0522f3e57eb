"""`sweep verify`: check the files of a run and repair them; `sweep check`: test what a pipeline requires of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import anyio
import typer

from sweep import record
from sweep.cli.console import MeasuringBar, print_json, print_line
from sweep.cli.options import Access, AnswerPrinter, ChosenRun
from sweep.cli.run import Display, render_open, was_painted
from sweep.text import format_count, quote_argument


def verify(
    chosen: ChosenRun,
    access: Access,
    repair: Annotated[bool, typer.Option("--repair")] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> int:
    """Check every file of a run against its hash.

    Checks the journal too. Exits with 4 if something is wrong and was not repaired.

    Args:
        repair: Render the points of damaged images again.
        as_json: Print the findings as one JSON list.
    """
    folder = chosen.folder()
    findings = record.RecordedResults.open(folder).verify()
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            print_line(f"  {finding.fault:<10} {finding.message}")

    def tell(text: str) -> None:
        if not as_json:
            print_line(text)

    if not findings:
        tell(f"{folder.name}: all files and rows are intact.")
        return 0
    if not repair:
        hint = f"sweep verify {quote_argument(chosen.run)} --repair renders the damaged images again."
        tell(f"{format_count(len(findings), 'finding')}. {hint}")
        return 4
    return _repair(folder, findings, access, tell)


def _repair(folder: Path, findings: list[record.Damage], access: Access, tell: Callable[[str], None]) -> int:
    opened = anyio.run(record.reopen_damaged, folder, findings)
    points = format_count(opened, "point")
    tell(f"{format_count(len(findings), 'finding')}; {points} will be rendered again.")
    if not opened:
        return 4
    if not access.addresses and not was_painted(folder):
        tell("To render them, repeat the sweep run command, or add --server URL to this one.")
        return 0
    beyond = any(finding.fault not in record.REPAIRABLE for finding in findings)
    return render_open(folder, access, Display()) or (4 if beyond else 0)


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
