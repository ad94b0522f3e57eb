"""`sweep verify`: is everything on disk what was written?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep.cli import options as shared


def verify(
    run: shared.Run,
    repair: Annotated[bool, typer.Option("--repair", help="Render variations with damaged pictures again.")] = False,
    server: shared.Servers = None,
    results: shared.ResultsRoot = Path("results"),
) -> int:
    """Check every file of a run against its hash.

    And the journal against itself. Exits with 4 where something is wrong and was not repaired.
    """
    import anyio

    from sweep.cli.console import say
    from sweep.cli.locating import results_folder
    from sweep.record.repair import reopen_damaged
    from sweep.record.table import Results
    from sweep.record.verify import REPAIRABLE

    folder = results_folder(run, results)
    findings = Results.open(folder).verify()
    for finding in findings:
        say(f"  {finding.fault:<10} {finding.message}")
    if not findings:
        say(f"{folder.name}: every file and every row is what was written.")
        return 0
    count = f"{len(findings)} finding{'s' if len(findings) != 1 else ''}"
    if not repair:
        say(f"{count}. sweep verify {run} --repair renders again what can be.")
        return 4
    opened = anyio.run(reopen_damaged, folder, findings)
    words = "variation is" if opened == 1 else "variations are"
    say(f"{count}; {opened} {words} open again.")
    if not opened:
        return 4
    if server is None and not _on_sandbox(folder):
        say("The same sweep run renders just that, and so does --server URL with this command.")
        return 0
    beyond = any(finding.fault not in REPAIRABLE for finding in findings)
    return _render(folder, server) or (4 if beyond else 0)


def _on_sandbox(folder: Path) -> bool:
    """Whether the last run needed no server of anybody's."""
    from sweep.record.table import Results

    servers = Results.open(folder).runs()[-1].facts.servers
    return bool(servers) and all(server.get("sandbox") == "true" for server in servers)


def _render(folder: Path, server: list[str] | None) -> int:
    """What is open of the experiment as it was run, into the folder as it is called now."""
    import json

    from sweep.cli.run import run

    return run(folder / "experiment.yaml", server, [f"name={json.dumps(folder.name)}"], folder.parent)
