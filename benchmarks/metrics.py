"""How long a metric takes: milliseconds a pair on one core, decoding included, and pairs a second on all of them.

    python -m benchmarks.metrics [SIDE]

Single-threaded like a worker; the median of nine runs on a painted pair of SIDE × SIDE px (1024 by default).
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
from PIL import Image

from benchmarks.figures import Figure
from sweep.errors import UsageError
from sweep.study import (
    ImagePair,
    Metric,
    Task,
    compute_working_shape,
    decode,
    list_standard,
    load_reference,
    measure_all,
    measure_task,
    resize_image,
    resolve_metrics,
)

RUNS = 9
PAIRS = 48


def milliseconds(work: Callable[[], object]) -> float:
    """CPU time, so other programs count little: the median of nine runs after a warm one."""
    work()
    times = []
    for _ in range(RUNS):
        begun = time.process_time()
        work()
        times.append(1000 * (time.process_time() - begun))
    return statistics.median(times)


def paint_image(path: Path, side: int, seed: int) -> Path:
    """Paint an image with structure at every scale and a little noise, as PNG."""
    rng = np.random.default_rng(seed)
    total = np.zeros((side, side, 3))
    for octave in (4, 16, 64, 256):
        small = Image.fromarray(rng.integers(0, 256, (octave, octave, 3), dtype=np.uint8))
        total += np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), dtype=float) / octave
    total = total / total.max() * 240 + rng.normal(0, 3, total.shape)
    Image.fromarray(np.clip(total, 0, 255).astype(np.uint8)).save(path)
    return path


def metrics_to_time() -> list[Metric]:
    """List the standard metrics and those of the installed extras."""
    found = [metric for metric in list_standard() if metric.reference != "cell"]
    try:
        found += resolve_metrics(["flip"])
    except UsageError as missing:
        print(f"left out: {missing.message}")
    return found


def one_by_one(image: Path, reference: Path) -> None:
    """Each metric alone on a fresh view, so nothing that metrics share is counted as free."""
    images = decode(image), decode(reference)
    print(f"{'metric':<20}{'ms':>8}   working size")
    for metric in metrics_to_time():
        shape = compute_working_shape(*images[0].size, metric.working_size)
        first, second = (resize_image(image, shape).rgb for image in images)
        alone = milliseconds(lambda m=metric, a=first, b=second: m.measure(_fresh(a, b)))  # type: ignore[misc]
        print(f"{metric.name:<20}{alone:>8.1f}   {metric.working_size} px")


def _fresh(
    first: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], second: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
) -> ImagePair:
    from sweep.study import DecodedImage

    return ImagePair(image=DecodedImage(first), reference=DecodedImage(second))


def panel(image: Path, reference: Path) -> None:
    """Measure all metrics as a worker does: two decodes and everything shared."""
    metrics = [metric for metric in list_standard() if metric.reference != "cell"]
    task = Task(rows=(0,), images=(image,), metrics=tuple(range(len(metrics))), reference=reference)
    print(f"\ndecoding both        {milliseconds(lambda: (decode(image), decode(reference))):>7.1f} ms")
    print(f"panel, both decoded  {milliseconds(lambda: measure_task(task, metrics)):>7.1f} ms")
    load = lru_cache(load_reference)
    print(f"panel, source known  {milliseconds(lambda: measure_task(task, metrics, load)):>7.1f} ms")
    for workers in sorted({1, os.cpu_count() or 1}):
        tasks = [Task(rows=(i,), images=(image,), metrics=task.metrics, reference=reference) for i in range(PAIRS)]
        begun = time.perf_counter()
        done = sum(1 for _ in measure_all(tasks, metrics, workers=workers))
        seconds = time.perf_counter() - begun
        print(
            f"{workers} worker{'s' if workers > 1 else ' '}            {done / seconds:>7.1f} pairs/s, start included"
        )


def measure() -> list[Figure]:
    """Print tables of its own: there are no goals here."""
    main(1024)
    return []


def main(side: int) -> None:
    """Print the tables for images of side × side px."""
    with tempfile.TemporaryDirectory() as folder:
        image, reference = (paint_image(Path(folder) / f"{seed}.png", side, seed) for seed in (1, 2))
        print(f"{side} × {side} px, one core\n")
        one_by_one(image, reference)
        panel(image, reference)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1024)
