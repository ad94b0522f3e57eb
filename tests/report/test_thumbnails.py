"""Thumbnails: made once, from anything that is an image, and from nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sweep.report.thumbnails import Thumbnails, shrink
from tests.report.painted import paint, png

IDENTITY = "ab" * 8


def put(folder: Path, data: bytes, name: str = "image.png") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_thumbnail_is_a_webp_of_256_px(tmp_path: Path) -> None:
    image = put(tmp_path, png(paint(0.4, 1, (600, 300))))
    thumbs = Thumbnails(tmp_path)
    assert thumbs.make({IDENTITY: image}) == {IDENTITY}
    with Image.open(tmp_path / "thumbs" / "ab" / f"{IDENTITY}.webp") as small:
        assert (small.format, small.size) == ("WEBP", (256, 128))


def test_thumbnail_is_made_once(tmp_path: Path) -> None:
    image = put(tmp_path, png(paint(0.4, 1)))
    thumbs = Thumbnails(tmp_path)
    thumbs.make({IDENTITY: image})
    image.unlink()
    assert thumbs.make({IDENTITY: image}) == {IDENTITY}
    assert list(thumbs.encode([IDENTITY])) == [IDENTITY]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html><img src=x onerror=alert(1)>",
        png(paint(0.4, 1))[:200],
        png(paint(0.2, 2)).replace(b"IDAT", b"IDOT"),
    ],
    ids=["empty", "html", "half", "broken"],
)
def test_thumbnail_of_a_broken_image_is_none(tmp_path: Path, data: bytes) -> None:
    thumbs = Thumbnails(tmp_path)
    assert thumbs.make({IDENTITY: put(tmp_path, data)}) == set()
    assert list(tmp_path.glob("thumbs/**/*.*")) == []


def test_thumbnail_of_a_missing_file_is_none(tmp_path: Path) -> None:
    assert Thumbnails(tmp_path).make({IDENTITY: tmp_path / "gone.png"}) == set()


def test_thumbnail_of_a_decompression_bomb_is_none(tmp_path: Path) -> None:
    Image.new("1", (20_000, 10_000)).save(tmp_path / "bomb.png")
    assert shrink(tmp_path / "bomb.png", 256) is None


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16", "LA", "CMYK"])
def test_thumbnails_of_every_mode_are_made(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.new(mode, (30, 20)).save(path)
    small = shrink(path, 10)
    assert small is not None
    assert small.mode in {"RGB", "RGBA"}
    assert small.size == (10, 7)
