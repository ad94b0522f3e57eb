"""Distances of text-to-image: which axis decides, with a new seed as the yardstick."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sweep.study.findings import describe_distances
from sweep.study.measuring.measurements import measure_axis_distances
from sweep.study.study import make_study
from sweep.study.study_design import add_bookkeeping, read_design
from sweep.types import Scalar
from tests.support.study_images import mixed, photo, write_results

SEASONS = {"spring": (60, 160, 60), "autumn": (200, 110, 30)}
POINTS: list[dict[str, Scalar]] = [
    {"season": season, "hat": hat, "seed": seed} for season in SEASONS for hat in ("none", "straw") for seed in (1, 2)
]


def paint(values: Mapping[str, Scalar]) -> Image.Image:
    """The season decides the colour, the seed a part of the texture, the hat nothing."""
    flat = Image.new("RGB", (96, 96), SEASONS[str(values["season"])])
    return mixed(flat, photo(int(values["seed"] or 0), 96, 96), 0.1)


@pytest.fixture
async def seasons(tmp_path: Path) -> Path:
    kinds = {"season": "text", "hat": "text", "seed": "seed"}
    return await write_results(tmp_path / "seasons", POINTS, paint, kinds=kinds)


def test_the_axis_that_decides_is_named_with_a_new_seed_as_yardstick(seasons: Path) -> None:
    study = make_study(seasons, workers=0)

    distances = study.data["distances"]
    assert [each["axis"] for each in distances] == ["season", "seed", "hat"]
    assert [each["pairs"] for each in distances] == [4, 4, 4]
    assert distances[2]["mean"] == 0
    assert "(2 is about a just visible step; 8 pairs, no interval)" in " ".join(study.words)
    text = next(each["text"] for each in study.data["words"] if each["headline"])
    assert text == "The image depends most on season. Whether a new seed changes the image more is open."
    assert set(study.distances.columns) == {"metric", "axis", "a", "b", "row_a", "row_b", "distance"}


def test_pairs_that_lost_an_image_are_not_called_drawn(seasons: Path) -> None:
    min((seasons / "images").iterdir()).unlink()

    words = " ".join(make_study(seasons, workers=0).words)

    assert "(2 is about a just visible step; 6 of 8 pairs, no interval)" in words


def test_an_axis_without_effect_is_named_by_pixels_and_not_by_files(seasons: Path) -> None:
    study = make_study(seasons, workers=0)

    assert "Nothing changes along hat: all 2 levels gave the same images." in " ".join(study.words)
    assert [(each["axis"], each["all"]) for each in study.data["equal"]] == [("hat", True)]


def test_no_axis_decides_images_that_look_the_same(tmp_path: Path) -> None:
    def paint_hue(values: Mapping[str, Scalar]) -> Image.Image:
        return Image.new("RGB", (32, 32), (60, 160 + (values["season"] == "autumn"), 60))

    points: list[dict[str, Scalar]] = [
        {"season": season, "hat": hat} for season in SEASONS for hat in ("none", "straw")
    ]
    kinds = {"season": "text", "hat": "text"}
    folder = anyio.run(partial(write_results, tmp_path / "same", points, paint_hue, kinds=kinds))
    words = " ".join(make_study(folder, workers=0).words)
    assert "No axis changes the image visibly." in words
    assert "depends most" not in words


def test_images_with_a_source_have_no_distances(results: Path) -> None:
    assert make_study(results, metrics=["ssim"], workers=0).data["distances"] == []


async def test_images_of_a_batch_are_compared_by_their_number(tmp_path: Path) -> None:
    def paint_batch(values: Mapping[str, Scalar]) -> list[Image.Image]:
        return [paint({**values, "seed": seed}) for seed in range(3 if values["hat"] == "straw" else 2)]

    points: list[dict[str, Scalar]] = [
        {"season": season, "hat": hat} for season in SEASONS for hat in ("none", "straw")
    ]
    kinds = {"season": "text", "hat": "text"}
    folder = await write_results(tmp_path / "batches", points, paint_batch, kinds=kinds)

    plain = await anyio.to_thread.run_sync(lambda: make_study(folder, workers=0))
    against = await anyio.to_thread.run_sync(lambda: make_study(folder, workers=0, baseline={"hat": "none"}))

    pairs = {each["axis"]: (each["pairs"], each["mean"]) for each in plain.data["distances"]}
    assert pairs["season"][0] == 5
    assert pairs["hat"] == (4, 0)
    assert [(each["axis"], each["all"]) for each in plain.data["equal"]] == [("hat", True)]
    assert against.table["ssim"].dropna().tolist() == [1.0] * 8


def test_axes_are_not_compared_at_a_strength_of_zero(tmp_path: Path) -> None:
    points = [{"denoise_strength": s, "hat": hat, "seed": 1} for s in (0.0, 0.5) for hat in ("bowler", "fez")]
    kinds = {"denoise_strength": "number", "hat": "text", "seed": "seed"}

    def paint_hat(values: Mapping[str, Scalar]) -> Image.Image:
        is_hat = bool(values["denoise_strength"]) and values["hat"] == "fez"
        return Image.new("RGB", (32, 32), (200, 30, 30) if is_hat else (30, 30, 200))

    begun = anyio.run(partial(write_results, tmp_path / "begun", points[:2], paint_hat, kinds=kinds))
    assert make_study(begun, metrics=["sharpness"], workers=0).data["equal"] == []
    ended = anyio.run(partial(write_results, tmp_path / "ended", points, paint_hat, kinds=kinds))
    assert make_study(ended, metrics=["sharpness"], workers=0).data["equal"] == []


def test_drawn_pairs_are_of_all_levels(tmp_path: Path) -> None:
    for season, (red, green, blue) in {**SEASONS, "summer": (61, 160, 60)}.items():
        Image.new("RGB", (8, 8), (red, green, blue)).save(tmp_path / f"{season}.png")
    points = [(season, steps) for steps in range(100) for season in ("spring", "summer", "autumn")]
    frame = pd.DataFrame(points, columns=["season", "steps"])
    frame = add_bookkeeping(frame.assign(image_path=[f"{season}.png" for season, _ in points]))
    design = read_design(frame, [("season", "text"), ("steps", "integer")])

    season_pairs = next(each for each in measure_axis_distances(design, tmp_path) if each["axis"] == "season")

    near = sum(distance < 5 for distance in season_pairs["distance"])
    assert season_pairs["pairs"] == 300
    assert 20 < near < 60


def write_order(light: float, steps: float, spread: float, rng: np.random.Generator) -> str:
    """Write the sentence on axes whose images lie so far apart on average, with four seeds that differ by `spread`."""
    seeds = [1, 2, 3, 4]
    means = {"light": light + spread * rng.normal(size=4), "steps": steps + spread * rng.normal(size=4)}
    found = [
        {"axis": axis, "seed": False, "mean": each.mean(), "pairs": 4, "a": [0, 1, 2, 3], "b": [0, 1, 2, 3]}
        | {"distance": each.tolist()}
        for axis, each in sorted(means.items(), key=lambda item: -item[1].mean())
    ]
    rows = {"key": ["k"] * 4, "axes": {"seed": seeds}}
    data: Any = {"distances": found, "design": {"seed_axis": "seed"}, "rows": rows}
    return next(describe_distances(data))["text"]


def test_axes_are_ordered_only_where_seeds_show_it() -> None:
    """Of axes that change images alike, about 1 in 20 pairs is ordered for all seeds."""
    rng = np.random.default_rng(1)
    alike = [write_order(10, 10, 2, rng) for _ in range(100)]

    assert sum(text.startswith("The image depends most on") for text in alike) <= 10
    assert write_order(20, 10, 1, rng) == "The image depends most on light."
    unsure = write_order(10.5, 10, 2, rng)
    assert unsure in {
        "Images differ most along light; with other seeds it may be steps.",
        "Images differ most along steps; with other seeds it may be light.",
    }


def test_no_axis_is_called_both_the_strongest_and_weaker_than_a_new_seed() -> None:
    """Along light all seeds agree, along steps, where images differ less, they do not: that shows nothing of steps."""
    kinds = {"seed": [20.0] * 4, "light": [10.0, 10.1, 10.2, 10.1], "steps": [1.0, 18.0, 2.0, 17.0]}
    rows = [(seed, (seed + 1) % 4) for seed in range(4)]
    found: Any = [
        {"axis": name, "seed": name == "seed", "mean": float(np.mean(values)), "pairs": 4, "distance": values}
        | {"a": [a for a, _ in rows], "b": [b if name == "seed" else a for a, b in rows]}
        for name, values in kinds.items()
    ]
    data: Any = {"distances": found, "design": {"seed_axis": "seed"}}
    data["rows"] = {"key": ["k"] * 4, "axes": {"seed": [0, 1, 2, 3]}}

    assert next(describe_distances(data))["text"] == "No axis changes the image as much as a new seed does."
