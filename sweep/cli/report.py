"""`sweep report`, `sweep view`, `sweep compare`: the images side by side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sweep.cli import options as shared

Open = Annotated[bool, typer.Option("--open", help="Open it in the browser.")]


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
    """Write the comparison report of a run.

    One page to explore the grid, that works offline. Images not measured yet are measured first.
    """
    from sweep.cli.console import counting, say
    from sweep.cli.options import results_folder
    from sweep.record import RecordedResults, write_tables
    from sweep.report import make_report as make

    folder = results_folder(run, results)
    with counting("measuring") as count:
        page = make(folder, out=output, progress=count)
    say(str(page))
    RecordedResults.open(folder).counts()  # the page says what is damaged, and so does the exit code
    write_tables(folder)
    if open_:
        typer.launch(page.resolve().as_uri())


def view(
    run: shared.RunArgument,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.", metavar="N")
    ] = 0,
    open_: Open = False,
    results: shared.ResultsRoot = Path("results"),
) -> None:
    """Serve the report, with images as they arrive.

    Only this machine can see it. Ctrl-C ends it.
    """
    import anyio

    from sweep.cli.console import say
    from sweep.cli.options import results_folder
    from sweep.errors import UsageError
    from sweep.report import serve_view

    def opened(url: str) -> None:
        say(url)
        if open_:
            typer.launch(url)

    folder = results_folder(run, results)

    async def serve() -> None:
        await serve_view(folder, port=port, opened=opened)

    try:
        anyio.run(serve)
    except OSError as error:
        raise UsageError(
            f"Nothing can be served at port {port} ({os.strerror(error.errno or 0)}).", hint="Try another --port."
        ) from error


def compare(
    run_a: Annotated[
        str, typer.Argument(help="The run before.", show_default=False, metavar="BEFORE", autocompletion=shared.known)
    ],
    run_b: Annotated[
        str, typer.Argument(help="The run after.", show_default=False, metavar="AFTER", autocompletion=shared.known)
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page to write.", show_default="beside the second run", metavar="FILE"),
    ] = None,
    open_: Open = False,
    results: shared.ResultsRoot = Path("results"),
) -> None:
    """Pair two runs by their axis values.

    Says what moved and what is missing, and writes a page with both side by side.
    """
    from sweep.cli.console import here, say
    from sweep.cli.options import results_folder
    from sweep.report import compare_runs

    found = compare_runs(results_folder(run_a, results), results_folder(run_b, results), out=output)
    for sentence in found.words:
        say(sentence)
    say(here(found.page))
    if open_:
        typer.launch(found.page.resolve().as_uri())
