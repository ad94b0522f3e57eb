"""Stops a run in stages, and cancels its own items at the servers.

A run stops in stages: 1 begins nothing more and finishes what is in flight, 2 cancels that, too. They are asked for by
signals, by a file in the folder (`sweep cancel`) or by the caller.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final

import anyio
import anyio.to_thread

from sweep.engine.attempt import ON_ITS_WAY, ItemDownloads
from sweep.engine.concurrency import open_task_group, run_all
from sweep.engine.events import Notice
from sweep.engine.run_context import InFlightItem, RunContext
from sweep.engine.server_pool import PooledServer
from sweep.errors import RecordError, SweepError
from sweep.servers import ItemEnded, Rendered, ServerImage

REQUEST: Final = "stop-request"
_LOOK_EVERY: Final = 0.5  # seconds between looks at the request file
if sys.platform == "win32":
    HEEDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
else:
    HEEDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """The stage of stopping that was requested: 0 (none), 1 or 2. A stage is never taken back."""

    def __init__(self) -> None:
        self.stage = 0
        self._reached = (anyio.Event(), anyio.Event())

    def request(self, stage: int) -> None:
        """Ask for stage 1 or 2; asking for less than before changes nothing."""
        self.stage = max(self.stage, min(stage, 2))
        for event in self._reached[: self.stage]:
            event.set()

    async def wait_for(self, stage: int) -> None:
        """Wait until the run was asked for this stage or a later one."""
        await self._reached[stage - 1].wait()


@contextmanager
def handle_signals(stop: Stop) -> Iterator[None]:
    """Turn signals into requests to stop while inside.

    Ctrl-C asks for stage 1, then 2, then ends the process; SIGTERM, and SIGHUP of a terminal that was closed, ask for
    stage 2. On Windows Ctrl-Break does, as nothing sends SIGTERM there.

    What the process was started to ignore (`nohup`, a script's `&`) stays ignored. Only to be used in the main thread,
    inside a running event loop.
    """
    loop = asyncio.get_running_loop()
    before = {number: handler for number in HEEDED if (handler := signal.getsignal(number)) is not signal.SIG_IGN}
    seen = 0

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal seen
        if number != signal.SIGINT:
            loop.call_soon_threadsafe(stop.request, 2)
            return
        seen += 1
        if seen <= 2:
            loop.call_soon_threadsafe(stop.request, seen)
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: not installed by Python


def request_stop(folder: Path | str, stage: int) -> None:
    """Ask the run that writes to `folder` for a stage; it looks twice a second."""
    (Path(folder) / REQUEST).write_text(f"{stage}\n", encoding="ascii")


def clear_stop_requests(folder: Path) -> None:
    (folder / REQUEST).unlink(missing_ok=True)


async def watch_requests(stop: Stop, folder: Path) -> None:
    """Pass requests by `request_stop` on to `stop`, until stage 2 or until cancelled."""
    while stop.stage < 2:
        stop.request(await anyio.to_thread.run_sync(_read_request, folder / REQUEST))
        await anyio.sleep(_LOOK_EVERY)


def _read_request(file: Path) -> int:
    with suppress(OSError, UnicodeDecodeError):
        return {"1": 1, "2": 2}.get(file.read_text(encoding="ascii").strip(), 0)
    return 0


DEADLINE: Final = 5.0  # seconds for telling the servers, all at the same time


async def cancel_in_flight(context: RunContext) -> None:
    """Cancel every item in flight at a living server, then write down those the server says are cancelled.

    What an item had rendered before is fetched and completed. What is not known to be cancelled (no answer in time,
    or done meanwhile) stays open on record, and the next run asks what became of it. Raises RecordError.
    """
    by_server: dict[PooledServer, dict[str, InFlightItem]] = {}
    for batch, item in context.in_flight.items():
        if item.server.left is None:
            by_server.setdefault(item.server, {})[batch] = item
    gone: list[str] = []
    with anyio.CancelScope(shield=True):
        async with open_task_group() as group:
            for server, items in by_server.items():
                group.start_soon(_cancel_at, context, server, items, gone)
        if gone:
            standing = await context.journal.find_statuses(gone)
            begun = [key for key, how in standing.items() if how.state in ("intended", "submitted")]
            await run_all(*(context.journal.cancel(key) for key in begun))


async def _cancel_at(
    context: RunContext, server: PooledServer, items: Mapping[str, InFlightItem], gone: list[str]
) -> None:
    with anyio.move_on_after(DEADLINE) as time:
        try:
            await server.server.cancel(list(items))
            if unknown := await _collect_cancelled(context, server, items, gone):
                await anyio.sleep(ON_ITS_WAY)
                await server.server.cancel(list(unknown))
                await _collect_cancelled(context, server, unknown, gone)
        except RecordError:
            raise
        except SweepError as error:
            context.listener(Notice(message=f"{server.name}: {error.message} Its items may go on."))
    if time.cancelled_caught:
        context.listener(Notice(message=f"{server.name} did not answer within {DEADLINE:.0f} s. Its items may go on."))


async def _collect_cancelled(
    context: RunContext, server: PooledServer, items: Mapping[str, InFlightItem], gone: list[str]
) -> dict[str, InFlightItem]:
    """Add the keys that were cancelled without an image to `gone`; return the items the server knows nothing of."""
    unknown: dict[str, InFlightItem] = {}

    async def look(batch: str, item: InFlightItem) -> None:
        ticket = await server.server.find(batch, item.fused.output_nodes)
        if ticket is None:
            unknown[batch] = item
            return
        images: list[ServerImage] = []
        async with aclosing(server.server.hear(ticket)) as heard:  # type: ignore[type-var]
            async for event in heard:
                if isinstance(event, Rendered):
                    images.append(event.image)
                elif isinstance(event, ItemEnded) and event.status == "canceled":
                    gone.extend(await _keep_rendered(context, item, [*images, *event.images], event))

    await run_all(*(look(batch, item) for batch, item in items.items()))
    return unknown


async def _keep_rendered(
    context: RunContext, item: InFlightItem, images: Sequence[ServerImage], ended: ItemEnded
) -> list[str]:
    """Fetch the images that a cancelled item has made, and complete their points; return the keys without an image.

    Points whose images cannot be fetched now stay open: the next run finds the images.
    """
    downloads = ItemDownloads(context, item)
    async with open_task_group() as group:
        for image in images:
            downloads.start(image, group)
    done = [key for key in item.points if downloads.is_complete(key)]
    await downloads.complete(done, ended)
    return [key for key in item.points if key not in done and downloads.find_error(key) is None]
