"""The metrics there are: found by name, and evaluated on an image.

No single number covers strengths from 0 to 1: fine structure and GMSD are spent by about 0.5, coarse structure and
colour move above it. So the panel goes by scale.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import cast

import numpy as np

from sweep.errors import UsageError, did_you_mean
from sweep.study.metrics import formulas
from sweep.study.metrics.base import Formula, Metric, describe_metric
from sweep.study.metrics.learned import LearnedLikeness, TextAlignment
from sweep.study.metrics.planes import ImagePair
from sweep.study.schema import MetricFacts

WANG = "Wang, Bovik, Sheikh and Simoncelli 2004, doi:10.1109/TIP.2003.819861"
WANG_MS = "Wang, Simoncelli and Bovik 2003, doi:10.1109/ACSSC.2003.1292216"
BURT = "Pyramid of Burt and Adelson 1983, doi:10.1109/TCOM.1983.1095851; Pearson's r"
XUE = "Xue, Zhang, Mou and Bovik 2014, doi:10.1109/TIP.2013.2293423"
OKLAB = "OKLab of B. Ottosson 2020, bottosson.github.io/posts/oklab"
RUBNER = "Rubner, Tomasi and Guibas 2000, doi:10.1023/A:1026543900054"
KRAWETZ = "N. Krawetz 2011, hackerfactor.com (Looks like it), at 16 × 16"
SUBBARAO = "after Subbarao, Choi and Nikzad 1993, doi:10.1117/12.147706"
PELI = "Peli 1990, doi:10.1364/JOSAA.7.002032"
HASLER = "Hasler and Süsstrunk 2003, doi:10.1117/12.477378"
SHANNON = "Shannon 1948, doi:10.1002/j.1538-7305.1948.tb01338.x"

FULL_REFERENCE: tuple[Metric, ...] = (
    Formula(
        name="ssim",
        label="SSIM",
        summary="Likeness of local structure, spent early on a strength axis. It does not see colour.",
        direction="higher",
        range=(-1.0, 1.0),
        reference="image",
        cost=9.0,
        source=WANG,
        function=formulas.ssim,
    ),
    Formula(
        name="ms_ssim",
        label="MS-SSIM",
        summary="Likeness of structure over five scales. It does not see colour, nor what a thing is.",
        direction="higher",
        range=(0.0, 1.0),
        reference="image",
        cost=4.0,
        source=WANG_MS,
        function=formulas.ms_ssim,
    ),
    Formula(
        name="structure_fine",
        label="fine detail",
        summary="Correlation of the finest detail: separates low strengths. It does not see likeness after a shift.",
        direction="higher",
        range=(-1.0, 1.0),
        reference="image",
        cost=4.0,
        source=BURT,
        function=formulas.fine,
    ),
    Formula(
        name="structure_middle",
        label="likeness of shapes",
        summary="Correlation of shapes of a fortieth of the image: separates middle strengths. It does not see colour.",
        direction="higher",
        range=(-1.0, 1.0),
        reference="image",
        cost=1.0,
        source=BURT,
        function=formulas.middle,
    ),
    Formula(
        name="structure_coarse",
        label="layout of light and dark",
        summary="Whether light and dark lie where they did: 1 unchanged, 0 unrelated. It does not see blur or things.",
        direction="higher",
        range=(-1.0, 1.0),
        reference="image",
        cost=0.5,
        source=BURT,
        function=formulas.coarse,
    ),
    Formula(
        name="gmsd",
        label="gradient deviation (GMSD)",
        summary="How unevenly edges changed. It does not see colour, nor an even change.",
        direction="lower",
        range=(0.0, 0.5),
        reference="image",
        cost=1.5,
        source=XUE,
        function=formulas.gmsd,
    ),
    Formula(
        name="delta_e",
        label="colour difference",
        summary="Mean difference of colour and tone; 2 is about a just visible step. It does not see texture.",
        direction="lower",
        range=(0.0, None),
        reference="image",
        cost=1.5,
        source=OKLAB,
        function=formulas.delta_e,
        unit="ΔE (OKLab × 100)",
    ),
    Formula(
        name="tone_emd",
        label="tonal shift",
        summary="How far tones moved. It does not see where in the image, nor colour.",
        direction="lower",
        range=(0.0, 1.0),
        reference="image",
        cost=1.0,
        source=RUBNER,
        function=formulas.tone_emd,
        unit="of the tonal range",
    ),
    Formula(
        name="phash_distance",
        label="pHash distance",
        summary="Share of differing bits of a perceptual hash: another image at a glance. It does not see detail.",
        direction="lower",
        range=(0.0, 1.0),
        reference="image",
        cost=1.5,
        source=KRAWETZ,
        function=formulas.phash_distance,
    ),
)

NO_REFERENCE: tuple[Metric, ...] = (
    Formula(
        name="sharpness",
        label="sharpness",
        summary="Strength of the finest detail. It does not see whether that is texture or noise.",
        direction="neutral",
        range=(0.0, 255.0),
        reference="none",
        cost=0.5,
        source=SUBBARAO,
        function=formulas.sharpness,
        unit="luma codes",
    ),
    Formula(
        name="contrast",
        label="contrast",
        summary="Spread of tones. It does not see where they lie.",
        direction="neutral",
        range=(0.0, 0.5),
        reference="none",
        cost=0.3,
        source=PELI,
        function=formulas.contrast,
        unit="of the tonal range",
    ),
    Formula(
        name="colourfulness",
        label="colourfulness",
        summary="From 0 (grey) to above 100 (extremely colourful). It does not see which colours, nor where.",
        direction="neutral",
        range=(0.0, None),
        reference="none",
        cost=3.0,
        source=HASLER,
        function=formulas.colourfulness,
    ),
    Formula(
        name="entropy",
        label="entropy",
        summary="How evenly all tones are used. It does not see where, nor whether that is detail or noise.",
        direction="neutral",
        range=(0.0, 8.0),
        reference="none",
        cost=0.2,
        source=SHANNON,
        function=formulas.entropy,
        unit="bit",
    ),
)

DIVERSITY: tuple[Metric, ...] = (
    Formula(
        name="diversity",
        label="diversity of colour",
        summary="Mean colour difference between the images of one cell, across seeds. It does not see what they show.",
        direction="neutral",
        range=(0.0, None),
        reference="cell",
        cost=0.3,
        source=OKLAB,
        function=formulas.diversity,
        unit="ΔE (OKLab × 100)",
        working_size=128,
    ),
    Formula(
        name="diversity_structure",
        label="diversity of composition",
        summary="Mean difference of layout between the images of one cell, across seeds. It does not see colour.",
        direction="neutral",
        range=(0.0, 2.0),
        reference="cell",
        cost=0.3,
        source=BURT,
        function=formulas.diversity_structure,
        working_size=128,
    ),
)

PANEL: tuple[Metric, ...] = (*FULL_REFERENCE, *NO_REFERENCE, *DIVERSITY)

SAME_POINT_METRIC: Metric = Formula(
    name="replicate_error",
    label="difference between repeats",
    summary="Largest pixel difference to the first image of the same point.",
    direction="lower",
    range=(0.0, 255.0),
    reference="image",
    cost=8.0,
    source="maximum of absolute differences",
    function=formulas.replicate_error,
    unit="codes",
    working_size=16_384,
)  # measured only where points are repeated, against the first repeat and at full size

PIXEL_HASH_METRIC: Metric = Formula(
    name="pixel_hash",
    label="pixel hash",
    summary="A number that two images share only if all their pixels are equal.",
    direction="neutral",
    range=(0.0, float(2**48)),
    reference="none",
    cost=4.0,
    source="BLAKE2b of the decoded pixels, 48 bits",
    function=formulas.pixel_hash,
    working_size=16_384,
)  # not shown: it says which levels give the same image


def measure_flip(view: ImagePair) -> float:
    """Compute the mean ꟻLIP error, 0 for equal images, at most 1, at 67 pixels a degree.

    That is a monitor of 3,840 pixels and 0.7 m at a distance of 0.7 m. An image of 512 pixels then spans 8 degrees.

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
        summary="Mean difference seen when flipping between both images, 512 px long at 67 px a degree: 9 cm at "
        "70 cm. It does not see finer noise.",
        version="2",
        direction="lower",
        range=(0.0, 1.0),
        reference="image",
        cost=360.0,
        source="Andersson et al. 2020, doi:10.1145/3406183",
        function=measure_flip,
    )


EXTRAS: Mapping[str, Callable[[], Metric]] = {"flip": _make_flip}


SETS = frozenset({"fid", "kid", "cmmd", "is", "inception_score"})  # distances between sets of images
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
    ``panel`` for the whole standard panel, or a learned metric with the ONNX model in a folder: ``clip:FOLDER`` for
    text alignment, ``lpips:FOLDER`` and ``dino:FOLDER`` for likeness with the source. A Metric stands for itself.
    Raises UsageError for an unknown name, a missing extra, or a distance between sets of images.
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
    for kind in ("lpips", "dino"):
        if name.startswith(f"{kind}:"):
            return (LearnedLikeness.load(kind, name.removeprefix(f"{kind}:")),)
    if name.lower() in SETS:
        raise UsageError(
            f"{name.upper()} compares two sets of thousands of images. A combination of levels has a few, and with so "
            "few its value says how many there are rather than how good they are.",
            hint="lpips:FOLDER and dino:FOLDER compare single images; diversity tells how seeds differ.",
        )
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
