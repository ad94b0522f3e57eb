"""A study as tidy tables, which are saved as CSV, and as what a notebook shows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from sweep.errors import UsageError, did_you_mean
from sweep.record import replace_atomically
from sweep.study.schema import Curve, Effects, Group, StudyJson

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
            if isinstance(value, dict) and "confidence" in value:
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
        whole = {
            **{name: curve[name] for name in ("metric", "axis", "group", "falling")},
            "half": half["value"],
            "half_low": half["low"],
            "half_high": half["high"],
            "warnings": "; ".join(warning["message"] for warning in curve["warnings"]),
        }
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


def save_tables(data: StudyJson, frames: Mapping[str, pd.DataFrame], folder: Path) -> tuple[Path, ...]:
    """Write `study.json`, and a CSV file of its name for each table, to `folder`.

    Each file is replaced whole or not at all. Raises RecordError where the folder cannot be written.
    """
    texts = {"study.json": json.dumps(data, allow_nan=False, ensure_ascii=False)}
    texts |= {f"{name}.csv": frame.to_csv(index=False, lineterminator="\n") for name, frame in frames.items()}
    for name, text in texts.items():
        with replace_atomically(folder / name) as file:
            file.write(text.encode())
    return tuple(folder / name for name in texts)


def make_html(data: StudyJson) -> str:
    """Write the findings as HTML: headlines and limits, the rest folded away."""
    seen = [s for s in data["words"] if s["headline"]] + [s for s in data["words"] if s["kind"] == "limit"]
    rest = [s["text"] for s in data["words"] if s not in seen]
    folded = f"<details><summary>{len(rest)} more</summary>{_list(rest)}</details>" if rest else ""
    return _list([s["text"] for s in seen]) + folded


def _list(texts: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in dict.fromkeys(texts))}</ul>"


class Chart(dict[str, Any]):
    """A Vega-Lite specification that Jupyter draws by itself, without another package."""

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        text = f"Vega-Lite chart: {self['description']}"
        return {"application/vnd.vegalite.v5+json": dict(self), "text/plain": text}


def make_chart(data: StudyJson, metric: str, axis: str | None = None) -> Chart:
    """Make a Vega-Lite 5 specification: band, mean and its points by group, with the data inside.

    `axis` is by default the first with curves. Raises UsageError where there is no such metric or axis.
    """
    curves: list[Any] = [*_select_curves(data, metric, axis)]
    facts = next(fact for fact in data["metrics"] if fact["name"] == metric)
    names = LEVEL_COLUMNS[:-1]
    rows = [
        {**dict(zip(names, level, strict=True)), "group": write_group(curve["group"]) or "all"}
        for curve in curves
        for level in zip(*(curve[name] for name in names), strict=True)
    ]
    title = f"{facts['label']} ({facts['unit']})" if facts["unit"] else facts["label"]
    low, mean = ({"field": name, "type": "quantitative", "title": title} for name in ("low", "mean"))
    return Chart(
        {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "description": f"{facts['summary']} {curves[0]['interval']}.",
            "data": {"values": rows},
            "encoding": {
                "x": {"field": "x", "type": "quantitative", "title": curves[0]["axis"]},
                "color": {"field": "group", "type": "nominal", "title": None},
            },
            "layer": [
                {"mark": {"type": "area", "opacity": 0.2}, "encoding": {"y": low, "y2": {"field": "high"}}},
                {"mark": {"type": "line", "point": True}, "encoding": {"y": mean}},
            ],
        }
    )


def _select_curves(data: StudyJson, metric: str, axis: str | None) -> list[Curve]:
    """Select curves of the metric by the first axis that splits them, or the one over all rows."""
    known = sorted({curve["metric"] for curve in data["curves"]})
    axes = list(dict.fromkeys(curve["axis"] for curve in data["curves"] if curve["metric"] == metric))
    chosen = axis or next(iter(axes), "")
    for name, names, what in ((metric, known, "of"), (chosen, axes, "along")):
        if name not in names:
            hint = f"Known: {', '.join(names)}." if names else "No axis of this study is numeric."
            raise UsageError(f"There is no curve {what} {name}.{did_you_mean(name, names)}", hint=hint)
    found = [c for c in data["curves"] if c["metric"] == metric and c["axis"] == chosen]
    split = next((next(iter(c["group"])) for c in found if c["group"]), None)
    return [c for c in found if split in c["group"]] if split else found
