"""A whole study: from a results table to curves, effects, differences and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sweep.study.findings import choose_metric, count_holds, recommend_levels, write_findings
from sweep.study.metrics.registry import describe_columns, list_standard
from sweep.study.observations import (
    BOOKKEEPING,
    StudyDesign,
    add_bookkeeping,
    infer_axes,
    is_measurement,
    read_design,
)
from sweep.study.schema import (
    AdaptiveResult,
    AxisDistance,
    Choices,
    Group,
    Hold,
    MetricFacts,
    Outlier,
    Recommendation,
    Rows,
    SeedRow,
    StudyJson,
)
from sweep.study.stats.curves import compute_curve
from sweep.study.stats.effects import compare_levels, compute_cell_effects, compute_effects, correct_claims
from sweep.study.stats.intervals import round_digits
from sweep.study.stats.seeds import (
    SAME_PIXELS,
    SAME_POINT,
    check_determinism,
    estimate_noise,
    find_equal_levels,
    find_outliers,
    measure_diversity,
    rank_seeds,
)
from sweep.study.tables import (
    CURVE_COLUMNS,
    DIFFERENCE_COLUMNS,
    DISTANCE_COLUMNS,
    EFFECT_COLUMNS,
    Chart,
    list_curve_rows,
    list_distance_rows,
    list_effect_rows,
    make_chart,
    make_html,
    save_tables,
    tabulate,
)

if TYPE_CHECKING:
    from sweep.record import RecordedResults
    from sweep.study.measuring.measure import MeasureProgress
    from sweep.study.measuring.pool import OnRay
    from sweep.study.metrics.base import Metric


STUDY_FILE = (
    "metrics",
    "recommendations",
    "holds",
    "curves",
    "effects",
    "differences",
    "seeds",
)  # tables of a study that are written as CSV
PANEL_NAMES = frozenset(metric.name for metric in list_standard())
THRESHOLDS: Mapping[str, Sequence[float]] = {
    "structure_coarse": (0.9,),
    "structure_middle": (0.5,),
    "ms_ssim": (0.5,),
    "rating": (4.0,),
}
"""What curves are asked to pass where nothing else is said: above 0.9 the composition is the source's; at 0.5 half of
the structure of that scale is."""


@dataclass(frozen=True, slots=True, repr=False)
class Study:
    """The findings of a study. `data` is its JSON (see `StudyJson`); the frames are the same, tidy.

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
        return tabulate(list_curve_rows(self.data["curves"]), CURVE_COLUMNS)

    @property
    def effects(self) -> pd.DataFrame:
        """One row a term: metric, term, order, share, low, high, n, method."""
        return tabulate(list_effect_rows(self.data["effects"]), EFFECT_COLUMNS)

    @property
    def differences(self) -> pd.DataFrame:
        """One row a pair of levels: metric, axis, a, b, difference, low, high, n, p, p_adjusted, significant."""
        return tabulate(self.data["differences"], DIFFERENCE_COLUMNS)

    @property
    def seeds(self) -> pd.DataFrame:
        """One row a seed and metric: mean, deviation, rank, n."""
        return tabulate(self.data["seeds"], SeedRow.__annotations__)

    @property
    def outliers(self) -> pd.DataFrame:
        """One row an image far from what is expected."""
        return tabulate(self.data["outliers"], Outlier.__annotations__)

    @property
    def recommendations(self) -> pd.DataFrame:
        """One row a metric, axis and threshold: which level to use, and how many images held there.

        Columns: metric, axis, threshold, wanted, side, use, held, images, weakest_group, bracket_low, bracket_high,
        levels_to_add, mean_crossing, low, high, n.
        """
        return tabulate(self.data["recommendations"], Recommendation.__annotations__)

    @property
    def holds(self) -> pd.DataFrame:
        """One row a level and group: metric, axis, threshold, level, group, held, images."""
        return tabulate(self.data["holds"], Hold.__annotations__)

    @property
    def distances(self) -> pd.DataFrame:
        """One row a pair of images that differ in one axis alone: metric, axis, a, b, row_a, row_b, distance."""
        return tabulate(list_distance_rows(self.data), DISTANCE_COLUMNS)

    @property
    def words(self) -> tuple[str, ...]:
        """The findings as sentences, the headlines first."""
        return tuple(f"{each['text']} {each['detail']}".rstrip() for each in self.data["words"])

    def to_json(self) -> StudyJson:
        """Give everything as plain JSON values: finite numbers or null, no paths of this machine."""
        return self.data

    def to_vega_lite(self, metric: str, axis: str | None = None) -> Chart:
        """Make a Vega-Lite chart (a dict) of the response of a metric to a numeric axis; a notebook draws it.

        Raises UsageError where there is no such curve.
        """
        return make_chart(self.data, metric, axis)

    def __repr__(self) -> str:
        """Show the name, the size and the first headline."""
        design, words = self.data["design"], self.words
        measured = sum(1 for metric in self.data["metrics"] if metric["measured"])
        size = f"{design['images']} images, {measured} metrics"
        return f"Study({self.data['name'] or 'table'}: {size}; {words[0] if words else 'no findings'})"

    def _repr_html_(self) -> str:
        """Show the findings in a notebook."""
        return make_html(self.data)

    def save(self, folder: Path) -> tuple[Path, ...]:
        """Write `study.json` and the tidy tables as CSV files to `folder`, each replaced whole; give their paths."""
        frames = {name: getattr(self, name) for name in STUDY_FILE}
        return save_tables(self.data, frames, Path(folder))


def make_study(
    data: pd.DataFrame | RecordedResults | Path | str,
    *,
    axes: Sequence[tuple[str, str]] | None = None,
    metrics: Sequence[str | Metric] = (),
    baseline: Group | None = None,
    thresholds: Mapping[str, Sequence[float]] | None = None,
    progress: MeasureProgress | None = None,
    workers: int | OnRay | None = None,
) -> Study:
    """Measure a results folder (what is not measured yet) and say what its axes do.

    `data` is a results folder or its `Results`; or a plain table, which is taken as measured: then `metrics` are
    names of its columns and `axes` (name, kind) are by default all columns that are neither metrics nor bookkeeping.
    `metrics`: see `metrics.resolve`; none: the standard panel. `baseline`: levels of the cell that images are
    compared with where they have no source (others axes equal). `thresholds` by metric: what curves are asked to
    pass. `progress(done, total)` counts images; `workers`: processes, by default one a core, 0: in this
    process, "ray": on the cluster that this process has joined.

    Works on whatever is there: unfinished, failed or missing images make a smaller study that says so. Blocking;
    from an event loop use `anyio.to_thread.run_sync`.

    Raises UsageError for an unknown metric, axis or baseline level; RecordError where the folder cannot be read.
    """
    thresholds = THRESHOLDS if thresholds is None else thresholds
    if isinstance(data, pd.DataFrame):
        return _study_table(data, axes, metrics, baseline, thresholds)
    from sweep.record import RATINGS_JSON, RecordedResults
    from sweep.study.adaptive import conclude_search
    from sweep.study.measuring.measure import measure_axis_distances, measure_design
    from sweep.study.ratings import load_ratings, rank_choices, rate_images

    results = RecordedResults.open(Path(data)) if isinstance(data, (str, Path)) else data
    design, facts, name = measure_design(
        results, metrics=metrics, baseline=baseline, progress=progress, workers=workers
    )
    ratings = load_ratings(results.folder / RATINGS_JSON)
    design, rated = rate_images(design, ratings)
    distances = measure_axis_distances(design, results.folder)
    choices = rank_choices(design, ratings, facts)
    return analyse(
        design,
        [*facts, *rated],
        thresholds=thresholds,
        name=name,
        distances=distances,
        choices=choices,
        adaptive=conclude_search(results),
    )


def _study_table(
    frame: pd.DataFrame,
    axes: Sequence[tuple[str, str]] | None,
    metrics: Sequence[str | Metric],
    baseline: Group | None,
    thresholds: Mapping[str, Sequence[float]],
) -> Study:
    """Study a plain table. By default its metrics are the real numbers; without axes those that hardly repeat."""
    names = [metric if isinstance(metric, str) else metric.name for metric in metrics]
    if not names:
        taken = {name for name, _ in axes or ()} | BOOKKEEPING
        left = [str(name) for name in frame.columns if name not in taken and pd.api.types.is_float_dtype(frame[name])]
        names = left if axes is not None else [name for name in left if is_measurement(frame[name])]
    design = read_design(add_bookkeeping(frame), axes or infer_axes(frame, names), baseline=baseline)
    images = int(design.images.sum())
    measured = {name: int(np.isfinite(design.response(name)).sum()) for name in names}
    counts = {name: (count, images - count) for name, count in measured.items()}
    return analyse(design, describe_columns(names, counts), thresholds=thresholds)


def analyse(
    design: StudyDesign,
    facts: Sequence[MetricFacts],
    *,
    thresholds: Mapping[str, Sequence[float]] = THRESHOLDS,
    name: str | None = None,
    distances: Sequence[AxisDistance] = (),
    choices: Sequence[Choices] = (),
    adaptive: AdaptiveResult | None = None,
) -> Study:
    """Compute everything that follows from a measured table; pure, and total: it never fails for lack of data.

    An adaptive design chose its images by their values, so averages over them would be biased: there are none.
    """
    shown = [fact for fact in facts if fact["name"] not in {SAME_POINT, SAME_PIXELS}]
    measured = [fact for fact in shown if fact["measured"] and adaptive is None]
    of_cells = [fact for fact in measured if fact["reference"] == "cell"]
    of_images = [fact for fact in measured if fact["reference"] != "cell"]
    asked = {fact["name"]: thresholds.get(fact["name"], ()) for fact in measured}
    curves = [
        compute_curve(design, fact, axis, group, thresholds=asked[fact["name"]])
        for fact in measured
        for axis in design.numeric
        for group in design.groups(axis)
    ]
    differences = [d for fact in measured for axis in design.factors for d in compare_levels(design, fact, axis)]
    correct_claims(curves, differences, choose_metric(measured))
    holds = [hold for fact in measured for hold in count_holds(design, fact, asked[fact["name"]])]
    data = StudyJson(
        version=1,
        name=name,
        design=design.describe(),
        metrics=list(shown),
        words=[],
        curves=curves,
        effects=[
            (compute_cell_effects if fact in of_cells else compute_effects)(design, fact["name"]) for fact in measured
        ],
        differences=differences,
        seeds=[row for fact in of_images for row in rank_seeds(design, fact["name"], fact["direction"])],
        outliers=[outlier for fact in measured for outlier in find_outliers(design, fact["name"])],
        noise=[estimate_noise(design, fact["name"]) for fact in measured],
        determinism=check_determinism(design),
        diversity=[cell for fact in of_cells for cell in measure_diversity(design, fact)],
        holds=holds,
        recommendations=[r for fact in measured for r in recommend_levels(design, fact, holds, curves)],
        distances=[] if adaptive else list(distances),
        equal=find_equal_levels(design),
        choices=list(choices),
        adaptive=adaptive,
        rows=_list_rows(design, [fact["name"] for fact in shown]),
    )
    compared = "image_path" not in design.frame or any(fact["reference"] == "image" for fact in measured or shown)
    taken = [name for name in design.names if name in PANEL_NAMES and "image_path" in design.frame]
    data["words"] = write_findings(data, design.aliases, compared=compared, taken=taken)
    return Study(data, design.frame)


def _list_rows(design: StudyDesign, metrics: Sequence[str]) -> Rows:
    frame = design.frame
    paths = frame["image_path"].tolist() if "image_path" in frame else [None] * len(frame)
    reasons = frame["reason"].tolist() if "reason" in frame else [None] * len(frame)
    return Rows(
        key=[str(key) for key in frame["key"]],
        index=[int(index) for index in frame["index"]],
        image_path=[text if isinstance(text, str) else None for text in paths],
        axes={axis.name: [axis.levels[code] for code in axis.codes] for axis in design.axes},
        metrics={
            name: [round_digits(v) if np.isfinite(v) else None for v in design.response(name).tolist()]
            for name in metrics
        },
        reason=[text if isinstance(text, str) else None for text in reasons],
    )
