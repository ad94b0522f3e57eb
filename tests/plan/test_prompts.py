from __future__ import annotations

import pytest

from sweep.plan.rules import compose


@pytest.mark.parametrize(
    ("prompt", "variation", "composed"),
    [
        ("a cup", "dramatic light", "a cup, dramatic light"),
        ("a cup,", "dramatic light", "a cup, dramatic light"),
        ("a cup", "", "a cup"),
        ("", "dramatic light", "dramatic light"),
        ("", "", ""),
        ("a {variation} cup", "blue", "a blue cup"),
        ("a {variation} cup", "", "a  cup"),
    ],
)
def test_a_variation_is_appended_or_put_in_its_slot(prompt: str, variation: str, composed: str) -> None:
    assert compose(prompt, variation) == composed
