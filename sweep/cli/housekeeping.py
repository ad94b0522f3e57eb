"""Housekeeping of runs: show how far they are, stop, verify, redo, rename, remove and merge them, and clean servers."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import anyio
import typer

from sweep import engine, record
from sweep.cli.console import print_error, print_json, print_line, print_notice
from sweep.cli.run import Display, ProgressOption, render_open, was_painted
from sweep.cli.shared_options import (
    Access,
    AnswerPrinter,
    ChosenRun,
    Login,
    ResultsRoot,
    locate_run,
    output_option,
    run_argument,
)
from sweep.errors import ExperimentError, RecordError, UsageError
from sweep.text import format_count, quote_argument

WhereOption = Annotated[
    str | None,
    typer.Option(help='Only points that meet this condition: "index in [3, 5]", "ssim < 0.5".', metavar="CONDITION"),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def status_command(
    run: Annotated[str | None, run_argument()] = None,
    results: ResultsRoot = Path("results"),
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> int:
    """Show the progress of a run (works while it is running).

    Without RUN, prints one line for each results folder in --results.

    Args:
        run: A results folder, or its name in --results.
        as_json: Print one JSON object; without RUN, a list.
    """
    if run is None:
        return _print_all(results, as_json=as_json)
    found = record.read_folder_status(locate_run(run, results))
    if as_json:
        print_json(found.to_json())
    else:
        for line in _describe_folder(found):
            print_line(line)
    return 0


def _print_all(root: Path, *, as_json: bool) -> int:
    """Print a line for each run under `root`, report unreadable ones and return the exit code."""
    found: list[record.FolderStatus] = []
    unread: list[RecordError] = []
    for name in record.list_runs(root):
        try:
            found.append(record.read_folder_status(root / name))
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


def _describe_folder(found: record.FolderStatus) -> list[str]:
    lines = [f"{Path(found.folder).name}  {found.completed:,}/{found.points:,} done{_format_percent(found)}"]
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
            f"{found.completed:,}/{found.points:,}",
            _format_percent(found).strip(),
            f"{found.failed:,} failed" if found.failed else "",
            found.run,
        )
        for found in all_found
    ]
    name, done, share, failed, _ = (max(map(len, column)) for column in zip(*rows, strict=True)) if rows else (0,) * 5
    gap = "  " if failed else ""
    return [f"{a:<{name}}  {b:>{done}}  {c:>{share}}  {d:>{failed}}{gap}{e}" for a, b, c, d, e in rows]


def _format_percent(found: record.FolderStatus) -> str:
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
        asked = f"{noted or 'the run'} {words}."
    elif noted is not None and noted.is_on_another_machine():
        asked = f"if {noted} is still running on its machine, it {words}."
    else:
        hint = f"sweep status {quote_argument(folder)} shows how the last run ended."
        raise UsageError(f"Nothing is running in {folder}.", hint=hint)
    engine.request_stop(folder, stage)
    print_line(f"{folder.name}: {asked}")


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
        as_json: Print the problems as one JSON list.
    """
    folder = chosen.folder()
    problems = record.RecordedResults.open(folder).verify()
    if as_json:
        print_json([asdict(problem) for problem in problems])

    def tell(text: str) -> None:
        if not as_json:
            print_line(text)

    for problem in problems:
        tell(f"  {problem.fault:<10} {problem.message}")
    if not problems:
        tell(f"{folder.name}: all files and rows are intact.")
        return 0
    count, damaged = format_count(len(problems), "problem"), record.list_damaged_keys(problems)
    if not (repair and damaged):
        way_out = f" sweep verify {quote_argument(folder)} --repair renders the damaged images again."
        tell(f"{count}.{way_out if damaged else ''}")
        return 4
    opened = anyio.run(record.reopen_points, folder, damaged)
    tell(f"{count}; {format_count(opened, 'point')} will be rendered again.")
    is_reachable = bool(access.addresses) or was_painted(folder)
    if opened and not is_reachable:
        tell("To render them, repeat the sweep run command, or add --server URL to this one.")
    if not (opened and is_reachable):
        return 4
    code = render_open(folder, access, Display(progress="none" if as_json else "auto"))
    return code or (0 if all(problem.fault in record.REPAIRABLE for problem in problems) else 4)


def redo(
    chosen: ChosenRun,
    access: Access,
    where: WhereOption = None,
    report: Annotated[bool, typer.Option("--report/--no-report")] = True,
    progress: ProgressOption = "auto",
) -> int:
    """Render points of a run again.

    Renders the points that meet --where. If the sandbox made the run, it renders them; otherwise add --server. The old
    image stays until the new one is on disk.

    Args:
        report: Update the report at the end.
    """
    folder = chosen.folder()
    if where is None:
        raise UsageError("redo needs --where.", hint='For example --where "index in [3, 5]", or "index >= 0" for all.')
    if not access.addresses and not was_painted(folder):
        raise UsageError(f"{folder.name} was rendered on a server.", hint="Add --server URL.")
    keys = _find_matching(folder, where)
    reopened = anyio.run(record.reopen_points, folder, keys)
    display = Display(progress=progress, report=report)
    if not display.is_quiet:
        print_line(f"{format_count(reopened, 'point')} of {folder.name} will be rendered again.")
    return render_open(folder, access, display)


def rename(chosen: ChosenRun, printer: AnswerPrinter, name: Annotated[str, typer.Argument(metavar="NEW")]) -> None:
    """Give a run another name.

    Renames its results folder. To continue the run later, give the experiment the same name.

    Args:
        name: The new name.
    """
    from sweep.experiment import Experiment

    folder = chosen.folder()
    try:
        Experiment.from_dict({"name": name, "workflow": "txt2img", "inputs": {"prompt": "x"}})
    except ExperimentError as error:  # some systems cannot have this name
        raise UsageError(error.problems[0].message) from error
    target = record.rename_run(folder, name)
    answer = {"schema": "sweep.rename/1", "state": "renamed", "from": folder.as_posix(), "folder": target.as_posix()}
    text = f"{folder} is now {target}. To continue this run, write name: {name} in its experiment file."
    printer.print(text, answer)


def rm(chosen: ChosenRun, printer: AnswerPrinter, where: WhereOption = None, yes: Yes = False) -> None:
    """Delete a run, or some of its images.

    Without --where, deletes the results folder with everything in it. With --where, deletes the images of these points;
    the next sweep run renders them again unless the experiment excludes them. Asks first.
    """
    folder = chosen.folder()
    answer = {"schema": "sweep.rm/1", "state": "deleted", "folder": folder.as_posix()}
    if where is None:
        images = sum(path.is_file() for path in (folder / "images").rglob("*"))
        _confirm(f"Delete {folder} with {format_count(images, 'image')}?", yes)
        record.delete_run(folder)
        printer.print(f"Deleted {folder}.", {**answer, "images": images})
        return
    keys = _find_matching(folder, where)
    _confirm(f"Delete the images of {format_count(len(keys), 'point')} of {folder}?", yes)
    deleted = anyio.run(record.delete_points, folder, keys)
    record.write_tables(folder)
    text = f"Deleted {format_count(deleted, 'image')}. sweep report {quote_argument(folder)} updates the report."
    printer.print(text, {**answer, "images": deleted})


def clean(chosen: ChosenRun, printer: AnswerPrinter, login: Login, yes: Yes = False) -> int:
    """Delete what a run left on its servers.

    Deletes the intermediate images that its items made and the input images that it uploaded, and nothing else: no
    image of the results, nothing that you starred or put on a board. Asks first. A later run uploads its input images
    again.
    """
    folder = chosen.folder()
    if record.is_in_use(folder):
        raise UsageError(f"{folder.name} is running.", hint=f"sweep stop {quote_argument(folder)} ends it.")
    sent = record.read_submitted(folder)
    work = {url: each for url, each in sent.items() if each.name != "sandbox" and url.startswith("http")}
    clients = replace(login, addresses=list(work)).make_clients()
    found = anyio.run(engine.find_leftovers, work, clients) if work else []
    for each in found:
        if each.reason and not printer.as_json:
            print_notice(f"{each.name}: {each.reason}.")
    lines = [] if found else [f"There is nothing to clean: {folder.name} left nothing on any server."]
    servers = []
    for each, client in zip(found, clients, strict=True):
        if each.images:
            _confirm(f"Delete {format_count(len(each.images), 'image')} of {folder.name} on {each.name}?", yes)
        deleted = anyio.run(engine.delete_leftovers, each, client) if each.images else 0
        if not each.reason:
            done = f"{format_count(deleted, 'image')} deleted" if each.images else f"nothing of {folder.name} is left"
            lines.append(f"{each.name}: {done}.")
        servers.append({"url": each.url, "images": deleted, "reason": each.reason or None})
    incomplete = any(each.reason for each in found)
    answer = {"schema": "sweep.clean/1", "state": "incomplete" if incomplete else "clean", "folder": folder.as_posix()}
    printer.print(lines, {**answer, "servers": servers})
    return 3 if incomplete else 0


def _find_matching(folder: Path, where: str) -> list[str]:
    """Return the keys of the points that meet a condition, each once. Raises UsageError if there are none."""
    from sweep.notebook_results import Results

    keys = dict.fromkeys(str(row["key"]) for row in Results.open(folder).rows(where=where))
    if not keys:
        hint = f"sweep table {quote_argument(folder)} lists all points."
        raise UsageError(f"No point of {folder.name} meets {where}.", hint=hint)
    return list(keys)


def _confirm(question: str, yes: bool) -> None:
    """Ask before something is deleted. Raises UsageError without a terminal to ask in, Abort for a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            question.replace("?", ": there is no terminal to ask in."), hint="Add --yes to delete without asking."
        )
    typer.confirm(question, abort=True)


def merge(
    printer: AnswerPrinter,
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER")],
    output: Annotated[Path, output_option("FOLDER")],
) -> int:
    """Merge results folders of one experiment into one.

    Merges the parts of sweep run --shard, or what two people rendered. The same command again continues a merge that
    was interrupted. Exits with 1 if two folders have different images of the same point.

    Args:
        folders: Results folders of the same experiment.
        output: The merged results folder.
    """
    summary = record.merge_results(folders, output)
    known = f", {format_count(summary.known, 'point')} were there already" if summary.known else ""
    lines = [f"{output}: {format_count(summary.taken, 'point')} merged{known}."]
    lines += (
        f"  point {each.index}: {each.source} has another image; the one in {output} is kept."
        for each in summary.conflicts
    )
    if summary.missing:
        lines.append(f"{format_count(summary.missing, 'point')} not rendered yet.")
    answer = {
        "schema": "sweep.merge/1",
        "state": "conflicts" if summary.conflicts else "merged",
        "folder": output.as_posix(),
        "points": summary.taken,
        "known": summary.known,
        "missing": summary.missing,
        "conflicts": [{"index": each.index, "folder": str(each.source)} for each in summary.conflicts],
    }
    printer.print(lines, answer)
    return 1 if summary.conflicts else 0
