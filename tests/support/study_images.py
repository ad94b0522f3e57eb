"""Images and results folders for the tests: made here, small, with structure at every scale."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import anyio
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from sweep.record import Failure, Intent, JournalPoint, Rendering, RunFacts, SqliteJournal, Times
from sweep.study import DecodedImage, ImagePair
from sweep.types import Scalar

Painted: TypeAlias = Image.Image | bytes | Sequence[Image.Image] | None
Paint: TypeAlias = Callable[[Mapping[str, Scalar]], Painted]


def noise(seed: int, width: int = 256, height: int = 256) -> npt.NDArray[np.float64]:
    """Structure at every scale, as photographs have it: octaves of smooth noise, 0–255, three channels."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    side = 4
    while side <= max(width, height):
        octave = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        total += np.asarray(octave.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64) / side
        side *= 2
    total -= total.min()
    return np.asarray(total / max(float(total.max()), 1e-9) * 255, dtype=np.float64)


def photo(seed: int = 0, width: int = 256, height: int = 256) -> Image.Image:
    """An image of that noise."""
    return Image.fromarray(noise(seed, width, height).astype(np.uint8))


def mixed(first: Image.Image, second: Image.Image, share: float) -> Image.Image:
    """What a strength of `share` does here: detail goes first, then the composition follows another image."""
    blurred = first.filter(ImageFilter.GaussianBlur(12 * share))
    return Image.blend(blurred, second, share)


def decoded(image: Image.Image) -> DecodedImage:
    return DecodedImage(np.asarray(image.convert("RGB")))


def view(image: Image.Image, reference: Image.Image | None = None, others: Sequence[Image.Image] = ()) -> ImagePair:
    return ImagePair(
        image=decoded(image),
        reference=decoded(reference) if reference else None,
        others=tuple(decoded(other) for other in others),
    )


def png_bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


async def write_results(
    folder: Path,
    points: Sequence[Mapping[str, Scalar]],
    paint: Paint,
    *,
    kinds: Mapping[str, str],
    source: Image.Image | None = None,
    experiment: str = "name: tested\n",
    done: int = 0,
) -> Path:
    """A results folder as a run leaves it. `paint` gives a point's image, its batch of images, bytes as they are, or
    None: it failed. The first `done` points are there already.
    """
    await anyio.Path(folder).mkdir(parents=True, exist_ok=True)
    journal = await SqliteJournal.open(folder)
    try:
        source_hash = await _begin(
            journal, folder, len(points), kinds, png_bytes(source) if source else None, experiment
        )
        await anyio.Path(folder / "images").mkdir(exist_ok=True)
        for index, values in enumerate(points[done:], start=done):
            await _write_point(journal, folder, index, values, paint(values), source_hash)
    finally:
        await journal.aclose()
    return folder


async def _begin(
    journal: SqliteJournal, folder: Path, count: int, kinds: Mapping[str, str], source: bytes | None, experiment: str
) -> str | None:
    """A run and its source image, whose hash this gives."""
    await journal.begin_run(RunFacts(experiment=experiment, fingerprint="f", axes=tuple(kinds.items()), points=count))
    if source is None:
        return None
    sha256 = hashlib.sha256(source).hexdigest()
    await anyio.Path(folder / "inputs").mkdir(exist_ok=True)
    await anyio.Path(folder / "inputs" / "source.png").write_bytes(source)
    await journal.keep_input(sha256, "inputs/source.png", "source.png", 1, 1)
    return sha256


async def _write_point(
    journal: SqliteJournal,
    folder: Path,
    index: int,
    values: Mapping[str, Scalar],
    painted: Painted,
    source_hash: str | None,
) -> None:
    key = f"{index:032x}"
    point = JournalPoint(key=key, index=index, values=values, prompt="a cup", model="tiny", source=source_hash)
    if painted is None:
        await journal.fail(point, Failure(kind="VariationError", message="noise and image sizes differ"))
        return
    await journal.intend(point, Intent(key=key, number=1, server="s", url="http://s", batch_id=key))
    batch = [painted] if isinstance(painted, bytes | Image.Image) else painted
    renderings = [await _write_image(folder, f"{index:05d}", number, each) for number, each in enumerate(batch)]
    await journal.mark_rendered(key, Times())
    await journal.complete(key, renderings, Times())


async def _write_image(folder: Path, name: str, number: int, painted: Image.Image | bytes) -> Rendering:
    """Write an image of a point's batch."""
    data = painted if isinstance(painted, bytes) else png_bytes(painted)
    path = f"images/{name}{f'_{number + 1}' if number else ''}.png"
    await anyio.Path(folder / path).write_bytes(data)
    width, height = (painted.width, painted.height) if isinstance(painted, Image.Image) else (64, 64)
    return Rendering(
        path=path,
        image_name=Path(path).name,
        node="out",
        iteration=number,
        width=width,
        height=height,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
    )
