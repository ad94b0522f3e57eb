"""`Dialect`, the protocol that all knowledge of a family's nodes implements, and the node schemas of a server.

A dialect is made of pure functions and a few facts. `NodeSchemas`, the node types of one server, carries the dialect of
its family and goes wherever a graph goes, so nothing else has to know which family a graph is for. A new family is a
package beside the others that implements `Dialect`; no other module changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Protocol, TypeAlias

from sweep.errors import WorkflowError
from sweep.workflow.graph import Address, Graph, Json, Node, Value, Workflow
from sweep.workflow.templates import build_template


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as one server has it; `key` and `hash` belong to that installation."""

    key: str
    hash: str
    name: str
    base: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSchema:
    """One input of a node type. A bound is None where there is none; `choices` is empty where any value is allowed."""

    name: str
    type: str  # integer, number, string, boolean, array, object, any, or the class: ImageField, ModelIdentifierField, …
    items: str = ""  # what a list holds, where one is taken: always (type array) or beside a single value
    input: Literal["direct", "connection", "any"] = "any"
    required: bool = False
    default: Json = None
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = None
    exclusive_maximum: float | None = None
    multiple_of: float | None = None
    choices: tuple[str, ...] = ()  # as written: those of an integer field, too
    nullable: bool = False
    model_types: tuple[str, ...] = ()  # for a model field: the model types it takes (main, lora, vae, …)
    model_bases: tuple[str, ...] = ()  # and the bases (sd-1, sdxl, …); empty where any goes

    @property
    def takes_value(self) -> bool:
        """Tell whether the field takes a value; otherwise only an edge can feed it."""
        return self.input != "connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSchema:
    """One node type: its inputs, and its outputs by name with their types.

    `fields` leaves out `id`, `type` and the fields that every node has (`common`).
    """

    type: str
    fields: Mapping[str, FieldSchema]
    outputs: Mapping[str, str]  # output field → type, as FieldSchema.type
    output_class: str  # the family's class of what comes out: ImageOutput, LatentsOutput, …
    is_cached: bool = True  # whether the server keeps its outputs where a graph does not say
    is_open: bool = False  # whether it takes fields that the schema does not name
    is_custom: bool = False  # whether an extension brings it: nothing is known of what it does besides
    common: Mapping[str, FieldSchema] = field(default_factory=dict, repr=False)  # fields that every node has

    def field(self, name: str) -> FieldSchema | None:
        """Return the input of that name, including those that every node has; None where there is none."""
        return self.fields.get(name) or self.common.get(name)


def write_packaged(schemas: Mapping[str, NodeSchema], path: Path) -> None:
    """Write node types as they are packaged with sweep: facts, no texts, one type a line so that releases compare."""
    lines = []
    for kind, node in sorted(schemas.items()):
        facts = {**_unusual(node), "fields": {name: _unusual(schema) for name, schema in node.fields.items()}}
        lines.append(f"{json.dumps(kind)}:{json.dumps(facts, separators=(',', ':'))}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8", newline="\n")


def _unusual(schema: NodeSchema | FieldSchema) -> dict[str, Any]:
    """Return the attributes that differ from their defaults, except the name, which is the key already."""
    found = {}
    for slot in fields(schema)[1:]:
        value = getattr(schema, slot.name)
        if slot.repr and (value != slot.default or type(value) is not type(slot.default)):
            found[slot.name] = list(value) if isinstance(value, tuple) else value
    return found


def read_packaged(file: Traversable, common: Mapping[str, FieldSchema]) -> dict[str, NodeSchema]:
    """Read node types from a file of `write_packaged`; `common` are the fields that every node of the family has."""
    found = {}
    for kind, facts in json.loads(file.read_text("utf-8")).items():
        schemas = {name: _read_field(name, given) for name, given in facts["fields"].items()}
        found[kind] = NodeSchema(type=kind, common=common, **{**facts, "fields": schemas})
    return found


def _read_field(name: str, facts: Mapping[str, Any]) -> FieldSchema:
    lists = {key: tuple(value) for key, value in facts.items() if isinstance(value, list) and key != "default"}
    return FieldSchema(name=name, **{**facts, **lists})


StageKind: TypeAlias = Literal["model", "lora", "prompt", "image", "other"]
"""What a node costs a server: loading a model or a LoRA, encoding a prompt or an image, or nothing of these."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """A pure function from a role's value to a field's: this one changes nothing; a family may have others."""

    words: ClassVar[str] = "{role}"  # the function in words: `1 − {role}`

    def __call__(self, value: Value) -> Value:
        """Return the field's value for the role's `value`. Raises ValueError with a sentence where there is none."""
        return value

    def formula(self, role: str) -> str:
        """Write the function in words, of a role: `1 − denoise_strength`."""
        return self.words.format(role=role)


IDENTITY: Final = Encoding()


Candidate: TypeAlias = Address | Mapping[Address, Encoding]
"""One field that a role may mean, or fields that it sets together, with how each is encoded."""


class Dialect(Protocol):
    """The rules by which one family of servers writes graphs.

    Implementations are stateless, and their methods pure functions. Methods that take `schemas` accept graphs
    with unknown node types and never raise for them. Example: the fields that a role means in a graph are
    `schemas.dialect.find_candidates(graph, schemas)["seed"]`.
    """

    name: str  # as people write it
    package: str  # where the data files of the family lie
    image_texts: Mapping[str, str]  # name → text of a PNG with it: a workflow, or `metadata` beside it
    cached_outputs: int  # how many node outputs a server of this family keeps
    is_fusable: bool  # whether rendering several variations as one item saves time
    random_nodes: frozenset[str] = frozenset()  # node types that give another value at each execution
    descriptive_nodes: frozenset[str] = frozenset()  # node types with model fields that load no model
    collecting_nodes: frozenset[str] = frozenset()  # node types of which one input takes several edges
    run_fields: frozenset[str] = frozenset()  # fields of output nodes that the run itself sets
    closing_calls: Mapping[str, tuple[str, ...]] = {}  # node type → calls behind which it reads no text, as .and()
    common_schedulers: tuple[str, ...]  # schedulers that people compare with their own
    common_fields: Mapping[str, FieldSchema] = {}  # fields that every node has
    equal_strengths: str  # what strengths of an equal `count_steps` do, with {count} in it, as the end of a sentence
    vae_loader: tuple[str, str]  # the node type that loads a VAE, and its output
    main_loader: tuple[re.Pattern[str], str]  # the node types that load a main model, and their output of its VAE

    def packaged_schemas(self) -> NodeSchemas:
        """Return the node types of this family that are packaged with sweep, for planning without a server."""

    def read(self, document: Mapping[str, Any], source: str) -> Workflow | None:
        """Read a JSON object as a workflow of this family; None where it belongs to no workflow of this family.

        Errors call it `source`. Raises WorkflowError where it belongs to this family and is wrong.
        """

    def translate(self, workflow: Workflow, schemas: NodeSchemas) -> Workflow:
        """Return a workflow that was read without node types as it is on a server that has these.

        Raises WorkflowError where it is of another family, or cannot be translated.
        """
        if workflow.family in ("", self.name):
            return workflow
        server = f"{'an' if self.name[0] in 'AEIOU' else 'a'} {self.name}"
        hint = f"Give the address of a {workflow.family} with --server."
        raise WorkflowError(f"The workflow is a graph of {workflow.family}, and the server is {server}.", hint=hint)

    def template(self, name: str, base: str, loras: int = 0, controls: int = 0) -> Graph:
        """Return the built-in workflow `name` (one of `TEMPLATE_NAMES`) for models of `base`, with so many LoRAs and
        ControlNets; `lora` and `controlnet` are txt2img with at least one of either.

        Raises WorkflowError where there is no such template, or not for this base.
        """
        return build_template(self.package, name, base, loras, controls)

    def find_candidates(self, graph: Graph, schemas: NodeSchemas) -> Mapping[str, Sequence[Candidate]]:
        """Return the fields that each of `sweep.role_table.FOUND_ROLES` could mean in this graph."""

    def encode_strength(self, graph: Graph, schemas: NodeSchemas, address: Address) -> Encoding:
        """Return the encoding of a denoise strength in this field."""
        return IDENTITY

    def find_lora_weights(self, lora: Address, schema: NodeSchema | None) -> tuple[Address, ...]:
        """Return the fields that hold the weight of the LoRA whose name stands at `lora`."""

    def find_controls(self, graph: Graph, schemas: NodeSchemas) -> Sequence[Mapping[str, Address]]:
        """Return the addresses of each ControlNet's parts, in the order of the graph.

        The parts are `model`, `image`, `weight`, `begin` and `end`; also `source`, the field through which the workflow
        takes in the image, where there is one such field.
        """

    def find_outputs(self, graph: Graph, schemas: NodeSchemas) -> tuple[str, ...]:
        """Return the ids of the nodes whose images are final, in the graph's order; empty where there is none."""

    def explain_no_output(self, graph: Graph, schemas: NodeSchemas) -> str:
        """Explain why there are no output nodes, as the end of a sentence that begins with the workflow's name."""

    def held_field(self, kind: str, schema: NodeSchema, output: str) -> str | None:
        """Return the field whose value a node gives on unchanged as `output`; None where it does anything else."""

    def ignored_fields(self, kind: str) -> frozenset[str]:
        """Return the fields of a node type that decide no image, and so are no part of a key."""
        return frozenset()

    def finish(self, graph: Graph, outputs: Sequence[str]) -> Graph:
        """Return the graph with outputs that always make an image of their own, never one from a cache."""
        return graph

    def refresh(self, node: Node, replicate: int) -> Node:
        """Return the node so that its output is computed anew for this replicate."""

    def is_cached(self, node: Node, schema: NodeSchema | None) -> bool:
        """Return whether the server keeps the node's output."""
        return True

    def classify(self, schema: NodeSchema | None) -> StageKind:
        """Return the kind of work that a node of this type is for a server."""

    def metadata_outputs(self, graph: Graph, outputs: Sequence[str], schemas: NodeSchemas) -> tuple[str, ...]:
        """Return the outputs into whose images `write_metadata` can write."""
        return ()

    def write_metadata(self, graph: Graph, outputs: Sequence[str], metadata: Mapping[str, Value]) -> Graph:
        """Return the graph with `outputs` writing `metadata` into their images; unchanged where that is not a graph's
        business in this family (the submission carries it then).
        """
        return graph

    def make_recall(
        self, graph: Graph, schemas: NodeSchemas, roles: Mapping[str, Sequence[tuple[Address, Encoding]]]
    ) -> Callable[[Graph], Mapping[str, Value]]:
        """Return a function that reads the metadata of an image from this graph with a point's values in it.

        A family's own pages make the same image again from that (prompt, seed, models, LoRAs, source, …).
        `roles` holds every field of each role that was found, with its encoding.
        """
        return lambda _: {}

    def find_contradiction(self, node: Node) -> str | None:
        """Find two fields of a node that exclude each other, as the end of a sentence; None where there are none."""

    def note_encodings(self, targets: Sequence[tuple[Address, Encoding]]) -> Iterator[str]:
        """Yield sentences on how strengths are written into these fields, where that is no straight line."""

    def count_steps(self, graph: Graph, targets: Sequence[Address], strength: float, steps: int) -> int | None:
        """Return a number that is equal for two strengths where they give the same image; None where none do.

        The strength, from 0 to 1, stands in the fields `targets`; the schedule has so many steps.
        """

    def add_clip_skip(self, graph: Graph) -> Graph:
        """Return the graph with a node that skips layers of the text encoder before its prompts are encoded.

        Unchanged where the graph's encoders take none.
        """

    def add_vae_loader(self, graph: Graph, name: str) -> Graph:
        """Return the graph with a VAE loader `name` in place of the main model's VAE."""
        kind, output = self.vae_loader
        loaded = dict.fromkeys(self._main_vaes(graph), Address(name, output))
        return graph.rewired(loaded).adding([Node(name, kind)])

    def remove_vae_loader(self, graph: Graph, loader: str) -> Graph:
        """Return the graph with the main model's VAE in place of this loader's; unchanged without a main loader."""
        for main in self._main_vaes(graph)[:1]:
            graph = graph.rewired({Address(loader, self.vae_loader[1]): main}).without_nodes({loader})
        return graph

    def _main_vaes(self, graph: Graph) -> list[Address]:
        kinds, output = self.main_loader
        return [Address(node.id, output) for node in graph.nodes.values() if kinds.fullmatch(node.type)]


class NodeSchemas(dict[str, NodeSchema]):
    """The node types of a server by name, and the dialect of its family. Nobody changes it once it is made."""

    __slots__ = ("dialect",)

    def __init__(self, nodes: Mapping[str, NodeSchema], dialect: Dialect) -> None:
        super().__init__(nodes)
        self.dialect = dialect
