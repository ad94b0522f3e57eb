"""Merging of results folders of one definition into one.

A merge copies files before it commits the rows that name them, and leaves alone what is there already: the same merge
again goes on where it was killed, and takes what its sources have gained meanwhile.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sweep.errors import FolderInUseError, RecordError, UsageError
from sweep.record.atomic_files import Checkpoint, no_checkpoint, replace_atomically
from sweep.record.images import hash_file, is_whole_input
from sweep.record.lock import FolderLock, is_in_use
from sweep.record.results_folder import write_tables
from sweep.record.sqlite import schema
from sweep.record.sqlite.schema import JOURNAL_FILE, SEALED, sealing
from sweep.text import quote_argument

# ruff: noqa: S608  what varies in the SQL is column names from schema.py, never a value

_CHUNK = 200  # points a commit
_EXPERIMENT = "experiment.yaml"
_POINT = ("id", *SEALED["points"])
_IMAGE = SEALED["images"]
_ATTEMPT = (
    *("key", "number", "run", "server", "url", "batch_id", "item_id", "outputs", "state", "begun_at", "ended_at"),
    *("kind", "message"),
)
_RUN = (
    *("number", "definition", "fingerprint", "experiment", "axes", "points", "servers", "command", "sweep_version"),
    *("begun_at", "ended_at", "ending"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeConflict:
    """A point of which two folders have different images; the target keeps the one it has."""

    key: str
    index: int
    source: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeSummary:
    """The outcome of a merge. `taken` counts points that were copied, `missing` those that no folder has."""

    taken: int
    known: int
    missing: int
    conflicts: tuple[MergeConflict, ...]


def merge_results(sources: Sequence[Path], target: Path, *, checkpoint: Checkpoint = no_checkpoint) -> MergeSummary:
    """Merge results folders into `target`, which may be new, or one that a merge or a run wrote.

    Completed, failed and cancelled points are taken; a completed one replaces one that is not. Metrics, input images
    and drawn seeds come along.

    Raises:
        UsageError: The folders are not of one definition, or `target` is one of them.
        FolderInUseError: A run writes to one of them.
        RecordError: A source is damaged, or `target` cannot be written.
    """
    sources, target = [Path(source) for source in sources], Path(target)
    for source in sources:
        _check_source(source, target)
    with ExitStack() as held:
        opened = [held.enter_context(schema.reading(source)) for source in sources]
        _require_one_definition(sources, opened)
        held.enter_context(FolderLock(target))
        held.enter_context(schema.telling(target / JOURNAL_FILE))
        db = held.enter_context(closing(schema.connect_writer(target, create=True)))
        _require_one_definition([*sources, target], [*opened, db])
        merge = _Merge(db, target, checkpoint)
        for source, reader in zip(sources, opened, strict=True):
            merge.take(source, reader)
        summary = merge.summarise()
    write_tables(target)
    return summary


def _check_source(source: Path, target: Path) -> None:
    if source.resolve() == target.resolve():
        raise UsageError(f"{target} cannot be merged into itself.", hint="Choose another --output.")
    if is_in_use(source):
        raise FolderInUseError(f"A run writes to {source}.", hint="Merge it when the run has ended.")
    with schema.reading(source) as db:
        for fault in schema.integrity_faults(db) or schema.seal_faults(db):
            raise schema.corrupt(source / JOURNAL_FILE, fault)


def _require_one_definition(folders: Sequence[Path], journals: Sequence[sqlite3.Connection]) -> None:
    """Raise UsageError where the last runs differ in definition or seeds; a folder without a run fits all."""
    first: tuple[Path, object, list[tuple[str, str]]] | None = None
    for folder, db in zip(folders, journals, strict=True):
        run = db.execute("SELECT fingerprint, points FROM runs ORDER BY number DESC LIMIT 1").fetchone()
        if run is None:
            continue
        seeds = db.execute("SELECT axis, drawn FROM seeds ORDER BY axis").fetchall()
        if first is None:
            first = folder, run, seeds
        elif seeds != first[2]:
            raise UsageError(
                f"{folder} and {first[0]} drew different seeds.",
                hint="Give the seed axis a start, or render the parts with --shard: those draw the same seeds.",
            )
        elif run != first[1]:
            raise UsageError(
                f"{folder} and {first[0]} are results of different definitions.",
                hint="Only folders of the same experiment can be merged; sweep compare shows two side by side.",
            )


class _Merge:
    """The target of a merge, open for writing."""

    def __init__(self, db: sqlite3.Connection, folder: Path, checkpoint: Checkpoint) -> None:
        self._db = db
        self._folder = folder
        self._checkpoint = checkpoint
        self._definition = 1
        self._taken = self._known = 0
        self._conflicts: list[MergeConflict] = []

    def take(self, source: Path, reader: sqlite3.Connection) -> None:
        """Copy all that the target lacks of one source."""
        runs = self._copy_runs(source, reader)
        if not runs:
            return
        self._copy_inputs(source, reader)
        query = (
            f"SELECT {', '.join(_POINT)} FROM points WHERE definition = ?"
            " AND state IN ('completed', 'failed', 'cancelled') ORDER BY idx"
        )
        cursor = reader.execute(query, (_read_definition(reader),))
        while rows := cursor.fetchmany(_CHUNK):
            points = [dict(zip(_POINT, row, strict=True)) for row in rows]
            wanted = [point for point in points if self._is_wanted(source, reader, point)]
            copies = {key: self._copy_images(source, reader, key) for key in _completed(wanted)}
            with _commit(self._db, self._checkpoint):
                for point in wanted:
                    self._write(reader, point, copies.get(point["key"], []), runs)
            self._taken += len(wanted)
        with _commit(self._db, self._checkpoint):
            _copy_metrics(reader, self._db)

    def summarise(self) -> MergeSummary:
        """Count what was taken, and the points that are missing still."""
        row = self._db.execute("SELECT points FROM runs ORDER BY number DESC LIMIT 1").fetchone()
        query = "SELECT count(DISTINCT idx) FROM points WHERE definition = ? AND state IN ('completed', 'failed')"
        (there,) = self._db.execute(query, (self._definition,)).fetchone()
        return MergeSummary(
            taken=self._taken,
            known=self._known,
            missing=(row[0] if row else 0) - there,
            conflicts=tuple({conflict.key: conflict for conflict in self._conflicts}.values()),
        )

    def _copy_runs(self, source: Path, reader: sqlite3.Connection) -> dict[int, int]:
        """Copy drawn seeds and runs that the target lacks; return the target's numbers of runs by the source's."""
        numbers: dict[int, int] = {}
        rows = reader.execute(f"SELECT {', '.join(_RUN)} FROM runs ORDER BY number").fetchall()
        last = rows[-1][_RUN.index("fingerprint")] if rows else None
        with _commit(self._db, self._checkpoint):
            for row in rows:
                run = dict(zip(_RUN, row, strict=True))
                if run["fingerprint"] == last:
                    numbers[run["number"]] = self._copy_run(reader, run)
            seeds = reader.execute("SELECT axis, drawn, seal FROM seeds")
            self._db.executemany("INSERT OR IGNORE INTO seeds VALUES (?, ?, ?)", seeds)
        self._definition = _read_definition(self._db)
        if numbers and not (self._folder / _EXPERIMENT).exists() and (source / _EXPERIMENT).is_file():
            with replace_atomically(self._folder / _EXPERIMENT) as out:
                out.write((source / _EXPERIMENT).read_bytes())
        return numbers

    def _copy_run(self, reader: sqlite3.Connection, run: dict[str, object]) -> int:
        same = (run["begun_at"], run["fingerprint"], run["command"])
        found = self._db.execute(
            "SELECT number FROM runs WHERE begun_at = ? AND fingerprint = ? AND command = ?", same
        ).fetchone()
        if found is not None:
            return int(found[0])
        row = {**run, "definition": _read_definition(self._db), "seal": 0}
        del row["number"]
        number = _insert(self._db, "runs", row)
        _reseal(self._db, "runs", "number", number)
        if schema.has_table(reader, "experiments"):
            facts = reader.execute("SELECT facts FROM experiments WHERE run = ?", (run["number"],)).fetchone()
            if facts is not None:
                _insert(self._db, "experiments", {"run": number, "facts": facts[0], "seal": 0})
                _reseal(self._db, "experiments", "run", number)
        return number

    def _copy_inputs(self, source: Path, reader: sqlite3.Connection) -> None:
        """Copy input images."""
        inputs = reader.execute("SELECT sha256, path, name, width, height, seal FROM inputs").fetchall()
        for sha256, path, *_ in inputs:
            self._copy_input(source, path, sha256)
        with _commit(self._db, self._checkpoint):
            self._db.executemany("INSERT OR IGNORE INTO inputs VALUES (?, ?, ?, ?, ?, ?)", inputs)

    def _is_wanted(self, source: Path, reader: sqlite3.Connection, point: dict[str, object]) -> bool:
        """Tell whether the target lacks this point's outcome; note a conflict where its images are others."""
        key = str(point["key"])
        here = self._db.execute(
            "SELECT state FROM points WHERE key = ? ORDER BY idx = ? DESC LIMIT 1", (key, point["idx"])
        ).fetchone()
        is_there = self._db.execute(
            "SELECT 1 FROM points WHERE key = ? AND idx = ? AND definition = ?", (key, point["idx"], self._definition)
        ).fetchone()
        if here is None or here[0] not in ("completed", "failed", "cancelled"):
            return True
        if point["state"] == "completed" and here[0] == "completed":
            if _hashes(reader, key) != _hashes(self._db, key):
                self._conflicts.append(MergeConflict(key=key, index=int(str(point["idx"])), source=source))
        elif point["state"] == "completed":
            return True
        self._known += is_there is not None
        return is_there is None

    def _copy_images(self, source: Path, reader: sqlite3.Connection, key: str) -> list[tuple[object, ...]]:
        """Copy a point's files, and return its image rows with the paths they have here; none where it has some."""
        if _hashes(self._db, key):
            return []
        rows = reader.execute(f"SELECT {', '.join(_IMAGE)} FROM images WHERE key = ? ORDER BY ordinal", (key,))
        copies = []
        for row in rows:
            image = dict(zip(_IMAGE, row, strict=True))
            path = self._choose_path(image["path"], key)
            self._copy_file(source, image["path"], path, image["sha256"])
            copies.append(tuple({**image, "path": path}.values()))
        return copies

    def _choose_path(self, path: str, key: str) -> str:
        """Return the path of the source, or one with the key where another point has that."""
        taken = self._db.execute("SELECT 1 FROM images WHERE path = ? AND key <> ?", (path, key)).fetchone()
        own = PurePosixPath(path)
        return str(own.with_name(f"{own.stem}_{key[:8]}{own.suffix}")) if taken else path

    def _copy_file(self, source: Path, path: str, copy: str, sha256: str) -> None:
        """Copy a file, checked by its hash, unless it is here whole. Raises RecordError where it is damaged."""
        place = self._folder / copy
        if place.is_file() and hash_file(place) == sha256:
            return
        try:
            data = (source / path).read_bytes()
        except OSError as error:
            raise _damaged(source, path, error.strerror or str(error)) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise _damaged(source, path, "its hash differs")
        with replace_atomically(place, self._checkpoint) as out:
            out.write(data)

    def _copy_input(self, source: Path, path: str, sha256: str) -> None:
        """Copy an input image unless it is here whole. Raises RecordError where it is damaged."""
        if is_whole_input(self._folder / path, sha256):
            return
        if not is_whole_input(source / path, sha256):
            hint = f"The next sweep run copies it again into {source}; then merge."
            raise RecordError(f"{source / path}, a source image, is missing or changed.", hint=hint)
        with replace_atomically(self._folder / path, self._checkpoint) as out:
            out.write((source / path).read_bytes())

    def _write(
        self,
        reader: sqlite3.Connection,
        point: dict[str, object],
        images: Sequence[tuple[object, ...]],
        runs: dict[int, int],
    ) -> None:
        """Write a point, its images and its attempts, in place of what the target knew of it."""
        key = str(point["key"])
        here = (key, point["idx"], self._definition)
        self._db.execute("DELETE FROM points WHERE key = ? AND (idx = ? OR definition < ?)", here)
        row = {name: point[name] for name in SEALED["points"]} | {"definition": self._definition, "seal": 0}
        _reseal(self._db, "points", "id", _insert(self._db, "points", row))
        slots = ", ".join("?" * len(_IMAGE))
        self._db.executemany(f"INSERT OR IGNORE INTO images ({', '.join(_IMAGE)}, seal) VALUES ({slots}, 0)", images)
        _reseal(self._db, "images", "key", key)
        if images or point["state"] != "completed":
            self._copy_attempts(reader, key, runs)

    def _copy_attempts(self, reader: sqlite3.Connection, key: str, runs: dict[int, int]) -> None:
        self._db.execute("DELETE FROM attempts WHERE key = ?", (key,))
        last = max(runs.values())  # also for attempts of a run of an earlier definition
        for values in reader.execute(f"SELECT {', '.join(_ATTEMPT)} FROM attempts WHERE key = ? ORDER BY id", (key,)):
            attempt = dict(zip(_ATTEMPT, values, strict=True))
            _insert(self._db, "attempts", {**attempt, "run": runs.get(attempt["run"], last)})


@contextmanager
def _commit(db: sqlite3.Connection, checkpoint: Checkpoint) -> Iterator[None]:
    """Commit the block's writes together, between two checkpoints; undo them on an exception."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        yield
        checkpoint("merge.before-commit")
    checkpoint("merge.after-commit")


def _copy_metrics(reader: sqlite3.Connection, db: sqlite3.Connection) -> None:
    """Copy measured values that are not there; they are found by the images' hashes, so they hold in any folder."""
    for name, puts in reader.execute("SELECT name, puts FROM metric_names").fetchall():
        db.execute("INSERT OR IGNORE INTO metric_names (name, seal) VALUES (?, 0)", (name,))
        (before,) = db.execute("SELECT puts FROM metric_names WHERE name = ?", (name,)).fetchone()
        columns = "image, reference, metric, version, working_size, value"
        rows = reader.execute(f"SELECT {columns}, put + ?, seal FROM metrics WHERE metric = ?", (before, name))
        db.executemany("INSERT OR IGNORE INTO metrics VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        db.execute("UPDATE metric_names SET puts = puts + ? WHERE name = ?", (puts, name))
        _reseal(db, "metric_names", "name", name)


def _read_definition(db: sqlite3.Connection) -> int:
    """Read the number of the last run's definition; 1 in a folder without a run."""
    row = db.execute("SELECT definition FROM runs ORDER BY number DESC LIMIT 1").fetchone()
    return int(row[0]) if row else 1


def _completed(points: Iterable[dict[str, object]]) -> dict[str, None]:
    """List the keys of the completed points, each once."""
    return dict.fromkeys(str(point["key"]) for point in points if point["state"] == "completed")


def _hashes(db: sqlite3.Connection, key: str) -> list[tuple[str]]:
    return db.execute("SELECT sha256 FROM images WHERE key = ? ORDER BY ordinal", (key,)).fetchall()


def _insert(db: sqlite3.Connection, table: str, row: Mapping[str, object]) -> int:
    slots = ", ".join("?" * len(row))
    return db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({slots})", tuple(row.values())).lastrowid or 0


def _reseal(db: sqlite3.Connection, table: str, column: str, value: object) -> None:
    db.execute(f"UPDATE {table} SET seal = {sealing(table)} WHERE {column} = ?", (value,))


def _damaged(source: Path, path: str, why: str) -> RecordError:
    return RecordError(
        f"{source / path} is damaged ({why}).",
        hint=f"sweep verify {quote_argument(source)} --repair renders it again; then merge.",
    )
