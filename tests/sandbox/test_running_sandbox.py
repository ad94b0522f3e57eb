"""The sandbox as a whole: workers, pauses, models, counters, texts in images, and who it says it is."""

from __future__ import annotations

import asyncio
import io
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from sweep.errors import UsageError
from sweep.sandbox.api_routes import sandbox_server, serve_sandbox
from sweep.sandbox.image_library import with_text
from sweep.sandbox.running_sandbox import Sandbox
from sweep.sandbox.sandbox_options import SandboxOptions
from tests.sandbox.conftest import served, until
from tests.support.wire import API, Wire, add, edge, graph, node, png, txt2img


def _images(item: dict[str, Any]) -> list[str]:
    results = item["session"]["results"].values()
    return [result["image"]["image_name"] for result in results if result["type"] == "image_output"]


def _read_texts(file: bytes) -> dict[Any, Any]:
    with Image.open(io.BytesIO(file)) as image:
        image.load()
        return image.info


def _keyed(wire: Wire, key: str, seed: int) -> dict[str, Any]:
    posted = txt2img(wire.model)
    posted["nodes"]["no"]["seed"] = seed
    posted["nodes"]["meta"] = node("meta", "core_metadata", sweep_key=key)
    posted["edges"].append(edge("meta.metadata > l.metadata"))
    return posted


async def test_sandbox_marks_itself_as_a_sandbox() -> None:
    async with served() as (_, wire):
        reply = await wire.call("GET", f"{API}/app/version")
        assert reply.body == {"version": "6.14.2", "sandbox": True}


async def test_renders_are_counted_by_the_key_in_the_metadata() -> None:
    async with served() as (sandbox, wire):
        for key, seed in (("one", 1), ("two", 2), ("one", 1)):
            assert (await wire.run(_keyed(wire, key, seed)))["status"] == "completed"
        assert sandbox.renders == {"one": 2, "two": 1}
        assert (await wire.call("GET", "/sandbox/renders")).body == {"one": 2, "two": 1}
        assert sandbox.requests["POST /api/v1/queue/{queue_id}/enqueue_batch"] == 3


async def test_image_file_carries_graph_and_metadata() -> None:
    async with served() as (_, wire):
        item = await wire.run(_keyed(wire, "k", 5))
        (name,) = _images(item)
        file = (await wire.call("GET", f"{API}/images/i/{name}/full")).data
        found = _read_texts(file)
        assert json.loads(found["invokeai_metadata"])["sweep_key"] == "k"
        assert json.loads(found["invokeai_graph"])["nodes"]["no"]["seed"] == 5


async def test_workers_render_at_once() -> None:
    options = SandboxOptions(workers=3, step_latency=60)
    async with served(options) as (_, wire), wire.events() as heard:
        await wire.enqueue(txt2img(wire.model), runs=5)
        await until(lambda: sum(data.get("status") == "in_progress" for _, data in heard) == 3)
        counts = (await wire.queue("GET", "status")).body["queue"]
        assert (counts["in_progress"], counts["pending"]) == (3, 2)
        devices = (await wire.call("GET", f"{API}/app/generation_device_options")).body
        assert len(devices) == 3


async def test_cancelling_interrupts_an_items_latency() -> None:
    async with served(SandboxOptions(latency=60)) as (sandbox, wire):
        reply = await wire.enqueue(add())
        (item_id,) = reply.body["item_ids"]
        await until(lambda: sandbox.queue.items[item_id].status == "in_progress")
        await wire.clear()
        assert sandbox.queue.items[item_id].status == "canceled"
        await until(lambda: sandbox.workers.busy == 0)


async def test_server_stalls_while_it_collects_garbage() -> None:
    async with served(SandboxOptions(gc_pause=0.05)) as (sandbox, wire), wire.events() as heard:
        await wire.enqueue(add())
        await until(lambda: any(data.get("status") == "in_progress" for _, data in heard))
        assert sandbox.workers.garbage.locked()
        assert (await wire.queue("GET", "status")).status == 200
        assert not sandbox.workers.garbage.locked()


async def test_unknown_node_type_fails_by_name() -> None:
    async with served() as (_, wire):
        item = await wire.run(graph(node("x", "string_split", string="a,b", delimiter=",")))
        assert item["status"] == "failed"
        assert "string_split" in item["error_message"]


async def test_error_in_a_node_fails_its_item_only() -> None:
    async with served() as (_, wire):
        posted = graph(node("d", "l2i", latents={"latents_name": "nobody"}, vae={"vae": {}}))
        assert (await wire.run(posted))["error_type"] == "KeyError"
        assert (await wire.run(graph(node("d", "div", a=1, b=0))))["error_type"] == "ZeroDivisionError"
        assert (await wire.run(add()))["status"] == "completed"


async def test_unknown_flux_model_fails_as_on_invokeai() -> None:
    async with served() as (_, wire):
        unknown = {**wire.model, "key": "no"}
        parts = dict.fromkeys(("model", "t5_encoder_model", "clip_embed_model", "vae_model"), unknown)
        item = await wire.run(graph(node("m", "flux_model_loader", **parts)))
        assert (item["error_type"], item["error_message"]) == ("ValueError", "Unknown model: no")


async def test_item_that_cannot_be_saved_fails_and_the_next_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served() as (sandbox, wire):

        async def refuse(_items: Any) -> None:
            monkeypatch.undo()
            raise sqlite3.OperationalError("database or disk is full")

        await wire.queue("PUT", "processor/pause")
        reply = await wire.enqueue(add(), runs=2)
        monkeypatch.setattr(sandbox.store, "save_items", refuse)
        await wire.queue("PUT", "processor/resume")
        first, second = sorted(reply.body["item_ids"])
        assert (await wire.ended(first))["error_message"] == "database or disk is full"
        assert (await wire.ended(second))["status"] == "completed"


async def test_plain_images_are_alike() -> None:
    async with served(SandboxOptions(paint=False)) as (sandbox, wire):
        names = [_images(item)[0] for item in await wire.run_seeds(range(20))]
        assert len(set(names)) == 20
        files = [(await wire.call("GET", f"{API}/images/i/{name}/full")).data for name in names[:2]]
        assert files[0] != files[1]
        assert all(250_000 < len(file) < 400_000 for file in files)
        assert sum(sandbox.renders.values()) == 20


async def test_img2img_with_two_passes_renders() -> None:
    async with served() as (_, wire):
        upload = (await wire.upload(png(90))).body
        posted = txt2img(wire.model, denoising_start=0.4)
        posted["nodes"]["i"] = node("i", "i2l", image={"image_name": upload["image_name"]})
        posted["nodes"]["d2"] = {**posted["nodes"]["d"], "id": "d2", "denoising_start": 0.8}
        posted["edges"] = [one for one in posted["edges"] if one["destination"]["node_id"] != "l"]
        posted["edges"] += [
            *(edge(text) for text in ("m.vae > i.vae", "i.latents > d.latents", "d.latents > d2.latents")),
            *(edge(text) for text in ("d2.latents > l.latents", "m.vae > l.vae", "m.unet > d2.unet")),
            *(edge(text) for text in ("no.noise > d2.noise", "p.conditioning > d2.positive_conditioning")),
            edge("n.conditioning > d2.negative_conditioning"),
        ]
        item = await wire.run(posted)
        assert item["status"] == "completed", item.get("error_message")
        assert len(_images(item)) == 1


async def test_noise_of_another_size_fails_as_on_invokeai() -> None:
    async with served() as (_, wire):
        upload = (await wire.upload(png(90, side=128))).body
        posted = txt2img(wire.model, denoising_start=0.4)
        posted["nodes"]["i"] = node("i", "i2l", image={"image_name": upload["image_name"]})
        posted["edges"] += [edge("m.vae > i.vae"), edge("i.latents > d.latents")]
        item = await wire.run(posted)
        assert item["status"] == "failed"
        assert "Incompatible 'noise' and 'latents' shapes" in item["error_message"]


async def test_taken_port_is_a_usage_error() -> None:
    async with sandbox_server() as sandbox:
        taken = int(sandbox.url.rsplit(":", 1)[1])
        with pytest.raises(UsageError, match=str(taken)):
            async with sandbox_server(SandboxOptions(port=taken)):
                raise AssertionError("two servers on one port")


async def test_unknown_model_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a model of the sandbox"):
        async with sandbox_server(SandboxOptions(models=("sd1",), root=tmp_path / "root")):
            raise AssertionError("a sandbox without models")
    assert not await asyncio.to_thread((tmp_path / "root").exists)


async def test_serve_sandbox_announces_its_url_and_ends_when_cancelled() -> None:
    announced: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve_sandbox(SandboxOptions(), announced.set_result))
    url = await announced
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
    async with aiohttp.ClientSession() as session, session.get(f"{url}{API}/app/version") as response:
        assert response.status == 200
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_temporary_folder_is_removed() -> None:
    async with served() as (sandbox, wire):
        await wire.run(txt2img(wire.model))
        folder = _folder(sandbox)
        assert await asyncio.to_thread(folder.exists)
    assert not await asyncio.to_thread(folder.exists)


def _folder(sandbox: Sandbox) -> Path:
    assert sandbox._temporary is not None
    return Path(sandbox._temporary.name)


def test_png_texts_round_trip() -> None:
    said = {"plain": "latin", "wide": "日本 ≥ 1"}
    assert _read_texts(with_text(png(), said)) == said
