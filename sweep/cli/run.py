"""`sweep run`: render what is open of an experiment."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sweep.cli import options as shared

if TYPE_CHECKING:
    from sweep.cli.progress import Style
    from sweep.cli.watching import PageOf
    from sweep.engine.options import RunOptions
    from sweep.engine.summary import RunSummary
    from sweep.experiment.definition import Experiment
    from sweep.servers.base import Server
    from sweep.study.contract import StudyJson

MOST = 1000  # levels of an axis that a live page shows before they are rendered


def run(
    file: shared.ExperimentFile,
    server: shared.Servers = None,
    set_: shared.Overrides = None,
    results: shared.ResultsRoot = Path("results"),
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Items at a server at once (default: two a device).", show_default=False, metavar="N"),
    ] = None,
    attempts: Annotated[
        int, typer.Option(min=1, help="Attempts at a variation before its row says failed.", metavar="N")
    ] = 4,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try variations again that failed.")] = False,
    max_failures: Annotated[
        str | None, typer.Option(help="End the run at so many failures: a count, or a share such as 20%.", metavar="N")
    ] = None,
    fuse: Annotated[
        str,
        typer.Option(
            help="Variations sent as one item: off, auto (as many as pay) or a number. "
            "Faster for quick models; each picture's own graph then shows its neighbours, too.",
            metavar="N",
        ),
    ] = "off",
    shard: Annotated[
        str | None, typer.Option(help="Only this part of the grid: 2/5 is the second of five.", metavar="K/N")
    ] = None,
    priority: Annotated[bool, typer.Option("--priority", help="Go ahead of what is pending on the server.")] = False,
    idle_only: Annotated[bool, typer.Option("--idle-only", help="Wait while other people's items are queued.")] = False,
    board: Annotated[
        str | None,
        typer.Option(help="Put the pictures on this board of the server; made where it is missing.", metavar="NAME"),
    ] = None,
    intermediate: Annotated[
        bool, typer.Option("--intermediate", help="Keep the pictures out of the server's gallery.")
    ] = False,
    progress: Annotated[
        Literal["auto", "rich", "plain", "json", "none"],
        typer.Option(help="How progress is shown: auto, rich, plain, json or none.", metavar="HOW"),
    ] = "auto",
    page: Annotated[
        bool, typer.Option("--report/--no-report", help="Measure the pictures and write report.html at the end.")
    ] = True,
    view: Annotated[bool, typer.Option("--view", help="Open a page that shows pictures as they arrive.")] = False,
    queue: shared.Queue = "default",
    ca_file: shared.CaFile = None,
    credentials: shared.Credentials = None,
) -> int:
    """Render every point of an experiment not rendered yet.

    Without --server the sandbox paints them. Pictures, table and report go to a folder of the experiment's name in
    --results. Run it again to resume; edit the file and only new points are rendered. Ctrl-C once finishes what is in
    flight and ends; twice cancels it.
    """
    import anyio

    from sweep.cli.loop import quickest
    from sweep.cli.serving import Access
    from sweep.engine.options import FailureLimit, RunOptions, parse_fusion, parse_shard
    from sweep.errors import UsageError
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
    if idle_only and queue != "default":
        raise UsageError("--idle-only looks at one queue only.", hint="Leave out --queue.")
    clients = Access.of(server, ca_file, credentials, queue).clients(experiment)
    show = _Show(style=progress, page_of=_live_page(experiment) if view else None)
    summary = anyio.run(_render, experiment, clients, options, results, show, backend_options=quickest())
    return _finish(summary, page=page, quiet=progress in ("json", "none"))


@dataclass(frozen=True, slots=True)
class _Show:
    """How a run is shown while it goes on."""

    style: Style
    page_of: PageOf | None


def _live_page(experiment: Experiment) -> PageOf:
    """A page with a cell for every point from the start. Imported before the loop runs: it is heavy."""
    from functools import partial

    from sweep.report.live import view_server

    known = [axis for axis in experiment.axes if axis.name not in experiment.undrawn and len(axis.levels) <= MOST]
    return partial(view_server, levels={axis.name: [level.value for level in axis.levels] for axis in known})


async def _render(
    experiment: Experiment, clients: Sequence[Server], options: RunOptions, results: Path, show: _Show
) -> RunSummary:
    from sweep.cli.progress import progress
    from sweep.cli.serving import or_sandbox
    from sweep.cli.watching import watched
    from sweep.engine.runner import run as render
    from sweep.engine.stopping import Stop, signals

    stop = Stop()
    with signals(stop), progress(show.style) as display:
        async with (
            or_sandbox(clients) as servers,
            watched(display, show.page_of) as listener,
        ):
            return await render(experiment, servers, options=options, results=results, listener=listener, stop=stop)


def _finish(summary: RunSummary, *, page: bool, quiet: bool) -> int:
    """Measure and make the page where anything is new, say what was done, and give the exit code."""
    from sweep.cli.console import complain, say
    from sweep.cli.ending import ending_lines, finding_lines, marginal_table, show_table
    from sweep.errors import SweepError

    study: StudyJson | None = None
    fault, code = summary.error, summary.exit_code
    new = bool(summary.rendered) or not (summary.folder / "report.html").is_file()
    if page and new and fault is None and summary.ending not in ("interrupted", "cancelled"):
        try:
            study = _page(summary)
        except SweepError as error:
            fault, code = error, error.exit_code
        except KeyboardInterrupt:
            fault = SweepError(
                "Interrupted before the report was made.", hint=f"sweep report {summary.folder} makes it."
            )
            code = 130
    if not quiet:
        if summary.rendered and (table := marginal_table(summary.folder, study)) is not None:
            show_table(table)
            say()
        for line in (*(finding_lines(study) if study else ()), *ending_lines(summary, stale=new and study is None)):
            say(line)
    if fault is not None:
        complain(fault)
    return code


def _page(summary: RunSummary) -> StudyJson:
    from sweep.cli.study import measured_study
    from sweep.record.table import write_tables
    from sweep.report.making import report

    study = measured_study(summary.folder)
    write_tables(summary.folder)
    report(summary.folder, study=study)
    return study.to_json()
