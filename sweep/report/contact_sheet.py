"""Contact sheets, filmstrips and animations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

from PIL import Image, ImageDraw, ImageFont, ImageOps

from sweep.errors import UsageError, did_you_mean
from sweep.record import replace_atomically
from sweep.report.page_data import AxisColumn, LevelJson, ReportData, encode_axis, read_report_data, to_json_value
from sweep.report.thumbnails import shrink
from sweep.text import format_value

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAPER: Final = (255, 255, 255)
INK: Final = (27, 32, 48)
DIM: Final = (91, 101, 123)
HOLE: Final = (238, 241, 246)
RED: Final = (179, 48, 76)
PALE_RED: Final = (250, 234, 238)


@dataclass(frozen=True, slots=True)
class Levels:
    """An axis, its levels in order, and the index of each row's level."""

    axis: AxisColumn
    levels: Sequence[LevelJson]
    at: Sequence[int]

    def label(self, index: int) -> str:
        """Format one level for people."""
        return format_level(self.levels[index], self.axis.kind)


def format_level(level: LevelJson, kind: str = "") -> str:
    """Format a level for people: short numbers, file names without their folder."""
    if level is None:
        return "none"
    return str(level).rsplit("/", 1)[-1] if kind == "image" else format_value(level)


def find_levels(data: ReportData, name: str) -> Levels:
    """Return the axis called `name` with its levels. Raises UsageError where there is none."""
    for axis in data.axes:
        if axis.name == name:
            payload = encode_axis(axis, data.frame)
            return Levels(axis, payload["levels"], payload["at"])
    names = [axis.name for axis in data.axes]
    known = f"{data.name} has the axes {', '.join(names)}." if names else f"{data.name} has no axes."
    raise UsageError(f"{name} is not an axis.{did_you_mean(name, names)}", hint=known)


def select_rows(data: ReportData, free: Sequence[str], fixed: Mapping[str, Any]) -> tuple[list[int], dict[str, str]]:
    """Select the rows at one level of every axis that is not `free`, and list those levels as text by axis.

    Where `fixed` names no level, it is the first level of the axis that still has rows. Raises UsageError for an
    unknown axis or level.
    """
    for name in fixed:
        find_levels(data, name)
    rows = list(range(len(data.frame)))
    said: dict[str, str] = {}
    for axis in data.axes:
        if axis.name in free and axis.name not in fixed:
            continue
        known = find_levels(data, axis.name)
        index = (
            _find_level(known, fixed[axis.name])
            if axis.name in fixed
            else min((known.at[row] for row in rows), default=0)
        )
        rows = [row for row in rows if known.at[row] == index]
        if len(known.levels) > 1:
            said[axis.name] = known.label(index)
    return rows, said


def _find_level(known: Levels, value: Any) -> int:
    labels = [known.label(index) for index in range(len(known.levels))]
    for index, level in enumerate(known.levels):
        if level == value or labels[index] == str(value):
            return index
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    for index, level in enumerate(known.levels):
        if isinstance(level, int | float) and level == number:
            return index
    hint = f"Its levels are {', '.join(labels[:20])}{', …' if len(labels) > 20 else ''}."
    raise UsageError(f"{known.axis.name} has no level {value}.{did_you_mean(str(value), labels)}", hint=hint)


_GAP: Final = 4
_PAD: Final = 14
_MOST_PIXELS: Final = 120_000_000  # of one file: beyond, viewers and this computer have a hard time


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRequest:
    """What a sheet shows: axis `x` across, `y` down (None: one line), the others at the levels in `fixed`.

    An axis without a fixed level stands at its first. `size` is the width of a cell in px. Without `x`, a numeric axis
    stands across and another one down.
    """

    x: str | None = None
    y: str | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    size: int = 256


@dataclass(frozen=True, slots=True)
class _SheetSizes:
    """Sizes in px of everything on a sheet."""

    cell: tuple[int, int]
    left: int
    top: int
    letters: int


def write_sheet(folder: Path, request: SheetRequest, out: Path | None = None) -> tuple[Path, ...]:
    """Draw a contact sheet of the results in `folder` to `out`, by default `sheet-X-Y.png` in it.

    The ending of `out` names the format: PNG, JPEG or WebP. A sheet beyond the format's limit (or 120 megapixels) is
    split into several files, numbered from 1. Failed and missing cells say so.

    Raises:
        UsageError: The axis, level or format is unknown, or there is nothing to draw.
        RecordError: The file cannot be written.
    """
    data = read_drawable(folder)
    request = request if request.x is not None else _choose_axes(data, request)
    target = out or folder / f"sheet-{'-'.join(name for name in (request.x, request.y) if name)}.png"
    limit = IMAGE_FORMATS.limit(target)
    across = find_levels(data, request.x or "")
    down = None if request.y is None else find_levels(data, request.y)
    rows, said = select_rows(data, [name for name in (request.x, request.y) if name], request.fixed)
    cells = {(0 if down is None else down.at[row], across.at[row]): row for row in reversed(rows)}
    used_x = sorted({x for _, x in cells})
    used_y = sorted({y for y, _ in cells})
    title = [data.name, " · ".join(f"{name} {level}" for name, level in said.items())]
    frame = _plan_sheet(data, rows, request.size, down)
    frame = replace(frame, top=_measure_head(frame, [across.label(x) for x in used_x], title))
    parts = [
        (ys, xs)
        for ys in _split_levels(used_y, frame, limit, down=True)
        for xs in _split_levels(used_x, frame, limit, down=False)
    ]
    written: list[Path] = []
    for number, (ys, xs) in enumerate(parts, start=1):
        sheet = _draw_sheet(data, frame, title, (across, xs), (down, ys), cells)
        path = target if len(parts) == 1 else target.with_name(f"{target.stem}-{number}{target.suffix}")
        written.append(save_image(sheet, path))
    return tuple(written)


def _choose_axes(data: ReportData, request: SheetRequest) -> SheetRequest:
    """Choose the axes of a sheet as the page does: a numeric one across, another that is no seed down."""
    free = [axis for axis in data.axes if axis.name not in request.fixed and data.frame[axis.column].nunique() > 1]
    if not free:
        free = list(data.axes[:1])
    if not free:
        raise UsageError(f"{data.name} has no axes: there is one image, which needs no sheet.")
    across = next((axis for axis in free if axis.kind in {"number", "integer"}), free[0])
    others = [axis for axis in free if axis is not across]
    down = next((axis for axis in others if axis.kind != "seed"), next(iter(others), None))
    return replace(request, x=across.name, y=request.y or (down.name if down is not None else None))


def read_drawable(folder: Path) -> ReportData:
    """Read the results in `folder`. Raises UsageError where there is nothing to draw."""
    data = read_report_data(Path(folder))
    if data.problem is not None:
        raise UsageError(data.problem)
    if data.frame.empty:
        raise UsageError(f"Nothing has been rendered in {folder} yet.")
    return data


def _plan_sheet(data: ReportData, rows: Sequence[int], size: int, down: Levels | None) -> _SheetSizes:
    height = round(size * find_aspect(data, rows))
    letters = max(11, min(20, size // 14))
    labels = [] if down is None else [down.label(index) for index in range(len(down.levels))]
    longest = max((measure_width(text, load_font(letters)) for text in labels), default=0)
    left = 0 if down is None else min(longest, max(size, 90)) + 12
    return _SheetSizes((size, height), left + _PAD, 0, letters)


def _measure_head(frame: _SheetSizes, labels: Sequence[str], title: Sequence[str]) -> int:
    """Measure the space for the title, the line below it, and the highest column label."""
    step = measure_line_height(frame.letters)
    most = max((len(_wrap_label(frame, label)) for label in labels), default=1)
    return _PAD + (2 if title[1] else 1) * step + step // 2 + most * step + 4


def _wrap_label(frame: _SheetSizes, label: str) -> list[str]:
    return wrap_text(label, load_font(frame.letters), frame.cell[0] - 4, 3)


def find_aspect(data: ReportData, rows: Sequence[int]) -> float:
    """Return height divided by width of the first image among `rows`, 1 where no size is known."""
    for row in rows:
        width, height = (to_json_value(data.frame[name].iloc[row]) for name in ("width", "height"))
        if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
            return min(3.0, max(1 / 3, height / width))
    return 1.0


def _split_levels(levels: Sequence[int], frame: _SheetSizes, limit: int, *, down: bool) -> list[list[int]]:
    """Split levels so that a sheet of each part stays within the format's limit and the limit of pixels."""
    edge = frame.top if down else frame.left
    step = frame.cell[1 if down else 0] + _GAP
    side = min(limit, int(_MOST_PIXELS**0.5))
    most = max(1, (side - edge - _PAD) // step)
    return [list(levels[at : at + most]) for at in range(0, len(levels), most)] or [[]]


def _draw_sheet(
    data: ReportData,
    frame: _SheetSizes,
    title: Sequence[str],
    across: tuple[Levels, Sequence[int]],
    down: tuple[Levels | None, Sequence[int]],
    cells: Mapping[tuple[int, int], int],
) -> Image.Image:
    (wide, high), (x_axis, xs), (y_axis, ys) = frame.cell, across, down
    width = max(frame.left + len(xs) * (wide + _GAP) + _PAD, 200)
    sheet = Image.new("RGB", (width, frame.top + len(ys) * (high + _GAP) + _PAD), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_head(draw, frame, title, (x_axis, xs), y_axis, width)
    for line, y in enumerate(ys):
        top = frame.top + line * (high + _GAP)
        if y_axis is not None:
            lines = wrap_text(y_axis.label(y), load_font(frame.letters), frame.left - _PAD - 10, 6)
            middle = top + (high - len(lines) * measure_line_height(frame.letters)) / 2
            write_lines(draw, lines, (_PAD, middle), frame.letters)
        for column, x in enumerate(xs):
            cell = draw_cell(data, cells.get((y, x)), frame.cell)
            sheet.paste(cell, (frame.left + column * (wide + _GAP), top))
    return sheet


def _draw_head(
    draw: ImageDraw.ImageDraw,
    frame: _SheetSizes,
    title: Sequence[str],
    across: tuple[Levels, Sequence[int]],
    y_axis: Levels | None,
    width: int,
) -> None:
    axis, xs = across
    step = measure_line_height(frame.letters)
    names = f"{axis.axis.name} →" + ("" if y_axis is None else f" · {y_axis.axis.name} ↓")
    write_lines(
        draw,
        wrap_text(f"{title[0]} · {names}", load_font(frame.letters), width - 2 * _PAD, 1),
        (_PAD, _PAD),
        frame.letters,
    )
    if title[1]:
        small = frame.letters - 2
        write_lines(draw, wrap_text(title[1], load_font(small), width - 2 * _PAD, 1), (_PAD, _PAD + step), small, DIM)
    for column, x in enumerate(xs):
        lines = _wrap_label(frame, axis.label(x))
        left = frame.left + column * (frame.cell[0] + _GAP)
        for number, line in enumerate(lines):
            inset = (frame.cell[0] - measure_width(line, load_font(frame.letters))) / 2
            place = (left + inset, frame.top - 4 - (len(lines) - number) * step)
            draw.text(place, line, font=load_font(frame.letters), fill=INK)


def draw_cell(data: ReportData, row: int | None, size: tuple[int, int]) -> Image.Image:
    """Draw a row's image fitted into `size`, or a cell that says why there is none."""
    if row is None:
        return draw_empty_cell(size, "–", failed=False)
    record = data.frame.iloc[row]
    status, error, path = (to_json_value(record[name]) for name in ("status", "error", "image_path"))
    if not isinstance(path, str):
        return draw_empty_cell(size, f"{status}: {error}" if error else str(status), failed=status == "failed")
    image = shrink(data.folder / path, max(size))
    if image is None:
        return draw_empty_cell(size, "image missing or unreadable", failed=True)
    if image.width > size[0] or image.height > size[1]:  # a smaller one is not enlarged: it would look soft
        image = ImageOps.contain(image, size, Image.Resampling.LANCZOS)
    cell = Image.new("RGB", size, PAPER)
    place = ((size[0] - image.width) // 2, (size[1] - image.height) // 2)
    cell.paste(image, place, image if image.mode == "RGBA" else None)
    return cell


_FRAME_GAP: Final = 4
_FRAME_PAD: Final = 14
_LETTERS: Final = 15
_MOST_ORIGIN: Final = 3  # lines that name the variation of an image
_PREFERRED: Final = ("structure_coarse", "ssim")


def write_animation(
    folder: Path,
    along: str,
    *,
    fixed: Mapping[str, Any] | None = None,
    size: int = 512,
    milliseconds: int = 400,
    out: Path | None = None,
) -> Path:
    """Draw one image per level of the axis `along` as an endless GIF or WebP, each with its level written below.

    Args:
        fixed: Level by axis for the other axes; their first level by default.
        size: Width of an image in px.
        milliseconds: Time per image.

    Raises:
        UsageError: The axis, level or format is unknown, or there is nothing to draw.
        RecordError: The file cannot be written.
    """
    data = read_drawable(folder)
    target = out or Path(folder) / f"along-{along}.webp"
    ANIMATION_FORMATS.of(target)
    axis = find_levels(data, along)
    rows, said = select_rows(data, [along], fixed or {})
    first = {axis.at[row]: row for row in reversed(rows)}
    cell = (size, round(size * find_aspect(data, rows)))
    rest = " · ".join(f"{name} {level}" for name, level in said.items())
    frames = [_draw_frame(data, first[at], cell, f"{along} {axis.label(at)}", rest) for at in sorted(first)]
    return save_animation(frames, target, milliseconds)


def write_filmstrip(
    folder: Path, along: str, *, metric: str | None = None, size: int = 192, out: Path | None = None
) -> Path:
    """Draw a strip with one image per level of `along`: the one whose `metric` is the median of its level.

    The median is taken over all other axes. Without `metric` it is the coarse structure or another measured metric;
    where none was measured, the middle image in the order of the grid. A line below each image names its variation.

    Raises:
        UsageError: The axis or metric is unknown, the strip is too wide, or there is nothing to draw.
        RecordError: The file cannot be written.
    """
    data = read_drawable(folder)
    target = out or Path(folder) / f"filmstrip-{along}.png"
    limit = IMAGE_FORMATS.limit(target)
    axis = find_levels(data, along)
    by = _choose_metric(data, metric)
    chosen = find_medians(data, axis, by)
    cell = (size, round(size * find_aspect(data, list(chosen.values()))))
    width = 2 * _FRAME_PAD + len(chosen) * (size + _FRAME_GAP)
    if width > limit:
        raise UsageError(
            f"{len(chosen)} images of {size} px are wider than {target.suffix} allows.", hint="Use a smaller --size."
        )
    step = measure_line_height(_LETTERS)
    strip = Image.new("RGB", (width, cell[1] + 2 * _FRAME_PAD + (3 + _MOST_ORIGIN) * step), PAPER)
    draw = ImageDraw.Draw(strip)
    title = f"{data.name} · {along} →" + (f" · at each level the median of {by}" if by else "")
    lines = wrap_text(title, load_font(_LETTERS), width - 2 * _FRAME_PAD, 1)
    write_lines(draw, lines, (_FRAME_PAD, _FRAME_PAD), _LETTERS, DIM)
    for number, (at, row) in enumerate(sorted(chosen.items())):
        left = _FRAME_PAD + number * (size + _FRAME_GAP)
        strip.paste(draw_cell(data, row, cell), (left, _FRAME_PAD + step + 6))
        text = wrap_text(axis.label(at), load_font(_LETTERS), size, 1)
        inset = (size - measure_width(text[0], load_font(_LETTERS))) / 2 if text else 0
        write_lines(draw, text, (left + inset, _FRAME_PAD + step + 10 + cell[1]), _LETTERS)
        origin = wrap_text(_describe_others(data, row, along), load_font(_LETTERS - 4), size, _MOST_ORIGIN)
        write_lines(draw, origin, (left, _FRAME_PAD + 2 * step + 12 + cell[1]), _LETTERS - 4, DIM)
    return save_image(strip, target)


def _describe_others(data: ReportData, row: int, along: str) -> str:
    """Name the variation of a row by its other axes."""
    cells = data.frame.iloc[row]
    others = [axis for axis in data.axes if axis.name != along]
    return " · ".join(f"{axis.name} {format_level(to_json_value(cells[axis.column]), axis.kind)}" for axis in others)


def find_medians(data: ReportData, axis: Levels, metric: str | None) -> dict[int, int]:
    """Find, for each level of the axis, the row whose metric is the (lower) median of the level's images."""
    frame = data.frame
    by_level: dict[int, list[int]] = {}
    for row in range(len(frame)):
        if isinstance(to_json_value(frame["image_path"].iloc[row]), str):
            by_level.setdefault(axis.at[row], []).append(row)
    if not by_level:
        raise UsageError(f"No point of {data.name} has an image.")
    return {at: _find_median(data, rows, metric) for at, rows in by_level.items()}


def _find_median(data: ReportData, rows: Sequence[int], metric: str | None) -> int:
    if metric is None:
        return rows[(len(rows) - 1) // 2]
    values = [
        (value, row) for row in rows if isinstance(value := to_json_value(data.frame[metric].iloc[row]), int | float)
    ]
    return sorted(values)[(len(values) - 1) // 2][1] if values else rows[(len(rows) - 1) // 2]


def _choose_metric(data: ReportData, name: str | None) -> str | None:
    if name is not None and name not in data.metrics:
        hint = f"Measured are {', '.join(data.metrics)}." if data.metrics else "sweep study measures the images."
        raise UsageError(f"{name} is not a metric of {data.name}.{did_you_mean(name, data.metrics)}", hint=hint)
    return name or next((known for known in (*_PREFERRED, *data.metrics) if known in data.metrics), None)


def _draw_frame(data: ReportData, row: int, cell: tuple[int, int], text: str, rest: str) -> Image.Image:
    step = measure_line_height(_LETTERS)
    image = Image.new("RGB", (cell[0], cell[1] + step * (2 if rest else 1) + 10), PAPER)
    image.paste(draw_cell(data, row, cell), (0, 0))
    draw = ImageDraw.Draw(image)
    write_lines(draw, wrap_text(text, load_font(_LETTERS), cell[0] - 12, 1), (6, cell[1] + 4), _LETTERS)
    small = _LETTERS - 3
    write_lines(draw, wrap_text(rest, load_font(small), cell[0] - 12, 1), (6, cell[1] + 4 + step), small, DIM)
    return image


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
