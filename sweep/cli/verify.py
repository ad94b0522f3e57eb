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
    """Check every file of a results folder against its hash, and the journal against itself.

    Exits with 4 where something is wrong and was not repaired.
    """
    import anyio

    from sweep.cli.console import say
    from sweep.cli.locating import results_folder
    from sweep.record.table import Results
    from sweep.record.verify import damaged_keys

    folder = results_folder(run, results)
    findings = Results.open(folder).verify()
    for finding in findings:
        say(f"  {finding.fault:<10} {finding.path}: {finding.message}")
    if not findings:
        say(f"{folder.name}: every file and every row is what was written.")
        return 0
    if not repair:
        say(f"{len(findings)} findings. sweep verify {run} --repair renders just that again.")
        return 4
    forgotten = anyio.run(_forget, folder, damaged_keys(findings))
    say(f"{forgotten} variations are open again: run the same command to render them.")
    return 0


async def _forget(folder: Path, keys: list[str]) -> int:
    from sweep.record.journal import SqliteJournal
    from sweep.record.lock import FolderLock

    async with FolderLock(folder), await SqliteJournal.open(folder, create=False) as journal:
        return await journal.forget(keys)
