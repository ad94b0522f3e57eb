"""Ten thousand images measured at once: how many a second, what a kill half way costs, and whether memory grows.

`python -m benchmarks.pairs [IMAGES]`; about five minutes for 10,000 of 256 × 256 px on two cores. Linux only.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
import numpy as np
from PIL import Image

from benchmarks.figures import Figure
from benchmarks.processes import MILLION
from sweep.record import Intent, JournalPoint, Rendering, RunFacts, SqliteJournal, Times
from sweep.study import measure_now
from sweep.types import Scalar

IMAGES = 10_000
FEWER = 1000  # where all benchmarks run one after the other
SIDE = 256
STRENGTHS, SEEDS = 25, 4
AT_ONCE = 64  # points written together while the folder is made
FOLDER_SOURCE: Final = "inputs/source.png"


@dataclass(slots=True)
class Measured:
    """One process that measured: what it counted, and what it and its workers had in memory at each tenth, in MB."""

    seconds: float = 0.0  # from the first count to the last: without Python's start and the statistics
    first: int = 0  # images known before
    done: int = 0
    parent: list[float] = field(default_factory=list)
    workers: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Images a second."""
        return (self.done - self.first) / self.seconds if self.seconds else 0.0


def layers() -> tuple[np.ndarray, np.ndarray]:
    """Paint a source with structure at every scale, and one other image a seed."""
    rng = np.random.default_rng(1)
    made = []
    for _ in range(1 + SEEDS):
        total = np.zeros((SIDE, SIDE, 3))
        for octave in (4, 16, 64, 256):
            small = Image.fromarray(rng.integers(0, 256, (octave, octave, 3), dtype=np.uint8))
            total += np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=float) / octave
        made.append(total / total.max() * 255)
    return made[0], np.stack(made[1:])


def png(pixels: np.ndarray) -> bytes:
    """Quickly packed: what is measured is measuring."""
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def points(count: int) -> Iterator[tuple[int, float, str, int]]:
    """Index, strength, variation, seed."""
    for index in range(count):
        seed, rest = index % SEEDS, index // SEEDS
        yield index, rest % STRENGTHS / (STRENGTHS - 1), f"look {rest // STRENGTHS}", seed


async def make(folder: Path, count: int) -> None:
    """Write a results folder as a run leaves it, every image another one."""
    source, others = layers()
    packed = png(source)
    digest = hashlib.sha256(packed).hexdigest()
    for name in ("images", "inputs"):
        await anyio.Path(folder / name).mkdir(parents=True, exist_ok=True)
    await anyio.Path(folder / FOLDER_SOURCE).write_bytes(packed)
    journal = await SqliteJournal.open(folder)
    try:
        axes = (("denoise_strength", "number"), ("variation", "text"), ("seed", "seed"))
        await journal.begin_run(RunFacts(experiment="name: pairs\n", fingerprint="f", axes=axes, points=count))
        await journal.keep_input(digest, FOLDER_SOURCE, "source.png", SIDE, SIDE)
        limit = anyio.CapacityLimiter(AT_ONCE)

        async def write(index: int, strength: float, look: str, seed: int) -> None:
            async with limit:
                mixed = (1 - strength) * source + strength * others[seed] + index % 251 / 10
                await write_point(journal, folder, Made(index, strength, look, seed, png(mixed)), digest)

        async with anyio.create_task_group() as group:
            for point in points(count):
                group.start_soon(write, *point)
    finally:
        await journal.aclose()


@dataclass(frozen=True, slots=True)
class Made:
    """One point and its image's bytes."""

    index: int
    strength: float
    look: str
    seed: int
    data: bytes


async def write_point(journal: SqliteJournal, folder: Path, made: Made, source: str) -> None:
    """Intent, image, completion."""
    key, path = f"{made.index:032x}", f"images/{made.index:05d}.png"
    values: dict[str, Scalar] = {"denoise_strength": made.strength, "variation": made.look, "seed": made.seed}
    point = JournalPoint(key=key, index=made.index, values=values, prompt=made.look, model="none", source=source)
    await journal.intend(point, Intent(key=key, number=1, server="s", url="http://s", batch_id=key))
    await anyio.Path(folder / path).write_bytes(made.data)
    rendering = Rendering(
        path=path,
        image_name=f"{made.index}.png",
        node="out",
        iteration=0,
        width=SIDE,
        height=SIDE,
        sha256=hashlib.sha256(made.data).hexdigest(),
        size=len(made.data),
    )
    await journal.mark_rendered(key, Times())
    await journal.complete(key, [rendering], Times())


def resident(pid: int) -> float:
    """MB a process has in memory now; 0 where it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / MILLION


def children(pid: int) -> list[int]:
    """Its worker processes."""
    try:
        found = [Path(task / "children").read_text(encoding="ascii") for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
    return [int(child) for text in found for child in text.split()]


def run_measurement(folder: Path, workers: int, *, kill_at: int | None = None, until: int | None = None) -> Measured:
    """Measure `folder` in a process of its own until it ends, or kill it at so many images."""
    command = [sys.executable, "-m", "benchmarks.pairs", "--measure", str(folder), str(workers)]
    found = Measured()
    begun: float | None = None
    stop = kill_at or until
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            found.done, total = map(int, line.split())
            if begun is None:
                begun, found.first = time.perf_counter(), found.done
            found.seconds = time.perf_counter() - begun
            if found.done >= found.first + (len(found.parent) + 1) * max((stop or total) - found.first, 10) // 10:
                found.parent.append(resident(process.pid))
                found.workers.append(max((resident(child) for child in children(process.pid)), default=0.0))
            if stop is not None and found.done >= stop:
                process.kill()
                break
    return found


def figures(count: int) -> list[Figure]:
    """Time one process for a fifth of the images, two until they are killed half way, two again until the end."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "pairs"
        anyio.run(make, folder, count)
        alone = run_measurement(folder, 1, until=count // 5)
        both = run_measurement(folder, 2, kill_at=count // 2)
        rest = run_measurement(folder, 2)
    said = f"{count:,} images of {SIDE} × {SIDE} px"

    def figure(name: str, value: float, unit: str = "") -> Figure:
        return Figure(benchmark="pairs", name=name, value=value, unit=unit)

    return [
        figure(f"{said}: one process", alone.rate, "a second"),
        figure("two processes", both.rate, "a second"),
        figure("two processes, after the kill", rest.rate, "a second"),
        figure("measured when SIGKILL came", both.done),
        figure("known at the next start", rest.first),
        figure("in the end", rest.done),
        figure("memory of the main process after the first tenth", rest.parent[0], "MB"),
        figure("and after the last", rest.parent[-1], "MB"),
        figure("memory of a worker after the first tenth", rest.workers[0], "MB"),
        figure("and after the ninth", rest.workers[min(8, len(rest.workers) - 1)], "MB"),
    ]


def measure() -> list[Figure]:
    """Fewer, for the round of all benchmarks."""
    return figures(FEWER)


def main(arguments: list[str]) -> None:
    """Print the figures; with `--measure FOLDER WORKERS` be the process that measures."""
    if arguments[:1] == ["--measure"]:
        measure_now(
            arguments[1], workers=int(arguments[2]), progress=lambda done, total: print(done, total, flush=True)
        )
        return
    for figure in figures(int(arguments[0]) if arguments else IMAGES):
        print(f"{figure.name:<60}{figure.value:>10,.1f} {figure.unit}")


if __name__ == "__main__":
    main(sys.argv[1:])
