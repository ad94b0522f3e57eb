"""`sweep run --view`: the live page of a run beside its progress."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import typer

from sweep.engine import events
from sweep.errors import SweepError


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

    failure: BaseException | None = None
    async with anyio.create_task_group() as serving:
        serving.start_soon(serve)
        try:
            yield listen
        except (SweepError, OSError, KeyboardInterrupt) as error:  # as it is, not in a group
            failure = error
        serving.cancel_scope.cancel()
    if failure is not None:
        raise failure
