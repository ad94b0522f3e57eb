"""One hash of everything that decides which key, and which values, an index has: cheap in the number of points."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final

from sweep.experiment.definition import Axis, Experiment, InputImage, Replacement
from sweep.experiment.levels import LinearLevels, ListLevels, LogLevels, ReplacingLevels
from sweep.plan.bodies import Body
from sweep.workflow.identity import canonical

_VERSION: Final = "1"  # of how keys are made: another one makes every index new


def fingerprint(experiment: Experiment, bodies: Sequence[Body]) -> str:
    """32 hex digits. Takes time in the levels of the axes, not in their product."""
    digest = blake2b(digest_size=16)
    for part in _parts(experiment, bodies):
        digest.update(json.dumps(part, sort_keys=True, default=_plain).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _parts(experiment: Experiment, bodies: Sequence[Body]) -> Iterator[Any]:
    yield _VERSION
    yield {name: _setting(setting) for name, setting in experiment.inputs.items() if name != "board"}
    for body in bodies:
        yield [body.digests.key(body.outputs), [binding.rule.shown for binding in body.bindings]]
        yield body.digests.with_fields(body.values(body.levels)).key(body.outputs)
    for dimension in experiment.dimensions:
        yield [[axis.name, axis.kind, list(_levels(axis))] for axis in dimension.axes]
    yield [[clause.text, clause.wanted] for clause in experiment.condition.clauses] if experiment.condition else []
    design = experiment.design
    yield [design.kind, design.points, design.seed, dict(design.baseline)]
    yield experiment.study.replicates


def _levels(axis: Axis) -> Iterable[Any]:
    """What an axis says: ranges by their ends, lists by their values."""
    levels = axis.levels
    if isinstance(levels, ReplacingLevels):
        return ["replace", levels.search, levels.targets, levels.values]
    if isinstance(levels, ListLevels) and axis.kind != "image":
        return ["list", levels.targets, levels.values]
    if isinstance(levels, LinearLevels):
        return ["linear", levels.targets, str(levels.first), str(levels.step), len(levels), levels.whole]
    if isinstance(levels, LogLevels):
        return ["log", levels.targets, levels.first, levels.last, len(levels), levels.whole]
    return [[level.value, {name: _setting(value) for name, value in level.settings.items()}] for level in levels]


def _setting(value: Any) -> Any:
    if isinstance(value, InputImage):
        return {"$image": value.sha256, "size": [value.width, value.height]}
    if isinstance(value, Replacement):
        return {"$replace": [value.search, value.by]}
    if isinstance(value, Mapping):
        return {str(name): _setting(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_setting(item) for item in value]
    return canonical(value)


def _plain(value: Any) -> Any:
    """What json does not know by itself. Of other objects the text would name their place in memory: TypeError."""
    if isinstance(value, Mapping | InputImage | Replacement):
        return _setting(value)
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a fingerprint")
