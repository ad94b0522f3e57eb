"""Measurement of a run's images: plans the tasks, measures what is not measured yet, keeps values in the journal.

Text-to-image has no source to compare with, so pairs of its images are compared. These distances are not kept: a study
looks at some hundred pairs of small images.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from sweep.errors import SweepError, UsageError, did_you_mean
from sweep.record import MetricCache, MetricKey, RecordedResults
from sweep.study.measuring.workers import MeasuredImage, OnRay, Task, measure_all, read_image
from sweep.study.metrics.base import ImagePair, Metric, UnreadableImageError, hash_image_file
from sweep.study.metrics.metric_lookup import describe_metric, resolve_metrics
from sweep.study.metrics.pixel_metrics import PIXEL_HASH_METRIC, SAME_POINT_METRIC, delta_e
from sweep.study.stats.additive_fit import FloatArray
from sweep.study.study_design import MOST_PAIRS, REPLICATE_COLUMN, StudyDesign, read_design
from sweep.study.study_json import AxisDistance, Group, LevelValue, MetricFacts

COMPARED_SIDE = 128  # pixels of the longest side: colours need no more
PAUSE = 3.0  # seconds between two looks at the journal; longer where a look takes long
KEEP_EVERY = 1.0  # seconds between transactions: a kill loses at most what was measured since
KEEP_AT = 500  # values, whichever comes first
MeasureProgress: TypeAlias = Callable[[int, int], None]


def measure_axis_distances(design: StudyDesign, folder: Path) -> list[AxisDistance]:
    """Measure the colour distance of pairs of images along each axis; the axis that moves images most first.

    Empty where images are compared with a source or a baseline.
    """
    if design.reference != "none":
        return []
    axes = [*design.factors, *([design.seed] if design.seed else [])]
    chosen = {axis: _choose_pairs(design, axis) for axis in axes}
    used = sorted({row for pairs, _ in chosen.values() for pair in pairs for row in pair})
    read = {row: read_image(folder / str(design.frame["image_path"].iloc[row]), {COMPARED_SIDE}) for row in used}
    images = {row: image[COMPARED_SIDE] for row, image in read.items() if isinstance(image, dict)}
    found = []
    for axis, (pairs, total) in chosen.items():
        read_both = [(a, b) for a, b in pairs if a in images and b in images]
        if known := [(a, b) for a, b in read_both if images[a].rgb.shape == images[b].rgb.shape]:
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
    groups = design.group_originals(design.match_images([axis]))
    pairs = [pair for members in groups.values() for pair in combinations(members, 2)]
    if len(pairs) <= MOST_PAIRS:
        return pairs, len(pairs)
    # every so many-th pair could be of the same two levels in each group, so they are drawn, each time the same ones
    drawn = np.random.default_rng(0).choice(len(pairs), MOST_PAIRS, replace=False)
    return [pairs[at] for at in sorted(drawn.tolist())], len(pairs)


@dataclass(frozen=True, slots=True)
class ReferenceImage:
    """An image to compare with. `sha256` decides whether a value is known; `missing` says why there is none."""

    path: Path | None = None
    sha256: str = ""
    missing: str | None = None


_NOTHING = ReferenceImage()
_ABSENT = ReferenceImage(missing="the baseline cell has no image for this point")


def _find_sources(keys: Sequence[str], sources: Mapping[str, Path]) -> list[ReferenceImage]:
    """Find, by row, the image its variation started from; none for text-to-image."""
    known: dict[Path, ReferenceImage] = {}
    for path in set(sources.values()):
        try:
            known[path] = ReferenceImage(path, hash_image_file(path))
        except UnreadableImageError as error:
            known[path] = ReferenceImage(missing=f"source: {error.message}")
    return [known[sources[key]] if key in sources else _NOTHING for key in keys]


def _find_baseline_images(
    design: StudyDesign, baseline: Group, images: Sequence[ReferenceImage], *, must_exist: bool
) -> Sequence[ReferenceImage]:
    """Find, by row, the image with the baseline's levels and the row's levels of every other axis.

    Raises UsageError where the baseline names what is no axis or, if it `must_exist`, a level that is not in the table.
    """
    chosen = design.images.copy()
    for name, level in baseline.items():
        if name not in design.names:
            near = did_you_mean(name, design.names)
            hint = f"Axes: {', '.join(design.names) or 'none'}."
            raise UsageError(f"The baseline names {name}, which is not an axis.{near}", hint=hint)
        axis = design.by_name[name]
        code = _find_level(axis.levels, level)
        if code is None:
            known = ", ".join(map(str, axis.levels[:12])) or "none"
            if must_exist:
                missing = f"The baseline names {name} {level}, which is not in the table."
                raise UsageError(missing, hint=f"Its values are {known}.")
            return [ReferenceImage(missing=f"the table has no {name} {level}; it has {known}")] * len(images)
        chosen &= axis.codes == code
    others = design.match_images(baseline).tolist()
    by_other = {others[row]: images[row] for row in np.flatnonzero(chosen)[::-1]}
    return [by_other.get(other, _ABSENT) for other in others]


def _find_level(levels: Sequence[LevelValue], level: LevelValue) -> int | None:
    """Find a level among these; 7 is 7.0, but True is not 1."""
    same = [known == level and isinstance(known, bool) == isinstance(level, bool) for known in levels]
    return same.index(True) if True in same else None


def _find_first_repeats(design: StudyDesign, images: Sequence[ReferenceImage]) -> list[ReferenceImage]:
    """Find, by row, the first image of the same point, for all others of it that were rendered on their own."""
    points = design.match_images([REPLICATE_COLUMN]).tolist()
    first = {point: rows[0] for point, rows in design.group_originals(np.asarray(points)).items()}
    later = design.images & (design.repeats > 0)
    return [
        images[first[point]] if late and point in first else _NOTHING for point, late in zip(points, later, strict=True)
    ]


def _hash_together(parts: Sequence[str]) -> ReferenceImage:
    """Hash several images together, whatever their order; or a text."""
    return ReferenceImage(sha256=hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest())


@dataclass(kw_only=True)
class MeasurementPlan:
    """The images to measure, their references and the values known so far (`values` is metrics × rows)."""

    design: StudyDesign
    metrics: tuple[Metric, ...]
    images: list[ReferenceImage]  # by row, to be measured and to compare with
    prompts: list[str | None]
    compared: Sequence[ReferenceImage]  # by row: its source, or its image of the baseline
    references: list[Sequence[ReferenceImage]]  # by metric and row
    values: FloatArray
    reasons: dict[int, str] = field(default_factory=dict)

    def key(self, metric: int, row: int) -> MetricKey:
        chosen = self.metrics[metric]
        return MetricKey(
            image=self.images[row].sha256,
            reference=self.references[metric][row].sha256,
            metric=chosen.name,
            version=chosen.version,
            working_size=chosen.working_size,
        )

    def list_rows(self, metric: int) -> list[int]:
        """List the rows that should have a value; a repeat says nothing about how the seeds of a cell differ."""
        kind, design = self.metrics[metric].reference, self.design
        rows = np.flatnonzero(design.images & ((design.repeats == 0) | (kind != "cell"))).tolist()
        return [row for row in rows if kind != "image" or self.references[metric][row] is not _NOTHING]


def _plan_measurement(
    results: RecordedResults, metrics: Sequence[Metric], asked_baseline: Group | None
) -> MeasurementPlan:
    """Plan the measurement. By default the baseline is the experiment's, whose level need not be rendered yet."""
    baseline = dict(results.facts.baseline) if asked_baseline is None else asked_baseline
    table, axes = results.table(), results.axes
    frame = table.drop(columns=[m.name for m in metrics if m.name in table and m.name not in dict(axes)])
    named = [(f"axis_{name}" if f"axis_{name}" in frame else name, kind) for name, kind in axes]
    design = read_design(frame, named, baseline=baseline)
    chosen = (*(metric for metric in metrics if metric.name not in design.names), PIXEL_HASH_METRIC)
    if design.replicates > 1:
        chosen = (*chosen, SAME_POINT_METRIC)
    files = zip(frame["image_path"], frame["sha256"], design.images, strict=True)
    images = [
        ReferenceImage(results.folder / path, sha256) if has_image else _NOTHING for path, sha256, has_image in files
    ]
    compared: Sequence[ReferenceImage] = _find_sources([str(key) for key in frame["key"]], results.sources)
    kind: Literal["source", "baseline", "none"] = "none"
    if baseline:
        kind = "baseline"
        compared = _find_baseline_images(design, baseline, images, must_exist=asked_baseline is not None)
    elif any(reference is not _NOTHING for reference in compared):
        kind = "source"
    texts = frame["rendered_prompt" if "rendered_prompt" in frame else "prompt"].tolist()
    prompts = [text if isinstance(text, str) else None for text in texts]
    cells = design.group_originals(design.cells)
    joint = {cell: _hash_together([images[row].sha256 for row in rows]) for cell, rows in cells.items()}
    by_kind: dict[str, Sequence[ReferenceImage]] = {
        "none": [_NOTHING] * len(frame),
        "image": compared,
        "text": [_hash_together([prompt or ""]) for prompt in prompts],
        "cell": [joint.get(cell, _NOTHING) for cell in design.cells.tolist()],
    }
    references = [by_kind.get(metric.reference, by_kind["none"]) for metric in chosen]  # packages may have other kinds
    if chosen[-1] is SAME_POINT_METRIC:
        references[-1] = _find_first_repeats(design, images)
    return MeasurementPlan(
        design=replace(design, reference=kind),
        metrics=chosen,
        images=images,
        prompts=prompts,
        compared=compared,
        references=references,
        values=np.full((len(chosen), len(frame)), np.nan),
    )


def _make_tasks(plan: MeasurementPlan, cache: MetricCache) -> list[Task]:
    """Fill in the cached values and make tasks for the rest: one for a cell, and one for each row and reference."""
    cells = {row: tuple(rows) for rows in plan.design.group_originals(plan.design.cells).values() for row in rows}
    unmeasured: dict[tuple[tuple[int, ...], Path | None], dict[int, None]] = {}  # metrics by rows and reference
    for i, metric in enumerate(plan.metrics):
        references, wanted = plan.references[i], {}
        for row in plan.list_rows(i):
            if missing := references[row].missing:
                plan.reasons.setdefault(row, missing)
            else:
                wanted[row] = plan.key(i, row)
        known = cache.get_many([key for key in wanted.values() if key.image])
        # metrics that need no reference go with those that compare with the source
        compared = references if metric.reference == "image" else plan.compared
        for row, key in wanted.items():
            value = known.get(key)
            if value is not None:
                plan.values[i, row] = value
            elif metric.reference != "cell":
                unmeasured.setdefault(((row,), compared[row].path), {})[i] = None
            elif len(cells[row]) > 1:
                unmeasured.setdefault((cells[row], None), {})[i] = None
    tasks = [
        Task(
            rows=rows,
            images=tuple(path for row in rows if (path := plan.images[row].path) is not None),
            metrics=tuple(metrics),
            reference=reference,
            prompt=plan.prompts[rows[0]] if len(rows) == 1 else None,
        )
        for (rows, reference), metrics in unmeasured.items()
    ]
    return sorted(tasks, key=lambda task: max(task.rows))  # images are done one after the other, not all at the end


def measure_design(
    results: RecordedResults,
    *,
    metrics: Sequence[str | Metric] = (),
    baseline: Group | None = None,
    progress: MeasureProgress | None = None,
    workers: int | OnRay | None = None,
) -> tuple[StudyDesign, list[MetricFacts]]:
    """Measure as `measure_now` does, and give the design of the results with metrics, and the facts of the metrics."""
    plan = _plan_measurement(results, resolve_metrics(list(metrics) or results.facts.metrics), baseline)
    with MetricCache.open(results.folder) as cache:
        _measure(plan, _make_tasks(plan, cache), cache, progress, workers)
    columns = {metric.name: values for metric, values in zip(plan.metrics, plan.values, strict=True)}
    reasons = [plan.reasons.get(row) for row in range(len(plan.images))]
    frame = plan.design.frame.assign(**columns, reason=pd.Series(reasons, dtype=object))
    facts = []
    for i, metric in enumerate(plan.metrics):
        measured = int(np.isfinite(plan.values[i]).sum())
        facts.append(describe_metric(metric, measured=measured, failed=len(plan.list_rows(i)) - measured))
    return replace(plan.design, frame=frame), facts


def _measure(
    plan: MeasurementPlan,
    tasks: Sequence[Task],
    cache: MetricCache,
    progress: MeasureProgress | None,
    workers: int | OnRay | None,
) -> None:
    """Measure the tasks and put values into the cache, in transactions of a second's worth, whatever ends it."""
    left = Counter(row for task in tasks for row in task.rows)
    total = int(plan.design.images.sum())
    done = total - len(left)
    report = progress or (lambda *_: None)
    report(done, total)
    waiting: dict[MetricKey, float | None] = {}
    kept = time.monotonic()
    try:
        with closing(measure_all(tasks, plan.metrics, workers=workers)) as answers:
            for task, measured in answers:
                waiting |= _store_values(plan, task, measured)
                if len(waiting) >= KEEP_AT or time.monotonic() - kept >= KEEP_EVERY:
                    cache.put_many(waiting)
                    waiting, kept = {}, time.monotonic()
                for row in task.rows:
                    left[row] -= 1
                    done += left[row] == 0
                report(done, total)
    finally:
        cache.put_many(waiting)


def _store_values(
    plan: MeasurementPlan, task: Task, measured: Sequence[MeasuredImage]
) -> dict[MetricKey, float | None]:
    """Put a task's values into the table and give the finite ones, to be cached."""
    values: dict[MetricKey, float | None] = {}
    for row, answer in zip(task.rows, measured, strict=True):
        for metric, value in zip(task.metrics, answer.values, strict=True):
            plan.values[metric, row] = value
            if math.isfinite(value) and plan.images[row].sha256:
                values[plan.key(metric, row)] = value
        if answer.reason:
            plan.reasons.setdefault(row, answer.reason)
    return values


def measure_now(
    data: RecordedResults | Path | str,
    *,
    metrics: Sequence[str | Metric] = (),
    baseline: Group | None = None,
    progress: MeasureProgress | None = None,
    workers: int | OnRay | None = None,
) -> pd.DataFrame:
    """Give the results table with one column a metric, and `reason` where an image could not be measured.

    What was measured before comes from the record, by the hashes of the images; the rest is measured by worker
    processes of low priority (by default one a core, 0: in this process, "ray": on the cluster joined) and kept as it
    comes, so a kill costs a second's work. Rows that are not rendered yet have no values; call again for them.
    `progress(done, total)` counts images. Metrics and baseline that are not given are those of the experiment's
    `study:` section, whose level of the baseline need not be rendered yet.

    Raises UsageError for an unknown metric, or a baseline whose axis or level is not in the table; RecordError where
    the folder cannot be read or written.
    """
    results = RecordedResults.open(Path(data)) if isinstance(data, (str, Path)) else data
    return measure_design(results, metrics=metrics, baseline=baseline, progress=progress, workers=workers)[0].frame


def follow(folder: Path) -> None:
    """Measure what is finished in a folder, again and again, until standard input ends.

    Metrics of several images together (diversity of seeds) are left for the end, when all of them are there. What
    cannot be measured is reported at the end of the run, too.
    """

    def end_with_parent() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()
    is_first = True
    while True:
        began = time.monotonic()
        with suppress(SweepError):
            results = RecordedResults.open(folder)
            single = [metric for metric in resolve_metrics(results.facts.metrics) if metric.reference != "cell"]
            measure_now(results, metrics=single, workers=0)
        if is_first:  # whoever started this may not read: more lines than a pipe holds would stop it
            print(flush=True)
            is_first = False
        time.sleep(max(PAUSE, time.monotonic() - began))
