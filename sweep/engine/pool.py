"""The servers of a run: who takes work, how much at once, who left and why, and when they are asked again."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import anyio

from sweep.engine.events import Listener, ServerChanged
from sweep.engine.fusing import FusionSize
from sweep.engine.limits import Limit
from sweep.engine.retry import Backoff
from sweep.errors import (
    OverloadedError,
    ServerError,
    ServerRefusedError,
    ServerUnreachableError,
    ServerUnsupportedError,
    SweepError,
)
from sweep.servers.base import Server, ServerInfo

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
