"""From the targets an experiment sets to the rules that set them, in one shape of its graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import lcm
from types import MappingProxyType
from typing import Final

from sweep.errors import WorkflowError, did_you_mean
from sweep.experiment.vocabulary import INPUT_NAMES, is_address
from sweep.plan import rules
from sweep.plan.faults import Faults
from sweep.plan.models import Models
from sweep.plan.rules import Choice, ControlSlot, LoraSlot, Rule, SizeSlots, Slot, control_list, lora_stack
from sweep.plan.settings import Uses
from sweep.plan.shapes import model_fields
from sweep.workflow.checks import explained
from sweep.workflow.graph import Address, Graph, Value
from sweep.workflow.roles import Roles, Target, field_target
from sweep.workflow.schemas import FieldSchema, NodeSchemas

_LATENT: Final = 8  # pixels a side of a latent: sizes are multiples of it in every family, of more in some
_RESIZING: Final = ("resize", "scale", "crop")  # in the name of a node type: it makes a picture another size
_GROUPED: Final = frozenset(
    {
        "prompt",
        "variation",
        "width",
        "height",
        "lora",
        "lora_weight",
        "controls",
        "control_image",
        "control_weight",
        "vae",
        "board",
    }
)
_ALIKE: Final = frozenset({None, "sd-1", "sd-2", "sdxl"})  # bases whose templates have the same roles
_CONTROL_PARTS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(  # of an entry → field, and what sets it
    {
        "model": ("control_model", "controls"),
        "image": ("image", "control_image"),
        "weight": ("control_weight", "control_weight"),
        "begin": ("begin_step_percent", "controls"),
        "end": ("end_step_percent", "controls"),
    }
)
_UNKNOWN: Final = FieldSchema(name="", type="any")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What rules are drawn from: a graph before any value is in it, its roles, and what the experiment sets."""

    graph: Graph
    schemas: NodeSchemas
    roles: Roles
    outputs: tuple[str, ...]
    models: Models
    base: str | None
    uses: Uses
    faults: Faults
    workflow: str  # as the experiment names it
    template: bool

    def rules(self) -> list[Rule]:
        """The rules for everything that is set. What cannot be set becomes a fault."""
        plain = [rule for target in self.uses if target not in _GROUPED for rule in self._plain(target)]
        taken = {slot.address for rule in plain for slot in rule.slots}
        found = [*self._prompt(), *plain, *self._size(taken), *self._loras(), *self._controls(), *self._vae()]
        found += self._board()
        self._refuse_conflicts(found)
        return found

    @property
    def _choice(self) -> Choice:
        return Choice(self.models, self.base)

    def _plain(self, target: str) -> Iterator[Rule]:
        slots = self.slots(target)
        if slots:
            yield rules.plain(target, slots, self._choice, self._value(slots[0].address))

    def _prompt(self) -> Iterator[Rule]:
        if "prompt" in self.uses or "variation" in self.uses:
            slots = self.slots("prompt", "prompt" if "prompt" in self.uses else "variation")
            if slots:
                said = self._value(slots[0].address)
                yield rules.prompt(slots, said if isinstance(said, str) else "")

    def _size(self, taken: set[Address]) -> Iterator[Rule]:
        """Sizes that are given, and those that follow a picture because nobody gives them."""
        follow = self._follows()
        sides = {
            side: self.slots(side) if side in self.uses else self._derived(side, taken) if follow else ()
            for side in ("width", "height")
        }
        slots = [slot for places in sides.values() for slot in places]
        if slots:
            multiple = lcm(_LATENT, *(int(slot.schema.multiple_of or 1) for slot in slots))
            yield rules.size(SizeSlots(width=sides["width"], height=sides["height"], multiple=multiple, follow=follow))

    def _derived(self, side: str, taken: set[Address]) -> tuple[Slot, ...]:
        if side not in self.roles:
            return ()
        slots = tuple(self._slot(target, side) for target in self.roles.targets[side] if not target.cut)
        return tuple(slot for slot in slots if slot.address not in taken)

    def _follows(self) -> bool:
        """Whether a size nobody gives is the picture's: not in a workflow that brings pictures to a size of its own."""
        if "image" not in self.uses or "image" not in self.roles:
            return False
        kinds = [node.type for node in self.graph.nodes.values()]
        return self.template or not any(word in kind for kind in kinds for word in _RESIZING)

    def _loras(self) -> Iterator[Rule]:
        if "lora" in self.uses or "lora_weight" in self.uses:
            slots = [self._lora(place, lora) for place, lora in enumerate(self._all("lora"))]
            if slots:
                yield rules.loras(slots, self._choice)
            elif not (self.template and "lora" in self.uses):
                self._missing("lora" if "lora" in self.uses else "lora_weight")

    def _lora(self, place: int, lora: Slot) -> LoraSlot:
        stacks = [lora_stack(setting) for setting in self.uses.settings("lora")]
        weighed = any(place >= len(stack) or stack[place][1] is not None for stack in stacks)
        by = "lora_weight" if "lora_weight" in self.uses else "lora"
        weighed = weighed or by == "lora_weight"
        return LoraSlot(lora, self._beside(lora.address, "weight", by) if weighed else None)

    def _controls(self) -> Iterator[Rule]:
        used = [target for target in ("controls", "control_image", "control_weight") if target in self.uses]
        if not used:
            return
        slots = [self._control(place, node) for place, node in enumerate(self._control_nodes())]
        if slots:
            yield rules.controls(slots, self._choice)
        elif not (self.template and "controls" in self.uses):
            self._missing(used[0])

    def _control_nodes(self) -> list[str]:
        return [node.id for node in self.graph.nodes.values() if "control_model" in self._fields(node.type)]

    def _control(self, place: int, node: str) -> ControlSlot:
        """The fields of a ControlNet that any setting says."""
        entries = [control_list(setting)[place : place + 1] for setting in self.uses.settings("controls")]
        said = {part for entry in entries for part in (entry[0] if entry else ()) if entry[0][part] is not None}
        said |= {part for part in ("image", "weight") if f"control_{part}" in self.uses}
        model = Address(node, "control_model")
        parts = {
            part: self._beside(model, name, by if by in self.uses else "controls")
            for part, (name, by) in _CONTROL_PARTS.items()
            if part in said
        }
        return ControlSlot(parts=parts)

    def _vae(self) -> Iterator[Rule]:
        if "vae" not in self.uses:
            return
        addresses = [address for address, types in model_fields(self.graph, self.schemas) if "vae" in types]
        if addresses:
            yield rules.plain("vae", [self._slot(Target(address), "vae") for address in addresses], self._choice)
        elif not self.template:
            self._missing("vae")

    def _board(self) -> Iterator[Rule]:
        if "board" not in self.uses:
            return
        nodes = [node for node in self.outputs if "board" in self._fields(self.graph.nodes[node].type)]
        slots = [self._slot(Target(Address(node, "board")), "board") for node in nodes]
        if slots:
            yield rules.plain("board", slots, self._choice)

    def slots(self, target: str, said: str | None = None) -> tuple[Slot, ...]:
        """The fields of a role or address; empty, with a fault at what `said` it, where it cannot be set."""
        place = self.uses.places(said or target)[0]
        try:
            if target in INPUT_NAMES:
                if target not in self.roles and target not in self.roles.ambiguous:
                    self._missing(said or target)
                    return ()
                return tuple(self._slot(found, said or target) for found in self.roles[target])
            if is_address(target):
                return (self._at(target),)
        except WorkflowError as error:
            self.faults.add(place, f"{place}: {explained(self.graph, str(error))}")
            return ()
        words = [*self.roles.targets, "variation", *self.addresses()]
        near = did_you_mean(target, words)
        self.faults.add(place, f"{place} is not a role or a node.field of {self.workflow}.{near}")
        return ()

    def addresses(self) -> Iterator[str]:
        """Every field a person can set."""
        for node in self.graph.nodes.values():
            yield from (f"{node.id}.{name}" for name, taken in self._fields(node.type).items() if taken.takes_value)

    def _at(self, text: str) -> Slot:
        address = Address.parse(text)
        if address.node not in self.graph.nodes:
            near = did_you_mean(text, [*self.addresses(), *self.roles.targets])
            raise WorkflowError(f"{self.workflow} has no node {address.node!r}.{near}")
        return self._slot(field_target(self.graph, self.schemas, address), text)

    def _missing(self, target: str) -> None:
        place = self.uses.places(target)[0]
        wanted = {"image": "img2img", "denoise_strength": "img2img", "control_image": "controlnet"}.get(target)
        hint = f" Use the template {wanted}." if wanted and self.template else ""
        other = self.template and self.base not in _ALIKE
        kind = f"{self.workflow} for {self.base}" if other else self.workflow
        self.faults.add(place, f"{place}: {kind} has no {target}.{hint}")

    def _all(self, role: str) -> list[Slot]:
        """The fields of a role wherever it occurs, the model's side first."""
        groups = self.roles.ambiguous.get(role) or (self.roles.targets.get(role, ()),)
        return [self._slot(target, role) for group in groups for target in group]

    def _beside(self, address: Address, field: str, target: str) -> Slot:
        """Another field of the same node."""
        here = Address(address.node, field)
        if field not in self._fields(self.graph.nodes[address.node].type):
            return Slot(address=here, schema=_UNKNOWN, target=target)
        return self._slot(field_target(self.graph, self.schemas, here), target)

    def _slot(self, found: Target, target: str) -> Slot:
        schema = self._fields(self.graph.nodes[found.address.node].type).get(found.address.field, _UNKNOWN)
        return Slot(address=found.address, schema=schema, target=target, encode=found.encode, cut=found.cut)

    def _fields(self, kind: str) -> Mapping[str, FieldSchema]:
        schema = self.schemas.get(kind)
        return schema.fields if schema else {}

    def _value(self, address: Address) -> Value:
        return self.graph.nodes[address.node].fields.get(address.field)

    def _refuse_conflicts(self, found: Sequence[Rule]) -> None:
        """Two settings may not write one field, nor two axes one target, unless they replace words in it."""
        owners: dict[Address, str] = {}
        for slot in (slot for rule in found for slot in rule.slots):
            place = self._place(slot)
            other = owners.setdefault(slot.address, place)
            if other != place:
                self.faults.add(place, f"{other} and {place} both set {slot.address}.")
        for target, axes in self.uses.clashing():
            places = [f"axes.{axis}" for axis in axes]
            self.faults.add(places[-1], f"{' and '.join(places)} both set {target}.")

    def _place(self, slot: Slot) -> str:
        return self.uses.places(slot.target)[0]
