"""Lock, plan, journal in step, disk check, recovery of open items."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, groupby, islice
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread

from sweep.engine import shutdown as stopping
from sweep.engine.attempt import ABANDONED
from sweep.engine.events import Listener, Notice, RunStarted, ServerChanged
from sweep.engine.forecast import disk_bytes, image_size
from sweep.engine.options import RunOptions
from sweep.engine.server_pool import Member, by_name, cancel_abandoned, drop_unfit, members_of
from sweep.engine.task_groups import together
from sweep.engine.work_queue import Job, lanes
from sweep.errors import (
    DiskFullError,
    OverloadedError,
    PlanError,
    Problem,
    ServerUnreachableError,
    SweepError,
    TransientError,
)
from sweep.experiment import Experiment, InputImage, Setting
from sweep.plan import Instance, Plan, make_plan
from sweep.record import (
    FULL_HINT,
    JOURNAL_FILE,
    LOCK,
    MOST_LEVELS,
    Checkpoint,
    Counts,
    ExperimentAxis,
    ExperimentFacts,
    Failure,
    FolderLock,
    ImageStore,
    Intent,
    JournalPoint,
    JournalState,
    KnownKeys,
    RunFacts,
    SqliteJournal,
    free_bytes,
    no_checkpoint,
    read_sizes,
    replace_atomically,
)
from sweep.servers import Server, ServerInfo
from sweep.version import VERSION
from sweep.workflow import Model, ModelRef, readable

RESERVE: Final = 32 * 2**20  # bytes left for the journal, its log and the tables
_LOOK_EVERY: Final = 2.0  # seconds between looks at the disk while a run goes on

Free = Callable[[], Awaitable[int]]


async def require(free: Free, expected: int, place: str) -> None:
    """Raises DiskFullError where `expected` bytes of images will not fit."""
    there = await free()
    if there < expected + RESERVE:
        raise DiskFullError(
            f"{place}: the images will take about {_megabytes(expected + RESERVE)} and {_megabytes(there)} are free.",
            hint="Free some space, or point --results at another disk.",
        )


async def shortage(free: Free, place: str) -> DiskFullError:
    """Look at the disk until there is less left than a run should go on with; gives what to say then."""
    while (there := await free()) >= RESERVE:  # noqa: ASYNC110  a disk tells nobody
        await anyio.sleep(_LOOK_EVERY)
    return DiskFullError(f"{place}: only {_megabytes(there)} are free, too little to go on.", hint=FULL_HINT)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """Everything a run needs, held open while it lasts."""

    folder: Path
    plan: Plan
    journal: SqliteJournal
    store: ImageStore
    members: tuple[Member, ...]
    models: Mapping[ModelRef, Model]  # as the first server has them
    skip: bytearray  # by index: 1 where nothing is to be begun
    run: int
    destination: str  # names our items on every server
    before: Counts  # as the run found them

    def instance(self, index: int) -> Instance:
        """The variation at `index`, ready to be rendered."""
        return self.plan.instance(self.plan.grid[index])

    def started(self) -> RunStarted:
        """What the listener is told first."""
        return RunStarted(
            experiment=self.plan.experiment.name,
            points=len(self.plan),
            done=self.before.completed,
            failed=self.before.failed,
            former=self.before.former,
            servers=tuple(member.name for member in self.members),
            sandbox=any(member.info.sandbox for member in self.members),
            folder=str(self.folder),
        )


@asynccontextmanager
async def prepare(
    experiment: Experiment,
    servers: Sequence[Server],
    results: Path,
    options: RunOptions,
    listener: Listener,
    checkpoint: Checkpoint = no_checkpoint,
) -> AsyncIterator[Preparation]:
    """Raises DefinitionError, ServerError where no server can be used, or RecordError."""
    folder = results / experiment.name
    async with AsyncExitStack() as held:
        unbegun = await _locked(held, folder)
        journal = await SqliteJournal.open(folder, checkpoint=checkpoint)
        held.push_async_callback(journal.aclose)
        members = await members_of(held, servers, options, listener)
        drawn = {axis: await journal.seeds(axis, count) for axis, count in experiment.undrawn.items()}
        experiment = experiment.with_seeds(drawn) if drawn else experiment
        members.sort(key=lambda member: not member.opened)
        first = members[0].server
        schemas, models = await patiently(first.schemas, options), await patiently(first.models, options)
        plan = await anyio.to_thread.run_sync(make_plan, experiment, schemas, models)  # reads the workflow's file
        await _said(plan, members, by_name(models), listener)
        if not await _nothing_new(plan, journal, options):
            await check_values(plan, members[0], options)
        run = await in_step(plan, journal, [member.info for member in members if member.opened], options)
        unbegun.pop_all()
        store = ImageStore(folder, len(plan), checkpoint=checkpoint)
        await _keep_inputs(plan, journal, store, folder)
        before = await journal.counts()
        await _room(plan, before, folder, options)
        yield Preparation(
            folder=folder,
            plan=plan,
            journal=journal,
            store=store,
            members=tuple(members),
            models=by_name(models),
            skip=await _skipped(plan, journal),
            run=run,
            destination=f"sweep-{experiment.name}-{await journal.identity()}",
            before=before,
        )


async def _locked(held: AsyncExitStack, folder: Path) -> AsyncExitStack:
    """Lock the folder; what the returned stack holds is undone at the end, unless a run has begun by then.

    A run that is refused leaves no folder where there was none.
    """
    await held.enter_async_context(FolderLock(folder))
    await anyio.to_thread.run_sync(stopping.clear_stop_requests, folder)
    unbegun = await held.enter_async_context(AsyncExitStack())
    if not await anyio.to_thread.run_sync((folder / JOURNAL_FILE).exists):
        unbegun.push_async_callback(_leave_nothing, folder)
    return unbegun


async def _leave_nothing(folder: Path) -> None:
    """Also where the run was stopped before it began."""
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(_remove_unbegun, folder)


def _remove_unbegun(folder: Path) -> None:
    """Remove what a run makes before it begins: an empty journal and the lock, then the folder if that was all."""
    with contextlib.suppress(OSError):  # whatever stays is harmless: the next run takes it over
        for name in (JOURNAL_FILE, f"{JOURNAL_FILE}-wal", f"{JOURNAL_FILE}-shm", LOCK):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


async def _said(plan: Plan, members: list[Member], models: Mapping[ModelRef, Model], listener: Listener) -> None:
    """Who takes no part, and what the plan has to say."""
    for member in await drop_unfit(plan, members, models):
        assert member.left is not None
        listener(ServerChanged(server=member.name, state="left", reason=member.left.message))
    for note in await anyio.to_thread.run_sync(lambda: plan.notes):  # looks where its files lie
        listener(Notice(message=note))


async def _room(plan: Plan, before: Counts, folder: Path, options: RunOptions) -> None:
    """Raises DiskFullError where what is to be rendered will not fit."""
    past = await anyio.to_thread.run_sync(read_sizes, folder)
    width, height = image_size(plan, past)
    still = before.points - before.completed - before.failed
    if still:
        expected = disk_bytes(still // (options.shard[1] if options.shard else 1), width, height, past.sizes)
        await require(partial(anyio.to_thread.run_sync, free_bytes, folder), expected, str(folder))


async def patiently(ask: Callable[[], Awaitable[_T]], options: RunOptions) -> _T:
    """Ask a server for something that may be asked again, as often as a variation would be tried.

    Raises ServerUnreachableError where it never answers.
    """
    for attempt in count(1):
        try:
            return await ask()
        except TransientError as error:
            if attempt >= options.attempts:
                raise ServerUnreachableError(error.message) from error
            asked = error.retry_after if isinstance(error, OverloadedError) else None
            await anyio.sleep(max(options.backoff.ceiling(attempt), asked or 0.0))
    raise AssertionError("unreachable")


async def check_values(plan: Plan, member: Member, options: RunOptions) -> None:
    """Have the server itself look at every axis value once, before anything is queued. Raises PlanError."""
    located = list(plan.probes())
    images = {sha: image.path for sha, image in plan.images.items()}
    answers = await patiently(lambda: member.server.check([graph for _, graph in located], images), options)
    problems = [
        Problem(message=readable(graph, f"{place}: {said}"))
        for (place, graph), said in zip(located, answers, strict=True)
        if said
    ]
    if problems:
        raise PlanError.of(problems, plan.experiment.source or plan.experiment.name)


async def _nothing_new(plan: Plan, journal: SqliteJournal, options: RunOptions) -> bool:
    """Whether the last run had the same definition and left nothing to do: then no server need be asked."""
    if options.retry_failed or await journal.fingerprint() != plan.fingerprint:
        return False
    counts = await journal.counts()
    return counts.completed + counts.failed == len(plan)


def _facts(info: ServerInfo) -> dict[str, str]:
    facts = {"name": info.name, "version": info.version, "api": info.api}
    return {**facts, "sandbox": "true"} if info.sandbox else facts


async def in_step(plan: Plan, journal: SqliteJournal, servers: Sequence[ServerInfo], options: RunOptions) -> int:
    """Begin a run on record, and bring what is on record in step with the definition; the run's number.

    Keys are computed only where the definition changed since the last run.
    """
    same = await journal.fingerprint() == plan.fingerprint
    kept = () if same else _kept(plan, await journal.known_keys())
    run = await journal.begin_run(
        RunFacts(
            experiment=plan.experiment.text,
            fingerprint=plan.fingerprint,
            axes=tuple((axis.name, axis.kind) for axis in plan.axes),
            points=len(plan),
            servers=[_facts(info) for info in servers],
            command=shlex.join(options.command),
            sweep_version=VERSION,
            experiment_facts=describe_experiment(plan),
        ),
        kept,
    )
    again: tuple[JournalState, ...] = ("failed", "cancelled") if options.retry_failed else ("cancelled",)
    await journal.reopen(await journal.keys(*again))
    return run


def describe_experiment(plan: Plan) -> ExperimentFacts:
    """Return what study and report read of the plan's experiment."""
    experiment = plan.experiment
    return ExperimentFacts(
        name=experiment.name,
        description=experiment.description,
        workflow=experiment.workflow,
        inputs={name: _as_written(setting) for name, setting in experiment.inputs.items()},
        axes=tuple(
            ExperimentAxis(
                name=axis.name,
                kind=axis.kind,
                size=len(axis.levels),
                levels=tuple(level.value for level in islice(axis.levels, MOST_LEVELS)),
            )
            for axis in plan.axes
        ),
        metrics=experiment.study.metrics,
        baseline=dict(experiment.study.baseline),
        replicates=experiment.study.replicates,
    )


def _as_written(setting: Setting) -> Any:
    if isinstance(setting, InputImage):
        return setting.shown
    if isinstance(setting, Mapping):
        return {name: _as_written(part) for name, part in setting.items()}
    return [_as_written(part) for part in setting] if isinstance(setting, list) else setting


def _kept(plan: Plan, known: KnownKeys) -> Iterator[JournalPoint]:
    """Where each key on record stands in the definition now. Its graph, which a key decides, is not made for that."""
    for index, key in plan.keys(range(len(plan) if len(known) else 0)):
        if key in known:
            yield JournalPoint(key=key, index=index, values=plan.grid[index].values, prompt=None, model=None)


async def _keep_inputs(plan: Plan, journal: SqliteJournal, store: ImageStore, folder: Path) -> None:
    """What a crash left half-written goes; the source images and the experiment as run go into the folder."""
    await store.clean()
    for sha, image in plan.images.items():
        path = await store.copy_input(image.path, sha)
        await journal.keep_input(sha, path, image.shown, image.width, image.height)
    await anyio.to_thread.run_sync(_write, folder / "experiment.yaml", plan.experiment.text)


def _write(path: Path, text: str) -> None:
    with replace_atomically(path) as file:
        file.write(text.encode("utf-8"))


async def _skipped(plan: Plan, journal: SqliteJournal) -> bytearray:
    skip = bytearray(len(plan))
    for index in await journal.indices("completed", "failed"):
        skip[index] = 1
    return skip


def fresh_instances(prepared: Preparation, options: RunOptions) -> list[Iterator[Instance]]:
    """What is to be rendered, lazily, in the order that is cheapest for the servers.

    For several servers it is divided by the models it needs, so that each can keep to its own.
    """
    walks = lanes(prepared.plan) if len(prepared.members) > 1 else [prepared.plan.order]
    return [_fresh(prepared, options, walk()) for walk in walks]


def _fresh(prepared: Preparation, options: RunOptions, indices: Iterator[int]) -> Iterator[Instance]:
    plan, skip = prepared.plan, prepared.skip
    for index in indices:
        if skip[index]:
            continue
        instance = prepared.instance(index)
        if options.shard is None or plan.is_in_shard(instance.key, *options.shard):
            yield instance


async def open_jobs(prepared: Preparation, listener: Listener) -> list[Job]:
    """One job for each item whose end is not on record, marked in `skip` so that nothing else begins its points.

    An item the definition no longer has a use for is cancelled where it is, if its server is here, and closed; so is
    one that was given to another server by an earlier run, before this one could tell the first.
    """
    members = {member.url: member for member in prepared.members}
    for member in prepared.members:
        member.abandoned.update(await prepared.journal.ended_with(ABANDONED, member.url))
    intents = await prepared.journal.open_intents()
    jobs: list[Job] = []
    for batch, group in groupby(sorted(intents, key=lambda intent: intent.batch_id), lambda intent: intent.batch_id):
        several = list(group)
        wanted = tuple(intent for intent in several if intent.index is not None)
        if not wanted and several[0].url in members:
            members[several[0].url].abandoned.add(batch)
        if wanted:
            jobs.append(await _job(prepared, wanted))
    await together(*(_tell(member, listener) for member in prepared.members if member.left is None))
    former = Failure(kind="Former", message="the experiment no longer has this point")
    await together(*(prepared.journal.attempt_failed(i.key, former) for i in intents if i.index is None))
    return jobs


async def _tell(member: Member, listener: Listener) -> None:
    try:
        await cancel_abandoned(member)
    except SweepError as error:
        listener(Notice(message=f"{member.name}: {error.message} Items that are no longer wanted may go on there."))


async def _job(prepared: Preparation, intents: Sequence[Intent]) -> Job:
    places = [intent.index for intent in intents if intent.index is not None]
    for index in places:
        prepared.skip[index] = 1
    home = await _home(prepared.members, intents[0])
    return Job(
        instances=tuple(prepared.instance(index) for index in places),
        intents=tuple(replace(intent, url=home) for intent in intents),
        admitted=True,
    )


async def _home(members: Sequence[Member], intent: Intent) -> str:
    """The url of the server that has it: a server may be given under another address this time."""
    if any(member.url == intent.url for member in members):
        return intent.url
    for member in members:
        if member.left is None:
            try:
                if await member.server.find(intent.batch_id, intent.outputs):
                    return member.url
            except SweepError:  # one that does not answer cannot be asked to take it up, either
                continue
    return intent.url
