"""Text on images, thumbnails, and how images are saved."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from html import escape
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

from PIL import Image, ImageDraw, ImageFont

from sweep.errors import UsageError, did_you_mean
from sweep.record import RecordedResults, replace_atomically

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAPER: Final = (255, 255, 255)
INK: Final = (27, 32, 48)
DIM: Final = (91, 101, 123)
HOLE: Final = (238, 241, 246)
RED: Final = (179, 48, 76)
PALE_RED: Final = (250, 234, 238)


@cache
def load_font(size: int) -> Font:
    """Load DejaVu Sans where it is installed (it covers most scripts), else Pillow's own Aileron."""
    for name in ("DejaVuSans.ttf", "Arial Unicode.ttf", "segoeui.ttf"):
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def measure_width(text: str, letters: Font) -> int:
    """Measure the width of a text in px."""
    return int(letters.getlength(text)) + 1


def wrap_text(text: str, letters: Font, width: int, most_lines: int = 4) -> list[str]:
    """Wrap `text` into lines of at most `width` px; break words that are too long, end too many lines in "…"."""
    lines: list[str] = []
    line = ""
    for word in _break_words(text, letters, width):
        longer = f"{line} {word}".strip()
        if measure_width(longer, letters) <= width:
            line = longer
            continue
        lines.append(line)
        line = word
    lines = [*lines, line] if line else lines
    lines = [known for known in lines if known]
    if len(lines) <= most_lines:
        return lines
    last = lines[most_lines - 1]
    while last and measure_width(f"{last}…", letters) > width:
        last = last[:-1]
    return [*lines[: most_lines - 1], f"{last}…"]


def _break_words(text: str, letters: Font, width: int) -> list[str]:
    pieces: list[str] = []
    for word in " ".join(text.split()).split(" "):
        rest = word
        while rest and measure_width(rest, letters) > width:
            cut = len(rest)
            while cut > 1 and measure_width(rest[:cut], letters) > width:
                cut -= 1
            pieces.append(rest[:cut])
            rest = rest[cut:]
        pieces.append(rest)
    return [piece for piece in pieces if piece]


def measure_line_height(size: int) -> int:
    """Return the height of a line in px for a font of `size` px."""
    return round(size * 1.32)


def write_lines(
    draw: ImageDraw.ImageDraw,
    lines: list[str],
    place: tuple[float, float],
    size: int,
    colour: tuple[int, int, int] = INK,
) -> None:
    """Write lines below each other, the first at `place`."""
    x, y = place
    for number, line in enumerate(lines):
        draw.text((x, y + number * measure_line_height(size)), line, font=load_font(size), fill=colour)


def draw_empty_cell(size: tuple[int, int], reason: str, *, failed: bool) -> Image.Image:
    """Draw a cell that says why it has no image."""
    cell = Image.new("RGB", size, PALE_RED if failed else HOLE)
    letters = max(10, min(16, size[0] // 14))
    pad = letters // 2 + 3
    most = max(1, (size[1] - 2 * pad) // measure_line_height(letters))
    lines = wrap_text(reason, load_font(letters), size[0] - 2 * pad, most)
    write_lines(ImageDraw.Draw(cell), lines, (pad, pad), letters, RED if failed else DIM)
    return cell


@dataclass(frozen=True, slots=True)
class _Format:
    name: str
    limit: int  # px a side
    options: Mapping[str, Any]


class _Formats:
    """File formats by file ending."""

    def __init__(self, known: Mapping[str, _Format]) -> None:
        self._known = known

    def of(self, path: Path) -> _Format:
        """Return the format of a path. Raises UsageError for an ending that names none."""
        found = self._known.get(path.suffix.lower())
        if found is None:
            endings = ", ".join(self._known)
            near = did_you_mean(path.suffix, self._known)
            raise UsageError(f"{path.name} has an ending that sweep cannot write.{near}", hint=f"Use {endings}.")
        return found

    def limit(self, path: Path) -> int:
        """Return the longest side in px that the format of `path` allows."""
        return self.of(path).limit


_JPEG = _Format("JPEG", 65_535, {"quality": 90, "optimize": True})
IMAGE_FORMATS: Final = _Formats(
    {
        ".png": _Format("PNG", 65_535, {"compress_level": 6}),
        ".jpg": _JPEG,
        ".jpeg": _JPEG,
        ".webp": _Format("WEBP", 16_383, {"quality": 85, "method": 4}),
    }
)
ANIMATION_FORMATS: Final = _Formats(
    {
        ".gif": _Format("GIF", 65_535, {"optimize": True}),
        ".webp": _Format("WEBP", 16_383, {"quality": 80, "method": 4, "minimize_size": True}),
    }
)


def save_image(image: Image.Image, path: Path) -> Path:
    """Save an image, whole or not at all. Raises UsageError for an unknown ending, RecordError where it fails."""
    known = IMAGE_FORMATS.of(path)
    _replace_file(path, lambda file: image.save(file, known.name, **known.options))
    return path


def save_animation(images: Sequence[Image.Image], path: Path, milliseconds: int) -> Path:
    """Save an endless animation, `milliseconds` per image. Raises as `save_image` does."""
    known = ANIMATION_FORMATS.of(path)
    first, *rest = images
    options = {**known.options, "save_all": True, "append_images": rest, "duration": milliseconds, "loop": 0}
    _replace_file(path, lambda file: first.save(file, known.name, **options))
    return path


def _replace_file(path: Path, save: Callable[[IO[bytes]], object]) -> None:
    with replace_atomically(path) as part:
        save(part)


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


class Thumbnails:
    """The thumbnails of one results folder, in `place` (by default its `thumbs/`)."""

    def __init__(self, folder: Path, place: Path | None = None) -> None:
        self.folder = folder
        self.place = place or folder / FOLDER

    def path(self, identity: str) -> Path:
        """Return the path of a thumbnail; it need not exist."""
        return self.place / identity[:2] / f"{identity}.webp"

    def make(self, images: Mapping[str, Path]) -> set[str]:
        """Make the missing thumbnails of `images` (thumbnail id → image file) and return the ids that have one now.

        An image that is missing or unreadable has none. Raises RecordError where thumbnails cannot be written.
        """
        wanted = [(identity, source) for identity, source in images.items() if not self.path(identity).is_file()]
        for head in {identity[:2] for identity, _ in wanted}:
            (self.place / head).mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="thumbs") as pool:
            made = dict(zip((name for name, _ in wanted), pool.map(self._make_one, wanted), strict=True))
        return {identity for identity in images if made.get(identity, True)}

    def find_or_make(self, identity: str, image: Path) -> Path | None:
        """Return the thumbnail of one image, made where it is missing; None where there is no such image."""
        return self.path(identity) if identity in self.make({identity: image}) else None

    def encode(self, identities: Iterable[str]) -> dict[str, str]:
        """Encode thumbnails as base64, for a page that holds them itself."""
        return {identity: base64.b64encode(self.path(identity).read_bytes()).decode() for identity in identities}

    def _make_one(self, wanted: tuple[str, Path]) -> bool:
        identity, source = wanted
        small = shrink(source, SIZE)
        if small is None:
            return False
        with replace_atomically(self.path(identity), durable=False) as part:
            small.save(part, "WEBP", quality=_QUALITY, method=4)
        return True


_NOTEBOOK_IMAGES: Final = 24
_NOTEBOOK_SIZE: Final = 96  # pixels of the longer side


def make_notebook_html(results: RecordedResults) -> str:
    """Write counts and thumbnails of the first images as HTML that holds everything itself, for a notebook."""
    counts, axes = results.counts(), [name for name, _ in results.axes]
    figures: list[str] = []
    for row in results.rows(where=lambda row: row["image_path"] is not None):
        if len(figures) == _NOTEBOOK_IMAGES:
            break
        small = shrink(results.folder / str(row["image_path"]), _NOTEBOOK_SIZE)
        named = escape(" · ".join(str(row[f"axis_{name}" if f"axis_{name}" in row else name]) for name in axes))
        if small is not None:
            stream = BytesIO()
            small.save(stream, "WEBP", quality=_QUALITY)
            address = f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
            figures.append(f'<img src="{address}" title="{named}" alt="{named}" style="margin:2px">')
    done = f"{counts.completed:,} of {counts.points:,} images"
    more = f", the first {len(figures)} shown" if counts.completed > len(figures) else ""
    return f"<p><b>{escape(results.folder.name)}</b>: {done}{more}</p><div>{''.join(figures)}</div>"


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
