"""Builds the axes of an experiment from what its file says, one function for each kind of axis, and checks them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Final, cast

from sweep.experiment import file_schema
from sweep.experiment.axes import (
    Axis,
    AxisKind,
    CellSeeds,
    Dimension,
    Level,
    LevelSequence,
    LinearLevels,
    ListLevels,
    MadeLevels,
    ReplacingLevels,
    Setting,
    UndrawnLevels,
    to_fraction,
)
from sweep.experiment.file_schema import find_kind_key
from sweep.experiment.problems import DocumentPath, ProblemCollector, join_path
from sweep.experiment.range_notation import suggest_axis
from sweep.experiment.value_files import (
    AxisError,
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


@dataclass
class AxisDraft:
    """An axis before its values are read."""

    name: str
    targets: tuple[str, ...]
    path: DocumentPath
    builder: AxisBuilder
    repeats: bool = True  # whether equal values may stand in it: zipped axes repeat theirs
    failures: int = 0  # problems that are reported already
    column: TextColumn | None = None  # of a table, that the values are from

    @property
    def place(self) -> str:
        return join_path(self.path)

    @property
    def role(self) -> Role | None:
        """Return the role that the axis sets; None where it sets nothing of its own, or a node.field."""
        return find_role(self.targets[0]) if self.targets else None

    def fail(self, message: str, *part: str | int) -> None:
        """Report a problem of one value and go on; an axis with twenty has one reason for all."""
        self.failures += 1
        if self.failures <= MAX_TOLD:
            self.builder.report(message, self.path, *part)

    def read(self, target: str, raw: Any, *part: str | int) -> Setting:
        """Read a value that a target is set to, a path as its image; report a problem, and return None then."""
        place = (*self.path, *part)
        shown = join_path(place)
        if self.column is not None:
            shown = f"{self.place}: {self.column.locate(self.column.rows[int(part[-1])])}"
        if not (is_target(target) or target == "controls"):
            self.fail(f"{shown} {describe_no_target(target)}", *part)
            return None
        try:
            return self.builder.reader.read(target, raw, place)
        except AxisError as error:
            self.fail(f"{shown} {error.message}", *part)
            return None

    def find_file(self, key: str, written: str) -> tuple[str, Path]:
        """Find the file that a key of the axis names: as messages show it, and its path."""
        return self.builder.reader.find_path((*self.path, key), written)

    def make_level(self, value: Scalar, raw: Any, *part: str | int) -> Level:
        """Make the level that sets every target to `raw`."""
        return Level(value, {target: self.read(target, raw, *part) for target in self.targets})


def infer_kind(targets: Sequence[str], values: Iterable[object]) -> AxisKind:
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


def make_list_axis(draft: AxisDraft, values: Sequence[Scalar], *part: str) -> Axis | None:
    """Make an axis of the values as written; None where some are wrong. A value that comes again is an error."""
    if not values:
        raise AxisError(f"{draft.place} is empty; an axis needs at least one value")
    written = [as_written(draft.targets[0], value) for value in values] if draft.targets else values
    for at, value in enumerate(written):
        for problem in {find_value_problem(target, value) for target in draft.targets} - {None}:
            draft.fail(f"{draft.place} {problem}{_suggest_range(draft, value)}", *part, at)
    if draft.failures:
        return None
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
    names = {bool: "true or false", int: "numbers", float: "numbers", str: "text", type(None): ""}
    first = next((v for v in values if v is not None), None)
    for at, value in enumerate(values):
        if names[type(value)] not in ("", names[type(first)]):
            kinds = f"{names[type(first)]} and {names[type(value)]}"
            raise AxisError(f"{draft.place} mixes {kinds}: {quote(first)}, {quote(value)}", at)


def _check_distinct(draft: AxisDraft, values: Sequence[Scalar]) -> None:
    for first, at in _find_repeats(values):
        raise AxisError(f"{draft.place}: {quote(values[at])} appears twice (values {first + 1} and {at + 1})", at)


def _find_repeats(values: Iterable[Hashable]) -> Iterator[tuple[int, int]]:
    """Find values that come again: where each stands first, and where again."""
    seen: dict[Hashable, int] = {}
    for at, value in enumerate(values):
        if (first := seen.setdefault(value, at)) != at:
            yield first, at


def make_column_axis(draft: AxisDraft, column: TextColumn) -> Axis | None:
    """Make a list axis of a column. Values that come again are dropped: they are no slip of this file's writer."""
    values = parse_column(draft.targets[0], column) if draft.targets else list(column.cells)
    rows = dict(zip(reversed(values), reversed(column.rows), strict=True))  # where each stands first
    kept = values if draft.repeats else list(dict.fromkeys(values))
    draft.column = column if draft.repeats else replace(column, rows=[rows[value] for value in kept])
    if dropped := len(values) - len(kept):
        draft.builder.notices.append(
            f"{draft.place}: {dropped} of {len(values)} values of {column.shown} are repeats and left out."
        )
    return make_list_axis(draft, kept)


def check_text_only(draft: AxisDraft, key: str) -> None:
    """Check that every target takes a text. Raises AxisError."""
    for target in draft.targets:
        if (role := find_role(target)) is not None and role.kind != "text":
            raise AxisError(f"{draft.place}: {key} makes texts, but {target} is none", key)


def make_prompt_axis(draft: AxisDraft, spec: file_schema.Dynamic) -> Axis | None:
    """Make a list axis of every prompt that the templates make."""
    check_text_only(draft, "dynamic")
    prompts = expand_prompts(spec.dynamic, *(draft.find_file("wildcards", spec.wildcards) if spec.wildcards else ()))
    return make_column_axis(draft, TextColumn("", "its templates", prompts, range(1, len(prompts) + 1)))


def make_replace_axis(draft: AxisDraft, spec: file_schema.Replace) -> Axis:
    """Make levels that replace a text in that of each target."""
    check_text_only(draft, "replace")
    if not spec.with_:
        raise AxisError(f"{draft.place}: with is empty; an axis needs at least one value", "with")
    for at, text in enumerate(spec.with_):
        if problem := find_text_problem(text):
            raise AxisError(f"{draft.place}.with {problem}", "with", at)
    _check_distinct(draft, spec.with_)
    return Axis(draft.name, "text", ReplacingLevels(draft.targets, tuple(spec.with_), spec.replace))


def make_labelled_axis(draft: AxisDraft, values: Mapping[str, Any]) -> Axis:
    """Make levels named by their labels; a mapping sets each of its targets, anything else the axis's own."""
    if not values:
        raise AxisError(f"{draft.place} is empty; an axis needs at least one value", "values")
    levels = [Level(label, _read_labelled(draft, label, raw)) for label, raw in values.items()]
    targets = dict.fromkeys(target for level in levels for target in level.settings)
    return Axis(draft.name, "label", MadeLevels(tuple(targets), tuple(levels)))


def _read_labelled(draft: AxisDraft, label: str, raw: Any) -> Mapping[str, Setting]:
    part, where = ("values", label), f"{draft.place}.{label}"
    is_model = draft.role is not None and draft.role.kind in ("stack", "model")  # {name, weight} is one value of it
    if isinstance(raw, Mapping) and not (is_model and "name" in raw):
        if not raw:
            draft.fail(f"{where} sets nothing", *part)
        return {target: draft.read(target, value, *part, target) for target, value in raw.items()}
    if not draft.targets:
        draft.fail(
            f"{where} does not say what it sets; {draft.name} is neither an input such as prompt nor NODE.FIELD",
            *part,
        )
    return draft.make_level(label, raw, *part).settings


def make_files_axis(draft: AxisDraft, spec: file_schema.Images) -> Axis:
    """Make an axis of the image files that match; patterns of an included file are rewritten together."""
    reader, place = draft.builder.reader, (*draft.path, "images")
    patterns = [draft.find_file("images", pattern)[0] for pattern in spec.images]
    if len(patterns) > 1 and place in reader.rewritten:
        reader.rewritten[place] = patterns
    return make_image_axis(draft, find_files(reader.document.folder, patterns))


def make_image_axis(draft: AxisDraft, paths: Sequence[str]) -> Axis:
    """Make one level an image, in the order given; the value is its path as shown."""
    if not paths:
        raise AxisError(f"{draft.place} is empty; an axis needs at least one value", "images")
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
    if not any(isinstance(axis.levels, LinearLevels | UndrawnLevels) for axis in axes):
        rows = zip(*([level.value for level in axis.levels] for axis in axes), strict=True)
        for first_row, row in _find_repeats(rows):
            raise AxisError(f"{place}: values {first_row + 1} and {row + 1} of all its axes are the same")
    return Dimension(tuple(axes))


def _suggest_range(draft: AxisDraft, value: Scalar) -> str:
    """Suggest the mapping for a range that stands as one text in a list."""
    is_number = draft.role is not None and draft.role.kind in ("integer", "number")
    meant = suggest_axis(draft.name, value) if is_number and isinstance(value, str) else None
    return f"; write {meant} in place of the list" if meant else ""


MAX_TOLD: Final = 20  # problems of one axis
MAX_LEVELS: Final = 10**9
MAX_LISTED: Final = 1_000_000  # on a log scale, where each is computed


def make_step_axis(draft: AxisDraft, spec: file_schema.StepRange) -> Axis:
    """Make start, start + step, … never past stop, with a notice where stop is not met."""
    if spec.step == 0:
        raise AxisError(f"{draft.place}: step is 0, so stop is never reached", "step")
    first, last, by = to_fraction(spec.start), to_fraction(spec.stop), to_fraction(spec.step)
    step, stop = quote(spec.step), quote(spec.stop)
    if (last - first) / by < 0:
        raise AxisError(f"{draft.place}: step {step} leads away from stop {stop}", "step")
    count = math.floor((last - first) / by) + 1
    if count > MAX_LEVELS:
        raise AxisError(f"{draft.place} has {count:,} values; the most is {MAX_LEVELS:,}", "step")
    whole = all(isinstance(number, int) for number in (spec.start, spec.stop, spec.step))
    levels = LinearLevels(draft.targets, first, by, count, whole=_decide_whole(draft, whole, first, by))
    if first + by * (count - 1) != last:
        reached = quote(levels.value(count - 1))
        draft.builder.notices.append(f"{draft.place} ends at {reached}: steps of {step} do not meet stop {stop}.")
    return _make_numeric_axis(draft, levels)


def _decide_whole(draft: AxisDraft, written_whole: bool, *steps: Fraction) -> bool:
    """Tell whether values are ints: as the role says; without a role, as they are written."""
    if draft.role is None:
        return written_whole
    if draft.role.kind == "integer" and any(step.denominator != 1 for step in steps):
        raise AxisError(f"{draft.place} must be whole numbers; these steps are not")
    return draft.role.kind == "integer"


def make_count_axis(draft: AxisDraft, spec: file_schema.CountRange) -> Axis:
    """Make `num` values from start to stop, in equal steps or, on a log scale, in equal ratios."""
    num, start, stop = spec.num, quote(spec.start), quote(spec.stop)
    if num == 1 and spec.start != spec.stop:
        raise AxisError(f"{draft.place}: one value cannot be both {start} and {stop}", "num")
    if num > 1 and spec.start == spec.stop:
        raise AxisError(f"{draft.place}: {num} values between {start} and {stop} are all the same", "num")
    first, last = to_fraction(spec.start), to_fraction(spec.stop)
    whole = isinstance(spec.start, int) and isinstance(spec.stop, int)
    if spec.scale == "linear":
        step = (last - first) / max(num - 1, 1)
        whole = _decide_whole(draft, whole and step.denominator == 1, first, step)
        return _make_numeric_axis(draft, LinearLevels(draft.targets, first, step, num, whole=whole))
    if first <= 0 or last <= 0:
        raise AxisError(f"{draft.place}: a log scale needs start and stop above 0", "scale")
    if num > MAX_LISTED:
        raise AxisError(f"{draft.place}: a log scale has at most {MAX_LISTED:,} values", "num")
    exact = space_by_ratio(Decimal(repr(spec.start)), Decimal(repr(spec.stop)), num)
    fractions = [Fraction(level) for level in exact]
    whole = _decide_whole(draft, whole and all(each.denominator == 1 for each in fractions), *fractions)
    values = tuple(int(level) if whole else float(level) for level in exact)
    return _make_numeric_axis(draft, ListLevels(draft.targets, values))


def space_by_ratio(first: Decimal, last: Decimal, size: int) -> list[Decimal]:
    """Make levels from first to last in equal ratios, rounded to 12 significant digits; both ends exact."""
    with localcontext() as context:
        context.prec = 40
        inner = [first * ((last / first).ln() * at / (size - 1)).exp() for at in range(1, size - 1)]
        context.prec = 12
        return [first, *(+level for level in inner), last][:size]


def _make_numeric_axis(draft: AxisDraft, levels: LevelSequence) -> Axis:
    ends = (levels.value(0), levels.value(len(levels) - 1))
    for target in draft.targets:
        role = find_role(target)
        if role is not None and role.kind not in ("number", "integer"):
            raise AxisError(f"{draft.place} holds numbers, but {target} is set to a text")
        for end, part in zip(ends, ("start", "stop"), strict=True):
            if role is not None and find_value_problem(target, end):
                allowed = describe_bounds(role.low, role.high)
                raise AxisError(f"{draft.place} reaches {quote(end)}, but {target} must be {allowed}", part)
    return Axis(draft.name, infer_kind(draft.targets, ends), levels)


def make_seed_axis(draft: AxisDraft, spec: file_schema.Seeds) -> Axis:
    """Make `count` seeds from start on, or still to be drawn where there is no start, or others for each cell."""
    place, start = draft.place, spec.start
    for target in draft.targets:
        if find_role(target) is not None and strip_number(target) != "seed":
            raise AxisError(f"{place}: count draws seeds, and {target} is none; a range has start and stop")
    levels: LevelSequence
    if spec.each_cell:
        if draft.repeats:
            raise AxisError(f"{place}: each_cell does not go with zip; list the seeds there", "each_cell")
        draft.builder.notices.append(
            f"{place}: each combination has {format_count(spec.count, 'seed')} of its own, so a study cannot"
            " pair images by seed: intervals of differences are wider, and no seed is compared with another."
        )
        levels = CellSeeds(draft.targets, spec.count, start or 0)
    elif start is None:
        levels = UndrawnLevels(draft.targets, draft.name, spec.count)
    else:
        last = start + spec.count - 1
        if start < 0 or last > SEED_MAX:
            raise AxisError(f"{place}: seeds are 0 to {SEED_MAX}; these reach {min(start, 0) or last}", "start")
        levels = LinearLevels(draft.targets, to_fraction(start), to_fraction(1), spec.count, whole=True)
    return Axis(draft.name, "seed", levels)


_MAKERS: Final[Mapping[type, Callable[[AxisDraft, Any], Axis | None]]] = {  # by kind of axis
    list: make_list_axis,
    file_schema.StepRange: make_step_axis,
    file_schema.CountRange: make_count_axis,
    file_schema.Seeds: make_seed_axis,
    file_schema.Labelled: lambda draft, spec: (
        make_labelled_axis(draft, spec.values)
        if isinstance(spec.values, dict)
        else make_list_axis(draft, spec.values, "values")
    ),
    file_schema.SettingsFile: lambda draft, spec: make_labelled_axis(
        draft, read_settings(*draft.find_file("settings", spec.settings))
    ),
    file_schema.TextLines: lambda draft, spec: make_column_axis(
        draft, read_lines(*draft.find_file("lines", spec.lines))
    ),
    file_schema.CsvColumns: lambda draft, spec: make_column_axis(
        draft, read_columns(*draft.find_file("csv", spec.csv), [spec.column or draft.name])[0]
    ),
    file_schema.Dynamic: make_prompt_axis,
    file_schema.Replace: make_replace_axis,
    file_schema.Images: make_files_axis,
    file_schema.BoardImages: lambda draft, spec: make_image_axis(draft, draft.builder.reader.list_board(spec.board)),
}
_OWN_NAME: Final = (
    ' If you chose this name yourself, add under it which input the axis sets, for example "target: seed".'
)
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

    def build(self, axes: Mapping[str, Any], inputs: Mapping[str, Setting]) -> tuple[Dimension, ...]:
        """Build one dimension for each entry of the file's `axes` that is right."""
        result: list[Dimension] = []
        for name, spec in axes.items():
            place = ("axes", name)
            if not _AXIS_NAME.fullmatch(name):
                way = "write it on one line, in 1 to 100 characters, without space around it"
                self.problems.add_at_key(place, f"axes: {quote(name)} is no name of an axis; {way}")
                continue
            try:
                result += self._build_dimension(name, spec, place)
            except (AxisError, SourceError) as error:
                self._report_error(error, place, spec)
        built = [axis for dimension in result for axis in dimension.axes]
        self._check_distinct_axes(built)
        self._check_replacements({axis.name: axis for axis in built}, inputs)
        return tuple(result)

    def report(self, message: str, place: DocumentPath, *part: str | int) -> None:
        """Report a problem of the axis at `place`, or of a part of it, at the value where that stands in the file."""
        where = (*place, *part)
        add = self.problems.add_at_value if part and where in self.document.values else self.problems.add_at_key
        add(where, quote_source(self.document, where, message))

    def _report_error(self, error: AxisError | SourceError, place: DocumentPath, spec: Any) -> None:
        if isinstance(error, SourceError):
            error = AxisError(f"{join_path(place)}: {error}", find_kind_key(type(spec).model_fields) or "")
        self.report(error.message, place, *error.part)

    def _build_dimension(self, name: str, spec: Any, place: DocumentPath) -> list[Dimension]:
        if isinstance(spec, file_schema.Zip):
            return self._build_zip(spec, place)
        if not (isinstance(spec, file_schema.CsvColumns) and spec.columns):
            return [Dimension((axis,)) for axis in self._build_axis(name, spec, place, repeats=False)]
        axes = self._build_columns(spec, name, place)
        return [Dimension((axes[0],)) if len(axes) == 1 else zip_axes(axes, join_path(place))] if axes else []

    def _build_zip(self, spec: file_schema.Zip, place: DocumentPath) -> list[Dimension]:
        above = (*place, "zip") if (*place, "zip") in self.document.keys else place
        built = (self._build_axis(name, inner, (*above, name), repeats=True) for name, inner in spec.zip.items())
        axes = list(chain.from_iterable(built))
        if len(axes) < len(spec.zip):
            return []
        try:
            return [zip_axes(axes, join_path(place))]
        except AxisError as error:
            self.problems.add_at_key((*above, *error.part), error.message)
            return []

    def _build_columns(self, spec: file_schema.CsvColumns, name: str, place: DocumentPath) -> list[Axis]:
        """Build an axis for each column, and for the titles and the counted seeds of the rows."""
        named = [column for column in (*spec.columns.values(), spec.title, spec.count) if column]
        file = self.reader.find_path((*place, "csv"), spec.csv)
        columns = {column.name: column for column in read_columns(*file, named)}
        counts = columns[spec.count].counts() if spec.count else [1] * len(next(iter(columns.values())).cells)
        drafts: list[tuple[AxisDraft, list[Scalar]]] = []
        if spec.title:
            titles: list[Scalar] = [*repeat_rows(columns[spec.title].cells, counts)]
            drafts.append((AxisDraft(name, (), place, self), titles))
        for target, column in spec.columns.items():
            where = (*place, "columns", target)
            draft = AxisDraft(target, self._choose_targets(target, where), where, self)
            draft.column = replace(columns[column], rows=repeat_rows(columns[column].rows, counts))
            cells = parse_column(draft.targets[0], columns[column])
            is_counted = spec.count and strip_number(target) == "seed"
            drafts.append((draft, count_seeds(cells, counts) if is_counted else repeat_rows(cells, counts)))
        if spec.count and "seed" not in spec.columns:
            draft = AxisDraft("seed", ("seed",), (*place, "count"), self)
            drafts.append((draft, count_seeds([1] * len(counts), counts)))
        axes = [make_list_axis(draft, values) for draft, values in drafts]
        return [] if any(draft.failures for draft, _ in drafts) else [axis for axis in axes if axis]

    def _choose_targets(self, name: str, place: DocumentPath, spec: Any = None) -> tuple[str, ...]:
        """Choose what an axis (or, without `spec`, a column) sets: as `target`, its name, or its kind says."""
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
            is_column = spec is None or isinstance(spec, file_schema.CsvColumns)
            way = _OWN_COLUMN if is_column else _OWN_NAME
            raise AxisError(f"{where} {describe_no_target(name)}{way}")
        return cast("tuple[str, ...]", default)

    def _build_axis(self, name: str, spec: Any, place: DocumentPath, *, repeats: bool) -> list[Axis]:
        """Build an axis; return none where it has problems, which are reported then."""
        try:
            draft = AxisDraft(name, self._choose_targets(name, place, spec), place, self, repeats)
            axis = _MAKERS[type(spec)](draft, spec)
        except (AxisError, SourceError) as error:
            self._report_error(error, place, spec)
            return []
        return [] if axis is None or draft.failures else [axis]

    def _check_distinct_axes(self, axes: Sequence[Axis]) -> None:
        """Check that no two axes have one name or set one target: only one of them could win."""
        names: set[str] = set()
        homes: dict[str, str] = {}
        for axis in axes:
            place = ("axes", axis.name)
            if axis.name in names:
                self.problems.add_at_key(place, f"there are two axes named {axis.name}")
            names.add(axis.name)
            for target in _collect_targets(axis):
                home = homes.setdefault(target, axis.name)
                if home != axis.name:
                    self.problems.add_at_key(place, f"axes {home} and {axis.name} both set {target}")

    def _check_replacements(self, axes: Mapping[str, Axis], inputs: Mapping[str, Setting]) -> None:
        """Check that every replacement finds its text, as far as the file itself says what that is."""
        replacing = [
            (name, target, axis.levels.search)
            for name, axis in axes.items()
            if isinstance(axis.levels, ReplacingLevels)
            for target in axis.levels.targets
        ]
        first: dict[tuple[str, str], str] = {}
        for name, target, search in replacing:
            place = ("axes", name, "replace")
            setters = [axis for axis in axes.values() if target in _collect_targets(axis)]
            fixed = inputs.get(target)
            found = [level.settings.get(target, fixed) for level in setters[0].levels] if setters else [fixed]
            texts = [text for text in found if isinstance(text, str)]
            missing = next((text for text in texts if search not in text), None)
            other = first.setdefault((target, search), name)
            if other != name:
                self.problems.add_at_value(place, f'axes.{other} and axes.{name} both replace "{search}"')
            elif missing is not None:
                message = f'axes.{name}: "{search}" does not occur in the {target} {quote(missing)}'
                self.problems.add_at_value(place, message)
            else:
                longer = {each for _, where, each in replacing if where == target and search in each and each != search}
                self.notices += _note_inside(f"axes.{name}", search, target, texts, longer)


def _collect_targets(axis: Axis) -> Sequence[str]:
    return () if isinstance(axis.levels, ReplacingLevels) else axis.levels.targets  # replacements add up


def _note_inside(place: str, search: str, target: str, texts: Sequence[str], longer: Collection[str]) -> list[str]:
    """Note that some of what is replaced, and not taken by a longer search, stands inside a longer word."""
    word = re.compile(rf"(?<!\w){re.escape(search)}(?!\w)")
    counts: list[tuple[int, int]] = []
    for text in texts:
        for other in sorted(longer, key=len, reverse=True):
            text = text.replace(other, "\0")
        counts.append((text.count(search) - len(word.findall(text)), text.count(search)))
    inside, count = max(counts, default=(0, 0))
    if not inside:
        return []
    times = f"{count} times in the {target}, {inside} of them" if count > 1 else f"in the {target}"
    return [f'{place}: "{search}" occurs {times} inside a longer word; all of them are replaced.']
