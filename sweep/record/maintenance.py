"""Maintenance of a results folder: damage found, points reopened or deleted, the folder renamed or deleted.

All but the search for damage take the lock of the folder, so none of them works on a run that is going on. What
dies in between does no harm: images go before the journal forgets them, and a run renders anew what it finds missing;
a folder that is deleted first gets another name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, TypeAlias

from anyio.to_thread import run_sync

from sweep.errors import CorruptRecordError, RecordError, TransientError, UsageError
from sweep.record.durable_files import PART, translate_disk_errors
from sweep.record.images import IMAGES_FOLDER, hash_file, is_image_path, is_whole_image, verify_image
from sweep.record.lock import FolderLock
from sweep.record.sqlite.connection import JOURNAL_FILE, RUN_CACHE, find_faults, open_for_reading
from sweep.record.sqlite.journal import SqliteJournal
from sweep.text import make_list

DELETED = ".deleted-"  # in front of the name of a folder that is being deleted
Fault: TypeAlias = Literal["missing", "truncated", "changed", "damaged", "orphan", "leftover", "journal"]
REPAIRABLE: frozenset[Fault] = frozenset({"missing", "truncated", "changed", "damaged"})
"""Faults of a variation's images: rendering it again mends them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A damaged file or row. `path` is relative to the folder; `key` names the variation whose image it is."""

    fault: Fault
    path: str
    message: str
    key: str | None = None


def verify_folder(folder: Path) -> list[Damage]:
    """List all damage, for `Results.verify`. Reads every file once; a journal that cannot be read is damage, too."""
    try:
        return list(_find_damage(folder))
    except CorruptRecordError as error:
        return [Damage(fault="journal", path=JOURNAL_FILE, message=str(error))]


def list_damaged_keys(damage: list[Damage]) -> list[str]:
    """Return the variations to render again, each once."""
    return list(dict.fromkeys(each.key for each in damage if each.key is not None and each.fault in REPAIRABLE))


def find_lost_images(folder: Path, *, hash_files: bool = False) -> list[str]:
    """Return the keys of completed variations of which an image is missing or has another size than on record.

    With `hash_files` every file is read, too, which finds one that was replaced by another of the same size. Raises
    CorruptRecordError.
    """
    root = os.fspath(folder)  # of a million images, joining with pathlib would take four times as long

    def is_whole(file: str, size: int, sha256: str) -> bool:
        try:
            return os.stat(file).st_size == size and (not hash_files or hash_file(Path(file)) == sha256)  # noqa: PTH116
        except OSError:
            return False

    with open_for_reading(folder, RUN_CACHE) as db:
        rows = db.execute("SELECT key, path, size, sha256 FROM images")
        return list(dict.fromkeys(key for key, path, *facts in rows if not is_whole(f"{root}/{path}", *facts)))


def _find_damage(folder: Path) -> Iterator[Damage]:
    with open_for_reading(folder) as db:
        for fault in find_faults(db):
            yield Damage(fault="journal", path=JOURNAL_FILE, message=f"{JOURNAL_FILE} is damaged: {fault}.")
        known: set[str] = set()
        for key, path, size, sha256 in db.execute("SELECT key, path, size, sha256 FROM images ORDER BY path"):
            known.add(path)
            if found := _check_image(folder, path, size, sha256):
                yield Damage(fault=found[0], path=path, key=key, message=found[1])
        for path, sha256 in db.execute("SELECT path, sha256 FROM inputs ORDER BY path"):
            if not is_whole_image(folder / path, sha256):
                message = f"{path}, a source image, is missing or changed; the next run copies it again."
                yield Damage(fault="changed", path=path, message=message)
    yield from _find_unknown_files(folder, known)


def _check_image(folder: Path, path: str, size: int, sha256: str) -> tuple[Fault, str] | None:
    """Return the fault of an image with a message; None where it is whole."""
    file = folder / path
    try:
        found = file.stat().st_size
        if found == size and hash_file(file) == sha256:
            return None
        verify_image(file.read_bytes())
    except FileNotFoundError:
        return "missing", f"{path} is missing."
    except OSError as error:
        return "damaged", f"{path} could not be read ({error.strerror})."
    except TransientError as error:
        if found < size:
            return "truncated", f"{path} is truncated: {found} of {size} bytes."
        return "damaged", f"{path}: {str(error).replace('The image received ', 'The image ')}"
    return "changed", f"{path} is an image, but not the one that was rendered: its hash differs."


def _find_unknown_files(folder: Path, known: set[str]) -> Iterator[Damage]:
    for file in sorted((folder / IMAGES_FOLDER).rglob("*")):
        path = file.relative_to(folder).as_posix()
        if path in known or not file.is_file():
            continue
        if file.name.endswith(PART):
            yield Damage(fault="leftover", path=path, message=f"{path} was left half-written; the next run removes it.")
        else:
            yield Damage(fault="orphan", path=path, message=f"{path} belongs to no row; nothing needs it.")


async def reopen_points(folder: Path | str, keys: str | Iterable[str]) -> int:
    """Make points pending again, whatever became of them; return how many. The next run renders them.

    Raises FolderInUseError where a run is going on there, RecordError.
    """
    async with FolderLock(Path(folder)), await SqliteJournal.open(Path(folder), create=False) as journal:
        return await journal.reopen(list(dict.fromkeys(make_list(keys))))  # an image has its point's key


async def delete_points(folder: Path | str, keys: str | Iterable[str]) -> int:
    """Delete the images of points, which are then pending again; return how many files. Raises as `reopen_points`."""
    folder, keys = Path(folder), list(dict.fromkeys(make_list(keys)))
    async with FolderLock(folder), await SqliteJournal.open(folder, create=False) as journal:
        deleted = await run_sync(_delete_images, folder, keys)
        await journal.reopen(keys)
    return deleted


def _delete_images(folder: Path, keys: Sequence[str]) -> int:
    with open_for_reading(folder) as db:
        rows = (db.execute("SELECT path FROM images WHERE key = ?", (key,)) for key in keys)
        paths = [path for (path,) in chain.from_iterable(rows) if is_image_path(path)]
    files = [folder / path for path in paths if (folder / path).is_file()]
    for file in files:
        with translate_disk_errors(file):
            file.unlink(missing_ok=True)
    return len(files)


def delete_run(folder: Path | str) -> None:
    """Delete a results folder and everything in it.

    Raises FolderInUseError where a run is going on there; RecordError where it is none, or a file cannot be deleted.
    """
    folder = _find_run(folder)
    doomed = folder.with_name(f"{DELETED}{folder.name}")
    with FolderLock(folder), translate_disk_errors(folder):
        shutil.rmtree(doomed, ignore_errors=True)  # what a call that was killed has left
        folder.rename(doomed)  # which no list of runs shows
    with translate_disk_errors(doomed):
        shutil.rmtree(doomed)


def rename_run(folder: Path | str, name: str) -> Path:
    """Give a results folder another name beside the old one, and return its new path.

    Raises FolderInUseError where a run is going on there, RecordError where it is none or the new name is taken,
    UsageError where that has slashes, or nothing but spaces and full stops.
    """
    folder = _find_run(folder)
    if Path(name).name != name or not name.strip(" ."):
        raise UsageError(f"{name!r} is not a name.", hint="Write a name without slashes.")
    target = folder.with_name(name)
    if os.path.lexists(target):
        raise RecordError(f"{target} exists already.", hint="Choose another name.")
    with FolderLock(folder), translate_disk_errors(folder):
        folder.rename(target)
    return target


def _find_run(given: Path | str) -> Path:
    folder = Path(given)
    if folder.is_symlink():
        raise UsageError(f"{folder} is a link to a folder.", hint=f"Give that folder: {folder.resolve()}.")
    if not (folder / JOURNAL_FILE).is_file():
        raise RecordError(f"{folder} is not a results folder.")
    return folder
