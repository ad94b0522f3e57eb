"""The sessions API in both its shapes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import socketio

from sweep.sandbox.api_routes import sandbox_server
from sweep.sandbox.running_sandbox import Sandbox
from sweep.sandbox.sandbox_options import Api, SandboxOptions
from tests.sandbox.conftest import until
from tests.support.wire import Wire, png, txt2img

S = "/api/v1/sessions/"
OLD_MODEL = {"model_name": "sandbox-sd15", "base_model": "sd-1", "model_type": "main"}


@asynccontextmanager
async def served(api: Api) -> AsyncIterator[tuple[Sandbox, Wire]]:
    async with sandbox_server(SandboxOptions(api=api)) as sandbox, aiohttp.ClientSession() as session:
        yield sandbox, Wire(sandbox.url, session, {})


async def ended(wire: Wire, session_id: str) -> dict[str, Any]:
    """The session once all its nodes were executed, or one failed."""
    async with asyncio.timeout(20):
        while True:
            found: dict[str, Any] = (await wire.call("GET", f"{S}{session_id}")).body
            if found.get("is_complete") or found["errors"]:
                return found
            if "is_complete" not in found and set(found["graph"]["nodes"]) <= set(found["executed"]):
                return found
            await asyncio.sleep(0)


async def test_legacy_session_runs_a_bare_graph() -> None:
    async with served("sessions") as (_, wire):
        assert (await wire.call("GET", "/api/v1/app/version")).body["version"] == "3.1.1"
        assert (await wire.call("GET", "/api/v1/queue/default/status")).status == 404
        (listed, *_) = (await wire.call("GET", "/api/v1/models/", params={"model_type": "main"})).body["models"]
        assert {key: listed[key] for key in OLD_MODEL} == OLD_MODEL
        made = await wire.call("POST", S, json=txt2img(OLD_MODEL))
        assert made.status == 200
        assert made.body["graph"]["nodes"]["m"]["model"] == OLD_MODEL
        assert "is_complete" not in made.body
        path = f"{S}{made.body['id']}/invoke"
        assert (await wire.call("PUT", path, params={"all": "true"})).status == 202
        session = await ended(wire, made.body["id"])
        kinds = [result["type"] for result in session["results"].values()]
        assert kinds.count("image_output") == 1
        assert (await wire.call("PUT", path, params={"all": "true"})).status == 400
        assert (await wire.call("GET", f"{S}nobody")).status == 404


async def test_legacy_events_go_to_subscribers() -> None:
    async with served("sessions") as (_, wire):
        heard: list[tuple[str, Any]] = []
        client = socketio.AsyncClient(reconnection=False, handle_sigint=False)

        async def note(event: str, data: Any) -> None:
            heard.append((event, data))

        client.on("*", note)
        await client.connect(wire.url, socketio_path="/ws/socket.io", transports=["websocket"])
        made, other = [(await wire.call("POST", S, json=txt2img(OLD_MODEL, steps=n))).body["id"] for n in (1, 2)]
        await client.call("subscribe", {"session": made})
        for session_id in (other, made):
            await wire.call("PUT", f"{S}{session_id}/invoke", params={"all": "true"})
        await until(lambda: any(event == "graph_execution_state_complete" for event, _ in heard))
        await client.disconnect()
    assert {data["graph_execution_state_id"] for _, data in heard} == {made}
    events = [event for event, _ in heard]
    assert events[-1] == "graph_execution_state_complete"
    assert events.count("invocation_complete") == 6


async def test_legacy_session_names_the_failed_node_and_can_be_cancelled() -> None:
    async with served("sessions") as (_, wire):
        made = (await wire.call("POST", S, json=txt2img({**OLD_MODEL, "model_name": "nobody"}))).body
        assert (await wire.call("DELETE", f"{S}{made['id']}/invoke")).status == 202
        await wire.call("PUT", f"{S}{made['id']}/invoke")
        session = await ended(wire, made["id"])
        (trace,) = session["errors"].values()
        assert "Unknown model" in trace


PORTABLE = {
    "meta": {"version": "3.0.0", "name": "img2img"},
    "nodes": [
        {"id": "load", "type": "load_image", "data": {"image": "photos/ours.png"}},
        {"id": "model", "type": "checkpoint_loader_simple", "data": {"ckpt_name": "any.safetensors"}},
        {"id": "good", "type": "clip_text_encode", "data": {"text": "a lake"}},
        {"id": "bad", "type": "clip_text_encode", "data": {"text": "blurry"}},
        {"id": "enc", "type": "vae_encode", "data": {}},
        {"id": "k", "type": "ksampler", "data": {"seed": 4, "steps": 3, "cfg": 7, "denoise": 0.5}},
        {"id": "dec", "type": "vae_decode", "data": {}},
        {"id": "save", "type": "save_image", "data": {"filename_prefix": "x_"}},
    ],
    "edges": [
        {"source": {"node_id": a, "field": b}, "destination": {"node_id": c, "field": d}}
        for a, b, c, d in (
            ("model", "model", "k", "model"),
            ("model", "clip", "good", "clip"),
            ("model", "clip", "bad", "clip"),
            ("load", "image", "enc", "pixels"),
            ("enc", "latent", "k", "latent_image"),
            ("good", "conditioning", "k", "positive"),
            ("bad", "conditioning", "k", "negative"),
            ("k", "latent", "dec", "samples"),
            ("dec", "image", "save", "images"),
        )
    ],
}


async def test_legacy_session_runs_a_portable_document() -> None:
    async with served("portable") as (_, wire):
        await wire.upload(png(40))
        made = await wire.call("POST", S, json={"graph": PORTABLE})
        assert (made.status, made.body["is_complete"]) == (200, False)
        assert (await wire.call("PUT", f"{S}{made.body['id']}/invoke")).status == 202
        session = await ended(wire, made.body["id"])
        assert session["errors"] == {}
        (image,) = (await wire.call("GET", f"{S}{made.body['id']}/images")).body
        file = await wire.call("GET", f"/api/v1/images/i/{image['image_name']}/full")
        assert file.data[:4] == b"\x89PNG"


@pytest.mark.parametrize("body", [[1], "nodes", 5, {"nodes": [1]}])
async def test_legacy_session_refuses_what_is_no_graph(body: Any) -> None:
    async with served("sessions") as (_, wire):
        assert (await wire.call("POST", S, json=body)).status == 422


@pytest.mark.parametrize("body", [None, {}, {"graph": 5}, {"graph": {"nodes": [{"id": "a", "type": "no_such"}]}}])
async def test_legacy_session_refuses_invalid_documents(body: Any) -> None:
    async with served("portable") as (_, wire):
        assert (await wire.call("POST", S, json=body)).status == 422
