"""A real server killed while it renders: what was running is lost and says so, what was waiting is rendered yet."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

from sweep.errors import ItemLostError
from sweep.servers import ItemEnded, ItemEvent, ItemStarted, Server, Ticket
from sweep.testing.servers import submission
from tests.support.live_invokeai import LiveServer
from tests.support.scenes import subject


async def _told(server: Server, ticket: Ticket, begun: asyncio.Event) -> list[ItemEvent]:
    events: list[ItemEvent] = []
    async with aclosing(server.hear(ticket)) as heard:  # type: ignore[type-var]
        async for event in heard:
            events.append(event)
            if isinstance(event, ItemStarted):
                begun.set()
    return events


async def test_a_kill_loses_the_running_item_alone(own_live_server: LiveServer, tmp_path: Path) -> None:
    async with subject(own_live_server.url, tmp_path) as under_test:
        server, begun = under_test.server, asyncio.Event()
        running = await server.submit(submission(under_test.slow(1)))
        waiting = await server.submit(submission(under_test.quick(2)))
        hearing = [asyncio.create_task(_told(server, ticket, begun)) for ticket in (running, waiting)]
        await begun.wait()

        await asyncio.to_thread(own_live_server.kill)
        await asyncio.to_thread(own_live_server.start)
        lost, rendered = [events[-1] for events in await asyncio.gather(*hearing)]

        assert isinstance(lost, ItemEnded)
        assert isinstance(lost.error, ItemLostError)
        assert isinstance(rendered, ItemEnded)
        assert rendered.status == "completed"
        assert (await server.fetch(rendered.images[0], 10_000_000)).startswith(b"\x89PNG")


async def test_a_frozen_server_is_waited_for(own_live_server: LiveServer, tmp_path: Path) -> None:
    async with subject(own_live_server.url, tmp_path) as under_test:
        server, begun = under_test.server, asyncio.Event()
        ticket = await server.submit(submission(under_test.quick(3)))
        await asyncio.to_thread(own_live_server.freeze)
        hearing = asyncio.create_task(_told(server, ticket, begun))
        await asyncio.sleep(2)
        assert not hearing.done()
        await asyncio.to_thread(own_live_server.thaw)

        end = (await hearing)[-1]

        assert isinstance(end, ItemEnded)
        assert end.status == "completed"
