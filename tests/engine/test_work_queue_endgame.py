"""How close servers of unequal speeds come to the least time possible: the real queue under a simulated clock."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.engine.limits import bound_by_share
from sweep.engine.work_queue import WorkQueue
from sweep.plan import Instance

DEPTH = 2  # items at a server at once, as a run has them: one is rendered, one waits


@dataclass
class Point:
    key: str
    model: str = "one"


class Servers:
    def __init__(self, count: int) -> None:
        self.alive_urls = frozenset(str(number) for number in range(count))

    def seconds_until_takeover(self, _url: str, /) -> float:
        return inf

    def can_render(self, _url: str, _instance: Instance, /) -> bool:
        return True


def make_points(count: int) -> Iterator[Instance]:
    return (cast("Any", Point(str(number))) for number in range(count))


async def simulate(speeds: Sequence[float], points: int, size: int) -> tuple[float, float]:
    """Render `points` on servers that need `speeds` seconds a point; return when the last ended, and the longest item.

    The server that has room first takes the next item, as the workers of a run do.
    """
    queue = WorkQueue([make_points(points)], servers=Servers(len(speeds)), clock=lambda: 0.0)
    free = [0.0] * len(speeds)  # when each server has rendered all that it has
    room = [(0.0, number) for _ in range(DEPTH) for number in range(len(speeds))]
    heapq.heapify(room)
    longest = 0.0
    keys: set[str] = set()
    while queue.handed < points:
        now, number = heapq.heappop(room)
        most = bound_by_share(size, points - queue.handed, 2 * len(speeds))
        job = await queue.take(str(number), most)
        assert job is not None
        assert keys.isdisjoint(job.keys)
        keys.update(job.keys)
        seconds = speeds[number] * len(job.instances)
        free[number] = max(free[number], now) + seconds
        longest = max(longest, seconds)
        heapq.heappush(room, (free[number], number))
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


async def test_a_hundred_unequal_servers_stay_within_three_percent() -> None:
    speeds = [1.0 + 3.0 * number / 99 for number in range(100)]  # four times as slow as the first: the last
    for size in (1, 4):
        took, _ = await simulate(speeds, 20_000, size)
        assert took <= 1.03 * find_least_time(speeds, 20_000)
