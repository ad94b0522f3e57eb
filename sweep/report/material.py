"""Everything a report is made of, read from a results folder once; a folder that cannot be read says why instead."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pandas as pd

from sweep.errors import RecordError
from sweep.record.base import Counts

if TYPE_CHECKING:
    from sweep.record.queries import RunRecord

STANDARD = (
    *("index", "key", "prompt", "status", "error", "attempts", "server", "model", "image_path", "image_name", "width"),
    *("height", "sha256", "queued_at", "started_at", "finished_at", "render_seconds", "former"),
)
"""Columns of the results table that are neither axes nor metrics."""


class ResultsLike(Protocol):
    """What a report reads: `sweep.record.table.Results` is one."""

    @property
    def folder(self) -> Path:
        """Of the results."""
        ...

    @property
    def axes(self) -> tuple[tuple[str, str], ...]:
        """(name, kind) in the order of the definition."""
        ...

    @property
    def experiment_text(self) -> str | None:
        """The experiment's YAML as last run."""
        ...

    @property
    def sources(self) -> Mapping[str, Path]:
        """By key: the picture a variation started from."""
        ...

    def counts(self) -> Counts:
        """How many points are in which state."""
        ...

    def runs(self) -> Sequence[RunRecord]:
        """Oldest first."""
        ...

    def table(self) -> pd.DataFrame:
        """The results table of DESIGN.md."""
        ...


@dataclass(frozen=True, slots=True)
class AxisColumn:
    """An axis and the column of the table that holds its values."""

    name: str
    kind: str
    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """A results folder as read at one moment. `problem` is a sentence where it could not be read, or not wholly."""

    folder: Path
    name: str
    description: str
    frame: pd.DataFrame
    axes: tuple[AxisColumn, ...]
    sources: Mapping[str, Path] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    runs: Sequence[RunRecord] = ()
    experiment: str = ""
    problem: str | None = None

    @property
    def sandbox(self) -> bool:
        """Whether any picture was painted by the sandbox instead of diffused by a model."""
        names = [self.frame[column].dropna().unique() for column in ("server", "model") if column in self.frame]
        named = any(str(name).startswith("sandbox") for column in names for name in column)
        return named or any(_is_sandbox(server) for run in self.runs for server in run.facts.servers)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Numeric columns that are neither axes nor bookkeeping."""
        taken = {*STANDARD, *(axis.column for axis in self.axes), *(f"rendered_{name}" for name in STANDARD)}
        numeric = self.frame.select_dtypes(include="number").columns
        return tuple(str(name) for name in numeric if name not in taken)


def read_material(folder: Path) -> Material:
    """What `folder` holds. Never raises for what is in it: the report then says what is wrong."""
    from sweep.record.table import Results

    try:
        return material_of(Results.open(folder))
    except RecordError as error:
        return _unreadable(folder, str(error))
    except OSError as error:
        return _unreadable(folder, f"The results cannot be read: {error.strerror or error}.")


def material_of(results: ResultsLike) -> Material:
    """The same of results that are open. Raises RecordError."""
    frame = results.table()
    text = results.experiment_text or ""
    columns = set(frame.columns)
    axes = tuple(
        AxisColumn(name, kind, column)
        for name, kind in results.axes
        if (column := _axis_column(name, columns)) is not None
    )
    return Material(
        folder=results.folder,
        name=_yaml_line(text, "name") or results.folder.resolve().name,
        description=_yaml_line(text, "description"),
        frame=_ordered(frame),
        axes=axes,
        sources=results.sources,
        counts=results.counts(),
        runs=tuple(results.runs()),
        experiment=text,
    )


def _unreadable(folder: Path, problem: str) -> Material:
    name = folder.resolve().name
    return Material(folder=folder, name=name, description="", frame=pd.DataFrame(), axes=(), problem=problem)


def _axis_column(name: str, columns: set[str]) -> str | None:
    if name in STANDARD and name not in {"prompt", "model", "width", "height"}:
        return f"axis_{name}" if f"axis_{name}" in columns else None
    return name if name in columns else None


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values("index", kind="stable", ignore_index=True) if "index" in frame else frame


def _yaml_line(text: str, key: str) -> str:
    """A top-level text of the experiment file; "" where it has none. The page only shows it: a full reading of the
    file is the experiment layer's, which a report does not import.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    match = re.search(rf"^{key}:.*(?:\n[ \t]+.*)*", text, re.MULTILINE)
    if match is None:
        return ""
    try:
        value = YAML(typ="safe", pure=True).load(match[0])
    except YAMLError:
        return ""
    found = value.get(key) if isinstance(value, dict) else None
    return " ".join(found.split()) if isinstance(found, str) else ""


def _is_sandbox(server: Mapping[str, str]) -> bool:
    return any("sandbox" in str(server.get(name, "")) for name in ("name", "version", "kind")) or (
        str(server.get("sandbox", "")).lower() == "true"
    )
