"""What sweep itself costs an image, against a bare loop that brings the same images from the same kind of server.

The server is a sandbox at zero latency in a process of its own, serving one prepared 512 × 512 PNG of 300 kB. Two
bare loops: one only downloads and writes images that are there already; the other has them rendered as well.
"""

from __future__ import annotations

import json
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks import bare
from benchmarks.figures import Figure
from benchmarks.processes import in_process, sandboxes
from benchmarks.rendering import Rendered, definition, render
from sweep.sandbox import SandboxOptions

NAME = "overhead"
IMAGES = 300
ROUNDS = 3
GOAL = 0.6


def measure() -> list[Figure]:
    """Take the best of several rounds of each, in turns."""
    rounds = [_round() for _ in range(ROUNDS)]
    ours = max((found[0] for found in rounds), key=lambda run: run.rate)
    least = max((found[1] for found in rounds), key=lambda run: run.rate)
    whole = max((found[2] for found in rounds), key=lambda run: run.rate)
    each = 1000 / IMAGES
    return [
        Figure(benchmark=NAME, name="sweep.run", value=ours.rate, unit="images/s"),
        Figure(benchmark=NAME, name="bare loop: download, write, fsync", value=least.rate, unit="images/s"),
        Figure(benchmark=NAME, name="bare loop: render, download, write, fsync", value=whole.rate, unit="images/s"),
        Figure(benchmark=NAME, name="sweep.run / download only", value=ours.rate / least.rate, goal=GOAL, more=True),
        Figure(
            benchmark=NAME, name="sweep.run / render and download", value=ours.rate / whole.rate, goal=GOAL, more=True
        ),
        Figure(benchmark=NAME, name="processor time of sweep.run", value=ours.cpu * each, unit="ms/image"),
        Figure(benchmark=NAME, name="of the loop that downloads", value=least.cpu * each, unit="ms/image"),
        Figure(benchmark=NAME, name="of the loop that renders", value=whole.cpu * each, unit="ms/image"),
    ]


def _round() -> tuple[Rendered, bare.Bare, bare.Bare]:
    server = SandboxOptions(paint=False)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        with sandboxes([server]) as (url,):
            ours = in_process(render, definition("overhead", IMAGES), [url], root).value
            graphs = _graphs(url)
            (root / "images").mkdir()
            least = in_process(bare.download, url, root / "images").value
        with sandboxes([server]) as (url,):
            (root / "rendered").mkdir()
            whole = in_process(bare.render, url, graphs, root / "rendered", 2).value
    return ours, least, whole


def _graphs(url: str) -> list[dict[str, Any]]:
    """Get the graphs that the server was sent, to send them again by another client."""
    with urllib.request.urlopen(f"{url}/api/v1/queue/default/list_all") as answer:
        return [item["session"]["graph"] for item in json.load(answer)]
