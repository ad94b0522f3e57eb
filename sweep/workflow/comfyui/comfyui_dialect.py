"""ComfyUI's `Dialect`: rules by which its graphs are read, classified, cached and finished."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sweep.workflow.comfyui.comfyui_formats import (
    ComfyUIPortableReader,
    is_drawing,
    is_prompt,
    read_drawing,
    read_prompt,
)
from sweep.workflow.comfyui.comfyui_roles import (
    ROLE_FINDERS,
    SamplingNodes,
    find_control_parts,
    list_control_appliers,
    list_lora_weights,
)
from sweep.workflow.comfyui.object_info import OUTPUT_CLASS, load_core_nodes, parse_object_info
from sweep.workflow.dialect import Candidate, Dialect, Encoding, NodeSchemas, StageKind
from sweep.workflow.graph import Address, Graph, Node, Workflow
from sweep.workflow.node_schemas import NodeSchema
from sweep.workflow.wiring import Wiring
from sweep.workflow.workflow_file import parse_object

REPLICATE: Final = "sweep_replicate"  # an input that no node has: ignored by validation, but part of what is cached
_FULL: Final = 0.9999  # a strength above is 1
_TEXT_ENCODERS: Final = frozenset({"CLIPTextEncode", "CLIPTextEncodeSDXL", "CLIPTextEncodeSDXLRefiner"})
_BASES: Final = ("any", "sd-1", "sd-2", "sdxl", "sd-3", "flux")


class ComfyUIDialect(Dialect):
    """See `Dialect`. Fields that decide no image are not read at all, and the submission carries metadata."""

    name = "ComfyUI"
    package = str(__package__)
    image_texts: Mapping[str, str] = {"prompt": "prompt", "drawing": "workflow"}
    cached_outputs = 0  # only what the prompt before used is kept
    is_fusable = False  # its overhead is a few milliseconds an item
    common_schedulers: tuple[str, ...] = ("euler", "dpmpp_2m", "euler_ancestral")
    equal_strengths = "come to the same part of {count} steps, and then give the same image"
    vae_loader = ("VAELoader", "0")
    main_loader = (re.compile("CheckpointLoader.*"), "2")
    encoders: Mapping[StageKind, tuple[str, str]] = {"prompt": ("CONDITIONING", "CLIP"), "image": ("LATENT", "IMAGE")}
    ordered_fields = (("start_at_step", "end_at_step"),)
    clip_skip = (_TEXT_ENCODERS, Node("clip_skip", "CLIPSetLastLayer"), ("clip", "0"))

    def load_packaged_schemas(self) -> NodeSchemas:
        return load_core_schemas()

    def read(self, document: Mapping[str, Any], source: str) -> Workflow | None:
        """Read with the core nodes, until a server's own are known (`translate`)."""
        prompt = document.get("prompt")
        if isinstance(prompt, str):
            prompt = parse_object(prompt, f"the prompt in {source}")
        for candidate in (prompt, document, document.get("drawing")):
            if isinstance(candidate, Mapping) and (is_prompt(candidate) or is_drawing(candidate)):
                return self._read(candidate, source, load_core_nodes())
        return None

    def _read(self, document: Mapping[str, Any], source: str, nodes: Mapping[str, NodeSchema]) -> Workflow:
        read = read_prompt if is_prompt(document) else read_drawing
        workflow = read(document, source, nodes)
        return replace(workflow, family=self.name, document={"document": document, "source": source})

    def translate(self, workflow: Workflow, schemas: NodeSchemas) -> Workflow:
        """Read again with the node types of the server."""
        known = super().translate(workflow, schemas).document
        if known is None:
            return workflow
        if workflow.family:
            return replace(self._read(known["document"], known["source"], schemas), name=workflow.name)
        found = ComfyUIPortableReader(known, workflow.name or "the workflow", schemas).workflow()
        named = replace(found, name=workflow.name or found.name)
        return replace(named, translate=lambda _base: named, bases=_BASES)

    def find_candidates(self, graph: Graph, schemas: NodeSchemas) -> Mapping[str, Sequence[Candidate]]:
        wiring = SamplingNodes(graph, schemas, self.find_outputs(graph, schemas))
        return {role: tuple(find(wiring)) for role, find in ROLE_FINDERS.items()}

    def find_lora_weights(self, lora: Address, schema: NodeSchema | None) -> tuple[Address, ...]:
        return list_lora_weights(schema, lora.node)

    def find_controls(self, graph: Graph, schemas: NodeSchemas) -> Sequence[Mapping[str, Address]]:
        wiring = Wiring(graph, schemas)
        return [find_control_parts(wiring, node) for node in list_control_appliers(wiring)]

    def find_outputs(self, graph: Graph, schemas: NodeSchemas) -> tuple[str, ...]:
        """Find the nodes that save an image; previews count where nothing is saved."""
        wiring = Wiring(graph, schemas)
        ends = [node for node in graph.nodes if (has := wiring.schema(node)) and has.output_class == OUTPUT_CLASS]
        found = [name for name in ends if wiring.inputs(name, "IMAGE")]
        return tuple([name for name in found if not graph.nodes[name].type.startswith("Preview")] or found)

    def find_held_field(self, kind: str, schema: NodeSchema, output: str) -> str | None:
        """Return the value of a primitive, and the image of an image loader."""
        if output != "0":
            return None
        if kind.startswith("Primitive") and "value" in schema.fields:
            return "value"
        images = [name for name, field in schema.fields.items() if field.type == "ImageField"]
        return images[0] if len(images) == 1 and schema.outputs.get("0") == "IMAGE" else None

    def refresh(self, node: Node, replicate: int) -> Node:
        return replace(node, fields={**node.fields, REPLICATE: replicate})

    def note_encodings(self, targets: Sequence[tuple[Address, Encoding]]) -> Iterator[str]:
        if targets:
            yield "ComfyUI runs all steps at every strength (InvokeAI runs strength × steps of them)."

    def count_steps(self, graph: Graph, targets: Sequence[Address], strength: float, steps: int) -> int | None:
        """Count the schedule: of its `int(steps / strength)` steps the last `steps` are run."""
        if not targets or strength <= 0:
            return 0 if targets else None
        return steps if strength > _FULL else int(steps / strength)


COMFYUI: Final[Dialect] = ComfyUIDialect()


def read_object_info(document: Mapping[str, Any]) -> NodeSchemas:
    """Return every node type that an `/object_info` answer describes. Raises WorkflowError where there is none."""
    return NodeSchemas(parse_object_info(document), COMFYUI)


@functools.cache
def load_core_schemas() -> NodeSchemas:
    """Return the core nodes of ComfyUI 0.3.75, as packaged with sweep: for planning without a server."""
    return NodeSchemas(load_core_nodes(), COMFYUI)
