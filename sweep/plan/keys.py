"""Content keys of many points in a row, and the fingerprint of a plan.

Only what changed since the point before is computed again, so a key costs a fraction of a whole graph's hash. The
fingerprint takes time in the levels of the axes, not in their product.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final

from sweep.experiment import (
    Axis,
    CellSeeds,
    Dimension,
    Experiment,
    InputImage,
    Level,
    LinearLevels,
    ListLevels,
    LogLevels,
    Replacement,
    ReplacingLevels,
    put_cell_seeds,
)
from sweep.plan.bindings import Binding, BoundGraph
from sweep.workflow import Digests, canonical

_BYTES = 16


def salt_key(key: str, salt: Mapping[str, Any]) -> str:
    """Change the key of a point that differs from others in more than its graph: which repetition, which board.

    Without a salt the key stays the graph's own.
    """
    if not salt:
        return key
    text = json.dumps(canonical(dict(salt)), sort_keys=True)
    return blake2b(f"{key}{text}".encode(), digest_size=_BYTES).hexdigest()


@dataclass
class KeyChain:
    """Digests by prefix of the dimensions: those of a bound, with the values that the first, the first two, … set."""

    dimensions: Sequence[Dimension]
    select_graph: Callable[[Mapping[str, Level]], BoundGraph]
    salt: Callable[[Mapping[str, Level]], Mapping[str, Any]]
    _digits: tuple[int, ...] = ()
    _describe_levels: dict[str, Level] = field(default_factory=dict)
    _body: BoundGraph | None = None
    _steps: list[list[Binding]] = field(default_factory=list)
    _digests: list[Digests] = field(default_factory=list)

    def keys(self, points: Iterable[tuple[int, tuple[int, ...]]]) -> Iterator[tuple[int, str, dict[str, Level]]]:
        """(index, key before replicates, levels) for each (index, position along each dimension)."""
        for index, digits in points:
            changed = self._find_change(digits)
            self._take(digits, changed)
            bound = self.select_graph(self._describe_levels)
            if bound is not self._body:
                self._begin(bound)
                changed = 0
            for step in range(changed, len(self.dimensions)):
                self._digests[step + 1] = self._apply_step(step)
            key = self._digests[-1].key(bound.outputs)
            yield index, salt_key(key, self.salt(self._describe_levels)), self._describe_levels

    def _find_change(self, digits: tuple[int, ...]) -> int:
        """Find the first dimension along which this point differs from the one before."""
        if len(self._digits) != len(digits):
            return 0
        return next(
            (at for at, (old, new) in enumerate(zip(self._digits, digits, strict=True)) if old != new), len(digits)
        )

    def _take(self, digits: tuple[int, ...], changed: int) -> None:
        for dimension, digit in zip(self.dimensions[changed:], digits[changed:], strict=True):
            for axis in dimension.axes:
                self._describe_levels[axis.name] = axis.levels[digit]
        self._digits = digits
        if any(dimension.has_cell_seeds for dimension in self.dimensions):
            put_cell_seeds(self.dimensions, digits, self._describe_levels)

    def _begin(self, bound: BoundGraph) -> None:
        """Begin with a graph. Seeds of each cell are written last: they change with every axis."""
        last = len(self.dimensions) - 1
        places = [last if dimension.has_cell_seeds else at for at, dimension in enumerate(self.dimensions)]
        home = {axis.name: at for at, dim in zip(places, self.dimensions, strict=True) for axis in dim.axes}
        self._body = bound
        self._steps = [[] for _ in self.dimensions]
        for binding in bound.bindings:
            self._steps[max(home[axis] for axis in binding.axes)].append(binding)
        self._digests = [bound.digests] * (len(self.dimensions) + 1)

    def _apply_step(self, step: int) -> Digests:
        before = self._digests[step]
        values = {}
        for binding in self._steps[step]:
            values.update(binding.write(self._describe_levels))
        return before.with_fields(values) if values else before


_VERSION: Final = "1"  # of how keys are made: another one makes every index new


def compute_fingerprint(experiment: Experiment, bound_graphs: Sequence[BoundGraph]) -> str:
    """32 hex digits. Takes time in the levels of the axes, not in their product."""
    digest = blake2b(digest_size=16)
    for part in _list_parts(experiment, bound_graphs):
        digest.update(json.dumps(part, sort_keys=True, default=_encode_other).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _list_parts(experiment: Experiment, bound_graphs: Sequence[BoundGraph]) -> Iterator[Any]:
    yield _VERSION
    yield {name: _describe_setting(setting) for name, setting in experiment.inputs.items() if name != "board"}
    for bound in bound_graphs:
        yield [bound.digests.key(bound.outputs), [binding.rule.shown for binding in bound.bindings]]
        yield bound.digests.with_fields(bound.values(bound.levels)).key(bound.outputs)
    for dimension in experiment.dimensions:
        yield [[axis.name, axis.kind, list(_describe_levels(axis))] for axis in dimension.axes]
    yield [[clause.text, clause.wanted] for clause in experiment.condition.clauses] if experiment.condition else []
    design = experiment.design
    yield [design.kind, design.points, design.seed, dict(design.baseline)]
    if design.kind not in ("full", "adaptive"):
        yield [design.seeds, design.share]
    yield experiment.study.replicates


def _describe_levels(axis: Axis) -> Iterable[Any]:
    """Describe an axis: ranges by their ends, lists by their values."""
    levels = axis.levels
    if isinstance(levels, ReplacingLevels):
        return ["replace", levels.search, levels.targets, levels.values]
    if isinstance(levels, ListLevels) and axis.kind != "image":
        return ["list", levels.targets, levels.values]
    if isinstance(levels, LinearLevels):
        return ["linear", levels.targets, str(levels.first), str(levels.step), len(levels), levels.whole]
    if isinstance(levels, CellSeeds):
        return ["cell", levels.targets, levels.start, len(levels)]
    if isinstance(levels, LogLevels):
        return ["log", levels.targets, levels.first, levels.last, len(levels), levels.whole]
    return [
        [level.value, {name: _describe_setting(value) for name, value in level.settings.items()}] for level in levels
    ]


def _describe_setting(value: Any) -> Any:
    if isinstance(value, InputImage):
        return {"$image": value.sha256, "size": [value.width, value.height]}
    if isinstance(value, Replacement):
        return {"$replace": [value.search, value.by]}
    if isinstance(value, Mapping):
        return {str(name): _describe_setting(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_describe_setting(item) for item in value]
    return canonical(value)


def _encode_other(value: Any) -> Any:
    """Encode what json does not know. Raises TypeError for objects whose text would name their memory address."""
    if isinstance(value, Mapping | InputImage | Replacement):
        return _describe_setting(value)
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a fingerprint")
