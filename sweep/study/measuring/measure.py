"""What to measure, against what; cached."""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, Self, TypeAlias

import anyio.to_thread
import numpy as np
import pandas as pd

from sweep.errors import UsageError, did_you_mean
from sweep.record import MetricCache, MetricKey, RecordedResults, ResultsLike
from sweep.study.design import FloatArray, StudyDesign, read_layout
from sweep.study.measuring.pool import measure_all
from sweep.study.measuring.task import Measured, Task
from sweep.study.metrics.base import Metric, facts_of
from sweep.study.metrics.panel import SAME_POINT_METRIC
from sweep.study.metrics.planes import UnreadableImageError, file_sha256
from sweep.study.metrics.registry import resolve
from sweep.study.schema import Group, LevelValue, MetricFacts


@dataclass(frozen=True, slots=True)
class ReferenceImage:
    """An image to compare with. `sha256` decides whether a value is known; `missing` says why there is none."""

    path: Path | None = None
    sha256: str = ""
    missing: str | None = None


_NOTHING = ReferenceImage()


def against_sources(keys: Sequence[str], sources: Mapping[str, Path]) -> list[ReferenceImage]:
    """By row: the image its variation started from; none for text-to-image."""
    known: dict[Path, ReferenceImage] = {}
    for path in set(sources.values()):
        try:
            known[path] = ReferenceImage(path, file_sha256(path))
        except UnreadableImageError as error:
            known[path] = ReferenceImage(missing=f"source: {error.message}")
    return [known[sources[key]] if key in sources else _NOTHING for key in keys]


def check_baseline(layout: StudyDesign, baseline: Group) -> str | None:
    """Why the baseline cell is not in the table (yet); None where it is.

    Raises UsageError where it names what is no axis.
    """
    for name, level in baseline.items():
        if name not in layout.names:
            near = did_you_mean(name, layout.names)
            raise UsageError(
                f"The baseline names {name}, which is no axis.{near}", hint=f"Axes: {_list(layout.names)}."
            )
        levels = layout.axis(name).levels
        if level_code(levels, level) is None:
            return f"the table has no {name} {level}; it has {_list([str(known) for known in levels[:12]])}"
    return None


def level_code(levels: Sequence[LevelValue], level: LevelValue) -> int | None:
    """Where a level stands among these; 7 is 7.0, but True is not 1."""
    same = (
        i for i, known in enumerate(levels) if known == level and isinstance(known, bool) == isinstance(level, bool)
    )
    return next(same, None)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def against_baseline(layout: StudyDesign, baseline: Group, folder: Path) -> list[ReferenceImage]:
    """By row: the image with the baseline's levels and its own levels of every other axis."""
    missing = check_baseline(layout, baseline)
    if missing:
        return [ReferenceImage(missing=missing)] * len(layout.frame)
    others = layout.combined([name for name in layout.names if name not in baseline])
    chosen = np.ones(len(layout.frame), dtype=np.bool_)
    for name, level in baseline.items():
        axis = layout.axis(name)
        chosen &= axis.codes == level_code(axis.levels, level)
    by_other: dict[int, ReferenceImage] = {}
    for row in np.flatnonzero(chosen & layout.images)[::-1]:
        by_other[int(others[row])] = image_at(layout, int(row), folder)
    absent = ReferenceImage(missing="the baseline cell has no image for this point")
    return [by_other.get(int(other), absent) for other in others]


def image_at(layout: StudyDesign, row: int, folder: Path) -> ReferenceImage:
    """A row's own image."""
    return ReferenceImage(folder / str(layout.frame["image_path"].iloc[row]), image_hash(layout, row, folder))


def image_hash(layout: StudyDesign, row: int, folder: Path) -> str:
    """The hash the record has of a row's file; of the file itself where it has none; empty where neither is there."""
    recorded = layout.frame["sha256"].iloc[row] if "sha256" in layout.frame else None
    if isinstance(recorded, str):
        return recorded
    try:
        return file_sha256(folder / str(layout.frame["image_path"].iloc[row]))
    except UnreadableImageError:
        return ""


def against_first_repeat(layout: StudyDesign, folder: Path) -> list[ReferenceImage]:
    """By row: the first image of the same point, for all others of it that were rendered on their own."""
    points, repeats = layout.points, layout.repeats
    found = [_NOTHING] * len(layout.frame)
    first: dict[int, int] = {}
    for row in np.flatnonzero(layout.images):
        point = int(points[row])
        if repeats[row] == 0:
            first.setdefault(point, int(row))
        elif point in first:
            found[row] = image_at(layout, first[point], folder)
    return found


def joint_hash(parts: Sequence[str]) -> str:
    """One hash for several images, whatever their order; or for a text."""
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


@dataclass(kw_only=True)
class MeasurementPlan:
    """What is to be measured, and what is known of it so far. `values` is metrics × rows."""

    layout: StudyDesign
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


def prepare_measurement(results: ResultsLike, metrics: Sequence[Metric], baseline: Group) -> MeasurementPlan:
    table, axes = results.table(), results.axes
    frame = table.drop(columns=[m.name for m in metrics if m.name in table and m.name not in dict(axes)])
    named = [(f"axis_{name}" if f"axis_{name}" in frame else name, kind) for name, kind in axes]
    layout = read_layout(frame, [(name, kind) for name, kind in named if name in frame], baseline=baseline)
    chosen = tuple(metric for metric in metrics if metric.name not in layout.names)
    if layout.replicates > 1:
        chosen = (*chosen, SAME_POINT_METRIC)
    sources = against_sources([str(key) for key in frame["key"]], results.sources)
    compared = against_baseline(layout, baseline, results.folder) if baseline else sources
    kind: Literal["source", "baseline", "none"] = "baseline" if baseline else "none"
    if not baseline and any(reference is not _NOTHING for reference in sources):
        kind = "source"
    layout = layout.compared_with(kind)
    hashes = [image_hash(layout, i, results.folder) if layout.images[i] else "" for i in range(len(frame))]
    job = MeasurementPlan(
        layout=layout,
        metrics=chosen,
        folder=results.folder,
        values=np.full((len(chosen), len(frame)), np.nan),
        references={"image": compared, SAME_POINT_METRIC.name: against_first_repeat(layout, results.folder)},
        hashes=hashes,
    )
    job.references["text"] = [ReferenceImage(sha256=joint_hash([prompt or ""])) for prompt in _prompts(layout)]
    job.references["cell"] = _cell_references(job)
    return job


def _prompts(layout: StudyDesign) -> list[str | None]:
    name = "rendered_prompt" if "rendered_prompt" in layout.frame else "prompt"
    column = layout.frame[name].tolist() if name in layout.frame else [None] * len(layout.frame)
    return [text if isinstance(text, str) else None for text in column]


def _cell_references(job: MeasurementPlan) -> list[ReferenceImage]:
    """By row: the hash of all images of its cell together."""
    by_cell: dict[int, list[str]] = {}
    for row in np.flatnonzero(job.layout.images & (job.layout.repeats == 0)):
        by_cell.setdefault(int(job.layout.cells[row]), []).append(job.hashes[row])
    joint = {cell: joint_hash(hashes) for cell, hashes in by_cell.items()}
    return [ReferenceImage(sha256=joint.get(int(cell), "")) for cell in job.layout.cells]


def _wanted(job: MeasurementPlan, metric: int, row: int) -> bool:
    """Whether there is something to measure; where a reference is missing, the row's reason says so."""
    of_cell = job.metrics[metric].reference == "cell"
    if not job.layout.images[row] or (of_cell and job.layout.repeats[row]):
        return False  # a repeat says nothing about how seeds differ
    reference = job.reference(job.metrics[metric], row)
    if reference.missing:
        job.reasons.setdefault(row, reference.missing)
    return job.metrics[metric].reference != "image" or reference.path is not None


def from_cache(job: MeasurementPlan, cache: MetricCache) -> list[Task]:
    """Puts in what is known; tasks for the rest."""
    open_by_row: dict[int, list[int]] = {}
    for metric in range(len(job.metrics)):
        wanted = {row: job.key(metric, row) for row in range(len(job.hashes)) if _wanted(job, metric, row)}
        known = cache.get_many([key for key in wanted.values() if key.image])
        for row, key in wanted.items():
            value = known.get(key)
            if value is None:
                open_by_row.setdefault(row, []).append(metric)
            else:
                job.values[metric, row] = value
    tasks = [*_row_tasks(job, open_by_row), *_cell_tasks(job, open_by_row)]
    return sorted(tasks, key=lambda task: max(task.rows))  # images are done one after the other, not all at the end


def _row_tasks(job: MeasurementPlan, open_by_row: Mapping[int, Sequence[int]]) -> Iterator[Task]:
    """One task a row and reference, its number the row's."""
    prompts = _prompts(job.layout)
    for row, metrics in sorted(open_by_row.items()):
        by_reference: dict[Path | None, list[int]] = {}
        for i in metrics:
            if job.metrics[i].reference != "cell":
                same = job.metrics[i].name != SAME_POINT_METRIC.name
                reference = job.reference(job.metrics[i], row) if not same else job.references["image"][row]
                by_reference.setdefault(reference.path, []).append(i)
        for path, chosen in by_reference.items():
            image = job.folder / str(job.layout.frame["image_path"].iloc[row])
            yield Task(rows=(row,), images=(image,), metrics=tuple(chosen), reference=path, prompt=prompts[row])


def _cell_tasks(job: MeasurementPlan, open_by_row: Mapping[int, Sequence[int]]) -> Iterator[Task]:
    """One task a cell that has an unmeasured row."""
    metrics = tuple(i for i, metric in enumerate(job.metrics) if metric.reference == "cell")
    cells = {int(job.layout.cells[row]) for row, open_ in open_by_row.items() if set(open_) & set(metrics)}
    rows_of: dict[int, list[int]] = {}
    for row in np.flatnonzero(job.layout.images & (job.layout.repeats == 0)):
        rows_of.setdefault(int(job.layout.cells[row]), []).append(int(row))
    for cell in sorted(cells):
        rows = rows_of[cell]
        if len(rows) > 1:
            paths = tuple(job.folder / str(job.layout.frame["image_path"].iloc[row]) for row in rows)
            yield Task(rows=tuple(rows), images=paths, metrics=metrics)


def finished(job: MeasurementPlan) -> StudyDesign:
    columns = {metric.name: values for metric, values in zip(job.metrics, job.values, strict=True)}
    reason = [job.reasons.get(row) for row in range(len(job.layout.frame))]
    return job.layout.with_columns({**columns, "reason": pd.Series(reason, dtype=object)})


def measured_facts(job: MeasurementPlan, i: int) -> MetricFacts:
    rows = [row for row in range(len(job.hashes)) if job.layout.images[row]]
    wanted = sum(_wanted(job, i, row) or job.reference(job.metrics[i], row).missing is not None for row in rows)
    measured = int(np.isfinite(job.values[i]).sum())
    return facts_of(job.metrics[i], measured=measured, failed=wanted - measured)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Name, metrics and baseline; empty where the experiment does not say."""

    name: str | None = None
    metrics: tuple[str, ...] = ()
    baseline: Group = field(default_factory=dict)


def asked_of(experiment_text: str | None) -> Asked:
    """From the YAML in the record. It was checked when it was run; what does not read is taken as not said."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        loaded = YAML(typ="safe", pure=True).load(experiment_text or "")
    except YAMLError:
        return Asked()
    if not isinstance(loaded, Mapping):
        return Asked()
    section = loaded.get("study")
    section = section if isinstance(section, Mapping) else {}
    metrics = section.get("metrics") or ()
    baseline = section.get("baseline") or {}
    name = loaded.get("name")
    return Asked(
        name=str(name) if name is not None else None,
        metrics=tuple(map(str, metrics)) if isinstance(metrics, list) else (),
        baseline={str(axis): level for axis, level in baseline.items()} if isinstance(baseline, Mapping) else {},
    )


MeasureProgress: TypeAlias = Callable[[int, int], None]
KEEP_EVERY = 1.0  # seconds between transactions: a kill loses at most what was measured since
KEEP_AT = 500  # values, whichever comes first
_FEW = 12  # images a worker process must have to be worth its start


def measured_layout(
    data: ResultsLike | Path | str,
    *,
    metrics: Sequence[str | Metric] = (),
    baseline: Group | None = None,
    progress: MeasureProgress | None = None,
    workers: int | None = None,
    stop: threading.Event | None = None,
) -> tuple[StudyDesign, list[MetricFacts], str | None]:
    """The results table with its metrics as a layout, what the metrics mean, and the experiment's name.

    Metrics and baseline that are not given are those of the experiment's `study:` section.
    """
    results = RecordedResults.open(Path(data)) if isinstance(data, (str, Path)) else data
    asked = asked_of(results.experiment_text)
    chosen = resolve(list(metrics) or asked.metrics)
    job = prepare_measurement(results, chosen, asked.baseline if baseline is None else baseline)
    with MetricCache.open(results.folder) as cache:
        tasks = from_cache(job, cache)
        _measure(job, tasks, cache, progress, workers, stop or threading.Event())
    return finished(job), [measured_facts(job, i) for i in range(len(job.metrics))], asked.name


def _measure(
    job: MeasurementPlan,
    tasks: Sequence[Task],
    cache: MetricCache,
    progress: MeasureProgress | None,
    workers: int | None,
    stop: threading.Event,
) -> None:
    total = int(job.layout.images.sum())
    done = total - len({row for task in tasks for row in task.rows})
    report = progress or _unwatched
    report(done, total)
    left: dict[int, int] = {}
    for task in tasks:
        for row in task.rows:
            left[row] = left.get(row, 0) + 1
    answers = measure_all(tasks, job.metrics, workers=_workers(workers, len(tasks)), stop=stop)
    with closing(answers), _Keeper(cache) as keeper:
        for task, measured in answers:
            keeper.keep(_taken(job, task, measured))
            for row in task.rows:
                left[row] -= 1
                done += left[row] == 0
            report(done, total)


def _unwatched(done: int, total: int) -> None:
    """Progress that nobody asked for."""


def _workers(asked: int | None, tasks: int) -> int:
    if asked is not None:
        if asked < 0:
            raise UsageError(f"Workers are at least 0, not {asked}.")
        return min(asked, tasks)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, -(-tasks // _FEW))


def _taken(job: MeasurementPlan, task: Task, measured: Sequence[Measured]) -> dict[MetricKey, float | None]:
    """Puts a task's values into the table; the finite ones to keep."""
    values: dict[MetricKey, float | None] = {}
    for row, answer in zip(task.rows, measured, strict=True):
        for metric, value in zip(task.metrics, answer.values, strict=True):
            job.values[metric, row] = value
            if math.isfinite(value) and job.hashes[row]:
                values[job.key(metric, row)] = value
        if answer.reason:
            job.reasons.setdefault(row, answer.reason)
    return values


class _Keeper:
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
    data: ResultsLike | Path | str,
    *,
    metrics: Sequence[str | Metric] = (),
    baseline: Group | None = None,
    progress: MeasureProgress | None = None,
    workers: int | None = None,
    stop: threading.Event | None = None,
) -> pd.DataFrame:
    """The results table with one column a metric, and `reason` where an image could not be measured.

    What was measured before comes from the record, by the hashes of the images; the rest is measured by worker
    processes of low priority (by default one a core, 0: in this process) and kept as it comes, so a kill costs a
    second's work. Rows that are not rendered yet have no values; call again for them. `progress(done, total)` counts
    images. `stop`, once set, ends it early with what is there. Parameters as for `study`.

    Raises UsageError for an unknown metric or axis; RecordError where the folder cannot be read or written.
    """
    layout, _, _ = measured_layout(
        data, metrics=metrics, baseline=baseline, progress=progress, workers=workers, stop=stop
    )
    return layout.frame


async def measure(
    data: ResultsLike | Path | str,
    *,
    metrics: Sequence[str | Metric] = (),
    baseline: Group | None = None,
    progress: MeasureProgress | None = None,
    workers: int | None = None,
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
