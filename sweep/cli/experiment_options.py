"""The experiment of `sweep run` and `sweep plan`: a file, or a workflow with axes given on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli.console import print_notice
from sweep.cli.shared_options import EXPERIMENT_ENDINGS, ResultsRoot, parse_assignments
from sweep.engine import events
from sweep.errors import ExperimentError, UnfetchedError, UsageError

if TYPE_CHECKING:
    from sweep.cli.servers import Access
    from sweep.experiment import Experiment

_fileless_option = partial(
    typer.Option, rich_help_panel="When FILE is a template, a workflow or an image with a workflow"
)


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
    """Load an experiment; where it names images or workflows on servers, fetch them first, until the command ends."""
    try:
        return load(None)
    except UnfetchedError as error:
        import anyio

        from sweep.engine import load_from_servers
        from sweep.experiment import FetchedFiles
        from sweep.record import INPUTS

        servers = access.named(error.servers)
        if not servers and not FetchedFiles(results / error.experiment / INPUTS).entries:
            raise
        return anyio.run(load_from_servers, load, servers, results, make_scratch_folder(), _print_wait)


def _print_wait(event: events.Event) -> None:
    if isinstance(event, events.Notice):
        print_notice(event.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentOptions:
    """An experiment: its file, or a workflow and what else an experiment needs."""

    file: Annotated[
        Path,
        typer.Argument(
            help="The experiment file (YAML). Or a template, a workflow file or an image that contains a workflow.",
            show_default=False,
            metavar="FILE",
            autocompletion=complete_workflow,
        ),
    ]
    axes: Annotated[
        list[str] | None,
        _fileless_option(
            "--axis",
            help="One axis: a list (seed=1,2,3), a range with its step (denoise_strength=0.2:0.8:0.2), or the lines of "
            "a file (variation=@lines.txt). Give it again for each further axis.",
            metavar="NAME=VALUES",
            autocompletion=complete_role,
        ),
    ] = None
    image: Annotated[str | None, _fileless_option("--image", help="The source image.", metavar="FILE")] = None
    prompt: Annotated[str | None, _fileless_option("--prompt", help="The prompt.", metavar="TEXT")] = None
    inputs: Annotated[
        list[str] | None,
        _fileless_option(
            "--input",
            help="Set another input by its name, or the field of a node: steps=30, model=NAME, NODE.FIELD=VALUE. "
            "Give it again for each further input.",
            metavar="NAME=VALUE",
            autocompletion=complete_role,
        ),
    ] = None
    save: Annotated[
        Path | None, _fileless_option("--save", help="Write the experiment to this file, too.", metavar="FILE")
    ] = None
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help='Change a value of the file for this run: --set axes.denoise_strength="[0.2, 0.5]".',
            metavar="KEY=VALUE",
        ),
    ] = None
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
        from sweep.workflow import TEMPLATES

        is_fileless = bool(self.axes or self.inputs or self.save) or (self.image, self.prompt) != (None, None)
        if str(self.file) in TEMPLATES or (is_fileless and self.file.suffix.lower() not in EXPERIMENT_ENDINGS):
            return self._build(access)
        if is_fileless:
            raise UsageError(
                f"--axis, --image, --prompt, --input and --save do not go with an experiment file ({self.file}).",
                hint="Change its values with --set, as in --set axes.seed=[1,2].",
            )
        return load_fetched(partial(Experiment.load, self.file, self.overrides or ()), access, self.results), ""

    def _build(self, access: Access) -> tuple[Experiment, str]:
        from sweep.experiment import Experiment, is_reference, write_experiment

        if self.save is not None and self.save.exists():
            raise UsageError(f"{self.save} exists already.", hint="Choose another --save, or run that file.")
        axes = self.axes or ()
        check_utf8("--axis", axes)
        check_utf8("--input", self.inputs or ())
        check_utf8("--image", [self.image])
        check_utf8("--prompt", [self.prompt])
        inputs = parse_assignments(self.inputs, "--input")
        inputs |= {name: text for name, text in (("image", self.image), ("prompt", self.prompt)) if text is not None}
        named = Path(self.image) if self.image else self.file
        plain = re.sub(r"\W+", "-", str(named).partition(":")[2]).strip("-")[:60]
        stem = plain if is_reference(str(named)) else named.stem
        name = self.save.stem if self.save else f"{stem}-{date.today().isoformat()}"  # noqa: DTZ011  the user's own day
        here = Path.cwd()
        write = partial(write_experiment, str(self.file), axes, inputs, name=name, paths_from=here)
        load = partial(Experiment.from_text, write(), here, self.overrides or ())
        try:
            experiment = replace(load_fetched(load, access, self.results), source="command line", marks={})
        except ExperimentError as error:  # nobody has seen the text: its lines and columns help nobody
            problems = [replace(problem, line=None, column=None) for problem in error.problems]
            raise ExperimentError.of(problems, "command line") from error
        if self.save is None:
            return experiment, f"To keep this experiment as a file, add --save {stem}.yaml."
        self.save.write_text(write(saved_in=self.save.parent), encoding="utf-8")
        return experiment, f"Wrote {self.save}."
