"""Changes of one recorded run: points reopened or deleted, the folder renamed or deleted.

Each takes the lock of the folder, so none of them works on a run that is going on. Whatever dies in between, the
record is true: the journal forgets an image before its file goes, and a folder that is deleted first gets another name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from anyio.to_thread import run_sync

from sweep.errors import RecordError
from sweep.record.atomic_files import make_disk_error, replace_atomically
from sweep.record.images import IMAGES_FOLDER
from sweep.record.lock import FolderLock
from sweep.record.results_folder import RecordedResults
from sweep.record.results_table import Where
from sweep.record.sqlite.journal import SqliteJournal
from sweep.record.sqlite.schema import JOURNAL_FILE, reading

DELETED = ".deleted-"  # in front of the name of a folder that is being deleted
_TO_DELETE = "delete.txt"  # files whose images the journal has forgotten, one a line


def matching_keys(folder: Path, where: Where) -> list[str]:
    """List the keys of the rows for which `where` holds, each once. Raises RecordError."""
    rows = RecordedResults.open(folder).rows(where=where)
    return list(dict.fromkeys(str(row["key"]) for row in rows))


async def reopen_points(folder: Path, keys: Iterable[str]) -> int:
    """Make points pending again, whatever became of them; the next run renders them.

    Returns:
        How many points were reopened.

    Raises:
        FolderInUseError: A run is going on there.
        RecordError: The journal cannot be read or written.
    """
    chosen = list(keys)
    async with FolderLock(folder), await SqliteJournal.open(folder, create=False) as journal:
        return await journal.forget(chosen) + await journal.reopen(chosen)


async def delete_points(folder: Path, keys: Sequence[str]) -> int:
    """Delete the images of points, which are then pending again; raises as `reopen_points` does.

    Returns:
        How many files were deleted.
    """
    async with FolderLock(folder), await SqliteJournal.open(folder, create=False) as journal:
        await run_sync(_delete_files, folder)  # of a call that was killed
        await run_sync(_note_files, folder, keys)
        await journal.forget(keys)
        await journal.reopen(keys)
        return await run_sync(_delete_files, folder)


def _note_files(folder: Path, keys: Sequence[str]) -> None:
    paths: list[str] = []
    with reading(folder) as db:
        for key in keys:
            paths += [path for (path,) in db.execute("SELECT path FROM images WHERE key = ?", (key,))]
    with replace_atomically(folder / _TO_DELETE) as file:
        file.write("".join(f"{path}\n" for path in paths).encode())


def _delete_files(folder: Path) -> int:
    """Delete the noted files but those that have an image on record (again), then the note."""
    note = folder / _TO_DELETE
    if not note.exists():
        return 0
    with reading(folder) as db:
        kept = {path for (path,) in db.execute("SELECT path FROM images")}
    deleted = 0
    for path in note.read_text(encoding="utf-8").splitlines():
        file = folder / path
        if path not in kept and path.startswith(f"{IMAGES_FOLDER}/") and file.is_file():
            _unlink(file)
            deleted += 1
    _unlink(note)
    return deleted


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise make_disk_error(error, path) from error


def delete_run(folder: Path) -> None:
    """Delete a results folder and everything in it.

    Raises:
        FolderInUseError: A run is going on there.
        RecordError: It is not a results folder, or a file cannot be deleted.
    """
    _check_is_run(folder)
    doomed = folder.with_name(f"{DELETED}{folder.name}")
    with FolderLock(folder):
        try:
            shutil.rmtree(doomed, ignore_errors=True)  # what a call that was killed has left
            folder.rename(doomed)
            (doomed / JOURNAL_FILE).unlink(missing_ok=True)  # from here on it is no run
        except OSError as error:
            raise make_disk_error(error, folder) from error
    try:
        shutil.rmtree(doomed)
    except OSError as error:
        raise make_disk_error(error, doomed) from error


def rename_run(folder: Path, name: str) -> Path:
    """Give a results folder another name beside the old one, and return its new path.

    Raises:
        FolderInUseError: A run is going on there.
        RecordError: It is not a results folder, or there is something of the new name already.
    """
    _check_is_run(folder)
    target = folder.with_name(name)
    if os.path.lexists(target):
        raise RecordError(f"{target} exists already.", hint="Choose another name.")
    with FolderLock(folder):
        try:
            folder.rename(target)
        except OSError as error:
            raise make_disk_error(error, folder) from error
    return target


def _check_is_run(folder: Path) -> None:
    if not (folder / JOURNAL_FILE).is_file() or folder.is_symlink():
        raise RecordError(f"{folder} is not a results folder.")
