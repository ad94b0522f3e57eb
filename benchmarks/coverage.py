"""Do the study's intervals cover what they promise? Simulated studies of 37 shapes with known truth.

`python -m benchmarks.coverage --studies 1000 --save FOLDER` prints the table of docs/study.md. A shape says how many
levels, prompts and seeds a study has, how seeds and prompts vary, and which images are missing. Truth is computed from
20,000 seeds. Every 100 studies are kept in the folder as they are done, so the command goes on where it ended.

`--noise 200` simulates studies of 13 metrics in which no axis has an effect, and counts those that claim one.

Curves, differences and shares are computed by the functions that `make_study` calls; the first study of each shape is
made whole, and has to hold the same numbers.
"""

from __future__ import annotations

import argparse
import json
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from sweep.experiment import Experiment
from sweep.study import (
    Curve,
    Difference,
    Effects,
    Sentence,
    compare_levels,
    compute_curve,
    compute_effects,
    correct_claims,
    describe_columns,
    make_study,
    read_design,
)

FloatArray = npt.NDArray[np.float64]
METRIC = "structure_coarse"
AXES = (("denoise_strength", "number"), ("variation", "text"), ("seed", "seed"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A population of studies. Standard deviations are in units of the metric; `curve` is its mean along the axis."""

    levels: int = 11
    prompts: int = 3
    seeds: int = 4
    low: float = 0.0
    high: float = 1.0
    curve: str = "smooth"
    prompt_level: float = 0.02
    prompt_slope: float = 0.03
    seed_spread: str = "normal"
    bounded: bool = False
    uneven: bool = False  # spread grows with strength
    missing: float = 0.0
    lost: bool = False  # images of one prompt fail at high strengths
    rounded: float = 0.0
    shared: bool = True
    models: bool = False
    crossed: float = 0.0  # slope of a pure interaction
    design: str = "full"
    threshold: float = 0.85


QUICK = Shape(levels=3, seeds=2, low=0.3, high=0.7)
MODELS = Shape(levels=1, prompts=3, models=True)
SHAPES: Mapping[str, Shape] = {
    "3×3×2": QUICK,
    "3×3×3": replace(QUICK, seeds=3),
    "5×1×3": Shape(levels=5, prompts=1, seeds=3),
    "11×1×2": Shape(prompts=1, seeds=2),
    "11×3×4": Shape(),
    "11×5×8": Shape(prompts=5, seeds=8),
    "11×3×4 uneven": Shape(uneven=True),
    "11×3×4 bounded": Shape(bounded=True),
    "11×3×8 bounded": Shape(bounded=True, seeds=8),
    "11×3×4 log-normal": Shape(seed_spread="lognormal"),
    "11×3×8 log-normal": Shape(seed_spread="lognormal", seeds=8),
    "11×3×4 exponential": Shape(seed_spread="exponential"),
    "11×3×4, 15 % missing": Shape(missing=0.15),
    "11×3×4, 40 % missing": Shape(missing=0.40),
    "11×3×4, failures": Shape(lost=True),
    "11×3×4 ties": Shape(rounded=1 / 16),
    "4×3×8 steep": Shape(levels=4, seeds=8, curve="steep"),
    "3×3×8 smooth": replace(QUICK, seeds=8),
    "6×3×8 steep": Shape(levels=6, seeds=8, curve="steep"),
    "11×3×4 other seeds": Shape(shared=False),
    "11×3×1": Shape(seeds=1),
    "2 models×5×4": replace(MODELS, levels=2, prompts=5, curve="models"),
    "2 models×5×4 null": replace(MODELS, levels=2, prompts=5, curve="none"),
    "4 models×3×4 null": replace(MODELS, levels=4, curve="none"),
    "8 models×3×4 null": replace(MODELS, levels=8, curve="none"),
    "4 models×3×2 null": replace(MODELS, levels=4, seeds=2, curve="none"),
    "null 11×3×4": Shape(curve="flat"),
    "null 3×3×2": replace(QUICK, curve="flat"),
    "interaction 11×2×4": Shape(prompts=2, curve="flat", crossed=0.4),
    "one at a time 11×3×4": Shape(design="one_at_a_time"),
    "one at a time 11×3×8": Shape(design="one_at_a_time", seeds=8),
    "rotated 30 % of 11×5×8": Shape(prompts=5, seeds=8, design="rotated 0.3"),
    "rotated 50 % of 11×5×8": Shape(prompts=5, seeds=8, design="rotated 0.5"),
    "rotated 50 % of 11×3×4": Shape(design="rotated 0.5"),
    "random 25 % of 11×5×8": Shape(prompts=5, seeds=8, design="random 0.25"),
    "random 25 % of 11×3×4": Shape(design="random 0.25"),
    "random 10 % of 11×5×8": Shape(prompts=5, seeds=8, design="random 0.10"),
}


def mean_curve(shape: Shape, x: FloatArray) -> FloatArray:
    """Compute the population's mean along the axis."""
    match shape.curve:
        case "smooth":
            return np.asarray(0.50 + 0.42 / (1 + np.exp((x - 0.62) / 0.11)))
        case "steep":
            return np.asarray(0.2 + 0.72 / (1 + np.exp((x - 0.58) / 0.03)))
        case "models":
            return 0.8 + np.linspace(0, 0.03, len(x))
        case _:
            return np.full_like(x, 0.7 if shape.crossed else 0.8)  # crossed slopes stay within the metric's range


def levels_of(shape: Shape) -> FloatArray:
    """List the levels of the axis."""
    return np.linspace(shape.low, shape.high, shape.levels)


def draw_spread(rng: np.random.Generator, kind: str, size: int) -> FloatArray:
    """Draw effects of seeds with mean 0 and deviation 1."""
    if kind == "lognormal":
        return np.asarray(-(np.exp(rng.normal(size=size)) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e))
    return -(rng.exponential(size=size) - 1) if kind == "exponential" else rng.normal(size=size)


def draw_prompts(shape: Shape, name: str) -> tuple[FloatArray, FloatArray]:
    """Draw what prompts do to level and slope: the same for every study of a shape."""
    if shape.crossed:
        return np.zeros(2), np.array([shape.crossed, -shape.crossed])
    if shape.curve == "flat":
        return np.zeros(shape.prompts), np.zeros(shape.prompts)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    level = rng.normal(size=shape.prompts) * shape.prompt_level
    slope = rng.normal(size=shape.prompts) * shape.prompt_slope
    return level - level.mean(), slope - slope.mean()


def draw_cube(rng: np.random.Generator, shape: Shape, name: str, x: FloatArray, seeds: int) -> FloatArray:
    """Draw levels × prompts × seeds."""
    level, slope = draw_prompts(shape, name)
    along = np.zeros_like(x) if shape.models else x - 0.5
    base = mean_curve(shape, x)[:, None, None] + level[None, :, None] + slope[None, :, None] * along[:, None, None]
    a, b = (draw_spread(rng, shape.seed_spread, seeds) for _ in range(2))
    by_level = rng.normal(size=(len(x), seeds)) if shape.models else np.outer(x, b) * 1.5
    flat = shape.curve == "flat"
    noise = 0.02 * a[None, None] + (0.0 if flat else 0.02 * by_level[:, None, :])
    noise = noise + 0.01 * rng.normal(size=(len(level), seeds))[None] + 0.02 * rng.normal(size=(*base.shape[:2], seeds))
    if shape.uneven:
        noise = noise * (0.2 + 2 * x**2)[:, None, None]
    if shape.bounded:
        inside = np.clip(base, 1e-3, 0.998)
        return np.asarray(1 / (1 + np.exp(-(np.log(inside / (1 - inside)) + 14 * noise))))
    y = base + noise
    return np.asarray(np.round(y / shape.rounded) * shape.rounded if shape.rounded else y)


def choose_images(rng: np.random.Generator, shape: Shape) -> npt.NDArray[np.bool_]:
    """Choose which images there are."""
    size = (shape.levels, shape.prompts, shape.seeds)
    kind, _, share = shape.design.partition(" ")
    if kind == "one_at_a_time":
        there = np.zeros(size, dtype=np.bool_)
        there[:, 0, 0] = there[shape.levels // 2, :, 0] = there[shape.levels // 2, 0, :] = True
        return there
    if kind == "random":
        return np.asarray(rng.permutation(np.arange(np.prod(size))).reshape(size) < float(share) * np.prod(size))
    if kind == "rotated":
        there = np.zeros(size, dtype=np.bool_)
        there.reshape(-1)[list(rotate_seeds(size, float(share)))] = True
        return there
    there = rng.random(size) >= shape.missing
    if shape.lost:
        there[shape.levels * 2 // 3 :, 0, :] &= rng.random((shape.levels - shape.levels * 2 // 3, shape.seeds)) > 0.5
    return there


@cache
def rotate_seeds(size: tuple[int, int, int], share: float) -> tuple[int, ...]:
    """Choose the images of a rotated design: the numbers of their points in the full grid."""
    levels, prompts, seeds = size
    axes = {
        "cfg_scale": {"start": 1, "stop": levels, "step": 1},
        "prompt": [f"p{n}" for n in range(prompts)],
        "seed": {"start": 0, "count": seeds},
    }
    chosen = Experiment.from_dict(
        {"name": "rotated", "workflow": "txt2img", "axes": axes, "design": {"kind": "rotated", "share": share}}
    )
    return tuple(chosen.grid.chosen)


def draw_table(rng: np.random.Generator, shape: Shape, name: str) -> pd.DataFrame:
    """Draw one study as a results table."""
    x = levels_of(shape)
    y = draw_cube(rng, shape, name, x, shape.seeds)
    if not shape.shared:
        cells = [draw_cube(rng, shape, name, x, shape.seeds)[i, j] for i in range(len(x)) for j in range(shape.prompts)]
        y = np.array(cells).reshape(y.shape)
    i, j, k = np.nonzero(choose_images(rng, shape))
    seeds = k if shape.shared else (i * shape.prompts + j) * shape.seeds + k
    axis: object = np.array([f"model {n}" for n in i], dtype=object) if shape.models else x[i].round(9)
    prompts = np.array([f"p{n}" for n in j], dtype=object)
    return pd.DataFrame({"denoise_strength": axis, "variation": prompts, "seed": 42 + seeds, METRIC: y[i, j, k]})


@dataclass(frozen=True, slots=True)
class Truth:
    """What a study of a shape would find with 20,000 seeds."""

    means: FloatArray
    prompts: FloatArray  # levels × prompts
    crossing: float | None
    shares: Mapping[tuple[str, ...], float]


@cache
def find_truth(name: str) -> Truth:
    """Compute the truth of a shape."""
    shape, rng = SHAPES[name], np.random.default_rng(99)
    x = levels_of(shape)
    y = draw_cube(rng, shape, name, x, 20_000)
    fine = np.linspace(shape.low, shape.high, 401)
    place = None
    if not shape.models:
        curve = np.concatenate(
            [
                draw_cube(np.random.default_rng(5), shape, name, fine[n : n + 40], 2000).mean(axis=(1, 2))
                for n in range(0, 401, 40)
            ]
        )
        below = np.flatnonzero(curve < shape.threshold)
        if len(below) and below[0]:
            n = int(below[0])
            place = float(np.interp(-shape.threshold, -curve[n - 1 : n + 1], fine[n - 1 : n + 1]))
    names, total, grand = ("denoise_strength", "variation", "seed"), float(y.var()), float(y.mean())
    mains = [y.mean(axis=tuple(m for m in range(3) if m != n)) - grand for n in range(3)]
    shares: dict[tuple[str, ...], float] = {(names[n],): float((mains[n] ** 2).mean()) / total for n in range(3)}
    joint = y.mean(axis=2) - grand - mains[0][:, None] - mains[1][None]
    shares["denoise_strength", "variation"] = float((joint**2).mean()) / total
    return Truth(y.mean(axis=(1, 2)), y.mean(axis=2), place, shares)


@dataclass(frozen=True, slots=True)
class Found:
    """The parts of a study that are judged."""

    curves: Sequence[Curve]
    differences: Sequence[Difference]
    effects: Effects


def analyse_table(table: pd.DataFrame, shape: Shape) -> Found:
    """Analyse a table as `make_study` does, without sentences, seeds, outliers and advice."""
    design = read_design(table, _list_axes(shape))
    fact = describe_columns([METRIC], {METRIC: (len(table), 0)})[0]
    numeric = ["denoise_strength"] if "denoise_strength" in design.numeric else []
    curves = [
        compute_curve(design, fact, axis, group, thresholds=(shape.threshold,))
        for axis in numeric
        for group in design.groups(axis)
    ]
    differences = [d for axis in design.factors for d in compare_levels(design, fact, axis)]
    correct_claims(curves, differences, METRIC)
    return Found(curves, differences, compute_effects(design, METRIC))


def _list_axes(shape: Shape) -> list[tuple[str, str]]:
    return [("denoise_strength", "text") if shape.models else AXES[0], *AXES[1:]]


def check_equality(table: pd.DataFrame, shape: Shape, found: Found) -> None:
    """Raise AssertionError where a whole study of the table holds other numbers."""
    study = make_study(table, axes=_list_axes(shape), metrics=[METRIC], thresholds={METRIC: (shape.threshold,)})
    whole = Found(study.data["curves"], study.data["differences"], study.data["effects"][0])
    if whole != found:
        raise AssertionError("the study holds other numbers")


def simulate(name: str, studies: int, chunk: int = 0) -> dict[str, list[float]]:
    """Simulate studies of a shape: for each interval one value a study, the part of the intervals that hold."""
    shape, truth = SHAPES[name], find_truth(name)
    rng = np.random.default_rng([zlib.crc32(name.encode()), chunk])
    hits: dict[str, list[float]] = {}
    for number in range(studies):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = draw_table(rng, shape, name)
            found = analyse_table(table, shape)
            if number == chunk == 0:
                check_equality(table, shape, found)
        for what, value in judge(found, truth, shape):
            hits.setdefault(what, []).append(value)
    return hits


def judge(found: Found, truth: Truth, shape: Shape) -> Iterator[tuple[str, float]]:
    """Judge one study: which part of each kind of interval holds the truth; for each share how far it is off."""
    means: list[bool] = []
    prompts: list[bool] = []
    for curve in found.curves:
        group = curve["group"].get("variation")
        true = truth.means if group is None else truth.prompts[:, int(str(group)[1:])]
        at = dict(zip(levels_of(shape).round(9).tolist(), true, strict=True))
        rows = zip(curve["x"], curve["low"], curve["high"], strict=True)
        held = [low <= at[x] <= high for x, low, high in rows if low is not None and high is not None]
        (means if group is None else prompts).extend(held)
        if group is None:
            place = curve["crossings"][0]["at"]
            yield "given", float(place["low"] is not None)
            if place["low"] is not None and place["high"] is not None and truth.crossing is not None:
                yield "crossing", float(place["low"] <= truth.crossing <= place["high"])
    if means:
        yield "mean", float(np.mean(means))
    if prompts:
        yield "mean of a prompt", float(np.mean(prompts))
    for axis, column in (("denoise_strength", "differences"), ("variation", "prompts differ")):
        pairs = [d for d in found.differences if d["axis"] == axis and d["difference"]["low"] is not None]
        if pairs:
            yield column, float(all(_holds_step(d, axis, truth, shape) for d in pairs))
    for share in found.effects["shares"]:
        if share["share"]["value"] is not None:
            yield f"bias {' × '.join(share['axes'])}", share["share"]["value"] - truth.shares[tuple(share["axes"])]


def _holds_step(pair: Difference, axis: str, truth: Truth, shape: Shape) -> bool:
    low, high = pair["difference"]["low"], pair["difference"]["high"]
    if low is None or high is None:
        return True
    ends = [str(pair[end])[1:] for end in ("a", "b")]
    if axis == "variation":
        a, b = (float(truth.prompts[:, int(end)].mean()) for end in ends)
    elif shape.models:
        a, b = (float(truth.means[int(str(pair[end]).split()[1])]) for end in ("a", "b"))
    else:
        levels = levels_of(shape).round(9).tolist()
        a, b = (float(truth.means[levels.index(pair[end])]) for end in ("a", "b"))
    return low <= b - a <= high


RATES = ("mean", "mean of a prompt", "differences", "prompts differ", "crossing", "given")
BIASES = ("bias denoise_strength", "bias variation", "bias seed")
CHUNK = 100


def simulate_saved(name: str, studies: int, folder: Path | None) -> dict[str, list[float]]:
    """Simulate in chunks, each of which is kept in the folder and not made again."""
    hits: dict[str, list[float]] = {}
    for chunk in range(-(-studies // CHUNK)):
        path = None if folder is None else folder / f"{zlib.crc32(name.encode()):08x}-{chunk}.json"
        if path is not None and path.is_file():
            made = json.loads(path.read_text(encoding="utf-8"))
        else:
            made = simulate(name, min(CHUNK, studies - CHUNK * chunk), chunk)
            if path is not None:
                path.write_text(json.dumps(made), encoding="utf-8")
        for what, values in made.items():
            hits.setdefault(what, []).extend(values)
    return hits


CLAIMS = {
    "curve": r"falls along|rises along|goes up and down",
    "difference": "is higher with",
    "share": "variance|Most important",
}
NOISE_METRICS = 13
NOISE_SIZES = ((3, 3, 2), (3, 3, 4), (11, 3, 4), (5, 4, 8), (2, 6, 4))


def make_claims(rng: np.random.Generator, size: tuple[int, int, int]) -> set[str]:
    """Make a study of 13 metrics in which only seeds have an effect, and tell which kinds of effects it claims."""
    at, prompt, seed = (each.ravel() for each in np.indices(size))
    names = [f"metric {number}" for number in range(NOISE_METRICS)]
    values = {name: 0.7 + 0.03 * (rng.normal(size=size[2])[seed] + rng.normal(size=len(at))) for name in names}
    axes = {"denoise_strength": at / (size[0] - 1), "variation": [f"p{n}" for n in prompt], "seed": 42 + seed}
    study = make_study(pd.DataFrame({**axes, **values}), axes=AXES, metrics=names)
    return {kind for kind, said in CLAIMS.items() for each in study.data["words"] if claims(each, kind, said)}


def claims(sentence: Sentence, kind: str, said: str) -> bool:
    """Tell whether a sentence of this kind claims an effect."""
    return sentence["kind"] == kind and re.search(said, sentence["text"]) is not None


def print_claims(studies: int) -> None:
    """Print in which part of studies of noise an effect is claimed for some metric."""
    print(f"| noise | any effect | {' | '.join(CLAIMS)} |\n| --- | --- |{' --- |' * len(CLAIMS)}")
    for size in NOISE_SIZES:
        rng = np.random.default_rng(list(size))
        found = [make_claims(rng, size) for _ in range(studies)]
        cells = [write_rate([float(bool(each)) for each in found], studies)]
        cells += [f"{np.mean([kind in each for each in found]):.3f}" for kind in CLAIMS]
        print(f"| {'×'.join(map(str, size))} | {' | '.join(cells)} |", flush=True)


def write_rate(values: Sequence[float], studies: int) -> str:
    """Write a rate with two standard errors of the simulation; nothing where fewer than one of 20 studies has one."""
    if len(values) < studies / 20:
        return ""
    error = 2 * float(np.std(values)) / len(values) ** 0.5
    return f"{np.mean(values):.3f} ±{error:.3f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--shape", action="append", help="only shapes whose name holds this text")
    parser.add_argument("--noise", type=int, default=0, help="studies of 13 metrics of noise, instead of the table")
    parser.add_argument("--save", type=Path, help="folder of finished chunks")
    chosen = parser.parse_args()
    if chosen.noise:
        print_claims(chosen.noise)
        return
    if chosen.save:
        chosen.save.mkdir(parents=True, exist_ok=True)
    columns = (*RATES, *BIASES)
    print(f"| shape | {' | '.join(columns)} |\n| --- |{' --- |' * len(columns)}")
    for name in SHAPES:
        if not chosen.shape or any(part in name for part in chosen.shape):
            found = simulate_saved(name, chosen.studies, chosen.save)
            cells = [write_rate(found.get(column, []), chosen.studies) for column in RATES[:-1]]
            cells += [f"{np.mean(found[column]):.3f}" if column in found else "" for column in (RATES[-1], *BIASES)]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
