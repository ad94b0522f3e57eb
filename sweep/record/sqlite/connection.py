"""Connections to journal.sqlite, its format number, the seals of its rows, and SQLite's errors as RecordErrors.

Every row that the results table is made of carries a *seal*, a CRC-32 of its other columns: a bit that flipped on the
disk is found when the row is read, where SQLite itself checks structure only.
"""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

from sweep.errors import CorruptRecordError, DiskFullError, RecordError
from sweep.record.durable_files import FULL_HINT, make_folder, translate_disk_errors
from sweep.text import format_count

JOURNAL_FILE = "journal.sqlite"
FORMAT = 1
_APPLICATION_ID = 0x53574550  # "SWEP"
_CHECKED_AT_OPEN = 32 * 2**20  # bytes; checking a larger journal takes seconds and is left to `verify`
# ruff: noqa: S608  names of tables and columns vary in the SQL, never a value

_BUSY_SECONDS = 60.0
FULL_CACHE = 64 * 1024  # KiB of pages kept by a connection that looks up every point of a large journal by its key
RUN_CACHE = 4 * 1024  # KiB kept by one that looks up few, or reads a table from one end to the other

SEALED = {
    "runs": ("number", "definition", "fingerprint", "experiment", "axes", "points"),
    "points": (
        *("key", "definition", "idx", "axis_values", "prompt", "model", "source", "state", "kind", "message"),
        *("attempts", "server", "queued_at", "started_at", "finished_at"),
    ),
    "images": ("key", "ordinal", "path", "image_name", "node", "iteration", "width", "height", "sha256", "size"),
    "seeds": ("axis", "drawn"),
    "inputs": ("sha256", "path", "name", "width", "height"),
    "experiments": ("run", "facts"),
    "metric_names": ("name", "puts"),
    "metrics": ("image", "reference", "metric", "version", "working_size", "value"),
}
"""The columns under each table's seal, in the order in which they are sealed."""


class BrokenSealError(Exception):
    """A row was changed after it was written; the message says which. Callers get a CorruptRecordError."""


def seal(*values: object) -> int:
    """Return the CRC-32 of a row's columns: texts, numbers and NULLs, the same in every version of Python."""
    return zlib.crc32("\x1f".join(["\0" if value is None else str(value) for value in values]).encode())


def build_seal(table: str, alias: str = "") -> str:
    """Return SQL that computes the seal of a row of `table` from its columns."""
    prefix = f"{alias}." if alias else ""
    return f"seal({', '.join(prefix + column for column in SEALED[table])})"


def insert(db: sqlite3.Connection, table: str, row: Mapping[str, object], *, verb: str = "INSERT") -> int:
    """Insert a row, with its seal where the table has one; return its rowid."""
    if table in SEALED:
        row = {**row, "seal": seal(*map(row.get, SEALED[table]))}
    slots = ", ".join("?" * len(row))
    statement = f"{verb} INTO {table} ({', '.join(row)}) VALUES ({slots})"
    return db.execute(statement, tuple(row.values())).lastrowid or 0


@cache
def build_update(table: str, assignments: tuple[tuple[str, str], ...], where: str) -> str:
    """Return SQL that sets columns to expressions, and the seal to that of the new row, in one statement."""
    new = dict(assignments)
    sealed = ", ".join(new.get(column, column) for column in SEALED[table])
    sets = ", ".join(f"{column} = {expression}" for column, expression in assignments)
    return f"UPDATE {table} SET {sets}, seal = seal({sealed}) WHERE {where}"


def fetch(db: sqlite3.Connection, query: str, *values: object) -> list[dict[str, Any]]:
    """Return all rows of a query by the names of its columns."""
    cursor = db.execute(query, values)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def fetch_sealed(db: sqlite3.Connection, table: str, rest: str = "", *values: object) -> list[dict[str, Any]]:
    """Return whole rows of a table by the names of its columns; `rest` is WHERE and ORDER BY, with `values`.

    Raises BrokenSealError where one of them is not as it was written.
    """
    rows = fetch(db, f"SELECT *, seal = {build_seal(table)} AS is_whole FROM {table} {rest}", *values)
    if not all(row["is_whole"] for row in rows):
        raise BrokenSealError(f"a row of {table} is not as it was written")
    return rows


def make_record_error(error: sqlite3.Error, place: Path) -> RecordError:
    """Return SQLite's `error` at the journal `place` as DiskFullError, CorruptRecordError or RecordError."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return DiskFullError(f"{place.parent}: no space is left on the device.", hint=FULL_HINT)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "decode" in str(error):
        return make_corrupt_error(place, str(error))
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return RecordError(f"{place} has been locked by another process for {_BUSY_SECONDS:.0f} s.")
    return RecordError(f"{place} could not be used ({error if os.access(place, os.R_OK) else 'permission denied'}).")


def make_corrupt_error(place: Path, why: str) -> CorruptRecordError:
    """Return the error for a journal that cannot be trusted, and `why`."""
    return CorruptRecordError(
        f"{place} is damaged ({why}).",
        hint="Restore it from a backup, or move the folder away and run again; its images stay readable files.",
    )


@contextmanager
def translate_errors(place: Path) -> Iterator[None]:
    """Turn SQLite's errors in the block into RecordErrors, and also JSON of the journal's own that does not parse."""
    try:
        yield
    except sqlite3.Error as error:
        raise make_record_error(error, place) from error
    except json.JSONDecodeError as error:
        raise make_corrupt_error(place, f"a row holds broken JSON: {error.msg}") from error
    except UnicodeDecodeError as error:  # of sqlite3, where its own message quotes what is damaged
        raise make_corrupt_error(place, "it holds text that is not UTF-8") from error
    except BrokenSealError as error:
        raise make_corrupt_error(place, str(error)) from error


def connect_writer(folder: Path, *, create: bool) -> sqlite3.Connection:
    """Connect to the journal of `folder`, checked and ready for durable writes; make it where `create` is set.

    Raises RecordError where there is none, CorruptRecordError where it is damaged or emptied while images exist.
    """
    place = folder / JOURNAL_FILE
    new = not place.exists() or place.stat().st_size == 0
    if new and (not create or _has_images(folder)):
        raise _make_missing_error(folder)
    with translate_errors(place):
        with translate_disk_errors(place):
            make_folder(folder)
        db = sqlite3.connect(place, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            db.create_function("seal", -1, seal, deterministic=True)
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA fullfsync = ON")  # macOS alone heeds it: its fsync leaves data in the drive's cache
            db.execute("PRAGMA checkpoint_fullfsync = ON")
            if new:
                marks = f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {FORMAT};"
                db.executescript(f"BEGIN; {_read_script('tables.sql')} {marks} COMMIT;")
            check_journal(db, place)
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_read_script("added_tables.sql"))
            db.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            db.close()
            raise
        return db


@contextmanager
def open_for_reading(folder: Path, cache: int = FULL_CACHE) -> Iterator[sqlite3.Connection]:
    """Open a connection that only reads and never waits for the writer; `cache` is in KiB.

    Raises RecordError, CorruptRecordError.
    """
    place = folder / JOURNAL_FILE
    if not place.exists() or place.stat().st_size == 0:
        raise _make_missing_error(folder)
    with translate_errors(place), closing(connect_reader(folder, cache)) as db:
        _check_format(db, place)
        yield db


def connect_reader(folder: Path, cache: int = FULL_CACHE) -> sqlite3.Connection:
    """Open a connection as `open_for_reading` does; the caller closes it. `cache` is in KiB. Raises sqlite3.Error."""
    uri = f"{(folder / JOURNAL_FILE).absolute().as_uri()}?mode=ro"
    try:
        return _open_reader(uri, cache)
    except sqlite3.OperationalError:
        log = folder / f"{JOURNAL_FILE}-wal"
        if log.exists() and log.stat().st_size:
            raise
        return _open_reader(f"{uri}&immutable=1", cache)  # a medium on which SQLite cannot keep its shared memory file


def _open_reader(uri: str, cache: int) -> sqlite3.Connection:
    db = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        db.execute(f"PRAGMA cache_size = -{cache}")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        db.close()
        raise
    db.create_function("seal", -1, seal, deterministic=True)
    return db


def _read_script(name: str) -> str:
    return resources.files("sweep.record.sqlite").joinpath(name).read_text(encoding="utf-8")


def _check_format(db: sqlite3.Connection, place: Path) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION_ID:
        raise make_corrupt_error(place, "it is not a journal of sweep")
    if version > FORMAT:
        raise RecordError(
            f"{place} was written by a newer sweep (format {version}; this one reads {FORMAT}).", hint="Upgrade sweep."
        )


def check_journal(db: sqlite3.Connection, place: Path) -> None:
    """Raise RecordError where this code cannot read the format, or a file of moderate size is damaged."""
    _check_format(db, place)
    if place.stat().st_size <= _CHECKED_AT_OPEN:
        for fault in find_faults(db):
            raise make_corrupt_error(place, fault)


def find_faults(db: sqlite3.Connection) -> list[str]:
    """Return what is wrong with the file's structure; in one that is sound, how many rows of each table were changed,
    and completed points without an image.
    """
    structure = [str(row[0]) for row in db.execute("PRAGMA integrity_check(10)")]
    if structure != ["ok"]:
        return [row.splitlines()[-1] for row in structure]
    faults = []
    for table in filter(partial(has_table, db), SEALED):
        (broken,) = db.execute(f"SELECT count(*) FROM {table} WHERE seal <> {build_seal(table)}").fetchone()
        if broken:
            faults.append(f"{format_count(broken, 'row')} of {table} not as written")
    (bare,) = db.execute(
        "SELECT count(*) FROM points AS p WHERE state = 'completed'"
        " AND NOT EXISTS (SELECT 1 FROM images AS i WHERE i.key = p.key)"
    ).fetchone()
    if bare:
        faults.append(f"{format_count(bare, 'completed point')} without an image on record")
    return faults


def has_table(db: sqlite3.Connection, table: str) -> bool:
    """Return whether the journal has this table: one of sweep 0.1 that is only read lacks some."""
    return db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone() is not None


def _make_missing_error(folder: Path) -> RecordError:
    lack = f"{JOURNAL_FILE} is {'empty' if (folder / JOURNAL_FILE).exists() else 'missing'}."
    if _has_images(folder):
        hint = "Restore it from a backup, or move the folder away."
        return CorruptRecordError(f"{folder} holds images but its {lack}", hint=hint)
    hint = "Is it the results folder of an experiment that was run?"
    return RecordError(f"There are no results in the folder {folder}: {lack}", hint=hint)


def _has_images(folder: Path) -> bool:
    images = folder / "images"
    return images.is_dir() and any(path.is_file() for path in images.rglob("*"))
