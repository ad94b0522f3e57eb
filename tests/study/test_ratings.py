"""Ratings and blind choices: columns of the study, advice, and a ranking that says which order is open."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sweep.errors import UsageError
from sweep.notebook_results import Results
from sweep.record import RATINGS_JSON, RecordedResults
from sweep.study.ratings import add_ratings, fit_bradley_terry, load_ratings, name_images, rank_choices
from sweep.study.study import make_study
from sweep.study.study_design import read_design


def write_ratings(path: Path, ratings: Mapping[str, object], choices: Sequence[object] = ()) -> Path:
    path.write_text(json.dumps({"schema": 1, "ratings": ratings, "choices": list(choices)}), "utf-8")
    return path


def test_rated_images_are_columns_and_advice(measured_results: Path, tmp_path: Path) -> None:
    table = RecordedResults.open(measured_results).table()
    marks = {
        str(key): {"stars": 5 if strength <= 0.25 else 2, "rejected": bool(strength == 1), "note": ""}
        for key, strength in zip(table["key"], table["denoise_strength"].astype(float), strict=True)
    }

    add_ratings(measured_results, write_ratings(tmp_path / "exported.json", marks))
    study = make_study(measured_results, metrics=["ssim"], workers=0)

    assert sorted(study.table["rating"].unique()) == [2.0, 5.0]
    assert study.table["rejected"].sum() == 6
    (advice,) = study.data["recommendations"]
    assert (advice["metric"], advice["use"], advice["held"], advice["images"]) == ("rating", 0.25, 6, 6)
    assert study.words[0].startswith("Use denoise strength 0.25 or less: 4 stars or more in 6 of 6 images at 0.25")
    rated = RecordedResults.open(measured_results).table()
    assert list(rated.columns[-3:]) == ["rating", "rejected", "note"]
    assert rated["rating"].tolist() == study.table["rating"].tolist()


def test_a_study_leaves_out_choices_that_the_page_does_not_write(measured_results: Path) -> None:
    for choices in ([1, {"left": "a"}, {"left": [], "right": {}, "winner": 3}], {"left": "a"}, None):
        text = json.dumps({"schema": 1, "ratings": {}, "choices": choices})
        (measured_results / RATINGS_JSON).write_text(text, "utf-8")

        assert make_study(measured_results, metrics=["ssim"], workers=0).data["choices"] == []
    (measured_results / RATINGS_JSON).write_text("[" * 200_000, "utf-8")
    assert make_study(measured_results, metrics=["ssim"], workers=0).data["choices"] == []


def test_the_table_can_be_filtered_by_ratings(measured_results: Path) -> None:
    keys = RecordedResults.open(measured_results).table()["key"].astype(str)
    marks = {f"{keys[0]}.1": {"stars": 2, "note": "dull"}, keys[1]: {"stars": 1}, keys[2]: {"rejected": True}}
    write_ratings(measured_results / RATINGS_JSON, marks)

    for condition, expected in (("rating >= 2", 1), ("rating < 3", 2), ("rejected", 1), ('note == "dull"', 1)):
        assert len(Results.open(measured_results).table(where=condition)) == expected, condition
    (measured_results / RATINGS_JSON).write_text("{", "utf-8")
    assert "rating" not in RecordedResults.open(measured_results).table()


def test_blind_choices_are_a_sentence(measured_results: Path) -> None:
    table = RecordedResults.open(measured_results).table()
    points = zip(table["denoise_strength"], table["variation"], table["seed"], table["key"], strict=True)
    keys = {(float(s), str(v), int(k)): f"{key}.1" for s, v, k, key in points}
    choices = [
        {"left": keys[s, "dramatic", k], "right": keys[s, "studio, white", k], "winner": "left", "at": f"{s}{k}"}
        for s in (0.0, 0.25, 0.5, 0.75)
        for k in (42, 43, 44)
    ]

    write_ratings(measured_results / RATINGS_JSON, {}, choices)
    study = make_study(measured_results, metrics=["ssim"], workers=0)

    assert study.words[0].startswith("You chose variation “dramatic” over the others.")
    assert study.data["choices"][0]["ranking"][0]["rank_high"] == 1
    assert study.data["choices"][0]["left"] == 12
    assert study.data["choices"][0]["agreement"]["ssim"][1] == 9  # at strength 0 both are the source
    assert json.loads(json.dumps(study.data["choices"])) == study.data["choices"]


def test_images_have_the_names_that_the_page_gives_them() -> None:
    key = "ec1fa54a23009da8c255a00f690d1819"
    first, second, other = name_images(pd.DataFrame({"index": [0, 0, 1], "key": [key, key, key[::-1]]}))

    assert {f"{key[:16]}.1", key} < set(first)
    assert set(second) == {f"{key[:16]}.2", f"{key}.2"}
    of_images = pd.DataFrame({"index": [0, 1], "key": [key, key[::-1]], "image": ["cup.png", "cat.png"]})
    assert key in name_images(of_images)[0]
    assert f"{key[:-17:-1]}.1" in other


def test_bradley_terry_finds_planted_strengths() -> None:
    rng, planted = np.random.default_rng(1), np.array([1.0, 0.3, -0.4, -0.9])
    pairs = rng.integers(0, 4, (4000, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    won = (rng.random(len(pairs)) < 1 / (1 + np.exp(planted[pairs[:, 1]] - planted[pairs[:, 0]]))).astype(float)

    assert fit_bradley_terry(pairs, won, 4)[0] == pytest.approx(planted, abs=0.12)


def test_bradley_terry_is_at_rest_where_all_choices_agree() -> None:
    pairs = np.array([(a, b) for a in range(8) for b in range(a + 1, 8)] * 40)

    strength, _ = fit_bradley_terry(pairs, np.ones(len(pairs)), 8)
    wins = np.bincount(pairs[:, 0], minlength=8) + 0.5  # and half a win over an average level
    chance = 1 / (1 + np.exp(strength - strength[:, None]))

    expected = 40 * (chance.sum(axis=1) - 0.5) + 1 / (1 + np.exp(-strength))
    assert expected == pytest.approx(wins, abs=1e-3)


def test_ranking_leaves_an_order_open_that_choices_do_not_settle() -> None:
    frame = pd.DataFrame(
        {"variation": list("abc") * 8, "seed": np.repeat(range(8), 3), "key": [f"k{i}" for i in range(24)]}
    )
    design = read_design(frame, [("variation", "text"), ("seed", "seed")])
    choices = []
    for seed in range(8):
        a, b, c = (f"k{seed * 3 + i}" for i in range(3))
        choices += [{"left": a, "right": c, "winner": "left"}, {"left": c, "right": b, "winner": "right"}]
        choices += [{"left": a, "right": b, "winner": "left" if seed % 2 else "right"}]
    choices.append({"left": "k2", "right": "k0", "winner": "right"})  # the first pair again, sides changed

    (found,) = rank_choices(design, choices, [])

    ranks = {rank["level"]: (rank["rank_low"], rank["rank_high"]) for rank in found["ranking"]}
    assert ranks == {"a": (1, 2), "b": (1, 2), "c": (3, 3)}
    assert (found["repeated"], found["alike"]) == (1, 1)


def test_ratings_are_merged_and_a_foreign_file_is_refused(measured_results: Path, tmp_path: Path) -> None:
    choice = {"left": "a", "right": "b", "winner": "tie", "at": "1"}
    first = write_ratings(tmp_path / "1.json", {"a": {"stars": 1}}, [choice])
    second = write_ratings(tmp_path / "2.json", {"a": {"stars": 3}, "b": {"stars": 2}}, [choice])
    add_ratings(measured_results, first)
    add_ratings(measured_results, second)

    kept = load_ratings(measured_results / RATINGS_JSON)
    assert {name: mark["stars"] for name, mark in kept.marks.items()} == {"a": 3, "b": 2}
    assert len(kept.choices) == 1
    for text in ("[]", "{}", "no json", '{"schema": 2, "ratings": {}, "choices": []}'):
        (tmp_path / "3.json").write_text(text, "utf-8")
        with pytest.raises(UsageError, match=r"3\.json is not a file of ratings"):
            add_ratings(measured_results, tmp_path / "3.json")


def test_half_a_character_in_a_note_loses_nothing_else(measured_results: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.json"
    given.write_text('{"schema": 1, "ratings": {"a": {"stars": 2, "note": "good \\ud83d"}}, "choices": []}', "utf-8")

    add_ratings(measured_results, given)

    assert load_ratings(measured_results / RATINGS_JSON).marks == {"a": {"stars": 2, "note": "good ?"}}


def test_marks_that_the_page_does_not_write_are_refused_and_never_read(measured_results: Path, tmp_path: Path) -> None:
    key = RecordedResults.open(measured_results).table()["key"][0]
    for mark in ({"stars": "x"}, {"stars": 17}, {"stars": True}, {"note": 3}, "5"):
        given = write_ratings(tmp_path / "given.json", {key: mark})
        with pytest.raises(UsageError, match=f"{key} has no rating that the page writes"):
            add_ratings(measured_results, given)
        write_ratings(measured_results / RATINGS_JSON, {key: mark, f"{key}.1": {"stars": 2}})
        assert RecordedResults.open(measured_results).table()["rating"].tolist()[0] == 2.0


def test_two_choices_that_agree_separate_nothing_and_twelve_do() -> None:
    def rank(games: int) -> tuple[float, float]:
        pairs = np.array([[0, 1]] * games)
        strength, errors = fit_bradley_terry(pairs, np.ones(games), 2)
        return float(strength[0] - strength[1]), float(2 * np.sqrt(errors[0, 0] + errors[1, 1] - 2 * errors[0, 1]))

    assert rank(2)[0] < rank(2)[1]
    assert rank(12)[0] > rank(12)[1]
