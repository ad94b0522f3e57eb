"""`sweep verify`: is everything on disk what was written?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep.cli import options as shared


def verify(
    run: shared.Run,
    repair: Annotated[
        bool, typer.Option("--repair", help="Put variations with damaged pictures back: the next run renders them.")
    ] = False,
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

    folder = results_folder(run, results)
    findings = Results.open(folder).verify()
    for finding in findings:
        say(f"  {finding.fault:<10} {finding.message}")
    if not findings:
        say(f"{folder.name}: every file and every row is what was written.")
        return 0
    count = f"{len(findings)} finding{'s' if len(findings) != 1 else ''}"
    if not repair:
        say(f"{count}. sweep verify {run} --repair puts back what can be rendered again.")
        return 4
    opened = anyio.run(reopen_damaged, folder, findings)
    words = "variation is" if opened == 1 else "variations are"
    say(f"{count}; {opened} {words} open again: sweep run renders just that.")
    return 0
