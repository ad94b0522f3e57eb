"""Eight servers of different speed, of which one dies and one hangs half-way."""

from __future__ import annotations

import signal
import time
from collections import Counter
from typing import Any

import pytest

from tests.support.processes import Bench, SandboxProcess

LATENCIES = (0.2, 0.25, 0.3, 0.45, 0.65, 0.9, 1.4, 2.0)  # seconds an item; the fastest is ten times the slowest
DIES, HANGS = 3, 2


def total(servers: list[SandboxProcess]) -> int:
    return sum(sum(server.renders().values()) for server in servers)


def check_race(bench: Bench, latencies: tuple[float, ...], points: int, dies: int, hangs: int) -> dict[str, Any]:
    """Render so many points; the figures of it."""
    inputs = {"image": "photo.png", "prompt": "a cup", "steps": 1, "width": 64, "height": 64}
    axes = {"seed": {"start": 1, "count": points}}
    bench.definition = {"name": "many", "workflow": "img2img", "inputs": inputs, "axes": axes}
    servers = [bench.sandbox(f"s{n}", latency=latency, paint=False) for n, latency in enumerate(latencies)]
    order = {"root": str(bench.folder), "definition": bench.definition, "servers": [each.url for each in servers]}
    client, word = bench.zygote.start("client", first_word=True, patience=3.0, **order)
    assert word == "begun"
    began = time.monotonic()
    while total(servers) < points / 2:
        time.sleep(0.1)
    half, done = time.monotonic() - began, total(servers)
    servers[dies].kill()
    servers[hangs].send(signal.SIGSTOP)
    code, said = bench.zygote.wait(client)
    seconds = time.monotonic() - began
    assert code == 0, (said, bench.log())
    living = [server for number, server in enumerate(servers) if number not in (dies, hangs)]
    counts = Counter[str]()
    for server in living:
        counts.update(server.renders())
    assert set(counts.values()) == {1}
    assert bench.statuses() == {"completed": points}
    assert bench.results.verify() == []
    rate = sum(1 / latency for number, latency in enumerate(latencies) if number not in (dies, hangs))
    least = half + (points - done) / rate
    for server in living:
        server.kill()
    return {"seconds": round(seconds, 1), "least": round(least, 1), "over": f"{seconds / least - 1:.1%}"}


@pytest.mark.slow
def test_one_of_three_dies_and_one_hangs(bench: Bench) -> None:
    check_race(bench, (0.01, 0.03, 0.05), points=24, dies=0, hangs=2)


@pytest.mark.full
def test_eight_servers_one_dies_one_hangs(bench: Bench, capsys: Any) -> None:
    figures = check_race(bench, LATENCIES, 900, DIES, HANGS)
    with capsys.disabled():
        print(f"\n8 servers, 900 points: {figures}")
