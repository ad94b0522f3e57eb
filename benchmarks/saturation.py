"""How near one client keeps many servers to what they can do.

Sandboxes that take 200 ms an item, each in a process of its own, serving a small image. The ideal is an image each
200 ms from each of them. Because the servers themselves need the cores here, a second ideal is measured in the same
run: the same items put into every server's queue beforehand, nobody listening, until the queues are empty.
"""

from __future__ import annotations

import json
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from benchmarks.processes import in_process, sandboxes
from benchmarks.rendering import definition, render
from sweep.sandbox import SandboxOptions

NAME = "saturation"
EACH = 30  # images a server
QUEUE = "/api/v1/queue/default"
SIDE = 64  # pixels
MANY = (200,) * 64  # milliseconds an item
FEWER = (200,) * 16
UNEQUAL = (100, 150, 200, 250, 300, 400, 600, 800)
LOOPS = ("asyncio", "uvloop")


def measure() -> list[Figure]:
    """64 and 16 equal servers, and 8 of unequal speed."""
    return [
        *_figures("64 servers of 200 ms", MANY, 0.97),
        *_figures("16 servers of 200 ms", FEWER, 0.97),
        *_figures("8 servers of 100 to 800 ms", UNEQUAL, 0.95),
    ]


def _figures(name: str, latencies: Sequence[int], goal: float) -> list[Figure]:
    options = [SandboxOptions(paint=False, plain_side=SIDE, latency=ms / 1000) for ms in latencies]
    ideal = sum(1000 / ms for ms in latencies)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        with sandboxes([replace(option, latency=0) for option in options[:1]]) as urls:
            in_process(render, definition("one", 1), urls, root)
            graph = _graph(urls[0])
        with sandboxes(options) as urls:
            images = round(ideal * EACH * max(latencies) / 1000)
            run = in_process(render, definition("many", images), urls, root, {"downloads": 16}, _loop()).value
        with sandboxes(options) as urls:
            alone = _preload(urls, latencies, graph, images)
    steady = _steady(run.finished, max(latencies) / 1000)
    cpu = 1000 * run.cpu / images
    return [
        _share(f"{name}: of the nominal ideal of {ideal:.0f}/s", steady / ideal, goal),
        _share(f"{name}: of what they do with full queues and no client", steady / alone, goal),
        Figure(benchmark=NAME, name=f"{name}: rate", value=steady, unit="images/s"),
        Figure(benchmark=NAME, name=f"{name}: rate with full queues and no client", value=alone, unit="images/s"),
        Figure(benchmark=NAME, name=f"{name}: processor time of the client", value=cpu, unit="ms/image"),
    ]


def _share(name: str, value: float, goal: float) -> Figure:
    return Figure(benchmark=NAME, name=name, value=value, goal=goal, more=True)


def _loop() -> str:
    from sweep.cli.run import choose_backend

    return LOOPS[choose_backend()["use_uvloop"]]


def _steady(finished: Sequence[float], edge: float) -> float:
    """Images a second in the middle of a run: without the first items' way, and the end when servers run out."""
    begin, end = 2 * edge, finished[-1] - 2 * edge
    return sum(1 for at in finished if begin < at <= end) / (end - begin)


def _graph(url: str) -> dict[str, Any]:
    (item,) = _ask(f"{url}{QUEUE}/list_all")
    return dict(item["session"]["graph"])


def _preload(urls: Sequence[str], latencies: Sequence[int], graph: dict[str, Any], images: int) -> float:
    """Images a second of servers that have everything in their queues; each by its share of the work."""
    shares = [max(1, round(images / sum(1 / other for other in latencies) / ms)) for ms in latencies]
    noise = next(name for name, node in graph["nodes"].items() if node["type"] == "noise")
    begun = time.perf_counter()
    for url, share in zip(urls, shares, strict=True):
        _ask(f"{url}{QUEUE}/processor/pause", method="PUT")  # until its queue is full
        for seed in range(1, share + 1):
            graph["nodes"][noise]["seed"] = seed
            _ask(f"{url}{QUEUE}/enqueue_batch", {"batch": {"graph": graph}})
    for url in urls:
        _ask(f"{url}{QUEUE}/processor/resume", method="PUT")
    ends = {}
    for url in islice(cycle(urls), 10**6):
        if url not in ends and not _open(url):
            ends[url] = time.perf_counter() - begun
        if len(ends) == len(urls):
            break
        time.sleep(2 / len(urls))
    items = {url: _ask(f"{url}{QUEUE}/list_all") for url in urls}
    return sum(_own_rate(found) for found in items.values())


def _own_rate(items: Sequence[dict[str, Any]]) -> float:
    """Items a second by the server's own clock."""
    from sweep.servers import timestamp

    begun = [timestamp(item["started_at"]) for item in items]
    done = [timestamp(item["completed_at"]) for item in items]
    first, last = min(at for at in begun if at), max(at for at in done if at)
    return len(items) / (last - first).total_seconds()


def _open(url: str) -> int:
    counts = _ask(f"{url}{QUEUE}/status")["queue"]
    return int(counts["pending"] + counts["in_progress"])


def _ask(url: str, body: Any = None, method: str | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)
