"""Run an experiment: `run` renders every point, `render` a single image.

One worker for each server waits for a slot and only then takes a job and makes a task for it, so a task exists only
while its variation is in flight and memory is flat in the size of the grid. Watchers run beside the workers: for stop
requests, for servers that left, for the disk and for the folder.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

from sweep.engine import events
from sweep.engine.attempt import Attempt
from sweep.engine.concurrency import ItemSlot, open_task_group
from sweep.engine.item_size import LONGEST_ITEM, MOST_FUSED, MOST_NODES, SHORT_ITEM, FusionSize
from sweep.engine.run_context import RunContext
from sweep.engine.run_options import RunOptions
from sweep.engine.server_pool import PooledServer
from sweep.engine.shutdown import Stop, cancel_in_flight, watch_requests
from sweep.engine.startup import RESERVE, prepare, recover_jobs
from sweep.engine.work_queue import Deduplicator, Job
from sweep.errors import DiskFullError, RecordError, ServerError, StoppedError, SweepError, UsageError, VariationError
from sweep.record import CSV, FULL_HINT, Checkpoint, Counts, RecordedResults, free_bytes, no_checkpoint, write_tables
from sweep.servers import Server, connect
from sweep.text import format_size, make_list
from sweep.types import Scalar

if TYPE_CHECKING:
    from sweep.experiment import Experiment


Ending: TypeAlias = Literal[
    "completed", "failures", "stopped-by-failures", "interrupted", "cancelled", "no-server", "record-broken"
]

RUN_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """The end of a run. Counts are of the points of the current definition; `rendered` and `seconds` of this run."""

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


Chooser: TypeAlias = Callable[[Path], Sequence[Mapping[str, Scalar]]]
"""Gives the points that an adaptive design wants next, by the values of their axes, from what the folder has on record.

Called in a thread after each image; none at its end. `sweep.study.choose_next_points` is one.
"""

LOOK_EVERY = 2.0  # seconds between looks at the folder and its disk
ASIDE = 1.0  # seconds between looks at whether a server that may not be sent anything now may be again


async def run(
    experiment: Experiment,
    servers: Sequence[Server | str],
    *,
    options: RunOptions | None = None,
    results: Path | str = "results",
    listener: events.Listener = lambda _: None,
    stop: Stop | None = None,
    checkpoint: Checkpoint = no_checkpoint,
    choose: Chooser | None = None,
) -> RunSummary:
    """Render every point of `experiment` that `results/<name>` does not hold yet.

    Errors of single variations are rows of the table; what ends a run later is in the summary.

    Args:
        experiment: What is asked.
        servers: Addresses (or one), or servers that are not open yet; they are closed at the end.
        options: Concurrency, attempts, limits.
        results: The folder that holds the results folders.
        listener: Called with each event, on the event loop; it must not block.
        stop: Asks the run to stop: `Stop.request`.
        checkpoint: Called at named points, for fault tests.
        choose: Gives the next points of an adaptive design: `sweep.study.choose_next_points`.

    Raises:
        UsageError: No server is given, or the design is adaptive, and there is no `choose`.
        DefinitionError: Before anything is sent.
        ServerError: No server can be used at the start.
        RecordError: The folder cannot be written.
        StoppedError: `stop` came before the run began.

    Example:
        ``summary = await sweep.run(Experiment.load("cup.yaml"), ["http://127.0.0.1:9090"])``
    """
    stop = stop or Stop()
    options = options or RunOptions()
    if experiment.design.kind == "adaptive" and (choose is None or options.shard):
        missing = "needs run(…, choose=sweep.study.choose_next_points)"
        raise UsageError(f"An adaptive design {missing if choose is None else 'cannot be divided into shards'}.")
    if not servers:
        raise UsageError("A run needs at least one server.")
    clients = [connect(server) if isinstance(server, str) else server for server in make_list(servers)]
    async with AsyncExitStack() as held:
        context: RunContext | None = None
        async with _unless_stopped(stop):
            preparing = prepare(experiment, clients, Path(results), options, listener, checkpoint)
            context = await held.enter_async_context(preparing)
        if context is None:
            raise StoppedError("Stopped before anything was sent.", hint="The same command begins anew.")
        return await Runner(context, stop, choose).run()


@asynccontextmanager
async def _unless_stopped(stop: Stop) -> AsyncIterator[None]:
    """Cancel the body when the run is asked to stop."""
    async with open_task_group() as group:

        async def cancel_body() -> None:
            await stop.wait_for(1)
            group.cancel_scope.cancel()

        group.start_soon(cancel_body)
        yield
        group.cancel_scope.cancel()


class Runner:
    """The tasks of one run: a worker for each server, one task for each item in flight, and the watchers."""

    def __init__(self, context: RunContext, stop: Stop, choose: Chooser | None = None) -> None:
        self._context = context
        self._options = options = context.options
        self._listener = context.listener
        self._pool = context.pool
        self._work = context.work
        self._stop = stop
        self._choose = choose if context.plan.experiment.design.kind == "adaptive" else None
        self._choosing = anyio.Lock()
        self._is_choice_due = False
        self._chosen: set[int] = set()
        self._is_decided = False
        self._duplicates = Deduplicator(context.journal, context.listener)
        fuse = options.fuse if context.plan.is_fusable else options.fuse or 1
        most = min(MOST_FUSED, max(1, MOST_NODES // len(context.plan.graph.nodes)))
        for server in self._pool.servers:
            server.fusion = FusionSize(fuse, most=most)
        at_servers = sum(server.limit.most for server in self._pool.servers)
        self._slots = anyio.CapacityLimiter(2 * at_servers + 4 * options.downloads)
        self._rendering = anyio.CancelScope()
        self._fresh = 0  # points that the queue has to hand out for the first time
        self._error: SweepError | None = None

    async def run(self) -> RunSummary:
        """Run to the end, the last writes included."""
        began = time.monotonic()
        context = self._context
        self._report_start()
        try:
            async with open_task_group() as watchers:
                for watch in (self._watch_stop, self._watch_pool, self._watch_folder):
                    watchers.start_soon(watch)
                watchers.start_soon(watch_requests, self._stop, context.folder)
                watchers.start_soon(self._pool.maintain, context.plan, context.models)
                with self._rendering:
                    await self._render_all()
                watchers.cancel_scope.cancel()
            if self._stop.stage == 2 and context.in_flight:
                await cancel_in_flight(context)
        except RecordError as error:
            self._error = self._error or error
        return await self._conclude(time.monotonic() - began)

    def _report_start(self) -> None:
        context = self._context
        self._listener(
            events.RunStarted(
                experiment=context.plan.experiment.name,
                points=context.plan.most,
                done=context.before.completed,
                failed=context.before.failed,
                former=context.before.former,
                servers=tuple(server.name for server in self._pool.servers),
                sandbox=any(server.info.sandbox for server in self._pool.servers),
                folder=str(context.folder),
            )
        )

    async def _conclude(self, seconds: float) -> RunSummary:
        """Write how the run ended and its tables, as far as the disk lets us, and return the summary.

        Shielded: a run that is told to stop still says how it ended.
        """
        context, failures = self._context, self._context.failures
        hint, counts = "", context.before
        with anyio.CancelScope(shield=True):
            try:
                counts = await context.journal.counts()
                if self._is_decided:  # an adaptive design wants no more: the points there are were all of them
                    counts = replace(counts, points=counts.completed + counts.failed)
                points = counts.points if self._is_decided else None
                await context.journal.end_run(context.run, self._name_ending(counts), points)
                if failures.outcomes or await run_sync(_is_table_old, context.folder):
                    _, missing = await run_sync(write_tables, context.folder)
                    hint = missing or ""
            except RecordError as broken:
                self._error = self._error or broken
                with suppress(RecordError):  # where the tables alone could not be written, the next run writes them
                    await context.journal.end_run(context.run, self._name_ending(counts))
        summary = RunSummary(
            folder=context.folder,
            ending=self._name_ending(counts),
            points=counts.points,
            completed=counts.completed,
            failed=counts.failed,
            former=counts.former,
            rendered=failures.succeeded,
            seconds=seconds,
            reason=failures.reason or (self._error.message if self._error else ""),
            error=self._error,
            hint=hint,
        )
        self._listener(
            events.RunEnded(
                ending=summary.ending,
                completed=summary.completed,
                failed=summary.failed,
                points=summary.points,
                rendered=summary.rendered,
                seconds=seconds,
            )
        )
        return summary

    def _name_ending(self, counts: Counts) -> Ending:
        if isinstance(self._error, RecordError):
            return "record-broken"
        if self._error is not None:
            return "no-server"
        if self._stop.stage and counts.completed + counts.failed < counts.points:
            return "cancelled" if self._stop.stage == 2 else "interrupted"
        if self._context.failures.reason:
            return "stopped-by-failures"
        return "failures" if counts.failed else "completed"

    async def _render_all(self) -> None:
        async with open_task_group() as group:
            async with _unless_stopped(self._stop):  # a stop does not wait for servers to be asked what they have
                for job in await recover_jobs(self._context):
                    self._duplicates.register(job.instances)
                    self._work.put(job)
            parts = self._options.shard[1] if self._options.shard else 1
            self._fresh = self._context.skip.count(0) // parts
            await self._queue_chosen()
            for server in self._pool.servers:
                group.start_soon(self._serve, server, group)

    async def _queue_chosen(self) -> None:
        """Queue what an adaptive design wants next, which depends on the images that are there.

        While one choice waits for another to end, it is made for all images that come until then.
        """
        if self._choose is None or self._is_choice_due:
            return
        self._is_choice_due = True
        async with self._choosing:
            self._is_choice_due = False
            wanted = await run_sync(self._choose, self._context.folder)
        self._is_decided = not wanted
        for values in wanted:
            index = self._context.plan.experiment.grid.index_of(values)
            if index not in self._chosen and not self._context.skip[index]:
                self._chosen.add(index)
                self._work.put(Job(instances=(self._context.instance(index),)))

    async def _serve(self, server: PooledServer, group: TaskGroup) -> None:
        """Pull work for one server for as long as there is any: the slot first, then the job, then its task."""
        try:
            while True:
                slot = await ItemSlot.acquire(self._slots, server.limit.slots)
                job = await self._wait_for_job(server)
                if job is None:
                    slot.release()
                    return
                group.start_soon(self._attempt, server, job, slot)
        except SweepError as error:
            self._break_off(error)

    async def _wait_for_job(self, server: PooledServer) -> Job | None:
        """Wait until the server may get a job and return it; None when there will be none any more."""
        while not self._work.is_over:
            if aside := await self._compute_pause(server):
                await self._work.wait_for_change(aside)
                continue
            size = self._pool.choose_size(server, self._fresh - self._work.handed, anyio.current_time())
            if not size:
                await self._work.wait_for_change(min(ASIDE, server.seconds_each))
                continue
            if not self._options.idle_only:
                return await self._work.take(server.url, size)
            with anyio.move_on_after(ASIDE):  # then what was seen of others' items is old
                return await self._work.take(server.url, size)
        return await self._work.take(server.url)  # None, and for the other servers, too

    async def _compute_pause(self, server: PooledServer) -> float:
        """Return the seconds for which the server should get no new item.

        It asked for a pause, the item that it renders will tell how many variations the next one should have, or, with
        `idle_only`, other people's items wait there. Without, the next item is short while they wait.
        """
        is_idle_only = self._options.idle_only
        has_more = server.limit.slots.borrowed_tokens > 1  # beside the slot that waits for this
        if has_more and (learning := server.fusion.compute_learning_pause(anyio.current_time())):
            return learning
        if server.hold_seconds or server.left is not None:
            return min(server.hold_seconds, ASIDE)
        if not is_idle_only and (self._options.fuse is not None or server.fusion.size == 1):
            return 0.0
        try:
            busy = bool(await server.server.count_others_waiting(self._context.destination))
        except SweepError as error:  # without `idle_only`, what is wrong there shows when the item is submitted
            busy = is_idle_only
            if is_idle_only and isinstance(error, ServerError):
                self._pool.suspend(server, error)
                return 0.0
        server.fusion.longest = SHORT_ITEM if busy else LONGEST_ITEM
        return ASIDE if busy and is_idle_only else 0.0

    async def _attempt(self, server: PooledServer, job: Job, slot: ItemSlot) -> None:
        server.count_variations(len(job.instances), anyio.current_time())
        try:
            admitted = await self._duplicates.admit(job, partial(self._work.look_ahead, server.url))
            left = await Attempt(self._context, server, admitted, slot).run() if admitted else []
            for again in left:
                self._work.put(replace(again, admitted=True, standing=None))
            open_ = {key for again in left for key in again.keys}
            await self._duplicates.finish([key for key in admitted.keys if key not in open_] if admitted else [])
            await self._queue_chosen()
        except SweepError as error:
            self._break_off(error)
        finally:
            server.count_variations(-len(job.instances), anyio.current_time())
            slot.release()
            self._work.finish()

    def _break_off(self, error: SweepError) -> None:
        """End the run now: what is at the servers stays open on record, and the next run takes it up."""
        self._error = self._error or error
        self._rendering.cancel()

    async def _watch_stop(self) -> None:
        await self._stop.wait_for(1)
        self._work.stop()
        self._listener(events.Stopping(stage=1, in_flight=self._work.in_flight))
        await self._stop.wait_for(2)
        self._listener(events.Stopping(stage=2, in_flight=self._work.in_flight))
        self._rendering.cancel()

    async def _watch_pool(self) -> None:
        """End the run when no server is left that could do anything, or none took work for too long."""
        until: float | None = None  # when patience ends, while no server takes work
        while True:
            event = self._pool.changes.event
            is_stuck = self._work.is_stuck
            if self._pool.is_serving and not is_stuck:
                until = None
                await event.wait()
                continue
            until = until or anyio.current_time() + self._options.patience
            is_hopeless = self._pool.is_hopeless(is_stuck=is_stuck)
            with anyio.CancelScope(deadline=0 if is_hopeless else until) as patience:
                await event.wait()
            if patience.cancelled_caught:
                none = self._pool.last_reason or ServerError("No server takes work.")
                self._break_off(self._pool.explain_stuck() if is_stuck and self._pool.is_serving else none)
                return

    async def _watch_folder(self) -> None:
        """End the run when its folder is gone; begin nothing more when its disk is nearly full."""
        folder = self._context.folder
        try:
            while True:
                await self._context.journal.require_in_place()
                there = await run_sync(free_bytes, folder)
                if there < RESERVE and self._error is None:
                    message = f"{folder}: only {format_size(there)} are free, too little to go on."
                    self._error = DiskFullError(message, hint=FULL_HINT)
                    self._listener(events.Notice(message=message))
                    self._work.stop()
                await anyio.sleep(LOOK_EVERY)
        except RecordError as error:
            self._break_off(error)


def _is_table_old(folder: Path) -> bool:
    """Tell whether a run that rendered nothing has to write the tables all the same, by what the one before it left."""
    *earlier, now = RecordedResults(folder).runs()
    if not earlier or not (folder / CSV).is_file() or earlier[-1].ending in (None, "record-broken"):
        return True
    return earlier[-1].facts.fingerprint != now.facts.fingerprint


_AGAIN: Final = RunOptions(retry_failed=True)


async def render(
    workflow: str | Path,
    inputs: Mapping[str, Any] | None = None,
    *,
    server: Server | str,
    results: Path | str = "results",
    name: str = "once",
    options: RunOptions = _AGAIN,
) -> tuple[Path, ...]:
    """Render `workflow` (a template's name, or the path of a file) with these `inputs` (roles or node.field addresses)
    on `server`, wait for it, and give the images' files, in the order of the output nodes.

    They lie in `results/name`, as those of a run do. The same call again renders nothing and gives the same files.
    Of calls that run at the same time, those with the same `name` take turns; give each its own to render side by side.
    Relative paths start from the working directory. Bound the waiting with `asyncio.timeout`: the item then stays on
    the server, and the same call later takes it up where it is.

    Raises DefinitionError before anything is sent (a strength of 1.5, a model the server lacks), ServerError where the
    server cannot be used, VariationError where the image cannot be rendered, RecordError for `results`.
    """
    from sweep.experiment import Experiment

    wanted = {"name": name, "workflow": str(workflow), "inputs": dict(inputs or {})}
    experiment = await run_sync(Experiment.from_dict, wanted)
    async with _take_turn(Path(results) / name):
        summary = await run(experiment, [server], options=options, results=results)
        if summary.error is not None:
            raise summary.error
        return await run_sync(_list_images, summary.folder)


_TURNS: Final[RunVar[dict[Path, anyio.Lock]]] = RunVar("turns")


@asynccontextmanager
async def _take_turn(folder: Path) -> AsyncIterator[None]:
    """Wait until no other task of this event loop renders into the folder."""
    turns = _TURNS.get({})
    _TURNS.set(turns)
    turn = turns.setdefault(folder, anyio.Lock())
    async with turn:
        yield
    if not turn.statistics().tasks_waiting:
        turns.pop(folder, None)


def _list_images(folder: Path) -> tuple[Path, ...]:
    rows = list(RecordedResults.open(folder).rows())
    for row in rows:
        if row["status"] == "failed":
            raise VariationError(str(row["error"]))
    found = tuple(folder / str(row["image_path"]) for row in rows if row["image_path"])
    if not found:
        raise SweepError("The run ended before the image was rendered.", hint="The same call again goes on with it.")
    return found
