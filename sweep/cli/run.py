"""`sweep run`: render what is open of an experiment."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.cli import options as shared
from sweep.cli import run_options as own
from sweep.cli.checking import check_metrics

if TYPE_CHECKING:
    from sweep.cli.progress import Style
    from sweep.cli.serving import Access
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
    concurrency: own.Concurrency = None,
    attempts: own.Attempts = 4,
    retry_failed: own.RetryFailed = False,
    max_failures: own.MaxFailures = None,
    fuse: own.Fuse = "off",
    shard: own.Shard = None,
    priority: own.Priority = False,
    idle_only: own.IdleOnly = False,
    board: own.Board = None,
    intermediate: own.Intermediate = False,
    progress: own.Progress = "auto",
    report: own.Report = True,
    view: own.View = False,
    queue: shared.Queue = "default",
    ca_file: shared.CaFile = None,
    credentials: shared.Credentials = None,
) -> int:
    """Render every point of an experiment not rendered yet.

    Without --server the sandbox paints them. Pictures, table and report go to a folder of the experiment's name in
    --results. Run it again to resume; edit the file and only new points are rendered. Ctrl-C once finishes what is in
    flight and ends; twice cancels it.
    """
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
    access = Access.of(server, ca_file, credentials, queue)
    return rendered(experiment, access, options, Show(style=progress, view=view, report=report), results)


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

        from sweep.report.live import view_server

        known = [axis for axis in experiment.axes if axis.name not in experiment.undrawn and len(axis.levels) <= MOST]
        return partial(view_server, levels={axis.name: [level.value for level in axis.levels] for axis in known})


def rendered(experiment: Experiment, access: Access, options: RunOptions, show: Show, results: Path) -> int:
    """Render what is open of an experiment, say what came of it, and give the exit code."""
    import anyio

    from sweep.cli.loop import quickest

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
    from sweep.cli.serving import or_sandbox
    from sweep.cli.watching import watched
    from sweep.engine.runner import run as render
    from sweep.engine.stopping import Stop, signals

    stop = Stop()
    with signals(stop), progress(style) as display:
        async with (
            or_sandbox(clients) as servers,
            watched(display, page_of) as listener,
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
