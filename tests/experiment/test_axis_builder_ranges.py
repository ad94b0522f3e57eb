"""Ranges are exact in decimals, include their ends, and never pass their stop."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sweep.errors import ExperimentError
from sweep.experiment.axes import Axis
from tests.experiment.conftest import values_of, with_axes

AXIS = "denoise.x"


def ranged(**spec: Any) -> list[Any]:
    return values_of(with_axes({AXIS: spec}), AXIS)


def axis(**spec: Any) -> Axis:
    return with_axes({AXIS: spec}).axes[0]


def test_no_value_is_lost_between() -> None:
    """A known tool loses 0.5 of 0.1, 0.2, ..., 0.6 and 0.75 of 0.5, 0.55, ..., 0.8."""
    assert ranged(start=0.1, stop=0.6, step=0.1) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert ranged(start=0.5, stop=0.8, step=0.05) == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8]


def test_stop_is_never_passed() -> None:
    """A known tool makes 1.0999 of 0.5-1.0 (+0.1), a strength above 1."""
    assert ranged(start=0.5, stop=1.0, step=0.1) == [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


def test_a_stop_that_is_not_met_is_said() -> None:
    experiment = with_axes({AXIS: {"start": 0.5, "stop": 1.0, "step": 0.2}})
    assert values_of(experiment, AXIS) == [0.5, 0.7, 0.9]
    assert experiment.notices == ("axes.denoise.x ends at 0.9: steps of 0.2 do not meet stop 1.",)


def test_a_range_may_go_down() -> None:
    assert ranged(start=3, stop=1, step=-1) == [3, 2, 1]


def test_whole_numbers_stay_whole() -> None:
    values = ranged(start=10, stop=30, step=10)
    assert values == [10, 20, 30]
    assert all(type(value) is int for value in values)
    assert axis(start=10, stop=30, step=10).kind == "integer"
    assert axis(start=10, stop=30, num=4).kind == "number"


def test_num_divides_evenly_and_exactly() -> None:
    assert ranged(start=0, stop=1, num=4) == [0.0, 1 / 3, 2 / 3, 1.0]
    assert ranged(start=0, stop=1, num=11) == [n / 10 for n in range(11)]
    assert ranged(start=5, stop=5, num=1) == [5]


def test_log_scale_has_equal_ratios_and_exact_ends() -> None:
    assert ranged(start=1, stop=16, num=5, scale="log") == [1, 2, 4, 8, 16]
    assert ranged(start=0.001, stop=10, num=5, scale="log") == [0.001, 0.01, 0.1, 1.0, 10.0]
    assert ranged(start=8, stop=1, num=4, scale="log") == [8, 4, 2, 1]
    assert axis(start=1, stop=16, num=5, scale="log").kind == "integer"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"start": 0, "stop": 1, "step": 0}, "step is 0"),
        ({"start": 0, "stop": 1, "step": -0.1}, "leads away from stop"),
        ({"start": 0, "stop": 1, "num": 0}, "at least 1"),
        ({"start": 0, "stop": 1, "num": 1}, "cannot be both"),
        ({"start": 1, "stop": 1, "num": 3}, "all the same"),
        ({"start": 0, "stop": 1, "num": 3, "scale": "log"}, "above 0"),
        ({"start": 0, "stop": 1, "num": 3, "scale": "logg"}, "Did you mean log?"),
        ({"start": 0, "stop": 1e12, "step": 0.001}, "the most is"),
        ({"start": 0, "stop": 1}, "needs step"),
        ({"start": True, "stop": 1, "step": 1}, "must be a number, not true"),
    ],
)
def test_a_range_that_is_none(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError, match=message.replace("?", r"\?")):
        ranged(**spec)


hundredths = st.integers(-10_000, 10_000).map(lambda n: Decimal(n) / 100)
steps = st.integers(1, 2_000).map(lambda n: Decimal(n) / 100)


@given(start=hundredths, step=steps, count=st.integers(1, 200))
def test_every_level_is_the_decimal_a_person_would_write(start: Decimal, step: Decimal, count: int) -> None:
    stop = start + step * (count - 1)
    values = ranged(start=float(start), stop=float(stop), step=float(step))
    assert values == [float(start + step * n) for n in range(count)]
    assert values[-1] == float(stop)


@given(start=hundredths, step=steps, stop=hundredths)
def test_a_range_ends_within_a_step_of_its_stop(start: Decimal, step: Decimal, stop: Decimal) -> None:
    assume(stop >= start)
    assume((stop - start) / step < 1_000)
    last = Decimal(repr(ranged(start=float(start), stop=float(stop), step=float(step))[-1]))
    assert stop - step < last <= stop


@given(start=st.integers(-99, 99), stop=st.integers(-99, 99), num=st.integers(2, 300))
def test_num_makes_as_many_between_both_ends(start: int, stop: int, num: int) -> None:
    assume(start != stop)
    values = ranged(start=start, stop=stop, num=num)
    assert len(values) == num
    assert (values[0], values[-1]) == (start, stop)
    assert values == sorted(values, reverse=stop < start)


@given(start=hundredths, step=steps, count=st.integers(1, 200), scale=st.sampled_from(["linear", "log"]))
def test_values_lead_back_to_their_position(start: Decimal, step: Decimal, count: int, scale: str) -> None:
    spec: dict[str, Any] = {"start": float(start), "stop": float(start + step * (count - 1)), "step": float(step)}
    if scale == "log":
        assume(start > 0)
        assume(count > 1)
        spec = {"start": spec["start"], "stop": spec["stop"], "num": min(count, 20), "scale": "log"}
    levels = axis(**spec).levels
    for at, level in enumerate(levels):
        assert levels.position(level.value) == at
    assert levels.position(1e9) is None
    assert levels.position("text") is None


def test_a_range_of_a_thousand_million_costs_nothing() -> None:
    levels = axis(start=1, stop=1_000_000_000, step=1).levels
    assert len(levels) == 1_000_000_000
    assert levels[-1].value == 1_000_000_000
    assert levels.position(123_456_789) == 123_456_788
