"""The images and boards of a sandbox: their records, and the folder of PNG files with texts in them."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import io
import struct
import uuid
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sweep.sandbox.http_requests import RECORDS, RefusedError
from sweep.sandbox.item_queue import Store, now
from sweep.sandbox.sandbox_options import BadImage

PixelArray = NDArray[np.uint8]
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = len(_SIGNATURE) + 25  # signature and IHDR


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    """Write an image as a file; PNG lightly compressed, as InvokeAI does."""
    buffer = io.BytesIO()
    image.save(buffer, kind, compress_level=1)
    return buffer.getvalue()


def with_text(png: bytes, texts: Mapping[str, str]) -> bytes:
    """Add text chunks after the header of a PNG."""
    chunks = b"".join(_text(name, text) for name, text in texts.items())
    return png[:_HEADER] + chunks + png[_HEADER:]


def spoil_image(content: bytes, bad: BadImage | None) -> bytes:
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
def plain_image(side: int) -> bytes:
    """Make a square image, of 512 pixels a side about 300 kB, for sandboxes that do not paint."""
    rng = np.random.default_rng(7)
    slope = np.linspace(40, 200, side)[:, None, None] + np.linspace(0, 30, side)[None, :, None]
    grain = rng.normal(0, 0.85, (side, side, 3))
    return encode(Image.fromarray(np.clip(slope + grain, 0, 255).astype(np.uint8)))


ImageRecord = dict[str, Any]
_PRIVATE = ("digest", "metadata", "workflow", "graph", "bad", "file_name")


class ImageLibrary:
    """Images and boards. With `plain` set, every rendering is that file, stored once and served with its own texts."""

    def __init__(self, folder: Path, store: Store, plain: bytes | None) -> None:
        self.images: dict[str, ImageRecord] = {}
        self.boards: dict[str, ImageRecord] = {}
        self.aliases: dict[str, str] = {}  # hostile names of images, for the faults
        self._folder = folder
        self._store = store
        self.plain = plain

    async def load(self) -> None:
        """Load the records of an earlier process, without those whose file is missing."""
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        self.boards = {record["board_id"]: record for record in await self._store.load_records("board")}
        records = await self._store.load_records("image")
        there = await asyncio.to_thread(lambda: {path.name for path in self._folder.iterdir()})
        kept = [record for record in records if record["image_name"] in there or self._is_plain(record)]
        self.images = {record["image_name"]: record for record in kept}

    def _is_plain(self, record: ImageRecord) -> bool:
        return self.plain is not None and record["image_origin"] == "internal"

    async def upload(self, data: bytes, **facts: Any) -> ImageRecord:
        """Store an uploaded file, converted to PNG. Raises OSError where it is no image."""
        content = await asyncio.to_thread(_convert_to_png, data)
        return await self.keep(content, rendered=None, image_origin="external", **facts)

    async def keep(self, content: bytes | None, *, rendered: str | None, **facts: Any) -> ImageRecord:
        """Store an image and count it as a rendering of `rendered`; without `content` it is the plain one.

        `facts` are fields of the record; texts (`metadata`, `workflow`, `graph`) go into the file as well.
        """
        name = f"{uuid.uuid4()}.png"
        texts = _collect_texts(facts)
        body = content if content is not None else self.plain
        assert body is not None
        width, height = struct.unpack(">II", body[16:24])
        if content is not None:
            await asyncio.to_thread((self._folder / name).write_bytes, with_text(content, texts))
        facts.setdefault("digest", hashlib.sha256(content or b"").hexdigest())
        time, url = now(), f"api/v1/images/i/{name}"
        made = {"image_name": name, "image_url": f"{url}/full", "thumbnail_url": f"{url}/thumbnail"}
        made |= {"width": width, "height": height, "created_at": time, "updated_at": time}
        record = {**RECORDS["image"], **made, **facts, "has_workflow": bool(texts)}
        if record["board_id"] not in self.boards:
            record["board_id"] = None
        await self._store.save_record("image", name, record, rendered)
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

    async def content(self, name: str) -> bytes:
        """Read an image's file. Raises RefusedError."""
        record = self.get_record(name)
        return self._read(record) if self._is_plain(record) else await asyncio.to_thread(self._read, record)

    def shrink(self, name: str) -> bytes:
        """Shrink an image to at most 256 pixels a side, as WebP; call it in a thread. Raises RefusedError."""
        image = Image.fromarray(self.decode(name))
        image.thumbnail((256, 256))
        return encode(image, "WEBP")

    def decode(self, name: str) -> NDArray[np.uint8]:
        """Decode an image to height × width × 3 bytes; call it in a thread. Raises RefusedError."""
        with Image.open(io.BytesIO(self._read(self.get_record(name)))) as image:
            return np.asarray(image.convert("RGB"))

    async def delete(self, name: str) -> None:
        """Delete an image and its file. Raises RefusedError."""
        self.get_record(name)
        del self.images[name]
        await self._store.save_record("image", name, None)
        await asyncio.to_thread((self._folder / name).unlink, missing_ok=True)

    def find_upload(self, path: str) -> str | None:
        """Find the newest image that was uploaded from a file of that name; None where there is none."""
        wanted = path.replace("\\", "/").rsplit("/", 1)[-1]
        newest = reversed(list(self.images.items()))  # a copy: this runs in a thread while images are added
        named = (name for name, record in newest if record.get("file_name") == wanted)
        return next(named, None)

    def describe(self, name: str) -> ImageRecord:
        """Describe an image as the API does. Raises RefusedError."""
        return {key: value for key, value in self.get_record(name).items() if key not in _PRIVATE}

    def select(self, query: Mapping[str, str], categories: Sequence[str]) -> list[ImageRecord]:
        """Return the images that a listing asks for, newest first."""
        wanted = list(reversed(self.images.values()))
        if "is_intermediate" in query:
            flag = query["is_intermediate"].lower() in {"true", "1"}
            wanted = [record for record in wanted if record["is_intermediate"] == flag]
        if "board_id" in query:
            board = None if query["board_id"] == "none" else query["board_id"]
            wanted = [record for record in wanted if record["board_id"] == board]
        if categories:
            wanted = [record for record in wanted if record["image_category"] in categories]
        return wanted

    async def create_board(self, name: str) -> ImageRecord:
        """Create a board; several boards may have the same name."""
        time = now()
        named = {"board_id": str(uuid.uuid4()), "board_name": name, "created_at": time, "updated_at": time}
        board: ImageRecord = {**RECORDS["board"], **named}
        self.boards[board["board_id"]] = board
        await self._store.save_record("board", board["board_id"], board)
        return board

    async def delete_board(self, board_id: str, *, with_images: bool) -> ImageRecord:
        """Delete a board, with its images or without. Raises KeyError."""
        del self.boards[board_id]
        await self._store.save_record("board", board_id, None)
        names = [name for name, record in self.images.items() if record["board_id"] == board_id]
        for name in names:
            if with_images:
                await self.delete(name)
            else:
                self.images[name]["board_id"] = None
                await self._store.save_record("image", name, self.images[name])
        kept, gone = ([], names) if with_images else (names, [])
        found = {"board_id": board_id, "deleted_board_images": kept, "deleted_images": gone}
        return {**RECORDS["deleted_board"], **found}


def _collect_texts(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of a record by the names they have in a file."""
    return {f"invokeai_{key}": record[key] for key in ("metadata", "graph", "workflow") if record.get(key)}


_UNSAVABLE = frozenset({"CMYK", "YCbCr", "LAB", "HSV", "F"})  # modes that InvokeAI fails to save as PNG


def _convert_to_png(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
        image: Image.Image = opened
        if image.mode in _UNSAVABLE:
            raise RefusedError(500, "Failed to create image")
        if image.mode not in {"RGB", "RGBA", "L", "LA"}:
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        return encode(image)
