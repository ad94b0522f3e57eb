"""The rules that translate a portable workflow to InvokeAI's nodes, and the schedulers that its samplers become."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import PurePosixPath
from typing import Any, ClassVar, Final

from sweep.errors import WorkflowError, did_you_mean
from sweep.workflow.graph import Address, Graph, ModelRef, Node, Value, Workflow
from sweep.workflow.invokeai.invokeai_formats import COLLECTING, node_fields
from sweep.workflow.invokeai.invokeai_roles import ONE_MINUS
from sweep.workflow.invokeai.invokeai_templates import SD1, SD2, SDXL, ModelBase
from sweep.workflow.invokeai.openapi import packaged_nodes
from sweep.workflow.portable_translation import PortableRule, PortableTranslation

_BASES: Mapping[str, ModelBase] = {"sd-1": SD1, "sd-2": SD2, "sdxl": SDXL}
_MODEL_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_CHECKPOINT = PortableRule(
    "{loader}",  # the model's base decides it, as {encoder} and {lora_loader}
    fields={"ckpt_name": "model", "checkpoint": "model", "model_name": "model"},
    outputs={"model": "unet"},
)
_TEXT = PortableRule("{encoder}", fields={"text": "prompt"})
_LORA = PortableRule(
    "{lora_loader}",
    fields={"lora_name": "lora", "strength_model": "weight", "strength": "weight", "strength_clip": None},
    inputs={"model": "unet"},
    outputs={"model": "unet"},
)
_SAMPLER = PortableRule(
    "denoise_latents",
    fields={"cfg": "cfg_scale", "sampler_name": "scheduler"},
    inputs={
        "model": "unet",
        "positive": "positive_conditioning",
        "negative": "negative_conditioning",
        "latent_image": "latents",
    },
    outputs={"latent": "latents", "samples": "latents"},
)
_DECODE = PortableRule("l2i", inputs={"samples": "latents", "latent": "latents"}, outputs={"images": "image"})
_ENCODE = PortableRule("i2l", inputs={"pixels": "image"}, outputs={"latent": "latents", "samples": "latents"})
RULES: Final[Mapping[str, PortableRule]] = {
    **dict.fromkeys(("load_checkpoint", "checkpoint_loader", "checkpoint_loader_simple"), _CHECKPOINT),
    **dict.fromkeys(("main_model_loader", "sdxl_model_loader"), _CHECKPOINT),
    **dict.fromkeys(("clip_text_encode", "compel", "sdxl_compel_prompt"), _TEXT),
    **dict.fromkeys(("ksampler", "denoise_latents"), _SAMPLER),
    "empty_latent_image": PortableRule(
        "noise", fields={"batch_size": None}, outputs={"latent": "noise", "samples": "noise"}
    ),
    **dict.fromkeys(("vae_encode", "i2l"), _ENCODE),
    **dict.fromkeys(("vae_decode", "l2i"), _DECODE),
    "vae_loader": PortableRule("vae_loader", fields={"vae_name": "vae_model"}),
    **dict.fromkeys(("load_lora", "lora_loader"), _LORA),
    "load_image": PortableRule("image", fields={"upload": None}),
    "save_image": PortableRule("save_image", {"filename_prefix": None, "board": None}, inputs={"images": "image"}),
    "preview_image": PortableRule("save_image", inputs={"images": "image"}),
}
_SAMPLERS: Mapping[str, str] = {
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
    name = _SAMPLERS.get(str(sampler or "euler"), str(sampler or "euler"))
    if name not in known:
        near = did_you_mean(name, [*known, *_SAMPLERS])
        raise WorkflowError(f"there is no sampler {sampler}.{near}")
    if schedule in (None, "", "normal"):
        return name, ""
    if schedule == "karras" and name + _KARRAS in known:
        return name + _KARRAS, ""
    return name, f"the schedule {schedule} has no counterpart for {name} in InvokeAI; its own is used"


def from_portable(document: Mapping[str, Any], source: str) -> Workflow:
    """Return the workflow of a portable document, for SD 1 nodes until `Workflow.for_base` says otherwise.

    Models are named without a base, which the plan finds out from a server. Raises WorkflowError.
    """

    def translate(base: str) -> Workflow:
        if base not in _BASES:
            known = ", ".join(_BASES)
            raise WorkflowError(f"{source}: the portable form has no nodes for {base} models, only for {known}.")
        found = _Translation(document, source, _BASES[base]).workflow()
        return replace(found, translate=translate, bases=tuple(_BASES))

    return translate("sd-1")


class _Translation(PortableTranslation):
    """Translates one document to nodes for models of one base."""

    collecting = COLLECTING
    asked: ClassVar = frozenset({("denoise_latents", "noise")})

    def __init__(self, document: Mapping[str, Any], source: str, base: ModelBase) -> None:
        own = {kind: PortableRule(kind) for kind in packaged_nodes()}  # a document may name them as they are
        super().__init__(document, source, {**own, **RULES}, packaged_nodes())
        self.base = base

    def make_nodes(self, name: str, kind: str, rule: PortableRule, values: dict[str, Any]) -> Iterator[Node]:
        if kind == "ksampler":  # it draws its own noise
            yield Node(f"{name}_noise", "noise", {"seed": values.pop("seed", 0), "use_cpu": True})
            self._translate_sampler(name, values)
        becomes = rule.becomes.format_map(asdict(self.base))
        schema = self.schemas[becomes]
        fields: dict[str, Value] = {}
        for real, value in self.rename_fields(name, rule, values).items():
            known = schema.field(real) if value and isinstance(value, str) else None
            if known and known.type == "ImageField":
                self.files[Address(name, real)] = value
            elif known and known.model_types:
                fields[real] = ModelRef(_stem(value), "", known.model_types[0])
            else:
                fields[real] = value
        if becomes == SDXL.encoder and "prompt" in fields:
            fields.setdefault("style", fields["prompt"])
        yield Node(name, becomes, node_fields(becomes, fields))

    def _translate_sampler(self, name: str, values: dict[str, Any]) -> None:
        """Write a sampler's values as a denoising node has them."""
        if "denoise" in values:
            values["denoising_start"] = ONE_MINUS(values.pop("denoise"))
        chosen = (values.pop("sampler_name", None), values.pop("scheduler", None))
        if any(chosen):
            values["scheduler"], note = scheduler_of(*chosen)
            self.notes.extend([f"{name}: {note}"] if note else [])
        values.pop("control_after_generate", None)

    def wire(self, graph: Graph) -> Graph:
        """Give each sampler its noise, of the size of the latents it starts from, where there are any."""
        for name in [name for name, kind in self.kinds.items() if kind == "ksampler"]:
            graph = self._wire_noise(graph, name, f"{name}_noise")
        return self.move_seeds(graph, "denoise_latents", "noise")

    def _wire_noise(self, graph: Graph, name: str, noise: str) -> Graph:
        latents = graph.feeding(Address(name, "latents"))
        graph = graph.adding(edges=[f"{noise}.noise → {name}.noise"])
        if not latents:
            return graph
        source = latents[0].source.node
        start = graph.nodes.get(source)
        if start is None or start.type != "noise":
            return graph.adding(edges=[f"{source}.{side} → {noise}.{side}" for side in ("width", "height")])
        # an empty latent image: only its size was meant
        size = {Address(noise, side): start.fields[side] for side in ("width", "height") if side in start.fields}
        graph = graph.without_edges(latents).set(size)
        is_used = any(edge.source.node == source for edge in graph.edges)
        return graph if is_used else graph.without_nodes({source})

    def finish(self, graph: Graph) -> Graph:
        """Mark the images that only go to be saved: they need not be kept twice."""
        savers = {node.id for node in graph.nodes.values() if node.type == "save_image"}
        saved = (edge.source.node for edge in graph.edges if edge.destination.node in savers)
        return graph.set({Address(node, "is_intermediate"): True for node in saved})


def _stem(name: str) -> str:
    """Return a model by the name a server gives it: that of its file, without folders and ending."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return next((last.removesuffix(ending) for ending in _MODEL_FILES if last.endswith(ending)), last)
