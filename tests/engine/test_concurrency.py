"""The adaptive limit of a server."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sweep.engine.concurrency import Limit


@given(st.integers(1, 64), st.lists(st.booleans(), max_size=200))
def test_a_limit_stays_between_one_and_its_most(most: int, answers: list[bool]) -> None:
    limit = Limit(most)
    for good in answers:
        limit.increase() if good else limit.halve()
        assert 1 <= limit.slots.total_tokens <= most


def test_a_limit_halves_when_overloaded_and_recovers_by_about_one_a_round() -> None:
    limit = Limit(8)
    limit.halve()
    assert limit.slots.total_tokens == 4
    for _ in range(5):
        limit.increase()
    assert limit.slots.total_tokens == 5
