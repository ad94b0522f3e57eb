"""Effects on what belongs to a cell: how different its images are from each other."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import combinations
from pathlib import Path

import anyio
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sweep.study.design import add_bookkeeping, read_design
from sweep.study.schema import Effects
from sweep.study.stats.effects import Cells, collect_cells, compute_cell_effects
from sweep.study.study import make_study
from sweep.types import Scalar
from tests.support.study_images import photo, write_results

AXES = (("cfg_scale", "number"), ("look", "text"), ("seed", "seed"))
SEEDS = 5


def spread(cell: tuple[int, int]) -> float:
    return 1.0 + cell[0] + 0.2 * cell[1]


def drawn(rng: np.random.Generator, seeds: int = SEEDS) -> dict[tuple[int, int], list[float]]:
    """Points on a line, farther apart the higher cfg_scale is."""
    cells = [(c, k) for c in range(3) for k in range(2)]
    return {cell: rng.normal(0, spread(cell), seeds).tolist() for cell in cells}


def table(points: Mapping[tuple[int, int], list[float]]) -> pd.DataFrame:
    rows = []
    for (c, k), values in points.items():
        for seed, value in enumerate(values):
            others = [abs(value - other) for i, other in enumerate(values) if i != seed]
            distance = sum(others) / len(others) if others else float("nan")
            rows.append({"cfg_scale": float(c), "look": f"look {k}", "seed": seed, "diversity": distance})
    return add_bookkeeping(pd.DataFrame(rows))


def effects(frame: pd.DataFrame) -> Effects:
    return compute_cell_effects(read_design(frame, AXES), "diversity")


def cells(frame: pd.DataFrame) -> Cells:
    return collect_cells(read_design(frame, AXES), "diversity")


def test_a_cell_is_its_mean_pairwise_distance_with_and_without_a_seed() -> None:
    points = drawn(np.random.default_rng(1))
    found = cells(table(points))

    for unit in range(SEEDS):
        for i, values in enumerate(points.values()):
            left = [value for k, value in enumerate(values) if k != unit]
            pairs = [abs(a - b) for a, b in combinations(left, 2)]
            assert found.without(np.intp(unit))[i] == pytest.approx(sum(pairs) / len(pairs))
            assert found.values[i] == pytest.approx(np.mean([abs(a - b) for a, b in combinations(values, 2)]))


def test_a_seed_explains_nothing_of_a_distance_between_seeds() -> None:
    found = effects(table(drawn(np.random.default_rng(1))))

    assert found["method"] == "exact"
    assert found["rest"] == pytest.approx(0.0, abs=1e-9)
    assert found["shares"][0]["axes"] == ["cfg_scale"]
    assert not any("seed" in share["axes"] for share in found["shares"])
    assert found["n"] == 30
    first = found["shares"][0]["share"]
    assert (first["low"] or 0) < (first["value"] or 0) <= (first["high"] or 0)
    assert first["n"] == SEEDS


def test_the_intervals_hold_what_other_seeds_give() -> None:
    rng, inside = np.random.default_rng(5), 0
    many = {c: [2 * spread(c) / np.pi**0.5] * 2 for c in drawn(rng)}  # the mean |x − y| of normal x and y
    truth = np.array(list(many.values()))[:, 0].reshape(3, 2)
    share = truth.mean(axis=1).var() / truth.var()
    for _ in range(200):
        found = effects(table(drawn(rng, seeds=12)))
        first = next(s["share"] for s in found["shares"] if s["axes"] == ["cfg_scale"])
        inside += bool((first["low"] or 0) <= share <= (first["high"] or 0))

    assert inside >= 170  # of a share near its bound of 1, by jackknife


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_are_said(seeds: int) -> None:
    found = effects(table(drawn(np.random.default_rng(1), seeds=seeds)))

    said = found["reason"] if seeds == 1 else found["shares"][0]["share"]["reason"]
    assert ("no axis" if seeds == 1 else "needs three") in (said or "")


def test_a_cell_with_fewer_images_is_still_a_value() -> None:
    points = drawn(np.random.default_rng(2))
    points[0, 0] = points[0, 0][:3]
    points.pop((2, 1))

    found = effects(table(points))

    assert found["method"] == "type II"
    assert "cells are missing" in (found["reason"] or "")


def test_two_cells_tell_no_axes_apart() -> None:
    """Two axes changed between them: either, or both, may be why they differ."""
    points = drawn(np.random.default_rng(2))
    frame = table({cell: points[cell] for cell in ((0, 0), (1, 1))})

    assert effects(frame)["reason"] == "fewer than three points have images of two seeds"


async def test_repeats_of_a_point_are_no_diversity(tmp_path: Path) -> None:
    """Every image twice: the mean distance between seeds is what it is without the repeats."""
    kinds = {"cfg_scale": "number", "seed": "seed"}
    once: list[dict[str, Scalar]] = [{"cfg_scale": c, "seed": k} for c in (1.0, 2.0) for k in (1, 2, 3)]

    def paint(values: Mapping[str, Scalar]) -> Image.Image:
        return photo(int(values["seed"] or 0) * 10 + int(float(values["cfg_scale"] or 0)), 64, 64)

    single = await write_results(tmp_path / "once", once, paint, kinds=kinds)
    double = await write_results(tmp_path / "twice", [p for p in once for _ in range(2)], paint, kinds=kinds)

    asked = partial(make_study, workers=0, metrics=["diversity"])
    first, second = [await anyio.to_thread.run_sync(asked, folder) for folder in (single, double)]

    assert [c["value"]["value"] for c in first.data["diversity"]] == [
        pytest.approx(c["value"]["value"]) for c in second.data["diversity"]
    ]
    assert second.table["diversity"].isna().sum() == 6
    assert second.data["metrics"][0]["failed"] == 0
