"""Options that several commands share, each told once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer


def known(context: typer.Context, incomplete: str) -> list[str]:
    """Names that a shell offers for RUN."""
    from sweep.cli.locating import known_runs

    root = context.params.get("results") or "results"
    return [name for name in known_runs(Path(root)) if name.startswith(incomplete)]


ExperimentFile: TypeAlias = Annotated[
    Path, typer.Argument(help="The experiment file (YAML).", show_default=False, metavar="FILE")
]
Run: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="A results folder, or the name of an experiment in --results.",
        show_default=False,
        metavar="RUN",
        autocompletion=known,
    ),
]
AnyRun: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        help="A results folder, or the name of an experiment in --results.",
        show_default=False,
        metavar="RUN",
        autocompletion=known,
    ),
]
Servers: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--server", "-s", help="Address of a server; give it again for each further one.", metavar="URL"),
]
Overrides: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help='Change a value of the file: --set axes.denoise_strength="[0.2, 0.5]".', metavar="PATH=YAML"
    ),
]
ResultsRoot: TypeAlias = Annotated[
    Path, typer.Option("--results", help="Where results folders are kept.", metavar="FOLDER")
]
CaFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--ca-file", help="Certificates of a private authority, for https servers.", metavar="PEM"),
]
Credentials: TypeAlias = Annotated[
    Path | None,
    typer.Option("--credentials", help="A file (mode 0600) with token, or email and password.", metavar="FILE"),
]
Queue: TypeAlias = Annotated[
    str,
    typer.Option("--queue", help="A queue of one's own on the servers, beside everybody's.", metavar="NAME"),
]
