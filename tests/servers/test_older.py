"""Releases 4 and 5: no item ids in the answer, no summaries, other names for the same events."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from sweep.errors import ItemLostError, OverloadedError, TransientError
from sweep.servers.base import ItemEnded, ItemEvent, Rendered, Ticket
from sweep.servers.http import ConnectOptions
from sweep.servers.invokeai import queue_api
from sweep.servers.invokeai.invokeai_client import InvokeAI
from tests.servers.building import Q, submission
from tests.servers.conftest import QUICK
from tests.servers.fake import Fake, payload, replies, status

BATCH = "b-old"
LIST = ("GET", f"{Q}/list")
COUNTS = ("GET", f"{Q}/b/{BATCH}/status")


def _old(fake: Fake, *states: str) -> None:
    """Enqueues without saying the id; a batch's counts go through these states."""
    fake.on("POST", f"{Q}/enqueue_batch", payload("enqueue_5_0"))
    fake.on("GET", f"{Q}/i/7", payload("item_completed_4_0"))
    fake.on(*COUNTS, replies(*({"batch_id": BATCH, "total": 1, state: 1} for state in states)))
    pages = payload("list_pages_5_0")

    def listed(request: Any, _data: bytes) -> Any:
        if request.query["status"] != "in_progress":
            return {"limit": 1000, "has_more": False, "items": []}
        return pages[1] if request.query.get("cursor") == "6" else pages[0]

    fake.on(*LIST, listed)


async def _told(client: InvokeAI, ticket: Ticket) -> list[ItemEvent]:
    async with aclosing(client.hear(ticket)) as events:  # type: ignore[type-var]
        return [event async for event in events]


async def test_the_item_is_found_by_paging_through_the_queue(fake: Fake, client: InvokeAI) -> None:
    _old(fake, "pending")

    ticket = await client.submit(submission(batch_id=BATCH))

    assert ticket == Ticket(batch_id=BATCH, item_id="7", outputs=("l",))
    assert [call.query["status"] for call in fake.calls(*LIST)] == ["pending", "in_progress", "in_progress"]


async def test_an_item_that_was_taken_is_not_turned_away(fake: Fake, client: InvokeAI) -> None:
    """It is there, and only which one it is cannot be asked at the moment: sent elsewhere, it would be made twice."""
    _old(fake, "pending")
    fake.on(*LIST, status(503))

    with pytest.raises(TransientError) as told:
        await client.submit(submission(batch_id=BATCH))
    assert not isinstance(told.value, OverloadedError)


async def test_an_item_nobody_finds_is_transient(fake: Fake, client: InvokeAI) -> None:
    _old(fake, "pending")
    fake.on(*LIST, status(404))

    with pytest.raises(TransientError, match="does not say which"):
        await client.submit(submission(batch_id=BATCH))


async def test_a_list_that_never_ends_is_not_read_for_ever(
    fake: Fake, client: InvokeAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_api, "MOST_LIST_PAGES", 3)
    _old(fake, "pending")
    number = itertools.count(100)
    fake.on(*LIST, lambda *_: {"has_more": True, "items": [{"item_id": next(number), "batch_id": "another"}]})

    with pytest.raises(TransientError, match="does not say which"):
        await client.submit(submission(batch_id=BATCH))


async def test_the_counts_of_a_batch_tell_its_items_state(fake: Fake) -> None:
    _old(fake, "pending", "pending", "in_progress", "completed")
    client = InvokeAI(fake.url, ConnectOptions(timings=replace(QUICK, poll_listening=0.02)))
    await client.open()

    events = await _told(client, await client.submit(submission(batch_id=BATCH)))
    await client.aclose()

    assert [type(event).__name__ for event in events] == ["ItemStarted", "ItemEnded"]
    assert isinstance(events[-1], ItemEnded)
    assert [image.name for image in events[-1].images] == ["old.png"]


async def test_a_batch_that_is_all_zeros_is_a_lost_item(fake: Fake, client: InvokeAI) -> None:
    fake.on(*COUNTS, {"batch_id": BATCH, "total": 0})

    with pytest.raises(ItemLostError):
        await _told(client, Ticket(batch_id=BATCH, item_id="7"))


async def test_the_events_of_release_4_say_the_same(fake: Fake, client: InvokeAI) -> None:
    _old(fake, "pending")
    await fake.connected.wait()
    ticket = await client.submit(submission(batch_id=BATCH))
    hearing = asyncio.create_task(_told(client, ticket))
    await asyncio.sleep(0)
    for name, data in payload("events_completed_4_0"):
        await fake.emit(name, data)

    events = await hearing

    assert [type(event).__name__ for event in events] == ["ItemStarted", "Rendered", "ItemEnded"]
    assert isinstance(events[1], Rendered)
    assert (events[1].image.name, events[1].image.node) == ("old.png", "l")
    assert await client.list_loaded() == {"model-key"}


async def test_without_counts_by_destination_what_we_wait_for_is_ours(fake: Fake, client: InvokeAI) -> None:
    fake.on("GET", f"{Q}/status", {"queue": {"pending": 2, "in_progress": 1}})

    assert await client.count_others_waiting("run") == 3
