"""What the attempts of a run share: the record, the listener, and the list of what is at a server now."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import anyio

from sweep.engine.events import Listener
from sweep.engine.options import RunOptions
from sweep.engine.pool import Member
from sweep.engine.work import Job
from sweep.errors import ServerError
from sweep.record.base import Intent, Journal, Point
from sweep.record.checkpoints import Checkpoint, no_checkpoint
from sweep.record.images import ImageStore


@dataclass(frozen=True, slots=True)
class Flight:
    """An item at a server, or on its way there, and the points it renders."""

    member: Member
    points: tuple[Point, ...]
    outputs: tuple[str, ...]  # the nodes that give their pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Shared by every attempt of a run. `flights` is by batch id: what stage 2 of a stop has to cancel."""

    journal: Journal
    store: ImageStore
    options: RunOptions
    listener: Listener
    destination: str
    run: int
    kinds: Mapping[str, str]  # of the axes, by name: they shape the names of files
    downloads: anyio.CapacityLimiter
    leave: Callable[[Member, ServerError], None]
    took: Callable[[Member], None]  # the member took an item
    abandon: Callable[[Intent], None]  # others took it over: its server cancels it when it comes back
    outcome: Callable[[str | None], None]  # told of every outcome: None for a success, else what failed
    checkpoint: Checkpoint = no_checkpoint
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
