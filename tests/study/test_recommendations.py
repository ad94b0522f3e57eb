"""Advice for single images: counted, safe in every group, and with the gap where it fails."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from sweep.study.advice import write_decision
from sweep.study.study import Study, make_study
from sweep.study.study_json import Recommendation
from tests.support.planted_studies import AXES, planted


def study_of(strong: Sequence[float], weak: Sequence[float], *, rising: bool = False) -> Study:
    """Two prompts with these values at 0.3, 0.5 and 0.7, the same for both seeds."""
    rows = [
        {"denoise_strength": -x if rising else x, "prompt_text": prompt, "seed": seed, "structure_coarse": value}
        for prompt, values in (("strong", strong), ("weak", weak))
        for x, value in zip((0.3, 0.5, 0.7), values, strict=True)
        for seed in (1, 2)
    ]
    return make_study(pd.DataFrame(rows), axes=AXES, metrics=["structure_coarse"])


def advice_of(study: Study) -> Recommendation:
    (advice,) = study.data["recommendations"]
    return advice


def test_advice_is_the_last_level_at_which_every_image_of_every_group_held() -> None:
    study = study_of((0.99, 0.97, 0.95), (0.95, 0.85, 0.7))

    advice = advice_of(study)

    assert (advice["use"], advice["held"], advice["images"]) == (0.3, 4, 4)
    assert advice["weakest_group"] == {"prompt_text": "weak"}
    assert (advice["bracket_low"], advice["bracket_high"]) == (0.3, 0.5)
    assert advice["levels_to_add"] == [0.35, 0.4, 0.45]
    text, detail = study.data["words"][0]["text"], study.data["words"][0]["detail"]
    assert text.startswith("Use denoise strength 0.3 or less: ")
    assert text.endswith("stayed at 0.9 or more in 4 of 4 images at 0.3, in 2 of 4 at 0.5, in 2 of 4 at 0.7.")
    first = (
        "Of the values of prompt text, “weak” fails first: all its images stayed at 0.9 or more at denoise strength "
        "0.3, and 0 of 2 at 0.5. With other seeds, another value may fail first."
    )
    assert detail.startswith(first)
    assert (
        "Tested there with only two seeds and 2 levels of prompt text: up to about 1 of 3 new seeds may still miss it, "
        "and other levels of prompt text may miss it earlier."
    ) in detail
    assert write_decision(study.data) == f"{text} {first}"


def test_advice_of_the_most_telling_metric_comes_first() -> None:
    frame = planted(np.random.default_rng(1))
    frame["ms_ssim"] = frame["structure_coarse"]
    study = make_study(frame, axes=AXES, metrics=["ms_ssim", "structure_coarse"])
    assert [each["metric"] for each in study.data["recommendations"]] == ["structure_coarse", "ms_ssim"]


def test_advice_is_none_where_the_first_level_failed() -> None:
    study = study_of((0.99, 0.97, 0.95), (0.8, 0.85, 0.7))

    assert advice_of(study)["use"] is None
    assert study.words[0].startswith("No denoise strength tested is safe for every image: ")


def test_advice_counts_from_the_end_at_which_images_hold() -> None:
    advice = advice_of(study_of((0.99, 0.97, 0.95), (0.95, 0.85, 0.7), rising=True))

    assert (advice["side"], advice["use"], advice["bracket_low"], advice["bracket_high"]) == ("from", -0.3, -0.3, -0.5)


def test_advice_stops_at_the_first_level_that_failed_although_later_ones_held() -> None:
    assert advice_of(study_of((0.99, 0.85, 0.95), (0.99, 0.97, 0.95)))["use"] == 0.3


def test_any_level_will_do_where_none_failed() -> None:
    study = study_of((0.99, 0.97, 0.95), (0.99, 0.97, 0.96))

    assert study.words[0].startswith("Any denoise strength tested will do: ")
    assert advice_of(study)["weakest_group"] is None


@pytest.mark.slow
def test_new_seeds_hold_at_the_advised_level() -> None:
    """The planted population: of images of the same prompts with new seeds at most 2 % miss the threshold."""
    rng, missed, images = np.random.default_rng(1), 0, 0
    for _ in range(40):
        frame = planted(rng, seeds=12)
        tested, fresh = frame[frame["seed"] < 46], frame[frame["seed"] >= 46]
        use = advice_of(make_study(tested, axes=AXES, metrics=["structure_coarse"]))["use"]
        values = fresh[fresh["denoise_strength"] == use]["structure_coarse"]
        missed, images = missed + int((values < 0.9).sum()), images + len(values)

    assert images > 500
    assert missed / images <= 0.04


def test_holds_and_recommendations_are_tables() -> None:
    study = study_of((0.99, 0.97, 0.95), (0.95, 0.85, 0.7))

    holds = study.holds[(study.holds["axis"] == "denoise_strength") & (study.holds["group"] == "prompt_text=weak")]
    assert list(holds["held"]) == [2, 0, 0]
    assert list(study.recommendations["weakest_group"]) == ["prompt_text=weak"]


def test_groups_that_miss_a_rising_metric_first_stand_in_the_order_of_their_axis() -> None:
    means = {0.2: (0.5, 0.5, 0.5), 0.5: (0.95, 0.5, 0.5), 0.8: (0.95, 0.95, 0.95)}
    rows = [(x, f"v{n}", seed, mean) for x, own in means.items() for n, mean in enumerate(own) for seed in (0, 1)]
    columns = ["denoise_strength", "variation", "seed", "structure_coarse"]

    study = make_study(pd.DataFrame(rows, columns=columns), metrics=["structure_coarse"])

    assert "Of the values of variation, “v1” and “v2” fail first: " in " ".join(study.words)


def test_the_first_group_to_miss_a_threshold_is_alone_in_that() -> None:
    def told(*held: tuple[int, int]) -> str:
        """Say what is told of variations, of which these numbers of two images hold at 0.4 and 0.6."""
        rows = [
            (x, f"v{n}", seed, 0.95 if seed < counts[place] else 0.5)
            for n, (at_first, at_second) in enumerate(held)
            for place, x in enumerate((0.2, 0.4, 0.6))
            for counts in [(2, at_first, at_second)]
            for seed in (0, 1)
        ]
        columns = ["denoise_strength", "variation", "seed", "structure_coarse"]
        study = make_study(pd.DataFrame(rows, columns=columns), metrics=["structure_coarse"])
        return next(each["detail"] for each in study.data["words"] if each["kind"] == "recommendation")

    assert told((2, 0), (1, 0), (2, 0)).startswith(
        "Of the values of variation, “v1” fails first: all its images stayed at 0.9 or more at denoise strength "
        "0.2, and 1 of 2 at 0.4"
    )
    assert told((1, 0), (0, 0), (2, 0)).startswith(
        "Of the values of variation, “v0” and “v1” fail first: all their images stayed at 0.9 or more at denoise "
        "strength 0.2, and 1 of 4 at 0.4."
    )
    assert told((1, 1), (0, 0), (1, 0)).startswith("Tested there with")  # all fail: which one most is chance
    assert told((1, 0), (0, 0), (0, 0)).startswith("Tested there with")


def test_a_group_is_said_to_fail_first_with_other_seeds_only_where_it_is_shown() -> None:
    rng, told = np.random.default_rng(3), {0.0: 0, 0.3: 0}
    for effect in told:
        for _ in range(15):
            frame = planted(rng, seeds=6, prompt_effect=0.0, noise_sd=0.03)
            frame["structure_coarse"] -= (
                effect * (frame["denoise_strength"] > 0.05) * (frame["prompt_text"] == "studio")
            )
            detail = next(w["detail"] for w in make_study(frame, metrics=["structure_coarse"]).data["words"])
            found = " fails first: " in detail
            told[effect] += found and "With other seeds, another value may fail first." not in detail

    assert told[0.0] <= 1
    assert told[0.3] >= 12


def test_a_group_that_began_at_a_later_level_fails_there_and_not_at_the_first_level_tested() -> None:
    frame = pd.DataFrame({"denoise_strength": [0.1, 0.3, 0.5, 0.3, 0.5], "prompt_text": [*"aaabb"]})
    frame["structure_coarse"] = [0.95, 0.92, 0.7, 0.8, 0.6]

    said = " ".join(make_study(frame, axes=AXES[:2], metrics=["structure_coarse"]).words)

    assert "“b” fails first: 0 of its 1 image stayed at 0.9 or more at denoise strength 0.3. With other" in said


def test_levels_in_the_middle_that_hold_are_advised() -> None:
    rows = [(x, seed, 1 - abs(x) / 4 - seed / 1000) for x in (-2.5, -0.2, 0.0, 1.5) for seed in range(4)]
    frame = pd.DataFrame(rows, columns=["offset", "seed", "structure_coarse"])

    study = make_study(frame, axes=[("offset", "number"), ("seed", "seed")], metrics=["structure_coarse"])
    advice = next(each for each in study.data["words"] if each["kind"] == "recommendation")

    assert advice["text"] == (
        "Only at offset −0.2 and 0 did every image hold: "
        "layout of light and dark stayed at 0.9 or more in 8 of 8 images there."
    )
    assert "Test higher levels" not in advice["detail"]
    assert "first" not in write_decision(study.data)
    assert {frame["offset"][row] for row in advice["rows"]} == {-0.2, 0.0}
