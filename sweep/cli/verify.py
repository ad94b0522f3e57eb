"""`sweep verify`: is everything on disk what was written?"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli import options as shared
from sweep.text import format_count

if TYPE_CHECKING:
    from sweep.cli.servers import Access
    from sweep.record import Finding


def verify(
    run: shared.RunArgument,
    repair: Annotated[bool, typer.Option("--repair", help="Render variations with damaged images again.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON list.")] = False,
    server: shared.Servers = None,
    results: shared.ResultsRoot = Path("results"),
    ca_file: shared.CaFile = None,
    credentials: shared.CredentialsOption = None,
) -> int:
    """Check every file of a run against its hash.

    And the journal against itself. Exits with 4 where something is wrong and was not repaired.
    """
    from sweep.cli.console import say
    from sweep.cli.options import results_folder
    from sweep.cli.servers import Access
    from sweep.record import RecordedResults

    folder = results_folder(run, results)
    findings = RecordedResults.open(folder).verify()
    if as_json:
        say(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False))
    else:
        for finding in findings:
            say(f"  {finding.fault:<10} {finding.message}")
    tell = _silent if as_json else say
    if not findings:
        tell(f"{folder.name}: every file and every row is what was written.")
        return 0
    if not repair:
        tell(f"{_count(findings)}. sweep verify {run} --repair renders again what can be.")
        return 4
    return _repaired(folder, findings, Access.of(server, ca_file, credentials), tell)


def _silent(_: str) -> None:
    pass


def _count(findings: Sequence[Finding]) -> str:
    return format_count(len(findings), "finding")


def _repaired(folder: Path, findings: list[Finding], access: Access, tell: Callable[[str], None]) -> int:
    """Open again what is damaged, render it where that is possible, and give the exit code."""
    import anyio

    from sweep.record import REPAIRABLE, reopen_damaged

    opened = anyio.run(reopen_damaged, folder, findings)
    words = "variation is" if opened == 1 else "variations are"
    tell(f"{_count(findings)}; {opened} {words} open again.")
    if not opened:
        return 4
    if not access.addresses and not _on_sandbox(folder):
        tell("The same sweep run renders just that, and so does --server URL with this command.")
        return 0
    beyond = any(finding.fault not in REPAIRABLE for finding in findings)
    return _render(folder, access) or (4 if beyond else 0)


def _on_sandbox(folder: Path) -> bool:
    """Whether the last run needed no server of anybody's."""
    from sweep.record import RecordedResults

    servers = RecordedResults.open(folder).runs()[-1].facts.servers
    return bool(servers) and all(server.get("sandbox") == "true" for server in servers)


def _render(folder: Path, access: Access) -> int:
    """What is open of the experiment as it was run, into the folder as it is called now."""
    from sweep.cli.run import Show, render_alone
    from sweep.engine import RunOptions
    from sweep.experiment import Experiment

    experiment = Experiment.load(folder / "experiment.yaml", [f"name={json.dumps(folder.name)}"])
    options = RunOptions(board=experiment.board, command=("sweep", *sys.argv[1:]))
    return render_alone(experiment, access, options, Show(), folder.parent)
