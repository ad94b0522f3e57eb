"""What a study may not say: over generated studies, no sentence claims what the data cannot show."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.study.study import Study, make_study

AXES = (("denoise_strength", "number"), ("variation", "text"), ("seed", "seed"))
CLAIM = re.compile(
    r"is higher with|makes most of|^Most important|depends on|decides|falls along|rises along|goes up and down"
)
NEVER = re.compile(
    r"by 0[ (]|\bnan\b|\binf\b|None|, 0 apart|explains 100 %|does not answer|0\.0–1\.0|told apart|"
    r"stay below .* \(.*95 %|what encoding and decoding alone do"
)


def make_grid(levels: int, prompts: int, seeds: int, value: Callable[..., np.ndarray]) -> pd.DataFrame:
    s, p, k = (each.ravel() for each in np.indices((levels, prompts, seeds)))
    x = np.linspace(0, 1, levels).round(6)[s] if levels > 1 else np.full(len(s), 0.5)
    names = np.array([f"p{n}" for n in range(prompts)], dtype=object)[p]
    return pd.DataFrame({"denoise_strength": x, "variation": names, "seed": 42 + k, "structure_coarse": value(x, p, k)})


def study_of(frame: pd.DataFrame) -> Study:
    return make_study(frame, axes=AXES, metrics=["structure_coarse"])


SIZES = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 6))


@settings(max_examples=25, deadline=None)
@given(
    SIZES, st.sampled_from(["constant", "noise", "interaction", "outlier", "smooth", "two values"]), st.integers(0, 99)
)
def test_no_study_says_what_may_not_be_said(size: tuple[int, int, int], kind: str, number: int) -> None:
    rng = np.random.default_rng(number)
    kinds: Mapping[str, Callable[..., np.ndarray]] = {
        "constant": lambda x, *_: np.full(len(x), 0.7),
        "noise": lambda x, *_: 0.7 + 0.01 * rng.normal(size=len(x)),
        "interaction": lambda x, p, _: 0.8 + np.where(p % 2, 0.4, -0.4) * (x - 0.5),
        "outlier": lambda x, *_: np.where(np.arange(len(x)) == len(x) // 2, 0.0, 0.9 - 0.3 * x),
        "smooth": lambda x, *_: 0.95 - 0.6 * x**2 + 0.01 * rng.normal(size=len(x)),
        "two values": lambda x, *_: np.where(x > 0.5, 0.2, 0.95),
    }
    study = study_of(make_grid(*size, kinds[kind]))

    for sentence in study.data["words"]:
        text = f"{sentence['text']} {sentence['detail']}"
        assert not NEVER.search(text), text
        if kind == "constant" or size[2] == 1:
            assert "is higher with" not in text, text
        if kind == "constant":
            assert not CLAIM.search(text), text
        assert sentence["text"].endswith("."), text
    assert sum(sentence["headline"] for sentence in study.data["words"]) <= 5
    assert study.words


@pytest.mark.slow
def test_thirteen_metrics_of_noise_hardly_ever_claim_an_effect() -> None:
    rng, claims = np.random.default_rng(3), 0
    for _ in range(25):
        frame = make_grid(3, 3, 4, lambda x, *_: np.zeros(len(x)))
        names = [f"m{number}" for number in range(13)]
        noise = {name: 0.7 + 0.03 * rng.normal(size=4)[frame["seed"] - 42] for name in names}
        frame = frame.assign(**{name: value + 0.03 * rng.normal(size=len(frame)) for name, value in noise.items()})
        words = make_study(frame, axes=AXES, metrics=names).words
        claims += any(CLAIM.search(text) for text in words)
        assert any("all 26 comparisons" in text for text in words)

    assert claims <= 4  # at most 5 %; without a correction 60 %


def test_one_comparison_needs_no_correction_and_is_not_explained() -> None:
    rng = np.random.default_rng(1)
    frame = make_grid(1, 2, 6, lambda x, p, _: 0.8 + 0.1 * p + 0.002 * rng.normal(size=len(x)))

    study = study_of(frame)

    assert not any("corrected together" in text for text in study.words)
    assert study.data["differences"][0]["p_adjusted"] == study.data["differences"][0]["p"]


def test_an_interaction_is_told_with_its_weak_group_and_not_as_nothing_will_do() -> None:
    slopes = np.array([0.4, -0.4])
    study = study_of(make_grid(11, 2, 4, lambda x, p, k: 0.8 + slopes[p] * (x - 0.5) + 0.001 * k))

    words = " ".join(study.words)
    assert "none of these levels" not in words
    assert "depends on variation" in words


def test_a_far_image_is_in_a_sentence_with_its_place() -> None:
    rng = np.random.default_rng(1)
    frame = make_grid(11, 3, 4, lambda x, *_: 0.95 - 0.2 * x + 0.002 * rng.normal(size=len(x)))
    frame.loc[70, "structure_coarse"] = 0.1

    sentence = next(each for each in study_of(frame).data["words"] if each["kind"] == "outlier")

    assert sentence["text"].startswith("Look at image 70 (denoise strength 0.5, variation “p2”, seed 44)")
    assert sentence["rows"][0] == 70


def test_the_largest_of_several_differences_is_called_overstated() -> None:
    rng = np.random.default_rng(1)
    frame = make_grid(1, 4, 6, lambda x, p, _: 0.8 + 0.05 * p + 0.002 * rng.normal(size=len(x)))

    words = " ".join(study_of(frame).words)

    assert "is higher with variation “p3” than with “p0”" in words
    assert "so the true one is probably smaller" in words


@pytest.mark.parametrize("rounding", [2, 3, 9])
def test_measured_columns_that_nobody_asked_for_are_no_axes(rounding: int) -> None:
    rng = np.random.default_rng(1)
    frame = make_grid(11, 3, 4, lambda x, *_: 0.95 - 0.6 * x + 0.02 * rng.normal(size=len(x)))
    frame["mine"] = (frame["structure_coarse"] * 3 + 0.02 * rng.normal(size=len(frame))).round(rounding)

    study = make_study(frame, metrics=["structure_coarse"])

    assert [axis["name"] for axis in study.data["design"]["axes"]] == ["denoise_strength", "variation", "seed"]


def test_no_average_hides_that_single_prompts_change() -> None:
    noise = np.random.default_rng(2)
    frame = make_grid(5, 2, 8, lambda x, p, _: 0.5 + np.where(p, 0.3, -0.3) * (x - 0.5) + noise.normal(0, 5e-4, len(x)))
    study = make_study(frame.rename(columns={"structure_coarse": "ssim"}), axes=AXES, metrics=["ssim"])
    said = " ".join(study.words)

    assert "no change along denoise strength on average. It may change at single levels of variation" in said
    assert "How denoise strength changes SSIM depends on variation." in said
    assert "Choose it freely" not in said


def test_the_largest_possible_difference_is_that_of_all_pairs() -> None:
    wide, narrow, shift = np.random.default_rng(4).normal(0, (0.5, 0.05, 0.05), (8, 3)).T
    values = {"A": narrow - narrow.mean(), "B": 0.03 + shift - shift.mean(), "C": wide - wide.mean()}
    rows = [(look, seed, value) for look, each in values.items() for seed, value in enumerate(each)]
    study = make_study(pd.DataFrame(rows, columns=["look", "seed", "ssim"]), metrics=["ssim"])

    widest = np.nanmax(np.abs(study.differences[["low", "high"]].to_numpy()))

    said = re.search("one of up to ([0-9.]+) is possible", " ".join(study.words))
    assert said is not None
    assert float(said[1]) == pytest.approx(widest, rel=0.01)


def test_a_study_without_effects_says_so_first() -> None:
    noise = np.random.default_rng(5)
    study = study_of(make_grid(1, 3, 4, lambda *each: each[2] + noise.normal(0, 0.05, len(each[0]))))

    assert study.words[0].startswith("No difference in layout of light and dark between levels of variation was found")
