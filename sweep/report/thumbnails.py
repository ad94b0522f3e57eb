"""Thumbnails of images, made once and kept; links from a page to images; a notebook's preview of results."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Final
from urllib.parse import quote

from PIL import Image

from sweep.errors import RecordError
from sweep.record import RecordedResults, replace_atomically, translate_disk_errors

FOLDER = "thumbs"
SIZE = 256  # px of the longest side
_QUALITY = 75
_MOST_PIXELS = 120_000_000
_BAD_IMAGE = (
    *(OSError, ValueError, SyntaxError, MemoryError),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
"""What Pillow raises for files that are no image, or not a whole one."""


def make_thumb_id(sha256: str) -> str:
    """Return the name of an image's thumbnail: the first 16 digits of its hash."""
    return sha256[:16]


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """The files of a results folder: the images by thumbnail id, in order; the sources' ids by path in the folder."""

    images: Mapping[str, Path]
    sources: Mapping[str, str]
    by_id: Mapping[str, Path]  # images and sources


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLinks:
    """Links from the page to its images.

    `prefix` leads from the page to the results folder, None where it is unknown. `thumbs` are the ids that have a
    thumbnail; they are `embedded`, or files under `thumb_prefix`.
    """

    prefix: str | None
    thumbs: frozenset[str]
    embedded: bool
    originals: str = "beside"  # "inside" the page, or "beside" it
    thumb_prefix: str = ""
    source_ids: Mapping[str, str] = field(default_factory=dict)  # by the source's path in the folder


class Thumbnails:
    """The thumbnails of one results folder, in `place` (by default its `thumbs/`)."""

    def __init__(self, folder: Path, place: Path | None = None) -> None:
        self.place = place or folder / FOLDER

    def path(self, identity: str) -> Path:
        """Return the path of a thumbnail; it need not exist."""
        return self.place / identity[:2] / f"{identity}.webp"

    def make(self, images: Mapping[str, Path]) -> set[str]:
        """Make the missing thumbnails of `images` (thumbnail id → image file) and return the ids that have one now.

        An image that is missing or unreadable has none. Raises RecordError where thumbnails cannot be written.
        """
        wanted = [(identity, source) for identity, source in images.items() if not self.path(identity).is_file()]
        with translate_disk_errors(self.place):
            for head in {identity[:2] for identity, _ in wanted}:
                (self.place / head).mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="thumbs") as pool:
            made = dict(zip((name for name, _ in wanted), pool.map(self._make_one, wanted), strict=True))
        return {identity for identity in images if made.get(identity, True)}

    def read(self, identity: str, source: Path) -> bytes | None:
        """Return a thumbnail, made if it is missing, and kept where that can be; None of an unreadable image."""
        try:
            return self.path(identity).read_bytes() if self.make({identity: source}) else None
        except RecordError:  # a folder that may only be read, or a full disk
            return encode_thumbnail(source)

    def encode(self, identities: Iterable[str]) -> dict[str, str]:
        """Encode thumbnails as base64, for a page that holds them itself."""
        return {identity: base64.b64encode(self.path(identity).read_bytes()).decode() for identity in identities}

    def _make_one(self, wanted: tuple[str, Path]) -> bool:
        identity, source = wanted
        if content := encode_thumbnail(source):
            with replace_atomically(self.path(identity), durable=False) as part:
                part.write(content)
        return content is not None


def build_relative_url(start: Path, folder: Path) -> str | None:
    """Return the address of `folder` seen from `start`, ending in "/"; None where it is too far away."""
    try:
        steps = Path(os.path.relpath(folder.resolve(), start.resolve())).parts
    except ValueError:
        return None
    if steps.count("..") > 1:
        return None
    return "".join(f"{quote(os.fsencode(step))}/" for step in steps)


_NOTEBOOK_IMAGES: Final = 24
_NOTEBOOK_SIZE: Final = 96  # pixels of the longer side


def make_notebook_html(results: RecordedResults) -> str:
    """Write counts and thumbnails of the first images as HTML that holds everything itself, for a notebook."""
    counts, axes = results.counts(), [name for name, _ in results.axes]
    figures: list[str] = []
    for row in results.rows(where=lambda row: row["image_path"] is not None):
        if len(figures) == _NOTEBOOK_IMAGES:
            break
        named = escape(" · ".join(str(row[f"axis_{name}" if f"axis_{name}" in row else name]) for name in axes))
        if content := encode_thumbnail(results.folder / str(row["image_path"]), _NOTEBOOK_SIZE):
            address = f"data:image/webp;base64,{base64.b64encode(content).decode()}"
            figures.append(f'<img src="{address}" title="{named}" alt="{named}" style="margin:2px">')
    done = f"{counts.completed:,} of {counts.points:,} images"
    more = f", the first {len(figures)} shown" if counts.completed > len(figures) else ""
    return f"<p><b>{escape(results.folder.name)}</b>: {done}{more}</p><div>{''.join(figures)}</div>"


def encode_thumbnail(source: Path, size: int = SIZE) -> bytes | None:
    """Return the image in `source` as a WebP of at most `size` px; None where it is unreadable."""
    small, stream = shrink(source, size), BytesIO()
    if small is None:
        return None
    small.save(stream, "WEBP", quality=_QUALITY, method=4)
    return stream.getvalue()


def shrink(source: Path, size: int) -> Image.Image | None:
    """Read the image in `source`, its longer side at most `size` px, as RGB or RGBA; None where it is unreadable."""
    try:
        with Image.open(source) as image:
            if image.width * image.height > _MOST_PIXELS:
                return None
            image.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
            return image.convert("RGBA" if image.has_transparency_data else "RGB")
    except _BAD_IMAGE:
        return None
