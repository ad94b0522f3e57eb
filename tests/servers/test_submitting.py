"""What is sent, and what each way of not being taken means."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sweep.errors import OverloadedError, ServerRefusedError, TransientError, VariationError
from sweep.servers.base import MissingModelError
from sweep.servers.invokeai.invokeai_client import InvokeAI
from sweep.workflow import Address, BoardRef, Graph, ModelRef, Node
from tests.servers.building import BATCH, MODEL, PLAIN, Q, enqueued, image, models, submission, takes_items
from tests.servers.fake import Fake, payload, replies, status

POST = ("POST", f"{Q}/enqueue_batch")


async def test_one_item_goes_out_under_our_batch_id(fake: Fake, client: InvokeAI) -> None:
    fake.on(*POST, payload("enqueue_6_14"))

    ticket = await client.submit(submission())

    (sent,) = fake.calls(*POST)
    batch = sent.body["batch"]
    assert ticket.item_id == str(payload("enqueue_6_14")["item_ids"][0])
    assert sent.body["prepend"] is False
    assert {name: batch[name] for name in ("batch_id", "runs", "origin", "destination")} == {
        "batch_id": BATCH,
        "runs": 1,
        "origin": "sweep",
        "destination": "run",
    }
    assert "data" not in batch
    assert batch["graph"]["nodes"]["l"] == {"id": "l", "type": "l2i", "is_intermediate": False, "use_cache": False}
    assert batch["graph"]["nodes"]["a"]["is_intermediate"] is True


async def test_what_the_graph_says_itself_is_kept(fake: Fake, client: InvokeAI) -> None:
    takes_items(fake)
    graph = PLAIN.set({Address("a", "is_intermediate"): False, Address("l", "use_cache"): True})

    await client.submit(submission(graph, intermediate=True, priority=1))

    sent = fake.calls(*POST)[0].body
    nodes = sent["batch"]["graph"]["nodes"]
    assert sent["prepend"] is True
    assert nodes["a"]["is_intermediate"] is False
    assert (nodes["l"]["use_cache"], nodes["l"]["is_intermediate"]) == (False, True)  # never another item's image


async def test_of_many_ids_the_highest_is_ours(fake: Fake, client: InvokeAI) -> None:
    fake.on(*POST, enqueued(9, 12, 4))

    assert (await client.submit(submission())).item_id == "12"


async def test_a_full_queue_is_overload_though_it_answers_200(fake: Fake, client: InvokeAI) -> None:
    fake.on(*POST, enqueued(count=0))

    with pytest.raises(OverloadedError, match="no room"):
        await client.submit(submission())


async def test_a_lost_answer_is_not_sent_again_and_can_be_asked_about(fake: Fake, client: InvokeAI) -> None:
    fake.on(*POST, replies(ConnectionError, enqueued(5, count=0)))
    fake.on("GET", f"{Q}/b/{BATCH}/status", {"total": 1, "pending": 1})

    with pytest.raises(TransientError, match="while submitting"):
        await client.submit(submission())
    assert len(fake.calls(*POST)) == 1

    found = await client.find(BATCH, ("l",))

    assert found is not None
    assert (found.item_id, found.outputs) == ("5", ("l",))
    asked = fake.calls(*POST)[1].body["batch"]
    assert asked["batch_id"] == BATCH
    assert [datum["items"] for group in asked["data"] for datum in group] == [[]]


async def test_an_unknown_batch_has_all_zeros_and_never_was(fake: Fake, client: InvokeAI) -> None:
    fake.on("GET", f"{Q}/b/never/status", {"total": 0, "pending": 0, "completed": 0})

    assert await client.find("never") is None
    assert fake.calls(*POST) == []


@pytest.mark.parametrize(
    ("code", "kind"), [(401, ServerRefusedError), (422, VariationError), (429, OverloadedError), (500, TransientError)]
)
async def test_each_refusal_is_its_error(fake: Fake, client: InvokeAI, code: int, kind: type[Exception]) -> None:
    fake.on(*POST, status(code, {"detail": "because"}))

    with pytest.raises(kind, match=r"because|overloaded"):
        await client.submit(submission())


async def test_models_are_named_by_this_servers_keys(fake: Fake, client: InvokeAI) -> None:
    takes_items(fake)
    fake.on("GET", "/api/v2/models/", models(("k2", "tiny-sd", "sd-1", "main"), ("k1", "tiny-sd", "sd-1", "main")))
    graph = PLAIN.adding([Node("m", "main_model_loader", {"model": MODEL, "more": [MODEL]})])

    for _ in range(3):
        await client.submit(submission(graph))

    sent = fake.calls(*POST)[0].body["batch"]["graph"]["nodes"]["m"]
    five = {"key": "k1", "hash": "h", "name": "tiny-sd", "base": "sd-1", "type": "main"}
    assert (sent["model"], sent["more"]) == (five, [five])
    assert len(fake.calls("GET", "/api/v2/models/")) == 1
    assert await client.list_loaded() == {"k1"}


async def test_a_model_that_is_not_there_is_looked_for_again_each_time(fake: Fake, client: InvokeAI) -> None:
    takes_items(fake)
    fake.on("GET", "/api/v2/models/", models(("k", "tiny-sd", "sd-1", "main")))
    graph = PLAIN.adding([Node("m", "main_model_loader", {"model": ModelRef("tinny-sd", "sd-1")})])

    with pytest.raises(MissingModelError, match="Did you mean tiny-sd") as caught:
        await client.submit(submission(graph))
    assert caught.value.ref == ModelRef("tinny-sd", "sd-1")

    fake.on("GET", "/api/v2/models/", models(("k", "tinny-sd", "sd-1", "main")))
    assert (await client.submit(submission(graph))).item_id == "1"


async def test_a_board_is_made_once_however_many_ask(fake: Fake, client: InvokeAI) -> None:
    takes_items(fake)
    fake.on("GET", "/api/v1/boards/", [{"board_name": "other", "board_id": "o"}])
    fake.on("POST", "/api/v1/boards/", status(201, {"board_name": "ours & more", "board_id": "new"}))

    await asyncio.gather(*(client.submit(submission(board="ours & more", batch_id=f"b{n}")) for n in range(4)))
    graph = PLAIN.set({Address("a", "board"): BoardRef("other")})
    await client.submit(submission(graph))

    (made,) = fake.calls("POST", "/api/v1/boards/")
    assert made.query == {"board_name": "ours & more"}
    sent = [call.body["batch"]["graph"]["nodes"] for call in fake.calls(*POST)]
    assert [nodes["l"]["board"] for nodes in sent[:4]] == [{"board_id": "new"}] * 4
    assert sent[4]["a"]["board"] == {"board_id": "o"}


async def test_checking_posts_batches_of_nothing(fake: Fake, client: InvokeAI, tmp_path: Path) -> None:
    ref, files = image(tmp_path)
    fake.on("POST", "/api/v1/images/upload", status(201, {"image_name": "up.png"}))
    poison = PLAIN.set({Address("a", "a"): 1.5})

    def answer(_request: Any, data: bytes) -> Any:
        return status(422, payload("refused_6_14"))(_request, data) if b"1.5" in data else enqueued(count=0)

    fake.on(*POST, answer)
    imaged = PLAIN.set({Address("a", "b"): ref})

    answers = await client.check([PLAIN, poison, imaged, Graph.of([])], files)

    assert answers == [
        None,
        "d.denoising_start: Input should be less than or equal to 1",
        None,
        "the graph has no nodes",
    ]
    sent = [call.body["batch"] for call in fake.calls(*POST)]
    assert len(sent) == 3
    assert all(batch["data"][0][0]["items"] == [] for batch in sent)
    assert len({batch["batch_id"] for batch in sent}) == 3


async def test_a_check_that_did_enqueue_is_taken_back(fake: Fake, client: InvokeAI) -> None:
    fake.on(*POST, enqueued(3))
    fake.on("PUT", f"{Q}/cancel_by_batch_ids", {"canceled": 1})

    assert await client.check([PLAIN], {}) == [None]

    batch_id = fake.calls(*POST)[0].body["batch"]["batch_id"]
    assert fake.calls("PUT", f"{Q}/cancel_by_batch_ids")[0].body == {"batch_ids": [batch_id]}


async def test_checking_is_bounded_in_how_much_is_asked_at_once(fake: Fake, client: InvokeAI) -> None:
    under_way, most = 0, 0

    async def answer(_request: Any, _data: bytes) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return enqueued(count=0)

    fake.on(*POST, answer)

    assert await client.check([PLAIN] * 40, {}) == [None] * 40
    assert most <= 4


async def test_only_our_batches_are_cancelled(fake: Fake, client: InvokeAI) -> None:
    fake.on("PUT", f"{Q}/cancel_by_batch_ids", replies(ConnectionError, {"canceled": 1}))

    await client.cancel(["one", "two"])
    await client.cancel([])

    calls = fake.calls("PUT", f"{Q}/cancel_by_batch_ids")
    assert [call.body for call in calls] == [{"batch_ids": ["one", "two"]}] * 2  # the first one's answer was lost


async def test_others_are_all_but_our_destination(fake: Fake, client: InvokeAI) -> None:
    fake.on("GET", f"{Q}/status", {"queue": {"pending": 5, "in_progress": 1, "completed": 99}})
    fake.on("GET", f"{Q}/counts_by_destination", {"pending": 2, "in_progress": 1, "completed": 50})

    assert await client.count_others_waiting("run") == 3
    assert fake.calls("GET", f"{Q}/counts_by_destination")[0].query == {"destination": "run"}
