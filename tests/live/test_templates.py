"""Every built-in template, and the portable documents, really rendered."""

from __future__ import annotations

from asyncio import to_thread
from pathlib import Path

import pytest

from sweep.servers import Server
from sweep.workflow import (
    Address,
    Graph,
    ImageRef,
    ModelRef,
    Value,
    check_graph,
    find_roles,
    load_builtin_schemas,
    load_workflow,
)
from sweep.workflow.invokeai.invokeai_dialect import INVOKEAI
from tests.live.rendering import refusal, rendered
from tests.support.graphs import output_nodes
from tests.support.scenes import client, image

template = INVOKEAI.template

SCHEMAS = load_builtin_schemas()  # read before any loop runs
PORTABLE = Path(__file__).parents[1] / "fixtures" / "portable"
SETTINGS: dict[str, Value] = {
    "prompt": "a cat",
    "negative_prompt": "blurry",
    "seed": 3,
    "steps": 2,
    "width": 64,
    "height": 64,
}


def varied(graph: Graph, values: dict[str, Value]) -> Graph:
    """The graph with every role it has set to these; of ambiguous ones, all that could be meant."""
    roles = find_roles(graph, SCHEMAS)
    for role, value in values.items():
        groups = roles.ambiguous.get(role, (roles.targets.get(role, ()),))
        for target in (target for group in groups for target in group):
            graph = graph.without_edges(target.cut).set({target.address: target.encode(value)})
    return graph


async def models(server: Server, base: str) -> dict[str, ModelRef]:
    """The first model of each type for a base."""
    found = [model for model in await server.models() if model.base == base]
    return {model.type: ModelRef(model.name, model.base, model.type) for model in reversed(found)}


@pytest.mark.parametrize(
    ("name", "base", "loras", "controls"),
    [
        ("txt2img", "sd-1", 0, 0),
        ("img2img", "sd-1", 0, 0),
        ("controlnet", "sd-1", 0, 1),
        ("controlnet", "sd-1", 0, 2),
        ("lora", "sd-1", 1, 0),
        ("img2img", "sd-1", 1, 1),
        ("txt2img", "sdxl", 0, 0),
        ("img2img", "sdxl", 0, 0),
        ("lora", "sdxl", 1, 0),
    ],
)
async def test_templates_render(
    name: str, base: str, loras: int, controls: int, live_server: str, tmp_path: Path
) -> None:
    sha256, file = image(tmp_path)
    async with client(live_server) as server:
        known = await models(server, base)
        graph = varied(template(name, base, loras, controls), {**SETTINGS, "model": known["main"]})
        if loras:
            graph = varied(graph, {"lora": known["lora"], "lora_weight": 0.5})
        if controls:
            model = known["controlnet"]
            nodes = [node for node in graph.nodes.values() if node.type == "controlnet"]
            graph = graph.set({Address(node.id, "control_model"): model for node in nodes})
        graph = varied(graph, {"image": ImageRef(sha256), "control_image": ImageRef(sha256), "denoise_strength": 0.6})
        assert check_graph(graph, SCHEMAS) == []
        pixels = await rendered(server, graph, output_nodes(graph, SCHEMAS), {sha256: file})
        assert len(pixels) == 64 * 64 * 3


@pytest.mark.parametrize("base", ["sd-1", "sdxl"])
async def test_the_portable_image_to_image_renders(base: str, live_server: str, tmp_path: Path) -> None:
    """With the models and the image that are there; its VAE is not, so the model's own takes its place."""
    sha256, file = image(tmp_path)
    workflow = (await to_thread(load_workflow, PORTABLE / "image_to_image.json")).for_base(base)
    graph = workflow.graph.without_edges([edge for edge in workflow.graph.edges if edge.source.node == "vae_loader"])
    graph = Graph({name: node for name, node in graph.nodes.items() if name != "vae_loader"}, graph.edges)
    graph = graph.adding(edges=["model_loader.vae → vae_encode.vae", "model_loader.vae → vae_decode.vae"])
    async with client(live_server) as server:
        known = await models(server, base)
        graph = varied(graph, {"model": known["main"], "image": ImageRef(sha256), "steps": 2})
        assert await rendered(server, graph, ("save_image",), {sha256: file})


async def test_the_portable_text_to_image_renders(live_server: str) -> None:
    workflow = (await to_thread(load_workflow, PORTABLE / "text_to_image.json")).for_base("sd-1")
    async with client(live_server) as server:
        known = await models(server, "sd-1")
        graph = varied(workflow.graph, {"model": known["main"], "steps": 1, "width": 64, "height": 64})
        assert await rendered(server, graph, ("save",))


@pytest.mark.parametrize(("name", "base"), [("txt2img", "flux"), ("img2img", "flux"), ("controlnet", "sdxl")])
def test_what_no_tiny_model_is_for_is_taken_at_least(name: str, base: str, live_server: str) -> None:
    lora = ModelRef("l", base, "lora")
    graph = varied(template(name, base, loras=3), {**SETTINGS, "model": ModelRef("m", base), "lora": lora})
    if "control" in graph.nodes:
        graph = graph.set({Address("control", "control_model"): ModelRef("c", base, "controlnet")})
    graph = varied(graph, {"image": {"image_name": "a.png"}, "control_image": {"image_name": "a.png"}})
    assert check_graph(graph, SCHEMAS) == []
    assert refusal(live_server, graph) == ""
