"""A study as tidy tables and as what a notebook shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from sweep.errors import UsageError, did_you_mean
from sweep.record import replace_atomically
from sweep.study.schema import AxisDistance, Curve, Difference, Effects, Estimate, Group, MetricFacts, Rows, StudyJson

CURVE_COLUMNS = [
    "metric",
    "axis",
    "group",
    "x",
    "mean",
    "low",
    "high",
    "n",
    "half",
    "half_low",
    "half_high",
    "falling",
    "warnings",
]
EFFECT_COLUMNS = ["metric", "term", "order", "share", "low", "high", "n", "method"]
DIFFERENCE_COLUMNS = [
    "metric",
    "axis",
    "a",
    "b",
    "difference",
    "low",
    "high",
    "n",
    "p",
    "p_adjusted",
    "significant",
]


def _flatten_interval(estimate: Estimate, name: str) -> dict[str, Any]:
    return {name: estimate["value"], "low": estimate["low"], "high": estimate["high"], "n": estimate["n"]}


def write_group(group: Group) -> str:
    """Write a group as in "prompt=red, cfg_scale=7"; empty for all rows."""
    return ", ".join(f"{name}={level}" for name, level in group.items())


def tabulate_curves(curves: Sequence[Curve]) -> pd.DataFrame:
    """Make a table with one row a level of a curve."""
    rows: list[Mapping[str, Any]] = [
        {
            "metric": curve["metric"],
            "axis": curve["axis"],
            "group": write_group(curve["group"]),
            "x": x,
            "mean": curve["mean"][i],
            "low": curve["low"][i],
            "high": curve["high"][i],
            "n": curve["n"][i],
            "half": curve["half"]["value"],
            "half_low": curve["half"]["low"],
            "half_high": curve["half"]["high"],
            "falling": curve["falling"],
            "warnings": "; ".join(warning["message"] for warning in curve["warnings"]),
        }
        for curve in curves
        for i, x in enumerate(curve["x"])
    ]
    return pd.DataFrame(rows, columns=CURVE_COLUMNS)


def tabulate_effects(effects: Sequence[Effects]) -> pd.DataFrame:
    """Make a table with one row a term of a metric; order 1 is a main effect, the term "rest" what no term explains."""
    rows: list[Mapping[str, Any]] = []
    for effect in effects:
        for share in effect["shares"]:
            term, order = " × ".join(share["axes"]), len(share["axes"])
            named = {"metric": effect["metric"], "term": term, "order": order, "method": effect["method"]}
            rows.append(named | _flatten_interval(share["share"], "share"))
        if effect["rest"] is not None:
            rest = {"metric": effect["metric"], "term": "rest", "order": 0, "share": effect["rest"]}
            rows.append(rest | {"method": effect["method"]})
    return pd.DataFrame(rows, columns=EFFECT_COLUMNS)


def tabulate_differences(differences: Sequence[Difference]) -> pd.DataFrame:
    """Make a table with one row a pair of levels."""
    rows = [
        {
            "metric": d["metric"],
            "axis": d["axis"],
            "a": d["a"],
            "b": d["b"],
            "p": d["p"],
            "p_adjusted": d["p_adjusted"],
            "significant": d["significant"],
        }
        | _flatten_interval(d["difference"], "difference")
        for d in differences
    ]
    return pd.DataFrame(rows, columns=DIFFERENCE_COLUMNS)


def tabulate_groups(rows: Sequence[Mapping[str, Any]], columns: list[str]) -> pd.DataFrame:
    """Make a table of rows whose groups are written as text."""
    flat = [{name: write_group(v) if isinstance(v, dict) else v for name, v in row.items()} for row in rows]
    return pd.DataFrame(flat, columns=columns)


def tabulate_distances(distances: Sequence[AxisDistance], rows: Rows) -> pd.DataFrame:
    """Make a table with one row a pair of images."""
    found = [
        {
            "metric": d["metric"],
            "axis": d["axis"],
            "a": levels[a],
            "b": levels[b],
            "row_a": a,
            "row_b": b,
            "distance": v,
        }
        for d in distances
        for levels in [rows["axes"][d["axis"]]]
        for a, b, v in zip(d["a"], d["b"], d["distance"], strict=True)
    ]
    return pd.DataFrame(found, columns=["metric", "axis", "a", "b", "row_a", "row_b", "distance"])


def save_tables(data: StudyJson, frames: Mapping[str, pd.DataFrame], folder: Path) -> tuple[Path, ...]:
    """Write `study.json`, and a CSV file of its name for each table, to `folder`.

    Each file is replaced whole or not at all. Raises RecordError where the folder cannot be written.
    """
    texts = {"study.json": json.dumps(data, allow_nan=False, ensure_ascii=False)}
    texts |= {f"{name}.csv": frame.to_csv(index=False, lineterminator="\n") for name, frame in frames.items()}
    return tuple(_write(folder / name, text) for name, text in texts.items())


def _write(path: Path, text: str) -> Path:
    with replace_atomically(path) as file:
        file.write(text.encode())
    return path


VEGA_LITE = "application/vnd.vegalite.v5+json"


class Chart(dict[str, Any]):
    """A Vega-Lite specification that Jupyter draws by itself, without another package."""

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return {VEGA_LITE: dict(self), "text/plain": f"Vega-Lite chart: {self['description']}"}


def select_curves(data: StudyJson, metric: str, axis: str | None) -> list[Curve]:
    """Select curves of the metric by the first axis that splits them, or the one over all rows.

    `axis` is by default the first with curves. Raises UsageError where there is no such metric or axis.
    """
    known = sorted({curve["metric"] for curve in data["curves"]})
    if metric not in known:
        raise UsageError(f"There is no curve of {metric}.{did_you_mean(metric, known)}", hint=_known(known))
    axes = list(dict.fromkeys(curve["axis"] for curve in data["curves"] if curve["metric"] == metric))
    chosen = axis or axes[0]
    if chosen not in axes:
        raise UsageError(f"There is no curve along {chosen}.{did_you_mean(chosen, axes)}", hint=_known(axes))
    found = [c for c in data["curves"] if c["metric"] == metric and c["axis"] == chosen]
    split = next((next(iter(c["group"])) for c in found if c["group"]), None)
    return [c for c in found if split in c["group"]] if split else found


def _known(names: list[str]) -> str:
    return f"Known: {', '.join(names)}." if names else "No axis of this study is numeric."


def find_facts(data: StudyJson, metric: str) -> MetricFacts:
    """Look up what a metric's column means."""
    return next(fact for fact in data["metrics"] if fact["name"] == metric)


def make_html(data: StudyJson) -> str:
    """Write the findings as HTML: headlines and limits, the rest folded away."""
    seen = [s for s in data["words"] if s["headline"]] + [s for s in data["words"] if s["kind"] == "limit"]
    rest = [s["text"] for s in data["words"] if s not in seen]
    folded = f"<details><summary>{len(rest)} more</summary>{_list(rest)}</details>" if rest else ""
    return _list([s["text"] for s in seen]) + folded


def _list(texts: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in dict.fromkeys(texts))}</ul>"


def make_chart(data: StudyJson, metric: str, axis: str | None = None) -> Chart:
    """Make a Vega-Lite 5 specification: band, mean and its points by group, with the data inside."""
    curves = select_curves(data, metric, axis)
    facts = find_facts(data, metric)
    rows = [
        {"x": x, "mean": curve["mean"][i], "low": curve["low"][i], "high": curve["high"][i], "group": _name(curve)}
        for curve in curves
        for i, x in enumerate(curve["x"])
    ]
    x = {"field": "x", "type": "quantitative", "title": curves[0]["axis"]}
    title = f"{facts['label']} ({facts['unit']})" if facts["unit"] else facts["label"]
    colour = {"field": "group", "type": "nominal", "title": None}
    return Chart(
        {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "description": f"{facts['summary']} {curves[0]['interval']}.",
            "data": {"values": rows},
            "encoding": {"x": x, "color": colour},
            "layer": [
                {
                    "mark": {"type": "area", "opacity": 0.2},
                    "encoding": {
                        "y": {"field": "low", "type": "quantitative", "title": title},
                        "y2": {"field": "high"},
                    },
                },
                {
                    "mark": {"type": "line", "point": True},
                    "encoding": {"y": {"field": "mean", "type": "quantitative", "title": title}},
                },
            ],
        }
    )


def _name(curve: Curve) -> str:
    return write_group(curve["group"]) or "all"
