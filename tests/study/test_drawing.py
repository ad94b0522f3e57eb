"""Ticks and the words of a notebook."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.study.charts import round_ticks, words_html
from sweep.study.study import make_study
from tests.study.simulated import AXES, planted


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-0.126, 1.05, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.3, 0.7, [0.3, 0.4, 0.5, 0.6, 0.7]),
        (5.0, 5.0, [5.0]),
        (2.0, 14.0, [2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert round_ticks(low, high) == pytest.approx(expected)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_and_inside(low: float, width: float) -> None:
    ticks = round_ticks(low, low + width)

    assert 2 <= len(ticks) <= 7
    assert low - 1e-6 * width <= ticks[0] < ticks[-1] <= low + width * (1 + 1e-6)


def test_a_notebook_sees_headlines_and_limits_first() -> None:
    html = words_html(make_study(planted(np.random.default_rng(1)), axes=AXES, metrics=["structure_coarse"]).data)

    assert html.index("To keep coarse structure") < html.index("<details>")
    assert html.index("more</summary>") < html.index("In coarse structure, seed")
