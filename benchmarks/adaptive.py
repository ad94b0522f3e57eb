"""Adaptive designs and advice on two full grids of 840 images: 21 strengths × 5 prompts × 8 seeds (`grids.json`).

`python -m benchmarks.adaptive` prints the two tables of docs/study.md. The sandbox painted the grids; the values are
the layout of light and dark. Populations of seeds are shifts of each prompt's mean curve along the axis: standard
deviation 0.03 by seed and 0.02 by prompt and seed.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from sweep.study import SearchDecision, SearchPoint, SearchTask, estimate_crossing, make_study

FloatArray = npt.NDArray[np.float64]
GRIDS = ("coffee", "chelsea")
THRESHOLD = 0.9
SEEDS = 8
BY_SEED, BY_PROMPT = 0.03, 0.02


@cache
def read_grid(name: str) -> tuple[FloatArray, tuple[str, ...], FloatArray]:
    """Read a grid: levels, prompts, and values by level, prompt and seed."""
    found = json.loads((Path(__file__).parent / "grids.json").read_text(encoding="utf-8"))
    return np.array(found["levels"]), tuple(found[name]["prompts"]), np.array(found[name]["values"])


@dataclass(frozen=True, slots=True)
class Outcome:
    """One simulated adaptive run."""

    images: int
    width: float  # NaN without an interval
    covers: bool
    is_right: bool  # the weakest group that it names is it
    is_reached: bool  # its interval is as narrow as was asked


class Population:
    """Seeds drawn as shifts of a grid's mean curves; the truth is from 500 antithetic seeds."""

    def __init__(self, grid: str) -> None:
        self.levels, self.prompts, values = read_grid(grid)
        self.means = values.mean(axis=2).T
        rng = np.random.default_rng(7)
        drawn = self.draw_shifts(rng, 250)
        shifts = np.concatenate([drawn, -drawn], axis=1)
        crossings = [[self._cross(p, shift) for shift in row] for p, row in enumerate(shifts)]
        self.truth = np.array(crossings).mean(axis=1)

    def draw_shifts(self, rng: np.random.Generator, seeds: int) -> FloatArray:
        """Draw shifts by prompt and seed."""
        return np.asarray(rng.normal(0, BY_SEED, seeds) + rng.normal(0, BY_PROMPT, (len(self.prompts), seeds)))

    def draw_curves(self, shifts: FloatArray) -> FloatArray:
        """Compute values by prompt, seed and level."""
        return np.array(
            [
                [np.interp(self.levels - s, self.levels, m) for s in row]
                for m, row in zip(self.means, shifts, strict=True)
            ]
        )

    def _cross(self, prompt: int, shift: float) -> float:
        curve = np.interp(self.levels - shift, self.levels, self.means[prompt])
        after = int(np.flatnonzero(curve < THRESHOLD)[0])
        share = (curve[after - 1] - THRESHOLD) / (curve[after - 1] - curve[after])
        return float(self.levels[after - 1] + (self.levels[after] - self.levels[after - 1]) * share)


def simulate_search(
    population: Population, rng: np.random.Generator, *, weakest: bool, at_most: float, within: float = 0.03
) -> Outcome:
    """Simulate one adaptive run to its end."""
    curves = population.draw_curves(population.draw_shifts(rng, SEEDS))
    full = curves.size
    task = SearchTask(
        levels=tuple(population.levels.tolist()),
        groups=tuple({"prompt": prompt} for prompt in population.prompts),
        seeds=SEEDS,
        threshold=THRESHOLD,
        is_weakest_wanted=weakest,
        within=within,
        most=int(at_most * full),
    )
    values: dict[SearchPoint, float] = {}
    while (decision := SearchDecision(task, values)).wanted:
        for point in decision.wanted:
            values[point] = float(curves[point.group, point.seed, point.level])
    found = estimate_crossing(task, decision)
    low, high = found["low"], found["high"]
    means = [np.mean([c.at for (g, _), c in decision.crossings.items() if g == group]) for group in decision.alive]
    named = decision.alive[int(np.argmin(means))]
    truth = float(population.truth.mean())
    return Outcome(
        images=len(values),
        width=np.nan if low is None or high is None else high - low,
        covers=low is not None and high is not None and low <= truth <= high,
        is_right=named == int(np.argmin(population.truth)),
        is_reached=low is not None and high is not None and high - low <= 2 * within + 1e-9,
    )


def draw_advice(grid: str, chance: random.Random) -> tuple[float, float, bool]:
    """Make a study of 11 levels × 3 prompts × 4 seeds of a grid, and try its advice on the other four seeds.

    Returns:
        The advised level (−1 for none), the part of new images that miss the threshold there, and whether the advice
        is at most one tested level below the best possible one.
    """
    levels, prompts, values = read_grid(grid)
    chosen, seeds = chance.sample(range(len(prompts)), 3), chance.sample(range(values.shape[2]), 4)
    tested = range(0, len(levels), 2)
    rows = [(levels[i], prompts[j], k, values[i, j, k]) for i in tested for j in chosen for k in seeds]
    frame = pd.DataFrame(rows, columns=["denoise_strength", "variation", "seed", "structure_coarse"])
    axes = [("denoise_strength", "number"), ("variation", "text"), ("seed", "seed")]
    study = make_study(frame, axes=axes, metrics=["structure_coarse"], thresholds={"structure_coarse": (THRESHOLD,)})
    advice = study.data["recommendations"][0]["use"]
    used = -1 if advice is None else int(np.abs(levels[tested.start :: 2] - advice).argmin())
    safe = [bool((values[i][chosen] >= THRESHOLD).all()) for i in tested]
    best = next((n for n, is_safe in enumerate(safe) if not is_safe), len(safe)) - 1
    new = [k for k in range(values.shape[2]) if k not in seeds]
    missed = 0.0 if used < 0 else float((values[tested[used]][np.ix_(chosen, new)] < THRESHOLD).mean())
    return (-1.0 if advice is None else advice), missed, used >= best - 1


def print_searches(populations: int) -> None:
    """Print the table of adaptive runs."""
    print("| grid | for | images of 840 | width | as narrow as asked | coverage | weakest found |")
    print("| --- |" + " --- |" * 6)
    for grid in GRIDS:
        population, rng = Population(grid), np.random.default_rng(1)
        for weakest, at_most in ((False, 0.3), (True, 0.12)):
            found = [simulate_search(population, rng, weakest=weakest, at_most=at_most) for _ in range(populations)]
            images = [each.images / 8.4 for each in found]
            cells = [f"{np.mean(images):.0f} %, at most {max(images):.0f} %"]
            if weakest:
                cells += ["", "", "", f"{np.mean([each.is_right for each in found]):.3f}"]
            else:
                known = [each for each in found if np.isfinite(each.width)]
                rate = float(np.mean([each.covers for each in known]))
                error = 2 * (rate * (1 - rate) / len(known)) ** 0.5
                cells += [f"{np.mean([e.width for e in known]):.3f}", f"{np.mean([e.is_reached for e in known]):.2f}"]
                cells += [f"{rate:.3f} ±{error:.3f}", ""]
            print(f"| {grid} | {'weakest' if weakest else 'each'} prompt | {' | '.join(cells)} |", flush=True)


def print_advice(draws: int) -> None:
    """Print the table of advice."""
    print(
        "\n| grid | new images that miss it at the advised level | within one level of the best |\n| --- | --- | --- |"
    )
    for grid in GRIDS:
        chance = random.Random(grid)
        found = [draw_advice(grid, chance) for _ in range(draws)]
        missed, near = np.mean([each[1] for each in found]), np.mean([each[2] for each in found])
        print(f"| {grid} | {100 * missed:.1f} % | {100 * near:.0f} % |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--populations", type=int, default=300)
    parser.add_argument("--draws", type=int, default=60)
    chosen = parser.parse_args()
    print_searches(chosen.populations)
    print_advice(chosen.draws)


if __name__ == "__main__":
    main()
