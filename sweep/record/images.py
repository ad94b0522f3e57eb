"""Images on disk: their names, how they are written durably, and whether their bytes are a whole image."""

from __future__ import annotations

import hashlib
import importlib
import io
import re
import struct
import threading
import unicodedata
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import anyio
from anyio.to_thread import run_sync

from sweep.errors import RecordError, TransientError
from sweep.input_images import read_input
from sweep.record.durable_files import (
    Checkpoint,
    no_checkpoint,
    place_part,
    remove_parts,
    replace_atomically,
    translate_disk_errors,
    write_part,
)
from sweep.record.sqlite.connection import JOURNAL_FILE, open_for_reading
from sweep.types import Scalar

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile


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


@lru_cache(maxsize=4096)
def make_slug(text: str, longest: int = _TEXT) -> str:
    """Write `text` in lower case, words joined by "-": accents go, other scripts stay, all else is a divider.

    Never empty: a text without a letter or digit in any script becomes a short hash of itself.
    """
    kept = "".join(_simplify(character) for character in unicodedata.normalize("NFKC", text).lower())
    words = re.sub(r"-+", "-", kept).strip("-")
    return _cut(words, longest, 2 * longest) or "x" + hashlib.blake2b(text.encode(), digest_size=3).hexdigest()


def _make_part(axis: str, value: Scalar, kind: str) -> str:
    word = axis.rpartition(".")[2]
    role, _, number = word.rpartition("_")
    if role in _SHORT and number.isdecimal() and isinstance(value, int | float):
        return f"{_SHORT[role]}{number}-{_format_number(value, two_places=False)}"
    name = _SHORT.get(word, "" if word in _OWN_WORDS else make_slug(word, 16))
    if value is None or value == "":
        return f"{name}-none" if name else "none"
    if isinstance(value, bool):
        return name or word if value else f"no-{name or word}"
    if isinstance(value, int | float):
        return f"{name}{_format_number(value, two_places=word == 'denoise_strength')}"
    if kind == "image":
        return make_slug(value.replace("\\", "/").rpartition("/")[2].rpartition(".")[0] or value)
    return make_slug(value) if kind in ("text", "label") or not name else f"{name}-{make_slug(value)}"


def _format_number(value: float, *, two_places: bool) -> str:
    if isinstance(value, int) and not two_places:
        return str(value)
    if two_places and float(padded := f"{value:.2f}") == value:
        return padded
    return f"{value:.6g}".replace("+", "")


def _simplify(character: str) -> str:
    first = unicodedata.normalize("NFKD", character)[0]
    if first.isascii():
        return first if first.isalnum() else "-"
    return character if unicodedata.category(character)[0] in "LNM" else "-"


def _cut(text: str, characters: int, size: int) -> str:
    """Cut to so many characters and UTF-8 bytes, not ending in what Windows drops or a divider."""
    short = text[:characters].encode()[:size].decode(errors="ignore")
    return short.rstrip("-_. ")


try:
    from isal import isal_zlib  # of the extra "fast": Intel's Intelligent Storage Acceleration Library
except ImportError:
    isal_zlib = None  # type: ignore[assignment]


def inflate(stream: bytes | memoryview, most: int, library: Any = isal_zlib or zlib) -> tuple[bytes, bool]:
    """Return at most so many bytes of a zlib stream's content, and whether it ended there with the right checksum.

    `library` is Python's zlib, or a module that works like it. Raises ValueError where the stream is damaged.
    """
    inflating = library.decompressobj()
    try:
        return inflating.decompress(stream, most), inflating.eof
    except library.error as error:
        raise ValueError(str(error)) from None


ImageFormat = Literal["png", "jpg", "webp"]
MAX_PIXELS = 50_000_000  # 7,000 × 7,000: above what these models paint, below what exhausts memory
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """Format and size of an image; `format` is also the file's extension."""

    format: ImageFormat
    width: int
    height: int


def verify_image(data: bytes, *, most_pixels: int = MAX_PIXELS) -> ImageFacts:
    """Decode `data` fully (milliseconds: call it in a worker thread).

    Raises TransientError of kind BadImage where it is no PNG, JPEG or WebP, is damaged or truncated, or has more
    than `most_pixels`: it may have been damaged on its way, and the next attempt tells.
    """
    try:
        return _decode(data, most_pixels)
    except TransientError:
        raise
    except struct.error as error:
        raise _make_error("is truncated") from error
    except Exception as error:  # damaged bytes make Pillow raise nearly anything
        raise _make_error(f"does not decode ({error})") from error


def _decode(data: bytes, most_pixels: int) -> ImageFacts:
    found = _format(data)
    width, height = _check_png(data) if found == "png" else _read_size(found, data)
    if not (width and height):
        raise _make_error("has no pixels")
    if width * height > most_pixels:
        raise _make_error(f"is {width}×{height}, which is more than sweep accepts")
    if found != "png" or not _is_whole_png(data):
        with _find_plugin(found)(io.BytesIO(data)) as image:
            image.load()
    return ImageFacts(format=found, width=width, height=height)


def _make_error(what: str) -> TransientError:
    return TransientError(f"The image received {what}.", kind="BadImage")


def _format(data: bytes) -> ImageFormat:
    if data.startswith(_PNG):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    start = data[:200].lstrip().lower()
    seen = "empty" if not data else "HTML" if start.startswith((b"<!doctype", b"<html")) else "not a PNG, JPEG or WebP"
    raise _make_error(f"is {seen}")


def _check_png(data: bytes) -> tuple[int, int]:
    """Check that every chunk's checksum is right and the last is IEND, so not a byte was lost; return the size."""
    for kind, content, checksum in _iterate_chunks(data):
        if zlib.crc32(content, zlib.crc32(kind)) != checksum:
            raise ValueError(f"the checksum of its part {repr(kind)[2:-1]} is wrong")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _iterate_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Yield kind, content and checksum of each chunk of a PNG up to IEND."""
    view, at, kind = memoryview(data), len(_PNG), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        yield kind, view[at + 8 : at + 8 + length], checksum
        at += 12 + length


def _read_size(found: ImageFormat, data: bytes) -> tuple[int, int]:
    """Read the size of a JPEG or WebP from its header; check that the end of the file is there."""
    if found == "jpg":
        is_whole = b"\xff\xd9" in data[-4096:]
    else:
        (length,) = struct.unpack_from("<I", data, 4)
        is_whole = length + 8 <= len(data)
    if not is_whole:
        raise ValueError("its end is missing")
    with _find_plugin(found)(io.BytesIO(data)) as image:
        return image.size


def _is_whole_png(data: bytes) -> bool:
    """Tell whether a PNG of the kinds that servers write is whole; False where Pillow is to tell.

    Undoing the filters of its rows cannot fail once every row is there and names a filter that exists. So the
    compressed stream, with its own checksum, is all there is to try: less work than decoding, and outside of the
    interpreter's lock, which the event loop of a run needs meanwhile.
    """
    width, height, depth, color, method, filtering, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    channels = _CHANNELS.get(color)
    if channels is None or depth != _DEPTH or method or filtering or interlaced:
        return False
    chunks = list(_iterate_chunks(data))
    if not all(kind in _SIMPLE or (kind == b"iTXt" and _is_plain_text(body)) for kind, body, _ in chunks):
        return False
    stream = [body for kind, body, _ in chunks if kind == b"IDAT"]
    row = 1 + width * channels
    pixels, ended = inflate(stream[0] if len(stream) == 1 else b"".join(stream), row * height + 1)
    if ended and len(pixels) < row * height:  # which Pillow fills up in silence
        raise ValueError("rows are missing")
    return ended and len(pixels) == row * height and max(pixels[::row]) <= _LAST_FILTER


_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by the header's colour type: grey, RGB, grey with alpha, RGB with alpha
_DEPTH = 8  # bits
_LAST_FILTER = 4
_LONGEST_KEYWORD = 82  # bytes, with the end of the keyword and the mark after it
_SIMPLE = frozenset({b"IHDR", b"IDAT", b"IEND", b"tEXt", b"pHYs", b"gAMA", b"sRGB", b"cHRM", b"tIME", b"bKGD"})


def _is_plain_text(body: memoryview) -> bool:
    """Tell whether an international text is not compressed: the byte after its keyword says so."""
    _, _, rest = bytes(body[:_LONGEST_KEYWORD]).partition(b"\0")
    return rest[:1] == b"\0"


def _find_plugin(found: ImageFormat) -> type[ImageFile]:
    """Return Pillow's class for the format: Image.open warns of large images through a process-wide switch."""
    name = {"png": "Png", "jpg": "Jpeg", "webp": "WebP"}[found]
    plugin: type[ImageFile] = getattr(importlib.import_module(f"PIL.{name}ImagePlugin"), f"{name}ImageFile")
    return plugin


_CLAIMS = 8192  # names remembered until the journal surely knows them: far more than can be in flight
_LARGE = 8_000_000  # pixels of an image that is decoded alone
_DECODING_LARGE = threading.Lock()
_AT_ONCE = 4  # images verified and written at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedImage(ImageFacts):
    """A verified image that is on the disk: `path` relative to the results folder with "/", `size` in bytes."""

    path: str
    sha256: str
    size: int


def write_image_part(
    folder: Path, data: bytes, most_pixels: int = MAX_PIXELS, checkpoint: Checkpoint = no_checkpoint
) -> SavedImage:
    """Verify an image and write it durably under a temporary name, for `ImageStore.place`; on any host of the folder.

    Only the process that holds the folder's lock gives it its name, so what the agent of a killed run still writes
    can never replace an image. What is left behind is removed at the start of the next run.
    """
    facts = _verify_in_turn(data, most_pixels)
    if not folder.is_dir():  # never made anew, away from its journal
        raise RecordError(f"{folder} was moved or deleted while the run was writing to it.")
    with translate_disk_errors(folder / IMAGES_FOLDER), write_part(folder / IMAGES_FOLDER, checkpoint) as file:
        file.write(data)
    path = f"{IMAGES_FOLDER}/{Path(file.name).name}"
    return SavedImage(**asdict(facts), path=path, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def _verify_in_turn(data: bytes, most_pixels: int) -> ImageFacts:
    """Decode an image; one that is large, or whose size is not known before, alone: it takes much memory."""
    try:
        return verify_image(data, most_pixels=min(_LARGE, most_pixels))
    except TransientError:
        with _DECODING_LARGE:
            return verify_image(data, most_pixels=most_pixels)


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
        self._threads = anyio.CapacityLimiter(_AT_ONCE)

    def stem(self, index: int, values: Mapping[str, Scalar], kinds: Mapping[str, str] | None = None) -> str:
        """Return the name of a variation's image without extension, with its sub-folder and "/" above 2,000 points.

        `kinds` are the axes' kinds, as in an experiment; without them the values' types decide. The index makes it
        unique among the points of one definition, and its digits keep it clear of names reserved by Windows.
        """
        width = max(4, len(str(max(self._points - 1, 0))))
        parts = [_make_part(name, value, (kinds or {}).get(name, "")) for name, value in values.items()]
        stem = _cut("_".join([f"{index:0{width}d}", *filter(None, parts)]), _STEM, _STEM_BYTES)
        return f"{index // _SHARD:03d}/{stem}" if self._points > _SHARDED_ABOVE else stem

    async def save(self, data: bytes, stem: str, key: str, ordinal: int = 0) -> SavedImage:
        """Verify `data` and keep it under `stem`, for the variation `key`; `ordinal` counts its images from 0.

        Saving the same key and ordinal again replaces the file. Where another key has the name on record, the first 8
        characters of the key are appended. Raises TransientError of kind BadImage, DiskFullError, RecordError.
        A task cancelled meanwhile leaves a whole file or none.
        """
        write = partial(write_image_part, self._folder, data, self._most_pixels, self._checkpoint)
        return await run_sync(lambda: self._place(write(), stem, key, ordinal), limiter=self._threads)

    @property
    def part_writer(self) -> Callable[[bytes], SavedImage]:
        """Return `write_image_part` for this folder, to be sent to another host of its file system."""
        return partial(write_image_part, self._folder.absolute(), most_pixels=self._most_pixels)

    async def place(self, part: SavedImage, stem: str, key: str, ordinal: int = 0) -> SavedImage:
        """Give an image that `part_writer` wrote the name that `save` would have given it. Raises RecordError."""
        return await run_sync(self._place, part, stem, key, ordinal, limiter=self._threads)

    async def copy_input(self, source: Path, sha256: str) -> str:
        """Keep a source image under `folder`/inputs; its path relative to the folder. Copied once.

        Raises RecordError where the file is gone or no longer has this SHA-256.
        """
        return await run_sync(partial(_copy_input, self._folder, Path(source), sha256), limiter=self._threads)

    async def clean(self) -> int:
        """Remove what a killed run left half-written; how many files. For the start of a run, under the lock."""
        return await run_sync(remove_parts, self._folder)

    def _place(self, part: SavedImage, stem: str, key: str, ordinal: int) -> SavedImage:
        path = self._claim(stem, part, key, ordinal)
        place_part(self._folder / part.path, self._folder / path, self._checkpoint)
        return replace(part, path=path)

    def _claim(self, stem: str, facts: ImageFacts, key: str, ordinal: int) -> str:
        """Claim a path for this key: `stem` itself unless another key has it."""
        stem = f"{IMAGES_FOLDER}/{stem}"
        ending = f"_{ordinal + 1}.{facts.format}" if ordinal else f".{facts.format}"
        with self._claiming:
            for path in (f"{stem}{ending}", f"{stem}_{make_slug(key, 8)}{ending}"):
                if self._find_owner(path) in (None, key):
                    self._claims[path.lower()] = key
                    self._claims.move_to_end(path.lower())
                    if len(self._claims) > _CLAIMS:
                        self._claims.popitem(last=False)
                    return path
        raise RecordError(f"{self._folder / stem}{ending} belongs to another variation, and so does its second name.")

    def _find_owner(self, path: str) -> str | None:
        """Return the key whose image this file is; None where it is nobody's, as after a crash before the commit."""
        claimed = self._claims.get(path.lower())
        if claimed is not None or not (self._folder / path).exists() or not (self._folder / JOURNAL_FILE).exists():
            return claimed
        with open_for_reading(self._folder) as db:
            row = db.execute("SELECT key FROM images WHERE path = ?", (path,)).fetchone()
        return None if row is None else str(row[0])


_OWN_HASH: Final = 16  # digits of a converted input's own hash, which its name has


def is_image_path(path: str) -> bool:
    """Tell whether a path on record lies among the folder's images: a folder of somebody else may name any."""
    first, *others = path.split("/")
    return first in (IMAGES_FOLDER, INPUTS) and ".." not in others and "\\" not in path


def is_whole_image(file: Path, sha256: str) -> bool:
    """Tell whether an image of the folder is as it was written.

    `sha256` is the hash of its content; of an input that was converted (turned upright, 8 bits a channel) it is made
    from the original's, and the name of the file has the hash of its own content.
    """
    try:
        found = hash_file(file)
    except OSError:
        return False
    return found == sha256 or file.stem.endswith(f"_{found[:_OWN_HASH]}")


def _copy_input(folder: Path, source: Path, sha256: str) -> str:
    try:
        content, ending = read_input(source, sha256)
    except OSError as error:
        raise RecordError(f"{source} could not be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise RecordError(f"{source} {error}.", hint="Run the command again.") from error
    extension = ending if ending[1:].isalnum() and ending.isascii() else ""
    found = hashlib.sha256(content).hexdigest()
    converted = f"_{found[:_OWN_HASH]}" if found != sha256 else ""
    path = f"{INPUTS}/{make_slug(source.stem)}_{sha256[:8]}{converted}{extension}"
    if not (folder / path).exists() or hash_file(folder / path) != found:
        with replace_atomically(folder / path) as copy:
            copy.write(content)
    return path


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
