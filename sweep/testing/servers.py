"""The contract of `Server` as cases that any implementation can import and run, against whatever stands behind it.

Each case is an async function of a `Subject` that raises AssertionError where the contract is broken::

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
    async def test_conforms(case, subject):
        await case(subject)
"""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

from sweep.errors import ItemLostError, TransientError, VariationError
from sweep.servers import (
    ItemEnded,
    ItemEvent,
    ItemStarted,
    MissingModelError,
    Rendered,
    Server,
    ServerImage,
    ServerInfo,
    Submission,
    Ticket,
)
from sweep.workflow import Graph

LARGE = 64 * 1024 * 1024  # bytes
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderScene:
    """A graph to render, the nodes whose images are wanted, and the files of its input images."""

    graph: Graph
    outputs: tuple[str, ...]
    images: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An open server under test, and scenes for it. Scenes made from different numbers differ in their image."""

    server: Server
    info: ServerInfo
    another: Callable[[], AbstractAsyncContextManager[Server]]  # a second client of the same server, open
    quick: Callable[[int], RenderScene]  # one output, as fast as it goes
    slow: Callable[[int], RenderScene]  # busy for at least a second
    imaged: Callable[[int], RenderScene]  # one output, from an input image
    several: RenderScene  # two outputs at least
    failing: RenderScene  # accepted, and fails when it is rendered
    failing_node: str  # in `failing`
    refused: RenderScene  # a value out of its field's range
    modelless: RenderScene  # with a model that is not installed


ServerCase: TypeAlias = Callable[[Subject], Awaitable[None]]


def submission(scene: RenderScene, destination: str = "conformance", priority: int = 0) -> Submission:
    """Build a submission of the scene, under a batch id of its own."""
    return Submission(
        batch_id=str(uuid.uuid4()),
        graph=scene.graph,
        outputs=scene.outputs,
        destination=destination,
        images=scene.images,
        priority=priority,
    )


async def collect_updates(server: Server, ticket: Ticket) -> list[ItemEvent]:
    """Collect all events of an item."""
    return [event async for event in server.hear(ticket)]


async def render_scene(server: Server, scene: RenderScene) -> ItemEnded:
    """Render a scene to its end."""
    return last(await collect_updates(server, await server.submit(submission(scene))))


def last(events: list[ItemEvent]) -> ItemEnded:
    """Return the last event, which must be the end of the item."""
    end = events[-1] if events else None
    assert isinstance(end, ItemEnded), f"the last event is {end}"
    return end


async def it_says_who_it_is(subject: Subject) -> None:
    """Check that the server has a name, an address without credentials, and at least one device."""
    info = subject.info
    assert info.url == subject.server.url
    assert info.name
    assert "@" not in info.url
    assert info.version
    assert info.capacity >= 1


async def it_describes_its_nodes_and_models(subject: Subject) -> None:
    """Check that every node type of a scene is described, and that models can be found by name."""
    schemas = await subject.server.schemas()
    scene = subject.quick(0)
    for node in scene.graph.nodes.values():
        assert node.type in schemas
        assert all(schemas[node.type].field(name) is not None for name in node.fields)
    models = await subject.server.models()
    assert models
    assert all(model.key and model.name and model.base and model.type for model in models)


async def an_item_is_heard_from_start_to_end(subject: Subject) -> None:
    """Check that an item starts, names its images, ends, with times in their order where the server gives them."""
    events = await collect_updates(subject.server, await subject.server.submit(submission(subject.quick(1))))
    end = last(events)
    assert end.status == "completed"
    assert end.error is None
    assert [image.node for image in end.images] == list(subject.quick(1).outputs)
    assert sum(isinstance(event, ItemEnded) for event in events) == 1
    started = [event for event in events if isinstance(event, ItemStarted)]
    assert len(started) <= 1
    early = {event.image.name for event in events if isinstance(event, Rendered)}
    assert early <= {image.name for image in end.images}
    times = [time for time in (end.queued_at, end.started_at, end.finished_at) if time is not None]
    assert len(times) in (0, 3)
    assert all(time.utcoffset() == timedelta(0) for time in times)
    assert times == sorted(times)


async def an_image_can_be_fetched(subject: Subject) -> None:
    """Check that a whole file arrives, and only where it is not larger than allowed."""
    image = (await render_scene(subject.server, subject.quick(2))).images[0]
    data = await subject.server.fetch(image, LARGE)
    assert data.startswith(SIGNATURES)
    assert await subject.server.fetch(image, len(data)) == data
    await _raises(VariationError, subject.server.fetch(image, len(data) - 1))


async def a_missing_image_is_an_error(subject: Subject) -> None:
    """Check that an unknown image is an error, whatever its name looks like."""
    for name in ("00000000-0000-4000-8000-000000000000.png", "../../../etc/passwd", "a/b.png", "nul\0.png", ""):
        image = ServerImage(name=name, node="x")
        await _raises((VariationError, TransientError), subject.server.fetch(image, LARGE))


async def every_output_has_its_images(subject: Subject) -> None:
    """Check that images of several output nodes come with their nodes, in the order asked for."""
    end = await render_scene(subject.server, subject.several)
    nodes = [image.node for image in end.images]
    assert set(nodes) == set(subject.several.outputs)
    assert nodes == sorted(nodes, key=subject.several.outputs.index)
    assert len({image.name for image in end.images}) == len(end.images)


async def an_ended_item_can_be_heard_again(subject: Subject) -> None:
    """Check that a client that did not submit it hears it too: so a run goes on after a crash."""
    ticket = await subject.server.submit(submission(subject.quick(3)))
    first = last(await collect_updates(subject.server, ticket))
    again = last(await collect_updates(subject.server, ticket))
    assert again == first
    async with subject.another() as other:
        assert last(await collect_updates(other, ticket)) == first


async def an_item_is_found_by_its_batch_id(subject: Subject) -> None:
    """Check that it is found while pending and after its end, and that an unknown batch id finds None."""
    scene = subject.quick(4)
    sent = submission(scene)
    ticket = await subject.server.submit(sent)
    async with subject.another() as other:
        assert await other.find(sent.batch_id, scene.outputs) == ticket
        await collect_updates(subject.server, ticket)
        assert await other.find(sent.batch_id, scene.outputs) == ticket
        assert await other.find(str(uuid.uuid4()), scene.outputs) is None


async def many_items_at_once_all_end(subject: Subject) -> None:
    """Check that each item has its own image, equal items too: a server's cache must not let two name one image."""
    scenes = [subject.quick(number) for number in (10, 11, 12, 13, 20, 20)]
    ends = await asyncio.gather(*(render_scene(subject.server, scene) for scene in scenes))
    assert [end.status for end in ends] == ["completed"] * 6
    assert len({image.name for end in ends for image in end.images}) == 6


async def input_images_are_brought_along(subject: Subject) -> None:
    """Check that several items may use one input image at once."""
    ends = await asyncio.gather(*(render_scene(subject.server, subject.imaged(n)) for n in range(3)))
    assert [end.status for end in ends] == ["completed"] * 3


async def a_missing_input_image_is_the_variations_fault(subject: Subject) -> None:
    """Check that an image without a file is a fault of the variation: no server can mend that."""
    scene = subject.imaged(0)
    async with subject.another() as other:
        await _raises(VariationError, other.submit(submission(RenderScene(graph=scene.graph, outputs=scene.outputs))))


async def graphs_are_checked_without_rendering(subject: Subject) -> None:
    """Check that a refused graph gives a sentence, an accepted one None, and nothing is left waiting."""
    good, bad = subject.quick(5), subject.refused
    answers = await subject.server.check(
        [good.graph, bad.graph, subject.modelless.graph], {**good.images, **bad.images}
    )
    assert answers[0] is None
    assert all(answers[1:])
    assert await subject.server.check([], {}) == []
    assert await subject.server.count_others_waiting("nobody") == 0


async def a_graph_it_cannot_render_is_refused(subject: Subject) -> None:
    """Check that nothing is left behind, and that a missing model is reported as such: another server may have it."""
    sent = submission(subject.refused)
    await _raises(VariationError, subject.server.submit(sent))
    assert await subject.server.find(sent.batch_id) is None
    await _raises(MissingModelError, subject.server.submit(submission(subject.modelless)))


async def a_failed_item_says_why_and_where(subject: Subject) -> None:
    """Check for one line, an error class, and the node as it was submitted."""
    end = await render_scene(subject.server, subject.failing)
    assert end.status == "failed"
    assert isinstance(end.error, VariationError | TransientError)
    assert end.error.kind
    assert end.error.message
    assert "\n" not in end.error.message
    assert end.failed_node == subject.failing_node
    assert (await render_scene(subject.server, subject.quick(6))).status == "completed"


async def what_we_cancel_is_cancelled(subject: Subject) -> None:
    """Check that running and pending items are cancelled, unknown ids ignored, and other items go on."""
    ours = [submission(subject.slow(n)) for n in range(2)]
    tickets = [await subject.server.submit(one) for one in ours]
    other = await subject.server.submit(submission(subject.quick(7)))
    await subject.server.cancel([str(uuid.uuid4()), *(one.batch_id for one in ours)])
    for ticket in tickets:
        end = last(await collect_updates(subject.server, ticket))
        assert end.status == "canceled"
        assert end.error is not None
        assert not isinstance(end.error, ItemLostError)
    assert last(await collect_updates(subject.server, other)).status == "completed"
    await subject.server.cancel([])


async def what_others_cancel_is_lost(subject: Subject) -> None:
    """Check that such an item counts as lost, so that it is submitted again."""
    sent = submission(subject.slow(3))
    ticket = await subject.server.submit(sent)
    async with subject.another() as other:
        await other.cancel([sent.batch_id])
    end = last(await collect_updates(subject.server, ticket))
    assert end.status == "canceled"
    assert isinstance(end.error, ItemLostError)


async def an_item_it_never_had_is_lost(subject: Subject) -> None:
    """Check that an unknown item id, or a batch id that is not the item's, is a lost item."""
    real = await subject.server.submit(submission(subject.quick(8)))
    await collect_updates(subject.server, real)
    async with subject.another() as other:
        unknown = Ticket(batch_id=str(uuid.uuid4()), item_id="999999999", outputs=("x",))
        await _raises(ItemLostError, collect_updates(other, unknown))
        stranger = Ticket(batch_id=str(uuid.uuid4()), item_id=real.item_id, outputs=("x",))
        await _raises(ItemLostError, collect_updates(other, stranger))


async def others_are_counted_apart_from_us(subject: Subject) -> None:
    """Check that only items of other runs are counted as waiting."""
    sent = submission(subject.slow(4), destination="one-run")
    ticket = await subject.server.submit(sent)
    assert await subject.server.count_others_waiting("another-run") == 1
    assert await subject.server.count_others_waiting("one-run") == 0
    await subject.server.cancel([sent.batch_id])
    await collect_updates(subject.server, ticket)


async def it_knows_what_it_has_loaded(subject: Subject) -> None:
    """Check that the keys of loaded models are those of models it has."""
    await render_scene(subject.server, subject.imaged(9))
    keys = {model.key for model in await subject.server.models()}
    assert await subject.server.list_loaded() <= keys


async def giving_up_listening_leaves_the_item(subject: Subject) -> None:
    """Check that an item goes on when its listener stops."""
    ticket = await subject.server.submit(submission(subject.quick(9)))
    events: AsyncIterator[ItemEvent] = subject.server.hear(ticket)
    await anext(events)
    await events.aclose()  # type: ignore[attr-defined]
    assert last(await collect_updates(subject.server, ticket)).status == "completed"


async def _raises(kinds: type[Exception] | tuple[type[Exception], ...], call: Awaitable[object]) -> None:
    try:
        answer = await call
    except kinds:
        return
    raise AssertionError(f"{answer!r} instead of an error")


SERVER_CASES: tuple[ServerCase, ...] = tuple(  # every coroutine function above that takes nothing but a subject
    value
    for value in list(globals().values())
    if inspect.isfunction(value) and list(inspect.signature(value).parameters) == ["subject"]
)
