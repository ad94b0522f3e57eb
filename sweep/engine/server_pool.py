"""ServerPool: joining, leaving, reviving servers."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Final

import anyio

from sweep.engine.events import Listener, Notice, ServerChanged
from sweep.engine.limits import Backoff, FusionSize, Limit
from sweep.engine.options import RunOptions
from sweep.engine.task_groups import together
from sweep.errors import (
    OverloadedError,
    ServerError,
    ServerRefusedError,
    ServerUnreachableError,
    ServerUnsupportedError,
    SweepError,
    TransientError,
)
from sweep.plan import Plan
from sweep.servers import Server, ServerInfo
from sweep.workflow import Model, ModelRef, Ref, map_refs

MOST_REFUSALS: Final = 8  # submissions in a row that a server may refuse before it leaves
SHORTEST_PAUSE: Final = 0.05  # seconds before a server that left is asked again

Readiness = Callable[["Member"], Awaitable[None]]  # raises SweepError where the server cannot serve this plan


@dataclass(slots=True, eq=False)
class Member:
    """One server of the run, with its slots. `left` is the reason it takes no work, None while it does."""

    server: Server
    info: ServerInfo
    limit: Limit
    left: ServerError | None = None
    opened: bool = True  # False for one that never answered yet: `info` holds its address only
    abandoned: set[str] = field(default_factory=set)  # batch ids given to others while it was away
    held_until: float = 0.0  # monotonic seconds: no new item before, because the server asked so
    failures: int = 0  # times in a row that it left
    refusals: int = 0  # submissions in a row that it refused, each after the pause it was given for the one before
    fusion: FusionSize = field(default_factory=FusionSize)
    slots: anyio.CapacityLimiter = field(init=False)

    def __post_init__(self) -> None:
        self.slots = anyio.CapacityLimiter(self.limit.allowed)

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def name(self) -> str:
        return self.info.name

    def succeeded(self) -> None:
        """An item went through."""
        self.failures = 0
        self._adopt(self.limit.succeeded())

    def refused(self, error: OverloadedError, delay: float) -> ServerError | None:
        """It did not take a submission, and is left alone for `delay` seconds; the reason to leave where it never does.

        What is refused together, by a server with many slots, counts once.
        """
        self.refusals += not self.held
        self.overloaded(delay)
        if self.refusals < MOST_REFUSALS:
            return None
        said = error.message.rstrip(".")
        return ServerError(f"{self.name} has refused {self.refusals} submissions in a row: {said}.")

    def overloaded(self, retry_after: float | None) -> None:
        """It asked for less, or was too slow to answer; `retry_after` in seconds."""
        self._adopt(self.limit.overloaded())
        if retry_after is not None:
            self.held_until = max(self.held_until, anyio.current_time() + retry_after)

    def admit(self, info: ServerInfo, limit: Limit) -> None:
        """It answered for the first time."""
        self.info, self.opened = info, True
        self._adopt(limit)

    @property
    def held(self) -> float:
        """Seconds until it may be sent something again."""
        return max(0.0, self.held_until - anyio.current_time())

    def _adopt(self, limit: Limit) -> None:
        self.limit = limit
        if self.slots.total_tokens != limit.allowed:
            self.slots.total_tokens = limit.allowed


class Pool:
    """All members, and the bookkeeping of who is in."""

    def __init__(self, members: Iterable[Member], listener: Listener, backoff: Backoff) -> None:
        self.members = tuple(members)
        self._listener = listener
        self._backoff = backoff
        self._chance = random.Random(0)
        self._changed = anyio.Event()
        self.last: ServerError | None = None  # why a member left last

    def alive(self) -> frozenset[str]:
        """Urls of the members that take work."""
        return frozenset(member.url for member in self.members if member.left is None)

    def serving(self) -> bool:
        """Whether a member takes work, as far as is known: one that is back after refusing all has yet to show it."""
        return any(member.left is None and member.refusals < MOST_REFUSALS for member in self.members)

    def took(self, member: Member) -> None:
        """The member took an item."""
        if member.refusals:
            member.refusals = 0
            self._change()

    def hopeless(self) -> bool:
        """Whether no member takes work, and waiting alone will not make one do so."""
        return all(isinstance(member.left, _LASTING) for member in self.members)

    def leave(self, member: Member, reason: ServerError) -> None:
        """The member takes no work until it answers again. Said once, however many of its items fail together."""
        if member.left is None:
            member.left = self.last = reason
            member.failures += 1
            if isinstance(reason, ServerUnreachableError):
                member.overloaded(None)
            self._listener(ServerChanged(server=member.name, state="left", reason=reason.message))
            self._change()

    def back(self, member: Member) -> None:
        """The member takes work again."""
        member.left = None
        self._listener(ServerChanged(server=member.name, state="back"))
        self._change()

    @property
    def changed(self) -> anyio.Event:
        """Set when a member leaves or comes back; a new one each time."""
        return self._changed

    def pause(self, member: Member, tries: int) -> float:
        """Seconds before a member that left is asked for the time numbered `tries`, never before it said itself."""
        return max(SHORTEST_PAUSE, member.held, self._backoff.delay(tries, self._chance))

    async def revive(self, member: Member, readiness: Readiness) -> None:
        """Ask a member that left again and again, with back-off, until it can serve.

        What others took over meanwhile is cancelled there first, so that it is not rendered twice.
        """
        tries = member.failures
        while member.left is not None:
            await anyio.sleep(self.pause(member, tries))
            tries += 1
            try:
                if member.opened:
                    await cancel_abandoned(member)
                await readiness(member)
                await cancel_abandoned(member)
            except ServerError as error:
                member.left = self.last = error
                self._change()
            except SweepError:
                continue
            else:
                self.back(member)

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


async def cancel_abandoned(member: Member) -> None:
    """What was given to others is not to be rendered here. Raises what the server does where it cannot be told."""
    while member.abandoned:
        batches = sorted(member.abandoned)
        await member.server.cancel(batches)
        member.abandoned.difference_update(batches)


_LASTING = (ServerRefusedError, ServerUnsupportedError)


CLOSING: Final = 5.0  # seconds a server's client may take to let go


async def members_of(
    held: AsyncExitStack, servers: Sequence[Server], options: RunOptions, listener: Listener
) -> list[Member]:
    """A member for each server, those that do not answer marked as left: they are asked again while the run goes on.

    Raises the first one's ServerError where none answers.
    """
    held.push_async_callback(_close_all, servers)
    members = [_member(server, options) for server in servers]
    await together(*(_open(member, options) for member in members))
    here = [member for member in members if member.left is None]
    if not here:
        raise next(member.left for member in members if member.left is not None)
    for member in members:
        if member.left is None:
            listener(ServerChanged(server=member.name, state="joined"))
        else:
            listener(Notice(message=f"{member.left.message} The run goes on without it until it answers."))
    return members


def _member(server: Server, options: RunOptions) -> Member:
    unknown = ServerInfo(name=server.url.partition("://")[2] or server.url, url=server.url, version="", api="")
    most = options.concurrency or 2
    return Member(server, unknown, Limit.of(most), opened=False, fusion=FusionSize(options.fuse))


async def _open(member: Member, options: RunOptions) -> None:
    try:
        await open_member(member, options)
    except ServerError as error:
        member.left = error


async def open_member(member: Member, options: RunOptions) -> None:
    """Find out who answers, where that is not known yet. Raises ServerError."""
    if not member.opened:
        info = await member.server.open()
        member.admit(notify(info), Limit.of(options.concurrency or 2 * info.capacity))


def notify(info: ServerInfo) -> ServerInfo:
    """A sandbox by a name that says it is one, so that every row of the table does."""
    if not info.sandbox or info.name.startswith("sandbox"):
        return info
    return replace(info, name=f"sandbox {info.name}")


async def _close_all(servers: Sequence[Server]) -> None:
    """Also when the run is being cancelled, but not for ever."""
    with anyio.move_on_after(CLOSING, shield=True):
        await together(*(server.aclose() for server in servers))


async def drop_unfit(plan: Plan, members: Sequence[Member], models: Mapping[ModelRef, Model]) -> list[Member]:
    """Servers that cannot make the same images as the first one leave; gives back those that did."""
    left = []
    for member in members[1:]:
        if member.left is not None:
            continue
        try:
            await check_models(plan, member, models)
        except ServerError as error:
            member.left = error
            left.append(member)
    return left


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


def by_name(models: Sequence[Model]) -> dict[ModelRef, Model]:
    """Models by what they are called; of two that share name, base and type that of the smallest key, as clients do."""
    descending = sorted(models, key=lambda model: model.key, reverse=True)
    return {ModelRef(model.name, model.base, model.type): model for model in descending}


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
