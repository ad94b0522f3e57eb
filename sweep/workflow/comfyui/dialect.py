"""ComfyUI's dialect: how its servers' graphs are read, cached and described."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sweep.workflow.comfyui.formats import is_drawing, is_prompt, read_drawing, read_prompt
from sweep.workflow.comfyui.object_info import OUTPUT_CLASS, core_nodes, parse_object_info
from sweep.workflow.comfyui.portable_format import translate_portable
from sweep.workflow.comfyui.role_finder import (
    ROLE_FINDERS,
    SamplingNodes,
    control_appliers,
    control_parts,
    inputs_of,
    lora_weights,
)
from sweep.workflow.comfyui.templates import build_template
from sweep.workflow.dialect import (
    IDENTITY,
    Candidate,
    Dialect,
    Encoding,
    FieldSchema,
    NodeSchema,
    NodeSchemas,
    StageKind,
    other_family_error,
)
from sweep.workflow.graph import Address, Edge, Graph, Node, Value, Workflow, parse_object
from sweep.workflow.traversal import Wiring

REPLICATE: Final = "sweep_replicate"  # an input that no node has: ignored by validation, but part of what is cached
_FULL: Final = 0.9999  # a strength above is 1
_VAE_SLOT: Final = "2"
_ENCODERS: Final = frozenset({"CLIPTextEncode", "CLIPTextEncodeSDXL", "CLIPTextEncodeSDXLRefiner"})
_BASES: Final = ("any", "sd-1", "sd-2", "sdxl", "sd-3", "flux")


class ComfyUIDialect:
    """See `Dialect`."""

    name = "ComfyUI"
    image_texts: Mapping[str, str] = {"prompt": "prompt", "drawing": "workflow"}
    closing_calls: Mapping[str, tuple[str, ...]] = {}
    cached_outputs = 0  # only what the prompt before used is kept
    is_fusable = False  # its overhead is a few milliseconds an item
    random_nodes: frozenset[str] = frozenset()
    descriptive_nodes: frozenset[str] = frozenset()
    collecting_nodes: frozenset[str] = frozenset()
    run_fields: frozenset[str] = frozenset()
    common_schedulers: tuple[str, ...] = ("euler", "dpmpp_2m", "euler_ancestral")
    common_fields: Mapping[str, FieldSchema] = {}
    equal_strengths = "come to the same part of {count} steps, and then give the same image"

    def packaged_schemas(self) -> NodeSchemas:
        """See `Dialect.packaged_schemas`."""
        return core_schemas()

    def read(self, document: Mapping[str, Any], source: str) -> Workflow | None:
        """See `Dialect.read`: with the core nodes, until a server's own are known (`translate`)."""
        if "prompt" in document and isinstance(document["prompt"], str | Mapping):
            inner = _object(document["prompt"], source)
            if is_prompt(inner):
                return self._read(inner, source, core_nodes())
        drawing = document.get("drawing")
        for candidate in (document, drawing if isinstance(drawing, Mapping) else {}):
            if is_prompt(candidate) or is_drawing(candidate):
                return self._read(candidate, source, core_nodes())
        return None

    def _read(self, document: Mapping[str, Any], source: str, nodes: Mapping[str, NodeSchema]) -> Workflow:
        if is_prompt(document):
            workflow = read_prompt(document, source, nodes)
        else:
            workflow = read_drawing(document, source, nodes)
        return replace(workflow, family=self.name, document={"document": document, "source": source})

    def translate(self, workflow: Workflow, schemas: NodeSchemas) -> Workflow:
        """See `Dialect.translate`: read again with the node types of the server."""
        if workflow.family not in ("", self.name):
            raise other_family_error(workflow.family, "a ComfyUI")
        if workflow.family == self.name and workflow.document is not None:
            known = workflow.document
            return replace(self._read(known["document"], known["source"], schemas), name=workflow.name)
        if workflow.document is None:
            return workflow
        found = translate_portable(workflow.document, workflow.name or "the workflow", schemas)
        named = replace(found, name=workflow.name or found.name)
        return replace(named, translate=lambda _base: named, bases=_BASES)

    def template(self, name: str, base: str, loras: int = 0, controls: int = 0) -> Graph:
        """See `Dialect.template`."""
        return build_template(name, base, loras, controls)

    def find_candidates(self, graph: Graph, schemas: NodeSchemas) -> Mapping[str, Sequence[Candidate]]:
        """See `Dialect.find_candidates`."""
        scene = SamplingNodes.of(Wiring(graph, schemas), self.find_outputs(graph, schemas))
        return {role: tuple(find(scene)) for role, find in ROLE_FINDERS.items()}

    def encode_strength(self, graph: Graph, schemas: NodeSchemas, address: Address) -> Encoding:
        """See `Dialect.encode_strength`: written as it is."""
        return IDENTITY

    def find_lora_weights(self, lora: Address, schema: NodeSchema | None) -> tuple[Address, ...]:
        """See `Dialect.find_lora_weights`."""
        return lora_weights(schema.fields, lora.node) if schema else ()

    def find_controls(self, graph: Graph, schemas: NodeSchemas) -> Sequence[Mapping[str, Address]]:
        """See `Dialect.find_controls`."""
        wiring = Wiring(graph, schemas)
        return [control_parts(wiring, node) for node in control_appliers(wiring)]

    def find_outputs(self, graph: Graph, schemas: NodeSchemas) -> tuple[str, ...]:
        """See `Dialect.find_outputs`: previews count where nothing is saved."""
        wiring = Wiring(graph, schemas)
        found = [name for name in graph.nodes if _is_output(wiring, name) and inputs_of(wiring, name, "IMAGE")]
        saved = [name for name in found if not wiring.kind(name).startswith("Preview")]
        return tuple(saved or found)

    def explain_no_output(self, graph: Graph, schemas: NodeSchemas) -> str:
        """See `Dialect.explain_no_output`."""
        wiring = Wiring(graph, schemas)
        videos = any(_is_output(wiring, name) and inputs_of(wiring, name, "VIDEO") for name in graph.nodes)
        return "makes a video, and sweep keeps images only" if videos else "has no node that saves an image"

    def held_field(self, kind: str, schema: NodeSchema, output: str) -> str | None:
        """See `Dialect.held_field`: primitives hold a value, and a loader of an image that image."""
        if output != "0":
            return None
        if kind.startswith("Primitive") and "value" in schema.fields:
            return "value"
        images = [name for name, field in schema.fields.items() if field.type == "ImageField"]
        return images[0] if len(images) == 1 and schema.outputs.get("0") == "IMAGE" else None

    def ignored_fields(self, kind: str) -> frozenset[str]:
        """See `Dialect.ignored_fields`: what decides no image is not read at all."""
        return frozenset()

    def finish(self, graph: Graph, outputs: Sequence[str]) -> Graph:
        """See `Dialect.finish`: every item has a name of its own for its files, so none comes from the cache."""
        return graph

    def refresh(self, node: Node, replicate: int) -> Node:
        """See `Dialect.refresh`."""
        return replace(node, fields={**node.fields, REPLICATE: replicate})

    def is_cached(self, node: Node, schema: NodeSchema | None) -> bool:
        """See `Dialect.is_cached`."""
        return True

    def classify(self, schema: NodeSchema | None) -> StageKind:
        """See `Dialect.classify`."""
        if schema is None:
            return "other"
        takes = {kind for field in schema.fields.values() for kind in field.model_types}
        types = {field.type for field in schema.fields.values()}
        outputs = set(schema.outputs.values())
        if "lora" in takes:
            return "lora"
        if "main" in takes:
            return "model"
        if "CONDITIONING" in outputs and "CLIP" in types:
            return "prompt"
        return "image" if "LATENT" in outputs and "IMAGE" in types else "other"

    def metadata_outputs(self, graph: Graph, outputs: Sequence[str], schemas: NodeSchemas) -> tuple[str, ...]:
        """See `Dialect.metadata_outputs`: the submission carries metadata here."""
        return ()

    def write_metadata(self, graph: Graph, outputs: Sequence[str], metadata: Mapping[str, Value]) -> Graph:
        """See `Dialect.write_metadata`."""
        return graph

    def make_recall(
        self, graph: Graph, schemas: NodeSchemas, roles: Mapping[str, Sequence[tuple[Address, Encoding]]]
    ) -> Callable[[Graph], Mapping[str, Value]]:
        """See `Dialect.make_recall`: an image holds the whole graph."""
        return lambda _: {}

    def find_contradiction(self, node: Node) -> str | None:
        """See `Dialect.find_contradiction`."""
        start, end = (node.fields.get(name) for name in ("start_at_step", "end_at_step"))
        if isinstance(start, int) and isinstance(end, int) and start > end:
            return f"start_at_step {start} is beyond end_at_step {end}"
        return None

    def note_encodings(self, targets: Sequence[tuple[Address, Encoding]]) -> Iterator[str]:
        """See `Dialect.note_encodings`."""
        if targets:
            yield "ComfyUI runs all steps at every strength (InvokeAI runs strength × steps of them)."

    def count_steps(self, graph: Graph, targets: Sequence[Address], strength: float, steps: int) -> int | None:
        """See `Dialect.count_steps`: of a schedule of `int(steps / strength)` steps the last `steps` are run."""
        if not targets or strength <= 0:
            return 0 if targets else None
        return steps if strength > _FULL else int(steps / strength)

    def add_clip_skip(self, graph: Graph) -> Graph:
        """See `Dialect.add_clip_skip`."""
        encoders = {Address(node.id, "clip") for node in graph.nodes.values() if node.type in _ENCODERS}
        return graph.inserting(Node("clip_skip", "CLIPSetLastLayer"), ("clip", "0"), encoders)

    def add_vae_loader(self, graph: Graph, name: str) -> Graph:
        """See `Dialect.add_vae_loader`."""
        mains = {node.id for node in graph.nodes.values() if node.type.startswith("CheckpointLoader")}
        edges = tuple(
            Edge(Address(name, "0"), edge.destination)
            if edge.source.node in mains and edge.source.field == _VAE_SLOT
            else edge
            for edge in graph.edges
        )
        return replace(graph, edges=edges).adding([Node(name, "VAELoader")])

    def remove_vae_loader(self, graph: Graph, loader: str) -> Graph:
        """See `Dialect.remove_vae_loader`."""
        main = next((node.id for node in graph.nodes.values() if node.type.startswith("CheckpointLoader")), None)
        if main is None:
            return graph
        edges = tuple(
            Edge(Address(main, _VAE_SLOT), edge.destination) if edge.source.node == loader else edge
            for edge in graph.edges
        )
        return Graph({name: node for name, node in graph.nodes.items() if name != loader}, edges)


COMFYUI: Final[Dialect] = ComfyUIDialect()


def read_object_info(document: Mapping[str, Any]) -> NodeSchemas:
    """Return every node type that an `/object_info` answer describes. Raises WorkflowError where there is none."""
    return NodeSchemas(parse_object_info(document), COMFYUI)


@functools.cache
def core_schemas() -> NodeSchemas:
    """Return the core nodes of ComfyUI 0.3.75, as packaged with sweep: for planning without a server."""
    return NodeSchemas(core_nodes(), COMFYUI)


def _is_output(wiring: Wiring, node: str) -> bool:
    schema = wiring.schema(node)
    return schema is not None and schema.output_class == OUTPUT_CLASS


def _object(value: str | Mapping[str, Any], source: str) -> Mapping[str, Any]:
    return parse_object(value, f"the prompt in {source}") if isinstance(value, str) else value
