"""Text on images, saving images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any, Final, TypeAlias

from PIL import Image, ImageDraw, ImageFont

from sweep.errors import UsageError, did_you_mean

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAPER: Final = (255, 255, 255)
INK: Final = (27, 32, 48)
DIM: Final = (91, 101, 123)
HOLE: Final = (238, 241, 246)
RED: Final = (179, 48, 76)
PALE_RED: Final = (250, 234, 238)


@cache
def font(size: int) -> Font:
    """DejaVu Sans where it is installed (it knows most scripts), else Pillow's own Aileron."""
    for name in ("DejaVuSans.ttf", "Arial Unicode.ttf", "segoeui.ttf"):
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def width_of(text: str, letters: Font) -> int:
    """In px."""
    return int(letters.getlength(text)) + 1


def wrapped(text: str, letters: Font, width: int, most_lines: int = 4) -> list[str]:
    """`text` in lines of at most `width` px: words too long for one are broken, too many lines end in an ellipsis."""
    lines: list[str] = []
    line = ""
    for word in _pieces(text, letters, width):
        longer = f"{line} {word}".strip()
        if width_of(longer, letters) <= width:
            line = longer
            continue
        lines.append(line)
        line = word
    lines = [*lines, line] if line else lines
    lines = [known for known in lines if known]
    if len(lines) <= most_lines:
        return lines
    last = lines[most_lines - 1]
    while last and width_of(f"{last}…", letters) > width:
        last = last[:-1]
    return [*lines[: most_lines - 1], f"{last}…"]


def _pieces(text: str, letters: Font, width: int) -> list[str]:
    pieces: list[str] = []
    for word in " ".join(text.split()).split(" "):
        rest = word
        while rest and width_of(rest, letters) > width:
            cut = len(rest)
            while cut > 1 and width_of(rest[:cut], letters) > width:
                cut -= 1
            pieces.append(rest[:cut])
            rest = rest[cut:]
        pieces.append(rest)
    return [piece for piece in pieces if piece]


def line_height(size: int) -> int:
    """Of text in a font of `size` px."""
    return round(size * 1.32)


def write_lines(
    draw: ImageDraw.ImageDraw,
    lines: list[str],
    place: tuple[float, float],
    size: int,
    colour: tuple[int, int, int] = INK,
) -> None:
    """Lines below each other, the first at `place`."""
    x, y = place
    for number, line in enumerate(lines):
        draw.text((x, y + number * line_height(size)), line, font=font(size), fill=colour)


def empty_cell(size: tuple[int, int], reason: str, *, failed: bool) -> Image.Image:
    """A cell without an image that says why."""
    cell = Image.new("RGB", size, PALE_RED if failed else HOLE)
    letters = max(10, min(16, size[0] // 14))
    pad = letters // 2 + 3
    most = max(1, (size[1] - 2 * pad) // line_height(letters))
    lines = wrapped(reason, font(letters), size[0] - 2 * pad, most)
    write_lines(ImageDraw.Draw(cell), lines, (pad, pad), letters, RED if failed else DIM)
    return cell


@dataclass(frozen=True, slots=True)
class _Format:
    name: str
    limit: int  # px a side
    options: Mapping[str, Any]


class _Formats:
    """By file ending."""

    def __init__(self, known: Mapping[str, _Format]) -> None:
        self._known = known

    def of(self, path: Path) -> _Format:
        """Raises UsageError for an ending that names no format."""
        found = self._known.get(path.suffix.lower())
        if found is None:
            endings = ", ".join(self._known)
            near = did_you_mean(path.suffix, self._known)
            raise UsageError(f"{path.name} names no format that can be written here.{near}", hint=f"Use {endings}.")
        return found

    def limit(self, path: Path) -> int:
        """The longest side in px."""
        return self.of(path).limit


_JPEG = _Format("JPEG", 65_535, {"quality": 90, "optimize": True})
FORMATS: Final = _Formats(
    {
        ".png": _Format("PNG", 65_535, {"compress_level": 6}),
        ".jpg": _JPEG,
        ".jpeg": _JPEG,
        ".webp": _Format("WEBP", 16_383, {"quality": 85, "method": 4}),
    }
)
MOVING: Final = _Formats(
    {
        ".gif": _Format("GIF", 65_535, {"optimize": True}),
        ".webp": _Format("WEBP", 16_383, {"quality": 80, "method": 4, "minimize_size": True}),
    }
)


def save_still(image: Image.Image, path: Path) -> Path:
    """Writes an image. Raises UsageError for an unknown ending, OSError where it cannot be written."""
    known = FORMATS.of(path)
    _whole(path, lambda file: image.save(file, known.name, **known.options))
    return path


def save_moving(images: Sequence[Image.Image], path: Path, milliseconds: int) -> Path:
    """Writes an animation that goes round for ever, `milliseconds` an image. Raises as `save_still`."""
    known = MOVING.of(path)
    first, *rest = images
    options = {**known.options, "save_all": True, "append_images": rest, "duration": milliseconds, "loop": 0}
    _whole(path, lambda file: first.save(file, known.name, **options))
    return path


def _whole(path: Path, save: Callable[[IO[bytes]], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        try:
            save(part)
            part.close()
            Path(part.name).chmod(0o644)
            Path(part.name).replace(path)
        except BaseException:
            part.close()
            Path(part.name).unlink(missing_ok=True)
            raise
