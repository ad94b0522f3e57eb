"""The kinds of axes, one function each: lists, ranges, seeds, zips, and values from text, CSV, YAML and templates."""

from __future__ import annotations

import csv
import io
import math
import re
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sweep.errors import ExperimentError, did_you_mean
from sweep.experiment.axis_arguments import suggest_axis
from sweep.experiment.document import did_you_mean_file, path_kind, read_text
from sweep.experiment.model import (
    Axis,
    AxisKind,
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
from sweep.role_table import (
    SEED_MAX,
    Role,
    as_written,
    describe_bounds,
    find_role,
    find_text_problem,
    find_value_problem,
    is_image,
    quote,
    strip_number,
)
from sweep.text import format_count
from sweep.types import Scalar

if TYPE_CHECKING:
    from dynamicprompts.generators import CombinatorialPromptGenerator
    from dynamicprompts.wildcards import WildcardManager


MAX_TOLD: Final = 20  # problems of one axis; who has more has one reason for all


class AxisError(ValueError):
    """What is wrong with an axis, as a whole sentence without its full stop; `part` is where in the axis it is."""

    def __init__(self, message: str, *part: str | int) -> None:
        super().__init__(message)
        self.message = message
        self.part = part
        self.others: tuple[AxisError, ...] = ()  # further problems of the same axis

    @staticmethod
    def raise_any(problems: Sequence[AxisError]) -> None:
        """Raise the first of `problems`, which carries some others; return where there is none."""
        if problems:
            problems[0].others = tuple(problems[1:MAX_TOLD])
            raise problems[0]


@dataclass(frozen=True, slots=True)
class AxisDraft:
    """What is known of an axis before its values are looked at."""

    name: str
    targets: tuple[str, ...]  # what it sets
    place: str  # how the file is told where: axes.seed
    read: Callable[..., Setting]  # (target, raw value, *part): what it is set to, a path as its image
    notices: list[str]
    repeats: bool = False  # whether equal values may stand in it: zipped axes repeat theirs

    @property
    def role(self) -> Role | None:
        """What is known of the values; None where it sets nothing of its own, or a node.field."""
        return find_role(self.targets[0]) if self.targets else None

    def make_level(self, value: Scalar, raw: Any, *part: str | int) -> Level:
        """Make the level that sets every target to what `raw` says."""
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


def find_files(folder: Path, patterns: Sequence[str]) -> list[str]:
    """Find files that match, each once, sorted by name within a pattern, written relative to `folder` with "/". Raises
    SourceError where a pattern matches nothing.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        names = glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207  Path.glob takes no absolute one
        hits = sorted(Path(name).as_posix() for name in names if (folder / name).is_file())
        if not hits:
            raise SourceError(f"no file matches {pattern}")
        found |= dict.fromkeys(hits)
    return list(found)


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


def make_seed_axis(draft: AxisDraft, count: int, start: int | None) -> Axis:
    """Make `count` seeds from start on, or still to be drawn where there is no start."""
    if start is None:
        return Axis(draft.name, "seed", UndrawnLevels(draft.targets, draft.name, count))
    if not (start >= 0 and start + count - 1 <= SEED_MAX):
        raise AxisError(f"{draft.place}: seeds are 0 to {SEED_MAX}; these reach {start + count - 1}", "start")
    return Axis(draft.name, "seed", LinearLevels(draft.targets, to_fraction(start), to_fraction(1), count, whole=True))


MAX_TABLE_BYTES: Final = 50_000_000
MAX_COUNT: Final = 10_000  # images of one row of a table


class SourceError(ValueError):
    """What is wrong with a file of values, as the end of a sentence that begins with where it is named."""


def read_text_file(path: Path, shown: str) -> str:
    """Read a UTF-8 text. Raises SourceError where the file is missing, too large or in another encoding."""
    try:
        if not path.is_file():
            raise SourceError(
                f"{shown} is a folder" if path.is_dir() else f"{shown} does not exist.{did_you_mean_file(path)}"
            )
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise SourceError(f"{shown} is larger than {MAX_TABLE_BYTES // 1_000_000} MB")
        raw = path.read_bytes()
        if raw.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
            raise SourceError(f"{shown} is a workbook; save the sheet as CSV")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{shown} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise SourceError(f"{shown} cannot be read ({error.strerror or error})") from error


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A column of a table: its cells, and where each stands, to name it in a problem."""

    name: str
    shown: str  # the file, as it was written
    cells: Sequence[str]
    rows: Sequence[int]  # as a spreadsheet counts them: the header is row 1

    def numbers(self, *, decimal_comma: bool) -> list[int | float]:
        """Read every cell as a number, 20.0 as 20. Raises SourceError that names row and column."""
        return [self._number(cell, row, decimal_comma) for cell, row in zip(self.cells, self.rows, strict=True)]

    def counts(self) -> list[int]:
        """Read every cell as a number of images, at least 1. Raises SourceError."""
        for number, row in zip(found := self.numbers(decimal_comma=False), self.rows, strict=True):
            if number != int(number) or not 1 <= number <= MAX_COUNT:
                raise SourceError(f"{self.locate(row)} is {quote(number)}, but must be 1 to {MAX_COUNT}")
        return [int(number) for number in found]

    def locate(self, row: int) -> str:
        """Say where a cell stands, as people find it."""
        return f"{self.shown} row {row}, {self.name}" if self.name else f"{self.shown} line {row}"

    def _number(self, cell: str, row: int, decimal_comma: bool) -> int | float:
        where = self.locate(row)
        if not cell:
            raise SourceError(f"{where} is empty")
        if decimal_comma and _GROUPED_CELL.fullmatch(cell):
            raise SourceError(f"{where}: {quote(cell)} may be a thousand or a decimal number; write it without a comma")
        text = cell.replace(",", ".") if decimal_comma else cell
        if not _CELL.fullmatch(text) or math.isinf(float(text)):
            raise SourceError(f"{where}: {quote(cell)} is not a number")
        return int(text) if _WHOLE_CELL.fullmatch(text) else float(text)


_CELL: Final = re.compile(r"[+-]?(?:\d{1,300}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?")
_GROUPED_CELL: Final = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")
_WHOLE_CELL: Final = re.compile(r"[+-]?\d{1,300}")


def repeat_rows(cells: Sequence[Scalar], counts: Sequence[int] | None) -> list[Scalar]:
    """Repeat each row of a table as often as its count says."""
    if counts is None:
        return list(cells)
    return [cell for cell, count in zip(cells, counts, strict=True) for _ in range(count)]


def count_seeds(seeds: Sequence[Scalar], counts: Sequence[int]) -> list[Scalar]:
    """Count the seeds of each row up from its own, one for each time the row is repeated."""
    starts = [seed if isinstance(seed, int) else 0 for seed in seeds]
    return [start + at for start, count in zip(starts, counts, strict=True) for at in range(count)]


def read_lines(path: Path, shown: str) -> TextColumn:
    """Read every line that is neither empty nor a comment, without the space around it. Raises SourceError."""
    lines = enumerate(read_text_file(path, shown).splitlines(), start=1)
    found = [(number, text.strip()) for number, text in lines if text.strip() and not text.lstrip().startswith("#")]
    if not found:
        raise SourceError(f"{shown} holds no line")
    return TextColumn("", shown, [text for _, text in found], [number for number, _ in found])


def read_columns(path: Path, shown: str, names: Sequence[str]) -> list[TextColumn]:
    """Read named columns of a CSV file, whose separator (comma, semicolon or tab) is taken from its header."""
    text = read_text_file(path, shown)
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        every = enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), start=1)
        numbered = [(number, row) for number, row in every if any(row)]
    except csv.Error as error:
        raise SourceError(f"{shown} is not CSV ({error})") from error
    if len(numbered) < 2:
        raise SourceError(f"{shown} holds no row below its header")
    head = [cell.strip() for cell in numbered[0][1]]
    missing = [name for name in names if name not in head]
    if missing:
        raise SourceError(f"{shown} has no column {missing[0]}.{did_you_mean(missing[0], head)}")
    twice = [name for name in names if head.count(name) > 1]
    if twice:
        raise SourceError(f"{shown} has the column {twice[0]} twice")
    for number, row in numbered[1:]:
        if len(row) != len(head):
            raise SourceError(f"{shown}: row {number} has {len(row)} cells, the header {len(head)}")
    rows = [number for number, _ in numbered[1:]]
    return [TextColumn(name, shown, [row[head.index(name)].strip() for _, row in numbered[1:]], rows) for name in names]


def parse_column(target: str, column: TextColumn) -> list[Scalar]:
    """Read the cells as what `target` takes: numbers for a role of numbers, text for any other.

    An address says nothing of what it takes: its cells are numbers where all that are not empty are.

    Raises:
        SourceError: A cell is empty or no number where one is needed; it names row and column.
    """
    role = find_role(target)
    given = [cell for cell in column.cells if cell]
    decimal_comma = any("," in cell for cell in given)
    if role is None:
        texts = [cell.replace(",", ".") if decimal_comma else cell for cell in given]
        if {text.lower() for text in texts} <= {"true", "false"}:
            return [cell.lower() == "true" if cell else cell for cell in column.cells]
        if not all(_CELL.fullmatch(text) for text in texts):
            return list(column.cells)
    elif role.kind not in ("integer", "number"):
        return list(column.cells)
    numbers = column.numbers(decimal_comma=decimal_comma)
    for number, row in zip(numbers, column.rows, strict=True):
        if problem := find_value_problem(target, number):
            raise SourceError(f"{column.locate(row)} {problem}")
    return list(numbers)


def read_settings(path: Path, shown: str) -> dict[str, Mapping[str, Any]]:
    """Label → targets and values, from a JSON or YAML file. Raises SourceError."""
    try:
        data = read_text(read_text_file(path, shown), folder=path.parent, shown=shown).data  # JSON is YAML
    except ExperimentError as error:
        raise SourceError(f"{shown}: {error.problems[0] if error.problems else error.message}") from error
    if isinstance(data, list):
        data = _number_rows(data, shown)
    if not isinstance(data, dict) or not data:
        raise SourceError(f"{shown} must hold a mapping of labels, or a list of mappings, not {quote(data)}")
    for label, settings in data.items():
        if not isinstance(settings, dict) or not settings:
            raise SourceError(f"{shown}: {label} must be a mapping of what it sets, not {quote(settings)}")
    return data


def _number_rows(items: list[Any], shown: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise SourceError(f"{shown}: entry {number} must be a mapping of what it sets, not {quote(item)}")
        label = str(item.get("label", number))
        if label in result:
            raise SourceError(f"{shown}: the label {label} appears twice")
        result[label] = {key: value for key, value in item.items() if key != "label"}
    return result


MAX_PROMPTS: Final = 100_000
_WILDCARD = re.compile(r"__([\w*][\w*/. -]*?)__")


def expand_prompts(templates: Sequence[str], wildcards: Path | None) -> list[str]:
    """List every combination of every template, in order. Raises SourceError where the library is missing, a template
    cannot be read, a wildcard has no file, or there are more than a hundred thousand.
    """
    if wildcards is not None and path_kind(wildcards) != "folder":
        raise SourceError(f"the wildcards folder {wildcards.name} does not exist")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library calls its parser by deprecated names
        try:
            from dynamicprompts.generators import CombinatorialPromptGenerator
            from dynamicprompts.wildcards import WildcardManager
        except ImportError as error:
            raise SourceError('needs dynamicprompts; pip install "sweep-engine[dynamic]" brings it') from error
        manager = WildcardManager(wildcards)
        generator = CombinatorialPromptGenerator(wildcard_manager=manager)
        prompts: list[str] = []
        for template in templates:
            _check_wildcards(template, manager)
            prompts += _expand(template, generator, MAX_PROMPTS + 1 - len(prompts))
    return prompts


def _check_wildcards(text: str, manager: WildcardManager, seen: frozenset[str] = frozenset()) -> None:
    """Check that every wildcard has values; the library would go on for ever without."""
    for name in _WILDCARD.findall(text):
        if name in seen:
            raise SourceError(f"the wildcard {name} leads back to itself")
        values = manager.get_values(name).string_values
        if not values:
            raise SourceError(f"the wildcard {name} has no values; is there a file {name}.txt?")
        for value in values:
            _check_wildcards(value, manager, seen | {name})


def _expand(template: str, generator: CombinatorialPromptGenerator, most: int) -> list[str]:
    try:
        found = generator.generate(template, max_prompts=most)
    except Exception as error:  # the library documents none of its own
        reason = " ".join(str(error).split())
        raise SourceError(f"the template {template!r} cannot be read ({reason})") from error
    if not found:
        raise SourceError(f"the template {template!r} makes no prompt")
    if len(found) >= most:
        raise SourceError(f"the templates make more than {MAX_PROMPTS:,} prompts")
    return [str(prompt) for prompt in found]
