"""Findings in sentences: true, with interval and n, and no false precision."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from sweep.study.stats.seeds_and_noise import check_determinism
from sweep.study.study import Study, make_study
from sweep.study.study_design import add_bookkeeping, read_design
from tests.support.planted_studies import AXES, planted

FRAME = planted(np.random.default_rng(1))


def said(frame: pd.DataFrame, metric: str = "structure_coarse", **options: Any) -> Study:
    axes = [axis for axis in AXES if axis[0] in frame]
    return make_study(frame, axes=axes, metrics=[metric], **options)


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


def test_counts_of_one_are_singular() -> None:
    frame = planted(np.random.default_rng(1), seeds=4)
    frame.loc[[3, 90], "structure_coarse"] = [-5.0, -4.0]
    assert "Far from the others, too: 1 more image." in text_of(said(frame), "outlier")

    repeated = pd.DataFrame({"steps": [1, 1], "replicate": [1, 2], "replicate_error": [np.nan, 0.0]})
    design = read_design(add_bookkeeping(repeated), [("steps", "integer"), ("replicate", "integer")])
    found = check_determinism(design)
    assert found is not None
    assert found["message"].startswith("One point was rendered more than once and gave the same pixels")


def test_failed_repeats_of_a_combination_that_has_an_image_leave_no_hole() -> None:
    rows: list[dict[str, Any]] = [
        {"s": s, "seed": seed, "ssim": s + repeat, "status": "completed", "image_path": f"{s} {seed} {repeat}"}
        for s in (0.1, 0.2, 0.4)
        for seed in (1, 2, 3)
        for repeat in (1, 2)
    ]
    rows[3] |= {"ssim": np.nan, "status": "failed", "image_path": None}

    def list_holes() -> list[str]:
        study = make_study(pd.DataFrame(rows), axes=[("s", "number"), ("seed", "seed")], metrics=["ssim"])
        return [text for text in study.words if "no image" in text]

    assert list_holes() == []
    rows[2] |= rows[3]
    assert list_holes() == ["1 of 9 combinations has no image (1 failed): means are adjusted for them."]


def test_a_change_between_two_levels_says_its_direction() -> None:
    frame = planted(np.random.default_rng(1), seeds=8)
    ends = frame[frame["denoise_strength"].isin([0.2, 0.8])]

    assert text_of(make_study(ends, axes=AXES, metrics=["structure_coarse"]), "curve").startswith(
        "Layout of light and dark falls along denoise strength from "
    )


def test_noise_of_repeats_has_no_interval_and_no_server_is_called_deterministic() -> None:
    """Some points differ more than others: of chi-square intervals over points, 43 to 90 of 100 would hold."""
    repeated = pd.concat([FRAME.assign(replicate=1, replicate_error=np.nan), FRAME.assign(replicate=2)])
    repeated["structure_coarse"] += 0.01 * np.random.default_rng(1).normal(size=len(repeated))
    repeated["replicate_error"] = repeated["replicate"].map({1: np.nan, 2: 0.0})

    words = " ".join(make_study(repeated, axes=[*AXES, ("replicate", "integer")], metrics=["structure_coarse"]).words)

    assert re.search(r"by a standard deviation of 0\.0\d+ \(no interval: some points may differ more", words)
    assert "132 points were rendered more than once and gave the same pixels every time." in words
    assert "deterministic" not in words
