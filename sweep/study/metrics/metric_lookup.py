"""Finds metrics by name: the standard panel, optional and learned ones, those of other packages; and gives facts."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Final, cast

from sweep.errors import UsageError, did_you_mean
from sweep.study.metrics.base import Metric
from sweep.study.metrics.learned_metrics import LEARNED
from sweep.study.metrics.pixel_metrics import OPTIONAL, PANEL
from sweep.study.study_json import MetricFacts

SETS = frozenset({"fid", "kid", "cmmd", "is", "inception_score"})  # distances between sets of images
GROUP = "sweep.metrics"  # entry points of other packages
_START_SECONDS: Final = 2.0  # measured: 1.7 to 3.5 s for a few tiny images


def list_standard() -> tuple[Metric, ...]:
    """List the metrics that are measured when none are named."""
    return PANEL


def estimate_seconds(names: Sequence[str | Metric], images: int, pixels: int) -> float:
    """Estimate how long it takes to measure images of this size with these metrics, on all cores of this machine.

    The time to load the libraries of the study and to start its workers is part of it.
    """
    cost = sum(metric.cost for metric in resolve_metrics(names)) / 1000  # seconds for 1024 × 1024 pixels
    return _START_SECONDS + images * cost * min(1.0, pixels / 2**20) / (os.cpu_count() or 1)


def resolve_metrics(names: Sequence[str | Metric]) -> tuple[Metric, ...]:
    """Find metrics by name; none named: the standard panel.

    A name is one of the standard panel, an optional one (``flip``), an entry point of another package,
    ``panel`` for the whole standard panel, or a learned metric with the ONNX model in a folder: ``clip:FOLDER`` for
    text alignment, ``lpips:FOLDER`` and ``dino:FOLDER`` for likeness with the source. A Metric stands for itself.
    Raises UsageError for an unknown name, a missing extra, or a distance between sets of images.
    """
    found = (metric for name in names or ["panel"] for metric in _resolve_one(name))
    return tuple({metric.name: metric for metric in found}.values())


def _resolve_one(name: str | Metric) -> Iterable[Metric]:
    if not isinstance(name, str):
        return (name,)
    if name == "panel":
        return list_standard()
    kind, colon, folder = name.partition(":")
    if colon and kind in LEARNED:
        return (LEARNED[kind].load(folder),)
    known = {metric.name: metric for metric in list_standard()}
    if name in known:
        return (known[name],)
    if name == "flip":
        if importlib.util.find_spec("flip_evaluator") is None:
            hint = "Install it with: pip install 'sweep-engine[flip]'"
            raise UsageError("The metric flip needs the package flip_evaluator.", hint=hint)
        return (OPTIONAL["flip"],)
    if name.lower() in SETS:
        raise UsageError(
            f"{name.upper()} compares two sets of thousands of images. A combination of levels has a few, and with so "
            "few its value says how many there are rather than how good they are.",
            hint="lpips:FOLDER and dino:FOLDER compare single images; diversity tells how seeds differ.",
        )
    foreign, broken = _load_foreign()
    if name in foreign:
        return (foreign[name],)
    candidates = [*known, "flip", *foreign, "panel"]
    labels = {metric.label.lower(): metric.name for metric in known.values()}  # as a report calls it
    way = did_you_mean(name, [*candidates, *labels], labels).strip() or f"Metrics: {', '.join(candidates)}."
    raise UsageError(" ".join([f"There is no metric {name}.", *broken]), hint=way)


def _load_foreign() -> tuple[dict[str, Metric], list[str]]:
    """Load metrics of other packages by name, and a sentence for each entry point that could not be loaded, so that a
    broken package never stops a study that does not use it.
    """
    found: dict[str, Metric] = {}
    broken = []
    for point in entry_points(group=GROUP):
        try:
            loaded = point.load()
            made = loaded if isinstance(loaded, Metric) and not isinstance(loaded, type) else loaded()
            found |= {metric.name: metric for metric in ([made] if isinstance(made, Metric) else made)}
        except Exception as error:  # noqa: BLE001  another package's code may raise anything
            broken.append(f"{point.value} could not be loaded ({type(error).__name__}: {error}).")
    return found, broken


def describe_metric(metric: Metric, *, measured: int = 0, failed: int = 0) -> MetricFacts:
    """Collect what a report says of a metric."""
    known = {name: getattr(metric, name) for name in MetricFacts.__annotations__ if hasattr(metric, name)}
    return cast("MetricFacts", {**known, "range": list(metric.range), "measured": measured, "failed": failed})


def describe_columns(names: Iterable[str], counts: Mapping[str, tuple[int, int]]) -> list[MetricFacts]:
    """Describe table columns: by the metric that has the name, else by the name. `counts`: measured, failed."""
    known = {metric.name: describe_metric(metric) for metric in list_standard()}
    found = []
    for name in names:
        fact = known.get(name) or MetricFacts(
            name=name,
            label=name.replace("_", " "),
            summary="A column of the table.",
            unit="",
            version="",
            direction="neutral",
            range=[None, None],
            reference="none",
            working_size=0,
            source="the table",
            measured=0,
            failed=0,
        )
        fact["measured"], fact["failed"] = counts[name]
        found.append(fact)
    return found
