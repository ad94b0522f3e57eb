"""Input images become what servers take: upright, RGB(A), 8 bits; one that needs nothing stays byte for byte."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from sweep.input_images import ImageReader, InputImageError, hash_prepared, read_input


def marked(mode: str = "RGB") -> Image.Image:
    """12 × 8 px, black but for a bright corner: every turn of it differs from every other."""
    image = Image.new("RGB", (12, 8))
    image.paste((250, 240, 230), (0, 0, 4, 4))
    return image.convert(mode)


def save(path: Path, image: Image.Image, orientation: int | None = None, **options: object) -> Path:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    image.save(path, exif=exif, **options)  # type: ignore[arg-type]
    return path


def test_an_image_that_needs_nothing_keeps_its_bytes_and_its_hash(tmp_path: Path) -> None:
    paths = [
        save(tmp_path / "rgb.png", marked()),
        save(tmp_path / "rgba.png", marked("RGBA")),
        save(tmp_path / "grey.png", marked("L")),
        save(tmp_path / "palette.png", marked("P")),
        save(tmp_path / "plain.jpg", marked()),
        save(tmp_path / "upright.jpg", marked(), orientation=1),
        save(tmp_path / "odd.jpg", marked(), orientation=77),
        save(tmp_path / "lossless.webp", marked(), lossless=True),
    ]
    for path in paths:
        found = ImageReader().read(path, path.name)

        assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest(), path.name
        assert read_input(path, found.sha256) == (path.read_bytes(), path.suffix)


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp"])
def test_a_turned_image_is_set_upright_whatever_its_orientation(tmp_path: Path, ending: str) -> None:
    for orientation in range(2, 9):
        path = save(
            tmp_path / f"{orientation}{ending}", marked(), orientation, **{"quality": 100} if ending == ".jpg" else {}
        )
        with Image.open(path) as opened:
            wanted = ImageOps.exif_transpose(opened)

        found = ImageReader().read(path, path.name)
        content, kind = read_input(path, found.sha256)

        with Image.open(io.BytesIO(content)) as sent:
            assert kind == ".png"
            assert sent.size == (found.width, found.height) == wanted.size
            assert sent.getexif().get(0x0112, 1) == 1
            assert np.array_equal(np.asarray(sent.convert("RGB")), np.asarray(wanted.convert("RGB")))


def test_a_tiff_that_is_turned_has_the_size_that_viewers_show(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.tif", marked(), orientation=6)
    found = ImageReader().read(path, "scan.tif")
    with Image.open(io.BytesIO(read_input(path, found.sha256)[0])) as sent:
        assert sent.size == (found.width, found.height) == (8, 12)


def test_no_program_is_run_to_draw_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    with pytest.raises(InputImageError, match="is an EPS file"):
        ImageReader().read(path, "a.png")


def test_modes_that_servers_fail_at_are_converted(tmp_path: Path) -> None:
    deep = Image.fromarray((np.arange(96, dtype=np.uint32).reshape(8, 12) * 600).astype(np.uint16))
    paths = [
        save(tmp_path / "cmyk.jpg", marked("CMYK")),
        save(tmp_path / "lab.tif", marked("LAB")),
        save(tmp_path / "deep.png", deep),
        save(tmp_path / "float.tif", marked("L").convert("F")),
        save(tmp_path / "turned palette.tif", marked("P").convert("PA"), orientation=6),
    ]
    for path in paths:
        found = ImageReader().read(path, path.name)
        content, _ = read_input(path, found.sha256)

        assert found.sha256 == hash_prepared(hashlib.sha256(path.read_bytes()).hexdigest()), path.name
        with Image.open(io.BytesIO(content)) as sent:
            assert sent.mode in {"RGB", "RGBA", "L"}, path.name
            grey = np.asarray(sent.convert("L"))
        assert int(grey.max()) > 200
        assert int(grey.min()) < 40


def test_an_image_that_changed_since_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", marked())
    found = ImageReader().read(path, "a.png")
    save(path, marked("L"))

    with pytest.raises(ValueError, match="was changed"):
        read_input(path, found.sha256)
