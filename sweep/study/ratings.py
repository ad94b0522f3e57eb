"""Ratings that a person gives on the page: stars, rejections and notes become columns, blind choices a ranking.

`ratings.json` of a results folder holds `{"schema": 1, "ratings": {name: {"stars", "rejected", "note"}}, "choices":
[{"left", "right", "winner", "at"}]}`. The name of an image is its key; where a rendering has several images it is the
key, a full stop and the image's number. The page writes the file while `sweep view` serves it; `sweep rate` adds an
exported one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, ndtri

from sweep.errors import UsageError
from sweep.record import RATINGS_JSON, RecordedResults, is_choice, is_rating, name_image, replace_atomically
from sweep.study.metrics.metric_lookup import describe_columns
from sweep.study.stats.additive_fit import FloatArray
from sweep.study.stats.t_tests import CONFIDENCE
from sweep.study.study_design import StudyDesign
from sweep.study.study_json import ChoiceRank, Choices, MetricFacts

RATED = describe_columns(["rating"], {"rating": (0, 0)})[0]
RATED |= {"direction": "higher", "range": [0.0, 5.0], "version": "1", "source": "ratings.json"}
RATED["summary"] = "A person's judgement on the page. It says nothing of what others would prefer."
REJECTED = MetricFacts(**{**RATED, "name": "rejected", "label": "rejection", "direction": "lower", "range": [0.0, 1.0]})
PRIOR = 0.5  # wins and losses against an average level that each level begins with: no strength is infinite
FITTED = 30  # rounds of the fit


@dataclass(frozen=True, slots=True)
class Ratings:
    """Marks by the name of an image, and choices between two of them."""

    marks: Mapping[str, Mapping[str, Any]]
    choices: Sequence[Mapping[str, str]]
    withdrawn: Sequence[str] = ()  # the times of choices that were taken back


def load_ratings(path: Path) -> Ratings:
    """Load a file of ratings; empty where there is none. Raises UsageError where it is not one."""
    return parse_ratings(path.read_bytes(), path.name) if path.is_file() else Ratings({}, [])


def parse_ratings(content: bytes, name: str) -> Ratings:
    """Read the content of a file of ratings. Raises UsageError, with `name`, where it is not one."""
    try:
        found = json.loads(content)
        marks, choices = found["ratings"], found["choices"]
        is_known = found["schema"] == 1 and all(map(is_choice, choices))
        wrong = [image for image, mark in marks.items() if not is_rating(mark)]
        whole = Ratings(dict(marks), list(choices), list(found.get("withdrawn", ())))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_known = False
    if not is_known:
        raise UsageError(f"{name} is not a file of ratings.", hint="Export one from the page (Share).")
    if wrong:
        hint = "A rating has stars from 0 to 5, rejected, and a note."
        raise UsageError(f"{name}: {wrong[0]} has no rating that the page writes.", hint=hint)
    return whole


def merge_ratings(folder: Path, new: Ratings) -> Ratings:
    """Merge ratings into those of a results folder: each part of a mark replaces the earlier one; empty marks go."""
    old = load_ratings(folder / RATINGS_JSON)
    marks = {**old.marks, **{name: {**old.marks.get(name, {}), **mark} for name, mark in new.marks.items()}}
    choices = [*old.choices, *(choice for choice in new.choices if choice not in old.choices)]
    kept = [choice for choice in choices if choice.get("at") not in new.withdrawn]
    whole = Ratings({name: mark for name, mark in marks.items() if any(mark.values())}, kept)
    found = {"schema": 1, "ratings": whole.marks, "choices": whole.choices}
    with replace_atomically(folder / RATINGS_JSON) as file:
        file.write(json.dumps(found, ensure_ascii=False, indent=1).encode(errors="replace"))  # half a character
    return whole


def add_ratings(folder: Path | str, given: Path | str) -> Ratings:
    """Add an exported file of ratings to a results folder: later marks replace earlier ones, choices are kept all.

    Raises UsageError where the file is missing or not one of ratings; RecordError where the folder has no results or
    cannot be written.
    """
    folder, given = RecordedResults.open(folder).folder, Path(given)
    if not given.is_file():
        raise UsageError(f"There is no file {given}.")
    return merge_ratings(folder, load_ratings(given))


def describe_ratings(design: StudyDesign) -> list[MetricFacts]:
    """Describe the columns that the results table has where a person rated images of the folder."""
    found = []
    for fact in (RATED, REJECTED):
        if fact["name"] in design.frame and fact["name"] not in design.names:
            measured = int(np.isfinite(design.response(fact["name"])).sum())
            found += [MetricFacts(**{**fact, "measured": measured})] if measured else []
    return found


def name_images(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    """List the names by which ratings may call the image of each row."""
    numbers = frame.groupby([name for name in ("index", "key") if name in frame], sort=False).cumcount() + 1
    return [name_image(key, int(number)) for key, number in zip(frame["key"].astype(str), numbers, strict=True)]


def rank_choices(
    design: StudyDesign, choices: Sequence[Mapping[str, str]], metrics: Sequence[MetricFacts]
) -> list[Choices]:
    """Rank the levels of each axis in which the two images of choices differ and nothing else does."""
    rows: dict[str, int] = {}
    for row, names in enumerate(name_images(design.frame)):
        for name in names:
            rows.setdefault(name, row)
    by_axis: dict[str, list[tuple[int, int, float]]] = {}
    for choice in choices:
        left, right = rows.get(choice["left"]), rows.get(choice["right"])
        if left is None or right is None:
            continue
        differing = [axis.name for axis in design.axes if axis.codes[left] != axis.codes[right]]
        own = [name for name in differing if name not in design.aliases]
        if len(own) == 1:
            won = {"left": 1.0, "right": 0.0}.get(choice["winner"], 0.5)
            by_axis.setdefault(own[0], []).append((left, right, won))
    return [_rank(design, axis, found, metrics) for axis, found in by_axis.items()]


def _rank(
    design: StudyDesign, axis: str, found: Sequence[tuple[int, int, float]], metrics: Sequence[MetricFacts]
) -> Choices:
    levels, codes = design.by_name[axis].levels, design.by_name[axis].codes
    pairs = np.array([(codes[left], codes[right]) for left, right, _ in found])
    won = np.array([w for _, _, w in found])
    shown = [code for code in range(len(levels)) if (pairs == code).any()]
    strength, errors = fit_bradley_terry(np.searchsorted(shown, pairs), won, len(shown))
    own = np.diag(errors)
    # a level ranges over all ranks that pairwise tests leave (Bonferroni over all pairs)
    gaps = strength[None, :] - strength[:, None]
    spread = np.sqrt(np.maximum(own[None, :] + own[:, None] - 2 * errors, 0.0))
    clear = float(ndtri(1 - (1 - CONFIDENCE) / max(len(shown) * (len(shown) - 1), 1))) * spread
    half = ndtri(0.5 + CONFIDENCE / 2) * np.sqrt(own)
    ranking = []
    for i, code in enumerate(shown):
        left, right = pairs[:, 0] == code, pairs[:, 1] == code
        low, middle, high = (100 * expit(strength[i] + half[i] * np.array([-1, 0, 1]))).tolist()
        ranking.append(
            ChoiceRank(
                level=levels[code],
                chosen=float(won[left].sum() + (1 - won[right]).sum()),
                shown=int(left.sum() + right.sum()),
                strength=middle,
                low=low,
                high=high,
                rank_low=1 + int((gaps[i] - clear[i] > 0).sum()),
                rank_high=len(shown) - int((gaps[i] + clear[i] < 0).sum()),
            )
        )
    ranking.sort(key=lambda rank: -rank["strength"])
    twice = _find_repeated(found)
    return Choices(
        axis=axis,
        choices=len(found),
        ties=int((won == 0.5).sum()),
        left=int((won == 1.0).sum()),
        right=int((won == 0.0).sum()),
        repeated=len(twice),
        alike=sum(first == second for first, second in twice),
        ranking=ranking,
        agreement=_measure_agreement(design, found, metrics),
    )


def fit_bradley_terry(pairs: np.ndarray[Any, Any], won: FloatArray, levels: int) -> tuple[FloatArray, FloatArray]:
    """Fit log strengths with mean zero, so that a is chosen over b with probability 1 / (1 + exp(b − a)).

    Bradley and Terry 1952 (Biometrika 39), by Newton's method. A tie is half a win for both. An own fit of a few lines:
    the model has one number a level, and a package for it would bring a dependency.

    Args:
        pairs: Choices × 2, the levels shown left and right.
        won: Choices; 1 where left was chosen, 0 where right was, 0.5 for a tie.
        levels: How many levels there are.

    Returns:
        The strengths, and their covariance: the inverse of the information of the choices and the prior. Few choices
        that all agree leave it wide; resampling them would show no spread at all.
    """
    wins = np.zeros((levels, levels))
    np.add.at(wins, (pairs[:, 0], pairs[:, 1]), won)
    np.add.at(wins, (pairs[:, 1], pairs[:, 0]), 1 - won)
    games, strength = wins + wins.T, np.zeros(levels)
    for _ in range(FITTED):
        chance, average = expit(strength[:, None] - strength), expit(strength)  # of being chosen; over an average level
        weights = games * chance * (1 - chance)
        information = np.diag(weights.sum(axis=1) + 2 * PRIOR * average * (1 - average)) - weights
        slope = wins.sum(axis=1) - (games * chance).sum(axis=1) + PRIOR * (1 - 2 * average)
        strength = strength + np.linalg.solve(information, slope)
    centre = np.eye(levels) - 1 / levels
    return centre @ strength, centre @ np.linalg.inv(information) @ centre


def _find_repeated(found: Sequence[tuple[int, int, float]]) -> list[tuple[float, float]]:
    """Find pairs that came twice, with how often the smaller row was chosen each time."""
    first: dict[tuple[int, int], float] = {}
    twice = []
    for left, right, won in found:
        pair, chosen = ((left, right), won) if left < right else ((right, left), 1 - won)
        if pair in first:
            twice.append((first[pair], chosen))
        first.setdefault(pair, chosen)
    return twice


def _measure_agreement(
    design: StudyDesign, found: Sequence[tuple[int, int, float]], metrics: Sequence[MetricFacts]
) -> dict[str, list[int]]:
    agreement = {}
    for fact in metrics:
        if fact["direction"] == "neutral" or fact["reference"] != "image":
            continue
        values = design.response(fact["name"]) * (-1 if fact["direction"] == "lower" else 1)
        decided = [(values[left] - values[right], won) for left, right, won in found if won != 0.5]
        known = [(gap, won) for gap, won in decided if np.isfinite(gap) and gap != 0]
        if known:
            agreement[fact["name"]] = [sum(bool(gap > 0) == (won == 1.0) for gap, won in known), len(known)]
    return agreement
