"""The picture files of a results folder: whole or not there, named so that a person can read them.

A file is written under another name, fsynced, renamed, and its folder fsynced, before anybody hears of it. The bytes
are the server's own. No name a server gave ever becomes part of a path.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from sweep.errors import RecordError
from sweep.record.base import Scalar
from sweep.record.checkpoints import Checkpoint, no_checkpoint
from sweep.record.disk import free_bytes, remove_parts, replacing
from sweep.record.names import IMAGES, INPUTS, file_stem, slug
from sweep.record.picture import MOST_PIXELS, verify_picture
from sweep.record.schema import JOURNAL, reading

_CLAIMS = 8192  # names remembered until the journal surely knows them: far more than can be in flight
_AT_ONCE = 4  # pictures verified and written at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedImage:
    """A picture that is on the disk: `path` relative to the results folder with "/", `size` in bytes."""

    path: str
    width: int
    height: int
    sha256: str
    size: int


class ImageStore:
    """Saves pictures under `folder`/images. `points` is the size of the grid: it decides padding and sub-folders."""

    def __init__(
        self, folder: Path, points: int, *, checkpoint: Checkpoint = no_checkpoint, most_pixels: int = MOST_PIXELS
    ) -> None:
        self._folder = Path(folder)
        self._points = points
        self._checkpoint = checkpoint
        self._most_pixels = most_pixels
        self._claims: OrderedDict[str, str] = OrderedDict()  # path in lower case → key
        self._claiming = threading.Lock()
        self._threads = anyio.CapacityLimiter(_AT_ONCE)

    def stem(self, index: int, values: Mapping[str, Scalar], kinds: Mapping[str, str] | None = None) -> str:
        """See `names.file_stem`."""
        return file_stem(index, values, points=self._points, kinds=kinds)

    async def save(self, data: bytes, stem: str, key: str, ordinal: int = 0) -> SavedImage:
        """Verify `data` and keep it under `stem`, for the variation `key`; `ordinal` counts its pictures from 0.

        Saving the same key and ordinal again replaces the file. Where another key has the name on record, the first 8
        characters of the key are appended. Raises TransientError of kind BadImage, DiskFullError, RecordError.
        A task cancelled meanwhile leaves a whole file or none.
        """
        return await run_sync(self._save, data, stem, key, ordinal, limiter=self._threads)

    async def copy_input(self, source: Path, sha256: str) -> str:
        """Keep a source picture under `folder`/inputs; its path relative to the folder. Copied once.

        Raises RecordError where the file is gone or no longer has this SHA-256.
        """
        return await run_sync(partial(_copy_input, self._folder, Path(source), sha256), limiter=self._threads)

    async def clean(self) -> int:
        """Remove what a killed run left half-written; how many files. For the start of a run, under the lock."""
        return await run_sync(remove_parts, self._folder)

    async def free_bytes(self) -> int:
        """Space left for pictures on the folder's device."""
        return await run_sync(free_bytes, self._folder)

    def _save(self, data: bytes, stem: str, key: str, ordinal: int) -> SavedImage:
        facts = verify_picture(data, most_pixels=self._most_pixels)
        ending = f"_{ordinal + 1}.{facts.format}" if ordinal else f".{facts.format}"
        path = self._claim(f"{IMAGES}/{stem}", ending, key)
        with replacing(self._folder / path, self._checkpoint) as file:
            file.write(data)
        return SavedImage(
            path=path,
            width=facts.width,
            height=facts.height,
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
        )

    def _claim(self, stem: str, ending: str, key: str) -> str:
        """The path for this key: `stem` itself unless another key has it."""
        with self._claiming:
            for path in (f"{stem}{ending}", f"{stem}_{slug(key, 8)}{ending}"):
                if self._owner(path) in (None, key):
                    self._claims[path.lower()] = key
                    self._claims.move_to_end(path.lower())
                    if len(self._claims) > _CLAIMS:
                        self._claims.popitem(last=False)
                    return path
        raise RecordError(f"{self._folder / stem}{ending} belongs to another variation, and so does its second name.")

    def _owner(self, path: str) -> str | None:
        claimed = self._claims.get(path.lower())
        if claimed is not None or not (self._folder / path).exists():
            return claimed
        return _owner_on_record(self._folder, path)


def _owner_on_record(folder: Path, path: str) -> str | None:
    """The key whose picture this file is; None where it is nobody's, as after a crash between file and journal."""
    if not (folder / JOURNAL).exists():
        return None
    with reading(folder) as db:
        row = db.execute("SELECT key FROM images WHERE path = ?", (path,)).fetchone()
    return None if row is None else str(row[0])


def _copy_input(folder: Path, source: Path, sha256: str) -> str:
    extension = source.suffix.lower() if source.suffix[1:].isalnum() and source.suffix.isascii() else ""
    path = f"{INPUTS}/{slug(source.stem)}_{sha256[:8]}{extension}"
    try:
        if not (folder / path).exists() or _hash(folder / path) != sha256:
            _copy(source, folder / path, sha256)
    except OSError as error:  # writing has its own words in `replacing`
        raise RecordError(f"{source} could not be read ({error.strerror}).") from error
    return path


def _copy(source: Path, target: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    with source.open("rb") as original, replacing(target) as copy:
        while block := original.read(2**20):
            digest.update(block)
            copy.write(block)
        if digest.hexdigest() != sha256:
            raise RecordError(f"{source} was changed after the experiment was read.", hint="Run the command again.")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
