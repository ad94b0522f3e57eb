from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.engine.forecast import BYTES_PER_PIXEL, FILE_OVERHEAD, disk_bytes, seconds_left


def test_nothing_is_known_before_the_first_render() -> None:
    assert seconds_left(100, []) is None
    assert seconds_left(0, []) == 0


def test_the_first_render_with_its_model_load_does_not_distort() -> None:
    assert seconds_left(10, [1.0, 1.0, 1.0, 1.0, 40.0]) == pytest.approx(10 * (4 + 3) / 5)


def test_slots_share_the_work() -> None:
    assert seconds_left(10, [2.0], slots=4) == 5.0


def test_disk_is_from_pixels_until_images_tell() -> None:
    assert disk_bytes(2, 100, 50) == round(2 * (5000 * BYTES_PER_PIXEL + FILE_OVERHEAD))
    assert disk_bytes(3, 100, 100, [(10_000, 33_000)]) == 3 * 33_000


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=30), st.integers(0, 10**6))
def test_an_estimate_lies_between_the_fastest_and_the_slowest(earlier: list[float], points: int) -> None:
    seconds = seconds_left(points, earlier)
    assert seconds is not None
    assert points * min(earlier) <= seconds * (1 + 1e-9) + 1e-9
    assert seconds <= points * max(earlier) * (1 + 1e-9) + 1e-9
