"""Has a real server render one graph, or say what it has against it."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from PIL import Image

from sweep.servers import ItemEnded, Server, Submission
from sweep.workflow import Address, Graph, Json, ModelRef, Ref, write_graph

LIMIT = 10_000_000


async def rendered(
    server: Server, graph: Graph, outputs: tuple[str, ...], images: Mapping[str, Path] | None = None
) -> bytes:
    """The pixels of the first output's image. Fails where the item does, with the server's own words."""
    submission = Submission(
        batch_id=str(uuid.uuid4()),
        graph=graph,
        outputs=outputs,
        destination="sweep-tests",
        images=images or {},
        intermediate=True,
    )
    ticket = await server.submit(submission)
    async with aclosing(server.hear(ticket)) as events:  # type: ignore[type-var]
        async for event in events:
            if isinstance(event, ItemEnded):
                assert event.status == "completed", event.error
                content = await server.fetch(event.images[0], LIMIT)
    with Image.open(io.BytesIO(content)) as image:
        return image.convert("RGB").tobytes()


def ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def any_model(reference: Ref) -> Json:
    assert isinstance(reference, ModelRef)
    return {"key": "k", "hash": "h", "name": reference.name, "base": reference.base, "type": reference.type}


def refusal(url: str, graph: Graph) -> str:
    """What the server says against a graph; empty where it takes it. Nothing is queued: there are no values."""
    some = Address(next(iter(graph.nodes)), "is_intermediate")
    data = [[{"node_path": some.node, "field_name": some.field, "items": []}]]
    batch = {"graph": write_graph(graph, any_model), "runs": 1, "data": data}
    try:
        answer = ask(f"{url}/api/v1/queue/sweep-check/enqueue_batch", {"batch": batch})
    except urllib.error.HTTPError as error:
        return error.read().decode()
    assert answer["enqueued"] == 0
    return ""
