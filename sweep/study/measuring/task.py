"""Tasks of measuring: the images of a task are decoded and measured; one that cannot be read gives a reason."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sweep.study.metrics.base import (
    DecodedImage,
    ImagePair,
    SentImage,
    UnreadableImageError,
    compute_working_shape,
    decode,
    resize_image,
)

if TYPE_CHECKING:
    from sweep.study.metrics.base import Metric


KEPT_REFERENCES = 8  # decoded and reduced; most images of a table share theirs


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Images to measure together: one, or the images of a cell. `rows` are theirs in the table; `metrics` counts
    into the pool's metrics.
    """

    rows: tuple[int, ...]
    images: tuple[Path | SentImage, ...]
    metrics: tuple[int, ...]
    reference: Path | SentImage | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class MeasuredImage:
    """The values of one image in the order of the task's metrics, NaN where there is none; `reason` says why."""

    values: tuple[float, ...]
    reason: str | None = None


References: TypeAlias = "OrderedDict[tuple[Path | SentImage, tuple[int, int]], DecodedImage]"


def measure_task(task: Task, metrics: Sequence[Metric], references: References) -> list[MeasuredImage]:
    """Measure a task: one entry an image. Never raises for an image that cannot be read."""
    chosen = [metrics[i] for i in task.metrics]
    images = [read_image(path, {metric.working_size for metric in chosen}) for path in task.images]
    return [_measure_image(image, images, task, chosen, references) for image in images]


def read_image(path: Path | SentImage, sizes: Collection[int]) -> dict[int, DecodedImage] | str:
    """Read an image, at each of these working sizes; or say why it cannot be read."""
    try:
        whole = decode(path)
    except UnreadableImageError as error:
        return error.message
    return {size: resize_image(whole, compute_working_shape(*whole.size, size)) for size in sizes}


def _measure_image(
    image: dict[int, DecodedImage] | str,
    images: Sequence[dict[int, DecodedImage] | str],
    task: Task,
    metrics: Sequence[Metric],
    references: References,
) -> MeasuredImage:
    """Measure one image alone, against its reference and against the other readable images of its size."""
    if isinstance(image, str):
        return MeasuredImage((math.nan,) * len(metrics), image)
    others = [other for other in images if other is not image and isinstance(other, dict)]
    views = {size: _make_view(image[size], [other[size] for other in others], task, references) for size in image}
    found = [_measure_view(metric, *views[metric.working_size]) for metric in metrics]
    reasons = (reason for _, reason in found if reason)
    return MeasuredImage(tuple(value for value, _ in found), next(reasons, None))


def _make_view(
    image: DecodedImage, others: Sequence[DecodedImage], task: Task, references: References
) -> tuple[ImagePair, str | None]:
    """Build the view, and say why it has no reference where it should have one."""
    height, width = image.rgb.shape[:2]
    reference, unread = None, None
    try:
        reference = _load_reference(task.reference, (width, height), references) if task.reference else None
    except UnreadableImageError as error:
        unread = f"reference: {error.message}"
    alike = tuple(other for other in others if other.rgb.shape == image.rgb.shape)
    return ImagePair(image=image, reference=reference, prompt=task.prompt, others=alike), unread


def _load_reference(path: Path | SentImage, shape: tuple[int, int], references: References) -> DecodedImage:
    key = (path, shape)
    if key not in references:
        references[key] = resize_image(decode(path), shape)
        if len(references) > KEPT_REFERENCES:
            references.popitem(last=False)
    references.move_to_end(key)
    return references[key]


def _measure_view(metric: Metric, view: ImagePair, unread: str | None) -> tuple[float, str | None]:
    """Compute a metric's value, or NaN and the reason; an image that is alone in its cell needs none."""
    if metric.reference == "image" and unread:
        return math.nan, unread
    if metric.reference == "cell" and not view.others:
        return math.nan, None
    try:
        value = float(metric.measure(view))
    except Exception as error:  # noqa: BLE001  a metric of another package may raise anything: that is its reason
        return math.nan, f"{metric.name}: {type(error).__name__}: {error}"
    if math.isfinite(value):
        return value, None
    return math.nan, f"{metric.name} has no value for this image"
