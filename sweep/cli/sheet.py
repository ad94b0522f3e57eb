"""`sweep sheet`: contact sheets, animations and filmstrips as image files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep.cli import options as shared


def sheet(
    run: shared.RunArgument,
    x: Annotated[str | None, typer.Option("--x", help="Axis across.", show_default=False, metavar="AXIS")] = None,
    y: Annotated[str | None, typer.Option("--y", help="Axis down.", show_default=False, metavar="AXIS")] = None,
    animate: Annotated[
        str | None, typer.Option(help="Instead: a GIF or WebP that steps along this axis.", metavar="AXIS")
    ] = None,
    filmstrip: Annotated[
        str | None, typer.Option(help="Instead: one strip of each level's median image.", metavar="AXIS")
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option("--fix", help="Level of another axis (default: its first); again for more.", metavar="AXIS=VALUE"),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Metric by which a filmstrip's median is taken.", metavar="NAME")
    ] = None,
    size: Annotated[int, typer.Option(min=16, max=4096, help="Width of an image in pixels.", metavar="N")] = 256,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file; its ending says the format: png, jpg, webp, gif.", metavar="FILE"
        ),
    ] = None,
    results: shared.ResultsRoot = Path("results"),
) -> None:
    """Draw images of a run on one sheet.

    With the values of the axes beside them; or along one axis, moving or as a strip.
    """
    from sweep.cli.console import say
    from sweep.cli.options import assignments, results_folder
    from sweep.errors import UsageError
    from sweep.report import SheetRequest, write_animation, write_filmstrip, write_sheet

    folder = results_folder(run, results)
    levels = assignments(fixed, "--fix")
    if [x is not None, animate is not None, filmstrip is not None].count(True) != 1:
        raise UsageError("A sheet needs --x, or --animate, or --filmstrip, and only one of them.")
    if animate is not None:
        written: tuple[Path, ...] = (write_animation(folder, animate, fixed=levels, size=size, out=output),)
    elif filmstrip is not None:
        written = (write_filmstrip(folder, filmstrip, metric=metric, size=size, out=output),)
    else:
        written = write_sheet(folder, SheetRequest(x=x or "", y=y, fixed=levels, size=size), output)
    for path in written:
        say(str(path))
