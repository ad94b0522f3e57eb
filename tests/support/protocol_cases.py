"""What the protocol note says of a real InvokeAI 6.14.2, as cases over the wire: all that sweep relies on.

The sandbox has to do the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

from PIL import Image

from sweep.workflow import read_openapi
from tests.support.wire import API, Wire, add, datum, graph, node, png, txt2img

Data: TypeAlias = list[list[dict[str, Any]]]
WireCase: TypeAlias = Callable[[Wire], Awaitable[None]]
COUNTS = {"pending", "in_progress", "waiting", "completed", "failed", "canceled", "total"}
SUMMARY = {*("item_id", "created_at", "status", "started_at", "completed_at", "destination", "batch_id")}
ITEM = SUMMARY | {"priority", "session_id", "queue_id", "session"}
SESSION = {
    *("id", "graph", "execution_graph", "executed", "results", "errors"),
    *("prepared_source_mapping", "prepared_iteration_paths"),
}
IMAGE = {
    *("image_name", "image_origin", "image_category", "width", "height"),
    *("created_at", "is_intermediate", "starred"),
}


async def a_batch_of_nothing_is_no_error(wire: Wire) -> None:
    nothing: list[Data] = [[[datum("a", "a", [])]], [[]]]
    for data in nothing:
        reply = await wire.enqueue(add(), data)
        assert (reply.status, reply.body["enqueued"], reply.body["item_ids"]) == (200, 0, [])
    for place, said in (("zz", "Node zz not found in graph"), ("a", "Field zz not found in node a")):
        reply = await wire.enqueue(add(), [[datum(place, "zz", [])]])
        assert (reply.status, said in reply.body["detail"][0]["msg"]) == (422, True)


async def no_data_is_one_item_a_run(wire: Wire) -> None:
    nothing: tuple[Data | None, ...] = (None, [])
    async with wire.paused():
        for data in nothing:
            assert len((await wire.enqueue(add(), data, runs=3)).body["item_ids"]) == 3


async def a_batch_id_is_ours_and_lists_all_its_items(wire: Wire) -> None:
    ours = str(uuid.uuid4())
    async with wire.paused():
        first = await wire.enqueue(add(), batch_id=ours)
        second = await wire.enqueue(add(), batch_id=ours)
        none = await wire.enqueue(add(), [[datum("a", "a", [])]], batch_id=ours)
    assert first.body["batch"]["batch_id"] == ours
    assert second.body["enqueued"] == 1
    assert second.body["item_ids"] == [second.body["item_ids"][0], first.body["item_ids"][0]]
    assert (none.body["enqueued"], none.body["item_ids"]) == (0, second.body["item_ids"])


async def a_full_queue_takes_the_first_and_says_so_softly(wire: Wire) -> None:
    config = (await wire.call("GET", f"{API}/app/runtime_config")).body["config"]
    limit = config["max_queue_size"]
    async with wire.paused():
        room = await wire.enqueue(add(), runs=limit - 2)
        over = await wire.enqueue(add(), runs=4)
        full = await wire.enqueue(add())
    assert room.body["enqueued"] == limit - 2
    assert (over.status, over.body["enqueued"], over.body["requested"]) == (200, 2, 4)
    assert (full.status, full.body["enqueued"], full.body["item_ids"]) == (200, 0, [])


async def an_unknown_batch_looks_finished(wire: Wire) -> None:
    reply = await wire.queue("GET", f"b/{uuid.uuid4()}/status")
    assert reply.status == 200
    assert {name: reply.body[name] for name in COUNTS} == dict.fromkeys(COUNTS, 0)


async def statuses_have_their_shapes(wire: Wire) -> None:
    item = await wire.run(add(), batch_id="shapes", destination="shapes", origin="sweep")
    assert set(item) >= ITEM
    assert set(item["session"]) >= SESSION
    batch = (await wire.queue("GET", "b/shapes/status")).body
    assert set(batch) >= {"queue_id", "batch_id"} | COUNTS
    assert (batch["completed"], batch["total"]) == (1, 1)
    counted = (await wire.queue("GET", "counts_by_destination", params={"destination": "shapes"})).body
    assert set(counted) == {"queue_id", "destination"} | COUNTS
    whole = (await wire.queue("GET", "status")).body
    assert set(whole) == {"queue", "processor"}
    assert set(whole["queue"]) >= COUNTS
    assert set(whole["processor"]) == {"is_started", "is_processing"}
    summary = (await wire.queue("POST", "item_summaries_by_ids", json={"item_ids": [item["item_id"], 10**9]})).body
    assert len(summary) == 1
    assert set(summary[0]) >= SUMMARY
    (listed,) = (await wire.queue("GET", "list_all")).body
    assert listed["session"]["results"].keys() == item["session"]["results"].keys()


async def times_are_naive_and_in_order(wire: Wire) -> None:
    item = await wire.run(add())
    times = [item[name] for name in ("created_at", "started_at", "completed_at")]
    assert times == sorted(times)
    assert all(len(time) == len("2026-11-23 06:49:50.650") and time[10] == " " for time in times)


async def an_iterated_node_has_all_its_images_in_order(wire: Wire) -> None:
    many = graph(
        node("r", "range", start=0, stop=3, step=1),
        node("it", "iterate"),
        node("mul", "mul", a=0, b=64),
        node("add", "add", a=0, b=64),
        node("bl", "blank_image", width=64, height=64, use_cache=False),
        node("inv", "img_lerp", min=10, max=200, use_cache=False),
        node("c", "collect"),
        node("pass", "image_collection"),
        edges=(
            "r.collection > it.collection",
            "it.item > mul.a",
            "mul.value > add.a",
            "add.value > bl.width",
            "bl.image > inv.image",
            "inv.image > c.item",
            "c.collection > pass.collection",
        ),
    )
    session = (await wire.run(many))["session"]
    prepared = [p for p, source in session["prepared_source_mapping"].items() if source == "inv"]
    paths = session["prepared_iteration_paths"]
    assert sorted(paths[p] for p in prepared) == [[0], [1], [2]]
    widths = [session["results"][p]["width"] for p in sorted(prepared, key=lambda p: paths[p])]
    assert widths == [64, 128, 192]
    passed = next(r for p, r in session["results"].items() if session["prepared_source_mapping"][p] == "pass")
    assert passed["type"] == "image_collection_output"
    names = {session["results"][p]["image"]["image_name"] for p in prepared}
    assert {image["image_name"] for image in passed["collection"]} == names


async def a_failed_item_names_its_node(wire: Wire) -> None:
    missing = txt2img(wire.model)
    missing["nodes"]["i"] = node("i", "i2l", image={"image_name": "nope.png"})
    missing["edges"] += graph(edges=("i.latents > d.latents", "m.vae > i.vae"))["edges"]
    item = await wire.run(missing)
    assert (item["status"], item["error_type"]) == ("failed", "ImageRecordNotFoundException")
    assert item["error_message"]
    ((prepared, said),) = item["session"]["errors"].items()
    assert item["session"]["prepared_source_mapping"][prepared] == "i"
    assert "ImageRecordNotFoundException" in said


async def an_unknown_model_fails_when_it_runs(wire: Wire) -> None:
    item = await wire.run(txt2img({**wire.model, "key": "no-such-key"}))
    assert (item["status"], item["error_message"]) == ("failed", "Unknown model no-such-key")


async def an_input_that_nothing_feeds_fails_when_its_node_runs(wire: Wire) -> None:
    bare = txt2img(wire.model)
    bare["edges"] = [edge for edge in bare["edges"] if edge["destination"] != {"node_id": "l", "field": "vae"}]
    item = await wire.run(bare)
    assert (item["status"], item["error_type"]) == ("failed", "RequiredConnectionException")
    assert item["error_message"] == "Node l2i missing connections for field vae"
    item = await wire.run(graph(node("m", "main_model_loader")))
    assert (item["status"], item["error_type"]) == ("failed", "MissingInputException")


async def only_the_key_of_a_model_counts(wire: Wire) -> None:
    item = await wire.run(txt2img({**wire.model, "name": "other", "hash": "other"}))
    assert item["status"] == "completed"
    reply = await wire.enqueue(txt2img({"key": wire.model["key"]}))
    assert reply.status == 422
    assert {loc[-1] for _, loc in reply.faults} == {"hash", "name", "base", "type"}


async def a_bad_graph_is_refused_with_its_place(wire: Wire) -> None:
    reply = await wire.enqueue(txt2img(wire.model, denoising_start=1.5))
    place = ["body", "batch", "graph", "nodes", "d", "denoise_latents", "denoising_start"]
    assert (reply.status, reply.faults) == (422, [("less_than_equal", place)])
    reply = await wire.enqueue(txt2img(wire.model, cfg_scale=0.5))
    assert reply.status == 422
    assert all("cfg_scale" in loc for _, loc in reply.faults)
    reply = await wire.enqueue(graph(node("d", "foo")))
    assert (reply.status, reply.faults) == (422, [("union_tag_invalid", ["body", "batch", "graph", "nodes", "d"])])
    assert reply.body["detail"][0]["ctx"]["tag"] == "foo"
    for edge_ in ("m.foo > d.unet", "zz.a > d.unet", "m.vae > d.unet", "m.unet > d.foo"):
        bad = txt2img(wire.model)
        bad["edges"] += graph(edges=(edge_,))["edges"]
        assert (await wire.enqueue(bad)).status == 422, edge_
    nameless = {"id": "g", "nodes": {"a": {"type": "add", "a": 1, "b": 2}}, "edges": []}
    assert (await wire.enqueue(nameless)).status == 422
    loop = graph(node("x", "add", a=1, b=1), node("y", "add", a=1, b=1), edges=("x.value > y.a", "y.value > x.a"))
    assert (await wire.enqueue(loop)).status == 422
    assert (await wire.enqueue(add(), runs=0)).status == 422
    broken = await wire.queue("POST", "enqueue_batch", data=b"{", headers={"content-type": "application/json"})
    assert broken.status == 422


async def what_a_graph_may_have_wrong_unnoticed(wire: Wire) -> None:
    unknown_field = await wire.run(add(no_such_field=1))
    assert unknown_field["status"] == "completed"
    fives = graph(
        node("x", "integer", value=5),
        node("y", "integer", value=50),
        node("a", "add", a=0, b=0),
        edges=("x.value > a.a", "y.value > a.a"),
    )
    item = await wire.run(fives)
    values = [
        result["value"]
        for prepared, result in item["session"]["results"].items()
        if item["session"]["prepared_source_mapping"][prepared] == "a"
    ]
    assert values == [50]
    ignored = graph(node("x", "integer", value=5), node("a", "add", a=77, b=0), edges=("x.value > a.a",))
    item = await wire.run(ignored)
    assert all(result["value"] == 5 for result in item["session"]["results"].values())


async def values_that_coerce_are_taken(wire: Wire) -> None:
    item = await wire.run(add(a="7"))
    assert item["status"] == "completed"
    assert {"value": 7, "type": "integer_output"} in list(item["session"]["results"].values())
    item = await wire.run(graph(node("s", "string", value=5)))
    assert {"value": "5", "type": "string_output"} in list(item["session"]["results"].values())
    item = await wire.run(graph(node("n", "noise", seed=-1, width=64, height=64)))
    assert item["status"] == "completed"


async def calls_have_their_limits(wire: Wire) -> None:
    path = "item_summaries_by_ids"
    assert (await wire.queue("POST", path, json={"item_ids": list(range(1001))})).status == 422
    assert (await wire.queue("POST", path, json=[1])).status == 422
    assert (await wire.queue("GET", "i/999999999")).status == 404
    item = await wire.run(add())
    assert None not in item.values()  # of an item nulls are left out
    (summary,) = (await wire.queue("POST", path, json={"item_ids": [item["item_id"]]})).body
    assert not {"error_type", "session"} & set(summary)
    elsewhere = await wire.call("GET", f"{API}/queue/another/i/{item['item_id']}")
    assert elsewhere.status == 500  # it quotes a 404
    assert "not found" in elsewhere.body["detail"]


async def cancelling_tells_how_many(wire: Wire) -> None:
    async with wire.paused():
        batch_id = str(uuid.uuid4())
        items = (await wire.enqueue(add(), runs=3, batch_id=batch_id)).body["item_ids"]
        async with wire.events() as heard:
            reply = await wire.queue("PUT", "cancel_by_batch_ids", json={"batch_ids": [batch_id, "unknown"]})
            await _until(lambda: any(event == "queue_items_canceled" for event, _ in heard))
        again = await wire.queue("PUT", "cancel_by_batch_ids", json={"batch_ids": [batch_id]})
        ended = [await wire.ended(item) for item in items]
    assert (reply.status, reply.body) == (200, {"canceled": 3})
    assert again.body == {"canceled": 0}
    told = next(data for event, data in heard if event == "queue_items_canceled")
    assert sorted(told["canceled_item_ids"]) == sorted(items)
    assert [item["status"] for item in ended] == ["canceled"] * 3


async def a_running_item_can_be_cancelled(wire: Wire) -> None:
    async with wire.events() as heard:
        item_id = (await wire.enqueue(txt2img(wire.model, steps=900), batch_id="running")).body["item_ids"][0]
        await _until(lambda: any(event == "invocation_progress" for event, _ in heard))
        replies = [await wire.queue("PUT", "cancel_by_batch_ids", json={"batch_ids": ["running"]}) for _ in range(2)]
    assert [reply.body for reply in replies] == [{"canceled": 1}, {"canceled": 0}]
    item = await wire.ended(item_id)
    assert item["completed_at"]
    assert item.get("error_type") is None


async def events_come_in_their_order(wire: Wire) -> None:
    async with wire.events() as heard:
        reply = await wire.enqueue(txt2img(wire.model, steps=2), batch_id=str(uuid.uuid4()), destination="d")
        item_id, batch_id = reply.body["item_ids"][0], reply.body["batch"]["batch_id"]
        await _until(lambda: any(data.get("status") == "completed" for _, data in heard))
    ours = [(event, data) for event, data in heard if data.get("batch_id") == batch_id]
    ours = [(event, data) for event, data in ours if event != "batch_enqueued"]  # of which sweep makes nothing
    assert all(data["item_id"] == item_id for _, data in ours)
    words = [_word(event, data) for event, data in ours]
    steps = [word for word in words if word != "invocation_progress"]
    assert steps[0] == "queue_item_status_changed in_progress"
    assert steps[-1] == "queue_item_status_changed completed"
    middle = [(event, data) for event, data in ours if event in ("invocation_started", "invocation_complete")]
    for (before, started), (after, complete) in zip(middle[::2], middle[1::2], strict=True):
        assert (before, after) == ("invocation_started", "invocation_complete")
        assert started["invocation"]["id"] == complete["invocation"]["id"]
    order = [data["invocation_source_id"] for event, data in middle if event == "invocation_complete"]
    assert set(order) == {"m", "p", "n", "no", "d", "l"}
    assert (order[0], order[-2:]) == ("m", ["d", "l"])
    result = middle[-1][1]["result"]
    assert result["type"] == "image_output"
    assert (await wire.call("GET", f"{API}/images/i/{result['image']['image_name']}")).body["session_id"] == (
        middle[-1][1]["session_id"]
    )
    progress = [data for event, data in ours if event == "invocation_progress" and data["invocation_source_id"] == "d"]
    assert all({"message", "percentage", "image"} <= set(data) for data in progress)
    assert max(data["percentage"] or 0 for data in progress) == 1


async def a_failure_is_told_before_its_reason(wire: Wire) -> None:
    async with wire.events() as heard:
        await wire.enqueue(graph(node("i", "img_lerp", image={"image_name": "nope.png"})))
        await _until(lambda: any(event == "invocation_error" for event, _ in heard))
    words = [_word(event, data) for event, data in heard]
    assert words.index("queue_item_status_changed failed") < words.index("invocation_error")
    error = next(data for event, data in heard if event == "invocation_error")
    assert (error["error_type"], error["invocation_source_id"]) == ("ImageRecordNotFoundException", "i")


async def prepended_items_run_first(wire: Wire) -> None:
    async with wire.events() as heard:
        async with _paused_worker(wire):
            late = (await wire.enqueue(add(a=1))).body
            early = (await wire.enqueue(add(a=2), prepend=True)).body
            earlier = (await wire.enqueue(add(a=3), prepend=True)).body
        assert (late["priority"], early["priority"] < earlier["priority"]) == (0, True)
        await _until(lambda: any(data.get("item_id") == late["item_ids"][0] for _, data in heard))
    begun = [data["item_id"] for _, data in heard if data.get("status") == "in_progress"]
    assert begun == [earlier["item_ids"][0], early["item_ids"][0], late["item_ids"][0]]


async def uploads_are_never_the_same(wire: Wire) -> None:
    first, second = await wire.upload(png()), await wire.upload(png())
    assert (first.status, second.status) == (201, 201)
    assert set(first.body) >= IMAGE
    assert first.body["image_name"] != second.body["image_name"]
    assert (first.body["width"], first.body["image_category"], first.body["is_intermediate"]) == (64, "user", False)
    assert (await wire.upload(b"no image")).status == 415
    assert (await wire.upload(png(), image_category="holiday")).status == 422
    form = {"file": io.BytesIO(png())}
    assert (await wire.call("POST", f"{API}/images/upload", data=form)).status == 422


async def images_are_served_whole(wire: Wire) -> None:
    name = (await wire.upload(png(7))).body["image_name"]
    reply = await wire.call("GET", f"{API}/images/i/{name}/full", headers={"Range": "bytes=0-9"})
    assert (reply.status, reply.headers["content-type"]) == (200, "image/png")
    assert int(reply.headers["content-length"]) == len(reply.data)
    assert Image.open(io.BytesIO(reply.data)).getpixel((0, 0)) == (7, 90, 60)
    assert (await wire.call("HEAD", f"{API}/images/i/{name}/full")).status == 200
    gone = await wire.call("DELETE", f"{API}/images/i/{name}")
    assert (gone.status, gone.body) == (
        200,
        {"affected_boards": ["none"], "deleted_images": [name], "failed_images": []},
    )
    assert (await wire.call("GET", f"{API}/images/i/{name}/full")).status == 404
    assert (await wire.call("GET", f"{API}/images/i/{name}")).status == 404


async def a_image_carries_its_graph_and_metadata(wire: Wire) -> None:
    tagged = txt2img(wire.model)
    tagged["nodes"]["md"] = node("md", "core_metadata", seed=1, sweep_key="ours", steps=1)
    tagged["edges"] += graph(edges=("md.metadata > l.metadata",))["edges"]
    tagged["nodes"]["no"]["seed"] = 4711
    session = (await wire.run(tagged))["session"]
    image = next(result for result in session["results"].values() if result["type"] == "image_output")
    name = image["image"]["image_name"]
    chunks = Image.open(io.BytesIO((await wire.call("GET", f"{API}/images/i/{name}/full")).data)).info
    assert json.loads(chunks["invokeai_graph"])["nodes"]["no"]["seed"] == 4711
    metadata = json.loads(chunks["invokeai_metadata"])
    assert (metadata["sweep_key"], metadata["steps"]) == ("ours", 1)
    assert "invokeai_workflow" not in chunks


async def images_go_to_their_board(wire: Wire) -> None:
    name = f"board {uuid.uuid4().hex[:6]}"
    made = await wire.call("POST", f"{API}/boards/", params={"board_name": name})
    board_id = made.body["board_id"]
    assert (made.status, made.body["board_name"]) == (201, name)
    listed = (await wire.call("GET", f"{API}/boards/", params={"all": "true"})).body
    assert name in [board["board_name"] for board in listed]
    kept = txt2img(wire.model)
    kept["nodes"]["l"]["board"] = {"board_id": board_id}
    item = await wire.run(kept)
    params = {"board_id": board_id, "is_intermediate": "false", "offset": "0", "limit": "100"}
    images = (await wire.call("GET", f"{API}/images/", params=params)).body["items"]
    names = [r["image"]["image_name"] for r in item["session"]["results"].values() if r["type"] == "image_output"]
    assert [image["image_name"] for image in images] == names
    dto = (await wire.call("GET", f"{API}/images/i/{names[0]}")).body
    assert (dto["board_id"], dto["is_intermediate"]) == (board_id, False)
    kept["nodes"]["l"]["board"] = {"board_id": "no-such-board"}
    assert (await wire.run(kept))["status"] == "completed"


async def equal_cached_outputs_share_one_image(wire: Wire) -> None:
    colour = {"r": uuid.uuid4().int % 256, "g": uuid.uuid4().int % 256, "b": uuid.uuid4().int % 256, "a": 255}
    for cached, images in ((True, 1), (False, 2)):
        blank = graph(node("b", "blank_image", width=64, height=64, color=colour, use_cache=cached))
        items = [await wire.run(blank) for _ in range(2)]
        names = {r["image"]["image_name"] for item in items for r in item["session"]["results"].values()}
        assert len(names) == images


async def questions_that_every_client_asks(wire: Wire) -> None:
    assert (await wire.call("GET", f"{API}/app/version")).body["version"].startswith("6.14.")
    status = (await wire.call("GET", f"{API}/auth/status")).body
    assert (status["multiuser_enabled"], status["setup_required"]) == (False, False)
    assert len((await wire.call("GET", f"{API}/app/generation_device_options")).body) >= 1
    document = (await wire.call("GET", "/openapi.json")).body
    schemas = await asyncio.to_thread(read_openapi, document)
    assert schemas["l2i"].output_class == "ImageOutput"


async def _until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not happened():  # noqa: ASYNC110  (somebody else's server has no event for us)
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def _paused_worker(wire: Wire) -> AsyncIterator[None]:
    """Paused, without clearing what was enqueued meanwhile."""
    await wire.queue("PUT", "processor/pause")
    try:
        yield
    finally:
        await wire.queue("PUT", "processor/resume")


def _word(event: str, data: dict[str, Any]) -> str:
    return f"{event} {data['status']}" if "status" in data else event


PROTOCOL: tuple[WireCase, ...] = tuple(
    case for name, case in list(globals().items()) if asyncio.iscoroutinefunction(case) and not name.startswith("_")
)
