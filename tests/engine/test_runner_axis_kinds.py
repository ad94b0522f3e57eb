"""Every kind of axis, from the definition into the graph that a server wrote into the image."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from PIL import Image

from sweep.engine.runner import run
from sweep.experiment import Experiment
from sweep.record import RecordedResults
from sweep.sandbox import SandboxOptions, sandbox_server
from sweep.sandbox.running_sandbox import Sandbox
from tests.support.engine_bench import AT_ONCE
from tests.support.left_out import mark_rest_slow

TEXT = {"model": "sandbox-sd15", "prompt": "a red fox", "steps": 2, "width": 64, "height": 64}
IMAGE = {**TEXT, "image": "shots/a.png"}
CANNY = {"model": "sandbox-canny", "image": "shots/a.png", "weight": 0.5, "begin": 0.1, "end": 0.6}
DEPTH = {"model": "sandbox-depth", "image": "shots/b c.png", "weight": 1.5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What definitions name: images, lists, wildcards, settings."""
    place = tmp_path / "files of ours"
    (place / "shots").mkdir(parents=True)
    (place / "wild").mkdir()
    for name, grey in (("a.png", 40), ("b c.png", 200)):
        Image.new("RGB", (64, 64), (grey, grey, 90)).save(place / "shots" / name)
    (place / "wild" / "animal.txt").write_text("cat\ndog\n")
    (place / "prompts.txt").write_text("a cup\n\na jug\n")
    (place / "shots.csv").write_text("prompt,seed\na cup,3\na jug,4\n")
    (place / "looks.json").write_text(
        json.dumps({"soft": {"prompt": "soft", "cfg_scale": 4}, "hard": {"cfg_scale": 9}})
    )
    return place


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with sandbox_server(SandboxOptions(models=("all",), paint=False, plain_side=64)) as found:
        yield found


async def _rendered(sandbox: Sandbox, folder: Path, definition: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes of the graph in each image, in the order of the grid."""
    experiment = await anyio.to_thread.run_sync(Experiment.from_dict, {"name": "trial", **definition}, folder)
    options = replace(AT_ONCE, fuse=1)  # a graph of its own for each, to compare its values
    summary = await run(experiment, [sandbox.url], options=options, results=folder.parent / "results")
    assert (summary.completed, summary.failed) == (len(experiment.grid), 0)

    def graphs() -> list[dict[str, Any]]:
        rows = RecordedResults.open(summary.folder).rows()
        chunks = [Image.open(summary.folder / str(row["image_path"])).text["invokeai_graph"] for row in rows]  # type: ignore[attr-defined]
        return [json.loads(chunk)["nodes"] for chunk in chunks]

    return await anyio.to_thread.run_sync(graphs)


def _plain(value: Any) -> Any:
    """A model by its name; an image by whether there is one."""
    if isinstance(value, dict):
        return value.get("name") or ("image" if "image_name" in value else value)
    return value


def _values(graphs: list[dict[str, Any]], *addresses: str) -> list[Any]:
    """What stands at these addresses in each graph; None where there is no such node."""
    parts = [address.split(".") for address in addresses]
    found = [tuple(_plain(nodes.get(node, {}).get(field)) for node, field in parts) for nodes in graphs]
    return [each[0] if len(each) == 1 else each for each in found]


CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], tuple[str, ...], list[Any]]] = {
    "numbers": ("txt2img", TEXT, {"cfg_scale": {"start": 1, "stop": 16, "num": 3, "scale": "log"}},
        ("denoise.cfg_scale",), [1, 4, 16]),
    "booleans": ("txt2img", TEXT, {"noise.use_cpu": [True, False]}, ("noise.use_cpu",), [True, False]),
    "schedulers": ("txt2img", TEXT, {"scheduler": ["euler", "ddim"]}, ("denoise.scheduler",), ["euler", "ddim"]),
    "models": ("txt2img", {**TEXT, "model": "sandbox-sd15"}, {"model": ["sandbox-sd15-b", "sandbox-sdxl"]},
        ("model.model", "model.type"),
        [("sandbox-sd15-b", "main_model_loader"), ("sandbox-sdxl", "sdxl_model_loader")]),
    "one LoRA": ("lora", {**TEXT, "lora": "sandbox-ink"}, {"lora_weight": [0.25, 1]},
        ("lora.lora", "lora.weight"), [("sandbox-ink", 0.25), ("sandbox-ink", 1)]),
    "stacks of LoRAs": ("lora", {**TEXT, "lora_weight": 0.5},
        {"stack": {"values": {"none": {"lora": None}, "one": {"lora": "sandbox-ink"},
            "two": {"lora": [{"name": "sandbox-ink", "weight": 0.3}, "sandbox-glow"]}}}},
        ("lora.weight", "lora2.lora", "lora2.weight"),
        [(None, None, None), (0.5, None, None), (0.3, "sandbox-glow", 0.5)]),
    "each LoRA by its number": ("txt2img", {**TEXT, "lora": ["sandbox-ink", "sandbox-glow"]},
        {"lora_weight_1": [0, 1], "lora_weight_2": [0.5]},
        ("lora.lora", "lora.weight", "lora2.weight"), [("sandbox-ink", 0, 0.5), ("sandbox-ink", 1, 0.5)]),
    "LoRAs by number": ("lora", {**TEXT, "lora_1": "sandbox-ink", "lora_weight": 0.5}, {"lora_2": ["sandbox-glow"]},
        ("lora.lora", "lora2.lora", "lora2.weight"), [("sandbox-ink", "sandbox-glow", 0.5)]),
    "ControlNets by number": ("controlnet",
        {**TEXT, "control_image_1": "shots/a.png", "control_image_2": "shots/b c.png",
            "control_model_1": "sandbox-canny"},
        {"control_model_2": ["sandbox-depth", "sandbox-canny"], "control_end_2": [0.5]},
        ("control.control_model", "control2.control_model", "control2.end_step_percent"),
        [("sandbox-canny", "sandbox-depth", 0.5), ("sandbox-canny", "sandbox-canny", 0.5)]),
    "VAEs": ("txt2img", TEXT, {"vae": [None, "sandbox-vae"]}, ("vae.vae_model",), [None, "sandbox-vae"]),
    "images": ("img2img", IMAGE, {"image": {"images": "shots/*.png"}}, ("source.image",), ["image", "image"]),
    "strengths": ("img2img", IMAGE, {"denoise_strength": [0.2, 0.7]}, ("denoise.denoising_start",), [0.8, 0.3]),
    "ControlNets": ("controlnet", TEXT,
        {"net": {"values": {"canny": {"controls": [CANNY]}, "both": {"controls": [CANNY, DEPTH]}}}},
        ("control.begin_step_percent", "control.end_step_percent", "control2.control_weight"),
        [(0.1, 0.6, None), (0.1, 0.6, 1.5)]),
    "a ControlNet's weight and steps": ("controlnet",
        {**TEXT, "control_image": "shots/a.png", "control.control_model": "sandbox-canny"},
        {"control_weight": [0.2, 1.2], "control.begin_step_percent": [0, 0.4]},
        ("control.control_weight", "control.begin_step_percent"), [(0.2, 0), (0.2, 0.4), (1.2, 0), (1.2, 0.4)]),
    "search and replace": ("txt2img", TEXT, {"colour": {"replace": "red", "with": ["red", "blue"]}},
        ("prompt.prompt",), ["a red fox", "a blue fox"]),
    "dynamic prompts": ("txt2img", TEXT, {"prompt": {"dynamic": "a {red|blue} __animal__", "wildcards": "wild"}},
        ("prompt.prompt",), ["a red cat", "a red dog", "a blue cat", "a blue dog"]),
    "lines of a file": ("txt2img", TEXT, {"prompt": {"lines": "prompts.txt"}}, ("prompt.prompt",), ["a cup", "a jug"]),
    "columns of a file": ("txt2img", TEXT, {"shot": {"csv": "shots.csv", "columns": ["prompt", "seed"]}},
        ("prompt.prompt", "noise.seed"), [("a cup", 3), ("a jug", 4)]),
    "settings": ("txt2img", TEXT, {"look": {"settings": "looks.json"}},
        ("prompt.prompt", "denoise.cfg_scale"), [("soft", 4), ("a red fox", 9)]),
    "zipped": ("txt2img", TEXT, {"zip": {"prompt": ["a", "b"], "seed": [1, 2]}, "variation": ["x", "y"]},
        ("prompt.prompt", "noise.seed"), [("a, x", 1), ("a, y", 1), ("b, x", 2), ("b, y", 2)]),
}  # fmt: skip


@pytest.mark.parametrize("kind", mark_rest_slow(CASES, quick=8))
async def test_values_reach_the_graph_that_was_rendered(kind: str, sandbox: Sandbox, folder: Path) -> None:
    workflow, inputs, axes, addresses, expected = CASES[kind]
    kept = {name: value for name, value in inputs.items() if name not in axes}
    graphs = await _rendered(sandbox, folder, {"workflow": workflow, "inputs": kept, "axes": axes})
    assert _values(graphs, *addresses) == [
        pytest.approx(each) if isinstance(each, float) else each for each in expected
    ]


async def test_boards_are_made_once_and_get_their_images(sandbox: Sandbox, folder: Path) -> None:
    definition = {"workflow": "txt2img", "inputs": TEXT, "axes": {"board": ["one", "two"], "seed": [1, 2]}}
    await _rendered(sandbox, folder, definition)
    boards = {board["board_id"]: board["board_name"] for board in sandbox.images.boards.values()}
    held = [boards[record["board_id"]] for record in sandbox.images.images.values()]
    assert sorted(held) == ["one", "one", "two", "two"]
    assert sorted(boards.values()) == ["one", "two"]


async def test_a_model_is_loaded_once_however_the_axes_stand(sandbox: Sandbox, folder: Path) -> None:
    models = {
        "one": {"model": "sandbox-sd15", "lora": "sandbox-ink"},
        "two": {"model": "sandbox-sd15-b", "lora": "sandbox-ink"},
        "xl": {"model": "sandbox-sdxl", "lora": "sandbox-sdxl-ink"},
    }
    inputs = {name: value for name, value in IMAGE.items() if name != "model"}
    axes = {"denoise_strength": [0.3, 0.7], "lora_weight": [0.2, 0.8], "model": {"values": models}}
    await _rendered(sandbox, folder, {"workflow": "img2img", "inputs": inputs, "axes": axes})
    assert sandbox.workers.model_loads == {"sandbox-sd15": 1, "sandbox-sd15-b": 1, "sandbox-sdxl": 1}
