"""Builds the rules for all that an experiment sets in a graph.

A prompt and its variation make one text, an image and a width make one size. A list names LoRAs and ControlNets in
their order (`lora`, `controls`), a role by itself sets all of them (`lora_weight`), and one with a number a single one,
which is a plain rule: its field is not among those of the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import lcm
from typing import Any, Final

from sweep.errors import PlanError
from sweep.experiment import InputImage
from sweep.plan.field_rules import (
    Assignments,
    FieldRule,
    SettingValues,
    Slot,
    TargetResolver,
    Written,
    check_prompt,
    describe_rule,
    is_replacing,
    list_controls,
    list_loras,
)
from sweep.plan.model_finder import list_model_fields
from sweep.role_table import CONTROL_ROLES, is_address, parse_numbered
from sweep.workflow import Address, Target

SLOT: Final = "{variation}"


def compose(prompt: str, variation: str) -> str:
    """Put `variation` where `prompt` says {variation}, otherwise behind it: "{prompt}, {variation}".

    An empty part leaves no comma behind.
    """
    if SLOT in prompt:
        return prompt.replace(SLOT, variation)
    return ", ".join(part for part in (prompt.rstrip().rstrip(","), variation.strip()) if part.strip())


_CONTROL_PARTS: Final = ("model", "image", "weight", "begin", "end")  # of an entry of controls
_LATENT: Final = 8  # pixels a side of a latent: sizes are multiples of it in every family, of more in some
_RESIZING: Final = ("resize", "scale", "crop")  # in the name of a node type: it makes an image another size
_PROMPTS: Final = ("prompt", "variation")
_LORAS: Final = ("lora", "lora_weight")
_CONTROLS: Final = ("controls", *CONTROL_ROLES)
_GROUPED: Final = frozenset({*_PROMPTS, *_LORAS, *_CONTROLS, "width", "height", "vae", "board"})


@dataclass(frozen=True, slots=True)
class RuleBuilder:
    """Builds the rules for all that an experiment sets in one graph, before any value is in it."""

    resolver: TargetResolver
    outputs: tuple[str, ...]
    _single: set[Address] = field(default_factory=set)  # fields that a number or an address sets by itself

    def rules(self) -> list[FieldRule]:
        """Build the rules for everything that is set. What cannot be set becomes a problem."""
        used = list(self._uses)
        plain = [rule for target in used if target not in _GROUPED for rule in self._build_plain(target)]
        taken = {slot.address for rule in plain for slot in rule.slots}
        self._single.update(slot.address for rule in plain if parse_numbered(rule.targets[0]) for slot in rule.slots)
        prompt = self._build_prompt() if any(target in used for target in _PROMPTS) else ()
        found = [*prompt, *plain, *self._build_size(taken)]
        if loras := [target for target in _LORAS if target in used]:
            found += self._build_loras(loras)
        if controls := [target for target in _CONTROLS if target in used]:
            found += self._build_controls(controls)
        if "vae" in used:
            found += self._build_vae()
        if "board" in used:
            found += self._build_board()
        self._refuse_conflicts(found)
        return found

    @property
    def _uses(self) -> Assignments:
        return self.resolver.uses

    def _build_plain(self, target: str) -> Iterator[FieldRule]:
        slots = self.resolver.resolve(target)
        run_fields = self.resolver.schemas.dialect.run_fields
        if any(slot.address.field in run_fields and slot.address.node in self.outputs for slot in slots):
            kept = "the images of an output are kept in the server's gallery, or with sweep run --intermediate are not"
            self.resolver.refuse(target, f"{kept}.")
        elif slots:
            default = self.resolver.read_value(slots[0].address)
            yield self.resolver.make_value_rule(target, slots, default, self._find_closing_calls(target, slots))

    def _find_closing_calls(self, target: str, slots: Sequence[Slot]) -> Sequence[str]:
        """Return the calls that end a text for the nodes that read it; none where the target is no prompt."""
        nodes, calls = self.resolver.graph.nodes, self.resolver.schemas.dialect.closing_calls
        is_prompt = target in ("prompt", "negative_prompt")  # may stand in a node before those that read it
        types = (
            [node.type for node in nodes.values()] if is_prompt else [nodes[each.address.node].type for each in slots]
        )
        return next((calls[kind] for kind in types if kind in calls), ())

    def _build_prompt(self) -> Iterator[FieldRule]:
        slots = self.resolver.resolve("prompt", "prompt" if "prompt" in self._uses else "variation")
        if not slots:
            return
        said = self.resolver.read_value(slots[0].address)
        original = said if isinstance(said, str) else ""  # the workflow's, where an experiment gives none
        closing = self._find_closing_calls("prompt", slots)

        def write(settings: SettingValues) -> Written:
            if "prompt" not in settings and "variation" not in settings:
                return {}
            parts = [settings.get("prompt", original), settings.get("variation", "")]
            text = compose(*("" if part is None else str(part) for part in parts))
            check_prompt(text, closing)
            return {slot.address: slot.value(text) for slot in slots}

        yield FieldRule(
            self._uses,
            _PROMPTS,
            slots,
            write,
            defaults={"prompt": original},
            shown=_join_addresses(slots),
        )

    def _build_size(self, taken: set[Address]) -> Iterator[FieldRule]:
        """Build the rule for sizes that are given, and those that follow an image because nobody gives them.

        These are the image's, or in its proportions where one of the two is given.
        """
        follow = self._is_following()
        is_fixed = follow and not self.resolver.is_template  # nothing resizes the image, so that no other size fits
        addressed = self._list_addressed_sides() if follow else ()
        sides = {side: self._resolve_side(side, taken, follow=follow) for side in ("width", "height")}
        slots = (*sides["width"], *sides["height"])
        if not slots:
            return
        multiple = lcm(_LATENT, *(int(slot.schema.multiple_of or 1) for slot in slots))

        def write(settings: SettingValues) -> Written:
            image = settings.get("image")
            source = image if follow and isinstance(image, InputImage) else None
            sizes = _choose_sides(settings, source, multiple)
            if is_fixed and source is not None:
                own = _scale(source, multiple)
                others = [target for target, side in addressed if settings.get(target, own[side]) != own[side]]
                if sizes != own or others:
                    size = f"{own['width']} × {own['height']}"
                    raise PlanError(f"width and height must be the source's {size}: nothing resizes it here.")
            return {
                slot.address: slot.value(sizes[side])
                for side, slots in sides.items()
                if sizes[side] is not None
                for slot in slots
            }

        targets = ("image", "width", "height") if follow else ("width", "height")
        targets = (*targets, *(target for target, _ in addressed))
        yield FieldRule(self._uses, targets, slots, write, shown=describe_rule("size", slots))

    def _resolve_side(self, side: str, taken: set[Address], *, follow: bool) -> tuple[Slot, ...]:
        if side in self._uses:
            return self.resolver.resolve(side)
        if not follow or side not in self.resolver.roles:
            return ()
        found = self.resolver.roles.targets[side]
        slots = [self.resolver.make_slot(target, side) for target in found if not target.cut]
        return tuple(slot for slot in slots if slot.address not in taken)

    def _list_addressed_sides(self) -> tuple[tuple[str, str], ...]:
        """List the addresses that the experiment sets, and that are a width or a height, with the side."""
        roles = self.resolver.roles.targets
        fields = {target.address: side for side in ("width", "height") for target in roles.get(side, ())}
        given = ((use, self.resolver.resolve(use)) for use in self._uses if is_address(use))
        return tuple((use, fields[slot.address]) for use, slots in given for slot in slots if slot.address in fields)

    def _is_following(self) -> bool:
        """Tell whether a size nobody gives is the image's: not in a workflow that brings images to their size."""
        if "image" not in self._uses or "image" not in self.resolver.roles:
            return False
        kinds = [node.type.lower() for node in self.resolver.graph.nodes.values()]
        return self.resolver.is_template or not any(word in kind for kind in kinds for word in _RESIZING)

    def _build_loras(self, used: Sequence[str]) -> Iterator[FieldRule]:
        """Build the rule for a stack of LoRAs, the first of it in the node nearest the model.

        Nodes that are left over weigh nothing. Those that name no weight themselves take `lora_weight`.
        """
        nodes = self.resolver.resolve_all("lora", "lora")
        if not nodes:
            if not (self.resolver.is_template and "lora" in used):
                self.resolver.report_missing(used[0])
            return
        weighted = self.resolver.resolve_all("lora_weight", "lora_weight") if "lora_weight" in used else ()
        common = self._skip_single(weighted)
        places = [self._find_lora_slots(*place, used[-1]) for place in enumerate(nodes)]

        def write(settings: SettingValues) -> Written:
            stack = list_loras(settings.get("lora"))
            if len(stack) > len(places):
                raise PlanError(f"names {len(stack)} LoRAs; the workflow has room for {len(places)}.")
            names = [name for name, _ in stack]
            twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
            if twice is not None:  # a server applies it once, and fails at the second time
                raise PlanError(f"names {twice} twice; give it once, with the sum of the weights.")
            weight = settings.get("lora_weight")
            written: Written = {} if weight is None else {slot.address: slot.value(weight) for slot in common}
            for (loras, weights), (name, own) in zip(places, stack, strict=False):
                for slot in loras:
                    written[slot.address] = self.resolver.find_model(name, slot.schema.model_types or ("lora",))
                if own is not None:
                    written |= {slot.address: slot.value(own) for slot in weights}
            for loras, weights in places[len(stack) :] if "lora" in settings else ():
                if loras:
                    written |= {slot.address: slot.value(0) for slot in weights}
            return written

        slots = _merge_slots(common, *(slots for place in places for slots in place))
        yield FieldRule(self._uses, _LORAS, slots, write, shown=_join_addresses(slots))

    def _find_lora_slots(self, place: int, lora: Slot, by: str) -> tuple[tuple[Slot, ...], tuple[Slot, ...]]:
        """Find the field of a LoRA's name (none where its number or address sets it) and those of its own weight."""
        named = [list_loras(setting) for setting in self._uses.settings("lora")]
        weights: list[Slot] = []
        if any(place >= len(stack) or stack[place][1] is not None for stack in named):
            schemas, node = self.resolver.schemas, self.resolver.graph.nodes[lora.address.node]
            addresses = schemas.dialect.find_lora_weights(lora.address, schemas.get(node.type))
            weights = [self.resolver.resolve_field(address, by) for address in addresses]
        return self._skip_single([lora]), self._skip_single(weights)

    def _build_controls(self, used: Sequence[str]) -> Iterator[FieldRule]:
        """Build the rule for a list of ControlNets, and by role for what is set of all of them."""
        nodes = self.resolver.schemas.dialect.find_controls(self.resolver.graph, self.resolver.schemas)
        if not nodes:
            if not (self.resolver.is_template and "controls" in used):
                self.resolver.report_missing(used[0])
            return
        common = {role: self._resolve_common(role, nodes) for role in used if role != "controls"}
        places = [self._find_control_slots(*place) for place in enumerate(nodes)]

        def write(settings: SettingValues) -> Written:
            entries = list_controls(settings.get("controls"))
            if entries and len(entries) != len(places):
                many = "ControlNet" if len(entries) == 1 else "ControlNets"
                raise PlanError(f"names {len(entries)} {many}; the workflow has {len(places)}.")
            given = [(slot, settings.get(role)) for role, slots in common.items() for slot in slots]
            for parts, entry in zip(places, entries, strict=False):
                given += [(slot, entry.get(part)) for part, slot in parts.items()]
            return {slot.address: self.resolver.encode(slot, setting) for slot, setting in given if setting is not None}

        slots = _merge_slots(*common.values(), *(parts.values() for parts in places))
        yield FieldRule(self._uses, _CONTROLS, slots, write, shown=_join_addresses(slots))

    def _resolve_common(self, role: str, nodes: Sequence[Mapping[str, Address]]) -> tuple[Slot, ...]:
        """Resolve the fields of a role; those of the nodes where it is not found, as images that are the source's."""
        part = role.removeprefix("control_")
        found = self.resolver.resolve_all(role, role)
        return self._skip_single(found or [self.resolver.resolve_field(node[part], role) for node in nodes])

    def _find_control_slots(self, place: int, node: Mapping[str, Address]) -> dict[str, Slot]:
        """Find the fields of a ControlNet that any entry sets, by part."""
        entries = [list_controls(setting)[place : place + 1] for setting in self._uses.settings("controls")]
        said = {part for entry in entries for part in (entry[0] if entry else ()) if entry[0][part] is not None}
        where = {**node, "image": node.get("source", node["image"])}
        slots = {part: self.resolver.resolve_field(where[part], "controls") for part in _CONTROL_PARTS if part in said}
        return {part: slot for part, slot in slots.items() if slot.address not in self._single}

    def _skip_single(self, slots: Sequence[Slot]) -> tuple[Slot, ...]:
        return tuple(slot for slot in slots if slot.address not in self._single)

    def _build_vae(self) -> Iterator[FieldRule]:
        fields = list_model_fields(self.resolver.graph, self.resolver.schemas)
        slots = [self.resolver.make_slot(Target(address), "vae") for address, types in fields if "vae" in types]
        if slots:
            yield self.resolver.make_value_rule("vae", slots)
        elif not self.resolver.is_template:
            self.resolver.report_missing("vae")

    def _build_board(self) -> Iterator[FieldRule]:
        nodes = [node for node in self.outputs if "board" in self.resolver.fields_of(node)]
        slots = [self.resolver.make_slot(Target(Address(node, "board")), "board") for node in nodes]
        if slots:
            yield self.resolver.make_value_rule("board", slots)

    def _refuse_conflicts(self, found: Sequence[FieldRule]) -> None:
        """Refuse two settings that write one field, and two axes of one target, unless they replace words in it."""
        problems = self.resolver.problems
        owners: dict[Address, str] = {}
        for slot in (slot for rule in found for slot in rule.slots):
            first = owners.setdefault(slot.address, slot.target)
            if first == slot.target:
                continue
            other, place = self._uses.locate(first), self._uses.locate(slot.target)
            if other != place:
                problems.add_at_key(place, f"{other} and {place} both set {slot.address}.")
        for target, axes in self._uses.axes.items():
            places = [f"axes.{axis.name}" for axis in axes if not is_replacing(axis, target)]
            if len(places) > 1:
                problems.add_at_key(places[-1], f"{' and '.join(places)} both set {target}.")


def _choose_sides(settings: SettingValues, source: InputImage | None, multiple: int) -> dict[str, Any]:
    """Choose width and height: as given, else the source's, or in its proportions where one of the two is given."""
    width, height = settings.get("width"), settings.get("height")
    if source is not None:
        if width is None and height is None:
            return dict(_scale(source, multiple))
        if width is None and isinstance(height, int):
            width = _round_down(height * source.width / source.height, multiple)
        elif height is None and isinstance(width, int):
            height = _round_down(width * source.height / source.width, multiple)
    return {"width": width, "height": height}


def _scale(source: InputImage, multiple: int) -> dict[str, int]:
    return {"width": _round_down(source.width, multiple), "height": _round_down(source.height, multiple)}


def _round_down(pixels: float, multiple: int) -> int:
    return max(int(pixels + 1e-9) // multiple, 1) * multiple


def _merge_slots(*groups: Iterable[Slot]) -> tuple[Slot, ...]:
    """Merge so that every field stands once; the first group says by whom it is set."""
    found: dict[Address, Slot] = {}
    for slot in chain(*groups):
        found.setdefault(slot.address, slot)
    return tuple(found.values())


def _join_addresses(slots: Sequence[Slot]) -> str:
    return " · ".join(str(slot.address) for slot in slots)
