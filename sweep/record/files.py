"""Files of a results folder: their names, how they are replaced atomically and durably, and errors of the disk."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import sys
import unicodedata
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, TypeAlias

from sweep.errors import DiskFullError, RecordError
from sweep.types import Scalar

Checkpoint: TypeAlias = Callable[[str], None]

IMAGE_POINTS = ("image.part-written", "image.part-synced", "image.renamed", "image.folder-synced")
"""In this order, for every image saved."""

JOURNAL_OPERATIONS = (
    "begin_run",
    "end_run",
    "rebase",
    "seeds",
    "intend",
    "submitted",
    "rendered",
    "complete",
    "attempt_failed",
    "withdraw",
    "fail",
    "cancel",
    "reopen",
    "forget",
    "keep_input",
    "keep_uploads",
)

JOURNAL_POINTS = tuple(f"{name}.{step}" for name in JOURNAL_OPERATIONS for step in ("before-commit", "after-commit"))
"""`complete.before-commit`: executed, not committed; `complete.after-commit`: durable, its caller not told yet."""


def no_checkpoint(_name: str) -> None:
    """Do nothing: the checkpoint of every run that is no fault test."""


PART = ".part"  # the suffix of a file that is being written
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FULL_HINT = "Free some space and run the same command again: it continues where it stopped."


def disk_error(error: OSError, path: Path) -> RecordError:
    """Return `error`, met while writing `path`, as DiskFullError or RecordError."""
    if error.errno in _FULL:
        return DiskFullError(f"{path.parent}: no space is left on the device.", hint=FULL_HINT)
    return RecordError(f"{path} could not be written ({error.strerror or error}).")


def free_bytes(folder: Path) -> int:
    """Free space for this user on the device that holds `folder`, which need not exist yet."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


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


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it, durably. Raises OSError."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


@contextlib.contextmanager
def replace_atomically(
    path: Path, checkpoint: Checkpoint = no_checkpoint, *, durable: bool = True
) -> Iterator[BinaryIO]:
    """Yield a file that becomes `path` whole or not at all: `*.part` beside it, fsync, rename, fsync of the folder.

    On any exception the part is removed and `path` is what it was. Without `durable` nothing is synced: for files
    that are made again where a power cut took them. Raises DiskFullError or RecordError.
    """
    part = path.with_name(f".{uuid.uuid4().hex}{PART}")
    try:
        make_folder(path.parent)
        with part.open("xb") as file:
            yield file
            file.flush()
            checkpoint("image.part-written")
            if durable:
                sync_file(file.fileno())
        checkpoint("image.part-synced")
        part.replace(path)
        checkpoint("image.renamed")
        if durable:
            sync_folder(path.parent)
        checkpoint("image.folder-synced")
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def remove_parts(folder: Path) -> int:
    """Delete what a killed `replace_atomically` left under `folder`, by its own names only; return how many files."""
    removed = 0
    for place, _, names in os.walk(folder):  # a million images in half a second, where rglob takes several
        for name in names:
            if name.endswith(PART) and len(name) == 1 + 32 + len(PART):
                Path(place, name).unlink(missing_ok=True)
                removed += 1
    return removed


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


@lru_cache(maxsize=4096)
def slug(text: str, longest: int = _TEXT) -> str:
    """Write `text` in lower case, words joined by "-": accents go, other scripts stay, all else is a divider.

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
    """Cut to so many characters and UTF-8 bytes, not ending in what Windows drops or a divider."""
    short = text[:characters].encode()[:size].decode(errors="ignore")
    return short.rstrip("-_. ")
