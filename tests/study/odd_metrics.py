"""Metrics for tests, in a module that worker processes import quickly."""

from __future__ import annotations

import os

from sweep.study.metrics import Formula
from sweep.study.picture import View


def brightness(looked_at: View) -> float:
    return float(looked_at.picture.rgb.mean())


BRIGHTNESS = Formula(
    name="brightness",
    label="brightness",
    summary="Mean of all channels.",
    direction="neutral",
    range=(0.0, 255.0),
    reference="none",
    cost=1.0,
    source="arithmetic",
    function=brightness,
)


def failing(looked_at: View) -> float:
    """Raises, whatever it is shown."""
    raise RuntimeError("no such layer")


def dying(looked_at: View) -> float:
    """Takes its process with it where the first red code is 7."""
    if looked_at.picture.rgb[0, 0, 0] == 7:
        os._exit(3)
    return float(looked_at.picture.rgb[0, 0, 0])
