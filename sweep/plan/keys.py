"""Content keys: of a single point, of many points in a row, and the fingerprint of all of a plan's at once.

Keys of many points in a row: only what changed since the point before is computed again, so a key costs a fraction of a
whole graph's hash. The fingerprint takes time in the levels of the axes, not in their product.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
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
from sweep.plan.field_rules import FieldRule
from sweep.plan.graph_variants import BoundGraph
from sweep.workflow import Digests, NodeChange, canonical

_BYTES = 16


def salt_key(key: str, salt: Mapping[str, Any]) -> str:
    """Change the key of a point that differs from others in more than its graph: which repetition, which board.

    Without a salt the key stays the graph's own.
    """
    if not salt:
        return key
    text = json.dumps(canonical(dict(salt)), sort_keys=True)
    return blake2b(f"{key}{text}".encode(), digest_size=_BYTES).hexdigest()


_KEPT: Final = 4096  # positions of one dimension whose levels and nodes are kept once made


@dataclass(slots=True)
class _Step:
    """The values that one dimension writes into a graph, and the nodes that hold them, by position.

    `changes` is None where the nodes depend on more than the position: they are made anew for each point.
    """

    rules: list[FieldRule] = field(default_factory=list)
    changes: dict[int, NodeChange] | None = None

    def take(self, before: Digests, position: int, levels: Mapping[str, Level]) -> Digests:
        """Return the digests of the graph with these levels in it."""
        if not self.rules:
            return before
        change = self.changes.get(position) if self.changes is not None else None
        if change is None:
            values = {address: value for rule in self.rules for address, value in rule.write(levels).items()}
            change = before.prepare(values)
            if self.changes is not None:
                self.changes[position] = change
        return before.apply(change)


class KeyChain:
    """Keys of points in a row: only the nodes that changed since the point before are digested again."""

    def __init__(
        self,
        dimensions: Sequence[Dimension],
        select_graph: Callable[[Mapping[str, Level]], BoundGraph],
        salted: Sequence[str],
    ) -> None:
        self._dimensions = dimensions
        self._select_graph = select_graph
        self._salted = salted
        self._has_cell_seeds = any(dimension.has_cell_seeds for dimension in dimensions)
        self._levels_at = lru_cache(_KEPT)(lambda at, position: dimensions[at].levels_at(position))
        self._digits: tuple[int, ...] = ()
        self._levels: dict[str, Level] = {}
        self._bound: BoundGraph | None = None
        self._steps: list[_Step] = []
        self._digests: list[Digests] = []  # of the bound graph, with what the first dimension sets, the first two, …

    def keys(self, points: Iterable[tuple[int, tuple[int, ...]]]) -> Iterator[tuple[int, str, dict[str, Level]]]:
        """Yield (index, key before replicates, levels) for each (index, position along each dimension)."""
        for index, digits in points:
            changed = self._move(digits)
            levels = self._levels
            bound = self._select_graph(levels)
            if bound is not self._bound:
                self._begin(bound)
                changed = 0
            digests = self._digests
            for at in range(changed, len(digits)):
                digests[at + 1] = self._steps[at].take(digests[at], digits[at], levels)
            key = digests[-1].key(bound.outputs)
            yield index, salt_key(key, {axis: levels[axis].value for axis in self._salted}), levels

    def _move(self, digits: tuple[int, ...]) -> int:
        """Take the levels of a point; return the first dimension along which it differs from the one before."""
        before, changed = self._digits, 0
        while changed < len(before) and before[changed] == digits[changed]:
            changed += 1
        for at in range(changed, len(digits)):
            self._levels.update(self._levels_at(at, digits[at]))
        self._digits = digits
        if self._has_cell_seeds:
            put_cell_seeds(self._dimensions, digits, self._levels)
        return changed

    def _begin(self, bound: BoundGraph) -> None:
        """Begin with a graph. Seeds of each cell are written last: they change with every axis."""
        last = len(self._dimensions) - 1
        home = {
            axis.name: last if dimension.has_cell_seeds else at
            for at, dimension in enumerate(self._dimensions)
            for axis in dimension.axes
        }
        self._bound = bound
        self._steps = [_Step() for _ in self._dimensions]
        for rule in bound.rules:
            self._steps[max(home[axis] for axis in rule.axes)].rules.append(rule)
        self._digests = [bound.digests] * (len(self._dimensions) + 1)
        written: set[str] = set()  # nodes that the dimensions so far write
        for step, dimension in zip(self._steps, self._dimensions, strict=True):
            own = {axis.name for axis in dimension.axes if not self._has_cell_seeds}
            nodes = {slot.address.node for rule in step.rules for slot in rule.slots}
            is_alone = all(own.issuperset(rule.axes) for rule in step.rules) and written.isdisjoint(nodes)
            step.changes = {} if is_alone and len(dimension) <= _KEPT else None
            written |= nodes


_VERSION: Final = "1"  # of how keys are made: another one makes every index new


def compute_fingerprint(experiment: Experiment, bound_graphs: Sequence[BoundGraph]) -> str:
    """Return 32 hex digits. Takes time in the levels of the axes, not in their product."""
    digest = blake2b(digest_size=16)
    for part in _list_parts(experiment, bound_graphs):
        digest.update(json.dumps(part, sort_keys=True, default=_encode_other).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _list_parts(experiment: Experiment, bound_graphs: Sequence[BoundGraph]) -> Iterator[Any]:
    yield _VERSION
    yield {name: _describe_setting(setting) for name, setting in experiment.inputs.items() if name != "board"}
    for bound in bound_graphs:
        yield [bound.digests.key(bound.outputs), [rule.shown for rule in bound.rules]]
        yield bound.digests.with_fields(bound.values(bound.levels)).key(bound.outputs)
    for dimension in experiment.dimensions:
        yield [[axis.name, axis.kind, list(_describe_levels(axis))] for axis in dimension.axes]
    yield [[clause.text, clause.wanted] for clause in experiment.clauses]
    design = experiment.design
    yield [design.kind, design.points, design.seed, dict(design.baseline)]
    if design.kind not in ("full", "adaptive"):
        yield [design.seeds, design.share or 1.0]
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
