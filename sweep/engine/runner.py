"""A run: every open point of the grid goes to a server with a free slot, until there is none or somebody says stop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from sweep.engine import events
from sweep.engine.adoption import open_jobs
from sweep.engine.attempt import Attempt
from sweep.engine.desk import Desk, together
from sweep.engine.options import RunOptions
from sweep.engine.places import Place, Places
from sweep.engine.pool import Member, Pool
from sweep.engine.preparing import Preparation, check_models, fresh_instances, prepared
from sweep.engine.stopping import Stop, watch_requests
from sweep.engine.summary import Ending, RunSummary
from sweep.engine.verdict import Verdict
from sweep.engine.work import Job, Work
from sweep.errors import RecordError, ServerError, SweepError
from sweep.record.base import Counts, Intent
from sweep.record.table import CSV, write_tables
from sweep.servers.base import Server
from sweep.servers.connecting import connect

if TYPE_CHECKING:
    from sweep.experiment.definition import Experiment

CANCEL_DEADLINE = 10.0  # seconds a stop of stage 2 may take to cancel what is ours


async def run(
    experiment: Experiment,
    servers: Sequence[Server | str],
    *,
    options: RunOptions | None = None,
    results: Path = Path("results"),
    listener: events.Listener = lambda _: None,
    stop: Stop | None = None,
) -> RunSummary:
    """Render every point of `experiment` that `results/<name>` does not hold yet.

    `servers` are addresses, or servers not opened yet; they are closed at the end. Errors of single variations are
    rows of the table. Raises DefinitionError before anything is sent, ServerError where no server can be used at the
    start, and RecordError where the folder cannot be written. What ends a run later is in the summary.
    """
    stop = stop or Stop()
    options = options or RunOptions()
    clients = [connect(server) if isinstance(server, str) else server for server in servers]
    async with prepared(experiment, clients, results, options, listener) as preparation:
        return await Runner(preparation, options, listener, stop).run()


class Runner:
    """The tasks of one run: one that pulls work for each server, one for each item in flight, and the watchers."""

    def __init__(self, preparation: Preparation, options: RunOptions, listener: events.Listener, stop: Stop) -> None:
        self._prepared = preparation
        self._options = options
        self._listener = listener
        self._stop = stop
        self._pool = Pool(preparation.members, listener, options.backoff)
        self._work = Work(fresh_instances(preparation, options), alive=self._pool.alive)
        self._verdict = Verdict(options)
        self._desk = Desk(
            journal=preparation.journal,
            store=preparation.store,
            options=options,
            listener=listener,
            destination=preparation.destination,
            kinds={axis.name: axis.kind for axis in preparation.plan.axes},
            downloads=anyio.CapacityLimiter(options.downloads),
            leave=self._leave,
            abandon=self._abandon,
            outcome=self._outcome,
        )
        slots = sum(member.limit.most for member in preparation.members)
        self._places = Places(2 * slots + 4 * options.downloads)
        self._error: SweepError | None = None
        self._group: TaskGroup | None = None  # what renders; the run is over when it is
        self._watchers: TaskGroup | None = None

    async def run(self) -> RunSummary:
        """The whole run, its last writes included."""
        began = time.monotonic()
        prepared = self._prepared
        self._listener(prepared.started())
        for job in await open_jobs(prepared):
            self._work.put(job)
        async with anyio.create_task_group() as self._watchers:
            self._watchers.start_soon(self._watch_stop)
            self._watchers.start_soon(watch_requests, self._stop, prepared.folder)
            self._watchers.start_soon(self._watch_pool)
            async with anyio.create_task_group() as self._group:
                for member in prepared.members:
                    self._group.start_soon(self._serve, member)
            self._watchers.cancel_scope.cancel()
        if self._stop.stage == 2 and self._desk.flights:
            await self._cancel_flights()
        return await self._end(time.monotonic() - began)

    async def _serve(self, member: Member) -> None:
        """Pull work for one server for as long as there is any: the slot first, then the task."""
        assert self._group is not None
        while True:
            place = await self._places.enter(member.slots)
            await member.ready()
            if self._options.idle_only:
                await self._idle(member)
            job = await self._work.take(member.url, self._size(member))
            if job is None:
                place.leave()
                return
            self._group.start_soon(self._attempt, member, job, place)

    def _size(self, member: Member) -> int:
        """Variations for the member's next item: towards the end fewer, so that no server idles while one has many."""
        alive = [each for each in self._pool.members if each.left is None]
        workers = sum(each.info.capacity for each in alive) * min(2, len(alive)) or 1
        begun = self._prepared.before
        still = begun.points - begun.completed - begun.failed - self._work.handed
        return max(1, min(member.fusion.size, -(-still // workers)))

    async def _attempt(self, member: Member, job: Job, place: Place) -> None:
        try:
            for left in await Attempt(self._desk, member, job, place.give_slot_back).run():
                self._work.put(left.job, left.delay)
        except SweepError as error:
            self._break_off(error)
        finally:
            place.leave()
            self._work.finish()

    async def _idle(self, member: Member) -> None:
        """Wait while other people's items are pending or running at the server."""
        wait = max(0.05, self._options.backoff.ceiling(3))
        while not self._stop.stage and await member.server.others_waiting(self._desk.destination):  # noqa: ASYNC110
            await anyio.sleep(wait)

    def _break_off(self, error: SweepError) -> None:
        """End the run now: what is at the servers stays open on record, and the next run takes it up."""
        self._error = self._error or error
        if self._group is not None:
            self._group.cancel_scope.cancel()

    def _leave(self, member: Member, reason: ServerError) -> None:
        newly = member.left is None
        self._pool.leave(member, reason)
        self._work.wake()
        if newly and self._watchers is not None:
            self._watchers.start_soon(self._revive, member)

    async def _revive(self, member: Member) -> None:
        await self._pool.revive(member, self._ready)
        self._work.wake()

    async def _ready(self, member: Member) -> None:
        await check_models(self._prepared.plan, member, self._prepared.models)

    def _abandon(self, intent: Intent) -> None:
        for member in self._pool.members:
            if member.url == intent.url:
                member.abandoned.add(intent.batch_id)

    def _outcome(self, failure: str | None) -> None:
        if reason := self._verdict.after(failure):
            self._listener(events.Notice(message=reason))
            self._work.stop()

    async def _watch_stop(self) -> None:
        await self._stop.reached(1)
        self._work.stop()
        self._listener(events.Stopping(stage=1, in_flight=self._work.in_flight))
        await self._stop.reached(2)
        self._listener(events.Stopping(stage=2, in_flight=self._work.in_flight))
        if self._group is not None:
            self._group.cancel_scope.cancel()

    async def _watch_pool(self) -> None:
        """End the run when no server is left that could do anything, or none came back for too long."""
        while True:
            changed = self._pool.changed
            if self._pool.alive():
                await changed.wait()
                continue
            with anyio.move_on_after(0 if self._pool.hopeless() else self._options.patience) as patience:
                await changed.wait()
            if patience.cancelled_caught:
                reasons = [member.left for member in self._pool.members if member.left]
                self._break_off(reasons[0])
                return

    async def _cancel_flights(self) -> None:
        """Cancel on the servers what is ours, and only that; whatever they answer, be done within the deadline."""
        flights = dict(self._desk.flights)
        with anyio.move_on_after(CANCEL_DEADLINE, shield=True):
            for member in self._pool.members:
                ours = [batch for batch, flight in flights.items() if flight.member is member]
                if not ours or member.left is not None:
                    continue
                try:
                    await member.server.cancel(ours)
                except SweepError as error:
                    self._listener(events.Notice(message=f"{member.name}: {error.message}; its items may go on."))
            ours_open = {point.key for flight in flights.values() for point in flight.points}
            begun = await self._prepared.journal.keys("intended", "submitted")
            await together(*(self._prepared.journal.cancel(key) for key in begun if key in ours_open))

    async def _end(self, seconds: float) -> RunSummary:
        """The last writes: how the run ended, and the tables. Disk or journal may be what ended it."""
        journal, verdict = self._prepared.journal, self._verdict
        hint = ""
        try:
            counts = await journal.counts()
            ending = self._ending(counts)
            if not isinstance(self._error, RecordError):
                await journal.end_run(self._prepared.run, ending)
                hint = await anyio.to_thread.run_sync(_tables, self._prepared.folder, bool(verdict.outcomes))
        except RecordError as error:
            self._error = self._error or error
            counts = self._prepared.before
            ending = self._ending(counts)
        self._listener(
            events.RunEnded(
                ending=ending,
                completed=counts.completed,
                failed=counts.failed,
                points=counts.points,
                rendered=verdict.succeeded,
                seconds=seconds,
            )
        )
        return RunSummary(
            folder=self._prepared.folder,
            ending=ending,
            points=counts.points,
            completed=counts.completed,
            failed=counts.failed,
            former=counts.former,
            rendered=verdict.succeeded,
            seconds=seconds,
            reason=verdict.reason or (self._error.message if self._error else ""),
            error=self._error,
            hint=hint,
        )

    def _ending(self, counts: Counts) -> Ending:
        if isinstance(self._error, RecordError):
            return "record-broken"
        if self._error is not None:
            return "no-server"
        if self._stop.stage and counts.completed + counts.failed < counts.points:
            return "cancelled" if self._stop.stage == 2 else "interrupted"
        if self._verdict.reason:
            return "stopped-by-failures"
        return "failures" if counts.failed else "completed"


def _tables(folder: Path, changed: bool) -> str:
    """Derive the tables anew where anything changed or they are gone; a hint if there could be more of them."""
    if not changed and (folder / CSV).is_file():
        return ""
    return write_tables(folder)[1] or ""
