"""A plain table that comes without a results folder: which of its columns are axes, which are measurements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

BOOKKEEPING = frozenset(
    {"index", "key", "prompt", "status", "error", "attempts", "server", "model", "image_path", "image_name"}
    | {"width", "height", "sha256", "queued_at", "started_at", "finished_at", "render_seconds", "reason"}
)  # columns of the results table that are neither axes nor metrics


def infer_axes(frame: pd.DataFrame, metrics: Sequence[str]) -> list[tuple[str, str]]:
    """Axes of a plain table: every column that is no metric and no bookkeeping, its kind from its type.

    Real numbers that hardly repeat are measurements, not levels.
    """
    return [
        (str(name), _kind(str(name), frame[name]))
        for name in frame.columns
        if name not in metrics and name not in BOOKKEEPING and not is_measurement(frame[name])
    ]


def is_measurement(column: pd.Series) -> bool:
    """Whether a column looks like measured values rather than an axis's levels."""
    return bool(pd.api.types.is_float_dtype(column) and len(column) > 2 and column.nunique() > len(column) / 2)


def _kind(name: str, column: pd.Series) -> str:
    if name == "seed":
        return "seed"
    if pd.api.types.is_bool_dtype(column):
        return "boolean"
    if pd.api.types.is_integer_dtype(column):
        return "integer"
    return "number" if pd.api.types.is_numeric_dtype(column) else "text"


def with_bookkeeping(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with an index and a key for each row, where it has none."""
    frame = frame.reset_index(drop=True)
    if "index" not in frame:
        frame.insert(0, "index", np.arange(len(frame)))
    if "key" not in frame:
        frame.insert(1, "key", [str(i) for i in frame["index"]])
    return frame
