"""`sweep run`: render an experiment, measure the images, write the report and print the result."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

import anyio
import typer

from sweep import engine, record, report, servers, study
from sweep.cli.console import MeasuringBar, print_error, print_line, print_notice, print_table
from sweep.cli.run_display import Style, build_marginal_table, progress, write_ending, write_findings, write_headline
from sweep.cli.shared_options import Access, ExperimentOptions, InsecureRay, OnOption, server_option, write_continuation
from sweep.cli.study import check_metrics
from sweep.engine import events
from sweep.errors import DefinitionError, PlanError, ServerUnreachableError, SweepError, UsageError
from sweep.text import quote_argument

if TYPE_CHECKING:
    from sweep.experiment import Experiment
    from sweep.servers import Server

OpenPage: TypeAlias = "Callable[[], AbstractAsyncContextManager[report.LiveView]]"


_rendering_option = partial(typer.Option, rich_help_panel="Rendering")


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderingOptions:
    """Options about rendering: attempts, limits, fusion, shards, and the place of items and images on the server.

    Attributes:
        concurrency: How many items (queue entries) of this run a server has at a time, including the one that it
            renders. Default: 2 for each of its GPUs.
        attempts: How often a point is tried, over all runs, before it counts as failed.
        retry_failed: Try the points again that failed in an earlier run. Without this option they are left out.
        verify: Check every image file first, and render damaged images again.
        takeover_after: If a server does not answer for SECONDS, other servers render what was sent to it.
        max_failures: Stop the run when N points have failed. N can also be a percentage, such as 20%, of the points
            that have completed or failed. A percentage is checked only when at least ten points have completed or
            failed. With or without this option, a run stops when ten points in a row fail with the same error.
        fuse: Points per queue item: auto, off or a number. auto puts several small images into one item, which saves
            time. Each image file contains the workflow that made it. If an item makes several images, running this
            workflow in the server's editor makes all of them. With off, an item has one point.
        shard: Render one part of the grid: 2/5 is the second of five. sweep merge joins the parts.
        priority: Put the items of this run ahead of others that wait in the server's queue.
        idle_only: Send nothing while items of other people are in the queue.
        board: Put the images on this board (a folder in InvokeAI's gallery). sweep creates it if it is missing.
        intermediate: Keep the images out of InvokeAI's gallery.
    """

    concurrency: Annotated[int | None, _rendering_option(min=1, metavar="N")] = None
    attempts: Annotated[int, _rendering_option(min=1, metavar="N")] = 4
    retry_failed: Annotated[bool, _rendering_option("--retry-failed")] = False
    verify: Annotated[bool, _rendering_option("--verify")] = False
    takeover_after: Annotated[float, _rendering_option(min=0, metavar="SECONDS")] = 60.0
    max_failures: Annotated[str | None, _rendering_option(metavar="N")] = None
    fuse: Annotated[str, _rendering_option(metavar="N")] = "auto"
    shard: Annotated[str | None, _rendering_option(metavar="K/N")] = None
    priority: Annotated[bool, server_option("--priority")] = False
    idle_only: Annotated[bool, server_option("--idle-only")] = False
    board: Annotated[str | None, server_option(metavar="NAME")] = None
    intermediate: Annotated[bool, server_option("--intermediate")] = False

    def make_run_options(self, experiment: Experiment, *, tells_steps: bool) -> engine.RunOptions:
        """Return the options of the engine. Raises UsageError for a wrong value."""
        given = asdict(self)
        limit = given.pop("max_failures")
        parsed = {
            "failures": engine.FailureLimit.parse(limit) if limit else engine.FailureLimit(),
            "fuse": engine.parse_fusion(self.fuse),
            "shard": engine.parse_shard(self.shard) if self.shard else None,
            "priority": int(self.priority),
            "board": self.board or experiment.board,
        }
        return engine.RunOptions(
            **{**given, **parsed},
            user_cache=engine.find_user_cache(os.environ),
            tells_steps=tells_steps,
            command=("sweep", *sys.argv[1:]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAccess(Access):
    """Options of a run that reach servers: addresses, a queue, and a Ray cluster.

    Attributes:
        with_: With --on: a command that starts a server, such as "python main.py --port {port}". On each machine of the
            cluster, sweep chooses a free port, starts such a server, and ends it after the run. Do not run the command
            sweep worker on these machines as well.
        images: With --on, how the images arrive: sent (over Ray), or shared (each machine writes them into the results
            folder, which all hosts mount at the same path).
    """

    on: OnOption = None
    with_: Annotated[str | None, server_option("--with", metavar="COMMAND")] = None
    images: Annotated[Literal["sent", "shared"], server_option(metavar="HOW")] = "sent"
    insecure: InsecureRay = False
    queue: Annotated[str, server_option(metavar="NAME")] = "default"

    def __post_init__(self) -> None:
        if self.on is not None:
            servers.parse_cluster_address(self.on)
        elif self.with_:
            raise UsageError("--with needs --on ray.", hint="Without a cluster, start the server yourself.")
        elif self.images == "shared":
            raise UsageError("--images shared needs --on ray.", hint="Without a cluster, sweep writes all images.")

    def start_or_find_servers(self, results: Path) -> Sequence[Server]:
        """Join the cluster of --on and return its servers; start them where there is a command. None without --on."""
        if self.on is None:
            return ()
        servers.join_cluster(servers.parse_cluster_address(self.on))
        shared = results if self.images == "shared" else None
        if self.with_:
            return servers.start_servers(self.with_, self.make_agent_settings(insecure=self.insecure), shared)
        agents = servers.list_agents()
        if not agents:
            hint = "Run sweep worker --server URL on each host that has a server."
            raise ServerUnreachableError("The cluster has no agents.", hint=hint)
        return servers.find_servers(agents, insecure=self.insecure, shared=shared)


ProgressOption: TypeAlias = Annotated[
    Style,
    typer.Option(
        help="How to show progress: rich (bars), plain (lines), json, none, or auto (rich in a terminal, else plain).",
        metavar="HOW",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """Options about display: progress, live page, and report at the end.

    Attributes:
        report: Measure the images and write report.html at the end.
        view: Open a live page that fills in as images finish.
    """

    progress: ProgressOption = "auto"
    report: Annotated[bool, typer.Option("--report/--no-report")] = True
    view: Annotated[bool, typer.Option("--view")] = False

    @property
    def is_quiet(self) -> bool:
        """Tell whether only the progress, or nothing, goes to stdout."""
        return self.progress in ("json", "none")


@asynccontextmanager
async def serve_page(display: events.Listener, open_page: OpenPage | None) -> AsyncIterator[events.Listener]:
    """Yield a listener that passes events to `display` and, with `open_page`, serves and shows the live page.

    The page is served from the moment the run has a folder. When the run has ended, it becomes the report.
    """
    if open_page is None:
        yield display
        return
    endings: list[str] = []
    pages: list[report.LiveView] = []
    started = anyio.Event()

    def listen(event: events.Event) -> None:
        if isinstance(event, events.Advanced):  # only the page asks for these
            for page in pages:
                page.feed.note_step(event.key, event.share)
            return
        display(event)
        if isinstance(event, events.RunStarted):
            started.set()
        elif isinstance(event, events.RunEnded):
            endings.append(event.ending)
        for page in pages:
            page.feed.wake()

    async def serve() -> None:
        await started.wait()
        async with open_page() as page:
            pages.append(page)
            display(events.Notice(message=f"live page: {page.url}"))
            await anyio.to_thread.run_sync(typer.launch, page.url)
            await anyio.sleep_forever()

    async with engine.open_task_group() as serving:
        serving.start_soon(serve)
        yield listen
        for page in pages:
            await page.finish(measure=not {"interrupted", "cancelled"}.intersection(endings))
        serving.cancel_scope.cancel()


PAINTED: Final = "This was checked with the sandbox. To check it with your own server, add --server URL."


def hint_at_server(error: DefinitionError, hint: str) -> None:
    """Add a hint how to ask one's own server to an error that has none, unless every server has these problems."""
    if not error.problems or not all(problem.is_universal for problem in error.problems):
        error.hint = error.hint or hint


FIRST_LOOK = 5.0  # seconds of rendering before images are measured; a shorter run measures them all at its end


@contextmanager
def measure_meanwhile(folder: Path, display: events.Listener) -> Iterator[events.Listener]:
    """Measure finished images while the run in `folder` goes on, in one process of low priority.

    These take no time at the end. Yields the listener of the run, which passes events to `display`.
    """
    processes: list[subprocess.Popen[bytes]] = []
    timer = threading.Timer(FIRST_LOOK, lambda: processes.append(study.start_follower(folder)))
    timer.daemon = True

    def listen(event: events.Event) -> None:
        if isinstance(event, events.RunStarted):
            timer.start()
        display(event)

    try:
        yield listen
    finally:
        timer.cancel()
        if timer.is_alive():  # it is starting the process
            timer.join()
        for process in processes:
            process.kill()
            process.communicate()


def choose_backend() -> dict[str, bool]:
    """Return the `backend_options` of `anyio.run`: uvloop if it is installed."""
    return {"use_uvloop": find_spec("uvloop") is not None}


def run_command(typed: ExperimentOptions, access: RunAccess, rendering: RenderingOptions, display: Display) -> int:
    """Render the images that an experiment still lacks.

    Without --server and --on, the built-in sandbox paints the images. Images, table and report are written to
    results/NAME. NAME is the name of the experiment. If FILE is a workflow, NAME is the name of the source image (or
    else of the workflow) with the date. Run the same command again to resume. If NAME contains the date, this works
    only on the same day. If you edit the file, finished images that the change does not affect are not rendered again.
    Ctrl-C sends nothing more and waits for what was sent, a second Ctrl-C cancels that, a third one ends at once.
    """
    experiment, notice = typed.load(access)
    options = rendering.make_run_options(experiment, tells_steps=display.view)
    if options.idle_only and access.queue != "default":
        raise UsageError("--idle-only does not work with --queue.", hint="Leave out one of them.")
    code = run_experiment(experiment, access, options, display, typed.results)
    if notice and typed.save is None:
        notice = f"To continue this run on another day: {write_continuation(typed.results / experiment.name)}"
    if rendering.shard:
        notice = f"This was part {rendering.shard} of the grid. sweep merge joins the parts."
    if notice and not display.is_quiet:
        print_notice(notice)
    return code


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
        raise UsageError(
            f"Only {wanted} files may be open at a time here, and a run needs {FEWEST_FILES}.",
            hint="Raise the limit: ulimit -n 256.",
        )


def search_garbage_less_often() -> None:
    """Make the interpreter look less often for objects that hold each other: with 200 servers, 6 % of a run's time."""
    gc.set_threshold(5000, 20, 20)


def run_experiment(
    experiment: Experiment, access: Access, options: engine.RunOptions, display: Display, results: Path
) -> int:
    """Render the open points of an experiment, print the result and return the exit code."""
    check_metrics(experiment)
    raise_open_file_limit()
    search_garbage_less_often()
    in_cluster = access.start_or_find_servers(results) if isinstance(access, RunAccess) else ()
    clients = (*access.make_clients(() if in_cluster else experiment.servers), *in_cluster)
    folder = results / experiment.name
    open_page = partial(report.open_view, folder, studies=False) if display.view else None  # imported before the loop
    is_measuring = display.report and not in_cluster
    with (
        progress(display.progress) as shown,
        measure_meanwhile(folder, shown) if is_measuring else nullcontext(shown) as listener,
    ):
        render = partial(_render, experiment, clients, options, results, listener, open_page)
        try:
            summary = anyio.run(render, backend_options=choose_backend())
        except PlanError as error:
            if not clients:
                hint_at_server(error, PAINTED)
            raise
    return _finish(summary, page=display.report, quiet=display.is_quiet, workers="ray" if in_cluster else None)


def was_painted(folder: Path) -> bool:
    """Return whether the last run used only the sandbox; not if there was no run."""
    runs = record.RecordedResults.open(folder).runs()
    servers = runs[-1].facts.servers if runs else ()
    return bool(servers) and all(server.get("sandbox") == "true" for server in servers)


def render_open(folder: Path, access: Access, display: Display) -> int:
    """Render the open points of the experiment into its folder."""
    from sweep.experiment import Experiment

    experiment = Experiment.load(folder / "experiment.yaml", [f"name={json.dumps(folder.name)}"])
    options = engine.RunOptions(board=experiment.board, command=("sweep", *sys.argv[1:]))
    return run_experiment(experiment, access, options, display, folder.parent)


async def _render(
    experiment: Experiment,
    clients: Sequence[Server],
    options: engine.RunOptions,
    results: Path,
    display: events.Listener,
    open_page: OpenPage | None,
) -> engine.RunSummary:
    """Render with these clients, or with a sandbox that is there for this run only."""
    choose = study.choose_next_points if experiment.design.kind == "adaptive" else None
    stop = engine.Stop()
    with engine.handle_signals(stop):
        async with AsyncExitStack() as held:
            if not clients:
                from sweep.sandbox import sandbox_server

                sandbox = await held.enter_async_context(sandbox_server())
                clients = [servers.connect(sandbox.url, servers.ConnectOptions(name="sandbox"))]  # not by its port
            listener = await held.enter_async_context(serve_page(display, open_page))
            return await engine.run(
                experiment, clients, options=options, results=results, listener=listener, stop=stop, choose=choose
            )


def _finish(summary: engine.RunSummary, *, page: bool, quiet: bool, workers: Literal["ray"] | None) -> int:
    found: study.StudyJson | None = None
    problem, code = summary.error, summary.exit_code
    began = time.monotonic()
    new = bool(summary.rendered) or not (summary.folder / "report.html").is_file()
    if page and new and problem is None and summary.ending not in ("interrupted", "cancelled"):
        try:
            with MeasuringBar() as count:
                made = study.make_study(summary.folder, progress=count, workers=workers)
            record.write_tables(summary.folder)
            report.make_report(summary.folder, study=made)
            found = made.to_json()
        except SweepError as error:
            problem, code = error, error.exit_code
        except KeyboardInterrupt:
            hint = f"sweep report {quote_argument(summary.folder)} writes it."
            problem = SweepError("Interrupted before the report was written.", hint=hint)
            code = 130
    seconds = time.monotonic() - began if found else 0.0
    if not quiet:
        for line in (*(write_findings(found) if found else ()), *write_headline(summary, seconds)):
            print_line(line)
        is_summed = summary.rendered and summary.ending != "record-broken"  # the folder may be gone then
        if is_summed and (table := build_marginal_table(summary.folder, found)) is not None:
            print_line()
            print_table(table)
            print_line()
        for line in write_ending(summary, stale=new and found is None):
            print_line(line)
    if problem is not None:
        print_error(problem)
    return code
