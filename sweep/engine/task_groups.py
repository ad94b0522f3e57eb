"""Task-group helpers that re-raise the first exception instead of an ExceptionGroup, and a signal of changes."""

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
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise _find_first(errors) from None


def _find_first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = errors.exceptions[0]
    return _find_first(inner) if isinstance(inner, BaseExceptionGroup) else inner


async def run_all(*calls: Awaitable[Any]) -> None:
    """Await all of them at once, so that they share one commit; one that fails does not stop the others.

    Raises:
        Exception: The first that one of them raised, once all have ended.
    """
    if len(calls) == 1:
        await calls[0]
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
async def report_wait(listener: Listener, message: str, after: float = REPORT_WAIT_AFTER) -> AsyncIterator[None]:
    """Tell the listener what is waited for where the body takes longer than `after` seconds."""
    async with open_task_group() as group:

        async def report() -> None:
            await anyio.sleep(after)
            listener(Notice(message=message))

        group.start_soon(report)
        yield
        group.cancel_scope.cancel()


class ChangeSignal:
    """Wakes everybody who waits for a change. Read `event` before you look at the state, then wait for it."""

    def __init__(self) -> None:
        self.event = anyio.Event()

    def notify(self) -> None:
        """Wake those who wait now; who reads `event` from now on waits for the next change."""
        self.event.set()
        self.event = anyio.Event()
