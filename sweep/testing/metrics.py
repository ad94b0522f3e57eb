"""Conformance kit of `Metric`, for tests of your own metrics."""

from __future__ import annotations

import math
import pickle
import re

import numpy as np

from sweep.study import DecodedImage, ImagePair, Metric, compute_working_shape

SIZES = ((320, 256), (96, 96), (1, 1))  # width × height, before the working size is applied


def check_metric(metric: Metric) -> list[str]:
    """List every way in which `metric` breaks its contract, as sentences; empty where it keeps it."""
    problems = _check_facts(metric)
    for width, height in SIZES:
        shape = compute_working_shape(width, height, metric.working_size)
        problems += _check_values(metric, *shape)
    return problems


def _check_facts(metric: Metric) -> list[str]:
    problems = []
    if not re.fullmatch(r"[a-z][a-z0-9_]*", metric.name):
        problems.append(f"The name {metric.name!r} is not lower case letters, digits and underscores.")
    texts = {"label": metric.label, "summary": metric.summary, "version": metric.version, "source": metric.source}
    problems += [f"{name} is empty." for name, text in texts.items() if not text]
    if metric.direction not in {"higher", "lower", "neutral"}:
        problems.append(f"The direction {metric.direction!r} is not higher, lower or neutral.")
    if metric.reference not in {"image", "none", "text", "cell"}:
        problems.append(f"The reference {metric.reference!r} is not image, none, text or cell.")
    if metric.working_size < 1 or metric.cost < 0:
        problems.append("The working size is below 1 px or the cost below 0 ms.")
    low, high = metric.range
    if low is not None and high is not None and low >= high:
        problems.append(f"The range {low} to {high} is empty.")
    try:
        if pickle.loads(pickle.dumps(metric)).name != metric.name:  # noqa: S301  what was just pickled
            problems.append("It changes when it is pickled.")
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        problems.append(f"It cannot be sent to a worker process ({error}).")
    return problems


def _check_values(metric: Metric, width: int, height: int) -> list[str]:
    size = f"at {width} × {height} px"
    first, other = _image(1, width, height), _image(2, width, height)
    before = first.rgb.copy()
    value = metric.measure(_view(metric, first, other))
    problems = []
    if not isinstance(value, float):
        return [f"measure gives {type(value).__name__}, not float, {size}."]
    again = metric.measure(_view(metric, _image(1, width, height), _image(2, width, height)))
    if again != value and not (math.isnan(again) and math.isnan(value)):
        problems.append(f"The same pixels give {value} and then {again} {size}.")
    if not np.array_equal(before, first.rgb):
        problems.append(f"It changes the image {size}.")
    if math.isinf(value) or _outside(value, metric.range):
        problems.append(f"{value} is outside of {metric.range} {size}.")
    return problems + _check_identity(metric, first, size)


def _check_identity(metric: Metric, image: DecodedImage, size: str) -> list[str]:
    if metric.reference != "image" or metric.direction == "neutral":
        return []
    best = metric.range[1] if metric.direction == "higher" else metric.range[0]
    value = metric.measure(_view(metric, image, DecodedImage(image.rgb.copy())))
    if best is None or math.isnan(value) or math.isclose(value, best, abs_tol=1e-6):
        return []
    return [f"An image against itself gives {value}, not {best}, {size}."]


def _outside(value: float, bounds: tuple[float | None, float | None]) -> bool:
    low, high = bounds
    return (low is not None and value < low) or (high is not None and value > high)


def _image(seed: int, width: int, height: int) -> DecodedImage:
    rng = np.random.default_rng(seed)
    slope = np.linspace(0, 120, width)[None, :, None]
    return DecodedImage((rng.integers(0, 120, (height, width, 3)) + slope).astype(np.uint8))


def _view(metric: Metric, image: DecodedImage, other: DecodedImage) -> ImagePair:
    return ImagePair(
        image=image,
        reference=other if metric.reference == "image" else None,
        prompt="a cup of coffee" if metric.reference == "text" else None,
        others=(other,) if metric.reference == "cell" else (),
    )
