"""The pages and sheets of a run: report, view, compare and sheet."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer

from sweep import record, report
from sweep.cli.console import MeasuringBar, print_line
from sweep.cli.shared_options import (
    ChosenRun,
    OpenOption,
    ResultsRoot,
    complete_axis,
    complete_metric,
    locate_run,
    output_option,
    parse_assignments,
    run_argument,
)
from sweep.cli.study import update_tables
from sweep.errors import UsageError


def report_command(
    chosen: ChosenRun,
    output: Annotated[Path | None, output_option(show_default="report.html in the folder")] = None,
    embed: Annotated[bool, typer.Option("--embed")] = False,
    bundle: Annotated[Path | None, typer.Option(metavar="ZIP")] = None,
    open_: OpenOption = False,
) -> None:
    """Write the report of a run.

    The report is one page to explore the grid; it works offline. Images that are not measured yet are measured first.

    Args:
        output: The page to write.
        embed: Put the original images into the page: it can be mailed as it is.
        bundle: Also write a zip file: the page, its images, the table.
    """
    from sweep.study import make_study

    folder = chosen.folder()
    if embed:
        print_line(f"The page will hold {report.describe_embedding(folder)}.")
    with MeasuringBar() as count:
        page = report.make_report(folder, out=output, progress=count, originals=embed)
    print_line(str(page))
    record.RecordedResults.open(folder).counts()  # raises if it is damaged: the page says so, and the exit code too
    update_tables(folder)
    if bundle is not None:
        print_line(str(report.write_bundle(folder, bundle, study=make_study(folder).to_json())))
    if open_:
        typer.launch(page.resolve().as_uri())


def view(
    run: Annotated[str | None, run_argument()] = None,
    host: Annotated[str, typer.Option(metavar="HOST")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N")] = 0,
    open_: OpenOption = False,
    results: ResultsRoot = Path("results"),
) -> None:
    """Serve the report of a run, or a list of all runs.

    Ratings and choices made on the page are kept in the results folder. Only this machine can open the page, unless
    --host says otherwise. Ctrl-C ends the server.

    Args:
        run: A results folder, or its name in --results. Without it: all of --results.
        host: Address to listen at. With 0.0.0.0, any machine can open the page by its address.
        port: Port on this machine; 0 picks a free one.
    """

    def opened(url: str) -> None:
        print_line(url)
        if open_:
            typer.launch(url)

    folder = results if run is None else locate_run(run, results)
    if run is None and not results.is_dir():
        raise UsageError(f"There is no folder {results}.", hint="Run an experiment first, or give --results.")

    serve = partial(report.serve_view, folder, host=host, port=port, opened=opened, all_runs=run is None)
    try:
        anyio.run(serve)
    except OSError as error:
        hint = "Choose another --port." if error.errno == errno.EADDRINUSE else "Choose another --host."
        reason = "no such host" if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise UsageError(f"{host}:{port} cannot be used ({reason}).", hint=hint) from error


def compare(
    run_a: Annotated[str, run_argument("BEFORE")],
    run_b: Annotated[str, run_argument("AFTER")],
    output: Annotated[Path | None, output_option(show_default="beside the second run")] = None,
    open_: OpenOption = False,
    results: ResultsRoot = Path("results"),
) -> None:
    """Compare two runs point by point.

    Prints what changed and what is missing, and writes a page with both runs side by side.

    Args:
        run_a: The results folder of the earlier run, or its name in --results.
        run_b: The results folder of the later run.
        output: The page to write.
    """
    found = report.compare_runs(locate_run(run_a, results), locate_run(run_b, results), out=output)
    for sentence in found.words:
        print_line(sentence)
    here = Path.cwd()
    print_line(str(found.page.relative_to(here) if found.page.is_relative_to(here) else found.page))
    if open_:
        typer.launch(found.page.resolve().as_uri())


_axis_option = partial(typer.Option, metavar="AXIS", autocompletion=complete_axis)


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetLayout:
    """The axes of a sheet: two across and down, or one that an animation or a strip runs along.

    Attributes:
        x: Axis of the columns.
        y: Axis of the rows.
        animate: Write a GIF or WebP that steps along this axis instead.
        filmstrip: Write a strip with the median image of each level of this axis instead.
    """

    x: Annotated[str | None, _axis_option("--x")] = None
    y: Annotated[str | None, _axis_option("--y")] = None
    animate: Annotated[str | None, _axis_option()] = None
    filmstrip: Annotated[str | None, _axis_option()] = None

    def __post_init__(self) -> None:
        kinds = (self.x or self.y, self.animate, self.filmstrip)
        if sum(axis is not None for axis in kinds) > 1:
            raise UsageError("A sheet takes only one of --x, --animate and --filmstrip.")


def sheet(
    chosen: ChosenRun,
    layout: SheetLayout,
    fixed: Annotated[list[str] | None, typer.Option("--fix", metavar="AXIS=VALUE")] = None,
    metric: Annotated[str | None, typer.Option(metavar="NAME", autocompletion=complete_metric)] = None,
    size: Annotated[int, typer.Option(min=16, max=4096, metavar="N")] = 256,
    output: Annotated[Path | None, output_option()] = None,
) -> None:
    """Put images of a run on one sheet.

    Rows and columns are two axes, with their values as labels. Or write an animation or a strip along one axis.

    Args:
        fixed: Level of another axis (default: its first). Repeat for more axes.
        metric: Metric that decides which image is the median.
        size: Width of an image in pixels.
        output: The file to write; the ending decides the format: png, jpg, webp, gif.
    """
    folder, along = chosen.folder(), layout.animate or layout.filmstrip or ""
    levels = parse_assignments(fixed, "--fix")
    if layout.animate is not None:
        written = [report.write_animation(folder, along, fixed=levels, size=size, out=output)]
    elif layout.filmstrip is not None:
        written = [report.write_filmstrip(folder, along, metric=metric, size=size, out=output)]
    else:
        written = report.write_sheet(folder, x=layout.x, y=layout.y, fixed=levels, size=size, out=output)
    for path in written:
        print_line(str(path))
