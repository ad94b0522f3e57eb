"""The scaffold of `sweep init`: a first experiment file for a workflow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweep.workflow.dialect import NodeSchemas
from sweep.workflow.graph import Address, ModelRef, Names, Value, Workflow
from sweep.workflow.node_schemas import FieldSchema, Model
from sweep.workflow.roles import STACKED, Roles, Target
from sweep.workflow.validation import check_value, open_fields
from sweep.workflow.wiring import Wiring

_FEW = 3


def offer_values(role: str, field: FieldSchema | None, value: Value, schedulers: Sequence[str] = ()) -> str:
    """Return a YAML list of two or three values that are known to fit; empty where nothing is known of the field."""
    if field is None or field.type == "ImageField":
        return '{images: "*.png"}' if field else ""
    if value is None:
        value = field.default
    fitting = [v for v in _values(role, field, value, schedulers) if check_value(field, v) is None]
    distinct = {json.dumps(v, ensure_ascii=False): None for v in fitting}
    return f"[{', '.join(list(distinct)[:_FEW])}]" if distinct else ""


def _values(role: str, field: FieldSchema, value: Value, schedulers: Sequence[str]) -> Iterator[Value]:
    if field.choices:
        yield from (value, *(name for name in schedulers if role == "scheduler"), *field.choices)
    elif field.type == "boolean":
        yield from (False, True)
    elif role.endswith("weight"):
        yield from (0, 0.5, 1)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _around(value, field)
    elif isinstance(value, str):
        yield value


def _around(value: float, field: FieldSchema) -> Iterator[float]:
    """Yield a third less, the value, a third more; whole, and in the field's steps, where it wants that."""
    unit = field.multiple_of or (1 if field.type == "integer" else 0)
    if value == 0:
        yield from (-1, 0, 1)
        return
    for factor in (2 / 3, 1, 4 / 3):
        near = float(f"{value * factor:.2g}") if factor != 1 else value
        yield round(value * factor / unit) * int(unit) if unit and factor != 1 else near


PLACEHOLDER = "image.png"  # stands for an image that only the user has
_WEIGHTS = ("lora_weight", "control_weight")
_FIXED = ("prompt", "negative_prompt", "steps", "cfg_scale", "scheduler", "width", "height", *_WEIGHTS)
_IMAGES = ("image", "control_image")
_MODELS = ("model", "lora", "control_model")
_TYPES = {"lora": "lora", "control_model": "controlnet"}  # of models that a role names
_INDENT = "  "
_RESERVED = re.compile(r"con|prn|aux|nul|(com|lpt)\d")  # Windows keeps these names for devices
_SWEPT = {
    "denoise_strength": "denoise_strength: {start: 0.2, stop: 0.8, step: 0.2}",
    "seed": "seed: {start: 42, count: 4}",
}
_VARIATION = "variation: [enhanced colors and lighting, painterly effect]  # each is appended to the prompt"
_OFFERED = ("cfg_scale", "steps", "scheduler", *_WEIGHTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaffoldContext:
    """A workflow's place and the material for it: `path` of its file and `image` of its image as the experiment
    is to name them, and the server's models where they are known.
    """

    path: str
    folder: Path | None = None  # where the images lie that a workflow names; None: they are not looked for
    image: str = ""
    models: Sequence[Model] = ()


def starter(workflow: Workflow, roles: Roles, schemas: NodeSchemas, around: ScaffoldContext) -> str:
    """Write the YAML text of an experiment that sweeps the workflow over four seeds, and over denoise strength where it
    begins with an image. Of several main models that fit the first is taken. All else that the workflow has set
    already stands there in comments, to be changed.
    """
    return _Starter(workflow, roles, schemas, around).text()


def main_models(workflow: Workflow, schemas: NodeSchemas, models: Sequence[Model]) -> tuple[str, ...]:
    """Return the names of the main models that the workflow's loaders take, in alphabetical order."""
    fields = [
        field
        for node in workflow.graph.nodes.values()
        if node.type in schemas
        for field in schemas[node.type].fields.values()
        if "main" in field.model_types and field.required
    ]
    bases = set(workflow.bases) or {base for field in fields for base in field.model_bases}
    return tuple(sorted(m.name for m in models if m.type == "main" and (not bases or m.base in bases)))


class _Starter:
    def __init__(self, workflow: Workflow, roles: Roles, schemas: NodeSchemas, around: ScaffoldContext) -> None:
        self.workflow, self.graph, self.roles, self.schemas = workflow, workflow.graph, roles, schemas
        self.around = around
        self.wiring = Wiring(self.graph, schemas)
        self.mains = main_models(workflow, schemas, around.models)
        self.names = Names(self.graph)
        self.spoken: set[Address] = set()  # fields that a line of the file is about

    def text(self) -> str:
        called = self.workflow.name or "this workflow"
        swept = {"denoise_strength": "denoise strength", "seed": "the seed"}
        moves = next((words for role, words in swept.items() if role in self.roles), "each setting")
        question = f"How does {moves} change {called}?"
        lines = [
            f"name: {_plain(self.workflow.name) or 'experiment'}",
            f"description: {_quoted(question)}",
            f"workflow: {_quoted(self.around.path)}",
            "",
            *self._inputs(),
            *self._unsettled(),
            *self._axes(),
        ]
        return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"

    def _inputs(self) -> Iterator[str]:
        images = list(self._images())
        chosen, own = self._models()
        for role in _FIXED:
            held = ((name, self._held(targets)) for name, targets in self._each(role))
            own.extend(f"{name}: {_quoted(value)}" for name, value in held if value is not None)
        wanted, lacking = self._open()
        needed = [*images, *chosen, *wanted]
        head = "inputs:" if needed else "# inputs:"
        yield f"{head:<30}# fixed for the whole experiment"
        yield from (f"{_INDENT}{line}" for line in needed)
        yield from (f"# {_INDENT}{line}" for line in [*lacking, *own])
        yield ""

    def _each(self, role: str) -> Iterator[tuple[str, tuple[Target, ...]]]:
        """Yield the role, or each of several by its number, with its fields."""
        groups = self.roles.groups(role)
        for number, group in enumerate(groups, start=1):
            self.spoken.update(target.address for target in group)
            yield (role if len(groups) == 1 else f"{role}_{number}"), group

    def _images(self) -> Iterator[str]:
        """Yield lines for the images a workflow wants and does not name, or in whose place another one is given."""
        image, folder = self.around.image, self.around.folder
        for name, targets in (each for role in _IMAGES for each in self._each(role)):
            files = [self.workflow.files[target.address] for target in targets if target.address in self.workflow.files]
            is_there = any(folder is None or (folder / file).is_file() for file in files)  # as far as that is known
            if image or not (is_there or self._held(targets)):
                what = "" if image else "the path of an image"
                yield f"{name}: {_quoted(image or PLACEHOLDER)}{self._comment(targets[0].address, what)}"

    def _models(self) -> tuple[list[str], list[str]]:
        """Write the lines on models that have to be chosen, of several on the server, and on all others."""
        chosen, own = [], []
        for role in _MODELS:
            for name, targets in self._each(role):
                held = self._held(targets)
                schema = self.wiring.field(targets[0].address)
                fitting = list(self.mains) if role == "model" else self._fitting(schema, role) if schema else []
                known = isinstance(held, ModelRef) and (held.name in fitting or role != "model")
                if len(fitting) > 1 and not known:
                    chosen.append(f"{name}: {_quoted(fitting[0])}  # or {', '.join(fitting[1:])}")
                else:
                    told, else_used = "name", "its only one"
                    if isinstance(held, ModelRef):
                        told, else_used = _quoted(held.name), "the workflow's"
                    own.append(f"{name}: {told}  # a name the server knows; left out: {else_used}")
        return chosen, own

    def _open(self) -> tuple[list[str], list[str]]:
        """Write the lines for what else needs a value: where one can be given, and where nothing is known to fit."""
        wanted, lacking = [], []
        for address in open_fields(self.graph, self.schemas):
            if address in self.spoken:
                continue
            self.spoken.add(address)
            schema = self.wiring.field(address)
            assert schema is not None  # its node type tells that it needs a value
            name = _quoted(self._called(address))
            if schema.type == "ImageField":
                wanted.append(f"{name}: {{image: {PLACEHOLDER}}}{self._comment(address, 'the path of an image')}")
            elif schema.type != "ModelIdentifierField":
                wanted.append(f"{name}: null{self._comment(address, schema.type)}")
            elif (fitting := self._fitting(schema))[1:]:
                others = f"or {', '.join(fitting[1:])}"
                wanted.append(f"{name}: {_quoted(fitting[0])}{self._comment(address, others)}")
            elif not fitting:
                kind = f"of type {' or '.join(schema.model_types) or 'any'}"
                none = ", of which the server has none" if self.around.models else ""
                lacking.append(f"{name}: name{self._comment(address, kind + none)}")
        return wanted, lacking

    def _fitting(self, field: FieldSchema, role: str = "") -> list[str]:
        """Return the names of the models that a field takes beside the main model, as far as they are known."""
        known = [ModelRef(model.name, model.base, model.type) for model in self.around.models]
        bases = {ref.base for ref in known if ref.type == "main" and ref.name in self.mains[:1]} | {"any"}
        is_beside = "main" not in field.model_types and len(bases) > 1
        return [
            ref.name
            for ref in known
            if check_value(field, ref) is None
            and ref.type == _TYPES.get(role, ref.type)
            and (ref.base in bases or not is_beside)
        ]

    def _held(self, targets: Sequence[Target]) -> Value:
        """Return the workflow's own value of a role; None without one, or where an edge feeds it."""
        target = targets[0]
        return None if target.cut else self.graph.nodes[target.address.node].fields.get(target.address.field)

    def _unsettled(self) -> Iterator[str]:
        """List the roles of which one has to be chosen; those of stacks can all be set, each by its number."""
        unsettled = {role: groups for role, groups in self.roles.ambiguous.items() if role not in STACKED}
        if not unsettled:
            return
        yield "# roles:                      # several could be meant: keep one line of each, or set them by number"
        for role, groups in unsettled.items():
            for number, group in enumerate(groups, start=1):
                listed = ", ".join(_quoted(self._called(target.address)) for target in group)
                yield f"# {_INDENT}{role}: [{listed}]{self._comment(group[0].address, f'{role}_{number}')}"
        yield ""

    def _axes(self) -> Iterator[str]:
        swept = [line for role, line in _SWEPT.items() if role in self.roles]
        yield f"axes:{'' if swept else ' {}'}".ljust(30) + "# the first axis varies slowest"
        yield from (f"{_INDENT}{line}" for line in swept)
        if "prompt" in self.roles:
            yield f"# {_INDENT}{_VARIATION}"
        for role in _OFFERED:
            for name, targets in self._each(role):
                field, held = self.wiring.field(targets[0].address), self._held(targets)
                if text := offer_values(role, field, held, self.schemas.dialect.common_schedulers):
                    yield f"# {_INDENT}{name}: {text}{self._comment(targets[0].address)}"
        for role in _SWEPT:
            list(self._each(role))
        yield from self._exposed()

    def _exposed(self) -> Iterator[str]:
        """Yield the fields its author put on the form, but for those that stand in the file already."""
        for address in self.workflow.exposed:
            schema = self.wiring.field(address)
            if address in self.spoken or (schema is not None and schema.type == "BoardField"):
                continue
            value = self.graph.nodes[address.node].fields.get(address.field)
            names = self._fitting(schema)[:3] if schema and schema.type == "ModelIdentifierField" else []
            text = f"[{', '.join(map(_quoted, names))}]" if names else offer_values("", schema, value) or "[]"
            yield f"# {_INDENT}{_quoted(self._called(address))}: {text}{self._comment(address)}"

    def _called(self, address: Address) -> str:
        return f"{self.names.called(address.node)}.{address.field}"

    def _comment(self, address: Address, *about: str) -> str:
        """Return a comment on a line: what is to be said, and what the author calls the field or its node."""
        label = self.workflow.labels.get(address) or self.graph.nodes[address.node].label
        said = ": ".join(filter(None, (*about, " ".join(label.split()))))
        return f"  # {said}" if said else ""


def _quoted(value: Value) -> str:
    return json.dumps(value, ensure_ascii=False)


def _plain(name: str) -> str:
    """Return a name that is a folder's name on every system: letters, digits and dashes."""
    name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60].strip("-")
    return f"{name}-sweep" if _RESERVED.fullmatch(name) else name
