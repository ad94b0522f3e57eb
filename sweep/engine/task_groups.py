"""Several things at once, with faults that come out as they went in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def tasks() -> AsyncIterator[TaskGroup]:
    """A task group that raises the first fault of its tasks or its body, not a group of them.

    What catches a RecordError here catches it whether one task met the full disk or eight did.
    """
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as faults:
        raise _first(faults) from None


def _first(faults: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = faults.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


async def together(*calls: Awaitable[Any]) -> None:
    """Await all of them at once, so that they share one commit. Raises what the first failing one raised.

    One that fails does not stop the others.
    """
    if len(calls) == 1:
        await calls[0]
        return
    failures: list[Exception] = []

    async def one(call: Awaitable[Any]) -> None:
        try:
            await call
        except Exception as error:  # noqa: BLE001 - raised again below, once all are through
            failures.append(error)

    async with anyio.create_task_group() as group:
        for call in calls:
            group.start_soon(one, call)
    if failures:
        raise failures[0]
