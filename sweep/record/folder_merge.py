"""Merging of results folders of one definition into one.

A merge copies files before it commits the rows that name them, and leaves alone what is there already: the same merge
again goes on where it was killed, and takes what its sources have gained meanwhile.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, ImageSequence

from sweep.errors import FolderInUseError, RecordError, UsageError
from sweep.record.durable_files import Checkpoint, no_checkpoint, remove_parts, replace_atomically
from sweep.record.images import is_image_path, is_whole_image
from sweep.record.lock import FolderLock, is_in_use
from sweep.record.results_folder import write_tables
from sweep.record.sqlite import connection
from sweep.record.sqlite.connection import JOURNAL_FILE, SEALED, build_update, fetch, insert
from sweep.record.sqlite.queries import OUTCOMES
from sweep.text import make_list, quote_argument

# ruff: noqa: S608  what varies in the SQL is column names from connection.py, never a value

_CHUNK = 200  # points a commit
_EXPERIMENT = "experiment.yaml"


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


def merge_results(
    sources: str | Sequence[Path | str], target: Path | str, *, checkpoint: Checkpoint = no_checkpoint
) -> MergeSummary:
    """Merge results folders into `target`, which may be new, or one that a merge or a run wrote.

    Completed, failed and cancelled points are taken; a completed one replaces one that is not. Metrics, input images
    and drawn seeds come along.

    Raises:
        UsageError: The folders are not of one definition, or `target` is one of them.
        FolderInUseError: A run writes to one of them.
        RecordError: A source is damaged, or `target` cannot be written.
    """
    folders, target = [Path(source) for source in make_list(sources)], Path(target)
    for source in folders:
        _check_source(source, target)
    with ExitStack() as held:
        opened = [held.enter_context(connection.open_for_reading(source)) for source in folders]
        _require_one_definition(folders, opened)
        held.enter_context(FolderLock(target))
        remove_parts(target)
        held.enter_context(connection.translate_errors(target / JOURNAL_FILE))
        db = held.enter_context(closing(connection.connect_writer(target, create=True)))
        _require_one_definition([*folders, target], [*opened, db])
        merge = _Merge(db, target, checkpoint)
        for source, reader in zip(folders, opened, strict=True):
            merge.take(source, reader)
        summary = merge.summarise()
    write_tables(target)
    return summary


def _check_source(source: Path, target: Path) -> None:
    if source.resolve() == target.resolve():
        raise UsageError(f"{target} cannot be merged into itself.", hint="Choose another --output.")
    if is_in_use(source):
        raise FolderInUseError(f"A run writes to {source}.", hint="Merge it when the run has ended.")
    with connection.open_for_reading(source) as db:
        for fault in connection.find_faults(db):
            raise connection.make_corrupt_error(source / JOURNAL_FILE, fault)


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
        hint = f"sweep verify {quote_argument(source)} --repair renders it again; then merge."
        cursor = reader.execute(
            f"SELECT {', '.join(SEALED['points'])} FROM points WHERE definition = ?"
            " AND state IN ('completed', 'failed', 'cancelled') ORDER BY idx",
            (_read_definition(reader),),
        )
        while rows := cursor.fetchmany(_CHUNK):
            points = [dict(zip(SEALED["points"], row, strict=True)) for row in rows]
            wanted = [point for point in points if self._is_wanted(source, reader, point)]
            done = dict.fromkeys(point["key"] for point in wanted if point["state"] == "completed")
            copies = {key: self._copy_images(source, reader, key, hint) for key in done}
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
        runs = fetch(reader, "SELECT * FROM runs ORDER BY number")
        with _commit(self._db, self._checkpoint):
            for run in runs:
                if run["fingerprint"] == runs[-1]["fingerprint"]:
                    numbers[run["number"]] = self._copy_run(reader, run)
            seeds = reader.execute("SELECT axis, drawn, seal FROM seeds")
            self._db.executemany("INSERT OR IGNORE INTO seeds VALUES (?, ?, ?)", seeds)
        self._definition = _read_definition(self._db)
        if numbers and not (self._folder / _EXPERIMENT).exists() and (source / _EXPERIMENT).is_file():
            with replace_atomically(self._folder / _EXPERIMENT) as out:
                out.write((source / _EXPERIMENT).read_bytes())
        return numbers

    def _copy_run(self, reader: sqlite3.Connection, run: dict[str, Any]) -> int:
        found = self._db.execute(
            "SELECT number FROM runs WHERE begun_at = ? AND fingerprint = ? AND command = ?",
            (run["begun_at"], run["fingerprint"], run["command"]),
        ).fetchone()
        if found is not None:
            return int(found[0])
        (number,) = self._db.execute("SELECT coalesce(max(number), 0) + 1 FROM runs").fetchone()
        insert(self._db, "runs", {**run, "number": number, "definition": _read_definition(self._db)})
        if connection.has_table(reader, "experiments"):
            for facts in fetch(reader, "SELECT facts FROM experiments WHERE run = ?", run["number"]):
                insert(self._db, "experiments", {"run": number, **facts})
        return int(number)

    def _copy_inputs(self, source: Path, reader: sqlite3.Connection) -> None:
        """Copy input images."""
        inputs = reader.execute("SELECT sha256, path, name, width, height, seal FROM inputs").fetchall()
        hint = f"The next sweep run copies it again into {source}; then merge."
        for sha256, path, *_ in inputs:
            self._copy_file(source, path, path, sha256, hint)
        with _commit(self._db, self._checkpoint):
            self._db.executemany("INSERT OR IGNORE INTO inputs VALUES (?, ?, ?, ?, ?, ?)", inputs)

    def _is_wanted(self, source: Path, reader: sqlite3.Connection, point: dict[str, Any]) -> bool:
        """Tell whether the target lacks this point's outcome; note a conflict where its images are others."""
        key, index = point["key"], point["idx"]
        here = self._db.execute(
            "SELECT state, idx = ? AND definition = ? FROM points WHERE key = ? ORDER BY idx = ? DESC, definition DESC",
            (index, self._definition, key, index),
        ).fetchone()
        state, is_there = here or (None, False)
        is_done = point["state"] == "completed"
        if state not in OUTCOMES or (is_done and state != "completed"):
            return True
        self._known += is_there
        if is_done and not self._has_same_images(source, reader, key):
            self._conflicts.append(MergeConflict(key=key, index=index, source=source))
        return not is_there and (is_done or state != "completed")  # points of one key are in one state

    def _has_same_images(self, source: Path, reader: sqlite3.Connection, key: str) -> bool:
        """Compare a point's images by their pixels: files of two renderings differ, as servers write their ids in."""
        theirs, ours = _list_hashes(reader, key), _list_hashes(self._db, key)
        pairs = zip(theirs, ours, strict=False)
        return len(theirs) == len(ours) and all(
            a == b or _show_same_pixels(source / path, self._folder / own) for (a, path), (b, own) in pairs
        )

    def _copy_images(self, source: Path, reader: sqlite3.Connection, key: str, hint: str) -> list[dict[str, Any]]:
        """Copy a point's files, and return its image rows with the paths they have here; none where it has some."""
        if _list_hashes(self._db, key):
            return []
        images = fetch(reader, "SELECT * FROM images WHERE key = ? ORDER BY ordinal", key)
        for image in images:
            path = self._choose_path(image["path"], key)
            self._copy_file(source, image["path"], path, image["sha256"], hint)
            image["path"] = path
        return images

    def _choose_path(self, path: str, key: str) -> str:
        """Return the path of the source, or one with the key where another point has that."""
        taken = self._db.execute("SELECT 1 FROM images WHERE path = ? AND key <> ?", (path, key)).fetchone()
        own = PurePosixPath(path)
        return str(own.with_name(f"{own.stem}_{key[:8]}{own.suffix}")) if taken else path

    def _copy_file(self, source: Path, path: str, new_path: str, sha256: str, hint: str) -> None:
        """Copy an image, checked by its hash, unless it is here whole. Raises RecordError where it is damaged."""
        if not is_image_path(path):
            raise connection.make_corrupt_error(source / JOURNAL_FILE, f"{path} names a file outside of its images")
        file, copy = source / path, self._folder / new_path
        if is_whole_image(copy, sha256):
            return
        if not is_whole_image(file, sha256):
            raise RecordError(f"{file} is missing or changed.", hint=hint)
        with replace_atomically(copy, self._checkpoint) as out:
            out.write(file.read_bytes())

    def _write(
        self,
        reader: sqlite3.Connection,
        point: dict[str, Any],
        images: Sequence[dict[str, Any]],
        runs: dict[int, int],
    ) -> None:
        """Write a point, its images and its attempts, in place of what the target knew of it."""
        key = point["key"]
        here = (key, point["idx"], self._definition, point["state"])
        self._db.execute(
            "DELETE FROM points WHERE key = ?"
            " AND (idx = ? OR definition < ? OR ? = 'completed' AND state <> 'completed')",
            here,
        )
        insert(self._db, "points", {**point, "definition": self._definition})
        for image in images:
            insert(self._db, "images", image, verb="INSERT OR IGNORE")
        if images or point["state"] != "completed":
            self._copy_attempts(reader, key, runs)

    def _copy_attempts(self, reader: sqlite3.Connection, key: str, runs: dict[int, int]) -> None:
        self._db.execute("DELETE FROM attempts WHERE key = ?", (key,))
        last = max(runs.values())  # also for attempts of a run of an earlier definition
        for attempt in fetch(reader, "SELECT * FROM attempts WHERE key = ? ORDER BY id", key):
            insert(self._db, "attempts", {**attempt, "id": None, "run": runs.get(attempt["run"], last)})


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
        added = build_update("metric_names", (("puts", "puts + :puts"),), "name = :name")
        db.execute(added, {"puts": puts, "name": name})


def _read_definition(db: sqlite3.Connection) -> int:
    """Read the number of the last run's definition; 1 in a folder without a run."""
    row = db.execute("SELECT definition FROM runs ORDER BY number DESC LIMIT 1").fetchone()
    return int(row[0]) if row else 1


def _list_hashes(db: sqlite3.Connection, key: str) -> list[tuple[str, str]]:
    return db.execute("SELECT sha256, path FROM images WHERE key = ? ORDER BY ordinal", (key,)).fetchall()


def _show_same_pixels(file: Path, other: Path) -> bool:
    """Tell whether two images are equal when decoded; False where one cannot be read."""
    try:
        return _hash_frames(file) == _hash_frames(other)
    except (OSError, ValueError, SyntaxError):  # what Pillow raises for damaged files
        return False


def _hash_frames(file: Path) -> list[tuple[str, tuple[int, int], bytes]]:
    with Image.open(file) as image:
        frames = (frame.convert() for frame in ImageSequence.Iterator(image))  # a palette's numbers become its colours
        return [(each.mode, each.size, hashlib.sha256(each.tobytes()).digest()) for each in frames]
