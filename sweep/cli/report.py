"""`sweep report`, `sweep view`, `sweep compare`: pages to compare images on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sweep.cli import options as shared

Open = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]


def report_command(
    run: shared.RunArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The page to write.", show_default="report.html in the folder", metavar="FILE"
        ),
    ] = None,
    open_: Open = False,
    results: shared.ResultsRoot = Path("results"),
) -> None:
    """Write the report of a run.

    The report is one page to explore the grid; it works offline. Images that are not measured yet are measured first.
    """
    from sweep.cli.console import CountBar, print_line
    from sweep.cli.options import find_run
    from sweep.cli.study import update_tables
    from sweep.record import RecordedResults
    from sweep.report import make_report as make

    folder = find_run(run, results)
    with CountBar("measuring") as count:
        page = make(folder, out=output, progress=count)
    print_line(str(page))
    RecordedResults.open(
        folder
    ).counts()  # raises if the journal is damaged: the page says so, and so does the exit code
    update_tables(folder, elsewhere=output is not None)
    if open_:
        typer.launch(page.resolve().as_uri())


def view(
    run: shared.RunArgument,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on this machine; 0 picks a free one.", metavar="N")
    ] = 0,
    open_: Open = False,
    results: shared.ResultsRoot = Path("results"),
) -> None:
    """Serve the report; new images appear while a run goes on.

    Only this machine can open the page. Ctrl-C ends the server.
    """
    import anyio

    from sweep.cli.console import print_line
    from sweep.cli.options import find_run
    from sweep.errors import UsageError
    from sweep.report import serve_view

    def opened(url: str) -> None:
        print_line(url)
        if open_:
            typer.launch(url)

    folder = find_run(run, results)

    async def serve() -> None:
        await serve_view(folder, port=port, opened=opened)

    try:
        anyio.run(serve)
    except OSError as error:
        raise UsageError(
            f"Port {port} cannot be used ({os.strerror(error.errno or 0)}).", hint="Choose another --port."
        ) from error


def compare(
    run_a: Annotated[
        str,
        typer.Argument(
            help="The earlier run.", show_default=False, metavar="BEFORE", autocompletion=shared.complete_run
        ),
    ],
    run_b: Annotated[
        str,
        typer.Argument(help="The later run.", show_default=False, metavar="AFTER", autocompletion=shared.complete_run),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page to write.", show_default="beside the second run", metavar="FILE"),
    ] = None,
    open_: Open = False,
    results: shared.ResultsRoot = Path("results"),
) -> None:
    """Compare two runs point by point.

    Prints what changed and what is missing, and writes a page with both runs side by side.
    """
    from sweep.cli.console import print_line, relative_path
    from sweep.cli.options import find_run
    from sweep.report import compare_runs

    found = compare_runs(find_run(run_a, results), find_run(run_b, results), out=output)
    for sentence in found.words:
        print_line(sentence)
    print_line(relative_path(found.page))
    if open_:
        typer.launch(found.page.resolve().as_uri())
