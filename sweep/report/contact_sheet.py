"""Contact sheets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw, ImageOps

from sweep.errors import UsageError, did_you_mean
from sweep.report.data import AxisColumn, LevelJson, Material, axis_data, plain_json, read_material
from sweep.report.drawing import (
    DIM,
    FORMATS,
    INK,
    PAPER,
    empty_cell,
    font,
    line_height,
    save_still,
    width_of,
    wrapped,
    write_lines,
)
from sweep.report.thumbnails import shrunk
from sweep.text import format_number


@dataclass(frozen=True, slots=True)
class Levels:
    """An axis with its levels in order and each row's index into them."""

    axis: AxisColumn
    levels: Sequence[LevelJson]
    at: Sequence[int]

    def label(self, index: int) -> str:
        """A level as people read it."""
        return draw_label(self.levels[index], self.axis.kind)


def draw_label(level: LevelJson, kind: str = "") -> str:
    """A level as people read it: short numbers, file names without their folder."""
    if level is None:
        return "none"
    if isinstance(level, bool):
        return "yes" if level else "no"
    if isinstance(level, float):
        return format_number(level)
    return str(level).rsplit("/", 1)[-1] if kind == "image" else str(level)


def levels_of(material: Material, name: str) -> Levels:
    """The axis called `name`. Raises UsageError where there is none."""
    for axis in material.axes:
        if axis.name == name:
            data = axis_data(axis, material.frame)
            return Levels(axis, data["levels"], data["at"])
    names = [axis.name for axis in material.axes]
    known = f"{material.name} has the axes {', '.join(names)}." if names else f"{material.name} has no axes."
    raise UsageError(f"{name} is not an axis.{did_you_mean(name, names)}", hint=known)


def fixed_rows(material: Material, free: Sequence[str], fixed: Mapping[str, Any]) -> tuple[list[int], dict[str, str]]:
    """The rows at one level of every axis that is not `free`, and those levels as text by axis.

    Where `fixed` does not say, it is the axis's first level that still has rows. Raises UsageError for an unknown
    axis or level.
    """
    for name in fixed:
        levels_of(material, name)
    rows = list(range(len(material.frame)))
    said: dict[str, str] = {}
    for axis in material.axes:
        if axis.name in free and axis.name not in fixed:
            continue
        known = levels_of(material, axis.name)
        index = (
            _wanted(known, fixed[axis.name]) if axis.name in fixed else min((known.at[row] for row in rows), default=0)
        )
        rows = [row for row in rows if known.at[row] == index]
        if len(known.levels) > 1:
            said[axis.name] = known.label(index)
    return rows, said


def _wanted(known: Levels, value: Any) -> int:
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
    """What to draw: axis `x` across, `y` down (None: one line), the others at the levels in `fixed` (by default their
    first), cells of `size` px.
    """

    x: str
    y: str | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    size: int = 256


@dataclass(frozen=True, slots=True)
class _Frame:
    """Sizes in px of everything on a sheet."""

    cell: tuple[int, int]
    left: int
    top: int
    letters: int


def write_sheet(folder: Path, request: SheetRequest, out: Path | None = None) -> tuple[Path, ...]:
    """Draws a contact sheet of the results in `folder` to `out` (by default `sheet-X-Y.png` in it), whose ending says
    the format: PNG, JPEG or WebP. Where the format or sanity sets a limit, to several files numbered from 1.

    Failed and missing cells are drawn as such. Raises UsageError for an unknown axis, level or format, or where there
    is nothing to draw; OSError where it cannot be written.
    """
    material = draw_sheet(folder)
    target = out or folder / f"sheet-{'-'.join(name for name in (request.x, request.y) if name)}.png"
    limit = FORMATS.limit(target)
    across = levels_of(material, request.x)
    down = None if request.y is None else levels_of(material, request.y)
    rows, said = fixed_rows(material, [request.x, *([request.y] if request.y else [])], request.fixed)
    cells = {(0 if down is None else down.at[row], across.at[row]): row for row in reversed(rows)}
    used_x = sorted({x for _, x in cells})
    used_y = sorted({y for y, _ in cells})
    title = [material.name, " · ".join(f"{name} {level}" for name, level in said.items())]
    frame = _frame(material, rows, request.size, down)
    frame = replace(frame, top=_top(frame, [across.label(x) for x in used_x], title))
    parts = [
        (ys, xs) for ys in _parts(used_y, frame, limit, down=True) for xs in _parts(used_x, frame, limit, down=False)
    ]
    written: list[Path] = []
    for number, (ys, xs) in enumerate(parts, start=1):
        sheet = _draw(material, frame, title, (across, xs), (down, ys), cells)
        path = target if len(parts) == 1 else target.with_name(f"{target.stem}-{number}{target.suffix}")
        written.append(save_still(sheet, path))
    return tuple(written)


def draw_sheet(folder: Path) -> Material:
    """The results in `folder`. Raises UsageError where there is nothing to draw."""
    material = read_material(Path(folder))
    if material.problem is not None:
        raise UsageError(material.problem)
    if material.frame.empty:
        raise UsageError(f"Nothing has been rendered in {folder} yet.")
    return material


def _frame(material: Material, rows: Sequence[int], size: int, down: Levels | None) -> _Frame:
    height = round(size * aspect(material, rows))
    letters = max(11, min(20, size // 14))
    labels = [] if down is None else [down.label(index) for index in range(len(down.levels))]
    longest = max((width_of(text, font(letters)) for text in labels), default=0)
    left = 0 if down is None else min(longest, max(size, 90)) + 12
    return _Frame((size, height), left + _PAD, 0, letters)


def _top(frame: _Frame, labels: Sequence[str], title: Sequence[str]) -> int:
    """Room for the title, what it says below, and the highest label of a column."""
    step = line_height(frame.letters)
    most = max((len(_label_lines(frame, label)) for label in labels), default=1)
    return _PAD + (2 if title[1] else 1) * step + step // 2 + most * step + 4


def _label_lines(frame: _Frame, label: str) -> list[str]:
    return wrapped(label, font(frame.letters), frame.cell[0] - 4, 3)


def aspect(material: Material, rows: Sequence[int]) -> float:
    """Height by width of the first image among `rows`, 1 where none is known."""
    for row in rows:
        width, height = (plain_json(material.frame[name].iloc[row]) for name in ("width", "height"))
        if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
            return min(3.0, max(1 / 3, height / width))
    return 1.0


def _parts(levels: Sequence[int], frame: _Frame, limit: int, *, down: bool) -> list[list[int]]:
    """Levels split so that a sheet of each part stays within the limit, which is also one of its pixels in all."""
    edge = frame.top if down else frame.left
    step = frame.cell[1 if down else 0] + _GAP
    side = min(limit, int(_MOST_PIXELS**0.5))
    most = max(1, (side - edge - _PAD) // step)
    return [list(levels[at : at + most]) for at in range(0, len(levels), most)] or [[]]


def _draw(
    material: Material,
    frame: _Frame,
    title: Sequence[str],
    across: tuple[Levels, Sequence[int]],
    down: tuple[Levels | None, Sequence[int]],
    cells: Mapping[tuple[int, int], int],
) -> Image.Image:
    (wide, high), (x_axis, xs), (y_axis, ys) = frame.cell, across, down
    width = max(frame.left + len(xs) * (wide + _GAP) + _PAD, 200)
    sheet = Image.new("RGB", (width, frame.top + len(ys) * (high + _GAP) + _PAD), PAPER)
    draw = ImageDraw.Draw(sheet)
    _head(draw, frame, title, (x_axis, xs), y_axis, width)
    for line, y in enumerate(ys):
        top = frame.top + line * (high + _GAP)
        if y_axis is not None:
            lines = wrapped(y_axis.label(y), font(frame.letters), frame.left - _PAD - 10, 6)
            middle = top + (high - len(lines) * line_height(frame.letters)) / 2
            write_lines(draw, lines, (_PAD, middle), frame.letters)
        for column, x in enumerate(xs):
            cell = cell_image(material, cells.get((y, x)), frame.cell)
            sheet.paste(cell, (frame.left + column * (wide + _GAP), top))
    return sheet


def _head(
    draw: ImageDraw.ImageDraw,
    frame: _Frame,
    title: Sequence[str],
    across: tuple[Levels, Sequence[int]],
    y_axis: Levels | None,
    width: int,
) -> None:
    axis, xs = across
    step = line_height(frame.letters)
    names = f"{axis.axis.name} →" + ("" if y_axis is None else f" · {y_axis.axis.name} ↓")
    write_lines(
        draw, wrapped(f"{title[0]} · {names}", font(frame.letters), width - 2 * _PAD, 1), (_PAD, _PAD), frame.letters
    )
    if title[1]:
        small = frame.letters - 2
        write_lines(draw, wrapped(title[1], font(small), width - 2 * _PAD, 1), (_PAD, _PAD + step), small, DIM)
    for column, x in enumerate(xs):
        lines = _label_lines(frame, axis.label(x))
        left = frame.left + column * (frame.cell[0] + _GAP)
        for number, line in enumerate(lines):
            inset = (frame.cell[0] - width_of(line, font(frame.letters))) / 2
            place = (left + inset, frame.top - 4 - (len(lines) - number) * step)
            draw.text(place, line, font=font(frame.letters), fill=INK)


def cell_image(material: Material, row: int | None, size: tuple[int, int]) -> Image.Image:
    """A row's image fitted into `size`; a cell that says why where there is none."""
    if row is None:
        return empty_cell(size, "–", failed=False)
    record = material.frame.iloc[row]
    status, error, path = (plain_json(record[name]) for name in ("status", "error", "image_path"))
    if not isinstance(path, str):
        return empty_cell(size, f"{status}: {error}" if error else str(status), failed=status == "failed")
    image = shrunk(material.folder / path, max(size))
    if image is None:
        return empty_cell(size, "image missing or unreadable", failed=True)
    image = ImageOps.contain(image, size, Image.Resampling.LANCZOS)
    cell = Image.new("RGB", size, PAPER)
    place = ((size[0] - image.width) // 2, (size[1] - image.height) // 2)
    cell.paste(image, place, image if image.mode == "RGBA" else None)
    return cell
