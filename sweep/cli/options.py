"""Shared options and value parsing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from sweep.errors import UsageError, did_you_mean


def parse_assignments(given: Sequence[str] | None, option: str) -> dict[str, str | int | float | bool | None]:
    """Parse `["cfg_scale=7"]` to {"cfg_scale": 7}; what looks like a number becomes one.

    Raises UsageError for a text without a value.
    """
    found: dict[str, str | int | float | bool | None] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not (equals and name.strip()):
            raise UsageError(f"{option} {text} has no value.", hint=f"Write {option} axis=value.")
        found[name.strip()] = _parse_value(value.strip())
    return found


def _parse_value(text: str) -> str | int | float:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


_JOURNAL = "journal.sqlite"
NO_RUNS = "There are no runs in {root} yet. sweep run FILE makes one."


def list_runs(root: Path) -> list[str]:
    """Return the names of the results folders under `root`, sorted."""
    return sorted(path.parent.name for path in root.glob(f"*/{_JOURNAL}")) if root.is_dir() else []


def find_run(run: str, root: Path) -> Path:
    """Find the folder of a run: by its path, by its name under `root`, or by its experiment file.

    Raises UsageError with the nearest name if there is no such run.
    """
    file = Path(run)
    by_file = [root / _read_name(file)] if file.suffix.lower() in _EXPERIMENTS and file.is_file() else []
    for candidate in (file, *([root / run] if _is_name(run) else []), *by_file):
        if _has_journal(candidate):
            return candidate
    names = list_runs(root)
    hint = did_you_mean(Path(run).name, names).strip()
    if not hint:
        hint = f"Runs: {', '.join(names)}." if names else NO_RUNS.format(root=root)
    raise UsageError(f"There is no run {run}.", hint=hint)


_EXPERIMENTS: Final = (".yaml", ".yml")


def _is_name(run: str) -> bool:
    """Tell whether a text is the name of a folder, and no path that could lead out of the results."""
    return bool(run) and run == Path(run).name


def _has_journal(folder: Path) -> bool:
    try:
        return (folder / _JOURNAL).is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL in it
        return False


def _read_name(file: Path) -> str:
    """Read the name that an experiment file gives its results folder: its own, if it names none that can be read."""
    from sweep.errors import SweepError
    from sweep.experiment import Experiment

    try:
        return Experiment.load(file).name
    except SweepError:
        return file.stem


def complete_run(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a run in the shell."""
    root = context.params.get("results") or "results"
    return [name for name in list_runs(Path(root)) if name.startswith(incomplete)]


def complete_axis(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of an axis of the run on the command line."""
    return [name for name in _axes_of(context) if name.startswith(incomplete)]


def _axes_of(context: typer.Context) -> list[str]:
    from sweep.errors import SweepError
    from sweep.record import RecordedResults

    try:
        folder = find_run(str(context.params.get("run")), Path(context.params.get("results") or "results"))
        return [name for name, _ in RecordedResults.open(folder).axes]
    except SweepError:
        return []


def complete_metric(incomplete: str) -> list[str]:
    """Complete the name of a metric."""
    from sweep.study import list_standard

    return [metric.name for metric in list_standard() if metric.name.startswith(incomplete)]


ExperimentArgument: TypeAlias = Annotated[
    Path, typer.Argument(help="The experiment file (YAML), or a workflow.", show_default=False, metavar="FILE")
]
RunArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="The name of a run in --results, or the path of its folder.",
        show_default=False,
        metavar="RUN",
        autocompletion=complete_run,
    ),
]
AnyRun: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        help="The name of a run in --results, or the path of its folder.",
        show_default=False,
        metavar="RUN",
        autocompletion=complete_run,
    ),
]
Servers: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--server",
        "-s",
        help="Address of a server. Repeat it for several servers.",
        metavar="URL",
        rich_help_panel="Servers",
    ),
]
Overrides: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help='Override a value of the file: --set axes.denoise_strength="[0.2, 0.5]".', metavar="PATH=YAML"
    ),
]
ResultsRoot: TypeAlias = Annotated[
    Path, typer.Option("--results", help="The folder that holds the results folders.", metavar="FOLDER")
]
CaFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        help="CA certificates for https servers with a private authority.",
        metavar="PEM",
        rich_help_panel="Servers",
    ),
]
CredentialsOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--credentials",
        help="File (mode 0600) with a token, or with email and password.",
        metavar="FILE",
        rich_help_panel="Servers",
    ),
]
InsecureRay: TypeAlias = Annotated[
    bool,
    typer.Option("--insecure-ray", help="Use a Ray cluster that demands no token.", rich_help_panel="Servers"),
]
QueueOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--queue", help="Use a separate queue with this name on the servers.", metavar="NAME", rich_help_panel="Servers"
    ),
]
