"""The sessions API in both shapes: what is sent, how a lost answer is found, where images are listed."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweep.errors import ItemLostError, ServerUnsupportedError, TransientError, VariationError
from sweep.sandbox import SandboxOptions, sandbox_server
from sweep.servers.base import ItemEnded, ItemEvent, ServerImage, Ticket
from sweep.servers.discovery import connect
from sweep.servers.http import ConnectOptions
from sweep.servers.invokeai.invokeai_client import InvokeAI
from sweep.servers.invokeai.sessions_api import read_session_status as status_of
from sweep.workflow import Node
from tests.servers.building import MODEL, PLAIN, image, submission
from tests.servers.conftest import QUICK
from tests.servers.fake import Fake, payload, replies, status

S = "/api/v1/sessions/"
NODES = {"l": {"id": "l", "type": "l2i", "is_intermediate": False}}
BARE: dict[str, Any] = {
    "id": "s1",
    "graph": {"id": "b-completed", "nodes": NODES, "edges": []},
    "execution_graph": {"id": "e", "nodes": {}, "edges": []},
    "executed": [],
    "results": {},
    "errors": {},
    "prepared_source_mapping": {},
}
RUNNING = {**BARE, "execution_graph": {"nodes": {"p1": {}}}, "prepared_source_mapping": {"p1": "l"}}
RESULT = {"p1": {"type": "image_output", "image": {"image_name": "out.png"}, "width": 8, "height": 8}}
DONE = {**RUNNING, "executed": ["p1", "l"], "results": RESULT}
FAILED = {**RUNNING, "errors": {"p1": payload("item_failed_4_0")["error"]}}


def _serves_sessions(fake: Fake, created: Any = BARE, *states: Any) -> None:
    fake.answers.pop(("GET", "/api/v1/queue/default/status"))
    fake.on("GET", "/api/v1/app/version", {"version": "3.1.1"})
    fake.on("POST", S, created)
    fake.on("PUT", f"{S}s1/invoke", status(202))
    fake.on("GET", S, {"items": [], "page": 0, "pages": 1, "per_page": 50, "total": 0})
    fake.on("GET", f"{S}s1", replies(*states or (BARE, RUNNING, DONE)))


async def _open(fake: Fake) -> InvokeAI:
    server = InvokeAI(fake.url, ConnectOptions(timings=replace(QUICK, poll_listening=0.02)))
    await server.open()
    return server


async def _told(server: InvokeAI, ticket: Ticket) -> list[ItemEvent]:
    async with aclosing(server.hear(ticket)) as events:  # type: ignore[type-var]
        return [event async for event in events]


@pytest.mark.parametrize("api", ["queue", "sessions", "portable"])
async def test_the_api_is_found_out_by_asking(api: Any) -> None:
    async with sandbox_server(SandboxOptions(api=api)) as sandbox:
        server = connect(sandbox.url, ConnectOptions(timings=QUICK))
        info = await server.open()
        await server.aclose()

    assert info.api == ("queue" if api == "queue" else "sessions")
    assert info.sandbox


async def test_a_server_with_neither_api_is_said(fake: Fake) -> None:
    fake.answers.pop(("GET", "/api/v1/queue/default/status"))

    with pytest.raises(ServerUnsupportedError, match="speaks no API"):
        await connect(fake.url, ConnectOptions(timings=QUICK)).open()


async def test_release_3_takes_the_bare_graph_and_is_told_to_run_all(fake: Fake) -> None:
    _serves_sessions(fake)
    server = await _open(fake)

    ticket = await server.submit(submission())
    events = await _told(server, ticket)
    await server.aclose()

    assert ticket == Ticket(batch_id="b-completed", item_id="s1", outputs=("l",))
    probe, sent = fake.calls("POST", S)
    assert probe.body == {"graph": {"id": "sweep", "nodes": {}, "edges": []}}
    assert sent.body["id"] == "b-completed"
    assert set(sent.body["nodes"]) == {"a", "l"}
    assert fake.calls("PUT", f"{S}s1/invoke")[0].query == {"all": "true"}
    assert [type(event).__name__ for event in events] == ["ItemStarted", "ItemEnded"]
    assert isinstance(events[-1], ItemEnded)
    assert events[-1].images == (ServerImage(name="out.png", node="l", width=8, height=8),)


async def test_the_portable_shape_wraps_the_graph_and_lists_images(fake: Fake) -> None:
    lean = {"id": "s1", "is_complete": False}
    _serves_sessions(fake, lean, lean, {**lean, "is_complete": True})
    fake.on("GET", f"{S}s1/images", [{"image_name": "one.png"}, {"image_name": "two.png", "node_id": "l"}, {"odd": 1}])
    server = await _open(fake)

    events = await _told(server, await server.submit(submission()))
    await server.aclose()

    assert set(fake.calls("POST", S)[1].body) == {"graph"}
    assert fake.calls("PUT", f"{S}s1/invoke")[0].query == {}
    assert isinstance(events[-1], ItemEnded)
    assert [(i.name, i.node, i.iteration) for i in events[-1].images] == [("one.png", "l", 0), ("two.png", "l", 1)]


@pytest.mark.parametrize(
    ("session", "found"),
    [
        (BARE, "pending"),
        (RUNNING, "in_progress"),
        (DONE, "completed"),
        (FAILED, "failed"),
        ({**RUNNING, "is_complete": True}, "canceled"),
        ({**DONE, "is_complete": True}, "completed"),
        ({"is_complete": True}, "completed"),
        ({"is_complete": True, "errors": {"p": "x"}}, "failed"),
        ({"is_complete": False}, "in_progress"),
        ({}, "in_progress"),
    ],
)
def test_how_far_a_session_is(session: Any, found: str) -> None:
    assert status_of(session) == found


async def test_events_of_the_session_are_subscribed_to_and_heard(fake: Fake) -> None:
    _serves_sessions(fake, BARE, BARE)
    subscribed: asyncio.Queue[Any] = asyncio.Queue()
    fake.sio.on("subscribe", lambda _sid, data: subscribed.put_nowait(data))
    server = InvokeAI(fake.url, ConnectOptions(timings=QUICK))
    await server.open()
    ticket = await server.submit(submission())
    hearing = asyncio.create_task(_told(server, ticket))
    assert await subscribed.get() == {"session": "s1"}
    about = {"graph_execution_state_id": "s1", "source_node_id": "l", "node": {"id": "p1", "type": "l2i"}}
    await fake.emit("invocation_started", {**about, "graph_execution_state_id": "another"})
    await fake.emit("invocation_started", about)
    await fake.emit("invocation_complete", {**about, "result": RESULT["p1"]})
    fake.on("GET", f"{S}s1", DONE)
    await fake.emit("graph_execution_state_complete", {"graph_execution_state_id": "s1"})

    events = await hearing
    await server.aclose()

    assert [type(event).__name__ for event in events] == ["ItemStarted", "Rendered", "ItemEnded"]


async def test_a_lost_answer_is_found_by_our_id_and_started(fake: Fake) -> None:
    _serves_sessions(fake, replies(BARE, ConnectionError))
    server = await _open(fake)
    with pytest.raises(TransientError):
        await server.submit(submission())
    others = [{**BARE, "id": f"o{n}", "graph": {"id": f"other {n}"}} for n in range(50)]
    fake.on("GET", S, lambda request, _: {"items": [BARE] if request.query["page"] == "1" else others})

    found = await server.find("b-completed", ("l",))
    unknown = await server.find("never")
    await server.aclose()

    assert found == Ticket(batch_id="b-completed", item_id="s1", outputs=("l",))
    assert unknown is None
    assert len(fake.calls("PUT", f"{S}s1/invoke")) == 1
    assert fake.calls("GET", S)[1].query["query"] == "b-completed"


async def test_a_running_session_is_not_started_again(fake: Fake) -> None:
    _serves_sessions(fake, BARE, RUNNING)
    server = await _open(fake)
    await server.submit(submission())

    assert await server.find("b-completed") is not None
    await server.aclose()

    assert len(fake.calls("PUT", f"{S}s1/invoke")) == 1


async def test_a_failure_is_the_last_line_of_its_traceback(fake: Fake) -> None:
    _serves_sessions(fake, BARE, FAILED)
    server = await _open(fake)

    (end,) = await _told(server, await server.submit(submission()))
    await server.aclose()

    assert isinstance(end, ItemEnded)
    assert isinstance(end.error, VariationError)
    assert (end.error.kind, end.error.message, end.failed_node) == ("SizeError", "sizes differ: 8 and 16", "l")


async def test_a_session_that_is_gone_is_lost(fake: Fake) -> None:
    _serves_sessions(fake, BARE, status(404))
    server = await _open(fake)

    with pytest.raises(ItemLostError):
        await _told(server, Ticket(batch_id="b", item_id="s1"))
    await server.aclose()


async def test_who_cancels_knows_it_though_the_server_does_not_tell(fake: Fake) -> None:
    _serves_sessions(fake, BARE, RUNNING)
    fake.on("DELETE", f"{S}s1/invoke", status(202))
    server = await _open(fake)
    ticket = await server.submit(submission())
    hearing = asyncio.create_task(_told(server, ticket))

    await server.cancel(["b-completed", "unknown"])
    end = (await hearing)[-1]
    await server.aclose()

    assert isinstance(end, ItemEnded)
    assert (end.status, end.error.kind if end.error else None) == ("canceled", "Cancelled")
    assert len(fake.calls("DELETE", f"{S}s1/invoke")) == 1


async def test_what_ended_is_not_cancelled(fake: Fake) -> None:
    _serves_sessions(fake, BARE, DONE)
    server = await _open(fake)
    await server.submit(submission())

    await server.cancel(["b-completed"])
    await server.aclose()

    assert [call.method for call in fake.asked if call.method == "DELETE"] == []


async def test_models_are_named_as_release_3_did(fake: Fake) -> None:
    _serves_sessions(fake)
    listed = [{"model_name": "tiny-sd", "base_model": "sd-1", "model_type": "main", "path": "x"}, {"odd": 1}]
    fake.on("GET", "/api/v1/models/", {"models": listed})
    server = await _open(fake)

    (model,) = await server.models()
    await server.submit(submission(PLAIN.adding([Node("m", "main_model_loader", {"model": MODEL})])))
    loaded = await server.list_loaded()
    await server.aclose()

    sent = json.loads(fake.calls("POST", S)[1].data)["nodes"]["m"]["model"]
    assert sent == {"model_name": "tiny-sd", "base_model": "sd-1", "model_type": "main"}
    assert (model.key, model.name) == ("sd-1/main/tiny-sd", "tiny-sd")
    assert loaded == {"sd-1/main/tiny-sd"}


@pytest.mark.parametrize(
    ("version", "upload", "one"),
    [
        ("3.0.2", "/api/v1/images/", "/api/v1/images/up.png/full"),
        ("3.1.1", "/api/v1/images/upload", "/api/v1/images/i/up.png/full"),
    ],
)
async def test_images_lie_elsewhere_before_3_1(fake: Fake, tmp_path: Path, version: str, upload: str, one: str) -> None:
    _serves_sessions(fake)
    fake.on("GET", "/api/v1/app/version", {"version": version})
    fake.on("POST", upload, status(201, {"image_name": "up.png"}))
    fake.on("GET", one, {"any": "bytes"})
    ref, files = image(tmp_path)
    server = await _open(fake)

    await server.submit(submission(PLAIN.adding([Node("i", "i2l", {"image": ref})]), images=files))
    data = await server.fetch(ServerImage(name="up.png", node="l"), 100)
    await server.aclose()

    assert len(fake.calls("POST", upload)) == 1
    assert data == b'{"any": "bytes"}'


async def test_a_refused_graph_is_a_sentence(fake: Fake) -> None:
    fault = {"loc": ["body", "nodes", "a", "AddInvocation", "a"], "msg": "value is not a valid integer"}
    _serves_sessions(fake, replies(BARE, status(422, {"detail": [fault]})))
    server = await _open(fake)

    answers = await server.check([PLAIN], {})
    await server.aclose()

    assert answers == ["a.a: value is not a valid integer"]


async def test_a_session_whose_id_no_address_can_carry_is_a_bad_answer(fake: Fake) -> None:
    _serves_sessions(fake, BARE | {"id": "\ud800"})
    server = await _open(fake)
    with pytest.raises(TransientError, match="no id"):
        await server.submit(submission())
    await server.aclose()
