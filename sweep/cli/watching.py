"""`sweep run --view`: the live page of a run beside its progress."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import anyio
import typer

from sweep.engine import events
from sweep.errors import SweepError

if TYPE_CHECKING:
    from sweep.report.live import View

PageOf: TypeAlias = Callable[[Path], AbstractAsyncContextManager["View"]]


@asynccontextmanager
async def watched(display: events.Listener, page_of: PageOf | None) -> AsyncIterator[events.Listener]:
    """A listener that passes events on to `display` and, with `page_of`, serves and opens the live page.

    The page is served from the moment the run has a folder until the block ends.
    """
    if page_of is None:
        yield display
        return
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
        async with page_of(begun[0]) as page:
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
