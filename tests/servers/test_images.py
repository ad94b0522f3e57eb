"""Input images go up once; results come down whole or not at all."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sweep.errors import ServerError, TransientError, VariationError
from sweep.servers.base import ItemEnded, RefusedImageError, ServerImage
from sweep.servers.http import LARGEST_ERROR, ConnectOptions
from sweep.servers.invokeai.invokeai_client import InvokeAI
from sweep.workflow import Address, Graph, ModelRef, Node
from tests.servers.building import PLAIN, Q, image, submission, takes_items
from tests.servers.conftest import QUICK
from tests.servers.fake import Fake, payload, status

UPLOAD = ("POST", "/api/v1/images/upload")
IMAGE = ServerImage(name="a b?.png", node="l")


def _imaged(folder: Path) -> tuple[Graph, dict[str, Path]]:
    ref, files = image(folder)
    return PLAIN.set({Address("a", "image"): ref}), files


async def test_an_image_goes_up_once_however_many_ask(fake: Fake, client: InvokeAI, tmp_path: Path) -> None:
    takes_items(fake)
    fake.on(*UPLOAD, status(201, {"image_name": "up.png"}))
    graph, files = _imaged(tmp_path)

    await asyncio.gather(*(client.submit(submission(graph, batch_id=f"b{n}", images=files)) for n in range(8)))

    (sent,) = fake.calls(*UPLOAD)
    assert sent.query == {"image_category": "user", "is_intermediate": "false"}
    assert b"an image" in sent.data
    assert b"in put" not in sent.data  # the file's own name stays here
    items = fake.calls("POST", f"{Q}/enqueue_batch")
    assert [i.body["batch"]["graph"]["nodes"]["a"]["image"] for i in items] == [{"image_name": "up.png"}] * 8


@pytest.mark.parametrize(("code", "uploads"), [(200, 0), (404, 1), (403, 1)])
async def test_a_remembered_image_is_used_where_it_is_still_there_and_ours(
    fake: Fake, tmp_path: Path, code: int, uploads: int
) -> None:
    """With several accounts, 403 says that it is another's."""
    takes_items(fake)
    fake.on("GET", "/api/v1/images/i/old.png", status(code, {"image_name": "old.png"}))
    fake.on(*UPLOAD, status(201, {"image_name": "new.png"}))
    graph, files = _imaged(tmp_path)
    server = InvokeAI(fake.url, ConnectOptions(timings=QUICK))
    server.uploads.update(dict.fromkeys(files, "old.png"))
    await server.open()

    for n in range(2):
        await server.submit(submission(graph, batch_id=f"b{n}", images=files))
    await server.aclose()

    assert len(fake.calls(*UPLOAD)) == uploads
    assert len(fake.calls("GET", "/api/v1/images/i/old.png")) == 1
    assert set(server.uploads.values()) == {"new.png" if uploads else "old.png"}


async def test_a_remembered_name_that_is_no_name_is_uploaded_anew(fake: Fake, tmp_path: Path) -> None:
    takes_items(fake)
    fake.on(*UPLOAD, status(201, {"image_name": "new.png"}))
    graph, files = _imaged(tmp_path)
    server = InvokeAI(fake.url, ConnectOptions(timings=QUICK))
    server.uploads.update(dict.fromkeys(files, "../../etc"))
    await server.open()

    await server.submit(submission(graph, images=files))
    await server.aclose()

    assert len(fake.calls(*UPLOAD)) == 1


async def test_an_image_the_server_lost_goes_up_again(fake: Fake, client: InvokeAI, tmp_path: Path) -> None:
    takes_items(fake)
    fake.on(*UPLOAD, status(201, {"image_name": "up.png"}))
    failed = payload("item_failed_image_6_14") | {"batch_id": "b0"}
    fake.on("GET", f"{Q}/i/1", failed)
    graph, files = _imaged(tmp_path)
    await fake.connected.wait()

    ticket = await client.submit(submission(graph, batch_id="b0", images=files))
    await fake.emit("queue_item_status_changed", {"item_id": 1, "batch_id": "b0", "status": "failed"})
    (end,) = [event async for event in client.hear(ticket) if isinstance(event, ItemEnded)]
    await client.submit(submission(graph, batch_id="b1", images=files))

    assert isinstance(end.error, TransientError)
    assert len(fake.calls(*UPLOAD)) == 2


async def test_a_file_that_changed_or_is_gone_is_said(fake: Fake, client: InvokeAI, tmp_path: Path) -> None:
    graph, files = _imaged(tmp_path)
    path = next(iter(files.values()))

    path.write_bytes(b"another image")
    with pytest.raises(VariationError, match="was changed"):
        await client.submit(submission(graph, images=files))
    path.unlink()
    with pytest.raises(VariationError, match="cannot be read"):
        await client.submit(submission(graph, images=files))
    with pytest.raises(VariationError, match="no file is known"):
        await client.submit(submission(graph))
    assert fake.calls(*UPLOAD) == []


async def test_what_the_server_does_not_take_as_an_image(fake: Fake, client: InvokeAI, tmp_path: Path) -> None:
    fake.on(*UPLOAD, status(415, {"detail": "Not an image"}))
    graph, files = _imaged(tmp_path)

    with pytest.raises(RefusedImageError, match=r"in put\.png: the server does not take the input image: Not an image"):
        await client.submit(submission(graph, images=files))


async def test_an_image_comes_down_by_its_quoted_name(fake: Fake, client: InvokeAI) -> None:
    fake.on("GET", "/api/v1/images/i/a b?.png/full", lambda *_: web.Response(body=b"12345"))

    assert await client.fetch(IMAGE, 5) == b"12345"


async def test_an_image_larger_than_allowed_is_refused(fake: Fake, client: InvokeAI) -> None:
    async def endless(request: web.Request, _data: bytes) -> web.StreamResponse:
        response = web.StreamResponse()  # chunked: it does not say how much comes
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"x" * 1000)
        return response

    for answer in (lambda *_: web.Response(body=b"x" * 1001), endless):
        fake.on("GET", "/api/v1/images/i/a b?.png/full", answer)
        with pytest.raises(VariationError, match="more than 1000 bytes"):
            await client.fetch(IMAGE, 1000)


async def test_a_long_page_of_an_error_says_nothing_about_the_image(fake: Fake, client: InvokeAI) -> None:
    page = web.Response(body=b"x" * (LARGEST_ERROR + 1), status=502, content_type="text/html")
    fake.on("GET", "/api/v1/images/i/a b?.png/full", lambda *_: page)
    with pytest.raises(TransientError):
        await client.fetch(IMAGE, 10_000_000)


async def test_an_image_that_breaks_off_is_transient(fake: Fake, client: InvokeAI) -> None:
    async def short(request: web.Request, _data: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"x" * 10)
        assert request.transport is not None
        request.transport.close()
        return response

    fake.on("GET", "/api/v1/images/i/a b?.png/full", short)

    with pytest.raises(TransientError):
        await client.fetch(IMAGE, 10_000)


async def test_an_image_that_is_gone_is_transient(fake: Fake, client: InvokeAI) -> None:
    with pytest.raises(TransientError, match="not have the image"):
        await client.fetch(IMAGE, 10)


async def test_no_redirect_leads_to_another_host(fake: Fake, client: InvokeAI) -> None:
    path = "/api/v1/images/i/a b?.png/full"
    for elsewhere in ("http://localhost:1/x", "ftp://localhost/x", "http://[::1/x", "http:///x"):
        fake.on("GET", path, status(302, None, Location=elsewhere))
        with pytest.raises(ServerError, match=r"redirects (elsewhere|to http://localhost:1)\. Use the address"):
            await client.fetch(IMAGE, 10)

    fake.on("GET", path, status(307, None, Location="/moved"))
    fake.on("GET", "/moved", status(302, None, Location="/moved/again"))
    fake.on("GET", "/moved/again", status(308, None, Location="/here"))
    fake.on("GET", "/here", lambda *_: web.Response(body=b"here"))
    assert await client.fetch(IMAGE, 10) == b"here"
    fake.on("GET", path, status(307, None, Location=path.replace(" ", "%20").replace("?", "%3F")))
    with pytest.raises(TransientError, match="in circles"):
        await client.fetch(IMAGE, 10)


async def test_an_image_that_the_server_fails_at_is_named_and_refuses_no_plan(
    fake: Fake, client: InvokeAI, tmp_path: Path
) -> None:
    takes_items(fake)
    fake.on(*UPLOAD, status(500, {"detail": "Failed to create image"}))
    graph, files = _imaged(tmp_path)
    (path,) = files.values()

    with pytest.raises(RefusedImageError, match=f"{path.name}: the server does not take the input image: .*500"):
        await client.submit(submission(graph, images=files))
    assert await client.check([graph], files) == [None]


async def test_an_image_that_the_graph_names_is_asked_for_once_before_anything_goes_out(
    fake: Fake, client: InvokeAI
) -> None:
    takes_items(fake)
    fake.on("GET", "/api/v1/images/i/gone.png", status(404))
    fake.on("PUT", f"{Q}/cancel_by_batch_ids", {"canceled": 1})
    fake.on("GET", "/api/v1/images/i/here.png", {"image_name": "here.png"})
    gone, here = (PLAIN.set({Address("a", "image"): {"image_name": name}}) for name in ("gone.png", "here.png"))

    answers = await client.check([gone, here, gone], {})

    refusal = "a: the image gone.png is not on the server; set inputs.image to a file"
    assert answers == [refusal, None, refusal]
    assert len(fake.calls("GET", "/api/v1/images/i/gone.png")) <= 2


async def test_a_model_that_only_metadata_names_is_not_looked_for(fake: Fake, client: InvokeAI) -> None:
    takes_items(fake)
    loras = [{"model": ModelRef("gone", "sd-1", "lora")}]
    told: dict[str, Any] = {"model": ModelRef("gone", "sd-1", "main"), "loras": loras}
    graph = PLAIN.adding([Node("told", "core_metadata", told)])

    await client.submit(submission(graph))

    (item,) = fake.calls("POST", f"{Q}/enqueue_batch")
    sent = item.body["batch"]["graph"]["nodes"]["told"]
    assert sent["model"] == {"key": "", "hash": "", "name": "gone", "base": "sd-1", "type": "main"}
    assert sent["loras"][0]["model"]["type"] == "lora"
