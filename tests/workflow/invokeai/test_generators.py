from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import WorkflowError
from sweep.workflow.invokeai.invokeai_formats import generate


def values(kind: str, **settings: Any) -> list[Any]:
    found, _ = generate("g", {"type": kind, **settings})
    return found


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("integer_generator_arithmetic_sequence", {"start": 1, "step": 3, "count": 3}, [1, 4, 7]),
        ("integer_generator_arithmetic_sequence", {"start": 1, "step": 0, "count": 3}, [1]),
        ("float_generator_arithmetic_sequence", {"start": 0, "step": 0.5, "count": 3}, [0, 0.5, 1.0]),
        ("integer_generator_linear_distribution", {"start": 0, "end": 10, "count": 5}, [0, 3, 5, 8, 10]),
        ("integer_generator_linear_distribution", {"start": 0, "end": -5, "count": 3}, [0, -2, -5]),
        ("integer_generator_linear_distribution", {"start": 4, "end": 10, "count": 1}, [4]),
        ("float_generator_linear_distribution", {"start": 0, "end": 1, "count": 3}, [0, 0.5, 1.0]),
        ("integer_generator_parse_string", {"input": " 1,x, 2.9 ,,3px", "splitOn": ","}, [1, 2, 3]),
        ("float_generator_parse_string", {"input": "1|.5|2e2|z", "splitOn": "|"}, [1.0, 0.5, 200.0]),
        ("string_generator_parse_string", {"input": "a\nb\n\n c", "splitOn": "\\n"}, ["a", "b", " c"]),
        ("string_generator_parse_string", {"input": "a,b", "splitOn": ""}, ["a,b"]),
        ("string_generator_parse_string", {"input": 'a"b', "splitOn": '"'}, ["a", "b"]),
        (
            "string_generator_dynamic_prompts_combinatorial",
            {"input": "a {b|c} {d|e}", "maxPrompts": 3},
            ["a b d", "a b e", "a c d"],
        ),
        ("string_generator_dynamic_prompts_combinatorial", {"input": "plain", "maxPrompts": 3}, ["plain"]),
        ("string_generator_dynamic_prompts_random", {"input": "{a|b}", "values": ["b", "a"]}, ["b", "a"]),
        ("float_generator_random_distribution_uniform", {"count": 2, "values": [0.1, 0.2]}, [0.1, 0.2]),
        ("integer_generator_arithmetic_sequence", {"count": 0}, []),
    ],
)
def test_values(kind: str, settings: dict[str, Any], expected: list[Any]) -> None:
    assert values(kind, **settings) == expected


@given(st.integers(-50, 50), st.integers(0, 50), st.integers(0, 30), st.one_of(st.none(), st.integers(0, 99)))
def test_random_values_lie_between_and_are_always_the_same(low: int, width: int, count: int, seed: int | None) -> None:
    for whole, kind in ((True, "integer"), (False, "float")):
        settings = {"min": low, "max": low + width, "count": count, "seed": seed}
        drawn = values(f"{kind}_generator_random_distribution_uniform", **settings)
        assert drawn == values(f"{kind}_generator_random_distribution_uniform", **settings)
        assert len(drawn) == count
        assert all(low <= value <= low + width and (not whole or isinstance(value, int)) for value in drawn)


def test_random_prompts_come_from_the_combinations() -> None:
    drawn = values("string_generator_dynamic_prompts_random", input="a {b|c}", count=20, seed=3)
    assert set(drawn) == {"a b", "a c"}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "a generator without a type"),
        ({"type": "integer_generator_primes"}, "cannot work out the values of a integer_generator_primes"),
        ({"type": "integer_generator_arithmetic_sequence", "count": -1}, "it counts -1"),
        ({"type": "integer_generator_arithmetic_sequence", "count": 10**9}, "it counts 1000000000"),
        ({"type": "integer_generator_arithmetic_sequence", "start": "x", "count": 2}, "settings are wrong"),
        ({"type": "string_generator_dynamic_prompts_combinatorial", "input": "a __colour__"}, "wildcards"),
    ],
)
def test_what_cannot_be_worked_out_is_told(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(WorkflowError, match="g: ") as raised:
        generate("g", settings)
    assert sentence in str(raised.value)
