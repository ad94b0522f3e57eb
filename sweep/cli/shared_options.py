"""Options that commands share: the run, the experiment, the servers, and how answers print.

The help of an option stands under Attributes of its group, or under Args of its command. An option that many commands
declare by themselves is a type, and has its help in it.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from sweep import record, servers
from sweep.cli.console import fill_lines, print_json, print_line, print_notice
from sweep.engine import events
from sweep.errors import ExperimentError, SweepError, UnfetchedError, UsageError
from sweep.text import quote_argument

if TYPE_CHECKING:
    from sweep.experiment import Experiment
    from sweep.servers import AgentSettings, Server


UNASKED: Final = "No server was asked, so only the nodes packaged with sweep are known. --server asks yours."
EXPERIMENT_ENDINGS: Final = (".yaml", ".yml")


def split_assignments(given: Sequence[str] | None, option: str) -> dict[str, str]:
    """Split `["cfg_scale=7"]` to {"cfg_scale": "7"}. Raises UsageError for a text without a value."""
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (equals and name):
            raise UsageError(f"{option} {text} has no value.", hint=f"Write {option} NAME=VALUE.")
        found[name] = value
    return found


def parse_assignments(given: Sequence[str] | None, option: str) -> dict[str, str | int | float | bool | None]:
    """Parse `["cfg_scale=7"]` to {"cfg_scale": 7}; what looks like a number becomes one.

    Raises UsageError for a text without a value.
    """
    found: dict[str, str | int | float | bool | None] = {}
    for name, value in split_assignments(given, option).items():
        found[name] = value
        for parse in (float, int):
            with contextlib.suppress(ValueError):
                found[name] = parse(value)
    return found


def locate_run(run: str, root: Path) -> Path:
    """Find the folder of a run that is named on the command line, also by its experiment file. Raises UsageError."""
    file, name = Path(run), None
    with contextlib.suppress(OSError):  # a name too long
        if file.suffix.lower() in EXPERIMENT_ENDINGS and file.is_file():
            from sweep.experiment import Experiment

            try:
                name = Experiment.load(file).name
            except SweepError:
                name = file.stem
    return record.find_run(run, root, name)


def complete_run(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a run in the shell."""
    root = context.params.get("results") or "results"
    return [name for name in record.list_runs(Path(root)) if name.startswith(incomplete)]


def complete_axis(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of an axis of the run on the command line.

    The parser stops at an option without its value, and then leaves the run among the arguments.
    """
    run = context.params.get("run") or next(iter(context.args), "")
    try:
        folder = locate_run(str(run), Path(context.params.get("results") or "results"))
        axes = record.RecordedResults.open(folder).axes
    except SweepError:
        return []
    return [name for name, _ in axes if name.startswith(incomplete)]


def complete_metric(incomplete: str) -> list[str]:
    """Complete the name of a metric."""
    from sweep.study import list_standard

    return [metric.name for metric in list_standard() if metric.name.startswith(incomplete)]


def run_argument(metavar: str = "RUN") -> Any:
    """Declare an argument that names a run."""
    return typer.Argument(metavar=metavar, autocompletion=complete_run)


def output_option(metavar: str = "FILE", *, show_default: bool | str = True) -> Any:
    """Declare the option that names what a command writes."""
    return typer.Option("--output", "-o", show_default=show_default, metavar=metavar)


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
    """The run that a command is about.

    Attributes:
        run: A results folder, or its name in --results.
    """

    run: Annotated[str, run_argument()]
    results: ResultsRoot = Path("results")

    def folder(self) -> Path:
        """Find its folder. Raises UsageError if there is no such run."""
        return locate_run(self.run, self.results)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPrinter:
    """Prints what a command did: lines of text, with --json one object, with --quiet nothing.

    Attributes:
        as_json: Print one JSON object.
        quiet: Print nothing but errors.
    """

    as_json: Annotated[bool, typer.Option("--json")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q")] = False

    def print(self, text: str | Sequence[str], answer: Mapping[str, object]) -> None:
        """Print the text for people, wrapped in a terminal, or the object for programs."""
        if self.as_json:
            print_json(answer)
        elif not self.quiet:
            for line in [text] if isinstance(text, str) else text:
                for part in fill_lines(line, rest="  ") if sys.stdout.isatty() else [line]:
                    print_line(part)


server_option = partial(typer.Option, rich_help_panel="Servers")

OnOption: TypeAlias = Annotated[
    str | None,
    server_option(
        help="Use the machines of a Ray cluster (docs/cluster.md): ray (the cluster of this machine) or ray:HOST:PORT.",
        metavar="ADDRESS",
    ),
]
InsecureRay: TypeAlias = Annotated[
    bool, server_option("--insecure-ray", help="Allow a Ray cluster that is not protected by a token.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Servers, and what they ask for. Their addresses are those of a run; commands that take any server use Access.

    Attributes:
        ca_file: File with the certificates of your own certificate authority, for https servers.
        credentials: TOML file with a token, or with email and password, that only you can read (mode 0600); see
            docs/using.md. Or set the environment variable SWEEP_TOKEN.
        queue: The name of the queue to use on InvokeAI servers. Every InvokeAI has a queue named default.
    """

    addresses: list[str] | None = None
    ca_file: Annotated[Path | None, server_option(metavar="PEM")] = None
    credentials: Annotated[Path | None, server_option(metavar="FILE")] = None
    queue: Annotated[str, server_option(metavar="NAME")] = "default"

    def make_clients(self, addresses: Sequence[str] = ()) -> tuple[Server, ...]:
        """Return unopened clients for the addresses on the command line, or else for these.

        Raises UsageError for an invalid address or an unreadable credentials file.
        """
        return tuple(
            servers.connect(
                address,
                servers.ConnectOptions(
                    credentials=servers.find_credentials(address, os.environ, self.credentials),
                    ca_file=self.ca_file,
                    queue_id=self.queue,
                ),
            )
            for address in self.addresses or addresses
        )

    def make_agent_settings(self, name: str = "", url: str = "", *, insecure: bool) -> AgentSettings:
        """Return the settings of an agent, with absolute paths: it runs in another folder."""
        return servers.AgentSettings(
            name=name,
            url=url,
            credentials=self.credentials.absolute() if self.credentials else None,
            ca_file=self.ca_file.absolute() if self.ca_file else None,
            queue_id=self.queue,
            insecure=insecure,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Access(Login):
    """Servers whose addresses are an option, and what they ask for. The queue is an option of `sweep run` only.

    Attributes:
        addresses: Address of a server. Repeat it for several servers.
    """

    addresses: Annotated[list[str] | None, server_option("--server", "-s", metavar="URL")] = None
    queue: str = "default"


_fileless_option = partial(typer.Option, rich_help_panel="When FILE is a workflow or an image with a workflow")


def complete_role(incomplete: str) -> list[str]:
    """Complete the name of a role before its value."""
    from sweep.role_table import ROLE_NAMES

    return [f"{name}=" for name in ROLE_NAMES if name.startswith(incomplete)]


def _name_folder(stem: str) -> str:
    """Turn the name of a file into one that every system takes as a folder."""
    return re.sub(r"^[\W_]+|[^\w .+-]+", "", stem)[:80].strip(" .") or "image"


def write_continuation(folder: Path) -> str:
    """Write the command that continues the run of a results folder."""
    root = folder.parent if folder.name.strip(".") else folder / ".."
    option = "" if root == Path("results") else f" --results {quote_argument(root)}"
    return f"sweep run {quote_argument(folder / 'experiment.yaml')}{option}"


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


def load_fetched(load: Callable[[Path | None], Experiment], access: Access, results: Path) -> Experiment:
    """Load an experiment. Images and workflows that it names on servers are fetched first, until the command ends."""
    try:
        return load(None)
    except UnfetchedError as error:
        import anyio

        from sweep.engine import load_from_servers
        from sweep.experiment import FetchedFiles
        from sweep.record import INPUTS

        servers = access.make_clients(error.servers)
        if not servers and not FetchedFiles(results / error.experiment / INPUTS).entries:
            raise
        return anyio.run(load_from_servers, load, servers, results, make_scratch_folder(), show_notice)


def show_notice(event: events.Event) -> None:
    """Print what the engine waits for; a listener where no run reports its progress."""
    if isinstance(event, events.Notice):
        print_notice(event.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentOptions:
    """An experiment file, or a workflow with the axes and inputs of an experiment.

    Attributes:
        file: The experiment file (YAML). Or a workflow: a built-in one such as img2img, a file, or an image that
            contains one.
        axes: One axis: a list (seed=1,2,3; with || between texts that contain commas), a range with its step
            (denoise_strength=0.2:0.8:0.2), or the lines of a file (variation=@lines.txt). Give it again for each
            further axis.
        image: The source image, if the workflow needs one.
        prompt: The prompt.
        inputs: Set any other input: steps=30, model=NAME, or a field of a node: NODE.FIELD=VALUE. To see the
            inputs and fields of your own workflow, run sweep inspect FILE. Give it again for each further input.
        save: Write the experiment to this file, too.
        overrides: Change a value of the experiment file, written as in the file, for this run only: --set
            axes.denoise_strength="[0.2, 0.5]". Give it again for each further value.
    """

    file: Annotated[Path, typer.Argument(metavar="FILE")]
    axes: Annotated[
        list[str] | None, _fileless_option("--axis", metavar="NAME=VALUES", autocompletion=complete_role)
    ] = None
    image: Annotated[str | None, _fileless_option(metavar="FILE")] = None
    prompt: Annotated[str | None, _fileless_option(metavar="TEXT")] = None
    inputs: Annotated[
        list[str] | None, _fileless_option("--input", metavar="NAME=VALUE", autocompletion=complete_role)
    ] = None
    save: Annotated[Path | None, _fileless_option("--save", metavar="FILE")] = None
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")] = None
    results: ResultsRoot = Path("results")

    def load(self, access: Access) -> tuple[Experiment, str]:
        """Load the experiment of a file, or build it from a workflow and these options.

        What it names on servers is fetched first.

        Returns:
            The experiment, and a notice how to keep it as a file; empty if it is one.

        Raises:
            UsageError: The options do not go with a file, or --save names a file that exists.
            ExperimentError: The experiment is wrong.
        """
        from sweep.experiment import Experiment
        from sweep.role_table import TEMPLATE_NAMES

        is_fileless = bool(self.axes or self.inputs or self.save) or (self.image, self.prompt) != (None, None)
        if str(self.file) in TEMPLATE_NAMES or (is_fileless and self.file.suffix.lower() not in EXPERIMENT_ENDINGS):
            return self._build(access)
        if is_fileless:
            raise UsageError(
                f"--axis, --image, --prompt, --input and --save do not go with an experiment file ({self.file}).",
                hint="Change its values with --set, as in --set axes.seed=[1,2].",
            )
        for folder in (self.file, self.results / self.file):
            if (folder / record.JOURNAL_FILE).is_file() and not self.file.is_file():
                raise UsageError(f"{self.file} is a run.", hint=f"To continue it: {write_continuation(folder)}")
        return load_fetched(partial(Experiment.load, self.file, self.overrides or ()), access, self.results), ""

    def _build(self, access: Access) -> tuple[Experiment, str]:
        from sweep.experiment import Experiment, is_reference, parse_input, write_experiment

        if self.save is not None and self.save.exists():
            raise UsageError(f"{self.save} exists already.", hint="Choose another --save, or run that file.")
        axes = self.axes or ()
        check_utf8("--axis", axes)
        check_utf8("--input", self.inputs or ())
        check_utf8("--image", [self.image])
        check_utf8("--prompt", [self.prompt])
        inputs = {name: parse_input(name, text) for name, text in split_assignments(self.inputs, "--input").items()}
        inputs |= {name: text for name, text in (("image", self.image), ("prompt", self.prompt)) if text is not None}
        named = Path(self.image) if self.image else self.file
        plain = re.sub(r"\W+", "-", str(named).partition(":")[2]).strip("-")[:60]
        stem = _name_folder(plain if is_reference(str(named)) else named.stem)
        day = date.today().isoformat()  # noqa: DTZ011  the user's own
        name = _name_folder(self.save.stem) if self.save else f"{stem[:69]}-{day}"
        here = Path.cwd()
        write = partial(write_experiment, str(self.file), axes, inputs, name=name, paths_from=here)
        load = partial(Experiment.from_text, write(), here, self.overrides or ())
        try:
            experiment = replace(load_fetched(load, access, self.results), source="command line", marks={})
        except ExperimentError as error:  # nobody has seen the text: its lines and columns help nobody
            problems = [replace(problem, line=None, column=None) for problem in error.problems]
            raise ExperimentError.of(problems, "command line") from error
        if self.save is None:
            return experiment, f"To keep this experiment as a file, add --save {quote_argument(f'{stem}.yaml')}."
        self.save.write_text(write(saved_in=self.save.parent, overrides=self.overrides or ()), encoding="utf-8")
        return experiment, f"Wrote {self.save}."
