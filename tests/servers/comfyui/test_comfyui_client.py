"""The client of a ComfyUI against the faults that one has: lost answers, forgotten items, files on its disk."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sweep.errors import ItemLostError, ServerUnsupportedError, TransientError, VariationError
from sweep.servers import (
    ComfyUI,
    ConnectOptions,
    ItemEnded,
    ItemEvent,
    MissingModelError,
    ServerImage,
    StepDone,
    Submission,
    Ticket,
    connect,
)
from sweep.servers.comfyui.comfyui_client import end_by_history, make_file_prefix, make_image_query, read_refusal
from sweep.servers.credentials import Credentials
from sweep.workflow import Graph, ImageRef, ModelRef, Node
from tests.servers.conftest import QUICK as CLIENT
from tests.support.fake_comfyui import FakeComfyUI, fake_comfyui

QUICK = replace(CLIENT, poll_listening=0.1)  # what is gone is never told: it is found by asking
BATCH = "0a8b6e0c-1111-4222-8333-444455556666"
PLAIN = Graph.of([Node("a", "EmptyImage", {"width": 8}), Node("out", "SaveImage")], ["a.0 → out.images"])


def a_submission(graph: Graph = PLAIN, batch_id: str = BATCH, **more: Any) -> Submission:
    return Submission(batch_id=batch_id, graph=graph, outputs=("out",), destination="run", **more)


@pytest.fixture
async def fake() -> AsyncIterator[FakeComfyUI]:
    async with fake_comfyui() as found:
        yield found


@pytest.fixture
async def server(fake: FakeComfyUI) -> AsyncIterator[ComfyUI]:
    found = ComfyUI(fake.url, ConnectOptions(timings=QUICK))
    await found.open()
    yield found
    await found.aclose()


async def hear_all(server: ComfyUI, ticket: Ticket) -> list[ItemEvent]:
    async with aclosing(server.hear(ticket)) as events:  # type: ignore[type-var]
        return [event async for event in events]


def with_an_input_image(folder: Path) -> tuple[Graph, str, Path]:
    """Make a graph that saves an input image; its hash, and its file."""
    path = folder / "in.png"
    Image.new("RGB", (8, 8)).save(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    nodes = [Node("i", "LoadImage", {"image": ImageRef(sha256)}), Node("out", "SaveImage")]
    return Graph.of(nodes, ["i.0 → out.images"]), sha256, path


async def end_of(server: ComfyUI, ticket: Ticket) -> ItemEnded:
    end = (await hear_all(server, ticket))[-1]
    assert isinstance(end, ItemEnded)
    return end


async def test_a_comfyui_has_no_gallery(server: ComfyUI) -> None:
    with pytest.raises(ServerUnsupportedError, match="a ComfyUI, which has no boards, no gallery"):
        server.gallery()


async def test_a_prompt_has_our_id_our_file_and_our_words(fake: FakeComfyUI, server: ComfyUI) -> None:
    await server.submit(a_submission(metadata={"sweep_key": "k"}, priority=1))
    (body,) = fake.posted
    assert body["prompt_id"] == BATCH
    assert "number" not in body  # two pending prompts of one id and one number end the server's worker
    assert body["front"] is True
    assert body["prompt"]["out"]["inputs"] == {"images": ["a", 0], "filename_prefix": make_file_prefix(BATCH, "out")}
    assert body["extra_data"]["extra_pnginfo"]["sweep"] == {"destination": "run", "sweep_key": "k"}


async def test_an_item_is_heard_to_its_end_with_its_times(fake: FakeComfyUI, server: ComfyUI) -> None:
    ticket = await server.submit(a_submission())
    hearing = asyncio.create_task(end_of(server, ticket))
    await fake.finish(BATCH)
    end = await hearing
    assert (end.status, [image.name for image in end.images]) == (
        "completed",
        [f"output/{make_file_prefix(BATCH, 'out')}_00001_.png"],
    )
    assert end.queued_at is not None
    assert await server.fetch(end.images[0], 100) == b"\x89PNG\r\n\x1a\n image"


@pytest.mark.parametrize("answer", [ConnectionError, (500, {})], ids=["lost", "500"])
async def test_a_lost_answer_leaves_it_open_and_the_item_is_found(
    fake: FakeComfyUI, server: ComfyUI, answer: Any
) -> None:
    fake.answer = answer
    with pytest.raises(TransientError):
        await server.submit(a_submission())
    assert await server.find(BATCH, ("out",)) == Ticket(batch_id=BATCH, item_id=BATCH, outputs=("out",))
    assert len(fake.posted) == 1


async def test_an_item_that_is_nowhere_is_not_found_with_a_token_either(fake: FakeComfyUI) -> None:
    """The answer to a question for a file that is not there is empty, and a token is taken out of each error."""
    server = ComfyUI(fake.url, ConnectOptions(timings=QUICK, credentials=Credentials(token="secret-token")))
    async with aclosing(server):
        await server.open()
        assert await server.find(BATCH, ("out",)) is None


async def test_an_item_whose_history_is_gone_is_found_on_the_disk(fake: FakeComfyUI, server: ComfyUI) -> None:
    ticket = await server.submit(a_submission())
    await fake.finish(BATCH, tell=False, keep=False)
    assert await server.find(BATCH, ("out",)) == ticket
    assert (await end_of(server, ticket)).images[0].name.endswith(f"{make_file_prefix(BATCH, 'out')}_00001_.png")


async def test_an_output_asked_for_alone_has_its_own_file_on_the_disk(fake: FakeComfyUI, server: ComfyUI) -> None:
    """Of an item of several variations only those without an outcome are asked for after a crash."""
    nodes = [*PLAIN.nodes.values(), Node("second", "SaveImage")]
    both = Graph.of(nodes, ["a.0 → out.images", "a.0 → second.images"])
    await server.submit(replace(a_submission(both), outputs=("out", "second")))
    (prompt,) = (body["prompt"] for body in fake.posted)
    fake.pending.clear()
    saved = [prompt[node]["inputs"]["filename_prefix"] for node in ("out", "second")]
    fake.files = {f"{prefix}_00001_.png": b"x" for prefix in saved}
    ticket = await server.find(BATCH, ("second",))
    assert ticket is not None
    assert [image.name for image in (await end_of(server, ticket)).images] == [f"output/{saved[1]}_00001_.png"]


async def test_an_empty_file_of_a_crash_is_no_image(fake: FakeComfyUI, server: ComfyUI) -> None:
    await server.submit(a_submission())
    await fake.finish(BATCH, tell=False, keep=False)
    fake.files = dict.fromkeys(fake.files, b"")
    assert await server.find(BATCH, ("out",)) is None


async def test_an_item_that_vanished_is_lost(fake: FakeComfyUI, server: ComfyUI) -> None:
    ticket = await server.submit(a_submission())
    fake.pending.clear()
    with pytest.raises(ItemLostError):
        await hear_all(server, ticket)


async def test_a_cancelled_pending_item_leaves_no_trace_and_is_remembered(fake: FakeComfyUI, server: ComfyUI) -> None:
    ticket = await server.submit(a_submission())
    await server.cancel([BATCH, "unknown"])
    end = await end_of(server, ticket)
    assert (end.status, end.error.kind if end.error else None) == ("canceled", "Cancelled")
    assert await server.find("unknown", ("out",)) is None  # it may be on its way
    assert fake.interrupted == []  # nothing of ours was running: an interruption would stop somebody else's


async def test_a_stopped_run_finds_its_cancelled_pending_item(fake: FakeComfyUI, server: ComfyUI) -> None:
    """Who asks before hearing of its end must not count it as lost: that would be an attempt that failed."""
    ticket = await server.submit(a_submission())
    await server.cancel([BATCH])
    assert await server.find(BATCH, ("out",)) == ticket
    assert (await end_of(server, ticket)).status == "canceled"


async def test_an_early_success_is_not_taken_for_the_end(fake: FakeComfyUI, server: ComfyUI) -> None:
    ticket = await server.submit(a_submission())
    hearing = asyncio.create_task(end_of(server, ticket))
    await fake.tell("execution_success", {"prompt_id": BATCH})
    await fake.finish(BATCH)
    assert (await hearing).status == "completed"


async def test_items_of_an_earlier_connection_are_polled(fake: FakeComfyUI, server: ComfyUI) -> None:
    ticket = await server.submit(a_submission())
    for socket in list(fake.sockets.values()):
        await socket.close()
    hearing = asyncio.create_task(end_of(server, ticket))
    await fake.finish(BATCH, tell=False)
    assert (await hearing).status == "completed"


async def test_a_check_queues_nothing(fake: FakeComfyUI, server: ComfyUI) -> None:
    assert await server.check([PLAIN], {}) == [None]
    assert fake.pending == {}
    assert "filename_prefix" not in fake.posted[0]["prompt"]["out"]["inputs"]


async def test_a_check_whose_connection_broke_is_sent_again(fake: FakeComfyUI, server: ComfyUI) -> None:
    fake.hangs_up = 1
    assert await server.check([PLAIN], {}) == [None]
    assert len(fake.posted) == 2


async def test_an_event_that_is_no_object_is_left_out(fake: FakeComfyUI, server: ComfyUI) -> None:
    ticket = await server.submit(a_submission())
    hearing = asyncio.create_task(end_of(server, ticket))
    for socket in fake.sockets.values():
        await socket.send_str('["executing", 3]')
    await fake.finish(BATCH)
    assert (await hearing).status == "completed"


async def test_a_dropped_output_is_cancelled_and_refused(fake: FakeComfyUI, server: ComfyUI) -> None:
    error = {"type": "value_bigger_than_max", "message": "Value too big", "extra_info": {"input_name": "width"}}
    fake.answer = (200, {"prompt_id": BATCH, "node_errors": {"a": {"errors": [error]}}})
    with pytest.raises(VariationError, match=r"a\.width: Value too big"):
        await server.submit(a_submission())
    assert fake.deleted == [BATCH]


async def test_a_missing_model_is_told_with_near_names(server: ComfyUI) -> None:
    graph = PLAIN.adding([Node("m", "CheckpointLoaderSimple", {"ckpt_name": ModelRef("tiny-sb.ckpt", "any")})])
    with pytest.raises(MissingModelError, match="Did you mean"):
        await server.submit(a_submission(graph))


async def test_an_input_image_is_uploaded_once_under_its_hash(
    fake: FakeComfyUI, server: ComfyUI, tmp_path: Path
) -> None:
    graph, sha256, path = with_an_input_image(tmp_path)
    for number in range(2):
        await server.submit(a_submission(graph, f"{number}{BATCH[1:]}", images={sha256: path}))
    assert fake.uploads == [f"{sha256}.png"]
    assert fake.posted[0]["prompt"]["i"]["inputs"]["image"] == f"sweep/{sha256}.png"


@pytest.mark.parametrize("is_there", [True, False])
async def test_an_input_image_of_an_earlier_run_is_used_where_it_is_still_there(
    fake: FakeComfyUI, server: ComfyUI, tmp_path: Path, is_there: bool
) -> None:
    graph, sha256, path = with_an_input_image(tmp_path)
    server.uploads[sha256] = f"sweep/{sha256}.png"
    fake.files = {f"sweep/{sha256}.png": b"an image"} if is_there else {}
    await server.submit(a_submission(graph, images={sha256: path}))
    assert len(fake.uploads) == (0 if is_there else 1)
    assert fake.posted[0]["prompt"]["i"]["inputs"]["image"] == f"sweep/{sha256}.png"


async def test_an_input_image_that_is_gone_is_uploaded_anew_and_fails_no_variation(
    fake: FakeComfyUI, server: ComfyUI, tmp_path: Path
) -> None:
    graph, sha256, path = with_an_input_image(tmp_path)
    problem = {"type": "custom_validation_failed", "message": "Invalid image", "extra_info": {"input_name": "image"}}
    fake.refuse = (400, {"error": {}, "node_errors": {"i": {"errors": [problem]}}})
    with pytest.raises(TransientError, match=r"i\.image: Invalid image") as gone:
        await server.submit(a_submission(graph, images={sha256: path}))
    fake.refuse = None
    await server.submit(a_submission(graph, images={sha256: path}))
    assert (gone.value.most_attempts, len(fake.uploads)) == (2, 2)


async def test_an_image_that_is_gone_is_rendered_once_more_only(server: ComfyUI) -> None:
    with pytest.raises(TransientError, match="not have the image") as gone:
        await server.fetch(ServerImage(name="output/sweep/gone.png", node="out"), 100)
    assert gone.value.most_attempts == 2


async def test_steps_are_shares_whatever_the_server_says(fake: FakeComfyUI, server: ComfyUI) -> None:
    ticket = await server.submit(a_submission(tells_steps=True))
    hearing = asyncio.create_task(hear_all(server, ticket))
    await fake.tell("progress", {"prompt_id": BATCH, "node": "a", "value": 7, "max": 5})
    await fake.finish(BATCH)
    assert [event for event in await hearing if isinstance(event, StepDone)] == [StepDone(node="a", share=1.0)]


async def test_others_are_told_apart_by_their_destination(fake: FakeComfyUI, server: ComfyUI) -> None:
    await server.submit(a_submission())
    assert await server.count_others_waiting("run") == 0
    assert await server.count_others_waiting("another") == 1


async def test_a_proxy_gets_basic_auth_or_headers(fake: FakeComfyUI) -> None:
    me = Credentials(email="me", password="secret", headers=(("X-Api-Key", "k"),))
    found = connect(fake.url, ConnectOptions(credentials=me, timings=QUICK))
    info = await found.open()
    await found.aclose()
    assert (info.family, info.api) == ("ComfyUI", "comfyui")
    assert all(sent["Authorization"] == "Basic bWU6c2VjcmV0" and sent["X-Api-Key"] == "k" for sent in fake.headers)


async def test_what_is_no_comfyui_says_so() -> None:
    from aiohttp import web

    runner = web.AppRunner(web.Application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    with pytest.raises(ServerUnsupportedError, match="no ComfyUI"):
        await ComfyUI(url, ConnectOptions(timings=replace(QUICK, patience=0.1))).open()
    with pytest.raises(ServerUnsupportedError, match="InvokeAI or a ComfyUI"):
        await connect(url, ConnectOptions(timings=QUICK)).open()
    await runner.cleanup()


def test_times_are_read_where_a_server_does_not_say_when_it_took_the_prompt() -> None:
    messages = [["execution_start", {"timestamp": 1000}], ["execution_success", {"timestamp": 2000}]]
    end = end_by_history({"status": {"status_str": "success", "messages": messages}}, (), asked=False)
    assert (end.queued_at, end.started_at) == (None, datetime.fromtimestamp(1, UTC))


def test_a_failure_names_its_node_and_an_interruption_is_none() -> None:
    error = {"node_id": "3", "exception_type": "RuntimeError", "exception_message": "sizes differ\nmore"}
    failed = {"status": {"status_str": "error", "messages": [["execution_error", error]]}, "outputs": {}}
    end = end_by_history(failed, ("out",), asked=False)
    assert (end.status, end.failed_node, str(end.error)) == ("failed", "3", "sizes differ")
    mute = {"status": {"messages": [["execution_error", {**error, "exception_message": "\n"}]]}}  # as `assert` is told
    assert str(end_by_history(mute, (), asked=False).error) == "the node failed without a message"
    memory = {"status": {"messages": [["execution_error", {**error, "exception_type": "torch.OutOfMemoryError"}]]}}
    exhausted = end_by_history(memory, (), asked=False).error
    assert (type(exhausted), exhausted and exhausted.most_attempts) == (TransientError, 2)
    stopped = {"status": {"status_str": "error", "messages": [["execution_interrupted", {}]]}}
    assert isinstance(end_by_history(stopped, (), asked=False).error, ItemLostError)


@pytest.mark.parametrize("name", ["", "x.png", "output", "../a/b.png", "output/../../etc/passwd", "output/a\0.png"])
def test_a_name_that_no_server_gives_is_refused(name: str) -> None:
    with pytest.raises(VariationError):
        make_image_query(name)


def test_a_circle_has_no_node_errors_and_is_refused_all_the_same() -> None:
    refusal = read_refusal(
        {"error": {"message": "Prompt outputs failed validation", "details": ""}, "node_errors": {}}, PLAIN
    )
    assert str(refusal) == "Prompt outputs failed validation"
