"""A workflow rendered once: images, or the reason why there are none."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread
import pytest
from PIL import Image

from sweep.engine.runner import render
from sweep.errors import DefinitionError, ServerError, VariationError
from sweep.sandbox import FaultInjection, SandboxOptions, sandbox_server
from tests.support.left_out import mark_rest_slow

PORTABLE = Path(__file__).parents[1] / "fixtures" / "portable"
INPUTS = {"prompt": "a cup", "steps": 2, "width": 64, "height": 64}


async def test_the_same_call_again_gives_the_same_files_and_renders_nothing(tmp_path: Path) -> None:
    async with sandbox_server() as sandbox:
        first = await render("txt2img", INPUTS, server=sandbox.url, results=tmp_path)
        again = await render("txt2img", INPUTS, server=sandbox.url, results=tmp_path)
        other = await render("txt2img", {**INPUTS, "prompt": "a jug"}, server=sandbox.url, results=tmp_path)
        assert sum(sandbox.renders.values()) == 2
    assert first == again != other
    assert [path.read_bytes()[:4] for path in (*first, *other)] == [b"\x89PNG"] * 2


async def test_several_calls_at_once_give_each_its_images(tmp_path: Path) -> None:
    """Those that share a folder take turns; equal ones render once."""
    images: dict[str, tuple[Path, ...]] = {}

    async def make(prompt: str, call: str) -> None:
        inputs = {**INPUTS, "prompt": prompt}
        images[call] = await render("txt2img", inputs, server=sandbox.url, results=tmp_path)

    async with sandbox_server() as sandbox:
        async with anyio.create_task_group() as group:
            for call, prompt in {"a": "a cup", "b": "a jug", "c": "a cup"}.items():
                group.start_soon(make, prompt, call)
        assert sum(sandbox.renders.values()) == 2
    assert images["a"] == images["c"] != images["b"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for paths in images.values() for path in paths)


@pytest.mark.parametrize("api", mark_rest_slow(["queue", "sessions", "portable"]))
async def test_portable_documents_run_verbatim_on_servers_of_every_age(
    api: Literal["queue", "sessions", "portable"], tmp_path: Path
) -> None:
    for name in ("text_to_image", "image_to_image"):
        shutil.copy(PORTABLE / f"{name}.json", tmp_path)
    await anyio.to_thread.run_sync(Image.linear_gradient("L").resize((64, 64)).save, tmp_path / "input.jpg")
    async with sandbox_server(SandboxOptions(api=api)) as sandbox:
        for name in ("text_to_image", "image_to_image"):
            (image,) = await render(tmp_path / f"{name}.json", server=sandbox.url, results=tmp_path, name=name)
            assert image.read_bytes().startswith(b"\x89PNG")


async def test_an_image_that_cannot_be_rendered_is_an_error_and_the_next_call_tries_again(tmp_path: Path) -> None:
    async with sandbox_server(SandboxOptions(faults=FaultInjection(fail_rate=1.0))) as sandbox:
        with pytest.raises(VariationError):
            await render("txt2img", INPUTS, server=sandbox.url, results=tmp_path)
        sandbox.faults = FaultInjection()
        (image,) = await render("txt2img", INPUTS, server=sandbox.url, results=tmp_path)
    assert image.parent.parent == tmp_path / "once"


async def test_what_is_wrong_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    async with sandbox_server() as sandbox:
        with pytest.raises(DefinitionError, match=r"1\.2"):
            await render("txt2img", {**INPUTS, "denoise_strength": 1.2}, server=sandbox.url, results=tmp_path)
        assert sandbox.requests["POST /api/v1/queue/{queue_id}/enqueue_batch"] == 0
    with pytest.raises(ServerError):
        await render("txt2img", INPUTS, server=sandbox.url, results=tmp_path)
