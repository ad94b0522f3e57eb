"""From an experiment file to what it declares: read, merged with its includes, checked strictly.

Every problem is collected and reported at once, with its line and column, so that one look mends the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from sweep.errors import ExperimentError, Problem, UnfetchedError, did_you_mean
from sweep.experiment import axes as kinds
from sweep.experiment import schema
from sweep.experiment.axes import AxisDraft, AxisError, SourceError, TextColumn
from sweep.experiment.document import (
    Document,
    DocumentPath,
    Mark,
    ProblemCollector,
    did_you_mean_file,
    expand_path,
    join_path,
    path_kind,
    quote_source,
    write_as_run,
)
from sweep.experiment.inputs import UNFETCHED, FetchedFiles, InputReader, is_reference
from sweep.experiment.model import (
    Axis,
    CellSeeds,
    Declaration,
    Dimension,
    Setting,
)
from sweep.experiment.overrides import apply_overrides, include_files
from sweep.experiment.validation import GridValidator, validate_shape
from sweep.role_table import (
    INPUT_NAMES,
    ROLE_NAMES,
    TEMPLATE_NAMES,
    describe_no_target,
    find_role,
    is_address,
    is_target,
    quote,
    strip_number,
)
from sweep.text import format_count

_OWN_NAME: Final = " If you chose this name yourself, say which input the axis sets: target: INPUT."
_OWN_COLUMN: Final = (
    " A column that sets nothing can name the rows (title: COLUMN) or count their images (count: COLUMN), beside"
    " columns: {prompt: COLUMN}; sweep ignores columns that you do not name."
)
_NAME = re.compile(r"[^\W_][\w .+-]{0,79}\Z")
_DEVICES: Final = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?\Z", re.IGNORECASE)
_AXIS_NAME = re.compile(r"(?!\s)[^\x00-\x1f\x7f\x85\u2028\u2029]{1,100}(?<!\s)")


@dataclass
class Builder:
    """Makes the parts of one experiment; problems go to `problems`, and what they concern is left out of the result."""

    file: schema.ExperimentFile
    document: Document
    problems: ProblemCollector[DocumentPath]
    reader: InputReader
    notices: list[str] = field(default_factory=list)

    def inputs(self) -> dict[str, Setting]:
        """List every input that is known and right."""
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

    def dimensions(self) -> tuple[Dimension, ...]:
        """Make one dimension for each entry of `axes` that is right."""
        result = []
        for name, spec in self.file.axes.items():
            if not _AXIS_NAME.fullmatch(name):
                way = "write it on one line, in 1 to 100 characters"
                self.problems.add_at_key(("axes", name), f"axes: {quote(name)} is no name of an axis; {way}")
                continue
            dimension = self._build_dimension(name, spec, ("axes", name))
            if dimension is not None:
                result.append(dimension)
        return tuple(result)

    def _build_dimension(self, name: str, spec: Any, place: DocumentPath) -> Dimension | None:
        try:
            if isinstance(spec, schema.Zip):
                return self._build_zip(spec, place)
            if isinstance(spec, schema.CsvColumns) and spec.columns:
                return self._build_csv_columns(spec, name, place)
            return Dimension((self._build_axis(name, spec, place, repeats=False),))
        except AxisError as error:
            self._report(error, place)
            return None

    def _report(self, error: AxisError, place: DocumentPath) -> None:
        for problem in (error, *error.others):
            where = (*place, *problem.part)
            message = quote_source(self.document, where, problem.message)
            if problem.part and where in self.document.values:
                self.problems.add_at_value(where, message)
            else:
                self.problems.add_at_key(where, message)

    def _build_zip(self, spec: schema.Zip, place: DocumentPath) -> Dimension | None:
        axes: list[Axis] = []
        for name, inner in spec.zip.items():
            inside = (*place, "zip", name) if (*place, "zip", name) in self.document.keys else (*place, name)
            try:
                axes.append(self._build_axis(name, inner, inside, repeats=True))
            except AxisError as error:
                self._report(error, inside)
        if len(axes) < len(spec.zip):
            return None
        try:
            return kinds.zip_axes(axes, join_path(place))
        except AxisError as error:
            nested = (*place, "zip", *error.part)
            self.problems.add_at_key(nested if nested in self.document.keys else (*place, *error.part), error.message)
            return None

    def _build_csv_columns(self, spec: schema.CsvColumns, name: str, place: DocumentPath) -> Dimension:
        try:
            axes = self._build_columns(spec, name, place)
        except SourceError as error:
            raise AxisError(f"{join_path(place)}: {error}", "csv") from error
        return Dimension((axes[0],)) if len(axes) == 1 else kinds.zip_axes(axes, join_path(place))

    def _build_columns(self, spec: schema.CsvColumns, name: str, place: DocumentPath) -> list[Axis]:
        """Build an axis for each column, and for the titles and the counted seeds of the rows."""
        shown, path = self.reader.find_path((*place, "csv"), spec.csv)
        named = [column for column in (*spec.columns.values(), spec.title, spec.count) if column]
        columns = {column.name: column for column in kinds.read_columns(path, shown, named)}
        counts = columns[spec.count].counts() if spec.count else None
        axes = []
        if spec.title:
            draft = AxisDraft(name, (), join_path(place), self._make_reader(place), self.notices, repeats=True)
            axes.append(kinds.make_list_axis(draft, kinds.repeat_rows(columns[spec.title].cells, counts)))
        for target, column in spec.columns.items():
            draft = self._draft_axis(target, (*place, "columns", target), way=_OWN_COLUMN, reads_at=place, repeats=True)
            cells = kinds.parse_column(draft.targets[0], columns[column])
            if strip_number(target) == "seed" and counts:
                cells = kinds.count_seeds(cells, counts)
            else:
                cells = kinds.repeat_rows(cells, counts)
            axes.append(kinds.make_list_axis(draft, cells))
        if counts and "seed" not in spec.columns:
            draft = self._draft_axis("seed", (*place, "count"), reads_at=place, repeats=True)
            axes.append(kinds.make_list_axis(draft, kinds.count_seeds([1] * len(counts), counts)))
        return axes

    def _make_reader(self, place: DocumentPath) -> Callable[..., Setting]:
        def read(target: str, raw: Any, *part: str | int) -> Setting:
            where = join_path((*place, *part))
            if not (is_target(target) or target == "controls"):
                raise AxisError(f"{where} {describe_no_target(target)}", *part)
            try:
                return self.reader.read(target, raw, (*place, *part))
            except AxisError as error:
                raise AxisError(f"{where} {error.message}", *part) from error

        return read

    def _draft_axis(
        self,
        name: str,
        place: DocumentPath,
        *,
        repeats: bool,
        targets: tuple[str, ...] = (),
        default: str | None = None,
        way: str = _OWN_NAME,
        reads_at: DocumentPath | None = None,
    ) -> AxisDraft:
        """Draft an axis. `default` is what it sets where neither its name nor `target` says it, or empty.

        `way` says what to do about a name that sets nothing, `reads_at` where the values stand.
        """
        where = join_path(place)
        for target in targets:
            if not is_target(target):
                raise AxisError(f"{where}: target {target} {describe_no_target(target)}", "target")
        if name == "zip":
            raise AxisError(f"{where} must be a mapping of axes that step together")
        if not targets and is_target(name):
            targets = (name,)
        elif not targets and default is None:
            raise AxisError(f"{where} {describe_no_target(name)}{way}")
        elif not targets and default:
            targets = (default,)
        return AxisDraft(name, targets, where, self._make_reader(reads_at or place), self.notices, repeats)

    def _build_axis(self, name: str, spec: Any, place: DocumentPath, *, repeats: bool) -> Axis:
        default = "prompt" if isinstance(spec, schema.Replace | schema.Dynamic) else None
        if isinstance(spec, schema.Images | schema.BoardImages):
            default = "image"
        if isinstance(spec, schema.SettingsFile) or isinstance(getattr(spec, "values", None), dict):
            default = ""
        way = _OWN_COLUMN if isinstance(spec, schema.CsvColumns) else _OWN_NAME
        targets = getattr(spec, "target", ())
        draft = self._draft_axis(name, place, repeats=repeats, targets=targets, default=default, way=way)
        match spec:
            case list():
                return kinds.make_list_axis(draft, spec)
            case schema.StepRange():
                return kinds.make_step_axis(draft, spec.start, spec.stop, spec.step)
            case schema.CountRange():
                return kinds.make_count_axis(draft, spec.start, spec.stop, spec.num, spec.scale)
            case schema.Seeds():
                return self._build_seeds(draft, spec)
            case schema.Labelled(values=dict()):
                return kinds.make_labelled_axis(draft, spec.values)
            case schema.Labelled():
                return kinds.make_list_axis(draft, spec.values, "values")
            case schema.Replace():
                return kinds.make_replace_axis(draft, spec.replace, spec.with_)
            case _:
                try:
                    return self._build_from_files(draft, spec, place)
                except SourceError as error:
                    key = schema.find_kind_key(type(spec).model_fields) or ""
                    raise AxisError(f"{draft.place}: {error}", key) from error

    def _build_seeds(self, draft: AxisDraft, spec: schema.Seeds) -> Axis:
        for target in draft.targets:
            if find_role(target) is not None and strip_number(target) != "seed":
                raise AxisError(f"{draft.place}: count draws seeds, and {target} is none; a range has start and stop")
        if not spec.each_cell:
            return kinds.make_seed_axis(draft, spec.count, spec.start)
        if draft.repeats:
            raise AxisError(f"{draft.place}: each_cell does not go with zip; list the seeds there", "each_cell")
        self.notices.append(
            f"{draft.place}: each combination has {format_count(spec.count, 'seed')} of its own, so a study cannot"
            " pair images by seed: intervals of differences are wider, and no seed is compared with another."
        )
        return Axis(draft.name, "seed", CellSeeds(draft.targets, spec.count, spec.start or 0))

    def _build_from_files(self, draft: AxisDraft, spec: Any, place: DocumentPath) -> Axis:
        match spec:
            case schema.TextLines():
                shown, path = self.reader.find_path((*place, "lines"), spec.lines)
                column = kinds.read_lines(path, shown)
            case schema.CsvColumns():
                shown, path = self.reader.find_path((*place, "csv"), spec.csv)
                column = kinds.read_columns(path, shown, [spec.column or draft.name])[0]
            case schema.Dynamic():
                kinds.check_text_only(draft, "dynamic")
                folder = spec.wildcards and self.reader.find_path((*place, "wildcards"), spec.wildcards)[1]
                prompts = kinds.expand_prompts(spec.dynamic, folder or None)
                column = TextColumn("", "its templates", prompts, range(1, len(prompts) + 1))
            case schema.SettingsFile():
                shown, path = self.reader.find_path((*place, "settings"), spec.settings)
                return kinds.make_labelled_axis(draft, kinds.read_settings(path, shown))
            case schema.Images():
                patterns = [self.reader.find_path((*place, "images"), pattern)[0] for pattern in spec.images]
                return kinds.make_image_axis(draft, kinds.find_files(self.reader.folder, patterns))
            case _:
                return kinds.make_image_axis(draft, self._list_board(spec.board))
        return kinds.make_column_axis(draft, column)

    def _list_board(self, board: str) -> list[str]:
        listed = self.reader.fetched.list_images(f"board:{board}")
        if listed is None:
            raise SourceError(f"{quote(board)} is a board {UNFETCHED}")
        if not listed:
            raise SourceError(f"the board {quote(board)} has no images")
        return listed

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
        if is_reference(written):
            fetched = self.reader.fetched.find_file(written) if written.startswith("library:") else None
            if fetched is None:
                self.problems.add_at_value(place, f"workflow: {written} is in the library {UNFETCHED}")
            return written, fetched
        shown, path = self.reader.find_path(place, written)
        if path_kind(path) == "file":
            return shown, path
        near = did_you_mean(written, TEMPLATE_NAMES)
        if path_kind(path) == "folder":
            self.problems.add_at_value(place, f"workflow: {written} is a folder, not a file")
        elif near or not (path.suffix or "/" in written):
            known = f" Templates are {', '.join(TEMPLATE_NAMES)}." if not near else ""
            self.problems.add_at_value(place, f"workflow: {written} is neither a template nor a file.{near}{known}")
        else:
            self.problems.add_at_value(place, f"workflow: {written} does not exist.{did_you_mean_file(path)}")
        return written, None

    def check_addresses(self) -> None:
        """Check what is written as a role, a node.field or a URL."""
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


D = TypeVar("D", bound=Declaration)


def load_document(
    make: type[D], document: Document, path: Path, shown: str, overrides: Sequence[str], fetched: Path | None
) -> D:
    """Load the experiment in a document.

    Args:
        make: The class that is made of it.
        document: What the file holds.
        path: The file, or where it would be.
        shown: Its name in errors.
        overrides: Texts as in "inputs.steps=30".
        fetched: The folder of what the file names on servers; None is where a run keeps it.

    Raises:
        ExperimentError: The file is wrong; it has every problem found.
    """
    document = _add_layers(document, path, shown, overrides)
    problems = ProblemCollector(document, shown)
    file = validate_shape(document, problems)
    if file.folder:
        document.folder = expand_path(document.folder, file.folder)
    reader = InputReader(document, document.folder, FetchedFiles(fetched or path.parent / "inputs"))
    builder = Builder(file, document, problems, reader)
    inputs, dimensions = builder.inputs(), builder.dimensions()
    grid = GridValidator(file, document, problems, dimensions)
    grid.check_distinct_axes()
    notices = [*builder.notices, *grid.check_replacements(inputs)]
    name, (workflow, workflow_path) = builder.choose_name(path.stem), builder.find_workflow()
    builder.require_fetched(name)
    clauses = grid.compile_clauses()
    grid.check()
    builder.check_addresses()
    problems.raise_any()
    grid.check_not_empty(clauses)
    wanted, size = file.design.points or 0, grid.points
    if wanted > size:
        notices.append(f"design asks for {wanted:,} points; the grid has {size:,}.")
    return make(
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
        text=write_as_run(document.data, name, document.folder, reader.rewritten),
        fetched=reader.fetched.used,
        notices=tuple(notices),
        source="" if shown == "experiment" else shown,
        marks=_collect_marks(document),
    )


def _add_layers(document: Document, path: Path, shown: str, overrides: Sequence[str]) -> Document:
    """Put the document over the files it includes, and the overrides over it."""
    if document.data is None:
        raise ExperimentError(f"{shown} is empty.", source=shown, hint="An experiment has at least a workflow.")
    if not isinstance(document.data, dict):
        raise ExperimentError.of([Problem(message="an experiment is a mapping", line=1, column=1)], shown)
    if "nodes" in document.data and "workflow" not in document.data:
        hint = f"sweep init {shown} writes an experiment for it."
        raise ExperimentError(f"{shown} is a workflow, not an experiment.", source=shown, hint=hint)
    document = include_files(document, path, shown)
    apply_overrides(document, overrides)
    return document


def _collect_marks(document: Document) -> dict[str, tuple[Mark, Mark]]:
    """Collect the marks of every key and value that stands in the file itself."""
    marks = ((place, document.keys.get(place, mark), mark) for place, mark in document.values.items() if place)
    return {join_path(place): (key, mark) for place, key, mark in marks if key.source is None and mark.source is None}
