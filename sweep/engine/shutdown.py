"""Stop stages, signals, cancellation of our items."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import anyio
import anyio.to_thread

from sweep.engine.attempt import Flight, RunContext
from sweep.engine.events import Notice
from sweep.engine.server_pool import Member
from sweep.engine.task_groups import tasks, together
from sweep.errors import SweepError
from sweep.servers import ItemEnded

REQUEST: Final = "stop-request"
_LOOK_EVERY: Final = 0.5  # seconds between looks at the request file
if sys.platform == "win32":
    HEEDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
else:
    HEEDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """How far a run was asked to stop: 0 not at all, 1 or 2. A stage is never taken back."""

    def __init__(self) -> None:
        self.stage = 0
        self._reached = (anyio.Event(), anyio.Event())

    def request(self, stage: int) -> None:
        """Ask for stage 1 or 2; asking for less than before changes nothing."""
        self.stage = max(self.stage, min(stage, 2))
        for event in self._reached[: self.stage]:
            event.set()

    async def reached(self, stage: int) -> None:
        """Wait until the run was asked for this stage or a later one."""
        await self._reached[stage - 1].wait()


@contextmanager
def handle_signals(stop: Stop) -> Iterator[None]:
    """While inside, Ctrl-C asks for stage 1, then 2, then ends the process; SIGTERM, and SIGHUP of a terminal that was
    closed, ask for stage 2. On Windows Ctrl-Break does, as nothing sends SIGTERM there.

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
            signal.signal(number, handler)


def request_stop(folder: Path, stage: int) -> None:
    """Ask the run that writes to `folder` for a stage; it looks twice a second."""
    (folder / REQUEST).write_text(f"{stage}\n", encoding="ascii")


def clear_stop_requests(folder: Path) -> None:
    """Forget requests made to earlier runs."""
    (folder / REQUEST).unlink(missing_ok=True)


async def watch_requests(stop: Stop, folder: Path) -> None:
    """Pass on what `request_stop` was called with, until cancelled."""
    while stop.stage < 2:
        stop.request(await anyio.to_thread.run_sync(_asked, folder / REQUEST))
        await anyio.sleep(_LOOK_EVERY)


def _asked(file: Path) -> int:
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return 0
    return int(text) if text in {"1", "2"} else 0


DEADLINE: Final = 5.0  # seconds for telling the servers, all at the same time
ON_ITS_WAY: Final = 0.5  # seconds after which a request that was broken off has arrived, if it ever does


async def cancel_flights(desk: RunContext) -> None:
    """Cancel every item in flight at a living server, then write down those the server says are cancelled.

    What is not known to be cancelled (no answer in time, or done meanwhile) stays open on record, and the next run
    asks what became of it. Raises RecordError.
    """
    by_member: dict[Member, dict[str, Flight]] = {}
    for batch, flight in desk.flights.items():
        if flight.member.left is None:
            by_member.setdefault(flight.member, {})[batch] = flight
    gone: list[str] = []
    with anyio.CancelScope(shield=True):
        async with tasks() as group:
            for member, flights in by_member.items():
                group.start_soon(_cancel_at, desk, member, flights, gone)
        if gone:
            standing = await desk.journal.standing(gone)
            begun = [key for key, how in standing.items() if how.state in ("intended", "submitted")]
            await together(*(desk.journal.cancel(key) for key in begun))


async def _cancel_at(desk: RunContext, member: Member, flights: Mapping[str, Flight], gone: list[str]) -> None:
    with anyio.move_on_after(DEADLINE) as time:
        try:
            await member.server.cancel(list(flights))
            unknown = await _ended(member, flights, gone)
            if unknown:
                await anyio.sleep(ON_ITS_WAY)
                await member.server.cancel(list(unknown))
                await _ended(member, unknown, gone)
        except SweepError as error:
            desk.listener(Notice(message=f"{member.name}: {error.message} Its items may go on."))
    if time.cancelled_caught:
        desk.listener(Notice(message=f"{member.name} did not answer within {DEADLINE:.0f} s. Its items may go on."))


async def _ended(member: Member, flights: Mapping[str, Flight], gone: list[str]) -> dict[str, Flight]:
    """Adds the keys whose item is cancelled to `gone`; gives back the flights the server knows nothing of."""
    unknown: dict[str, Flight] = {}

    async def look(batch: str, flight: Flight) -> None:
        ticket = await member.server.find(batch, flight.outputs)
        if ticket is None:
            unknown[batch] = flight
            return
        async with aclosing(member.server.hear(ticket)) as told:  # type: ignore[type-var]
            async for event in told:
                if isinstance(event, ItemEnded) and event.status == "canceled":
                    gone.extend(point.key for point in flight.points)

    await together(*(look(batch, flight) for batch, flight in flights.items()))
    return unknown
