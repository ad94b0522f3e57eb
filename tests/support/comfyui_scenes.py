"""Scenes for a ComfyUI: the templates' graphs at 64 by 64 pixels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sweep.testing import Subject
from sweep.testing.servers import RenderScene
from sweep.workflow import Address, Graph, ImageRef, ModelRef, Node, load_core_schemas
from tests.support.scenes import SIDE, client, image, open_client

CORE = load_core_schemas()  # read before any loop runs, as the templates are
CORE.dialect.template("txt2img", "any")


def txt2img_prompt(model: ModelRef, seed: int, steps: int = 1) -> Graph:
    """The plainest graph that renders."""
    return (
        load_core_schemas()
        .dialect.template("txt2img", "any")
        .set(
            {
                Address("model", "ckpt_name"): model,
                Address("prompt", "text"): "a cat",
                Address("size", "width"): SIDE,
                Address("size", "height"): SIDE,
                Address("denoise", "seed"): seed,
                Address("denoise", "steps"): steps,
            }
        )
    )


def img2img_prompt(model: ModelRef, source: ImageRef, seed: int) -> Graph:
    """The same from an image."""
    return (
        load_core_schemas()
        .dialect.template("img2img", "any")
        .set(
            {
                Address("model", "ckpt_name"): model,
                Address("source", "image"): source,
                Address("resize", "width"): SIDE,
                Address("resize", "height"): SIDE,
                Address("denoise", "seed"): seed,
                Address("denoise", "steps"): 1,
            }
        )
    )


def failing_prompt(model: ModelRef) -> Graph:
    """An image of one pixel, which has no latents: found out when it runs."""
    graph = txt2img_prompt(model, 1)
    edges = graph.list_edges_into(Address("denoise", "latent_image"))
    return graph.without_edges(edges).adding(
        [Node("pixel", "EmptyImage", {"width": 1, "height": 1, "batch_size": 1, "color": 0}), Node("bad", "VAEEncode")],
        ["pixel.0 → bad.pixels", "model.2 → bad.vae", "bad.0 → denoise.latent_image"],
    )


@asynccontextmanager
async def comfyui_subject(url: str, folder: Path) -> AsyncIterator[Subject]:
    """The ComfyUI at `url` under test, with its first checkpoint. Files go into `folder`."""
    sha256, file = image(folder)
    async with open_client(url) as (server, info):
        found = next(model for model in await server.models() if model.type == "main")
        model = ModelRef(found.name, found.base)

        def scene(graph: Graph, outputs: tuple[str, ...] = ("out",)) -> RenderScene:
            return RenderScene(graph=graph, outputs=outputs, images={sha256: file})

        several = txt2img_prompt(model, 5).adding(
            [Node("inverted", "ImageInvert"), Node("second", "SaveImage")],
            ["decode.0 → inverted.image", "inverted.0 → second.images"],
        )
        yield Subject(
            server=server,
            info=info,
            another=lambda: client(url),
            quick=lambda number: scene(txt2img_prompt(model, number)),
            slow=lambda number: scene(txt2img_prompt(model, 1000 + number, steps=150)),
            imaged=lambda number: scene(img2img_prompt(model, ImageRef(sha256), number)),
            several=scene(several, ("out", "second")),
            failing=scene(failing_prompt(model)),
            failing_node="bad",
            refused=scene(txt2img_prompt(model, 6).set({Address("denoise", "denoise"): 1.5})),
            modelless=scene(txt2img_prompt(ModelRef("no such model", "any"), 7)),
        )
