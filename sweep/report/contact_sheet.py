"""Contact sheets, filmstrips and animations."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from sweep.errors import UsageError, did_you_mean
from sweep.record import replace_atomically
from sweep.report.page_json import encode_axis
from sweep.report.report_data import (
    AxisColumn,
    ReportData,
    choose_axes,
    format_level,
    name_variation,
    read_rendered,
    to_json_value,
)
from sweep.report.thumbnails import shrink
from sweep.text import truncate, truncate_apart
from sweep.types import Scalar

PAPER: Final = (255, 255, 255)
INK: Final = (27, 32, 48)
DIM: Final = (91, 101, 123)
HOLE: Final = (238, 241, 246)
RED: Final = (179, 48, 76)
PALE_RED: Final = (250, 234, 238)


@dataclass(frozen=True, slots=True)
class Levels:
    """The levels of an axis in order, and the index of each row's level (`at`)."""

    axis: AxisColumn
    levels: Sequence[Scalar]
    at: Sequence[int]

    def label(self, index: int) -> str:
        """Format one level for people."""
        return format_level(self.levels[index], self.axis.kind)


def find_levels(data: ReportData, name: str) -> Levels:
    """Return the axis called `name` with its levels. Raises UsageError where there is none."""
    names = [axis.name for axis in data.axes]
    if name in names:
        axis = data.axes[names.index(name)]
        encoded = encode_axis(axis, data.frame)
        return Levels(axis, encoded["levels"], encoded["at"])
    known = f"{data.name} has the axes {', '.join(names)}." if names else f"{data.name} has no axes."
    raise UsageError(f"{name} is not an axis.{did_you_mean(name, names)}", hint=known)


def select_rows(data: ReportData, free: Sequence[str], fixed: Mapping[str, Any]) -> tuple[list[int], str]:
    """Select the rows at one level of every axis that is not `free`, and write those levels: "seed 1 · steps 20".

    Where `fixed` names no level, it is the first level of the axis that still has rows. Raises UsageError for an
    unknown axis or level.
    """
    for name in fixed:
        find_levels(data, name)
    rows = list(range(len(data.frame)))
    said: list[str] = []
    for name in (axis.name for axis in data.axes if axis.name not in free or axis.name in fixed):
        known = find_levels(data, name)
        first = min((known.at[row] for row in rows), default=0)
        index = _find_level(known, fixed[name]) if name in fixed else first
        rows = [row for row in rows if known.at[row] == index]
        if len(known.levels) > 1:
            said.append(f"{name} {known.label(index)}")
    return rows, " · ".join(said)


def _find_level(known: Levels, value: Any) -> int:
    labels = [known.label(index) for index in range(len(known.levels))]
    for index, level in enumerate(known.levels):
        if level == value or str(value) in (labels[index], str(level)):
            return index
    hint = f"Its levels are {', '.join(labels[:20])}{', …' if len(labels) > 20 else ''}."
    raise UsageError(f"{known.axis.name} has no level {value}.{did_you_mean(str(value), labels)}", hint=hint)


_GAP: Final = 4
_PAD: Final = 14
_MOST_LABEL: Final = 3  # lines of a column's label; one beside a line has twice as many
_BEGINNING: Final = 24  # characters of a label, however narrow its column
_LIKEST: Final = 50  # labels before and after one in alphabetical order that it is told apart from
_MOST_PIXELS: Final = 120_000_000  # of one file: beyond, viewers and this computer have a hard time


@dataclass(frozen=True, kw_only=True)
class _Sheet:
    """A sheet to draw: rows of the table as cells, with labels above and beside them and captions below."""

    heading: str
    other_levels: str
    columns: Sequence[str]
    lines: Sequence[str] = ("",)
    cells: Sequence[Sequence[int | None]]  # positions in the table; None where it has no such row
    size: tuple[int, int]  # of a cell in px
    captions: Sequence[str] = ()

    @property
    def letters(self) -> int:
        """Return the size of the font in px."""
        return max(11, min(20, self.size[0] // 14))

    @property
    def left(self) -> int:
        """Return where the cells begin, in px: right of the longest label of a line."""
        longest = max((load_font(self.letters).getlength(label) for label in self.lines), default=0)
        return _PAD + (min(int(longest) + 1, max(self.size[0], 90)) + 12 if longest else 0)

    @cached_property
    def labels(self) -> list[str]:
        """Return the labels of the columns, wrapped."""
        return wrap_apart(self.columns, self.letters, self.size[0] - 4, _MOST_LABEL)

    @property
    def top(self) -> int:
        """Return where the cells begin, in px: below the heading and the labels of the columns."""
        most = max((label.count("\n") + 1 for label in self.labels), default=1)
        step = measure_line_height(self.letters)
        return _PAD + (2 if self.other_levels else 1) * step + step // 2 + most * step + 4

    def split(self, limit: int) -> Iterator[_Sheet]:
        """Split it so that each part stays within the format's limit (px a side) and the limit of pixels."""
        room = min(limit, int(_MOST_PIXELS**0.5)) - _PAD
        wide, high = (
            max(1, (room - edge) // (side + _GAP)) for edge, side in zip((self.left, self.top), self.size, strict=True)
        )
        for y in range(0, max(1, len(self.lines)), high):
            for x in range(0, max(1, len(self.columns)), wide):
                cells = [line[x : x + wide] for line in self.cells[y : y + high]]
                yield replace(self, columns=self.columns[x : x + wide], lines=self.lines[y : y + high], cells=cells)


def write_sheet(
    folder: Path | str,
    *,
    x: str | None = None,
    y: str | None = None,
    fixed: Mapping[str, Any] | None = None,
    size: int = 256,
    out: Path | str | None = None,
) -> list[Path]:
    """Draw a contact sheet of the results in `folder` to `out`, by default `sheet-X-Y.png` in it.

    The ending of `out` names the format: PNG, JPEG or WebP. A sheet beyond the format's limit (or 120 megapixels) is
    split into several files, numbered from 1. Failed and missing cells say so.

    Args:
        x: Axis across. Without it a numeric axis stands across, and another one down.
        y: Axis down; without it the sheet is one line.
        fixed: Level by axis for the other axes; their first level by default.
        size: Width of a cell in px.

    Raises:
        UsageError: The axis, level or format is unknown, or there is nothing to draw.
        RecordError: The file cannot be written.
    """
    data, fixed = read_rendered(folder), fixed or {}
    if x is None:
        x, y = _choose_axes(data, y, fixed)
    names = [name for name in (x, y) if name]
    target = Path(out or data.folder / f"sheet-{'-'.join(names)}.png")
    form = _choose_format(target, IMAGE_FORMATS)
    across = find_levels(data, x)
    one_line = Levels(AxisColumn("", "", ""), [""], [0] * len(data.frame))
    down = one_line if y is None else find_levels(data, y)
    rows, other_levels = select_rows(data, names, fixed)
    columns, lines = (sorted({levels.at[row] for row in rows}) for levels in (across, down))
    found = {(down.at[row], across.at[row]): row for row in reversed(rows)}
    sheet = _Sheet(
        heading=f"{data.name} · {x} →" + (f" · {y} ↓" if y else ""),
        other_levels=other_levels,
        columns=[across.label(column) for column in columns],
        lines=[down.label(line) if y else "" for line in lines],
        cells=[[found.get((line, column)) for column in columns] for line in lines],
        size=_fit_cell(data, rows, size),
    )
    parts = list(sheet.split(form.limit))
    named = [target.with_name(f"{target.stem}-{number + 1}{target.suffix}") for number in range(len(parts))]
    paths = named if len(parts) > 1 else [target]
    return [_save(_draw_sheet(data, part), path, form) for part, path in zip(parts, paths, strict=True)]


def _choose_axes(data: ReportData, y: str | None, fixed: Mapping[str, Any]) -> tuple[str, str | None]:
    """Choose the axes of a sheet as the page does: a numeric one across, another that is no seed down."""
    across, others = choose_axes(data, fixed)
    across = across or next(iter(data.axes), None)
    if across is None:
        raise UsageError(f"{data.name} has no axes: there is one image, which needs no sheet.")
    return across.name, y or next((axis.name for axis in others), None)


def _fit_cell(data: ReportData, rows: Iterable[int], width: int) -> tuple[int, int]:
    """Return width and height of a cell: the shape of the first image among `rows`, square if no size is known."""
    own_width, own_height = (data.column(data.name_rendered(name)).iloc[list(rows)] for name in ("width", "height"))
    shapes = (own_height / own_width).dropna()
    shape = float(shapes.iloc[0]) if len(shapes) else 1.0
    return width, round(width * min(3.0, max(1 / 3, shape)))


def _draw_sheet(data: ReportData, sheet: _Sheet) -> Image.Image:
    wide, high = sheet.size
    left, top, letters, step = sheet.left, sheet.top, sheet.letters, measure_line_height(sheet.letters)
    width = max(left + len(sheet.columns) * (wide + _GAP) + _PAD, 200)
    captions = [wrap_text(caption, letters - 2, wide, _MOST_ORIGIN) for caption in sheet.captions]
    below = top + len(sheet.lines) * (high + _GAP)
    height = below + _PAD + max((caption.count("\n") + 1 for caption in captions), default=0) * step
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    _write(draw, (_PAD, _PAD), wrap_text(sheet.heading, letters, width - 2 * _PAD, 1), letters)
    _write(draw, (_PAD, _PAD + step), wrap_text(sheet.other_levels, letters - 2, width - 2 * _PAD, 1), letters - 2, DIM)
    lefts = range(left, width, wide + _GAP)
    for x, label in zip(lefts, sheet.labels, strict=False):
        _write(draw, (x + wide / 2, top - 4), label, letters, anchor="md", align="center")
    for x, caption in zip(lefts, captions, strict=False):
        _write(draw, (x, below), caption, letters - 2, DIM)
    names = wrap_apart(sheet.lines, letters, left - _PAD - 10, 2 * _MOST_LABEL)
    for y, label, line in zip(range(top, below, high + _GAP), names, sheet.cells, strict=True):
        _write(draw, (_PAD, y + high / 2), label, letters, anchor="lm")
        for x, row in zip(lefts, line, strict=False):
            image.paste(draw_cell(data, row, sheet.size), (x, y))
    return image


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
    folder: Path | str,
    along: str,
    *,
    fixed: Mapping[str, Any] | None = None,
    size: int = 512,
    milliseconds: int = 400,
    out: Path | str | None = None,
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
    target = Path(out or data.folder / f"along-{along}.webp")
    form = _choose_format(target, ANIMATION_FORMATS)
    axis = find_levels(data, along)
    rows, other_levels = select_rows(data, [along], fixed or {})
    first = {axis.at[row]: row for row in reversed(rows)}
    cell, levels = _fit_cell(data, rows, size), sorted(first)
    labels = wrap_apart([f"{along} {axis.label(at)}" for at in levels], _LETTERS, cell[0] - 12, 1)
    frames = [_draw_frame(data, first[at], cell, label, other_levels) for at, label in zip(levels, labels, strict=True)]
    options = {"save_all": True, "append_images": frames[1:], "duration": milliseconds, "loop": 0}
    return _save(frames[0], target, form, **options)


def write_filmstrip(
    folder: Path | str, along: str, *, metric: str | None = None, size: int = 192, out: Path | str | None = None
) -> Path:
    """Draw a strip with one image per level of `along`: the one whose `metric` is the median of its level.

    The median is taken over all other axes. Without `metric` it is the coarse structure or another measured metric;
    where none was measured, the middle image in the order of the grid. A line below each image names its variation.

    Raises:
        UsageError: The axis or metric is unknown, the strip is too wide, or there is nothing to draw.
        RecordError: The file cannot be written.
    """
    data = read_rendered(folder)
    target = Path(out or data.folder / f"filmstrip-{along}.png")
    form = _choose_format(target, IMAGE_FORMATS)
    axis = find_levels(data, along)
    by = _choose_metric(data, metric)
    chosen = find_medians(data, axis, by)
    sheet = _Sheet(
        heading=f"{data.name} · {along} →" + (f" · at each level the median of {by}" if by else ""),
        other_levels="",
        columns=[axis.label(at) for at in chosen],
        cells=[list(chosen.values())],
        size=_fit_cell(data, chosen.values(), size),
        captions=[name_variation(data, row, without=along) for row in chosen.values()],
    )
    if 2 * _PAD + len(chosen) * (sheet.size[0] + _GAP) > form.limit:
        raise UsageError(
            f"{len(chosen)} images of {size} px are wider than {target.suffix} allows.", hint="Use a smaller --size."
        )
    return _save(_draw_sheet(data, sheet), target, form)


def find_medians(data: ReportData, axis: Levels, metric: str | None) -> dict[int, int]:
    """Find, for each level of the axis, the row whose metric is the (lower) median of the level's images."""
    medians: dict[int, int] = {}
    shown = data.frame["image_path"].notna()
    for at in sorted(set(axis.at)):
        rows = data.frame[shown & (np.asarray(axis.at) == at)]
        measured = rows if metric is None else rows.dropna(subset=metric).sort_values(metric, kind="stable")
        ranked = rows if measured.empty else measured
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
    _write(draw, (6, cell[1] + 4), text, _LETTERS)
    _write(draw, (6, cell[1] + 4 + step), wrap_text(rest, _LETTERS - 3, cell[0] - 12, 1), _LETTERS - 3, DIM)
    return image


@cache
def load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Load DejaVu Sans where it is installed (it covers most scripts), else Pillow's own Aileron."""
    for name in ("DejaVuSans.ttf", "Arial Unicode.ttf", "segoeui.ttf"):
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def wrap_text(text: str, letters: int, width: int, most_lines: int) -> str:
    """Wrap a text into lines of at most `width` px in a font of `letters` px; "…" ends a text of too many lines.

    Searches for the most characters a line at which every line is narrow enough.
    """
    plain, font = " ".join(text.split()), load_font(letters)

    def wrap(columns: int) -> list[str]:
        lines = textwrap.wrap(plain, columns, break_on_hyphens=False)
        if len(lines) > most_lines:
            lines[most_lines - 1 :] = [truncate(" ".join(lines[most_lines - 1 :]), columns)]
        return lines

    low, high = 1, max(1, min(len(plain), 4 * width // letters))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if all(font.getlength(line) < width for line in wrap(middle)) else (low, middle - 1)
    return "\n".join(wrap(low))


def wrap_apart(labels: Sequence[str], letters: int, width: int, most_lines: int) -> list[str]:
    """Wrap labels like `wrap_text`; of those that begin alike and are too long it keeps what tells them apart."""
    room = max(_BEGINNING, most_lines * 3 * width // (2 * letters))  # about the characters that fit
    ordered = sorted(set(labels))
    likest = {label: ordered[max(0, place - _LIKEST) : place + _LIKEST] for place, label in enumerate(ordered)}
    whole = {label: wrap_text(label, letters, width, most_lines) for label in ordered}
    short = {label: truncate_apart(label, likest[label], room) for label in ordered if whole[label].endswith("…")}
    return [wrap_text(short[label], letters, width, most_lines) if label in short else whole[label] for label in labels]


def measure_line_height(letters: int) -> int:
    """Return the height of a line in px for a font of `letters` px."""
    return round(letters * 1.32)


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    letters: int,
    colour: tuple[int, int, int] = INK,
    **options: Any,
) -> None:
    """Write lines of text; `options` say how they stand at their place, as those of Pillow's multiline_text."""
    font = load_font(letters)
    spacing = measure_line_height(letters) - font.getbbox("A")[3]
    draw.multiline_text(place, text, font=font, fill=colour, spacing=spacing, **options)


def draw_empty_cell(size: tuple[int, int], reason: str, *, failed: bool) -> Image.Image:
    """Draw a cell that says why it has no image."""
    cell = Image.new("RGB", size, PALE_RED if failed else HOLE)
    letters = max(10, min(16, size[0] // 14))
    pad = letters // 2 + 3
    most = max(1, (size[1] - 2 * pad) // measure_line_height(letters))
    text = wrap_text(reason, letters, size[0] - 2 * pad, most)
    _write(ImageDraw.Draw(cell), (pad, pad), text, letters, RED if failed else DIM)
    return cell


@dataclass(frozen=True, slots=True)
class _Format:
    name: str
    limit: int  # px of a side
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
