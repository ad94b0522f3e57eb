"""Shared options and value parsing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

from sweep.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from sweep.record import RecordedResults


def parse_assignments(given: Sequence[str] | None, option: str) -> dict[str, str | int | float | bool | None]:
    """Parse `["cfg_scale=7"]` to {"cfg_scale": 7}; what looks like a number becomes one.

    Raises UsageError for a text without a value.
    """
    found: dict[str, str | int | float | bool | None] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not (equals and name.strip()):
            raise UsageError(f"{option} {text} has no value.", hint=f"Write {option} NAME=VALUE.")
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


def make_scratch_folder() -> Path:
    """Make a folder that is there until the command ends."""
    import atexit
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="sweep-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def check_utf8(option: str, given: Iterable[str | None]) -> None:
    """Raise UsageError where a text is not UTF-8: it could not stand in an experiment."""
    for text in filter(None, given):
        if any("\ud800" <= character <= "\udfff" for character in text):
            shown = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
            is_file = option == "--image"
            hint = "Rename the file, or the folder that holds it." if is_file else "Write it as UTF-8."
            raise UsageError(f"{option} {shown}: the {'file name' if is_file else 'text'} is not UTF-8.", hint=hint)


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
    results = _open_results(context)
    return [name for name, _ in results.axes] if results else []


def _open_results(context: typer.Context) -> RecordedResults | None:
    """Open the run on an unfinished command line; None if there is no such run.

    The parser stops at an option without its value, and then leaves the run among the arguments.
    """
    from sweep.errors import SweepError
    from sweep.record import RecordedResults

    run = context.params.get("run") or next(iter(context.args), "")
    try:
        return RecordedResults.open(find_run(str(run), Path(context.params.get("results") or "results")))
    except SweepError:
        return None


def complete_columns(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the last of several names of columns."""
    before, comma, last = incomplete.rpartition(",")
    results = _open_results(context)
    names = [column.name for column in results.columns()] if results else []
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]


def complete_workflow(incomplete: str) -> list[str]:
    """Complete the name of a template, or a path."""
    from sweep.workflow import TEMPLATES

    head = Path(incomplete)
    folder, start = (head, "") if incomplete.endswith("/") else (head.parent, head.name)
    try:
        found = sorted(path for path in folder.iterdir() if path.name.startswith(start) and path.name[:1] != ".")
    except OSError:
        found = []
    files = [f"{path}/" if path.is_dir() else str(path) for path in found]
    return [*(name for name in TEMPLATES if name.startswith(incomplete)), *files]


def complete_role(incomplete: str) -> list[str]:
    """Complete the name of a role before its value."""
    from sweep.role_table import ROLE_NAMES

    return [f"{name}=" for name in ROLE_NAMES if name.startswith(incomplete)]


def complete_metric(incomplete: str) -> list[str]:
    """Complete the name of a metric."""
    from sweep.study import list_standard

    return [metric.name for metric in list_standard() if metric.name.startswith(incomplete)]


ExperimentArgument: TypeAlias = Annotated[
    Path,
    typer.Argument(
        help="The experiment file (YAML). Or a template, a workflow file or an image that contains a workflow.",
        show_default=False,
        metavar="FILE",
        autocompletion=complete_workflow,
    ),
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
UNASKED: Final = "No server was asked, so only the nodes packaged with sweep are known. --server asks yours."
FamilyOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--for",
        help="Without --server: the family of servers whose nodes are used. Default: the workflow's own.",
        metavar="FAMILY",
    ),
]
Overrides: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help='Change a value of the file for this run: --set axes.denoise_strength="[0.2, 0.5]".',
        metavar="KEY=VALUE",
    ),
]
ResultsRoot: TypeAlias = Annotated[
    Path,
    typer.Option("--results", help="The parent folder; each experiment gets its own folder inside.", metavar="FOLDER"),
]
CaFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        help="File with the certificates of your own certificate authority, for https servers.",
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
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
OnOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Use all workers of a Ray cluster as servers. Write ray, or ray:HOST:PORT to name the cluster. See "
        "sweep worker --help for how to start a worker.",
        show_default=False,
        metavar="RAY",
        rich_help_panel="Servers",
    ),
]
InsecureRay: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--insecure-ray", help="Allow a Ray cluster that is not protected by a token.", rich_help_panel="Servers"
    ),
]
QueueOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--queue",
        help="The name of the queue to use on the servers. Every server has one named default.",
        metavar="NAME",
        rich_help_panel="Servers",
    ),
]
