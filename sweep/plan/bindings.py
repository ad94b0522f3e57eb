"""BoundGraph: a graph with its fixed inputs applied and one write rule per field an axis changes.

TargetResolver finds the fields of one variant of the graph by role, by role and number, or by address; RuleBuilder
builds the rules for all that an experiment sets. Every value is checked against its field once, not once a point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import lcm
from typing import Final

from sweep.errors import DefinitionError, WorkflowError, did_you_mean
from sweep.experiment import (
    INPUT_NAMES,
    Dimension,
    InputImage,
    Level,
    ProblemCollector,
    Setting,
    is_address,
    parse_numbered,
)
from sweep.plan import rules
from sweep.plan.graph_variants import GraphVariant
from sweep.plan.models import ModelFinder, list_model_fields
from sweep.plan.rules import (
    THE_FIELD,
    Assignments,
    Binding,
    ControlSlot,
    FieldRule,
    LoraSlot,
    ReferenceResolver,
    SizeSlots,
    Slot,
    Written,
    choose_test_positions,
    levels_at,
    list_controls,
    list_loras,
)
from sweep.role_table import CONTROL_ROLES
from sweep.text import truncate
from sweep.workflow import (
    Address,
    Dialect,
    Digests,
    FieldSchema,
    Graph,
    ImageRef,
    ModelRef,
    Names,
    NodeSchemas,
    Roles,
    Target,
    Value,
    check_value,
    field_target,
    find_address,
    readable,
)


def _recall_nothing(_: Graph) -> Mapping[str, Value]:
    return {}


@dataclass(frozen=True, kw_only=True)
class BoundGraph:
    """A graph with its fixed values, and what a variation changes in it."""

    variant: GraphVariant
    levels: Mapping[str, Level]  # the first that need this variant
    graph: Graph
    outputs: tuple[str, ...]
    tagged: tuple[str, ...]  # outputs that take metadata
    dialect: Dialect
    is_fusable: bool  # whether several of these graphs may be one item
    bindings: tuple[Binding, ...]  # those that axes move
    fixed: tuple[Binding, ...]
    prompts: tuple[Address, ...] = ()
    models: tuple[Address, ...] = ()  # fields that hold the main model
    sources: tuple[Address, ...] = ()  # fields that hold the image it starts from
    recall: Callable[[Graph], Mapping[str, Value]] = _recall_nothing  # what images tell of themselves
    notes: tuple[str, ...] = ()

    @cached_property
    def digests(self) -> Digests:
        """Of the graph at rest; a variation's are computed from them."""
        return Digests(self.graph, self.dialect)

    def values(self, levels: Mapping[str, Level]) -> Written:
        """Return all fields the variation with these levels sets."""
        written: Written = {}
        for binding in self.bindings:
            written.update(binding.write(levels))
        return written

    def prompt(self, graph: Graph) -> str | None:
        """Read the prompt that `graph` renders."""
        text = _read_first(graph, self.prompts)
        return text if isinstance(text, str) else None

    def model(self, graph: Graph) -> str | None:
        """Read the name of the main model in `graph`."""
        model = _read_first(graph, self.models)
        return model.name if isinstance(model, ModelRef) else None

    def source(self, graph: Graph) -> str | None:
        """SHA-256 of the image `graph` starts from."""
        image = _read_first(graph, self.sources)
        return image.sha256 if isinstance(image, ImageRef) else None

    def recalled(self, graph: Graph) -> dict[str, Value]:
        """Collect what a server's own pages show of an image of `graph`: its prompt, seed, steps and the like."""
        return dict(self.recall(graph))

    @cached_property
    def _imaged(self) -> tuple[Address, ...]:
        """The fields that hold input images, or may."""
        moved = {slot.address for binding in self.bindings for slot in binding.rule.slots if _is_image_field(slot)}
        still = {
            Address(node.id, name)
            for node in self.graph.nodes.values()
            for name, value in node.fields.items()
            if list(list_image_hashes(value))
        }
        return tuple(sorted(moved | still))

    def images(self, graph: Graph) -> list[str]:
        """SHA-256 of every input image in `graph`."""
        return [sha for address in self._imaged for sha in list_image_hashes(_read_first(graph, (address,)))]


def _is_image_field(slot: Slot) -> bool:
    return "ImageField" in (slot.schema.type, slot.schema.items)


def list_image_hashes(value: Value) -> Sequence[str]:
    """SHA-256 of the images a field's value holds."""
    if isinstance(value, ImageRef):
        return (value.sha256,)
    if isinstance(value, list):
        return [sha for item in value for sha in list_image_hashes(item)]
    return ()


def _read_first(graph: Graph, addresses: Sequence[Address]) -> Value:
    node = graph.nodes.get(addresses[0].node) if addresses else None
    return node.fields.get(addresses[0].field) if node else None


_CONTROL_PARTS: Final = ("model", "image", "weight", "begin", "end")  # of an entry of controls


_ALIKE: Final = frozenset({None, "sd-1", "sd-2", "sdxl"})  # bases whose templates have the same roles
_UNKNOWN: Final = FieldSchema(name="", type="any")
_WANTED: Final[Mapping[str, str]] = {"image": "img2img", "denoise_strength": "img2img", "control_image": "controlnet"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetResolver:
    """The fields of one graph by what people call them. What cannot be found becomes a problem where it was named."""

    graph: Graph
    schemas: NodeSchemas
    roles: Roles
    base: str | None
    uses: Assignments
    problems: ProblemCollector[str]
    workflow: str  # as the experiment names it
    template: bool

    def resolve(self, target: str, said: str | None = None) -> tuple[Slot, ...]:
        """Resolve a role or address to its fields; to none, with a problem at `said`, where it cannot be set."""
        said = said or target
        place = self.uses.locate(said)[0]
        try:
            return self._resolve(target, said)
        except WorkflowError as error:
            self.problems.add_at_key(place, f"{place}: {readable(self.graph, str(error))}")
            return ()

    def _resolve(self, target: str, said: str) -> tuple[Slot, ...]:
        one = parse_numbered(target)
        role = one[0] if one else target
        if role in INPUT_NAMES and role not in self.roles and role not in self.roles.ambiguous:
            self.report_missing(said)
            return ()
        if one:
            return tuple(self.make_slot(found, said) for found in self.roles.one(*one))
        if role in INPUT_NAMES:
            return tuple(self.make_slot(found, said) for found in self.roles[role])
        if is_address(target):
            return (self.make_slot(field_target(self.graph, self.schemas, self._find_address(target)), target),)
        near = did_you_mean(target, [*self.roles.targets, "variation", *self.list_addresses()])
        where = self.uses.locate(said)[0]
        self.problems.add_at_key(where, f"{where} is no input: neither a role nor NODE.FIELD of {self.workflow}.{near}")
        return ()

    def _find_address(self, text: str) -> Address:
        try:
            return find_address(self.graph, text)
        except WorkflowError as error:
            near = did_you_mean(text, [*self.list_addresses(), *self.roles.targets])
            if near and error.hint is None:
                raise WorkflowError(f"{self.workflow} has no node {Address.parse(text).node!r}.{near}") from error
            raise

    def list_addresses(self) -> Iterator[str]:
        """List every field a person can set, as it can be written."""
        names = Names(self.graph)
        for node in self.graph.nodes.values():
            called = names.called(node.id)
            yield from (f"{called}.{name}" for name, taken in self.fields_of(node.id).items() if taken.takes_value)

    def report_missing(self, target: str) -> None:
        """Add the problem that the workflow has no such role."""
        place = self.uses.locate(target)[0]
        hint = f" Use the template {_WANTED[target]}." if target in _WANTED and self.template else ""
        other = self.template and (self.base not in _ALIKE or target == "clip_skip")
        kind = f"{self.workflow} for {self.base}" if other else self.workflow
        self.problems.add_at_key(place, f"{place}: {kind} has no {target}.{hint}")

    def resolve_all(self, role: str, target: str) -> tuple[Slot, ...]:
        """Resolve a role wherever it occurs, for `target` to set; of LoRAs, the model's side first."""
        return tuple(self.make_slot(found, target) for group in self.roles.groups(role) for found in group)

    def resolve_field(self, address: Address, target: str) -> Slot:
        """Return a field by its address, for `target` to set."""
        if address.field not in self.fields_of(address.node):
            return Slot(address=address, schema=_UNKNOWN, target=target)
        return self.make_slot(field_target(self.graph, self.schemas, address), target)

    def make_slot(self, found: Target, target: str) -> Slot:
        """Describe the field a role stands for, with what it takes."""
        schema = self.fields_of(found.address.node).get(found.address.field, _UNKNOWN)
        return Slot(address=found.address, schema=schema, target=target, encode=found.encode, cut=found.cut)

    def fields_of(self, node: str) -> Mapping[str, FieldSchema]:
        """Return what a node takes."""
        schema = self.schemas.get(self.graph.nodes[node].type)
        return schema.fields if schema else {}

    def read_value(self, address: Address) -> Value:
        """Return the workflow's own value of a field."""
        return self.graph.nodes[address.node].fields.get(address.field)


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
            yield rules.make_value_rule(target, slots, self._choice, default, self._find_closing_calls(target, slots))

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
                yield rules.make_prompt_rule(slots, said if isinstance(said, str) else "", closing)

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
            yield rules.make_size_rule(
                SizeSlots(
                    width=sides["width"],
                    height=sides["height"],
                    multiple=multiple,
                    follow=follow,
                    is_fixed=follow and not self.places.template,
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
        return self.places.template or not any(word in kind.lower() for kind in kinds for word in _RESIZING)

    def _build_loras(self) -> Iterator[FieldRule]:
        """Build the rule for `lora` and `lora_weight`, where either is set."""
        if "lora" not in self._uses and "lora_weight" not in self._uses:
            return
        nodes = self.places.resolve_all("lora", "lora")
        if nodes:
            weighted = "lora_weight" in self._uses
            common = self._skip_taken(self.places.resolve_all("lora_weight", "lora_weight")) if weighted else ()
            slots = [self._make_lora_slot(*place) for place in enumerate(nodes)]
            yield rules.make_lora_rule(slots, common, self._choice)
        elif not (self.places.template and "lora" in self._uses):
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
            yield rules.make_controls_rule(entries, common, self._choice)
        elif not (self.places.template and "controls" in self._uses):
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
            yield rules.make_value_rule(
                "vae", [self.places.make_slot(Target(address), "vae") for address in addresses], self._choice
            )
        elif not self.places.template:
            self.places.report_missing("vae")

    def _build_board(self) -> Iterator[FieldRule]:
        if "board" not in self.places.uses:
            return
        nodes = [node for node in self.outputs if "board" in self.places.fields_of(node)]
        slots = [self.places.make_slot(Target(Address(node, "board")), "board") for node in nodes]
        if slots:
            yield rules.make_value_rule("board", slots, self._choice)

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


_SHOWN: Final = 60  # characters of a value in a sentence
_TEXTS: Final = 1_000  # texts looked at, of an axis of more


@dataclass(frozen=True, slots=True)
class ValidationContext:
    """Where the other axes stand while one is looked at, and which levels (`ours`) the graph at hand is meant for."""

    levels: Mapping[str, Level]
    ours: Callable[[Mapping[str, Level]], bool]


def check_fixed(binding: Binding, problems: ProblemCollector[str]) -> None:
    """Check what inputs alone decide."""
    places = {target: f"inputs.{target}" for target in binding.rule.targets if target in binding.uses.inputs}
    for slot, problem in _find_problems(binding, {}):
        place = places.get(slot.target if slot else "") or next(iter(places.values()), "inputs")
        value = binding.uses.inputs.get(place.removeprefix("inputs."))
        problems.add_at_value(place, _write_sentence(place, "is", value, problem))


def check_moved(
    binding: Binding, dimension: Dimension, around: ValidationContext, problems: ProblemCollector[str]
) -> None:
    """Check every value that one dimension writes through a binding."""
    axis = next(axis for axis in dimension.axes if axis.name in binding.axes)
    numeric = axis.kind in ("integer", "number", "seed")
    place = f"axes.{axis.name}"
    anyway = (
        {problem for _, problem in _find_problems(binding, around.levels)} if axis.name != binding.axes[0] else set()
    )
    found: dict[str, tuple[object, str, str]] = {}  # which problem → (value, sentence, place), the furthest of its kind
    for at in _choose_positions(binding, dimension):
        here = {**around.levels, **levels_at(dimension, at)}
        value = here[axis.name].value
        for slot, problem in _find_problems(binding, here) if around.ours(here) else ():
            if problem in anyway:
                continue  # another axis brings it about, and is told so
            kind = f"{slot.address if slot else ''} {_classify_problem(problem)}" if numeric else str(at)
            sentence = _write_sentence(place, "reaches" if numeric else "has", value, problem)
            if kind not in found or _is_further(value, found[kind][0]):
                found[kind] = (value, sentence, f"{place}.{at}")
    for _, sentence, where in found.values():
        problems.add_at_key(where, sentence)


def _choose_positions(binding: Binding, dimension: Dimension) -> Sequence[int]:
    """Find where to look: a long list of texts for fields that take any text says nothing new after a while."""
    positions = choose_test_positions(dimension)
    free = all(slot.schema.type == "string" and not slot.schema.choices for slot in binding.rule.slots)
    return positions[:_TEXTS] if free and len(positions) > _TEXTS and not binding.uses.is_replacing() else positions


def _classify_problem(problem: str) -> str:
    """Name the kind of a problem: those of one kind are told once, with the furthest value: those too large, those too
    small.
    """
    return "low" if "at least 0." in problem else problem.partition(", not ")[0]


def _is_further(value: object, than: object) -> bool:
    return isinstance(value, int | float) and isinstance(than, int | float) and abs(value) > abs(than)


def _find_problems(binding: Binding, levels: Mapping[str, Level]) -> Iterator[tuple[Slot | None, str]]:
    """(slot, end of a sentence) for each field that does not take its value."""
    try:
        written = binding.write(levels)
    except DefinitionError as error:
        yield None, error.message
        return
    told: set[str] = set()
    for slot in binding.rule.slots:
        if slot.address in written and (problem := check_value(slot.schema, written[slot.address])):
            if problem not in told:
                yield slot, f"{THE_FIELD}{slot.address} {problem}"
            told.add(problem)


def _write_sentence(place: str, verb: str, value: Setting, problem: str) -> str:
    end = "" if problem.endswith((".", "?", ")")) else "."
    if problem.startswith(THE_FIELD) and value is not None:
        return f"{place} {verb} {_show_value(value)}; {problem}{end}"
    return f"{place}: {problem}{end}"


def _show_value(value: Setting) -> str:
    if isinstance(value, InputImage):
        return value.shown
    return truncate(str(value), _SHOWN)
