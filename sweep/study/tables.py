"""A study as tidy tables; saved as JSON and CSV."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sweep.record import replace_atomically
from sweep.study.schema import AxisDistance, Curve, Difference, Effects, Estimate, Group, Rows, StudyJson

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
