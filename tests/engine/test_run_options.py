"""Back-off and failure limits: pure rules."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.engine.run_options import Backoff, FailureLimit, FailurePolicy, parse_fusion, parse_shard
from sweep.errors import UsageError


@given(st.integers(1, 200), st.integers(0, 2**32), st.none() | st.floats(0, 500))
def test_a_wait_is_drawn_up_to_the_ceiling_and_never_shorter_than_asked(
    attempt: int, seed: int, at_least: float | None
) -> None:
    backoff = Backoff(base=1, factor=2, cap=60)
    delay = backoff.draw_delay(attempt, random.Random(seed), at_least)
    assert 0 <= delay <= max(backoff.compute_longest_delay(attempt), at_least or 0)
    assert at_least is None or delay >= at_least


def test_ceilings_double_up_to_the_cap() -> None:
    assert [Backoff(base=1, factor=2, cap=5).compute_longest_delay(n) for n in (1, 2, 3, 4, 5000)] == [1, 2, 4, 5, 5]


def test_no_base_means_no_waiting() -> None:
    assert Backoff(base=0).draw_delay(7, random.Random(1)) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("20", FailureLimit(count=20)), ("10%", FailureLimit(share=0.1)), (" 1 ", FailureLimit(count=1))],
)
def test_failure_limits_are_read(text: str, expected: FailureLimit) -> None:
    assert FailureLimit.parse(text) == expected


@pytest.mark.parametrize("text", ["", "many", "0", "-3", "1.5", "120%", "%", "inf", "inf%", "nan%", "²", "9" * 5000])
def test_what_is_no_failure_limit_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="is not a limit of failures"):
        FailureLimit.parse(text)


@pytest.mark.parametrize("text", ["", "0/5", "6/5", "a/b", "3", "1/²", "1/" + "9" * 5000])
def test_what_is_no_shard_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="is not a part of a grid"):
        parse_shard(text)


def test_shards_and_fusion_are_read() -> None:
    assert parse_shard("2/5") == (2, 5)
    assert (parse_fusion("auto"), parse_fusion("off"), parse_fusion("8")) == (None, 1, 8)
    for text in ("lots", "0", "²", "9" * 5000):
        with pytest.raises(UsageError, match="not a number of points"):
            parse_fusion(text)


def test_a_count_of_failures_ends_the_run_once() -> None:
    verdict = FailurePolicy(FailureLimit(count=2), 10)
    assert [bool(verdict.count(said)) for said in ("a", None, "b", "c")] == [False, False, True, False]
    assert (verdict.failed, verdict.succeeded) == (3, 1)


def test_a_share_of_failures_needs_enough_outcomes_to_say_anything() -> None:
    verdict = FailurePolicy(FailureLimit(share=0.2), 10)
    answers = [verdict.count(f"error {n}" if n % 3 == 0 else None) for n in range(12)]
    assert [bool(answer) for answer in answers].index(True) == 9


def test_failures_that_read_alike_without_a_success_between_are_one_cause() -> None:
    verdict = FailurePolicy(FailureLimit(), 3)
    assert not any(verdict.count(said) for said in ("x", "x", None, "x", "x", "y", "x", "x"))
    assert "failed alike (x)" in verdict.count("x")
