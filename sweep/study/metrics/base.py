"""The Metric protocol, whose docstring is the contract; its simplest implementation; and the images it measures."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from sweep.errors import SweepError
from sweep.study.study_json import Direction, ReferenceKind

if TYPE_CHECKING:
    from PIL import Image


RgbArray: TypeAlias = npt.NDArray[np.uint8]  # height × width × 3, sRGB
Plane: TypeAlias = npt.NDArray[np.float32]
Derived = TypeVar("Derived")

MAX_MEASURED_PIXELS = 100_000_000  # an image beyond this is not decoded: it would not fit beside its neighbours


class UnreadableImageError(SweepError):
    """An image file is missing, broken or too large; the message says which of these."""


@dataclass(frozen=True, slots=True)
class _Measured:
    """An image or a pair, with all that was computed of it, by function."""

    computed: dict[Any, Any] = field(default_factory=dict, kw_only=True)


_Image = TypeVar("_Image", bound=_Measured)


def compute_once(compute: Callable[[_Image], Derived]) -> Callable[[_Image], Derived]:
    """Make a function of an image, or a pair, compute its result once for each: several metrics share it."""

    @wraps(compute)
    def get(image: _Image) -> Derived:
        if compute not in image.computed:
            image.computed[compute] = compute(image)
        found: Derived = image.computed[compute]
        return found

    return get


@dataclass(frozen=True, slots=True)
class DecodedImage(_Measured):
    """A decoded image: RGB at a working size. Its array must not be changed."""

    rgb: RgbArray


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePair(_Measured):
    """The view that a metric measures: an image, and where it asks for one a `reference` of the same size, the
    `prompt`, or the `others` of its cell.
    """

    image: DecodedImage
    reference: DecodedImage | None = None
    prompt: str | None = None
    others: tuple[DecodedImage, ...] = ()

    @property
    def pair(self) -> tuple[DecodedImage, DecodedImage]:
        """Image and reference; ValueError where there is none."""
        if self.reference is None:
            raise ValueError("this metric compares with a reference image, and the view has none")
        return self.image, self.reference


@dataclass(frozen=True, slots=True)
class SentImage:
    """The bytes of an image file, for a process on a host that has no such file."""

    name: str
    data: bytes


def decode(path: Path | SentImage) -> Image.Image:
    """Decode the whole image at `path` as RGB.

    Raises UnreadableImageError where it is missing, truncated, no image, or has more than 100 Mpx.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path if isinstance(path, Path) else io.BytesIO(path.data)) as image:
                if image.width * image.height > MAX_MEASURED_PIXELS:
                    raise UnreadableImageError(
                        f"{path.name} has {image.width} × {image.height} px, too many to measure."
                    )
                image.load()
                return image.convert("RGB")
    except FileNotFoundError:
        raise UnreadableImageError(f"{path.name} is not there.") from None
    except (OSError, ValueError, SyntaxError, MemoryError) as error:
        raise UnreadableImageError(f"{path.name} is not a complete image ({_first_line(error)}).") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError(f"{path.name} has too many pixels to measure.") from error


def _first_line(error: Exception) -> str:
    """Return the message without the path or the object that Pillow and the system end it with."""
    first = (str(error).splitlines() or [""])[0] or type(error).__name__
    return re.split(r":? ['<]", first)[0]


def compute_working_shape(width: int, height: int, working_size: int) -> tuple[int, int]:
    """Return width and height with the longest side at most `working_size`; smaller images stay as they are."""
    longest = max(width, height)
    if longest <= working_size:
        return width, height
    return max(round(width * working_size / longest), 1), max(round(height * working_size / longest), 1)


def resize_image(image: Image.Image, shape: tuple[int, int]) -> DecodedImage:
    """Resize the image to exactly this width and height: BOX where it shrinks, BICUBIC where it grows.

    A source of another size than its rendering comes to the rendering's size here, as the server brings it there.
    """
    from PIL import Image

    if image.size != shape:
        shrinks = image.width >= shape[0] and image.height >= shape[1]
        image = image.resize(shape, Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC)
    return DecodedImage(np.asarray(image))


def hash_image_file(path: Path) -> str:
    """Return the SHA-256 of the file's bytes, hexadecimal. Raises UnreadableImageError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableImageError(f"{path.name} cannot be read ({error.strerror or error}).") from error


@runtime_checkable
class Metric(Protocol):
    """A number about an image, alone or against something.

    Implementations are found by the entry point group ``sweep.metrics``: an entry point names a Metric, or a
    function without parameters that returns one or several. They are pickled to worker processes, so they must be
    importable (no lambdas, nothing defined in ``__main__``); what is costly to load is loaded at the first
    `measure`, not when made. `sweep.testing.metrics.check_metric` says whether an implementation keeps this.

    What must hold: `measure` is a pure function of the view (same pixels, same value), returns a finite float
    within `range` or NaN where the metric has no value for such an image, does not change the view's arrays, and
    writes nothing to disk. For ``direction`` other than "neutral" and reference "image", an image against
    itself gives the nearest end of `range`. `version` changes whenever a value would change: values of another
    version are measured anew.
    """

    @property
    def name(self) -> str:
        """Column name: lower case, digits and underscores."""

    @property
    def label(self) -> str:
        """Label for people, within a sentence: "layout of light and dark"."""

    @property
    def summary(self) -> str:
        """Return one sentence for people that says what the metric tells."""

    @property
    def unit(self) -> str:
        """Unit of the values; empty where they have none."""

    @property
    def version(self) -> str:
        """Version of the computation."""

    @property
    def direction(self) -> Direction:
        """Direction: "higher" or "lower" values are nearer to the reference, or "neutral": neither."""

    @property
    def range(self) -> tuple[float | None, float | None]:
        """Lowest and highest value there can be; None: no bound."""

    @property
    def reference(self) -> ReferenceKind:
        """Content that a view needs besides the image: "image" (source or baseline), "none", "text" (the prompt), or
        "cell" (the other images of the cell, in `View.others`).
        """

    @property
    def working_size(self) -> int:
        """Longest side in pixels that images are reduced to (BOX) before measuring."""

    @property
    def cost(self) -> float:
        """Milliseconds a 1024 × 1024 image or pair on one core, decoding not counted; for estimates only."""

    @property
    def source(self) -> str:
        """Source of the formula: a paper or a page."""

    def measure(self, view: ImagePair) -> float:
        """Compute the value for a view of that `working_size`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A metric computed by a function of a view. The standard panel consists of these."""

    name: str
    label: str
    summary: str
    direction: Direction
    range: tuple[float | None, float | None]
    reference: ReferenceKind
    cost: float
    source: str
    function: Callable[[ImagePair], float]
    unit: str = ""
    version: str = "1"
    working_size: int = 512

    def measure(self, view: ImagePair) -> float:
        """Call the function."""
        return self.function(view)
