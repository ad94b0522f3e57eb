"""`sweep run --view`: the live page of a run beside its progress."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import typer

from sweep.engine import events


@asynccontextmanager
async def watched(display: events.Listener, *, open_page: bool) -> AsyncIterator[events.Listener]:
    """A listener that passes events on to `display` and, with `open_page`, serves and opens the live page.

    The page is served from the moment the run has a folder until the block ends.
    """
    if not open_page:
        yield display
        return
    from sweep.report.live import view_server

    begun: list[Path] = []
    started = anyio.Event()
    heard: list[events.Listener] = []

    def listen(event: events.Event) -> None:
        display(event)
        if isinstance(event, events.RunStarted):
            begun.append(Path(event.folder))
            started.set()
        for listener in heard:
            listener(event)

    async def serve() -> None:
        await started.wait()
        async with view_server(begun[0]) as page:
            heard.append(page.heard)
            display(events.Notice(message=f"live at {page.url}"))
            await anyio.to_thread.run_sync(typer.launch, page.url)
            await anyio.sleep_forever()

    async with AsyncExitStack() as held:
        serving = await held.enter_async_context(anyio.create_task_group())
        serving.start_soon(serve)
        yield listen
        serving.cancel_scope.cancel()
