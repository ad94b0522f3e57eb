"""Sweep run."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import anyio
import typer

from sweep.cli import options as shared
from sweep.engine import events
from sweep.errors import SweepError

if TYPE_CHECKING:
    from sweep.cli.progress import Style
    from sweep.cli.servers import Access
    from sweep.engine import RunOptions, RunSummary
    from sweep.experiment import Experiment
    from sweep.report import LiveView
    from sweep.servers import Server
    from sweep.study import StudyJson


Concurrency: TypeAlias = Annotated[
    int | None,
    typer.Option(min=1, help="Items at a server at once (default: two a device).", show_default=False, metavar="N"),
]
Attempts: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Attempts at a variation before its row says failed.", metavar="N")
]
RetryFailed: TypeAlias = Annotated[bool, typer.Option("--retry-failed", help="Try variations again that failed.")]
MaxFailures: TypeAlias = Annotated[
    str | None, typer.Option(help="End the run at so many failures: a count, or a share such as 20%.", metavar="N")
]
Fuse: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Variations sent as one item: off, auto (as many as pay) or a number. "
        "Faster for quick models; each image's own graph then shows its neighbours, too.",
        metavar="N",
    ),
]
Shard: TypeAlias = Annotated[
    str | None, typer.Option(help="Only this part of the grid: 2/5 is the second of five.", metavar="K/N")
]
Priority: TypeAlias = Annotated[bool, typer.Option("--priority", help="Go ahead of what is pending on the server.")]
IdleOnly: TypeAlias = Annotated[bool, typer.Option("--idle-only", help="Wait while other people's items are queued.")]
Board: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Put the images on this board of the server; made where it is missing.", metavar="NAME"),
]
Intermediate: TypeAlias = Annotated[
    bool, typer.Option("--intermediate", help="Keep the images out of the server's gallery.")
]
ProgressOption: TypeAlias = Annotated[
    Literal["auto", "rich", "plain", "json", "none"],
    typer.Option(help="How progress is shown: auto, rich, plain, json or none.", metavar="HOW"),
]
Report: TypeAlias = Annotated[
    bool, typer.Option("--report/--no-report", help="Measure the images and write report.html at the end.")
]
ViewOption: TypeAlias = Annotated[bool, typer.Option("--view", help="Open a page that shows images as they arrive.")]


PageOf: TypeAlias = Callable[[Path], AbstractAsyncContextManager["LiveView"]]


@asynccontextmanager
async def watched(display: events.Listener, page_of: PageOf | None) -> AsyncIterator[events.Listener]:
    """A listener that passes events on to `display` and, with `page_of`, serves and opens the live page.

    The page is served from the moment the run has a folder until the block ends.
    """
    if page_of is None:
        yield display
        return
    begun: list[Path] = []
    started = anyio.Event()
    heard: list[events.Listener] = []

    def listen(event: events.Event) -> None:
        display(event)
        if isinstance(event, events.RunStarted):
            begun.append(Path(event.folder))
            started.set()
        for listener in heard:
            listener(event)

    async def serve() -> None:
        await started.wait()
        async with page_of(begun[0]) as page:
            heard.append(page.heard)
            display(events.Notice(message=f"live at {page.url}"))
            await anyio.to_thread.run_sync(typer.launch, page.url)
            await anyio.sleep_forever()

    failure: BaseException | None = None
    async with anyio.create_task_group() as serving:
        serving.start_soon(serve)
        try:
            yield listen
        except (SweepError, OSError, KeyboardInterrupt) as error:  # as it is, not in a group
            failure = error
        serving.cancel_scope.cancel()
    if failure is not None:
        raise failure


def check_metrics(experiment: Experiment) -> None:
    """Raises ExperimentError, with the place in the file, where `study: {metrics: …}` names none that is known here."""
    if not experiment.study.metrics:
        return
    from sweep.errors import ExperimentError, Problem, UsageError
    from sweep.study import resolve

    problems = []
    for at, name in enumerate(experiment.study.metrics):
        try:
            resolve([name])
        except UsageError as error:
            line, column = experiment.where_value_is(f"study.metrics.{at}") or (None, None)
            problems.append(Problem(message=f"study.metrics: {error}", line=line, column=column))
    if problems:
        raise ExperimentError.of(problems, experiment.source or experiment.name)


def quickest() -> dict[str, bool]:
    """What `anyio.run` is to be given as `backend_options`."""
    return {"use_uvloop": find_spec("uvloop") is not None}


_MOST = 1000  # levels of an axis that a live page shows before they are rendered


def run_command(
    file: shared.ExperimentArgument,
    server: shared.Servers = None,
    set_: shared.Overrides = None,
    results: shared.ResultsRoot = Path("results"),
    concurrency: Concurrency = None,
    attempts: Attempts = 4,
    retry_failed: RetryFailed = False,
    max_failures: MaxFailures = None,
    fuse: Fuse = "off",
    shard: Shard = None,
    priority: Priority = False,
    idle_only: IdleOnly = False,
    board: Board = None,
    intermediate: Intermediate = False,
    progress: ProgressOption = "auto",
    report: Report = True,
    view: ViewOption = False,
    queue: shared.QueueOption = "default",
    ca_file: shared.CaFile = None,
    credentials: shared.CredentialsOption = None,
) -> int:
    """Render every point of an experiment not rendered yet.

    Without --server the sandbox paints them. Images, table and report go to a folder of the experiment's name in
    --results. Run it again to resume; edit the file and only new points are rendered. Ctrl-C once finishes what is in
    flight and ends; twice cancels it.
    """
    from sweep.cli.servers import Access
    from sweep.engine import FailureLimit, RunOptions, parse_fusion, parse_shard
    from sweep.errors import UsageError
    from sweep.experiment import Experiment

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
    access = Access.of(server, ca_file, credentials, queue)
    return render_alone(experiment, access, options, Show(style=progress, view=view, report=report), results)


@dataclass(frozen=True, slots=True)
class Show:
    """How a run is shown: while it goes on, on a live page, and by a report at its end."""

    style: Style = "auto"
    view: bool = False
    report: bool = True

    def live_page(self, experiment: Experiment) -> PageOf | None:
        """A page with a cell for every point from the start. Imported before the loop runs: it is heavy."""
        if not self.view:
            return None
        from functools import partial

        from sweep.report import open_view

        known = [axis for axis in experiment.axes if axis.name not in experiment.undrawn and len(axis.levels) <= _MOST]
        return partial(open_view, levels={axis.name: [level.value for level in axis.levels] for axis in known})


def render_alone(experiment: Experiment, access: Access, options: RunOptions, show: Show, results: Path) -> int:
    """Render what is open of an experiment, say what came of it, and give the exit code."""
    import anyio

    check_metrics(experiment)
    clients, page_of = access.clients(experiment), show.live_page(experiment)
    summary = anyio.run(_render, experiment, clients, options, results, show.style, page_of, backend_options=quickest())
    return _finish(summary, page=show.report, quiet=show.style in ("json", "none"))


async def _render(
    experiment: Experiment,
    clients: Sequence[Server],
    options: RunOptions,
    results: Path,
    style: Style,
    page_of: PageOf | None,
) -> RunSummary:
    from sweep.cli.progress import progress
    from sweep.cli.servers import or_sandbox
    from sweep.engine import Stop, handle_signals
    from sweep.engine import run as render

    stop = Stop()
    with handle_signals(stop), progress(style) as display:
        async with (
            or_sandbox(clients) as servers,
            watched(display, page_of) as listener,
        ):
            return await render(experiment, servers, options=options, results=results, listener=listener, stop=stop)


def _finish(summary: RunSummary, *, page: bool, quiet: bool) -> int:
    """Measure and make the page where anything is new, say what was done, and give the exit code."""
    from sweep.cli.console import complain, say
    from sweep.cli.run_summary import ending_lines, finding_lines, marginal_table, show_table
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
    from sweep.record import write_tables
    from sweep.report import make_report

    study = measured_study(summary.folder)
    write_tables(summary.folder)
    make_report(summary.folder, study=study)
    return study.to_json()
