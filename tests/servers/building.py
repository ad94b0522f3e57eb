"""Small graphs, submissions and queue answers for the clients' tests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweep.servers.base import Submission
from sweep.workflow import Graph, ImageRef, ModelRef, Node
from tests.servers.fake import Fake

Q = "/api/v1/queue/default"
BATCH = "b-completed"
PLAIN = Graph.of([Node("a", "add", {"a": 1}), Node("l", "l2i")])
MODEL = ModelRef("tiny-sd", "sd-1")


def submission(
    graph: Graph = PLAIN, *, batch_id: str = BATCH, images: Mapping[str, Path] | None = None, **more: Any
) -> Submission:
    return Submission(batch_id=batch_id, graph=graph, outputs=("l",), destination="run", images=images or {}, **more)


def enqueued(*ids: int, count: int = 1) -> dict[str, Any]:
    return {"queue_id": "default", "enqueued": count, "requested": 1, "priority": 0, "item_ids": list(ids)}


def takes_items(fake: Fake, *ids: int) -> None:
    """Each POST is one item; without ids, 1, 2, 3 …"""
    given = iter(ids or range(1, 10_000))
    fake.on("POST", f"{Q}/enqueue_batch", lambda *_: enqueued(next(given)))


def summary(item_id: int, status: str, batch_id: str = BATCH) -> dict[str, Any]:
    return {"item_id": item_id, "status": status, "batch_id": batch_id, "started_at": None}


def models(*entries: tuple[str, str, str, str]) -> dict[str, Any]:
    """Of key, name, base and type."""
    return {
        "models": [dict(zip(("key", "name", "base", "type"), entry, strict=True)) | {"hash": "h"} for entry in entries]
    }


def image(folder: Path, content: bytes = b"an image") -> tuple[ImageRef, dict[str, Path]]:
    """A file, the reference to it, and where it lies."""
    path = folder / "in put.png"
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return ImageRef(sha256), {sha256: path}
