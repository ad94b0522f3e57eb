"""From the targets an experiment sets to the rules that set them, in one shape of its graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import lcm
from typing import Final

from sweep.experiment.vocabulary import numbered
from sweep.plan import rules
from sweep.plan.models import Models
from sweep.plan.places import Places
from sweep.plan.rules import Choice, Rule, SizeSlots, Slot
from sweep.plan.shapes import model_fields
from sweep.plan.stacking import Stacking
from sweep.plan.stacks import CONTROL_ROLES
from sweep.workflow.graph import Address
from sweep.workflow.roles import Target

_LATENT: Final = 8  # pixels a side of a latent: sizes are multiples of it in every family, of more in some
_RESIZING: Final = ("resize", "scale", "crop")  # in the name of a node type: it makes a picture another size
_GROUPED: Final = frozenset(
    {"prompt", "variation", "width", "height", "lora", "lora_weight", "controls", *CONTROL_ROLES, "vae", "board"}
)


@dataclass(frozen=True, slots=True)
class Draft:
    """What rules are drawn from: the places of a graph before any value is in it, its outputs, and the models."""

    places: Places
    outputs: tuple[str, ...]
    models: Models

    def rules(self) -> list[Rule]:
        """The rules for everything that is set. What cannot be set becomes a fault."""
        plain = [rule for target in self.places.uses if target not in _GROUPED for rule in self._plain(target)]
        taken = {slot.address for rule in plain for slot in rule.slots}
        single = {slot.address for rule in plain if numbered(rule.targets[0]) for slot in rule.slots}
        stacking = Stacking(self.places, self._choice, single)
        found = [*self._prompt(), *plain, *self._size(taken), *stacking.loras(), *stacking.controls(), *self._vae()]
        found += self._board()
        self._refuse_conflicts(found)
        return found

    @property
    def _choice(self) -> Choice:
        return Choice(self.models, self.places.base)

    def _plain(self, target: str) -> Iterator[Rule]:
        slots = self.places.slots(target)
        if any(slot.address.field == "is_intermediate" and slot.address.node in self.outputs for slot in slots):
            place = self.places.uses.places(target)[0]
            kept = (
                "the pictures of an output are kept in the server's gallery, or with sweep run --intermediate are not"
            )
            self.places.faults.add(place, f"{place}: {kept}.")
        elif slots:
            yield rules.plain(target, slots, self._choice, self.places.value(slots[0].address))

    def _prompt(self) -> Iterator[Rule]:
        uses = self.places.uses
        if "prompt" in uses or "variation" in uses:
            slots = self.places.slots("prompt", "prompt" if "prompt" in uses else "variation")
            if slots:
                said = self.places.value(slots[0].address)
                yield rules.prompt(slots, said if isinstance(said, str) else "")

    def _size(self, taken: set[Address]) -> Iterator[Rule]:
        """Sizes that are given, and those that follow a picture because nobody gives them."""
        follow = self._follows()
        sides = {
            side: self.places.slots(side) if side in self.places.uses else self._derived(side, taken) if follow else ()
            for side in ("width", "height")
        }
        slots = [slot for places in sides.values() for slot in places]
        if slots:
            multiple = lcm(_LATENT, *(int(slot.schema.multiple_of or 1) for slot in slots))
            yield rules.size(SizeSlots(width=sides["width"], height=sides["height"], multiple=multiple, follow=follow))

    def _derived(self, side: str, taken: set[Address]) -> tuple[Slot, ...]:
        if side not in self.places.roles:
            return ()
        found = self.places.roles.targets[side]
        slots = tuple(self.places.slot(target, side) for target in found if not target.cut)
        return tuple(slot for slot in slots if slot.address not in taken)

    def _follows(self) -> bool:
        """Whether a size nobody gives is the picture's: not in a workflow that brings pictures to a size of its own."""
        if "image" not in self.places.uses or "image" not in self.places.roles:
            return False
        kinds = [node.type for node in self.places.graph.nodes.values()]
        return self.places.template or not any(word in kind for kind in kinds for word in _RESIZING)

    def _vae(self) -> Iterator[Rule]:
        if "vae" not in self.places.uses:
            return
        graph, schemas = self.places.graph, self.places.schemas
        addresses = [address for address, types in model_fields(graph, schemas) if "vae" in types]
        if addresses:
            yield rules.plain("vae", [self.places.slot(Target(address), "vae") for address in addresses], self._choice)
        elif not self.places.template:
            self.places.missing("vae")

    def _board(self) -> Iterator[Rule]:
        if "board" not in self.places.uses:
            return
        nodes = [node for node in self.outputs if "board" in self.places.fields(node)]
        slots = [self.places.slot(Target(Address(node, "board")), "board") for node in nodes]
        if slots:
            yield rules.plain("board", slots, self._choice)

    def _refuse_conflicts(self, found: Sequence[Rule]) -> None:
        """Two settings may not write one field, nor two axes one target, unless they replace words in it."""
        uses, faults = self.places.uses, self.places.faults
        owners: dict[Address, str] = {}
        for slot in (slot for rule in found for slot in rule.slots):
            place = uses.places(slot.target)[0]
            other = owners.setdefault(slot.address, place)
            if other != place:
                faults.add(place, f"{other} and {place} both set {slot.address}.")
        for target, axes in uses.clashing():
            places = [f"axes.{axis}" for axis in axes]
            faults.add(places[-1], f"{' and '.join(places)} both set {target}.")
