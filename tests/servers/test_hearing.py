"""What becomes of an item is heard whatever events are lost, doubled, late or somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from sweep.errors import ItemLostError, ServerRefusedError, TransientError
from sweep.servers.base import ItemEnded, ItemEvent, ItemStarted, Rendered, StepDone, Ticket
from sweep.servers.http import ConnectOptions
from sweep.servers.invokeai.invokeai_client import InvokeAI
from sweep.workflow import Graph, Node
from tests.servers.building import BATCH, PLAIN, Q, submission, summary, takes_items
from tests.servers.conftest import QUICK
from tests.servers.fake import Fake, fake_server, payload, replies, status

EVENTS = payload("events_completed_6_14")
ITEM_ID = payload("item_completed_6_14")["item_id"]
SUMMARIES = ("POST", f"{Q}/item_summaries_by_ids")
TICKET = Ticket(batch_id=BATCH, item_id=str(ITEM_ID), outputs=("l",))


@pytest.fixture
async def listening(fake: Fake) -> AsyncIterator[InvokeAI]:
    """A client whose line is up, and that asks by itself only every 30 s."""
    takes_items(fake, ITEM_ID)
    fake.on("GET", f"{Q}/i/{ITEM_ID}", payload("item_completed_6_14"))
    fake.on(*SUMMARIES, [summary(ITEM_ID, "pending")])
    server = InvokeAI(fake.url, ConnectOptions(timings=QUICK))
    await server.open()
    await fake.connected.wait()
    await asyncio.sleep(0)
    yield server
    await server.aclose()


async def _told(server: InvokeAI, ticket: Ticket = TICKET) -> list[ItemEvent]:
    async with aclosing(server.hear(ticket)) as events:  # type: ignore[type-var]
        return [event async for event in events]


async def _emit(fake: Fake, events: Any = EVENTS) -> None:
    for name, data in events:
        await fake.emit(name, data)


def _words(events: list[ItemEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


async def test_only_the_websocket_is_used_and_the_queue_subscribed(fake: Fake, listening: InvokeAI) -> None:
    assert fake.transports == ["websocket"]
    assert fake.subscriptions == [{"queue_id": "default"}]


async def test_events_that_come_before_anybody_listens_are_kept(fake: Fake, listening: InvokeAI) -> None:
    ticket = await listening.submit(submission())
    await _emit(fake)

    events = await _told(listening, ticket)

    assert _words(events) == ["ItemStarted", "Rendered", "ItemEnded"]
    assert isinstance(events[0], ItemStarted)
    assert events[0].at is not None
    assert isinstance(events[1], Rendered)
    assert isinstance(events[2], ItemEnded)
    assert (events[1].image,) == events[2].images
    assert fake.calls(*SUMMARIES) == []


async def test_steps_are_told_to_who_asks_for_them(fake: Fake, listening: InvokeAI) -> None:
    step = {"batch_id": BATCH, "item_id": ITEM_ID, "invocation_source_id": "d", "message": "Denoising"}
    ticket = await listening.submit(replace(submission(), tells_steps=True))
    async with aclosing(listening.hear(ticket)) as events:  # type: ignore[type-var]
        await _emit(fake, EVENTS[:2])
        first = await anext(events)
        await _emit(fake, [("invocation_progress", {**step, "percentage": share}) for share in (0.25, 0.3)])
        await _emit(fake)
        told = [first, *[event async for event in events]]

    assert [event for event in told if isinstance(event, StepDone)] == [StepDone(node="d", share=0.25)]
    assert isinstance(told[-1], ItemEnded)


async def test_doubled_and_late_events_are_told_once(fake: Fake, listening: InvokeAI) -> None:
    ticket = await listening.submit(submission())
    await _emit(fake, [*EVENTS[:-1], *EVENTS])

    assert _words(await _told(listening, ticket)) == ["ItemStarted", "Rendered", "ItemEnded"]


async def test_events_of_others_and_of_a_retried_copy_are_not_ours(fake: Fake, listening: InvokeAI) -> None:
    ticket = await listening.submit(submission())
    redacted = [[name, {**data, "batch_id": "redacted"}] for name, data in EVENTS]
    copy = [[name, {**data, "item_id": ITEM_ID + 1}] for name, data in EVENTS if name != "batch_enqueued"]
    odd: list[list[Any]] = [
        ["queue_item_status_changed", None],
        ["invocation_complete", [1]],
        ["what", {"batch_id": BATCH}],
    ]
    await _emit(fake, [*redacted, *copy, *odd, *EVENTS[-1:]])

    assert _words(await _told(listening, ticket)) == ["ItemEnded"]


async def test_the_end_that_fell_into_a_gap_is_found_after_connecting_again(fake: Fake, listening: InvokeAI) -> None:
    ticket = await listening.submit(submission())
    hearing = asyncio.create_task(_told(listening, ticket))
    await _emit(fake, EVENTS[:2])
    await fake.drop_sockets()
    fake.on(*SUMMARIES, [summary(ITEM_ID, "completed")])

    assert _words(await hearing)[-1] == "ItemEnded"
    await fake.connected.wait()
    assert fake.connections == 2
    assert len(fake.subscriptions) == 2


async def test_what_was_submitted_before_a_gap_is_looked_at_when_heard(fake: Fake, listening: InvokeAI) -> None:
    ticket = await listening.submit(submission())
    await fake.drop_sockets()
    await fake.connected.wait()
    fake.on(*SUMMARIES, [summary(ITEM_ID, "completed")])

    assert _words(await _told(listening, ticket)) == ["ItemEnded"]


async def test_an_item_of_an_earlier_process_is_asked_for_at_once(fake: Fake, listening: InvokeAI) -> None:
    fake.on(*SUMMARIES, [summary(ITEM_ID, "completed")])

    assert _words(await _told(listening)) == ["ItemEnded"]
    assert fake.calls(*SUMMARIES)[0].body == {"item_ids": [ITEM_ID]}


async def test_slow_polling_is_the_net_under_a_lost_event(fake: Fake) -> None:
    takes_items(fake, ITEM_ID)
    fake.on("GET", f"{Q}/i/{ITEM_ID}", payload("item_completed_6_14"))
    fake.on(
        *SUMMARIES,
        replies([summary(ITEM_ID, "pending")], [summary(ITEM_ID, "in_progress")], [summary(ITEM_ID, "completed")]),
    )
    server = InvokeAI(fake.url, ConnectOptions(timings=replace(QUICK, poll_listening=0.02)))
    await server.open()
    await fake.connected.wait()

    events = await _told(server, await server.submit(submission()))
    await server.aclose()

    assert _words(events) == ["ItemStarted", "ItemEnded"]


async def test_a_bulk_cancellation_makes_us_look(fake: Fake, listening: InvokeAI) -> None:
    ticket = await listening.submit(submission())
    fake.on(*SUMMARIES, [summary(ITEM_ID, "canceled")])
    fake.on("GET", f"{Q}/i/{ITEM_ID}", payload("item_canceled_6_14") | {"batch_id": BATCH})
    hearing = asyncio.create_task(_told(listening, ticket))
    await asyncio.sleep(0)
    await fake.emit("queue_items_canceled", {"canceled_item_ids": [ITEM_ID]})

    (end,) = await hearing

    assert isinstance(end, ItemEnded)
    assert isinstance(end.error, ItemLostError)


async def test_our_own_cancellation_is_no_loss(fake: Fake, listening: InvokeAI) -> None:
    fake.on("PUT", f"{Q}/cancel_by_batch_ids", {"canceled": 1})
    fake.on("GET", f"{Q}/i/{ITEM_ID}", payload("item_canceled_6_14") | {"batch_id": BATCH})
    ticket = await listening.submit(submission())
    fake.on(*SUMMARIES, [summary(ITEM_ID, "canceled")])
    hearing = asyncio.create_task(_told(listening, ticket))
    await asyncio.sleep(0)

    await listening.cancel([BATCH])
    (end,) = await hearing

    assert isinstance(end, ItemEnded)
    assert (end.status, end.error.kind if end.error else None) == ("canceled", "Cancelled")


@pytest.mark.parametrize("answer", [[], [summary(ITEM_ID, "completed", batch_id="somebody else's")]])
async def test_an_item_the_server_does_not_have_is_lost(fake: Fake, listening: InvokeAI, answer: Any) -> None:
    fake.on(*SUMMARIES, answer)

    with pytest.raises(ItemLostError, match=str(ITEM_ID)):
        await _told(listening)


@pytest.mark.parametrize(
    "answer", [status(404, {"detail": "gone"}), status(500, {"detail": "Unexpected error: 404: Queue item with id"})]
)
async def test_an_item_that_vanishes_at_its_end_is_lost(fake: Fake, listening: InvokeAI, answer: Any) -> None:
    fake.on(*SUMMARIES, [summary(ITEM_ID, "completed")])
    fake.on("GET", f"{Q}/i/{ITEM_ID}", answer)

    with pytest.raises(ItemLostError):
        await _told(listening)


async def test_the_end_is_read_again_where_the_answer_is_lost(fake: Fake, listening: InvokeAI) -> None:
    fake.on(*SUMMARIES, [summary(ITEM_ID, "completed")])
    early = {**payload("item_completed_6_14"), "status": "in_progress"}
    stumble = status(500, {"detail": "Unexpected error getting queue item 14042: database is locked"})
    answers = (ConnectionError, ConnectionError, stumble, early, payload("item_completed_6_14"))
    fake.on("GET", f"{Q}/i/{ITEM_ID}", replies(*answers))

    assert _words(await _told(listening)) == ["ItemEnded"]


async def test_a_server_that_falls_silent_is_told_after_a_while(fake: Fake, listening: InvokeAI) -> None:
    fake.on(*SUMMARIES, status(500))
    ticket = await listening.submit(submission())
    hearing = asyncio.create_task(_told(listening, ticket))
    for sid in list(fake.sids):
        await fake.sio.disconnect(sid)
    fake.on("GET", f"{Q}/i/{ITEM_ID}", status(500))

    with pytest.raises(TransientError, match="has not answered"):
        await hearing


async def test_a_refusal_while_waiting_is_told_at_once(fake: Fake, listening: InvokeAI) -> None:
    fake.on(*SUMMARIES, status(401, {"detail": "Invalid or expired token"}))

    with pytest.raises(ServerRefusedError):
        await _told(listening)


async def test_a_node_that_iterates_is_told_at_the_end_only(fake: Fake, listening: InvokeAI) -> None:
    many = PLAIN.adding([Node("i", "iterate")], ["i.item → a.a", "a.value → l.latents"])
    ticket = await listening.submit(submission(many))
    await _emit(fake)

    assert _words(await _told(listening, ticket)) == ["ItemStarted", "ItemEnded"]


async def test_two_may_hear_the_same_item(fake: Fake, listening: InvokeAI) -> None:
    ticket = await listening.submit(submission())
    both = [asyncio.create_task(_told(listening, ticket)) for _ in range(2)]
    await asyncio.sleep(0)
    await _emit(fake)

    first, second = await asyncio.gather(*both)

    assert first == second


async def test_without_a_socket_polling_is_enough(fake: Fake) -> None:
    async with fake_server() as deaf:
        takes_items(deaf, ITEM_ID)
        deaf.on("GET", f"{Q}/i/{ITEM_ID}", payload("item_completed_6_14"))
        states = ("pending", "in_progress", "completed")
        deaf.on(*SUMMARIES, replies(*([summary(ITEM_ID, state)] for state in states)))

        def refuse(*_: object) -> None:
            raise ConnectionRefusedError("no sockets here")

        deaf.sio.on("connect", refuse)
        server = InvokeAI(deaf.url, ConnectOptions(timings=QUICK))
        await server.open()
        events = await _told(server, await server.submit(submission()))
        await server.aclose()

    assert _words(events) == ["ItemStarted", "ItemEnded"]
    assert deaf.connections == 0


async def test_models_loaded_are_forgotten_when_the_line_goes_down(fake: Fake, listening: InvokeAI) -> None:
    for n in range(12):
        await fake.emit("model_load_complete", {"config": {"key": f"k{n}"}})
    ticket = await listening.submit(submission(Graph.of([Node("l", "l2i")])))
    await _emit(fake)
    await _told(listening, ticket)

    assert await listening.list_loaded() == {f"k{n}" for n in range(4, 12)}
    await fake.drop_sockets()
    await fake.connected.wait()
    assert await listening.list_loaded() == frozenset()


async def test_closing_at_any_moment_ends_in_time(fake: Fake) -> None:
    for moments in range(80):
        server = InvokeAI(fake.url, ConnectOptions(timings=QUICK))
        await server.open()
        for _ in range(moments):
            await asyncio.sleep(0)
        async with asyncio.timeout(5) as limit:
            await server.aclose()
        assert not limit.expired()


async def test_an_item_of_another_batch_under_the_same_number_is_not_ours(fake: Fake, listening: InvokeAI) -> None:
    """A server that lost its queue counts from 1 again: the end of a stranger's item is not taken for ours."""
    ticket = await listening.submit(submission())
    fake.on("GET", f"{Q}/i/{ITEM_ID}", payload("item_completed_6_14") | {"batch_id": "somebody-else"})
    fake.on(*SUMMARIES, [summary(ITEM_ID, "completed")])
    await fake.emit("queue_items_canceled", {"queue_id": "default"})  # so that the client asks at once
    with pytest.raises(ItemLostError, match="another item"):
        await _told(listening, ticket)
