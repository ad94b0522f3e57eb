from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.workflow.dialect import IDENTITY
from sweep.workflow.invokeai.invokeai_roles import ONE_MINUS, ONE_MINUS_FIFTH_ROOT, StartEncoding

strengths = st.floats(0, 1)


@pytest.mark.parametrize(
    ("strength", "start"), [(0.3, 0.7), (0.1, 0.9), (0.7, 0.3), (0, 1), (1, 0), (0.35, 0.65), (1e-9, 0.999999999)]
)
def test_one_minus_is_exact_in_decimal(strength: float, start: float) -> None:
    assert ONE_MINUS(strength) == start


@pytest.mark.parametrize(("strength", "start"), [(0.75, 0.055912489), (0.5, 0.129449437), (0, 1), (1, 0)])
def test_the_fifth_root_is_that_of_invokeai(strength: float, start: float) -> None:
    assert ONE_MINUS_FIFTH_ROOT(strength) == start


@given(strengths, strengths)
def test_more_strength_never_starts_later(one: float, other: float) -> None:
    for encode in (ONE_MINUS, ONE_MINUS_FIFTH_ROOT, StartEncoding("one_minus", 0.8)):
        starts = [encode(strength) for strength in sorted((one, other))]
        assert all(isinstance(start, int | float) for start in starts)
        assert 1 >= starts[0] >= starts[1] >= 0  # type: ignore[operator]


def test_identity_gives_back_what_it_takes() -> None:
    value = ["anything"]
    assert IDENTITY(value) is value


@pytest.mark.parametrize("wrong", [-0.1, 1.2, "0.5", True, None, float("nan")])
def test_a_strength_is_a_number_from_0_to_1(wrong: object) -> None:
    for encode in (ONE_MINUS, ONE_MINUS_FIFTH_ROOT):
        with pytest.raises(ValueError, match="a strength is a number from 0 to 1"):
            encode(wrong)  # type: ignore[arg-type]


def test_formulas_are_words() -> None:
    assert IDENTITY.formula("seed") == "seed"
    assert ONE_MINUS.formula("denoise_strength") == "1 − denoise_strength"
    assert ONE_MINUS_FIFTH_ROOT.formula("denoise_strength") == "1 − denoise_strength^0.2"
    assert StartEncoding("one_minus", 0.8).formula("s") == "min(0.8, 1 − s)"
    assert StartEncoding("one_minus", 0.8)(0.1) == 0.8
