"""The results table as files and text: CSV, JSON, Markdown and Parquet, written row by row at any size."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias

from sweep.errors import RecordError
from sweep.record.disk import replacing
from sweep.record.rows import Cell, Row

if TYPE_CHECKING:
    import pandas as pd

TextFormat: TypeAlias = Literal["csv", "json", "md"]
PARQUET_HINT = "For results.parquet, too: pip install 'sweep-engine[parquet]'"


def write_csv(out: TextIO, names: Sequence[str], rows: Iterable[Row]) -> None:
    """RFC 4180 with line feeds; times in ISO 8601, nothing where a cell has no value."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_text(cell) for cell in row] for row in rows)


def write_json(out: TextIO, names: Sequence[str], rows: Iterable[Row]) -> None:
    """An array of objects, one a line."""
    divider = "[\n"
    for row in rows:
        cells = [cell.isoformat() if isinstance(cell, datetime) else cell for cell in row]
        out.write(divider + json.dumps(dict(zip(names, cells, strict=True)), ensure_ascii=False))
        divider = ",\n"
    out.write("[]\n" if divider == "[\n" else "\n]\n")


def write_markdown(out: TextIO, names: Sequence[str], rows: Iterable[Row]) -> None:
    """A pipe table, as GitHub shows it."""
    out.writelines(f"| {' | '.join(cells)} |\n" for cells in _markdown(names, rows))


def _markdown(names: Sequence[str], rows: Iterable[Row]) -> Iterator[list[str]]:
    yield list(names)
    yield ["---"] * len(names)
    for row in rows:
        yield [" ".join(str(_text(cell)).replace("\\", "\\\\").replace("|", "\\|").split()) for cell in row]


WRITERS: Mapping[TextFormat, Callable[[TextIO, Sequence[str], Iterable[Row]], None]] = {
    "csv": write_csv,
    "json": write_json,
    "md": write_markdown,
}


def write_text_file(path: Path, form: TextFormat, names: Sequence[str], rows: Iterable[Row]) -> None:
    """`path` whole or as it was. Raises DiskFullError, RecordError."""
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        WRITERS[form](text, names, rows)
        text.flush()
        text.detach()


def has_parquet() -> bool:
    """Whether pyarrow is installed."""
    return importlib.util.find_spec("pyarrow") is not None


def write_parquet_file(path: Path, frames: Iterable[pd.DataFrame]) -> None:
    """`path` whole or as it was, from frames of equal columns (at least one frame). Raises RecordError with a hint
    where pyarrow is missing, DiskFullError.
    """
    if not has_parquet():
        raise RecordError("Parquet needs pyarrow.", hint="pip install 'sweep-engine[parquet]'")
    pa, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    iterator = iter(frames)
    first = pa.Table.from_pandas(next(iterator), preserve_index=False)
    with replacing(path) as file, parquet.ParquetWriter(file, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for frame in iterator:
            writer.write_table(pa.Table.from_pandas(frame, schema=first.schema, preserve_index=False))


def _text(cell: Cell) -> Cell:
    if isinstance(cell, datetime):
        return cell.isoformat()
    return "" if cell is None else cell
