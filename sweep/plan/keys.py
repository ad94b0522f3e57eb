"""Keys of many points in a row: only what stepped since the point before is computed again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from sweep.experiment.definition import Dimension, Level
from sweep.plan.bodies import Binding, Body
from sweep.workflow.identity import Digests, canonical

_BYTES = 16


def salted(key: str, salt: Mapping[str, Any]) -> str:
    """The key of a point that differs from others in more than its graph: which repetition it is, which board it
    goes to. Without a salt it is the graph's own.
    """
    if not salt:
        return key
    text = json.dumps(canonical(dict(salt)), sort_keys=True)
    return blake2b(f"{key}{text}".encode(), digest_size=_BYTES).hexdigest()


@dataclass
class KeyChain:
    """Digests by prefix of the dimensions: those of a body, with the values that the first, the first two, … set."""

    dimensions: Sequence[Dimension]
    body_at: Callable[[Mapping[str, Level]], Body]
    salt: Callable[[Mapping[str, Level]], Mapping[str, Any]]
    _digits: tuple[int, ...] = ()
    _levels: dict[str, Level] = field(default_factory=dict)
    _body: Body | None = None
    _steps: list[list[Binding]] = field(default_factory=list)
    _digests: list[Digests] = field(default_factory=list)

    def keys(self, points: Iterable[tuple[int, tuple[int, ...]]]) -> Iterator[tuple[int, str, dict[str, Level]]]:
        """(index, key before replicates, levels) for each (index, position along each dimension)."""
        for index, digits in points:
            changed = self._changed(digits)
            self._take(digits, changed)
            body = self.body_at(self._levels)
            if body is not self._body:
                self._begin(body)
                changed = 0
            for step in range(changed, len(self.dimensions)):
                self._digests[step + 1] = self._stepped(step)
            key = self._digests[-1].key(body.outputs)
            yield index, salted(key, self.salt(self._levels)), self._levels

    def _changed(self, digits: tuple[int, ...]) -> int:
        """The first dimension along which this point differs from the one before."""
        if len(self._digits) != len(digits):
            return 0
        return next(
            (at for at, (old, new) in enumerate(zip(self._digits, digits, strict=True)) if old != new), len(digits)
        )

    def _take(self, digits: tuple[int, ...], changed: int) -> None:
        for dimension, digit in zip(self.dimensions[changed:], digits[changed:], strict=True):
            for axis in dimension.axes:
                self._levels[axis.name] = axis.levels[digit]
        self._digits = digits

    def _begin(self, body: Body) -> None:
        home = {axis.name: at for at, dimension in enumerate(self.dimensions) for axis in dimension.axes}
        self._body = body
        self._steps = [[] for _ in self.dimensions]
        for binding in body.bindings:
            self._steps[max(home[axis] for axis in binding.axes)].append(binding)
        self._digests = [body.digests] * (len(self.dimensions) + 1)

    def _stepped(self, step: int) -> Digests:
        before = self._digests[step]
        values = {}
        for binding in self._steps[step]:
            values.update(binding.write(self._levels))
        return before.with_fields(values) if values else before
