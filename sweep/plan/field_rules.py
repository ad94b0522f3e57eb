"""The rules that write the settings of an experiment into the fields of a graph.

A target is a role (`steps`), a role with a number (`lora_weight_2`) or an address (`noise.seed`). A rule is a pure
function of settings, so it serves fixed inputs and axes alike.

A prompt and its variation make one text, an image and a width make one size. A list names LoRAs and ControlNets in
their order (`lora`, `controls`), a role by itself sets all of them (`lora_weight`), and one with a number a single one,
which is a plain rule: its field is not among those of the list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from math import lcm
from typing import Any, Final, TypeAlias

from sweep.errors import PlanError, WorkflowError, did_you_mean
from sweep.experiment import Assignments, Experiment, Level, ProblemCollector, ReplacingLevels, Setting, is_reference
from sweep.input_images import InputImage
from sweep.plan.model_finder import ModelFinder, list_model_fields
from sweep.role_table import CONTROL_ROLES, INPUT_NAMES, SLOT, is_address, parse_numbered, strip_number
from sweep.text import truncate
from sweep.workflow import (
    IDENTITY,
    Address,
    BoardRef,
    Edge,
    Encoding,
    FieldSchema,
    Graph,
    ImageRef,
    ModelRef,
    NodeSchemas,
    Roles,
    Target,
    Value,
    Workflow,
    describe_range,
    find_address,
    find_field_target,
    make_readable,
)


def list_loras(setting: Setting) -> list[tuple[str, float | None]]:
    """List (name, weight) of each LoRA a setting names: a name, {name, weight}, a list of these, or none."""
    items = setting if isinstance(setting, list) else [] if setting is None else [setting]
    return [
        (str(item.get("name")), item.get("weight")) if isinstance(item, Mapping) else (str(item), None)
        for item in items
    ]


def list_controls(setting: Setting) -> list[Mapping[str, Any]]:
    """List the entries of a `controls` setting."""
    return [entry for entry in setting if isinstance(entry, Mapping)] if isinstance(setting, list) else []


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanContext:
    """The experiment to plan, the workflow and models it meets, and the problems found so far."""

    experiment: Experiment
    workflow: str | Workflow  # a template's name, or the user's own
    schemas: NodeSchemas
    models: ModelFinder
    problems: ProblemCollector[str]

    @property
    def uses(self) -> Assignments:
        return self.experiment.assignments

    @property
    def is_template(self) -> bool:
        return isinstance(self.workflow, str)

    @property
    def workflow_name(self) -> str:
        """Return the name of the workflow in a sentence."""
        path, written = self.experiment.workflow_path, self.experiment.workflow
        return path.name if path and not is_reference(written) else written

    def refuse(self, message: str, place: str = "workflow") -> None:
        """Add a problem at a place of the experiment's file."""
        self.problems.add_at_key(place, f"{place}: {message}")


THE_FIELD: Final = "the field "  # begins a problem that a sentence shows after the value itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A field that a role or address stands for; `encode` turns a setting into the value that the field holds.

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
            allowed = describe_range(self.schema)
            raise PlanError(f"{THE_FIELD}{self.address} takes {allowed}, so strength is {bound}.") from error


SettingValues: TypeAlias = Mapping[str, Setting]  # by target: a role or a node.field address
Written: TypeAlias = dict[Address, Value]


@dataclass(frozen=True)
class FieldRule:
    """Writes the settings of some targets into the fields of a graph.

    `encode` gives the fields for settings that may hold any of `targets`, and raises PlanError with the end of a
    sentence. `slots` are all the fields it may write, `defaults` what the workflow itself says for a target.
    """

    uses: Assignments
    targets: tuple[str, ...]
    slots: tuple[Slot, ...]
    encode: Callable[[SettingValues], Written]
    defaults: SettingValues = field(default_factory=dict)

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """Return the axes by which its targets move; none where only inputs set them."""
        return tuple(dict.fromkeys(axis.name for target in self.targets for axis in self.uses.axes.get(target, ())))

    @property
    def shown(self) -> str:
        """Return the fields as people read them: denoise.denoising_start = 1 − denoise_strength."""
        formulas = [(slot.address, slot.encode.formula(self.targets[0])) for slot in self.slots]
        return " · ".join(str(at) if formula == self.targets[0] else f"{at} = {formula}" for at, formula in formulas)

    def write(self, levels: Mapping[str, Level]) -> Written:
        """Compute the fields at these levels. Raises PlanError or ExperimentError where a setting fits no field."""
        return self.encode(self.uses.merge(self.targets, levels, self.defaults))


def check_prompt(text: str, closing: Sequence[str]) -> None:
    """Check that no text stands behind a call that ends the prompt for the server. Raises PlanError."""
    for call in closing:
        if behind := re.search(rf"\.{call}\([^()]*\)[\s,;.]*(?!\.)(\S.*)", text, re.DOTALL):
            where = f"behind .{call}(), where the server does not read it"
            way = 'put it inside, as in ("a cat, {variation}", "a dog")'
            raise PlanError(f'has the text "{truncate(behind[1], 30)}" {where}; {way}.{call}().')


_ALIKE: Final = frozenset({None, "any", "sd-1", "sd-2", "sdxl"})  # bases whose templates have the same roles
_UNKNOWN: Final = FieldSchema(name="", type="any")
_WANTED: Final[Mapping[str, str]] = {"image": "img2img", "denoise_strength": "img2img"}


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
_COUNTED: Final = ("lora", *CONTROL_ROLES)
_GROUPED: Final = frozenset({*_PROMPTS, *_LORAS, *_CONTROLS, "width", "height", "vae", "board"})


class RuleBuilder:
    """Builds the rules for all that an experiment sets in one graph, before any value is in it.

    It finds the fields by roles and addresses; one that is not found is a problem where the file names it.
    """

    def __init__(self, context: PlanContext, graph: Graph, roles: Roles, base: str | None, outputs: Sequence[str]):
        self.context = context
        self.graph = graph
        self.roles = roles
        self.base = base  # of the main model
        self.outputs = outputs
        self.uses = context.uses
        self.workflow = context.workflow_name
        self.schemas = context.schemas
        self._single: set[Address] = set()  # fields that a number or an address sets by itself

    def build(self) -> list[FieldRule]:
        """Build the rules for everything that is set. What cannot be set becomes a problem."""
        used = list(self.uses)
        plain = [rule for target in used if target not in _GROUPED for rule in self._build_plain(target)]
        taken = {slot.address for rule in plain for slot in rule.slots}
        self._single.update(slot.address for rule in plain if parse_numbered(rule.targets[0]) for slot in rule.slots)
        prompt = self._build_prompt() if any(target in used for target in _PROMPTS) else ()
        found = [*prompt, *plain, *self._build_size(taken)]
        for targets, build in ((_LORAS, self._build_loras), (_CONTROLS, self._build_controls)):
            if together := [target for target in targets if target in used]:
                found += build(together)
        if "vae" in used:
            found += self._build_vae()
        boards = [Address(node, "board") for node in self.outputs if "board" in self._get_fields(node)]
        if "board" in used and boards:
            found.append(self._make_value_rule("board", self._make_slots(map(Target, boards), "board")))
        self._refuse_conflicts(found)
        return found

    def _build_plain(self, target: str) -> Iterator[FieldRule]:
        slots = self._resolve(target)
        if strip_number(target) == "scheduler":
            used = [group for name, group in self.roles.numbered("sampler") if name in self.uses]
            samplers = {each.address for group in used for each in group}
            schedules = tuple(replace(slot, encode=IDENTITY) for slot in slots if slot.address not in samplers)
            slots = schedules if 0 < len(schedules) < len(slots) else slots  # by their own names, beside a sampler
        run_fields = self.schemas.dialect.run_fields
        if any(slot.address.field in run_fields and slot.address.node in self.outputs for slot in slots):
            kept = "the images of an output are kept in the server's gallery, or with sweep run --intermediate are not"
            self._refuse(target, f"{kept}.")
        elif slots:
            yield self._make_value_rule(target, slots)

    def _find_closing_calls(self, target: str, slots: Sequence[Slot]) -> Sequence[str]:
        """Return the calls that end a text for the nodes that read it; none where the target is no prompt."""
        nodes, calls = self.graph.nodes, self.schemas.dialect.closing_calls
        is_prompt = target in ("prompt", "negative_prompt")  # may stand in a node before those that read it
        types = (
            [node.type for node in nodes.values()] if is_prompt else [nodes[each.address.node].type for each in slots]
        )
        return next((calls[kind] for kind in types if kind in calls), ())

    def _build_prompt(self) -> Iterator[FieldRule]:
        slots = self._resolve("prompt", "prompt" if "prompt" in self.uses else "variation")
        if not slots:
            return
        original = self._read_text(slots[0]) or ""  # the workflow's, where an experiment gives none
        closing = self._find_closing_calls("prompt", slots)

        def write(settings: SettingValues) -> Written:
            if "prompt" not in settings and "variation" not in settings:
                return {}
            parts = [settings.get("prompt", original), settings.get("variation", "")]
            text = compose(*("" if part is None else str(part) for part in parts))
            check_prompt(text, closing)
            return {slot.address: slot.value(text) for slot in slots}

        yield FieldRule(self.uses, _PROMPTS, slots, write, defaults={"prompt": original})

    def _build_size(self, taken: set[Address]) -> Iterator[FieldRule]:
        """Build the rule for sizes that are given, and those that follow an image because nobody gives them.

        These are the image's, or in its proportions where one of the two is given.
        """
        follow = self._is_following()
        is_fixed = follow and not self.context.is_template  # nothing resizes the image, so that no other size fits
        addressed = self._list_addressed_sides() if follow else ()
        for target, side in addressed if self.context.is_template else ():
            sized = {each.address.node for each in self.roles.targets[side] if each.address.field == side}
            if target.endswith(f".{side}") and len(sized) > 1:  # noise and image; SDXL may be told another
                self._refuse(target, f"the size of one node alone fits no other; set {side}.")
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
        yield FieldRule(self.uses, targets, slots, write)

    def _resolve_side(self, side: str, taken: set[Address], *, follow: bool) -> tuple[Slot, ...]:
        if side in self.uses:
            return self._resolve(side)
        if not follow or side not in self.roles:
            return ()
        found = self.roles.targets[side]
        return self._make_slots((each for each in found if not (each.cut or each.address in taken)), side)

    def _list_addressed_sides(self) -> tuple[tuple[str, str], ...]:
        """List the addresses that the experiment sets, and that are a width or a height, with the side."""
        roles = self.roles.targets
        fields = {target.address: side for side in ("width", "height") for target in roles.get(side, ())}
        given = ((use, self._resolve(use)) for use in self.uses if is_address(use))
        return tuple((use, fields[slot.address]) for use, slots in given for slot in slots if slot.address in fields)

    def _is_following(self) -> bool:
        """Tell whether a size nobody gives is the image's: not in a workflow that brings images to their size.

        Nor where denoising does not begin with the image, but only refers to it (as FLUX Kontext and Redux do).
        """
        begins = "denoise_strength" in self.roles or "denoise_strength" in self.roles.ambiguous
        if "image" not in self.uses or "image" not in self.roles or not begins:
            return False
        kinds = [node.type.lower() for node in self.graph.nodes.values()]
        return self.context.is_template or not any(word in kind for kind in kinds for word in _RESIZING)

    def _build_loras(self, used: Sequence[str]) -> Iterator[FieldRule]:
        """Build the rule for a stack of LoRAs, the first of it in the node nearest the model.

        Nodes that are left over weigh nothing. Those that name no weight themselves take `lora_weight`.
        """
        nodes = self._resolve_all("lora", "lora")
        if not nodes:
            if not (self.context.is_template and any(strip_number(target) == "lora" for target in self.uses)):
                self._report_missing(used[0])
            return
        weighted = self._resolve_all("lora_weight", "lora_weight") if "lora_weight" in used else ()
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
                    written[slot.address] = self._find_model(name, slot.schema.model_types or ("lora",))
                if own is not None:
                    written |= {slot.address: slot.value(own) for slot in weights}
            for loras, weights in places[len(stack) :] if "lora" in settings else ():
                if loras:
                    written |= {slot.address: slot.value(0) for slot in weights}
            return written

        slots = _merge_slots(common, *(slots for place in places for slots in place))
        yield FieldRule(self.uses, _LORAS, slots, write)

    def _find_lora_slots(self, place: int, lora: Slot, by: str) -> tuple[tuple[Slot, ...], tuple[Slot, ...]]:
        """Find the field of a LoRA's name (none where its number or address sets it) and those of its own weight."""
        named = [list_loras(setting) for setting in self.uses.settings("lora")]
        weights: list[Slot] = []
        if any(place >= len(stack) or stack[place][1] is not None for stack in named):
            schemas, node = self.schemas, self.graph.nodes[lora.address.node]
            addresses = schemas.dialect.find_lora_weights(lora.address, schemas.get(node.type))
            weights = [self._resolve_field(address, by) for address in addresses]
        return self._skip_single([lora]), self._skip_single(weights)

    def _build_controls(self, used: Sequence[str]) -> Iterator[FieldRule]:
        """Build the rule for a list of ControlNets, and by role for what is set of all of them."""
        nodes = self.schemas.dialect.find_controls(self.graph, self.schemas)
        if not nodes:
            if not self.context.is_template:  # a template has as many as its levels set
                self._report_missing(used[0])
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
            return {slot.address: self._encode(slot, setting) for slot, setting in given if setting is not None}

        slots = _merge_slots(*common.values(), *(parts.values() for parts in places))
        yield FieldRule(self.uses, _CONTROLS, slots, write)

    def _resolve_common(self, role: str, nodes: Sequence[Mapping[str, Address]]) -> tuple[Slot, ...]:
        """Resolve the fields of a role; those of the nodes where it is not found, as images that are the source's."""
        part = role.removeprefix("control_")
        found = self._resolve_all(role, role)
        return self._skip_single(found or [self._resolve_field(node[part], role) for node in nodes])

    def _find_control_slots(self, place: int, node: Mapping[str, Address]) -> dict[str, Slot]:
        """Find the fields of a ControlNet that any entry sets, by part."""
        entries = [list_controls(setting)[place : place + 1] for setting in self.uses.settings("controls")]
        said = {part for entry in entries for part in (entry[0] if entry else ()) if entry[0][part] is not None}
        where = {**node, "image": node.get("source", node["image"])}
        slots = {part: self._resolve_field(where[part], "controls") for part in _CONTROL_PARTS if part in said}
        return {part: slot for part, slot in slots.items() if slot.address not in self._single}

    def _skip_single(self, slots: Sequence[Slot]) -> tuple[Slot, ...]:
        return tuple(slot for slot in slots if slot.address not in self._single)

    def _build_vae(self) -> Iterator[FieldRule]:
        fields = list_model_fields(self.graph, self.schemas)
        slots = self._make_slots((Target(address) for address, taken in fields if "vae" in taken.model_types), "vae")
        if slots:  # null removes a loader, but where the main model's has no VAE
            kinds = {self.graph.nodes[slot.address.node].type for slot in slots}
            yield self._make_value_rule("vae", slots, keeps_null=self.schemas.dialect.vae_loader[0] not in kinds)

    def _refuse_conflicts(self, found: Sequence[FieldRule]) -> None:
        """Refuse two settings that write one field, and two axes of one target, unless they replace words in it."""
        problems = self.context.problems
        owners: dict[Address, str] = {}
        for slot in (slot for rule in found for slot in rule.slots):
            first = owners.setdefault(slot.address, slot.target)
            if first == slot.target:
                continue
            other, place = self.uses.locate(first), self.uses.locate(slot.target)
            if other != place:
                problems.add_at_key(place, f"{other} and {place} both set {slot.address}.", is_universal=True)
        for target, axes in self.uses.axes.items():
            places = [f"axes.{axis.name}" for axis in axes if not isinstance(axis.levels, ReplacingLevels)]
            if len(places) > 1:
                problems.add_at_key(places[-1], f"{' and '.join(places)} both set {target}.", is_universal=True)

    def _resolve(self, target: str, said: str | None = None) -> tuple[Slot, ...]:
        """Resolve a role or address to its fields; to none, with a problem at `said`, where it cannot be set."""
        said = said or target
        one = parse_numbered(target)
        role = one[0] if one else target
        if one and self.context.is_template and one[1] > len(self.roles.groups(role)):
            is_elsewhere = role in _COUNTED or (role == "lora_weight" and f"lora_{one[1]}" in self.uses)
            if is_elsewhere:
                return ()  # another variant has it: a template has as many as its levels set
        try:
            if role not in INPUT_NAMES:
                found = [find_field_target(self.graph, self.schemas, find_address(self.graph, target))]
            elif role not in self.roles and role not in self.roles.ambiguous:
                self._report_missing(said)
                return ()
            else:
                found = [*(self.roles.one(*one) if one else self.roles[role])]
            return self._make_slots(found, said)
        except WorkflowError as error:
            self._refuse(said, make_readable(self.graph, str(error)))
            return ()

    def _refuse(self, target: str, problem: str) -> None:
        self.context.refuse(problem, self.uses.locate(target))

    def _report_missing(self, target: str) -> None:
        is_template, names = self.context.is_template, [*self.roles.targets, *self.roles.ambiguous]
        others = ", ".join(names) or "none; write the address of a field (NODE.FIELD)"
        way = did_you_mean(target, names) or f" It has {others}."
        hint = f" Use the workflow {_WANTED[target]}." if target in _WANTED and is_template else way
        other = is_template and (self.base not in _ALIKE or target == "clip_skip")
        kind = f"{self.workflow} for {self.base}" if other else self.workflow
        self._refuse(target, f"{kind} has no input named {target}.{hint}")

    def _resolve_all(self, role: str, target: str) -> tuple[Slot, ...]:
        """Resolve a role wherever it occurs, for `target` to set; of LoRAs, the model's side first."""
        return self._make_slots(chain.from_iterable(self.roles.groups(role)), target)

    def _resolve_field(self, address: Address, target: str) -> Slot:
        """Return a field by its address, for `target` to set."""
        if address.field not in self._get_fields(address.node):
            return Slot(address=address, schema=_UNKNOWN, target=target)
        return self._make_slots([find_field_target(self.graph, self.schemas, address)], target)[0]

    def _make_slots(self, found: Iterable[Target], target: str) -> tuple[Slot, ...]:
        slots: list[Slot] = []
        for each in found:
            schema = self._get_fields(each.address.node).get(each.address.field, _UNKNOWN)
            slots.append(Slot(address=each.address, schema=schema, target=target, encode=each.encode, cut=each.cut))
        return tuple(slots)

    def _get_fields(self, node: str) -> Mapping[str, FieldSchema]:
        schema = self.schemas.get(self.graph.nodes[node].type)
        return schema.fields if schema else {}

    def _read_text(self, slot: Slot) -> str | None:
        """Return the text that the workflow itself has in a field."""
        value = self.graph.nodes[slot.address.node].fields.get(slot.address.field)
        return value if isinstance(value, str) else None

    def _encode(self, slot: Slot, setting: Any) -> Value:
        """Encode a setting for the field, with names resolved. Raises PlanError where no model fits."""
        return self._find_references(slot.value(setting), slot.schema)

    def _find_references(self, setting: Any, schema: FieldSchema) -> Value:
        if isinstance(setting, InputImage):
            return ImageRef(setting.sha256)
        if isinstance(setting, list):
            return [self._find_references(item, schema) for item in setting]
        if schema.type == "ModelIdentifierField" and isinstance(setting, str | Mapping):
            return self._find_model(setting, schema.model_types)
        if schema.type == "BoardField" and isinstance(setting, str):
            return BoardRef(setting)
        return setting  # type: ignore[no-any-return]

    def _find_model(self, name: Any, types: Sequence[str]) -> ModelRef:
        """Find the model of these types that fits. A main model decides the base, so it need not fit one."""
        return self.context.models.find(name, types, None if "main" in types else self.base)

    def _make_value_rule(self, target: str, slots: Sequence[Slot], *, keeps_null: bool = False) -> FieldRule:
        """Make the rule of one target: its value goes into each of its fields, or null leaves them as they are."""
        closing = self._find_closing_calls(target, slots)
        default = self._read_text(slots[0])

        def write(settings: SettingValues) -> Written:
            if target not in settings or (keeps_null and settings[target] is None):
                return {}
            setting = settings[target]
            if isinstance(setting, str):
                check_prompt(setting, closing)
            return {slot.address: self._encode(slot, setting) for slot in slots}

        defaults: dict[str, Setting] = {} if default is None else {target: default}
        return FieldRule(self.uses, (target,), tuple(slots), write, defaults)


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
