"""Sentences a person reads: true, with interval and n, and no false precision."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sweep.study.schema import Estimate
from sweep.study.study import Study, make_study
from sweep.study.wording import write_estimate, write_interval, write_level, write_number, write_number_word
from tests.support.planted_studies import AXES, planted

FRAME = planted(np.random.default_rng(1))
VALUE = re.compile(r"(?<![\w“])−?\d+\.\d+")


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
    assert [write_level(v) for v in (14.0, 0.1, 7, True, None, "x" * 60)][:5] == ["14", "0.1", "7", "True", "none"]
    assert write_level("x" * 60).endswith("…”")
    assert write_interval(estimate(None)) == "unknown"
    assert [write_number_word(n) for n in (2, 40)] == ["Two", "40"]


@pytest.mark.parametrize("seeds", [1, 2, 4, 9])
@pytest.mark.parametrize("metric", ["structure_coarse", "sharpness", "delta_e", "ssim"])
def test_no_value_stands_without_how_sure_it_is(seeds: int, metric: str) -> None:
    """Whatever has a decimal point is measured, so n or the reason for no interval stands in the same sentence."""
    frame = planted(np.random.default_rng(2), seeds=seeds).rename(columns={"structure_coarse": metric})

    for text in said(frame, metric).words:
        if VALUE.search(text):
            assert "n = " in text or "no interval" in text or "the same with each" in text, text


def test_between_two_levels_nobody_looked() -> None:
    """Seeds may agree to a hair on where an interpolated curve passes: that says nothing of what lies between."""
    frame = FRAME[FRAME["denoise_strength"].isin([0.0, 0.2, 0.9, 1.0])]

    text = said(frame).words[0]

    assert text.startswith("To keep coarse structure above 0.9, stay below denoise_strength 0.")
    assert "Interpolated between 0.2 and 0.9; nothing in between was rendered." in text


def test_a_curve_without_threshold_is_told_from_end_to_end() -> None:
    found = said(FRAME.rename(columns={"structure_coarse": "ssim"}), "ssim")

    assert re.match(
        r"SSIM falls along denoise_strength from [\d.]+ \([\d.]+–[\d.]+\) at 0 to −?[\d.]+ \(.+\) at 1, "
        r"half of it by 0\.5\d+ \(0\.5\d+–0\.5\d+\) \(95 %, n = 4 seeds\)\.",
        found.words[0],
    )


def test_saturation_is_said_with_the_curve() -> None:
    frame = FRAME.assign(ssim=np.exp(-12 * FRAME["denoise_strength"]) + 0.001 * (FRAME["seed"] % 2))

    assert re.search(r"Above 0\.3\d* this metric barely changes", said(frame, "ssim").words[0])


def test_a_bump_is_told_as_one() -> None:
    frame = FRAME.assign(ssim=np.sin(np.pi * FRAME["denoise_strength"]) + 0.001 * (FRAME["seed"] % 2))

    assert (
        said(frame, "ssim")
        .words[0]
        .endswith("at 1 (95 %, n = 4 seeds). Where half of that is passed cannot be said: the curve goes up and down.")
    )


def test_levels_that_cannot_be_told_apart_are_told_with_how_far_they_may_be() -> None:
    frame = planted(np.random.default_rng(1), prompt_effect=0.0)
    two = frame[frame["prompt_text"] != "studio"]

    many, pair = (next(t for t in said(f).words if "told apart" in t) for f in (frame, two))

    assert "no two levels of prompt_text can be told apart (Holm-corrected): at most, “" in many
    assert "the levels of prompt_text cannot be told apart: “" in pair
    assert all("95 %, n = 4 seeds) apart" in text for text in (many, pair))


def test_a_threshold_that_is_never_passed_is_told_with_the_nearest_mean() -> None:
    low = FRAME.assign(structure_coarse=FRAME["structure_coarse"] * 0.5)
    near = FRAME.assign(structure_coarse=0.895 + 0.05 * (FRAME["seed"] - 43.6))

    assert re.match(
        r"Coarse structure stays below 0\.9 from denoise_strength 0 to 1: its highest mean is 0\.5\d* \(.*\), at 0\. "
        r"To keep it above 0\.9, none of these levels will do\.",
        said(low).words[0],
    )
    assert "none of these levels will do on average, but that interval reaches beyond." in said(near).words[0]


def test_without_a_numeric_axis_the_largest_difference_is_on_top() -> None:
    found = said(FRAME[FRAME["denoise_strength"] == 0.5])

    heads = [s["kind"] for s in found.data["words"] if s["headline"]]
    assert sorted(heads) == ["difference", "share"]


def test_one_seed_is_called_one_seed_everywhere() -> None:
    words = " ".join(said(FRAME[FRAME["seed"] == 42]).words)

    assert "there is only one seed" in words
    assert "no seed axis" not in words
