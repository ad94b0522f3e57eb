"""The experiment of `sweep run` and `sweep plan`: a file, or a workflow with axes given on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

from sweep.cli.options import check_utf8, complete_role, make_scratch_folder, parse_assignments
from sweep.errors import ExperimentError, UsageError

if TYPE_CHECKING:
    from sweep.cli.servers import Access
    from sweep.engine import events
    from sweep.experiment import Experiment

_PANEL: Final = "When FILE is a template, a workflow or an image with a workflow"
_ENDINGS: Final = (".yaml", ".yml")

AxisOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--axis",
        help="One axis: a list (seed=1,2,3), a range with its step (denoise_strength=0.2:0.8:0.2), or the lines of a "
        "file (variation=@lines.txt). Give it again for each further axis.",
        metavar="NAME=VALUES",
        autocompletion=complete_role,
        rich_help_panel=_PANEL,
    ),
]
ImageOption: TypeAlias = Annotated[
    str | None, typer.Option("--image", help="The source image.", metavar="FILE", rich_help_panel=_PANEL)
]
PromptOption: TypeAlias = Annotated[
    str | None, typer.Option("--prompt", help="The prompt.", metavar="TEXT", rich_help_panel=_PANEL)
]
InputOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        help="Set another input by its name, or the field of a node: steps=30, model=NAME, NODE.FIELD=VALUE. "
        "Give it again for each further input.",
        metavar="NAME=VALUE",
        autocompletion=complete_role,
        rich_help_panel=_PANEL,
    ),
]
SaveOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--save", help="Write the experiment to this file, too.", metavar="FILE", rich_help_panel=_PANEL),
]


def load_fetched(load: Callable[[Path | None], Experiment], access: Access, results: Path) -> Experiment:
    """Load an experiment; where it names images or workflows on servers, fetch them first, until the command ends."""
    from sweep.errors import UnfetchedError

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
        folder = make_scratch_folder()
        return anyio.run(load_from_servers, load, servers, results, folder, _print_wait)


def _print_wait(event: events.Event) -> None:
    from sweep.cli.console import print_notice
    from sweep.engine import events

    if isinstance(event, events.Notice):
        print_notice(event.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """What the command line says of an experiment that has no file."""

    axes: Sequence[str] = ()
    image: str | None = None
    prompt: str | None = None
    inputs: Sequence[str] = ()
    save: Path | None = None

    @classmethod
    def of(
        cls,
        axes: Sequence[str] | None,
        image: str | None,
        prompt: str | None,
        inputs: Sequence[str] | None,
        save: Path | None,
    ) -> Typed:
        """Build it from the options of the command line."""
        return cls(axes=axes or (), image=image, prompt=prompt, inputs=inputs or (), save=save)

    def __bool__(self) -> bool:
        return bool(self.axes or self.inputs or self.image is not None or self.prompt is not None or self.save)

    def load(self, target: Path, overrides: Sequence[str], access: Access, results: Path) -> tuple[Experiment, str]:
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

        is_workflow = str(target) in TEMPLATES or (self and target.suffix.lower() not in _ENDINGS)
        if not is_workflow:
            if self:
                raise UsageError(
                    f"--axis, --image, --prompt, --input and --save do not go with an experiment file ({target}).",
                    hint="Change its values with --set, as in --set axes.seed=[1,2].",
                )
            return load_fetched(partial(Experiment.load, target, overrides), access, results), ""
        return self._build(target, overrides, access, results)

    def _build(self, workflow: Path, overrides: Sequence[str], access: Access, results: Path) -> tuple[Experiment, str]:
        from sweep.experiment import Experiment, is_reference, write_experiment

        if self.save is not None and self.save.exists():
            raise UsageError(f"{self.save} exists already.", hint="Choose another --save, or run that file.")
        texts = {"--axis": self.axes, "--input": self.inputs, "--image": (self.image,), "--prompt": (self.prompt,)}
        for option, given in texts.items():
            check_utf8(option, given)
        inputs = parse_assignments(self.inputs, "--input")
        inputs |= {name: text for name, text in (("image", self.image), ("prompt", self.prompt)) if text is not None}
        named = Path(self.image) if self.image else workflow
        plain = re.sub(r"\W+", "-", str(named).partition(":")[2]).strip("-")[:60]
        stem = plain if is_reference(str(named)) else named.stem
        name = self.save.stem if self.save else f"{stem}-{date.today().isoformat()}"  # noqa: DTZ011  the user's own day
        here = Path.cwd()
        text = write_experiment(str(workflow), self.axes, inputs, name=name, paths_from=here)
        try:
            experiment = load_fetched(partial(Experiment.from_text, text, here, overrides), access, results)
        except ExperimentError as error:  # the lines of a text that nobody has seen help nobody
            problems = [replace(problem, line=None, column=None) for problem in error.problems]
            raise ExperimentError.of(problems, "command line") from error
        if self.save is None:
            return experiment, f"To keep this experiment as a file, add --save {stem}.yaml."
        text = write_experiment(str(workflow), self.axes, inputs, name=name, paths_from=here, saved_in=self.save.parent)
        self.save.write_text(text, encoding="utf-8")
        return experiment, f"Wrote {self.save}."
