"""A results folder to read from, also while a run writes to it: its table, its status, facts of its earlier runs."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TextIO, TypedDict, TypeVar, Unpack, get_args

from sweep.errors import RecordError, UsageError, did_you_mean
from sweep.record.base import Counts, ExperimentFacts
from sweep.record.lock import is_in_use, read_holder
from sweep.record.maintenance import Damage, verify_folder
from sweep.record.results_table import (
    PARQUET_HINT,
    WRITERS,
    Cell,
    Column,
    ColumnKind,
    FileFormat,
    ResultsTable,
    TableRow,
    TextFormat,
    Where,
    has_parquet,
    split_rows,
    write_parquet_file,
    write_text_file,
    write_xlsx_file,
)
from sweep.record.sqlite import queries
from sweep.record.sqlite.connection import (
    JOURNAL_FILE,
    RUN_CACHE,
    check_journal,
    fetch_sealed,
    has_table,
    open_for_reading,
)
from sweep.record.sqlite.queries import OpenPoint, RunRecord
from sweep.text import quote_argument

if TYPE_CHECKING:
    import pandas as pd


_Answer = TypeVar("_Answer")
CSV = "results.csv"
PARQUET = "results.parquet"
NO_RUNS: Final = "There are no results in {root} yet. sweep run FILE makes some."
_ROWS_A_FRAME = 50_000
_SHOWN = 10  # folders that a message lists
_DTYPES = {
    "integer": "Int64",
    "number": "float64",
    "text": "str",
    "boolean": "boolean",
    "time": "datetime64[us, UTC]",
}


class Selection(TypedDict, total=False):
    """The part of the results table that is wanted: all of the current definition, unless it is said otherwise.

    With `all`, points that the experiment no longer has follow, marked in a column `former`. `where` says of a row,
    given as {column: cell}, whether it counts; `sweep.Results` also takes a condition as text. `columns` chooses some,
    also among what the inputs and labels of the experiment set; an unknown one is a UsageError.
    """

    all: bool
    where: Where | str | None
    columns: Sequence[str] | None


class RecordedResults:
    """The results of a folder. Nothing is kept open: each call reads what the journal says now.

    Every method raises CorruptRecordError where the journal is damaged: never a wrong row.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Open the results in `folder`. Raises RecordError where there are none or a newer sweep wrote them."""
        results = cls(folder)
        with open_for_reading(results.folder) as db:
            check_journal(db, results.folder / JOURNAL_FILE)
        return results

    def _read(self, query: Callable[[sqlite3.Connection], _Answer]) -> _Answer:
        with open_for_reading(self.folder) as db:
            return query(db)

    @property
    def axes(self) -> tuple[tuple[str, str], ...]:
        """(name, kind) of the last run's axes, the slowest first; empty before the first run."""
        runs = self.runs()
        return runs[-1].facts.axes if runs else ()

    @property
    def experiment_text(self) -> str | None:
        """Return the experiment's YAML as last run."""
        runs = self.runs()
        return runs[-1].facts.experiment if runs else None

    @property
    def facts(self) -> ExperimentFacts:
        """Return the experiment as last run: its description, inputs, axes and study section."""
        return self._read(queries.experiment_facts)

    @property
    def sources(self) -> Mapping[str, Path]:
        """Return the input image of each variation by key, as copied into the folder; text-to-image has none."""
        with open_for_reading(self.folder) as db:
            kept = {row["sha256"]: self.folder / row["path"] for row in fetch_sealed(db, "inputs")}
            rows = db.execute("SELECT DISTINCT key, source FROM points WHERE source IS NOT NULL")
            return {key: kept[source] for key, source in rows if source in kept}

    def counts(self) -> Counts:
        """Return how many points are in which state."""
        return self._read(queries.counts)

    def open_points(self) -> list[OpenPoint]:
        """List every point that was begun and has no outcome yet, by index."""
        return self._read(queries.open_points)

    def runs(self) -> list[RunRecord]:
        """List every run of the folder, oldest first."""
        return self._read(queries.runs)

    def verify(self) -> list[Damage]:
        """List every file against its hash, every row against its seal; what is wrong, empty where nothing is."""
        return verify_folder(self.folder)

    def columns(self, **chosen: Unpack[Selection]) -> tuple[Column, ...]:
        """Return the columns that `table` and the files have."""
        with self._open_table(**chosen) as table:
            return table.columns

    def rows(self, **chosen: Unpack[Selection]) -> Iterator[dict[str, Cell]]:
        """Yield the table's rows one by one, as {column: cell}, None where a cell has no value."""
        with self._open_table(**chosen) as table:
            for row in table.rows():
                yield dict(zip(table.names, row, strict=True))

    def table(self, **chosen: Unpack[Selection]) -> pd.DataFrame:
        """Return the results table in the order of the grid: a row an image, one a failed or cancelled point.

        Seeds and integers are Int64, numbers float64, texts str, times datetime64[us, UTC], booleans boolean; metrics
        stand last. An axis called like `prompt`, `model`, `width` or `height` has that column; the rendered one is
        then `rendered_prompt` and so on. Ratings beside an axis called `note` are in `given_note`.
        """
        import pandas as pd

        frames = list(self._iterate_frames(**chosen))
        return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)

    def write_file(self, path: Path | str, form: FileFormat, **chosen: Unpack[Selection]) -> Path:
        """Write the table as csv, excel, xlsx, json, md or parquet, in flat memory, whole or not at all.

        Raises UsageError for another format, RecordError with a hint where a package is missing.
        """
        path = Path(path)
        if form not in (known := get_args(FileFormat)):
            raise UsageError(f"{form} is not a format of tables.", hint=f"Formats: {', '.join(known)}.")
        if form == "parquet":
            write_parquet_file(path, self._iterate_frames(**chosen))
            return path
        write = write_xlsx_file if form == "xlsx" else partial(write_text_file, form=form)
        with self._open_table(**chosen) as table:
            write(path, table.names, table.rows())
        return path

    def stream(self, out: TextIO, form: TextFormat, **chosen: Unpack[Selection]) -> None:
        """Write the table as text, row by row: csv, json or md."""
        with self._open_table(**chosen) as table:
            WRITERS[form](out, table.names, table.rows())

    @contextmanager
    def _open_table(self, **chosen: Unpack[Selection]) -> Iterator[ResultsTable]:
        with open_for_reading(self.folder) as db:
            yield ResultsTable(db, self.folder, **chosen)

    def _iterate_frames(self, **chosen: Unpack[Selection]) -> Iterator[pd.DataFrame]:
        """Yield at least one frame, empty where there are no rows."""
        with self._open_table(**chosen) as table:
            lists = split_rows(table.rows(), _ROWS_A_FRAME)
            yield _make_frame(table.columns, next(lists, []))
            for rows in lists:
                yield _make_frame(table.columns, rows)


def list_runs(root: Path) -> list[str]:
    """Return the names of the results folders under `root`, sorted; hidden ones are being deleted."""
    return sorted(path.parent.name for path in root.glob(f"[!.]*/{JOURNAL_FILE}")) if root.is_dir() else []


def find_run(run: str, root: Path, name: str | None = None) -> Path:
    """Find a results folder by its path, or by its name under `root`; `name` is another name for it.

    Raises UsageError with the nearest name if there is no such folder, RecordError where it may not be read.
    """
    file = Path(run)
    candidates = [file]
    if run == file.name:  # a name, and no path that could lead out of the results
        candidates.append(root / run)
    if name:
        candidates.append(root / name)
    is_folder = False
    for candidate in candidates if run else ():
        try:
            if (candidate / JOURNAL_FILE).is_file():
                return candidate
            is_folder |= candidate.is_dir()
        except PermissionError as error:
            raise RecordError(f"{candidate} could not be read ({error.strerror}).") from error
        except (OSError, ValueError):  # a name too long, or with a NUL in it
            continue
    names = list_runs(root)
    shown = ", ".join(str(root / name) for name in names[:_SHOWN]) + (", …" if len(names) > _SHOWN else ".")
    there = f"Results folders: {shown}" if names else NO_RUNS.format(root=root)
    without = f"{run} holds no results: it has no {JOURNAL_FILE}."
    problem = without if is_folder else f"There is no results folder {run}."
    raise UsageError(problem, hint=did_you_mean(file.name, names).strip() or there)


def write_tables(folder: Path) -> tuple[list[Path], str | None]:
    """Write results.csv and, with pyarrow installed, results.parquet; return the files, and a hint if one is due."""
    results = RecordedResults.open(folder)
    formats: dict[str, FileFormat] = {CSV: "csv", **({PARQUET: "parquet"} if has_parquet() else {})}
    written: list[Path] = []
    hint = None if has_parquet() else PARQUET_HINT
    for name, kind in formats.items():
        try:
            written.append(results.write_file(results.folder / name, kind))
        except RecordError as error:
            if not (isinstance(error.__cause__, PermissionError) and (results.folder / name).exists()):
                raise
            command = f"sweep table {quote_argument(folder)} -o {quote_argument(results.folder / name)}"
            hint = f"{name} is open in another program and was not replaced. Close it there; {command} writes it."
    return written, hint


def _make_series(kind: ColumnKind, cells: Sequence[Any]) -> pd.Series[Any]:
    """Return a column of a frame. Seeds may reach 2⁶⁴; whole numbers beyond become fractions."""
    import pandas as pd

    known = [cell for cell in cells if cell is not None] if kind == "integer" else []
    if not known or -(2**63) <= min(known) <= max(known) < 2**63:
        return pd.Series(list(cells), dtype=_DTYPES[kind])
    if 0 <= min(known) <= max(known) < 2**64:
        return pd.Series(list(cells), dtype="UInt64")
    return pd.Series([None if cell is None else float(cell) for cell in cells], dtype="float64")


def _make_frame(columns: Sequence[Column], rows: Sequence[TableRow]) -> pd.DataFrame:
    import pandas as pd

    by_column: Sequence[Sequence[Any]] = list(zip(*rows, strict=True)) or [()] * len(columns)
    series = {column.name: _make_series(column.kind, cells) for column, cells in zip(columns, by_column, strict=True)}
    return pd.DataFrame(series)


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderStatus:
    """The status of a folder. Counts are of the points of the last run's definition, but for `former`, which it no
    longer has.
    """

    folder: str
    points: int
    completed: int
    failed: int
    cancelled: int
    open: int  # at a server, or on the way there and back
    pending: int  # not begun
    former: int
    run: str  # who writes now, or how the last run ended, in words
    state: str  # running, none, killed, or how the last run ended: completed, failures, interrupted …
    began_at: str | None  # of the last run, ISO 8601 in UTC
    ended_at: str | None
    table: str | None  # paths, None where there is no such file
    report: str | None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"schema": "sweep.status/1", **asdict(self)}


def read_folder_status(folder: Path | str) -> FolderStatus:
    """Count what is in a results folder. Raises RecordError where there are no results or they are damaged."""
    results, folder = RecordedResults.open(folder), Path(folder)
    counts, last = results.counts(), next(reversed(results.runs()), None)
    state, run = _describe_run(folder, last)
    return FolderStatus(
        folder=folder.as_posix(),
        **asdict(counts),
        pending=max(0, counts.points - counts.completed - counts.failed - counts.cancelled - counts.open),
        run=run,
        state=state,
        began_at=last.begun_at.isoformat() if last else None,
        ended_at=last.ended_at.isoformat() if last and last.ended_at else None,
        table=_write_path(folder / CSV),
        report=_write_path(folder / "report.html"),
    )


RUN_OUTCOMES: Final = {
    "": "still running, or killed",
    "completed": "finished",
    "failures": "finished, some failed",
    "stopped-by-failures": "stopped: too many failures",
    "no-server": "stopped: no usable server left",
    "record-broken": "stopped: the results could not be written",
}
"""What became of a run, for people; "interrupted" and "cancelled" say it themselves."""


def _describe_run(folder: Path, last: RunRecord | None) -> tuple[str, str]:
    """Return the state of the folder, and the same in words."""
    if is_in_use(folder):
        return "running", f"going on: {read_holder(folder) or 'another process'}"
    if last is None:
        return "none", "none"
    if last.ending is None:
        return "killed", "was killed, or the disk was full; run the same command again"
    at = f" at {last.ended_at.astimezone():%Y-%m-%d %H:%M}" if last.ended_at else ""
    words = last.ending if last.ending == "completed" else RUN_OUTCOMES.get(last.ending, last.ending)
    return last.ending, f"{words}{at}"


def _write_path(file: Path) -> str | None:
    return file.as_posix() if file.is_file() else None


_SAMPLE = 500  # latest renderings that estimates are made from


@dataclass(frozen=True, kw_only=True)
class Past:
    """Facts of a folder's earlier runs; all empty where there is no such folder."""

    folder: Path | None = None
    fingerprint: str | None = None
    counts: Counts = field(default_factory=Counts)
    completed: int = 0  # points, former ones too
    seeds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    seconds: Sequence[float] = ()  # of the latest renderings
    sizes: Sequence[tuple[int, int]] = ()  # (pixels, bytes) of the latest images

    def count_states(self, keys: Iterable[str]) -> Counter[str]:
        """Count those of these keys that are on record by their state. Raises CorruptRecordError."""
        if self.folder is None:
            return Counter()
        with open_for_reading(self.folder) as db:
            if not db.execute("SELECT 1 FROM points LIMIT 1").fetchone():  # computing the keys takes seconds a million
                return Counter()
            rows = (db.execute("SELECT state FROM points WHERE key = ? LIMIT 1", (key,)).fetchone() for key in keys)
            return Counter(row[0] for row in rows if row)

    @property
    def pixels(self) -> int:
        """Pixels of the latest image; 0 where there is none."""
        return self.sizes[0][0] if self.sizes else 0

    def seeds_for(self, axis: str, count: int) -> tuple[int, ...]:
        """Return the seeds drawn so far, filled up with stand-ins: which numbers they are changes no count."""
        drawn = self.seeds.get(axis, ())[:count]
        taken = set(drawn)
        missing = (number for number in range(2 * count) if number not in taken)
        return (*drawn, *(next(missing) for _ in range(count - len(drawn))))


def read_painted(folder: Path) -> frozenset[bool]:
    """Read whether completed images were painted by a sandbox (True) or come from real servers; empty without any."""
    with open_for_reading(folder) as db:
        if not db.execute("SELECT 1 FROM points WHERE state = 'completed' LIMIT 1").fetchone():
            return frozenset()
        servers = [server for run in queries.runs(db) for server in run.facts.servers]
    return frozenset(server.get("sandbox") == "true" for server in servers)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedWork:
    """Work that a run sent to one server: its items, and the input images that it uploaded."""

    name: str  # of the server
    items: Mapping[str, str]  # item id → batch id
    uploads: tuple[str, ...]  # names on the server


def read_submitted(folder: Path) -> dict[str, SubmittedWork]:
    """Read what was sent to each server, by its address. Raises RecordError where the journal cannot be read."""
    with open_for_reading(folder) as db:
        servers = dict(db.execute("SELECT url, max(server) FROM attempts GROUP BY url").fetchall())
        query = "SELECT DISTINCT item_id, batch_id FROM attempts WHERE url = ? AND item_id IS NOT NULL"
        has_uploads = has_table(db, "uploads")
        return {
            url: SubmittedWork(
                name=name,
                items=dict(db.execute(query, (url,)).fetchall()),
                uploads=tuple(queries.uploads(db, url).values()) if has_uploads else (),
            )
            for url, name in servers.items()
        }


def read_past(folder: Path) -> Past:
    """Read what a folder holds of earlier runs. Raises CorruptRecordError where the journal is damaged."""
    if not (folder / JOURNAL_FILE).is_file():
        return Past()
    with open_for_reading(folder, RUN_CACHE) as db:
        done = db.execute("SELECT count(*) FROM points WHERE state = 'completed'").fetchone()[0]
        seconds = db.execute(
            "SELECT (finished_at - started_at) / 1e6 FROM points WHERE state = 'completed' AND started_at IS NOT NULL"
            " AND finished_at IS NOT NULL ORDER BY id DESC LIMIT ?",
            (_SAMPLE,),
        )
        sizes = db.execute(
            "SELECT width * height, size FROM points JOIN images USING (key) WHERE state = 'completed'"
            " ORDER BY id DESC LIMIT ?",
            (_SAMPLE,),
        )
        return Past(
            folder=folder,
            fingerprint=queries.fingerprint(db),
            counts=queries.counts(db),
            completed=done,
            seeds={axis: tuple(json.loads(drawn)) for axis, drawn in db.execute("SELECT axis, drawn FROM seeds")},
            seconds=[value for (value,) in seconds],
            sizes=sizes.fetchall(),
        )
