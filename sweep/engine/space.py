"""Room on the disk: enough for what is to be rendered before anything is sent, and never so little that a write fails.

Files are still written as if the disk could be full at any of them; this only keeps a run from getting there with
servers at work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from sweep.errors import DiskFullError
from sweep.record.disk import FULL_HINT

RESERVE: Final = 32 * 2**20  # bytes left for the journal, its log and the tables
LOOK_EVERY: Final = 2.0  # seconds between looks at the disk while a run goes on

Free = Callable[[], Awaitable[int]]


async def require(free: Free, expected: int, place: str) -> None:
    """Raises DiskFullError where `expected` bytes of pictures will not fit."""
    there = await free()
    if there < expected + RESERVE:
        raise DiskFullError(
            f"{place}: the pictures will take about {_megabytes(expected + RESERVE)} and {_megabytes(there)} are free.",
            hint="Free some space, or point --results at another disk.",
        )


async def shortage(free: Free, place: str) -> DiskFullError:
    """Look at the disk until there is less left than a run should go on with; gives what to say then."""
    while (there := await free()) >= RESERVE:  # noqa: ASYNC110  a disk tells nobody
        await anyio.sleep(LOOK_EVERY)
    return DiskFullError(f"{place}: only {_megabytes(there)} are free, too little to go on.", hint=FULL_HINT)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"
