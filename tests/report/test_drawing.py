"""Text on images: wrapped lines fit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sweep.report.drawing import load_font, measure_width, wrap_text


@given(st.text(max_size=120), st.integers(30, 300), st.integers(1, 5))
def test_wrap_text_fits_the_width_and_loses_nothing(text: str, width: int, most: int) -> None:
    letters = load_font(12)
    lines = wrap_text(text, letters, width, most)
    assert len(lines) <= most
    assert all(measure_width(line, letters) <= width or len(line) <= 1 for line in lines)
    if len(lines) < most:
        assert "".join(lines).replace(" ", "") == "".join(text.split())
