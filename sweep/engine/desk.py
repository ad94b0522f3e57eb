"""What the attempts of a run share: the record, the listener, and the list of what is at a server now."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio

from sweep.engine.events import Listener
from sweep.engine.options import RunOptions
from sweep.engine.pool import Member
from sweep.engine.work import Job
from sweep.errors import ServerError
from sweep.record.base import Intent, Journal, Point
from sweep.record.images import ImageStore


@dataclass(frozen=True, slots=True)
class Flight:
    """An item at a server, and the points it renders."""

    member: Member
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Shared by every attempt of a run. `flights` is by batch id: what stage 2 of a stop has to cancel."""

    journal: Journal
    store: ImageStore
    options: RunOptions
    listener: Listener
    destination: str
    kinds: Mapping[str, str]  # of the axes, by name: they shape the names of files
    downloads: anyio.CapacityLimiter
    leave: Callable[[Member, ServerError], None]
    abandon: Callable[[Intent], None]  # others took it over: its server cancels it when it comes back
    outcome: Callable[[str | None], None]  # told of every outcome: None for a success, else what failed
    chance: random.Random = field(default_factory=random.Random)
    flights: dict[str, Flight] = field(default_factory=dict)

    def stem(self, point: Point) -> str:
        """The name of a variation's picture file, without its ending."""
        return self.store.stem(point.index, point.values, self.kinds)


@dataclass(frozen=True, slots=True)
class Next:
    """What is left of a job, to be tried `delay` seconds from now at the earliest."""

    job: Job
    delay: float = 0.0


async def together(*calls: Awaitable[Any]) -> None:
    """Await all of them at once, so that they share one commit. Raises what the first failing one raised."""
    if len(calls) == 1:
        await calls[0]
        return
    failures: list[Exception] = []

    async def one(call: Awaitable[Any]) -> None:
        try:
            await call
        except Exception as error:  # noqa: BLE001 - raised again below, without the group around it
            failures.append(error)

    async with anyio.create_task_group() as group:
        for call in calls:
            group.start_soon(one, call)
    if failures:
        raise failures[0]
