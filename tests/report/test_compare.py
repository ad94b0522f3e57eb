"""Comparing runs: points are paired by their values, and what moved is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from anyio.to_thread import run_sync

from sweep.errors import RecordError, UsageError
from sweep.report.compare import Comparison, _find_largest_difference, compare_runs, count_shared
from sweep.types import Scalar
from tests.report.painted import EXPERIMENT, Plan, paint_folder
from tests.report.parsed_page import opened

STRENGTHS: dict[str, Sequence[Scalar]] = {"denoise_strength": [0.2, 0.4, 0.6], "seed": [42, 43]}
BIG = (192, 160)


async def compared(tmp_path: Path, a: Plan, b: Plan) -> Comparison:
    before, after = await paint_folder(tmp_path / "before", a), await paint_folder(tmp_path / "after", b)
    return await run_sync(compare_runs, before, after)


async def test_compare_counts_equal_files(tmp_path: Path) -> None:
    found = await compared(tmp_path, Plan(axes=STRENGTHS, size=BIG), Plan(axes=STRENGTHS, size=BIG))
    assert (found.same, found.alike, found.moved, found.only_a, found.only_b) == (6, 0, 0, 0, 0)
    assert (found.table["between_ssim"] == 1).all()
    assert (found.table["change_ssim"] == 0).all()


async def test_compare_counts_and_names_moved_images(tmp_path: Path) -> None:
    plan = Plan(axes=STRENGTHS, size=BIG)
    found = await compared(
        tmp_path, plan, replace(plan, axes={"seed": [43, 44], "denoise_strength": [0.4, 0.2, 0.9]}, shade=90)
    )
    assert len(found.table) == 2
    assert found.moved == 2
    assert (found.only_a, found.only_b) == (4, 4)
    assert set(found.table["seed"]) == {43}
    assert (found.table["between_delta_e"] > 0).all()
    assert "largest difference" in found.words[1]


async def test_compare_page_shows_both_images_of_a_point(tmp_path: Path) -> None:
    plan = Plan(axes=STRENGTHS, size=BIG)
    found = await compared(tmp_path, plan, replace(plan, shade=60))
    told = (await run_sync(opened, found.page)).data()
    assert found.page.name == "compare-before-after.html"
    assert told["runs"] == {"shown": "after", "other": "before"}
    assert told["images"]["prefix"] == "after/"
    assert told["others"]["prefix"] == "before/"
    assert len(told["others"]["thumb"].get("i") or told["others"]["thumb"]["v"]) == 6


async def test_compare_page_lists_metrics_between_runs_first(tmp_path: Path) -> None:
    plan = Plan(axes=STRENGTHS, size=BIG)
    found = await compared(tmp_path, plan, replace(plan, shade=60))
    columns = (await run_sync(opened, found.page)).data()["columns"]
    told = [(column["name"], column["label"]) for column in columns if column["kind"] == "metric"]
    assert told[:3] == [
        ("between_ssim", "A–B SSIM"),
        ("between_structure_coarse", "A–B layout of light and dark"),
        ("between_delta_e", "A–B colour difference"),
    ]
    assert [label for _, label in told[3:]] == ["Δ SSIM", "Δ colour difference", "SSIM", "colour difference"]


async def test_compare_lists_changed_inputs(tmp_path: Path) -> None:
    a = Plan(axes=STRENGTHS, size=BIG, experiment=f"{EXPERIMENT}inputs: {{{{cfg_scale: 7.5, steps: 20}}}}\n")
    b = replace(a, experiment=f"{EXPERIMENT}inputs: {{{{cfg_scale: 4, steps: 20, scheduler: euler}}}}\n")
    found = await compared(tmp_path, a, b)
    assert found.words[-1] == "Settings that differ: cfg_scale 7.5 → 4; scheduler not set → euler."


async def test_compare_skips_points_without_an_image(tmp_path: Path) -> None:
    plan = Plan(axes=STRENGTHS, size=BIG)
    found = await compared(tmp_path, plan, replace(plan, failed={0: "broke"}))
    assert found.unmeasured == 1
    assert "1 lacks an image in one run" in found.words[0]


async def test_compare_names_an_axis_that_only_one_run_has(tmp_path: Path) -> None:
    one_level: dict[str, Sequence[Scalar]] = {**STRENGTHS, "variation": ["studio"]}
    found = await compared(tmp_path, Plan(axes=STRENGTHS, size=BIG), Plan(axes=one_level, size=BIG))
    assert len(found.table) == 6
    assert "Not compared: variation" in found.words[-1]


async def test_compare_rejects_runs_without_a_common_axis(tmp_path: Path) -> None:
    a, b = Plan(axes={"seed": [1]}, source=False), Plan(axes={"variation": ["studio"]}, source=False)
    with pytest.raises(UsageError, match="no axis in common"):
        await compared(tmp_path, a, b)


async def test_compare_rejects_a_folder_without_results(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordError):
        await run_sync(compare_runs, folder, tmp_path / "nothing")


async def test_compare_names_the_axes_that_have_no_level_in_common(tmp_path: Path) -> None:
    async def explain(name: str, **axes: Sequence[Scalar]) -> str:
        found = await compared(tmp_path / name, Plan(axes=STRENGTHS), Plan(axes={**STRENGTHS, **axes}))
        assert found.words[0] == "No point is in both runs."
        assert not any("paired in the order" in word for word in found.words)
        return found.words[1]

    strengths = await explain("strengths", denoise_strength=[0.3, 0.5])
    assert strengths == "They have no level of denoise_strength in common."
    both = await explain("both", denoise_strength=[0.3, 0.5], seed=[1])
    assert both == "They have no level of denoise_strength and of seed in common."
    seeds = await explain("seeds", seed=[1, 2, 3])
    assert "have different values of seed: give them in the experiment file, as in seed: {start: 1, count: 3}" in seeds


async def test_points_that_only_one_run_tells_apart_are_said_to_be_paired_in_order(tmp_path: Path) -> None:
    common: dict[str, Sequence[Scalar]] = {"denoise_strength": [0.2], "seed": [1]}
    a = await paint_folder(tmp_path / "a", Plan(axes={**common, "variation": ["warm", "cold"]}))
    b = await paint_folder(tmp_path / "b", Plan(axes=common))

    found = await run_sync(compare_runs, a, b)

    assert found.words[0] == "Of 1 point in both runs, 1 has the same image file."
    assert "only one run has this axis; points that differ in it alone are paired in the order" in found.words[-1]
    assert "1 cell in common" in await run_sync(count_shared, a, b)
    assert "The image is the same" in await run_sync(count_shared, a, b)


async def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    a, b = await paint_folder(tmp_path / "monday"), await paint_folder(tmp_path / "tuesday")
    assert (await run_sync(count_shared, a, b)).startswith("monday and tuesday have 12 cells in common")


def test_the_largest_difference_is_one_of_colour_where_shapes_are_alike() -> None:
    table = pd.DataFrame({"between_ssim": [0.999, 0.996, None], "between_delta_e": [1.4, 0.2, None]})
    assert _find_largest_difference(table) == (0, "ΔE 1.4")
    table.loc[1, "between_ssim"] = 0.7
    assert _find_largest_difference(table) == (1, "SSIM 0.7")


async def test_compare_page_elsewhere_has_previews_and_images_without_javascript(tmp_path: Path) -> None:
    plan = Plan(axes=STRENGTHS, size=BIG)
    a, b = (
        await paint_folder(tmp_path / "before", plan),
        await paint_folder(tmp_path / "after", replace(plan, shade=60)),
    )
    found = await run_sync(lambda: compare_runs(a, b, out=tmp_path / "far" / "away" / "page.html"))
    text = found.page.read_text("utf-8")
    assert '<span class="previews">' in text
    assert text.count('<li><img src="data:image/webp;base64,') == 6
