"""Tasks that run beside a client for as long as it is open."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

GRACE = 1.5  # seconds to end by oneself, before being cancelled


class Background:
    """Starts tasks, and ends them: those that were told to stop by themselves, the others by cancellation."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, *work: Coroutine[Any, Any, None]) -> None:
        """Begin this work now."""
        self._tasks += [asyncio.create_task(one) for one in work]

    async def end(self) -> None:
        """Wait for all a little, then cancel what is left. Never raises what they raised; safe to call twice."""
        if not self._tasks:
            return
        try:
            _, late = await asyncio.wait(self._tasks, timeout=GRACE)
        finally:
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        self._tasks.clear()
