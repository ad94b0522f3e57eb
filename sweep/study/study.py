"""A whole study: `make_study` computes curves, effects, differences and sentences from a results table.

`Study` gives them as plain JSON values, as tidy tables, and as what a notebook shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sweep.errors import UsageError
from sweep.record import replace_atomically
from sweep.study.findings import choose_metric, sort_by_preference, write_sentences
from sweep.study.metrics.metric_lookup import describe_columns, list_standard
from sweep.study.stats.response_curves import compute_curve
from sweep.study.stats.safe_levels import count_holds, recommend_levels
from sweep.study.stats.seeds_and_noise import (
    SAME_PIXELS,
    SAME_POINT,
    check_determinism,
    estimate_noise,
    find_equal_levels,
    find_outliers,
    rank_seeds,
)
from sweep.study.stats.t_tests import compare_levels, correct_claims, list_finite, round_digits
from sweep.study.stats.variance_shares import compute_effects
from sweep.study.study_design import StudyDesign, add_bookkeeping, infer_axes, read_design
from sweep.study.study_json import (
    AdaptiveResult,
    AxisDistance,
    Choices,
    Curve,
    Effects,
    Estimate,
    Group,
    Hold,
    MetricFacts,
    Outlier,
    Recommendation,
    Rows,
    SeedRow,
    StudyJson,
)
from sweep.text import make_list

if TYPE_CHECKING:
    from sweep.record import RecordedResults
    from sweep.study.measuring.measurements import MeasureProgress
    from sweep.study.measuring.workers import OnRay
    from sweep.study.metrics.base import Metric


SAVED_TABLES = ("metrics", "recommendations", "holds", "curves", "effects", "differences", "seeds")  # as CSV
PANEL_NAMES = frozenset(metric.name for metric in list_standard())
THRESHOLDS: Mapping[str, Sequence[float]] = {
    "structure_coarse": (0.9,),
    "structure_middle": (0.5,),
    "ms_ssim": (0.5,),
    "rating": (4.0,),
}
"""What curves are asked to pass where nothing else is said: above 0.9 the composition is the source's; at 0.5 half of
the structure of that scale is."""


LEVEL_COLUMNS = ("x", "mean", "low", "high", "n")
CURVE_COLUMNS = ["metric", "axis", "group", *LEVEL_COLUMNS, "half", "half_low", "half_high", "falling", "warnings"]
EFFECT_COLUMNS = ["metric", "term", "order", "share", "low", "high", "n", "method"]
DIFFERENCE_COLUMNS = ["metric", "axis", "a", "b", "difference", "low", "high", "n", "p", "p_adjusted", "significant"]
DISTANCE_COLUMNS = ["metric", "axis", "a", "b", "row_a", "row_b", "distance"]


def tabulate(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> pd.DataFrame:
    """Make a table of these columns: an estimate becomes its value, low, high and n, and a group is written as text."""
    flat = []
    for row in rows:
        cells = dict(row)
        for name, value in row.items():
            if isinstance(value, dict) and value.keys() == Estimate.__annotations__.keys():
                cells |= {name: value["value"], "low": value["low"], "high": value["high"], "n": value["n"]}
            elif isinstance(value, dict):
                cells[name] = write_group(value)
        flat.append(cells)
    return pd.DataFrame(flat, columns=list(columns))


def write_group(group: Group) -> str:
    """Write a group as in "prompt=red, cfg_scale=7"; empty for all rows."""
    return ", ".join(f"{name}={level}" for name, level in group.items())


def list_curve_rows(curves: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """List the levels of all curves."""
    for curve in curves:
        half = curve["half"]
        whole = {name: curve[name] for name in ("metric", "axis", "group", "falling")}
        whole |= {"half": half["value"], "half_low": half["low"], "half_high": half["high"]}
        whole["warnings"] = "; ".join(warning["message"] for warning in curve["warnings"])
        for level in zip(*(curve[name] for name in LEVEL_COLUMNS), strict=True):
            yield {**whole, **dict(zip(LEVEL_COLUMNS, level, strict=True))}


def list_effect_rows(effects: Sequence[Effects]) -> Iterator[dict[str, Any]]:
    """List the terms of all metrics; order 1 is a main effect, the term "rest" what no term explains."""
    for effect in effects:
        named = {"metric": effect["metric"], "method": effect["method"]}
        for share in effect["shares"]:
            term, order = " × ".join(share["axes"]), len(share["axes"])
            yield {**named, "term": term, "order": order, "share": share["share"]}
        if effect["rest"] is not None:
            yield {**named, "term": "rest", "order": 0, "share": effect["rest"]}


def list_distance_rows(data: StudyJson) -> Iterator[dict[str, Any]]:
    """List the pairs of images that differ in one axis alone."""
    for each in data["distances"]:
        levels = data["rows"]["axes"][each["axis"]]
        for a, b, distance in zip(each["a"], each["b"], each["distance"], strict=True):
            pair = {"a": levels[a], "b": levels[b], "row_a": a, "row_b": b}
            yield {"metric": each["metric"], "axis": each["axis"], **pair, "distance": distance}


def _list_html(texts: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in dict.fromkeys(texts))}</ul>"


class Chart(dict[str, Any]):
    """A Vega-Lite specification that Jupyter draws by itself, without another package."""

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return {"application/vnd.vegalite.v5+json": dict(self)}

    def _repr_pretty_(self, printer: Any, _: object) -> None:  # before IPython's own for a dict
        printer.text(f"Vega-Lite chart: {self['description']}")


def _select_curves(data: StudyJson, metric: str, axis: str | None) -> list[Curve]:
    """Select curves of the metric by the first axis that splits them, or the one over all rows."""
    known = list(dict.fromkeys((curve["metric"], curve["axis"]) for curve in data["curves"]))
    chosen = axis or next((name for of, name in known if of == metric), "")
    if (metric, chosen) not in known:
        names = [f"{of} along {name}" for of, name in known]
        hint = f"Known: {', '.join(names)}." if names else "No axis of this study is numeric."
        raise UsageError(f"There is no curve of {metric}{f' along {chosen}' if chosen else ''}.", hint=hint)
    found = [c for c in data["curves"] if (c["metric"], c["axis"]) == (metric, chosen)]
    split = next((next(iter(c["group"])) for c in found if c["group"]), None)
    return [c for c in found if split in c["group"]] if split else found


@dataclass(frozen=True, slots=True, repr=False)
class Study:
    """The findings of a study. `data` is its JSON (see `StudyJson`); the frames are the same, tidy.

    `table` is the results table with one column a metric (and `reason` where a row has none).
    """

    data: StudyJson
    table: pd.DataFrame

    @property
    def metrics(self) -> pd.DataFrame:
        """Return one row per image: key, index, axes and metrics."""
        names = [axis["name"] for axis in self.data["design"]["axes"]] + [m["name"] for m in self.data["metrics"]]
        return self.table[["index", "key", *(name for name in names if name in self.table)]]

    @property
    def curves(self) -> pd.DataFrame:
        """Return one row per level of a curve: x, mean, low, high, n, and what holds for all of the curve."""
        return tabulate(list_curve_rows(self.data["curves"]), CURVE_COLUMNS)

    @property
    def effects(self) -> pd.DataFrame:
        """Return one row per term: metric, term, order, share, low, high, n, method."""
        return tabulate(list_effect_rows(self.data["effects"]), EFFECT_COLUMNS)

    @property
    def differences(self) -> pd.DataFrame:
        """Return one row per level pair: metric, axis, a, b, difference, low, high, n, p, p_adjusted, significant."""
        return tabulate(self.data["differences"], DIFFERENCE_COLUMNS)

    @property
    def seeds(self) -> pd.DataFrame:
        """Return one row per seed and metric: mean, deviation, rank, n. Ranks hold for these images alone."""
        return tabulate(self.data["seeds"], SeedRow.__annotations__)

    @property
    def outliers(self) -> pd.DataFrame:
        """Return one row per image far from what is expected."""
        return tabulate(self.data["outliers"], Outlier.__annotations__)

    @property
    def recommendations(self) -> pd.DataFrame:
        """Return one row per metric, axis and threshold, as `Recommendation` has it: which level to use, and why."""
        return tabulate(self.data["recommendations"], Recommendation.__annotations__)

    @property
    def holds(self) -> pd.DataFrame:
        """Return one row per level and group: metric, axis, threshold, level, group, held, images."""
        return tabulate(self.data["holds"], Hold.__annotations__)

    @property
    def distances(self) -> pd.DataFrame:
        """Return one row per pair of images that differ in one axis: metric, axis, a, b, row_a, row_b, distance."""
        return tabulate(list_distance_rows(self.data), DISTANCE_COLUMNS)

    @property
    def words(self) -> tuple[str, ...]:
        """Return the findings as sentences, the headlines first."""
        return tuple(f"{each['text']} {each['detail']}".rstrip() for each in self.data["words"])

    def to_json(self) -> StudyJson:
        """Give everything as plain JSON values: finite numbers or null, no paths of this machine."""
        return self.data

    def to_vega_lite(self, metric: str, axis: str | None = None) -> Chart:
        """Make a Vega-Lite chart (a dict) of the response of a metric to a numeric axis; a notebook draws it.

        Band, mean and its points by group, with the data inside (Vega-Lite 5); `axis` is by default the first with
        curves. Raises UsageError where there is no such curve.
        """
        curves: list[Any] = [*_select_curves(self.data, metric, axis)]
        fact = next(fact for fact in self.data["metrics"] if fact["name"] == metric)
        names = LEVEL_COLUMNS[:-1]
        rows = [
            {**dict(zip(names, level, strict=True)), "group": write_group(curve["group"]) or "all"}
            for curve in curves
            for level in zip(*(curve[name] for name in names), strict=True)
        ]
        title = f"{fact['label']} ({fact['unit']})" if fact["unit"] else fact["label"]
        legend = {"symbolOpacity": 1, "labelLimit": 400}  # as strong as the lines, and long levels whole
        low, mean = ({"field": name, "type": "quantitative", "title": title} for name in ("low", "mean"))
        return Chart(
            {
                "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
                "description": f"{fact['summary']} {curves[0]['interval']}.",
                "width": 400,
                "data": {"values": rows},
                "encoding": {
                    "x": {"field": "x", "type": "quantitative", "title": curves[0]["axis"]},
                    "color": {"field": "group", "type": "nominal", "title": None, "sort": None, "legend": legend},
                },
                "layer": [
                    {"mark": {"type": "area", "opacity": 0.2}, "encoding": {"y": low, "y2": {"field": "high"}}},
                    {"mark": {"type": "line", "point": True}, "encoding": {"y": mean}},
                ],
            }
        )

    def __repr__(self) -> str:
        """Show the name, the size and the first headline."""
        design, words = self.data["design"], self.words
        measured = sum(1 for metric in self.data["metrics"] if metric["measured"])
        size = f"{design['images']} images, {measured} metrics"
        return f"Study({self.data['name'] or 'table'}: {size}; {words[0] if words else 'no findings'})"

    def _repr_html_(self) -> str:
        """Show the findings in a notebook: headlines and limits, the rest folded away."""
        words = self.data["words"]
        seen = [each for each in words if each["headline"]] + [each for each in words if each["kind"] == "limit"]
        rest = [each["text"] for each in words if each not in seen]
        folded = f"<details><summary>{len(rest)} more</summary>{_list_html(rest)}</details>" if rest else ""
        return _list_html([each["text"] for each in seen]) + folded

    def save(self, folder: Path | str) -> tuple[Path, ...]:
        """Write `study.json` and the tidy tables as CSV files to `folder`, each replaced whole; give their paths.

        Raises RecordError where the folder cannot be written.
        """
        texts = {"study.json": json.dumps(self.data, allow_nan=False, ensure_ascii=False)}
        texts |= {f"{name}.csv": getattr(self, name).to_csv(index=False, lineterminator="\n") for name in SAVED_TABLES}
        for name, text in texts.items():
            with replace_atomically(Path(folder) / name) as file:
                file.write(text.encode())
        return tuple(Path(folder) / name for name in texts)


def make_study(
    data: pd.DataFrame | RecordedResults | Path | str,
    *,
    axes: Sequence[tuple[str, str]] | None = None,
    metrics: str | Sequence[str | Metric] = (),
    baseline: Group | None = None,
    thresholds: Mapping[str, Sequence[float]] | None = None,
    progress: MeasureProgress | None = None,
    workers: int | OnRay | None = None,
) -> Study:
    """Measure a results folder (what is not measured yet) and say what its axes do.

    `data` is a results folder or its `Results`; or a plain table, which is taken as measured: then `metrics` are
    names of its columns and `axes` (name, kind) are by default all columns that are neither metrics nor bookkeeping.
    `metrics`: see `resolve_metrics`; none: the standard panel. `baseline`: levels of the cell that images are
    compared with where they have no source (others axes equal). `thresholds` by metric: what curves are asked to
    pass. `progress(done, total)` counts images; `workers`: processes, by default one a core, 0: in this
    process, "ray": on the cluster that this process has joined.

    Works on whatever is there: unfinished, failed or missing images make a smaller study that says so. Blocking;
    from an event loop use `anyio.to_thread.run_sync`.

    Raises UsageError for an unknown metric, axis or baseline level; RecordError where the folder cannot be read.
    """
    thresholds = THRESHOLDS if thresholds is None else thresholds
    metrics = make_list(metrics)
    if isinstance(data, pd.DataFrame):
        return _study_table(data, axes, metrics, baseline, thresholds)
    from sweep.record import RecordedResults, read_ratings
    from sweep.study.adaptive_search import conclude_search
    from sweep.study.measuring.measurements import measure_axis_distances, measure_design
    from sweep.study.ratings import describe_ratings, rank_choices

    results = RecordedResults.open(Path(data)) if isinstance(data, (str, Path)) else data
    design, facts = measure_design(results, metrics=metrics, baseline=baseline, progress=progress, workers=workers)
    return analyse(
        design,
        [*facts, *describe_ratings(design)],
        thresholds=thresholds,
        name=results.facts.name,
        distances=measure_axis_distances(design, results.folder),
        choices=rank_choices(design, read_ratings(results.folder)["choices"], facts),
        adaptive=conclude_search(results),
    )


def _study_table(
    frame: pd.DataFrame,
    axes: Sequence[tuple[str, str]] | None,
    metrics: Sequence[str | Metric],
    baseline: Group | None,
    thresholds: Mapping[str, Sequence[float]],
) -> Study:
    names = [metric if isinstance(metric, str) else metric.name for metric in metrics]
    if not names:
        raise UsageError("A table does not say which columns are measured.", hint="Name them: metrics=[…].")
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
    of_images = [fact for fact in measured if fact["reference"] != "cell"]  # not distances between seeds
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
        effects=[compute_effects(design, fact["name"]) for fact in of_images],
        differences=differences,
        seeds=[row for fact in of_images for row in rank_seeds(design, fact["name"], fact["direction"])],
        outliers=[outlier for fact in measured for outlier in find_outliers(design, fact["name"])],
        noise=[estimate_noise(design, fact["name"]) for fact in measured],
        determinism=check_determinism(design),
        holds=holds,
        recommendations=[
            r for fact in sort_by_preference(measured) for r in recommend_levels(design, fact, holds, curves)
        ],
        distances=[] if adaptive else list(distances),
        equal=find_equal_levels(design),
        choices=list(choices),
        adaptive=adaptive,
        rows=_list_rows(design, [fact["name"] for fact in shown]),
    )
    compared = "image_path" not in design.frame or any(fact["reference"] == "image" for fact in measured or shown)
    taken = [name for name in design.names if name in PANEL_NAMES and "image_path" in design.frame]
    data["words"] = write_sentences(data, design.aliases, compared=compared, taken=taken)
    return Study(data, design.frame)


def _list_rows(design: StudyDesign, metrics: Sequence[str]) -> Rows:
    frame = design.frame
    return Rows(
        key=[str(key) for key in frame["key"]],
        index=[int(index) for index in frame["index"]],
        image_path=_list_texts(frame, "image_path"),
        axes={axis.name: [axis.levels[code] for code in axis.codes] for axis in design.axes},
        metrics={name: list_finite(round_digits(design.response(name))) for name in metrics},
        reason=_list_texts(frame, "reason"),
    )


def _list_texts(frame: pd.DataFrame, name: str) -> list[str | None]:
    texts = frame[name] if name in frame else [None] * len(frame)
    return [text if isinstance(text, str) else None for text in texts]
