"""`sweep report`, `sweep view`, `sweep compare`: the pictures side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep.cli import options as shared

Open = Annotated[bool, typer.Option("--open", help="Open it in the browser.")]


def report(
    run: shared.Run,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page to write.", show_default="report.html in the folder")
    ] = None,
    open_: Open = False,
    results: shared.ResultsRoot = Path("results"),
) -> None:
    """Write the comparison report of a run: one page to explore the grid, that works offline."""
    from sweep.cli.console import say
    from sweep.cli.locating import results_folder

    page = make_report(results_folder(run, results), output)
    say(str(page))
    if open_:
        typer.launch(page.resolve().as_uri())


def make_report(folder: Path, output: Path | None = None) -> Path:
    """Measure what is not measured yet, and write the page."""
    from sweep.cli.study import counting, measured_study
    from sweep.record.table import write_tables
    from sweep.report.explorer import write_report

    made = measured_study(folder)
    write_tables(folder)
    with counting("drawing"):
        return write_report(folder, out=output, study=made.to_json())


def view(
    run: shared.Run,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 0,
    open_: Open = False,
    results: shared.ResultsRoot = Path("results"),
) -> None:
    """Serve the report on this machine, with pictures arriving as they are rendered. Ctrl-C ends it."""
    import anyio

    from sweep.cli.console import say
    from sweep.cli.locating import results_folder
    from sweep.errors import UsageError
    from sweep.report.live import serve_view

    def opened(url: str) -> None:
        say(url)
        if open_:
            typer.launch(url)

    async def serve() -> None:
        await serve_view(results_folder(run, results), port=port, opened=opened)

    try:
        anyio.run(serve)
    except OSError as error:
        raise UsageError(
            f"Nothing can be served at port {port} ({error.strerror}).", hint="Try another --port."
        ) from error


def compare(
    run_a: Annotated[str, typer.Argument(help="The run before.", show_default=False)],
    run_b: Annotated[str, typer.Argument(help="The run after.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page to write.", show_default="beside the second run")
    ] = None,
    open_: Open = False,
    results: shared.ResultsRoot = Path("results"),
) -> None:
    """Pair two runs by their axis values: what moved, what is missing, and both side by side in one page."""
    from sweep.cli.console import say
    from sweep.cli.locating import results_folder
    from sweep.report.compare import write_comparison

    found = write_comparison(results_folder(run_a, results), results_folder(run_b, results), out=output)
    for sentence in found.words:
        say(sentence)
    say(str(found.page))
    if open_:
        typer.launch(found.page.resolve().as_uri())
