"""From the LoRAs and ControlNets an experiment sets to the rules that set them, in one shape of its graph."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sweep.plan import stacks
from sweep.plan.places import Places
from sweep.plan.rules import Choice, Rule, Slot
from sweep.plan.settings import Uses
from sweep.plan.stacks import CONTROL_ROLES, ControlSlot, LoraSlot, control_list, lora_stack
from sweep.workflow.graph import Address
from sweep.workflow.roles import field_target
from sweep.workflow.steering import control_pictures
from sweep.workflow.wiring import Wiring

_FIELDS: Final[Mapping[str, str]] = MappingProxyType(  # of an entry of controls → the node's field
    {
        "model": "control_model",
        "image": "image",
        "weight": "control_weight",
        "begin": "begin_step_percent",
        "end": "end_step_percent",
    }
)


@dataclass(frozen=True, slots=True)
class Stacking:
    """What is drawn from: the places of a graph, and the fields that are `taken`, as a number or address sets them."""

    places: Places
    choice: Choice
    taken: Collection[Address]

    @property
    def _uses(self) -> Uses:
        return self.places.uses

    def loras(self) -> Iterator[Rule]:
        """The rule for `lora` and `lora_weight`, where either is set."""
        if "lora" not in self._uses and "lora_weight" not in self._uses:
            return
        nodes = self.places.all("lora", "lora")
        if nodes:
            common = self._free(self.places.all("lora_weight", "lora_weight")) if "lora_weight" in self._uses else ()
            yield stacks.loras([self._lora(*place) for place in enumerate(nodes)], common, self.choice)
        elif not (self.places.template and "lora" in self._uses):
            self.places.missing("lora" if "lora" in self._uses else "lora_weight")

    def _lora(self, place: int, lora: Slot) -> LoraSlot:
        named = [lora_stack(setting) for setting in self._uses.settings("lora")]
        weighed = any(place >= len(stack) or stack[place][1] is not None for stack in named)
        by = "lora_weight" if "lora_weight" in self._uses else "lora"
        weight = self._free([self.places.beside(lora.address, "weight", by)]) if weighed else ()
        return LoraSlot(next(iter(self._free([lora])), None), next(iter(weight), None))

    def controls(self) -> Iterator[Rule]:
        """The rule for `controls` and what is set of all ControlNets, where any is."""
        used = [target for target in ("controls", *CONTROL_ROLES) if target in self._uses]
        if not used:
            return
        nodes = [node for node in self.places.graph.nodes if "control_model" in self.places.fields(node)]
        if nodes:
            common = {role: self._common(role, nodes) for role in used if role != "controls"}
            entries = [self._control(place, node) for place, node in enumerate(nodes)]
            yield stacks.controls(entries, common, self.choice)
        elif not (self.places.template and "controls" in self._uses):
            self.places.missing(used[0])

    def _common(self, role: str, nodes: list[str]) -> tuple[Slot, ...]:
        """The fields of a role; where the role is not found, as pictures that are the source's, those of the nodes."""
        field = _FIELDS[role.removeprefix("control_")]
        found = self.places.all(role, role) or tuple(self._beside(node, field, role) for node in nodes)
        return self._free(found)

    def _control(self, place: int, node: str) -> ControlSlot:
        """The fields of a ControlNet that any entry says."""
        entries = [control_list(setting)[place : place + 1] for setting in self._uses.settings("controls")]
        said = {part for entry in entries for part in (entry[0] if entry else ()) if entry[0][part] is not None}
        slots = {part: self._part(node, part) for part in _FIELDS if part in said}
        return ControlSlot(parts={part: slot for part, slot in slots.items() if slot.address not in self.taken})

    def _part(self, node: str, part: str) -> Slot:
        """Where a part is written: a picture where the workflow takes it in, before what it makes of it."""
        if part == "image":
            places = self.places
            found = list(control_pictures(Wiring(places.graph, places.schemas), node))
            if len(found) == 1:
                return places.slot(field_target(places.graph, places.schemas, found[0]), "controls")
        return self._beside(node, _FIELDS[part], "controls")

    def _beside(self, node: str, field: str, target: str) -> Slot:
        return self.places.beside(Address(node, "control_model"), field, target)

    def _free(self, slots: tuple[Slot, ...] | list[Slot]) -> tuple[Slot, ...]:
        return tuple(slot for slot in slots if slot.address not in self.taken)
