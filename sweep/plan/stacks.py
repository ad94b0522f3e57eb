"""Rules for what a graph has several of: LoRAs in a row, ControlNets side by side.

A list names them in their order (`lora`, `controls`), a role by itself sets all of them (`lora_weight`), and one with
a number a single one (`lora_weight_2`), which is a plain rule: what it sets is not among the slots of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sweep.errors import PlanError
from sweep.experiment.definition import Setting
from sweep.plan.rules import Choice, Rule, Settings, Slot, Written
from sweep.workflow.graph import Address

CONTROL_ROLES: Final = ("control_image", "control_weight", "control_model", "control_begin", "control_end")


@dataclass(frozen=True, slots=True)
class LoraSlot:
    """One LoRA node of a graph; without the field that nobody says here, so that its number or address may set it."""

    lora: Slot | None
    weight: Slot | None


def loras(places: Sequence[LoraSlot], common: Sequence[Slot], choice: Choice) -> Rule:
    """A stack of LoRAs, the first of it in the node nearest the model. Nodes that are left over weigh nothing.
    `common` takes the weight of all that name none themselves.
    """

    def write(settings: Settings) -> Written:
        stack = lora_stack(settings.get("lora"))
        if len(stack) > len(places):
            raise PlanError(f"names {len(stack)} LoRAs; the workflow has room for {len(places)}.")
        _refuse_twice([name for name, _ in stack])
        weight = settings.get("lora_weight")
        written: Written = {} if weight is None else {slot.address: slot.value(weight) for slot in common}
        for place, (name, own) in zip(places, stack, strict=False):
            if place.lora is not None:
                written[place.lora.address] = choice.model(name, place.lora.schema.model_types or ("lora",))
            if place.weight is not None and own is not None:
                written[place.weight.address] = place.weight.value(own)
        for place in places[len(stack) :] if "lora" in settings else ():
            if place.weight is not None and place.lora is not None:
                written[place.weight.address] = place.weight.value(0)
        return written

    slots = _each(common, [slot for place in places for slot in (place.lora, place.weight) if slot is not None])
    return Rule(targets=("lora", "lora_weight"), slots=slots, write=write, shown=_listed(slots))


def _refuse_twice(names: Sequence[str]) -> None:
    """A server applies a LoRA once, and fails at the second time."""
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise PlanError(f"names {twice} twice; give it once, with the sum of the weights.")


def lora_stack(setting: Setting) -> list[tuple[str, float | None]]:
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


def controls(places: Sequence[ControlSlot], common: Mapping[str, Sequence[Slot]], choice: Choice) -> Rule:
    """ControlNets as a list of {model, image, weight, begin, end}, and by role what each of them has in `common`."""

    def write(settings: Settings) -> Written:
        entries = control_list(settings.get("controls"))
        if entries and len(entries) != len(places):
            many = "ControlNet" if len(entries) == 1 else "ControlNets"
            raise PlanError(f"names {len(entries)} {many}; the workflow has {len(places)}.")
        written: Written = {}
        for role, slots in common.items():
            if settings.get(role) is not None:
                written |= {slot.address: slot.value(choice.value(settings[role], slot.schema)) for slot in slots}
        for place, entry in zip(places, entries, strict=False):
            written |= _control(place, entry, choice)
        return written

    slots = _each(*common.values(), [slot for place in places for slot in place.parts.values()])
    return Rule(targets=("controls", *CONTROL_ROLES), slots=slots, write=write, shown=_listed(slots))


def control_list(setting: Setting) -> list[Mapping[str, Any]]:
    """The entries of a `controls` setting; empty where there are none."""
    return [entry for entry in setting if isinstance(entry, Mapping)] if isinstance(setting, list) else []


def _control(place: ControlSlot, entry: Mapping[str, Any], choice: Choice) -> Written:
    return {
        slot.address: slot.value(choice.value(entry[part], slot.schema))
        for part, slot in place.parts.items()
        if entry.get(part) is not None
    }


def _each(*groups: Sequence[Slot]) -> tuple[Slot, ...]:
    """Every field once; the first group says by whom it is set."""
    found: dict[Address, Slot] = {}
    for slot in (slot for group in groups for slot in group):
        found.setdefault(slot.address, slot)
    return tuple(found.values())


def _listed(slots: Sequence[Slot]) -> str:
    return " · ".join(str(slot.address) for slot in slots)
