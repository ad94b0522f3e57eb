"""ImageStore: atomic, named files."""

from __future__ import annotations

import hashlib
import re
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from sweep.errors import RecordError, TransientError
from sweep.record.files import Checkpoint, free_bytes, no_checkpoint, remove_parts, replace_atomically
from sweep.record.image_check import MAX_PIXELS, ImageFacts, verify_image
from sweep.record.sqlite.schema import JOURNAL_FILE, reading
from sweep.source_images import read_input
from sweep.types import Scalar

IMAGES_FOLDER = "images"  # sub-folders of a results folder
INPUTS = "inputs"
LONGEST_NAME = 120  # characters of a file's name, suffixes and extension included
_STEM = LONGEST_NAME - 20  # room for _<key8>, _<ordinal> and .webp
_STEM_BYTES = 200  # of UTF-8: systems allow 255 for a name
_TEXT = 40  # characters of one text value
_SHARDED_ABOVE = 2000  # points
_SHARD = 1000  # points a folder
_SHORT = {
    "denoise_strength": "s",
    "cfg_scale": "cfg",
    "lora_weight": "lora",
    "control_weight": "control",
    "width": "w",
    "height": "h",
}
_OWN_WORDS = {"variation", "prompt", "negative_prompt", "scheduler", "model", "image", "lora", "control_image"}
"""Axes whose text stands for itself, without the axis's name."""


def file_stem(index: int, values: Mapping[str, Scalar], *, points: int, kinds: Mapping[str, str] | None = None) -> str:
    """Return the name of a variation's image without extension, with its sub-folder and "/" above 2,000 `points`.

    `kinds` are the axes' kinds, as in an experiment; without them the values' types decide. The index makes it unique
    among the points of one definition, and its digits keep it clear of names reserved by Windows.
    """
    kinds = kinds or {}
    width = max(4, len(str(max(points - 1, 0))))
    parts = [_part(name, value, kinds.get(name, "")) for name, value in values.items()]
    stem = _cut("_".join([f"{index:0{width}d}", *filter(None, parts)]), _STEM, _STEM_BYTES)
    return f"{index // _SHARD:03d}/{stem}" if points > _SHARDED_ABOVE else stem


def slug(text: str, longest: int = _TEXT) -> str:
    """`text` in lower case, words joined by "-": accents go, other scripts stay, all else is a divider.

    Never empty: a text without a letter or digit in any script becomes a short hash of itself.
    """
    kept = "".join(_plain(character) for character in unicodedata.normalize("NFKC", text).lower())
    words = re.sub(r"-+", "-", kept).strip("-")
    return _cut(words, longest, 2 * longest) or "x" + hashlib.blake2b(text.encode(), digest_size=3).hexdigest()


def _part(axis: str, value: Scalar, kind: str) -> str:
    word = axis.rpartition(".")[2]
    role, _, number = word.rpartition("_")
    if role in _SHORT and number.isdecimal() and isinstance(value, int | float):
        return f"{_SHORT[role]}{number}-{_number(value, two_places=False)}"
    name = _SHORT.get(word, "" if word in _OWN_WORDS else slug(word, 16))
    if value is None or value == "":
        return f"{name}-none" if name else "none"
    if isinstance(value, bool):
        return name or word if value else f"no-{name or word}"
    if isinstance(value, int | float):
        return f"{name}{_number(value, two_places=word == 'denoise_strength')}"
    if kind == "image":
        return slug(value.replace("\\", "/").rpartition("/")[2].rpartition(".")[0] or value)
    return slug(value) if kind in ("text", "label") or not name else f"{name}-{slug(value)}"


def _number(value: float, *, two_places: bool) -> str:
    if isinstance(value, int) and not two_places:
        return str(value)
    if two_places and float(padded := f"{value:.2f}") == value:
        return padded
    return f"{value:.6g}".replace("+", "")


def _plain(character: str) -> str:
    first = unicodedata.normalize("NFKD", character)[0]
    if first.isascii():
        return first if first.isalnum() else "-"
    return character if unicodedata.category(character)[0] in "LNM" else "-"


def _cut(text: str, characters: int, size: int) -> str:
    """At most so many characters and UTF-8 bytes, not ending in what Windows drops or a divider."""
    short = text[:characters].encode()[:size].decode(errors="ignore")
    return short.rstrip("-_. ")


_CLAIMS = 8192  # names remembered until the journal surely knows them: far more than can be in flight
_LARGE = 8_000_000  # pixels of an image that is decoded alone
_AT_ONCE = 4  # images verified and written at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedImage:
    """An image that is on the disk: `path` relative to the results folder with "/", `size` in bytes."""

    path: str
    width: int
    height: int
    sha256: str
    size: int


class ImageStore:
    """Saves images under `folder`/images. `points` is the size of the grid: it decides padding and sub-folders."""

    def __init__(
        self, folder: Path, points: int, *, checkpoint: Checkpoint = no_checkpoint, most_pixels: int = MAX_PIXELS
    ) -> None:
        self._folder = Path(folder)
        self._points = points
        self._checkpoint = checkpoint
        self._most_pixels = most_pixels
        self._claims: OrderedDict[str, str] = OrderedDict()  # path in lower case → key
        self._claiming = threading.Lock()
        self._decoding_large = threading.Lock()
        self._threads = anyio.CapacityLimiter(_AT_ONCE)

    def stem(self, index: int, values: Mapping[str, Scalar], kinds: Mapping[str, str] | None = None) -> str:
        """See `names.file_stem`."""
        return file_stem(index, values, points=self._points, kinds=kinds)

    async def save(self, data: bytes, stem: str, key: str, ordinal: int = 0) -> SavedImage:
        """Verify `data` and keep it under `stem`, for the variation `key`; `ordinal` counts its images from 0.

        Saving the same key and ordinal again replaces the file. Where another key has the name on record, the first 8
        characters of the key are appended. Raises TransientError of kind BadImage, DiskFullError, RecordError.
        A task cancelled meanwhile leaves a whole file or none.
        """
        return await run_sync(self._save, data, stem, key, ordinal, limiter=self._threads)

    async def copy_input(self, source: Path, sha256: str) -> str:
        """Keep a source image under `folder`/inputs; its path relative to the folder. Copied once.

        Raises RecordError where the file is gone or no longer has this SHA-256.
        """
        return await run_sync(partial(_copy_input, self._folder, Path(source), sha256), limiter=self._threads)

    async def clean(self) -> int:
        """Remove what a killed run left half-written; how many files. For the start of a run, under the lock."""
        return await run_sync(remove_parts, self._folder)

    async def free_bytes(self) -> int:
        """Space left for images on the folder's device."""
        return await run_sync(free_bytes, self._folder)

    def _save(self, data: bytes, stem: str, key: str, ordinal: int) -> SavedImage:
        facts = self._verify(data)
        ending = f"_{ordinal + 1}.{facts.format}" if ordinal else f".{facts.format}"
        path = self._claim(f"{IMAGES_FOLDER}/{stem}", ending, key)
        with replace_atomically(self._folder / path, self._checkpoint) as file:
            file.write(data)
        return SavedImage(
            path=path,
            width=facts.width,
            height=facts.height,
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
        )

    def _verify(self, data: bytes) -> ImageFacts:
        """Decode the image; one that is large, or whose size is not known before, alone: it takes much memory."""
        try:
            return verify_image(data, most_pixels=min(_LARGE, self._most_pixels))
        except TransientError:
            with self._decoding_large:
                return verify_image(data, most_pixels=self._most_pixels)

    def _claim(self, stem: str, ending: str, key: str) -> str:
        """Claim the path for this key: `stem` itself unless another key has it."""
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
    """Return the key whose image this file is; None where it is nobody's, as after a crash between file and journal."""
    if not (folder / JOURNAL_FILE).exists():
        return None
    with reading(folder) as db:
        row = db.execute("SELECT key FROM images WHERE path = ?", (path,)).fetchone()
    return None if row is None else str(row[0])


def _copy_input(folder: Path, source: Path, sha256: str) -> str:
    try:
        content, ending = read_input(source, sha256)
    except OSError as error:
        raise RecordError(f"{source} could not be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise RecordError(f"{source} {error}.", hint="Run the command again.") from error
    extension = ending if ending[1:].isalnum() and ending.isascii() else ""
    path = f"{INPUTS}/{slug(source.stem)}_{sha256[:8]}{extension}"
    if not (folder / path).exists() or _hash(folder / path) != hashlib.sha256(content).hexdigest():
        with replace_atomically(folder / path) as copy:
            copy.write(content)
    return path


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
