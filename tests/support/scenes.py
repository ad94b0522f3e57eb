"""Scenes for InvokeAI's kind of server, real or sandbox: small Stable Diffusion 1 graphs of 64 by 64 pixels."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from PIL import Image

from sweep.servers import ConnectOptions, RayServer, Server, ServerInfo, connect
from sweep.servers.http import Timings
from sweep.testing import Subject
from sweep.testing.servers import RenderScene
from sweep.workflow import Address, Edge, Graph, ImageRef, ModelRef, Node

SIDE = 64
OUT = "out"
PATIENT = Timings(reconnect=0.2, poll_listening=5.0, poll_deaf=0.3, patience=120.0, gone=120.0)


def txt2img(model: ModelRef, seed: int, steps: int = 1) -> Graph:
    """The plainest graph that renders."""
    return Graph.of(
        [
            Node("model", "main_model_loader", {"model": model}),
            Node("pos", "compel", {"prompt": "a cat"}),
            Node("neg", "compel", {"prompt": ""}),
            Node("noise", "noise", {"seed": seed, "width": SIDE, "height": SIDE}),
            Node("denoise", "denoise_latents", {"steps": steps, "cfg_scale": 7.5, "scheduler": "euler"}),
            Node(OUT, "l2i"),
        ],
        [
            "model.unet → denoise.unet",
            "model.clip → pos.clip",
            "model.clip → neg.clip",
            "pos.conditioning → denoise.positive_conditioning",
            "neg.conditioning → denoise.negative_conditioning",
            "noise.noise → denoise.noise",
            "denoise.latents → out.latents",
            "model.vae → out.vae",
        ],
    )


def img2img(model: ModelRef, image: ImageRef, seed: int) -> Graph:
    """The same from an image."""
    return (
        txt2img(model, seed)
        .set({Address("denoise", "denoising_start"): 0.4})
        .adding(
            [Node("i2l", "i2l", {"image": image})],
            ["i2l.latents → denoise.latents", "model.vae → i2l.vae"],
        )
    )


def failing(model: ModelRef) -> Graph:
    """Noise and latents of different sizes: found out when it runs."""
    graph = txt2img(model, 1)
    smaller = Node("other", "noise", {"seed": 1, "width": SIDE // 2, "height": SIDE // 2})
    return graph.adding([smaller], [Edge(Address("other", "noise"), Address("denoise", "latents"))])


def image(folder: Path, level: int = 120) -> tuple[str, Path]:
    """A small PNG: its hash, and where it lies."""
    data = io.BytesIO()
    Image.linear_gradient("L").resize((SIDE, SIDE)).point(lambda v: (v + level) % 256).convert("RGB").save(data, "PNG")
    path = folder / f"image {level}.png"
    path.write_bytes(data.getvalue())
    return hashlib.sha256(data.getvalue()).hexdigest(), path


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Server]:
    """An open client."""
    async with open_client(url) as (server, _):
        yield server


@asynccontextmanager
async def open_client(url: str) -> AsyncIterator[tuple[Server, ServerInfo]]:
    """An open client, and who answered; of a server behind an agent for the address `ray:NAME`."""
    agent = url.removeprefix("ray:")
    server = connect(url, ConnectOptions(timings=PATIENT)) if agent == url else RayServer(agent)
    info = await server.open()
    try:
        yield server, info
    finally:
        await server.aclose()


@asynccontextmanager
async def subject(url: str, folder: Path) -> AsyncIterator[Subject]:
    """The server at `url` under test, with its first Stable Diffusion 1 model. Files go into `folder`."""
    sha256, file = image(folder)
    async with open_client(url) as (server, info):
        found = next(m for m in await server.models() if m.type == "main" and m.base == "sd-1")
        model = ModelRef(found.name, found.base)

        def scene(graph: Graph, outputs: tuple[str, ...] = (OUT,)) -> RenderScene:
            return RenderScene(graph=graph, outputs=outputs, images={sha256: file})

        several = txt2img(model, 5).adding(
            [Node("blur", "img_lerp", {"min": 10, "max": 200})], ["out.image → blur.image"]
        )
        yield Subject(
            server=server,
            info=info,
            another=lambda: client(url),
            quick=lambda number: scene(txt2img(model, number)),
            slow=lambda number: scene(txt2img(model, 1000 + number, steps=800)),
            imaged=lambda number: scene(img2img(model, ImageRef(sha256), number)),
            several=scene(several, (OUT, "blur")),
            failing=scene(failing(model)),
            failing_node="denoise",
            refused=scene(txt2img(model, 6).set({Address("denoise", "denoising_start"): 1.5})),
            modelless=scene(txt2img(ModelRef("no such model", "sd-1"), 7)),
        )
