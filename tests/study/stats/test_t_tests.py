from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sweep.study.stats.t_tests import adjust_p_values
from sweep.study.study import make_study
from tests.support.planted_studies import AXES, planted


def test_paired_differences_are_found_where_unpaired_ones_drown() -> None:
    frame = planted(np.random.default_rng(5), seed_sd=0.5, noise_sd=0.005, prompt_effect=0.1)

    found = make_study(frame, axes=AXES, metrics=["structure_coarse"]).differences
    prompts = found[found["axis"] == "prompt_text"]

    assert list(prompts["difference"]) == pytest.approx([0.05, 0.1, 0.05], abs=0.01)
    assert prompts["significant"].all()
    assert ((prompts["low"] < prompts["difference"]) & (prompts["difference"] < prompts["high"])).all()


@pytest.mark.slow
def test_no_difference_is_called_significant_where_none_was_planted() -> None:
    rng, wrong = np.random.default_rng(6), 0
    for _ in range(40):
        found = make_study(planted(rng, prompt_effect=0.0), axes=AXES, metrics=["structure_coarse"]).differences
        wrong += bool(found[found["axis"] == "prompt_text"]["significant"].any())

    assert wrong <= 6  # of 40 families at 5 %: seven or more happen once in 400 times


def test_differences_are_significant_exactly_where_their_interval_excludes_zero() -> None:
    rng = np.random.default_rng(7)
    for effect in (0.0, 0.01, 0.02, 0.05):
        found = make_study(planted(rng, prompt_effect=effect), axes=AXES, metrics=["structure_coarse"]).differences
        excluded = (found["low"] > 0) | (found["high"] < 0)

        assert (found["significant"] == excluded).all()


def test_many_levels_are_compared_with_their_neighbours_only() -> None:
    found = make_study(planted(np.random.default_rng(8)), axes=AXES, metrics=["structure_coarse"]).differences

    pairs = found[found["axis"] == "denoise_strength"][["a", "b"]].to_numpy().tolist()

    assert pairs == [[i / 10, (i + 1) / 10] for i in range(10)] + [[0.0, 1.0]]


def test_the_correction_over_claims_is_that_of_holm_with_weights() -> None:
    equal = adjust_p_values([0.01, 0.04, 0.03], [1 / 3] * 3)
    weighted = adjust_p_values([0.02, 0.02], [0.9, 0.1])

    assert equal == pytest.approx([0.03, 0.06, 0.06])  # Holm 1979, as statsmodels' multipletests
    assert weighted == pytest.approx([0.02 / 0.9, 0.02 / 0.9])


def test_a_difference_that_all_seeds_agree_on_is_shown_whatever_other_pairs_do() -> None:
    noise = np.random.default_rng(3).normal(size=4)
    seeds = [0.125, 0.25, 0.375, 0.5]
    rows = [("A", n, v) for n, v in enumerate(seeds)] + [("B", n, v + 0.5) for n, v in enumerate(seeds)]
    rows += [("C", n, v) for n, v in enumerate(noise)]

    found = make_study(pd.DataFrame(rows, columns=["look", "seed", "ssim"]), metrics=["ssim"]).differences

    assert found.set_index(["a", "b"])["significant"].to_dict()["A", "B"]
