"""Clients and servers killed at any moment, again and again: nothing lost, nothing rendered twice.

What was rendered is counted by the servers. The only images made twice may be those a server had in progress at the
moment it was killed itself: nobody has them.
"""

from __future__ import annotations

import os
import random
import select
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Bench, SandboxProcess, Zygote


@dataclass(frozen=True, slots=True)
class Storm:
    """How many kills over how many points. `pause` is the longest time between two, in seconds."""

    clients: int
    servers: int
    points: int
    pause: float
    latency: float
    fuse: int | None = 1

    def definition(self) -> Mapping[str, Any]:
        inputs = {"image": "photo.png", "prompt": "a cup", "steps": 1, "width": 64, "height": 64}
        axes = {"denoise_strength": [0.2, 0.5, 0.8], "seed": {"start": 1, "count": self.points // 3}}
        return {"name": "storm", "workflow": "img2img", "inputs": inputs, "axes": axes}


def storm(bench: Bench, servers: list[SandboxProcess], how: Storm, seed: int) -> dict[str, Any]:
    """Kill until all kills are spent, then let the same command end; figures."""
    chance = random.Random(seed)
    victims = ["client"] * how.clients + ["server"] * how.servers
    chance.shuffle(victims)
    options = {"fuse": how.fuse, "concurrency": 2 if how.fuse == 1 else 1}
    if len(servers) > 1:
        options["takeover_after"] = 30  # longer than any server is away: nobody renders what another has
    order = {"options": options}
    began = time.monotonic()
    client, finished, codes = bench.begin(*servers, **order), 0, []
    for victim in victims:
        time.sleep(chance.uniform(0, how.pause))
        if not bench.zygote.is_running(client):
            code, said = bench.zygote.wait(client)
            codes.append((code, said))
            finished += code == 0
            client = bench.begin(*servers, **order)
        if victim == "client":
            bench.zygote.signal(client, 9)
            bench.zygote.wait(client)
            client = bench.begin(*servers, **order)
        else:
            server = chance.choice(servers)
            server.kill()
            time.sleep(chance.uniform(0, how.pause / 4))
            server.start()
    code, said = bench.zygote.wait(client)
    for _ in range(3):
        if code == 0:
            break
        code, said = bench.run(*servers, **order)
    assert code == 0, (code, said, codes, bench.log())
    return {"seconds": round(time.monotonic() - began, 1), "finished_early": finished, "early": codes}


def check_rows_and_renders(bench: Bench, servers: list[SandboxProcess], how: Storm) -> dict[str, Any]:
    """Every row, every file; every render accounted for."""
    assert bench.statuses() == {"completed": how.points}
    assert bench.results.verify() == []
    renders: dict[str, int] = {}
    excused: dict[str, int] = {}
    for server in servers:
        for key, count in server.renders().items():
            renders[key] = renders.get(key, 0) + count
        for key, count in server.cut_short.items():
            excused[key] = excused.get(key, 0) + count
    twice = {key: count for key, count in renders.items() if count > 1}
    worse = [key for key, count in twice.items() if count > 1 + excused.get(key, 0)]
    assert not worse, worse
    assert len(renders) == how.points
    return {
        "renders": sum(renders.values()),
        "twice": sum(count - 1 for count in twice.values()),
        "cut_short": sum(excused.values()),
    }


def check_storm(bench: Bench, how: Storm, seed: int, servers: int = 1) -> dict[str, Any]:
    bench.definition = dict(how.definition())
    running = [bench.sandbox(f"server {number}", latency=how.latency) for number in range(servers)]
    figures = storm(bench, running, how, seed)
    figures |= check_rows_and_renders(bench, running, how)
    for server in running:
        server.kill()
    return figures


@pytest.mark.slow
def test_a_few_kills(bench: Bench) -> None:
    check_storm(bench, Storm(clients=5, servers=3, points=30, pause=0.5, latency=0.02), seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("fuse", [1, 3])
def test_a_few_kills_of_two_servers(bench: Bench, fuse: int) -> None:
    check_storm(bench, Storm(clients=3, servers=3, points=18, pause=0.5, latency=0.05, fuse=fuse), seed=4, servers=2)


@pytest.mark.full
@pytest.mark.parametrize("fuse", [1, 4])
def test_thirty_kills_of_two_servers(bench: Bench, fuse: int, capsys: Any) -> None:
    """No double but what a server had in progress when it was killed, as docs/reliability.md says."""
    how = Storm(clients=18, servers=12, points=90, pause=0.8, latency=0.25, fuse=fuse)
    figures = check_storm(bench, how, 5, servers=2)
    with capsys.disabled():
        print(f"\n{how}: {figures}")


@pytest.mark.full
@pytest.mark.parametrize("seed", [1, 2])
def test_two_hundred_kills_over_three_hundred_points(bench: Bench, seed: int, capsys: Any) -> None:
    how = Storm(clients=120, servers=80, points=300, pause=0.8, latency=0.25)
    figures = check_storm(bench, how, seed)
    with capsys.disabled():
        print(f"\n{how}: {figures}")
    assert figures["finished_early"] == 0, figures


@pytest.mark.full
def test_kills_of_items_of_several_variations(bench: Bench, capsys: Any) -> None:
    how = Storm(clients=60, servers=40, points=300, pause=0.8, latency=0.5, fuse=4)
    with capsys.disabled():
        print(f"\n{how}: {check_storm(bench, how, 3)}")


SEARCH = {
    "name": "search",
    "workflow": "img2img",
    "inputs": {"image": "photo.png", "prompt": "a cup", "steps": 1, "width": 64, "height": 64},
    "axes": {
        "denoise_strength": {"start": 0, "stop": 1, "num": 9},
        "variation": ["soft light", "neon"],
        "seed": {"start": 1, "count": 5},
    },
    "design": {
        "kind": "adaptive",
        "axis": "denoise_strength",
        "metric": "structure_coarse",
        "threshold": 0.9,
        "for": "each prompt",
        "within": 0.02,
        "at_most": 0.6,
    },
}


@pytest.mark.full
def test_an_adaptive_run_decides_the_same_whenever_it_is_killed(bench: Bench, tmp_path: Path) -> None:
    """The points are those of a run without a kill, and each was rendered once."""
    chance = random.Random(20)
    bench.definition = SEARCH
    calm = Bench(tmp_path / "calm", bench.zygote, SEARCH)
    servers = [bench.sandbox("one", latency=0.05), bench.sandbox("two", latency=0.05)]
    assert calm.run(*servers)[0] == 0
    wanted = {str(row["key"]) for row in calm.results.rows()}
    before = [server.renders() for server in servers]
    order = {"options": {"fuse": 1, "concurrency": 2, "takeover_after": 30}}
    for _ in range(20):
        client = bench.begin(*servers, **order)
        time.sleep(chance.uniform(0.1, 0.9))
        bench.zygote.signal(client, 9)
        bench.zygote.wait(client)
    assert bench.run(*servers, **order)[0] == 0
    assert {row["key"] for row in bench.results.rows()} == wanted
    assert bench.statuses() == {"completed": len(wanted)}
    pairs = list(zip(servers, before, strict=True))
    assert sum(server.renders().get(key, 0) - old.get(key, 0) for server, old in pairs for key in wanted) == len(wanted)
    for server in servers:
        server.kill()


@pytest.mark.slow
def test_zygotes_end(tmp_path: Path) -> None:
    """The harness itself leaves no process behind."""
    process = Zygote(tmp_path / "log")
    pid, _ = process.start("sandbox", first_word=True, options={})
    ended = os.pidfd_open(pid)
    process.close()
    select.select([ended], [], [], 10)  # a killed process ends a moment later
    os.close(ended)
    assert not process.is_running(pid)
