"""From what an experiment names to the fields of a graph that it sets: by role, by role and number, by address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sweep.errors import WorkflowError, did_you_mean
from sweep.experiment.vocabulary import INPUT_NAMES, is_address, numbered
from sweep.plan.faults import Faults
from sweep.plan.rules import Slot
from sweep.plan.settings import Uses
from sweep.workflow.graph import Address, Graph, Value
from sweep.workflow.naming import Names, find_address, readable
from sweep.workflow.roles import Roles, Target, field_target
from sweep.workflow.schemas import FieldSchema, NodeSchemas

_ALIKE: Final = frozenset({None, "sd-1", "sd-2", "sdxl"})  # bases whose templates have the same roles
_UNKNOWN: Final = FieldSchema(name="", type="any")
_WANTED: Final[Mapping[str, str]] = {"image": "img2img", "denoise_strength": "img2img", "control_image": "controlnet"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The fields of one graph by what people call them. What cannot be found becomes a fault where it was named."""

    graph: Graph
    schemas: NodeSchemas
    roles: Roles
    base: str | None
    uses: Uses
    faults: Faults
    workflow: str  # as the experiment names it
    template: bool

    def slots(self, target: str, said: str | None = None) -> tuple[Slot, ...]:
        """The fields of a role or address; empty, with a fault at what `said` it, where it cannot be set."""
        said = said or target
        place = self.uses.places(said)[0]
        try:
            return self._slots(target, said)
        except WorkflowError as error:
            self.faults.add(place, f"{place}: {readable(self.graph, str(error))}")
            return ()

    def _slots(self, target: str, said: str) -> tuple[Slot, ...]:
        one = numbered(target)
        role = one[0] if one else target
        if role in INPUT_NAMES and role not in self.roles and role not in self.roles.ambiguous:
            self.missing(said)
            return ()
        if one:
            return tuple(self.slot(found, said) for found in self.roles.one(*one))
        if role in INPUT_NAMES:
            return tuple(self.slot(found, said) for found in self.roles[role])
        if is_address(target):
            return (self.slot(field_target(self.graph, self.schemas, self._address(target)), target),)
        near = did_you_mean(target, [*self.roles.targets, "variation", *self.addresses()])
        where = self.uses.places(said)[0]
        self.faults.add(where, f"{where} is not a role or a node.field of {self.workflow}.{near}")
        return ()

    def _address(self, text: str) -> Address:
        try:
            return find_address(self.graph, text)
        except WorkflowError as error:
            near = did_you_mean(text, [*self.addresses(), *self.roles.targets])
            if near and error.hint is None:
                raise WorkflowError(f"{self.workflow} has no node {Address.parse(text).node!r}.{near}") from error
            raise

    def addresses(self) -> Iterator[str]:
        """Every field a person can set, as it can be written."""
        names = Names(self.graph)
        for node in self.graph.nodes.values():
            called = names.called(node.id)
            yield from (f"{called}.{name}" for name, taken in self.fields(node.id).items() if taken.takes_value)

    def missing(self, target: str) -> None:
        """A fault: the workflow has no such role."""
        place = self.uses.places(target)[0]
        hint = f" Use the template {_WANTED[target]}." if target in _WANTED and self.template else ""
        other = self.template and self.base not in _ALIKE
        kind = f"{self.workflow} for {self.base}" if other else self.workflow
        self.faults.add(place, f"{place}: {kind} has no {target}.{hint}")

    def all(self, role: str, target: str) -> tuple[Slot, ...]:
        """The fields of a role wherever it occurs, for `target` to set; of LoRAs, the model's side first."""
        return tuple(self.slot(found, target) for group in self.roles.groups(role) for found in group)

    def beside(self, address: Address, field: str, target: str) -> Slot:
        """Another field of the same node."""
        here = Address(address.node, field)
        if field not in self.fields(address.node):
            return Slot(address=here, schema=_UNKNOWN, target=target)
        return self.slot(field_target(self.graph, self.schemas, here), target)

    def slot(self, found: Target, target: str) -> Slot:
        """The field a role stands for, with what it takes."""
        schema = self.fields(found.address.node).get(found.address.field, _UNKNOWN)
        return Slot(address=found.address, schema=schema, target=target, encode=found.encode, cut=found.cut)

    def fields(self, node: str) -> Mapping[str, FieldSchema]:
        """What a node takes."""
        schema = self.schemas.get(self.graph.nodes[node].type)
        return schema.fields if schema else {}

    def value(self, address: Address) -> Value:
        """What the workflow itself says there."""
        return self.graph.nodes[address.node].fields.get(address.field)
