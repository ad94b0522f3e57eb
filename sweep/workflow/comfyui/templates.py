"""ComfyUI's built-in workflows, one recipe for all checkpoints that carry model, text encoder and VAE in one file.

Node ids are the words of the other family's templates where they mean the same: `denoise.steps`, `prompt.text`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sweep.errors import WorkflowError, did_you_mean
from sweep.workflow.dialect import TEMPLATES
from sweep.workflow.graph import Address, Edge, Graph, Json, Node

_SIZES: Final = {"sd-1": 512, "sd-2": 768, "sdxl": 1024, "sd-3": 1024, "flux": 1024}  # the side a base was trained on
_DEFAULT_SIZE: Final = 512
_SIXTEEN_CHANNELS: Final = frozenset({"sd-3", "flux"})


def build_template(name: str, base: str, loras: int = 0, controls: int = 0) -> Graph:
    """Return the built-in workflow `name` for models of `base` (`any` where that is not known).

    `lora` and `controlnet` are txt2img with at least one of either. Raises WorkflowError for an unknown name.
    """
    if name not in TEMPLATES:
        known = f"Templates: {', '.join(TEMPLATES)}."
        raise WorkflowError(f"There is no template {name!r}.{did_you_mean(name, TEMPLATES)}", hint=known)
    graph = _txt2img(base)
    if name == "img2img":
        graph = _from_image(graph, _SIZES.get(base, _DEFAULT_SIZE))
    graph = _with_controls(graph, max(controls, int(name == "controlnet")))
    return _with_loras(graph, max(loras, int(name == "lora")))


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
    return _with_guidance(graph) if base == "flux" else graph


def _with_guidance(graph: Graph) -> Graph:
    """Return the graph with FLUX's distilled guidance on the prompt."""
    prompt = Edge(Address("prompt", "0"), Address("denoise", "positive"))
    nodes = [Node("guidance", "FluxGuidance", {"guidance": 3.5})]
    return graph.without_edges([prompt]).adding(
        nodes, ["prompt.0 → guidance.conditioning", "guidance.0 → denoise.positive"]
    )


def _from_image(graph: Graph, size: int) -> Graph:
    resize: dict[str, Json] = {"upscale_method": "lanczos", "width": size, "height": size, "crop": "disabled"}
    nodes = {name: node for name, node in graph.nodes.items() if name != "size"}
    edges = tuple(edge for edge in graph.edges if edge.source.node != "size")
    return (
        Graph(nodes, edges)
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
    for name in numbered_ids("control", count):
        before = {field: graph.feeding(Address("denoise", field))[0] for field in ("positive", "negative")}
        settings: dict[str, Json] = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
        graph = graph.without_edges(before.values()).adding(
            [
                Node(f"{name}_model", "ControlNetLoader"),
                Node(f"{name}_image", "LoadImage"),
                Node(name, "ControlNetApplyAdvanced", settings),
            ],
            [
                f"{name}_model.0 → {name}.control_net",
                f"{name}_image.0 → {name}.image",
                Edge(before["positive"].source, Address(name, "positive")),
                Edge(before["negative"].source, Address(name, "negative")),
                f"{name}.0 → denoise.positive",
                f"{name}.1 → denoise.negative",
            ],
        )
    return graph


def _with_loras(graph: Graph, count: int) -> Graph:
    """Return the graph with so many LoRAs in a row after the model: nodes lora, lora2 and so on."""
    names = numbered_ids("lora", count)
    if not names:
        return graph
    moved = tuple(
        replace(edge, source=Address(names[-1], edge.source.field))
        if edge.source.node == "model" and edge.source.field in ("0", "1")
        else edge
        for edge in graph.edges
    )
    chain = [
        f"{before}.{slot} → {after}.{field}"
        for before, after in zip(["model", *names], names, strict=False)
        for slot, field in (("0", "model"), ("1", "clip"))
    ]
    nodes = [Node(name, "LoraLoader", {"strength_model": 0.75, "strength_clip": 0.75}) for name in names]
    return replace(graph, edges=moved).adding(nodes, chain)


def numbered_ids(word: str, count: int) -> list[str]:
    """Return so many ids: word, word2, word3 and so on."""
    return [word if number == 1 else f"{word}{number}" for number in range(1, count + 1)]
