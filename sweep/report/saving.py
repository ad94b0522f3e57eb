"""Picture files in the format that their name asks for, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any, Final

from PIL import Image

from sweep.errors import UsageError, did_you_mean


@dataclass(frozen=True, slots=True)
class _Format:
    name: str
    limit: int  # px a side
    options: Mapping[str, Any]


class _Formats:
    """By file ending."""

    def __init__(self, known: Mapping[str, _Format]) -> None:
        self._known = known

    def of(self, path: Path) -> _Format:
        """Raises UsageError for an ending that names no format."""
        found = self._known.get(path.suffix.lower())
        if found is None:
            endings = ", ".join(self._known)
            near = did_you_mean(path.suffix, self._known)
            raise UsageError(f"{path.name} names no format that can be written here.{near}", hint=f"Use {endings}.")
        return found

    def limit(self, path: Path) -> int:
        """The longest side in px."""
        return self.of(path).limit


_JPEG = _Format("JPEG", 65_535, {"quality": 90, "optimize": True})
FORMATS: Final = _Formats(
    {
        ".png": _Format("PNG", 65_535, {"compress_level": 6}),
        ".jpg": _JPEG,
        ".jpeg": _JPEG,
        ".webp": _Format("WEBP", 16_383, {"quality": 85, "method": 4}),
    }
)
MOVING: Final = _Formats(
    {
        ".gif": _Format("GIF", 65_535, {"optimize": True}),
        ".webp": _Format("WEBP", 16_383, {"quality": 80, "method": 4, "minimize_size": True}),
    }
)


def save_still(picture: Image.Image, path: Path) -> Path:
    """Writes a picture. Raises UsageError for an unknown ending, OSError where it cannot be written."""
    known = FORMATS.of(path)
    _whole(path, lambda file: picture.save(file, known.name, **known.options))
    return path


def save_moving(pictures: Sequence[Image.Image], path: Path, milliseconds: int) -> Path:
    """Writes an animation that goes round for ever, `milliseconds` a picture. Raises as `save_still`."""
    known = MOVING.of(path)
    first, *rest = pictures
    options = {**known.options, "save_all": True, "append_images": rest, "duration": milliseconds, "loop": 0}
    _whole(path, lambda file: first.save(file, known.name, **options))
    return path


def _whole(path: Path, save: Callable[[IO[bytes]], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        try:
            save(part)
            part.close()
            Path(part.name).chmod(0o644)
            Path(part.name).replace(path)
        except BaseException:
            part.close()
            Path(part.name).unlink(missing_ok=True)
            raise
