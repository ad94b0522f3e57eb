"""Prepares a run up to its first item. What can refuse the run comes first, so that a refused run leaves no files.

The folder is locked, the servers are opened, the plan is made and every axis value is checked by a server; only then
does the journal begin a run, in one commit with what the definition keeps of the last one. Items that an earlier run
left open are recovered last.
"""

from __future__ import annotations

import random
import shlex
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from itertools import count, groupby, islice
from pathlib import Path
from typing import Any, Final

import anyio
from anyio.to_thread import run_sync

from sweep import record
from sweep.engine import shutdown as stopping
from sweep.engine.attempt import ABANDONED
from sweep.engine.concurrency import report_wait, run_all
from sweep.engine.events import Listener, Notice, ServerChanged
from sweep.engine.forecast import estimate_disk_bytes, find_image_size
from sweep.engine.reference_fetcher import keep_fetched
from sweep.engine.run_context import RunContext
from sweep.engine.run_options import RunOptions
from sweep.engine.server_pool import (
    PooledServer,
    ServerPool,
    ask_or_drop,
    collect_refs,
    describe_server_shares,
    note_boards,
    open_servers,
    plan_jointly,
)
from sweep.engine.uploads import UploadMemory
from sweep.engine.work_queue import Job
from sweep.errors import DiskFullError, PlanError, Problem, SweepError, UsageError
from sweep.experiment import Axis, Experiment, Setting
from sweep.input_images import InputImage
from sweep.plan import Plan
from sweep.servers import Server, ServerInfo
from sweep.text import format_size
from sweep.version import VERSION
from sweep.workflow import make_readable

RESERVE: Final = 32 * 2**20  # bytes left for the journal, its log and the tables
LINGER: Final = 0.02  # seconds that a write nobody's request waits for may wait for another's commit


@asynccontextmanager
async def prepare(
    experiment: Experiment,
    servers: Sequence[Server],
    results: Path,
    options: RunOptions,
    listener: Listener,
    checkpoint: record.Checkpoint = record.no_checkpoint,
) -> AsyncIterator[RunContext]:
    """Prepare a run and hold what it needs open. Raises DefinitionError, ServerError, RecordError: it cannot begin."""
    folder = results / experiment.name
    async with AsyncExitStack() as held:
        place = await held.enter_async_context(AsyncExitStack())  # the folder: its lock and journal
        draw = share_seeds(experiment.name) if options.shard else None
        unbegun, journal = await _open_folder(place, folder, checkpoint, draw)
        await _reopen_lost_images(folder, journal, options, listener)
        pooled = await open_servers(held, servers, options, listener)
        drawn = {axis: await journal.seeds(axis, count) for axis, count in experiment.undrawn.items()}
        experiment = experiment.with_seeds(drawn) if drawn else experiment
        names = " and ".join(server.name for server in pooled if server.is_open)
        async with report_wait(listener, f"Waiting for {names} to describe nodes and models."):
            plan, models = await plan_jointly(experiment, pooled, options)
        await _report_exclusions(plan, pooled, options, listener)
        uploads = UploadMemory(journal, options.user_cache, experiment)
        await run_all(*(uploads.recall(server) for server in pooled))
        kinds = await run_sync(record.read_painted, folder)
        is_painted_over = kinds == {True} and not any(server.info.sandbox for server in pooled if server.is_open)
        if is_painted_over or not await _has_nothing_to_do(plan, journal, options):
            _require_no_painting(folder, kinds, pooled)
            async with report_wait(listener, f"Waiting for {names} to check the values of the axes."):
                await check_values(plan, pooled, options, listener)
            if is_painted_over:
                unbegun, journal = await _begin_anew(place, folder, checkpoint, drawn, listener)
                uploads.journal = journal
        run = await begin_on_record(plan, journal, [server.info for server in pooled if server.is_open], options)
        unbegun.pop_all()
        await run_all(*(uploads.keep(server) for server in pooled if server.left is None))
        store = record.ImageStore(folder, len(plan), checkpoint=checkpoint)
        await _keep_inputs(plan, journal, store, folder)
        before = await journal.counts()
        await _check_space(plan, before, folder, options)
        yield RunContext(
            folder=folder,
            plan=plan,
            journal=journal,
            store=store,
            pool=ServerPool(pooled, listener, options),
            models=models,
            skip=await _mark_settled(journal, len(plan)),
            run=run,
            destination=f"sweep-{experiment.name}-{await journal.identity()}",
            before=before,
            options=options,
            uploads=uploads,
            listener=listener,
            checkpoint=checkpoint,
        )


async def _mark_settled(journal: record.SqliteJournal, points: int) -> bytearray:
    marks = bytearray(points)
    for index in await journal.indices("completed", "failed"):
        marks[index] = 1
    return marks


def share_seeds(name: str) -> Callable[[str], int]:
    """Return a source of seeds that depend on the experiment's name and the axis alone.

    The parts of a grid that `--shard` renders in several folders, on several machines, need the same seeds.
    """
    generator = cache(lambda axis: random.Random(f"{name}\x1f{axis}"))
    return lambda axis: generator(axis).randrange(2**32)


async def _open_folder(
    held: AsyncExitStack, folder: Path, checkpoint: record.Checkpoint, draw: Callable[[str], int] | None
) -> tuple[AsyncExitStack, record.SqliteJournal]:
    """Lock the folder and open its journal; the returned stack is undone at the end, unless a run has begun by then.

    A run that is refused leaves no folder where there was none.
    """
    await held.enter_async_context(record.FolderLock(folder))
    await run_sync(stopping.clear_stop_requests, folder)
    unbegun = await held.enter_async_context(AsyncExitStack())
    if not await run_sync((folder / record.JOURNAL_FILE).exists):
        unbegun.push_async_callback(_remove_unbegun, folder)
    journal = await record.SqliteJournal.open(folder, checkpoint=checkpoint, draw=draw, linger=LINGER)
    held.push_async_callback(journal.aclose)
    return unbegun, journal


async def _begin_anew(
    place: AsyncExitStack,
    folder: Path,
    checkpoint: record.Checkpoint,
    drawn: Mapping[str, Sequence[int]],
    listener: Listener,
) -> tuple[AsyncExitStack, record.SqliteJournal]:
    """Set a folder of painted images aside and open a new one, with the seeds that were drawn before."""
    await place.aclose()
    aside = await run_sync(_set_aside, folder)
    listener(Notice(message=f"Images that the sandbox painted are in {aside} now; {folder} begins anew."))
    left = {axis: iter(seeds) for axis, seeds in drawn.items()}
    unbegun, journal = await _open_folder(place, folder, checkpoint, lambda axis: next(left[axis]))
    for axis, seeds in drawn.items():
        await journal.seeds(axis, len(seeds))
    return unbegun, journal


def _require_no_painting(folder: Path, kinds: frozenset[bool], servers: Sequence[PooledServer]) -> None:
    """Raise UsageError where the sandbox would paint into a folder of real images."""
    if kinds == {False} and all(server.info.sandbox for server in servers if server.is_open):
        raise UsageError(
            f"{folder} holds images of a real server; the sandbox would paint others among them.",
            hint="Add --server URL, or --set name=NAME to try the experiment on the sandbox.",
        )


def _set_aside(folder: Path) -> Path:
    """Give a folder of painted images another name, so that it is not mixed with real ones; return its new path."""
    endings = ("" if number == 1 else f"-{number}" for number in count(1))
    names = (f"{folder.name}-sandbox{ending}" for ending in endings)
    return record.rename_run(folder, next(name for name in names if not folder.with_name(name).exists()))


async def _remove_unbegun(folder: Path) -> None:
    """Remove what a run makes before it begins: an empty journal and the lock, then the folder if that was all."""

    def remove() -> None:
        with suppress(OSError):  # whatever stays is harmless: the next run takes it over
            for name in (record.JOURNAL_FILE, f"{record.JOURNAL_FILE}-wal", f"{record.JOURNAL_FILE}-shm", record.LOCK):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()

    with anyio.CancelScope(shield=True):
        await run_sync(remove)


async def _reopen_lost_images(
    folder: Path, journal: record.SqliteJournal, options: RunOptions, listener: Listener
) -> None:
    """Have completed variations rendered again whose images are gone from the folder, or not what was written."""
    find = partial(record.find_lost_images, folder, hash_files=options.verify)
    lost = await run_sync(find)
    if lost:
        await journal.reopen(lost)
        images = "image is" if len(lost) == 1 else "images are"
        message = f"{len(lost)} completed {images} missing or changed in {folder} and will be rendered again."
        listener(Notice(message=message))


async def _report_exclusions(
    plan: Plan, servers: Sequence[PooledServer], options: RunOptions, listener: Listener
) -> None:
    """Report to the listener: excluded servers, who renders what, the plan's notes, and what servers lack."""
    _report_left(servers, listener)
    alive = [each for each in servers if each.left is None]
    shares = [f"{share}." for share in await run_sync(describe_server_shares, plan, alive)]
    notes = [*shares, *await run_sync(lambda: plan.notes), *(note for each in alive for note in each.info.notes)]
    boards = await note_boards(plan.experiment, options.board, servers, intermediate=options.intermediate)
    for note in (*notes, *boards):
        listener(Notice(message=note))


def _report_left(servers: Sequence[PooledServer], listener: Listener) -> None:
    for server in servers:
        if server.left is not None and server.is_open:
            listener(ServerChanged(server=server.name, state="left", reason=server.left.message))


async def _check_space(plan: Plan, before: record.Counts, folder: Path, options: RunOptions) -> None:
    """Raise DiskFullError where what is to be rendered will not fit."""
    still = before.points - before.completed - before.failed
    if still:
        past = await run_sync(record.read_past, folder)
        width, height = find_image_size(plan, past)
        images = estimate_disk_bytes(still // (options.shard[1] if options.shard else 1), width, height, past.sizes)
        there = await run_sync(record.free_bytes, folder)
        if there < images + RESERVE:
            takes = f"{format_size(images + RESERVE)} and {format_size(there)} are free"
            hint = "Free some space, or point --results at another disk."
            raise DiskFullError(f"{folder}: the images will take about {takes}.", hint=hint)


async def check_values(plan: Plan, servers: Sequence[PooledServer], options: RunOptions, listener: Listener) -> None:
    """Have servers look at every axis value once, before anything is queued: each at those it has the models for.

    Raises PlanError, or ServerError where no server is left.
    """
    images = {sha: image.path for sha, image in plan.images.items()}
    left = plan.list_probes()
    problems: list[Problem] = []
    alive = [server for server in servers if server.left is None]
    for server in alive:
        lacking = server.lacking.keys()
        mine = [each for each in left if lacking.isdisjoint(collect_refs(each[1], plan.schemas.dialect))]
        ask = partial(server.server.check, [graph for _, graph in mine], images)
        answers = await ask_or_drop(server, ask, options, servers) if mine else []
        if answers is None:
            continue
        left = [each for each in left if each not in mine]
        problems += [
            Problem(message=make_readable(graph, f"{place}: {refusal}"))
            for (place, graph), refusal in zip(mine, answers, strict=True)
            if refusal
        ]
    dropped = [server for server in alive if server.left is not None]
    fault = dropped[-1].left if dropped and len(dropped) == len(alive) else None
    _report_left([server for server in dropped if server.left is not fault], listener)
    if fault is not None:  # it says so itself; one that stumbled before may be back in a moment
        raise fault
    of_all = {rest for each in problems for place, _, rest in [each.message.partition(": ")] if place == "workflow"}
    problems = [each for each in problems if each.message.partition(": ")[2] not in of_all] + [
        Problem(message=f"workflow: {rest}") for rest in sorted(of_all)
    ]
    if problems:
        raise PlanError.of(problems, plan.experiment.source or plan.experiment.name)


async def _has_nothing_to_do(plan: Plan, journal: record.SqliteJournal, options: RunOptions) -> bool:
    """Tell whether the last run had the same definition and left nothing to do: then no server need be asked."""
    if options.retry_failed or await journal.fingerprint() != plan.fingerprint:
        return False
    counts = await journal.counts()
    return counts.completed + counts.failed == (len(plan) if plan.most == len(plan) else counts.points)


def _describe_server(info: ServerInfo) -> dict[str, str]:
    facts = {"name": info.name, "version": info.version, "api": info.api}
    return {**facts, "sandbox": "true"} if info.sandbox else facts


async def begin_on_record(
    plan: Plan, journal: record.SqliteJournal, servers: Sequence[ServerInfo], options: RunOptions
) -> int:
    """Begin a run on record and adapt the record to the definition; return the run's number.

    Keys are computed only where the definition changed since the last run.
    """
    same = await journal.fingerprint() == plan.fingerprint
    run = await journal.begin_run(
        record.RunFacts(
            experiment=plan.experiment.text,
            fingerprint=plan.fingerprint,
            axes=tuple((axis.name, axis.kind) for axis in plan.axes),
            points=plan.most,
            servers=[_describe_server(info) for info in servers],
            command=shlex.join(options.command).encode(errors="backslashreplace").decode(),  # a path may hold any bytes
            sweep_version=VERSION,
            experiment_facts=describe_experiment(plan),
        ),
        () if same else _iterate_points(plan),
    )
    again: tuple[record.JournalState, ...] = ("failed", "cancelled") if options.retry_failed else ("cancelled",)
    await journal.reopen(await journal.keys(*again))
    return run


def describe_experiment(plan: Plan) -> record.ExperimentFacts:
    """Return what study and report read of the plan's experiment."""
    experiment = plan.experiment
    return record.ExperimentFacts(
        name=experiment.name,
        description=experiment.description,
        workflow=experiment.workflow,
        inputs={name: _as_written(setting) for name, setting in experiment.inputs.items()},
        axes=tuple(
            record.ExperimentAxis(
                name=axis.name,
                kind=axis.kind,
                size=len(axis.levels),
                levels=tuple(level.value for level in islice(axis.levels, record.MOST_LEVELS)),
                settings=_list_label_settings(axis),
            )
            for axis in plan.axes
        ),
        conditions=tuple(clause.text for clause in experiment.clauses),
        left_out=tuple(experiment.grid.list_left_out(record.MOST_LEFT_OUT)),
        metrics=experiment.study.metrics,
        baseline=dict(experiment.study.baseline),
        design=_describe_design(plan),
    )


def _list_label_settings(axis: Axis) -> dict[str, dict[str, Any]]:
    """Return what each label of an axis sets; empty for other axes."""
    levels = islice(axis.levels, record.MOST_LEVELS) if axis.kind == "label" else ()
    return {str(level.value): {name: _as_written(each) for name, each in level.settings.items()} for level in levels}


def _describe_design(plan: Plan) -> dict[str, Any]:
    """Return what an adaptive design looks for, and the most images it may take."""
    design = plan.experiment.design
    if design.kind != "adaptive":
        return {}
    names = ("kind", "axis", "metric", "threshold", "goal")
    return {**{name: getattr(design, name) for name in names}, "within": design.within or 0.0, "most": plan.most}


def _as_written(setting: Setting) -> Any:
    if isinstance(setting, InputImage):
        return setting.shown
    if isinstance(setting, Mapping):
        return {name: _as_written(part) for name, part in setting.items()}
    return [_as_written(part) for part in setting] if isinstance(setting, list) else setting


def _iterate_points(plan: Plan) -> Iterator[record.JournalPoint]:
    """Yield every point of the plan as the journal knows it, without making its graph, which the key decides."""
    for index, key, levels in plan.keys_and_levels(range(len(plan))):
        values = {name: level.value for name, level in levels.items()}
        yield record.JournalPoint(key=key, index=index, values=values, prompt=None, model=None)


async def _keep_inputs(plan: Plan, journal: record.SqliteJournal, store: record.ImageStore, folder: Path) -> None:
    """Remove what a crash left half-written; copy the source images and the experiment as run into the folder."""
    await store.clean()
    copies: dict[str, str] = {}
    for sha, image in plan.images.items():
        path = await store.copy_input(image.path, sha)
        copies[sha] = path.rpartition("/")[2]
        await journal.keep_input(sha, path, image.shown, image.width, image.height)
    with record.translate_disk_errors(folder / record.INPUTS / "fetched"):
        await run_sync(keep_fetched, plan.experiment, copies, folder / record.INPUTS)
    await run_sync(_write, folder / "experiment.yaml", plan.experiment.text)


def _write(path: Path, text: str) -> None:
    with record.replace_atomically(path) as file:
        file.write(text.encode("utf-8"))


async def recover_jobs(context: RunContext) -> list[Job]:
    """Return a job for each item whose end is not on record, its points marked in `skip` so that nothing begins them.

    An item the definition no longer has a use for is cancelled where it is, if its server is here, and closed; so is
    one that was given to another server by an earlier run, before this one could tell the first.
    """
    journal = context.journal
    servers = {server.url: server for server in context.pool.servers}
    for url, server in servers.items():
        server.abandoned.update(await journal.list_ended_with(ABANDONED, url))
    intents = await journal.open_intents()
    jobs: list[Job] = []
    for batch, group in groupby(sorted(intents, key=lambda intent: intent.batch_id), lambda intent: intent.batch_id):
        several = list(group)
        if wanted := [intent for intent in several if intent.index is not None]:
            jobs.append(await _recover_job(context, wanted))
        elif several[0].url in servers:
            servers[several[0].url].abandoned.add(batch)
    await run_all(*(context.pool.revoke(server) for server in servers.values() if server.left is None))
    former = record.Failure(kind="Former", message="the experiment no longer has this point")
    await run_all(*(journal.mark_attempt_failed(i.key, former) for i in intents if i.index is None))
    return jobs


async def _recover_job(context: RunContext, intents: Sequence[record.Intent]) -> Job:
    places = [intent.index for intent in intents if intent.index is not None]
    for index in places:
        context.skip[index] = 1
    home = await _find_home(context.pool.servers, intents[0])
    return Job(
        instances=tuple(context.instance(index) for index in places),
        intents=tuple(replace(intent, url=home) for intent in intents),
        admitted=True,
    )


async def _find_home(servers: Sequence[PooledServer], intent: record.Intent) -> str:
    """Return the url of the server that has the item: a server may be given under another address this time."""
    if any(server.url == intent.url for server in servers):
        return intent.url
    for server in servers:
        if server.left is None:
            try:
                if await server.server.find(intent.batch_id, intent.outputs):
                    return server.url
            except SweepError:  # one that does not answer cannot be asked to take it up, either
                continue
    return intent.url
