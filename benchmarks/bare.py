"""The least a client can do, to measure sweep against: aiohttp alone, no record, no keys, nothing verified."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import socketio

AT_ONCE = 8  # downloads, as sweep has them
QUEUE = "/api/v1/queue/default"


@dataclass(frozen=True, slots=True)
class Bare:
    """Images brought, and seconds and processor seconds they took."""

    images: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds


def download(url: str, folder: Path, loop: str = "asyncio") -> Bare:
    """Every image the server has: GET, write, fsync."""
    return anyio.run(_download, url, folder, backend_options={"use_uvloop": loop == "uvloop"})


def render(url: str, graphs: list[dict[str, Any]], folder: Path, in_flight: int) -> Bare:
    """Each graph as an item of its own: POST, wait for its event, GET the item, GET the image, write, fsync."""
    return anyio.run(_render, url, graphs, folder, in_flight)


async def _download(url: str, folder: Path) -> Bare:
    async with aiohttp.ClientSession(url) as session:
        async with session.get("/api/v1/images/", params={"limit": 1_000_000}) as answer:
            names = [image["image_name"] for image in (await answer.json())["items"]]
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> None:
            async with slots:
                await _bring(session, name, folder)

        begun, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*map(one, names))
        return Bare(len(names), time.perf_counter() - begun, time.process_time() - used)


async def _render(url: str, graphs: list[dict[str, Any]], folder: Path, in_flight: int) -> Bare:
    waiting: dict[str, asyncio.Event] = {}
    socket = socketio.AsyncClient()

    async def told(data: dict[str, Any]) -> None:
        if data["status"] in {"completed", "failed", "canceled"} and data["batch_id"] in waiting:
            waiting[data["batch_id"]].set()

    socket.on("queue_item_status_changed", told)
    await socket.connect(url, transports=["websocket"], socketio_path="/ws/socket.io")
    await socket.emit("subscribe_queue", {"queue_id": "default"})
    slots, downloads = asyncio.Semaphore(in_flight), asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession(url) as session:

        async def one(graph: dict[str, Any]) -> None:
            async with slots:
                batch = str(uuid.uuid4())
                over = waiting[batch] = asyncio.Event()
                body = {"batch": {"batch_id": batch, "graph": graph, "runs": 1}}
                async with session.post(f"{QUEUE}/enqueue_batch", json=body) as answer:
                    item = (await answer.json())["item_ids"][0]
                await over.wait()
            async with session.get(f"{QUEUE}/i/{item}") as answer:
                results = (await answer.json())["session"]["results"]
            name = next(result["image"]["image_name"] for result in results.values() if "image" in result)
            async with downloads:
                await _bring(session, name, folder)

        begun, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*map(one, graphs))
        done = Bare(len(graphs), time.perf_counter() - begun, time.process_time() - used)
    await socket.disconnect()
    return done


async def _bring(session: aiohttp.ClientSession, name: str, folder: Path) -> None:
    async with session.get(f"/api/v1/images/i/{name}/full") as answer:
        data = await answer.read()
    await asyncio.to_thread(_write, folder / name, data)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
