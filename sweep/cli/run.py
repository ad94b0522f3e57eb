"""`sweep run`: render an experiment, then measure the images and write the report."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

import anyio
import typer

from sweep.cli import definition
from sweep.cli import options as shared
from sweep.engine import events
from sweep.errors import SweepError

if TYPE_CHECKING:
    from sweep.cli.progress import Style
    from sweep.cli.servers import Access
    from sweep.engine import Chooser, RunOptions, RunSummary
    from sweep.experiment import Experiment
    from sweep.report import LiveView
    from sweep.servers import Server
    from sweep.study import StudyJson


Concurrency: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How many items each server has in its queue at a time. Default: 2; on a server with several GPUs, "
        "2 for each.",
        show_default=False,
        metavar="N",
        rich_help_panel="Rendering",
    ),
]
Attempts: TypeAlias = Annotated[
    int,
    typer.Option(
        min=1, help="Attempts per point before it counts as failed.", metavar="N", rich_help_panel="Rendering"
    ),
]
RetryFailed: TypeAlias = Annotated[
    bool,
    typer.Option("--retry-failed", help="Try points again that failed in an earlier run.", rich_help_panel="Rendering"),
]
Verify: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Check every image file first, and render those again that are damaged.",
        rich_help_panel="Rendering",
    ),
]
Takeover: TypeAlias = Annotated[
    float,
    typer.Option(
        min=0,
        help="If a server does not answer for SECONDS, other servers render what was sent to it.",
        metavar="SECONDS",
        rich_help_panel="Rendering",
    ),
]
MaxFailures: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Stop the run when N points have failed. N is a number, or a percentage of the points "
        "done so far, such as 20%. A percentage is checked as soon as ten points are done.",
        metavar="N",
        rich_help_panel="Rendering",
    ),
]
Fuse: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Points per queue item: auto, off or a number. auto puts several small images into one item, which saves "
        "time. The workflow that the server saves in each image then makes all images of that item; use off if "
        "it should make this image only.",
        metavar="N",
        rich_help_panel="Rendering",
    ),
]
Shard: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Render one part of the grid: 2/5 is the second of five. sweep merge joins the parts.",
        metavar="K/N",
        rich_help_panel="Rendering",
    ),
]
Priority: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--priority",
        help="Put the items before others that wait in the queue of the server.",
        rich_help_panel="Servers",
    ),
]
IdleOnly: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--idle-only", help="Send nothing while items of other people are in the queue.", rich_help_panel="Servers"
    ),
]
Board: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Put the images on this board (a folder in the server's gallery). sweep creates it if it is missing.",
        metavar="NAME",
        rich_help_panel="Servers",
    ),
]
Intermediate: TypeAlias = Annotated[
    bool, typer.Option("--intermediate", help="Keep the images out of the server's gallery.", rich_help_panel="Servers")
]
With: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--with",
        help="With --on: start a server by this command on each machine of the cluster, and end it after the "
        "run. Write "
        "{port} where the port belongs; sweep puts a free one there.",
        show_default=False,
        metavar="COMMAND",
        rich_help_panel="Servers",
    ),
]
ImagesOption: TypeAlias = Annotated[
    Literal["sent", "shared"],
    typer.Option(
        help="With --on, how the images arrive: sent (over Ray), or shared (each worker writes them into the results "
        "folder, which all hosts mount at the same path).",
        metavar="HOW",
        rich_help_panel="Servers",
    ),
]
ProgressOption: TypeAlias = Annotated[
    Literal["auto", "rich", "plain", "json", "none"],
    typer.Option(
        help="How to show progress: rich (colours and bars), plain (lines), json, none, or auto.", metavar="HOW"
    ),
]
Report: TypeAlias = Annotated[
    bool, typer.Option("--report/--no-report", help="Measure the images and write report.html at the end.")
]
ViewOption: TypeAlias = Annotated[bool, typer.Option("--view", help="Open a live page that fills in as images finish.")]


PageOf: TypeAlias = Callable[[Path], AbstractAsyncContextManager["LiveView"]]


@asynccontextmanager
async def serve_page(display: events.Listener, page_of: PageOf | None) -> AsyncIterator[events.Listener]:
    """Yield a listener that passes events to `display` and, with `page_of`, serves and opens the live page.

    The page is served from the moment the run has a folder. When the run has ended, it becomes the report.
    """
    if page_of is None:
        yield display
        return
    begun: list[Path] = []
    endings: list[str] = []
    pages: list[LiveView] = []
    started = anyio.Event()

    def listen(event: events.Event) -> None:
        if isinstance(event, events.Advanced):  # for the page alone, which asks for them
            for page in pages:
                page.feed.note_step(event.key, event.share)
            return
        display(event)
        if isinstance(event, events.RunStarted):
            begun.append(Path(event.folder))
            started.set()
        elif isinstance(event, events.RunEnded):
            endings.append(event.ending)
        for page in pages:
            page.on_event(event)

    async def serve() -> None:
        await started.wait()
        async with page_of(begun[0]) as page:
            pages.append(page)
            display(events.Notice(message=f"live page: {page.url}"))
            await anyio.to_thread.run_sync(typer.launch, page.url)
            await anyio.sleep_forever()

    failure: BaseException | None = None
    async with anyio.create_task_group() as serving:
        serving.start_soon(serve)
        try:
            yield listen
            for page in pages:
                await page.finish(measure=endings[-1:] not in (["interrupted"], ["cancelled"]))
        except (SweepError, OSError, KeyboardInterrupt) as error:  # as it is, not in a group
            failure = error
        serving.cancel_scope.cancel()
    if failure is not None:
        raise failure


FIRST_LOOK = 5.0  # seconds of rendering before images are measured; a shorter run measures them all at its end


@contextmanager
def measure_meanwhile(*, wanted: bool) -> Iterator[events.Listener]:
    """Yield a listener; while it hears a run, one process of low priority measures the images that are finished.

    What is measured then takes no time at the end.
    """
    folders: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    ended = threading.Event()

    def follow() -> None:
        from sweep.study import start_follower

        folder = folders.get()
        if folder is not None and not ended.wait(FIRST_LOOK):
            process = start_follower(Path(folder))
            ended.wait()
            process.kill()
            process.communicate()

    def listen(event: events.Event) -> None:
        if isinstance(event, events.RunStarted):
            folders.put(event.folder)

    thread = threading.Thread(target=follow, daemon=True)
    if wanted:
        thread.start()
    try:
        yield listen
    finally:
        folders.put(None)
        ended.set()
        if wanted:
            thread.join()


def check_metrics(experiment: Experiment) -> None:
    """Check the metrics of `study:` and `design:`. Raises ExperimentError with the place in the file of a wrong one."""
    if not experiment.study.metrics and not experiment.design.metric:
        return
    from sweep.errors import UsageError
    from sweep.experiment import ProblemCollector
    from sweep.study import check_direction, resolve_metrics

    problems = ProblemCollector(experiment, experiment.source or experiment.name)
    for at, name in enumerate(experiment.study.metrics):
        try:
            resolve_metrics([name])
        except UsageError as error:
            problems.add_at_value(f"study.metrics.{at}", f"study.metrics: {error}")
    if experiment.design.metric:
        try:
            (metric,) = resolve_metrics([experiment.design.metric])
            check_direction(metric.name, metric.direction)
        except UsageError as error:
            problems.add_at_value("design.metric", f"design.metric: {error}")
    problems.raise_any()


def backend_options() -> dict[str, bool]:
    """Return the `backend_options` of `anyio.run`: uvloop if it is installed."""
    return {"use_uvloop": find_spec("uvloop") is not None}


def run_command(
    file: shared.ExperimentArgument,
    server: shared.Servers = None,
    axis: definition.AxisOption = None,
    image: definition.ImageOption = None,
    prompt: definition.PromptOption = None,
    input_: definition.InputOption = None,
    save: definition.SaveOption = None,
    set_: shared.Overrides = None,
    results: shared.ResultsRoot = Path("results"),
    concurrency: Concurrency = None,
    attempts: Attempts = 4,
    retry_failed: RetryFailed = False,
    verify: Verify = False,
    takeover_after: Takeover = 60.0,
    max_failures: MaxFailures = None,
    fuse: Fuse = "auto",
    shard: Shard = None,
    priority: Priority = False,
    idle_only: IdleOnly = False,
    board: Board = None,
    intermediate: Intermediate = False,
    progress: ProgressOption = "auto",
    report: Report = True,
    view: ViewOption = False,
    on: shared.OnOption = None,
    with_: With = None,
    images: ImagesOption = "sent",
    insecure: shared.InsecureRay = False,
    queue: shared.QueueOption = "default",
    ca_file: shared.CaFile = None,
    credentials: shared.CredentialsOption = None,
) -> int:
    """Render the points of an experiment that are not rendered yet.

    Without --server, the built-in sandbox paints the images. Images, table and report are written to results/NAME,
    where NAME is the name of the experiment. Run the same command again to resume. If you edit the file, only new
    points are rendered. Ctrl-C stops after the images that are being rendered; a second Ctrl-C cancels them.
    """
    from sweep.cli.console import print_notice
    from sweep.cli.servers import Access, Cluster
    from sweep.engine import FailureLimit, RunOptions, find_user_cache, parse_fusion, parse_shard
    from sweep.errors import UsageError

    typed = definition.Typed.of(axis, image, prompt, input_, save)
    cluster = Cluster.of(on, with_, insecure=insecure, shared=results if images == "shared" else None)
    access = Access.of(server, ca_file, credentials, queue, cluster)
    experiment, notice = typed.load(file, set_ or (), access, results)
    options = RunOptions(
        concurrency=concurrency,
        attempts=attempts,
        failures=FailureLimit.parse(max_failures) if max_failures else FailureLimit(),
        retry_failed=retry_failed,
        verify=verify,
        takeover_after=takeover_after,
        priority=int(priority),
        idle_only=idle_only,
        board=board or experiment.board,
        intermediate=intermediate,
        fuse=parse_fusion(fuse),
        shard=parse_shard(shard) if shard else None,
        user_cache=find_user_cache(os.environ),
        tells_steps=view,
        command=("sweep", *sys.argv[1:]),
    )
    if idle_only and queue != "default":
        raise UsageError("--idle-only does not work with --queue.", hint="Leave out one of them.")
    code = run_experiment(experiment, access, options, Display(style=progress, view=view, report=report), results)
    if notice and progress not in ("json", "none"):
        print_notice(notice)
    return code


@dataclass(frozen=True, slots=True)
class Display:
    """How to show a run: progress, live page, report at the end."""

    style: Style = "auto"
    view: bool = False
    report: bool = True

    def live_page(self) -> PageOf | None:
        """Return a page that has a cell for every point from the start.

        Its module is heavy, so it is imported before the event loop runs.
        """
        if not self.view:
            return None
        from functools import partial

        from sweep.report import open_view

        return partial(open_view, studies=False)


FEWEST_FILES: Final = 64  # open at a time: the journal, connections, images


def raise_open_file_limit() -> None:
    """Allow as many open files as the system lets us. Raises UsageError where that is too few for any run."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < FEWEST_FILES:
        from sweep.errors import UsageError

        raise UsageError(
            f"Only {wanted} files may be open at a time here, and a run needs {FEWEST_FILES}.",
            hint="Raise the limit: ulimit -n 256.",
        )


def run_experiment(experiment: Experiment, access: Access, options: RunOptions, show: Display, results: Path) -> int:
    """Render the open points of an experiment, print the result and return the exit code."""
    import anyio

    check_metrics(experiment)
    raise_open_file_limit()
    clients, page_of = access.clients(experiment), show.live_page()
    on_cluster = access.cluster is not None
    with measure_meanwhile(wanted=show.report and not on_cluster) as also:
        summary = anyio.run(
            _render, experiment, clients, options, results, show.style, page_of, also, backend_options=backend_options()
        )
    workers: Literal["ray"] | None = "ray" if on_cluster else None
    return _finish(summary, page=show.report, quiet=show.style in ("json", "none"), workers=workers)


async def _render(
    experiment: Experiment,
    clients: Sequence[Server],
    options: RunOptions,
    results: Path,
    style: Style,
    page_of: PageOf | None,
    also: events.Listener,
) -> RunSummary:
    from sweep.cli.progress import progress
    from sweep.cli.servers import or_start_sandbox
    from sweep.engine import Stop, handle_signals
    from sweep.engine import run as render

    choose: Chooser | None = None
    if experiment.design.kind == "adaptive":
        from sweep.study import choose_next_points

        choose = choose_next_points
    stop = Stop()
    with handle_signals(stop), progress(style) as display:

        def heard(event: events.Event) -> None:
            also(event)
            display(event)

        async with or_start_sandbox(clients) as servers, serve_page(heard, page_of) as listener:
            return await render(
                experiment,
                servers,
                options=options,
                results=results,
                listener=listener,
                stop=stop,
                choose=choose,
            )


def _finish(summary: RunSummary, *, page: bool, quiet: bool, workers: Literal["ray"] | None) -> int:
    """Measure new images, write the page, print the result and return the exit code."""
    import time

    from sweep.cli.console import print_error, print_line
    from sweep.cli.run_summary import ending_lines, finding_lines, headline_lines, marginal_table, print_table
    from sweep.errors import SweepError

    study: StudyJson | None = None
    problem, code = summary.error, summary.exit_code
    began = time.monotonic()
    new = bool(summary.rendered) or not (summary.folder / "report.html").is_file()
    if page and new and problem is None and summary.ending not in ("interrupted", "cancelled"):
        try:
            study = _write_page(summary, workers)
        except SweepError as error:
            problem, code = error, error.exit_code
        except KeyboardInterrupt:
            problem = SweepError(
                "Interrupted before the report was written.", hint=f"sweep report {summary.folder} writes it."
            )
            code = 130
    seconds = time.monotonic() - began if study else 0.0
    if not quiet:
        for line in (*(finding_lines(study) if study else ()), *headline_lines(summary, seconds)):
            print_line(line)
        if summary.rendered and (table := marginal_table(summary.folder, study)) is not None:
            print_line()
            print_table(table)
            print_line()
        for line in ending_lines(summary, stale=new and study is None):
            print_line(line)
    if problem is not None:
        print_error(problem)
    return code


def _write_page(summary: RunSummary, workers: Literal["ray"] | None) -> StudyJson:
    from sweep.cli.study import measure_folder
    from sweep.record import write_tables
    from sweep.report import make_report

    study = measure_folder(summary.folder, workers=workers)
    write_tables(summary.folder)
    make_report(summary.folder, study=study)
    return study.to_json()
