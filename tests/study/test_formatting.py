"""Numbers, estimates and levels as sentences have them: no false precision, and texts cut to what tells them apart."""

from __future__ import annotations

from typing import Any

import pytest

from sweep.study.formatting import (
    capitalise,
    write_estimate,
    write_interval,
    write_level,
    write_number,
    write_number_word,
)
from sweep.study.study_json import Estimate
from sweep.text import truncate_apart


def estimate(value: float | None, low: float | None = None, high: float | None = None, **more: Any) -> Estimate:
    found = {"value": value, "low": low, "high": high, "confidence": 0.95, "n": 4, "method": "t", "reason": None}
    return Estimate(**{**found, **more})  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (estimate(0.4512, 0.41, 0.49), "0.451 (0.410–0.490, 95 %, n = 4 seeds)"),
        (estimate(12.1, 11.0, 13.4, n=1), "12.1 (11.0–13.4, 95 %, n = 1 seed)"),
        (estimate(-0.1, -0.4, 0.2), "−0.10 (−0.40 to 0.20, 95 %, n = 4 seeds)"),
        (estimate(1.0, 1.0, 1.0 + 1e-15), "1 (the same with each of 4 seeds)"),
        (estimate(0.3, reason="there is only one seed"), "0.3 (no interval: there is only one seed)"),
        (estimate(None, reason="nothing was measured"), "unknown (nothing was measured)"),
    ],
)
def test_an_estimate_in_words(given: Estimate, text: str) -> None:
    assert write_estimate(given) == text


def test_numbers_and_levels_in_words() -> None:
    assert [write_number(v) for v in (0.00006, 1234.5, 0.0, 2.0)] == ["0.000060", "1234", "0", "2"]
    assert [write_level(v) for v in (14.0, 0.1, 7, True, None, "x" * 60)][:5] == ["14", "0.1", "7", "true", "none"]
    assert [write_level(v) for v in (4 / 3, -0.5, 4294967295.0)] == ["1.33333", "−0.5", "4294967295"]
    assert write_level("x" * 60).endswith("…”")
    assert write_level(f"{'a red cup, ' * 6}warm", [f"{'a red cup, ' * 6}cold"]).endswith("red cup, warm”")
    assert write_level("a\nb") == "“a b”"
    assert write_interval(estimate(None)) == "unknown"
    assert [write_number(v) for v in (999.7, 12345.6, 1.2e-7)] == ["1000", "12,346", "1.20e−07"]
    narrow = [write_number(v, w) for v, w in ((-0.001, 0.5), (934377955, 1e8), (12345.678, 0.5))]
    assert narrow == ["0.00", "930,000,000", "12,345.68"]
    assert write_interval(estimate(9.7e-10, 9.4e-10, 1e-9)) == "9.70e−10 (9.40e−10 to 1.000e−09)"
    assert [write_number_word(n) for n in (2, 40)] == ["Two", "40"]


def test_a_sentence_leaves_an_address_as_it_is_written() -> None:
    assert [capitalise(text) for text in ("decode.tiled changes", "seed changes", "pHash")] == [
        "decode.tiled changes",
        "Seed changes",
        "pHash",
    ]


def test_texts_that_begin_alike_are_cut_to_what_tells_them_apart() -> None:
    words, letters = "a red cup on a table, " * 3, "杯子" * 30

    assert truncate_apart(f"{words}warm", [f"{words}cold", f"{words}warm"], 20) == "…a table, warm"
    assert truncate_apart(f"{letters}赤", [f"{letters}青"], 20) == "…杯子杯子杯子杯子杯子赤"
    assert truncate_apart("short", ["shore"], 20) == "short"
    assert truncate_apart("x" * 30, [f"{words}cold"], 20) == f"{'x' * 19}…"

    crossed = [f"{kind} {words}{light}" for kind in ("a photo of", "a pastel of", "ink:") for light in ("warm", "cold")]
    for length in (20, 24, 48):
        shown = [truncate_apart(text, crossed, length) for text in crossed]
        assert len(set(shown)) == len(crossed)
        assert max(map(len, shown)) <= length
