"""Contact sheets, filmstrips and animations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from sweep.errors import UsageError, did_you_mean
from sweep.record import replace_atomically
from sweep.report.payload import encode_axis
from sweep.report.report_data import (
    AxisColumn,
    LevelJson,
    ReportData,
    format_level,
    name_variation,
    read_rendered,
    to_json_value,
)
from sweep.report.thumbnails import shrink

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAPER: Final = (255, 255, 255)
INK: Final = (27, 32, 48)
DIM: Final = (91, 101, 123)
HOLE: Final = (238, 241, 246)
RED: Final = (179, 48, 76)
PALE_RED: Final = (250, 234, 238)


@dataclass(frozen=True, slots=True)
class Levels:
    """The levels of an axis in order, the index of each row's level (`at`), and the indices shown on a sheet."""

    axis: AxisColumn
    levels: Sequence[LevelJson]
    at: Sequence[int]
    shown: Sequence[int] = ()

    def label(self, index: int) -> str:
        """Format one level for people."""
        return format_level(self.levels[index], self.axis.kind)


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
        if level == value or str(value) in (labels[index], str(level)):
            return index
    hint = f"Its levels are {', '.join(labels[:20])}{', …' if len(labels) > 20 else ''}."
    raise UsageError(f"{known.axis.name} has no level {value}.{did_you_mean(str(value), labels)}", hint=hint)


_GAP: Final = 4
_PAD: Final = 14
_MOST_PIXELS: Final = 120_000_000  # of one file: beyond, viewers and this computer have a hard time


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRequest:
    """Request for a sheet: axis `x` across, `y` down (None: one line), the others at the levels in `fixed`.

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


def write_sheet(folder: Path, request: SheetRequest, out: Path | None = None) -> list[Path]:
    """Draw a contact sheet of the results in `folder` to `out`, by default `sheet-X-Y.png` in it.

    The ending of `out` names the format: PNG, JPEG or WebP. A sheet beyond the format's limit (or 120 megapixels) is
    split into several files, numbered from 1. Failed and missing cells say so.

    Raises:
        UsageError: The axis, level or format is unknown, or there is nothing to draw.
        RecordError: The file cannot be written.
    """
    data = read_rendered(folder)
    request = request if request.x is not None else _choose_axes(data, request)
    names = [name for name in (request.x, request.y) if name]
    target = out or folder / f"sheet-{'-'.join(names)}.png"
    form = _choose_format(target, IMAGE_FORMATS)
    across = find_levels(data, request.x or "")
    one_line = Levels(AxisColumn("", "", ""), [""], [0] * len(data.frame))
    down = one_line if request.y is None else find_levels(data, request.y)
    rows, said = select_rows(data, names, request.fixed)
    cells = {(down.at[row], across.at[row]): row for row in reversed(rows)}
    across = replace(across, shown=sorted({x for _, x in cells}))
    down = replace(down, shown=sorted({y for y, _ in cells}))
    title = [data.name, " · ".join(f"{name} {level}" for name, level in said.items())]
    sizes = _plan_sheet(data, rows, request.size, title, across, down)
    parts = [
        (replace(across, shown=xs), replace(down, shown=ys))
        for ys in _split_levels(down, sizes.top, sizes.cell[1], form.limit)
        for xs in _split_levels(across, sizes.left, sizes.cell[0], form.limit)
    ]
    written: list[Path] = []
    for number, (xs_part, ys_part) in enumerate(parts, start=1):
        sheet = _draw_sheet(data, sizes, title, xs_part, ys_part, cells)
        path = target if len(parts) == 1 else target.with_name(f"{target.stem}-{number}{target.suffix}")
        written.append(_save(sheet, path, form))
    return written


def _choose_axes(data: ReportData, request: SheetRequest) -> SheetRequest:
    """Choose the axes of a sheet as the page does: a numeric one across, another that is no seed down."""
    free = [axis for axis in data.axes if axis.name not in request.fixed and data.frame[axis.column].nunique() > 1]
    free = free or list(data.axes[:1])
    if not free:
        raise UsageError(f"{data.name} has no axes: there is one image, which needs no sheet.")
    across = next((axis for axis in free if axis.kind in {"number", "integer"}), free[0])
    others = [axis for axis in free if axis is not across]
    down = next((axis for axis in others if axis.kind != "seed"), next(iter(others), None))
    return replace(request, x=across.name, y=request.y or (down.name if down is not None else None))


def _plan_sheet(
    data: ReportData, rows: Sequence[int], size: int, title: Sequence[str], across: Levels, down: Levels
) -> _SheetSizes:
    letters = max(11, min(20, size // 14))
    labels = [down.label(index) for index in range(len(down.levels))]
    longest = max(measure_width(text, load_font(letters)) for text in labels)
    left = min(longest, max(size, 90)) + 12 if down.axis.name else 0
    step = measure_line_height(letters)
    most = max((len(_wrap_label(across.label(x), size, letters)) for x in across.shown), default=1)
    top = _PAD + (2 if title[1] else 1) * step + step // 2 + most * step + 4
    return _SheetSizes((size, round(size * find_aspect(data, rows))), left + _PAD, top, letters)


def _wrap_label(label: str, width: int, letters: int) -> list[str]:
    return wrap_text(label, load_font(letters), width - 4, 3)


def find_aspect(data: ReportData, rows: Sequence[int]) -> float:
    """Return height divided by width of the first image among `rows`, 1 where no size is known."""
    for row in rows:
        width, height = (to_json_value(data.frame[name].iloc[row]) for name in ("width", "height"))
        if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
            return min(3.0, max(1 / 3, height / width))
    return 1.0


def _split_levels(levels: Levels, edge: int, step: int, limit: int) -> list[Sequence[int]]:
    """Split levels so that a sheet of each part stays within the format's limit and the limit of pixels."""
    most = max(1, (min(limit, int(_MOST_PIXELS**0.5)) - edge - _PAD) // (step + _GAP))
    return [levels.shown[at : at + most] for at in range(0, len(levels.shown), most)] or [[]]


def _draw_sheet(
    data: ReportData,
    sizes: _SheetSizes,
    title: Sequence[str],
    across: Levels,
    down: Levels,
    cells: Mapping[tuple[int, int], int],
) -> Image.Image:
    wide, high = sizes.cell
    width = max(sizes.left + len(across.shown) * (wide + _GAP) + _PAD, 200)
    sheet = Image.new("RGB", (width, sizes.top + len(down.shown) * (high + _GAP) + _PAD), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_head(draw, sizes, title, across, down, width)
    for line, y in enumerate(down.shown):
        top = sizes.top + line * (high + _GAP)
        lines = wrap_text(down.label(y), load_font(sizes.letters), sizes.left - _PAD - 10, 6)
        middle = top + (high - len(lines) * measure_line_height(sizes.letters)) / 2
        write_lines(draw, lines, (_PAD, middle), sizes.letters)
        for column, x in enumerate(across.shown):
            cell = draw_cell(data, cells.get((y, x)), sizes.cell)
            sheet.paste(cell, (sizes.left + column * (wide + _GAP), top))
    return sheet


def _draw_head(
    draw: ImageDraw.ImageDraw, sizes: _SheetSizes, title: Sequence[str], across: Levels, down: Levels, width: int
) -> None:
    letters, step = sizes.letters, measure_line_height(sizes.letters)
    names = f"{across.axis.name} →" + (f" · {down.axis.name} ↓" if down.axis.name else "")
    _write_line(draw, f"{title[0]} · {names}", (_PAD, _PAD), width - 2 * _PAD, letters)
    _write_line(draw, title[1], (_PAD, _PAD + step), width - 2 * _PAD, letters - 2, DIM)
    for column, x in enumerate(across.shown):
        lines = _wrap_label(across.label(x), sizes.cell[0], letters)
        left = sizes.left + column * (sizes.cell[0] + _GAP)
        for number, line in enumerate(lines):
            inset = (sizes.cell[0] - measure_width(line, load_font(letters))) / 2
            place = (left + inset, sizes.top - 4 - (len(lines) - number) * step)
            draw.text(place, line, font=load_font(letters), fill=INK)


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
    data = read_rendered(folder)
    target = out or Path(folder) / f"along-{along}.webp"
    form = _choose_format(target, ANIMATION_FORMATS)
    axis = find_levels(data, along)
    rows, said = select_rows(data, [along], fixed or {})
    first = {axis.at[row]: row for row in reversed(rows)}
    cell = (size, round(size * find_aspect(data, rows)))
    rest = " · ".join(f"{name} {level}" for name, level in said.items())
    frames = [_draw_frame(data, first[at], cell, f"{along} {axis.label(at)}", rest) for at in sorted(first)]
    options = {"save_all": True, "append_images": frames[1:], "duration": milliseconds, "loop": 0}
    return _save(frames[0], target, form, **options)


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
    data = read_rendered(folder)
    target = out or Path(folder) / f"filmstrip-{along}.png"
    form = _choose_format(target, IMAGE_FORMATS)
    axis = find_levels(data, along)
    by = _choose_metric(data, metric)
    chosen = find_medians(data, axis, by)
    cell = (size, round(size * find_aspect(data, list(chosen.values()))))
    width = 2 * _PAD + len(chosen) * (size + _GAP)
    if width > form.limit:
        raise UsageError(
            f"{len(chosen)} images of {size} px are wider than {target.suffix} allows.", hint="Use a smaller --size."
        )
    step = measure_line_height(_LETTERS)
    strip = Image.new("RGB", (width, cell[1] + 2 * _PAD + (3 + _MOST_ORIGIN) * step), PAPER)
    draw = ImageDraw.Draw(strip)
    title = f"{data.name} · {along} →" + (f" · at each level the median of {by}" if by else "")
    _write_line(draw, title, (_PAD, _PAD), width - 2 * _PAD, _LETTERS, DIM)
    for number, (at, row) in enumerate(sorted(chosen.items())):
        left = _PAD + number * (size + _GAP)
        strip.paste(draw_cell(data, row, cell), (left, _PAD + step + 6))
        text = wrap_text(axis.label(at), load_font(_LETTERS), size, 1)
        inset = (size - measure_width(text[0], load_font(_LETTERS))) / 2 if text else 0
        write_lines(draw, text, (left + inset, _PAD + step + 10 + cell[1]), _LETTERS)
        origin = wrap_text(name_variation(data, row, without=along), load_font(_LETTERS - 4), size, _MOST_ORIGIN)
        write_lines(draw, origin, (left, _PAD + 2 * step + 12 + cell[1]), _LETTERS - 4, DIM)
    return _save(strip, target, form)


def find_medians(data: ReportData, axis: Levels, metric: str | None) -> dict[int, int]:
    """Find, for each level of the axis, the row whose metric is the (lower) median of the level's images."""
    medians: dict[int, int] = {}
    for at in sorted(set(axis.at)):
        rows = data.frame[np.asarray(axis.at) == at]
        shown = rows[rows["image_path"].notna()]
        measured = shown if metric is None else shown[shown[metric].notna()].sort_values(metric, kind="stable")
        ranked = shown if measured.empty else measured
        if not ranked.empty:
            medians[at] = int(ranked.index[(len(ranked) - 1) // 2])
    if not medians:
        raise UsageError(f"No point of {data.name} has an image.")
    return medians


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
    _write_line(draw, text, (6, cell[1] + 4), cell[0] - 12, _LETTERS)
    _write_line(draw, rest, (6, cell[1] + 4 + step), cell[0] - 12, _LETTERS - 3, DIM)
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
    lines = [known for known in (*lines, line) if known]
    if len(lines) <= most_lines:
        return lines
    last = lines[most_lines - 1]
    while last and measure_width(f"{last}…", letters) > width:
        last = last[:-1]
    return [*lines[: most_lines - 1], f"{last}…"]


def _break_words(text: str, letters: Font, width: int) -> Iterator[str]:
    for word in text.split():
        while word and measure_width(word, letters) > width:
            cut = next((n for n in range(len(word) - 1, 1, -1) if measure_width(word[:n], letters) <= width), 1)
            yield word[:cut]
            word = word[cut:]
        if word:
            yield word


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


def _write_line(
    draw: ImageDraw.ImageDraw,
    text: str,
    place: tuple[float, float],
    width: int,
    size: int,
    colour: tuple[int, int, int] = INK,
) -> None:
    """Write one line of at most `width` px."""
    write_lines(draw, wrap_text(text, load_font(size), width, 1), place, size, colour)


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


_JPEG = _Format("JPEG", 65_535, {"quality": 90, "optimize": True})
IMAGE_FORMATS: Final = {
    ".png": _Format("PNG", 65_535, {"compress_level": 6}),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": _Format("WEBP", 16_383, {"quality": 85, "method": 4}),
}
ANIMATION_FORMATS: Final = {
    ".gif": _Format("GIF", 65_535, {"optimize": True}),
    ".webp": _Format("WEBP", 16_383, {"quality": 80, "method": 4, "minimize_size": True}),
}


def _choose_format(path: Path, known: Mapping[str, _Format]) -> _Format:
    """Choose the format by the ending of the file. Raises UsageError for an ending that names none."""
    if path.suffix.lower() in known:
        return known[path.suffix.lower()]
    problem = f"sweep cannot write {path.suffix} files here" if path.suffix else "the name has no ending"
    near = did_you_mean(path.suffix, known)
    raise UsageError(f"{path.name}: {problem}.{near}", hint=f"Use {', '.join(known)}.")


def _save(image: Image.Image, path: Path, form: _Format, **options: Any) -> Path:
    """Save an image whole or not at all. Raises RecordError where it cannot be written."""
    with replace_atomically(path) as part:
        image.save(part, form.name, **form.options, **options)
    return path
