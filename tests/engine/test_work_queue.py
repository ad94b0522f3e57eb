"""The source that servers pull from: lazy, fair to what came back, and never stuck at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf

import anyio
import pytest

from sweep.engine.concurrency import ChangeSignal
from sweep.engine.server_pool import ServerPool
from sweep.engine.work_queue import Job, WorkQueue
from sweep.experiment import Variation
from sweep.plan import Instance
from sweep.record import Intent
from sweep.workflow import Graph
from sweep.workflow.invokeai.invokeai_dialect import INVOKEAI

A, B = "http://a", "http://b"


@dataclass
class Alive(ServerPool):
    alive_urls: frozenset[str]
    takeover: float = 0.0
    models: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by url, where it does not have all
    changes: ChangeSignal = field(default_factory=ChangeSignal)

    def compute_takeover_delay(self, url: str) -> float:
        return inf if url in self.alive_urls else self.takeover

    def can_render(self, url: str, instance: Instance) -> bool:
        return url not in self.models or instance.model in self.models[url]


def instance(number: int) -> Instance:
    return Instance(
        key=f"k{number}",
        variation=Variation(number, {}),
        graph=Graph({}),
        digests={},
        outputs=("out",),
        dialect=INVOKEAI,
    )


def job(number: int, *, avoid: str | None = None, home: str | None = None) -> Job:
    intents = (Intent(key=f"k{number}", number=1, server="s", url=home, batch_id="b"),) if home else ()
    return Job(instances=(instance(number),), avoid=frozenset([avoid] if avoid else []), intents=intents)


def work(count: int, alive: frozenset[str] = frozenset([A, B])) -> WorkQueue:
    return WorkQueue([(instance(number) for number in range(count))], servers=Alive(alive))


async def test_points_are_made_only_when_asked_for() -> None:
    made: list[int] = []

    def fresh() -> Iterator[Instance]:
        for number in range(1_000_000):
            made.append(number)
            yield instance(number)

    source = WorkQueue([fresh()], servers=Alive(frozenset([A])))
    first = await source.take(A)
    several = await source.take(A, most=3)
    assert first is not None
    assert several is not None
    assert several.keys == ("k1", "k2", "k3")
    assert made == [0, 1, 2, 3]


async def test_none_only_when_nothing_can_come_back() -> None:
    source = work(1)
    taken = await source.take(A)
    assert taken is not None
    answers: list[Job | None] = []

    async def wait() -> None:
        answers.append(await source.take(B))
        answers.append(await source.take(B))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert answers == []
        source.put(taken.retry(avoid=A))
        source.finish()
        await anyio.wait_all_tasks_blocked()
        assert [answer.attempt for answer in answers if answer] == [2]
        source.finish()
    assert answers[1] is None


async def test_what_failed_at_a_server_goes_to_another_if_there_is_one() -> None:
    source = work(0)
    source.put(job(1, avoid=A))
    with anyio.move_on_after(0.01) as waited:
        await source.take(A)
    assert waited.cancelled_caught
    assert await source.take(B) is not None


async def test_what_failed_everywhere_goes_anywhere() -> None:
    source = work(0, frozenset([A]))
    source.put(job(1, avoid=A))
    assert await source.take(A) is not None


@pytest.mark.parametrize(("alive", "taker", "fits"), [({A, B}, B, False), ({A, B}, A, True), ({B}, B, True)])
async def test_an_open_item_is_asked_at_its_own_server_while_that_lives(
    alive: set[str], taker: str, fits: bool
) -> None:
    source = work(0, frozenset(alive))
    source.put(job(1, home=A))
    taken: Job | None = None
    with anyio.move_on_after(0.01):
        taken = await source.take(taker)
    assert (taken is not None) == fits


async def test_a_server_that_left_gets_nothing_until_it_is_back() -> None:
    servers = Alive(frozenset([B]))
    source = WorkQueue([iter([instance(1)])], servers=servers)
    with anyio.move_on_after(0.01) as waited:
        await source.take(A)
    assert waited.cancelled_caught
    servers.alive_urls |= {A}
    assert await source.take(A) is not None


async def test_stopped_work_hands_out_only_what_a_living_server_has() -> None:
    source = work(5, frozenset([A]))
    source.put(job(7, home=A))
    source.put(job(8, home=B))
    source.put(job(9))
    source.stop()
    source.put(job(10))
    taken = await source.take(A)
    assert taken is not None
    assert taken.keys == ("k7",)
    source.finish()
    assert await source.take(A) is None


async def test_stopped_work_that_is_over_for_one_server_is_over_for_all() -> None:
    """A server that is back only then has nobody who would take what it has; the others would wait for it for ever."""
    servers = Alive(frozenset([B]))
    source = WorkQueue([], servers=servers)
    source.put(job(1, home=A))
    source.stop()
    assert await source.take(B) is None
    servers.alive_urls = frozenset([A, B])
    with anyio.fail_after(5):
        assert await source.take(B) is None


async def test_a_job_waits_out_its_delay() -> None:
    now = 100.0
    source = WorkQueue([], servers=Alive(frozenset([A])), clock=lambda: now)
    source.put(replace(job(1), not_before=now + 0.02))
    with anyio.move_on_after(0.01) as waited:
        await source.take(A)
    assert waited.cancelled_caught
    now = 100.03
    assert await source.take(A) is not None


async def test_each_server_keeps_to_a_lane_and_helps_out_when_its_own_is_done() -> None:
    lanes = [iter([instance(n) for n in range(10, 12)]), iter([instance(n) for n in range(20, 24)])]
    source = WorkQueue(lanes, servers=Alive(frozenset([A, B])))
    taken = [await source.take(url) for url in (A, B, A, B, A, B)]
    assert [job.keys[0] for job in taken if job] == ["k10", "k20", "k11", "k21", "k22", "k23"]


async def test_what_an_absent_server_has_waits_until_it_may_be_taken_over() -> None:
    servers = Alive(frozenset([A]), takeover=30.0)
    source = WorkQueue([iter([instance(1)])], servers=servers)
    source.put(job(7, home=B))
    fresh = await source.take(A)
    assert fresh is not None
    assert fresh.keys == ("k1",)
    source.finish()
    with anyio.move_on_after(0.01) as waited:
        await source.take(A)
    assert waited.cancelled_caught
    servers.takeover = 0.0
    taken = await source.take(A)
    assert taken is not None
    assert taken.keys == ("k7",)


async def test_each_server_takes_the_points_whose_models_it_has() -> None:
    """Also where a lane holds points of several models, as where an axis of ControlNets makes them."""
    points = [replace(instance(number), model="xy"[number % 2]) for number in range(6)]
    servers = Alive(frozenset([A, B]), models={B: frozenset("y")})
    source = WorkQueue([iter(points)], servers=servers)
    taken = [await source.take(url, most=2) for url in (B, B, A, B, A)]
    assert [job.keys for job in taken if job] == [("k1",), ("k3",), ("k0", "k2"), ("k5",), ("k4",)]
    assert source.handed == 6


async def test_a_queue_is_stuck_where_only_an_absent_server_has_the_models() -> None:
    servers = Alive(frozenset([A, B]), models={B: frozenset("y")})
    source = WorkQueue([iter([replace(instance(1), model="x")])], servers=servers)
    assert not source.is_stuck
    servers.alive_urls = frozenset([B])
    assert source.is_stuck
    servers.alive_urls = frozenset([A])
    assert await source.take(A) is not None
    assert not source.is_stuck, "it may come back while it is in flight"
    source.finish()
    servers.alive_urls = frozenset([B])
    assert not source.is_stuck, "nothing is left"


async def test_what_failed_at_a_server_returns_to_it_where_no_other_has_its_model() -> None:
    source = WorkQueue([], servers=Alive(frozenset([A, B]), models={B: frozenset("y")}))
    source.put(replace(job(1, avoid=A), instances=(replace(instance(1), model="x"),)))
    assert await source.take(A) is not None
