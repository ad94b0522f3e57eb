"""The servers of a run: opening them, planning with the models they have, suspending and reviving them."""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from sweep.engine.concurrency import ChangeSignal, Limit, open_task_group, report_wait, run_all
from sweep.engine.events import Listener, Notice, ServerChanged
from sweep.engine.item_size import FusionSize, is_done_sooner_elsewhere, limit_to_share
from sweep.engine.run_options import RunOptions
from sweep.errors import (
    AttemptError,
    DefinitionError,
    OverloadedError,
    ServerError,
    ServerRefusedError,
    ServerUnreachableError,
    ServerUnsupportedError,
    SweepError,
    TransientError,
    WorkflowError,
    did_you_mean,
)
from sweep.experiment import Experiment
from sweep.plan import Instance, Plan, index_models, make_plan
from sweep.record import Intent
from sweep.servers import Server, ServerInfo, keeps_images
from sweep.workflow import Dialect, Graph, Model, ModelRef, NodeSchemas

MOST_REFUSALS: Final = 8  # submissions in a row that a server may refuse before it leaves
LONGEST_HOLD: Final = 4  # times its seconds a variation that an idle server leaves the rest to others: they may hang
SURVEY_EVERY: Final = 0.5  # seconds for which it is not asked anew how fast the servers are together
SHORTEST_PAUSE: Final = 0.05  # seconds before a server that left is asked again
CLOSING: Final = 5.0  # seconds a server's client may take to let go
LONGEST_WAIT: Final = 30.0  # seconds that a server may ask the others of a run to wait for it at the start
MOST_COUNTED: Final = 2000  # points that are looked at to say how many a server renders
_LASTING = (ServerRefusedError, ServerUnsupportedError)
_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class PooledServer:
    """A server of the run, with its slots. `left` is the reason it takes no work, None while it does."""

    server: Server
    info: ServerInfo
    limit: Limit
    left: ServerError | None = None
    is_open: bool = True  # False for one that never answered yet: `info` holds its address only
    lacking: dict[ModelRef, str] = field(default_factory=dict)  # models it may not render with, and why
    abandoned: set[str] = field(default_factory=set)  # batch ids given to other servers while it was away
    hold_reason: str = ""  # why its items wait, as last reported
    held_until: float = 0.0  # monotonic seconds: no new item before, because the server asked for that
    departures: int = 0  # times in a row that it left
    away_since: float = field(default_factory=anyio.current_time)  # monotonic seconds; counts while `left` is set
    refusals: int = 0  # submissions in a row that it refused, each after the pause that followed the one before
    fusion: FusionSize = field(default_factory=FusionSize)
    variations: int = 0  # that it has and has not rendered
    rendered_at: float = 0.0  # monotonic seconds: when it last was given work while it had none, or ended an item

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def name(self) -> str:
        return self.info.name

    def can_render(self, instance: Instance) -> bool:
        return not self.lacking or self.lacking.keys().isdisjoint(collect_refs(instance.graph, instance.dialect))

    @property
    def seconds_each(self) -> float:
        """Seconds it takes for a variation, all its devices together; 0 while that is not known."""
        return self.fusion.seconds_each / max(1, self.info.capacity)

    def estimate_busy_seconds(self, now: float) -> float:
        """Return the seconds until it has rendered what it has, as far as its speed is known."""
        return max(0.0, self.variations * self.seconds_each - (now - self.rendered_at))

    def count_variations(self, more: int, now: float) -> None:
        """Count variations that it was given, or, below 0, that it has no more."""
        if more < 0 or not self.variations:
            self.rendered_at = now
        self.variations += more

    def record_success(self) -> None:
        """Count an item that went through: the server is well, and may be given a little more."""
        self.departures = 0
        self.limit.increase()

    def record_refusal(self, error: OverloadedError, delay: float) -> ServerError | None:
        """Leave the server alone for `delay` seconds, since it did not take a submission.

        Refusals that come together, from a server with many slots, count once. Returns the reason to let it leave the
        pool where it refuses everything.
        """
        self.refusals += not self.hold_seconds
        self.limit.halve()
        self.held_until = max(self.held_until, anyio.current_time() + delay)
        if self.refusals < MOST_REFUSALS:
            return None
        reason = error.message.rstrip(".")
        return ServerError(f"{self.name} has refused {self.refusals} submissions in a row: {reason}.")

    @property
    def hold_seconds(self) -> float:
        """Seconds until it may be sent something again."""
        return max(0.0, self.held_until - anyio.current_time())


@dataclass(frozen=True, slots=True)
class _Survey:
    at: float = -inf  # monotonic seconds
    speeds: Sequence[tuple[PooledServer, float]] = ()  # seconds a variation, of those that have all models
    workers: int = 1
    rate: float = 0.0  # variations a second


class ServerPool:
    """The servers of a run, and which of them take work at the moment. `changes` wakes whoever waits for either."""

    def __init__(self, servers: Iterable[PooledServer], listener: Listener, options: RunOptions) -> None:
        self.servers = tuple(servers)
        self._by_url = {server.url: server for server in self.servers}
        self._options = options
        self.changes = ChangeSignal()
        self.last_reason: ServerError | None = None  # why a server left last
        self._listener = listener
        self._chance = random.Random(0)
        self.alive_urls: frozenset[str] = frozenset()  # of the servers that take work; kept, as it is asked for always
        self._note_alive()

    def _note_alive(self) -> None:
        self._surveyed = _Survey()
        self.alive_urls = frozenset(each.url for each in self.servers if each.left is None)

    @property
    def is_serving(self) -> bool:
        """Tell whether a server takes work. One that refused all and came back counts after its first success."""
        return any(each.left is None and each.refusals < MOST_REFUSALS for each in self.servers)

    def is_hopeless(self, *, is_stuck: bool = False) -> bool:
        """Tell whether waiting alone will not make a server take work; where that `is_stuck`, one that is away now."""
        return all(isinstance(each.left, _LASTING) or (is_stuck and each.left is None) for each in self.servers)

    def can_render(self, url: str, instance: Instance) -> bool:
        server = self._by_url.get(url)
        return server is not None and server.can_render(instance)

    def explain_stuck(self) -> ServerError:
        reasons = [each.left.message.rstrip(".") if each.left else _describe_lacking(each) for each in self.servers]
        return ServerError(f"No server renders the points that are left: {'; '.join(filter(None, reasons))}.")

    def choose_size(self, server: PooledServer, remaining: int, now: float) -> int:
        """Return how many of the `remaining` variations the server's next item has; 0 where it should take none now.

        There are fewer towards the end, so that no server idles, and none for a server that others would outrun.
        """
        survey = self._survey(now)
        size = limit_to_share(server.fusion.size, remaining, survey.workers)
        own, busy = server.seconds_each, server.estimate_busy_seconds(now)
        # Within that time all servers together render at most so many: most of the time, who is first needs no answer.
        if own and 0 < remaining <= survey.rate * (busy + size * own):
            others = [
                (now + each.estimate_busy_seconds(now), pace) for each, pace in survey.speeds if each is not server
            ]
            while size and is_done_sooner_elsewhere(remaining, now + busy + size * own, others):
                size //= 2
        has_waited = not server.variations and now - server.rendered_at > LONGEST_HOLD * own
        return size or int(has_waited)

    def _survey(self, now: float) -> _Survey:
        """Return who takes work and how fast they are together, as it was at most a moment ago."""
        if now - self._surveyed.at > SURVEY_EVERY:
            alive = [each for each in self.servers if each.left is None]
            workers = sum(each.info.capacity for each in alive) * min(2, len(alive)) or 1
            speeds = [(each, each.seconds_each) for each in alive if each.seconds_each]
            rate = sum(1 / pace for _, pace in speeds)
            self._surveyed = _Survey(now, [speed for speed in speeds if not speed[0].lacking], workers, rate)
        return self._surveyed

    def compute_takeover_delay(self, url: str) -> float:
        """Return the seconds until others may render what the server at `url` has; infinite while it takes work.

        A server that is away for a moment finishes what it has: restarts take half a minute. One that is no server of
        this run, or that refuses us, is not waited for.
        """
        server = self._by_url.get(url)
        if server is None:
            return 0.0
        if server.left is None:
            return inf
        away = anyio.current_time() - server.away_since
        return 0.0 if isinstance(server.left, _LASTING) else max(0.0, self._options.takeover_after - away)

    def record_acceptance(self, server: PooledServer) -> None:
        if server.refusals:
            server.refusals = 0
            self.changes.notify()

    def suspend(self, server: PooledServer, reason: ServerError) -> None:
        """Give the server no work until it answers again. Reported once, however many of its items fail together."""
        if server.left is None:
            server.left = self.last_reason = reason
            server.away_since = anyio.current_time()
            server.departures += 1
            if isinstance(reason, ServerUnreachableError):
                server.limit.halve()
            self._note_alive()
            self._listener(ServerChanged(server=server.name, state="left", reason=reason.message))
            self.changes.notify()

    def readmit(self, server: PooledServer) -> None:
        server.left = None
        self._note_alive()
        self._listener(ServerChanged(server=server.name, state="back"))
        self.changes.notify()

    def abandon(self, intent: Intent) -> None:
        """Take note that others took this item over: its server is to cancel it as soon as it can be told."""
        if server := self._by_url.get(intent.url):
            server.abandoned.add(intent.batch_id)
            self.changes.notify()

    async def maintain(self, plan: Plan, models: Mapping[ModelRef, Model]) -> None:
        """Bring back servers that left, and cancel what was abandoned at those that are here, until cancelled.

        `models` are those of all servers, one of each name.
        """
        busy: set[PooledServer] = set()

        async def mend(server: PooledServer) -> None:
            try:
                await (self._revive(server, plan, models) if server.left else self.revoke(server))
            finally:
                busy.discard(server)
                self.changes.notify()

        async with open_task_group() as group:
            while True:
                event = self.changes.event
                for server in self.servers:
                    if (server.left or server.abandoned) and server not in busy:
                        busy.add(server)
                        group.start_soon(mend, server)
                await event.wait()

    async def _revive(self, server: PooledServer, plan: Plan, models: Mapping[ModelRef, Model]) -> None:
        """Ask a server that left again and again, with back-off, until it can serve.

        Items that others took over meanwhile are cancelled there first, so that none is rendered twice.
        """
        tries = server.departures
        while server.left is not None:
            await anyio.sleep(self.draw_pause(server, tries))
            tries += 1
            try:
                if server.is_open:
                    await cancel_abandoned(server)
                await open_server(server, self._options)
                await check_models(plan, server, models)
                await cancel_abandoned(server)
            except ServerError as error:
                server.left = self.last_reason = error
                self.changes.notify()
            except SweepError:
                continue
            else:
                self.readmit(server)

    def draw_pause(self, server: PooledServer, tries: int) -> float:
        """Draw the seconds before a server that left is asked again; never less than it asked for itself."""
        return max(SHORTEST_PAUSE, server.hold_seconds, self._options.backoff.draw_delay(tries, self._chance))

    async def revoke(self, server: PooledServer) -> None:
        """Cancel what a server has and is to render no more; say so where it cannot be told."""
        try:
            await cancel_abandoned(server)
        except SweepError as error:
            server.abandoned.clear()
            self._listener(Notice(message=f"{server.name}: {error.message} Items no longer wanted may go on there."))


async def cancel_abandoned(server: PooledServer) -> None:
    """Cancel what was given to other servers. Raises SweepError where the server cannot be told."""
    while server.abandoned:
        batches = sorted(server.abandoned)
        await server.server.cancel(batches)
        server.abandoned.difference_update(batches)


async def open_servers(
    held: AsyncExitStack, servers: Sequence[Server], options: RunOptions, listener: Listener
) -> list[PooledServer]:
    """Open each server; those that do not answer are marked as left and asked again while the run goes on.

    Raises the first one's ServerError where none answers.
    """
    held.push_async_callback(_close_all, servers)
    pooled = []
    for server in servers:
        unknown = ServerInfo(name=server.url.partition("://")[2] or server.url, url=server.url, version="", api="")
        pooled.append(PooledServer(server, unknown, Limit(options.concurrency or 2), is_open=False))

    async def try_to_open(server: PooledServer) -> None:
        async with report_wait(listener, f"Waiting for {server.name} to say who it is."):
            await ask_or_drop(server, partial(open_server, server, options), options)

    await run_all(*map(try_to_open, pooled))
    reasons = [each.left for each in pooled if each.left is not None]
    if len(reasons) == len(pooled):
        raise reasons[0]
    for each in pooled:
        if each.left is None:
            listener(ServerChanged(server=each.name, state="joined"))
        else:
            listener(Notice(message=f"{each.left.message} The run goes on without it until it answers."))
    return pooled


async def open_server(server: PooledServer, options: RunOptions) -> None:
    """Open a server and note its facts and its limit, unless that was done before. Raises ServerError."""
    if not server.is_open:
        info = await server.server.open()
        if info.sandbox and not info.name.startswith("sandbox"):  # every row of the table says that it is one
            info = replace(info, name=f"sandbox {info.name}")
        server.info, server.is_open = info, True
        server.limit.reset(options.concurrency or 2 * info.capacity)


async def _close_all(servers: Sequence[Server]) -> None:
    """Close them, also when the run is being cancelled, but not for ever."""
    with anyio.move_on_after(CLOSING, shield=True):
        await run_all(*(server.aclose() for server in servers))


async def ask_or_drop(
    server: PooledServer,
    ask: Callable[[], Awaitable[_T]],
    options: RunOptions,
    servers: Sequence[PooledServer] = (),
) -> _T | None:
    """Ask a server for something that may be asked again, as often as a variation would be tried.

    One that does not answer leaves the run: then, and where it left before, return None. So does one that asks for a
    long pause where others of the `servers` take work: they begin, and it is asked again after the pause.
    """
    attempt = 0
    while server.left is None:
        attempt += 1
        try:
            return await ask()
        except TransientError as error:
            asked = (error.retry_after if isinstance(error, OverloadedError) else None) or 0.0
            is_too_long = asked > LONGEST_WAIT and any(each.left is None for each in servers if each is not server)
            if attempt >= options.attempts or is_too_long:
                pause = f" It asks for a pause of {asked:.0f} s." if asked else ""
                server.left = ServerUnreachableError(f"{error.message}{pause}")
                server.held_until = anyio.current_time() + asked
            else:
                await anyio.sleep(max(options.backoff.compute_longest_delay(attempt), asked))
        except ServerError as error:
            server.left = error
        except AttemptError as error:  # it refuses a question that every server of its kind answers
            server.left = ServerUnsupportedError(error.message)
    return None


async def plan_jointly(
    experiment: Experiment, servers: Sequence[PooledServer], options: RunOptions
) -> tuple[Plan, Mapping[ModelRef, Model]]:
    """Plan with the models of all open servers, and mark those as left that can render no point.

    The newest of a family describes the nodes; of several families the one that has more servers is tried first, and of
    equally large ones that of the server given first; of models with the same name that of most servers counts. Within
    a family the order in which the servers were given decides nothing.

    Raises DefinitionError where the experiment fits none, ServerError where none describes itself.
    """
    problem: SweepError | None = None
    for members in _group_by_family(servers):
        schemas: NodeSchemas | None = None
        for each in members:
            schemas = schemas or await ask_or_drop(each, each.server.schemas, options, servers)
        answers = [await ask_or_drop(each, each.server.models, options, servers) for each in members]
        catalogues = [answer for answer in answers if answer is not None]
        if schemas is None or not catalogues:
            problem = problem or members[0].left
            continue
        try:
            models = index_models(*catalogues)
            every = [model for catalogue in catalogues for model in catalogue]
            plan = await anyio.to_thread.run_sync(make_plan, experiment, schemas, every)  # reads the workflow's file
        except DefinitionError as error:  # what it lacks, a server that could not be asked may have
            error.hint = error.hint or next((each.left.message for each in members if each.left is not None), None)
            is_other_family = isinstance(problem, WorkflowError)  # then what this family's servers say tells more
            problem = error if is_other_family else problem or error
        else:
            checks = ((server, partial(check_models, plan, server, models)) for server in servers)
            await run_all(*(ask_or_drop(server, check, options, servers) for server, check in checks))
            return plan, models
    raise problem or AssertionError("no server is open")


def _group_by_family(servers: Sequence[PooledServer]) -> list[list[PooledServer]]:
    """Group the open servers by family, the larger group first; in each the newest version first."""
    ordered = sorted((each for each in servers if each.left is None), key=lambda each: each.url)
    ordered.sort(key=lambda each: [int(part) for part in re.findall(r"\d+", each.info.version[:40])], reverse=True)
    families = dict.fromkeys(each.info.family for each in servers if each.left is None)
    groups = [[each for each in ordered if each.info.family == family] for family in families]
    return sorted(groups, key=len, reverse=True)


async def check_models(plan: Plan, server: PooledServer, wanted: Mapping[ModelRef, Model]) -> None:
    """Note the plan's models that the server lacks.

    Raises ServerError where it is of another family or can render no point.
    """
    family = plan.schemas.dialect.name
    if server.info.family not in ("", family):
        raise ServerUnsupportedError(f"{server.name} is {server.info.family}; the graphs of this run are {family}'s.")
    models = index_models(await server.server.models())
    needs = [collect_refs(graph, plan.schemas.dialect) for _, graph in plan.list_probes()]
    server.lacking = {}
    for ref in sorted(frozenset().union(*needs), key=str):
        if ref not in models:
            base = "" if ref.base == "any" else f" ({ref.base})"  # some servers know no bases
            server.lacking[ref] = f"has no {ref.type} model {ref.name}{base}"
        elif ref in wanted and models[ref].hash != wanted[ref].hash:
            server.lacking[ref] = f"has another model of the name {ref.name}: the hashes differ"
    if needs and all(not server.lacking.keys().isdisjoint(need) for need in needs):
        raise ServerUnsupportedError(f"{_describe_lacking(server)}.")


async def note_boards(
    experiment: Experiment, board: str | None, servers: Sequence[PooledServer], *, intermediate: bool = False
) -> list[str]:
    """Note boards that a server lacks: a run creates them, so a slip of the pen makes another board. Note, too, where
    boards and `intermediate` have no effect.

    `board` is for images whose axis names none. Sandboxes are not looked at.
    """
    named = [level.settings.get("board") for axis in experiment.axes if axis.name == "board" for level in axis.levels]
    wanted = dict.fromkeys(name for name in (board, *named) if isinstance(name, str))
    notes: list[str] = []
    options = [option for option, is_set in {"board:": wanted, "--intermediate": intermediate}.items() if is_set]
    for each in servers if options else ():
        server = each.server
        if each.left is None and not each.info.sandbox and keeps_images(server):
            try:
                gallery = server.gallery()
                there = await gallery.boards() if wanted else ()
            except ServerUnsupportedError as error:
                have = "has" if len(options) == 1 else "have"
                notes.append(f"{error.message} {' and '.join(options)} {have} no effect there.")
            except SweepError:  # a server that stumbles over this is asked again when it is to render
                continue
            else:
                missing = [name for name in wanted if name not in there]
                notes += [
                    f'{each.name} has no board "{name}" yet; the run creates it.{did_you_mean(name, there)}'
                    for name in missing
                ]
    return notes


def _describe_lacking(server: PooledServer) -> str:
    """Say which models a server lacks; nothing where it has all."""
    return f"{server.name} {' and '.join(server.lacking.values())}" if server.lacking else ""


def collect_refs(graph: Graph, dialect: Dialect) -> frozenset[ModelRef]:
    """Collect every model, of any type, that the graph loads; what only describes the image is not loaded."""
    return frozenset(ref for ref in graph.references(dialect.descriptive_nodes) if isinstance(ref, ModelRef))


def describe_server_shares(plan: Plan, servers: Sequence[PooledServer]) -> tuple[str, ...]:
    """Say who renders what: a line for each server that does not render every point, and one for what nobody can."""
    lines = [each.left.message.rstrip(".") for each in servers if each.left]
    alive = [each for each in servers if each.left is None]
    if not any(each.lacking for each in alive):
        return tuple(lines)
    sample = range(0, len(plan), -(-len(plan) // MOST_COUNTED))
    points = [plan.instance(plan.grid[index]) for index in sample]
    about = "" if len(points) == len(plan) else "about "
    for each in alive:
        able = round(sum(map(each.can_render, points)) * len(plan) / len(points))
        if each.lacking:
            lines.append(f"{_describe_lacking(each)}, so it renders {about}{able:,} of {len(plan):,} points")
    lost = sum(not any(each.can_render(point) for each in alive) for point in points)
    if lost:
        lines.append(f"no server has all models of {about}{round(lost * len(plan) / len(points)):,} points")
    return tuple(lines)
