"""Options that several commands share. A group of options is a dataclass: a command takes it as one parameter."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer

from sweep import record
from sweep.cli.console import fill_lines, print_json, print_line
from sweep.errors import SweepError, UsageError, did_you_mean

NO_RUNS: Final = "There are no runs in {root} yet. sweep run FILE makes one."
UNASKED: Final = "No server was asked, so only the nodes packaged with sweep are known. --server asks yours."
EXPERIMENT_ENDINGS: Final = (".yaml", ".yml")


def parse_assignments(given: Sequence[str] | None, option: str) -> dict[str, str | int | float | bool | None]:
    """Parse `["cfg_scale=7"]` to {"cfg_scale": 7}; what looks like a number becomes one.

    Raises UsageError for a text without a value.
    """
    found: dict[str, str | int | float | bool | None] = {}
    for text in given or ():
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (equals and name):
            raise UsageError(f"{option} {text} has no value.", hint=f"Write {option} NAME=VALUE.")
        found[name] = value
        for parse in (float, int):
            with contextlib.suppress(ValueError):
                found[name] = parse(value)
    return found


def list_runs(root: Path) -> list[str]:
    """Return the names of the results folders under `root`, sorted."""
    return sorted(path.parent.name for path in root.glob(f"*/{record.JOURNAL_FILE}")) if root.is_dir() else []


def find_run(run: str, root: Path) -> Path:
    """Find the folder of a run: by its path, by its name under `root`, or by its experiment file.

    Raises UsageError with the nearest name if there is no such run.
    """
    file = Path(run)
    candidates = [file]
    if run and run == file.name:  # a name, and no path that could lead out of the results
        candidates.append(root / run)
    if file.suffix.lower() in EXPERIMENT_ENDINGS and file.is_file():
        candidates.append(root / _read_name(file))
    for candidate in candidates:
        try:
            if (candidate / record.JOURNAL_FILE).is_file():
                return candidate
        except (OSError, ValueError):  # a name too long, or with a NUL in it
            continue
    names = list_runs(root)
    hint = did_you_mean(file.name, names).strip()
    if not hint:
        hint = f"Runs: {', '.join(names)}." if names else NO_RUNS.format(root=root)
    raise UsageError(f"There is no run named {run}.", hint=hint)


def _read_name(file: Path) -> str:
    """Read the name that an experiment file gives its results folder: its own, if it names none that can be read."""
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
    results = _open_results(context)
    return [name for name, _ in results.axes if name.startswith(incomplete)] if results else []


def complete_columns(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the last of several names of columns."""
    before, comma, last = incomplete.rpartition(",")
    results = _open_results(context)
    names = [column.name for column in results.columns()] if results else []
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]


def _open_results(context: typer.Context) -> record.RecordedResults | None:
    """Open the run on an unfinished command line; None if there is no such run.

    The parser stops at an option without its value, and then leaves the run among the arguments.
    """
    run = context.params.get("run") or next(iter(context.args), "")
    try:
        return record.RecordedResults.open(find_run(str(run), Path(context.params.get("results") or "results")))
    except SweepError:
        return None


def complete_metric(incomplete: str) -> list[str]:
    """Complete the name of a metric."""
    from sweep.study import list_standard

    return [metric.name for metric in list_standard() if metric.name.startswith(incomplete)]


def run_argument(
    help_text: str = "The name of a run in --results, or the path of its folder.", metavar: str = "RUN"
) -> Any:
    """Declare an argument that names a run."""
    return typer.Argument(help=help_text, show_default=False, metavar=metavar, autocompletion=complete_run)


def output_option(help_text: str, metavar: str = "FILE", *, show_default: bool | str = True) -> Any:
    """Declare the option that names what a command writes."""
    return typer.Option("--output", "-o", help=help_text, show_default=show_default, metavar=metavar)


FamilyOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--for",
        help="Without --server: the family of servers whose nodes are used. Default: the workflow's own.",
        metavar="FAMILY",
    ),
]
ResultsRoot: TypeAlias = Annotated[
    Path,
    typer.Option("--results", help="Folder for results. Each experiment gets its own folder in it.", metavar="FOLDER"),
]
OpenOption: TypeAlias = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenRun:
    """The run that a command is about."""

    run: Annotated[str, run_argument()]
    results: ResultsRoot = Path("results")

    def folder(self) -> Path:
        """Find its folder. Raises UsageError if there is no such run."""
        return find_run(self.run, self.results)

    def open(self) -> record.RecordedResults:
        """Open its results. Raises UsageError if there is no such run, RecordError if it cannot be read."""
        return record.RecordedResults.open(self.folder())


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPrinter:
    """Prints what a command did: lines of text, with --json one object, with --quiet nothing."""

    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False

    def print(self, text: str | Sequence[str], answer: Mapping[str, object]) -> None:
        """Print the text for people, wrapped in a terminal, or the object for programs."""
        if self.as_json:
            print_json(answer)
        elif not self.quiet:
            for line in [text] if isinstance(text, str) else text:
                for part in fill_lines(line, rest="  ") if sys.stdout.isatty() else [line]:
                    print_line(part)
