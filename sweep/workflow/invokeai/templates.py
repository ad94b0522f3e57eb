"""The built-in workflows: each a function that returns a graph, to be read as a recipe.

Models and images are left out of the nodes that take them: the plan fills them in. Node ids are words, so that
addresses read like `denoise.steps`, `prompt.prompt` or `noise.seed`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sweep.errors import WorkflowError, did_you_mean
from sweep.workflow.dialect import TEMPLATES
from sweep.workflow.graph import Address, Edge, Graph, Json, Node

_OUTPUT: Mapping[str, Json] = {"is_intermediate": False, "use_cache": False}  # cached outputs would share one image


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What differs between model families that denoise with the same nodes. `size` is the side they were trained on."""

    loader: str
    encoder: str
    lora_loader: str
    size: int
    carried: tuple[str, ...]  # what a LoRA changes on its way from the loader: unet, clip, …


SD1 = Family(
    loader="main_model_loader", encoder="compel", lora_loader="lora_loader", size=512, carried=("unet", "clip")
)
SD2 = replace(SD1, size=768)
SDXL = Family(
    loader="sdxl_model_loader",
    encoder="sdxl_compel_prompt",
    lora_loader="sdxl_lora_loader",
    size=1024,
    carried=("unet", "clip", "clip2"),
)
FLUX = Family(
    loader="flux_model_loader",
    encoder="flux_text_encoder",
    lora_loader="flux_lora_loader",
    size=1024,
    carried=("transformer", "clip", "t5_encoder"),
)
_FAMILIES: Mapping[str, Family] = {"sd-1": SD1, "sd-2": SD2, "sdxl": SDXL, "flux": FLUX}


def template(name: str, base: str, loras: int = 0, controls: int = 0) -> Graph:
    """Return the built-in workflow `name` for models of `base`, with so many LoRAs and ControlNets.

    `lora` and `controlnet` are txt2img with at least one of either. Raises WorkflowError where there is no such
    template, or not for this base.
    """
    if name not in TEMPLATES:
        raise WorkflowError(f"There is no template {name!r}.{did_you_mean(name, TEMPLATES)}", hint=_available())
    family = _FAMILIES.get(base)
    if family is None:
        raise WorkflowError(
            f"There is no template for {base} models.{did_you_mean(base, _FAMILIES)}", hint=_available()
        )
    loras = max(loras, 1 if name == "lora" else 0)
    controls = max(controls, 1 if name == "controlnet" else 0)
    if family is FLUX and controls:
        raise WorkflowError("There is no template with a ControlNet for flux models.", hint=_available())
    recipe = _RECIPES["img2img" if name == "img2img" else "txt2img", family is FLUX]
    return with_loras(with_controls(recipe(family), controls), family, loras)


def _available() -> str:
    return f"Templates: {', '.join(TEMPLATES)} for {', '.join(_FAMILIES)} (no controlnet for flux)."


def txt2img(family: Family) -> Graph:
    """Return an image from a prompt, for Stable Diffusion 1, 2 and XL."""
    return Graph.of(
        [
            Node("model", family.loader),
            Node("prompt", family.encoder, _text(family)),
            Node("negative", family.encoder, _text(family)),
            Node("noise", "noise", {"seed": 0, "width": family.size, "height": family.size, "use_cpu": True}),
            Node(
                "denoise",
                "denoise_latents",
                {"steps": 20, "cfg_scale": 7.5, "scheduler": "euler", "denoising_start": 0, "denoising_end": 1},
            ),
            Node("decode", "l2i", _OUTPUT),
        ],
        [
            *(f"model.{clip} → {text}.{clip}" for text in ("prompt", "negative") for clip in family.carried[1:]),
            "model.unet → denoise.unet",
            "prompt.conditioning → denoise.positive_conditioning",
            "negative.conditioning → denoise.negative_conditioning",
            "noise.noise → denoise.noise",
            "denoise.latents → decode.latents",
            "model.vae → decode.vae",
        ],
    )


def img2img(family: Family) -> Graph:
    """Return an image from another and a prompt: the source is resized first, so that it and the noise always match."""
    return (
        txt2img(family)
        .adding(
            [*_source(family), Node("encode", "i2l")],
            [
                "source.image → resize.image",
                "resize.image → encode.image",
                "model.vae → encode.vae",
                "encode.latents → denoise.latents",
            ],
        )
        .set({Address("denoise", "denoising_start"): 0.4})
    )


def flux_txt2img(family: Family) -> Graph:
    """Return an image from a prompt, for FLUX: the denoising node draws its own noise, and guidance replaces cfg."""
    return Graph.of(
        [
            Node("model", family.loader),
            Node("prompt", family.encoder, {"prompt": ""}),
            Node(
                "denoise",
                "flux_denoise",
                {
                    "num_steps": 20,
                    "guidance": 3.5,
                    "scheduler": "euler",
                    "seed": 0,
                    "width": family.size,
                    "height": family.size,
                    "denoising_start": 0,
                    "denoising_end": 1,
                },
            ),
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


def flux_img2img(family: Family) -> Graph:
    """Return an image from another and a prompt, for FLUX."""
    return (
        flux_txt2img(family)
        .adding(
            [*_source(family), Node("encode", "flux_vae_encode")],
            [
                "source.image → resize.image",
                "resize.image → encode.image",
                "model.vae → encode.vae",
                "encode.latents → denoise.latents",
            ],
        )
        .set({Address("denoise", "denoising_start"): 0.1})
    )


def with_controls(graph: Graph, count: int) -> Graph:
    """Return the graph steered by so many ControlNets: nodes control, control2 and so on."""
    names = _numbered("control", count)
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


def with_loras(graph: Graph, family: Family, count: int) -> Graph:
    """Return the graph with so many LoRAs in a row after the model: nodes lora, lora2 and so on."""
    names = _numbered("lora", count)
    if not names:
        return graph
    rewired = tuple(_moved(edge, "model", names[-1], family.carried) for edge in graph.edges)
    chain = [
        f"{before}.{field} → {after}.{field}"
        for before, after in zip(["model", *names], names, strict=False)
        for field in family.carried
    ]
    nodes = [Node(name, family.lora_loader, {"weight": 0.75}) for name in names]
    return replace(graph, edges=rewired).adding(nodes, chain)


def _text(family: Family) -> dict[str, Json]:
    """Return an empty prompt; SDXL's is told the size of the image it is to describe."""
    if family is not SDXL:
        return {"prompt": ""}
    size = {f"{which}_{side}": family.size for which in ("original", "target") for side in ("width", "height")}
    return {"prompt": "", "style": "", **size}


def _source(family: Family) -> list[Node]:
    resized: dict[str, Json] = {"width": family.size, "height": family.size, "resample_mode": "lanczos"}
    return [Node("source", "image"), Node("resize", "img_resize", {**resized, "is_intermediate": True})]


def _moved(edge: Edge, source: str, target: str, fields: tuple[str, ...]) -> Edge:
    if edge.source.node == source and edge.source.field in fields:
        return Edge(Address(target, edge.source.field), edge.destination)
    return edge


def _numbered(word: str, count: int) -> list[str]:
    return [word if number == 1 else f"{word}{number}" for number in range(1, count + 1)]


_RECIPES: Mapping[tuple[str, bool], Callable[[Family], Graph]] = {
    ("txt2img", False): txt2img,
    ("img2img", False): img2img,
    ("txt2img", True): flux_txt2img,
    ("img2img", True): flux_img2img,
}
