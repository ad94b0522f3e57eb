from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sweep.record.base import KnownKeys
from sweep.record.sqlite.journal import CompactKeys

STATES = ["intended", "submitted", "rendered", "completed", "failed", "cancelled"]


@given(st.dictionaries(st.text(max_size=6), st.sampled_from(STATES), max_size=300), st.lists(st.text(max_size=6)))
def test_it_answers_as_a_dictionary_would(states: dict[str, str], others: list[str]) -> None:
    known: KnownKeys = CompactKeys([*states.items(), *states.items()])
    assert len(known) == len(states)
    for key in [*states, *others]:
        assert known.get(key) == states.get(key)
        assert (key in known) == (key in states)
    assert 7 not in known


def test_many_keys_take_few_bytes() -> None:
    known = CompactKeys((f"{n:032x}", "completed") for n in range(20_000))
    assert sum(f"{n:032x}" in known for n in range(0, 40_000, 7)) == len(range(0, 20_000, 7))
    assert len(known._digests) + len(known._states) == 17 * 20_000
