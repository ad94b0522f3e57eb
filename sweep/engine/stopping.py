"""Asking a run to end, in stages: from its own terminal by signal, from another one by a file in the results folder.

Stage 1: nothing new is begun, what is in flight is finished. Stage 2: what is ours is cancelled on the servers.
A third Ctrl-C is the operating system's own: the process ends at once, and the next run heals what that left.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import anyio
import anyio.to_thread

REQUEST: Final = "stop-request"
LOOK_EVERY: Final = 0.5  # seconds between looks at the request file
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
def signals(stop: Stop) -> Iterator[None]:
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


def ask(folder: Path, stage: int) -> None:
    """Ask the run that writes to `folder` for a stage; it looks twice a second."""
    (folder / REQUEST).write_text(f"{stage}\n", encoding="ascii")


def clear(folder: Path) -> None:
    """Forget requests made to earlier runs."""
    (folder / REQUEST).unlink(missing_ok=True)


async def watch_requests(stop: Stop, folder: Path) -> None:
    """Pass on what `ask` was called with, until cancelled."""
    while stop.stage < 2:
        stop.request(await anyio.to_thread.run_sync(_asked, folder / REQUEST))
        await anyio.sleep(LOOK_EVERY)


def _asked(file: Path) -> int:
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return 0
    return int(text) if text in {"1", "2"} else 0
