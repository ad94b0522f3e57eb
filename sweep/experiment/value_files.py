"""Files that hold values of inputs and axes: tables, lines, settings, prompt templates, and what servers gave."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import filter as filter_names
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sweep.errors import ExperimentError, did_you_mean, did_you_mean_file
from sweep.experiment.axes import Setting
from sweep.experiment.problems import DocumentPath
from sweep.experiment.range_notation import parse_number, suggest_axis
from sweep.experiment.yaml_document import Document, expand_path, path_kind, read_text
from sweep.input_images import ImageReader, InputImageError
from sweep.role_table import SLOT, as_written, find_role, find_value_problem, is_image, quote
from sweep.types import Scalar

if TYPE_CHECKING:
    from dynamicprompts.generators import CombinatorialPromptGenerator
    from dynamicprompts.wildcards import WildcardManager


class AxisError(ValueError):
    """An axis is wrong. The text is a sentence without its full stop; `part` is the way from the axis to the place."""

    def __init__(self, message: str, *part: str | int) -> None:
        super().__init__(message)
        self.message = message
        self.part = part


class SourceError(ValueError):
    """A file of values is wrong. The text is the end of a sentence that begins with the place that names the file."""


REFERENCES: Final = ("gallery:", "board:", "library:")
"""Beginnings of the names of images, boards and workflows that a server has."""

UNFETCHED: Final = "of a server; give its address with --server, or in the list servers"
FETCHED_FILE: Final = "fetched.json"


def is_reference(text: object) -> bool:
    """Tell whether a text names something that only a server has."""
    return isinstance(text, str) and text.startswith(REFERENCES) and not text.endswith(":")


class FetchedFiles:
    """Files that servers gave for the references of an experiment: a folder, with a list of what is in it."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.lacking: dict[str, None] = {}  # asked for in vain
        self.entries: dict[str, dict[str, Any]] = {}  # reference → its `server`, and its `file` or `images`
        if folder is not None:
            with suppress(OSError, ValueError, AttributeError):
                found = json.loads((folder / FETCHED_FILE).read_text(encoding="utf-8"))
                self.entries = {key: entry for key, entry in found.items() if isinstance(entry, dict)}
        self.used: dict[str, dict[str, Any]] = {}

    def find_file(self, reference: str) -> Path | None:
        """Find the file of an image or workflow; None, and lacking from now on, where it was not fetched."""
        entry = self.entries.get(reference, {})
        path = self.folder / Path(str(entry["file"])).name if self.folder and "file" in entry else None
        if path is None or not path.is_file():
            self.lacking[reference] = None
            return None
        self.used[reference] = {**entry, "file": path.absolute().as_posix()}
        return path

    def list_images(self, reference: str) -> list[str] | None:
        """List the images of a board, as references; None, and lacking from now on, where it was not fetched."""
        entry = self.entries.get(reference, {})
        if "images" not in entry:
            self.lacking[reference] = None
            return None
        self.used[reference] = entry
        return [f"gallery:{name}" for name in entry["images"]]


def write_fetched(folder: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the list of what was fetched into its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FETCHED_FILE).write_text(json.dumps(entries, indent=1), encoding="utf-8")


MAX_TABLE_BYTES: Final = 50_000_000
MAX_COUNT: Final = 10_000  # images of one row of a table


def find_files(folder: Path, patterns: Sequence[str]) -> list[str]:
    """Find the files that match, sorted within a pattern, written relative to `folder`. Raises SourceError for none."""
    found: dict[str, None] = {}
    for pattern in patterns:
        hits: list[str] = []
        with suppress(ValueError):  # a pattern that no system takes
            names = glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207  Path.glob takes no absolute one
            hits = sorted(Path(name).as_posix() for name in names if (folder / name).is_file())
        if not hits:
            raise SourceError(f"no file matches {pattern}")
        found |= dict.fromkeys(hits)
    return list(found)


def read_text_file(shown: str, path: Path) -> str:
    """Read a UTF-8 text. Raises SourceError where the file is missing, too large or in another encoding."""
    try:
        if path.is_dir():
            raise SourceError(f"{shown} is a folder")
        if not path.is_file():
            raise SourceError(f"{shown} does not exist.{did_you_mean_file(path)}")
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
        return [self._parse_number(cell, row, decimal_comma) for cell, row in zip(self.cells, self.rows, strict=True)]

    def counts(self) -> list[int]:
        """Read every cell as a number of images, at least 1. Raises SourceError."""
        for number, row in zip(found := self.numbers(decimal_comma=False), self.rows, strict=True):
            if number != int(number) or not 1 <= number <= MAX_COUNT:
                raise SourceError(f"{self.locate(row)} is {quote(number)}, but must be 1 to {MAX_COUNT}")
        return [int(number) for number in found]

    def locate(self, row: int) -> str:
        """Say where a cell stands, as people find it."""
        return f"{self.shown} row {row}, {self.name}" if self.name else f"{self.shown} line {row}"

    def _parse_number(self, cell: str, row: int, decimal_comma: bool) -> int | float:
        where = self.locate(row)
        if not cell:
            raise SourceError(f"{where} is empty")
        if decimal_comma and _GROUPED_CELL.fullmatch(cell):
            raise SourceError(f"{where}: {quote(cell)} may be a thousand or a decimal number; write it without a comma")
        number = parse_number(cell.replace(",", ".") if decimal_comma else cell)
        if number is None or math.isinf(number):
            raise SourceError(f"{where}: {quote(cell)} is not a number")
        return number


C = TypeVar("C")
_GROUPED_CELL: Final = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")


def repeat_rows(cells: Sequence[C], counts: Sequence[int]) -> list[C]:
    """Repeat each row of a table as often as its count says."""
    return [cell for cell, count in zip(cells, counts, strict=True) for _ in range(count)]


def count_seeds(seeds: Sequence[Scalar], counts: Sequence[int]) -> list[Scalar]:
    """Count the seeds of each row up from its own, one for each time the row is repeated."""
    starts = [seed if isinstance(seed, int) else 0 for seed in seeds]
    return [start + at for start, count in zip(starts, counts, strict=True) for at in range(count)]


def read_lines(shown: str, path: Path) -> TextColumn:
    """Read every line that is neither empty nor a comment, without the space around it. Raises SourceError."""
    lines = enumerate(io.StringIO(read_text_file(shown, path), newline=None), start=1)  # U+2028 ends no line
    found = [(number, text.strip()) for number, text in lines if text.strip() and not text.lstrip().startswith("#")]
    if not found:
        raise SourceError(f"{shown} holds no line")
    return TextColumn("", shown, [text for _, text in found], [number for number, _ in found])


def read_columns(shown: str, path: Path, names: Sequence[str]) -> list[TextColumn]:
    """Read named columns of a CSV file, whose separator (comma, semicolon or tab) is taken from its header."""
    text, delimiter = _find_delimiter(read_text_file(shown, path))
    try:
        every = enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), start=1)
        numbered = [(number, row) for number, row in every if any(map(str.strip, row))]
    except csv.Error as error:
        raise SourceError(f"{shown} is not CSV ({error})") from error
    if len(numbered) < 2:
        raise SourceError(f"{shown} holds no row below its header")
    head = [cell.strip() for cell in numbered[0][1]]
    missing = [name for name in names if name not in head]
    if missing:
        near = did_you_mean(missing[0], head) if len(missing) == 1 else ""
        raise SourceError(f"{shown} has no column {', '.join(missing)}.{near or ' It has ' + ', '.join(head)}")
    twice = [name for name in names if head.count(name) > 1]
    if twice:
        raise SourceError(f"{shown} has the column {twice[0]} twice")
    for number, row in numbered[1:]:
        if len(row) != len(head):
            raise SourceError(f"{shown}: row {number} has {len(row)} cells, the header {len(head)}")
    rows = [number for number, _ in numbered[1:]]
    return [TextColumn(name, shown, [row[head.index(name)].strip() for _, row in numbered[1:]], rows) for name in names]


def _find_delimiter(text: str) -> tuple[str, str]:
    """Return a table without the line `sep=;` that Excel puts above some, and what separates its cells."""
    if said := re.match(r"sep=(.)\r?\n", text):
        return text[said.end() :], said[1]
    quoted = r'(^|[,;\t])"[^"]*"'  # separates nothing; 5" is no beginning of one
    header = re.sub(quoted, r"\1", text.lstrip("\r\n")).partition("\n")[0]
    return text, max(",;\t", key=header.count)


def parse_column(target: str, column: TextColumn) -> list[Scalar]:
    """Parse the cells as values that `target` takes. Raises SourceError that names row and column.

    An address says nothing of what it takes: its cells are numbers where all that are not empty are.
    """
    role = find_role(target)
    given = [cell for cell in column.cells if cell]
    decimal_comma = any("," in cell for cell in given)
    if role is None:
        texts = [cell.replace(",", ".") if decimal_comma else cell for cell in given]
        if {text.lower() for text in texts} <= {"true", "false"}:
            return [cell.lower() == "true" if cell else cell for cell in column.cells]
        if any(parse_number(text) is None for text in texts):
            return list(column.cells)
    elif role.kind not in ("integer", "number"):
        return list(column.cells)
    numbers = column.numbers(decimal_comma=decimal_comma)
    for number, row in zip(numbers, column.rows, strict=True):
        if problem := find_value_problem(target, number):
            raise SourceError(f"{column.locate(row)} {problem}")
    return list(numbers)


def read_settings(shown: str, path: Path) -> dict[str, Mapping[str, Any]]:
    """Read labels, each with targets and their values, from a JSON or YAML file. Raises SourceError."""
    try:
        data = read_text(read_text_file(shown, path), folder=path.parent, shown=shown).data  # JSON is YAML
    except ExperimentError as error:
        raise SourceError(f"{shown}: {error.problems[0] if error.problems else error.message}") from error
    if isinstance(data, list):
        data = _number_rows(data, shown)
    if not isinstance(data, dict) or not data:
        raise SourceError(f"{shown} must hold a mapping of labels, or a list of mappings, not {quote(data)}")
    for label, settings in data.items():
        if not isinstance(settings, dict):
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
_WILDCARD = re.compile(r"__[!@]?([^$(]+?)(?:\(.*?\))?__")  # with what it hands on: __clothes(season=winter)__
_RANDOM = re.compile(r"(?:\{|__)\s*~")
_SLOT = re.compile(rf"(?<!(?<!\$)\$){re.escape(SLOT)}")  # ${variation} is a variable of the library
_STAND_IN: Final = "\ue000"  # of {variation}, which the library would take for a choice of one word


def expand_prompts(templates: Sequence[str], shown: str = "", wildcards: Path | None = None) -> list[str]:
    """List every combination of every template, in order. Raises SourceError where a template is wrong.

    `shown` is the folder of wildcards as it was written.
    """
    if wildcards is not None and path_kind(wildcards) != "folder":
        raise SourceError(f"wildcards: {shown} is no folder")
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
            _check_wildcards(template, manager, shown)
            prompts += _expand(template, generator, MAX_PROMPTS + 1 - len(prompts))
    return prompts


def _check_wildcards(text: str, manager: WildcardManager, shown: str, seen: frozenset[str] = frozenset()) -> None:
    """Check that every wildcard has values, without which the library would go on for ever, and that none is drawn."""
    if _RANDOM.search(text):
        raise SourceError(f"{text!r} draws with ~, so it would be other prompts at every load; leave the ~ out")
    for name in _WILDCARD.findall(text):
        if ".." in name or name.startswith("/"):
            raise SourceError(f"the wildcard {name} leads out of the folder of wildcards")
        if name in seen:
            raise SourceError(f"the wildcard {name} leads back to itself")
        if manager.path is None:
            raise SourceError(f"the wildcard {name} needs a folder of text files: add wildcards: FOLDER")
        known = sorted(manager.get_collection_names())
        for each in filter_names(known, name) or filter_names(known, f"**/{name}"):
            if (file := manager.path / f"{each}.txt").is_file():
                read_text_file(f"{shown}/{each}.txt", file)  # the library leaves out what is no UTF-8
        values = manager.get_values(name).string_values
        if not values:
            near = did_you_mean(name, known) or f" Is there a file {name}.txt?"
            raise SourceError(f"the wildcard {name} has no values.{near}")
        for value in values:
            if _SLOT.search(value):
                raise SourceError(f"the wildcard {name} holds {SLOT}; write {SLOT} in the template instead")
            _check_wildcards(value, manager, shown, seen | {name})


def _expand(template: str, generator: CombinatorialPromptGenerator, most: int) -> list[str]:
    try:
        found = generator.generate(_SLOT.sub(_STAND_IN, template), max_prompts=most)
    except Exception as error:  # the library documents none of its own
        reason = " ".join(str(error).split())
        raise SourceError(f"the template {template!r} cannot be read ({reason})") from error
    if not found:
        raise SourceError(f"the template {template!r} makes no prompt")
    if len(found) >= most:
        raise SourceError(f"the templates make more than {MAX_PROMPTS:,} prompts")
    return [str(prompt).replace(_STAND_IN, SLOT).replace("\ufeff", "") for prompt in found]  # a file's byte order mark


@dataclass
class ValueReader:
    """Reads the values of a document, with their images, and finds files that it names.

    Paths are written as seen from the experiment's own folder, also those of an included file elsewhere.
    """

    document: Document
    fetched: FetchedFiles
    rewritten: dict[DocumentPath, str | list[str]] = field(default_factory=dict)  # paths of included files
    _images: ImageReader = field(default_factory=ImageReader)

    def find_path(self, place: DocumentPath, written: str) -> tuple[str, Path]:
        """Find where a path at `place` leads: as seen from the experiment's folder, with "/", and absolute."""
        mark = self.document.values.get(place)  # none for a table's cells, whose paths start from the own folder
        base = (mark.folder if mark else None) or self.document.folder
        if base == self.document.folder or is_reference(written) or Path(written).is_absolute():
            return written, expand_path(self.document.folder, written)
        try:
            moved = Path(os.path.relpath(base / written, self.document.folder)).as_posix()
        except ValueError:  # another drive
            moved = (base / written).as_posix()
        self.rewritten[place] = moved
        return moved, expand_path(self.document.folder, moved)

    def list_board(self, board: str) -> list[str]:
        """List the images of a board of a server. Raises SourceError where they were not fetched, or there are none."""
        listed = self.fetched.list_images(f"board:{board}")
        if listed is None:
            raise SourceError(f"{quote(board)} is a board {UNFETCHED}")
        if not listed:
            raise SourceError(f"the board {quote(board)} has no images")
        return listed

    def read(self, target: str, raw: Any, place: DocumentPath) -> Setting:
        """Read one setting. Raises AxisError with the end of a sentence that begins with its place."""
        if isinstance(raw, Mapping) and set(raw) == {"image"} and isinstance(raw["image"], str):
            if find_role(target) is not None and not is_image(target):
                raise AxisError(f"is set to an image, which {target} is not")
            return self._read_image(raw["image"], (*place, "image"))
        raw = as_written(target, raw)
        if problem := find_value_problem(target, raw):
            meant = suggest_axis(target, raw) if isinstance(raw, str) and problem.startswith("must be a") else None
            if problem.startswith("must be a number") and re.fullmatch(r"[+-]?\d+,\d+", str(raw)):
                problem += f"; a decimal number is {str(raw).replace(',', '.')}"
            raise AxisError(f"{problem}; several values are an axis: axes: {{{target}: {meant}}}" if meant else problem)
        if is_image(target) and isinstance(raw, str):
            return self._read_image(raw, place)
        if target == "controls":
            return [
                {**entry, "image": self._read_image(entry["image"], (*place, at, "image"))}
                for at, entry in enumerate(raw)
            ]
        setting: Setting = raw
        return setting

    def _read_image(self, written: Any, place: DocumentPath) -> Setting:
        if not isinstance(written, str):
            raise AxisError(f"image must be the path of an image, not {quote(written)}")
        if is_reference(written):
            shown, path, server = written, *self._find_fetched(written)
        else:
            shown, path, server = *self.find_path(place, written), ""
        try:
            return self._images.read(path, shown, server)
        except InputImageError as error:
            raise AxisError(f"names {shown}, which {error}") from error

    def _find_fetched(self, reference: str) -> tuple[Path, str]:
        if not reference.startswith("gallery:"):
            kind, _, name = reference.partition(":")
            way = f"write it as an axis, image: {{board: {name}}}" if kind == "board" else "write it under workflow:"
            raise AxisError(f"is {reference}, which is no single image; {way}")
        path = self.fetched.find_file(reference)
        if path is None:
            raise AxisError(f"{reference} is in the gallery {UNFETCHED}")
        return path, str(self.fetched.entries[reference].get("server", ""))
