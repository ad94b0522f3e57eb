"""How long a server idles between two of our items: by its own clock, with two items at it at once."""

from __future__ import annotations

import json
import statistics
import tempfile
import urllib.request
from itertools import pairwise
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.processes import in_process, sandboxes
from benchmarks.rendering import definition, render
from sweep.sandbox import SandboxOptions
from sweep.servers import timestamp

NAME = "idle"
IMAGES = 200
LATENCY = 0.05  # seconds an item


def measure() -> list[Figure]:
    """Of one sandbox that takes 50 ms an item and serves 300 kB an image."""
    with tempfile.TemporaryDirectory() as scratch, sandboxes([SandboxOptions(paint=False, latency=LATENCY)]) as (url,):
        in_process(render, definition("idle", IMAGES), [url], Path(scratch), {"concurrency": 2})
        gaps = idle_gaps(url)
    tail = sorted(gaps)[round(0.95 * len(gaps))]
    return [
        _gap("between two items at --concurrency 2, median", statistics.median(gaps)),
        _gap("between two items at --concurrency 2, 95th percentile", tail),
    ]


def _gap(name: str, value: float) -> Figure:
    return Figure(benchmark=NAME, name=name, value=value, unit="ms", goal=20.0)


def idle_gaps(url: str) -> list[float]:
    """Milliseconds from the end of each item to the begin of the next, as the server noted them."""
    with urllib.request.urlopen(f"{url}/api/v1/queue/default/list_all", timeout=60) as answer:
        items = json.load(answer)
    spans = sorted((timestamp(item["started_at"]), timestamp(item["completed_at"])) for item in items)
    return [
        1000 * (later[0] - earlier[1]).total_seconds() for earlier, later in pairwise(spans) if later[0] and earlier[1]
    ]
