"""A ComfyUI that says what a test tells it to: the payloads of a real 0.3.75, and the faults that one has.

An item stays in the queue until `finish`, unless it `renders`. What a real server would have on its disk is `files`.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from PIL import Image

OBJECT_INFO: dict[str, Any] = {
    "CheckpointLoaderSimple": {
        "input": {"required": {"ckpt_name": [["tiny-sd.ckpt"], {}]}},
        "output": ["MODEL", "CLIP", "VAE"],
    },
    "LoadImage": {"input": {"required": {"image": [[], {"image_upload": True}]}}, "output": ["IMAGE", "MASK"]},
    "EmptyImage": {
        "input": {
            "required": {
                "width": ["INT", {"default": 8, "min": 1, "max": 64}],
                "color": ["INT", {"default": 0, "min": 0, "max": 16777215}],
            }
        },
        "output": ["IMAGE"],
    },
    "PaintedByModel": {
        "input": {"required": {"model": ["MODEL"], "color": ["INT", {"default": 0, "min": 0, "max": 16777215}]}},
        "output": ["IMAGE"],
    },
    "SaveImage": {
        "input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {"default": "ComfyUI"}]}},
        "output": [],
        "output_node": True,
    },
}


@dataclass
class FakeComfyUI:
    """Its state, and what it is to do wrong."""

    url: str = ""
    pending: dict[str, list[Any]] = field(default_factory=dict)
    history: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    posted: list[dict[str, Any]] = field(default_factory=list)
    interrupted: list[Any] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    sockets: dict[str, web.WebSocketResponse] = field(default_factory=dict)
    answer: Any = None  # what the next POST /prompt answers after queueing: an exception, or (status, body)
    refuse: Any = None  # what POST /prompt answers without queueing: (status, body)
    checkpoints: list[str] = field(default_factory=lambda: ["tiny-sd.ckpt"])
    hangs_up: int = 0  # how many of the next POST /prompt end without an answer
    renders: bool = False  # images of one colour, each as soon as it is asked for
    deadly: int | None = None  # the colour of the image of which it dies: queue and history are gone, files stay
    deaths: int = 0
    died: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))  # released at each death
    at_work: set[asyncio.Task[None]] = field(default_factory=set)

    async def post_prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.posted.append(body)
        if self.hangs_up:
            self.hangs_up -= 1
            assert request.transport is not None
            request.transport.close()
        if self.refuse is not None:
            return web.json_response(self.refuse[1], status=self.refuse[0])
        if any("filename_prefix" not in node["inputs"] for node in body["prompt"].values() if _saves(node)):
            error = {"type": "required_input_missing", "extra_info": {"input_name": "filename_prefix"}}
            errors = {"out": {"errors": [error], "class_type": "SaveImage"}}
            return web.json_response({"error": {"type": "invalid"}, "node_errors": errors}, status=400)
        self.pending[body["prompt_id"]] = [1, body["prompt_id"], body["prompt"], body.get("extra_data", {}), ["out"]]
        answer, self.answer = self.answer, None
        if isinstance(answer, type):
            assert request.transport is not None
            request.transport.close()
        if isinstance(answer, tuple):
            return web.json_response(answer[1], status=answer[0])
        if self.renders:
            work = asyncio.create_task(self._work(body["prompt_id"]))
            self.at_work.add(work)
            work.add_done_callback(self.at_work.discard)
        return web.json_response({"prompt_id": body["prompt_id"], "number": 1, "node_errors": {}})

    async def _work(self, prompt_id: str) -> None:
        colour = self.pending[prompt_id][2]["a"]["inputs"]["color"] if prompt_id in self.pending else None
        if colour == self.deadly:
            self.deaths += 1
            self.died.release()
            self.pending.clear()
            self.history.clear()
            for socket in list(self.sockets.values()):
                await socket.close()
        elif colour is not None:
            await self.finish(prompt_id)

    async def finish(self, prompt_id: str, *, tell: bool = True, keep: bool = True) -> None:
        """Render an item: its file is there, its history too (unless not `keep`), and its client hears of it."""
        entry = self.pending.pop(prompt_id)
        outputs: dict[str, Any] = {}
        for node, drawn in entry[2].items():
            if _saves(drawn):
                name = f"{drawn['inputs']['filename_prefix']}_00001_.png"
                painted = _paint(entry[2]["a"]["inputs"]["color"]) if self.renders else b"\x89PNG\r\n\x1a\n image"
                self.files[name] = painted
                folder, _, file = name.rpartition("/")
                outputs[node] = {"images": [{"filename": file, "subfolder": folder, "type": "output"}]}
        messages = [["execution_start", {"timestamp": 1000}], ["execution_success", {"timestamp": 2000}]]
        if keep:
            self.history[prompt_id] = {
                "prompt": [1, prompt_id, entry[2], {"create_time": 500}, ["out"]],
                "outputs": outputs,
                "status": {"status_str": "success", "completed": True, "messages": messages},
            }
        if tell:
            await self.tell("executing", {"node": None, "prompt_id": prompt_id})

    async def tell(self, kind: str, data: dict[str, Any]) -> None:
        for socket in self.sockets.values():
            await socket.send_str(json.dumps({"type": kind, "data": data}))

    async def view(self, request: web.Request) -> web.Response:
        name = f"{request.query['subfolder']}/{request.query['filename']}"
        if name not in self.files:
            raise web.HTTPNotFound
        content = self.files[name]
        headers = {"Content-Length": str(len(content)), "Content-Type": "image/png"}
        return web.Response(body=content, headers=headers)

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        name = form["image"].filename  # type: ignore[union-attr]
        self.uploads.append(name)
        return web.json_response({"name": name, "subfolder": form["subfolder"], "type": "input"})

    async def queue(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            for prompt_id in (await request.json())["delete"]:
                self.deleted.append(prompt_id)
                self.pending.pop(prompt_id, None)
        return web.json_response({"queue_running": [], "queue_pending": list(self.pending.values())})

    async def listen(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets[request.query["clientId"]] = socket
        async for _ in socket:
            pass
        self.sockets.pop(request.query["clientId"], None)
        return socket


def _paint(colour: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), f"#{colour:06x}").save(content, "PNG")
    return content.getvalue()


def _saves(node: dict[str, Any]) -> bool:
    return bool(node["class_type"] == "SaveImage")


@asynccontextmanager
async def fake_comfyui() -> AsyncIterator[FakeComfyUI]:
    """The fake, served on a port of its own."""
    fake = FakeComfyUI()

    @web.middleware
    async def note(request: web.Request, handler: Any) -> Any:
        fake.headers.append(dict(request.headers))
        return await handler(request)

    async def interrupt(request: web.Request) -> web.Response:
        fake.interrupted.append((await request.json()).get("prompt_id"))
        return web.Response()

    async def history(request: web.Request) -> web.Response:
        name = request.match_info["id"]
        return web.json_response({name: fake.history[name]} if name in fake.history else {})

    async def stats(_: web.Request) -> web.Response:
        return web.json_response({"system": {"comfyui_version": "0.3.75"}, "devices": []})

    async def nodes(_: web.Request) -> web.Response:
        loader = OBJECT_INFO["CheckpointLoaderSimple"]
        offered = {**loader, "input": {"required": {"ckpt_name": [fake.checkpoints, {}]}}}
        return web.json_response({**OBJECT_INFO, "CheckpointLoaderSimple": offered})

    app = web.Application(middlewares=[note])
    app.router.add_get("/system_stats", stats)
    app.router.add_get("/object_info", nodes)
    app.router.add_post("/prompt", fake.post_prompt)
    app.router.add_route("*", "/queue", fake.queue)
    app.router.add_post("/interrupt", interrupt)
    app.router.add_get("/history/{id}", history)
    app.router.add_get("/view", fake.view)
    app.router.add_post("/upload/image", fake.upload)
    app.router.add_get("/ws", fake.listen)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        for socket in list(fake.sockets.values()):
            await socket.close()
        await runner.cleanup()
