"""Measures the images of a run: what is missing, distances between images, values kept in the journal.

For text-to-image, which has no source to compare with. Distances are not kept: they are between two images, and a study
looks at some hundred pairs of small ones.
"""

from __future__ import annotations

import hashlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Literal, Self, TypeAlias

import anyio.to_thread
import numpy as np
import pandas as pd

from sweep.errors import SweepError, UsageError, did_you_mean
from sweep.record import MetricCache, MetricKey, RecordedResults
from sweep.study.design import FloatArray, StudyDesign, read_design
from sweep.study.measuring.pool import OnRay, measure_all
from sweep.study.measuring.task import MeasuredImage, Task
from sweep.study.measuring.worker import NICENESS
from sweep.study.metrics.base import Metric, describe_metric
from sweep.study.metrics.formulas import PIXEL_HASH_METRIC, SAME_POINT_METRIC, delta_e
from sweep.study.metrics.planes import (
    DecodedImage,
    ImagePair,
    UnreadableImageError,
    decode,
    file_sha256,
    reduced,
    working_shape,
)
from sweep.study.metrics.registry import resolve_metrics
from sweep.study.schema import AxisDistance, Group, LevelValue, MetricFacts

MOST_PAIRS = 120  # of one axis; of more, every so many-th is taken
SIDE = 128  # pixels of the longest side: colours need no more


def measure_axis_distances(design: StudyDesign, folder: Path) -> list[AxisDistance]:
    """Measure the colour distance of pairs of images along each axis; the axis that moves images most first.

    Empty where images are compared with a source or a baseline.
    """
    if design.reference != "none":
        return []
    axes = [*design.factors, *([design.seed] if design.seed else [])]
    chosen = {axis: _choose_pairs(design, axis) for axis in axes}
    used = sorted({row for pairs, _ in chosen.values() for pair in pairs for row in pair})
    images = {row: image for row in used if (image := _read(folder / str(design.frame["image_path"].iloc[row])))}
    found = []
    for axis, (pairs, total) in chosen.items():
        known = [(a, b) for a, b in pairs if a in images and b in images]
        known = [(a, b) for a, b in known if images[a].rgb.shape == images[b].rgb.shape]
        if known:
            values = [float(delta_e(ImagePair(image=images[a], reference=images[b]))) for a, b in known]
            found.append(
                AxisDistance(
                    metric="colour",
                    axis=axis,
                    seed=axis == design.seed,
                    mean=float(np.mean(values)),
                    pairs=total,
                    a=[a for a, _ in known],
                    b=[b for _, b in known],
                    distance=[round(value, 4) for value in values],
                )
            )
    return sorted(found, key=lambda each: -each["mean"])


def _choose_pairs(design: StudyDesign, axis: str) -> tuple[list[tuple[int, int]], int]:
    """Choose pairs of rows that differ in this axis alone, and count all of them."""
    others = design.combined([name for name in design.names if name != axis])
    rows = np.flatnonzero(design.images & (design.repeats == 0))
    groups: dict[int, list[int]] = {}
    for row in rows:
        groups.setdefault(int(others[row]), []).append(int(row))
    pairs = [pair for members in groups.values() for pair in combinations(members, 2)]
    step = max(1, -(-len(pairs) // MOST_PAIRS))
    return pairs[::step], len(pairs)


def _read(path: Path) -> DecodedImage | None:
    try:
        whole = decode(path)
    except UnreadableImageError:
        return None
    return reduced(whole, working_shape(*whole.size, SIDE))


@dataclass(frozen=True, slots=True)
class ReferenceImage:
    """An image to compare with. `sha256` decides whether a value is known; `missing` says why there is none."""

    path: Path | None = None
    sha256: str = ""
    missing: str | None = None


_NOTHING = ReferenceImage()


def find_sources(keys: Sequence[str], sources: Mapping[str, Path]) -> list[ReferenceImage]:
    """Find, by row, the image its variation started from; none for text-to-image."""
    known: dict[Path, ReferenceImage] = {}
    for path in set(sources.values()):
        try:
            known[path] = ReferenceImage(path, file_sha256(path))
        except UnreadableImageError as error:
            known[path] = ReferenceImage(missing=f"source: {error.message}")
    return [known[sources[key]] if key in sources else _NOTHING for key in keys]


def check_baseline(design: StudyDesign, baseline: Group) -> str | None:
    """Say why the baseline cell is not in the table (yet); None where it is.

    Raises UsageError where it names what is no axis.
    """
    for name, level in baseline.items():
        if name not in design.names:
            near = did_you_mean(name, design.names)
            raise UsageError(
                f"The baseline names {name}, which is not an axis.{near}", hint=f"Axes: {_join_names(design.names)}."
            )
        levels = design.by_name[name].levels
        if find_level(levels, level) is None:
            return f"the table has no {name} {level}; it has {_join_names([str(known) for known in levels[:12]])}"
    return None


def find_level(levels: Sequence[LevelValue], level: LevelValue) -> int | None:
    """Find a level among these; 7 is 7.0, but True is not 1."""
    same = (
        i for i, known in enumerate(levels) if known == level and isinstance(known, bool) == isinstance(level, bool)
    )
    return next(same, None)


def _join_names(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def find_baseline_images(design: StudyDesign, baseline: Group, folder: Path) -> list[ReferenceImage]:
    """Find, by row, the image with the baseline's levels and the row's levels of every other axis."""
    missing = check_baseline(design, baseline)
    if missing:
        return [ReferenceImage(missing=missing)] * len(design.frame)
    others = design.combined([name for name in design.names if name not in baseline])
    chosen = np.ones(len(design.frame), dtype=np.bool_)
    for name, level in baseline.items():
        axis = design.by_name[name]
        chosen &= axis.codes == find_level(axis.levels, level)
    by_other: dict[int, ReferenceImage] = {}
    for row in np.flatnonzero(chosen & design.images)[::-1]:
        by_other[int(others[row])] = make_reference(design, int(row), folder)
    absent = ReferenceImage(missing="the baseline cell has no image for this point")
    return [by_other.get(int(other), absent) for other in others]


def make_reference(design: StudyDesign, row: int, folder: Path) -> ReferenceImage:
    """Take a row's own image as the reference."""
    return ReferenceImage(folder / str(design.frame["image_path"].iloc[row]), find_hash(design, row, folder))


def find_hash(design: StudyDesign, row: int, folder: Path) -> str:
    """Look up the recorded hash of a row's file, or hash the file; empty where neither is there."""
    recorded = design.frame["sha256"].iloc[row] if "sha256" in design.frame else None
    if isinstance(recorded, str):
        return recorded
    try:
        return file_sha256(folder / str(design.frame["image_path"].iloc[row]))
    except UnreadableImageError:
        return ""


def find_first_repeats(design: StudyDesign, folder: Path) -> list[ReferenceImage]:
    """Find, by row, the first image of the same point, for all others of it that were rendered on their own."""
    points, repeats = design.points, design.repeats
    found = [_NOTHING] * len(design.frame)
    first: dict[int, int] = {}
    for row in np.flatnonzero(design.images):
        point = int(points[row])
        if repeats[row] == 0:
            first.setdefault(point, int(row))
        elif point in first:
            found[row] = make_reference(design, first[point], folder)
    return found


def hash_together(parts: Sequence[str]) -> str:
    """Hash several images together, whatever their order; or a text."""
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


@dataclass(kw_only=True)
class MeasurementPlan:
    """The images to measure, their references and the values known so far (`values` is metrics × rows)."""

    design: StudyDesign
    metrics: tuple[Metric, ...]
    folder: Path
    values: FloatArray
    references: dict[str, list[ReferenceImage]]  # by what a metric asks for
    hashes: list[str] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)

    def reference(self, metric: Metric, row: int) -> ReferenceImage:
        kind = metric.name if metric.name in self.references else metric.reference
        return self.references[kind][row] if kind in self.references else _NOTHING

    def key(self, metric: int, row: int) -> MetricKey:
        chosen = self.metrics[metric]
        return MetricKey(
            image=self.hashes[row],
            reference=self.reference(chosen, row).sha256,
            metric=chosen.name,
            version=chosen.version,
            working_size=chosen.working_size,
        )


def prepare_measurement(results: RecordedResults, metrics: Sequence[Metric], baseline: Group) -> MeasurementPlan:
    table, axes = results.table(), results.axes
    frame = table.drop(columns=[m.name for m in metrics if m.name in table and m.name not in dict(axes)])
    named = [(f"axis_{name}" if f"axis_{name}" in frame else name, kind) for name, kind in axes]
    design = read_design(frame, [(name, kind) for name, kind in named if name in frame], baseline=baseline)
    chosen = tuple(metric for metric in metrics if metric.name not in design.names)
    chosen = (*chosen, PIXEL_HASH_METRIC)
    if design.replicates > 1:
        chosen = (*chosen, SAME_POINT_METRIC)
    sources = find_sources([str(key) for key in frame["key"]], results.sources)
    compared = find_baseline_images(design, baseline, results.folder) if baseline else sources
    kind: Literal["source", "baseline", "none"] = "baseline" if baseline else "none"
    if not baseline and any(reference is not _NOTHING for reference in sources):
        kind = "source"
    design = design.compared_with(kind)
    hashes = [find_hash(design, i, results.folder) if design.images[i] else "" for i in range(len(frame))]
    plan = MeasurementPlan(
        design=design,
        metrics=chosen,
        folder=results.folder,
        values=np.full((len(chosen), len(frame)), np.nan),
        references={"image": compared, SAME_POINT_METRIC.name: find_first_repeats(design, results.folder)},
        hashes=hashes,
    )
    plan.references["text"] = [ReferenceImage(sha256=hash_together([prompt or ""])) for prompt in _read_prompts(design)]
    plan.references["cell"] = _hash_cells(plan)
    return plan


def _read_prompts(design: StudyDesign) -> list[str | None]:
    name = "rendered_prompt" if "rendered_prompt" in design.frame else "prompt"
    column = design.frame[name].tolist() if name in design.frame else [None] * len(design.frame)
    return [text if isinstance(text, str) else None for text in column]


def _hash_cells(plan: MeasurementPlan) -> list[ReferenceImage]:
    """Hash, by row, all images of its cell together."""
    by_cell: dict[int, list[str]] = {}
    for row in np.flatnonzero(plan.design.images & (plan.design.repeats == 0)):
        by_cell.setdefault(int(plan.design.cells[row]), []).append(plan.hashes[row])
    joint = {cell: hash_together(hashes) for cell, hashes in by_cell.items()}
    return [ReferenceImage(sha256=joint.get(int(cell), "")) for cell in plan.design.cells]


def _is_wanted(plan: MeasurementPlan, metric: int, row: int) -> bool:
    """Tell whether there is something to measure; where a reference is missing, note that as the row's reason."""
    of_cell = plan.metrics[metric].reference == "cell"
    if not plan.design.images[row] or (of_cell and plan.design.repeats[row]):
        return False  # a repeat says nothing about how seeds differ
    reference = plan.reference(plan.metrics[metric], row)
    if reference.missing:
        plan.reasons.setdefault(row, reference.missing)
    return plan.metrics[metric].reference != "image" or reference.path is not None


def make_tasks(plan: MeasurementPlan, cache: MetricCache) -> list[Task]:
    """Fill in the cached values and make tasks for the rest."""
    open_by_row: dict[int, list[int]] = {}
    for metric in range(len(plan.metrics)):
        wanted = {row: plan.key(metric, row) for row in range(len(plan.hashes)) if _is_wanted(plan, metric, row)}
        known = cache.get_many([key for key in wanted.values() if key.image])
        for row, key in wanted.items():
            value = known.get(key)
            if value is None:
                open_by_row.setdefault(row, []).append(metric)
            else:
                plan.values[metric, row] = value
    tasks = [*_make_row_tasks(plan, open_by_row), *_make_cell_tasks(plan, open_by_row)]
    return sorted(tasks, key=lambda task: max(task.rows))  # images are done one after the other, not all at the end


def _make_row_tasks(plan: MeasurementPlan, open_by_row: Mapping[int, Sequence[int]]) -> Iterator[Task]:
    """Make one task for each row and reference."""
    prompts = _read_prompts(plan.design)
    for row, metrics in sorted(open_by_row.items()):
        by_reference: dict[Path | None, list[int]] = {}
        for i in metrics:
            if plan.metrics[i].reference != "cell":
                same = plan.metrics[i].name != SAME_POINT_METRIC.name
                reference = plan.reference(plan.metrics[i], row) if not same else plan.references["image"][row]
                by_reference.setdefault(reference.path, []).append(i)
        for path, chosen in by_reference.items():
            image = plan.folder / str(plan.design.frame["image_path"].iloc[row])
            yield Task(rows=(row,), images=(image,), metrics=tuple(chosen), reference=path, prompt=prompts[row])


def _make_cell_tasks(plan: MeasurementPlan, open_by_row: Mapping[int, Sequence[int]]) -> Iterator[Task]:
    """Make one task for each cell that has an unmeasured row."""
    metrics = tuple(i for i, metric in enumerate(plan.metrics) if metric.reference == "cell")
    cells = {int(plan.design.cells[row]) for row, open_ in open_by_row.items() if set(open_) & set(metrics)}
    rows_of: dict[int, list[int]] = {}
    for row in np.flatnonzero(plan.design.images & (plan.design.repeats == 0)):
        rows_of.setdefault(int(plan.design.cells[row]), []).append(int(row))
    for cell in sorted(cells):
        rows = rows_of[cell]
        if len(rows) > 1:
            paths = tuple(plan.folder / str(plan.design.frame["image_path"].iloc[row]) for row in rows)
            yield Task(rows=tuple(rows), images=paths, metrics=metrics)


def add_metrics(plan: MeasurementPlan) -> StudyDesign:
    columns = {metric.name: values for metric, values in zip(plan.metrics, plan.values, strict=True)}
    reason = [plan.reasons.get(row) for row in range(len(plan.design.frame))]
    return plan.design.with_columns({**columns, "reason": pd.Series(reason, dtype=object)})


def describe_measured(plan: MeasurementPlan, i: int) -> MetricFacts:
    rows = [row for row in range(len(plan.hashes)) if plan.design.images[row]]
    wanted = sum(_is_wanted(plan, i, row) or plan.reference(plan.metrics[i], row).missing is not None for row in rows)
    measured = int(np.isfinite(plan.values[i]).sum())
    return describe_metric(plan.metrics[i], measured=measured, failed=wanted - measured)


MeasureProgress: TypeAlias = Callable[[int, int], None]
KEEP_EVERY = 1.0  # seconds between transactions: a kill loses at most what was measured since
KEEP_AT = 500  # values, whichever comes first
_FEW = 12  # images a worker process must have to be worth its start


def measure_design(
    data: RecordedResults | Path | str,
    *,
    metrics: Sequence[str | Metric] = (),
    baseline: Group | None = None,
    progress: MeasureProgress | None = None,
    workers: int | OnRay | None = None,
    stop: threading.Event | None = None,
) -> tuple[StudyDesign, list[MetricFacts], str | None]:
    """Measure a results folder and give its design with metrics, the facts of the metrics and the experiment's name.

    Metrics and baseline that are not given are those of the experiment's `study:` section.
    """
    results = RecordedResults.open(Path(data)) if isinstance(data, (str, Path)) else data
    facts = results.facts
    chosen = resolve_metrics(list(metrics) or facts.metrics)
    plan = prepare_measurement(results, chosen, dict(facts.baseline) if baseline is None else baseline)
    with MetricCache.open(results.folder) as cache:
        tasks = make_tasks(plan, cache)
        _measure(plan, tasks, cache, progress, workers, stop or threading.Event())
    return add_metrics(plan), [describe_measured(plan, i) for i in range(len(plan.metrics))], facts.name


def _measure(
    plan: MeasurementPlan,
    tasks: Sequence[Task],
    cache: MetricCache,
    progress: MeasureProgress | None,
    workers: int | OnRay | None,
    stop: threading.Event,
) -> None:
    total = int(plan.design.images.sum())
    done = total - len({row for task in tasks for row in task.rows})
    report = progress or _ignore_progress
    report(done, total)
    left: dict[int, int] = {}
    for task in tasks:
        for row in task.rows:
            left[row] = left.get(row, 0) + 1
    answers = measure_all(tasks, plan.metrics, workers=_count_workers(workers, len(tasks)), stop=stop)
    with closing(answers), _CacheWriter(cache) as keeper:
        for task, measured in answers:
            keeper.keep(_store_values(plan, task, measured))
            for row in task.rows:
                left[row] -= 1
                done += left[row] == 0
            report(done, total)


def _ignore_progress(done: int, total: int) -> None:
    """Ignore progress."""


def _count_workers(asked: int | OnRay | None, tasks: int) -> int | OnRay:
    if asked == "ray":
        return asked
    if asked is not None:
        if asked < 0:
            raise UsageError(f"Workers are at least 0, not {asked}.")
        return min(asked, tasks)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, -(-tasks // _FEW))


def _store_values(
    plan: MeasurementPlan, task: Task, measured: Sequence[MeasuredImage]
) -> dict[MetricKey, float | None]:
    """Put a task's values into the table and give the finite ones, to be cached."""
    values: dict[MetricKey, float | None] = {}
    for row, answer in zip(task.rows, measured, strict=True):
        for metric, value in zip(task.metrics, answer.values, strict=True):
            plan.values[metric, row] = value
            if math.isfinite(value) and plan.hashes[row]:
                values[plan.key(metric, row)] = value
        if answer.reason:
            plan.reasons.setdefault(row, answer.reason)
    return values


class _CacheWriter:
    """Puts values into the cache in transactions of a second's worth, and the rest at the end, whatever ends it."""

    def __init__(self, cache: MetricCache) -> None:
        self._cache = cache
        self._waiting: dict[MetricKey, float | None] = {}
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._put()

    def keep(self, values: Mapping[MetricKey, float | None]) -> None:
        self._waiting.update(values)
        if len(self._waiting) >= KEEP_AT or time.monotonic() - self._last >= KEEP_EVERY:
            self._put()

    def _put(self) -> None:
        if self._waiting:
            self._cache.put_many(self._waiting)
        self._waiting = {}
        self._last = time.monotonic()


def measure_now(
    data: RecordedResults | Path | str,
    *,
    metrics: Sequence[str | Metric] = (),
    baseline: Group | None = None,
    progress: MeasureProgress | None = None,
    workers: int | OnRay | None = None,
    stop: threading.Event | None = None,
) -> pd.DataFrame:
    """Give the results table with one column a metric, and `reason` where an image could not be measured.

    What was measured before comes from the record, by the hashes of the images; the rest is measured by worker
    processes of low priority (by default one a core, 0: in this process, "ray": on the cluster joined) and kept as it
    comes, so a kill costs a second's work. Rows that are not rendered yet have no values; call again for them.
    `progress(done, total)` counts images. `stop`, once set, ends it early with what is there. Parameters as for
    `study`.

    Raises UsageError for an unknown metric or axis; RecordError where the folder cannot be read or written.
    """
    design, _, _ = measure_design(
        data, metrics=metrics, baseline=baseline, progress=progress, workers=workers, stop=stop
    )
    return design.frame


async def measure(
    data: RecordedResults | Path | str,
    *,
    metrics: Sequence[str | Metric] = (),
    baseline: Group | None = None,
    progress: MeasureProgress | None = None,
    workers: int | OnRay | None = None,
) -> pd.DataFrame:
    """`measure_now` without blocking the event loop; `progress` is called from another thread.

    Cancelling stops the workers; what was measured until then is kept.
    """
    stop = threading.Event()
    work = partial(measure_now, data, metrics=metrics, baseline=baseline, progress=progress, workers=workers, stop=stop)
    try:
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    finally:
        stop.set()


_PAUSE = 3.0  # seconds between two looks at the journal; longer where a look takes long


def measure_finished(folder: Path) -> None:
    """Measure the images that a folder has now.

    Metrics of several images together (diversity of seeds) are left for the end, when all of them are there. What
    cannot be measured is reported at the end of the run, too.
    """
    with suppress(SweepError):
        facts = RecordedResults.open(folder).facts
        single = [metric for metric in resolve_metrics(facts.metrics) if metric.reference != "cell"]
        measure_now(folder, metrics=single, workers=0)


def follow(folder: Path) -> None:
    """Measure what is finished, again and again, until standard input ends: see `start_follower`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        began = time.monotonic()
        measure_finished(folder)
        print(flush=True)
        time.sleep(max(_PAUSE, time.monotonic() - began))


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    follow(Path(sys.argv[1]))
