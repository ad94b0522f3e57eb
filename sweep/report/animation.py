"""`sweep sheet --animate` and `--filmstrip`: what one axis does, as moving images or as a strip of typical ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw

from sweep.errors import UsageError, did_you_mean
from sweep.report.contact_sheet import Levels, aspect, cell_image, draw_sheet, fixed_rows, levels_of
from sweep.report.data import Material, plain_json
from sweep.report.drawing import (
    DIM,
    FORMATS,
    MOVING,
    PAPER,
    font,
    line_height,
    save_moving,
    save_still,
    width_of,
    wrapped,
    write_lines,
)

_GAP: Final = 4
_PAD: Final = 14
_LETTERS: Final = 15
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
    """Draws one image a level of the axis `along`, as a GIF or WebP that goes round for ever, each with its level
    written below. The other axes stand at `fixed`, by default their first level.

    Raises UsageError for an unknown axis, level or format, or where there is nothing to draw; OSError.
    """
    material = draw_sheet(folder)
    target = out or Path(folder) / f"along-{along}.webp"
    MOVING.of(target)
    axis = levels_of(material, along)
    rows, said = fixed_rows(material, [along], fixed or {})
    first = {axis.at[row]: row for row in reversed(rows)}
    cell = (size, round(size * aspect(material, rows)))
    rest = " · ".join(f"{name} {level}" for name, level in said.items())
    frames = [_captioned(material, first[at], cell, f"{along} {axis.label(at)}", rest) for at in sorted(first)]
    return save_moving(frames, target, milliseconds)


def write_filmstrip(
    folder: Path, along: str, *, metric: str | None = None, size: int = 192, out: Path | None = None
) -> Path:
    """Draws a strip with one image a level of `along`: that whose `metric` is the median of the level, over all
    other axes. By default that is the coarse structure or another that was measured; where none was, the middle
    image in the order of the grid.

    Raises UsageError for an unknown axis or metric, or where there is nothing to draw; OSError.
    """
    material = draw_sheet(folder)
    target = out or Path(folder) / f"filmstrip-{along}.png"
    limit = FORMATS.limit(target)
    axis = levels_of(material, along)
    by = _metric(material, metric)
    chosen = medians(material, axis, by)
    cell = (size, round(size * aspect(material, list(chosen.values()))))
    width = 2 * _PAD + len(chosen) * (size + _GAP)
    if width > limit:
        raise UsageError(
            f"{len(chosen)} images of {size} px are wider than {target.suffix} allows.", hint="Use a smaller --size."
        )
    step = line_height(_LETTERS)
    strip = Image.new("RGB", (width, cell[1] + 2 * _PAD + 3 * step), PAPER)
    draw = ImageDraw.Draw(strip)
    title = f"{material.name} · {along} →" + (f" · at each level the median of {by}" if by else "")
    write_lines(draw, wrapped(title, font(_LETTERS), width - 2 * _PAD, 1), (_PAD, _PAD), _LETTERS, DIM)
    for number, (at, row) in enumerate(sorted(chosen.items())):
        left = _PAD + number * (size + _GAP)
        strip.paste(cell_image(material, row, cell), (left, _PAD + step + 6))
        text = wrapped(axis.label(at), font(_LETTERS), size, 1)
        inset = (size - width_of(text[0], font(_LETTERS))) / 2 if text else 0
        write_lines(draw, text, (left + inset, _PAD + step + 10 + cell[1]), _LETTERS)
    return save_still(strip, target)


def medians(material: Material, axis: Levels, metric: str | None) -> dict[int, int]:
    """By level of the axis: the row whose metric is the (lower) median of the level's images."""
    frame = material.frame
    by_level: dict[int, list[int]] = {}
    for row in range(len(frame)):
        if isinstance(plain_json(frame["image_path"].iloc[row]), str):
            by_level.setdefault(axis.at[row], []).append(row)
    if not by_level:
        raise UsageError(f"No point of {material.name} has an image.")
    return {at: _median(material, rows, metric) for at, rows in by_level.items()}


def _median(material: Material, rows: Sequence[int], metric: str | None) -> int:
    if metric is None:
        return rows[(len(rows) - 1) // 2]
    values = [
        (value, row) for row in rows if isinstance(value := plain_json(material.frame[metric].iloc[row]), int | float)
    ]
    return sorted(values)[(len(values) - 1) // 2][1] if values else rows[(len(rows) - 1) // 2]


def _metric(material: Material, name: str | None) -> str | None:
    if name is not None and name not in material.metrics:
        hint = (
            f"Measured are {', '.join(material.metrics)}." if material.metrics else "sweep study measures the images."
        )
        raise UsageError(f"{name} is not a metric of {material.name}.{did_you_mean(name, material.metrics)}", hint=hint)
    return name or next((known for known in (*_PREFERRED, *material.metrics) if known in material.metrics), None)


def _captioned(material: Material, row: int, cell: tuple[int, int], text: str, rest: str) -> Image.Image:
    step = line_height(_LETTERS)
    image = Image.new("RGB", (cell[0], cell[1] + step * (2 if rest else 1) + 10), PAPER)
    image.paste(cell_image(material, row, cell), (0, 0))
    draw = ImageDraw.Draw(image)
    write_lines(draw, wrapped(text, font(_LETTERS), cell[0] - 12, 1), (6, cell[1] + 4), _LETTERS)
    small = _LETTERS - 3
    write_lines(draw, wrapped(rest, font(small), cell[0] - 12, 1), (6, cell[1] + 4 + step), small, DIM)
    return image
