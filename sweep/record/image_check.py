"""Verifies untrusted PNG, JPEG, WebP."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from sweep.errors import TransientError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile


Inflate: TypeAlias = Callable[[bytes | memoryview, int], tuple[bytes, bool]]
"""At most so many bytes of a zlib stream's content, and whether the stream ended there with the right checksum.

Raises ValueError where the stream is damaged.
"""


def with_zlib(stream: bytes | memoryview, most: int) -> tuple[bytes, bool]:
    """By Python's own library."""
    inflating = zlib.decompressobj()
    try:
        return inflating.decompress(stream, most), inflating.eof
    except zlib.error as error:
        raise ValueError(str(error)) from None


def _with_isal() -> Inflate | None:
    """By Intel's Intelligent Storage Acceleration Library (`pip install isal`); None where it is not installed."""
    try:
        from isal import isal_zlib
    except ImportError:
        return None

    def inflate(stream: bytes | memoryview, most: int) -> tuple[bytes, bool]:
        inflating = isal_zlib.decompressobj()
        try:
            return inflating.decompress(stream, most), inflating.eof
        except isal_zlib.error as error:  # type: ignore[misc]  # its stub takes the class for an instance
            raise ValueError(str(error)) from None

    return inflate


with_isal: Final = _with_isal()
inflate: Final[Inflate] = with_isal or with_zlib


ImageFormat = Literal["png", "jpg", "webp"]
MAX_PIXELS = 50_000_000  # 7,000 × 7,000: above what these models paint, below what exhausts memory
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What was found; `format` is also the file's extension."""

    format: ImageFormat
    width: int
    height: int


def verify_image(data: bytes, *, most_pixels: int = MAX_PIXELS) -> ImageFacts:
    """Decode `data` fully (milliseconds: call it in a worker thread).

    Raises TransientError of kind BadImage where it is no PNG, JPEG or WebP, is damaged or truncated, or has more
    than `most_pixels`: it may have been damaged on its way, and the next attempt tells.
    """
    try:
        found = _format(data)
        width, height = _DECLARED[found](data)
        if not (width and height):
            raise _bad("has no pixels")
        if width * height > most_pixels:
            raise _bad(f"is {width}×{height}, which is more than sweep accepts")
        size = _decode(found, data)
    except struct.error as error:
        raise _bad("is truncated") from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        EOFError,
        zlib.error,
    ) as error:
        raise _bad(f"does not decode ({error})") from error
    if size != (width, height):
        raise _bad(f"says {width}×{height} but decodes to {size[0]}×{size[1]}")
    return ImageFacts(format=found, width=width, height=height)


def _bad(what: str) -> TransientError:
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
    raise _bad(f"is {seen}")


def _png_size(data: bytes) -> tuple[int, int]:
    """Every chunk's checksum is right and the last is IEND, so not a byte was lost."""
    view, at, kind = memoryview(data), len(_PNG), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        (expected,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(view[at + 4 : at + 8 + length]) != expected:
            raise ValueError(f"the checksum of chunk {kind!r} is wrong")
        at += 12 + length
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int]:
    from PIL.JpegImagePlugin import JpegImageFile

    if b"\xff\xd9" not in data[-4096:]:
        raise ValueError("its end is missing")
    with JpegImageFile(io.BytesIO(data)) as image:  # reads headers only
        return image.size


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    (length,) = struct.unpack_from("<I", data, 4)
    if length + 8 > len(data):
        raise ValueError("its end is missing")
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


_DECLARED = {"png": _png_size, "jpg": _jpeg_size, "webp": _webp_size}


def _decode(found: ImageFormat, data: bytes) -> tuple[int, int]:
    if found == "png" and (size := _inflated(data)):
        return size
    with _plugin(found)(io.BytesIO(data)) as image:
        image.load()
        return image.size


def _inflated(data: bytes) -> tuple[int, int] | None:
    """Return the size of a PNG of the kinds that servers write, found whole; None where Pillow is to tell.

    Undoing the filters of its rows cannot fail once every row is there and names a filter that exists. So the
    compressed stream, with its own checksum, is all there is to try: less work than decoding, and outside of the
    interpreter's lock, which the event loop of a run needs meanwhile.
    """
    width, height, depth, color, method, filtering, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    channels = _CHANNELS.get(color)
    if channels is None or depth != _DEPTH or method or filtering or interlaced:
        return None
    chunks = list(_chunks(data))
    if not all(kind in _SIMPLE or (kind == b"iTXt" and _plain_text(body)) for kind, body in chunks):
        return None
    stream = [body for kind, body in chunks if kind == b"IDAT"]
    row = 1 + width * channels
    pixels, ended = inflate(stream[0] if len(stream) == 1 else b"".join(stream), row * height + 1)
    if ended and len(pixels) < row * height:  # which Pillow fills up in silence
        raise ValueError("rows are missing")
    whole = ended and len(pixels) == row * height and max(pixels[::row]) <= _LAST_FILTER
    return (width, height) if whole else None


_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by the header's colour type: grey, RGB, grey with alpha, RGB with alpha
_DEPTH = 8  # bits
_LAST_FILTER = 4
_LONGEST_KEYWORD = 82  # bytes, with the end of the keyword and the mark after it
_SIMPLE = frozenset({b"IHDR", b"IDAT", b"IEND", b"tEXt", b"pHYs", b"gAMA", b"sRGB", b"cHRM", b"tIME", b"bKGD"})


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of each; their checksums have been looked at before."""
    view, at, kind = memoryview(data), len(_PNG), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, view[at + 8 : at + 8 + length]
        at += 12 + length


def _plain_text(body: memoryview) -> bool:
    """Whether an international text is not compressed: the byte after its keyword says so."""
    _, _, rest = bytes(body[:_LONGEST_KEYWORD]).partition(b"\0")
    return rest[:1] == b"\0"


def _plugin(found: ImageFormat) -> type[ImageFile]:
    """By itself, as Image.open warns of large images through a process-wide switch."""
    if found == "png":
        from PIL.PngImagePlugin import PngImageFile

        return PngImageFile
    if found == "jpg":
        from PIL.JpegImagePlugin import JpegImageFile

        return JpegImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    return WebPImageFile
