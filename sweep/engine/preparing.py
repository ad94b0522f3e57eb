"""From an experiment and addresses to a run that may begin: folder locked, servers asked, plan made, record in step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import anyio.to_thread

from sweep.engine import stopping
from sweep.engine.events import Listener, Notice, RunStarted, ServerChanged
from sweep.engine.limits import Limit
from sweep.engine.options import RunOptions
from sweep.engine.packing import point
from sweep.engine.pool import Member
from sweep.errors import (
    PlanError,
    Problem,
    ServerError,
    ServerUnreachableError,
    ServerUnsupportedError,
    TransientError,
)
from sweep.experiment.definition import Experiment
from sweep.plan.binding import Plan, make_plan
from sweep.plan.instance import Instance
from sweep.record.base import Counts, RunFacts, State
from sweep.record.disk import replacing
from sweep.record.images import ImageStore
from sweep.record.journal import SqliteJournal
from sweep.record.lock import FolderLock
from sweep.servers.base import Server, ServerInfo
from sweep.workflow.graph import ModelRef, Ref, map_refs


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """Everything a run needs, held open while it lasts."""

    folder: Path
    plan: Plan
    journal: SqliteJournal
    store: ImageStore
    members: tuple[Member, ...]
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
async def prepared(
    experiment: Experiment,
    servers: Sequence[Server],
    results: Path,
    options: RunOptions,
    listener: Listener,
) -> AsyncIterator[Preparation]:
    """Raises DefinitionError, ServerError where no server can be used, or RecordError."""
    folder = results / experiment.name
    async with AsyncExitStack() as held:
        journal = await _journal(held, folder)
        members = await _members(held, servers, options, listener)
        drawn = {axis: await journal.seeds(axis, count) for axis, count in experiment.undrawn.items()}
        experiment = experiment.with_seeds(drawn) if drawn else experiment
        first = members[0].server
        plan = make_plan(experiment, await first.schemas(), await first.models())
        await _drop_unfit(plan, members, listener)
        for note in plan.notes:
            listener(Notice(message=note))
        if not await _nothing_new(plan, journal, options):
            await check_values(plan, members[0])
        run = await in_step(plan, journal, [member.info for member in members], options)
        store = ImageStore(folder, len(plan))
        await _keep_inputs(plan, journal, store, folder)
        yield Preparation(
            folder=folder,
            plan=plan,
            journal=journal,
            store=store,
            members=tuple(members),
            skip=await _skipped(plan, journal),
            run=run,
            destination=f"sweep-{experiment.name}-{await journal.identity()}",
            before=await journal.counts(),
        )


async def _journal(held: AsyncExitStack, folder: Path) -> SqliteJournal:
    await held.enter_async_context(FolderLock(folder))
    await anyio.to_thread.run_sync(stopping.clear, folder)
    journal = await SqliteJournal.open(folder)
    held.push_async_callback(journal.aclose)
    return journal


async def _members(
    held: AsyncExitStack, servers: Sequence[Server], options: RunOptions, listener: Listener
) -> list[Member]:
    """The servers that answer; those that do not are said. Raises the first one's ServerError where none does."""
    members: list[Member] = []
    refusals: list[ServerError] = []
    for server in servers:
        held.push_async_callback(server.aclose)
        try:
            info = await server.open()
        except ServerError as error:
            refusals.append(error)
            continue
        members.append(Member(server, info, Limit.of(options.concurrency or 2 * info.capacity)))
    if not members:
        raise refusals[0]
    for refusal in refusals:
        listener(Notice(message=f"{refusal.message} The run goes on without it."))
    for member in members:
        listener(ServerChanged(server=member.name, state="joined"))
    return members


async def _drop_unfit(plan: Plan, members: list[Member], listener: Listener) -> None:
    """Servers that cannot make the same pictures as the first one take no part."""
    for member in members[1:]:
        try:
            await check_models(plan, member, members[0])
        except ServerError as error:
            members.remove(member)
            listener(ServerChanged(server=member.name, state="left", reason=error.message))


async def check_models(plan: Plan, member: Member, first: Member) -> None:
    """Raises ServerError where a server lacks a model of the plan, or has another one under the same name."""
    try:
        models = {(model.name, model.base, model.type): model for model in await member.server.models()}
        wanted = {(model.name, model.base, model.type): model for model in await first.server.models()}
    except TransientError as error:
        raise ServerUnreachableError(error.message) from error
    for ref in model_refs(plan):
        place = (ref.name, ref.base, ref.type)
        if place not in models:
            raise ServerUnsupportedError(f"{member.name} has no {ref.type} model {ref.name} ({ref.base}).")
        if place in wanted and models[place].hash != wanted[place].hash:
            raise ServerUnsupportedError(
                f"{member.name} has another {ref.name} than {first.name}: their hashes differ."
            )


def model_refs(plan: Plan) -> frozenset[ModelRef]:
    """Every model, of any type, that a point of the plan may need."""
    found: set[ModelRef] = set()

    def note(ref: Ref) -> None:
        if isinstance(ref, ModelRef):
            found.add(ref)

    for _, graph in plan.probes():
        for node in graph.nodes.values():
            map_refs(dict(node.fields), note)
    return frozenset(found)


async def check_values(plan: Plan, member: Member) -> None:
    """Have the server itself look at every axis value once, before anything is queued. Raises PlanError."""
    located = list(plan.probes())
    images = {sha: image.path for sha, image in plan.images.items()}
    try:
        answers = await member.server.check([graph for _, graph in located], images)
    except TransientError as error:
        raise ServerError(error.message) from error
    problems = [Problem(message=f"{place}: {said}") for (place, _), said in zip(located, answers, strict=True) if said]
    if problems:
        raise PlanError.of(problems, plan.experiment.name)


async def _nothing_new(plan: Plan, journal: SqliteJournal, options: RunOptions) -> bool:
    """Whether the last run had the same definition and left nothing to do: then no server need be asked."""
    if options.retry_failed or await journal.fingerprint() != plan.fingerprint:
        return False
    counts = await journal.counts()
    return counts.completed + counts.failed == len(plan)


async def in_step(plan: Plan, journal: SqliteJournal, servers: Sequence[ServerInfo], options: RunOptions) -> int:
    """Begin a run on record, and bring what is on record in step with the definition; the run's number.

    Keys are computed only where the definition changed since the last run.
    """
    same = await journal.fingerprint() == plan.fingerprint
    run = await journal.begin_run(
        RunFacts(
            experiment=plan.experiment.text,
            fingerprint=plan.fingerprint,
            axes=tuple((axis.name, axis.kind) for axis in plan.axes),
            points=len(plan),
            servers=[{"name": info.name, "version": info.version, "api": info.api} for info in servers],
            command=" ".join(options.command),
            sweep_version=version("sweep-engine"),
        )
    )
    known = await journal.known_keys()
    if not same and len(known):
        await journal.rebase(
            point(plan.instance(plan.grid[index])) for index, key in plan.keys(range(len(plan))) if key in known
        )
    again: tuple[State, ...] = ("failed", "cancelled") if options.retry_failed else ("cancelled",)
    await journal.reopen(await journal.keys(*again))
    return run


async def _keep_inputs(plan: Plan, journal: SqliteJournal, store: ImageStore, folder: Path) -> None:
    """What a crash left half-written goes; the source pictures and the experiment as run go into the folder."""
    await store.clean()
    for sha, image in plan.images.items():
        path = await store.copy_input(image.path, sha)
        await journal.keep_input(sha, path, image.shown, image.width, image.height)
    await anyio.to_thread.run_sync(_write, folder / "experiment.yaml", plan.experiment.text)


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


async def _skipped(plan: Plan, journal: SqliteJournal) -> bytearray:
    skip = bytearray(len(plan))
    for index in await journal.indices("completed", "failed"):
        skip[index] = 1
    return skip


def fresh_instances(prepared: Preparation, options: RunOptions) -> Iterator[Instance]:
    """What is to be rendered, lazily, in the order that is cheapest for the servers."""
    plan, skip = prepared.plan, prepared.skip
    for index in plan.order():
        if skip[index]:
            continue
        instance = prepared.instance(index)
        if options.shard is None or plan.in_shard(instance.key, *options.shard):
            yield instance
