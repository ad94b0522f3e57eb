"""The portable form, translated to ComfyUI's nodes: most of its words are ComfyUI's own in lower case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sweep.errors import Problem, WorkflowError, did_you_mean
from sweep.workflow.comfyui.formats import PREFIX, node_values
from sweep.workflow.comfyui.role_finder import SAMPLER_NAMES
from sweep.workflow.dialect import NodeSchema
from sweep.workflow.graph import Address, Edge, Graph, Node, Workflow
from sweep.workflow.traversal import complete_graph, read_edge
from sweep.workflow.validation import clean_graph, raise_for


@dataclass(frozen=True, slots=True)
class PortableRule:
    """What one portable node type becomes. A field that becomes None is left out, with a note."""

    becomes: str
    fields: Mapping[str, str | None] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)  # name → slot; any other is slot 0


_CHECKPOINT = PortableRule(
    "CheckpointLoaderSimple",
    {"model": "ckpt_name", "checkpoint": "ckpt_name", "model_name": "ckpt_name"},
    outputs={"model": "0", "unet": "0", "clip": "1", "vae": "2"},
)
_TEXT = PortableRule("CLIPTextEncode", {"prompt": "text", "style": None})
_SAMPLER = PortableRule(
    "KSampler",
    {"cfg_scale": "cfg", "denoising_end": None, "use_cpu": None, "control_after_generate": None},
    {
        "unet": "model",
        "positive_conditioning": "positive",
        "negative_conditioning": "negative",
        "latents": "latent_image",
        "noise": "latent_image",
    },
)
_EMPTY = PortableRule("EmptyLatentImage", {"use_cpu": None, "seed": None})
_DECODE = PortableRule("VAEDecode", inputs={"latents": "samples", "latent": "samples"})
_ENCODE = PortableRule("VAEEncode", inputs={"image": "pixels"})
_LORA = PortableRule(
    "LoraLoader",
    {"lora": "lora_name", "weight": "strength_model", "strength": "strength_model"},
    {"unet": "model"},
    {"model": "0", "unet": "0", "clip": "1"},
)
_SAVE = PortableRule("SaveImage", {PREFIX: None, "board": None}, {"image": "images"})
PORTABLE_RULES: Final[Mapping[str, PortableRule]] = {
    "load_checkpoint": _CHECKPOINT,
    "checkpoint_loader": _CHECKPOINT,
    "checkpoint_loader_simple": _CHECKPOINT,
    "main_model_loader": _CHECKPOINT,
    "sdxl_model_loader": _CHECKPOINT,
    "clip_text_encode": _TEXT,
    "compel": _TEXT,
    "sdxl_compel_prompt": _TEXT,
    "ksampler": _SAMPLER,
    "denoise_latents": _SAMPLER,
    "noise": _EMPTY,
    "empty_latent_image": _EMPTY,
    "vae_encode": _ENCODE,
    "i2l": _ENCODE,
    "vae_decode": _DECODE,
    "l2i": _DECODE,
    "vae_loader": PortableRule("VAELoader", {"vae_model": "vae_name"}),
    "load_lora": _LORA,
    "lora_loader": _LORA,
    "load_image": PortableRule("LoadImage", {"upload": None}),
    "image": PortableRule("LoadImage"),
    "save_image": _SAVE,
    "preview_image": _SAVE,
}


def translate_portable(document: Mapping[str, Any], source: str, schemas: Mapping[str, NodeSchema]) -> Workflow:
    """Translate a portable document, with what was completed or left out in the notes. Raises WorkflowError."""
    problems: list[Problem] = []
    notes: list[str] = []
    nodes: list[Node] = []
    files: dict[Address, str] = {}
    rules: dict[str, PortableRule] = {}
    seeds: list[tuple[str, Any]] = []
    for entry in document["nodes"]:
        kind = entry.get("type") if isinstance(entry, Mapping) else None
        rule = PORTABLE_RULES.get(str(kind))
        if rule is None:
            near = did_you_mean(str(kind), PORTABLE_RULES)
            problems.append(Problem(message=f"A node is of type {kind}, which has no translation.{near}"))
            continue
        name, data = str(entry["id"]), entry.get("data")
        rules[name] = rule
        values = _values(name, rule, dict(data) if isinstance(data, Mapping) else {}, seeds, notes)
        fields, images = node_values(name, values, schemas.get(rule.becomes))
        files.update(images)
        nodes.append(Node(name, rule.becomes, fields))
    edges = [edge for entry in document.get("edges") or () if (edge := read_edge(entry, problems))]
    raise_for(problems, source)
    graph = Graph.of(nodes, dict.fromkeys(_renamed(edge, rules) for edge in edges))
    graph = _moved_seeds(graph, seeds, notes)
    graph, more = complete_graph(graph, schemas)
    meta = document.get("meta")
    title = str(meta.get("name") or "") if isinstance(meta, Mapping) else ""
    return Workflow(
        graph=clean_graph(graph, source),
        kind="portable",
        name=title or str(document.get("name") or ""),
        files=files,
        notes=(*notes, *(f"completed {edge}" for edge in more)),
    )


def _values(
    node: str, rule: PortableRule, given: dict[str, Any], seeds: list[tuple[str, Any]], notes: list[str]
) -> dict[str, Any]:
    """Return a node's values under their real names."""
    if rule is _SAMPLER:
        start = given.pop("denoising_start", None)
        if isinstance(start, int | float):
            given.setdefault("denoise", round(1 - start, 9))
        word = given.get("scheduler")
        if "sampler_name" not in given and isinstance(word, str):
            given["sampler_name"] = SAMPLER_NAMES.get(word.removesuffix("_k"), word.removesuffix("_k"))
            given["scheduler"] = "karras" if word.endswith("_k") else "normal"
    if rule is _EMPTY and "seed" in given:
        seeds.append((node, given.pop("seed")))
    values: dict[str, Any] = {}
    for name, value in given.items():
        real = rule.fields.get(name, name)
        if real is None:
            notes.append(f"{node}: {name} is left out, sweep decides it")
        else:
            values[real] = value
    if rule is _LORA and "strength_model" in values:
        values.setdefault("strength_clip", values["strength_model"])
    return values


def _renamed(edge: Edge, rules: Mapping[str, PortableRule]) -> Edge:
    source, target = rules.get(edge.source.node), rules.get(edge.destination.node)
    slot = source.outputs.get(edge.source.field, "0") if source else edge.source.field
    name = edge.destination.field
    return Edge(
        Address(edge.source.node, slot),
        Address(edge.destination.node, target.inputs.get(name, name) if target else name),
    )


def _moved_seeds(graph: Graph, seeds: list[tuple[str, Any]], notes: list[str]) -> Graph:
    """Return the graph with the seed of the node that gives noise on the one node that samples, which draws it here."""
    samplers = [node.id for node in graph.nodes.values() if node.type == _SAMPLER.becomes]
    if len(samplers) != 1 and seeds:
        raise WorkflowError("The workflow's seed belongs to none of its samplers, or to several.")
    for node, seed in seeds:
        notes.append(f"{node}: seed is set on {samplers[0]}, which draws the noise")
        graph = graph.set({Address(samplers[0], "seed"): seed})
    return graph
