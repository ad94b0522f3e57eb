"""Stage 2 of a stop: what is ours is cancelled on the servers, and only that."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Final

import anyio

from sweep.engine.desk import Desk, Flight
from sweep.engine.events import Notice
from sweep.engine.pool import Member
from sweep.engine.tasks import tasks, together
from sweep.errors import SweepError
from sweep.servers.base import Ended

DEADLINE: Final = 5.0  # seconds for telling the servers, all at the same time
ON_ITS_WAY: Final = 0.5  # seconds after which a request that was broken off has arrived, if it ever does


async def cancel_flights(desk: Desk) -> None:
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


async def _cancel_at(desk: Desk, member: Member, flights: Mapping[str, Flight], gone: list[str]) -> None:
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
                if isinstance(event, Ended) and event.status == "canceled":
                    gone.extend(point.key for point in flight.points)

    await together(*(look(batch, flight) for batch, flight in flights.items()))
    return unknown
