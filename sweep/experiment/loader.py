"""From an experiment file to what it declares: read, merged with its includes, checked strictly.

Every problem is collected and reported at once, with its line and column, so that one look mends the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sweep.errors import ExperimentError, Problem, UnfetchedError, did_you_mean
from sweep.experiment import axes as kinds
from sweep.experiment import schema
from sweep.experiment.axes import (
    AxisError,
    Naming,
    SettingReader,
    SourceError,
    TextColumn,
    count_seeds,
    expand_prompts,
    make_count_axis,
    make_seed_axis,
    make_step_axis,
    parse_column,
    read_columns,
    read_lines,
    read_settings,
    repeat_rows,
)
from sweep.experiment.conditions import Clause, Condition, ConditionError, NamedAxis, compile_clause
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
    read_file,
    read_text,
    write_as_run,
)
from sweep.experiment.grid import make_space
from sweep.experiment.input_types import (
    INPUT_NAMES,
    TEMPLATE_NAMES,
    find_role,
    is_address,
    is_target,
    quote,
    strip_number,
)
from sweep.experiment.inputs import UNFETCHED, FetchedFiles, InputReader, Paths, is_reference
from sweep.experiment.model import (
    Axis,
    AxisKind,
    CellSeeds,
    Declaration,
    Dimension,
    Setting,
    UndrawnLevels,
    find_position,
)
from sweep.experiment.overrides import apply_overrides, include_files
from sweep.experiment.schema import DesignSpec, ExperimentFile, list_section_keys
from sweep.experiment.validation import check_distinct_axes, check_replacements, validate_shape
from sweep.role_table import ROLE_NAMES
from sweep.text import format_count


class Builder:
    """Makes inputs and dimensions; problems go to `problems`, and what they concern is left out of the result."""

    def __init__(self, document: Document, problems: ProblemCollector[DocumentPath], paths: Paths) -> None:
        self.document = document
        self.problems = problems
        self.paths = paths
        self.settings = InputReader(paths)
        self.notices: list[str] = []
        self.undrawn: dict[str, int] = {}

    def inputs(self, raw: Mapping[str, Any]) -> dict[str, Setting]:
        """List every input that is known and right."""
        result: dict[str, Setting] = {}
        for target, value in raw.items():
            place = ("inputs", target)
            if not self.check_target(place, target, INPUT_NAMES):
                continue
            try:
                result[target] = self.settings.read(target, value, place)
            except AxisError as error:
                message = f"{join_path(place)} {error.message}".replace("  ", " ")
                self.problems.add_at_value(place, quote_source(self.document, place, message))
        return result

    def check_target(self, place: DocumentPath, target: str, names: Sequence[str]) -> bool:
        """Tell whether `target` is a role or has the shape of an address; else a problem at `place`."""
        if is_target(target, names):
            return True
        if target == "board":
            self.problems.add_at_key(place, f"{join_path(place)}: write board: … at the top level of the file")
        else:
            self.problems.add_at_key(
                place, f"{join_path(place)} is no input: neither a role nor NODE.FIELD.{did_you_mean(target, names)}"
            )
        return False

    def dimensions(self, specs: Mapping[str, Any]) -> tuple[Dimension, ...]:
        """Make one dimension for each entry of `axes` that is right."""
        result = []
        for name, spec in specs.items():
            if not _AXIS_NAME.fullmatch(name):
                way = "write it on one line, in 1 to 100 characters"
                self.problems.add_at_key(("axes", name), f"axes: {quote(name)} is no name of an axis; {way}")
                continue
            dimension = self._build_dimension(name, spec, ("axes", name))
            if dimension is not None:
                result.append(dimension)
        check_distinct_axes(self.problems, result)
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
        axes: list[Axis | None] = []
        for name, inner in spec.zip.items():
            inside = (*place, "zip", name) if (*place, "zip", name) in self.document.keys else (*place, name)
            try:
                axes.append(self._build_axis(name, inner, inside, repeats=True))
            except AxisError as error:
                self._report(error, inside)
                axes.append(None)
        right = [axis for axis in axes if axis is not None]
        if len(right) < len(axes):
            return None
        try:
            return kinds.zip_axes(right, join_path(place))
        except AxisError as error:
            nested = (*place, "zip", *error.part)
            self.problems.add_at_key(nested if nested in self.document.keys else (*place, *error.part), error.message)
            return None

    def _build_csv_columns(self, spec: schema.CsvColumns, name: str, place: DocumentPath) -> Dimension:
        shown = self.paths.shown((*place, "csv"), spec.csv)
        try:
            axes = self._build_columns(spec, name, place, shown)
        except SourceError as error:
            raise AxisError(f"{join_path(place)}: {error}", "csv") from error
        if len(axes) == 1:
            return Dimension(tuple(axes))
        return kinds.zip_axes(axes, join_path(place))

    def _build_columns(self, spec: schema.CsvColumns, name: str, place: DocumentPath, shown: str) -> list[Axis]:
        """Build an axis for each column, and for the titles and the counted seeds of the rows."""
        named = [column for column in (*spec.columns.values(), spec.title, spec.count) if column]
        columns = {column.name: column for column in read_columns(self.paths.path(shown), shown, named)}
        counts = columns[spec.count].counts() if spec.count else None
        axes = []
        if spec.title:
            titles = repeat_rows(columns[spec.title].cells, counts)
            axes.append(kinds.make_list_axis(Naming(name, (), join_path(place), repeats=True), titles, _read_nothing))
        for target, column in spec.columns.items():
            naming = self._name_axis(target, (), (*place, "columns", target), repeats=True, default="", way=_COLUMN_WAY)
            cells = parse_column(naming.targets[0], columns[column])
            if strip_number(target) == "seed" and counts:
                cells = count_seeds(cells, counts)
            else:
                cells = repeat_rows(cells, counts)
            axes.append(kinds.make_list_axis(naming, cells, self._make_reader(place)))
        if counts and "seed" not in spec.columns:
            naming = self._name_axis("seed", (), (*place, "count"), repeats=True, default="")
            axes.append(kinds.make_list_axis(naming, count_seeds([1] * len(counts), counts), self._make_reader(place)))
        return axes

    def _make_reader(self, place: DocumentPath) -> SettingReader:
        def read(target: str, raw: Any, *part: str | int) -> Setting:
            inside = (*place, *part)
            if not (is_target(target) or target == "controls"):
                raise AxisError(
                    f"{join_path(inside)} is no input: neither a role nor "
                    f"NODE.FIELD.{did_you_mean(target, ROLE_NAMES)}",
                    *part,
                )
            try:
                return self.settings.read(target, raw, inside)
            except AxisError as error:
                raise AxisError(f"{join_path(inside)} {error.message}", *part) from error

        return read

    def _name_axis(
        self,
        name: str,
        targets: Sequence[str],
        place: DocumentPath,
        *,
        repeats: bool,
        default: str | None,
        way: str = "If the name is your own, add target: and the input that the axis sets.",
    ) -> Naming:
        """`default` is what the axis sets where neither its name nor `target` says it; None where it need not.

        `way` says what to do about a name that sets nothing.
        """
        said_where = join_path(place)
        for target in targets:
            if not is_target(target):
                raise AxisError(
                    f"{said_where}: target {target} is no input: neither a role nor "
                    f"NODE.FIELD.{did_you_mean(target, ROLE_NAMES)}",
                    "target",
                )
        if name == "zip":
            raise AxisError(f"{said_where} must be a mapping of axes that step together")
        if not targets and is_target(name):
            targets = (name,)
        elif not targets and default is not None:
            if not default:
                raise AxisError(
                    f"{said_where} is no input: neither a role nor NODE.FIELD.{did_you_mean(name, ROLE_NAMES)} {way}"
                )
            targets = (default,)
        return Naming(name, tuple(targets), said_where, repeats)

    def _build_axis(self, name: str, spec: Any, place: DocumentPath, *, repeats: bool) -> Axis:
        read = self._make_reader(place)
        default = "image" if isinstance(spec, schema.Images | schema.BoardImages) else ""
        if isinstance(spec, schema.Replace | schema.Dynamic):
            default = "prompt"
        labelled = isinstance(spec, schema.SettingsFile) or (
            isinstance(spec, schema.Labelled) and isinstance(spec.values, dict)
        )
        targets = getattr(spec, "target", ())
        way = (
            _COLUMN_WAY
            if isinstance(spec, schema.CsvColumns)
            else "If the name is your own, add target: and the input that the axis sets."
        )
        naming = self._name_axis(name, targets, place, repeats=repeats, default=None if labelled else default, way=way)
        match spec:
            case list():
                return kinds.make_list_axis(naming, spec, read)
            case schema.StepRange():
                axis, notices = make_step_axis(naming, spec.start, spec.stop, spec.step)
                self.notices += notices
                return axis
            case schema.CountRange():
                return make_count_axis(naming, spec.start, spec.stop, spec.num, spec.scale)
            case schema.Seeds():
                return self._build_seeds(naming, spec)
            case schema.Labelled(values=dict()):
                return kinds.make_labelled_axis(naming, spec.values, read)
            case schema.Labelled():
                return kinds.make_list_axis(naming, spec.values, lambda t, raw, *part: read(t, raw, "values", *part))
            case schema.Replace():
                self._check_text_only(naming, "replace")
                return kinds.make_replace_axis(naming, spec.replace, spec.with_)
            case _:
                return self._build_from_files(naming, spec, place)

    def _build_seeds(self, naming: Naming, spec: schema.Seeds) -> Axis:
        for target in naming.targets:
            role = find_role(target)
            if role is not None and strip_number(target) != "seed":
                raise AxisError(f"{naming.place}: count draws seeds, and {target} is none; a range has start and stop")
        if spec.each_cell:
            return self._build_cell_seeds(naming, spec)
        axis = make_seed_axis(naming, spec.count, spec.start)
        if isinstance(axis.levels, UndrawnLevels):
            self.undrawn[naming.name] = spec.count
        return axis

    def _build_cell_seeds(self, naming: Naming, spec: schema.Seeds) -> Axis:
        if naming.repeats:
            raise AxisError(f"{naming.place}: each_cell does not go with zip; list the seeds there", "each_cell")
        self.notices.append(
            f"{naming.place}: each combination has {format_count(spec.count, 'seed')} of its own, so a study cannot"
            " pair images by seed: intervals of differences are wider, and no seed is compared with another."
        )
        return Axis(naming.name, "seed", CellSeeds(naming.targets, spec.count, spec.start or 0))

    def _build_from_files(self, naming: Naming, spec: Any, place: DocumentPath) -> Axis:
        read = self._make_reader(place)
        try:
            match spec:
                case schema.TextLines():
                    shown = self.paths.shown((*place, "lines"), spec.lines)
                    return self._build_listed(naming, read_lines(self.paths.path(shown), shown), place, shown)
                case schema.CsvColumns():
                    shown = self.paths.shown((*place, "csv"), spec.csv)
                    column = read_columns(self.paths.path(shown), shown, [spec.column or naming.name])[0]
                    return self._build_listed(naming, column, place, shown)
                case schema.SettingsFile():
                    shown = self.paths.shown((*place, "settings"), spec.settings)
                    labels = read_settings(self.paths.path(shown), shown)
                    return kinds.make_labelled_axis(naming, labels, read)
                case schema.Images():
                    patterns = [self.paths.shown((*place, "images"), pattern) for pattern in spec.images]
                    found = kinds.find_files(self.paths.folder, patterns, naming.place)
                    return kinds.make_image_axis(naming, found, read)
                case schema.BoardImages():
                    listed = self.paths.fetched.list_images(f"board:{spec.board}")
                    if listed is None:
                        raise AxisError(f"{naming.place}: {quote(spec.board)} is a board {UNFETCHED}", "board")
                    if not listed:
                        raise AxisError(f"{naming.place}: the board {quote(spec.board)} has no images", "board")
                    return kinds.make_image_axis(naming, listed, read)
                case _:
                    return self._build_dynamic(naming, spec, place)
        except SourceError as error:
            raise AxisError(f"{naming.place}: {error}", schema.find_kind_key(type(spec).model_fields) or "") from error

    def _check_text_only(self, naming: Naming, key: str) -> None:
        for target in naming.targets:
            role = find_role(target)
            if role is not None and role.kind != "text":
                raise AxisError(f"{naming.place}: {key} makes texts, but {target} is none", key)

    def _build_dynamic(self, naming: Naming, spec: schema.Dynamic, place: DocumentPath) -> Axis:
        self._check_text_only(naming, "dynamic")
        folder = None
        if spec.wildcards is not None:
            folder = self.paths.path(self.paths.shown((*place, "wildcards"), spec.wildcards))
        prompts = expand_prompts(spec.dynamic, folder)
        column = TextColumn("", "dynamic", prompts, range(1, len(prompts) + 1))
        return self._build_listed(naming, column, place, "its templates")

    def _build_listed(self, naming: Naming, column: TextColumn, place: DocumentPath, origin: str) -> Axis:
        cells = parse_column(naming.targets[0], column) if naming.targets else list(column.cells)
        axis, notices = kinds.make_deduplicated_axis(naming, cells, self._make_reader(place), origin)
        self.notices += notices
        return axis


def _read_nothing(target: str, raw: Any, *part: str | int) -> Setting:
    raise AxisError(f"{target} cannot be set to {quote(raw)}: a title sets nothing", *part)


_COLUMN_WAY: Final = (
    "A column that sets nothing can name the rows (title: COLUMN) or count their images (count: COLUMN), beside"
    " columns: {prompt: COLUMN}; sweep ignores columns that you do not name."
)
_AXIS_NAME = re.compile(r"(?!\s)[^\x00-\x1f\x7f\x85\u2028\u2029]{1,100}(?<!\s)")
_NAME = re.compile(r"[^\W_][\w .+-]{0,79}\Z")
_DEVICES: Final = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?\Z", re.IGNORECASE)
MAX_POINTS: Final = 10**15
MAX_CHECKED_POINTS: Final = 20_000  # a larger grid is not searched for being empty before it is asked for


def load_file(path: Path, shown: str, overrides: Sequence[str] = (), fetched: Path | None = None) -> Declaration:
    """Load the experiment in a file; see Experiment.load."""
    document = read_file(path, shown)
    return _load(document, path.resolve(), shown, overrides, fetched)


def load_text(text: str, folder: Path, overrides: Sequence[str] = (), fetched: Path | None = None) -> Declaration:
    """Load the experiment in a text; see Experiment.from_text."""
    document = read_text(text, folder=folder.resolve(), shown="experiment")
    return _load(document, folder.resolve() / "experiment.yaml", "experiment", overrides, fetched)


def load_data(data: Mapping[str, Any], folder: Path, fetched: Path | None = None) -> Declaration:
    """Load the experiment in a mapping; see Experiment.from_dict."""
    document = Document(data=_make_plain(data), folder=folder.resolve())
    return _load(document, folder.resolve() / "experiment.yaml", "experiment", (), fetched)


def _make_plain(value: Any) -> Any:
    """Turn tuples, ranges and paths into what a file would hold, in containers of our own."""
    if isinstance(value, Mapping):
        return {str(key): _make_plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | range):
        return [_make_plain(part) for part in value]
    return value.as_posix() if isinstance(value, Path) else value


def _load(document: Document, path: Path, shown: str, overrides: Sequence[str], fetched: Path | None) -> Declaration:
    """Load an experiment; what it names on servers is looked for in `fetched`, else where a run keeps it."""
    if document.data is None:
        raise ExperimentError(f"{shown} is empty.", source=shown, hint="An experiment has at least a workflow.")
    if not isinstance(document.data, dict):
        raise ExperimentError.of([Problem(message="an experiment is a mapping", line=1, column=1)], shown)
    if "nodes" in document.data and "workflow" not in document.data:
        raise ExperimentError(
            f"{shown} is a workflow, not an experiment.",
            source=shown,
            hint=f"sweep init {shown} writes an experiment for it.",
        )
    document = include_files(document, path, shown)
    apply_overrides(document, overrides, list_section_keys())
    problems = ProblemCollector(document, shown)
    file = validate_shape(document, problems)
    return _Loader(file, document, problems, path, shown, FetchedFiles(fetched or path.parent / "inputs")).load()


class _Loader:
    """One file on its way to what it declares."""

    def __init__(
        self,
        file: ExperimentFile,
        document: Document,
        problems: ProblemCollector[DocumentPath],
        path: Path,
        shown: str,
        fetched: FetchedFiles,
    ) -> None:
        self.file = file
        self.document = document
        self.problems = problems
        self.path = path
        self.shown = shown
        self.folder = expand_path(document.folder, file.folder) if file.folder else document.folder
        if file.folder:
            document.folder = self.folder
        self.paths = Paths(document, self.folder, fetched)

    def load(self) -> Declaration:
        """Build the declaration. Raises ExperimentError with every problem found."""
        builder = Builder(self.document, self.problems, self.paths)
        inputs = builder.inputs(self.file.inputs)
        dimensions = builder.dimensions(self.file.axes)
        check_replacements(self.problems, inputs, dimensions, builder.notices)
        name, workflow_path = self._check_name(), self._find_workflow()
        self._require_fetched(name)
        condition = self._compile_condition(dimensions)
        self._check_design(dimensions)
        self._check_rest(dimensions)
        self._check_size(dimensions)
        self.problems.raise_any()
        result = Declaration(
            name=name,
            description=self.file.description,
            workflow=self.paths.shown(("workflow",), self.file.workflow) if workflow_path else self.file.workflow,
            workflow_path=workflow_path,
            folder=self.folder,
            inputs=inputs,
            dimensions=dimensions,
            condition=condition,
            design=self.file.design,
            roles=dict(self.file.roles),
            servers=self.file.servers,
            board=self.file.board,
            study=self.file.study,
            text=write_as_run(self.document.data, name, self.folder, self.paths.rewritten),
            fetched=self.paths.fetched.used,
            undrawn=builder.undrawn,
            notices=(*builder.notices, *_note_surplus(self.file.design, dimensions)),
            source="" if self.shown == "experiment" else self.shown,
            marks=_collect_marks(self.document),
        )
        self._check_not_empty(result)
        return result

    def _require_fetched(self, name: str) -> None:
        """Raise UnfetchedError, with all problems so far, where something has to be fetched from a server first."""
        if self.paths.fetched.lacking:
            try:
                self.problems.raise_any()
            except ExperimentError as error:
                unfetched = UnfetchedError(error.message, problems=error.problems, source=error.source)
                unfetched.references = tuple(self.paths.fetched.lacking)
                unfetched.experiment, unfetched.servers = name, self.file.servers
                raise unfetched from None

    def _check_name(self) -> str:
        name = self.file.name if self.file.name is not None else self.path.stem
        if not _NAME.match(name) or name != name.strip(" .") or _DEVICES.match(name):
            self.problems.add_at_value(
                ("name",),
                f"name {quote(name)} cannot name a folder everywhere; letters, digits, spaces, - _ + and . are safe, "
                "at most 80 of them, a letter or digit first",
            )
        return name

    def _find_workflow(self) -> Path | None:
        written, place = self.file.workflow, ("workflow",)
        if written in TEMPLATE_NAMES:
            return None
        if is_reference(written):
            fetched = self.paths.fetched.find_file(written) if written.startswith("library:") else None
            if fetched is None:
                self.problems.add_at_value(place, f"workflow: {written} is in the library {UNFETCHED}")
            return fetched
        path = self.paths.path(self.paths.shown(place, written))
        if path_kind(path) == "file":
            return path
        near = did_you_mean(written, TEMPLATE_NAMES)
        if path_kind(path) == "folder":
            self.problems.add_at_value(place, f"workflow: {written} is a folder, not a file")
        elif near or not (path.suffix or "/" in written):
            known = f" Templates are {', '.join(TEMPLATE_NAMES)}." if not near else ""
            self.problems.add_at_value(place, f"workflow: {written} is neither a template nor a file.{near}{known}")
        else:
            self.problems.add_at_value(place, f"workflow: {written} does not exist.{did_you_mean_file(path)}")
        return None

    def _compile_condition(self, dimensions: Sequence[Dimension]) -> Condition | None:
        axes = {axis.name: axis for dimension in dimensions for axis in dimension.axes}
        broken = set(self._list_written_axes()) - set(axes)
        known = [_describe_axis(axis) for axis in axes.values()] + [NamedAxis(name, "any") for name in broken]
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
                own = [name for name in clause.names if name in axes and isinstance(axes[name].levels, CellSeeds)]
                if own:
                    self.problems.add_at_value(
                        place, f"{section}: {own[0]} has other seeds in each combination; leave it out of conditions"
                    )
                undrawn = [n for n in clause.names if n in axes and isinstance(axes[n].levels, UndrawnLevels)]
                if undrawn:
                    self.problems.add_at_value(
                        place, f"{section}: the seeds of {undrawn[0]} are not drawn before the run; give them a start"
                    )
                if not broken.intersection(clause.names):
                    clauses.append(clause)
        return Condition(tuple(clauses)) if clauses else None

    def _list_written_axes(self) -> list[str]:
        """List the names of the axes as the file has them, wrong ones too."""
        names: list[str] = []
        written = self.document.data.get("axes")
        for name, raw in written.items() if isinstance(written, dict) else ():
            inner = raw.get("zip", raw if name == "zip" else None) if isinstance(raw, dict) else None
            columns = raw.get("columns") if isinstance(raw, dict) else None
            names += list(inner) if isinstance(inner, dict) else list(columns) if columns else [name]
        return [name for name in names if isinstance(name, str)]

    def _check_design(self, dimensions: Sequence[Dimension]) -> None:
        self._check_cell(("design", "baseline"), self.file.design.baseline, dimensions)
        self._check_seeds(dimensions)
        if self.file.design.kind == "adaptive":
            self._check_adaptive(dimensions)

    def _check_seeds(self, dimensions: Sequence[Dimension]) -> None:
        """Check that designs over seeds have some."""
        kind = self.file.design.kind
        least = {"rotated": 2, "adaptive": LEAST_ADAPTIVE_SEEDS}.get(kind, 0)
        seeds = max((len(dimension) for dimension in dimensions if dimension.is_seeds), default=0)
        if least and any(dimension.has_cell_seeds for dimension in dimensions):
            self.problems.add_at_value(
                ("design", "kind"), f"design {kind} needs the same seeds at every point: leave each_cell out"
            )
        if seeds < least:
            self.problems.add_at_value(
                ("design", "kind"), f"design {kind} needs an axis of at least {least} seeds; this grid has {seeds}"
            )

    def _check_adaptive(self, dimensions: Sequence[Dimension]) -> None:
        """Check that an adaptive design has a numeric axis, groups and a whole grid to choose from."""
        spec, axes = self.file.design, {axis.name: axis for dimension in dimensions for axis in dimension.axes}
        axis, group = axes.get(spec.axis or ""), (spec.for_ or "each prompt").split()[1]
        others = [name for name, other in axes.items() if other is not axis and other.kind != "seed"]
        if axis is None:
            self.problems.add_at_value(
                ("design", "axis"), f"there is no axis {spec.axis}.{did_you_mean(spec.axis or '', axes)}"
            )
        elif axis.kind not in ("integer", "number") or len(axis.levels) < LEAST_ADAPTIVE_LEVELS:
            least = LEAST_ADAPTIVE_LEVELS
            self.problems.add_at_value(("design", "axis"), f"{spec.axis} is no numeric axis of {least} levels or more")
        if group != "prompt" and group not in others:
            self.problems.add_at_value(("design", "for"), f"there is no axis {group}.{did_you_mean(group, others)}")
        if self.file.where or self.file.exclude or any(len(dimension.axes) > 1 for dimension in dimensions):
            self.problems.add_at_value(("design", "kind"), "design adaptive needs a grid without conditions and zip")
        if self.file.study.replicates > 1:
            self.problems.add_at_value(("study", "replicates"), "design adaptive renders each point once")
        if axis is not None:
            self._check_budget(len(axis.levels), dimensions)

    def _check_budget(self, levels: int, dimensions: Sequence[Dimension]) -> None:
        """Check that an adaptive design may render what its first decision needs: both ends of each group's axis, and
        a bisection for each of its first seeds.
        """
        spec, points = self.file.design, _count_points(dimensions)
        seeds = next((len(dimension) for dimension in dimensions if dimension.is_seeds), 1)
        first = 1 if (spec.for_ or "").startswith("weakest") else LEAST_ADAPTIVE_SEEDS
        least = points // (levels * seeds) * (2 + first * math.ceil(math.log2(levels + 1)))
        if spec.at_most * points < least:
            self.problems.add_at_value(
                ("design", "at_most"),
                f"design.at_most {spec.at_most:g} allows {spec.at_most * points:.0f} of {points} images; "
                f"this design needs up to {least} before it can decide: at_most must be {least / points:.2f} or more",
            )

    def _check_cell(self, place: DocumentPath, cell: Mapping[str, Any], dimensions: Sequence[Dimension]) -> None:
        """Check that every axis named there exists and has that value."""
        axes = {axis.name: axis for dimension in dimensions for axis in dimension.axes}
        for name, value in cell.items():
            axis = axes.get(name)
            if axis is None:
                if name not in self._list_written_axes():
                    self.problems.add_at_key((*place, name), f"there is no axis {name}.{did_you_mean(name, axes)}")
            elif isinstance(axis.levels, CellSeeds):
                self.problems.add_at_key((*place, name), f"{name} has other seeds in each combination: leave it out")
            elif isinstance(axis.levels, UndrawnLevels):
                self.problems.add_at_value(
                    (*place, name), f"the seeds of {name} are not drawn before the run; give them a start"
                )
            elif find_position(axis.levels, value) is None:
                self.problems.add_at_value((*place, name), f"axis {name} has no value {quote(value)}")

    def _check_rest(self, dimensions: Sequence[Dimension]) -> None:
        self._check_cell(("study", "baseline"), self.file.study.baseline, dimensions)
        for role, addresses in self.file.roles.items():
            if role not in ROLE_NAMES:
                self.problems.add_at_key(
                    ("roles", role), f"roles.{role} is not a role.{did_you_mean(role, ROLE_NAMES)}"
                )
            for address in addresses:
                if not is_address(address):
                    self.problems.add_at_value(("roles", role), f"roles.{role}: {address} is not written node.field")
        for at, url in enumerate(self.file.servers):
            if not re.match(r"https?://[^/\s]+", url):
                self.problems.add_at_value(("servers", at), f"{url} is not the URL of a server, as http://host:9090 is")

    def _check_size(self, dimensions: Sequence[Dimension]) -> None:
        size = _count_points(dimensions)
        if size > MAX_POINTS:
            self.problems.add_at_key(("axes",), f"The grid has {size:.3g} points; the most is {MAX_POINTS:.0e}.")

    def _check_not_empty(self, declared: Declaration) -> None:
        """Tell now, where that is quickly known, that the conditions leave nothing."""
        if declared.condition is None or _count_points(declared.dimensions) > MAX_CHECKED_POINTS:
            return
        if not len(make_space(declared.dimensions, declared.condition)):
            place: DocumentPath = ("where",) if self.file.where else ("exclude",)
            self.problems.add_at_key(place, "the conditions leave no point of the grid")
            self.problems.raise_any()


LEAST_ADAPTIVE_SEEDS: Final = 4  # of an adaptive design: their spread decides how many follow
LEAST_ADAPTIVE_LEVELS: Final = 4  # of its axis


def _count_points(dimensions: Sequence[Dimension]) -> int:
    return math.prod(len(dimension) for dimension in dimensions)


def _note_surplus(design: DesignSpec, dimensions: Sequence[Dimension]) -> list[str]:
    """Note that a design asks for more points than the grid has."""
    wanted, size = design.points or 0, _count_points(dimensions)
    return [f"design asks for {wanted:,} points; the grid has {size:,}."] if wanted > size else []


def _describe_axis(axis: Axis) -> NamedAxis:
    kinds: dict[AxisKind, Any] = {"integer": "number", "number": "number", "seed": "number", "boolean": "boolean"}
    kind = kinds.get(axis.kind, "text")
    few = kind == "text" and len(axis.levels) <= 1_000
    return NamedAxis(axis.name, kind, tuple(level.value for level in axis.levels) if few else ())


def _collect_marks(document: Document) -> dict[str, tuple[Mark, Mark]]:
    """Collect the marks of every key and value that stands in the file itself."""
    result = {}
    for place, mark in document.values.items():
        key = document.keys.get(place, mark)
        if mark.source is None and key.source is None and place:
            result[join_path(place)] = (key, mark)
    return result
