"""Clients as they are commonly written, to measure against: one item after the other, or all at once, with polling."""

from __future__ import annotations

import json
import time
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

QUEUE = "/api/v1/queue/default"
Graph = dict[str, Any]


def one_by_one(url: str, graphs: Sequence[Graph], folder: Path, pause: float) -> float:
    """Enqueue, ask every `pause` seconds whether it is complete, download, then the next; the seconds it took."""
    begun = time.perf_counter()
    for graph in graphs:
        item = _enqueue(url, graph)
        while (told := ask(f"{url}{QUEUE}/i/{item}"))["status"] not in {"completed", "failed", "canceled"}:
            time.sleep(pause)
        _download(url, told, folder)
    return time.perf_counter() - begun


def all_at_once(url: str, graphs: Sequence[Graph], folder: Path, pause: float) -> float:
    """Enqueue everything, ask every `pause` seconds for what is not there yet, download as it comes."""
    begun = time.perf_counter()
    waiting = [_enqueue(url, graph) for graph in graphs]
    while waiting:
        time.sleep(pause)
        left = []
        for position, item in enumerate(waiting):
            told = ask(f"{url}{QUEUE}/i/{item}")
            if told["status"] not in {"completed", "failed", "canceled"}:
                left = waiting[position:]  # they are rendered in this order
                break
            _download(url, told, folder)
        waiting = left
    return time.perf_counter() - begun


def fetch_submitted(url: str, newest: int, shift: int) -> list[Graph]:
    """Get the graphs of the last `newest` items, their seeds shifted so that no cache knows them."""
    ids = ask(f"{url}{QUEUE}/item_ids")["item_ids"][:newest]
    graphs = [ask(f"{url}{QUEUE}/i/{item}")["session"]["graph"] for item in ids]
    for graph in graphs:
        graph["id"] = str(uuid.uuid4())
        for node in graph["nodes"].values():
            if node["type"] == "noise":
                node["seed"] += shift
    return graphs


def ask(url: str, body: Any = None) -> Any:
    """Make one call and return its JSON. Raises OSError."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def _enqueue(url: str, graph: Graph) -> int:
    answer = ask(f"{url}{QUEUE}/enqueue_batch", {"batch": {"graph": graph, "runs": 1}})
    return int(answer["item_ids"][0])


def _download(url: str, item: dict[str, Any], folder: Path) -> None:
    session = item["session"]
    outputs = {prepared for prepared, node in session["prepared_source_mapping"].items() if _is_kept(session, node)}
    for prepared in outputs & session["results"].keys():
        name = session["results"][prepared]["image"]["image_name"]
        with urllib.request.urlopen(f"{url}/api/v1/images/i/{name}/full", timeout=120) as answer:
            (folder / name).write_bytes(answer.read())


def _is_kept(session: dict[str, Any], node: str) -> bool:
    return str(session["graph"]["nodes"][node]["type"]) == "l2i"
