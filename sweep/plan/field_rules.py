"""Rules: what the settings of targets become in the fields of a graph.

A prompt and its variation make one text, an image and a width make one size. A list names LoRAs and ControlNets in
their order (`lora`, `controls`), a role by itself sets all of them (`lora_weight`), and one with a number a single one
(`lora_weight_2`), which is a plain rule: its field is not among those of the list. A rule is a pure function of
settings, so it serves fixed inputs and axes alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import lcm
from typing import Any, Final, TypeAlias

from sweep.errors import PlanError
from sweep.experiment import (
    InputImage,
    Level,
    Setting,
    is_address,
    parse_numbered,
)
from sweep.plan.models import ModelFinder, list_model_fields
from sweep.plan.targets import Assignments, Slot, TargetResolver
from sweep.role_table import CONTROL_ROLES
from sweep.text import truncate
from sweep.workflow import (
    Address,
    BoardRef,
    FieldSchema,
    ImageRef,
    ModelRef,
    Target,
    Value,
)

SettingValues: TypeAlias = Mapping[str, Setting]  # by target: a role or a node.field address
Written: TypeAlias = dict[Address, Value]


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


SLOT: Final = "{variation}"


def compose(prompt: str, variation: str) -> str:
    """`prompt` with `variation` where it says {variation}, otherwise behind it: "{prompt}, {variation}".

    An empty part leaves no comma behind.
    """
    if SLOT in prompt:
        return prompt.replace(SLOT, variation)
    return ", ".join(part for part in (prompt.rstrip().rstrip(","), variation.strip()) if part.strip())


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


_CONTROL_PARTS: Final = ("model", "image", "weight", "begin", "end")  # of an entry of controls
_LATENT: Final = 8  # pixels a side of a latent: sizes are multiples of it in every family, of more in some
_RESIZING: Final = ("resize", "scale", "crop")  # in the name of a node type: it makes an image another size
_GROUPED: Final = frozenset(
    {"prompt", "variation", "width", "height", "lora", "lora_weight", "controls", *CONTROL_ROLES, "vae", "board"}
)


@dataclass(frozen=True, slots=True)
class RuleBuilder:
    """What rules are drawn from: the places of a graph before any value is in it, its outputs, and the models."""

    places: TargetResolver
    outputs: tuple[str, ...]
    models: ModelFinder
    _single: set[Address] = field(default_factory=set)  # fields that a number or an address sets by itself

    def rules(self) -> list[FieldRule]:
        """Build the rules for everything that is set. What cannot be set becomes a problem."""
        plain = [rule for target in self.places.uses if target not in _GROUPED for rule in self._build_plain(target)]
        taken = {slot.address for rule in plain for slot in rule.slots}
        self._single.update(slot.address for rule in plain if parse_numbered(rule.targets[0]) for slot in rule.slots)
        found = [
            *self._build_prompt(),
            *plain,
            *self._build_size(taken),
            *self._build_loras(),
            *self._build_controls(),
            *self._build_vae(),
        ]
        found += self._build_board()
        self._refuse_conflicts(found)
        return found

    @property
    def _uses(self) -> Assignments:
        return self.places.uses

    @property
    def _choice(self) -> ReferenceResolver:
        return ReferenceResolver(self.models, self.places.base)

    def _build_plain(self, target: str) -> Iterator[FieldRule]:
        slots = self.places.resolve(target)
        if any(
            slot.address.field in self.places.schemas.dialect.run_fields and slot.address.node in self.outputs
            for slot in slots
        ):
            place = self.places.uses.locate(target)[0]
            kept = "the images of an output are kept in the server's gallery, or with sweep run --intermediate are not"
            self.places.problems.add_at_key(place, f"{place}: {kept}.")
        elif slots:
            default = self.places.read_value(slots[0].address)
            yield make_value_rule(target, slots, self._choice, default, self._find_closing_calls(target, slots))

    def _find_closing_calls(self, target: str, slots: Sequence[Slot]) -> Sequence[str]:
        """Return the calls that end a text for the nodes that read it; none where the target is no prompt."""
        nodes, calls = self.places.graph.nodes, self.places.schemas.dialect.closing_calls
        is_prompt = target in ("prompt", "negative_prompt")  # may stand in a node before those that read it
        types = (
            [node.type for node in nodes.values()] if is_prompt else [nodes[each.address.node].type for each in slots]
        )
        return next((calls[kind] for kind in types if kind in calls), ())

    def _build_prompt(self) -> Iterator[FieldRule]:
        uses = self.places.uses
        if "prompt" in uses or "variation" in uses:
            slots = self.places.resolve("prompt", "prompt" if "prompt" in uses else "variation")
            if slots:
                said = self.places.read_value(slots[0].address)
                closing = self._find_closing_calls("prompt", slots)
                yield make_prompt_rule(slots, said if isinstance(said, str) else "", closing)

    def _build_size(self, taken: set[Address]) -> Iterator[FieldRule]:
        """Set the sizes that are given, and those that follow an image because nobody gives them."""
        follow = self._is_following()
        sides = {
            side: self.places.resolve(side)
            if side in self.places.uses
            else self._derive_side(side, taken)
            if follow
            else ()
            for side in ("width", "height")
        }
        slots = [slot for places in sides.values() for slot in places]
        if slots:
            multiple = lcm(_LATENT, *(int(slot.schema.multiple_of or 1) for slot in slots))
            yield make_size_rule(
                SizeSlots(
                    width=sides["width"],
                    height=sides["height"],
                    multiple=multiple,
                    follow=follow,
                    is_fixed=follow and not self.places.is_template,
                    addressed=self._list_addressed_sides() if follow else (),
                )
            )

    def _derive_side(self, side: str, taken: set[Address]) -> tuple[Slot, ...]:
        if side not in self.places.roles:
            return ()
        found = self.places.roles.targets[side]
        slots = tuple(self.places.make_slot(target, side) for target in found if not target.cut)
        return tuple(slot for slot in slots if slot.address not in taken)

    def _list_addressed_sides(self) -> tuple[tuple[str, str], ...]:
        """List the addresses that the experiment sets, and that are a width or a height."""
        fields = {
            target.address: side for side in ("width", "height") for target in self.places.roles.targets.get(side, ())
        }
        given = ((use, self.places.resolve(use)) for use in self.places.uses if is_address(use))
        return tuple((use, fields[slot.address]) for use, slots in given for slot in slots if slot.address in fields)

    def _is_following(self) -> bool:
        """Tell whether a size nobody gives is the image's: not in a workflow that brings images to their size."""
        if "image" not in self.places.uses or "image" not in self.places.roles:
            return False
        kinds = [node.type for node in self.places.graph.nodes.values()]
        return self.places.is_template or not any(word in kind.lower() for kind in kinds for word in _RESIZING)

    def _build_loras(self) -> Iterator[FieldRule]:
        """Build the rule for `lora` and `lora_weight`, where either is set."""
        if "lora" not in self._uses and "lora_weight" not in self._uses:
            return
        nodes = self.places.resolve_all("lora", "lora")
        if nodes:
            weighted = "lora_weight" in self._uses
            common = self._skip_taken(self.places.resolve_all("lora_weight", "lora_weight")) if weighted else ()
            slots = [self._make_lora_slot(*place) for place in enumerate(nodes)]
            yield make_lora_rule(slots, common, self._choice)
        elif not (self.places.is_template and "lora" in self._uses):
            self.places.report_missing("lora" if "lora" in self._uses else "lora_weight")

    def _make_lora_slot(self, place: int, lora: Slot) -> LoraSlot:
        named = [list_loras(setting) for setting in self._uses.settings("lora")]
        weighed = any(place >= len(stack) or stack[place][1] is not None for stack in named)
        by = "lora_weight" if "lora_weight" in self._uses else "lora"
        weights = (
            self._skip_taken([self.places.resolve_field(found, by) for found in self._weights(lora.address)])
            if weighed
            else ()
        )
        return LoraSlot(next(iter(self._skip_taken([lora])), None), weights)

    def _weights(self, lora: Address) -> tuple[Address, ...]:
        schemas = self.places.schemas
        return schemas.dialect.find_lora_weights(lora, schemas.get(self.places.graph.nodes[lora.node].type))

    def _build_controls(self) -> Iterator[FieldRule]:
        """Build the rule for `controls` and what is set of all ControlNets, where any is."""
        used = [target for target in ("controls", *CONTROL_ROLES) if target in self._uses]
        if not used:
            return
        nodes = self.places.schemas.dialect.find_controls(self.places.graph, self.places.schemas)
        if nodes:
            common = {role: self._resolve_common(role, nodes) for role in used if role != "controls"}
            entries = [self._make_control_slot(*place) for place in enumerate(nodes)]
            yield make_controls_rule(entries, common, self._choice)
        elif not (self.places.is_template and "controls" in self._uses):
            self.places.report_missing(used[0])

    def _resolve_common(self, role: str, nodes: Sequence[Mapping[str, Address]]) -> tuple[Slot, ...]:
        """Resolve the fields of a role; those of the nodes where it is not found, as images that are the source's."""
        part = role.removeprefix("control_")
        found = self.places.resolve_all(role, role) or tuple(
            self.places.resolve_field(node[part], role) for node in nodes
        )
        return self._skip_taken(found)

    def _make_control_slot(self, place: int, node: Mapping[str, Address]) -> ControlSlot:
        """Collect the fields of a ControlNet that any entry sets."""
        entries = [list_controls(setting)[place : place + 1] for setting in self._uses.settings("controls")]
        said = {part for entry in entries for part in (entry[0] if entry else ()) if entry[0][part] is not None}
        where = {**node, "image": node.get("source", node["image"])}
        slots = {part: self.places.resolve_field(where[part], "controls") for part in _CONTROL_PARTS if part in said}
        return ControlSlot(parts={part: slot for part, slot in slots.items() if slot.address not in self._single})

    def _skip_taken(self, slots: tuple[Slot, ...] | list[Slot]) -> tuple[Slot, ...]:
        return tuple(slot for slot in slots if slot.address not in self._single)

    def _build_vae(self) -> Iterator[FieldRule]:
        if "vae" not in self.places.uses:
            return
        graph, schemas = self.places.graph, self.places.schemas
        addresses = [address for address, types in list_model_fields(graph, schemas) if "vae" in types]
        if addresses:
            yield make_value_rule(
                "vae", [self.places.make_slot(Target(address), "vae") for address in addresses], self._choice
            )
        elif not self.places.is_template:
            self.places.report_missing("vae")

    def _build_board(self) -> Iterator[FieldRule]:
        if "board" not in self.places.uses:
            return
        nodes = [node for node in self.outputs if "board" in self.places.fields_of(node)]
        slots = [self.places.make_slot(Target(Address(node, "board")), "board") for node in nodes]
        if slots:
            yield make_value_rule("board", slots, self._choice)

    def _refuse_conflicts(self, found: Sequence[FieldRule]) -> None:
        """Two settings may not write one field, nor two axes one target, unless they replace words in it."""
        uses, problems = self.places.uses, self.places.problems
        owners: dict[Address, str] = {}
        for slot in (slot for rule in found for slot in rule.slots):
            place = uses.locate(slot.target)[0]
            other = owners.setdefault(slot.address, place)
            if other != place:
                problems.add_at_key(place, f"{other} and {place} both set {slot.address}.")
        for target, axes in uses.find_clashes():
            places = [f"axes.{axis}" for axis in axes]
            problems.add_at_key(places[-1], f"{' and '.join(places)} both set {target}.")
