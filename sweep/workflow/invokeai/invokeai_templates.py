"""InvokeAI's built-in workflows (templates): functions that return the graph of each for one base of models.

Models and images are left out of the nodes that take them: the plan fills them in. Node ids are words, so that
addresses read like `denoise.steps`, `prompt.prompt` or `noise.seed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from sweep.errors import WorkflowError, did_you_mean
from sweep.role_table import TEMPLATE_NAMES
from sweep.workflow.base import insert_loras, numbered_ids
from sweep.workflow.graph import Address, Graph, Json, Node

_DENOISING: Mapping[str, Json] = {"scheduler": "euler", "denoising_start": 0, "denoising_end": 1}
_OUTPUT: Mapping[str, Json] = {"is_intermediate": False, "use_cache": False}  # cached outputs would share one image


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBase:
    """The node types and sizes for models of one base. `size` is the side they were trained on."""

    loader: str
    encoder: str
    lora_loader: str
    size: int
    carried: tuple[str, ...]  # what a LoRA changes on its way from the loader: unet, clip, …
    image_encoder: str = "i2l"
    start: float = 0.4  # of denoising, where it begins with an image


SD1 = ModelBase(
    loader="main_model_loader", encoder="compel", lora_loader="lora_loader", size=512, carried=("unet", "clip")
)
SD2 = replace(SD1, size=768)
SDXL = ModelBase(
    loader="sdxl_model_loader",
    encoder="sdxl_compel_prompt",
    lora_loader="sdxl_lora_loader",
    size=1024,
    carried=("unet", "clip", "clip2"),
)
FLUX = ModelBase(
    loader="flux_model_loader",
    encoder="flux_text_encoder",
    lora_loader="flux_lora_loader",
    size=1024,
    carried=("transformer", "clip", "t5_encoder"),
    image_encoder="flux_vae_encode",
    start=0.1,
)
_BASES: Mapping[str, ModelBase] = {"sd-1": SD1, "sd-2": SD2, "sdxl": SDXL, "flux": FLUX}
HINT: Final = f"Templates: {', '.join(TEMPLATE_NAMES)} for {', '.join(_BASES)} (no controlnet for flux)."


def build_base_graph(name: str, loras: int, controls: int, *, has_image: bool) -> Graph:
    """Return a workflow for models of the base of this name; see `Dialect.build_template`."""
    base = _BASES.get(name)
    if base is None:
        raise WorkflowError(f"There is no template for {name} models.{did_you_mean(name, _BASES)}", hint=HINT)
    if base is FLUX and controls:
        raise WorkflowError("There is no template with a ControlNet for flux models.", hint=HINT)
    graph = _flux_txt2img(base) if base is FLUX else _txt2img(base)
    if has_image:
        graph = _from_image(graph, base)
    lora = Node("lora", base.lora_loader, {"weight": 0.75})
    return insert_loras(_with_controls(graph, controls), lora, loras, [(field,) * 3 for field in base.carried])


def _txt2img(base: ModelBase) -> Graph:
    """Return an image from a prompt, for Stable Diffusion 1, 2 and XL."""
    text: dict[str, Json] = {"prompt": ""}
    if base is SDXL:  # its encoder is told the size of the image that the prompt describes
        sizes = (f"{which}_{side}" for which in ("original", "target") for side in ("width", "height"))
        text |= {"style": "", **dict.fromkeys(sizes, base.size)}
    return Graph.of(
        [
            Node("model", base.loader),
            Node("prompt", base.encoder, text),
            Node("negative", base.encoder, text),
            Node("noise", "noise", {"seed": 0, "width": base.size, "height": base.size, "use_cpu": True}),
            Node("denoise", "denoise_latents", {"steps": 20, "cfg_scale": 7.5, **_DENOISING}),
            Node("decode", "l2i", _OUTPUT),
        ],
        [
            *(f"model.{clip} → {text}.{clip}" for text in ("prompt", "negative") for clip in base.carried[1:]),
            "model.unet → denoise.unet",
            "prompt.conditioning → denoise.positive_conditioning",
            "negative.conditioning → denoise.negative_conditioning",
            "noise.noise → denoise.noise",
            "denoise.latents → decode.latents",
            "model.vae → decode.vae",
        ],
    )


def _flux_txt2img(base: ModelBase) -> Graph:
    """Return an image from a prompt, for FLUX: the denoising node draws its own noise, and guidance replaces cfg."""
    size: dict[str, Json] = {"width": base.size, "height": base.size}
    return Graph.of(
        [
            Node("model", base.loader),
            Node("prompt", base.encoder, {"prompt": ""}),
            Node("denoise", "flux_denoise", {"num_steps": 20, "guidance": 3.5, "seed": 0, **size, **_DENOISING}),
            Node("decode", "flux_vae_decode", _OUTPUT),
        ],
        [
            "model.clip → prompt.clip",
            "model.t5_encoder → prompt.t5_encoder",
            "model.max_seq_len → prompt.t5_max_seq_len",
            "model.transformer → denoise.transformer",
            "prompt.conditioning → denoise.positive_text_conditioning",
            "denoise.latents → decode.latents",
            "model.vae → decode.vae",
        ],
    )


def _from_image(graph: Graph, base: ModelBase) -> Graph:
    """Begin with an image: the source is resized first, so that it and the noise always match."""
    resize: dict[str, Json] = {"width": base.size, "height": base.size, "resample_mode": "lanczos"}
    nodes = [
        Node("source", "image"),
        Node("resize", "img_resize", {**resize, "is_intermediate": True}),
        Node("encode", base.image_encoder),
    ]
    edges = [
        "source.image → resize.image",
        "resize.image → encode.image",
        "model.vae → encode.vae",
        "encode.latents → denoise.latents",
    ]
    return graph.adding(nodes, edges).set({Address("denoise", "denoising_start"): base.start})


def _with_controls(graph: Graph, count: int) -> Graph:
    """Return the graph steered by so many ControlNets: nodes control, control2 and so on."""
    names = numbered_ids("control", count)
    settings: dict[str, Json] = {
        "control_weight": 1,
        "begin_step_percent": 0,
        "end_step_percent": 1,
        "control_mode": "balanced",
        "resize_mode": "just_resize",
    }
    nodes = [Node(name, "controlnet", settings) for name in names]
    if count < 2:
        return graph.adding(nodes, [f"{name}.control → denoise.control" for name in names])
    return graph.adding(
        [*nodes, Node("controls", "collect")],
        [*(f"{name}.control → controls.item" for name in names), "controls.collection → denoise.control"],
    )
