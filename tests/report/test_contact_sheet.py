"""Contact sheets: every image in its place, split where a format ends."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio.to_thread import run_sync
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sweep.errors import RecordError, UsageError
from sweep.report import contact_sheet
from sweep.report.contact_sheet import RED, load_font, wrap_text, write_sheet
from sweep.text import truncate_apart
from tests.report.painted import Plan, paint_folder


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


def spread_of(cell: Image.Image) -> int:
    low, high = cell.getextrema()
    assert isinstance(low, int)
    assert isinstance(high, int)
    return high - low


@pytest.mark.parametrize("name", ["sheet.png", "sheet.jpg", "sheet.webp"])
async def test_sheet_has_a_cell_per_pair_of_levels(folder: Path, tmp_path: Path, name: str) -> None:
    write = partial(write_sheet, folder, x="denoise_strength", y="variation", size=64, out=tmp_path / name)
    (path,) = await run_sync(write)
    width, height = await run_sync(size_of, path)
    assert width > 3 * 64
    assert height > 2 * 48


async def test_sheet_places_images_by_their_levels(folder: Path) -> None:
    def columns() -> list[int]:
        (path,) = write_sheet(folder, x="denoise_strength", size=64)
        with Image.open(path) as sheet:
            row = sheet.convert("L").crop((14, sheet.height - 14 - 24, 14 + 3 * 68, sheet.height - 14 - 20))
            cells = [row.crop((at * 68, 0, at * 68 + 60, 4)) for at in range(3)]
            return [spread_of(cell) for cell in cells]

    spreads = await run_sync(columns)
    assert all(spread > 20 for spread in spreads)


async def test_sheet_of_one_line_has_no_label_beside_it(folder: Path) -> None:
    (path,) = await run_sync(partial(write_sheet, folder, x="denoise_strength", size=64))
    width, _ = await run_sync(size_of, path)
    assert width == 14 + 3 * (64 + 4) + 14


async def test_sheet_marks_a_failed_cell(tmp_path: Path) -> None:
    folder = await paint_folder(tmp_path / "cups", Plan(failed={0: "noise and image sizes differ"}))

    def red_pixels() -> int:
        (path,) = write_sheet(folder, x="denoise_strength", y="variation", size=96)
        with Image.open(path) as sheet:
            return sum(count for count, colour in sheet.getcolors(1 << 24) or () if colour == RED)

    assert await run_sync(red_pixels) > 50


async def test_sheet_fixes_other_axes_at_the_given_level(folder: Path, tmp_path: Path) -> None:
    def both() -> tuple[bytes, bytes]:
        found = []
        for seed in (42, "43"):
            out = tmp_path / f"{seed}.png"
            (path,) = write_sheet(folder, x="denoise_strength", fixed={"seed": seed}, size=32, out=out)
            found.append(path.read_bytes())
        return found[0], found[1]

    first, second = await run_sync(both)
    assert first != second


async def test_sheet_beyond_the_format_is_split(tmp_path: Path) -> None:
    plan = Plan(axes={"seed": list(range(1, 61))}, size=(30, 10), metrics=False, source=False)
    folder = await paint_folder(tmp_path / "cups", plan)
    paths = await run_sync(partial(write_sheet, folder, x="seed", size=300, out=tmp_path / "sheet.webp"))
    assert [path.name for path in paths] == [f"sheet-{number}.webp" for number in range(1, len(paths) + 1)]
    assert len(paths) > 1
    sizes = [await run_sync(size_of, path) for path in paths]
    assert max(max(size) for size in sizes) <= 16_383


@pytest.mark.parametrize(
    ("asked", "name", "said"),
    [
        ({"x": "denoise_strenght"}, "a.png", "Did you mean denoise_strength?"),
        (
            {"x": "seed", "y": "denoise_strength", "fixed": {"variation": "studio lightning"}},
            "a.png",
            "studio lighting",
        ),
        ({"x": "seed"}, "a.bmp", ".bmp|a.bmp names no format"),
    ],
)
async def test_sheet_rejects_what_it_cannot_draw(folder: Path, asked: dict[str, Any], name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        await run_sync(partial(write_sheet, folder, **asked, out=folder / name))


def test_sheet_rejects_a_folder_without_results(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"journal\.sqlite is missing"):
        write_sheet(tmp_path, x="seed")


@given(st.text(max_size=120), st.integers(30, 300), st.integers(1, 5))
def test_wrap_text_fits_the_width_and_loses_nothing(text: str, width: int, most: int) -> None:
    lines = wrap_text(text, 12, width, most).split("\n")
    assert len(lines) <= most
    assert all(load_font(12).getlength(line) <= width or len(line) <= 1 for line in lines)
    if len(lines) < most:
        assert "".join(lines).replace(" ", "") == "".join(text.split())


async def test_cells_have_the_shape_of_the_images_where_an_axis_is_called_width(tmp_path: Path) -> None:
    for levels in (["narrow", "wide"], [512, 8]):
        plan = Plan(axes={"width": levels}, size=(40, 20), metrics=False)
        folder = await paint_folder(tmp_path / str(levels[0]), plan)
        heights = []
        for size in (100, 140):
            write = partial(write_sheet, folder, x="width", size=size, out=tmp_path / f"{size}.png")
            heights.append((await run_sync(size_of, (await run_sync(write))[0]))[1])
        assert heights[1] - heights[0] == 20


def test_a_label_of_hundreds_is_told_apart_from_the_likest_only(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def truncate(label: str, among: Sequence[str], room: int) -> str:
        compared.append(len(among))
        return truncate_apart(label, among, room)

    monkeypatch.setattr(contact_sheet, "truncate_apart", truncate)
    columns = [f"{'a red cup on a table, ' * 3}number {number:03}" for number in range(300)]
    labels = contact_sheet._Sheet(heading="", other_levels="", columns=columns, cells=[], size=(96, 96)).labels

    assert len(set(labels)) == len(columns)
    assert max(compared) <= 100


def test_a_label_that_fits_is_not_cut() -> None:
    labels = ["variation studio lighting", "variation painterly and much longer than its frame"]
    fitting, cut = contact_sheet.wrap_apart(labels, 15, 200, 1)
    assert load_font(15).getlength(labels[0]) < 200
    assert fitting == labels[0]
    assert cut.endswith("…")


async def test_labels_that_begin_alike_are_told_apart_above_and_beside(tmp_path: Path) -> None:
    named = [f"{'a very long prompt about a cup, ' * 20}{end}" for end in ("with a cat", "with a dog")]
    plan = Plan(axes={"denoise_strength": [0.2, 0.4], "variation": named}, metrics=False, source=False)
    folder = await paint_folder(tmp_path / "cups", plan)

    def draw() -> None:
        sheet = contact_sheet._Sheet(heading="", other_levels="", columns=named, cells=[], size=(96, 96))
        for labels in (sheet.labels, contact_sheet.wrap_apart(named, 15, 240, 1)):
            assert ["cat" in labels[0], "dog" in labels[1]] == [True, True]
        (path,) = write_sheet(folder, x="denoise_strength", y="variation", size=96)
        with Image.open(path) as image:
            tops = [image.height - 14 - 76 * lines for lines in (2, 1)]
            first, second = (image.crop((0, top + 44, 110, top + 62)).tobytes() for top in tops)
        assert first != second

    await run_sync(draw)
