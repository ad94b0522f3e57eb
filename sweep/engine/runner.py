"""Run(), render(): one worker per server, one task per item; RunSummary."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from sweep.engine import events
from sweep.engine import startup as space
from sweep.engine.attempt import Attempt, RunContext
from sweep.engine.limits import ItemSlot, RunSlots
from sweep.engine.options import RunOptions, Verdict
from sweep.engine.server_pool import Member, Pool, cancel_abandoned, check_models, open_member
from sweep.engine.shutdown import Stop, cancel_flights, watch_requests
from sweep.engine.startup import Preparation, fresh_instances, open_jobs, prepare
from sweep.engine.task_groups import tasks
from sweep.engine.work_queue import Job, Twins, WorkQueue
from sweep.errors import RecordError, ServerError, StoppedError, SweepError, VariationError
from sweep.record import CSV, Checkpoint, Counts, Intent, RecordedResults, free_bytes, no_checkpoint, write_tables
from sweep.servers import Server, connect

if TYPE_CHECKING:
    from sweep.experiment import Experiment
    from sweep.servers import Server


Ending: TypeAlias = Literal[
    "completed", "failures", "stopped-by-failures", "interrupted", "cancelled", "no-server", "record-broken"
]

RUN_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """Counts are of the points of the current definition; `rendered` and `seconds` of this run alone."""

    folder: Path
    ending: Ending
    points: int
    completed: int
    failed: int
    former: int
    rendered: int
    seconds: float
    reason: str = ""  # why it ended before its time, in one sentence
    error: SweepError | None = None
    hint: str = ""  # what else could be had, such as a table in another format

    @property
    def exit_code(self) -> int:
        """Return the exit code of the command: 0, 1, 3, 4 or 130."""
        if self.error is not None:
            return self.error.exit_code
        if self.ending in {"interrupted", "cancelled"} and self.completed + self.failed < self.points:
            return RUN_INTERRUPTED
        return 1 if self.failed or self.ending == "stopped-by-failures" else 0


async def end(
    prepared: Preparation,
    verdict: Verdict,
    stop: Stop,
    error: SweepError | None,
    seconds: float,
    listener: events.Listener,
) -> RunSummary:
    """Write them, as far as the disk lets us, and sum up. `error` is what ended the run before its time, if anything.

    Shielded: a run that is told to stop still says how it ended.
    """
    hint, counts = "", prepared.before
    with anyio.CancelScope(shield=True):
        try:
            counts = await prepared.journal.counts()
            await prepared.journal.end_run(prepared.run, _ending(counts, verdict, stop, error))
            hint = await anyio.to_thread.run_sync(_tables, prepared.folder, bool(verdict.outcomes))
        except RecordError as broken:
            error = error or broken
    ending = _ending(counts, verdict, stop, error)
    listener(
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
        folder=prepared.folder,
        ending=ending,
        points=counts.points,
        completed=counts.completed,
        failed=counts.failed,
        former=counts.former,
        rendered=verdict.succeeded,
        seconds=seconds,
        reason=verdict.reason or (error.message if error else ""),
        error=error,
        hint=hint,
    )


def _ending(counts: Counts, verdict: Verdict, stop: Stop, error: SweepError | None) -> Ending:
    if isinstance(error, RecordError):
        return "record-broken"
    if error is not None:
        return "no-server"
    if stop.stage and counts.completed + counts.failed < counts.points:
        return "cancelled" if stop.stage == 2 else "interrupted"
    if verdict.reason:
        return "stopped-by-failures"
    return "failures" if counts.failed else "completed"


def _tables(folder: Path, changed: bool) -> str:
    """Derive the tables anew where anything changed or they are gone; a hint if there could be more of them."""
    if not changed and (folder / CSV).is_file():
        return ""
    return write_tables(folder)[1] or ""


ASIDE = 1.0  # seconds between looks at whether a server that may not be sent anything now may be again


async def run(
    experiment: Experiment,
    servers: Sequence[Server | str],
    *,
    options: RunOptions | None = None,
    results: Path = Path("results"),
    listener: events.Listener = lambda _: None,
    stop: Stop | None = None,
    checkpoint: Checkpoint = no_checkpoint,
) -> RunSummary:
    """Render every point of `experiment` that `results/<name>` does not hold yet.

    `servers` are addresses, or servers not opened yet; they are closed at the end. Errors of single variations are
    rows of the table. Raises DefinitionError before anything is sent, ServerError where no server can be used at the
    start, RecordError where the folder cannot be written, and StoppedError where `stop` comes before the run begins.
    What ends a run later is in the summary. `checkpoint` is called at named points, for fault tests.
    """
    stop = stop or Stop()
    options = options or RunOptions()
    clients = [connect(server) if isinstance(server, str) else server for server in servers]
    async with AsyncExitStack() as held:
        preparation: Preparation | None = None
        async with tasks() as group:

            async def give_up() -> None:
                await stop.reached(1)
                group.cancel_scope.cancel()

            group.start_soon(give_up)
            preparing = prepare(experiment, clients, results, options, listener, checkpoint)
            preparation = await held.enter_async_context(preparing)
            group.cancel_scope.cancel()
        if preparation is None:
            raise StoppedError("Stopped before anything was sent.", hint="The same command begins anew.")
        return await Runner(preparation, options, listener, stop, checkpoint).run()


class Runner:
    """The tasks of one run: one that pulls work for each server, one for each item in flight, and the watchers."""

    def __init__(
        self,
        preparation: Preparation,
        options: RunOptions,
        listener: events.Listener,
        stop: Stop,
        checkpoint: Checkpoint,
    ) -> None:
        self._prepared = preparation
        self._options = options
        self._listener = listener
        self._stop = stop
        self._pool = Pool(preparation.members, listener, options.backoff)
        self._work = WorkQueue(fresh_instances(preparation, options), alive=self._pool.alive)
        self._twins = Twins(preparation.journal, listener)
        self._verdict = Verdict(options)
        self._desk = RunContext(
            journal=preparation.journal,
            store=preparation.store,
            options=options,
            listener=listener,
            destination=preparation.destination,
            run=preparation.run,
            kinds={axis.name: axis.kind for axis in preparation.plan.axes},
            downloads=anyio.CapacityLimiter(options.downloads),
            leave=self._leave,
            took=self._pool.took,
            abandon=self._abandon,
            outcome=self._outcome,
            checkpoint=checkpoint,
        )
        slots = sum(member.limit.most for member in preparation.members)
        self._places = RunSlots(2 * slots + 4 * options.downloads)
        self._error: SweepError | None = None
        self._group: TaskGroup | None = None  # what renders; the run is over when it is
        self._watchers: TaskGroup | None = None

    async def run(self) -> RunSummary:
        """The whole run, its last writes included."""
        began = time.monotonic()
        prepared = self._prepared
        self._listener(prepared.started())
        try:
            async with tasks() as self._watchers:
                self._watch()
                async with tasks() as self._group:
                    await self._take_up()
                    for member in prepared.members:
                        self._group.start_soon(self._serve, member)
                self._watchers.cancel_scope.cancel()
            if self._stop.stage == 2 and self._desk.flights:
                await cancel_flights(self._desk)
        except RecordError as error:
            self._error = self._error or error
        seconds = time.monotonic() - began
        return await end(prepared, self._verdict, self._stop, self._error, seconds, self._listener)

    async def _take_up(self) -> None:
        """What an earlier run left open; whoever stops this one does not wait for servers to be asked about it."""
        async with tasks() as asking:

            async def give_up() -> None:
                await self._stop.reached(1)
                asking.cancel_scope.cancel()

            asking.start_soon(give_up)
            for job in await open_jobs(self._prepared, self._listener):
                self._twins.begin(job.keys)
                self._work.put(job)
            asking.cancel_scope.cancel()

    def _watch(self) -> None:
        assert self._watchers is not None
        self._watchers.start_soon(self._watch_stop)
        self._watchers.start_soon(watch_requests, self._stop, self._prepared.folder)
        self._watchers.start_soon(self._watch_pool)
        self._watchers.start_soon(self._watch_disk)
        self._watchers.start_soon(self._watch_record)
        for member in self._prepared.members:
            if member.left is not None:
                self._watchers.start_soon(self._revive, member)

    async def _serve(self, member: Member) -> None:
        """Pull work for one server for as long as there is any: the slot first, then the task."""
        assert self._group is not None
        try:
            while True:
                place = await self._places.enter(member.slots)
                job = await self._next_job(member)
                if job is None:
                    place.leave()
                    return
                self._group.start_soon(self._attempt, member, job, place)
        except SweepError as error:
            self._break_off(error)

    async def _next_job(self, member: Member) -> Job | None:
        """The next job once the server may be given one; None when there will be none any more."""
        while not self._work.over:
            if aside := await self._aside(member):
                await self._work.change_within(aside)
                continue
            limit = ASIDE if self._options.idle_only else None  # then what was seen of others' items is old
            with anyio.move_on_after(limit):
                return await self._work.take(member.url, self._size(member))
        return None

    async def _aside(self, member: Member) -> float:
        """Seconds to leave the server alone: because it asked so, because other people's items wait there, or because
        what it is rendering tells how many variations the next item should have.
        """
        if member.fusion.learning and member.slots.borrowed_tokens > 1:
            return ASIDE
        if member.held or not self._options.idle_only or member.left is not None:
            return min(member.held, ASIDE)
        try:
            busy = await member.server.others_waiting(self._desk.destination)
        except ServerError as error:
            self._leave(member, error)
            return 0.0
        except SweepError:
            return ASIDE
        return ASIDE if busy else 0.0

    def _size(self, member: Member) -> int:
        """Variations for the member's next item: towards the end fewer, so that no server idles while one has many."""
        alive = [each for each in self._pool.members if each.left is None]
        workers = sum(each.info.capacity for each in alive) * min(2, len(alive)) or 1
        begun = self._prepared.before
        still = begun.points - begun.completed - begun.failed - self._work.handed
        return max(1, min(member.fusion.size, -(-still // workers)))

    async def _attempt(self, member: Member, job: Job, place: ItemSlot) -> None:
        try:
            admitted = await self._twins.admit(job)
            left = await Attempt(self._desk, member, admitted, place.give_slot_back).run() if admitted else []
            for each in left:
                self._work.put(replace(each.job, admitted=True, standing=None), each.delay)
            open_ = {key for each in left for key in each.job.keys}
            await self._twins.over([key for key in admitted.keys if key not in open_] if admitted else [])
        except SweepError as error:
            self._break_off(error)
        finally:
            place.leave()
            self._work.finish()

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
        await open_member(member, self._options)
        await check_models(self._prepared.plan, member, self._prepared.models)

    def _abandon(self, intent: Intent) -> None:
        for member in self._pool.members:
            if member.url == intent.url:
                member.abandoned.add(intent.batch_id)
                if member.left is None and self._watchers is not None:  # it came back this very moment
                    self._watchers.start_soon(self._revoke, member)

    async def _revoke(self, member: Member) -> None:
        try:
            await cancel_abandoned(member)
        except SweepError as error:
            self._listener(events.Notice(message=f"{member.name}: {error.message} It may render an item twice."))

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
        """End the run when no server is left that could do anything, or none took work for too long."""
        until: float | None = None  # when patience ends, while no server takes work
        while True:
            changed = self._pool.changed
            if self._pool.serving():
                until = None
                await changed.wait()
                continue
            until = until or anyio.current_time() + self._options.patience
            with anyio.CancelScope(deadline=0 if self._pool.hopeless() else until) as patience:
                await changed.wait()
            if patience.cancelled_caught:
                assert self._pool.last is not None
                self._break_off(self._pool.last)
                return

    async def _watch_disk(self) -> None:
        """Begin nothing more when the disk is nearly full; what is in flight is finished while it can be."""
        folder = self._prepared.folder
        full = await space.shortage(partial(anyio.to_thread.run_sync, free_bytes, folder), str(folder))
        self._error = self._error or full
        self._listener(events.Notice(message=full.message))
        self._work.stop()

    async def _watch_record(self) -> None:
        """End the run when the folder it writes to is gone from where it was."""
        try:
            while True:
                await anyio.sleep(space._LOOK_EVERY)
                await self._prepared.journal.require_in_place()
        except RecordError as error:
            self._break_off(error)


_AGAIN: Final = RunOptions(retry_failed=True)


async def render(
    workflow: str | Path,
    inputs: Mapping[str, Any] | None = None,
    *,
    server: Server | str,
    results: Path = Path("results"),
    name: str = "once",
    options: RunOptions = _AGAIN,
) -> tuple[Path, ...]:
    """Render `workflow` (a template's name, or the path of a file) with these `inputs` (roles or node.field addresses)
    on `server`, wait for it, and give the images' files, in the order of the output nodes.

    They lie in `results/name`, as those of a run do. The same call again renders nothing and gives the same files.
    Relative paths start from the working directory. Bound the waiting with `asyncio.timeout`: the item then stays on
    the server, and the same call later takes it up where it is.

    Raises DefinitionError before anything is sent (a strength of 1.5, a model the server lacks), ServerError where the
    server cannot be used, VariationError where the image cannot be rendered, RecordError for `results`.
    """
    from sweep.experiment import Experiment

    wanted = {"name": name, "workflow": str(workflow), "inputs": dict(inputs or {})}
    experiment = await anyio.to_thread.run_sync(Experiment.from_dict, wanted)
    summary = await run(experiment, [server], options=options, results=results)
    if summary.error is not None:
        raise summary.error
    return await anyio.to_thread.run_sync(_images, summary.folder)


def _images(folder: Path) -> tuple[Path, ...]:
    rows = list(RecordedResults.open(folder).rows())
    for row in rows:
        if row["status"] == "failed":
            raise VariationError(str(row["error"]))
    found = tuple(folder / str(row["image_path"]) for row in rows if row["image_path"])
    if not found:
        raise SweepError("The run ended before the image was rendered.", hint="The same call again goes on with it.")
    return found
