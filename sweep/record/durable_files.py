"""Files replaced atomically and durably, and errors of the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

from sweep.errors import DiskFullError, RecordError

Checkpoint: TypeAlias = Callable[[str], None]
"""Called at each step of a write by its name, such as `image.renamed`: fault tests end the process there."""


def no_checkpoint(_name: str) -> None:
    """Do nothing: the checkpoint of every run that is no fault test."""


PART = ".part"  # the suffix of a file that is being written
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_RIGHTS_HINT = "Choose another place (--output, or --results for a run), or get the right to write there."
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FULL_HINT = "Free some space and run the same command again: it continues where it stopped."


@contextlib.contextmanager
def translate_disk_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors in the block, met while writing `path`, into DiskFullError or RecordError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFullError(f"{path.parent}: no space is left on the device.", hint=FULL_HINT) from error
        hint = _RIGHTS_HINT if error.errno in _FORBIDDEN else None
        raise RecordError(f"{path} could not be written ({error.strerror or error}).", hint=hint) from error


def free_bytes(folder: Path) -> int:
    """Return the free space for this user on the device that holds `folder`, which need not exist yet.

    Raises RecordError where the device cannot be asked, as a network folder that is gone.
    """
    place = folder.absolute()
    try:
        while not place.exists():
            place = place.parent
        return shutil.disk_usage(place).free
    except OSError as error:
        raise RecordError(f"{place} could not be read ({error.strerror or error}).") from error


def sync_file(descriptor: int) -> None:
    """Make what was written to a file durable. On macOS fsync leaves it in the drive's cache, F_FULLFSYNC does not."""
    if sys.platform == "darwin":
        import fcntl

        with contextlib.suppress(OSError):  # network folders do not have it
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path, *, with_parents: bool = True) -> None:
    """Make `folder` and those above it, durably. Raises OSError."""
    if not folder.is_dir():
        if with_parents:
            make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


@contextlib.contextmanager
def write_part(folder: Path, checkpoint: Checkpoint = no_checkpoint, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Yield a new file of a temporary name in `folder`; afterwards it is on the disk. An exception removes it."""
    make_folder(folder)
    part = folder / f".{uuid.uuid4().hex}{PART}"
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            checkpoint("image.part-written")
            if durable:
                sync_file(file.fileno())
        checkpoint("image.part-synced")
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def place_part(part: Path, path: Path, checkpoint: Checkpoint = no_checkpoint, *, durable: bool = True) -> None:
    """Rename a part to `path`, which it replaces, and sync the folder; a part that cannot be renamed is removed.

    Raises DiskFullError or RecordError.
    """
    with translate_disk_errors(path):
        try:
            make_folder(path.parent, with_parents=False)  # where an image's are gone, its run's folder was moved
            part.replace(path)
            checkpoint("image.renamed")
            if durable:
                sync_folder(path.parent)
            checkpoint("image.folder-synced")
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def replace_atomically(
    path: Path, checkpoint: Checkpoint = no_checkpoint, *, durable: bool = True
) -> Iterator[BinaryIO]:
    """Yield a file that becomes `path` whole or not at all.

    On any exception `path` is what it was. Without `durable` nothing is synced: for files that are made again where a
    power cut took them. Raises DiskFullError or RecordError.
    """
    with translate_disk_errors(path), write_part(path.parent, checkpoint, durable=durable) as file:
        yield file
    place_part(Path(file.name), path, checkpoint, durable=durable)


def remove_parts(folder: Path) -> int:
    """Delete the parts that a killed process left under `folder`, by our own names only; return how many files."""
    removed = 0
    for place, _, names in os.walk(folder):  # a million images in half a second, where rglob takes several
        for name in names:
            if name.endswith(PART) and len(name) == 1 + 32 + len(PART):
                Path(place, name).unlink(missing_ok=True)
                removed += 1
    return removed
