"""Values of inputs and levels: checked by their role, and paths read into images.

An input image is decoded whole, to be sure that it is one, and is known by the hash of its content.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sweep.experiment.axes import AxisError
from sweep.experiment.axis_arguments import suggest_axis
from sweep.experiment.document import Document, DocumentPath, did_you_mean_file, expand_path
from sweep.experiment.model import InputImage, Setting
from sweep.image_conversion import hash_prepared, is_ready, upright_size
from sweep.role_table import find_value_problem, is_image, quote

MAX_IMAGE_BYTES: Final = 200_000_000
MAX_INPUT_PIXELS: Final = 100_000_000
_READ_KINDS: Final = frozenset({"PNG", "JPG", "JPEG", "WEBP", "GIF", "BMP", "TIF", "TIFF", "AVIF", ""})
_HEIF_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


class InputImageError(ValueError):
    """Why a file is no image to start from, as the end of a sentence that begins with its name."""


REFERENCES: Final = ("gallery:", "board:", "library:")
"""What begins the name of an image, a board or a workflow that a server has."""
UNFETCHED: Final = "of a server; give its address with --server, or in the list servers"
FETCHED_FILE: Final = "fetched.json"


def is_reference(text: object) -> bool:
    """Tell whether a text names something that only a server has."""
    return isinstance(text, str) and text.startswith(REFERENCES) and not text.endswith(":")


class FetchedFiles:
    """What servers gave for the references of an experiment: files in a folder, with a list of them.

    `entries` has for each reference the `server` it is from, and the `file` of an image or workflow, or the `images`
    of a board. `lacking` collects what is asked for and not there.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.lacking: dict[str, None] = {}
        self.entries: dict[str, dict[str, Any]] = {}
        if folder is not None:
            with suppress(OSError, ValueError):
                found = json.loads((folder / FETCHED_FILE).read_text(encoding="utf-8"))
                self.entries = {key: entry for key, entry in found.items() if isinstance(entry, dict)}
        self.used: dict[str, dict[str, Any]] = {}

    def find_file(self, reference: str) -> Path | None:
        """Find the file of an image or workflow; None, and lacking from now on, where it was not fetched."""
        entry = self.entries.get(reference, {})
        path = self.folder / Path(str(entry["file"])).name if self.folder and "file" in entry else None
        if path is None or not path.is_file():
            self.lacking[reference] = None
            return None
        self.used[reference] = {**entry, "file": path.absolute().as_posix()}
        return path

    def list_images(self, reference: str) -> list[str] | None:
        """List the images of a board, as references; None, and lacking from now on, where it was not fetched."""
        entry = self.entries.get(reference, {})
        if "images" not in entry:
            self.lacking[reference] = None
            return None
        self.used[reference] = entry
        return [f"gallery:{name}" for name in entry["images"]]


def write_fetched(folder: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the list of what was fetched into its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FETCHED_FILE).write_text(json.dumps(entries, indent=1), encoding="utf-8")


class ImageReader:
    """Reads each file once, however often an experiment names it."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[str, int, int]] = {}

    def read(self, path: Path, shown: str, server: str = "") -> InputImage:
        """Read and decode an image file. Raises InputImageError where it is missing or cannot be decoded whole."""
        facts = self._read.get(path)
        if facts is None:
            facts = self._read[path] = _read_facts(path)
        sha256, width, height = facts
        if server and sha256 != hashlib.sha256(path.read_bytes()).hexdigest():
            server = ""  # it is not sent as it is there
        return InputImage(path=path, shown=shown, sha256=sha256, width=width, height=height, server=server)


def _read_facts(path: Path) -> tuple[str, int, int]:
    try:
        if not path.is_file():
            near = did_you_mean_file(path)
            missing = f"does not exist.{near}" if near else "does not exist; write the path of your image"
            raise InputImageError("is a folder" if path.is_dir() else missing)
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise InputImageError(f"is larger than {MAX_IMAGE_BYTES // 1_000_000} MB")
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, InputImageError):
            raise
        raise InputImageError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    ready, (width, height) = _decode(raw, path.suffix.lstrip(".").upper())
    sha256 = hashlib.sha256(raw).hexdigest()
    return sha256 if ready else hash_prepared(sha256), width, height


def _decode(raw: bytes, kind: str) -> tuple[bool, tuple[int, int]]:
    """Decode an image whole; tell whether it can be sent as it is, and its size as a viewer shows it."""
    import io

    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(raw)) as image:
                size, ready = upright_size(image), is_ready(image)
                if size[0] * size[1] <= MAX_INPUT_PIXELS:
                    image.load()
    except UnidentifiedImageError as error:
        if raw[4:8] == b"ftyp" and raw[8:12] in _HEIF_BRANDS:
            raise InputImageError("is a HEIC image, which is not read here; save it as JPEG or PNG") from error
        if kind not in _READ_KINDS:
            raise InputImageError("is not an image that sweep can read; save it as JPEG or PNG") from error
        raise InputImageError(f"is no {kind}: it does not decode as an image") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputImageError(f"is a broken image ({error})") from error
    if size[0] * size[1] > MAX_INPUT_PIXELS:
        raise InputImageError(f"has {size[0]} × {size[1]} pixels; the most is {MAX_INPUT_PIXELS:,}")
    return ready, size


@dataclass
class InputReader:
    """Turns raw values into settings: checked by their role, paths into images; and finds files that a document names.

    Paths are written as seen from the experiment's own folder, also those of an included file elsewhere.
    """

    document: Document
    folder: Path
    fetched: FetchedFiles
    rewritten: dict[DocumentPath, str] = field(default_factory=dict)  # paths of included files, as seen from `folder`
    _images: ImageReader = field(default_factory=ImageReader)

    def find_path(self, place: DocumentPath, written: str) -> tuple[str, Path]:
        """Find where a path at `place` leads: as seen from the experiment's folder, with "/", and absolute."""
        base = self.document.find_folder(place)
        if base == self.folder or is_reference(written) or Path(written).is_absolute():
            return written, expand_path(self.folder, written)
        try:
            moved = Path(os.path.relpath(base / written, self.folder)).as_posix()
        except ValueError:  # another drive
            moved = (base / written).as_posix()
        self.rewritten[place] = moved
        return moved, expand_path(self.folder, moved)

    def read(self, target: str, raw: Any, place: DocumentPath) -> Setting:
        """Read one setting. Raises AxisError with the end of a sentence that begins with its place."""
        if isinstance(raw, Mapping) and set(raw) == {"image"} and isinstance(raw["image"], str):
            return self._read_image(raw["image"], (*place, "image"))
        problem = find_value_problem(target, raw)
        if problem:
            meant = suggest_axis(target, raw) if isinstance(raw, str) and problem.startswith("must be a") else None
            raise AxisError(f"{problem}; several values are an axis: axes: {{{target}: {meant}}}" if meant else problem)
        if is_image(target) and isinstance(raw, str):
            return self._read_image(raw, place)
        if target == "controls":
            return [
                {**entry, "image": self._read_image(entry["image"], (*place, at, "image"))}
                for at, entry in enumerate(raw)
            ]
        setting: Setting = raw
        return setting

    def _read_image(self, written: Any, place: DocumentPath) -> Setting:
        if not isinstance(written, str):
            raise AxisError(f"image must be the path of an image, not {quote(written)}")
        if is_reference(written):
            shown, path, server = written, *self._find_fetched(written)
        else:
            shown, path, server = *self.find_path(place, written), ""
        try:
            return self._images.read(path, shown, server)
        except InputImageError as error:
            raise AxisError(f"{shown} {error}") from error

    def _find_fetched(self, reference: str) -> tuple[Path, str]:
        if not reference.startswith("gallery:"):
            kind, _, name = reference.partition(":")
            way = f"write it as an axis, image: {{board: {name}}}" if kind == "board" else "write it under workflow:"
            raise AxisError(f"is {reference}, which is no single image; {way}")
        path = self.fetched.find_file(reference)
        if path is None:
            raise AxisError(f"{reference} is in the gallery {UNFETCHED}")
        return path, str(self.fetched.entries[reference].get("server", ""))
