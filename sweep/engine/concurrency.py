"""How much is done at once: the limit of a server, the slots of an item, and task groups.

A server's limit follows AIMD (additive increase, multiplicative decrease), as congestion control does: it is halved
when the server asks for less and grows by about one a round trip. Concurrency has two levels: a slot at the server,
released when the server is done, within a slot of the run, released when the images are saved. So a GPU never waits
for a download, and memory stays bounded where downloads are slow.

Task groups re-raise the first exception instead of an ExceptionGroup.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from sweep.engine.events import Listener, Notice

REPORT_WAIT_AFTER: Final = 4.0  # seconds without a word after which a person is told what is waited for


@asynccontextmanager
async def open_task_group() -> AsyncIterator[TaskGroup]:
    """Open a task group that raises the first exception of its tasks or its body, not a group of them.

    So `except RecordError` around it catches a full disk, whether one task met it or eight did.
    """
    first: BaseException | None = None
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as errors:
        first = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
    if first is not None:
        raise first  # here, where the group is not its context: with one, a notebook shows a plain traceback


async def run_all(*calls: Awaitable[Any]) -> None:
    """Await all of them at once, so that they share one commit; one that fails does not stop the others.

    Raises:
        Exception: The first that one of them raised, once all have ended.
    """
    if len(calls) <= 1:
        for call in calls:
            await call
        return
    errors: list[Exception] = []

    async def run_one(call: Awaitable[Any]) -> None:
        try:
            await call
        except Exception as error:  # noqa: BLE001 - raised again below, once all are through
            errors.append(error)

    async with anyio.create_task_group() as group:
        for call in calls:
            group.start_soon(run_one, call)
    if errors:
        raise errors[0]


@asynccontextmanager
async def report_wait(listener: Listener, message: str) -> AsyncIterator[None]:
    """Tell the listener what is waited for where the body takes longer than a few seconds."""
    async with open_task_group() as group:

        async def report() -> None:
            await anyio.sleep(REPORT_WAIT_AFTER)
            listener(Notice(message=message))

        group.start_soon(report)
        yield
        group.cancel_scope.cancel()


class ChangeSignal:
    """Wakes everybody who waits for a change. Read `event` before you look at the state, then wait for it."""

    def __init__(self) -> None:
        self.event = anyio.Event()

    def notify(self) -> None:
        self.event.set()
        self.event = anyio.Event()


class Limit:
    """AIMD limit of the items in flight at a server, between 1 and `most`. Each takes one of its `slots`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._value = float(most)
        self.slots = anyio.CapacityLimiter(most)

    def reset(self, most: int) -> None:
        self.most = most
        self._set(most)

    def increase(self) -> None:
        """Allow more after a success: one more per `value` successes, so about one more a round trip."""
        self._set(self._value + 1 / self._value)

    def halve(self) -> None:
        self._set(self._value / 2)

    def _set(self, value: float) -> None:
        self._value = min(max(1.0, value), self.most)
        if self.slots.total_tokens != int(self._value):
            self.slots.total_tokens = int(self._value)


class ItemSlot:
    """The slot of the run and the slot of a server that one item holds. Releasing one twice changes nothing."""

    def __init__(self) -> None:
        self._held: list[anyio.CapacityLimiter] = []  # the run's first

    @classmethod
    async def acquire(cls, run_slots: anyio.CapacityLimiter, server_slots: anyio.CapacityLimiter) -> ItemSlot:
        """Wait for a slot of the run, then for one of the server."""
        slot = cls()
        try:
            for limiter in (run_slots, server_slots):
                await limiter.acquire_on_behalf_of(slot)
                slot._held.append(limiter)
        except BaseException:
            slot.release()
            raise
        return slot

    def release_server(self) -> None:
        """Give the server's slot back: the server is done with the item."""
        if len(self._held) > 1:
            self._held.pop().release_on_behalf_of(self)

    def release(self) -> None:
        """Give both slots back: the item is over."""
        while self._held:
            self._held.pop().release_on_behalf_of(self)
