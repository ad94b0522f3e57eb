"""`sweep sheet`: contact sheets, animations and filmstrips as image files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep.cli import options as shared


def sheet(
    run: shared.RunArgument,
    x: Annotated[
        str | None,
        typer.Option(
            "--x", help="Axis of the columns.", show_default=False, metavar="AXIS", autocompletion=shared.complete_axis
        ),
    ] = None,
    y: Annotated[
        str | None,
        typer.Option(
            "--y", help="Axis of the rows.", show_default=False, metavar="AXIS", autocompletion=shared.complete_axis
        ),
    ] = None,
    animate: Annotated[
        str | None,
        typer.Option(
            help="Write a GIF or WebP that steps along this axis instead.",
            metavar="AXIS",
            autocompletion=shared.complete_axis,
        ),
    ] = None,
    filmstrip: Annotated[
        str | None,
        typer.Option(
            help="Write a strip with the median image of each level of this axis instead.",
            metavar="AXIS",
            autocompletion=shared.complete_axis,
        ),
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option(
            "--fix", help="Level of another axis (default: its first). Repeat for more axes.", metavar="AXIS=VALUE"
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Metric that decides which image is the median.", metavar="NAME", autocompletion=shared.complete_metric
        ),
    ] = None,
    size: Annotated[int, typer.Option(min=16, max=4096, help="Width of an image in pixels.", metavar="N")] = 256,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to write; the ending decides the format: png, jpg, webp, gif.",
            metavar="FILE",
        ),
    ] = None,
    results: shared.ResultsRoot = Path("results"),
) -> None:
    """Put images of a run on one sheet.

    Rows and columns are two axes, with their values as labels. Or write an animation or a strip along one axis.
    """
    from sweep.cli.console import print_line
    from sweep.cli.options import find_run, parse_assignments
    from sweep.errors import UsageError
    from sweep.report import SheetRequest, write_animation, write_filmstrip, write_sheet

    folder = find_run(run, results)
    levels = parse_assignments(fixed, "--fix")
    if [x is not None or y is not None, animate is not None, filmstrip is not None].count(True) > 1:
        raise UsageError("A sheet takes only one of --x, --animate and --filmstrip.")
    if animate is not None:
        written: tuple[Path, ...] = (write_animation(folder, animate, fixed=levels, size=size, out=output),)
    elif filmstrip is not None:
        written = (write_filmstrip(folder, filmstrip, metric=metric, size=size, out=output),)
    else:
        written = write_sheet(folder, SheetRequest(x=x, y=y, fixed=levels, size=size), output)
    for path in written:
        print_line(str(path))
