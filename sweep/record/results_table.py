"""The results table: its columns and rows, streamed from the journal; counts by axis; and the formats of its files."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import io
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO, TypeAlias, TypeVar

from sweep.errors import RecordError, UsageError, did_you_mean
from sweep.record.durable_files import replace_atomically
from sweep.record.sqlite import queries
from sweep.record.sqlite.connection import BrokenSealError, build_seal
from sweep.text import format_value, make_list
from sweep.types import Scalar

if TYPE_CHECKING:
    import pandas as pd


ColumnKind: TypeAlias = Literal["integer", "number", "text", "boolean", "time"]
Cell: TypeAlias = "Scalar | datetime"
TableRow: TypeAlias = "tuple[Cell, ...]"
Where: TypeAlias = "Callable[[Mapping[str, Cell]], bool]"
"""Whether a row counts, told from its cells by column."""

_Row = TypeVar("_Row")
_CHUNK = 500
_OF_AXIS: Mapping[str, ColumnKind] = {"integer": "integer", "seed": "integer", "number": "number", "boolean": "boolean"}
_STANDARD: Mapping[str, ColumnKind] = {
    "prompt": "text",
    "status": "text",
    "error": "text",
    "attempts": "integer",
    "server": "text",
    "model": "text",
    "image_path": "text",
    "image_name": "text",
    "width": "integer",
    "height": "integer",
    "sha256": "text",
    "queued_at": "time",
    "started_at": "time",
    "finished_at": "time",
    "render_seconds": "number",
}
_YIELDING = {"prompt", "model", "width", "height"}
"""Standard columns that call themselves `rendered_…` where an axis has their name; other names an axis cannot take."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the results table."""

    name: str
    kind: ColumnKind


RATINGS_JSON: Final = "ratings.json"
_RATED: Mapping[str, ColumnKind] = {"rating": "number", "rejected": "boolean", "note": "text"}
_MOST_IN_EXCEL: Final = 10**15  # of a whole number: longer ones lose digits there
_BEFORE_AXES: Final = 2  # columns: index and key
_KEY_DIGITS: Final = 16  # of a key in the name of a rated image: as many as the page has of it


def read_ratings(folder: Path) -> Mapping[str, Any]:
    """Read what a person said of the images: `ratings` (stars, rejection, note) by their names, and `choices`.

    Empty where there is no file, or one that cannot be read; without marks and choices that the page does not write.
    """
    try:
        found = json.loads((folder / RATINGS_JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    is_known = isinstance(found, dict) and found.get("schema") == 1 and isinstance(found.get("ratings"), dict)
    if not is_known:
        return {"schema": 1, "ratings": {}, "choices": []}
    marks = {name: mark for name, mark in found["ratings"].items() if is_rating(mark)}
    choices = found.get("choices") if isinstance(found.get("choices"), list) else []
    return {"schema": 1, "ratings": marks, "choices": list(filter(is_choice, choices))}


def is_rating(mark: object) -> bool:
    """Tell whether a mark is one that the page writes: 0 to 5 stars or none, a rejection, a note."""
    if not isinstance(mark, dict):
        return False
    stars, note = mark.get("stars"), mark.get("note")
    is_number = isinstance(stars, int | float) and not isinstance(stars, bool) and 0 <= stars <= 5
    is_mark = (stars is None or is_number) and isinstance(mark.get("rejected"), bool | None)
    return is_mark and isinstance(note, str | None)


def is_choice(choice: object) -> bool:
    """Tell whether a choice between two images is one that the page writes."""
    if not isinstance(choice, dict) or choice.get("winner") not in ("left", "right", "tie"):
        return False
    return isinstance(choice.get("left"), str) and isinstance(choice.get("right"), str)


def name_image(key: str, number: int) -> tuple[str, ...]:
    """List the names by which ratings may call the image with this number, from 1, of a key.

    The page has the start of the key; without a number it is the first image.
    """
    keys = (key, key[:_KEY_DIGITS])
    return (*(f"{each}.{number}" for each in keys), *(keys if number == 1 else ()))


class ResultsTable:
    """The results table of an open journal: its columns, and its rows as they are read.

    The points are those of the current definition; with `all` those of every definition that the folder has seen.
    Where a person rated images of the folder, the last columns are rating, rejected and note. `where` says of a whole
    row whether it counts, and `columns` which are wanted: also what the experiment's inputs or the labels of an axis
    set. Raises UsageError where there is no such column.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        folder: Path,
        *,
        all: bool = False,  # noqa: A002  the word of the command line
        where: Where | str | None = None,
        columns: str | Sequence[str] | None = None,
    ) -> None:
        if isinstance(where, str):
            raise UsageError(f"{where!r} is a condition, which sweep.Results reads.", hint="Give a function of a row.")
        self._db = db
        self._former = all
        self._where = where
        definitions = list(queries.axes_by_definition(db).items())[: None if all else 1]
        self._definitions = [definition for definition, _ in definitions]
        kinds: dict[str, ColumnKind] = {}
        for name, kind in chain.from_iterable(axes for _, axes in definitions):
            wanted = _OF_AXIS.get(kind, "text")
            kinds[name] = _find_common_kind(kinds.get(name, wanted), wanted)
        self._axes = [Column(name, kind) for name, kind in kinds.items()]
        standard = [
            Column(f"rendered_{name}" if name in kinds and name in _YIELDING else name, kind)
            for name, kind in _STANDARD.items()
        ]
        taken = {"index", "key", "former", *(column.name for column in standard)}
        self._metrics = [name for name in queries.metric_names(db) if name not in kinds and name not in taken]
        found = [
            Column("index", "integer"),
            Column("key", "text"),
            *(Column(f"axis_{axis.name}" if axis.name in taken else axis.name, axis.kind) for axis in self._axes),
            *standard,
            *([Column("former", "boolean")] if all else []),
            *(Column(name, "number") for name in self._metrics),
        ]
        self._marks = read_ratings(folder)["ratings"]
        if self._marks:
            there = {column.name for column in found}
            found += [Column(f"given_{name}" if name in there else name, kind) for name, kind in _RATED.items()]
        self._all_names = tuple(column.name for column in found)
        self._pick: Callable[[TableRow], TableRow] | None = None
        self.columns = tuple(found)
        if columns is not None:
            self._choose(make_list(columns))
        self.names = tuple(column.name for column in self.columns)

    def rows(self) -> Iterator[TableRow]:
        """Yield a row an image, one a failed or cancelled variation; current points first, each by index.

        Raises BrokenSealError where a row is not as it was written, sqlite3.Error.
        """
        numbers = Counter[tuple[Cell, Cell]]()
        for chunk in split_rows(self._read_stored_rows(), _CHUNK):
            measured = self._with_metrics(chunk) if self._metrics else (row for row, _, _ in chunk)
            for row in self._with_marks(measured, numbers) if self._marks else measured:
                if self._where is None or self._where(dict(zip(self._all_names, row, strict=True))):
                    yield self._pick(row) if self._pick else row

    def _choose(self, names: Sequence[str]) -> None:
        """Keep these columns alone, among those of the table and of what the experiment sets."""
        facts = queries.experiment_facts(self._db)
        known = {column.name: (at, column) for at, column in enumerate(self.columns)}
        places = {axis.name: at for at, axis in enumerate(self._axes, start=_BEFORE_AXES)}
        labels = {places[axis.name]: axis.settings for axis in facts.axes if axis.settings}
        values: dict[str, list[Any]] = {role: [value] for role, value in facts.inputs.items()}
        for of in chain.from_iterable(settings.values() for settings in labels.values()):
            for role, value in of.items():
                values.setdefault(role, []).append(value)
        for name in names:
            if name not in known and name not in values:
                raise UsageError(f"There is no column named {name}.{did_you_mean(name, [*known, *values])}")

        def read_cell(row: TableRow, name: str) -> Cell:
            if name in known:
                return row[known[name][0]]
            set_here = (settings.get(str(row[place]), {}) for place, settings in labels.items())
            value = next((each[name] for each in set_here if name in each), facts.inputs.get(name))
            return value if value is None or isinstance(value, str | int | float) else json.dumps(value)

        self.columns = tuple(
            known[name][1] if name in known else Column(name, _guess_kind(values[name])) for name in names
        )
        self._pick = lambda row: tuple(read_cell(row, name) for name in names)

    def _read_stored_rows(self) -> Iterator[tuple[TableRow, str | None, str | None]]:
        """Read rows without metrics, each with the hashes of its image and of the image it started from."""
        for definition in self._definitions:
            former = (definition != self._definitions[0],) if self._former else ()
            for stored in self._db.execute(_SELECT, (definition,)):
                yield (*_show_row(stored, self._axes), *former), stored[17], stored[10]

    def _with_metrics(self, chunk: Sequence[tuple[TableRow, str | None, str | None]]) -> Iterator[TableRow]:
        """Add the metrics; of several values, that against the image it started from, else the one measured last."""
        found: dict[tuple[str, str], dict[str, float | None]] = {}
        images = tuple({image for _, image, _ in chunk if image is not None})
        slots = ", ".join("?" * len(images))
        for image, reference, metric, value, whole in self._db.execute(
            f"SELECT image, reference, metric, value, seal = {build_seal('metrics')} FROM metrics"  # noqa: S608
            f" WHERE image IN ({slots}) ORDER BY put",
            images,
        ):
            if not whole:
                raise BrokenSealError(f"a value of {metric} is not as it was written")
            found.setdefault((image, metric), {})[reference] = value
        for row, image, source in chunk:
            yield (*row, *(_choose_value(found.get((image or "", metric)), source) for metric in self._metrics))

    def _with_marks(self, rows: Iterable[TableRow], numbers: Counter[tuple[Cell, Cell]]) -> Iterator[TableRow]:
        """Add a person's marks; `numbers` counts the images of each point."""
        path = self._all_names.index("image_path")
        for row in rows:
            numbers[row[0], row[1]] += 1
            names = name_image(str(row[1]), numbers[row[0], row[1]]) if row[path] is not None else ()
            mark = next((self._marks[name] for name in names if name in self._marks), None)
            if mark is None:
                yield (*row, None, None, None)
            else:
                stars = None if mark.get("stars") is None else float(mark["stars"])
                yield (*row, stars, bool(mark.get("rejected")), mark.get("note") or None)


def _guess_kind(values: Iterable[object]) -> ColumnKind:
    """Return the kind of a column of inputs: whole numbers or numbers if all its values are such, else text."""
    kinds = {type(value) for value in values}
    return "integer" if kinds == {int} else "number" if kinds <= {int, float} else "text"


_SELECT = f"""
SELECT p.idx, p.key, p.axis_values, p.prompt, p.state, p.kind, p.message, p.attempts, p.server, p.model, p.source,
    i.ordinal, i.path, i.image_name, i.width, i.height, i.size, i.sha256, p.queued_at, p.started_at, p.finished_at,
    p.seal = {build_seal("points", "p")}, i.key IS NULL OR i.seal = {build_seal("images", "i")}
FROM points AS p INDEXED BY points_by_index LEFT JOIN images AS i ON i.key = p.key AND p.state = 'completed'
WHERE p.definition = ? AND p.state IN ('completed', 'failed', 'cancelled')
ORDER BY p.idx, p.id, i.ordinal
"""  # noqa: S608  column names only


def _show_row(stored: Sequence[object], axes: Sequence[Column]) -> TableRow:
    """Turn a stored row into cells, without metrics."""
    index, key, axis_values, prompt, state, kind, message, attempts, server, model, _, _, path, *rest = stored
    image_name, width, height, _, sha256, queued, started, finished, whole, image_whole = rest
    if not (whole and image_whole):
        raise BrokenSealError(f"the row of point {index} is not as it was written")
    if state == "completed" and path is None:
        raise BrokenSealError(f"point {index} is completed without an image")
    values = json.loads(str(axis_values))
    error = None if kind is None else f"{kind}: {message}"
    seconds = (finished - started) / 1e6 if isinstance(finished, int) and isinstance(started, int) else None
    cells: tuple[Any, ...] = (
        *(index, key, *[_show_level(values.get(axis.name), axis.kind) for axis in axes], prompt, state, error),
        *(attempts, server, model, path, image_name, width, height, sha256, _parse_time(queued), _parse_time(started)),
        *(_parse_time(finished), seconds),
    )
    return cells


def _show_level(value: Scalar, kind: ColumnKind) -> Scalar:
    """Turn a level into a cell of its column, in which definitions of several kinds may stand."""
    if value is None:
        return None
    if kind == "number":
        return float(value)
    return json.dumps(value) if kind == "text" and not isinstance(value, str) else value


def _choose_value(by_reference: dict[str, float | None] | None, source: str | None) -> float | None:
    if not by_reference:
        return None
    preferred = source or ""
    return by_reference[preferred] if preferred in by_reference else list(by_reference.values())[-1]


def _find_common_kind(first: ColumnKind, second: ColumnKind) -> ColumnKind:
    if first == second:
        return first
    return "number" if {first, second} == {"integer", "number"} else "text"


def _parse_time(stored: object) -> datetime | None:
    return queries.EPOCH + timedelta(microseconds=stored) if isinstance(stored, int) else None


def split_rows(rows: Iterable[_Row], size: int) -> Iterator[list[_Row]]:
    """Yield `rows` in lists of `size`, the last one shorter."""
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk


@dataclass(slots=True)
class Marginal:
    """The variations that share a value of an axis: their number by status, and the numbers in some columns."""

    axis: str
    value: str
    statuses: Counter[str] = field(default_factory=Counter)
    numbers: dict[str, list[float]] = field(default_factory=dict)  # by column

    def mean(self, column: str) -> float | None:
        """Return the mean of a column; None where there was no number."""
        numbers = self.numbers.get(column)
        return fmean(numbers) if numbers else None


def count_marginals(
    rows: Iterable[Mapping[str, Any]], axes: Sequence[str], columns: Sequence[str] = ()
) -> dict[str, list[Marginal]]:
    """Count by axis, one entry for each of its values: numbers ascend, others in order of appearance.

    `rows` are those of the results table, `columns` some of its columns; of a variation with several images the
    first row counts.
    """
    found: dict[str, dict[Any, Marginal]] = {axis: {} for axis in axes}
    seen: set[tuple[Any, Any]] = set()
    for row in rows:
        if (row["index"], row["key"]) in seen:
            continue
        seen.add((row["index"], row["key"]))
        for axis in axes:
            value = row[axis]
            entry = found[axis].setdefault(value, Marginal(axis, format_value(value)))
            entry.statuses[row["status"]] += 1
            for column in columns:
                if row[column] is not None:
                    entry.numbers.setdefault(column, []).append(row[column])
    return {axis: [entries[value] for value in sort_numbers(entries)] for axis, entries in found.items()}


def sort_numbers(values: Iterable[Any]) -> list[Any]:
    """Sort numbers, with a missing one last; leave other values in their order."""
    known = [value for value in values if value is not None]
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in known):
        return list(values)
    return [*sorted(known), *(value for value in values if value is None)]


def merge_marginals(group: Sequence[Marginal]) -> Marginal:
    """Merge all values of an axis into one entry, whose value says how many there were: "50 values: 42 … 91"."""
    some = ", ".join(entry.value for entry in group) if len(group) <= 4 else f"{group[0].value} … {group[-1].value}"
    merged = Marginal(group[0].axis, f"{len(group):,} values: {some}")
    for entry in group:
        merged.statuses += entry.statuses
        for column, numbers in entry.numbers.items():
            merged.numbers.setdefault(column, []).extend(numbers)
    return merged


TextFormat: TypeAlias = Literal["csv", "excel", "json", "md"]
FileFormat: TypeAlias = Literal[TextFormat, "xlsx", "parquet"]
PARQUET_HINT = "For results.parquet, too: pip install 'sweep-engine[parquet]'"


def write_csv(out: TextIO, names: Sequence[str], rows: Iterable[TableRow]) -> None:
    """Write RFC 4180 with line feeds; times in ISO 8601, nothing where a cell has no value."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_write_cell(cell) for cell in row] for row in rows)


def write_json(out: TextIO, names: Sequence[str], rows: Iterable[TableRow]) -> None:
    """Write an array of objects, one a line."""
    divider = "[\n"
    for row in rows:
        cells = dict(zip(names, row, strict=True))
        out.write(divider + json.dumps(cells, ensure_ascii=False, default=datetime.isoformat))
        divider = ",\n"
    out.write("[]\n" if divider == "[\n" else "\n]\n")


def write_markdown(out: TextIO, names: Sequence[str], rows: Iterable[TableRow]) -> None:
    """Write a pipe table, as GitHub shows it."""
    for row in chain([names, ["---"] * len(names)], rows):
        cells = [" ".join(str(_write_cell(cell)).replace("\\", "\\\\").replace("|", "\\|").split()) for cell in row]
        out.write(f"| {' | '.join(cells)} |\n")


def write_excel_csv(out: TextIO, names: Sequence[str], rows: Iterable[TableRow]) -> None:
    """Write a CSV file that Excel opens by a double click.

    It starts with a byte order mark, so that Excel reads UTF-8, and a text that Excel would run as a formula has an
    apostrophe in front.
    """
    out.write("\ufeff")
    write_csv(out, names, (tuple(map(_guard_formula, row)) for row in rows))


def _guard_formula(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def write_xlsx_file(path: Path, names: Sequence[str], rows: Iterable[TableRow]) -> None:
    """Write an Excel workbook, complete or not at all. Raises RecordError with a hint if XlsxWriter is missing."""
    if importlib.util.find_spec("xlsxwriter") is None:
        raise RecordError("Writing .xlsx needs XlsxWriter.", hint="pip install 'sweep-engine[excel]'")
    xlsxwriter = importlib.import_module("xlsxwriter")
    options = {
        "constant_memory": True,
        "remove_timezone": True,
        "nan_inf_to_errors": True,
        "strings_to_formulas": False,
    }
    with replace_atomically(path) as file, xlsxwriter.Workbook(file, options) as book:
        sheet = book.add_worksheet("results")
        sheet.freeze_panes(1, 0)
        sheet.write_row(0, 0, names, book.add_format({"bold": True}))
        moment = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        for number, row in enumerate(rows, start=1):
            for column, cell in enumerate(row):
                if isinstance(cell, datetime):
                    sheet.write_datetime(number, column, cell, moment)
                elif isinstance(cell, str) or (isinstance(cell, int) and abs(cell) > _MOST_IN_EXCEL):
                    sheet.write_string(number, column, str(cell)[:32_767])  # Excel's limit
                elif cell is not None:
                    sheet.write(number, column, cell)


WRITERS: Mapping[TextFormat, Callable[[TextIO, Sequence[str], Iterable[TableRow]], None]] = {
    "csv": write_csv,
    "excel": write_excel_csv,
    "json": write_json,
    "md": write_markdown,
}


def write_text_file(path: Path, names: Sequence[str], rows: Iterable[TableRow], form: TextFormat) -> None:
    """Write `path` as a whole, or leave it as it was. Raises DiskFullError, RecordError."""
    with replace_atomically(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        WRITERS[form](text, names, rows)
        text.flush()
        text.detach()


def has_parquet() -> bool:
    """Tell whether pyarrow is installed."""
    return importlib.util.find_spec("pyarrow") is not None


def write_parquet_file(path: Path, frames: Iterable[pd.DataFrame]) -> None:
    """Write `path` as a whole or not, from frames of equal columns (at least one frame). Raises RecordError with a hint
    where pyarrow is missing, DiskFullError.
    """
    if not has_parquet():
        raise RecordError("Parquet needs pyarrow.", hint="pip install 'sweep-engine[parquet]'")
    pa, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    iterator = iter(frames)
    first = pa.Table.from_pandas(next(iterator), preserve_index=False)
    with replace_atomically(path) as file, parquet.ParquetWriter(file, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for frame in iterator:
            writer.write_table(pa.Table.from_pandas(frame, schema=first.schema, preserve_index=False))


def _write_cell(cell: Cell) -> Cell:
    if isinstance(cell, datetime):
        return cell.isoformat()
    return "" if cell is None else cell
