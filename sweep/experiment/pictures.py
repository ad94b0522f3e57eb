"""Input pictures: found, decoded to be sure that they are pictures, and known by what is in them."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Final

from sweep.experiment.files import did_you_mean_file
from sweep.experiment.values import InputImage

MAX_BYTES: Final = 200_000_000
MAX_PIXELS: Final = 100_000_000


class PictureError(ValueError):
    """Why a file is no picture to start from, as the end of a sentence that begins with its name."""


class PictureReader:
    """Reads each file once, however often an experiment names it."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[str, int, int]] = {}

    def read(self, path: Path, shown: str) -> InputImage:
        """Raises PictureError where there is no such file, or Pillow cannot decode the whole of it."""
        facts = self._read.get(path)
        if facts is None:
            facts = self._read[path] = _facts(path)
        sha256, width, height = facts
        return InputImage(path=path, shown=shown, sha256=sha256, width=width, height=height)


def _facts(path: Path) -> tuple[str, int, int]:
    try:
        if not path.is_file():
            raise PictureError(
                "is a folder" if path.is_dir() else f"does not exist.{did_you_mean_file(path)}".rstrip(".")
            )
        if path.stat().st_size > MAX_BYTES:
            raise PictureError(f"is larger than {MAX_BYTES // 1_000_000} MB")
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, PictureError):
            raise
        raise PictureError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    width, height = _decoded_size(raw, path.suffix.lstrip(".").upper())
    return hashlib.sha256(raw).hexdigest(), width, height


def _decoded_size(raw: bytes, kind: str) -> tuple[int, int]:
    import io

    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(raw)) as image:
                size = image.size
                if size[0] * size[1] <= MAX_PIXELS:
                    image.load()
    except UnidentifiedImageError as error:
        raise PictureError(f"is no {kind or 'picture'}: it does not decode as a picture") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise PictureError(f"is a broken picture ({error})") from error
    if size[0] * size[1] > MAX_PIXELS:
        raise PictureError(f"has {size[0]} × {size[1]} pixels; the most is {MAX_PIXELS:,}")
    return size
