"""Curves: fits, crossings, intervals and the warnings that limit them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.study.metrics.metric_lookup import describe_columns
from sweep.study.stats.additive_fit import fill_holes
from sweep.study.stats.response_curves import (
    BRACKET,
    FEW_THERE,
    TURNED_BY_BASELINE,
    analyse_curve,
    compute_curve,
    find_crossing,
    fit_monotone,
)
from sweep.study.stats.t_tests import compute_band
from sweep.study.study import make_study
from sweep.study.study_design import add_bookkeeping, read_design
from sweep.study.study_json import Curve
from tests.support.planted_studies import AXES, STRENGTHS, logistic, planted

X = STRENGTHS
FALLING = logistic(X, 0.5)
(COARSE,) = describe_columns(["structure_coarse"], {"structure_coarse": (132, 0)})


def seeds(*offsets: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return FALLING[None, :] + np.array(offsets)[:, None] * X[None, :]


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=11), st.booleans())
def test_a_fit_is_monotone_and_stays_within_the_means(values: list[float], upside_down: bool) -> None:
    means = np.array(values) * (-1 if upside_down else 1)

    fit = fit_monotone(np.arange(len(means), dtype=float), means, np.ones(len(means)))

    assert fit is not None
    steps = np.diff(fit.y) * (-1 if fit.falling else 1)
    assert (steps >= -1e-9).all()
    assert fit.y.min() >= means.min() - 1e-9
    assert fit.y.max() <= means.max() + 1e-9


def test_a_monotone_curve_is_fitted_exactly_and_crossed_where_it_passes() -> None:
    fit = fit_monotone(X, FALLING, np.ones(len(X)))

    assert fit is not None
    assert fit.at_levels == pytest.approx(FALLING)
    assert find_crossing(fit, 0.5) == pytest.approx(0.5, abs=1e-3)
    assert find_crossing(fit, 2.0) is None


def test_a_plateau_on_the_threshold_is_crossed_in_its_middle() -> None:
    fit = fit_monotone(np.arange(4.0), np.array([1.0, 0.5, 0.5, 0.0]), np.ones(4))

    assert fit is not None
    assert find_crossing(fit, 0.5) == pytest.approx(1.5, abs=0.02)


def test_band_is_students() -> None:
    found = compute_band(np.array([[1.0, 5.0], [2.0, 5.0], [3.0, np.nan]]))

    assert found.mean == pytest.approx([2.0, 5.0])
    assert found.high[0] - found.mean[0] == pytest.approx(4.302652729749464 * 1 / 3**0.5)  # t(2) at 0.975
    assert list(found.n) == [3, 2]


def test_intervals_of_pairwise_distances_are_wider_and_need_three() -> None:
    values = np.array([[1.0], [2.0], [3.0], [4.0]])

    plain, pairwise = compute_band(values), compute_band(values, pairwise=True)

    assert pairwise.high[0] - pairwise.low[0] == pytest.approx((plain.high[0] - plain.low[0]) * 2 * 3 / 2)
    assert np.isnan(compute_band(values[:2], pairwise=True).low[0])


def test_a_pairwise_interval_covers_the_expected_distance() -> None:
    """Mean |x − y| of standard normals is 2/√π; the interval must cover it about 95 % of the time (jackknife: a bit
    less for few seeds)."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(600):
        points = rng.normal(size=12)
        distances = np.abs(points[:, None] - points[None, :]).sum(axis=1) / 11
        found = compute_band(distances[:, None], pairwise=True)
        hits += bool(found.low[0] <= 2 / np.pi**0.5 <= found.high[0])

    assert 0.91 <= hits / 600 <= 0.98


def test_half_range_has_an_interval_over_seeds() -> None:
    middles = np.array([[0.46], [0.49], [0.52], [0.53]])

    found = analyse_curve(X, logistic(X[None, :], middles))
    half = found.half

    assert half["n"] == 4
    assert half["value"] == pytest.approx(0.5, abs=0.02)
    assert (half["low"] or 1) < (half["value"] or 0) < (half["high"] or 0)


def test_one_seed_gives_a_value_without_interval_and_says_so() -> None:
    found = analyse_curve(X, seeds(0.0))
    levels, fit, half, warnings = found.levels, found.fit, found.half, found.warnings

    assert fit is not None
    assert half["value"] == pytest.approx(0.5, abs=1e-3)
    assert (half["low"], half["high"], half["reason"]) == (None, None, "there is only one seed")
    assert np.isnan(levels.low).all()
    assert warnings[0]["kind"] == "one-seed"


def test_a_threshold_out_of_reach_says_on_which_side_the_curve_stays() -> None:
    found = analyse_curve(X, seeds(0.0, 0.01), thresholds=(-3.0, 3.0))
    crossings = found.crossings

    assert [c["at"]["value"] for c in crossings] == [None, None]
    assert "stays above -3" in (crossings[0]["at"]["reason"] or "")
    assert "stays below 3" in (crossings[1]["at"]["reason"] or "")


def test_an_interval_that_runs_out_of_the_axis_says_so() -> None:
    noisy = np.linspace(1, 0.5, len(X))[None, :] + np.array([[-0.06], [0.0], [0.06]])

    found = analyse_curve(X, noisy, thresholds=(0.55,))
    crossings = found.crossings

    assert crossings[0]["at"]["reason"] == "the interval reaches the end of the range tested"
    assert crossings[0]["at"]["high"] == 1.0


def test_an_interval_as_wide_as_the_axis_is_none() -> None:
    noisy = np.linspace(1, 0.5, len(X))[None, :] + np.array([[-0.5], [0.0], [0.5]])

    found = analyse_curve(X, noisy, thresholds=(0.75,))
    half, crossings = found.half, found.crossings

    assert (crossings[0]["at"]["value"], crossings[0]["at"]["n"]) == (None, 3)
    assert crossings[0]["at"]["reason"] == "its interval is the whole range tested"
    assert half["value"] is not None  # half of the range of each seed's own curve: there they agree


def test_single_levels_beyond_a_threshold_are_no_staying() -> None:
    """The monotone fit is above 0.55 everywhere, one mean is not."""
    bent = np.linspace(1.0, 0.6, len(X))
    bent[6] = 0.5

    found = analyse_curve(X, bent[None, :] + np.array([[-0.001], [0.0], [0.001]]), thresholds=(0.55,))
    crossings = found.crossings

    assert crossings[0]["at"]["value"] is None
    assert "stays" not in (crossings[0]["at"]["reason"] or "")


def test_a_wiggle_in_a_spent_tail_is_saturation_and_no_violation() -> None:
    """As the finest band does: it falls to nothing and then moves by thousandths up and down."""
    spent = np.exp(-12 * X)
    spent[7:] += np.array([0.0, 0.002, 0.0, 0.002])
    assert (np.diff(spent) > 0).any()

    found = analyse_curve(X, spent[None, :] + np.array([[-0.0001], [0.0], [0.0001]]))
    fit, half, warnings = found.fit, found.half, found.warnings

    assert fit is not None
    assert fit.falling
    assert half["value"] is not None
    assert [w["kind"] for w in warnings] == ["saturated"]
    assert (warnings[0]["low"] or 1) < X[7]


def test_intervals_end_where_the_metric_does() -> None:
    frame = planted(np.random.default_rng(1), noise_sd=0.2).assign(
        structure_coarse=lambda table: table["structure_coarse"].clip(-1, 1)
    )

    curves = make_study(frame, axes=AXES, metrics=["structure_coarse"]).data["curves"]

    assert max(high for curve in curves for high in curve["high"] if high is not None) == 1.0


def test_a_baseline_within_the_axis_makes_the_curve_turn_round() -> None:
    """Nothing is nearer to the baseline than itself, so a monotone reading has no sense; its end may be read."""
    frame = planted(np.random.default_rng(1))
    frame["structure_coarse"] = (
        1 - np.abs(frame["denoise_strength"] - 0.3) + np.random.default_rng(2).normal(0, 0.001, len(frame))
    )

    def curve(level: float) -> Curve:
        layout = read_design(add_bookkeeping(frame), AXES, baseline={"denoise_strength": level}, reference="baseline")
        return compute_curve(layout, COARSE, "denoise_strength", {}, thresholds=(0.5, 0.1))

    assert curve(0.3)["half"]["reason"] == TURNED_BY_BASELINE
    assert curve(0.3)["crossings"][0]["at"]["reason"] == TURNED_BY_BASELINE
    assert "stays above 0.1" in (curve(0.3)["crossings"][1]["at"]["reason"] or "")
    assert curve(0.0)["half"]["reason"] != TURNED_BY_BASELINE


def test_a_group_without_a_measured_image_is_an_empty_curve() -> None:
    """It said `Mean of empty slice` on the terminal."""
    frame = planted(np.random.default_rng(1))
    frame.loc[frame["prompt_text"] == "studio", "structure_coarse"] = np.nan
    frame = frame.drop(index=frame.index[50])

    curves = make_study(frame, axes=AXES, metrics=["structure_coarse"]).data["curves"]

    empty = next(curve for curve in curves if curve["group"] == {"prompt_text": "studio"})
    assert set(empty["mean"]) == {None}
    assert empty["half"]["value"] is None


def test_saturation_is_told_with_its_stretch() -> None:
    spent = np.exp(-12 * X)

    found = analyse_curve(X, spent[None, :] + np.array([[0.001], [-0.001]]))
    warnings = found.warnings

    saturated = next(w for w in warnings if w["kind"] == "saturated")
    assert saturated["low"] is not None
    assert 0.25 < saturated["low"] < 0.5
    assert saturated["high"] == 1.0


def test_a_curve_that_turns_round_has_no_half() -> None:
    bump = np.sin(np.pi * X)

    found = analyse_curve(X, bump[None, :] + np.array([[0.01], [-0.01]]), thresholds=(0.5,))
    half, crossings, warnings = found.half, found.crossings, found.warnings

    assert half["reason"] == crossings[0]["at"]["reason"] == "the curve is not monotone"
    assert "violated" in [w["kind"] for w in warnings]


def test_a_small_violation_is_a_warning_only() -> None:
    bent = FALLING.copy()
    bent[2] = bent[1] + 0.07

    found = analyse_curve(X, bent[None, :] + np.array([[0.001], [0.0], [-0.001]]))
    half, warnings = found.half, found.warnings

    assert half["value"] is not None
    assert "violated" in [w["kind"] for w in warnings]


def test_noise_around_a_constant_is_no_change_found_and_flat_only_where_shown() -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 1, (8, len(X)))

    kinds = [
        [w["kind"] for w in analyse_curve(X, 0.3 + sd * noise, span=span).warnings]
        for sd, span in ((0.02, 1.0), (0.001, 1.0), (0.001, None), (0.0, None))
    ]

    assert kinds == [["unclear"], ["flat"], ["unclear"], ["flat"]]


def test_a_slope_in_every_seed_is_a_change_whatever_single_levels_say() -> None:
    rng = np.random.default_rng(5)
    matrix = 0.9 - 0.1 * X + rng.normal(0, 0.03, (4, len(X)))

    warnings = analyse_curve(X, matrix, span=1.0).warnings

    assert not {"flat", "unclear"} & {w["kind"] for w in warnings}


def test_an_interval_between_two_levels_is_the_gap_between_them() -> None:
    x = np.array([0.0, 0.3, 0.6, 1.0])
    steep = np.array([0.9, 0.9, 0.2, 0.2]) + np.array([[-0.001], [0.0], [0.001], [0.002]])

    at = analyse_curve(x, steep, thresholds=(0.5,)).crossings[0]["at"]

    assert (at["low"], at["high"], at["method"]) == (0.3, 0.6, BRACKET)


def test_seeds_that_were_hardly_rendered_give_no_interval_of_a_crossing() -> None:
    frame = planted(np.random.default_rng(1), seeds=8)
    base = (frame["denoise_strength"] == 0.5, frame["prompt_text"] == "studio", frame["seed"] == 42)
    one_at_a_time = frame[np.sum(base, axis=0) >= 2]

    curve = make_study(one_at_a_time, axes=AXES, metrics=["structure_coarse"]).data["curves"][0]

    assert curve["crossings"][0]["at"]["low"] is None
    assert curve["crossings"][0]["at"]["reason"] == FEW_THERE


def test_missing_levels_and_seeds_are_left_out() -> None:
    matrix = seeds(-0.02, 0.0, 0.02)
    matrix[:, 3] = np.nan
    matrix[0, 7] = np.nan

    found = analyse_curve(X, matrix)
    levels, fit, half, warnings = found.levels, found.fit, found.half, found.warnings

    assert list(levels.n[[2, 3, 7]]) == [3, 0, 2]
    assert fit is not None
    assert half["value"] == pytest.approx(0.5, abs=0.03)
    assert "missing" in [w["kind"] for w in warnings]


def test_nothing_measured_is_no_curve() -> None:
    found = analyse_curve(X, np.full((2, len(X)), np.nan))
    fit, half, warnings = found.fit, found.half, found.warnings

    assert fit is None
    assert half["reason"] == "fewer than two levels were measured"
    assert [w["kind"] for w in warnings] == ["missing"]


def test_holes_are_filled_with_what_seed_and_level_predict() -> None:
    full = np.add.outer(np.array([0.0, 1.0, 5.0]), X)
    holed = full.copy()
    holed[0, 0] = holed[2, 4] = holed[1, 9] = np.nan

    assert fill_holes(holed) == pytest.approx(full, abs=1e-6)


def test_a_difference_that_no_seed_has_seen_is_one_of_the_levels() -> None:
    apart = np.array([[1.0, np.nan], [1.2, np.nan], [np.nan, 0.4], [np.nan, 0.6]])

    assert fill_holes(apart).mean(axis=0) == pytest.approx([1.1, 0.5])


def test_holes_of_hundreds_of_seeds_with_two_levels_each_are_filled_exactly() -> None:
    full = np.add.outer(np.sin(np.arange(400)), X)
    first = np.arange(400) % (len(X) - 1)
    seen = (np.arange(len(X)) == first[:, None]) | (np.arange(len(X)) == first[:, None] + 1)

    assert fill_holes(np.where(seen, full, np.nan)) == pytest.approx(full, abs=1e-6)


def test_a_hole_at_a_difficult_prompt_does_not_bend_the_curve() -> None:
    frame = planted(np.random.default_rng(1), prompt_effect=0.0, seed_sd=0.0, noise_sd=0.0)
    frame["structure_coarse"] += np.where(frame["prompt_text"] == "painterly", -0.4, 0.0)
    whole = make_study(frame, axes=AXES, metrics=["structure_coarse"]).data["curves"][0]
    holed = frame[~((frame["prompt_text"] == "painterly") & frame["denoise_strength"].between(0.25, 0.55))]

    curve = make_study(holed, axes=AXES, metrics=["structure_coarse"]).data["curves"][0]

    shape = np.array(curve["mean"]) - np.array(whole["mean"])
    assert np.ptp(shape) < 0.01


def test_groups_have_curves_of_their_own() -> None:
    found = make_study(planted(np.random.default_rng(1), prompt_effect=0.3), axes=AXES, metrics=["structure_coarse"])

    ends = {c["group"].get("prompt_text"): c["mean"][-1] for c in found.data["curves"]}

    assert list(ends) == [None, "studio", "dramatic", "painterly"]
    assert (ends["studio"] or 0) < (ends["dramatic"] or 0) < (ends["painterly"] or 0)


def test_prompts_of_a_coarsely_rounded_metric_have_no_intervals() -> None:
    rng = np.random.default_rng(2)
    level, prompt, seed = (each.ravel() for each in np.indices((11, 3, 4)))
    values = (0.9 - 0.03 * level + 0.02 * rng.normal(size=4)[seed] + 0.02 * rng.normal(size=len(level))) * 16
    axes = {"strength": level / 10, "variation": [f"p{n}" for n in prompt], "seed": 42 + seed}
    kinds = [("strength", "number"), ("variation", "text"), ("seed", "seed")]
    study = make_study(pd.DataFrame({**axes, "mine": values.round() / 16}), axes=kinds, metrics=["mine"])

    whole, *prompts = study.data["curves"]
    assert None not in whole["low"]
    for curve in prompts:
        assert curve["low"] == [None] * 11
        assert curve["interval"].startswith("no interval: its values are rounded so coarsely")


def test_a_curve_of_one_seed_among_many_holes_has_no_interval_and_no_warning() -> None:
    frame = planted(np.random.default_rng(5), seeds=8)
    sparse = frame.sample(frac=0.1, random_state=1)
    alone = sparse[(sparse["prompt_text"] != "studio") | (sparse["seed"] == 42)]
    more = frame[(frame["prompt_text"] == "studio") & (frame["seed"] == 42)].iloc[[0, 4]]

    study = make_study(pd.concat([alone, more]).drop_duplicates(), axes=AXES, metrics=["structure_coarse"])

    (curve,) = (curve for curve in study.data["curves"] if curve["group"] == {"prompt_text": "studio"})
    assert curve["half"]["reason"] == "there is only one seed"


def test_prompts_of_a_rotated_design_of_many_seeds_have_intervals() -> None:
    """Each level has three of eight seeds: those of the design count, not those of a level."""
    frame = planted(np.random.default_rng(1), seeds=8)
    turn = frame["seed"] + (frame["denoise_strength"] * 10).round().astype(int) * 3
    design = read_design(add_bookkeeping(frame[turn % 8 < 3]), AXES)

    curve = compute_curve(design, COARSE, "denoise_strength", {"prompt_text": "studio"})

    assert None not in curve["low"]
    assert set(curve["n"]) == {3}
