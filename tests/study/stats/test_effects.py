"""Variance shares, paired differences and rankings: what was planted comes back, with and without holes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.study.stats.differences import correct_holm
from sweep.study.stats.effects import compute_exact_shares, compute_type_two_shares
from sweep.study.study import make_study
from tests.support.planted_studies import AXES, planted

TERMS = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]


def cube(seed: int, shape: tuple[int, int, int] = (3, 4, 2)) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(size=shape)


@given(st.integers(0, 1000))
def test_exact_shares_and_type_two_agree_on_a_full_grid(seed: int) -> None:
    values = cube(seed)
    codes = [c.ravel() for c in np.indices(values.shape)]

    exact = compute_exact_shares(values, TERMS, float(values.var()))
    fitted = compute_type_two_shares(values.ravel(), codes, TERMS)

    assert fitted == pytest.approx(exact, abs=1e-8)
    assert 0 <= exact.sum() <= 1 + 1e-9


def test_an_additive_grid_has_shares_that_can_be_worked_out_by_hand() -> None:
    values = np.add.outer(np.array([0.0, 1.0, 2.0]), np.array([0.0, 3.0]))[:, :, None].repeat(2, axis=2)

    shares = compute_exact_shares(values, TERMS, float(values.var()))

    assert shares == pytest.approx([(2 / 3) / (2 / 3 + 2.25), 2.25 / (2 / 3 + 2.25), 0, 0, 0, 0])


def test_a_pure_interaction_has_no_main_effects() -> None:
    values = np.array([[1.0, -1.0], [-1.0, 1.0]])[:, :, None].repeat(2, axis=2)

    shares = compute_exact_shares(values, TERMS, 1.0)

    assert shares == pytest.approx([0, 0, 0, 1, 0, 0])


def shares_of(frame: pd.DataFrame) -> dict[str, float]:
    found = make_study(frame, axes=AXES, metrics=["structure_coarse"]).effects
    return dict(zip(found["term"], found["share"], strict=True))


def test_missing_cells_hardly_move_the_shares() -> None:
    frame = planted(np.random.default_rng(2), prompt_effect=0.4)
    whole, holed = shares_of(frame), shares_of(frame.sample(frac=0.85, random_state=3))

    for term in ("denoise_strength", "prompt_text", "seed"):
        assert holed[term] == pytest.approx(whole[term], abs=0.03)


def test_shares_have_intervals_that_hold_most_of_what_other_seeds_give() -> None:
    rng, inside = np.random.default_rng(4), 0
    truth = shares_of(planted(rng, seeds=200, prompt_effect=0.4))["prompt_text"]
    for _ in range(60):
        frame = planted(rng, seeds=6, prompt_effect=0.4)
        row = make_study(frame, axes=AXES, metrics=["structure_coarse"]).effects.set_index("term").loc["prompt_text"]
        inside += bool(row["low"] <= truth <= row["high"])

    assert inside >= 50


@pytest.mark.parametrize(("frame", "reason"), [("constant", "the same everywhere"), ("short", "fewer than three")])
def test_what_cannot_be_split_says_why(frame: str, reason: str) -> None:
    table = planted(np.random.default_rng(2))
    table = table.assign(structure_coarse=0.5) if frame == "constant" else table.iloc[[0, 40]]

    effects = make_study(table, axes=AXES, metrics=["structure_coarse"]).data["effects"][0]

    assert effects["shares"] == []
    assert reason in (effects["reason"] or "")


def test_paired_differences_are_found_where_unpaired_ones_drown() -> None:
    frame = planted(np.random.default_rng(5), seed_sd=0.5, noise_sd=0.005, prompt_effect=0.1)

    found = make_study(frame, axes=AXES, metrics=["structure_coarse"]).differences
    prompts = found[found["axis"] == "prompt_text"]

    assert list(prompts["difference"]) == pytest.approx([0.05, 0.1, 0.05], abs=0.01)
    assert prompts["significant"].all()
    assert ((prompts["low"] < prompts["difference"]) & (prompts["difference"] < prompts["high"])).all()


def test_no_difference_is_called_significant_where_none_was_planted() -> None:
    rng, wrong = np.random.default_rng(6), 0
    for _ in range(40):
        found = make_study(planted(rng, prompt_effect=0.0), axes=AXES, metrics=["structure_coarse"]).differences
        wrong += bool(found[found["axis"] == "prompt_text"]["significant"].any())

    assert wrong <= 6  # of 40 families at 5 %: seven or more happen once in 400 times


def test_holm_is_the_textbooks() -> None:
    assert correct_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert correct_holm([None, 0.02, None]) == [None, 0.02, None]
    assert correct_holm([]) == []
    assert correct_holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_planted_seed_is_ranked_and_a_planted_outlier_found() -> None:
    frame = planted(np.random.default_rng(7), seeds=6, seed_sd=0.0)
    frame.loc[frame["seed"] == 45, "structure_coarse"] += 0.2
    odd = 100
    frame["structure_coarse"] = frame["structure_coarse"] - np.where(frame.index == odd, 0.5, 0.0)

    found = make_study(frame, axes=AXES, metrics=["structure_coarse"])

    assert found.seeds.iloc[0]["seed"] == 45
    assert found.seeds.iloc[0]["deviation"] == pytest.approx(0.2 * 5 / 6, abs=0.03)
    assert found.outliers.iloc[0]["row"] == odd
    assert found.outliers.iloc[0]["score"] < -4


def test_many_levels_are_compared_with_their_neighbours_only() -> None:
    found = make_study(planted(np.random.default_rng(8)), axes=AXES, metrics=["structure_coarse"]).differences

    pairs = found[found["axis"] == "denoise_strength"][["a", "b"]].to_numpy().tolist()

    assert pairs == [[i / 10, (i + 1) / 10] for i in range(10)] + [[0.0, 1.0]]
