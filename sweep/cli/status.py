"""`sweep status`: how far a results folder is, or each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli import options as shared

if TYPE_CHECKING:
    from sweep.record import FolderStatus


def status_command(
    run: shared.AnyRun = None,
    results: shared.ResultsRoot = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object; without RUN a list of them.")] = False,
) -> int:
    """Say how far a run is, also while it goes on.

    Without RUN, a line for each run in --results.
    """
    from sweep.cli.console import say
    from sweep.cli.options import results_folder
    from sweep.record import folder_status

    if run is None:
        return _all(results, as_json=as_json)
    found = folder_status(results_folder(run, results))
    for line in [_json(found.to_json())] if as_json else _one(found):
        say(line)
    return 0


def _all(root: Path, *, as_json: bool) -> int:
    """A line for each run under `root`; one that cannot be read says why, and so does the exit code."""
    from sweep.cli.console import complain, say
    from sweep.cli.options import NONE_YET, known_runs
    from sweep.errors import RecordError
    from sweep.record import folder_status

    found: list[FolderStatus] = []
    unread: list[RecordError] = []
    for name in known_runs(root):
        try:
            found.append(folder_status(root / name))
        except RecordError as error:
            unread.append(error)
    lines = [_json([each.to_json() for each in found])] if as_json else _table(found)
    for line in lines if found or unread or as_json else [NONE_YET.format(root=root)]:
        say(line)
    for fault in unread:
        complain(fault)
    return unread[0].exit_code if unread else 0


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _one(found: FolderStatus) -> list[str]:
    """How far, and what is missing."""
    lines = [f"{Path(found.folder).name}  {_done(found)} done{_share(found)}"]
    for word, count in (
        ("failed", found.failed),
        ("cancelled", found.cancelled),
        ("at a server", found.open),
        ("not begun", found.pending),
    ):
        if count:
            lines.append(f"  {word:<12} {count:,}")
    if found.former:
        lines.append(f"  {'former':<12} {found.former:,} that the experiment no longer has")
    return [*lines, f"  {'last run':<12} {found.run}"]


def _table(all_found: list[FolderStatus]) -> list[str]:
    """A line a run, in columns."""
    rows = [
        (
            Path(found.folder).name,
            _done(found),
            _share(found).strip(),
            f"{found.failed:,} failed" if found.failed else "",
            found.run,
        )
        for found in all_found
    ]
    name, done, share, failed, _ = (max(map(len, column)) for column in zip(*rows, strict=True)) if rows else (0,) * 5
    gap = "  " if failed else ""
    return [f"{a:<{name}}  {b:>{done}}  {c:>{share}}  {d:>{failed}}{gap}{e}" for a, b, c, d, e in rows]


def _done(found: FolderStatus) -> str:
    return f"{found.completed:,}/{found.points:,}"


def _share(found: FolderStatus) -> str:
    return f"  {100 * found.completed // found.points} %" if found.points else ""
