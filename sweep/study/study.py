"""A whole study: from a results table to curves, effects, differences and words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sweep.study.design import BOOKKEEPING, StudyDesign, infer_axes, is_measurement, read_layout, with_bookkeeping
from sweep.study.findings import sentences_of
from sweep.study.metrics.registry import known_facts, standard
from sweep.study.schema import Curve, Difference, Group, MetricFacts, Outlier, Rows, SeedRow, StudyJson
from sweep.study.stats.curves import response_curve
from sweep.study.stats.differences import differences_of
from sweep.study.stats.effects import cell_effects_of, effects_of
from sweep.study.stats.intervals import round_estimate
from sweep.study.stats.noise import SAME_POINT, determinism_of, noise_of
from sweep.study.stats.seeds import diversity_of, outliers_of, seeds_of
from sweep.study.tables import curves_frame, differences_frame, effects_frame, save_tables

if TYPE_CHECKING:
    from sweep.record import ResultsLike
    from sweep.study.charts import Drawing
    from sweep.study.measuring.measure import MeasureProgress
    from sweep.study.metrics.base import Metric


STUDY_FILE = ("metrics", "curves", "effects", "differences", "seeds")  # tables of a study that are written as CSV
PANEL_NAMES = frozenset(metric.name for metric in standard())
THRESHOLDS: Mapping[str, Sequence[float]] = {"structure_coarse": (0.9,), "structure_middle": (0.5,), "ms_ssim": (0.5,)}
"""What curves are asked to pass where nothing else is said: above 0.9 the composition is the source's; at 0.5 half of
the structure of that scale is."""


@dataclass(frozen=True, slots=True)
class Study:
    """What a study found. `data` is its JSON (see `contract.StudyJson`); the frames are the same, tidy.

    `table` is the results table with one column a metric (and `reason` where a row has none).
    """

    data: StudyJson
    table: pd.DataFrame

    @property
    def metrics(self) -> pd.DataFrame:
        """One row an image: key, index, axes and metrics."""
        names = [axis["name"] for axis in self.data["design"]["axes"]] + [m["name"] for m in self.data["metrics"]]
        return self.table[["index", "key", *(name for name in names if name in self.table)]]

    @property
    def curves(self) -> pd.DataFrame:
        """One row a level of a curve: metric, axis, group, x, mean, low, high, n, fit, half, half_low, half_high."""
        return curves_frame(self.data["curves"])

    @property
    def effects(self) -> pd.DataFrame:
        """One row a term: metric, term, order, share, low, high, n, method."""
        return effects_frame(self.data["effects"])

    @property
    def differences(self) -> pd.DataFrame:
        """One row a pair of levels: metric, axis, a, b, difference, low, high, n, p, p_holm, significant."""
        return differences_frame(self.data["differences"])

    @property
    def seeds(self) -> pd.DataFrame:
        """One row a seed and metric: mean, deviation, rank, n."""
        return pd.DataFrame(self.data["seeds"], columns=list(SeedRow.__annotations__))

    @property
    def outliers(self) -> pd.DataFrame:
        """One row an image far from what is expected."""
        return pd.DataFrame(self.data["outliers"], columns=list(Outlier.__annotations__))

    @property
    def words(self) -> tuple[str, ...]:
        """The findings as sentences, the headlines first."""
        return tuple(sentence["text"] for sentence in self.data["words"])

    def to_json(self) -> StudyJson:
        """Everything as plain JSON values: finite numbers or null, no paths of this machine."""
        return self.data

    def to_vega_lite(self, metric: str, axis: str | None = None) -> dict[str, Any]:
        """A Vega-Lite chart of the response of a metric to a numeric axis, for notebooks.

        Raises UsageError where there is no such curve.
        """
        from sweep.study.charts import vega_lite

        return vega_lite(self.data, metric, axis)

    def _repr_html_(self) -> str:
        """What a notebook shows of a study: its words."""
        from sweep.study.charts import words_html

        return words_html(self.data)

    def to_svg(self, metric: str, axis: str | None = None) -> Drawing:
        """The same as a small SVG document (a str), which notebooks show without any other package."""
        from sweep.study.charts import svg

        return svg(self.data, metric, axis)

    def save(self, folder: Path) -> tuple[Path, ...]:
        """`study.json` and the tidy tables as CSV files in `folder`, each replaced whole; the paths written."""
        frames = {name: getattr(self, name) for name in STUDY_FILE}
        return save_tables(self.data, frames, Path(folder))


def make_study(
    data: pd.DataFrame | ResultsLike | Path | str,
    *,
    axes: Sequence[tuple[str, str]] | None = None,
    metrics: Sequence[str | Metric] = (),
    baseline: Group | None = None,
    thresholds: Mapping[str, Sequence[float]] | None = None,
    progress: MeasureProgress | None = None,
    workers: int | None = None,
) -> Study:
    """Measure a results folder (what is not measured yet) and say what its axes do.

    `data` is a results folder or its `Results`; or a plain table, which is taken as measured: then `metrics` are
    names of its columns and `axes` (name, kind) are by default all columns that are neither metrics nor bookkeeping.
    `metrics`: see `metrics.resolve`; none: the standard panel. `baseline`: levels of the cell that images are
    compared with where they have no source (others axes equal). `thresholds` by metric: what curves are asked to
    pass. `progress(done, total)` counts images; `workers`: processes, by default one a core, 0: in this process.

    Works on whatever is there: unfinished, failed or missing images make a smaller study that says so. Blocking;
    from an event loop use `anyio.to_thread.run_sync`.

    Raises UsageError for an unknown metric, axis or baseline level; RecordError where the folder cannot be read.
    """
    thresholds = THRESHOLDS if thresholds is None else thresholds
    if isinstance(data, pd.DataFrame):
        names = [metric if isinstance(metric, str) else metric.name for metric in metrics] or _numeric_left(data, axes)
        layout = read_layout(with_bookkeeping(data), axes or infer_axes(data, names), baseline=baseline)
        return analyse(layout, known_facts(names, _counts(layout, names)), thresholds=thresholds)
    from sweep.study.measuring.measure import measured_layout

    layout, facts, name = measured_layout(data, metrics=metrics, baseline=baseline, progress=progress, workers=workers)
    return analyse(layout, facts, thresholds=thresholds, name=name)


def _numeric_left(frame: pd.DataFrame, axes: Sequence[tuple[str, str]] | None) -> list[str]:
    """Metrics of a table: with axes named, the real numbers that are left; else those that hardly repeat."""
    taken = {name for name, _ in axes or ()} | BOOKKEEPING
    left = [str(name) for name in frame.columns if name not in taken and pd.api.types.is_float_dtype(frame[name])]
    return left if axes is not None else [name for name in left if is_measurement(frame[name])]


def _counts(layout: StudyDesign, metrics: Sequence[str]) -> dict[str, tuple[int, int]]:
    images = int(layout.images.sum())
    measured = {name: int(np.isfinite(layout.response(name)).sum()) for name in metrics}
    return {name: (count, images - count) for name, count in measured.items()}


def analyse(
    layout: StudyDesign,
    facts: Sequence[MetricFacts],
    *,
    thresholds: Mapping[str, Sequence[float]] = THRESHOLDS,
    name: str | None = None,
) -> Study:
    """Everything that follows from a measured table; pure, and total: it never fails for lack of data."""
    shown = [fact for fact in facts if fact["name"] != SAME_POINT]
    measured = [fact for fact in shown if fact["measured"]]
    curves = [curve for fact in measured for curve in _curves(layout, fact, thresholds.get(fact["name"], ()))]
    effects = [
        (cell_effects_of if fact["reference"] == "cell" else effects_of)(layout, fact["name"]) for fact in measured
    ]
    differences = [d for fact in measured for d in _differences(layout, fact)]
    seeds = [row for fact in measured if fact["reference"] != "cell" for row in _seeds(layout, fact)]
    noise = [noise_of(layout, fact["name"], curves) for fact in measured]
    diversity = [c for fact in measured if fact["reference"] == "cell" for c in diversity_of(layout, fact)]
    data = StudyJson(
        version=1,
        name=name,
        design=layout.design(),
        metrics=list(shown),
        words=[],
        curves=curves,
        effects=effects,
        differences=differences,
        seeds=seeds,
        outliers=[outlier for fact in measured for outlier in outliers_of(layout, fact["name"])],
        noise=noise,
        determinism=determinism_of(layout),
        diversity=diversity,
        rows=_rows(layout, [fact["name"] for fact in shown]),
    )
    compared = "image_path" not in layout.frame or any(fact["reference"] == "image" for fact in measured)
    taken = [name for name in layout.names if name in PANEL_NAMES and "image_path" in layout.frame]
    data["words"] = sentences_of(data, layout.aliases, compared=compared, taken=taken)
    return Study(data, layout.frame)


def _curves(layout: StudyDesign, fact: MetricFacts, thresholds: Sequence[float]) -> list[Curve]:
    return [
        response_curve(layout, fact, axis, group, thresholds=thresholds)
        for axis in layout.numeric
        for group in layout.groups(axis)
    ]


def _differences(layout: StudyDesign, fact: MetricFacts) -> list[Difference]:
    return [d for axis in layout.factors for d in differences_of(layout, fact, axis)]


def _seeds(layout: StudyDesign, fact: MetricFacts) -> list[SeedRow]:
    return seeds_of(layout, fact["name"], fact["direction"])


def _rows(layout: StudyDesign, metrics: Sequence[str]) -> Rows:
    frame = layout.frame
    paths = frame["image_path"].tolist() if "image_path" in frame else [None] * len(frame)
    reasons = frame["reason"].tolist() if "reason" in frame else [None] * len(frame)
    return Rows(
        key=[str(key) for key in frame["key"]],
        index=[int(index) for index in frame["index"]],
        image_path=[text if isinstance(text, str) else None for text in paths],
        axes={axis.name: [axis.levels[code] for code in axis.codes] for axis in layout.axes},
        metrics={name: [_number(value) for value in layout.response(name).tolist()] for name in metrics},
        reason=[text if isinstance(text, str) else None for text in reasons],
    )


def _number(value: float) -> float | None:
    return round_estimate(value) if math.isfinite(value) else None
