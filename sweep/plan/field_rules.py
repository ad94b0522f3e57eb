"""Targets that an experiment sets, the fields of a graph that they mean, and the rules that write these fields.

A target is a role (`steps`), a role with a number (`lora_weight_2`) or an address (`noise.seed`). `Assignments` says
which are set by inputs and by axes, and to what at given levels; `TargetResolver` finds their fields in one graph. A
rule is a pure function of settings, so it serves fixed inputs and axes alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeAlias

from sweep.errors import PlanError, WorkflowError, did_you_mean
from sweep.experiment import Axis, Experiment, InputImage, Level, ProblemCollector, Replacement, Setting, replace_words
from sweep.plan.model_finder import ModelFinder
from sweep.role_table import INPUT_NAMES, is_address, parse_numbered
from sweep.text import truncate
from sweep.workflow import (
    IDENTITY,
    Address,
    BoardRef,
    Edge,
    Encoding,
    FieldSchema,
    Graph,
    ImageRef,
    ModelRef,
    Names,
    NodeSchemas,
    Roles,
    Target,
    Value,
    field_target,
    find_address,
    range_of,
    readable,
)


def is_replacing(axis: Axis, target: str) -> bool:
    """Tell whether the axis only replaces words in the text that the target has otherwise."""
    first = axis.levels[0].settings if len(axis.levels) else {}
    return isinstance(first.get(target), Replacement)


@dataclass(frozen=True, slots=True)
class Assignments:
    """The settings of an experiment by target: its inputs, and the axes whose levels may set the target."""

    inputs: Mapping[str, Setting]
    axes: Mapping[str, tuple[Axis, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Experiment) -> Assignments:
        axes: dict[str, tuple[Axis, ...]] = {}
        for axis in experiment.axes:
            for target in axis.levels.targets:
                axes[target] = (*axes.get(target, ()), axis)
        return cls(experiment.inputs, axes)

    def __iter__(self) -> Iterator[str]:
        """List every target that is set."""
        return iter(dict.fromkeys((*self.inputs, *self.axes)))

    def __contains__(self, target: object) -> bool:
        return target in self.inputs or target in self.axes

    def settings(self, target: str) -> Iterator[Setting]:
        """Collect everything a target is ever set to, by inputs and by each level of an axis."""
        if target in self.inputs:
            yield self.inputs[target]
        for axis in self.axes.get(target, ()):
            yield from (level.settings[target] for level in axis.levels if target in level.settings)

    def locate(self, target: str) -> str:
        """Find where the file sets it: inputs.steps, axes.steps."""
        return f"axes.{self.axes[target][0].name}" if target in self.axes else f"inputs.{target}"

    def merge(
        self, targets: Sequence[str], levels: Mapping[str, Level], defaults: Mapping[str, Setting]
    ) -> dict[str, Setting]:
        """Merge the settings of these targets at these levels: inputs, then levels, then replacements in their text.

        Raises:
            ExperimentError: A replacement finds nothing to replace.
        """
        settings = {target: self.inputs[target] for target in targets if target in self.inputs}
        replacements: dict[str, list[Replacement]] = {}
        for target in targets:
            for axis in self.axes.get(target, ()):
                made = levels[axis.name].settings
                if target not in made:
                    continue
                setting = made[target]
                if isinstance(setting, Replacement):
                    replacements.setdefault(target, []).append(setting)
                else:
                    settings[target] = setting
        for target, found in replacements.items():
            text = settings.get(target, defaults.get(target))
            settings[target] = replace_words(text if isinstance(text, str) else "", found)
        return settings


def list_loras(setting: Setting) -> list[tuple[str, float | None]]:
    """List (name, weight) of each LoRA a setting names: a name, {name, weight}, a list of these, or none."""
    items = setting if isinstance(setting, list) else [] if setting is None else [setting]
    return [
        (str(item.get("name")), item.get("weight")) if isinstance(item, Mapping) else (str(item), None)
        for item in items
    ]


def list_controls(setting: Setting) -> list[Mapping[str, Any]]:
    """List the entries of a `controls` setting."""
    return [entry for entry in setting if isinstance(entry, Mapping)] if isinstance(setting, list) else []


THE_FIELD: Final = "the field "  # begins a problem that is to be told after the value itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One field a role or address stands for, as `encode` turns what the user says into what the field holds.

    `cut` are the edges that must go so that the field's own value takes effect.
    """

    address: Address
    schema: FieldSchema
    target: str  # the role it serves, or its own address
    encode: Encoding = IDENTITY
    cut: tuple[Edge, ...] = ()

    def value(self, setting: Any) -> Value:
        """Encode a setting for the field. Raises PlanError with the end of a sentence where it has no encoding."""
        if self.encode is IDENTITY:
            return setting  # type: ignore[no-any-return]
        try:
            return self.encode(setting)
        except ValueError as error:
            if isinstance(setting, bool) or not isinstance(setting, int | float):
                sentence = str(error)
                raise PlanError(sentence if sentence.endswith("?") else f"{sentence}.") from error
            bound = "at most 1" if setting > 1 else "at least 0"
            allowed = range_of(self.schema)
            raise PlanError(f"{THE_FIELD}{self.address} takes {allowed}, so strength is {bound}.") from error


SettingValues: TypeAlias = Mapping[str, Setting]  # by target: a role or a node.field address
Written: TypeAlias = dict[Address, Value]


@dataclass(frozen=True)
class FieldRule:
    """Writes the settings of some targets into the fields of a graph.

    `encode` gives the fields for settings that may hold any of `targets`, and raises PlanError with the end of a
    sentence. `slots` are all the fields it may write, `defaults` what the workflow itself says for a target.
    """

    uses: Assignments
    targets: tuple[str, ...]
    slots: tuple[Slot, ...]
    encode: Callable[[SettingValues], Written]
    defaults: SettingValues = field(default_factory=dict)
    shown: str = ""  # how it reads in the plan, as of `describe_rule`

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """The axes by which its targets move; none where only inputs set them."""
        return tuple(dict.fromkeys(axis.name for target in self.targets for axis in self.uses.axes.get(target, ())))

    def write(self, levels: Mapping[str, Level]) -> Written:
        """Compute the fields at these levels. Raises PlanError or ExperimentError where a setting fits no field."""
        return self.encode(self.uses.merge(self.targets, levels, self.defaults))


def check_prompt(text: str, closing: Sequence[str]) -> None:
    """Check that no text stands behind a call that ends the prompt for the server. Raises PlanError."""
    for call in closing:
        if behind := re.search(rf"\.{call}\([^()]*\)[\s,;.]*(?!\.)(\S.*)", text, re.DOTALL):
            where = f"behind .{call}(), where the server does not read it"
            way = 'put it inside, as in ("a cat, {variation}", "a dog")'
            raise PlanError(f'has the text "{truncate(behind[1], 30)}" {where}; {way}.{call}().')


def describe_rule(target: str, slots: Sequence[Slot]) -> str:
    """Describe how a target is written, as people read it: denoise.denoising_start = 1 − denoise_strength."""
    turned = [(slot.address, slot.encode.formula(target)) for slot in slots]
    return " · ".join(str(address) if formula == target else f"{address} = {formula}" for address, formula in turned)


_ALIKE: Final = frozenset({None, "sd-1", "sd-2", "sdxl"})  # bases whose templates have the same roles
_UNKNOWN: Final = FieldSchema(name="", type="any")
_WANTED: Final[Mapping[str, str]] = {"image": "img2img", "denoise_strength": "img2img", "control_image": "controlnet"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetResolver:
    """Finds the fields of one graph by roles and addresses; one that is not found is a problem where it is named."""

    graph: Graph
    schemas: NodeSchemas
    roles: Roles
    base: str | None
    uses: Assignments
    problems: ProblemCollector[str]
    workflow: str  # as the experiment names it
    is_template: bool
    models: ModelFinder

    def resolve(self, target: str, said: str | None = None) -> tuple[Slot, ...]:
        """Resolve a role or address to its fields; to none, with a problem at `said`, where it cannot be set."""
        said = said or target
        one = parse_numbered(target)
        role = one[0] if one else target
        try:
            if role in INPUT_NAMES:
                if role not in self.roles and role not in self.roles.ambiguous:
                    self.report_missing(said)
                    return ()
                found = self.roles.one(*one) if one else self.roles[role]
                return tuple(self.make_slot(each, said) for each in found)
            if is_address(target):
                return (self.make_slot(field_target(self.graph, self.schemas, self._find_address(target)), target),)
        except WorkflowError as error:
            self.refuse(said, readable(self.graph, str(error)))
            return ()
        near = did_you_mean(target, [*self.roles.targets, "variation", *self.list_addresses()])
        where = self.uses.locate(said)
        self.problems.add_at_key(where, f"{where} is no input: neither a role nor NODE.FIELD of {self.workflow}.{near}")
        return ()

    def refuse(self, target: str, problem: str) -> None:
        """Add a problem where the file sets the target."""
        place = self.uses.locate(target)
        self.problems.add_at_key(place, f"{place}: {problem}")

    def _find_address(self, text: str) -> Address:
        try:
            return find_address(self.graph, text)
        except WorkflowError as error:
            near = did_you_mean(text, [*self.list_addresses(), *self.roles.targets])
            if near and error.hint is None:
                raise WorkflowError(f"{self.workflow} has no node {Address.parse(text).node!r}.{near}") from error
            raise

    def list_addresses(self) -> Iterator[str]:
        """List every field a person can set, as it can be written."""
        names = Names(self.graph)
        for node in self.graph.nodes.values():
            called = names.called(node.id)
            yield from (f"{called}.{name}" for name, taken in self.fields_of(node.id).items() if taken.takes_value)

    def report_missing(self, target: str) -> None:
        """Add the problem that the workflow has no such role."""
        hint = f" Use the template {_WANTED[target]}." if target in _WANTED and self.is_template else ""
        other = self.is_template and (self.base not in _ALIKE or target == "clip_skip")
        kind = f"{self.workflow} for {self.base}" if other else self.workflow
        self.refuse(target, f"{kind} has no {target}.{hint}")

    def resolve_all(self, role: str, target: str) -> tuple[Slot, ...]:
        """Resolve a role wherever it occurs, for `target` to set; of LoRAs, the model's side first."""
        return tuple(self.make_slot(found, target) for group in self.roles.groups(role) for found in group)

    def resolve_field(self, address: Address, target: str) -> Slot:
        """Return a field by its address, for `target` to set."""
        if address.field not in self.fields_of(address.node):
            return Slot(address=address, schema=_UNKNOWN, target=target)
        return self.make_slot(field_target(self.graph, self.schemas, address), target)

    def make_slot(self, found: Target, target: str) -> Slot:
        """Make the slot of the field that a role stands for."""
        schema = self.fields_of(found.address.node).get(found.address.field, _UNKNOWN)
        return Slot(address=found.address, schema=schema, target=target, encode=found.encode, cut=found.cut)

    def fields_of(self, node: str) -> Mapping[str, FieldSchema]:
        """Return the fields that a node takes."""
        schema = self.schemas.get(self.graph.nodes[node].type)
        return schema.fields if schema else {}

    def read_value(self, address: Address) -> Value:
        """Return the workflow's own value of a field."""
        return self.graph.nodes[address.node].fields.get(address.field)

    def encode(self, slot: Slot, setting: Any) -> Value:
        """Encode a setting for the field, with names resolved. Raises PlanError where no model fits."""
        return self._find_references(slot.value(setting), slot.schema)

    def _find_references(self, setting: Any, schema: FieldSchema) -> Value:
        if isinstance(setting, InputImage):
            return ImageRef(setting.sha256)
        if isinstance(setting, list):
            return [self._find_references(item, schema) for item in setting]
        if schema.type == "ModelIdentifierField" and isinstance(setting, str | Mapping):
            return self.find_model(setting, schema.model_types)
        if schema.type == "BoardField" and isinstance(setting, str):
            return BoardRef(setting)
        return setting  # type: ignore[no-any-return]

    def find_model(self, name: Any, types: Sequence[str]) -> ModelRef:
        """Find the model of these types that fits. A main model decides the base, so it need not fit one."""
        return self.models.find(name, types, None if "main" in types else self.base)

    def make_value_rule(
        self, target: str, slots: Sequence[Slot], default: Value = None, closing: Sequence[str] = ()
    ) -> FieldRule:
        """Make the rule of one target: its value goes into each of its fields. `closing` is as for `check_prompt`."""

        def write(settings: SettingValues) -> Written:
            if target not in settings:
                return {}
            setting = settings[target]
            if isinstance(setting, str):
                check_prompt(setting, closing)
            return {slot.address: self.encode(slot, setting) for slot in slots}

        defaults: dict[str, Setting] = {target: default} if isinstance(default, str) else {}
        shown = describe_rule(target, slots)
        return FieldRule(self.uses, (target,), tuple(slots), write, defaults=defaults, shown=shown)
