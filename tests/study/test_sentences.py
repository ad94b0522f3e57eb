"""Sentences a person reads: true, with interval and n, and no false precision."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sweep.study.stats.seeds_and_noise import check_determinism
from sweep.study.study import Study, make_study
from sweep.study.study_design import add_bookkeeping, read_design
from sweep.study.study_json import Estimate
from sweep.study.wording import capitalise, write_estimate, write_interval, write_level, write_number, write_number_word
from sweep.text import truncate_apart
from tests.support.planted_studies import AXES, planted

FRAME = planted(np.random.default_rng(1))


def said(frame: pd.DataFrame, metric: str = "structure_coarse", **options: Any) -> Study:
    axes = [axis for axis in AXES if axis[0] in frame]
    return make_study(frame, axes=axes, metrics=[metric], **options)


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


def text_of(study: Study, kind: str) -> str:
    return next(f"{each['text']} {each['detail']}" for each in study.data["words"] if each["kind"] == kind)


def test_a_curve_is_told_from_end_to_end_with_its_intervals() -> None:
    found = said(FRAME.rename(columns={"structure_coarse": "ssim"}), "ssim")

    assert re.match(
        r"SSIM falls along denoise strength from [\d.]+ \([\d.]+–[\d.]+\) at 0 to −?[\d.]+ \(.+\) at 1; "
        r"half of this change lies between 0\.5 and 0\.6\. \(95 %, n = 4 seeds\)",
        text_of(found, "curve"),
    )


def test_a_crossing_between_two_levels_is_a_gap_and_no_interval() -> None:
    frame = FRAME[FRAME["denoise_strength"].isin([0.0, 0.2, 0.9, 1.0])]

    text = text_of(said(frame), "recommendation")

    assert "The mean over all images passes 0.9 at between" not in text
    assert "passes 0.9 between 0.2 and 0.9;" in text


def test_a_flat_stretch_is_told_with_the_curve() -> None:
    frame = FRAME.assign(ssim=np.exp(-12 * FRAME["denoise_strength"]) + 0.001 * (FRAME["seed"] % 2))

    assert re.search(r"From 0\.4 on this metric barely changes, so ignore", text_of(said(frame, "ssim"), "curve"))


def test_a_bump_is_told_as_one() -> None:
    frame = FRAME.assign(ssim=np.sin(np.pi * FRAME["denoise_strength"]) + 0.001 * (FRAME["seed"] % 2))

    assert text_of(said(frame, "ssim"), "curve").startswith("SSIM goes up and down along denoise strength: ")


def test_levels_without_a_difference_are_told_with_how_large_one_may_be() -> None:
    found = said(planted(np.random.default_rng(1), prompt_effect=0.0))

    text = next(t for t in found.words if t.startswith("No difference"))
    assert re.search(r"levels of prompt text was found; one of up to 0\.0\d+ is possible\.", text)
    assert "(95 %, for all 3 pairs of levels together, n = 4 seeds.)" in text


def test_without_a_numeric_axis_the_largest_difference_is_on_top() -> None:
    found = said(FRAME[FRAME["denoise_strength"] == 0.5])

    heads = [s["kind"] for s in found.data["words"] if s["headline"]]
    assert heads[0] == "difference"


def test_headlines_are_at_most_five_and_of_different_kinds() -> None:
    frame = FRAME.assign(structure_fine=FRAME["structure_coarse"] ** 4, delta_e=20 * (1 - FRAME["structure_coarse"]))
    found = make_study(frame, axes=AXES, metrics=["structure_coarse", "structure_fine", "delta_e"])

    heads = [s["kind"] for s in found.data["words"] if s["headline"]]
    assert heads == ["recommendation", "difference", "curve", "share", "difference"]
    assert "Fine detail changes first" in found.words[2]


def test_one_seed_is_called_one_seed_everywhere() -> None:
    words = " ".join(said(FRAME[FRAME["seed"] == 42]).words)

    assert "there is only one seed" in words
    assert "no seed axis" not in words


def test_a_sentence_leaves_an_address_as_it_is_written() -> None:
    assert [capitalise(text) for text in ("decode.tiled changes", "seed changes", "pHash")] == [
        "decode.tiled changes",
        "Seed changes",
        "pHash",
    ]


def test_counts_of_one_are_singular() -> None:
    frame = planted(np.random.default_rng(1), seeds=4)
    frame.loc[[3, 90], "structure_coarse"] = [-5.0, -4.0]
    assert "1 more image is far from the others, too." in text_of(said(frame), "outlier")

    repeated = pd.DataFrame({"steps": [1, 1], "replicate": [1, 2], "replicate_error": [np.nan, 0.0]})
    design = read_design(add_bookkeeping(repeated), [("steps", "integer"), ("replicate", "integer")])
    found = check_determinism(design)
    assert found is not None
    assert found["message"].startswith("One point was rendered more than once and gave the same pixels")


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
