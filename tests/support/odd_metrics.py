"""Metrics for tests, in a module that worker processes import quickly."""

from __future__ import annotations

import fcntl
import os

from sweep.study import Formula, ImagePair


def brightness(looked_at: ImagePair) -> float:
    return float(looked_at.image.rgb.mean())


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


def failing(looked_at: ImagePair) -> float:
    """Raises, whatever it is shown."""
    raise RuntimeError("no such layer")


def dying(looked_at: ImagePair) -> float:
    """Takes its process with it where the first red code is 7."""
    if looked_at.image.rgb[0, 0, 0] == 7:
        os._exit(3)
    return float(looked_at.image.rgb[0, 0, 0])


def gated(looked_at: ImagePair) -> float:
    """Says that it was reached, then waits until nobody holds the gate: a metric that takes as long as a test wants."""
    gate = os.environ["SWEEP_TEST_GATE"]
    with open(f"{gate}.reached", "wb"), open(gate, "rb") as file:  # noqa: PTH123  a fifo: opens when somebody listens
        fcntl.flock(file, fcntl.LOCK_SH)
    return float(looked_at.image.rgb[0, 0, 0])
