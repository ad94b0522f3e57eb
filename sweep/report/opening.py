"""Which pictures the page opens with: those are put into it first, so that they are painted first. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from sweep.report.material import AxisColumn, Material
from sweep.report.thumbs import thumb_id

_NUMERIC: Final = frozenset({"number", "integer"})
_MOST_LINES: Final = 40  # levels of an axis that stands down the page
_FEW_LINES: Final = 4  # levels that are few enough to have another axis within them
_MOST_WITHIN: Final = 64  # levels of that one


def first_seen(material: Material) -> list[str]:
    """Thumbnail ids of the rows that the page opens with, in reading order.

    It follows `firstView` of web/src/state.ts; where the two differ the page is only slower to paint.
    """
    frame = material.frame
    if "sha256" not in frame or frame.empty:
        return []
    down, aside = _opening(material)
    whole = frame["sha256"].notna()
    for axis in aside:
        whole &= frame[axis.column] == frame[axis.column].iloc[0]
    seen = frame[whole]
    places = [pd.factorize(seen[axis.column])[0] for axis in reversed(down)]
    order = np.lexsort(places) if places else np.arange(len(seen))
    return [thumb_id(sha) for sha in seen["sha256"].iloc[order]]


def _opening(material: Material) -> tuple[list[AxisColumn], list[AxisColumn]]:
    """The axes that stand down the opened page, the slower first, and those that are sliders beside it."""
    levels = {axis.name: material.frame[axis.column].nunique() for axis in material.axes}
    varied = [axis for axis in material.axes if levels[axis.name] > 1]
    across = next((axis for axis in varied if axis.kind in _NUMERIC), next(iter(varied), None))
    others = [axis for axis in varied if axis is not across]
    fitting = [axis for axis in others if axis.kind != "seed" and levels[axis.name] <= _MOST_LINES]
    down = [*fitting, *others][:1]
    if down and levels[down[0].name] <= _FEW_LINES:
        down += [axis for axis in others if axis is not down[0] and levels[axis.name] <= _MOST_WITHIN][:1]
    return down, [axis for axis in others if axis not in down]
