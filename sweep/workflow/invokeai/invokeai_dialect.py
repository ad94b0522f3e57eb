"""InvokeAI's `Dialect`: rules by which its graphs are read, classified, cached, marked and finished."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from sweep.workflow.dialect import Candidate, Dialect, Encoding, NodeSchemas, StageKind
from sweep.workflow.graph import Address, Graph, Node, Value, Workflow, find_nodes_before
from sweep.workflow.invokeai.image_metadata import METADATA_INPUT, METADATA_TYPE, make_recall, write_metadata
from sweep.workflow.invokeai.invokeai_formats import COLLECTING, read_workflow
from sweep.workflow.invokeai.invokeai_roles import (
    FINDERS,
    UNDECIDING,
    DenoisingNodes,
    StartEncoding,
    find_control_fields,
    find_strength_encoding,
)
from sweep.workflow.invokeai.openapi import COMMON, load_packaged_nodes, parse_openapi
from sweep.workflow.node_schemas import FieldSchema, NodeSchema
from sweep.workflow.wiring import Wiring

DESCRIPTIVE_NODES: Final = frozenset({METADATA_TYPE})
_WHOLE_STEPS = frozenset({"denoise_latents", "tiled_multi_diffusion_denoise_latents"})  # others begin in between
_SOURCES = frozenset({"image", "image_batch", "image_collection", "image_generator"})  # they only hand images on


class InvokeAIDialect(Dialect):
    """See `Dialect`. Everything is translated when it is read."""

    name = "InvokeAI"
    package = str(__package__)
    image_texts: Mapping[str, str] = {
        "graph": "invokeai_graph",
        "workflow": "invokeai_workflow",
        "metadata": "invokeai_metadata",
    }
    closing_calls: Mapping[str, tuple[str, ...]] = dict.fromkeys(
        ("compel", "sdxl_compel_prompt", "sdxl_refiner_compel_prompt"), ("and", "blend")
    )
    cached_outputs = 512  # the node cache's size (node_cache_size); the least recently used leave first
    is_fusable = True
    random_nodes = frozenset({"rand_int", "rand_float", "random_range", "dynamic_prompt"})
    descriptive_nodes = DESCRIPTIVE_NODES
    collecting_nodes = COLLECTING
    run_fields = frozenset({"is_intermediate"})
    common_schedulers: tuple[str, ...] = ("euler", "dpmpp_2m_k", "heun", "lcm")
    common_fields: Mapping[str, FieldSchema] = COMMON
    equal_strengths = "come to {count} of them with the usual spacing, and then give the same image"
    vae_loader = ("vae_loader", "vae")
    main_loader = (re.compile(".*model_loader"), "vae")
    encoders: Mapping[StageKind, tuple[str, str]] = {
        "prompt": ("Conditioning", "prompt"),
        "image": ("LatentsField", "ImageField"),
    }
    ordered_fields = (("denoising_start", "denoising_end"), ("begin_step_percent", "end_step_percent"))
    least_values: Mapping[str, Mapping[str, float]] = {kind: {"cfg_scale": 1} for kind in _WHOLE_STEPS}
    clip_skip = (frozenset({"compel"}), Node("clip_skip", "clip_skip"), ("clip", "clip"))  # SDXL may skip none

    def load_packaged_schemas(self) -> NodeSchemas:
        return load_builtin_schemas()

    def read(self, document: Mapping[str, Any], source: str) -> Workflow | None:
        workflow = read_workflow(document, source)
        return replace(workflow, family=self.name) if workflow and workflow.kind != "portable" else workflow

    def find_candidates(self, graph: Graph, schemas: NodeSchemas) -> Mapping[str, Sequence[Candidate]]:
        wiring = DenoisingNodes(graph, schemas, self.find_outputs(graph, schemas))
        return {role: tuple(find(wiring)) for role, find in FINDERS.items()}

    def encode_strength(self, graph: Graph, schemas: NodeSchemas, address: Address) -> Encoding:
        return find_strength_encoding(Wiring(graph, schemas), address)

    def find_lora_weights(self, lora: Address, schema: NodeSchema | None) -> tuple[Address, ...]:
        return (Address(lora.node, "weight"),)

    def find_controls(self, graph: Graph, schemas: NodeSchemas) -> Sequence[Mapping[str, Address]]:
        wiring = Wiring(graph, schemas)
        return [find_control_fields(wiring, node) for node in graph.nodes if wiring.has(node, "control_model")]

    def find_outputs(self, graph: Graph, schemas: NodeSchemas) -> tuple[str, ...]:
        """Find the nodes whose image no other image-making node works on, and that are not marked intermediate.

        Where all of them are marked so, the mark is ignored: somebody wants to see something.
        """
        makers = _makers(("ImageField", "array"), graph, schemas)
        wanted = frozenset([*makers, *_makers(("VideoField",), graph, schemas)])
        used = (e for e in graph.edges if e.destination.field not in UNDECIDING and e.destination.node in wanted)
        leads_on = find_nodes_before(graph, [edge.source.node for edge in used], UNDECIDING)
        final = [name for name in makers if name not in leads_on]
        shown = [name for name in final if not graph.nodes[name].fields.get("is_intermediate", False)]
        return tuple(shown or final)

    def find_held_field(self, kind: str, schema: NodeSchema, output: str) -> str | None:
        """Return the only input of a node where that is named as its output."""
        inputs = [field for name, field in schema.fields.items() if name not in UNDECIDING]
        if len(inputs) != 1 or inputs[0].name != output or schema.outputs.get(output) != inputs[0].type:
            return None
        if not inputs[0].takes_value or inputs[0].type == "array":
            return None
        if inputs[0].type == "ImageField" and kind != "image":
            return None  # a filter: what it gives is not what it took
        return output

    def list_ignored_fields(self, kind: str) -> frozenset[str]:
        """Leave metadata out for nodes that read values back from it: there it decides."""
        reads = "metadata" in kind or kind.endswith("_meta")
        return UNDECIDING - {METADATA_INPUT} if reads else UNDECIDING

    def finish(self, graph: Graph, outputs: Sequence[str]) -> Graph:
        """Switch the cache off: a cached node would give two points one image."""
        return graph.set({Address(output, "use_cache"): False for output in outputs})

    def refresh(self, node: Node, replicate: int) -> Node:
        return replace(node, fields={**node.fields, "use_cache": False})

    def is_cached(self, node: Node, schema: NodeSchema | None) -> bool:
        return node.fields.get("use_cache", schema.is_cached if schema else True) is not False

    def list_metadata_outputs(self, graph: Graph, outputs: Sequence[str], schemas: NodeSchemas) -> tuple[str, ...]:
        if METADATA_TYPE not in schemas:
            return ()
        return tuple(output for output in outputs if METADATA_INPUT in schemas[graph.nodes[output].type].fields)

    def write_metadata(self, graph: Graph, outputs: Sequence[str], metadata: Mapping[str, Value]) -> Graph:
        return write_metadata(graph, outputs, metadata)

    def make_recall(
        self, graph: Graph, schemas: NodeSchemas, roles: Mapping[str, Sequence[tuple[Address, Encoding]]]
    ) -> Callable[[Graph], Mapping[str, Value]]:
        return make_recall(graph, roles, self.find_controls(graph, schemas))

    def note_encodings(self, targets: Sequence[tuple[Address, Encoding]]) -> Iterator[str]:
        for address, encode in targets:
            if isinstance(encode, StartEncoding) and encode.name == "one_minus_fifth_root":
                written = f"{address} is {encode.formula('denoise_strength')}"
                yield f"{written}, as InvokeAI's own page has it for these models (optimized denoising)."

    def count_steps(self, graph: Graph, targets: Sequence[Address], strength: float, steps: int) -> int | None:
        """Count the steps that are run: those whose time lies below the strength, rounded up.

        InvokeAI 6.14.2 slices the scheduler's list of timesteps there (`init_scheduler` of `denoise_latents`), so two
        strengths that run equally many begin with the same noise, and give the same image. Counted for timesteps
        spaced as Stable Diffusion's own schedulers space them (`leading`); `linspace` moves the bounds by less than a
        step.
        """
        is_whole = any(graph.nodes[target.node].type in _WHOLE_STEPS for target in targets)
        return math.ceil(Decimal(repr(strength)) * steps) if is_whole else None


INVOKEAI: Final[Dialect] = InvokeAIDialect()


def read_openapi(document: Mapping[str, Any]) -> NodeSchemas:
    """Return every node type that an OpenAPI document of InvokeAI 3.2 to 6.x describes.

    Raises WorkflowError where the document describes no nodes at all.
    """
    return NodeSchemas(parse_openapi(document), INVOKEAI)


@functools.cache
def load_builtin_schemas() -> NodeSchemas:
    """Return the nodes of InvokeAI 6.14.2, as packaged with sweep: for planning without a server, and the sandbox."""
    return NodeSchemas(load_packaged_nodes(), INVOKEAI)


def _makers(kinds: tuple[str, ...], graph: Graph, schemas: NodeSchemas) -> list[str]:
    """List the nodes that make something of these kinds, lists counting where they are lists of images."""
    found = []
    for node in graph.nodes.values():
        schema = schemas.get(node.type)
        if schema is not None and node.type not in _SOURCES:
            is_list = schema.output_class == "ImageCollectionOutput"
            if any(kind in kinds for kind in schema.outputs.values() if kind != "array" or is_list):
                found.append(node.id)
    return found
