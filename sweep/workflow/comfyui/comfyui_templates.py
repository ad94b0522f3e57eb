"""ComfyUI's built-in workflows, one recipe for all checkpoints that carry model, text encoder and VAE in one file.

Node ids are the words of the other family's templates where they mean the same: `denoise.steps`, `prompt.text`.
"""

from __future__ import annotations

from typing import Final

from sweep.workflow.base import insert_loras, numbered_ids
from sweep.workflow.graph import Address, Edge, Graph, Json, Node

_SIZES: Final = {"sd-1": 512, "sd-2": 768, "sdxl": 1024, "sd-3": 1024, "flux": 1024}  # the side a base was trained on
_DEFAULT_SIZE: Final = 512
_SIXTEEN_CHANNELS: Final = frozenset({"sd-3", "flux"})


def build_checkpoint_graph(base: str, loras: int, controls: int, *, has_image: bool) -> Graph:
    """Return a workflow for models of `base` (`any` where that is not known); see `Dialect.build_template`."""
    graph = _txt2img(base)
    if has_image:
        graph = _from_image(graph, _SIZES.get(base, _DEFAULT_SIZE))
    lora = Node("lora", "LoraLoader", {"strength_model": 0.75, "strength_clip": 0.75})
    return insert_loras(_with_controls(graph, controls), lora, loras, [("0", "model", "0"), ("1", "clip", "1")])


def _txt2img(base: str) -> Graph:
    size = _SIZES.get(base, _DEFAULT_SIZE)
    empty = "EmptySD3LatentImage" if base in _SIXTEEN_CHANNELS else "EmptyLatentImage"
    sampling: dict[str, Json] = {
        "seed": 0,
        "steps": 20,
        "cfg": 1.0 if base == "flux" else 7.5,
        "sampler_name": "euler",
        "scheduler": "simple" if base in _SIXTEEN_CHANNELS else "normal",
        "denoise": 1.0,
    }
    graph = Graph.of(
        [
            Node("model", "CheckpointLoaderSimple"),
            Node("prompt", "CLIPTextEncode", {"text": ""}),
            Node("negative", "CLIPTextEncode", {"text": ""}),
            Node("size", empty, {"width": size, "height": size, "batch_size": 1}),
            Node("denoise", "KSampler", sampling),
            Node("decode", "VAEDecode"),
            Node("out", "SaveImage"),
        ],
        [
            "model.1 → prompt.clip",
            "model.1 → negative.clip",
            "model.0 → denoise.model",
            "prompt.0 → denoise.positive",
            "negative.0 → denoise.negative",
            "size.0 → denoise.latent_image",
            "denoise.0 → decode.samples",
            "model.2 → decode.vae",
            "decode.0 → out.images",
        ],
    )
    if base != "flux":
        return graph
    guidance = Node("guidance", "FluxGuidance", {"guidance": 3.5})  # distilled: it stands on the prompt
    return graph.inserting(guidance, ("conditioning", "0"), {Address("denoise", "positive")})


def _from_image(graph: Graph, size: int) -> Graph:
    resize: dict[str, Json] = {"upscale_method": "lanczos", "width": size, "height": size, "crop": "disabled"}
    return (
        graph.without_nodes({"size"})
        .adding(
            [Node("source", "LoadImage"), Node("resize", "ImageScale", resize), Node("encode", "VAEEncode")],
            [
                "source.0 → resize.image",
                "resize.0 → encode.pixels",
                "model.2 → encode.vae",
                "encode.0 → denoise.latent_image",
            ],
        )
        .set({Address("denoise", "denoise"): 0.6})
    )


def _with_controls(graph: Graph, count: int) -> Graph:
    """Return the graph steered by so many ControlNets in a row: nodes control, control2 and so on."""
    settings: dict[str, Json] = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    steered = {Address("denoise", field) for field in ("positive", "negative")}
    for name in numbered_ids("control", count):
        before = [edge for edge in graph.edges if edge.destination in steered]
        graph = graph.without_edges(before).adding(
            [
                Node(f"{name}_model", "ControlNetLoader"),
                Node(f"{name}_image", "LoadImage"),
                Node(name, "ControlNetApplyAdvanced", settings),
            ],
            [
                f"{name}_model.0 → {name}.control_net",
                f"{name}_image.0 → {name}.image",
                *(Edge(edge.source, Address(name, edge.destination.field)) for edge in before),
                f"{name}.0 → denoise.positive",
                f"{name}.1 → denoise.negative",
            ],
        )
    return graph
