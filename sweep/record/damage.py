"""Damage of a results folder and its repair: images missing or changed, unknown files, rows not as written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from sweep.errors import CorruptRecordError, TransientError
from sweep.record.atomic_files import PART
from sweep.record.images import IMAGES_FOLDER, hash_file, is_whole_input, verify_image
from sweep.record.lock import FolderLock
from sweep.record.sqlite.journal import SqliteJournal
from sweep.record.sqlite.schema import JOURNAL_FILE, integrity_faults, reading, seal_faults

Fault: TypeAlias = Literal["missing", "truncated", "changed", "damaged", "orphan", "leftover", "journal"]
REPAIRABLE: frozenset[Fault] = frozenset({"missing", "truncated", "changed", "damaged"})
"""Faults of a variation's images: rendering it again mends them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One damaged file or row. `path` is relative to the folder; `key` names the variation whose image it is."""

    fault: Fault
    path: str
    message: str
    key: str | None = None


def verify_folder(folder: Path) -> list[Damage]:
    """List all damage, for `Results.verify`. Reads every file once; a journal that cannot be read is damage, too."""
    try:
        return list(_findings(folder))
    except CorruptRecordError as error:
        return [_journal(str(error))]


def list_damaged_keys(findings: list[Damage]) -> list[str]:
    """Return the variations to `forget` and render again, each once."""
    return list(dict.fromkeys(each.key for each in findings if each.key is not None and each.fault in REPAIRABLE))


def find_lost_images(folder: Path, *, hash_files: bool = False) -> list[str]:
    """Return the keys of completed variations of which an image is missing or has another size than on record.

    With `hash_files` every file is read, too, which finds one that was replaced by another of the same size. Raises
    CorruptRecordError.
    """
    root = os.fspath(folder)  # of a million images, joining with pathlib would take four times as long
    with reading(folder) as db:
        rows = db.execute("SELECT key, path, size, sha256 FROM images")
        lost = (key for key, path, size, sha in rows if not _is_as_written(f"{root}/{path}", size, sha, hash_files))
        return list(dict.fromkeys(lost))


def _is_as_written(file: str, size: int, sha256: str, is_hashed: bool) -> bool:
    try:
        return os.stat(file).st_size == size and (not is_hashed or hash_file(Path(file)) == sha256)  # noqa: PTH116
    except OSError:
        return False


def _findings(folder: Path) -> Iterator[Damage]:
    with reading(folder) as db:
        faults = [*integrity_faults(db), *seal_faults(db)]
        yield from map(_journal, faults)
        known: set[str] = set()
        for key, path, size, sha256 in db.execute("SELECT key, path, size, sha256 FROM images ORDER BY path"):
            known.add(path)
            yield from _check_image(folder, key, path, size, sha256)
        for path, sha256 in db.execute("SELECT path, sha256 FROM inputs ORDER BY path"):
            if not is_whole_input(folder / path, sha256):
                message = f"{path}, a source image, is missing or changed; the next run copies it again."
                yield Damage(fault="changed", path=path, message=message)
    yield from _unknown_files(folder, known)


def _check_image(folder: Path, key: str, path: str, size: int, sha256: str) -> Iterator[Damage]:
    file = folder / path
    try:
        found = file.stat().st_size
        whole = found == size and hash_file(file) == sha256
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        message = f"{path} is missing." if missing else f"{path} could not be read ({error.strerror})."
        yield Damage(fault="missing" if missing else "damaged", path=path, key=key, message=message)
        return
    if whole:
        return
    why = _undecodable(file)
    if why is None:
        message = f"{path} is an image, but not the one that was rendered: its hash differs."
        yield Damage(fault="changed", path=path, key=key, message=message)
    elif found < size:
        message = f"{path} is truncated: {found} of {size} bytes."
        yield Damage(fault="truncated", path=path, key=key, message=message)
    else:
        yield Damage(fault="damaged", path=path, key=key, message=f"{path}: {why}")


def _unknown_files(folder: Path, known: set[str]) -> Iterator[Damage]:
    for file in sorted((folder / IMAGES_FOLDER).rglob("*")):
        path = file.relative_to(folder).as_posix()
        if path in known or not file.is_file():
            continue
        if file.name.endswith(PART):
            yield Damage(fault="leftover", path=path, message=f"{path} was left half-written; the next run removes it.")
        else:
            yield Damage(fault="orphan", path=path, message=f"{path} belongs to no row.")


def _undecodable(file: Path) -> str | None:
    try:
        verify_image(file.read_bytes())
    except TransientError as error:
        return str(error).replace("The image received ", "The image ")
    return None


def _journal(fault: str) -> Damage:
    return Damage(fault="journal", path=JOURNAL_FILE, message=f"{JOURNAL_FILE} is damaged: {fault}.")


async def reopen_damaged(folder: Path, findings: Sequence[Damage]) -> int:
    """Return how many variations are open again. Raises FolderInUseError while a run writes there, RecordError
    otherwise.
    """
    async with FolderLock(folder), await SqliteJournal.open(folder, create=False) as journal:
        return await journal.forget(list_damaged_keys(list(findings)))
