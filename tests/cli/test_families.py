"""A workflow of one family: without a server by the packaged nodes, on a server of that family, and on another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from anyio.from_thread import start_blocking_portal

from tests.cli.conftest import Sweep
from tests.support.fake_comfyui import fake_comfyui

SHIPPED = Path(__file__).parents[2] / "experiments"
EXPORT = "photo_restyle.json"


@pytest.fixture
def export(home: Path) -> dict[str, Any]:
    """The shipped export of an editor; its file lies in the working directory."""
    shutil.copy(SHIPPED / EXPORT, home)
    document: dict[str, Any] = json.loads((SHIPPED / EXPORT).read_text(encoding="utf-8"))
    return document


@pytest.fixture
def fake() -> Iterator[str]:
    """The address of a ComfyUI that has four types of nodes and one checkpoint."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(fake_comfyui()) as found:
        yield found.url


def restyle(home: Path, workflow: str = EXPORT, **inputs: Any) -> Path:
    """An experiment with the workflow."""
    given = {name: value for name, value in {"image": "photo.png", **inputs}.items() if value is not None}
    axes = {"steps" if "seed" in inputs else "seed": [1, 2]}
    content = {"name": "restyle", "workflow": workflow, "inputs": given, "axes": axes}
    file = home / "restyle.yaml"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def words(text: str) -> str:
    return " ".join(text.split())


def test_an_export_is_inspected_begun_and_planned_without_a_server(
    sweep: Sweep, home: Path, export: dict[str, Any]
) -> None:
    roles = json.loads(sweep("inspect", EXPORT, "--json").out)["roles"]
    assert {"prompt", "negative_prompt", "image", "denoise_strength", "seed", "steps", "model"} <= set(roles)

    assert sweep("init", EXPORT, "-o", "begun.yaml", "--image", "photo.png").code == 0
    answer = sweep("plan", "begun.yaml")
    assert answer.code == 0, answer.err
    assert "sd_xl_base_1.0.safetensors on ComfyUI (no server was asked" in words(answer.out)

    said = json.loads(sweep("plan", restyle(home, model="my.ckpt"), "--json").out)
    assert (said["points"], said["models"]) == (2, ["my.ckpt"])
    assert said["sets"] == ["10.seed"]  # its ImageScale decides the size, not the image
    assert sweep("plan", restyle(home, width=256)).code == 0


def test_for_chooses_the_family_of_a_workflow_that_has_none(sweep: Sweep, home: Path) -> None:
    answer = sweep("plan", restyle(home, "img2img", prompt="a cup"), "--for", "comfyui")
    assert (answer.code, "on ComfyUI" in words(answer.out)) == (0, True), answer.err
    assert "on the sandbox" in words(sweep("plan", restyle(home, "img2img", prompt="a cup")).out)
    lora = sweep("plan", restyle(home, "lora", prompt="a cup", image=None), "--for", "comfyui")
    assert (lora.code, "needs a LoRA; name one" in words(lora.err)) == (2, True)
    unknown = sweep("plan", restyle(home, "img2img", prompt="a cup"), "--for", "confyui")
    assert (unknown.code, "Did you mean comfyui?" in unknown.err) == (2, True)
    unknown = sweep("plan", restyle(home, "img2img", prompt="a cup"), "--for", "xyz")
    assert (unknown.code, "Known are comfyui and invokeai." in unknown.err) == (2, True)


def test_an_export_without_a_server_is_no_run(sweep: Sweep, home: Path, export: dict[str, Any]) -> None:
    answer = sweep("run", restyle(home))
    assert answer.code == 2
    assert "graph of ComfyUI" in answer.err
    assert "Give the address of a ComfyUI with --server." in words(answer.err)


def test_each_type_of_node_that_is_lacking_is_named(
    sweep: Sweep, home: Path, export: dict[str, Any], fake: str
) -> None:
    answer = sweep("plan", restyle(home), "--server", fake)
    assert answer.code == 2
    for kind in ("CLIPTextEncode", "ImageScale", "VAEEncode", "KSampler", "VAEDecode"):
        assert f"{kind}, which this server does not have" in words(answer.err)

    for at, kind in ((2, "ImpactSwitch"), (3, "FaceDetailer")):  # custom nodes, and no server to ask for them
        export["nodes"][at]["type"] = kind
    (home / "custom.json").write_text(json.dumps(export), encoding="utf-8")
    answer = sweep("plan", restyle(home, "custom.json"))
    assert answer.code == 2
    assert all(kind in answer.err for kind in ("ImpactSwitch", "FaceDetailer"))
    assert "--server asks yours" in answer.err
    assert "--server asks yours" in sweep("inspect", "custom.json").out


def test_a_value_out_of_range_is_told_with_the_range(sweep: Sweep, home: Path, export: dict[str, Any]) -> None:
    for inputs, sentence in (
        ({"denoise_strength": 1.5}, "is 1.5, but must be 0 to 1"),
        ({"steps": 0}, "is 0, but must be at least 1"),
        ({"cfg_scale": 200}, "10.cfg takes 0 to 100, not 200"),
        ({"scheduler": "karas"}, "neither a sampler nor a noise schedule is called 'karas'. Did you mean karras?"),
    ):
        answer = sweep("plan", restyle(home, **inputs))
        assert (answer.code, sentence in words(answer.err)) == (2, True), answer.err


def test_a_missing_checkpoint_is_told_with_near_names(
    sweep: Sweep, home: Path, export: dict[str, Any], fake: str
) -> None:
    answer = sweep("plan", restyle(home, model="tiny-sb"), "--server", fake)
    assert answer.code == 2
    assert "no model named tiny-sb. Did you mean tiny-sd.ckpt?" in words(answer.err)


def test_a_server_of_something_else_is_told(sweep: Sweep, home: Path, export: dict[str, Any]) -> None:
    async def serve() -> tuple[web.AppRunner, str]:
        runner = web.AppRunner(web.Application())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"

    with start_blocking_portal() as portal:
        runner, url = portal.call(serve)
        answer = sweep("run", restyle(home), "--server", url)
        portal.call(runner.cleanup)
    assert answer.code == 3
    assert "Is that an InvokeAI or a ComfyUI?" in words(answer.err)


def test_clean_says_what_a_server_cannot_delete_and_where_it_lies(sweep: Sweep, home: Path) -> None:
    nodes = {
        "a": {"class_type": "EmptyImage", "inputs": {"width": 8, "color": 0}},
        "out": {"class_type": "SaveImage", "inputs": {"images": ["a", 0]}},
    }
    (home / "colours.json").write_text(json.dumps(nodes), encoding="utf-8")
    content = {"name": "colours", "workflow": "colours.json", "axes": {"a.color": [1, 2]}}
    (home / "colours.yaml").write_text(json.dumps(content), encoding="utf-8")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(fake_comfyui()) as fake:
        fake.renders = True
        run = sweep("run", "colours.yaml", "--server", fake.url, "--no-report", "--progress", "none")
        assert run.code == 0, run.err
        answer = sweep("clean", "colours", "--yes")

    assert (answer.code, answer.out, answer.err.count("\n")) == (3, "", 1)
    assert (
        "cannot delete files: what the run left is in its input folder (uploads, in the subfolder sweep)" in answer.err
    )
