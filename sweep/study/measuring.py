"""Metrics as columns of the results table: measured once, on all cores, while rendering goes on or after."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Self, TypeAlias

import anyio.to_thread
import pandas as pd

from sweep.errors import UsageError
from sweep.record.metrics import MetricCache, MetricKey
from sweep.record.table import Results
from sweep.study.asked import asked_of
from sweep.study.contract import Group, MetricFacts
from sweep.study.job import Job, ResultsLike, finished, from_cache, measured_facts, prepared
from sweep.study.layout import Layout
from sweep.study.metrics import Metric
from sweep.study.pool import measure_all
from sweep.study.registry import resolve
from sweep.study.tasks import Measured, Task

Progress: TypeAlias = Callable[[int, int], None]
KEEP_EVERY = 1.0  # seconds between transactions: a kill loses at most what was measured since
KEEP_AT = 500  # values, whichever comes first
FEW = 12  # pictures a worker process must have to be worth its start


def measured_layout(
    data: ResultsLike | Path | str,
    *,
    metrics: Sequence[str | Metric] = (),
    baseline: Group | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    stop: threading.Event | None = None,
) -> tuple[Layout, list[MetricFacts], str | None]:
    """The results table with its metrics as a layout, what the metrics mean, and the experiment's name.

    Metrics and baseline that are not given are those of the experiment's `study:` section.
    """
    results = Results.open(Path(data)) if isinstance(data, (str, Path)) else data
    asked = asked_of(results.experiment_text)
    chosen = resolve(list(metrics) or asked.metrics)
    job = prepared(results, chosen, asked.baseline if baseline is None else baseline)
    with MetricCache.open(results.folder) as cache:
        tasks = from_cache(job, cache)
        _measure(job, tasks, cache, progress, workers, stop or threading.Event())
    return finished(job), [measured_facts(job, i) for i in range(len(job.metrics))], asked.name


def _measure(
    job: Job,
    tasks: Sequence[Task],
    cache: MetricCache,
    progress: Progress | None,
    workers: int | None,
    stop: threading.Event,
) -> None:
    total = int(job.layout.pictures.sum())
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
    return min(cores, -(-tasks // FEW))


def _taken(job: Job, task: Task, measured: Sequence[Measured]) -> dict[MetricKey, float | None]:
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
    progress: Progress | None = None,
    workers: int | None = None,
    stop: threading.Event | None = None,
) -> pd.DataFrame:
    """The results table with one column a metric, and `reason` where a picture could not be measured.

    What was measured before comes from the record, by the hashes of the pictures; the rest is measured by worker
    processes of low priority (by default one a core, 0: in this process) and kept as it comes, so a kill costs a
    second's work. Rows that are not rendered yet have no values; call again for them. `progress(done, total)` counts
    pictures. `stop`, once set, ends it early with what is there. Parameters as for `study`.

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
    progress: Progress | None = None,
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
