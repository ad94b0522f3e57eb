"""The tables of a study, and what a notebook shows."""

from __future__ import annotations

import numpy as np

from sweep.study.study import make_study
from tests.support.planted_studies import AXES, planted


def test_an_axis_may_have_the_name_of_a_part_of_an_estimate() -> None:
    frame = planted(np.random.default_rng(1)).rename(columns={"prompt_text": "confidence"})
    axes = [("confidence" if name == "prompt_text" else name, kind) for name, kind in AXES]

    curves = make_study(frame, axes=axes, metrics=["structure_coarse"]).curves

    assert set(curves["group"]) == {"", "confidence=studio", "confidence=dramatic", "confidence=painterly"}


def test_a_notebook_sees_headlines_and_limits_first() -> None:
    html = make_study(planted(np.random.default_rng(1)), axes=AXES, metrics=["structure_coarse"])._repr_html_()

    assert html.index("Use denoise strength") < html.index("<details>")
    assert html.index("more</summary>") < html.index("Layout of light and dark falls along")
