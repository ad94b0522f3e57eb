"""The images and boards of a sandbox: their records, and the folder of PNG files with texts in them."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import io
import struct
import uuid
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sweep.sandbox.http_requests import RefusedError
from sweep.sandbox.item_queue import Store, now
from sweep.sandbox.sandbox_options import BadImage

PixelArray = NDArray[np.uint8]
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = len(_SIGNATURE) + 25  # signature and IHDR


def encode(image: Image.Image) -> bytes:
    """Write an image as a PNG, lightly compressed, as InvokeAI does."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def with_text(png: bytes, texts: Mapping[str, str]) -> bytes:
    """Add text chunks after the header of a PNG."""
    chunks = b"".join(_text(name, text) for name, text in texts.items())
    return png[:_HEADER] + chunks + png[_HEADER:]


def _spoil(content: bytes, bad: BadImage | None) -> bytes:
    """Return the file that is served for an image, spoiled as `bad` says."""
    if bad == "truncated":
        return content[: len(content) * 2 // 3]
    if bad == "html":
        return b"<!DOCTYPE html><html><body>Bad gateway</body></html>"
    return _make_bomb() if bad == "bomb" else content


@functools.cache
def _make_bomb(side: int = 50_000) -> bytes:
    """Make a small file that claims side × side pixels and would unpack to gigabytes."""
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


@functools.cache
def make_plain_image(side: int) -> bytes:
    """Make a square image, of 512 pixels a side about 300 kB, for sandboxes that do not paint."""
    rng = np.random.default_rng(7)
    slope = np.linspace(40, 200, side)[:, None, None] + np.linspace(0, 30, side)[None, :, None]
    grain = rng.normal(0, 0.85, (side, side, 3))
    return encode(Image.fromarray(np.clip(slope + grain, 0, 255).astype(np.uint8)))


ImageRecord = dict[str, Any]
_NEW: ImageRecord = {
    "image_origin": "internal",
    "image_category": "general",
    "is_intermediate": False,
    "starred": False,
    "session_id": None,
    "node_id": None,
    "board_id": None,
}
_PRIVATE = ("digest", "metadata", "graph", "bad", "file_name")


class ImageLibrary:
    """Images and boards. With `plain` set, every rendering is that file, stored once and served with its own texts."""

    def __init__(self, folder: Path, store: Store, plain: bytes | None) -> None:
        self.images: dict[str, ImageRecord] = {}
        self.boards: dict[str, ImageRecord] = {}
        self.aliases: dict[str, str] = {}  # hostile names of images, for the faults
        self.renders: Counter[str] = Counter()  # how often each image was painted, also by earlier processes
        self._folder = folder
        self._store = store
        self.plain = plain

    async def load(self) -> None:
        """Load the records of an earlier process, without those whose file is missing."""
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        self.boards = await self._store.load("board")
        self.renders.update(await self._store.load("render"))
        records = await self._store.load("image")
        there = await asyncio.to_thread(lambda: {path.name for path in self._folder.iterdir()})
        self.images = {name: record for name, record in records.items() if name in there or self._is_plain(record)}

    def _is_plain(self, record: ImageRecord) -> bool:
        return self.plain is not None and record["image_origin"] == "internal"

    async def upload(self, data: bytes, **facts: Any) -> ImageRecord:
        """Store an uploaded file, converted to PNG. Raises OSError where it is no image."""
        content = await asyncio.to_thread(_convert_to_png, data)
        return await self.keep(content, rendered=None, image_origin="external", **facts)

    async def keep(self, content: bytes | None, *, rendered: str | None, **facts: Any) -> ImageRecord:
        """Store an image and count it as a rendering of `rendered`; without `content` it is the plain one.

        `facts` are fields of the record; texts (`metadata`, `graph`) go into the file as well.
        """
        name = f"{uuid.uuid4()}.png"
        body = content if content is not None else self.plain
        assert body is not None
        width, height = struct.unpack(">II", body[16:24])
        if content is not None:
            await asyncio.to_thread((self._folder / name).write_bytes, with_text(content, _collect_texts(facts)))
        facts.setdefault("digest", hashlib.sha256(content or b"").hexdigest())
        record = {**_NEW, "image_name": name, "width": width, "height": height, "created_at": now(), **facts}
        if record["board_id"] not in self.boards:
            record["board_id"] = None
        saved: list[tuple[str, str, Any]] = [("image", name, record)]
        if rendered:
            self.renders[rendered] += 1
            saved.append(("render", rendered, self.renders[rendered]))
        await self._store.save(*saved)
        self.images[name] = record
        return record

    def get_record(self, name: str) -> ImageRecord:
        """Get the record of an image. Raises RefusedError with 404."""
        record = self.images.get(self.aliases.get(name, name))
        if record is None:
            raise RefusedError(404, "Not Found")
        return record

    def _read(self, record: ImageRecord) -> bytes:
        if self.plain is not None and self._is_plain(record):
            return with_text(self.plain, _collect_texts(record))
        path: Path = self._folder / record["image_name"]
        return path.read_bytes()

    async def read_content(self, name: str) -> bytes:
        """Read the file that is served for an image. Raises RefusedError."""
        record = self.get_record(name)
        file = self._read(record) if self._is_plain(record) else await asyncio.to_thread(self._read, record)
        return _spoil(file, record.get("bad"))

    def decode(self, name: str) -> NDArray[np.uint8]:
        """Decode an image to height × width × 3 bytes; call it in a thread. Raises RefusedError."""
        with Image.open(io.BytesIO(self._read(self.get_record(name)))) as image:
            return np.asarray(image.convert("RGB"))

    async def delete(self, name: str) -> ImageRecord:
        """Delete an image and its file, and return what its record was. Raises RefusedError."""
        record = self.images.pop(name, None)
        if record is None:
            raise RefusedError(404, "Image not found")
        await self._store.save(("image", name, None))
        await asyncio.to_thread((self._folder / name).unlink, missing_ok=True)
        return record

    def find_upload(self, path: str) -> str | None:
        """Find the newest image that was uploaded from a file of that name; None where there is none."""
        wanted = path.replace("\\", "/").rsplit("/", 1)[-1]
        newest = reversed(list(self.images.items()))  # a copy: this runs in a thread while images are added
        named = (name for name, record in newest if record.get("file_name") == wanted)
        return next(named, None)

    def describe(self, name: str) -> ImageRecord:
        """Describe an image as the API does. Raises RefusedError."""
        return {key: value for key, value in self.get_record(name).items() if key not in _PRIVATE}

    async def create_board(self, name: str) -> ImageRecord:
        """Create a board; several boards may have the same name."""
        board: ImageRecord = {"board_id": str(uuid.uuid4()), "board_name": name, "created_at": now()}
        self.boards[board["board_id"]] = board
        await self._store.save(("board", board["board_id"], board))
        return board


def _collect_texts(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of a record by the names they have in a file."""
    return {f"invokeai_{key}": record[key] for key in ("metadata", "graph") if record.get(key)}


def _convert_to_png(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as opened:
        has_alpha = "A" in opened.getbands() or "transparency" in opened.info
        return encode(opened.convert("RGBA" if has_alpha else "RGB"))
