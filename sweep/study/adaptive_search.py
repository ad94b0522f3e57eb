"""Adaptive designs: the points to render next are chosen from the recorded values alone.

For each seed and group (prompt, model), bisection finds between which two levels the image misses the threshold; these
two values are interpolated. The crossing of a single image is the unit. How many seeds follow the first four is decided
once, from the spread of these four (two-stage sampling: Stein 1945, Ann. Math. Stat. 16), so that the interval is
valid although the number of seeds depends on the data. The search for the weakest group instead drops a group as soon
as it is stronger than the weakest one (successive rejection), at three, four and six seeds.

A decision is a pure function of the recorded values: kills, retries and the order of images change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np

from sweep.errors import UsageError
from sweep.study.stats.additive_fit import FloatArray
from sweep.study.stats.t_tests import CONFIDENCE, compute_p_value, compute_t_quantile, make_estimate
from sweep.study.study_json import AdaptiveGroup, AdaptiveResult, Estimate, Group

if TYPE_CHECKING:
    from sweep.record import ExperimentAxis, ExperimentFacts, RecordedResults
    from sweep.types import Scalar

PILOT: Final = 4  # seeds that decide how many follow
LOOKS: Final = (3, 4, 6)  # seeds after which stronger groups are dropped
STRIDES: Final = (1, 2)  # levels away from where later seeds look first; then bisection
TURNS: Final = 0.05  # of the range of values by which a curve may turn before its later seeds start cold
STOPPED: Final = "seeds are rendered only until the weakest is known, so an interval would not hold what it promises"
UNFINISHED: Final = "not all images are there yet"
NOT_CROSSED: Final = "some images do not pass the threshold in the range tested"
IMAGES_LOST: Final = "some images failed"


class SearchPoint(NamedTuple):
    """A point of the search, by the numbers of its group, seed and level."""

    group: int
    seed: int
    level: int


RecordedValues: TypeAlias = Mapping[SearchPoint, float]  # NaN for a point that failed


class SingleCrossing(NamedTuple):
    """The place at which one image misses the threshold. `held`: the last level that holds; −1 and the last level mean
    never.
    """

    at: float  # NaN where a value is missing
    held: int
    inside: bool  # whether it lies within the levels


NOWHERE: Final = SingleCrossing(math.nan, -1, inside=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTask:
    """The levels, groups and seeds that are searched for a threshold, and the precision asked for. `levels` ascend."""

    levels: tuple[float, ...]
    groups: tuple[Group, ...]
    seeds: int
    threshold: float
    is_lower_better: bool = False
    is_weakest_wanted: bool = False
    within: float = 0.0  # half width of the interval
    most: int = 0  # images


class SearchDecision:
    """The points to render next (none at the end), and what the record shows so far: one pass over it. The same record
    always gives the same decision.

    Blocks (a seed of a group) are independent once they may begin. A place counts steps from the end of the axis at
    which the group's images hold.

    Attributes:
        wanted: Points to render next.
        crossings: Those that are known, by group and seed.
        alive: Groups that can be the weakest.
        seeds: Seeds asked for.
        is_short: Whether budget or seeds end before the rule does.
    """

    def __init__(self, task: SearchTask, values: RecordedValues) -> None:
        self._task = task
        self._values = values
        self._last = len(task.levels) - 1
        self.wanted: list[SearchPoint] = []
        self._paths: dict[tuple[int, int], dict[int, float]] = {}  # by block: the value at each level looked at
        self.crossings: dict[tuple[int, int], SingleCrossing] = {}
        self.alive = tuple(range(len(task.groups)))
        if task.is_weakest_wanted:
            self.alive, self.seeds, self.is_short = self._find_weakest(self.alive)
        else:
            self.seeds, self.is_short = self._sample(self.alive)

    @property
    def used(self) -> int:
        """Number of images that the decision rests on."""
        return sum(map(len, self._paths.values()))

    def _sample(self, groups: Sequence[int]) -> tuple[int, bool]:
        """Ask for the first four seeds, then for as many as their spread needs."""
        for seed in range(PILOT):
            self._search_all(groups, seed, {})
        if self.wanted:
            return PILOT, False
        needed = count_needed_seeds(average_groups(self.crossings, groups, range(PILOT)), self._task.within)
        asked = min(needed, self._task.seeds)
        starts = {group: self._predict(group, range(PILOT)) for group in groups}
        for seed in range(PILOT, asked):
            if not self._is_affordable(len(groups)):
                return asked, True
            self._search_all(groups, seed, starts)
        return asked, needed > self._task.seeds

    def _find_weakest(self, groups: Sequence[int]) -> tuple[tuple[int, ...], int, bool]:
        """Ask for one more seed at a time of the groups that are left; drop groups at each look."""
        alive = tuple(groups)
        last = min(LOOKS[-1], self._task.seeds)
        for seed in range(last):
            starts = {group: self._predict(group, range(seed)) for group in alive} if seed else {}
            if seed and not self._is_affordable(len(alive)):
                return alive, seed, True
            self._search_all(alive, seed, starts)
            if self.wanted:
                return alive, seed + 1, False
            if seed + 1 in LOOKS:
                alive = self._drop(alive, seed + 1)
            if len(alive) == 1 and seed + 1 >= LOOKS[0]:
                return alive, seed + 1, False
        return alive, last, len(alive) > 1

    def _drop(self, alive: Sequence[int], seeds: int) -> tuple[int, ...]:
        """Keep the weakest group, and those that cannot be told from it (paired t tests, Bonferroni over all looks)."""
        if len(alive) < 2:
            return tuple(alive)
        places = []
        for group in alive:
            sign = -1 if self.is_rising(group) else 1  # so that a smaller place is weaker
            at = (self.crossings.get((group, seed), NOWHERE).at for seed in range(seeds))
            places.append(sign * np.fromiter(at, dtype=np.float64))
        known = [each[np.isfinite(each)] for each in places]
        means = [each.mean() if len(each) else math.inf for each in known]
        weakest = means.index(min(means))
        asked = len(LOOKS) * (len(self._task.groups) - 1)
        kept = []
        for i, group in enumerate(alive):
            steps = places[i] - places[weakest]
            p = compute_p_value(steps[np.isfinite(steps)])
            if i == weakest or p is None or p * asked >= 1 - CONFIDENCE:
                kept.append(group)
        return tuple(kept)

    def find_possible(self) -> tuple[int, ...]:
        """Find the groups that can be the weakest."""
        return self.alive if self._task.is_weakest_wanted else self._drop(self.alive, self.seeds)

    def _is_affordable(self, groups: int) -> bool:
        """Tell whether one more seed of these groups stays within the budget, whatever their images show."""
        most = 1 + len(STRIDES) + math.ceil(math.log2(len(self._task.levels) + 1))  # images of one block
        unfinished = sum(most - len(self._paths[p.group, p.seed]) for p in self.wanted)
        return self.used + unfinished + groups * most <= self._task.most

    def _search_all(self, groups: Iterable[int], seed: int, starts: Mapping[int, float | None]) -> None:
        for group in groups:
            self._search(group, seed, starts.get(group))

    def _search(self, group: int, seed: int, start: float | None) -> None:
        """Search one block: want the point to render next, both ends of a group's first seed, or note the crossing.

        The path is walked anew from the first step, so it depends on values alone.
        """
        path: dict[int, float] = {}
        self._paths[group, seed] = path
        ends = [SearchPoint(group, 0, end) for end in (0, self._last)]  # which one holds decides the group's direction
        missing = [end for end in ends if end not in self._values]
        if seed == 0:
            path |= {end.level: self._values[end] for end in ends if end in self._values}
            self.wanted += missing
        if missing:
            return
        low, high = -1, self._last + 1
        planned = [0, self._last] if seed == 0 else []
        if start is not None and not planned:
            planned = [min(max(math.floor(start), 0), self._last)]
        strides = [] if start is None else list(STRIDES)
        while high - low > 1:
            place = self._choose_place(low, high, planned, strides)
            if not low < place < high:
                continue
            point = SearchPoint(group, seed, int(self._turn_place(group, place)))
            if point not in self._values:
                self.wanted.append(point)
                return
            value = self._values[point]
            path[point.level] = value
            if math.isnan(value):
                self.crossings[group, seed] = NOWHERE
                return
            low, high = (place, high) if self._holds(value) else (low, place)
        self.crossings[group, seed] = self._interpolate(group, seed, low, high)

    def _choose_place(self, low: int, high: int, planned: list[int], strides: list[int]) -> int:
        """Take the next planned place; then stride away from the expected one, and bisect once both sides are known."""
        if planned:
            return planned.pop(0)
        if strides and (low == -1 or high == self._last + 1):
            stride = strides.pop(0)
            return min(low + stride, self._last) if high == self._last + 1 else max(high - stride, 0)
        return (low + high) // 2

    def _interpolate(self, group: int, seed: int, low: int, high: int) -> SingleCrossing:
        a, b = int(self._turn_place(group, low)), int(self._turn_place(group, high))
        levels = self._task.levels
        if low == -1 or high == self._last + 1:
            edge = levels[b] if low == -1 else levels[a]
            return SingleCrossing(edge, a if low >= 0 else -1, inside=False)
        before, after = self._values[SearchPoint(group, seed, a)], self._values[SearchPoint(group, seed, b)]
        share = (before - self._task.threshold) / (before - after)
        return SingleCrossing(levels[a] + (levels[b] - levels[a]) * share, a, inside=True)

    def _turn_place(self, group: int, place: float) -> float:
        """Turn a place into a level's number, or back."""
        return self._last - place if self.is_rising(group) else place

    def _holds(self, value: float) -> bool:
        return value <= self._task.threshold if self._task.is_lower_better else value >= self._task.threshold

    def is_rising(self, group: int) -> bool:
        """Tell whether images hold at the high end: the first seed's do, and at the low end they do not."""
        first, final = (self._values.get(SearchPoint(group, 0, end), math.nan) for end in (0, self._last))
        return self._holds(final) and not self._holds(first)

    def _predict(self, group: int, seeds: Iterable[int]) -> float | None:
        """Predict the place at which a further seed's search begins; None where curves turn: it then starts cold."""
        chosen = tuple(seeds)
        known = [self.crossings[group, seed] for seed in chosen]
        if any(not each.inside for each in known) or self._is_turning(group, chosen):
            return None
        at = float(np.mean([each.at for each in known]))
        return self._turn_place(group, float(np.interp(at, self._task.levels, range(self._last + 1))))

    def _is_turning(self, group: int, seeds: Iterable[int]) -> bool:
        """Tell whether a curve of these seeds goes back by more than a twentieth of its range.

        Only what their own searches looked at counts: the answer must not change when more is rendered.
        """
        for seed in seeds:
            seen = np.array([value for _, value in sorted(self._paths[group, seed].items())])
            if len(seen) > 1:
                steps = np.diff(seen) * (1 if seen[-1] >= seen[0] else -1)
                if steps.min() < -TURNS * np.ptp(seen):
                    return True
        return False


def average_groups(
    crossings: Mapping[tuple[int, int], SingleCrossing], groups: Iterable[int], seeds: Iterable[int]
) -> FloatArray:
    """Average each seed's crossings over the groups; NaN where one is missing."""
    chosen = list(groups)
    found = [[crossings[g, s].at if (g, s) in crossings else math.nan for g in chosen] for s in seeds]
    return np.asarray(np.mean(found, axis=1), dtype=np.float64)


def count_needed_seeds(pilot: FloatArray, within: float) -> int:
    """Count the seeds that Stein's rule asks for, at least those of the pilot."""
    known = pilot[np.isfinite(pilot)]
    if len(known) < 2:
        return len(pilot)
    wide = float(compute_t_quantile(len(known) - 1)) * float(known.std(ddof=1))
    return max(len(pilot), math.ceil((wide / within) ** 2 - 1e-9))


def estimate_crossing(task: SearchTask, decision: SearchDecision) -> Estimate:
    """Estimate the mean of the crossings of single images, with its interval where every seed so far is whole.

    With as many seeds as Stein's rule asks for, the spread is that of the first four; where budget or seeds end
    earlier, their number depends on no value, and the spread is that of all. This mean is not the crossing of the mean
    curve. In the search for the weakest group it is that of the groups that are left, without an interval.
    """
    chosen = decision.alive
    used = [crossing for (group, _), crossing in decision.crossings.items() if group in chosen]
    places = average_groups(decision.crossings, chosen, range(task.seeds))
    places = places[np.isfinite(places)]
    is_stein = not decision.is_short
    spread = places[:PILOT] if is_stein else places
    reason = None
    if decision.wanted:
        reason = UNFINISHED
    elif task.is_weakest_wanted:
        reason = STOPPED
    elif len(spread) < 2 or any(math.isnan(each.at) for each in used):
        reason = IMAGES_LOST
    elif not all(each.inside for each in used):
        reason = NOT_CROSSED
    value = float(places.mean()) if len(places) and reason != NOT_CROSSED else None
    found = make_estimate(value, n=len(places), reason=reason)
    if reason is None and value is not None:
        half = float(compute_t_quantile(len(spread) - 1)) * float(spread.std(ddof=1)) / math.sqrt(len(places))
        found["low"], found["high"] = value - half, value + half
        found["method"] = "two-stage t over seeds" if is_stein else "t over seeds"
    return found


def _read_search(results: RecordedResults) -> tuple[SearchTask, RecordedValues]:
    """Read the task and the values on record, and measure what is not measured yet. Raises UsageError."""
    from sweep.study.measuring.measurements import measure_design
    from sweep.study.metrics.metric_lookup import resolve_metrics

    facts, asked = results.facts, results.facts.design
    (metric,) = resolve_metrics([asked["metric"]])
    check_direction(metric.name, metric.direction)
    searched, seed = _find_axes(facts)
    others = [axis for axis in facts.axes if axis not in (searched, seed)]
    names = [axis.name for axis in others]
    task = SearchTask(
        levels=tuple(sorted(float(level or 0) for level in searched.levels)),
        groups=tuple(dict(zip(names, cell, strict=True)) for cell in product(*(axis.levels for axis in others))),
        seeds=len(seed.levels),
        threshold=float(asked["threshold"]),
        is_lower_better=metric.direction == "lower",
        is_weakest_wanted=asked["goal"] == "weakest",
        within=float(asked["within"]),
        most=int(asked["most"]),
    )
    design, _ = measure_design(results, metrics=[metric], workers=0)
    measured = design.response(metric.name).tolist() if metric.name in design.frame else []
    columns = {axis.name.removeprefix("axis_"): [axis.levels[c] for c in axis.codes] for axis in design.axes}
    groups = {tuple(group.values()): at for at, group in enumerate(task.groups)}
    values = {}
    for row, (value, status) in enumerate(zip(measured, design.frame["status"], strict=False)):
        if status in ("completed", "failed"):
            group = groups[tuple(columns[name][row] for name in names)]
            level = task.levels.index(float(columns[searched.name][row] or 0))
            values[SearchPoint(group, seed.levels.index(columns[seed.name][row]), level)] = value
    return task, values


def _find_axes(facts: ExperimentFacts) -> tuple[ExperimentAxis, ExperimentAxis]:
    """Find the axis that is searched, and that of the seeds."""
    searched = next(axis for axis in facts.axes if axis.name == facts.design["axis"])
    return searched, next(axis for axis in facts.axes if axis.kind == "seed")


def check_direction(metric: str, direction: str) -> None:
    """Check that a metric is better at one end. Raises UsageError."""
    if direction == "neutral":
        raise UsageError(
            f"The design looks for where {metric} gets worse, but neither high nor low values of it are better.",
            hint="Choose a metric that compares with a source, such as structure_coarse.",
        )


def choose_next_points(folder: Path) -> list[dict[str, Scalar]]:
    """Choose what an adaptive design renders next, from what the folder has on record; nothing at its end.

    Measures new images first. The same record always gives the same points. Raises UsageError where the metric is
    unknown or neither of its sides is better, RecordError where the folder cannot be read or written.
    """
    from sweep.record import RecordedResults

    results = RecordedResults.open(folder)
    task, values = _read_search(results)
    searched, seed = _find_axes(results.facts)
    levels = {float(level or 0): level for level in searched.levels}  # as the experiment writes them
    return [
        {**task.groups[group], seed.name: seed.levels[number], searched.name: levels[task.levels[level]]}
        for group, number, level in SearchDecision(task, values).wanted
    ]


def conclude_search(results: RecordedResults) -> AdaptiveResult | None:
    """Summarise what an adaptive design found so far; None for other designs. Raises as `choose_next_points`."""
    asked = results.facts.design
    return summarise_search(*_read_search(results), asked["metric"], asked["axis"]) if asked else None


def summarise_search(task: SearchTask, values: RecordedValues, metric: str, axis: str) -> AdaptiveResult:
    """Summarise what the values show so far. No level is advised where groups hold at different ends of the axis."""
    decision = SearchDecision(task, values)
    crossing = estimate_crossing(task, decision)
    groups = [_summarise_group(task, decision, group) for group in range(len(task.groups))]
    low, high = crossing["low"], crossing["high"]
    is_reached = len(decision.alive) == 1 if task.is_weakest_wanted else False
    if low is not None and high is not None:
        is_reached = (high - low) / 2 <= task.within
    bound = [group for group in groups if group["is_rising"] or group["use"] != task.levels[-1]] or groups
    directions = {group["is_rising"] for group in bound}
    pick = max if True in directions else min
    known = [group for group in bound if group["mean"] is not None and len(directions) == 1]
    safe = [group["use"] if len(directions) == 1 else None for group in bound]
    return AdaptiveResult(
        metric=metric,
        axis=axis,
        threshold=task.threshold,
        goal="weakest" if task.is_weakest_wanted else "each",
        ending=None if decision.wanted else ("precision reached" if is_reached else "budget spent"),
        used=decision.used,
        most=task.most,
        full=len(task.groups) * len(task.levels) * task.seeds,
        within=task.within,
        seeds=decision.seeds,
        seeds_there=task.seeds,
        crossing=crossing,
        groups=groups,
        weakest=pick(known, key=lambda group: group["mean"] or 0.0)["group"] if known else None,
        possible=[task.groups[group] for group in decision.find_possible()],
        use=None if None in safe else pick(level for level in safe if level is not None),
    )


def _summarise_group(task: SearchTask, decision: SearchDecision, group: int) -> AdaptiveGroup:
    mine = [crossing for (g, _), crossing in sorted(decision.crossings.items()) if g == group]
    known = [crossing for crossing in mine if not math.isnan(crossing.at)]
    places, held = [crossing.at for crossing in known], [crossing.held for crossing in known]
    is_rising = decision.is_rising(group)
    return AdaptiveGroup(
        group=task.groups[group],
        mean=float(np.mean(places)) if places else None,
        lowest=min(places, default=None),
        highest=max(places, default=None),
        inside=sum(crossing.inside for crossing in mine),
        n=len(places),
        use=None if not held or -1 in held else task.levels[max(held) if is_rising else min(held)],
        is_rising=is_rising,
    )
