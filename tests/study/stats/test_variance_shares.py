"""Variance shares, paired differences and rankings: what was planted comes back, with and without holes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sweep.study.stats import additive_fit
from sweep.study.stats.additive_fit import Codes, FloatArray, fit_additive
from sweep.study.stats.variance_shares import split_variance
from sweep.study.study import make_study
from tests.support.planted_studies import AXES, planted


def codes_of(values: FloatArray) -> list[Codes]:
    return [c.ravel().astype(np.intp) for c in np.indices(values.shape)]


def test_split_variance_of_an_additive_grid_can_be_worked_out_by_hand() -> None:
    values = np.add.outer(np.array([0.0, 1.0, 2.0]), np.array([0.0, 3.0]))[:, :, None].repeat(4, axis=2)

    exact, terms, parts, total = split_variance((values - values.mean()).ravel(), codes_of(values), has_seeds=True)

    assert exact
    assert terms == [(0,), (1,), (2,), (0, 1)]
    assert parts / total == pytest.approx([(2 / 3) / (2 / 3 + 2.25), 2.25 / (2 / 3 + 2.25), 0, 0])


def test_split_variance_of_a_pure_interaction_has_no_main_effects() -> None:
    values = np.array([[1.0, -1.0], [-1.0, 1.0]])[:, :, None].repeat(4, axis=2)

    _, _, parts, total = split_variance(values.ravel(), codes_of(values), has_seeds=True)

    assert parts / total == pytest.approx([0, 0, 0, 1])


def test_split_variance_takes_out_what_noise_alone_would_explain() -> None:
    rng, found = np.random.default_rng(1), []
    for _ in range(400):
        values = rng.normal(size=(3, 3, 4)) + rng.normal(size=4)
        _, _, parts, total = split_variance((values - values.mean()).ravel(), codes_of(values), has_seeds=True)
        found.append(parts / total)

    assert np.mean(found, axis=0)[[0, 1, 3]] == pytest.approx([0, 0, 0], abs=0.03)
    assert np.mean(found, axis=0)[2] == pytest.approx(0.5, abs=0.1)


def shares_of(frame: pd.DataFrame) -> dict[str, float]:
    found = make_study(frame, axes=AXES, metrics=["structure_coarse"]).effects
    return dict(zip(found["term"], found["share"], strict=True))


def test_effects_survive_one_missing_image_and_many() -> None:
    frame = planted(np.random.default_rng(2), prompt_effect=0.4)
    whole = shares_of(frame)

    for holed in (shares_of(frame.drop(index=5)), shares_of(frame.sample(frac=0.85, random_state=3))):
        assert holed.keys() == whole.keys()
        for term in ("denoise_strength", "prompt_text", "denoise_strength × prompt_text"):
            assert holed[term] == pytest.approx(whole[term], abs=0.03)


def test_effects_below_four_seeds_are_an_order_only() -> None:
    frame = planted(np.random.default_rng(2), seeds=3)

    effects = make_study(frame, axes=AXES, metrics=["structure_coarse"]).data["effects"][0]

    assert effects["shares"][0]["axes"] == ["denoise_strength"]
    assert {share["share"]["value"] for share in effects["shares"]} == {None}


@pytest.mark.parametrize(("frame", "reason"), [("constant", "the same everywhere"), ("short", "fewer than three")])
def test_what_cannot_be_split_says_why(frame: str, reason: str) -> None:
    table = planted(np.random.default_rng(2))
    table = table.assign(structure_coarse=0.5) if frame == "constant" else table.iloc[[0, 40]]

    effects = make_study(table, axes=AXES, metrics=["structure_coarse"]).data["effects"][0]

    assert effects["shares"] == []
    assert reason in (effects["reason"] or "")


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


def test_seeds_of_a_design_with_many_holes_get_back_what_was_planted() -> None:
    frame = planted(np.random.default_rng(7), seeds=8, seed_sd=0.0, noise_sd=0.0)
    effects = np.linspace(-0.1, 0.1, 8)
    frame["structure_coarse"] += effects[frame["seed"] - 42]

    found = make_study(frame.sample(frac=0.2, random_state=4), axes=AXES, metrics=["structure_coarse"])

    assert found.seeds.sort_values("seed")["deviation"].tolist() == pytest.approx(effects.tolist(), abs=1e-9)
    assert found.outliers.empty


def test_an_outlier_does_not_make_its_neighbours_odd() -> None:
    frame = planted(np.random.default_rng(7), seeds=4)
    expected = frame["structure_coarse"][100]
    frame.loc[100, "structure_coarse"] = -5.0

    found = make_study(frame, axes=AXES, metrics=["structure_coarse"]).outliers

    assert found["row"].tolist() == [100]
    assert found["expected"][0] == pytest.approx(expected, abs=0.1)


def test_factors_of_hundreds_of_levels_are_fitted_as_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    first, second, third = (rng.integers(0, levels, 300) for levels in (12, 6, 4))
    response = rng.normal(size=300) + 0.1 * first + 0.2 * second

    exact = fit_additive(response, first, second, third)
    monkeypatch.setattr(additive_fit, "MOST_SOLVED", 1)
    found = fit_additive(response, first, second, third)

    assert found.means == pytest.approx(exact.means, abs=1e-6)
    assert np.concatenate(found.effects) == pytest.approx(np.concatenate(exact.effects), abs=1e-6)


def test_an_outlier_is_found_where_nothing_varies_at_all() -> None:
    values = np.random.default_rng(7).normal(0.8, 0.01, 12)
    values[5] = 0.1
    frame = pd.DataFrame({"steps": [20] * 12, "ssim": values})

    found = make_study(frame, axes=[("steps", "integer")], metrics=["ssim"]).outliers

    assert found["row"].tolist() == [5]


def test_seeds_of_a_table_can_be_texts() -> None:
    frame = planted(np.random.default_rng(7), seeds=3)
    frame["seed"] = frame["seed"].astype(str)

    assert make_study(frame, axes=AXES, metrics=["structure_coarse"]).seeds.empty
