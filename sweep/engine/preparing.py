"""From an experiment and addresses to a run that may begin: folder locked, servers asked, plan made, record in step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from sweep.engine import stopping
from sweep.engine.events import Listener, Notice, RunStarted, ServerChanged
from sweep.engine.fusing import FusionSize
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
from sweep.plan.lanes import lanes
from sweep.record.base import Counts, RunFacts, State
from sweep.record.disk import replacing
from sweep.record.images import ImageStore
from sweep.record.journal import SqliteJournal
from sweep.record.lock import FolderLock
from sweep.servers.base import Server, ServerInfo
from sweep.version import VERSION
from sweep.workflow.graph import ModelRef, Ref, map_refs
from sweep.workflow.schemas import Model

_T = TypeVar("_T")
CLOSING: Final = 5.0  # seconds a server's client may take to let go


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
        schemas, models = await patiently(first.schemas, options), await patiently(first.models, options)
        plan = await anyio.to_thread.run_sync(make_plan, experiment, schemas, models)  # reads the workflow's file
        await _drop_unfit(plan, members, by_name(models), listener)
        for note in await anyio.to_thread.run_sync(lambda: plan.notes):  # looks where its files lie
            listener(Notice(message=note))
        if not await _nothing_new(plan, journal, options):
            await check_values(plan, members[0], options)
        run = await in_step(plan, journal, [member.info for member in members], options)
        store = ImageStore(folder, len(plan))
        await _keep_inputs(plan, journal, store, folder)
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
        held.push_async_callback(_close, server)
        try:
            info = await server.open()
        except ServerError as error:
            refusals.append(error)
            continue
        most = options.concurrency or 2 * info.capacity
        members.append(Member(server, info, Limit.of(most), fusion=FusionSize(options.fuse)))
    if not members:
        raise refusals[0]
    for refusal in refusals:
        listener(Notice(message=f"{refusal.message} The run goes on without it."))
    for member in members:
        listener(ServerChanged(server=member.name, state="joined"))
    return members


async def _close(server: Server) -> None:
    """Also when the run is being cancelled, but not for ever."""
    with anyio.move_on_after(CLOSING, shield=True):
        await server.aclose()


async def _drop_unfit(plan: Plan, members: list[Member], models: Mapping[ModelRef, Model], listener: Listener) -> None:
    """Servers that cannot make the same pictures as the first one take no part."""
    for member in members[1:]:
        try:
            await check_models(plan, member, models)
        except ServerError as error:
            members.remove(member)
            listener(ServerChanged(server=member.name, state="left", reason=error.message))


async def check_models(plan: Plan, member: Member, wanted: Mapping[ModelRef, Model]) -> None:
    """Raises ServerError where a server lacks a model of the plan, or has another one under the same name."""
    try:
        models = by_name(await member.server.models())
    except TransientError as error:
        raise ServerUnreachableError(error.message) from error
    for ref in model_refs(plan):
        if ref not in models:
            raise ServerUnsupportedError(f"{member.name} has no {ref.type} model {ref.name} ({ref.base}).")
        if ref in wanted and models[ref].hash != wanted[ref].hash:
            raise ServerUnsupportedError(f"{member.name} has another model of the name {ref.name}: the hashes differ.")


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
            await anyio.sleep(options.backoff.ceiling(attempt))
    raise AssertionError("unreachable")


def by_name(models: Sequence[Model]) -> dict[ModelRef, Model]:
    """Models by what they are called; of two with one name, base and type the last."""
    return {ModelRef(model.name, model.base, model.type): model for model in models}


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


async def check_values(plan: Plan, member: Member, options: RunOptions) -> None:
    """Have the server itself look at every axis value once, before anything is queued. Raises PlanError."""
    located = list(plan.probes())
    images = {sha: image.path for sha, image in plan.images.items()}
    answers = await patiently(lambda: member.server.check([graph for _, graph in located], images), options)
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
            sweep_version=VERSION,
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
        if options.shard is None or plan.in_shard(instance.key, *options.shard):
            yield instance
