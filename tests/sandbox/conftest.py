"""What the sandbox's tests share: a sandbox with a wire to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from sweep.sandbox.api_routes import sandbox_server
from sweep.sandbox.running_sandbox import Sandbox
from sweep.sandbox.sandbox_options import SandboxOptions
from tests.support.wire import Wire, wire


@asynccontextmanager
async def served(options: SandboxOptions | None = None) -> AsyncIterator[tuple[Sandbox, Wire]]:
    """A sandbox and somebody who speaks to it."""
    async with sandbox_server(options) as sandbox, wire(sandbox.url) as found:
        yield sandbox, found


async def until(happened: Callable[[], bool | Awaitable[bool]]) -> None:
    """Returns once it has happened; fails after 20 seconds."""
    async with asyncio.timeout(20):
        while True:
            found = happened()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.002)
