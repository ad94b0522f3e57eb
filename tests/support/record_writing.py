"""Records and images for the tests of this room."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sweep.record import ImageStore, JournalPoint, Rendering, RunFacts, SavedImage, SqliteJournal
from sweep.testing.journals import TIMES, an_intent

AXES = (("denoise_strength", "number"), ("variation", "text"), ("seed", "seed"))


def image(form: str = "PNG", size: tuple[int, int] = (24, 16), note: str = "", shade: int = 90) -> bytes:
    """A whole image file; a PNG carries `note` as a text chunk."""
    image = Image.new("RGB", size, (shade, 120, 40))
    image.putpixel((1, 1), (255, 0, shade))
    chunks = PngInfo()
    chunks.add_text("invokeai_metadata", note)
    file = io.BytesIO()
    image.save(file, form, **({"pnginfo": chunks} if form == "PNG" else {}))
    return file.getvalue()


def facts(points: int = 8, fingerprint: str = "first", axes: Sequence[tuple[str, str]] = AXES) -> RunFacts:
    return RunFacts(experiment="name: cup\n", fingerprint=fingerprint, axes=tuple(axes), points=points)


def point(index: int, *, source: str | None = None) -> JournalPoint:
    return JournalPoint(
        key=f"{index:032x}",
        index=index,
        values={"denoise_strength": index / 10, "variation": "studio lighting", "seed": 2**53 + 1 + index},
        prompt="a cup, studio lighting",
        model="tiny-sd",
        source=source,
    )


def rendering(saved: SavedImage, iteration: int = 0) -> Rendering:
    return Rendering(
        path=saved.path,
        image_name="../../etc/passwd",
        node="decode",
        iteration=iteration,
        width=saved.width,
        height=saved.height,
        sha256=saved.sha256,
        size=saved.size,
    )


async def complete(journal: SqliteJournal, store: ImageStore, one: JournalPoint, images: int = 1) -> list[SavedImage]:
    """The whole way of one variation, with real files."""
    await journal.intend(one, an_intent(one))
    stem = store.stem(one.index, one.values, dict(AXES))
    saved = [
        await store.save(image(shade=one.index % 200, note=str(ordinal)), stem, one.key, ordinal)
        for ordinal in range(images)
    ]
    await journal.complete(one.key, [rendering(each, n) for n, each in enumerate(saved)], TIMES)
    return saved


async def a_folder(folder: Path, points: int = 4) -> Path:
    """A finished run of so many points."""
    async with await SqliteJournal.open(folder) as journal:
        store = ImageStore(folder, points)
        run = await journal.begin_run(facts(points))
        for index in range(points):
            await complete(journal, store, point(index))
        await journal.end_run(run, "completed")
    return folder
