"""What there is to measure in a results folder: the pictures, what each is compared with, and what is known already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pandas as pd

from sweep.record.metrics import MetricCache, MetricKey
from sweep.study.contract import Group, MetricFacts
from sweep.study.layout import Floats, Layout, read_layout
from sweep.study.metrics import Metric, facts_of
from sweep.study.panel import SAME_POINT_METRIC
from sweep.study.references import (
    NOTHING,
    Reference,
    against_baseline,
    against_first_repeat,
    against_sources,
    joint_hash,
    picture_hash,
)
from sweep.study.tasks import Task


class ResultsLike(Protocol):
    """What measuring reads of a results folder: `sweep.record.table.Results`."""

    @property
    def folder(self) -> Path: ...

    @property
    def axes(self) -> tuple[tuple[str, str], ...]: ...

    @property
    def sources(self) -> Mapping[str, Path]: ...

    @property
    def experiment_text(self) -> str | None: ...

    def table(self) -> pd.DataFrame: ...


@dataclass(kw_only=True)
class Job:
    """What is to be measured, and what is known of it so far. `values` is metrics × rows."""

    layout: Layout
    metrics: tuple[Metric, ...]
    folder: Path
    values: Floats
    references: dict[str, list[Reference]]  # by what a metric asks for
    hashes: list[str] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)

    def reference(self, metric: Metric, row: int) -> Reference:
        kind = metric.name if metric.name in self.references else metric.reference
        return self.references[kind][row] if kind in self.references else NOTHING

    def key(self, metric: int, row: int) -> MetricKey:
        chosen = self.metrics[metric]
        return MetricKey(
            image=self.hashes[row],
            reference=self.reference(chosen, row).sha256,
            metric=chosen.name,
            version=chosen.version,
            working_size=chosen.working_size,
        )


def prepared(results: ResultsLike, metrics: Sequence[Metric], baseline: Group) -> Job:
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
    if not baseline and any(reference is not NOTHING for reference in sources):
        kind = "source"
    layout = layout.compared_with(kind)
    hashes = [picture_hash(layout, i, results.folder) if layout.pictures[i] else "" for i in range(len(frame))]
    job = Job(
        layout=layout,
        metrics=chosen,
        folder=results.folder,
        values=np.full((len(chosen), len(frame)), np.nan),
        references={"picture": compared, SAME_POINT_METRIC.name: against_first_repeat(layout, results.folder)},
        hashes=hashes,
    )
    job.references["text"] = [Reference(sha256=joint_hash([prompt or ""])) for prompt in _prompts(layout)]
    job.references["cell"] = _cell_references(job)
    return job


def _prompts(layout: Layout) -> list[str | None]:
    name = "rendered_prompt" if "rendered_prompt" in layout.frame else "prompt"
    column = layout.frame[name].tolist() if name in layout.frame else [None] * len(layout.frame)
    return [text if isinstance(text, str) else None for text in column]


def _cell_references(job: Job) -> list[Reference]:
    """By row: the hash of all pictures of its cell together."""
    by_cell: dict[int, list[str]] = {}
    for row in np.flatnonzero(job.layout.pictures & (job.layout.repeats == 0)):
        by_cell.setdefault(int(job.layout.cells[row]), []).append(job.hashes[row])
    joint = {cell: joint_hash(hashes) for cell, hashes in by_cell.items()}
    return [Reference(sha256=joint.get(int(cell), "")) for cell in job.layout.cells]


def _wanted(job: Job, metric: int, row: int) -> bool:
    """Whether there is something to measure; where a reference is missing, the row's reason says so."""
    of_cell = job.metrics[metric].reference == "cell"
    if not job.layout.pictures[row] or (of_cell and job.layout.repeats[row]):
        return False  # a repeat says nothing about how seeds differ
    reference = job.reference(job.metrics[metric], row)
    if reference.missing:
        job.reasons.setdefault(row, reference.missing)
    return job.metrics[metric].reference != "picture" or reference.path is not None


def from_cache(job: Job, cache: MetricCache) -> list[Task]:
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
    return sorted(tasks, key=lambda task: max(task.rows))  # pictures are done one after the other, not all at the end


def _row_tasks(job: Job, open_by_row: Mapping[int, Sequence[int]]) -> Iterator[Task]:
    """One task a row and reference, its number the row's."""
    prompts = _prompts(job.layout)
    for row, metrics in sorted(open_by_row.items()):
        by_reference: dict[Path | None, list[int]] = {}
        for i in metrics:
            if job.metrics[i].reference != "cell":
                same = job.metrics[i].name != SAME_POINT_METRIC.name
                reference = job.reference(job.metrics[i], row) if not same else job.references["picture"][row]
                by_reference.setdefault(reference.path, []).append(i)
        for path, chosen in by_reference.items():
            picture = job.folder / str(job.layout.frame["image_path"].iloc[row])
            yield Task(rows=(row,), pictures=(picture,), metrics=tuple(chosen), reference=path, prompt=prompts[row])


def _cell_tasks(job: Job, open_by_row: Mapping[int, Sequence[int]]) -> Iterator[Task]:
    """One task a cell that has an unmeasured row."""
    metrics = tuple(i for i, metric in enumerate(job.metrics) if metric.reference == "cell")
    cells = {int(job.layout.cells[row]) for row, open_ in open_by_row.items() if set(open_) & set(metrics)}
    rows_of: dict[int, list[int]] = {}
    for row in np.flatnonzero(job.layout.pictures & (job.layout.repeats == 0)):
        rows_of.setdefault(int(job.layout.cells[row]), []).append(int(row))
    for cell in sorted(cells):
        rows = rows_of[cell]
        if len(rows) > 1:
            paths = tuple(job.folder / str(job.layout.frame["image_path"].iloc[row]) for row in rows)
            yield Task(rows=tuple(rows), pictures=paths, metrics=metrics)


def finished(job: Job) -> Layout:
    columns = {metric.name: values for metric, values in zip(job.metrics, job.values, strict=True)}
    reason = [job.reasons.get(row) for row in range(len(job.layout.frame))]
    return job.layout.with_columns({**columns, "reason": pd.Series(reason, dtype=object)})


def measured_facts(job: Job, i: int) -> MetricFacts:
    rows = [row for row in range(len(job.hashes)) if job.layout.pictures[row]]
    wanted = sum(_wanted(job, i, row) or job.reference(job.metrics[i], row).missing is not None for row in rows)
    measured = int(np.isfinite(job.values[i]).sum())
    return facts_of(job.metrics[i], measured=measured, failed=wanted - measured)
