"""Serves the sandbox over HTTP: embedded in another program, or until cancelled."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from sweep.errors import UsageError
from sweep.sandbox.events import EventEmitter
from sweep.sandbox.legacy_sessions import SessionEvents
from sweep.sandbox.options import SandboxOptions
from sweep.sandbox.routes import app as routes
from sweep.sandbox.routes import queue as queue_routes
from sweep.sandbox.routes.common import KEY, answer, refuse_web_pages, sign
from sweep.sandbox.service import Sandbox

_LARGEST = 256 * 2**20  # bytes of a request; a batch may carry many values


@asynccontextmanager
async def sandbox_server(options: SandboxOptions | None = None) -> AsyncIterator[Sandbox]:
    """Serve a sandbox at `sandbox.url` as long as the block lasts, on this event loop.

    Raises UsageError where the port is taken.
    """
    options = options or SandboxOptions()
    sandbox = Sandbox(options, EventEmitter if options.api == "queue" else SessionEvents)
    await sandbox.start()
    runner = web.AppRunner(_application(sandbox), access_log=None, shutdown_timeout=1.0)
    try:
        await runner.setup()
        site = web.TCPSite(runner, sandbox.options.host, sandbox.options.port)
        try:
            await site.start()
        except OSError as error:
            where = f"{sandbox.options.host}:{sandbox.options.port}"
            raise UsageError(
                f"{where} cannot be used ({os.strerror(error.errno or 0)}).", hint="Choose another --port."
            ) from error
        host, port = runner.addresses[0][:2]
        sandbox.url = f"http://{host}:{port}"
        yield sandbox
    finally:
        await runner.cleanup()
        await sandbox.stop()


async def serve_sandbox(options: SandboxOptions, announce: Callable[[str], None] = print) -> None:
    """Serve until cancelled; `announce` is given the URL once it answers."""
    async with sandbox_server(options) as sandbox:
        announce(sandbox.url)
        await asyncio.Event().wait()


def _application(sandbox: Sandbox) -> web.Application:
    app = web.Application(middlewares=[refuse_web_pages, answer], client_max_size=_LARGEST)
    app[KEY] = sandbox
    app.on_response_prepare.append(sign)
    sandbox.events.sio.attach(app, socketio_path="ws/socket.io")
    app.add_routes(routes.app_routes)
    if sandbox.options.api == "queue":
        app.add_routes([*queue_routes.queue_routes, *routes.model_routes])
        app.router.add_route("*", "/{anything:.*}", routes.unknown_route)
        return app
    app.add_routes([*queue_routes.session_routes, *routes.of_version_3])
    if sandbox.options.api == "portable":
        app.add_routes(queue_routes.of_portable)
    app.router.add_route("*", "/{anything:.*}", queue_routes.unknown_sessions_route)
    return app
