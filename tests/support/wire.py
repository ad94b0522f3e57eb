"""Raw HTTP and socket of InvokeAI's queue protocol, without any of our client: for cases that hold the sandbox to the
real server.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import socketio
from PIL import Image

API = "/api/v1"
TERMINAL = ("completed", "failed", "canceled")
PAUSE = 0.1  # seconds between two looks at an item
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: Any
    headers: dict[str, str]
    data: bytes

    @property
    def faults(self) -> list[tuple[str, list[Any]]]:
        """Type and place of each validation error."""
        return [(entry["type"], entry["loc"]) for entry in self.body["detail"]]


@dataclass(slots=True)
class Wire:
    """One server, and a queue of one's own on it (so that nobody else's items are seen)."""

    url: str
    session: aiohttp.ClientSession
    model: dict[str, Any]
    queue_id: str = field(default_factory=lambda: f"wire-{uuid.uuid4().hex[:8]}")
    batches: list[str] = field(default_factory=list)  # ids of those it enqueued

    async def call(self, method: str, path: str, **more: Any) -> Reply:
        async with self.session.request(method, self.url + path, **more) as response:
            data = await response.read()
            is_json = "json" in response.headers.get("Content-Type", "")
            body = await response.json() if is_json else None
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, body, headers, data)

    async def queue(self, method: str, path: str, **more: Any) -> Reply:
        return await self.call(method, f"{API}/queue/{self.queue_id}/{path}", **more)

    async def enqueue(self, graph: Any, data: Any = None, *, prepend: bool = False, **batch: Any) -> Reply:
        batch = {"batch_id": str(uuid.uuid4()), "graph": graph, "data": data, "runs": 1, **batch}
        self.batches.append(batch["batch_id"])
        return await self.queue("POST", "enqueue_batch", json={"prepend": prepend, "batch": batch})

    async def clear(self) -> None:
        """Cancel what it enqueued and has not ended."""
        await self.queue("PUT", "cancel_by_batch_ids", json={"batch_ids": self.batches})

    async def ended(self, item_id: int) -> dict[str, Any]:
        """The item, when it has ended."""
        async with asyncio.timeout(PATIENCE):
            while True:
                reply = await self.queue("GET", f"i/{item_id}")
                assert reply.status == 200, reply
                if reply.body["status"] in TERMINAL:
                    found: dict[str, Any] = reply.body
                    return found
                await asyncio.sleep(PAUSE)

    async def run(self, graph: Any, **batch: Any) -> dict[str, Any]:
        """One item of the graph, ended."""
        reply = await self.enqueue(graph, **batch)
        assert reply.status == 200, reply
        return await self.ended(reply.body["item_ids"][0])

    async def run_seeds(self, seeds: Sequence[int]) -> list[dict[str, Any]]:
        """Items of `txt2img` with these seeds, ended."""
        ids = []
        for seed in seeds:
            posted = txt2img(self.model)
            posted["nodes"]["no"]["seed"] = seed
            ids += (await self.enqueue(posted)).body["item_ids"]
        return [await self.ended(item_id) for item_id in ids]

    async def upload(self, data: bytes, kind: str = "image/png", **query: str) -> Reply:
        form = aiohttp.FormData()
        form.add_field("file", data, filename="ours.png", content_type=kind)
        params = {"image_category": "user", "is_intermediate": "false", **query}
        return await self.call("POST", f"{API}/images/upload", data=form, params=params)

    @contextlib.asynccontextmanager
    async def events(self) -> AsyncIterator[list[tuple[str, dict[str, Any]]]]:
        """What the socket tells while the block lasts."""
        heard: list[tuple[str, dict[str, Any]]] = []
        client = socketio.AsyncClient(reconnection=False, handle_sigint=False)

        async def note(event: str, data: Any) -> None:
            heard.append((event, data))

        client.on("*", note)
        await client.connect(self.url, socketio_path="/ws/socket.io", transports=["websocket"], wait_timeout=10)
        try:
            await client.emit("subscribe_queue", {"queue_id": self.queue_id})
            yield heard
        finally:
            await client.disconnect()

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """The worker takes nothing while the block lasts; what is left in our queue then is cancelled."""
        assert (await self.queue("PUT", "processor/pause")).status == 200
        try:
            yield
        finally:
            await self.clear()
            await self.queue("PUT", "processor/resume")


@contextlib.asynccontextmanager
async def wire(url: str) -> AsyncIterator[Wire]:
    """A wire to the server at `url`, with its first Stable Diffusion 1 model."""
    async with aiohttp.ClientSession() as session:
        found = Wire(url, session, {})
        listed = (await found.call("GET", "/api/v2/models/")).body["models"]
        record = next(model for model in listed if (model["type"], model["base"]) == ("main", "sd-1"))
        found.model = {name: record[name] for name in ("key", "hash", "name", "base", "type")}
        try:
            yield found
        finally:
            await found.clear()


def graph(*nodes: dict[str, Any], edges: Sequence[str] = ()) -> dict[str, Any]:
    """A graph from nodes and edges written `a.out > b.in`."""
    return {"id": "g", "nodes": {node["id"]: node for node in nodes}, "edges": [edge(text) for text in edges]}


def edge(text: str) -> dict[str, Any]:
    source, _, destination = text.partition(" > ")
    ends = [end.partition(".") for end in (source, destination)]
    return {
        name: {"node_id": node, "field": field_}
        for name, (node, _, field_) in zip(("source", "destination"), ends, strict=True)
    }


def node(id_: str, type_: str, **fields: Any) -> dict[str, Any]:
    return {"id": id_, "type": type_, **fields}


def datum(node_path: str, field_name: str, items: Sequence[Any]) -> dict[str, Any]:
    return {"node_path": node_path, "field_name": field_name, "items": list(items)}


def add(**fields: Any) -> dict[str, Any]:
    """The smallest graph with two numbers."""
    return graph(node("a", "add", **{"a": 0, "b": 0, **fields}), node("s", "string", value="x"))


def txt2img(model: dict[str, Any], steps: int = 1, **fields: Any) -> dict[str, Any]:
    """Stable Diffusion 1 at 64 by 64."""
    return graph(
        node("m", "main_model_loader", model=model),
        node("p", "compel", prompt="a cat"),
        node("n", "compel", prompt=""),
        node("no", "noise", seed=1, width=64, height=64),
        node("d", "denoise_latents", **{"steps": steps, "cfg_scale": 7.5, "scheduler": "euler", **fields}),
        node("l", "l2i", use_cache=False, is_intermediate=False),
        edges=(
            "m.unet > d.unet",
            "m.clip > p.clip",
            "m.clip > n.clip",
            "p.conditioning > d.positive_conditioning",
            "n.conditioning > d.negative_conditioning",
            "no.noise > d.noise",
            "d.latents > l.latents",
            "m.vae > l.vae",
        ),
    )


def png(level: int = 0, side: int = 64) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (side, side), (level, 90, 60)).save(data, "PNG")
    return data.getvalue()
