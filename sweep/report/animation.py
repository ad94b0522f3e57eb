"""`sweep sheet --animate` and `--filmstrip`: one axis as an animation, or as a strip with a typical image per level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw

from sweep.errors import UsageError, did_you_mean
from sweep.report.contact_sheet import (
    Levels,
    draw_cell,
    find_aspect,
    find_levels,
    format_level,
    read_drawable,
    select_rows,
)
from sweep.report.data import ReportData, to_json_value
from sweep.report.drawing import (
    ANIMATION_FORMATS,
    DIM,
    IMAGE_FORMATS,
    PAPER,
    load_font,
    measure_line_height,
    measure_width,
    save_animation,
    save_image,
    wrap_text,
    write_lines,
)

_GAP: Final = 4
_PAD: Final = 14
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
    width = 2 * _PAD + len(chosen) * (size + _GAP)
    if width > limit:
        raise UsageError(
            f"{len(chosen)} images of {size} px are wider than {target.suffix} allows.", hint="Use a smaller --size."
        )
    step = measure_line_height(_LETTERS)
    strip = Image.new("RGB", (width, cell[1] + 2 * _PAD + (3 + _MOST_ORIGIN) * step), PAPER)
    draw = ImageDraw.Draw(strip)
    title = f"{data.name} · {along} →" + (f" · at each level the median of {by}" if by else "")
    write_lines(draw, wrap_text(title, load_font(_LETTERS), width - 2 * _PAD, 1), (_PAD, _PAD), _LETTERS, DIM)
    for number, (at, row) in enumerate(sorted(chosen.items())):
        left = _PAD + number * (size + _GAP)
        strip.paste(draw_cell(data, row, cell), (left, _PAD + step + 6))
        text = wrap_text(axis.label(at), load_font(_LETTERS), size, 1)
        inset = (size - measure_width(text[0], load_font(_LETTERS))) / 2 if text else 0
        write_lines(draw, text, (left + inset, _PAD + step + 10 + cell[1]), _LETTERS)
        origin = wrap_text(_describe_others(data, row, along), load_font(_LETTERS - 4), size, _MOST_ORIGIN)
        write_lines(draw, origin, (left, _PAD + 2 * step + 12 + cell[1]), _LETTERS - 4, DIM)
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
