"""The portable format, translated to ComfyUI's nodes: most of its words are ComfyUI's own in lower case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sweep.errors import WorkflowError
from sweep.workflow.comfyui.formats import PREFIX, node_values
from sweep.workflow.comfyui.role_finder import SAMPLER_NAMES
from sweep.workflow.dialect import NodeSchema
from sweep.workflow.graph import Graph, Node, Workflow
from sweep.workflow.portable_format import PortableRule, PortableTranslation

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
_EMPTY = PortableRule("EmptyLatentImage", {"use_cpu": None})
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
    **dict.fromkeys(("load_checkpoint", "checkpoint_loader", "checkpoint_loader_simple"), _CHECKPOINT),
    **dict.fromkeys(("main_model_loader", "sdxl_model_loader"), _CHECKPOINT),
    **dict.fromkeys(("clip_text_encode", "compel", "sdxl_compel_prompt"), _TEXT),
    **dict.fromkeys(("ksampler", "denoise_latents"), _SAMPLER),
    **dict.fromkeys(("noise", "empty_latent_image"), _EMPTY),
    **dict.fromkeys(("vae_encode", "i2l"), _ENCODE),
    **dict.fromkeys(("vae_decode", "l2i"), _DECODE),
    "vae_loader": PortableRule("VAELoader", {"vae_model": "vae_name"}),
    **dict.fromkeys(("load_lora", "lora_loader"), _LORA),
    "load_image": PortableRule("LoadImage", {"upload": None}),
    "image": PortableRule("LoadImage"),
    **dict.fromkeys(("save_image", "preview_image"), _SAVE),
}


def translate_portable(document: Mapping[str, Any], source: str, schemas: Mapping[str, NodeSchema]) -> Workflow:
    """Translate a portable document, with what was completed or left out in the notes. Raises WorkflowError."""
    return _Translation(document, source, PORTABLE_RULES, schemas).workflow()


class _Translation(PortableTranslation):
    any_output = "0"

    def make_nodes(self, name: str, kind: str, rule: PortableRule, values: dict[str, Any]) -> Iterator[Node]:
        if rule is _SAMPLER:
            start = values.pop("denoising_start", None)
            if isinstance(start, int | float):
                values.setdefault("denoise", round(1 - start, 9))
            word = values.get("scheduler")
            if "sampler_name" not in values and isinstance(word, str):
                values["sampler_name"] = SAMPLER_NAMES.get(word.removesuffix("_k"), word.removesuffix("_k"))
                values["scheduler"] = "karras" if word.endswith("_k") else "normal"
        renamed = self.rename_fields(name, rule, values)
        if rule is _LORA and "strength_model" in renamed:
            renamed.setdefault("strength_clip", renamed["strength_model"])
        fields, images = node_values(name, renamed, self.schemas.get(rule.becomes))
        self.files.update(images)
        yield Node(name, rule.becomes, fields)

    def wire(self, graph: Graph) -> Graph:
        """Move the seed of the node that gives noise to the one node that samples, which draws it here."""
        graph = self.move_seeds(graph, _EMPTY.becomes, _SAMPLER.becomes)
        if any("seed" in node.fields for node in graph.nodes.values() if node.type == _EMPTY.becomes):
            raise WorkflowError("The workflow's seed belongs to none of its samplers, or to several.")
        return graph
