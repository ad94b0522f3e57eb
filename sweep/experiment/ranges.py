"""Axes of numbers from a start to a stop: by steps, or so many of them, linear or logarithmic."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

from sweep.experiment.levels import LazyLevels, LinearLevels, LogLevels, Number, fraction
from sweep.experiment.naming import AxisError, Naming, kind_of
from sweep.experiment.values import Axis
from sweep.experiment.vocabulary import bounds, role_of, said, value_fault

MAX_LEVELS: Final = 10**9
MAX_LISTED: Final = 1_000_000  # on a log scale, where each is computed to see whether all are whole


def step_axis(naming: Naming, start: Number, stop: Number, step: Number) -> tuple[Axis, list[str]]:
    """start, start + step, … never past stop; with a notice where stop is not met. Raises AxisError for step 0 or
    one that leads away.
    """
    if step == 0:
        raise AxisError(f"{naming.place}: step is 0, so stop is never reached", "step")
    first, last, by = fraction(start), fraction(stop), fraction(step)
    if (last - first) / by < 0:
        raise AxisError(f"{naming.place}: step {said(step)} leads away from stop {said(stop)}", "step")
    count = math.floor((last - first) / by) + 1
    if count > MAX_LEVELS:
        raise AxisError(f"{naming.place} has {count:,} values; the most is {MAX_LEVELS:,}", "step")
    whole = all(isinstance(number, int) for number in (start, stop, step))
    levels = LinearLevels(first, by, count, naming.targets, whole=_whole(naming, whole, first, by))
    reached = levels.value(count - 1)
    notices = []
    if first + by * (count - 1) != last:
        notices.append(f"{naming.place} ends at {said(reached)}: steps of {said(step)} do not meet stop {said(stop)}.")
    return _numeric(naming, levels), notices


def _whole(naming: Naming, written_whole: bool, *steps: Fraction) -> bool:
    """Whether values are ints: as the role says; without a role, as they are written."""
    role = role_of(naming.targets[0]) if naming.targets else None
    if role is None:
        return written_whole
    if role.kind == "integer" and any(step.denominator != 1 for step in steps):
        raise AxisError(f"{naming.place} must be whole numbers; these steps are not")
    return role.kind == "integer"


def num_axis(naming: Naming, start: Number, stop: Number, num: int, scale: str) -> Axis:
    """`num` values from start to stop. Raises AxisError where a log scale meets 0, or one value two ends."""
    if num == 1 and start != stop:
        raise AxisError(f"{naming.place}: one value cannot be both {said(start)} and {said(stop)}", "num")
    if num > 1 and start == stop:
        raise AxisError(f"{naming.place}: {num} values between {said(start)} and {said(stop)} are all the same", "num")
    first, last = fraction(start), fraction(stop)
    if scale == "linear":
        step = (last - first) / (num - 1) if num > 1 else fraction(0)
        whole = first.denominator == 1 and step.denominator == 1 and isinstance(start, int) and isinstance(stop, int)
        return _numeric(
            naming, LinearLevels(first, step, num, naming.targets, whole=_whole(naming, whole, first, step))
        )
    if first <= 0 or last <= 0:
        raise AxisError(f"{naming.place}: a log scale needs start and stop above 0", "scale")
    if num > MAX_LISTED:
        raise AxisError(f"{naming.place}: a log scale has at most {MAX_LISTED:,} values", "num")
    trial = LogLevels(start, stop, num, naming.targets, whole=False)
    steps = [fraction(float(trial.exact(at))) for at in range(num)]
    written_whole = isinstance(start, int) and isinstance(stop, int) and all(s.denominator == 1 for s in steps)
    levels = LogLevels(start, stop, num, naming.targets, whole=_whole(naming, written_whole, *steps))
    return _numeric(naming, levels)


def _numeric(naming: Naming, levels: LazyLevels) -> Axis:
    ends = (levels.value(0), levels.value(len(levels) - 1))
    for target in naming.targets:
        role = role_of(target)
        if role is None:
            continue
        if role.kind not in ("number", "integer"):
            raise AxisError(f"{naming.place} holds numbers, but {target} is set to a text")
        for end, part in zip(ends, ("start", "stop"), strict=True):
            if value_fault(target, end):
                allowed = bounds(role.low, role.high)
                raise AxisError(f"{naming.place} reaches {said(end)}, but {target} must be {allowed}", part)
    return Axis(naming.name, kind_of(naming.targets, ends), levels)
