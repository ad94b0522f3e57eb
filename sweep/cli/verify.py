"""`sweep verify`: check the files of a run and repair them; `sweep check`: test what a pipeline requires of a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sweep.cli import options as shared
from sweep.text import format_count

if TYPE_CHECKING:
    from sweep.cli.progress import Style
    from sweep.cli.servers import Access
    from sweep.record import Finding


def verify(
    run: shared.RunArgument,
    repair: Annotated[bool, typer.Option("--repair", help="Render the points of damaged images again.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON list.")] = False,
    server: shared.Servers = None,
    results: shared.ResultsRoot = Path("results"),
    ca_file: shared.CaFile = None,
    credentials: shared.CredentialsOption = None,
) -> int:
    """Check every file of a run against its hash.

    Checks the journal too. Exits with 4 if something is wrong and was not repaired.
    """
    from sweep.cli.console import print_json, print_line
    from sweep.cli.options import find_run
    from sweep.cli.servers import Access
    from sweep.record import RecordedResults

    folder = find_run(run, results)
    findings = RecordedResults.open(folder).verify()
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            print_line(f"  {finding.fault:<10} {finding.message}")
    tell = _print_nothing if as_json else print_line
    if not findings:
        tell(f"{folder.name}: all files and rows are intact.")
        return 0
    if not repair:
        tell(f"{_count_text(findings)}. sweep verify {run} --repair renders the damaged images again.")
        return 4
    return _repair(folder, findings, Access.of(server, ca_file, credentials), tell)


def _print_nothing(_: str) -> None:
    pass


def _count_text(findings: Sequence[Finding]) -> str:
    return format_count(len(findings), "finding")


def _repair(folder: Path, findings: list[Finding], access: Access, tell: Callable[[str], None]) -> int:
    """Reopen damaged points, render them if possible and return the exit code."""
    import anyio

    from sweep.record import REPAIRABLE, reopen_damaged

    opened = anyio.run(reopen_damaged, folder, findings)
    words = "point" if opened == 1 else "points"
    tell(f"{_count_text(findings)}; {opened} {words} will be rendered again.")
    if not opened:
        return 4
    if not access.addresses and not was_painted(folder):
        tell("To render them, repeat the sweep run command, or add --server URL to this one.")
        return 0
    beyond = any(finding.fault not in REPAIRABLE for finding in findings)
    return render_open(folder, access) or (4 if beyond else 0)


def was_painted(folder: Path) -> bool:
    """Return whether the last run used only the sandbox."""
    from sweep.record import RecordedResults

    servers = RecordedResults.open(folder).runs()[-1].facts.servers
    return bool(servers) and all(server.get("sandbox") == "true" for server in servers)


def render_open(folder: Path, access: Access, *, report: bool = True, style: Style = "auto") -> int:
    """Render the open points of the experiment into its folder."""
    from sweep.cli.run import Display, run_experiment
    from sweep.engine import RunOptions
    from sweep.experiment import Experiment

    experiment = Experiment.load(folder / "experiment.yaml", [f"name={json.dumps(folder.name)}"])
    options = RunOptions(board=experiment.board, command=("sweep", *sys.argv[1:]))
    return run_experiment(experiment, access, options, Display(style=style, report=report), folder.parent)


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
    from sweep.cli.console import CountBar, print_answer
    from sweep.cli.options import find_run
    from sweep.record import RecordedResults, folder_status, replace_atomically
    from sweep.results import check_run, describe_row, write_junit

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
