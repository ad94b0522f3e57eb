"""How close servers of unequal speeds come to the least time possible: the real queue and pool, a simulated clock."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.engine.concurrency import Limit
from sweep.engine.item_size import FusionSize
from sweep.engine.run_options import RunOptions
from sweep.engine.server_pool import PooledServer, ServerPool
from sweep.engine.work_queue import WorkQueue
from sweep.plan import Instance
from sweep.servers import ServerInfo

DEPTH = 2  # items at a server at once, as a run has them: one is rendered, one waits
AGAIN = 1.0  # seconds at most after which a server that holds back looks again


@dataclass
class Point:
    key: str
    model: str = "one"


@dataclass
class Address:
    url: str

    def can_render(self, _url: str, _instance: Instance, /) -> bool:
        return True


def make_points(numbers: range) -> Iterator[Instance]:
    return (cast("Any", Point(str(number))) for number in numbers)


def make_pool(speeds: Sequence[float], size: int) -> ServerPool:
    """Servers that rendered before, so that each one's seconds a variation are known."""
    servers = []
    for number, seconds in enumerate(speeds):
        info = ServerInfo(name=str(number), url=str(number), version="", api="")
        server = PooledServer(cast("Any", Address(str(number))), info, Limit(DEPTH), rendered_at=0.0)
        server.fusion = FusionSize(size)
        server.fusion.observe(1, seconds)
        servers.append(server)
    return ServerPool(servers, lambda _: None, RunOptions())


async def simulate(speeds: Sequence[float], points: int, size: int, lanes: int = 1) -> tuple[float, float]:
    """Render `points` on servers that need `speeds` seconds a point; return when the last ended, and the longest item.

    The server that has room first takes the next item, as the workers of a run do, or leaves it to others.
    """
    pool = make_pool(speeds, size)
    walks = [make_points(range(lane, points, lanes)) for lane in range(lanes)]
    queue = WorkQueue(walks, servers=pool, clock=lambda: 0.0)
    free = [0.0] * len(speeds)  # when each server has rendered all that it has
    order = count()
    turns = [(0.0, next(order), number, 0) for _ in range(DEPTH) for number in range(len(speeds))]
    longest = 0.0
    keys: set[str] = set()
    while queue.handed < points:
        now, _, number, ended = heapq.heappop(turns)
        server = pool.servers[number]
        if ended:
            server.count_variations(-ended, now)
        chosen = pool.choose_size(server, points - queue.handed, now)
        if not chosen:
            heapq.heappush(turns, (now + min(AGAIN, speeds[number]), next(order), number, 0))
            continue
        job = await queue.take(str(number), chosen)
        assert job is not None
        assert keys.isdisjoint(job.keys)
        keys.update(job.keys)
        server.count_variations(len(job.keys), now)
        seconds = speeds[number] * len(job.keys)
        free[number] = max(free[number], now) + seconds
        longest = max(longest, seconds)
        heapq.heappush(turns, (free[number], next(order), number, len(job.keys)))
    assert len(keys) == points
    return max(free), longest


def find_least_time(speeds: Sequence[float], points: int) -> float:
    """The least time in which servers that split no point render them all: the points fit into it, and into no less."""
    low, high = 0.0, max(speeds) * points
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if sum(int(middle / speed) for speed in speeds) >= points else (middle, high)
    return high


@given(st.lists(st.floats(0.2, 8.0), min_size=1, max_size=40), st.integers(1, 1500), st.integers(1, 16))
@settings(max_examples=40, deadline=None)
async def test_the_last_image_comes_at_most_two_items_after_the_least_time(
    speeds: list[float], points: int, size: int
) -> None:
    took, longest = await simulate(speeds, points, size)
    assert took <= find_least_time(speeds, points) + DEPTH * longest + 1e-6


@pytest.mark.slow
async def test_hundreds_of_unequal_servers_stay_within_three_percent() -> None:
    """Of kinds up to eight times as slow as others, with twenty images and more for each server, in any lanes.

    No hypothesis here: it traces each line, which makes minutes of these seconds.
    """
    chance = random.Random(13)
    for servers, each, size, lanes in ((500, 20, 1, 8), (100, 40, 4, 1)):
        kinds = [chance.uniform(1.0, 8.0) for _ in range(12)]
        speeds = [kinds[number % len(kinds)] for number in range(servers)]
        took, _ = await simulate(speeds, servers * each, size, lanes)
        assert took <= 1.03 * find_least_time(speeds, servers * each), (servers, each, size, lanes)
