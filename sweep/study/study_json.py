"""The JSON of a study, as `Study.to_json()` gives it, for the report and for anybody's own tools.

Rules that hold everywhere: numbers are finite or null, never NaN; levels keep the type they have in the results table
(number, text, boolean, null); an interval is always an `Estimate` that names its kind and its n, and where there is
none `low` and `high` are null and `reason` says why. Nothing is a path of this machine.

Raw points are not repeated: the points of a curve are the rows of `rows` that match its `group`; a line of one seed
are those of them with that seed. Row numbers (`row`) count from 0 into the columns of `rows`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, TypedDict

LevelValue: TypeAlias = str | int | float | bool | None
Group: TypeAlias = dict[str, LevelValue]  # axis name → level; empty: all rows

Direction: TypeAlias = Literal["higher", "lower", "neutral"]
ReferenceKind: TypeAlias = Literal["image", "none", "text", "cell"]


class Estimate(TypedDict):
    """A value with its interval. Shown as "0.45 (0.41–0.49, 95 %, n = 4 seeds)"."""

    value: float | None
    low: float | None
    high: float | None
    confidence: float  # 0.95
    n: int  # units of replication: seeds where there is a seed axis
    method: str  # how the interval was made, for a footnote: "t over seed means", "bootstrap over seeds", …
    reason: str | None  # why there is no value or no interval, or what limits it; a clause without a full stop


class AxisFacts(TypedDict):
    name: str
    kind: str  # integer | number | text | boolean | image | seed | label
    levels: list[LevelValue]  # ascending where numeric, else in order of appearance
    numeric: bool  # has response curves


class DesignFacts(TypedDict):
    """The design of a study: its axes, seeds and holes, and what images are compared with."""

    axes: list[AxisFacts]
    rows: int  # of the results table
    images: int  # rows with an image
    failed: int
    cells: int  # points of the crossed grid
    missing: int  # cells of it without an image
    balanced: bool  # every cell has the same number of images
    seed_axis: str | None
    seeds: int
    seeds_shared: bool  # the same seeds at every other point
    replicates: int  # images of one cell, 1 where nothing is repeated
    reference: Literal["source", "baseline", "none"]  # what "image" metrics compare with
    baseline: Group  # empty unless reference is "baseline"


class MetricFacts(TypedDict):
    """The meaning of a column. `direction`: whether higher or lower values are nearer to the reference, or neither."""

    name: str  # column name
    label: str  # for people: "layout of light and dark"
    summary: str  # one sentence
    unit: str
    version: str
    direction: Direction
    range: list[float | None]  # lowest and highest value there can be, null: no bound
    reference: ReferenceKind
    working_size: int  # px of the longest side it was measured at; 0: not from images
    source: str  # where the formula is from
    measured: int  # rows with a value
    failed: int  # rows that should have one and do not


class Rows(TypedDict):
    """The table a study rests on, by columns of equal length; rows in the order of the results table."""

    key: list[str]
    index: list[int]
    image_path: list[str | None]  # relative to the results folder
    axes: dict[str, list[LevelValue]]
    metrics: dict[str, list[float | None]]
    reason: list[str | None]  # why a row has no metrics


class Sentence(TypedDict):
    """A finding in words. `kind`: recommendation | word (which axis of a text-to-image grid decides) | curve |
    share | difference | equal (levels that give the same image) | outlier | noise | choice (blind choices) |
    limit (what is unknown, and why) | assumption (what intervals take for granted).

    `words` come in order: first at most five `headline` sentences, ranked by what a person would do differently; then
    the rest, to be folded by kind. `text` says what to do or what was found, `detail` the counts behind it and what it
    cannot say; `rows` are images that show it (row numbers), at most eight.
    """

    kind: str
    text: str
    detail: str  # may be empty
    headline: bool
    metric: str | None
    axis: str | None
    rows: list[int]


class CurveWarning(TypedDict):
    """A limit of a curve. `low`–`high` is the stretch of the axis it holds for, null: all of it."""

    kind: Literal["saturated", "violated", "flat", "unclear", "one-seed", "missing"]
    message: str
    low: float | None
    high: float | None


class Crossing(TypedDict):
    """The level at which the fitted curve passes `threshold` (in units of the metric)."""

    threshold: float
    at: Estimate


class Curve(TypedDict):
    """The response of a metric to a numeric axis. `x`, `mean`, `low`, `high`, `n` are of equal length: one entry a
    level, the mean over seeds and the interval of it (null where there is one seed).
    """

    metric: str
    axis: str
    group: Group
    x: list[float]
    mean: list[float | None]
    low: list[float | None]
    high: list[float | None]
    n: list[int]  # seeds at this level
    interval: str  # "95 % t interval over 4 seed means", or why there is none
    fit_x: list[float]  # the monotone fit (isotonic, then PCHIP) on a fine grid; empty where there is none
    fit_y: list[float]
    falling: bool | None  # direction of the fit; None: no fit
    half: Estimate  # the level at which half of the range of the fit is passed
    crossings: list[Crossing]
    p: float | None  # of no change along the axis (paired t tests of slope and steps, Bonferroni)
    p_adjusted: float | None  # corrected over all metrics and axes; null in groups
    warnings: list[CurveWarning]


class Share(TypedDict):
    """The part of a metric's variance that a term explains. One axis: main effect; two: their interaction.

    The noise of seeds is taken out. There is no interval, and below four seeds no value: then only the order counts.
    """

    axes: list[str]
    share: Estimate  # of value 0–1


class Effects(TypedDict):
    """The shares of axes, pairs of axes and the seed, largest first; with `rest` they add to 1 on a balanced grid."""

    metric: str
    method: Literal["exact", "type II", "none"]
    shares: list[Share]
    rest: float | None  # how seeds differ from point to point, interactions of three axes, repeats
    variance: float | None
    n: int  # images
    reason: str | None


class Difference(TypedDict):
    """Level b minus level a of an axis, paired by seed (and averaged over everything else both have)."""

    metric: str
    axis: str
    a: LevelValue
    b: LevelValue
    difference: Estimate
    p: float | None  # of a paired t test
    p_adjusted: float | None  # times the number of pairs, and corrected over all metrics and axes
    pairs: int  # of this metric and axis, for which test and interval are corrected (Bonferroni)
    significant: bool | None  # p_adjusted < 0.05; then the interval excludes zero, too


class SeedRow(TypedDict):
    """The difference of one seed from the others on average, in units of the metric. Rank 1 is nearest to the
    reference (direction "neutral": the highest value). It describes these images: other settings can rank seeds anew.
    """

    metric: str
    seed: int
    mean: float
    deviation: float  # from the mean of all seeds, everything else equal
    rank: int
    n: int


class Outlier(TypedDict):
    """An image far from what its axes predict (additive model); `score` is in robust standard deviations."""

    metric: str
    row: int
    key: str
    value: float
    expected: float
    score: float


class NoiseFacts(TypedDict):
    """The noise of a metric when nothing is changed. `replicate`: standard deviation between images of one point.
    `floor`: the value at the lowest level of the strength axis, i.e. what encoding and decoding alone cost.
    """

    metric: str
    replicate: Estimate
    floor: Estimate
    floor_at: float | None


class Determinism(TypedDict):
    """Points rendered more than once: how many gave the very same file, and the same pixels."""

    points: int
    same_pixels: int
    message: str


class Hold(TypedDict):
    """The number of images that kept to a threshold at one level of an axis; `group` is empty for all rows."""

    metric: str
    axis: str
    threshold: float
    level: LevelValue
    group: Group
    held: int
    images: int


class Recommendation(TypedDict):
    """Advice for single images: the last tested level up to which every image of every group held, counted from the
    safe end of the axis (`side` "up to": from the lowest level, "from": from the highest).

    `held` of `images` are counted at `use`, or where `use` is null at the level at the safe end. `weakest_group` is the
    prompt, model or other level whose images fell below first: its last level at which all held is `bracket_low`, the
    next one, at which some did not, is `bracket_high` (in the order of the advice; null: the first level already
    failed, or it never failed). `shown`: whether levels differ by more than chance. `levels_to_add` lie in the gap
    behind `use`. `mean_crossing` with `low`, `high` and `n` seeds is where the mean passes the threshold: no advice.
    """

    metric: str
    axis: str
    threshold: float
    wanted: Literal["above", "below"]
    side: Literal["up to", "from"]
    use: float | None
    held: int
    images: int
    weakest_group: Group | None
    bracket_low: float | None
    bracket_high: float | None
    shown: bool
    levels_to_add: list[float]
    mean_crossing: float | None
    low: float | None
    high: float | None
    n: int
    method: str  # of the interval; "the tested levels around it" is no interval but the gap that holds the crossing


class AxisDistance(TypedDict):
    """The distance between images that differ in one axis alone. `seed` marks the yardstick: a new seed of one point.

    `a`, `b` (row numbers) and `distance` are columns with one entry a pair.
    """

    metric: str  # the distance: "colour"
    axis: str
    seed: bool
    mean: float
    pairs: int  # of all, also where the columns hold only a part
    a: list[int]
    b: list[int]
    distance: list[float]


class EqualLevels(TypedDict):
    """Levels of an axis whose images have the same pixels at every point that both have."""

    axis: str
    levels: int  # of the axis
    pairs: list[list[LevelValue]]  # of equal levels, next to each other in their order
    all: bool  # no level of the axis changes a pixel


class ChoiceRank(TypedDict):
    """A level in the ranking of blind choices. `strength` is the chance in percent of being chosen over an average
    level (Bradley and Terry 1952), with its 95 % interval; ranks are the range that the intervals leave open.
    """

    level: LevelValue
    chosen: float  # ties count half
    shown: int
    strength: float
    low: float
    high: float
    rank_low: int
    rank_high: int


class Choices(TypedDict):
    """Pairwise blind choices along one axis, and how consistent they are."""

    axis: str
    choices: int
    ties: int
    left: int
    right: int
    repeated: int  # pairs that came twice
    alike: int  # of these, chosen alike
    ranking: list[ChoiceRank]  # the best first
    agreement: dict[str, list[int]]  # by metric: choices that agree with it, of choices that could


class AdaptiveGroup(TypedDict):
    """The crossings of one group: where its images miss the threshold, seed by seed."""

    group: Group
    mean: float | None  # of the crossings of single images
    lowest: float | None
    highest: float | None
    inside: int  # images whose crossing lies within the levels
    n: int
    use: float | None  # the last level at which every seed holds; null: the first one fails
    is_rising: bool  # whether images hold at the high end


class AdaptiveResult(TypedDict):
    """The result of an adaptive design. `crossing` is the mean of the crossings of single images over groups and seeds,
    which is not the crossing of the mean curve.
    """

    metric: str
    axis: str
    threshold: float
    goal: Literal["each", "weakest"]
    ending: Literal["precision reached", "budget spent"] | None  # null: not at its end yet
    used: int  # images
    most: int
    full: int  # images of the full grid
    within: float  # asked half width
    seeds: int  # rendered
    seeds_there: int
    crossing: Estimate
    groups: list[AdaptiveGroup]
    weakest: Group | None
    possible: list[Group]  # groups that can be the weakest
    use: float | None  # the last level at which every image holds


class StudyJson(TypedDict):
    """The whole study. `version` changes when a reader of an older shape would misread it."""

    version: Literal[1]
    name: str | None  # the experiment's
    design: DesignFacts
    metrics: list[MetricFacts]
    words: list[Sentence]
    curves: list[Curve]  # for every numeric axis and metric: all rows first, then by the levels of each other axis
    effects: list[Effects]
    differences: list[Difference]
    seeds: list[SeedRow]
    outliers: list[Outlier]
    noise: list[NoiseFacts]
    determinism: Determinism | None
    holds: list[Hold]
    recommendations: list[Recommendation]
    distances: list[AxisDistance]  # the axis that moves images most first; empty where images have a source
    equal: list[EqualLevels]
    choices: list[Choices]  # by axis
    adaptive: AdaptiveResult | None  # of an adaptive design; such a study has no curves, shares and differences
    rows: Rows
