"""`sweep run`: render what is open of an experiment."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sweep.cli import options as shared

if TYPE_CHECKING:
    from sweep.cli.progress import Style
    from sweep.cli.serving import Access
    from sweep.engine.options import RunOptions
    from sweep.engine.summary import RunSummary
    from sweep.experiment.definition import Experiment


def run(
    file: shared.ExperimentFile,
    server: shared.Servers = None,
    set_: shared.Overrides = None,
    results: shared.ResultsRoot = Path("results"),
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Items at a server at once (default: two a device).", show_default=False)
    ] = None,
    attempts: Annotated[int, typer.Option(min=1, help="Attempts at a variation before its row says failed.")] = 4,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try variations again that failed.")] = False,
    max_failures: Annotated[
        str | None, typer.Option(help="End the run at so many failures: a count, or a share such as 20%.", metavar="N")
    ] = None,
    fuse: Annotated[
        str,
        typer.Option(
            help="Variations sent as one item: off, auto (as many as pay) or a number. "
            "Faster for quick models; each picture's own graph then shows its neighbours, too."
        ),
    ] = "off",
    shard: Annotated[
        str | None, typer.Option(help="Only this part of the grid: 2/5 is the second of five.", metavar="K/N")
    ] = None,
    priority: Annotated[bool, typer.Option("--priority", help="Go ahead of what is pending on the server.")] = False,
    idle_only: Annotated[bool, typer.Option("--idle-only", help="Wait while other people's items are queued.")] = False,
    board: Annotated[
        str | None, typer.Option(help="Put the pictures on this board of the server; made where it is missing.")
    ] = None,
    intermediate: Annotated[
        bool, typer.Option("--intermediate", help="Keep the pictures out of the server's gallery.")
    ] = False,
    progress: Annotated[
        Literal["auto", "rich", "plain", "json", "none"], typer.Option(help="How progress is shown.")
    ] = "auto",
    page: Annotated[
        bool, typer.Option("--report/--no-report", help="Measure the pictures and write report.html at the end.")
    ] = True,
    view: Annotated[bool, typer.Option("--view", help="Open a page that shows pictures as they arrive.")] = False,
    ca_file: shared.CaFile = None,
    credentials: shared.Credentials = None,
) -> int:
    """Render every point of an experiment that its results folder does not hold yet.

    Without --server the sandbox paints them. Run it again to resume; edit the file and only new points are rendered.
    """
    import anyio

    from sweep.cli.serving import Access
    from sweep.engine.options import FailureLimit, RunOptions, parse_fusion, parse_shard
    from sweep.experiment.definition import Experiment

    experiment = Experiment.load(file, set_ or ())
    options = RunOptions(
        concurrency=concurrency,
        attempts=attempts,
        failures=FailureLimit.parse(max_failures) if max_failures else FailureLimit(),
        retry_failed=retry_failed,
        priority=int(priority),
        idle_only=idle_only,
        board=board or experiment.board,
        intermediate=intermediate,
        fuse=parse_fusion(fuse),
        shard=parse_shard(shard) if shard else None,
        command=("sweep", *sys.argv[1:]),
    )
    access = Access.of(server, ca_file, credentials)
    show = _Show(style=progress, view=view)
    summary = anyio.run(_render, experiment, access, options, results, show)
    if page and summary.error is None and (summary.rendered or not (summary.folder / "report.html").is_file()):
        from sweep.cli.report import make_report

        make_report(summary.folder)
    _report(summary, file, quiet=progress in ("json", "none"))
    return summary.exit_code


@dataclass(frozen=True, slots=True)
class _Show:
    """How a run is shown while it goes on."""

    style: Style
    view: bool


async def _render(
    experiment: Experiment, access: Access, options: RunOptions, results: Path, show: _Show
) -> RunSummary:
    from sweep.cli.progress import progress
    from sweep.cli.serving import servers_for
    from sweep.cli.watching import watched
    from sweep.engine.runner import run as render
    from sweep.engine.stopping import Stop, signals

    stop = Stop()
    with signals(stop), progress(show.style) as display:
        async with (
            servers_for(access.wanted(experiment), access) as servers,
            watched(display, open_page=show.view) as listener,
        ):
            return await render(experiment, servers, options=options, results=results, listener=listener, stop=stop)


def _report(summary: RunSummary, file: Path, *, quiet: bool) -> None:
    """What was done and where it is, on stdout; what a person has to know of failures, too."""
    from sweep.cli.console import complain, say
    from sweep.cli.ending import ending_lines, marginal_table

    if not quiet:
        if summary.rendered:
            marginal_table(summary.folder)
        for line in ending_lines(summary, file):
            say(line)
    if summary.error is not None:
        complain(summary.error)
