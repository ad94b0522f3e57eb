"""PNG files: text chunks put in by hand, so that one encoded picture serves many, and bad files for the fault tests."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = len(_SIGNATURE) + 25  # signature and IHDR


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """Height × width × 3 (or 4) bytes as a PNG, lightly compressed as InvokeAI does."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def with_text(png: bytes, texts: Mapping[str, str]) -> bytes:
    """The same picture with text chunks after its header."""
    chunks = b"".join(_text(name, text) for name, text in texts.items())
    return png[:_HEADER] + chunks + png[_HEADER:]


def texts(png: bytes) -> dict[str, str]:
    """The text chunks of a PNG."""
    found: dict[str, str] = {}
    place = len(_SIGNATURE)
    while place + 12 <= len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        kind, body = png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        if kind == b"tEXt":
            name, _, text = body.partition(b"\0")
            found[name.decode("latin-1")] = text.decode("latin-1")
        elif kind == b"iTXt":
            name, _, rest = body.partition(b"\0")
            found[name.decode("latin-1")] = rest[2:].split(b"\0", 2)[2].decode("utf-8")
        elif kind == b"IDAT":
            break
        place += 12 + length
    return found


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height in pixels."""
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def bomb(side: int = 50_000) -> bytes:
    """A small file that claims side × side pixels and would unpack to gigabytes."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    squeezed = zlib.compressobj(9)
    line = bytes(1 + 3 * side)
    body = b"".join(squeezed.compress(line) for _ in range(64)) + squeezed.flush()
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _text(name: str, text: str) -> bytes:
    try:
        return _chunk(b"tEXt", name.encode("latin-1") + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return _chunk(b"iTXt", name.encode("latin-1") + b"\0\0\0\0\0" + text.encode("utf-8"))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
