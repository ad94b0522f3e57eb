"""The Metric protocol, whose docstring is the contract, and Formula, the simplest implementation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sweep.study.metrics.planes import ImagePair
from sweep.study.schema import Direction, MetricFacts, ReferenceKind


@runtime_checkable
class Metric(Protocol):
    """A number about an image, alone or against something.

    Implementations are found by the entry point group ``sweep.metrics``: an entry point names a Metric, or a
    function without parameters that returns one or several. They are pickled to worker processes, so they must be
    importable (no lambdas, nothing defined in ``__main__``); what is costly to load is loaded at the first
    `measure`, not when made. `sweep.testing.metrics.check_metric` says whether an implementation keeps this.

    What must hold: `measure` is a pure function of the view (same pixels, same value), returns a finite float
    within `range` or NaN where the metric has no value for such an image, does not change the view's arrays, and
    writes nothing to disk. For ``direction`` other than "neutral" and reference "image", an image against
    itself gives the nearest end of `range`. `version` changes whenever a value would change: values of another
    version are measured anew.
    """

    @property
    def name(self) -> str:
        """Column name: lower case, digits and underscores."""

    @property
    def label(self) -> str:
        """For people, within a sentence: "layout of light and dark"."""

    @property
    def summary(self) -> str:
        """One sentence: what it tells."""

    @property
    def unit(self) -> str:
        """Empty where it has none."""

    @property
    def version(self) -> str:
        """Of the computation."""

    @property
    def direction(self) -> Direction:
        """Whether "higher" or "lower" values are nearer to the reference, or "neutral": neither."""

    @property
    def range(self) -> tuple[float | None, float | None]:
        """Lowest and highest value there can be; None: no bound."""

    @property
    def reference(self) -> ReferenceKind:
        """What a view must hold besides the image: "image" (source or baseline), "none", "text" (the prompt), or
        "cell" (the other images of the cell, in `View.others`).
        """

    @property
    def working_size(self) -> int:
        """Longest side in pixels that images are reduced to (BOX) before measuring."""

    @property
    def cost(self) -> float:
        """Milliseconds a 1024 × 1024 image or pair on one core, decoding not counted; for estimates only."""

    @property
    def source(self) -> str:
        """Where the formula is from."""

    def measure(self, view: ImagePair) -> float:
        """Compute the value for a view of that `working_size`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A metric made of a function of a view: what the standard panel consists of."""

    name: str
    label: str
    summary: str
    direction: Direction
    range: tuple[float | None, float | None]
    reference: ReferenceKind
    cost: float
    source: str
    function: Callable[[ImagePair], float]
    unit: str = ""
    version: str = "1"
    working_size: int = 512

    def measure(self, view: ImagePair) -> float:
        """Call the function."""
        return self.function(view)


def describe_metric(metric: Metric, *, measured: int = 0, failed: int = 0) -> MetricFacts:
    """Collect what a report says of a metric."""
    return MetricFacts(
        name=metric.name,
        label=metric.label,
        summary=metric.summary,
        unit=metric.unit,
        version=metric.version,
        direction=metric.direction,
        range=list(metric.range),
        reference=metric.reference,
        working_size=metric.working_size,
        source=metric.source,
        measured=measured,
        failed=failed,
    )


def describe_column(
    name: str,
    label: str,
    summary: str,
    source: str,
    measured: int,
    *,
    failed: int = 0,
    version: str = "",
    direction: Direction = "neutral",
    bounds: tuple[float | None, float | None] = (None, None),
) -> MetricFacts:
    """Collect the same of a column that no metric measures from images."""
    return MetricFacts(
        name=name,
        label=label,
        summary=summary,
        unit="",
        version=version,
        direction=direction,
        range=list(bounds),
        reference="none",
        working_size=0,
        source=source,
        measured=measured,
        failed=failed,
    )
