"""A results folder as a report reads it: the table, its axes and metrics, the files of its images, its runs."""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
import shlex
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from sweep.errors import RecordError, SweepError, UsageError
from sweep.record import Counts, ExperimentFacts, RecordedResults, is_in_use, read_ratings
from sweep.report.thumbnails import ImageFiles, make_thumb_id
from sweep.text import format_value
from sweep.types import Scalar

if TYPE_CHECKING:
    from sweep.record import OpenPoint, RunRecord
    from sweep.study import StudyJson


STANDARD = (
    *("index", "key", "prompt", "status", "error", "attempts", "server", "model", "image_path", "image_name", "width"),
    *("height", "sha256", "queued_at", "started_at", "finished_at", "render_seconds", "former"),
    *("rating", "rejected", "note"),
)
"""Columns of the results table that are neither axes nor metrics."""
_HASHES: Final = ("pixel_hash",)  # measured, but only to be compared for equality


@dataclass(frozen=True, slots=True)
class AxisColumn:
    """An axis and the column of the table that holds its values."""

    name: str
    kind: str
    column: str


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """A results folder as read at one moment. `problem` says why it could not be read, or not wholly."""

    folder: Path
    name: str
    description: str
    frame: pd.DataFrame
    axes: tuple[AxisColumn, ...]
    sources: Mapping[str, str] = field(default_factory=dict)  # by key: the image that a variation started from
    counts: Counts = field(default_factory=Counts)
    runs: Sequence[RunRecord] = ()
    experiment: str = ""
    facts: ExperimentFacts = field(default_factory=ExperimentFacts)
    problem: str | None = None
    ratings: Mapping[str, Any] = field(default_factory=lambda: {"schema": 1, "ratings": {}, "choices": []})
    open_points: Sequence[OpenPoint] = ()

    @classmethod
    def empty(cls, folder: Path, name: str, problem: str | None = None) -> ReportData:
        """Describe a folder of which nothing has been read."""
        return cls(folder=folder, name=name, description="", frame=pd.DataFrame(), axes=(), problem=problem)

    @property
    def retry_command(self) -> str:
        """Return the command that tries failed points again; empty if none failed."""
        command = self.runs[-1].facts.command if self.runs and self.counts.failed else ""
        return f"{remove_paths(command)} --retry-failed" if command and "--retry-failed" not in command else command

    @property
    def sandbox(self) -> bool:
        """Tell whether the sandbox painted any of the images."""
        names = [*self.column("server").dropna().unique(), *self.column("model").dropna().unique()]
        named = any(str(name).startswith("sandbox") for name in names)
        return named or any(server.get("sandbox") == "true" for run in self.runs for server in run.facts.servers)

    @property
    def is_running(self) -> bool:
        """Tell whether a run writes to the folder. A killed run has no end on record either, but its lock is free."""
        return bool(self.runs) and self.runs[-1].ended_at is None and is_locked(self.folder)

    @cached_property
    def files(self) -> ImageFiles:
        """Return the file of every image and source that the table names."""
        images: dict[str, Path] = {}
        for sha, path in zip(self.column("sha256"), self.column("image_path"), strict=True):
            if isinstance(sha, str) and isinstance(path, str):
                images.setdefault(make_thumb_id(sha), self.folder / path)
        sources: dict[str, str] = {}
        for name in dict.fromkeys(self.sources[key] for key in self.column("key") if key in self.sources):
            with contextlib.suppress(OSError), (self.folder / name).open("rb") as file:
                sources[name] = make_thumb_id(hashlib.file_digest(file, "sha256").hexdigest())
        return ImageFiles(images, sources, {**{sources[name]: self.folder / name for name in sources}, **images})

    def column(self, name: str) -> pd.Series:
        """Return a column of the table, empty where it has none of this name."""
        return self.frame[name] if name in self.frame else pd.Series(None, self.frame.index, dtype=object)

    def name_rendered(self, name: str) -> str:
        """Return the name of the column of what was rendered, which is another one where an axis is called like it."""
        return f"rendered_{name}" if f"rendered_{name}" in self.frame else name

    def list_values(self, name: str) -> list[Scalar]:
        """List the cells of a column as JSON values."""
        return [to_json_value(value) for value in self.column(name).astype(object).tolist()]

    def read_levels(self, axis: str) -> list[Scalar]:
        """Return the level of each row on the axis with this name."""
        return self.list_values(next(each.column for each in self.axes if each.name == axis))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Numeric columns that are neither axes nor bookkeeping nor hashes."""
        taken = {*_HASHES, *STANDARD, *(axis.column for axis in self.axes), *(f"rendered_{name}" for name in STANDARD)}
        numeric = self.frame.select_dtypes(include="number").columns
        return tuple(str(name) for name in numeric if name not in taken)


def is_locked(folder: Path) -> bool:
    """Tell whether a process holds the lock of the folder; not where nobody can tell."""
    try:
        return is_in_use(folder)
    except RecordError:
        return False


def remove_paths(command: str) -> str:
    """Remove the folders of the author's machine from a command: a report travels."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    return shlex.join(map(shorten_path, words))


def shorten_path(text: str) -> str:
    """Reduce an absolute path to its name."""
    return re.split(r"[\\/]", text)[-1] if re.match(r"(/|~|[A-Za-z]:[\\/])", text) else text


def read_report_data(folder: Path) -> ReportData:
    """Read the results in `folder`. Damaged ones raise nothing: `problem` then says what is wrong."""
    try:
        return _collect(RecordedResults.open(folder))
    except RecordError as error:
        problem = str(error)
    except OSError as error:
        problem = f"The results cannot be read: {error.strerror or error}."
    return ReportData.empty(folder, folder.resolve().name, problem)


def read_rendered(folder: Path | str) -> ReportData:
    """Read the results in `folder`. Raises RecordError if they cannot be read, UsageError if there are none yet."""
    data = _collect(RecordedResults.open(folder))
    if data.frame.empty:
        raise UsageError(f"Nothing has been rendered in {folder} yet.")
    return data


def _collect(results: RecordedResults) -> ReportData:
    frame, facts = results.table(), results.facts
    if "index" in frame:
        frame = frame.sort_values("index", kind="stable", ignore_index=True)
    folder = results.folder
    named = [  # an axis may be called like a column of the table
        AxisColumn(name, kind, f"axis_{name}" if f"axis_{name}" in frame else name) for name, kind in results.axes
    ]
    sources = results.sources
    names = {path: path.relative_to(folder).as_posix() for path in set(sources.values()) if path.is_relative_to(folder)}
    return ReportData(
        folder=folder,
        name=facts.name or folder.resolve().name,
        description=" ".join(facts.description.split()),
        frame=frame,
        axes=tuple(axis for axis in named if axis.column in frame),
        sources={key: names[path] for key, path in sources.items() if path in names},
        counts=results.counts(),
        runs=tuple(results.runs()),
        experiment=re.sub(r"(?m)^folder:.*\n", "", results.experiment_text or ""),  # the author's folder is private
        facts=facts,
        ratings=read_ratings(folder),
        open_points=tuple(results.open_points()),
    )


def to_json_value(value: object) -> Scalar:
    """Convert a cell to a JSON value: numpy and pandas scalars unwrapped, missing or not finite to None."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float):
        return (int(value) if value.is_integer() and abs(value) < 1e15 else value) if math.isfinite(value) else None
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return str(value)


def format_level(level: Scalar, kind: str = "") -> str:
    """Format a level for people: short numbers, file names without their folder."""
    if level is None:
        return "none"
    return str(level).rsplit("/", 1)[-1] if kind == "image" else format_value(level)


def name_variation(data: ReportData, row: int, frame: pd.DataFrame | None = None, *, without: str = "") -> str:
    """Describe the variation of a row (a position in `frame`, by default the whole table) by its axes."""
    cells = (data.frame if frame is None else frame).iloc[row]
    axes = [axis for axis in data.axes if axis.name != without]
    return " · ".join(f"{axis.name} {format_level(to_json_value(cells[axis.column]), axis.kind)}" for axis in axes)


def add_study_columns(data: ReportData, study: Mapping[str, Any] | None) -> ReportData:
    """Add the study's metrics as columns where the table was read before they were measured, if any image has one."""
    rows = (study or {}).get("rows")
    if not rows or data.frame.empty or len(rows["key"]) != len(data.frame):
        return data
    frame = data.frame
    measured = {name: values for name, values in rows["metrics"].items() if set(values) != {None}}
    missing = {name: values for name, values in measured.items() if name not in frame}
    if not missing or list(frame["key"]) != list(rows["key"]):
        return data
    columns = pd.DataFrame({name: pd.Series(values, dtype="float64") for name, values in missing.items()})
    return replace(data, frame=pd.concat([frame, columns], axis=1))


def study_folder(folder: Path) -> StudyJson | None:
    """Study the folder; None where it cannot be read or measured: the page then shows what is there."""
    from sweep.study import make_study

    try:
        return make_study(folder).to_json()
    except SweepError:
        return None


def choose_axes(data: ReportData, fixed: Container[str] = ()) -> tuple[AxisColumn | None, list[AxisColumn]]:
    """Choose the axis that stands across, a numeric one if any, and list the others with several levels, seeds last."""
    varied = [axis for axis in data.axes if axis.name not in fixed and data.frame[axis.column].nunique() > 1]
    across = next((axis for axis in varied if axis.kind in ("number", "integer")), next(iter(varied), None))
    return across, sorted((axis for axis in varied if axis is not across), key=lambda axis: axis.kind == "seed")
