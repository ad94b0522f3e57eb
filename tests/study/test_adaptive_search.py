"""Adaptive designs: decisions follow from the record alone, stay within the budget, and the interval covers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.adaptive import GRIDS, Population, draw_advice, simulate_search
from sweep.engine import RunOptions, run
from sweep.errors import UsageError
from sweep.experiment import Experiment
from sweep.sandbox import sandbox_server
from sweep.study import choose_next_points, make_study, write_decision
from sweep.study.adaptive_search import SearchDecision, SearchPoint, SearchTask, estimate_crossing, summarise_search
from sweep.study.advice import describe_search


@st.composite
def searches(draw: st.DrawFn) -> tuple[SearchTask, dict[SearchPoint, float]]:
    """A task and what every image would show; curves may turn, never cross, rise, or fail in places."""
    levels, groups, seeds = draw(st.integers(4, 23)), draw(st.integers(1, 4)), draw(st.integers(4, 7))
    chance = random.Random(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["falling", "rising", "any", "above", "failing"]))
    task = SearchTask(
        levels=tuple(i / levels for i in range(levels)),
        groups=tuple({"prompt": f"p{i}"} for i in range(groups)),
        seeds=seeds,
        threshold=0.5,
        is_weakest_wanted=draw(st.booleans()),
        within=draw(st.sampled_from([0.01, 0.05, 0.3])),
        most=draw(st.integers(0, 60)) + groups * (2 + 4 * math.ceil(math.log2(levels + 1))),
    )
    values = {}
    for group in range(groups):
        for seed in range(seeds):
            place = chance.uniform(0.1, 0.9)
            for i, level in enumerate(task.levels):
                smooth = 1 / (1 + math.exp((level - place) * 9 * (-1 if kind == "rising" else 1)))
                value = {"any": chance.random(), "above": 0.5 + smooth / 2}.get(kind, smooth)
                lost = kind == "failing" and chance.random() < 0.1
                values[SearchPoint(group, seed, i)] = math.nan if lost else value
    return task, values


def play(task: SearchTask, truth: dict[SearchPoint, float], chance: random.Random) -> dict[SearchPoint, float]:
    """Render what is wanted, a few at a time and in any order."""
    known: dict[SearchPoint, float] = {}
    while wanted := SearchDecision(task, known).wanted:
        assert len(set(wanted)) == len(wanted)
        assert not set(wanted) & set(known)
        for point in chance.sample(wanted, chance.randint(1, len(wanted))):
            known[point] = truth[point]
    return known


@given(search=searches(), seed=st.integers(0, 2**32))
def test_decisions_depend_on_the_record_alone_and_keep_to_the_budget(
    search: tuple[SearchTask, dict[SearchPoint, float]], seed: int
) -> None:
    task, truth = search
    known = play(task, truth, random.Random(seed))
    again = play(task, truth, random.Random(seed + 1))
    assert set(known) == set(again)
    assert len(known) <= task.most
    decision = SearchDecision(task, known)
    assert decision.used == len(known)
    found, everything = estimate_crossing(task, decision), SearchDecision(task, truth)
    assert (found["low"] is None) == (found["reason"] is not None)
    assert everything.wanted == []  # what is on record already is used, not rendered again
    assert everything.crossings == decision.crossings
    for (group, s), crossing in decision.crossings.items():
        if crossing.inside:
            first, after = truth[SearchPoint(group, s, crossing.held)], task.threshold
            assert first >= after
            assert task.levels[0] <= crossing.at <= task.levels[-1]


@pytest.mark.parametrize("populations", [4, pytest.param(300, marks=pytest.mark.full)])
def test_simulated_searches_are_narrow_enough_and_cover(populations: int) -> None:
    """Half a width of 0.03 with at most 27 % of 840 images on average, the weakest prompt with at most 12 %."""
    for grid in GRIDS:
        population, rng = Population(grid), np.random.default_rng(1)
        each = [simulate_search(population, rng, weakest=False, at_most=0.3) for _ in range(populations)]
        assert np.mean([one.width for one in each]) <= 0.06
        assert max(one.images for one in each) <= 0.27 * 840
        assert np.mean([one.covers for one in each]) >= (0.93 if populations > 100 else 0.5)
        weakest = [simulate_search(population, rng, weakest=True, at_most=0.12) for _ in range(populations)]
        assert max(one.images for one in weakest) <= 0.12 * 840
        assert np.mean([one.is_right for one in weakest]) >= 0.95


@pytest.mark.parametrize("draws", [3, pytest.param(60, marks=pytest.mark.full)])
def test_advice_holds_for_new_seeds(draws: int) -> None:
    for grid in GRIDS:
        chance = random.Random(grid)
        found = [draw_advice(grid, chance) for _ in range(draws)]
        assert np.mean([missed for _, missed, _ in found]) <= 0.02
        assert np.mean([is_near for _, _, is_near in found]) >= 0.8


DEFINITION: dict[str, Any] = {
    "name": "search",
    "workflow": "img2img",
    "inputs": {"image": "photo.png", "prompt": "a cup", "steps": 4, "width": 64, "height": 64},
    "axes": {
        "denoise_strength": {"start": 0, "stop": 1, "num": 5},
        "variation": ["soft light"],
        "seed": {"start": 1, "count": 4},
    },
    "design": {
        "kind": "adaptive",
        "axis": "denoise_strength",
        "metric": "structure_coarse",
        "threshold": 0.9,
        "for": "each prompt",
        "within": 0.02,
        "at_most": 0.8,
    },
}


def test_a_search_without_crossings_says_why() -> None:
    def write(ending: str | None, *means: float | None) -> str:
        data: Any = make_study(pd.DataFrame({"s": [0.1, 0.2], "m": [1, 2]}), axes=[("s", "number")], metrics=["m"]).data
        crossing = {"value": None, "low": None, "high": None, "reason": "some images failed"}
        groups = [
            {"group": {"variation": name}, "mean": mean, "use": mean, "n": 1, "is_rising": False, "inside": 0}
            for name, mean in zip("ab", means, strict=False)
        ]
        found: Any = {"metric": "ssim", "axis": "denoise_strength", "threshold": 0.9, "goal": "each", "used": 8}
        found |= {"ending": ending, "full": 64, "within": 0.1, "seeds": 4, "seeds_there": 8, "crossing": crossing}
        found |= {"groups": groups, "weakest": None, "possible": [], "use": None}
        return " ".join(sentence["text"] for sentence in describe_search(found, data))

    assert write(None, None, None) == "Not at its end yet, with 8 of the 64 images of the full grid."
    for means in ((None, None), (None, 0.4)):
        lost = write("budget spent", *means)
        assert lost.startswith("No denoise strength can be advised: with every seed of “a”, an image failed"), lost
    assert "is safe for every image" not in write(None, 0.4, None)


def test_a_search_names_what_it_did_not_see() -> None:
    """Groups that cannot be told apart are not called weakest, images that were not rendered do not hold."""
    task = SearchTask(
        levels=tuple(x / 10 for x in range(11)),
        groups=({"v": "a"}, {"v": "b"}),
        seeds=4,
        threshold=0.5,
        within=1.0,
        most=200,
    )
    values: dict[SearchPoint, float] = {}

    def search(shift: float) -> SearchDecision:
        values.clear()
        while (decision := SearchDecision(task, values)).wanted:
            for point in decision.wanted:
                place = 0.45 + 0.05 * ((point.seed + point.group) % 2) + shift * point.group + 0.01 * point.seed
                values[point] = 0.5 + place - task.levels[point.level]
        return decision

    assert search(0.0).find_possible() == (0, 1)
    assert search(0.3).find_possible() == (0,)

    data: Any = make_study(pd.DataFrame({"s": [0.1, 0.2], "m": [1, 2]}), axes=[("s", "number")], metrics=["m"]).data
    crossing = {"value": None, "low": None, "high": None, "reason": "some images failed"}
    group = {"mean": 0.45, "lowest": 0.4, "highest": 0.5, "use": 0.4, "n": 4, "is_rising": False, "inside": 4}
    groups = [{"group": {"v": name}, **group} for name in "ab"]
    found: Any = {"metric": "ssim", "axis": "s", "threshold": 0.9, "goal": "each", "used": 8, "full": 64, "within": 0.1}
    found |= {"ending": "budget spent", "seeds": 4, "seeds_there": 8, "crossing": crossing, "groups": groups}
    found |= {"weakest": {"v": "a"}, "possible": [{"v": "a"}, {"v": "b"}], "use": 0.4}
    advice = next(describe_search(found, data))

    assert advice["text"] == "Use s 0.4 or less: ssim stayed at 0.9 or more in 0 of 0 images rendered there."
    assert "“b” may be as weak. If images only get worse with more s, up to about 1 of 5 new seeds" in advice["detail"]
    assert "fell below 0.9 between 0.4 and 0.5, depending on the seed (4 seeds)." in advice["detail"]
    groups[0] |= {"highest": 0.4, "n": 1}
    assert "fell below 0.9 at 0.4 (1 seed)." in next(describe_search(found, data))["detail"]


def conclude(curve: Callable[[int, float], float], groups: int, seeds: int = 8) -> tuple[Any, list[str]]:
    """Search curves of groups by level to the end; give the result and its sentences."""
    task = SearchTask(
        levels=tuple(x / 10 for x in range(11)),
        groups=tuple({"v": "abc"[group]} for group in range(groups)),
        seeds=seeds,
        threshold=0.5,
        within=0.02,
        most=400,
    )
    values: dict[SearchPoint, float] = {}
    while wanted := SearchDecision(task, values).wanted:
        values |= {point: curve(point.group, task.levels[point.level]) + 1e-3 * point.seed for point in wanted}
    found = summarise_search(task, values, "ssim", "s")
    frame = pd.DataFrame({"s": [task.levels[p.level] for p in values], "v": "a", "ssim": [*values.values()]})
    data: Any = make_study(frame, axes=[("s", "number"), ("v", "text")], metrics=["ssim"]).data
    return found, [f"{each['text']} {each['detail']}" for each in describe_search(found, data)]


def test_a_search_of_curves_that_do_not_pass_the_threshold_does_not_blame_its_budget() -> None:
    found, (advice, ending) = conclude(lambda *_: 0.9, 2)

    assert found["use"] == 1.0
    assert advice.startswith("Use s 1 or less: SSIM stayed at 0.5 or more in 8 of 8 images rendered there.")
    assert ending.startswith("Ended, as some images do not pass the threshold in the range tested, with ")
    assert "safe for every image" not in conclude(lambda _, x: 0.9 - 4 * (x - 0.5) ** 2, 1)[1][0]  # holds in the middle


def test_a_search_of_groups_that_hold_at_different_ends_advises_no_level() -> None:
    found, (advice, _) = conclude(lambda group, x: 1 - x if group else x, 2)

    assert found["use"] is None
    assert found["weakest"] is None
    assert advice.startswith(
        "No s can be advised: some images stay at SSIM 0.5 or more at its low end alone, others at"
    )
    only_rising, _ = conclude(lambda group, x: 0.9 if group else x, 2)
    assert only_rising["use"] == 0.5
    assert only_rising["weakest"] == {"v": "a"}


def test_a_search_whose_images_failed_is_not_called_unfinished() -> None:
    task = SearchTask(levels=(0.0, 1.0), groups=({},), seeds=4, threshold=0.5, within=0.1, most=40)
    values: dict[SearchPoint, float] = {}
    while wanted := SearchDecision(task, values).wanted:
        values |= {point: math.nan if point.seed else 1 - task.levels[point.level] for point in wanted}

    assert summarise_search(task, values, "ssim", "s")["crossing"]["reason"] == "some images failed"


@pytest.mark.slow
async def test_a_run_renders_what_its_design_wants_and_says_how_it_ended(tmp_path: Path) -> None:
    Image.effect_mandelbrot((64, 64), (-2, -1.5, 1, 1.5), 20).convert("RGB").save(tmp_path / "photo.png")
    experiment = await anyio.to_thread.run_sync(Experiment.from_dict, DEFINITION, tmp_path)
    async with sandbox_server() as first, sandbox_server() as second:
        with pytest.raises(UsageError, match="choose_next_points"):
            await run(experiment, [first.url], results=tmp_path)
        servers, options = [first.url, second.url], RunOptions()
        summary = await run(experiment, servers, options=options, results=tmp_path, choose=choose_next_points)
        assert summary.exit_code == 0
        assert summary.completed == summary.points == summary.rendered < 16
        again = await run(experiment, servers, results=tmp_path, choose=choose_next_points)
        assert (again.rendered, again.points) == (0, summary.points)
        assert sum(first.renders.values()) + sum(second.renders.values()) == summary.points
    study = await anyio.to_thread.run_sync(make_study, summary.folder)
    found = study.data["adaptive"]
    assert found is not None
    assert found["ending"] in ("precision reached", "budget spent")
    assert (found["used"], found["most"], found["full"]) == (summary.points, 16, 20)
    assert not study.data["curves"]
    assert not any(".." in sentence for sentence in [write_decision(study.data), *study.words])
    assert any(str(found["ending"]) in sentence.lower() for sentence in study.words)
    assert {row["index"] for row in study.table.to_dict("records")} <= set(range(20))
