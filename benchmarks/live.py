"""A real InvokeAI on this machine: items of several variations against one each, and against other clients.

48 img2img variations of 64 × 64 px in 4 steps with a tiny model, so that what is measured is what surrounds rendering:
the server's fixed cost an item, and the client's. Every way has its own seeds, so none finds another's results cached.
The server's own time is what its log says its nodes took.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks import loops, peer
from benchmarks.figures import Figure
from benchmarks.processes import in_process
from benchmarks.rendering import render
from tests.support.live_invokeai import Installation, LiveServer, serving

NAME = "live"
POINTS = 48
LARGER = 240
LARGE_SIDE = 512  # pixels: the time of an item is then rendering
LARGE_POINTS = 8
POLL = 1.0  # seconds, as the seed of this project had it
EXECUTION = re.compile(rb"TOTAL GRAPH EXECUTION TIME:\s+([\d.]+)s")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to have images rendered: how many, how long it took, and how long the server's nodes worked."""

    name: str
    images: int
    seconds: float
    nodes: float

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds


def measure() -> list[Figure]:
    """Nothing where InvokeAI is not installed, which a line says."""
    if Installation.default().package is None:
        print("live: left out, as InvokeAI is not installed here (pytest tests/live --live installs it)")
        return []
    with tempfile.TemporaryDirectory() as scratch, serving(Path(scratch) / "invokeai") as server:
        return _figures(_ways(server, Path(scratch)))


def _ways(server: LiveServer, root: Path) -> list[Way]:
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(root / "photo.png")
    (root / "images").mkdir()
    seeds = iter(range(10_000, 10**9, 10_000))

    def swept(name: str, points: int, options: Mapping[str, Any], side: int = 64) -> Way:
        asked = _definition(f"live-{next(seeds)}", points, next(seeds), side)
        return _time(server, name, points, lambda: _swept(asked, server.url, root, options))

    swept("warm", 8, {"fuse": 4})
    unfused = swept("sweep, one an item", POINTS, {"fuse": 1})
    shifts = [next(seeds) for _ in range(3)]
    polling, batch, foreign = (loops.fetch_submitted(server.url, POINTS, shift) for shift in shifts)
    images = root / "images"
    theirs = []
    if peer.python() is not None:
        call = partial(peer.submit_all, server.url, foreign, images)
        theirs.append(_time(server, "invokeai-py-client, all submitted", POINTS, call))
    return [
        unfused,
        *theirs,
        _time(server, "loop that polls each second", POINTS, lambda: _loop(loops.one_by_one, server, polling, images)),
        _time(server, "all enqueued, then polled", POINTS, lambda: _loop(loops.all_at_once, server, batch, images)),
        swept("sweep --fuse 8", POINTS, {"fuse": 8}),
        swept("sweep --fuse 48", POINTS, {"fuse": 48}),
        swept("sweep --fuse auto", POINTS, {"fuse": None}),
        swept(f"sweep --fuse auto, {LARGER} points", LARGER, {"fuse": None}),
        *(
            swept(f"sweep --fuse {word}, large", LARGE_POINTS, {"fuse": fuse}, LARGE_SIDE)
            for word, fuse in [("off", 1), ("auto", None)] * 2  # in turns
        ),
    ]


def _swept(asked: Mapping[str, Any], url: str, root: Path, options: Mapping[str, Any]) -> float:
    return in_process(render, asked, [url], root, options).value.seconds


def _loop(way: Callable[..., float], server: LiveServer, graphs: list[loops.Graph], folder: Path) -> float:
    return in_process(way, server.url, graphs, folder, POLL).value


def _time(server: LiveServer, name: str, images: int, run: Callable[[], float]) -> Way:
    before = server.log.stat().st_size
    seconds = run()
    with server.log.open("rb") as log:
        log.seek(before)
        nodes = sum(float(found) for found in EXECUTION.findall(log.read()))
    print(f"  {name}: {images} images in {seconds:.1f} s, {nodes:.1f} s of them nodes", file=sys.stderr, flush=True)
    return Way(name, images, seconds, nodes)


def _definition(name: str, points: int, seed: int, side: int) -> dict[str, Any]:
    return {
        "name": name,
        "workflow": "img2img",
        "inputs": {
            "image": "photo.png",
            "model": "tiny-sd",
            "prompt": "a cup",
            "steps": 4,
            "width": side,
            "height": side,
        },
        "axes": {
            "variation": ["studio light", "dramatic shadows"],
            "denoise_strength": [0.3, 0.5, 0.7, 0.9],
            "seed": {"start": seed, "count": points // 8},
        },
    }


def _figures(ways: list[Way]) -> list[Figure]:
    large = [way for way in ways if way.name.endswith("large")]
    ways = [way for way in ways if way not in large]
    others = [way for way in ways if "--fuse" not in way.name]
    best = max(others, key=lambda way: way.rate)
    fused = {way.name: way for way in ways if "--fuse" in way.name}
    figures = [
        Figure(benchmark=NAME, name=f"{way.name}: {way.images} images", value=way.seconds, unit="s") for way in ways
    ]
    for name, way in fused.items():
        ratio = way.rate / best.rate
        figures.append(Figure(benchmark=NAME, name=f"{name} / {best.name}", value=ratio, goal=4.0, more=True))
    for name, way in fused.items():
        figures.append(
            Figure(benchmark=NAME, name=f"{name}: wall / the nodes' own time", value=way.seconds / way.nodes, goal=1.6)
        )
    figures.append(
        Figure(benchmark=NAME, name=f"{best.name}: wall / the nodes' own time", value=best.seconds / best.nodes)
    )
    auto, off = (sum(way.seconds for way in large if word in way.name) for word in ("auto", "off"))
    name = f"{LARGE_SIDE} × {LARGE_SIDE} px: seconds of --fuse auto / of --fuse off"
    figures.append(Figure(benchmark=NAME, name=name, value=auto / off, goal=1.0))
    return figures
