"""One shape of an experiment's graph, bound: every fixed input in it, and a rule for each field that axes move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from sweep.experiment.definition import Level
from sweep.plan.rules import Rule, Slot, Written
from sweep.plan.settings import Uses
from sweep.plan.shapes import Shape
from sweep.workflow.graph import Address, Graph, ImageRef, ModelRef, Value
from sweep.workflow.identity import Digests


@dataclass(frozen=True, slots=True)
class Binding:
    """A rule, who sets its targets, and by which axes they move; by none where only inputs set them."""

    rule: Rule
    uses: Uses
    axes: tuple[str, ...]

    @classmethod
    def of(cls, rule: Rule, uses: Uses) -> Binding:
        names = dict.fromkeys(axis.name for target in rule.targets for axis in uses.axes.get(target, ()))
        return cls(rule, uses, tuple(names))

    def write(self, levels: Mapping[str, Level]) -> Written:
        """The fields at these levels. Raises PlanError or ExperimentError where a setting fits no field."""
        return self.rule.write(self.uses.merged(self.rule.targets, levels, self.rule.defaults))


@dataclass(frozen=True, kw_only=True)
class Body:
    """A graph with its fixed values, and what a variation changes in it."""

    shape: Shape
    levels: Mapping[str, Level]  # the first that need this shape
    graph: Graph
    outputs: tuple[str, ...]
    tagged: tuple[str, ...]  # outputs that take metadata
    bindings: tuple[Binding, ...]  # those that axes move
    fixed: tuple[Binding, ...]
    prompts: tuple[Address, ...] = ()
    models: tuple[Address, ...] = ()  # fields that hold the main model
    sources: tuple[Address, ...] = ()  # fields that hold the picture it starts from
    metadata: Mapping[str, Address] = field(default_factory=dict)  # what pictures tell of themselves → where it stands
    notes: tuple[str, ...] = ()

    @cached_property
    def digests(self) -> Digests:
        """Of the graph at rest; a variation's are computed from them."""
        return Digests(self.graph)

    def values(self, levels: Mapping[str, Level]) -> Written:
        """All fields the variation with these levels sets."""
        written: Written = {}
        for binding in self.bindings:
            written.update(binding.write(levels))
        return written

    def prompt(self, graph: Graph) -> str | None:
        """The prompt as `graph` will render it."""
        text = _first(graph, self.prompts)
        return text if isinstance(text, str) else None

    def model(self, graph: Graph) -> str | None:
        """The name of the main model in `graph`."""
        model = _first(graph, self.models)
        return model.name if isinstance(model, ModelRef) else None

    def source(self, graph: Graph) -> str | None:
        """SHA-256 of the picture `graph` starts from."""
        picture = _first(graph, self.sources)
        return picture.sha256 if isinstance(picture, ImageRef) else None

    def recalled(self, graph: Graph) -> dict[str, Value]:
        """What InvokeAI's own pages show of a picture of `graph`: its prompt, seed, steps, …"""
        found = {name: _first(graph, (address,)) for name, address in self.metadata.items()}
        return {name: value for name, value in found.items() if isinstance(value, str | int | float | ModelRef)}

    @cached_property
    def _pictured(self) -> tuple[Address, ...]:
        """The fields that hold input pictures, or may."""
        moved = {slot.address for binding in self.bindings for slot in binding.rule.slots if _holds_picture(slot)}
        still = {
            Address(node.id, name)
            for node in self.graph.nodes.values()
            for name, value in node.fields.items()
            if list(pictures_in(value))
        }
        return tuple(sorted(moved | still))

    def pictures(self, graph: Graph) -> list[str]:
        """SHA-256 of every input picture in `graph`."""
        return [sha for address in self._pictured for sha in pictures_in(_first(graph, (address,)))]


def _holds_picture(slot: Slot) -> bool:
    return "ImageField" in (slot.schema.type, slot.schema.items)


def pictures_in(value: Value) -> Sequence[str]:
    """SHA-256 of the pictures a field's value holds."""
    if isinstance(value, ImageRef):
        return (value.sha256,)
    if isinstance(value, list):
        return [sha for item in value for sha in pictures_in(item)]
    return ()


def _first(graph: Graph, addresses: Sequence[Address]) -> Value:
    node = graph.nodes.get(addresses[0].node) if addresses else None
    return node.fields.get(addresses[0].field) if node else None
