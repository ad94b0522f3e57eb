"""The queue that servers take jobs from: points in lanes by model, retries; one job for equal keys."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import prod
from typing import Final

import anyio

from sweep.engine.events import Completed, Failed, Listener
from sweep.engine.server_pool import ServerPool
from sweep.plan import Instance, Plan, list_stages
from sweep.record import Intent, Journal, JournalPoint, KeyStatus
from sweep.workflow import StageKind


def make_batch_id(destination: str, run: int, numbers: Mapping[str, int]) -> str:
    """Return the batch id of an attempt: the same for the same results folder, run, keys and attempt numbers.

    The run is in it because attempts are counted anew where a variation is tried again on request: an item of the
    earlier count, still in the server's list, is not the answer to the new one.
    """
    text = "\n".join([f"{destination} {run}", *(f"{key} {number}" for key, number in numbers.items())])
    return str(uuid.UUID(bytes=hashlib.blake2b(text.encode(), digest_size=16).digest()))


def to_journal_point(instance: Instance) -> JournalPoint:
    return JournalPoint(
        key=instance.key,
        index=instance.variation.index,
        values=instance.variation.values,
        prompt=instance.prompt,
        model=instance.model,
        source=instance.source,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Variations that go to a server as one item.

    `intents`, where given, were written by an earlier attempt whose end is not known: its server is asked what
    became of it before anything is submitted.
    """

    instances: tuple[Instance, ...]
    attempt: int = 1  # in this run; the record counts over all runs
    avoid: frozenset[str] = frozenset()  # urls of servers that failed at it
    intents: tuple[Intent, ...] = ()
    strandings: int = 0  # how often its server left while it was there
    admitted: bool = False  # nothing else of this run is at its keys
    standing: Mapping[str, KeyStatus] | None = None  # of its keys, where the record was asked a moment ago
    not_before: float = 0.0  # seconds of the event loop's clock

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(instance.key for instance in self.instances)

    @property
    def home(self) -> str | None:
        """Url of the only server that can tell what became of it."""
        return self.intents[0].url if self.intents else None

    def retry(self, *, avoid: str) -> Job:
        """Return the next attempt at it, anywhere but at `avoid` if there is a choice."""
        return replace(self, attempt=self.attempt + 1, avoid=self.avoid | {avoid}, intents=())


LOOKAHEAD: Final = 64  # points of a lane that are made while a server looks for one whose models it has
TOGETHER: Final = 16  # points that the record is asked about in one go

CanRender = Callable[[Instance], bool]


class _Lane:
    """The open points that need the same models, lazily. Where other models divide it, a server passes over some."""

    def __init__(self, points: Iterator[Instance]) -> None:
        self._points = points
        self._ahead: list[Instance] = []  # made, and not handed out
        self._is_exhausted = False

    @property
    def is_over(self) -> bool:
        """Tell whether every point was handed out, without making another to find out."""
        return self._is_exhausted and not self._ahead

    def take(self, most: int, can_render: CanRender) -> tuple[Instance, ...]:
        """Take up to `most` points that follow each other, need one model and can be rendered; none where none can."""
        at = self._find(can_render)
        taken: list[Instance] = []
        while len(taken) < most and (point := self._look(at)) is not None:
            if taken and (point.model != taken[0].model or not can_render(point)):
                break
            taken.append(self._ahead.pop(at))
        return tuple(taken)

    def look_ahead(self, count: int) -> list[Instance]:
        """Return the next points, which stay to be taken."""
        while len(self._ahead) < count and self._look(len(self._ahead)) is not None:
            pass
        return self._ahead[:count]

    def has(self, can_render: CanRender) -> bool:
        """Tell whether `take` would return something."""
        return self._look(self._find(can_render)) is not None

    def _find(self, can_render: CanRender) -> int:
        at = 0
        while (point := self._look(at)) is not None and not can_render(point):
            at += 1
        return at

    def _look(self, at: int) -> Instance | None:
        """Return the point `at` places ahead; None past the end, and where that is too far."""
        if at == len(self._ahead) < LOOKAHEAD and not self._is_exhausted:
            point = next(self._points, None)
            self._is_exhausted = point is None
            self._ahead += [point] if point is not None else []
        return self._ahead[at] if at < len(self._ahead) else None


class WorkQueue:
    """The queue that all servers take jobs from. `servers` knows which of them take work at the moment."""

    def __init__(
        self,
        fresh: Sequence[Iterator[Instance]],
        *,
        servers: ServerPool,
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        self._lanes = [_Lane(points) for points in fresh]
        self._own: dict[str, _Lane] = {}  # by url: the lane a server keeps to while it lasts
        self._servers = servers
        self._clock = clock
        self._returned: list[Job] = []
        self._changes = servers.changes
        self._stopped = False
        self.handed = 0  # points of the grid handed out
        self.in_flight = 0  # jobs taken and neither finished nor given back

    def stop(self) -> None:
        """Hand out nothing more, except what a living server already has: that is finished, not begun."""
        self._stopped = True
        self._lanes.clear()
        self._own.clear()
        self._changes.notify()

    @property
    def _waiting(self) -> list[Job]:
        """Jobs to be tried, or tried again; once stopped, those that living servers have: the rest stays on record."""
        if not self._stopped:
            return self._returned
        return [job for job in self._returned if job.home in self._servers.alive_urls]

    @property
    def is_over(self) -> bool:
        """Tell whether no job is left, and none in flight that could come back."""
        return not self._lanes and not self._waiting and not self.in_flight

    @property
    def is_stuck(self) -> bool:
        """Tell whether nothing is in flight, and no server that takes work has the models of any job that is left."""
        if self.in_flight or not (self._waiting or any(lane.has(lambda _: True) for lane in self._lanes)):
            return False
        return not any(self._has_work_for(url) for url in self._servers.alive_urls)

    def _has_work_for(self, url: str) -> bool:
        can_render = partial(self._servers.can_render, url)
        if any(lane.has(can_render) for lane in self._lanes):
            return True
        return any(job.home == url or all(map(can_render, job.instances)) for job in self._waiting)

    async def wait_for_change(self, seconds: float) -> None:
        """Wait so long, or until something changes."""
        with anyio.move_on_after(seconds):
            await self._changes.event.wait()

    def put(self, job: Job) -> None:
        """Add a job to be tried, or tried again."""
        self._returned.append(replace(job, not_before=max(job.not_before, self._clock())))
        self._changes.notify()

    def finish(self) -> None:
        """End a job that was taken; put what is left of it first.

        Servers without work are woken only where nothing is in flight: they may be hundreds, and what comes back wakes
        them itself. Then all is done, or what is left fits no server.
        """
        self.in_flight -= 1
        if not self.in_flight:
            self._changes.notify()

    async def take(self, url: str, most: int = 1) -> Job | None:
        """Take the next job for the server at `url`, of up to `most` variations; None when there will be none any more.

        Waits while everything left is in flight elsewhere, since it may come back.
        """
        while True:
            event = self._changes.event
            if url in self._servers.alive_urls and (job := self._take_next(url, most)):
                self.in_flight += 1
                return job
            if self.is_over:
                self._returned.clear()  # what servers have that left: one that is back now would keep the others here
                self._changes.notify()
                return None
            await self._sleep(event)

    async def _sleep(self, event: anyio.Event) -> None:
        now = self._clock()
        later = [job.not_before - now for job in self._waiting if job.not_before > now]
        homes = {job.home for job in self._waiting if job.home}
        later += [wait for home in homes if (wait := self._servers.compute_takeover_delay(home)) > 0]
        with anyio.move_on_after(min(later, default=float("inf"))):
            await event.wait()

    def look_ahead(self, url: str) -> list[Instance]:
        """Return points that the server's lane has next, whoever takes them."""
        lane = self._own.get(url)
        return lane.look_ahead(TOGETHER) if lane else []

    def _take_fresh(self, url: str, most: int) -> Job | None:
        """Take the next points of the server's lane; one with nothing for it is left for that with fewest servers."""
        can_render = partial(self._servers.can_render, url)
        own = self._own.pop(url, None)
        busy = list(self._own.values())
        for lane in sorted(self._lanes, key=lambda lane: -1 if lane is own else busy.count(lane)):
            instances = lane.take(most, can_render)
            if lane.is_over:
                self._lanes.remove(lane)
            if instances:
                self._own[url] = lane
                self.handed += len(instances)
                return Job(instances=instances)
        return None

    def _take_next(self, url: str, most: int) -> Job | None:
        """Take what came back, then what was never begun; last what another server had that left.

        So a server that is away for a while finds its items its own when it is back, and none is rendered twice.
        """
        return self._take_waiting(url) or self._take_fresh(url, most) or self._take_waiting(url, are_orphans=True)

    def _take_waiting(self, url: str, *, are_orphans: bool = False) -> Job | None:
        now, alive = self._clock(), self._servers.alive_urls
        due = (
            job
            for job in self._waiting
            if job.not_before <= now
            and (job.home not in (None, url)) == are_orphans
            and self._should_take(job, url, alive)
        )
        first = min(due, key=lambda job: job.not_before, default=None)
        if first is not None:
            self._returned.remove(first)
        return first

    def _should_take(self, job: Job, url: str, alive: frozenset[str]) -> bool:
        """Return whether the server should take it: its own open jobs, those of the gone, and what failed elsewhere."""
        if job.home == url:
            return True
        if job.home is not None and self._servers.compute_takeover_delay(job.home) > 0:
            return False
        able = {each for each in alive if all(self._servers.can_render(each, point) for point in job.instances)}
        return url in able and (url not in job.avoid or able <= job.avoid)


class Deduplicator:
    """De-duplicates points with equal content keys: one renders, the others reuse its result and have a row each."""

    def __init__(self, journal: Journal, listener: Listener) -> None:
        self._journal = journal
        self._listener = listener
        self._behind: dict[str, list[Instance]] = {}  # by key under way: the points that wait for it
        self._recovered: set[int] = set()  # indices of points that are under way from an earlier run
        self._known: dict[str, KeyStatus] = {}  # of keys that come next, none of them begun since the record was asked
        self._asking = anyio.Lock(fast_acquire=True)  # one question at a time: it may be the answer to the next, too

    def register(self, instances: Iterable[Instance]) -> None:
        """Take note of points that are under way from an earlier run, which the queue may have looked at already."""
        for instance in instances:
            self._behind.setdefault(instance.key, [])
            self._recovered.add(instance.variation.index)

    async def admit(self, job: Job, look_ahead: Callable[[], Iterable[Instance]] = tuple) -> Job | None:
        """Return a job for the points that are to be rendered; None where there are none. Raises RecordError.

        Where the record has to be asked, it is asked about the points that come next, too, which `look_ahead` gives.
        """
        if job.admitted:
            return job
        first: list[Instance] = []
        for instance in job.instances:
            if instance.variation.index in self._recovered:
                continue
            if instance.key in self._behind:
                self._behind[instance.key].append(instance)
            else:
                self._behind[instance.key] = []
                first.append(instance)
        standing = await self._look_up([instance.key for instance in first], look_ahead)
        there = [each for each in first if standing[each.key].state in ("completed", "failed")]
        await self._place(there, standing)
        await self.finish([instance.key for instance in there])
        left = tuple(instance for instance in first if instance not in there)
        return replace(job, instances=left, admitted=True, standing=standing) if left else None

    async def _look_up(self, keys: Sequence[str], look_ahead: Callable[[], Iterable[Instance]]) -> dict[str, KeyStatus]:
        """Return the status on record of keys that begin now."""
        async with self._asking:
            if new := [key for key in keys if key not in self._known]:
                new += {each.key for each in look_ahead()} - self._behind.keys() - self._known.keys()
                standing = await self._journal.find_statuses(new)
                self._known.update((key, standing.get(key, KeyStatus())) for key in new)
            return {key: self._known.pop(key) for key in keys}

    async def finish(self, keys: Sequence[str]) -> None:
        """Mark keys as finished and give their duplicates the same outcome."""
        for key in keys:
            behind = self._behind.pop(key, [])
            if behind:
                await self._place(behind, await self._journal.find_statuses([key]))

    async def _place(self, instances: Sequence[Instance], standing: dict[str, KeyStatus]) -> None:
        if not instances:
            return
        await self._journal.rebase([to_journal_point(instance) for instance in instances])
        for instance in instances:
            index, values = instance.variation.index, instance.variation.values
            if standing[instance.key].state == "failed":
                error = "the point with the same content key failed"
                self._listener(Failed(key=instance.key, index=index, server=None, values=values, error=error))
            else:
                self._listener(
                    Completed(key=instance.key, index=index, server=None, values=values, paths=(), seconds=None)
                )


MOST_LANES: Final = 64  # where models and LoRAs make more, the models alone divide, or nothing does

Walk = Callable[[], Iterator[int]]  # gives the indices of one lane, from the first, in the plan's order


def partition_points(plan: Plan) -> list[Walk]:
    """Return a lane for each combination of models and LoRAs that the axes make; one for all where they make none.

    Together they hold every index once. A lane is walked lazily, and passes no point of the others.
    """
    dimensions = plan.experiment.dimensions
    sizes = [len(dimension) for dimension in dimensions]
    for kinds in _DIVIDING:
        deciding = _find_deciding(plan, kinds)
        if deciding and prod(sizes[at] for at in deciding) <= MOST_LANES:
            places = product(*(range(sizes[at]) for at in deciding))
            return [partial(plan.order, dict(zip(deciding, place, strict=True))) for place in places]
    return [plan.order]


_DIVIDING: Final[tuple[frozenset[StageKind], ...]] = (frozenset({"model", "lora"}), frozenset({"model"}))


def _find_deciding(plan: Plan, kinds: frozenset[StageKind]) -> tuple[int, ...]:
    """Return the dimensions that decide which models or LoRAs a point needs."""
    dimensions = plan.experiment.dimensions
    found = {
        at
        for body in plan.bound_graphs
        for stage in list_stages(body, dimensions, plan.schemas)
        if stage.kind in kinds
        for at in stage.dimensions
    }
    found |= {
        at
        for at, dimension in enumerate(dimensions)
        if len(plan.bound_graphs) > 1 and any(axis.name in plan.variants.axes for axis in dimension.axes)
    }
    return tuple(sorted(found))
