"""What a file says targets are set to: checked by their role, and paths made into pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweep.experiment.document import Faults, Place
from sweep.experiment.naming import AxisError
from sweep.experiment.pictures import PictureError, PictureReader
from sweep.experiment.values import Setting
from sweep.experiment.vocabulary import is_picture, said, value_fault


class Paths:
    """Resolves what a file says about files, and remembers how to say it from the experiment's own folder."""

    def __init__(self, faults: Faults, folder: Path) -> None:
        self._faults = faults
        self.folder = folder
        self.pictures = PictureReader()
        self.rewritten: dict[Place, str] = {}  # paths of included files, as seen from `folder`

    def shown(self, place: Place, written: str) -> str:
        """The path from the experiment's folder, with "/": as written, unless an included file wrote it."""
        base = self._faults.document.folder_of(place)
        if base == self.folder or Path(written).is_absolute():
            return written
        try:
            moved = Path(os.path.relpath(base / written, self.folder)).as_posix()
        except ValueError:  # another drive
            moved = (base / written).as_posix()
        self.rewritten[place] = moved
        return moved

    def path(self, shown: str) -> Path:
        """Where that is, absolute; also for the tilde of a home."""
        return Path(os.path.normpath(self.folder / Path(shown).expanduser()))


class Settings:
    """Turns raw values into settings: checked by their role, paths into pictures."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def read(self, target: str, raw: Any, place: Place) -> Setting:
        """Raises AxisError with a message that begins after the place's name."""
        if isinstance(raw, Mapping) and set(raw) == {"image"} and isinstance(raw["image"], str):
            return self._picture(raw["image"], (*place, "image"))
        fault = value_fault(target, raw)
        if fault:
            raise AxisError(fault)
        if is_picture(target) and isinstance(raw, str):
            return self._picture(raw, place)
        if target == "controls":
            return [self._control(entry, (*place, at)) for at, entry in enumerate(raw)]
        setting: Setting = raw
        return setting

    def _control(self, entry: Mapping[str, Any], place: Place) -> dict[str, Any]:
        image = entry["image"]
        if not isinstance(image, str):
            raise AxisError(f"image must be the path of a picture, not {said(image)}")
        return {**entry, "image": self._picture(image, (*place, "image"))}

    def _picture(self, written: str, place: Place) -> Setting:
        shown = self._paths.shown(place, written)
        try:
            return self._paths.pictures.read(self._paths.path(shown), shown)
        except PictureError as error:
            raise AxisError(f"{shown} {error}") from error
