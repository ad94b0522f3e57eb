"""The commands that change a results folder, or what a run left on servers: redo, rename, rm, clean, merge, rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli import options as shared
from sweep.cli.run import ProgressOption
from sweep.text import format_count

if TYPE_CHECKING:
    from sweep.record import RecordedResults


WhereOption = Annotated[
    str | None,
    typer.Option(
        help='Only points that meet this condition: "index in [3, 5]", "ssim < 0.5".',
        show_default=False,
        metavar="CONDITION",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def redo(
    run: shared.RunArgument,
    where: WhereOption = None,
    server: shared.Servers = None,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Update the report at the end.")] = True,
    results: shared.ResultsRoot = Path("results"),
    ca_file: shared.CaFile = None,
    credentials: shared.CredentialsOption = None,
    progress: ProgressOption = "auto",
) -> int:
    """Render points of a run again.

    Renders the points that meet --where, on the sandbox if the sandbox made them, or else on --server. The old image
    stays until the new one is on disk.
    """
    import anyio

    from sweep.cli.console import print_line
    from sweep.cli.options import find_run
    from sweep.cli.servers import Access
    from sweep.cli.verify import render_open, was_painted
    from sweep.errors import UsageError
    from sweep.record import RecordedResults, reopen_points
    from sweep.text import format_count

    folder = find_run(run, results)
    access = Access.of(server, ca_file, credentials)
    if where is None:
        raise UsageError("redo needs --where.", hint='For example --where "index in [3, 5]", or "index >= 0" for all.')
    if not access.addresses and not was_painted(folder):
        raise UsageError(f"{folder.name} was rendered on a server.", hint="Add --server URL.")
    keys = _matching(RecordedResults.open(folder), where)
    reopened = anyio.run(reopen_points, folder, keys)
    if progress not in ("json", "none"):
        print_line(f"{format_count(reopened, 'point')} of {folder.name} will be rendered again.")
    return render_open(folder, access, report=report, style=progress)


def rename(
    run: shared.RunArgument,
    name: Annotated[str, typer.Argument(help="The new name.", show_default=False, metavar="NEW")],
    results: shared.ResultsRoot = Path("results"),
    as_json: shared.AsJson = False,
    quiet: shared.Quiet = False,
) -> None:
    """Give a run another name.

    Renames its results folder. To continue the run later, give the experiment the same name.
    """
    from sweep.cli.console import print_answer
    from sweep.cli.options import find_run
    from sweep.errors import ExperimentError, UsageError
    from sweep.experiment import Experiment
    from sweep.record import rename_run

    folder = find_run(run, results)
    if Path(name).name != name or not name.strip(" ."):
        raise UsageError(f"{name!r} is not a name.", hint="Write a name without slashes.")
    try:
        Experiment.from_dict({"name": name, "workflow": "txt2img", "inputs": {"prompt": "x"}})
    except ExperimentError as error:  # of a name that not every system can have
        raise UsageError(error.problems[0].message) from error
    target = rename_run(folder, name)
    answer = {"schema": "sweep.rename/1", "state": "renamed", "from": folder.as_posix(), "folder": target.as_posix()}
    text = f"{folder} is now {target}. To continue this run, write name: {name} in its experiment file."
    print_answer(text, answer, as_json=as_json, quiet=quiet)


def rm(
    run: shared.RunArgument,
    where: WhereOption = None,
    yes: Yes = False,
    results: shared.ResultsRoot = Path("results"),
    as_json: shared.AsJson = False,
    quiet: shared.Quiet = False,
) -> None:
    """Delete a run, or some of its images.

    Without --where, deletes the results folder with everything in it. With --where, deletes the images of these points;
    the next sweep run renders them again unless the experiment excludes them. Asks first.
    """
    import anyio

    from sweep.cli.console import print_answer
    from sweep.cli.options import find_run
    from sweep.record import RecordedResults, delete_points, delete_run, write_tables
    from sweep.text import format_count

    folder = find_run(run, results)
    answer = {"schema": "sweep.rm/1", "state": "deleted", "folder": folder.as_posix()}
    if where is None:
        images = sum(1 for _ in (folder / "images").glob("*"))
        _confirm(f"Delete {folder} with {format_count(images, 'image')}?", yes)
        delete_run(folder)
        print_answer(f"Deleted {folder}.", {**answer, "images": images}, as_json=as_json, quiet=quiet)
        return
    keys = _matching(RecordedResults.open(folder), where)
    _confirm(f"Delete the images of {format_count(len(keys), 'point')} of {folder}?", yes)
    deleted = anyio.run(delete_points, folder, keys)
    write_tables(folder)
    text = f"Deleted {format_count(deleted, 'image')}. sweep report {folder} updates the report."
    print_answer(text, {**answer, "images": deleted}, as_json=as_json, quiet=quiet)


def clean(
    run: shared.RunArgument,
    yes: Yes = False,
    results: shared.ResultsRoot = Path("results"),
    queue: shared.QueueOption = "default",
    ca_file: shared.CaFile = None,
    credentials: shared.CredentialsOption = None,
    as_json: shared.AsJson = False,
    quiet: shared.Quiet = False,
) -> int:
    """Delete what a run left on its servers.

    Deletes the intermediate images that its items made and the input images that it uploaded, and nothing else: no
    image of the results, nothing that you starred or put on a board. Asks first. A later run uploads its input images
    again.
    """
    import anyio

    from sweep.cli.console import print_answer, print_notice
    from sweep.cli.options import find_run
    from sweep.cli.servers import Access
    from sweep.engine import delete_leftovers, find_leftovers
    from sweep.errors import UsageError
    from sweep.record import in_use, read_submitted

    folder = find_run(run, results)
    if in_use(folder):
        raise UsageError(f"{folder.name} is running.", hint=f"sweep stop {run} ends it.")
    sent = read_submitted(folder)
    work = {url: each for url, each in sent.items() if each.name != "sandbox" and url.startswith("http")}
    access = Access.of(list(work), ca_file, credentials, queue)
    found = anyio.run(find_leftovers, work, access.clients()) if work else []
    for each in found:
        if each.reason and not as_json:
            print_notice(f"{each.name}: {each.reason}.")
    lines = [] if found else [f"There is nothing to clean: {folder.name} left nothing on any server."]
    servers = []
    for each, client in zip(found, access.clients(), strict=True):
        if each.images:
            _confirm(f"Delete {format_count(len(each.images), 'image')} of {folder.name} on {each.name}?", yes)
        deleted = anyio.run(delete_leftovers, each, client) if each.images else 0
        if not each.reason:
            done = f"{format_count(deleted, 'image')} deleted" if each.images else f"nothing of {folder.name} is left"
            lines.append(f"{each.name}: {done}.")
        servers.append({"url": each.url, "images": deleted, "reason": each.reason or None})
    incomplete = any(each.reason for each in found)
    answer = {"schema": "sweep.clean/1", "state": "incomplete" if incomplete else "clean", "folder": folder.as_posix()}
    print_answer(lines, {**answer, "servers": servers}, as_json=as_json, quiet=quiet)
    return 3 if incomplete else 0


def _matching(opened: RecordedResults, where: str) -> list[str]:
    """Return the keys of the points that meet a condition. Raises UsageError if there are none."""
    from sweep.errors import UsageError
    from sweep.record import matching_keys
    from sweep.results import compile_where

    keys = matching_keys(opened.folder, compile_where(opened, where))
    if not keys:
        raise UsageError(
            f"No point of {opened.folder.name} meets {where}.", hint=f"sweep table {opened.folder} lists them."
        )
    return keys


def _confirm(question: str, yes: bool) -> None:
    """Ask before something is deleted. Raises UsageError without a terminal to ask in, Abort for a no."""
    import sys

    from sweep.errors import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            question.replace("?", ": there is no terminal to ask in."), hint="Add --yes to delete without asking."
        )
    typer.confirm(question, abort=True)


def merge(
    folders: Annotated[
        list[Path], typer.Argument(help="Results folders of the same experiment.", show_default=False, metavar="FOLDER")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The merged results folder.", show_default=False, metavar="FOLDER")
    ],
    as_json: shared.AsJson = False,
    quiet: shared.Quiet = False,
) -> int:
    """Merge results folders of one experiment into one.

    Merges the parts of sweep run --shard, or what two people rendered. The same command again continues a merge that
    was interrupted. Exits with 1 if two folders have different images of the same point.
    """
    from sweep.cli.console import print_answer
    from sweep.record import merge_results

    summary = merge_results(folders, output)
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
    print_answer(lines, answer, as_json=as_json, quiet=quiet)
    return 1 if summary.conflicts else 0


def rate(
    run: shared.RunArgument,
    ratings: Annotated[Path, typer.Argument(help="File that the page exported.", show_default=False)],
    results: shared.ResultsRoot = Path("results"),
    as_json: shared.AsJson = False,
    quiet: shared.Quiet = False,
) -> int:
    """Add ratings and blind choices to a run.

    They become columns (rating, rejected, note), and sweep study uses them. While sweep view serves a run, the page
    keeps them in the run by itself.
    """
    from sweep.cli.console import print_answer
    from sweep.cli.options import find_run
    from sweep.study import add_ratings

    folder = find_run(run, results)
    added = add_ratings(folder, ratings)
    rated, chosen = format_count(len(added.marks), "rated image"), format_count(len(added.choices), "blind choice")
    answer = {
        "schema": "sweep.rate/1",
        "state": "rated",
        "folder": folder.as_posix(),
        "rated": len(added.marks),
        "choices": len(added.choices),
    }
    text = f"{folder.name} has {rated} and {chosen}. sweep study {run} uses them."
    print_answer(text, answer, as_json=as_json, quiet=quiet)
    return 0
