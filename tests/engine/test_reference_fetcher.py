"""Boards, images of the gallery and workflows of the library that an experiment names."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from PIL import Image

from sweep.engine import load_from_servers, make_forecast
from sweep.engine.events import Notice
from sweep.errors import ExperimentError, ServerError, UnfetchedError
from sweep.experiment import Experiment
from sweep.record import read_submitted
from sweep.sandbox import FaultInjection
from sweep.sandbox.running_sandbox import Sandbox
from sweep.servers import connect
from tests.support.engine_bench import AT_ONCE, Bench
from tests.support.fake_comfyui import fake_comfyui
from tests.support.mutating_proxy import hide_the_sandbox, open_proxy


async def test_a_board_that_the_server_lacks_is_noted_by_plan_and_run(bench: Bench, sandbox: Sandbox) -> None:
    experiment = await bench.experiment(axes={"seed": [1]}, board="cofee")
    async with open_proxy(sandbox.url, hide_the_sandbox) as proxy:
        note = 'has no board "cofee" yet; the run creates it.'
        forecast = await make_forecast(experiment, [connect(proxy.url)], bench.root)
        assert [text for text in forecast.board_notes if note in text]
        await sandbox.images.create_board("coffee")
        options = replace(AT_ONCE, board="cofee")
        await bench.run(experiment, proxy.url, options=options)
        await bench.run(experiment, proxy.url, options=options)  # finds the board that the first one made
    (told,) = [event.message for event in bench.of(Notice) if note in event.message]
    assert told.endswith("Did you mean coffee?")
    assert "cofee" in {board["board_name"] for board in sandbox.images.boards.values()}


UPLOAD = "POST /api/v1/images/upload"
INPUTS = {"prompt": "a cup", "steps": 2, "width": 64, "height": 64}


async def add_image(sandbox: Sandbox, folder: Path, colour: str, board: str | None = None) -> str:
    """Put an image into the gallery, as its owner does; return its name there."""
    await anyio.to_thread.run_sync(Image.new("RGB", (64, 64), colour).save, folder / "made.png")
    data = await anyio.Path(folder / "made.png").read_bytes()
    made = await sandbox.images.upload(data, image_category="user", is_intermediate=False, board_id=board)
    return str(made["image_name"])


@pytest.fixture
def fetch(bench: Bench) -> Callable[..., Any]:
    """Load an experiment with what it names on these servers."""

    async def load(*urls: str, into: str = "fetched", **definition: Any) -> Experiment:
        data = {"name": "there", "workflow": "img2img", **definition}
        wanted: Callable[[Path], Experiment] = partial(Experiment.from_dict, data, bench.root)
        return await load_from_servers(wanted, list(map(connect, urls)), bench.root / "results", bench.root / into)

    return load


async def test_an_image_of_the_gallery_is_used_by_its_name_and_kept(
    bench: Bench, sandbox: Sandbox, fetch: Callable[..., Any]
) -> None:
    name = await add_image(sandbox, bench.root, "red")
    definition = {"inputs": {**INPUTS, "image": f"gallery:{name}"}, "axes": {"seed": [1, 2]}}
    experiment = await fetch(sandbox.url, **definition)
    (image,) = experiment.images().values()
    assert (image.width, image.height, image.shown, image.server) == (64, 64, f"gallery:{name}", sandbox.url)
    summary = await bench.run(experiment, sandbox.url)
    assert (summary.rendered, sandbox.requests[UPLOAD]) == (2, 0)
    work = await anyio.to_thread.run_sync(read_submitted, summary.folder)
    assert name not in work[sandbox.url].uploads, "sweep clean would delete it"

    full = "GET /api/v1/images/i/{name}/full"
    seen = sandbox.requests[full]
    again = await fetch(sandbox.url, into="again", **definition)  # kept with the results: not downloaded again
    assert sandbox.requests[full] == seen
    assert (await bench.run(again, sandbox.url)).rendered == 0
    async with fake_comfyui() as other:  # has no gallery, and needs none: the results keep the image
        await fetch(other.url, into="elsewhere", **definition)
    await sandbox.images.delete(name)
    rest = await fetch(sandbox.url, into="rest", **{**definition, "axes": {"seed": [1, 2, 3]}})
    assert (await bench.run(rest, sandbox.url)).rendered == 1
    assert sandbox.requests[UPLOAD] == 1, "the copy takes the place of the deleted image"
    kept = await anyio.to_thread.run_sync(Experiment.load, summary.folder / "experiment.yaml")
    assert kept.images().keys() == {image.sha256}


async def test_a_server_that_fails_to_list_is_one_that_cannot_be_used(
    sandbox: Sandbox, fetch: Callable[..., Any]
) -> None:
    sandbox.faults = FaultInjection(error_500=1.0, only="/boards")
    with pytest.raises(ServerError, match="500 while reading its boards"):
        await fetch(sandbox.url, inputs=INPUTS, axes={"image": "board:product shots"})


async def test_a_board_is_an_axis_of_its_images_the_oldest_first(
    bench: Bench, sandbox: Sandbox, fetch: Callable[..., Any]
) -> None:
    board = (await sandbox.images.create_board("product shots"))["board_id"]
    names = [await add_image(sandbox, bench.root, colour, board) for colour in ("red", "blue", "green")]
    for written in ("board:product shots", {"board": "product shots"}):
        experiment = await fetch(sandbox.url, inputs=INPUTS, axes={"image": written})
        assert [point.values["image"] for point in experiment.grid] == [f"gallery:{name}" for name in names]
    summary = await bench.run(experiment, sandbox.url)
    assert (summary.rendered, sandbox.requests[UPLOAD]) == (3, 0)
    await add_image(sandbox, bench.root, "white", board)
    more = await fetch(sandbox.url, into="more", inputs=INPUTS, axes={"image": "board:product shots"})
    assert (await bench.run(more, sandbox.url)).rendered == 1, "an image that came to the board since"
    del sandbox.images.boards[board]
    kept = await fetch(sandbox.url, into="kept", inputs=INPUTS, axes={"image": "board:product shots"})
    assert len(kept.grid) == 4


async def test_a_workflow_of_the_library_is_found_by_its_name_and_kept(
    bench: Bench, sandbox: Sandbox, fetch: Callable[..., Any]
) -> None:
    await bench.run(await bench.experiment(axes={"seed": [1]}), sandbox.url)
    (image,) = await anyio.to_thread.run_sync(list, (bench.root / "results" / "small" / "images").iterdir())
    with Image.open(image) as opened:
        graph = json.loads(opened.text["invokeai_graph"])  # type: ignore[attr-defined]
    sandbox.workflows["id-1"] = {"workflow_id": "id-1", "name": "My portrait", "workflow": graph}
    definition = {"workflow": "library:My portrait", "axes": {"seed": [1, 2]}, "inputs": {"image": "photo.png"}}
    summary = await bench.run(await fetch(sandbox.url, **definition), sandbox.url)
    assert (summary.exit_code, summary.rendered) == (0, 2)
    sandbox.workflows.clear()
    again = await fetch(sandbox.url, into="again", **definition)
    assert (again.workflow, (await bench.run(again, sandbox.url)).rendered) == ("library:My portrait", 0)


async def test_what_no_server_has_is_one_sentence_with_the_nearest_name(
    bench: Bench, sandbox: Sandbox, fetch: Callable[..., Any]
) -> None:
    await sandbox.images.create_board("product shots")
    sandbox.workflows["id-1"] = {"workflow_id": "id-1", "name": "My portrait", "workflow": {}}
    for definition, said in (
        ({"axes": {"image": "board:product shot"}}, 'has no board "product shot". Did you mean product shots?'),
        ({"workflow": "library:My portrai"}, 'has no workflow "My portrai" in the library. Did you mean My portrait?'),
        ({"inputs": {"image": "gallery:x.png"}}, 'has no image "x.png" in the gallery.'),
        ({"axes": {"image": "board:product shots"}}, 'the board "product shots" has no images'),
        ({"inputs": {"image": "board:product shots"}}, "write it as an axis, image: {board: product shots}"),
    ):
        with pytest.raises(ExperimentError) as caught:
            await fetch(sandbox.url, **definition)
        assert said in str(caught.value)
    async with fake_comfyui() as other:
        with pytest.raises(ServerError, match=r"^gallery:x\.png: .* is a ComfyUI, which has no boards, no gallery"):
            await fetch(other.url, inputs={"image": "gallery:x.png"})
    with pytest.raises(UnfetchedError, match="is in the gallery of a server; give its address with --server"):
        await anyio.to_thread.run_sync(
            Experiment.from_dict, {"workflow": "img2img", "inputs": {"image": "gallery:x.png"}}, bench.root
        )
