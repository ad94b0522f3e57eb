"""Rules: what an experiment sets, by which axes, and what these settings become in the fields of a graph.

`Assignments` says which targets are set and to what at given levels. A prompt and its variation make one text, an image
and a width make one size. A list names LoRAs and ControlNets in their order (`lora`, `controls`), a role by itself sets
all of them (`lora_weight`), and one with a number a single one (`lora_weight_2`), which is a plain rule: its field is
not among those of the list. A rule is a pure function of settings, so it serves fixed inputs and axes alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, TypeAlias

from sweep.errors import PlanError
from sweep.experiment import (
    Axis,
    Dimension,
    Experiment,
    InputImage,
    LazyLevels,
    Level,
    LinearLevels,
    ListLevels,
    LogLevels,
    Replacement,
    Setting,
    replace_words,
)
from sweep.plan.models import ModelFinder
from sweep.role_table import CONTROL_ROLES
from sweep.text import truncate
from sweep.workflow import IDENTITY, Address, BoardRef, Edge, Encoding, FieldSchema, ImageRef, ModelRef, Value, range_of

_FEW: Final = 256  # levels of a range that are looked at one by one; of longer ones the ends tell
_MANY: Final = 10_000  # the same of a list of numbers


def list_targets(axis: Axis) -> tuple[str, ...]:
    """List what an axis sets, in the order its levels name it."""
    if isinstance(axis.levels, LazyLevels):
        return axis.levels.targets
    return tuple(dict.fromkeys(chain.from_iterable(level.settings for level in axis.levels)))


def choose_test_positions(dimension: Dimension) -> Sequence[int]:
    """Choose positions that are all right only if every one is: all of a short dimension, the extremes of a long range
    or of a long list of numbers. Zipped axes are looked at step by step, as they never meet otherwise.
    """
    count = len(dimension)
    if len(dimension.axes) > 1 or count <= _FEW:
        return range(count)
    levels = dimension.axes[0].levels
    if isinstance(levels, LinearLevels | LogLevels):
        return (0, 1, count - 1)
    if count > _MANY and isinstance(levels, ListLevels) and {type(value) for value in levels.values} <= {int, float}:
        numbers = [value for value in levels.values if isinstance(value, int | float)]
        odd = [value for value in numbers if value != int(value)][:1]
        return sorted({numbers.index(value) for value in (min(numbers), max(numbers), *odd)})
    return range(count)


def levels_at(dimension: Dimension, position: int) -> dict[str, Level]:
    """Return the levels of all axes of a dimension at a position."""
    return {axis.name: axis.levels[position] for axis in dimension.axes}


def _is_replacing(axis: Axis, target: str) -> bool:
    """Tell whether the axis only replaces words in what the target says otherwise."""
    first = axis.levels[0].settings if len(axis.levels) else {}
    return isinstance(first.get(target), Replacement)


@dataclass(frozen=True, slots=True)
class Assignments:
    """Who sets what: target → the axes whose levels may set it; inputs by themselves."""

    inputs: Mapping[str, Setting]
    axes: Mapping[str, tuple[Axis, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Experiment) -> Assignments:
        axes: dict[str, tuple[Axis, ...]] = {}
        for axis in experiment.axes:
            for target in list_targets(axis):
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

    def is_replacing(self) -> bool:
        """Tell whether any axis replaces words, so that each text it meets has to be looked at."""
        return any(_is_replacing(axis, target) for target, axes in self.axes.items() for axis in axes)

    def find_clashes(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Find the targets that two axes or more set outright, with the axes: only one of them could have its way."""
        for target, axes in self.axes.items():
            names = tuple(axis.name for axis in axes if not _is_replacing(axis, target))
            if len(names) > 1:
                yield target, names

    def locate(self, target: str) -> tuple[str, ...]:
        """Find where the file sets it: inputs.steps, axes.steps."""
        by_axes = tuple(f"axes.{axis.name}" for axis in self.axes.get(target, ()))
        return by_axes or (f"inputs.{target}",)

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


SLOT: Final = "{variation}"


def compose(prompt: str, variation: str) -> str:
    """`prompt` with `variation` where it says {variation}, otherwise behind it: "{prompt}, {variation}".

    An empty part leaves no comma behind.
    """
    if SLOT in prompt:
        return prompt.replace(SLOT, variation)
    return ", ".join(part for part in (prompt.rstrip().rstrip(","), variation.strip()) if part.strip())


SettingValues: TypeAlias = Mapping[str, Setting]  # by target: a role or a node.field address
Written: TypeAlias = dict[Address, Value]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRule:
    """`write` gives the fields for settings that may hold any of `targets`, and raises PlanError with the end of a
    sentence. `slots` are all the fields it may write, `defaults` what the workflow itself says for a target.
    """

    targets: tuple[str, ...]
    slots: tuple[Slot, ...]
    write: Callable[[SettingValues], Written]
    defaults: SettingValues = field(default_factory=dict)
    shown: str = ""  # how it reads in the plan: denoise.denoising_start = 1 − denoise_strength


@dataclass(frozen=True, slots=True)
class Binding:
    """A rule, who sets its targets, and by which axes they move; by none where only inputs set them."""

    rule: FieldRule
    uses: Assignments
    axes: tuple[str, ...]

    @classmethod
    def of(cls, rule: FieldRule, uses: Assignments) -> Binding:
        names = dict.fromkeys(axis.name for target in rule.targets for axis in uses.axes.get(target, ()))
        return cls(rule, uses, tuple(names))

    def write(self, levels: Mapping[str, Level]) -> Written:
        """Compute the fields at these levels. Raises PlanError or ExperimentError where a setting fits no field."""
        return self.rule.write(self.uses.merge(self.rule.targets, levels, self.rule.defaults))


@dataclass(frozen=True, slots=True)
class ReferenceResolver:
    """Turns names into references: models among those installed that fit `base`, images, boards."""

    models: ModelFinder
    base: str | None

    def value(self, setting: Any, schema: FieldSchema) -> Value:
        """Resolve a setting to what the field holds. Raises PlanError where no model fits."""
        if isinstance(setting, InputImage):
            return ImageRef(setting.sha256)
        if isinstance(setting, list):
            return [self.value(item, schema) for item in setting]
        if schema.type == "ModelIdentifierField" and isinstance(setting, str | Mapping):
            return self.model(setting, schema.model_types)
        if schema.type == "BoardField" and isinstance(setting, str):
            return BoardRef(setting)
        value: Value = setting
        return value

    def model(self, name: Any, types: Sequence[str]) -> ModelRef:
        """Find the model of these types that fits. A main model decides the base, so it need not fit one."""
        return self.models.find(name, types, None if "main" in types else self.base)


def make_value_rule(
    target: str, slots: Sequence[Slot], choice: ReferenceResolver, default: Value = None, closing: Sequence[str] = ()
) -> FieldRule:
    """Make the rule of one target: its value goes into each of its fields. `closing` is as for `check_prompt`."""

    def write(settings: SettingValues) -> Written:
        if target not in settings:
            return {}
        setting = settings[target]
        if isinstance(setting, str):
            check_prompt(setting, closing)
        return {slot.address: choice.value(slot.value(setting), slot.schema) for slot in slots}

    defaults: dict[str, Setting] = {target: default} if isinstance(default, str) else {}
    return FieldRule(
        targets=(target,), slots=tuple(slots), write=write, defaults=defaults, shown=_describe_rule(target, slots)
    )


def check_prompt(text: str, closing: Sequence[str]) -> None:
    """Check that no text stands behind a call that ends the prompt for the server. Raises PlanError."""
    for call in closing:
        if behind := re.search(rf"\.{call}\([^()]*\)[\s,;.]*(?!\.)(\S.*)", text, re.DOTALL):
            where = f"behind .{call}(), where the server does not read it"
            way = 'put it inside, as in ("a cat, {variation}", "a dog")'
            raise PlanError(f'has the text "{truncate(behind[1], 30)}" {where}; {way}.{call}().')


def make_prompt_rule(slots: Sequence[Slot], original: str, closing: Sequence[str] = ()) -> FieldRule:
    """Make the rule for the prompt with its variation; `original` is the workflow's, where an experiment gives none."""

    def write(settings: SettingValues) -> Written:
        if "prompt" not in settings and "variation" not in settings:
            return {}
        text = compose(_read_text(settings, "prompt", original), _read_text(settings, "variation", ""))
        check_prompt(text, closing)
        return {slot.address: slot.value(text) for slot in slots}

    shown = " · ".join(str(slot.address) for slot in slots)
    return FieldRule(
        targets=("prompt", "variation"), slots=tuple(slots), write=write, defaults={"prompt": original}, shown=shown
    )


def _read_text(settings: SettingValues, target: str, otherwise: str) -> str:
    setting = settings.get(target, otherwise)
    return setting if isinstance(setting, str) else "" if setting is None else str(setting)


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeSlots:
    """Where width and height go. Sizes that follow an image are multiples of `multiple` pixels."""

    width: tuple[Slot, ...]
    height: tuple[Slot, ...]
    multiple: int
    follow: bool  # whether a size nobody gives is the image's
    is_fixed: bool = False  # whether nothing resizes the image, so that no other size fits
    addressed: tuple[tuple[str, str], ...] = ()  # sizes that are set by their address, and the side of each


def make_size_rule(slots: SizeSlots) -> FieldRule:
    """Width and height: as given; else the image's, or in its proportions where one of the two is given."""

    def write(settings: SettingValues) -> Written:
        width, height = _choose_sides(settings, slots.multiple, follow=slots.follow)
        image = settings.get("image")
        if slots.is_fixed and isinstance(image, InputImage):
            own = _round_down(image.width, slots.multiple), _round_down(image.height, slots.multiple)
            sides = dict(zip(("width", "height"), own, strict=True))
            others = [
                settings[target] for target, side in slots.addressed if settings.get(target, sides[side]) != sides[side]
            ]
            if (width, height) != own or others:
                raise PlanError(f"width and height must be the source's {own[0]} × {own[1]}: nothing resizes it here.")
        written: Written = {}
        for side, places in ((width, slots.width), (height, slots.height)):
            if side is not None:
                written.update({slot.address: slot.value(side) for slot in places})
        return written

    targets = ("image", "width", "height") if slots.follow else ("width", "height")
    targets = (*targets, *(target for target, _ in slots.addressed))
    places = (*slots.width, *slots.height)
    return FieldRule(targets=targets, slots=tuple(places), write=write, shown=_describe_rule("size", places))


def _choose_sides(settings: SettingValues, multiple: int, *, follow: bool) -> tuple[Any, Any]:
    width, height, image = settings.get("width"), settings.get("height"), settings.get("image")
    if not follow or not isinstance(image, InputImage):
        return width, height
    if width is None and height is None:
        return _round_down(image.width, multiple), _round_down(image.height, multiple)
    if width is None and isinstance(height, int):
        return _round_down(height * image.width / image.height, multiple), height
    if height is None and isinstance(width, int):
        return width, _round_down(width * image.height / image.width, multiple)
    return width, height


def _round_down(pixels: float, multiple: int) -> int:
    return max(int(pixels + 1e-9) // multiple, 1) * multiple


def _describe_rule(target: str, slots: Sequence[Slot]) -> str:
    turned = [(slot.address, slot.encode.formula(target)) for slot in slots]
    return " · ".join(str(address) if formula == target else f"{address} = {formula}" for address, formula in turned)


@dataclass(frozen=True, slots=True)
class LoraSlot:
    """One LoRA node of a graph; without the field that nobody says here, so that its number or address may set it."""

    lora: Slot | None
    weights: tuple[Slot, ...]  # all of them get the LoRA's weight


def make_lora_rule(places: Sequence[LoraSlot], common: Sequence[Slot], choice: ReferenceResolver) -> FieldRule:
    """Make the rule for a stack of LoRAs, the first of it in the node nearest the model.

    Nodes that are left over weigh nothing. `common` takes the weight of all that name none themselves.
    """

    def write(settings: SettingValues) -> Written:
        stack = list_loras(settings.get("lora"))
        if len(stack) > len(places):
            raise PlanError(f"names {len(stack)} LoRAs; the workflow has room for {len(places)}.")
        _refuse_twice([name for name, _ in stack])
        weight = settings.get("lora_weight")
        written: Written = {} if weight is None else {slot.address: slot.value(weight) for slot in common}
        for place, (name, own) in zip(places, stack, strict=False):
            if place.lora is not None:
                written[place.lora.address] = choice.model(name, place.lora.schema.model_types or ("lora",))
            if own is not None:
                written.update({slot.address: slot.value(own) for slot in place.weights})
        for place in places[len(stack) :] if "lora" in settings else ():
            if place.lora is not None:
                written.update({slot.address: slot.value(0) for slot in place.weights})
        return written

    slots = _merge_slots(
        common, [slot for place in places for slot in (place.lora, *place.weights) if slot is not None]
    )
    return FieldRule(targets=("lora", "lora_weight"), slots=slots, write=write, shown=_join_addresses(slots))


def _refuse_twice(names: Sequence[str]) -> None:
    """Refuse a LoRA that is named twice: a server applies it once, and fails at the second time."""
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise PlanError(f"names {twice} twice; give it once, with the sum of the weights.")


def list_loras(setting: Setting) -> list[tuple[str, float | None]]:
    """(name, weight or None) of each LoRA a setting names: a name, {name, weight}, a list of these, or none."""
    items = setting if isinstance(setting, list) else [] if setting is None else [setting]
    return [
        (str(item.get("name")), item.get("weight")) if isinstance(item, Mapping) else (str(item), None)
        for item in items
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSlot:
    """One ControlNet node of a graph, by what an entry of a list says of it: model, image, weight, begin, end."""

    parts: Mapping[str, Slot]


def make_controls_rule(
    places: Sequence[ControlSlot], common: Mapping[str, Sequence[Slot]], choice: ReferenceResolver
) -> FieldRule:
    """Make a rule that writes ControlNets as a list of {model, image, weight, begin, end}, and by role what each of
    them has in `common`.
    """

    def write(settings: SettingValues) -> Written:
        entries = list_controls(settings.get("controls"))
        if entries and len(entries) != len(places):
            many = "ControlNet" if len(entries) == 1 else "ControlNets"
            raise PlanError(f"names {len(entries)} {many}; the workflow has {len(places)}.")
        written: Written = {}
        for role, slots in common.items():
            if settings.get(role) is not None:
                written |= {slot.address: slot.value(choice.value(settings[role], slot.schema)) for slot in slots}
        for place, entry in zip(places, entries, strict=False):
            written |= _write_control(place, entry, choice)
        return written

    slots = _merge_slots(*common.values(), [slot for place in places for slot in place.parts.values()])
    return FieldRule(targets=("controls", *CONTROL_ROLES), slots=slots, write=write, shown=_join_addresses(slots))


def list_controls(setting: Setting) -> list[Mapping[str, Any]]:
    """List the entries of a `controls` setting."""
    return [entry for entry in setting if isinstance(entry, Mapping)] if isinstance(setting, list) else []


def _write_control(place: ControlSlot, entry: Mapping[str, Any], choice: ReferenceResolver) -> Written:
    return {
        slot.address: slot.value(choice.value(entry[part], slot.schema))
        for part, slot in place.parts.items()
        if entry.get(part) is not None
    }


def _merge_slots(*groups: Sequence[Slot]) -> tuple[Slot, ...]:
    """Merge so that every field stands once; the first group says by whom it is set."""
    found: dict[Address, Slot] = {}
    for slot in (slot for group in groups for slot in group):
        found.setdefault(slot.address, slot)
    return tuple(found.values())


def _join_addresses(slots: Sequence[Slot]) -> str:
    return " · ".join(str(slot.address) for slot in slots)
