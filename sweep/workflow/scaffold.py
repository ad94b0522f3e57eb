"""The scaffold of `sweep init`: a first experiment file for a workflow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweep.workflow.dialect import NodeSchemas
from sweep.workflow.graph import Address, ModelRef, Names, Value, Workflow
from sweep.workflow.node_schemas import FieldSchema, Model
from sweep.workflow.role_targets import STACKED, Roles, Target
from sweep.workflow.validation import check_value, open_fields
from sweep.workflow.wiring import Wiring

PLACEHOLDER = "image.png"  # stands for an image that only the user has
_FEW = 3
_HUGE = 1e15  # of which no third more is worth a try, or can be written
_WEIGHTS = ("lora_weight", "control_weight")
_FIXED = ("prompt", "negative_prompt", "steps", "cfg_scale", "sampler", "scheduler", "width", "height", *_WEIGHTS)
_IMAGES = ("image", "control_image")
_MODELS = {"model": "main", "lora": "lora", "control_model": "controlnet"}  # role → type of its models
_RESERVED = re.compile(r"con|prn|aux|nul|(com|lpt)\d")  # Windows keeps these names for devices
_SWEPT = {
    "denoise_strength": "denoise_strength: {start: 0.2, stop: 0.8, step: 0.2}",
    "seed": "seed: {start: 42, count: 4}",
}
_VARIATION = "variation: [enhanced colors and lighting, painterly effect]  # each is appended to the prompt"
_OFFERED = ("cfg_scale", "steps", "sampler", "scheduler", *_WEIGHTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaffoldContext:
    """A workflow's place and the material for it: `path` of its file and `image` of its image as the experiment
    is to name them, and the server's models where they are known.
    """

    path: str
    folder: Path | None = None  # where the images lie that a workflow names; None: they are not looked for
    image: str = ""
    models: Sequence[Model] = ()


def list_main_models(workflow: Workflow, schemas: NodeSchemas, models: Sequence[Model]) -> tuple[str, ...]:
    """Return the names of the main models that the workflow's loaders take, in alphabetical order."""
    kinds = [schemas[node.type] for node in workflow.graph.nodes.values() if node.type in schemas]
    fields = [field for schema in kinds for field in schema.fields.values()]
    loaders = [field for field in fields if "main" in field.model_types and field.required]
    bases = set(workflow.bases) or {base for field in loaders for base in field.model_bases}
    return tuple(sorted(m.name for m in models if m.type == "main" and (not bases or m.base in bases)))


def write_starter(workflow: Workflow, roles: Roles, schemas: NodeSchemas, around: ScaffoldContext) -> str:
    """Write the YAML text of an experiment that sweeps the workflow over four seeds, and over denoise strength where it
    begins with an image. Of several main models that fit the first is taken. All else that the workflow has set
    already stands there in comments, to be changed.
    """
    lines = _Starter(workflow, roles, schemas, around).lines()
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


class _Starter:
    def __init__(self, workflow: Workflow, roles: Roles, schemas: NodeSchemas, around: ScaffoldContext) -> None:
        self.workflow, self.graph, self.roles, self.schemas = workflow, workflow.graph, roles, schemas
        self.around = around
        self.wiring = Wiring(self.graph, schemas)
        self.mains = list(list_main_models(workflow, schemas, around.models))
        self.names = Names(self.graph)
        told = [group for role in (*_IMAGES, *_MODELS, *_FIXED, *_SWEPT) for group in roles.groups(role)]
        self.told = {target.address for group in told for target in group}  # fields that a line on a role sets
        self.open = [address for address in open_fields(self.graph, schemas) if address not in self.told]

    def lines(self) -> Iterator[str]:
        swept = {"denoise_strength": "denoise strength", "seed": "the seed"}
        moves = next((words for role, words in swept.items() if role in self.roles), "each setting")
        question = f"How does {moves} change {self.workflow.name or 'this workflow'}?"
        yield f"name: {_quote(_simplify(self.workflow.name) or 'experiment')}"
        yield f"description: {_quote(question)}"
        yield f"workflow: {_quote(self.around.path)}"
        yield ""
        inputs = [*self._write_images(), *self._write_models(), *self._write_fixed(), *self._open_fields()]
        needed = [line for is_needed, line in inputs if is_needed]
        yield f"{'inputs:' if needed else '# inputs:':<30}# fixed for the whole experiment"
        yield from (f"  {line}" for line in needed)
        yield from (f"#   {line}" for is_needed, line in inputs if not is_needed)
        yield ""
        yield from self._list_unsettled()
        axes = [line for role, line in _SWEPT.items() if role in self.roles]
        yield f"{'axes:' if axes else 'axes: {}':<30}# the first axis varies slowest"
        yield from (f"  {line}" for line in axes)
        yield from (f"#   {line}" for line in (*self._write_other_axes(), *self._write_exposed()))

    def _write_images(self) -> Iterator[tuple[bool, str]]:
        """Yield lines for the images a workflow wants and does not name, or in whose place another one is given."""
        image, folder = self.around.image, self.around.folder
        for _, name, targets in self._iterate_numbered(_IMAGES):
            files = [self.workflow.files[target.address] for target in targets if target.address in self.workflow.files]
            is_there = any(folder is None or (folder / file).is_file() for file in files)  # as far as that is known
            if image or not (is_there or self._find_held_value(targets)):
                what = "" if image else "the path of an image"
                yield True, f"{name}: {_quote(image or PLACEHOLDER)}{self._write_comment(targets[0].address, what)}"

    def _write_models(self) -> Iterator[tuple[bool, str]]:
        """Yield lines for models: those that have to be chosen, of several on the server, are needed."""
        for role, name, targets in self._iterate_numbered(_MODELS):
            held, address, kind = self._find_held_value(targets), targets[0].address, _MODELS[role]
            fitting = self.mains if role == "model" else self._list_fitting(address, kind)
            taken = fitting if role == "model" else self._list_fitting(address)  # of any type, where the field does
            if isinstance(held, ModelRef) and (held.name in fitting or role != "model" or len(fitting) < 2):
                yield False, f"{name}: {_quote(held.name)}  # a name the server knows; left out: the workflow's"
            elif fitting and len(taken) > 1:
                others = f"  # or {', '.join(fitting[1:])}" if fitting[1:] else ""
                yield True, f"{name}: {_quote(fitting[0])}{others}"
            else:
                yield False, f"{name}: name  # a name the server knows; left out: its only one"

    def _write_fixed(self) -> Iterator[tuple[bool, str]]:
        for _, name, targets in self._iterate_numbered(_FIXED):
            if (held := self._find_held_value(targets)) is not None:
                yield False, f"{name}: {_quote(held)}"

    def _open_fields(self) -> Iterator[tuple[bool, str]]:
        """Yield lines for what else needs a value; a model is left out where the server has only one that fits."""
        for address in self.open:
            schema = self.schemas[self.graph.nodes[address.node].type].fields[address.field]
            name = _quote(self._call(address))
            fitting = self._list_fitting(address)
            if schema.type == "ImageField":
                yield True, f"{name}: {{image: {PLACEHOLDER}}}{self._write_comment(address, 'the path of an image')}"
            elif schema.type != "ModelIdentifierField":
                yield True, f"{name}: null{self._write_comment(address, schema.type)}"
            elif len(fitting) > 1:
                others = f"or {', '.join(fitting[1:])}"
                yield True, f"{name}: {_quote(fitting[0])}{self._write_comment(address, others)}"
            elif not fitting:
                kind = f"of type {' or '.join(schema.model_types) or 'any'}"
                none = ", of which the server has none" if self.around.models else ""
                yield False, f"{name}: name{self._write_comment(address, kind + none)}"

    def _list_fitting(self, address: Address, kind: str = "") -> list[str]:
        """Return the names of the models (of a type) that a field takes beside the main model, as far as known."""
        field = self.wiring.field(address)
        known = [ModelRef(model.name, model.base, model.type) for model in self.around.models]
        bases = {ref.base for ref in known if ref.type == "main" and ref.name in self.mains[:1]} | {"any"}
        if field is None or field.type != "ModelIdentifierField":
            return []
        any_base = "main" in field.model_types or len(bases) == 1
        fitting = [ref for ref in known if check_value(field, ref) is None and (any_base or ref.base in bases)]
        return [ref.name for ref in fitting if not kind or ref.type == kind]

    def _find_held_value(self, targets: Sequence[Target]) -> Value:
        """Return the workflow's own value of a role; None without one, or where an edge feeds it."""
        target = targets[0]
        return None if target.cut else self.graph.nodes[target.address.node].fields.get(target.address.field)

    def _iterate_numbered(self, roles: Iterable[str]) -> Iterator[tuple[str, str, Sequence[Target]]]:
        """Yield roles, their names with a number, and their targets: of a scheduler without the sampler, if that is a
        role of its own.
        """
        samplers = {target.address for group in self.roles.groups("sampler") for target in group}
        for role in roles:
            for name, targets in self.roles.numbered(role):
                if own := [each for each in targets if role != "scheduler" or each.address not in samplers]:
                    yield role, name, own

    def _list_unsettled(self) -> Iterator[str]:
        """List the roles of which one has to be chosen; those of stacks can all be set, each by its number."""
        unsettled = [role for role in self.roles.ambiguous if role not in STACKED]
        if not unsettled:
            return
        yield "# roles:                      # several could be meant: keep one line of each, or set them by number"
        for role in unsettled:
            for name, group in self.roles.numbered(role):
                listed = ", ".join(_quote(self._call(target.address)) for target in group)
                yield f"#   {role}: [{listed}]{self._write_comment(group[0].address, name)}"
        yield ""

    def _write_other_axes(self) -> Iterator[str]:
        if "prompt" in self.roles:
            yield _VARIATION
        for role, name, targets in self._iterate_numbered(_OFFERED):
            if offered := self._offer(role, targets[0].address, self._find_held_value(targets)):
                yield f"{name}: {offered}{self._write_comment(targets[0].address)}"

    def _write_exposed(self) -> Iterator[str]:
        """Yield the fields its author put on the form, but for those that stand in the file already."""
        for address in self.workflow.exposed:
            schema = self.wiring.field(address)
            if address in self.told or address in self.open or (schema and schema.type == "BoardField"):
                continue
            value = self.graph.nodes[address.node].fields.get(address.field)
            models = [_quote(name) for name in self._list_fitting(address)[:_FEW]]
            offered = f"[{', '.join(models)}]" if models else self._offer("", address, value) or "[]"
            yield f"{_quote(self._call(address))}: {offered}{self._write_comment(address)}"

    def _offer(self, role: str, address: Address, value: Value) -> str:
        """Return a YAML list of two or three values that fit the field; empty where nothing is known of it."""
        field = self.wiring.field(address)
        if field is None or field.type == "ImageField":
            return '{images: "*.png"}' if field else ""
        schedulers = self.schemas.dialect.common_schedulers if role in ("sampler", "scheduler") else ()
        values = _list_values(role, field, field.default if value is None else value, schedulers)
        distinct = dict.fromkeys(_quote(each) for each in values if check_value(field, each) is None)
        return f"[{', '.join(list(distinct)[:_FEW])}]" if distinct else ""

    def _call(self, address: Address) -> str:
        return f"{self.names.name_node(address.node)}.{address.field}"

    def _write_comment(self, address: Address, *about: str) -> str:
        """Return a comment on a line: what is to be said, and what the author calls the field or its node."""
        label = self.workflow.labels.get(address) or self.graph.nodes[address.node].label
        said = ": ".join(filter(None, (*about, " ".join(label.split()))))
        return f"  # {said}" if said else ""


def _list_values(role: str, field: FieldSchema, value: Value, schedulers: Sequence[str]) -> Sequence[Value]:
    """List values of a field that are worth a try, around the workflow's own: a third less, and a third more."""
    if field.choices:
        return value, *schedulers, *field.choices
    if field.type == "boolean":
        return False, True
    if role.endswith("weight"):
        return 0, 0.5, 1
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > _HUGE:
        return (value,) if isinstance(value, str) else ()
    if value == 0:
        return -1, 0, 1
    if unit := int(field.multiple_of or field.type == "integer"):
        return round(value * 2 / 3 / unit) * unit, value, round(value * 4 / 3 / unit) * unit
    return float(f"{value * 2 / 3:.2g}"), value, float(f"{value * 4 / 3:.2g}")


def _quote(value: Value) -> str:
    return json.dumps(value, ensure_ascii=False)


def _simplify(name: str) -> str:
    """Return a name that is a folder's name on every system: letters, digits and dashes."""
    name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60].strip("-")
    return f"{name}-sweep" if _RESERVED.fullmatch(name) else name
