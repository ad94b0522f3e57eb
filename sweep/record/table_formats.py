"""The formats in which a results table is written: CSV, CSV for Excel, xlsx, JSON, Markdown, Parquet."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias

from sweep.errors import RecordError
from sweep.record.atomic_files import replace_atomically
from sweep.record.results_table import Cell, TableRow

if TYPE_CHECKING:
    import pandas as pd


TextFormat: TypeAlias = Literal["csv", "excel", "json", "md"]
FileFormat: TypeAlias = Literal[TextFormat, "xlsx", "parquet"]
PARQUET_HINT = "For results.parquet, too: pip install 'sweep-engine[parquet]'"


def write_csv(out: TextIO, names: Sequence[str], rows: Iterable[TableRow]) -> None:
    """Write RFC 4180 with line feeds; times in ISO 8601, nothing where a cell has no value."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_text(cell) for cell in row] for row in rows)


def write_json(out: TextIO, names: Sequence[str], rows: Iterable[TableRow]) -> None:
    """Write an array of objects, one a line."""
    divider = "[\n"
    for row in rows:
        cells = [cell.isoformat() if isinstance(cell, datetime) else cell for cell in row]
        out.write(divider + json.dumps(dict(zip(names, cells, strict=True)), ensure_ascii=False))
        divider = ",\n"
    out.write("[]\n" if divider == "[\n" else "\n]\n")


def write_markdown(out: TextIO, names: Sequence[str], rows: Iterable[TableRow]) -> None:
    """Write a pipe table, as GitHub shows it."""
    for row in chain([names, ["---"] * len(names)], rows):
        cells = [" ".join(str(_text(cell)).replace("\\", "\\\\").replace("|", "\\|").split()) for cell in row]
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
                elif isinstance(cell, str):
                    sheet.write_string(number, column, cell[:32_767])  # Excel's limit
                elif cell is not None:
                    sheet.write(number, column, cell)


WRITERS: Mapping[TextFormat, Callable[[TextIO, Sequence[str], Iterable[TableRow]], None]] = {
    "csv": write_csv,
    "excel": write_excel_csv,
    "json": write_json,
    "md": write_markdown,
}


def write_text_file(path: Path, form: TextFormat, names: Sequence[str], rows: Iterable[TableRow]) -> None:
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


def _text(cell: Cell) -> Cell:
    if isinstance(cell, datetime):
        return cell.isoformat()
    return "" if cell is None else cell
