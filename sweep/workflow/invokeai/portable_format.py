"""The portable format, translated to real nodes."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from pathlib import PurePosixPath
from typing import Any

from sweep.errors import Problem, WorkflowError, did_you_mean
from sweep.workflow.graph import Address, Edge, Graph, ModelRef, Node, Value, Workflow
from sweep.workflow.invokeai.graph_format import COLLECTING, node_fields
from sweep.workflow.invokeai.openapi import packaged_nodes
from sweep.workflow.invokeai.role_finder import ONE_MINUS
from sweep.workflow.invokeai.templates import SD1, SD2, SDXL, Family
from sweep.workflow.traversal import complete_graph, read_edge
from sweep.workflow.validation import clean_graph, raise_for

_NAMES: Mapping[str, str] = {
    "euler_ancestral": "euler_a",
    "dpm_2": "kdpm_2",
    "dpm_2_ancestral": "kdpm_2_a",
    "dpmpp_2s_ancestral": "dpmpp_2s",
    "dpmpp_sde_gpu": "dpmpp_sde",
    "dpmpp_2m_sde_gpu": "dpmpp_2m_sde",
    "dpmpp_3m_sde": "dpmpp_3m",
    "dpmpp_3m_sde_gpu": "dpmpp_3m",
    "uni_pc": "unipc",
    "uni_pc_bh2": "unipc",
}
_KARRAS = "_k"


def scheduler_of(sampler: object, schedule: object) -> tuple[str, str]:
    """Return InvokeAI's scheduler for a sampler and its noise schedule, and a note where the schedule has no
    counterpart.

    Each may be left out. Raises WorkflowError for a sampler nobody knows.
    """
    known = packaged_nodes()["denoise_latents"].fields["scheduler"].choices
    if not sampler and str(schedule) in known:
        return str(schedule), ""
    name = _NAMES.get(str(sampler or "euler"), str(sampler or "euler"))
    if name not in known:
        near = did_you_mean(name, [*known, *_NAMES])
        raise WorkflowError(f"there is no sampler {sampler}.{near}")
    if schedule in (None, "", "normal"):
        return name, ""
    if schedule == "karras" and name + _KARRAS in known:
        return name + _KARRAS, ""
    return name, f"the schedule {schedule} has no counterpart for {name} in InvokeAI; its own is used"


FAMILIES: Mapping[str, Family] = {"sd-1": SD1, "sd-2": SD2, "sdxl": SDXL}
_MODEL_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True, slots=True)
class NodeTranslation:
    """What one portable node type becomes. Field names map to real ones; None is left out, with a note."""

    becomes: str  # a node type, or one that the model's family decides: {loader}, {encoder}, {lora_loader}
    fields: Mapping[str, str | None] = dataclass_field(default_factory=dict)
    inputs: Mapping[str, str] = dataclass_field(default_factory=dict)  # names edges lead to
    outputs: Mapping[str, str] = dataclass_field(default_factory=dict)  # names edges come from
    models: Mapping[str, str] = dataclass_field(default_factory=dict)  # real field → type of the model it names
    files: frozenset[str] = frozenset()  # real fields that name an image file


_CHECKPOINT = NodeTranslation(
    "{loader}",
    fields={"ckpt_name": "model", "checkpoint": "model", "model_name": "model"},
    outputs={"model": "unet"},
    models={"model": "main"},
)
_TEXT = NodeTranslation("{encoder}", fields={"text": "prompt"})
_SAMPLING = {"cfg": "cfg_scale", "sampler_name": "scheduler"}
_LORA = NodeTranslation(
    "{lora_loader}",
    fields={"lora_name": "lora", "strength_model": "weight", "strength": "weight", "strength_clip": None},
    inputs={"model": "unet"},
    outputs={"model": "unet"},
    models={"lora": "lora"},
)
_DECODE = NodeTranslation("l2i", inputs={"samples": "latents", "latent": "latents"}, outputs={"images": "image"})
_ENCODE = NodeTranslation("i2l", inputs={"pixels": "image"}, outputs={"latent": "latents", "samples": "latents"})
RULES: Mapping[str, NodeTranslation] = {
    "load_checkpoint": _CHECKPOINT,
    "checkpoint_loader": _CHECKPOINT,
    "checkpoint_loader_simple": _CHECKPOINT,
    "main_model_loader": _CHECKPOINT,
    "sdxl_model_loader": _CHECKPOINT,
    "clip_text_encode": _TEXT,
    "compel": _TEXT,
    "sdxl_compel_prompt": _TEXT,
    "ksampler": NodeTranslation(
        "denoise_latents",
        fields=_SAMPLING,
        inputs={
            "model": "unet",
            "positive": "positive_conditioning",
            "negative": "negative_conditioning",
            "latent_image": "latents",
        },
        outputs={"latent": "latents", "samples": "latents"},
    ),
    "denoise_latents": NodeTranslation(
        "denoise_latents", fields=_SAMPLING, inputs={"model": "unet", "positive": "positive_conditioning"}
    ),
    "empty_latent_image": NodeTranslation(
        "noise", fields={"batch_size": None}, outputs={"latent": "noise", "samples": "noise"}
    ),
    "vae_encode": _ENCODE,
    "vae_decode": _DECODE,
    "l2i": _DECODE,
    "i2l": _ENCODE,
    "vae_loader": NodeTranslation("vae_loader", fields={"vae_name": "vae_model"}, models={"vae_model": "vae"}),
    "load_lora": _LORA,
    "lora_loader": _LORA,
    "load_image": NodeTranslation("image", fields={"upload": None}, files=frozenset({"image"})),
    "save_image": NodeTranslation(
        "save_image", fields={"filename_prefix": None, "board": None}, inputs={"images": "image"}
    ),
    "preview_image": NodeTranslation("save_image", inputs={"images": "image"}),
}


def from_portable(document: Mapping[str, Any], source: str) -> Workflow:
    """Return the workflow of a portable document, for SD 1 nodes until `Workflow.for_base` says otherwise.

    Models are named without a base, which the plan finds out from a server. Raises WorkflowError.
    """

    def translate(base: str) -> Workflow:
        family = FAMILIES.get(base)
        if family is None:
            known = ", ".join(FAMILIES)
            raise WorkflowError(f"{source}: the portable form has no nodes for {base} models, only for {known}.")
        return replace(_Translation(document, source, family).workflow(), translate=translate, bases=tuple(FAMILIES))

    return translate("sd-1")


class _Translation:
    """One document on its way to real nodes of one family."""

    def __init__(self, document: Mapping[str, Any], source: str, family: Family) -> None:
        self.document = document
        self.source = source
        self.family = family
        self.notes: list[str] = []
        self.files: dict[Address, str] = {}
        self.types: dict[str, str] = {}  # node → its portable type

    def workflow(self) -> Workflow:
        """Return the translated graph, with what was completed and left out in the notes."""
        problems: list[Problem] = []
        nodes = [node for entry in self.document["nodes"] for node in self._nodes(entry, problems)]
        edges = [edge for entry in self.document.get("edges") or () if (edge := read_edge(entry, problems))]
        raise_for(problems, self.source)
        graph = self._noise(Graph.of(nodes, dict.fromkeys(self._renamed(edge) for edge in edges)))
        graph, more = complete_graph(graph, packaged_nodes(), {("denoise_latents", "noise")})
        graph = graph.set({Address(node, "is_intermediate"): True for node in _saved(graph)})
        meta = self.document.get("meta")
        name = str(meta.get("name") or "") if isinstance(meta, Mapping) else ""
        return Workflow(
            graph=clean_graph(graph, self.source, COLLECTING),
            kind="portable",
            name=name or str(self.document.get("name") or ""),
            files=self.files,
            notes=(*self.notes, *(f"completed {edge}" for edge in more)),
        )

    def _nodes(self, entry: Any, problems: list[Problem]) -> Iterator[Node]:
        if not isinstance(entry, Mapping) or not all(isinstance(entry.get(key), str) for key in ("id", "type")):
            problems.append(Problem(message="A node has no id or no type"))
            return
        name, kind = str(entry["id"]), str(entry["type"])
        known = packaged_nodes()
        rule = RULES.get(kind) or (NodeTranslation(kind) if kind in known else None)
        if rule is None:
            near = did_you_mean(kind, [*RULES, *known])
            problems.append(Problem(message=f"Node {name} is of type {kind}, which has no translation.{near}"))
            return
        self.types[name] = kind
        data = entry.get("data")
        values = dict(data) if isinstance(data, Mapping) else {}
        try:
            if kind == "ksampler":
                values = yield from self._split_sampler(name, values)
            yield self._translated(name, rule, values)
        except (WorkflowError, ValueError) as fault:
            problems.append(Problem(message=f"Node {name}: {fault}"))

    def _split_sampler(self, name: str, values: dict[str, Any]) -> Generator[Node, None, dict[str, Any]]:
        """Yield the noise node of a sampler that draws its own; what is left of the sampler's values is returned."""
        noise: dict[str, Value] = {"seed": values.pop("seed", 0), "use_cpu": True}
        yield Node(f"{name}_noise", "noise", noise)
        if "denoise" in values:
            values["denoising_start"] = ONE_MINUS(values.pop("denoise"))
        chosen = (values.pop("sampler_name", None), values.pop("scheduler", None))
        if any(chosen):
            scheduler, note = scheduler_of(*chosen)
            values["scheduler"] = scheduler
            self.notes.extend([f"{name}: {note}"] if note else [])
        values.pop("control_after_generate", None)
        return values

    def _translated(self, name: str, rule: NodeTranslation, values: Mapping[str, Any]) -> Node:
        kind = rule.becomes.format_map(_parts(self.family))
        fields: dict[str, Value] = {}
        for given, value in values.items():
            real = rule.fields.get(given, given)
            if real is None:
                self.notes.append(f"{name}: {given} is left out, sweep decides it")
            elif real in rule.files and isinstance(value, str):
                self.files[Address(name, real)] = value
            elif real in rule.models and isinstance(value, str):
                fields[real] = ModelRef(_stem(value), "", rule.models[real])
            else:
                fields[real] = value
        if kind == SDXL.encoder and "prompt" in fields:
            fields.setdefault("style", fields["prompt"])
        return Node(name, kind, node_fields(kind, fields))

    def _renamed(self, edge: Edge) -> Edge:
        source = RULES.get(self.types.get(edge.source.node, ""), NodeTranslation(""))
        target = RULES.get(self.types.get(edge.destination.node, ""), NodeTranslation(""))
        output = source.outputs.get(edge.source.field, edge.source.field)
        field = target.inputs.get(edge.destination.field, edge.destination.field)
        return Edge(Address(edge.source.node, output), Address(edge.destination.node, field))

    def _noise(self, graph: Graph) -> Graph:
        """List every split sampler with its noise wired: of the size of the latents it starts from, where there are
        any.
        """
        for name in [name for name, kind in self.types.items() if kind == "ksampler"]:
            graph = self._wired_noise(graph, name)
        for name in [name for name, node in graph.nodes.items() if node.type == "denoise_latents"]:
            graph = self._moved_seed(graph, name)
        return graph

    def _wired_noise(self, graph: Graph, name: str) -> Graph:
        noise = f"{name}_noise"
        latents = graph.feeding(Address(name, "latents"))
        graph = graph.adding(edges=[f"{noise}.noise → {name}.noise"])
        if not latents:
            return graph
        start = graph.nodes.get(latents[0].source.node)
        if start is not None and start.type == "noise":  # an empty latent image: only its size was meant
            size = {Address(noise, side): start.fields[side] for side in ("width", "height") if side in start.fields}
            graph = graph.without_edges(latents).set(size)
            if graph.targets(start.id):
                return graph
            return replace(graph, nodes={key: node for key, node in graph.nodes.items() if key != start.id})
        source = latents[0].source.node
        return graph.adding(edges=[f"{source}.{side} → {noise}.{side}" for side in ("width", "height")])

    def _moved_seed(self, graph: Graph, name: str) -> Graph:
        """Move a seed on a denoising node, which has none, to the one node that draws noise."""
        node = graph.nodes[name]
        drawing = [other for other in graph.nodes.values() if other.type == "noise"]
        if "seed" not in node.fields or len(drawing) != 1:
            return graph
        self.notes.append(f"{name}: seed is set on {drawing[0].id}, which draws the noise")
        bare = replace(node, fields={key: value for key, value in node.fields.items() if key != "seed"})
        return graph.adding([bare]).set({Address(drawing[0].id, "seed"): node.fields["seed"]})


def _saved(graph: Graph) -> Iterator[str]:
    """Yield the nodes whose image only goes to be saved: it need not be kept twice."""
    for edge in graph.edges:
        target = graph.nodes.get(edge.destination.node)
        if target is not None and target.type == "save_image":
            yield edge.source.node


def _parts(family: Family) -> Mapping[str, str]:
    return {"loader": family.loader, "encoder": family.encoder, "lora_loader": family.lora_loader}


def _stem(name: str) -> str:
    """Return a model by the name a server gives it: that of its file, without folders and ending."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return next((last.removesuffix(ending) for ending in _MODEL_FILES if last.endswith(ending)), last)
