"""The context of a run: what it has open, and what all its attempts share, the items in flight among them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from sweep.engine import events
from sweep.engine.events import Listener
from sweep.engine.run_options import FailurePolicy, RunOptions
from sweep.engine.server_pool import PooledServer, ServerPool
from sweep.engine.uploads import UploadMemory
from sweep.engine.work_queue import WorkQueue, partition_points
from sweep.plan import FusedGraph, Instance, Plan
from sweep.record import Checkpoint, Counts, ImageStore, JournalPoint, SqliteJournal, no_checkpoint
from sweep.workflow import Model, ModelRef


@dataclass(frozen=True, slots=True)
class InFlightItem:
    """An item at a server, or on its way there, and the points it renders."""

    server: PooledServer
    points: Mapping[str, JournalPoint]  # by key
    fused: FusedGraph  # of the item as it was sent: it may hold more points than these


@dataclass(slots=True, kw_only=True)
class RunContext:
    """A run that is prepared: what it has open, and what all its attempts share."""

    folder: Path
    plan: Plan
    journal: SqliteJournal
    store: ImageStore
    pool: ServerPool
    models: Mapping[ModelRef, Model]  # of all servers, one of each name
    skip: bytearray  # by index: 1 where nothing is to be begun
    run: int
    destination: str  # names our items on every server
    before: Counts  # as the run found them
    options: RunOptions
    uploads: UploadMemory
    listener: Listener
    checkpoint: Checkpoint = no_checkpoint
    chance: random.Random = field(default_factory=random.Random)
    in_flight: dict[str, InFlightItem] = field(default_factory=dict)  # by batch id; stage 2 of a stop cancels them
    kinds: Mapping[str, str] = field(init=False)  # of the axes, by name: they shape the names of files
    work: WorkQueue = field(init=False)
    failures: FailurePolicy = field(init=False)
    downloads: anyio.Semaphore = field(init=False)
    large_download: anyio.Lock = field(default_factory=anyio.Lock)

    def __post_init__(self) -> None:
        options = self.options
        lanes = partition_points(self.plan) if len(self.pool.servers) > 1 else [self.plan.order]
        if self.plan.experiment.design.kind == "adaptive":  # its points are queued as they are chosen
            lanes = []
        self.kinds = {axis.name: axis.kind for axis in self.plan.axes}
        self.work = WorkQueue([self._iterate_fresh(lane()) for lane in lanes], servers=self.pool)
        self.failures = FailurePolicy(options.failures, options.alike)
        self.downloads = anyio.Semaphore(options.downloads, fast_acquire=True)

    def instance(self, index: int) -> Instance:
        return self.plan.instance(self.plan.grid[index])

    def _iterate_fresh(self, indices: Iterator[int]) -> Iterator[Instance]:
        shard = self.options.shard
        for index in indices:
            if not self.skip[index]:
                instance = self.instance(index)
                if shard is None or self.plan.is_in_shard(instance.key, *shard):
                    yield instance

    def stop_for(self, reason: str) -> None:
        """Tell the listener the reason, if there is one, and have no more work begun."""
        if reason:
            self.listener(events.Notice(message=reason))
            self.work.stop()
