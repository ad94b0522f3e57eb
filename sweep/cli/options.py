"""Shared options and value parsing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from sweep.errors import UsageError, did_you_mean


def assignments(given: Sequence[str] | None, option: str) -> dict[str, str | int | float | bool | None]:
    """`["cfg_scale=7"]` as {"cfg_scale": 7}: numbers where they are. Raises UsageError."""
    found: dict[str, str | int | float | bool | None] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not (equals and name.strip()):
            raise UsageError(f"{option} {text} has no value.", hint=f"Write {option} axis=value.")
        found[name.strip()] = _value(value.strip())
    return found


def _value(text: str) -> str | int | float:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


_JOURNAL = "journal.sqlite"
NONE_YET = "{root} holds none yet; sweep run makes them."


def known_runs(root: Path) -> list[str]:
    """The names of the results folders under `root`, in the order of the alphabet."""
    return sorted(path.parent.name for path in root.glob(f"*/{_JOURNAL}")) if root.is_dir() else []


def results_folder(run: str, root: Path) -> Path:
    """The folder of a run: a path to it, an experiment's name under `root`, or an experiment file that was run.

    Raises UsageError, with the nearest name, where there is none.
    """
    for candidate in (Path(run), root / run, root / Path(run).stem):
        if (candidate / _JOURNAL).is_file():
            return candidate
    names = known_runs(root)
    hint = did_you_mean(Path(run).name, names).strip()
    if not hint:
        hint = f"There are: {', '.join(names)}." if names else NONE_YET.format(root=root)
    raise UsageError(f"{run} is no results folder.", hint=hint)


def known(context: typer.Context, incomplete: str) -> list[str]:
    """Names that a shell offers for RUN."""
    root = context.params.get("results") or "results"
    return [name for name in known_runs(Path(root)) if name.startswith(incomplete)]


ExperimentArgument: TypeAlias = Annotated[
    Path, typer.Argument(help="The experiment file (YAML).", show_default=False, metavar="FILE")
]
RunArgument: TypeAlias = Annotated[
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
CredentialsOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--credentials", help="A file (mode 0600) with token, or email and password.", metavar="FILE"),
]
QueueOption: TypeAlias = Annotated[
    str,
    typer.Option("--queue", help="A queue of one's own on the servers, beside everybody's.", metavar="NAME"),
]
