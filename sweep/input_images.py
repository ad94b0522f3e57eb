"""Input images: decoded whole when an experiment names them, and converted to what servers take.

Servers take images that are upright by EXIF orientation, RGB(A) or grey, with 8 bits a channel. An image that needs
nothing is sent byte for byte, and its hash is that of its bytes. Any other is converted to PNG where it is sent and
where it is kept; its hash is made from the original's, so that keys do not depend on an encoder.
"""

from __future__ import annotations

import hashlib
import io
import math
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sweep.errors import did_you_mean_file

if TYPE_CHECKING:
    from PIL import Image

MAX_IMAGE_BYTES: Final = 200_000_000
MAX_INPUT_PIXELS: Final = 100_000_000
_READ_KINDS: Final = frozenset({"PNG", "JPG", "JPEG", "WEBP", "GIF", "BMP", "TIF", "TIFF", "AVIF", ""})
_HEIF_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_EPS: Final = (b"%!PS", b"\xc5\xd0\xd3\xc6")
_PNG_MODES: Final = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
_READY_MODES: Final = _PNG_MODES | {"PA", "RGBX"}
_ORIENTATION: Final = 0x0112  # the EXIF tag; 1 is upright
_TURNED: Final = (5, 6, 7, 8)  # by 90 degrees: width and height change places


class InputImageError(ValueError):
    """A file cannot be an input image. The text is the end of a sentence that begins with the file's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputImage:
    """An image file of the experiment, upright. `shown` is the path as it was written."""

    path: Path
    shown: str
    sha256: str  # of what is sent
    width: int
    height: int
    server: str = ""  # in whose gallery it is, as sent; `shown` is then gallery: and its name there


class ImageReader:
    """Reads each file once, however often an experiment names it."""

    def __init__(self) -> None:
        self._inspect = cache(_inspect_file)

    def read(self, path: Path, shown: str, server: str = "") -> InputImage:
        """Read and decode an image file. Raises InputImageError where it is missing or cannot be decoded whole."""
        sha256, width, height = self._inspect(path, Path(shown).parent)
        if server and sha256 != hashlib.sha256(path.read_bytes()).hexdigest():
            server = ""  # it is not sent as it is there
        return InputImage(path=path, shown=shown, sha256=sha256, width=width, height=height, server=server)


def _inspect_file(path: Path, folder: Path) -> tuple[str, int, int]:
    try:
        if not path.is_file():
            near = did_you_mean_file(path, folder)
            missing = f"does not exist.{near}" if near else "does not exist; write the path of your image"
            raise InputImageError("is a folder" if path.is_dir() else missing)
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise InputImageError(f"is larger than {MAX_IMAGE_BYTES // 1_000_000} MB")
        raw = path.read_bytes()
    except OSError as error:
        raise InputImageError(f"cannot be read ({error.strerror or error})") from error
    return _inspect(raw, path.suffix.lstrip(".").upper())


def _inspect(raw: bytes, kind: str) -> tuple[str, int, int]:
    """Decode an image of this kind (PNG, …) whole; return the hash that names it, and its size as viewers show it."""
    from PIL import Image, UnidentifiedImageError

    if raw.startswith(_EPS):  # Pillow would run Ghostscript
        raise InputImageError("is an EPS file, a program that draws; save it as JPEG or PNG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(raw)) as image:
                is_ready = image.mode in _READY_MODES and _read_orientation(image) == 1
                if math.prod(image.size) <= MAX_INPUT_PIXELS:
                    image.load()  # turns a TIFF
                width, height = reversed(image.size) if _read_orientation(image) in _TURNED else image.size
    except UnidentifiedImageError as error:
        if raw[4:8] == b"ftyp" and raw[8:12] in _HEIF_BRANDS:
            raise InputImageError("is a HEIC image; save it as JPEG or PNG") from error
        if kind not in _READ_KINDS:
            raise InputImageError("is not an image that sweep can read; save it as JPEG or PNG") from error
        raise InputImageError(f"is no {kind}: it does not decode as an image") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputImageError(f"is a broken image ({error})") from error
    if width * height > MAX_INPUT_PIXELS:
        raise InputImageError(f"has {width} × {height} pixels; the most is {MAX_INPUT_PIXELS:,}")
    sha256 = hashlib.sha256(raw).hexdigest()
    return sha256 if is_ready else hash_prepared(sha256), width, height


def hash_prepared(sha256: str) -> str:
    """Make the hash of a prepared image from the hash of its file."""
    return hashlib.sha256(f"{sha256} upright RGBA 8 bit".encode()).hexdigest()


def prepare_image(raw: bytes) -> bytes:
    """Convert an image to an upright PNG of 8 bits a channel. Raises OSError where it does not decode."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(raw)) as opened:
            image = ImageOps.exif_transpose(opened)
    if image.mode.startswith(("I", "F")):  # 16 or 32 bits a pixel, grey
        low, high = image.getextrema()
        assert isinstance(low, int | float) and isinstance(high, int | float)  # noqa: PT018  one band
        scale = 1 / 256 if image.mode.startswith("I") and high > 255 else 1 if high > 1 else 255
        image = image.convert("F").point(lambda value: value * scale).convert("L")
    elif image.mode not in _PNG_MODES:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def read_input(path: Path, sha256: str, *, is_raw: bool = False) -> tuple[bytes, str]:
    """Return an input image's bytes and the ending of a file with them (".png"): as they are sent and kept, or raw.

    Raises OSError where it cannot be read, and ValueError where its content no longer has this hash.
    """
    raw = path.read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if sha256 not in (found, hash_prepared(found)):
        raise ValueError("was changed after the experiment was read")
    return (raw, path.suffix.lower()) if is_raw or found == sha256 else (prepare_image(raw), ".png")


def _read_orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except (OSError, ValueError, SyntaxError, TypeError, KeyError):  # EXIF that is broken turns nothing
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1
