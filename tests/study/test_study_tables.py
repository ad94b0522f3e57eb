"""Ticks and the words of a notebook."""

from __future__ import annotations

import numpy as np

from sweep.study.study import make_study
from tests.support.planted_studies import AXES, planted


def test_a_notebook_sees_headlines_and_limits_first() -> None:
    html = make_study(planted(np.random.default_rng(1)), axes=AXES, metrics=["structure_coarse"])._repr_html_()

    assert html.index("Use denoise strength") < html.index("<details>")
    assert html.index("more</summary>") < html.index("Layout of light and dark falls along")
