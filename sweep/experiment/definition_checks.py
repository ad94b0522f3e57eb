"""Checks of an experiment file: its shape, in plain words; its conditions, design and baselines against its axes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from sweep.errors import did_you_mean
from sweep.experiment.axes import Axis, AxisKind, CellSeeds, Dimension, ReplacingLevels, Setting, UndrawnLevels
from sweep.experiment.axis_option import suggest_axis
from sweep.experiment.conditions import Clause, ConditionError, NamedAxis, compile_clause
from sweep.experiment.file_schema import (
    AXIS_KEYS,
    AXIS_TAGS,
    MERGED,
    DesignSpec,
    ExperimentFile,
    list_known_keys,
    list_section_keys,
)
from sweep.experiment.grid import make_space
from sweep.experiment.problems import DocumentPath, ProblemCollector, join_path
from sweep.experiment.yaml_document import Document, quote_source
from sweep.role_table import TEMPLATE_NAMES, quote


def validate_shape(document: Document, problems: ProblemCollector[DocumentPath]) -> ExperimentFile:
    """Validate the file's shape; leave out what has problems, so that the rest is checked too."""
    data = document.data
    try:
        return ExperimentFile.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    pruned = {key: dict(part) if isinstance(part, dict) else part for key, part in data.items()}
    misspelt = {_locate(detail["loc"], document)[:-1] for detail in details if detail["type"] == "extra_forbidden"}
    for detail in details:
        place = _locate(detail["loc"], document)
        if not (detail["type"] == "missing" and place[0] == "axes" and place[:-1] in misspelt):  # one slip, one problem
            _report(problems, document, place, detail)
        if not place:
            continue
        section = pruned.get(str(place[0]))
        if len(place) > 1 and place[0] in MERGED and isinstance(section, dict):
            section.pop(str(place[1]), None)
        else:
            pruned.pop(str(place[0]), None)
    pruned.setdefault("workflow", TEMPLATE_NAMES[0])
    try:
        return ExperimentFile.model_validate(pruned)
    except ValidationError:
        return ExperimentFile(workflow=TEMPLATE_NAMES[0])


def _locate(loc: Sequence[str | int], document: Document) -> DocumentPath:
    """Find the place in the file that pydantic means, which adds the kind of an axis and, below `axes.zip`, a zip."""
    place: DocumentPath = tuple(part for part in loc if part not in AXIS_TAGS)
    if place[:3] == ("axes", "zip", "zip") and place[:3] not in document.keys:
        return ("axes", *place[2:])
    return place


def _report(problems: ProblemCollector[DocumentPath], document: Document, place: DocumentPath, detail: Any) -> None:
    kind, raw, name = detail["type"], detail.get("input"), join_path(place)
    if kind == "extra_forbidden":
        problems.add_at_key(place, _describe_unknown_key(place, document.data))
    elif kind == "missing":
        above, last = join_path(place[:-1]), place[-1]
        problems.add_at_key(place[:-1], f"{above} needs {last}" if above else f"{last} is missing")
    elif kind == "union_tag_not_found":
        problems.add_at_key(place, _describe_no_axis(name, raw))
    elif kind == "value_error":
        problems.add_at_value(place, f"{name} {detail['ctx']['error']}".strip())
    else:
        message = f"{name} {_describe(detail)}"
        if detail["type"] == "string_type" and isinstance(raw, int | float):
            message += f'; text that looks like something else needs quotes: "{quote(raw)}"'
        problems.add_at_value(place, quote_source(document, place, message))


def _describe_unknown_key(place: DocumentPath, data: Mapping[str, Any]) -> str:
    """Name the nearest key that could stand there, or say that the unknown one belongs to another kind."""
    last, holder = str(place[-1]), data
    for part in place[:-1]:
        inner = holder.get(str(part))
        holder = inner if isinstance(inner, dict) else {}
    if len(place) == 1:
        known: Sequence[str] = tuple(ExperimentFile.model_fields)
    else:
        known = list_known_keys(holder) if place[0] == "axes" else list_section_keys().get(str(place[0]), ())
    beside = [key for key in holder if key != last]
    if place[0] == "axes" and len(place) > 2 and last in AXIS_KEYS:
        others = ", ".join(key for key in beside if key in known)
        return f"{join_path(place[:-1])} cannot have {last} beside {others}"
    near = did_you_mean(last, [key for key in known if key not in beside])
    if not near and place[0] == "axes":
        near = did_you_mean(last, AXIS_KEYS)
    return f"{join_path(place)} is not known here.{near}"


def _describe_no_axis(name: str, raw: Any) -> str:
    if isinstance(raw, dict):
        if not raw:
            return f"{name} is empty; an axis needs at least one value"
        odd = next(iter(raw))
        return f"{name} is not a kind of axis: it has {', '.join(map(str, raw))}.{did_you_mean(str(odd), AXIS_KEYS)}"
    if raw is None:
        return f"{name} is empty; an axis needs at least one value"
    meant = suggest_axis(name.rpartition(".")[2], raw) if isinstance(raw, str) else None
    way = f"write {meant}" if meant else "for one fixed value, set it under inputs"
    return f"{name} must be a list or a mapping, not {quote(raw)}; {way}"


def _describe(detail: Any) -> str:
    kind, raw, context = detail["type"], detail.get("input"), detail.get("ctx", {})
    wanted = {
        "string_type": "text",
        "int_type": "a whole number",
        "list_type": "a list",
        "dict_type": "a mapping",
        "model_type": "a mapping",
        "tuple_type": "a list",
    }.get(kind)
    if wanted:
        return f"must be {wanted}, not {quote(raw)}"
    match kind:
        case "greater_than_equal":
            return f"is {quote(raw)}, but must be at least {context['ge']}"
        case "less_than_equal":
            return f"is {quote(raw)}, but must be at most {context['le']}"
        case "literal_error":
            near = did_you_mean(raw, re.findall(r"'([^']+)'", context["expected"])) if isinstance(raw, str) else ""
            return f"must be {context['expected'].replace(chr(39), '')}, not {quote(raw)}.{near}"
        case "string_too_short":
            return "must not be empty"
    return str(detail["msg"]).lower()


MAX_POINTS: Final = 10**15
MAX_CHECKED_POINTS: Final = 20_000  # a larger grid is not searched for being empty before it is asked for
LEAST_ADAPTIVE_SEEDS: Final = 4  # of an adaptive design: their spread decides how many follow
LEAST_ADAPTIVE_LEVELS: Final = 4  # of its axis


@dataclass
class GridValidator:
    """Checks the conditions, the design and the baselines of an experiment against its axes."""

    file: ExperimentFile
    document: Document
    problems: ProblemCollector[DocumentPath]
    dimensions: Sequence[Dimension]

    def __post_init__(self) -> None:
        self.axes = {axis.name: axis for dimension in self.dimensions for axis in dimension.axes}
        self.points = math.prod(len(dimension) for dimension in self.dimensions)  # of the full grid
        self.seeds = max((len(dimension) for dimension in self.dimensions if dimension.is_seeds), default=0)

    def check_distinct_axes(self) -> None:
        """Check that no two axes have one name or set one target: only one of them could win."""
        names: set[str] = set()
        homes: dict[str, str] = {}
        for axis in (axis for dimension in self.dimensions for axis in dimension.axes):
            place = ("axes", axis.name)
            if axis.name in names:
                self.problems.add_at_key(place, f"there are two axes named {axis.name}")
            names.add(axis.name)
            for target in _collect_targets(axis):
                if target in homes and homes[target] != axis.name:
                    self.problems.add_at_key(place, f"axes {homes[target]} and {axis.name} both set {target}")
                homes.setdefault(target, axis.name)

    def check_replacements(self, inputs: Mapping[str, Setting]) -> list[str]:
        """Check that every replacement finds its text, as far as the file itself says what that is.

        Returns:
            What to notice.
        """
        replacing = [
            (axis.name, target, axis.levels.search)
            for axis in self.axes.values()
            if isinstance(axis.levels, ReplacingLevels)
            for target in axis.levels.targets
        ]
        first: dict[tuple[str, str], str] = {}
        notices: list[str] = []
        for name, target, search in replacing:
            place = ("axes", name, "replace")
            texts = self._collect_texts(target, inputs)
            missing = next((text for text in texts if search not in text), None)
            other = first.setdefault((target, search), name)
            if other != name:
                self.problems.add_at_value(place, f'axes.{other} and axes.{name} both replace "{search}"')
            elif missing is not None:
                message = f'axes.{name}: "{search}" does not occur in the {target} {quote(missing)}'
                self.problems.add_at_value(place, message)
            else:
                longer = {each for _, where, each in replacing if where == target and search in each and each != search}
                notices += _note_inside(f"axes.{name}", search, target, [_blank(longer, text) for text in texts])
        return notices

    def _collect_texts(self, target: str, inputs: Mapping[str, Setting]) -> list[str]:
        fixed = inputs.get(target)
        setters = [axis for axis in self.axes.values() if target in _collect_targets(axis)]
        found = [level.settings.get(target, fixed) for level in setters[0].levels] if setters else [fixed]
        return [text for text in found if isinstance(text, str)]

    def compile_clauses(self) -> tuple[Clause, ...]:
        """Compile the conditions of where: and exclude:, those that name only axes that are right."""
        broken = set(self._list_written_axes()) - set(self.axes)
        known = [_describe_axis(axis) for axis in self.axes.values()] + [NamedAxis(name, "any") for name in broken]
        clauses: list[Clause] = []
        for section, texts, wanted in (("where", self.file.where, True), ("exclude", self.file.exclude, False)):
            listed = isinstance(self.document.data.get(section), list)
            for at, text in enumerate(texts):
                place: DocumentPath = (section, at) if listed else (section,)
                try:
                    clause = compile_clause(text, known, wanted=wanted)
                except ConditionError as error:
                    self.problems.add_at_character(place, f"{section}: {error.message}", error.column)
                    continue
                self._check_seeds_known(place, section, clause)
                if not broken.intersection(clause.names):
                    clauses.append(clause)
        return tuple(clauses)

    def _check_seeds_known(self, place: DocumentPath, section: str, clause: Clause) -> None:
        levels = {name: self.axes[name].levels for name in clause.names if name in self.axes}
        own = next((name for name, each in levels.items() if isinstance(each, CellSeeds)), None)
        undrawn = next((name for name, each in levels.items() if isinstance(each, UndrawnLevels)), None)
        if own:
            message = f"{section}: {own} has other seeds in each combination; leave it out of conditions"
            self.problems.add_at_value(place, message)
        if undrawn:
            message = f"{section}: the seeds of {undrawn} are not drawn before the run; give them a start"
            self.problems.add_at_value(place, message)

    def _list_written_axes(self) -> list[str]:
        """List the names of the axes as the file has them, wrong ones too."""
        names: list[str] = []
        written = self.document.data.get("axes")
        for name, raw in written.items() if isinstance(written, dict) else ():
            inner = raw.get("zip", raw if name == "zip" else None) if isinstance(raw, dict) else None
            columns = raw.get("columns") if isinstance(raw, dict) else None
            names += list(inner) if isinstance(inner, dict) else list(columns) if columns else [name]
        return [name for name in names if isinstance(name, str)]

    def check(self) -> None:
        """Check the design, the baselines and the number of points."""
        design = self.file.design
        self._check_cell("design", design.baseline)
        least = {"rotated": 2, "adaptive": LEAST_ADAPTIVE_SEEDS}.get(design.kind, 0)
        if least and any(dimension.has_cell_seeds for dimension in self.dimensions):
            message = f"design {design.kind} needs the same seeds at every point: leave each_cell out"
            self.problems.add_at_value(("design", "kind"), message)
        if self.seeds < least:
            message = f"design {design.kind} needs an axis of at least {least} seeds; this grid has {self.seeds}"
            self.problems.add_at_value(("design", "kind"), message)
        if design.kind == "adaptive":
            self._check_adaptive(design)
        self._check_cell("study", self.file.study.baseline)
        if self.points > MAX_POINTS:
            message = f"The grid has {self.points:.3g} points; the most is {MAX_POINTS:.0e}."
            self.problems.add_at_key(("axes",), message)

    def _check_adaptive(self, design: DesignSpec) -> None:
        """Check that an adaptive design has a numeric axis, groups and a whole grid to choose from."""
        axis, group = self.axes.get(design.axis or ""), (design.for_ or "each prompt").split()[1]
        others = [name for name, other in self.axes.items() if other is not axis and other.kind != "seed"]
        if axis is None:
            near = did_you_mean(design.axis or "", self.axes)
            self.problems.add_at_value(("design", "axis"), f"there is no axis named {design.axis}.{near}")
        elif axis.kind not in ("integer", "number") or len(axis.levels) < LEAST_ADAPTIVE_LEVELS:
            message = f"{design.axis} is no numeric axis of {LEAST_ADAPTIVE_LEVELS} levels or more"
            self.problems.add_at_value(("design", "axis"), message)
        if group != "prompt" and group not in others:
            self.problems.add_at_value(
                ("design", "for"), f"there is no axis named {group}.{did_you_mean(group, others)}"
            )
        if self.file.where or self.file.exclude or any(len(dimension.axes) > 1 for dimension in self.dimensions):
            self.problems.add_at_value(("design", "kind"), "design adaptive needs a grid without conditions and zip")
        if self.file.study.replicates > 1:
            self.problems.add_at_value(("study", "replicates"), "design adaptive renders each point once")
        if axis is not None:
            self._check_budget(design, len(axis.levels))

    def _check_budget(self, design: DesignSpec, levels: int) -> None:
        """Check that an adaptive design may render what its first decision needs: both ends of each group's axis, and
        a bisection for each of its first seeds.
        """
        first = 1 if design.goal == "weakest" else LEAST_ADAPTIVE_SEEDS
        groups = self.points // (levels * max(self.seeds, 1))
        least = groups * (2 + first * math.ceil(math.log2(levels + 1)))
        allowed = design.at_most * self.points
        if allowed < least:
            self.problems.add_at_value(
                ("design", "at_most"),
                f"design.at_most {design.at_most:g} allows {allowed:.0f} of {self.points} images; this design needs up "
                f"to {least} before it can decide: at_most must be {least / self.points:.2f} or more",
            )

    def _check_cell(self, section: str, cell: Mapping[str, Any]) -> None:
        """Check that every axis that a baseline names exists and has that value."""
        for name, value in cell.items():
            place, axis = (section, "baseline", name), self.axes.get(name)
            if axis is None:
                if name not in self._list_written_axes():
                    self.problems.add_at_key(place, f"there is no axis named {name}.{did_you_mean(name, self.axes)}")
            elif isinstance(axis.levels, CellSeeds):
                self.problems.add_at_key(place, f"{name} has other seeds in each combination: leave it out")
            elif isinstance(axis.levels, UndrawnLevels):
                message = f"the seeds of {name} are not drawn before the run; give them a start"
                self.problems.add_at_value(place, message)
            elif axis.levels.position(value) is None:
                self.problems.add_at_value(place, f"axis {name} has no value {quote(value)}")

    def check_not_empty(self, clauses: Sequence[Clause]) -> None:
        """Raise ExperimentError now, where that is quickly known, if the conditions leave nothing."""
        if self.points <= MAX_CHECKED_POINTS and not len(make_space(self.dimensions, clauses)):
            place = ("where",) if self.file.where else ("exclude",)
            self.problems.add_at_key(place, "the conditions leave no point of the grid")
            self.problems.raise_any()


def _collect_targets(axis: Axis) -> set[str]:
    return set() if isinstance(axis.levels, ReplacingLevels) else set(axis.levels.targets)  # replacements add up


def _blank(searches: set[str], text: str) -> str:
    """Blank what longer replacements of other axes take, the longest first."""
    for search in sorted(searches, key=len, reverse=True):
        text = text.replace(search, "\0")
    return text


def _note_inside(place: str, search: str, target: str, texts: Sequence[str]) -> list[str]:
    """Note that some of what is replaced stands inside a longer word."""
    word = re.compile(rf"(?<!\w){re.escape(search)}(?!\w)")
    counts = [(text.count(search) - len(word.findall(text)), text.count(search)) for text in texts]
    inside, count = max(counts, default=(0, 0))
    if not inside:
        return []
    times = f"{count} times in the {target}, {inside} of them" if count > 1 else f"in the {target}"
    return [f'{place}: "{search}" occurs {times} inside a longer word; all of them are replaced.']


def _describe_axis(axis: Axis) -> NamedAxis:
    kinds: dict[AxisKind, Any] = {"integer": "number", "number": "number", "seed": "number", "boolean": "boolean"}
    kind = kinds.get(axis.kind, "text")
    few = kind == "text" and len(axis.levels) <= 1_000
    return NamedAxis(axis.name, kind, tuple(level.value for level in axis.levels) if few else ())
