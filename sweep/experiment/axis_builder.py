"""Builds the axes of an experiment from what its file says, with one function for each kind of axis."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, cast

from sweep.experiment import file_schema
from sweep.experiment.axes import (
    Axis,
    AxisError,
    AxisKind,
    CellSeeds,
    DecimalNumber,
    Dimension,
    Level,
    LevelSequence,
    LinearLevels,
    ListLevels,
    LogLevels,
    MadeLevels,
    ReplacingLevels,
    Setting,
    UndrawnLevels,
    to_fraction,
)
from sweep.experiment.axis_option import suggest_axis
from sweep.experiment.file_schema import find_kind_key
from sweep.experiment.problems import DocumentPath, ProblemCollector, join_path
from sweep.experiment.value_files import (
    SourceError,
    TextColumn,
    ValueReader,
    count_seeds,
    expand_prompts,
    find_files,
    parse_column,
    read_columns,
    read_lines,
    read_settings,
    repeat_rows,
)
from sweep.experiment.yaml_document import Document, quote_source
from sweep.role_table import (
    SEED_MAX,
    Role,
    as_written,
    describe_bounds,
    describe_no_target,
    find_role,
    find_text_problem,
    find_value_problem,
    is_image,
    is_target,
    quote,
    strip_number,
)
from sweep.text import format_count
from sweep.types import Scalar


@dataclass(frozen=True, slots=True)
class AxisDraft:
    """An axis before its values are read: its name, the targets it sets, and its place in the file."""

    name: str
    targets: tuple[str, ...]  # what it sets
    path: DocumentPath
    values_at: DocumentPath  # where its values stand
    reader: ValueReader
    notices: list[str]
    repeats: bool  # whether equal values may stand in it: zipped axes repeat theirs

    @property
    def place(self) -> str:
        """The place in the file, as people write it: axes.seed."""
        return join_path(self.path)

    @property
    def role(self) -> Role | None:
        """The role that the axis sets; None where it sets nothing of its own, or a node.field."""
        return find_role(self.targets[0]) if self.targets else None

    def read(self, target: str, raw: Any, *part: str | int) -> Setting:
        """Read a value that a target is set to, a path as its image. Raises AxisError."""
        where = join_path((*self.values_at, *part))
        if not (is_target(target) or target == "controls"):
            raise AxisError(f"{where} {describe_no_target(target)}", *part)
        try:
            return self.reader.read(target, raw, (*self.values_at, *part))
        except AxisError as error:
            raise AxisError(f"{where} {error.message}", *part) from error

    def make_level(self, value: Scalar, raw: Any, *part: str | int) -> Level:
        """Make the level that sets every target to `raw`."""
        return Level(value, {target: self.read(target, raw, *part) for target in self.targets})


def infer_kind(targets: Sequence[str], values: Iterable[Scalar]) -> AxisKind:
    """Infer the kind of column an axis makes: what its role says, or else what its values are."""
    role = find_role(targets[0]) if targets else None
    if role is not None and role.kind == "integer":
        return "seed" if strip_number(targets[0]) == "seed" else "integer"
    if role is not None:
        return "number" if role.kind == "number" else "image" if role.kind == "image" else "text"
    types = {type(value) for value in values if value is not None}
    if types == {bool}:
        return "boolean"
    if types == {int}:
        return "seed" if targets and targets[0].endswith(".seed") else "integer"
    return "number" if types and types <= {int, float} else "text"


def make_list_axis(draft: AxisDraft, values: Sequence[Scalar], *part: str) -> Axis:
    """Make an axis of the values as written.

    Raises:
        AxisError: The list is empty, the role cannot have a value, or a value appears twice (both would be one image).
    """
    if not values:
        raise AxisError(f"{draft.place} is empty; an axis needs at least one value")
    written = [as_written(draft.targets[0], value) for value in values] if draft.targets else values
    AxisError.raise_any(
        [
            AxisError(f"{draft.place} {problem}{_suggest_range(draft, value)}", *part, at)
            for at, value in enumerate(written)
            for problem in {find_value_problem(target, value) for target in draft.targets}
            if problem
        ]
    )
    kind = infer_kind(draft.targets, written)
    plain = [float(v) if kind == "number" and isinstance(v, int) else v for v in written]
    _check_one_type(draft, plain)
    if not draft.repeats:
        _check_distinct(draft, plain)
    if kind == "image" or any(is_image(target) for target in draft.targets):
        levels = [draft.make_level(value, value, *part, at) for at, value in enumerate(plain)]
        return Axis(draft.name, "image", MadeLevels(draft.targets, tuple(levels)))
    return Axis(draft.name, kind, ListLevels(draft.targets, tuple(plain)))


def _check_one_type(draft: AxisDraft, values: Sequence[Scalar]) -> None:
    names = {bool: "true or false", int: "numbers", float: "numbers", str: "text"}
    first = next((v for v in values if v is not None), None)
    for at, value in enumerate(values):
        if value is not None and names[type(value)] != names[type(first)]:
            raise AxisError(
                f"{draft.place} mixes {names[type(first)]} and {names[type(value)]}: {quote(first)}, {quote(value)}",
                at,
            )


def _check_distinct(draft: AxisDraft, values: Sequence[Scalar]) -> None:
    if repeat := _find_repeat(values):
        first, at = repeat
        raise AxisError(f"{draft.place}: {quote(values[at])} appears twice (values {first + 1} and {at + 1})", at)


def _find_repeat(values: Iterable[Hashable]) -> tuple[int, int] | None:
    """Find the first value that comes again: where it stands first, and where again."""
    seen: dict[Hashable, int] = {}
    for at, value in enumerate(values):
        if value in seen:
            return seen[value], at
        seen[value] = at
    return None


def make_column_axis(draft: AxisDraft, column: TextColumn) -> Axis:
    """Make a list axis of values out of a file or a template.

    A value that comes again is dropped, with a notice: there it is no slip of this experiment's writer.
    """
    values = parse_column(draft.targets[0], column) if draft.targets else list(column.cells)
    kept = values if draft.repeats else list(dict.fromkeys(values))
    dropped = len(values) - len(kept)
    if dropped:
        draft.notices.append(
            f"{draft.place}: {dropped} of {len(values)} values of {column.shown} are repeats and left out."
        )
    return make_list_axis(draft, kept)


def check_text_only(draft: AxisDraft, key: str) -> None:
    """Check that every target takes a text. Raises AxisError."""
    for target in draft.targets:
        role = find_role(target)
        if role is not None and role.kind != "text":
            raise AxisError(f"{draft.place}: {key} makes texts, but {target} is none", key)


def make_replace_axis(draft: AxisDraft, search: str, by: Sequence[str]) -> Axis:
    """Make levels that replace `search` in the text of each target."""
    check_text_only(draft, "replace")
    if not by:
        raise AxisError(f"{draft.place}: with is empty; an axis needs at least one value", "with")
    for at, text in enumerate(by):
        if problem := find_text_problem(text):
            raise AxisError(f"{draft.place}.with {problem}", "with", at)
    _check_distinct(draft, by)
    return Axis(draft.name, "text", ReplacingLevels(draft.targets, tuple(by), search))


def make_labelled_axis(draft: AxisDraft, values: Mapping[str, Any]) -> Axis:
    """Make levels named by their labels; a mapping sets each of its targets, anything else the axis's own."""
    if not values:
        raise AxisError(f"{draft.place} is empty; an axis needs at least one value", "values")
    levels: list[Level] = []
    problems: list[AxisError] = []
    for label, raw in values.items():
        try:
            levels.append(Level(label, _read_labelled(draft, label, raw)))
        except AxisError as error:
            problems += [error, *error.others]
    AxisError.raise_any(problems)
    targets = dict.fromkeys(target for level in levels for target in level.settings)
    return Axis(draft.name, "label", MadeLevels(tuple(targets), tuple(levels)))


def _read_labelled(draft: AxisDraft, label: str, raw: Any) -> Mapping[str, Setting]:
    part = ("values", label)
    if not isinstance(raw, Mapping):
        if not draft.targets:
            raise AxisError(
                f"{draft.place}.{label} does not say what it sets; {draft.name} is no input: neither a role "
                "nor NODE.FIELD",
                *part,
            )
        return draft.make_level(label, raw, *part).settings
    if not raw:
        raise AxisError(f"{draft.place}.{label} sets nothing", *part)
    settings: dict[str, Setting] = {}
    problems: list[AxisError] = []
    for target, value in raw.items():
        try:
            settings[target] = draft.read(target, value, *part, target)
        except AxisError as error:
            problems.append(error)
    AxisError.raise_any(problems)
    return settings


def make_image_axis(draft: AxisDraft, paths: Sequence[str]) -> Axis:
    """Make one level an image, in the order given; the value is its path as shown."""
    levels = [draft.make_level(shown, {"image": shown}, "images") for shown in paths]
    return Axis(draft.name, "image", MadeLevels(draft.targets, tuple(levels)))


def zip_axes(axes: Sequence[Axis], place: str) -> Dimension:
    """Join axes so that they step together. Raises AxisError where their lengths differ, or a row comes twice."""
    if len(axes) < 2:
        raise AxisError(f"{place} needs at least two axes that step together")
    first = axes[0]
    for axis in axes[1:]:
        if len(axis.levels) != len(first.levels):
            count = format_count(len(first.levels), "value")
            raise AxisError(f"zip: {first.name} has {count}, {axis.name} has {len(axis.levels)}.", axis.name)
    if not any(isinstance(axis.levels, LinearLevels | LogLevels | UndrawnLevels) for axis in axes):
        rows = zip(*([level.value for level in axis.levels] for axis in axes), strict=True)
        if repeat := _find_repeat(rows):
            raise AxisError(f"{place}: values {repeat[0] + 1} and {repeat[1] + 1} of all its axes are the same")
    return Dimension(tuple(axes))


def _suggest_range(draft: AxisDraft, value: Scalar) -> str:
    """Suggest the mapping for a range that stands as one text in a list."""
    is_number = draft.role is not None and draft.role.kind in ("integer", "number")
    meant = suggest_axis(draft.name, value) if is_number and isinstance(value, str) else None
    return f"; write {meant} in place of the list" if meant else ""


MAX_LEVELS: Final = 10**9
MAX_LISTED: Final = 1_000_000  # on a log scale, where each is computed to see whether all are whole


def make_step_axis(draft: AxisDraft, start: DecimalNumber, stop: DecimalNumber, step: DecimalNumber) -> Axis:
    """Make start, start + step, … never past stop; with a notice where stop is not met. Raises AxisError for step 0 or
    one that leads away.
    """
    if step == 0:
        raise AxisError(f"{draft.place}: step is 0, so stop is never reached", "step")
    first, last, by = to_fraction(start), to_fraction(stop), to_fraction(step)
    if (last - first) / by < 0:
        raise AxisError(f"{draft.place}: step {quote(step)} leads away from stop {quote(stop)}", "step")
    count = math.floor((last - first) / by) + 1
    if count > MAX_LEVELS:
        raise AxisError(f"{draft.place} has {count:,} values; the most is {MAX_LEVELS:,}", "step")
    whole = all(isinstance(number, int) for number in (start, stop, step))
    levels = LinearLevels(draft.targets, first, by, count, whole=_decide_whole(draft, whole, first, by))
    if first + by * (count - 1) != last:
        reached = quote(levels.value(count - 1))
        draft.notices.append(f"{draft.place} ends at {reached}: steps of {quote(step)} do not meet stop {quote(stop)}.")
    return _make_numeric_axis(draft, levels)


def _decide_whole(draft: AxisDraft, written_whole: bool, *steps: Fraction) -> bool:
    """Tell whether values are ints: as the role says; without a role, as they are written."""
    if draft.role is None:
        return written_whole
    if draft.role.kind == "integer" and any(step.denominator != 1 for step in steps):
        raise AxisError(f"{draft.place} must be whole numbers; these steps are not")
    return draft.role.kind == "integer"


def make_count_axis(draft: AxisDraft, start: DecimalNumber, stop: DecimalNumber, num: int, scale: str) -> Axis:
    """Make `num` values from start to stop. Raises AxisError where a log scale meets 0, or one value two ends."""
    if num == 1 and start != stop:
        raise AxisError(f"{draft.place}: one value cannot be both {quote(start)} and {quote(stop)}", "num")
    if num > 1 and start == stop:
        ends = f"between {quote(start)} and {quote(stop)}"
        raise AxisError(f"{draft.place}: {num} values {ends} are all the same", "num")
    first, last = to_fraction(start), to_fraction(stop)
    if scale == "linear":
        step = (last - first) / max(num - 1, 1)
        whole = step.denominator == 1 and isinstance(start, int) and isinstance(stop, int)
        linear = LinearLevels(draft.targets, first, step, num, whole=_decide_whole(draft, whole, first, step))
        return _make_numeric_axis(draft, linear)
    if first <= 0 or last <= 0:
        raise AxisError(f"{draft.place}: a log scale needs start and stop above 0", "scale")
    if num > MAX_LISTED:
        raise AxisError(f"{draft.place}: a log scale has at most {MAX_LISTED:,} values", "num")
    trial = LogLevels(draft.targets, start, stop, num, whole=False)
    steps = [to_fraction(float(trial.exact(at))) for at in range(num)]
    written_whole = isinstance(start, int) and isinstance(stop, int) and all(s.denominator == 1 for s in steps)
    levels = LogLevels(draft.targets, start, stop, num, whole=_decide_whole(draft, written_whole, *steps))
    return _make_numeric_axis(draft, levels)


def _make_numeric_axis(draft: AxisDraft, levels: LevelSequence) -> Axis:
    ends = (levels.value(0), levels.value(len(levels) - 1))
    for target in draft.targets:
        role = find_role(target)
        if role is None:
            continue
        if role.kind not in ("number", "integer"):
            raise AxisError(f"{draft.place} holds numbers, but {target} is set to a text")
        for end, part in zip(ends, ("start", "stop"), strict=True):
            if find_value_problem(target, end):
                allowed = describe_bounds(role.low, role.high)
                raise AxisError(f"{draft.place} reaches {quote(end)}, but {target} must be {allowed}", part)
    return Axis(draft.name, infer_kind(draft.targets, ends), levels)


def make_seed_axis(draft: AxisDraft, count: int, start: int | None, *, each_cell: bool) -> Axis:
    """Make `count` seeds from start on, or still to be drawn where there is no start, or others for `each_cell`."""
    for target in draft.targets:
        if find_role(target) is not None and strip_number(target) != "seed":
            raise AxisError(f"{draft.place}: count draws seeds, and {target} is none; a range has start and stop")
    if each_cell and draft.repeats:
        raise AxisError(f"{draft.place}: each_cell does not go with zip; list the seeds there", "each_cell")
    if each_cell:
        draft.notices.append(
            f"{draft.place}: each combination has {format_count(count, 'seed')} of its own, so a study cannot"
            " pair images by seed: intervals of differences are wider, and no seed is compared with another."
        )
        return Axis(draft.name, "seed", CellSeeds(draft.targets, count, start or 0))
    if start is None:
        return Axis(draft.name, "seed", UndrawnLevels(draft.targets, draft.name, count))
    if not (start >= 0 and start + count - 1 <= SEED_MAX):
        raise AxisError(f"{draft.place}: seeds are 0 to {SEED_MAX}; these reach {start + count - 1}", "start")
    return Axis(draft.name, "seed", LinearLevels(draft.targets, to_fraction(start), to_fraction(1), count, whole=True))


_OWN_NAME: Final = " If you want this name, add target: INPUT to say which input the axis sets."
_OWN_COLUMN: Final = (
    " A column that sets nothing can name the rows (title: COLUMN) or count their images (count: COLUMN), beside"
    " columns: {prompt: COLUMN}; sweep ignores columns that you do not name."
)
_AXIS_NAME = re.compile(r"(?!\s)[^\x00-\x1f\x7f\x85\u2028\u2029]{1,100}(?<!\s)")


@dataclass
class AxisBuilder:
    """Builds the axes of one experiment; problems go to `problems`, and axes with any are left out of the result."""

    document: Document
    problems: ProblemCollector[DocumentPath]
    reader: ValueReader
    notices: list[str]

    def build(self, axes: Mapping[str, Any]) -> tuple[Dimension, ...]:
        """Build one dimension for each entry of the file's `axes` that is right."""
        result: list[Dimension] = []
        for name, spec in axes.items():
            place = ("axes", name)
            if not _AXIS_NAME.fullmatch(name):
                way = "write it on one line, in 1 to 100 characters"
                self.problems.add_at_key(place, f"axes: {quote(name)} is no name of an axis; {way}")
                continue
            try:
                result += self._build_dimension(name, spec, place)
            except (AxisError, SourceError) as error:
                self._report(error, place, spec)
        return tuple(result)

    def _report(self, error: AxisError | SourceError, place: DocumentPath, spec: Any) -> None:
        if isinstance(error, SourceError):
            error = AxisError(f"{join_path(place)}: {error}", find_kind_key(type(spec).model_fields) or "")
        for problem in (error, *error.others):
            where = (*place, *problem.part)
            message = quote_source(self.document, where, problem.message)
            if problem.part and where in self.document.values:
                self.problems.add_at_value(where, message)
            else:
                self.problems.add_at_key(where, message)

    def _build_dimension(self, name: str, spec: Any, place: DocumentPath) -> list[Dimension]:
        if isinstance(spec, file_schema.Zip):
            return self._build_zip(spec, place)
        if not (isinstance(spec, file_schema.CsvColumns) and spec.columns):
            return [Dimension((self._build_axis(name, spec, place, repeats=False),))]
        axes = self._build_columns(spec, name, place)
        return [Dimension((axes[0],)) if len(axes) == 1 else zip_axes(axes, join_path(place))]

    def _build_zip(self, spec: file_schema.Zip, place: DocumentPath) -> list[Dimension]:
        axes: list[Axis] = []
        for name, inner in spec.zip.items():
            inside = (*place, "zip", name) if (*place, "zip", name) in self.document.keys else (*place, name)
            try:
                axes.append(self._build_axis(name, inner, inside, repeats=True))
            except (AxisError, SourceError) as error:
                self._report(error, inside, inner)
        if len(axes) < len(spec.zip):
            return []
        try:
            return [zip_axes(axes, join_path(place))]
        except AxisError as error:
            nested = (*place, "zip", *error.part)
            self.problems.add_at_key(nested if nested in self.document.keys else (*place, *error.part), error.message)
            return []

    def _build_columns(self, spec: file_schema.CsvColumns, name: str, place: DocumentPath) -> list[Axis]:
        """Build an axis for each column, and for the titles and the counted seeds of the rows."""
        shown, path = self.reader.find_path((*place, "csv"), spec.csv)
        named = [column for column in (*spec.columns.values(), spec.title, spec.count) if column]
        columns = {column.name: column for column in read_columns(path, shown, named)}
        counts = columns[spec.count].counts() if spec.count else None
        axes = []
        if spec.title:
            draft = AxisDraft(name, (), place, place, self.reader, self.notices, repeats=True)
            axes.append(make_list_axis(draft, repeat_rows(columns[spec.title].cells, counts)))
        for target, column in spec.columns.items():
            where = (*place, "columns", target)
            targets = self._choose_targets(target, where)
            draft = AxisDraft(target, targets, where, place, self.reader, self.notices, repeats=True)
            cells = parse_column(targets[0], columns[column])
            if counts and strip_number(target) == "seed":
                axes.append(make_list_axis(draft, count_seeds(cells, counts)))
            else:
                axes.append(make_list_axis(draft, repeat_rows(cells, counts)))
        if counts and "seed" not in spec.columns:
            draft = AxisDraft("seed", ("seed",), (*place, "count"), place, self.reader, self.notices, repeats=True)
            axes.append(make_list_axis(draft, count_seeds([1] * len(counts), counts)))
        return axes

    def _choose_targets(self, name: str, place: DocumentPath, spec: Any = None) -> tuple[str, ...]:
        """Choose what an axis sets: as `target` says, else as its name says, else what its kind sets.

        Without a `spec` it is one of several columns of a table.
        """
        where = join_path(place)
        targets: tuple[str, ...] = getattr(spec, "target", ())
        for target in targets:
            if not is_target(target):
                raise AxisError(f"{where}: target {target} {describe_no_target(target)}", "target")
        if name == "zip":
            raise AxisError(f"{where} must be a mapping of axes that step together")
        if targets or is_target(name):
            return targets or (name,)
        if isinstance(getattr(spec, "values", None), dict):
            return ()
        default = getattr(spec, "default_targets", None)
        if default is None:
            way = _OWN_COLUMN if spec is None or isinstance(spec, file_schema.CsvColumns) else _OWN_NAME
            raise AxisError(f"{where} {describe_no_target(name)}{way}")
        return cast("tuple[str, ...]", default)

    def _build_axis(self, name: str, spec: Any, place: DocumentPath, *, repeats: bool) -> Axis:
        targets = self._choose_targets(name, place, spec)
        draft = AxisDraft(name, targets, place, place, self.reader, self.notices, repeats)
        match spec:
            case list():
                return make_list_axis(draft, spec)
            case file_schema.StepRange():
                return make_step_axis(draft, spec.start, spec.stop, spec.step)
            case file_schema.CountRange():
                return make_count_axis(draft, spec.start, spec.stop, spec.num, spec.scale)
            case file_schema.Seeds():
                return make_seed_axis(draft, spec.count, spec.start, each_cell=spec.each_cell)
            case file_schema.Labelled(values=dict()):
                return make_labelled_axis(draft, spec.values)
            case file_schema.Labelled():
                return make_list_axis(draft, spec.values, "values")
            case file_schema.Replace():
                return make_replace_axis(draft, spec.replace, spec.with_)
            case file_schema.Images():
                patterns = [self.reader.find_path((*place, "images"), pattern)[0] for pattern in spec.images]
                if len(patterns) > 1 and (*place, "images") in self.reader.rewritten:
                    self.reader.rewritten[*place, "images"] = patterns
                return make_image_axis(draft, find_files(self.document.folder, patterns))
            case file_schema.BoardImages():
                return make_image_axis(draft, self.reader.list_board(spec.board))
            case file_schema.SettingsFile():
                shown, path = self.reader.find_path((*place, "settings"), spec.settings)
                return make_labelled_axis(draft, read_settings(path, shown))
            case _:
                return make_column_axis(draft, self._read_texts(spec, draft))

    def _read_texts(self, spec: Any, draft: AxisDraft) -> TextColumn:
        match spec:
            case file_schema.TextLines():
                shown, path = self.reader.find_path((*draft.path, "lines"), spec.lines)
                return read_lines(path, shown)
            case file_schema.CsvColumns():
                shown, path = self.reader.find_path((*draft.path, "csv"), spec.csv)
                return read_columns(path, shown, [spec.column or draft.name])[0]
            case _:
                check_text_only(draft, "dynamic")
                folder = spec.wildcards and self.reader.find_path((*draft.path, "wildcards"), spec.wildcards)[1]
                prompts = expand_prompts(spec.dynamic, folder or None)
                return TextColumn("", "its templates", prompts, range(1, len(prompts) + 1))
