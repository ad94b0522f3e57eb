"""The state of a run: `sweep status` shows it; `sweep stop` and `sweep cancel` end it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep import engine, record
from sweep.cli.console import print_error, print_json, print_line
from sweep.cli.shared_options import ChosenRun, ResultsRoot, locate_run, run_argument
from sweep.errors import RecordError, UsageError
from sweep.text import quote_argument


def status_command(
    run: Annotated[str | None, run_argument()] = None,
    results: ResultsRoot = Path("results"),
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> int:
    """Show the progress of a run (works while it is running).

    Without RUN, prints one line for each run in --results.

    Args:
        run: The name of a run in --results, or the path of its folder.
        as_json: Print one JSON object; without RUN, a list.
    """
    if run is None:
        return _print_all(results, as_json=as_json)
    found = record.folder_status(locate_run(run, results))
    if as_json:
        print_json(found.to_json())
    else:
        for line in _folder_lines(found):
            print_line(line)
    return 0


def _print_all(root: Path, *, as_json: bool) -> int:
    """Print a line for each run under `root`, report unreadable ones and return the exit code."""
    found: list[record.FolderStatus] = []
    unread: list[RecordError] = []
    for name in record.list_runs(root):
        try:
            found.append(record.folder_status(root / name))
        except RecordError as error:
            unread.append(error)
    if as_json:
        print_json([status.to_json() for status in found])
    else:
        for line in _run_lines(found) if found or unread else [record.NO_RUNS.format(root=root)]:
            print_line(line)
    for each in unread:
        print_error(each)
    return unread[0].exit_code if unread else 0


def _folder_lines(found: record.FolderStatus) -> list[str]:
    lines = [f"{Path(found.folder).name}  {_done_text(found)} done{_percent_text(found)}"]
    for word, count in (
        ("failed", found.failed),
        ("cancelled", found.cancelled),
        ("at a server", found.open),
        ("not started", found.pending),
    ):
        if count:
            lines.append(f"  {word:<12} {count:,}")
    if found.former:
        lines.append(f"  {'former':<12} {found.former:,} that the experiment no longer asks for")
    return [*lines, f"  {'last run':<12} {found.run}"]


def _run_lines(all_found: list[record.FolderStatus]) -> list[str]:
    rows = [
        (
            Path(found.folder).name,
            _done_text(found),
            _percent_text(found).strip(),
            f"{found.failed:,} failed" if found.failed else "",
            found.run,
        )
        for found in all_found
    ]
    name, done, share, failed, _ = (max(map(len, column)) for column in zip(*rows, strict=True)) if rows else (0,) * 5
    gap = "  " if failed else ""
    return [f"{a:<{name}}  {b:>{done}}  {c:>{share}}  {d:>{failed}}{gap}{e}" for a, b, c, d, e in rows]


def _done_text(found: record.FolderStatus) -> str:
    return f"{found.completed:,}/{found.points:,}"


def _percent_text(found: record.FolderStatus) -> str:
    return f"  {100 * found.completed // found.points} %" if found.points else ""


def stop(chosen: ChosenRun) -> None:
    """Stop a run after the jobs in flight are finished.

    The same as Ctrl-C in the terminal of the run.
    """
    _request_stop(chosen, 1)


def cancel(chosen: ChosenRun) -> None:
    """Cancel the jobs of a run on its servers and stop it.

    The same as a second Ctrl-C in the terminal of the run. Jobs of other people are not touched.
    """
    _request_stop(chosen, 2)


def _request_stop(chosen: ChosenRun, stage: int) -> None:
    folder = chosen.folder()
    noted = record.read_holder(folder)
    words = "finishes the jobs in flight" if stage == 1 else "cancels its jobs on the servers"
    if record.is_in_use(folder):
        engine.request_stop(folder, stage)
        print_line(f"{folder.name}: {noted or 'the run'} {words}.")
    elif noted is not None and noted.elsewhere():
        engine.request_stop(folder, stage)
        print_line(f"{folder.name}: if {noted} is still running on its machine, it {words}.")
    else:
        hint = f"sweep status {quote_argument(chosen.run)} shows how the last run ended."
        raise UsageError(f"Nothing is running in {folder}.", hint=hint)
