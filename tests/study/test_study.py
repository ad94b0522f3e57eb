"""The whole: the JSON's contract, the words, and what is said when little or nothing can be said."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sweep
from sweep.errors import UsageError
from sweep.study.study import Study, make_study
from sweep.study.study_json import StudyJson
from tests.support.planted_studies import AXES, planted
from tests.support.study_folders import KINDS, POINTS, SOURCE
from tests.support.study_images import write_results
from tests.support.typed_dicts import misfit


def simulated(frame: pd.DataFrame | None = None, **options: Any) -> Study:
    frame = planted(np.random.default_rng(1)) if frame is None else frame
    axes = [axis for axis in AXES if axis[0] in frame]
    return make_study(frame, axes=axes, metrics=["structure_coarse"], **options)


def keeps_its_contract(found: Study) -> None:
    text = json.dumps(found.to_json(), allow_nan=False)
    assert misfit(json.loads(text), StudyJson) is None
    rows = found.data["rows"]
    lengths = {len(rows["key"]), len(rows["index"]), len(rows["image_path"]), len(rows["reason"])}
    lengths |= {len(levels) for levels in rows["axes"].values()} | {len(values) for values in rows["metrics"].values()}
    assert lengths == {found.data["design"]["rows"]}
    for curve in found.data["curves"]:
        assert len(curve["mean"]) == len(curve["low"]) == len(curve["high"]) == len(curve["n"]) == len(curve["x"])


def test_a_measured_folder_says_everything(results: Path) -> None:
    found = make_study(results, workers=0)

    keeps_its_contract(found)
    assert found.data["name"] == "tested"
    assert found.data["design"]["reference"] == "source"
    assert (found.data["design"]["balanced"], found.data["design"]["cells"]) == (True, 30)
    coarse = next(c for c in found.data["curves"] if c["metric"] == "structure_coarse" and not c["group"])
    assert coarse["falling"] is True
    assert coarse["n"] == [3] * 5
    assert all(low is not None for low in coarse["low"])
    headlines = [s["text"] for s in found.data["words"] if s["headline"]]
    assert headlines[0].startswith("Use denoise strength 0")
    assert "stayed at 0.9 or more in 6 of 6 images at 0." in headlines[0]
    assert any(text.startswith("Most important for layout of light and dark: denoise strength") for text in headlines)
    assert str(results) not in json.dumps(found.to_json())


def test_results_have_a_study_and_a_report(measured_results: Path) -> None:
    opened = sweep.Results.open(measured_results)

    found = opened.study(metrics=["ssim"], workers=0)

    assert found.words == make_study(opened, metrics=["ssim"], workers=0).words
    assert opened.report(study=found) == measured_results / "report.html"


def test_the_frames_are_tidy(measured_results: Path) -> None:
    found = make_study(measured_results, workers=0)

    assert len(found.metrics) == 30
    assert {"denoise_strength", "ssim", "diversity"} <= set(found.metrics.columns)
    assert len(found.curves[(found.curves["metric"] == "ssim") & (found.curves["group"] == "")]) == 5
    assert found.effects[found.effects["metric"] == "ssim"]["term"].iloc[0] == "denoise_strength"
    assert {"a", "b", "difference", "p_adjusted"} <= set(found.differences.columns)
    assert sorted(found.seeds["seed"].unique()) == [42, 43, 44]


def test_it_is_saved_whole(measured_results: Path, tmp_path: Path) -> None:
    found = make_study(measured_results, workers=0)

    paths = found.save(tmp_path / "out put")

    assert {path.name for path in paths} == {
        "study.json",
        "metrics.csv",
        "recommendations.csv",
        "holds.csv",
        "curves.csv",
        "effects.csv",
        "differences.csv",
        "seeds.csv",
    }
    assert json.loads((tmp_path / "out put" / "study.json").read_text("utf-8")) == found.to_json()
    assert len(pd.read_csv(tmp_path / "out put" / "metrics.csv")) == 30
    assert sorted(p.name for p in (tmp_path / "out put").iterdir()) == sorted(path.name for path in paths)


async def test_all_failed_is_said(tmp_path: Path) -> None:
    import anyio

    folder = await write_results(tmp_path / "r", POINTS, lambda _: None, kinds=KINDS, source=SOURCE)

    found = await anyio.to_thread.run_sync(lambda: make_study(folder, workers=0))

    keeps_its_contract(found)
    assert found.words[0] == "No results: 30 images failed, none was rendered."
    assert found.data["design"]["failed"] == 30


async def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    import anyio

    folder = await write_results(tmp_path / "r", [], lambda _: None, kinds=KINDS)

    found = await anyio.to_thread.run_sync(lambda: make_study(folder, workers=0))

    keeps_its_contract(found)
    assert found.words == ("No results yet.",)


def test_every_image_unreadable_is_said(results: Path) -> None:
    for image in results.glob("images/*.png"):
        image.write_bytes(b"gone")

    found = make_study(results, workers=0)

    keeps_its_contract(found)
    assert found.words[0] == "None of the images is measured."
    assert all(fact["failed"] == 30 for fact in found.data["metrics"] if fact["name"] == "ssim")


FRAME = planted(np.random.default_rng(1))


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (FRAME[FRAME["seed"] == 42], "There is only one seed, so values have no intervals"),
        (FRAME.drop(columns="seed"), "There is no seed axis, so values have no intervals"),
        (FRAME[FRAME["denoise_strength"] == 0.5], "is higher with prompt text"),
        (FRAME.iloc[:1], "There is only one seed, so values have no intervals"),
        (
            FRAME.sample(frac=0.7, random_state=1),
            "40 of 132 combinations have no image (40 not asked for",
        ),
        (FRAME.assign(other=FRAME["prompt_text"] + "!"), "Levels of other and prompt text change together"),
        (FRAME.iloc[:0], "No results yet."),
        (
            FRAME.assign(structure_coarse=0.95),
            "Any denoise strength tested will do: layout of light and dark stayed at 0.9 or more in 12 of 12 images",
        ),
        (FRAME.assign(structure_coarse=math.nan), "None of the images is measured."),
    ],
    ids=["one seed", "no seed", "no curve", "one row", "holes", "zipped", "empty", "constant", "unmeasured"],
)
def test_what_cannot_be_said_is_said(frame: pd.DataFrame, said: str) -> None:
    axes = [*(axis for axis in AXES if axis[0] in frame), *([("other", "text")] if "other" in frame else [])]

    found = make_study(frame, axes=axes, metrics=["structure_coarse"])

    keeps_its_contract(found)
    assert said in " ".join(found.words)


def test_no_number_without_interval_and_n() -> None:
    for text in simulated().words:
        if any(word in text for word in ("stay below", "is higher with", "explains", "fallen")):
            assert "95 %, n = 4 seeds" in text, text


def test_a_recommendation_turns_with_the_metrics_direction() -> None:
    frame = FRAME.assign(delta_e=20 * (1 - FRAME["structure_coarse"]))

    found = make_study(frame, axes=AXES, metrics=["delta_e"], thresholds={"delta_e": (4.0,)})

    assert found.words[0].startswith("Use denoise strength 0.4 or less: colour difference stayed at 4 or less")


def test_a_neutral_metric_is_not_recommended() -> None:
    frame = FRAME.assign(sharpness=FRAME["structure_coarse"])

    found = make_study(frame, axes=AXES, metrics=["sharpness"], thresholds={"sharpness": (0.5,)})

    assert found.words[0].startswith("Sharpness falls along denoise strength")
    assert "It passes 0.5 between 0.5 and 0.6." in found.words[0]


def test_axes_of_a_plain_table_are_found_and_its_metrics_are_named() -> None:
    found = make_study(FRAME, metrics=["structure_coarse"])

    assert [(a["name"], a["kind"]) for a in found.data["design"]["axes"]] == [
        ("denoise_strength", "number"),
        ("prompt_text", "text"),
        ("seed", "seed"),
    ]
    assert [m["name"] for m in found.data["metrics"]] == ["structure_coarse"]
    with pytest.raises(UsageError, match="which columns are measured"):
        make_study(FRAME)


def test_seeds_of_their_own_in_every_cell_are_no_pairs() -> None:
    frame = FRAME.assign(seed=np.arange(len(FRAME)))

    found = simulated(frame)

    keeps_its_contract(found)
    assert found.data["design"]["seeds_shared"] is False
    assert found.data["curves"][0]["n"] == [4] * 11
    assert found.data["seeds"] == []
    assert found.data["design"]["seeds"] == 4, "of each cell"
    assert not [share for effects in found.data["effects"] for share in effects["shares"] if "seed" in share["axes"]]
    assert "Seeds differ between points" in " ".join(found.words)


def test_large_seeds_stay_exact() -> None:
    frame = FRAME.assign(seed=(FRAME["seed"] + 2**53 + 1).astype("Int64"))

    found = simulated(frame)

    assert {row["seed"] for row in found.data["seeds"]} == {2**53 + 1 + seed for seed in range(42, 46)}


def test_an_axis_that_is_not_in_the_table_is_told() -> None:
    with pytest.raises(UsageError, match=r"no column denoise_strenth\. Did you mean denoise_strength\?"):
        make_study(FRAME, axes=[("denoise_strenth", "number")], metrics=["structure_coarse"])


def test_levels_keep_their_type_and_missing_ones_are_null() -> None:
    levels = pd.Series([None, "a", "b"], dtype="str")
    frame = pd.DataFrame(
        {"lora": levels.repeat(4).reset_index(drop=True), "flag": [True, False] * 6, "y": np.arange(12.0)}
    )

    found = make_study(frame, axes=[("lora", "text"), ("flag", "boolean")], metrics=["y"])

    keeps_its_contract(found)
    assert [axis["levels"] for axis in found.data["design"]["axes"]] == [[None, "a", "b"], [True, False]]


def test_thousands_of_rows_are_studied() -> None:
    rng = np.random.default_rng(0)
    frame = pd.concat([planted(rng, seeds=25) for _ in range(5)], keys=range(5), names=["cfg_scale"]).reset_index(0)
    frame = frame.reset_index(drop=True)

    found = make_study(frame, axes=[("cfg_scale", "integer"), *AXES], metrics=["structure_coarse"])

    assert found.data["design"]["images"] == len(frame) == 4125
    keeps_its_contract(found)


def random_design(points: int, *, seeds: int = 1) -> pd.DataFrame:
    """Two continuous axes drawn at random, as a Latin hypercube has them: no level ever repeats."""
    rng = np.random.default_rng(3)
    strength, guidance = np.sort(rng.random(points)), rng.random(points) * 10
    y = np.repeat(1 - strength + 0.02 * guidance, seeds) + rng.normal(0, 0.01, points * seeds)
    return pd.DataFrame(
        {
            "denoise_strength": strength.repeat(seeds),
            "cfg_scale": guidance.repeat(seeds),
            "seed": np.tile(np.arange(seeds), points),
            "structure_coarse": y,
        }
    )


@pytest.mark.parametrize(("points", "seeds"), [(60, 1), (60, 4), (1000, 1)])
def test_a_random_design_is_studied_without_a_grid(points: int, seeds: int) -> None:
    axes = [("denoise_strength", "number"), ("cfg_scale", "number"), ("seed", "seed")]

    found = make_study(random_design(points, seeds=seeds), axes=axes, metrics=["structure_coarse"])

    keeps_its_contract(found)
    effects = found.data["effects"][0]
    assert effects["shares"][0]["axes"] == ["denoise_strength"]
    assert (effects["shares"][0]["share"]["value"] or 1.0) > 0.6
    assert "was taken in 8 ranges" in (effects["reason"] or "")
    assert "steps together" not in " ".join(found.words)
    assert found.data["curves"][0]["falling"] is True


def test_numbers_that_rise_together_cannot_be_told_apart() -> None:
    frame = random_design(40).assign(cfg_scale=lambda table: table["denoise_strength"] * 3)
    axes = [("denoise_strength", "number"), ("cfg_scale", "number")]

    found = make_study(frame, axes=axes, metrics=["structure_coarse"])

    assert "Levels of cfg scale and denoise strength change together" in " ".join(found.words)


def test_study_charts_are_vega_lite_that_a_notebook_draws(measured_results: Path) -> None:
    found = make_study(measured_results, workers=0)

    chart = found.to_vega_lite("ssim", "denoise_strength")

    assert chart["data"]["values"][0].keys() == {"x", "mean", "low", "high", "group"}
    assert "dramatic" in {row["group"].partition("=")[2] for row in chart["data"]["values"]}
    colour = chart["encoding"]["color"]
    assert (colour["sort"], colour["legend"]["symbolOpacity"]) == (None, 1)  # the order of the grid; no pale legend
    (shown,) = [value for kind, value in chart._repr_mimebundle_().items() if "vegalite" in kind]
    assert json.loads(json.dumps(shown, allow_nan=False)) == chart
    printed = io.StringIO()
    chart._repr_pretty_(SimpleNamespace(text=printed.write), False)
    assert printed.getvalue().startswith("Vega-Lite chart: ")  # where nothing draws it, as in a page made of a notebook
    with pytest.raises(UsageError, match="no curve of sssim"):
        found.to_vega_lite("sssim")
    with pytest.raises(UsageError, match="no curve of ssim along variation"):
        found.to_vega_lite("ssim", "variation")


def test_study_repr_names_size_and_first_finding() -> None:
    assert repr(simulated()).startswith("Study(table: 132 images, 1 metrics; Use denoise strength ")
