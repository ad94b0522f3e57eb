"""One measuring task: decodes its images and measures them; an image that cannot be read gives a reason."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
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
    from PIL import Image

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
    if len(task.images) > 1 or any(metric.reference == "cell" for metric in chosen):
        return _measure_cell(task, chosen)
    try:
        image = decode(task.images[0])
    except UnreadableImageError as error:
        return [MeasuredImage((math.nan,) * len(chosen), error.message)]
    views: dict[int, tuple[ImagePair, str | None]] = {}
    found = []
    for metric in chosen:
        if metric.working_size not in views:
            views[metric.working_size] = _make_view(image, task, metric.working_size, references)
        view, unread = views[metric.working_size]
        is_unread = unread and metric.reference == "image"
        found.append((math.nan, unread) if is_unread else _measure_one(metric, view))
    return [_collect(found)]


def _make_view(image: Image.Image, task: Task, size: int, references: References) -> tuple[ImagePair, str | None]:
    """Build the view, and say why it has no reference where it should have one."""
    shape = compute_working_shape(*image.size, size)
    measured = resize_image(image, shape)
    try:
        reference = _load_reference(task.reference, shape, references) if task.reference else None
    except UnreadableImageError as error:
        return ImagePair(image=measured, prompt=task.prompt), f"reference: {error.message}"
    return ImagePair(image=measured, reference=reference, prompt=task.prompt), None


def _load_reference(path: Path | SentImage, shape: tuple[int, int], references: References) -> DecodedImage:
    key = (path, shape)
    if key not in references:
        references[key] = resize_image(decode(path), shape)
        if len(references) > KEPT_REFERENCES:
            references.popitem(last=False)
    references.move_to_end(key)
    return references[key]


def _collect(found: Sequence[tuple[float, str | None]]) -> MeasuredImage:
    """Collect values and the first reason for none."""
    return MeasuredImage(tuple(value for value, _ in found), next((reason for _, reason in found if reason), None))


def _measure_one(metric: Metric, view: ImagePair) -> tuple[float, str | None]:
    try:
        value = float(metric.measure(view))
    except Exception as error:  # noqa: BLE001  a metric of another package may raise anything: that is its reason
        return math.nan, f"{metric.name}: {type(error).__name__}: {error}"
    if math.isfinite(value):
        return value, None
    return math.nan, f"{metric.name} has no value for this image"


def _measure_cell(task: Task, metrics: Sequence[Metric]) -> list[MeasuredImage]:
    """Measure each image against the readable others, at the metrics' smallest working size that serves them all."""
    size = max(metric.working_size for metric in metrics)
    images: list[DecodedImage | str] = []
    for path in task.images:
        try:
            whole = decode(path)
            images.append(resize_image(whole, compute_working_shape(*whole.size, size)))
        except UnreadableImageError as error:
            images.append(error.message)
    readable = [image for image in images if isinstance(image, DecodedImage)]
    found = []
    for image in images:
        if isinstance(image, str):
            found.append(MeasuredImage((math.nan,) * len(metrics), image))
            continue
        others = tuple(other for other in readable if other is not image and other.rgb.shape == image.rgb.shape)
        view = ImagePair(image=image, prompt=task.prompt, others=others)
        got = [_measure_one(metric, view) for metric in metrics] if others else [(math.nan, None)] * len(metrics)
        found.append(_collect(got))
    return found
