"""What the sandbox's tests share: a sandbox with a wire to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sweep.sandbox.app import Sandbox, SandboxOptions, sandbox_server
from tests.live.wire import Wire, wire


@asynccontextmanager
async def served(options: SandboxOptions | None = None) -> AsyncIterator[tuple[Sandbox, Wire]]:
    """A sandbox and somebody who speaks to it."""
    async with sandbox_server(options) as sandbox, wire(sandbox.url) as found:
        yield sandbox, found
