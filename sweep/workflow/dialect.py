"""`Dialect`, the protocol that all knowledge of a family's nodes implements.

A dialect is made of pure functions and a few facts. `NodeSchemas`, the node types of one server, carries the dialect of
its family and goes wherever a graph goes, so nothing else has to know which family a graph is for. A new family is a
package beside the others that implements `Dialect`; no other module changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal, Protocol, TypeAlias

from sweep.errors import WorkflowError
from sweep.workflow.graph import Address, Edge, Graph, Node, Value, Workflow
from sweep.workflow.node_schemas import FieldSchema, NodeSchema
from sweep.workflow.template_recipes import build_template

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
    encoders: Mapping[StageKind, tuple[str, str]]  # kind → a word of an output's type, an input's name or type
    ordered_fields: tuple[tuple[str, str], ...] = ()  # pairs of fields of a node; the first is never beyond the second
    least_values: Mapping[str, Mapping[str, float]] = {}  # node type → fields whose schema does not say their minimum
    clip_skip: tuple[frozenset[str], Node, tuple[str, str]]  # see `add_clip_skip`: encoders, the node, its way through

    def load_packaged_schemas(self) -> NodeSchemas:
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
        needed, server = (f"{'an' if name[0] in 'AEIOU' else 'a'} {name}" for name in (workflow.family, self.name))
        hint = f"Give the address of {needed} with --server."
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
        known = [schemas[node.type] for node in graph.nodes.values() if node.type in schemas]
        is_video = any(kind.lower().startswith("video") for each in known for kind in each.outputs.values())
        return "makes a video, and sweep keeps images only" if is_video else "has no node that saves an image"

    def find_held_field(self, kind: str, schema: NodeSchema, output: str) -> str | None:
        """Return the field whose value a node gives on unchanged as `output`; None where it does anything else."""

    def list_ignored_fields(self, kind: str) -> frozenset[str]:
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
        if schema is None:
            return "other"
        models = {kind for field in schema.fields.values() for kind in field.model_types}
        if models & {"lora", "control_lora"}:
            return "lora"
        if "main" in models:
            return "model"
        takes = schema.fields.keys() | {field.type for field in schema.fields.values()}
        for kind, (word, wanted) in self.encoders.items():
            if wanted in takes and any(word in output for output in schema.outputs.values()):
                return kind
        return "other"

    def list_metadata_outputs(self, graph: Graph, outputs: Sequence[str], schemas: NodeSchemas) -> tuple[str, ...]:
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

    def list_bound_fields(self, kind: str) -> list[tuple[str, ...]]:
        """List the fields of a node type that `find_contradiction` looks at, those together that it compares."""
        return [*self.ordered_fields, *((name,) for name in self.least_values.get(kind, {}))]

    def find_contradiction(self, node: Node) -> str | None:
        """Find fields of a node with which it fails, as the end of a sentence; None where there are none."""
        for first, last in self.ordered_fields:
            start, end = node.fields.get(first), node.fields.get(last)
            if isinstance(start, int | float) and isinstance(end, int | float) and start > end:
                return f"{first} {start:g} is beyond {last} {end:g}"
        for name, least in self.least_values.get(node.type, {}).items():
            value = node.fields.get(name)
            if isinstance(value, int | float) and value < least:
                return f"{name} {value:g} must be at least {least:g}"
        return None

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
        kinds, skip, (taken, given) = self.clip_skip
        encoders = {Address(node.id, "clip") for node in graph.nodes.values() if node.type in kinds}
        for source in dict.fromkeys(edge.source for edge in graph.edges if edge.destination in encoders):
            names = (skip.id, *(f"{skip.id}_{number}" for number in range(2, len(graph.nodes) + 2)))
            name = next(name for name in names if name not in graph.nodes)
            moved = [edge for edge in graph.edges if edge.source == source and edge.destination in encoders]
            edges = [Edge(source, Address(name, taken)), *(Edge(Address(name, given), e.destination) for e in moved)]
            graph = graph.without_edges(moved).adding([replace(skip, id=name)], edges)
        return graph

    def add_vae_loader(self, graph: Graph, name: str) -> Graph:
        """Return the graph with a VAE loader `name` in place of the main model's VAE."""
        kind, output = self.vae_loader
        loaded = dict.fromkeys(self._list_main_vaes(graph), Address(name, output))
        return graph.rewire(loaded).adding([Node(name, kind)])

    def remove_vae_loader(self, graph: Graph, loader: str) -> Graph:
        """Return the graph with the main model's VAE in place of this loader's; unchanged without a main loader."""
        for main in self._list_main_vaes(graph)[:1]:
            graph = graph.rewire({Address(loader, self.vae_loader[1]): main}).without_nodes({loader})
        return graph

    def _list_main_vaes(self, graph: Graph) -> list[Address]:
        kinds, output = self.main_loader
        return [Address(node.id, output) for node in graph.nodes.values() if kinds.fullmatch(node.type)]


class NodeSchemas(dict[str, NodeSchema]):
    """The node types of a server by name, and the dialect of its family. Nobody changes it once it is made."""

    __slots__ = ("dialect",)

    def __init__(self, nodes: Mapping[str, NodeSchema], dialect: Dialect) -> None:
        super().__init__(nodes)
        self.dialect = dialect
