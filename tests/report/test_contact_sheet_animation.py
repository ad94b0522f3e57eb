"""Animations and filmstrips: one image per level, the right one."""

from __future__ import annotations

from pathlib import Path

import pytest
from anyio.to_thread import run_sync
from PIL import Image

from sweep.errors import UsageError
from sweep.report.contact_sheet import find_levels, find_medians, write_animation, write_filmstrip
from sweep.report.report_data import read_report_data
from tests.report.painted import Plan, paint_folder


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


@pytest.mark.parametrize("name", ["moving.gif", "moving.webp"])
async def test_animation_has_one_frame_per_level(folder: Path, tmp_path: Path, name: str) -> None:
    path = await run_sync(lambda: write_animation(folder, "denoise_strength", size=64, out=tmp_path / name))

    def frames() -> int:
        with Image.open(path) as image:
            return int(getattr(image, "n_frames", 1))

    assert await run_sync(frames) == 3


async def test_filmstrip_shows_the_median_of_each_level(folder: Path) -> None:
    data = await run_sync(read_report_data, folder)
    chosen = find_medians(data, find_levels(data, "denoise_strength"), "ssim")
    for level, row in chosen.items():
        strength = (0.2, 0.4, 0.6)[level]
        peers = sorted(data.frame.loc[data.frame["denoise_strength"] == strength, "ssim"])
        assert data.frame["ssim"].iloc[row] == peers[1]
    path = await run_sync(lambda: write_filmstrip(folder, "denoise_strength", metric="ssim", size=64))
    assert (await run_sync(size_of, path))[0] == 2 * 14 + 3 * (64 + 4)


async def test_filmstrip_is_as_wide_as_its_format_allows(tmp_path: Path) -> None:
    plan = Plan(axes={"seed": list(range(1, 61))}, size=(30, 10), metrics=False, source=False)
    folder = await paint_folder(tmp_path / "cups", plan)
    path = await run_sync(lambda: write_filmstrip(folder, "seed", size=260, out=tmp_path / "strip.webp"))
    assert (await run_sync(size_of, path))[0] == 2 * 14 + 60 * (260 + 4)
    with pytest.raises(UsageError, match=r"60 images of 280 px are wider than \.webp allows"):
        await run_sync(lambda: write_filmstrip(folder, "seed", size=280, out=tmp_path / "strip.webp"))


async def test_filmstrip_suggests_a_metric_for_a_misspelt_one(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"Did you mean ssim\?"):
        await run_sync(lambda: write_filmstrip(folder, "denoise_strength", metric="sssim"))
