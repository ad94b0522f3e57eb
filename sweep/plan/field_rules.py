"""Settings of an experiment by target, and the rules that write them into the fields of a graph.

A target is a role (`steps`), a role with a number (`lora_weight_2`) or an address (`noise.seed`). `Assignments` says
which are set by inputs and by axes, and to what at given levels. A rule is a pure function of settings, so it serves
fixed inputs and axes alike; `RuleBuilder` makes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeAlias

from sweep.errors import PlanError
from sweep.experiment import Axis, Experiment, Level, Replacement, Setting, replace_words
from sweep.text import truncate
from sweep.workflow import IDENTITY, Address, Edge, Encoding, FieldSchema, Value, range_of


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


THE_FIELD: Final = "the field "  # begins a problem that a sentence shows after the value itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A field that a role or address stands for; `encode` turns a setting into the value that the field holds.

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
