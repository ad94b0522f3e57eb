"""What a metric is: a Protocol whose docstring is the contract, and where implementations are found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Literal, Protocol, TypeAlias, cast, runtime_checkable

from sweep.errors import UsageError, did_you_mean
from sweep.study.contract import Direction, MetricFacts
from sweep.study.picture import View

Reference: TypeAlias = Literal["picture", "none", "text", "cell"]
GROUP = "sweep.metrics"  # entry points of other packages


@runtime_checkable
class Metric(Protocol):
    """A number about a picture, alone or against something.

    Implementations are found by the entry point group ``sweep.metrics``: an entry point names a Metric, or a
    function without parameters that returns one or several. They are pickled to worker processes, so they must be
    importable (no lambdas, nothing defined in ``__main__``); what is costly to load is loaded at the first
    `measure`, not when made. `sweep.study.conformance.check_metric` says whether an implementation keeps this.

    What must hold: `measure` is a pure function of the view (same pixels, same value), returns a finite float
    within `range` or NaN where the metric has no value for such a picture, does not change the view's arrays, and
    writes nothing to disk. For ``direction`` other than "neutral" and reference "picture", a picture against
    itself gives the nearest end of `range`. `version` changes whenever a value would change: values of another
    version are measured anew.
    """

    @property
    def name(self) -> str:
        """Column name: lower case, digits and underscores."""
        ...

    @property
    def label(self) -> str:
        """For people, within a sentence: "coarse structure"."""
        ...

    @property
    def summary(self) -> str:
        """One sentence: what it tells."""
        ...

    @property
    def unit(self) -> str:
        """Empty where it has none."""
        ...

    @property
    def version(self) -> str:
        """Of the computation."""
        ...

    @property
    def direction(self) -> Direction:
        """Whether "higher" or "lower" values are nearer to the reference, or "neutral": neither."""
        ...

    @property
    def range(self) -> tuple[float | None, float | None]:
        """Lowest and highest value there can be; None: no bound."""
        ...

    @property
    def reference(self) -> Reference:
        """What a view must hold besides the picture: "picture" (source or baseline), "none", "text" (the prompt), or
        "cell" (the other pictures of the cell, in `View.others`).
        """
        ...

    @property
    def working_size(self) -> int:
        """Longest side in pixels that pictures are reduced to (BOX) before measuring."""
        ...

    @property
    def cost(self) -> float:
        """Milliseconds a 1024 × 1024 picture or pair on one core, decoding not counted; for estimates only."""
        ...

    @property
    def source(self) -> str:
        """Where the formula is from."""
        ...

    def measure(self, view: View) -> float:
        """The value for a view of that `working_size`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A metric made of a function of a view: what the standard panel consists of."""

    name: str
    label: str
    summary: str
    direction: Direction
    range: tuple[float | None, float | None]
    reference: Reference
    cost: float
    source: str
    function: Callable[[View], float]
    unit: str = ""
    version: str = "1"
    working_size: int = 512

    def measure(self, view: View) -> float:
        """The function's value."""
        return self.function(view)


def facts_of(metric: Metric, *, measured: int = 0, failed: int = 0) -> MetricFacts:
    """What a report says of a metric."""
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


def standard() -> tuple[Metric, ...]:
    """The panel that is measured when no metrics are named."""
    from sweep.study.panel import PANEL

    return PANEL


def optional() -> Mapping[str, Callable[[], Metric]]:
    """Metrics that need an extra: by name, a function that makes them or raises UsageError with the way to install."""
    from sweep.study.extras import EXTRAS

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
        from sweep.study.alignment import TextAlignment

        return (TextAlignment.load(name.removeprefix("clip:")),)
    foreign = {metric.name: metric for point in entry_points(group=GROUP) for metric in _load(point)}
    if name in foreign:
        return (foreign[name],)
    candidates = [*known, *optional(), *foreign, "panel"]
    raise UsageError(
        f"There is no metric {name}.{did_you_mean(name, candidates)}", hint=f"Known: {', '.join(candidates)}."
    )


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
