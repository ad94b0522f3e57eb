"""Experiments, and the loader that makes one of a file or reports every problem of the file at once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from sweep.errors import ExperimentError, Problem, UnfetchedError, did_you_mean
from sweep.experiment.axes import Assignments, Axis, AxisKind, Dimension, ListLevels, Setting, UndrawnLevels
from sweep.experiment.axis_builder import AxisBuilder
from sweep.experiment.command_line import apply_overrides
from sweep.experiment.conditions import Clause, ConditionError, NamedAxis, compile_clause
from sweep.experiment.designs import DesignValidator, choose_points
from sweep.experiment.file_schema import FULL_DESIGN, DesignSpec, StudySpec, validate_shape
from sweep.experiment.grid import Grid, make_space
from sweep.experiment.problems import DocumentPath, Mark, ProblemCollector, join_path
from sweep.experiment.value_files import UNFETCHED, AxisError, FetchedFiles, ValueReader, is_reference
from sweep.experiment.yaml_document import (
    Document,
    expand_path,
    include_files,
    make_plain,
    path_kind,
    quote_source,
    read_file,
    read_text,
    write_as_run,
)
from sweep.input_images import InputImage
from sweep.role_table import (
    INPUT_NAMES,
    ROLE_NAMES,
    SEED_MAX,
    TEMPLATE_NAMES,
    describe_missing,
    describe_no_target,
    is_address,
    is_target,
    quote,
)
from sweep.text import quote_argument


@dataclass(frozen=True, kw_only=True, repr=False)
class Experiment:
    """A workflow, what is fixed, what is varied, and which points count. It never changes once it is loaded.

    An axis wins over an input that sets the same target, so an input is the value at levels that leave it alone.
    """

    name: str  # also the name of its results folder: safe on every operating system
    description: str = ""
    workflow: str  # as written: a template's name or the path of a file
    workflow_path: Path | None = None  # the file, where it is one
    folder: Path  # what relative paths start from
    inputs: Mapping[str, Setting] = field(default_factory=dict)
    dimensions: tuple[Dimension, ...] = ()  # the first varies slowest
    clauses: tuple[Clause, ...] = ()  # of where: and exclude:; a point counts where every one holds
    design: DesignSpec = FULL_DESIGN
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # role → addresses, where the file settles it
    servers: tuple[str, ...] = ()
    board: str | None = None
    study: StudySpec = field(default_factory=StudySpec)
    text: str = ""  # as run: includes and overrides merged, `folder` absolute; loads again from any place
    fetched: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # what servers gave: reference → entry
    source: str = ""  # the file as it was named; empty where there is none
    notices: tuple[str, ...] = ()  # what was done that the file does not say (equal lines dropped, a stop not reached)
    marks: Mapping[str, tuple[Mark, Mark]] = field(default_factory=dict)  # dotted place → where its key and value stand

    def __post_init__(self) -> None:
        for name in ("inputs", "roles", "marks"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __repr__(self) -> str:
        axes = ", ".join(f"{axis.name} ({len(axis.levels):,})" for axis in self.axes) or "none"
        return f"<Experiment {self.name!r}: workflow {self.workflow}, axes {axes}>"

    @classmethod
    def load(cls, path: str | Path, overrides: str | Sequence[str] = (), fetched: Path | None = None) -> Experiment:
        """Load the experiment in the YAML file at `path`.

        Args:
            path: The file.
            overrides: Texts as in "inputs.steps=30", applied in order.
            fetched: The folder of what the file names on servers; by default `inputs` beside the file, where a run
                keeps it. `sweep.load_from_servers` fetches it.

        Raises:
            ExperimentError: The file has problems; each is listed with line and column.
            UnfetchedError: It names images or a workflow that have to be fetched from a server first.
            UsageError: An override leads nowhere.

        Example::

            experiment = Experiment.load("denoise.yaml", overrides=["inputs.steps=30"])
            print(len(experiment.grid), experiment.grid[0].values)
        """
        return _load_document(read_file(Path(path), str(path)), Path(path).resolve(), str(path), overrides, fetched)

    @classmethod
    def from_text(
        cls, text: str, folder: str | Path = ".", overrides: str | Sequence[str] = (), fetched: Path | None = None
    ) -> Experiment:
        """Load the experiment in YAML `text`; relative paths start from `folder`. Raises as `load` does."""
        top = Path(folder).resolve()
        document = read_text(text, folder=top, shown=_UNNAMED)
        return _load_document(document, top / "experiment.yaml", _UNNAMED, overrides, fetched)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], folder: str | Path = ".", fetched: Path | None = None) -> Experiment:
        """Load the experiment that a file holding `data` would be. Raises as `load` does, without lines."""
        top = Path(folder).resolve()
        document = Document(data=make_plain(data), folder=top)
        return _load_document(document, top / "experiment.yaml", _UNNAMED, (), fetched)

    @cached_property
    def grid(self) -> Grid:
        """Return all points, lazily."""
        space = make_space(self.dimensions, self.clauses)
        return Grid(self.dimensions, space, choose_points(self.design, space, self.dimensions))

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Return every axis in the order of the definition, zipped ones too."""
        return tuple(axis for dimension in self.dimensions for axis in dimension.axes)

    @cached_property
    def assignments(self) -> Assignments:
        """Return what is set, by target."""
        return Assignments.of(self.inputs, self.axes)

    @property
    def undrawn(self) -> dict[str, int]:
        """Return the axes of seeds given by count alone, and how many each has."""
        return {axis.name: len(axis.levels) for axis in self.axes if isinstance(axis.levels, UndrawnLevels)}

    def with_seeds(self, seeds: Mapping[str, Iterable[int]]) -> Experiment:
        """Return the same experiment with the seeds of `undrawn` axes drawn. Raises ExperimentError for other seeds."""
        drawn = {name: tuple(values) for name, values in seeds.items()}
        for name, values in drawn.items():
            if name not in self.undrawn:
                raise ExperimentError(f"{name} is not an axis of seeds that are still to be drawn.")
            if len(values) != self.undrawn[name] or len(set(values)) != len(values):
                raise ExperimentError(f"Axis {name} needs {self.undrawn[name]} different seeds, not {len(values)}.")
            if not all(0 <= seed <= SEED_MAX for seed in values):
                raise ExperimentError(f"Seeds are 0 to {SEED_MAX}.")

        def draw(axis: Axis) -> Axis:
            if axis.name not in drawn:
                return axis
            return replace(axis, levels=ListLevels(axis.levels.targets, drawn[axis.name]))

        dimensions = tuple(Dimension(tuple(map(draw, dimension.axes))) for dimension in self.dimensions)
        return replace(self, dimensions=dimensions)

    def images(self) -> dict[str, InputImage]:
        """List every image the experiment uses, by SHA-256, in the order it names them."""
        levels = (level for axis in self.axes if axis.kind in ("image", "label") for level in axis.levels)
        settings = (*self.inputs.values(), *chain.from_iterable(level.settings.values() for level in levels))
        found: dict[str, InputImage] = {}
        for image in chain.from_iterable(map(_list_images, settings)):
            found.setdefault(image.sha256, image)
        return found

    def find_mark(self, place: str, /, *, value: bool = False) -> Mark | None:
        """Find where the file says what stands at a dotted place ("axes.seed.2"), or else what holds it."""
        while place:
            if place in self.marks:
                return self.marks[place][int(value)]
            place = place.rpartition(".")[0]
        return None


def _list_images(setting: Any) -> Iterator[InputImage]:
    if isinstance(setting, InputImage):
        yield setting
    elif isinstance(setting, Mapping | list):
        for part in setting.values() if isinstance(setting, Mapping) else setting:
            yield from _list_images(part)


_UNNAMED: Final = "experiment"  # what messages call a definition that is in no file
_NAME = re.compile(r"[^\W_][\w .+-]{0,79}\Z")
_DEVICES: Final = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?\Z", re.IGNORECASE)


def _load_document(
    document: Document, path: Path, shown: str, overrides: str | Sequence[str], fetched: Path | None
) -> Experiment:
    """Load the experiment in a document of the file at `path`, which errors call `shown`."""
    if document.data is None:
        raise ExperimentError(f"{shown} is empty.", source=shown, hint="An experiment has at least a workflow.")
    if not isinstance(document.data, dict):
        raise ExperimentError.of([Problem(message="an experiment is a mapping", line=1, column=1)], shown)
    if "nodes" in document.data and "workflow" not in document.data:
        hint = f"sweep init {quote_argument(shown)} writes an experiment for it."
        raise ExperimentError(f"{shown} is a workflow, not an experiment.", source=shown, hint=hint)
    if "include" in document.data:
        document = include_files(document, path, shown)
    if overrides:
        apply_overrides(document, overrides)
    return _Loader(document, shown, FetchedFiles(fetched or path.parent / "inputs")).load(path.stem)


MAX_CHECKED_POINTS: Final = 20_000  # a larger grid is not searched for being empty before it is asked for


class _Loader:
    """Makes an experiment of a document. Problems are collected, and what they concern is left out until the end."""

    def __init__(self, document: Document, shown: str, fetched: FetchedFiles) -> None:
        self.shown = shown
        self.document = document
        self.problems = ProblemCollector(document, shown)
        self.file = validate_shape(document, self.problems)
        if self.file.folder:
            document.folder = expand_path(document.folder, self.file.folder)
        self.reader = ValueReader(document, fetched)

    def load(self, default_name: str) -> Experiment:
        """Make the experiment. Raises ExperimentError with every problem found."""
        file, document, notices = self.file, self.document, list[str]()
        inputs = self.read_inputs()
        dimensions = AxisBuilder(document, self.problems, self.reader, notices).build(file.axes, inputs)
        axes = {axis.name: axis for dimension in dimensions for axis in dimension.axes}
        broken = set(_list_written_axes(document.data.get("axes"))) - set(axes)
        name, (workflow, workflow_path) = self.choose_name(default_name), self.find_workflow()
        self.require_fetched(name)
        clauses = self.compile_clauses(axes, broken)
        DesignValidator(file, self.problems, dimensions, broken).check()
        self.check_addresses()
        self.problems.raise_any()
        points = math.prod(len(dimension) for dimension in dimensions)
        if points <= MAX_CHECKED_POINTS and not len(make_space(dimensions, clauses)):
            place = ("where",) if file.where else ("exclude",)
            self.problems.add_at_key(place, "the conditions leave no point of the grid")
            self.problems.raise_any()
        notices += _note_alternatives(inputs, axes.values())
        if (wanted := file.design.points or 0) > points:
            notices.append(f"design asks for {wanted:,} points; the grid has {points:,}.")
        marks = ((at, (document.keys.get(at, mark), mark)) for at, mark in document.values.items() if at)
        return Experiment(
            name=name,
            description=file.description,
            workflow=workflow,
            workflow_path=workflow_path,
            folder=document.folder,
            inputs=inputs,
            dimensions=dimensions,
            clauses=clauses,
            design=file.design,
            roles=file.roles,
            servers=file.servers,
            board=file.board,
            study=file.study,
            text=write_as_run(document.data, name, document.folder, self.reader.rewritten),
            fetched=self.reader.fetched.used,
            notices=tuple(notices),
            source="" if self.shown == _UNNAMED else self.shown,
            marks={join_path(at): both for at, both in marks if both[0].source is both[1].source is None},
        )

    def read_inputs(self) -> dict[str, Setting]:
        """Read every input that is known and right."""
        result: dict[str, Setting] = {}
        for target, value in self.file.inputs.items():
            place = ("inputs", target)
            if target == "board":
                self.problems.add_at_key(place, f"{join_path(place)}: write board: … at the top level of the file")
            elif not is_target(target, INPUT_NAMES):
                self.problems.add_at_key(place, f"{join_path(place)} {describe_no_target(target, INPUT_NAMES)}")
            else:
                try:
                    result[target] = self.reader.read(target, value, place)
                except AxisError as error:
                    message = f"{join_path(place)} {error.message}".replace("  ", " ")
                    self.problems.add_at_value(place, quote_source(self.document, place, message))
        return result

    def require_fetched(self, name: str) -> None:
        """Raise UnfetchedError, with all problems so far, where something has to be fetched from a server first."""
        if self.reader.fetched.lacking:
            try:
                self.problems.raise_any()
            except ExperimentError as error:
                unfetched = UnfetchedError(error.message, problems=error.problems, source=error.source)
                unfetched.references = tuple(self.reader.fetched.lacking)
                unfetched.experiment, unfetched.servers = name, self.file.servers
                raise unfetched from None

    def choose_name(self, default: str) -> str:
        """Choose the name of the results folder, which every operating system has to take."""
        name = self.file.name if self.file.name is not None else default
        if not _NAME.match(name) or name != name.strip(" .") or _DEVICES.match(name):
            self.problems.add_at_value(
                ("name",),
                f"name {quote(name)} is no folder name on some systems; use at most 80 letters, digits, spaces, "
                "- _ + or . and begin with a letter or a digit",
            )
        return name

    def find_workflow(self) -> tuple[str, Path | None]:
        """Find the workflow as seen from the experiment's folder, and its file where it has one."""
        written, place = self.file.workflow, ("workflow",)
        if written in TEMPLATE_NAMES:
            return written, None
        if is_reference(written) and not written.startswith("library:"):
            self.problems.add_at_value(place, f"workflow: {written} is no workflow; library:NAME names one of a server")
            return written, None
        if is_reference(written):
            fetched = self.reader.fetched.find_file(written)
            if fetched is None:
                self.problems.add_at_value(place, f"workflow: {written} is in the library {UNFETCHED}")
            return written, fetched
        shown, path = self.reader.find_path(place, written)
        if path_kind(path) == "file":
            return shown, path
        self.problems.add_at_value(place, f"workflow: {describe_missing(written, path)}")
        return written, None

    def compile_clauses(self, axes: Mapping[str, Axis], broken: set[str]) -> tuple[Clause, ...]:
        """Compile the conditions of where: and exclude:, those that name only axes that are right."""
        known = [*map(_describe_axis, axes.values()), *(NamedAxis(name, "any") for name in broken)]
        clauses: list[Clause] = []
        for section, texts, wanted in (("where", self.file.where, True), ("exclude", self.file.exclude, False)):
            listed = isinstance(self.document.data.get(section), list)
            for at, text in enumerate(texts):
                place: DocumentPath = (section, at) if listed else (section,)
                try:
                    clause = compile_clause(text, known, wanted=wanted)
                except ConditionError as error:
                    self.problems.add_at_character(place, f"{section}: {error.message}", error.column)
                    continue
                for axis in (axes[name] for name in clause.names if name in axes):
                    if axis.levels.why_unknown:
                        self.problems.add_at_value(place, f"{section}: {axis.name} {axis.levels.why_unknown}")
                if not broken.intersection(clause.names):
                    clauses.append(clause)
        return tuple(clauses)

    def check_addresses(self) -> None:
        """Check the roles and addresses of `roles`, and the URLs of servers."""
        for role, addresses in self.file.roles.items():
            if role not in ROLE_NAMES:
                near = did_you_mean(role, ROLE_NAMES)
                self.problems.add_at_key(("roles", role), f"roles.{role} is not a role.{near}")
            for address in addresses:
                if not is_address(address):
                    self.problems.add_at_value(("roles", role), f"roles.{role}: {address} is not written node.field")
        for at, url in enumerate(self.file.servers):
            if not re.match(r"https?://[^/\s]+", url):
                self.problems.add_at_value(("servers", at), f"{url} is not the URL of a server, as http://host:9090 is")


_ALTERNATIVES = re.compile(r"\{[^{}]*\|[^{}]*\}")


def _note_alternatives(inputs: Mapping[str, Setting], axes: Iterable[Axis]) -> Iterator[str]:
    """Note texts with alternatives in the syntax of dynamic prompts, which nobody expands."""
    varied = {axis.name: [level.value for level in axis.levels[:1000]] for axis in axes if axis.kind == "text"}
    for name, values in ({name: [value] for name, value in inputs.items()} | varied).items():
        if found := next(filter(None, map(_ALTERNATIVES.search, (v for v in values if isinstance(v, str)))), None):
            yield f'{name}: "{found[0]}" is sent as it is. To try each of them, write {{dynamic: TEXT}} as the axis.'


def _list_written_axes(axes: Any) -> Iterator[str]:
    """List the names of the axes as the file has them, wrong ones too."""
    for name, raw in axes.items() if isinstance(axes, dict) else ():
        inner = raw.get("zip", raw if name == "zip" else None) if isinstance(raw, dict) else None
        columns = raw.get("columns") if isinstance(raw, dict) else None
        named = inner if isinstance(inner, dict) else columns
        yield from [each for each in named if isinstance(each, str)] if isinstance(named, dict | list) else [name]


def _describe_axis(axis: Axis) -> NamedAxis:
    kinds: dict[AxisKind, Any] = {"integer": "number", "number": "number", "seed": "number", "boolean": "boolean"}
    kind = kinds.get(axis.kind, "text")
    few = kind == "text" and len(axis.levels) <= 1_000
    return NamedAxis(axis.name, kind, tuple(level.value for level in axis.levels) if few else ())
