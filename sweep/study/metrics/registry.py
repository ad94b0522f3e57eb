"""Find metrics by name: the standard panel, extras, CLIP-like models on disk, and other packages' entry points."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import cast

import numpy as np

from sweep.errors import UsageError, did_you_mean
from sweep.study.metrics.base import Formula, Metric, describe_metric
from sweep.study.metrics.clip import TextAlignment
from sweep.study.metrics.panel import PANEL
from sweep.study.metrics.planes import ImagePair
from sweep.study.schema import MetricFacts


def measure_flip(view: ImagePair) -> float:
    """Compute the mean ꟻLIP error, 0 for equal images, at most 1, as seen from 67 pixels a degree.

    Andersson and others 2020, "FLIP: A Difference Evaluator for Alternating Images", Proc. ACM Comput. Graph.
    Interact. Tech. 3. It is made for images of the same content flipped on a screen: for others it says little.
    """
    flip_evaluator = importlib.import_module("flip_evaluator")
    image, reference = (np.ascontiguousarray(p.rgb, dtype=np.float32) / 255 for p in view.pair)
    _, mean, _ = flip_evaluator.evaluate(reference, image, "LDR", True, False)
    return float(mean)


def _make_flip() -> Metric:
    if importlib.util.find_spec("flip_evaluator") is None:
        hint = "Install it with: pip install 'sweep-engine[flip]'"
        raise UsageError("The metric flip needs the package flip_evaluator.", hint=hint)
    return Formula(
        name="flip",
        label="visible difference (ꟻLIP)",
        summary="Mean difference seen when flipping between both images.",
        direction="lower",
        range=(0.0, 1.0),
        reference="image",
        cost=90.0,
        source="Andersson et al. 2020, doi:10.1145/3406183",
        function=measure_flip,
        working_size=256,
    )


EXTRAS: Mapping[str, Callable[[], Metric]] = {"flip": _make_flip}


GROUP = "sweep.metrics"  # entry points of other packages


def list_standard() -> tuple[Metric, ...]:
    """List the metrics that are measured when none are named."""
    return PANEL


def list_optional() -> Mapping[str, Callable[[], Metric]]:
    """List the metrics that need an extra, by name: functions that make one or raise UsageError with a hint."""
    return EXTRAS


def estimate_seconds(names: Sequence[str | Metric], images: int, pixels: int) -> float:
    """Estimate how long it takes to measure images of this size with these metrics, on all cores of this machine."""
    cost = sum(metric.cost for metric in resolve_metrics(names)) / 1000  # seconds for 1024 × 1024 pixels
    return images * cost * min(1.0, pixels / 2**20) / (os.cpu_count() or 1)


def resolve_metrics(names: Sequence[str | Metric]) -> tuple[Metric, ...]:
    """Find metrics by name; none named: the standard panel.

    A name is one of the standard panel, an optional one (``flip``), an entry point of another package,
    ``panel`` for the whole standard panel, or ``clip:FOLDER`` for text alignment with the CLIP-like ONNX model in
    that folder. A Metric stands for itself. Raises UsageError for an unknown name or a missing extra.
    """
    if not names:
        return list_standard()
    found: dict[str, Metric] = {}
    for name in names:
        for metric in _resolve_one(name):
            found[metric.name] = metric
    return tuple(found.values())


def _resolve_one(name: str | Metric) -> Iterable[Metric]:
    if not isinstance(name, str):
        return (name,)
    known = {metric.name: metric for metric in list_standard()}
    if name == "panel":
        return list_standard()
    if name in known:
        return (known[name],)
    if name in list_optional():
        return (list_optional()[name](),)
    if name.startswith("clip:"):
        return (TextAlignment.load(name.removeprefix("clip:")),)
    foreign, broken = _load_foreign()
    if name in foreign:
        return (foreign[name],)
    candidates = [*known, *list_optional(), *foreign, "panel"]
    raise UsageError(
        " ".join([f"There is no metric {name}.{did_you_mean(name, candidates)}", *broken]),
        hint=f"Known: {', '.join(candidates)}.",
    )


def _load_foreign() -> tuple[dict[str, Metric], list[str]]:
    """Load metrics of other packages by name, and a sentence for each entry point that could not be loaded, so that a
    broken package never stops a study that does not use it.
    """
    found: dict[str, Metric] = {}
    broken = []
    for point in entry_points(group=GROUP):
        try:
            found |= {metric.name: metric for metric in _load(point)}
        except Exception as error:  # noqa: BLE001  another package's code may raise anything
            broken.append(f"{point.value} could not be loaded ({type(error).__name__}: {error}).")
    return found, broken


def _load(point: EntryPoint) -> Iterable[Metric]:
    loaded = point.load()
    made = loaded if isinstance(loaded, Metric) and not isinstance(loaded, type) else loaded()
    return (made,) if isinstance(made, Metric) else tuple(cast("Iterable[Metric]", made))


def describe_columns(names: Iterable[str], counts: Mapping[str, tuple[int, int]]) -> list[MetricFacts]:
    """Describe table columns: by the metric that has the name, else by the name. `counts`: measured, failed."""
    known = {metric.name: describe_metric(metric) for metric in list_standard()}
    found = []
    for name in names:
        measured, failed = counts[name]
        facts = known.get(name) or describe_plain_column(name, measured=measured)
        facts = MetricFacts(**{**facts, "measured": measured, "failed": failed})
        found.append(facts)
    return found


def describe_plain_column(name: str, *, measured: int) -> MetricFacts:
    """Describe a column that is no known metric."""
    return MetricFacts(
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
        measured=measured,
        failed=0,
    )
