"""The client of an InvokeAI: one class for every release, with an API strategy for its queue or its sessions."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sweep.errors import (
    ItemLostError,
    OverloadedError,
    ServerUnsupportedError,
    TransientError,
    VariationError,
    WorkflowError,
)
from sweep.servers.base import Gallery, ItemEnded, ServerImage, ServerInfo, Submission, Ticket
from sweep.servers.credentials import ServerAddress
from sweep.servers.http import LARGEST_SCHEMA, ConnectOptions, Http
from sweep.servers.invokeai.gallery import InvokeAIGallery
from sweep.servers.invokeai.installed_models import InstalledModels
from sweep.servers.invokeai.queue_api import IMAGE_GONE, QueueApi, list_intermediate_images
from sweep.servers.invokeai.sessions_api import SessionsApi
from sweep.servers.tracker import ItemState, TrackedItem, TrackedServer
from sweep.servers.untrusted_json import mapping, parse, shorten, text
from sweep.workflow import (
    DESCRIPTIVE_NODES,
    BoardRef,
    Graph,
    ImageRef,
    Json,
    Model,
    ModelRef,
    NodeSchemas,
    Ref,
    find_nodes_after,
    read_openapi,
    write_graph,
)


class InvokeAI(TrackedServer):
    """A `Server` that is an InvokeAI of any release from 3.0 to 6.

    A graph names models, images and boards as every server knows them; here they get this server's keys and names.
    """

    def __init__(self, url: str, options: ConnectOptions | None = None) -> None:
        given = options or ConnectOptions()
        super().__init__(Http(ServerAddress.parse(url), given))
        self._queue_id = given.queue_id
        self._gallery = InvokeAIGallery(self._http)
        self._models = InstalledModels(self._http)
        self._schemas: NodeSchemas | None = None
        self._reading = asyncio.Lock()
        self._named_images: dict[str, bool] = {}  # images that graphs name themselves: whether they are here
        self._api: QueueApi | SessionsApi  # found out by `open`

    def gallery(self) -> Gallery:
        return self._gallery

    async def open(self) -> ServerInfo:
        info = await self._http.introduce(self._introduce)
        self.start_tracking(self._api, self._api.read_states)
        return info

    async def _introduce(self) -> ServerInfo:
        is_queue = await has_queue(self._http, self._queue_id)
        answer = await self._http.get("/api/v1/app/version", "asking for its version", also=(404, 405))
        about = mapping(answer.body)
        version = shorten(text(about.get("version")) or "")
        if is_queue:
            self._api = QueueApi(self._http, self._tracker, self._models, self._queue_id)
        else:
            self._api = SessionsApi(self._http, self._tracker, self._models)
        self._gallery.is_before_3_1 = version.startswith("3.0")
        info = await self._api.introduce(version)
        return replace(info, sandbox=about.get("sandbox") is True or "sandbox" in version)

    async def schemas(self) -> NodeSchemas:
        async with self._reading:
            if self._schemas is None:
                what = "reading its node types"
                try:
                    answer = await self._http.get("/openapi.json", what, limit=LARGEST_SCHEMA, parse=_read_schemas)
                except WorkflowError as error:
                    raise ServerUnsupportedError(f"{self.url}: {error.message}") from None
                self._schemas = answer.body
            return self._schemas

    async def models(self) -> tuple[Model, ...]:
        return await self._models.read()

    async def fetch(self, image: ServerImage, limit: int) -> bytes:
        data = await self._gallery.fetch_image(image.name, limit)
        if data is None:
            raise TransientError(f"{self.url} does not have the image any more.", kind="ImageGone", most_attempts=2)
        return data

    async def list_loaded(self) -> frozenset[str]:
        """See `Server.list_loaded`: the models loaded last, as far as events and submissions name them."""
        return frozenset(self._models.loaded)

    async def has_image(self, name: str) -> bool:
        return await self._gallery.has(name)

    async def send_image(self, file: str, content: bytes) -> str | None:
        return await self._gallery.upload(file, content)

    async def validate(self, graph: Graph, images: Mapping[str, Path]) -> None:
        resolved = await self._resolve(graph, images)
        await self._check_named_images(graph)
        await self._api.validate(resolved)

    async def _resolve(self, graph: Graph, files: Mapping[str, Path]) -> dict[str, Any]:
        """Return the graph's JSON for this server. Raises MissingModelError, or VariationError for an image's file."""
        if not graph.nodes:
            raise VariationError("the graph has no nodes", kind="Refused")
        refs = graph.references(without=DESCRIPTIVE_NODES)
        await self._models.require(ref for ref in refs if isinstance(ref, ModelRef))
        names: dict[Ref, Json] = {}
        for board in sorted(ref for ref in refs if isinstance(ref, BoardRef)):
            names[board] = {"board_id": await self._gallery.make_board(board.name)}
        images = sorted(ref for ref in refs if isinstance(ref, ImageRef))
        uploads = await asyncio.gather(*(self.upload(ref.sha256, files.get(ref.sha256)) for ref in images))
        names |= {ref: {"image_name": name} for ref, name in zip(images, uploads, strict=True)}
        return write_graph(graph, lambda ref: names.get(ref) or self._describe(ref))

    def _describe(self, ref: Ref) -> Json:
        """Return a reference as this server names it; one that metadata alone names need not be here."""
        if isinstance(ref, ModelRef):
            return self._models.name(ref)
        return {"image_name": self.uploads.get(ref.sha256, "")} if isinstance(ref, ImageRef) else None

    async def _check_named_images(self, graph: Graph) -> None:
        """Ask once for each image that the graph itself names. Raises VariationError for one that is not here."""
        for node in graph.nodes.values():
            for name in _list_named(node.fields) if node.type not in DESCRIPTIVE_NODES else ():
                if name not in self._named_images:
                    self._named_images[name] = await self._gallery.has(name)
                if not self._named_images[name]:
                    raise VariationError(
                        f"{node.id}: the image {name} is not on the server; set inputs.image to a file"
                    )

    async def submit(self, submission: Submission) -> Ticket:
        batch_id, outputs = submission.batch_id, submission.outputs
        board = await self._gallery.make_board(submission.board) if submission.board else None
        graph = await self._resolve(submission.graph, submission.images)
        mark_outputs(graph, outputs, board_id=board, intermediate=submission.intermediate)
        iterators = [node.id for node in submission.graph.nodes.values() if node.type == "iterate"]
        single = frozenset(outputs) - find_nodes_after(submission.graph, iterators)  # outputs that make one image
        needs = submission.graph.references(without=DESCRIPTIVE_NODES)
        with self._tracker.expect(batch_id, single, tells_steps=submission.tells_steps) as item:
            item.input_images = tuple(ref.sha256 for ref in needs if isinstance(ref, ImageRef))
            item_id = await self._api.submit(submission, graph)
        self._models.note_used(ref for ref in needs if isinstance(ref, ModelRef))
        try:
            item_id = item_id or await self._api.find(batch_id)
        except OverloadedError as error:  # it has the item all the same: to be asked about, not sent elsewhere
            raise TransientError(error.message) from None
        if item_id is None:
            raise TransientError(f"{self.url} took the item but does not know it.", kind="BadAnswer")
        item.item_id = item_id
        return Ticket(batch_id=batch_id, item_id=item_id, outputs=outputs)

    async def follow(self, ticket: Ticket, item: TrackedItem) -> None:  # noqa: ARG002  (another family needs the item)
        await self._api.follow(ticket)

    async def read_end(self, ticket: Ticket, item: TrackedItem, state: ItemState) -> ItemEnded:
        if told := item.end_by_events(state, ticket.outputs):
            return told
        ended = await self._api.read_end(ticket, item.is_cancel_requested)
        if ended is None:
            raise TransientError(f"{self.url} does not end item {ticket.item_id}.")
        if ended.error is not None and ended.error.kind in IMAGE_GONE:
            for sha256 in item.input_images:
                self.forget_upload(sha256)
        return replace(ended, overhead=item.overhead)

    async def find(self, batch_id: str, outputs: tuple[str, ...] = ()) -> Ticket | None:
        item_id = await self._api.find(batch_id)
        return None if item_id is None else Ticket(batch_id=batch_id, item_id=item_id, outputs=outputs)

    async def cancel(self, batch_ids: Sequence[str]) -> None:
        if batch_ids:
            await self._api.cancel(batch_ids)

    async def count_others_waiting(self, ours: str) -> int:
        """See `Server.count_others_waiting`. The queue API counts the queue in use; the sessions API does not tell."""
        return await self._api.count_others_waiting(ours)

    async def find_leftovers(self, items: Mapping[str, str], uploads: Collection[str]) -> list[str]:
        found = [name for name in dict.fromkeys(uploads) if await self._gallery.is_unused(name)]
        for item_id, batch_id in items.items():
            try:
                session = await self._api.read_session(item_id, batch_id)
            except ItemLostError:
                continue
            own, names = str(session.get("id")), list_intermediate_images(session)
            found += [name for name in names if await self._gallery.is_unused(name, made_by=own)]
        return list(dict.fromkeys(found))

    async def delete_images(self, names: Sequence[str]) -> int:
        return sum([await self._gallery.delete_image(name) for name in names])


async def has_queue(http: Http, queue_id: str) -> bool:
    """Ask whether the server speaks the queue API, or else the older one. A refusal is an answer, too.

    Raises ServerUnsupportedError where it speaks neither.
    """
    what, also = "asking which API it speaks", (400, 401, 403, 404, 405, 422)
    queue = await http.get(f"/api/v1/queue/{quote(queue_id, safe='')}/status", what, also=also)
    if queue.status in (401, 403) or "queue" in mapping(queue.body):
        return True
    if (await http.get("/api/v1/sessions/", what, also=also)).status == 404:
        raise ServerUnsupportedError(f"{http.address.url} answers, but speaks no API of InvokeAI's.")
    return False


def mark_outputs(api: dict[str, Any], outputs: Collection[str], *, board_id: str | None, intermediate: bool) -> None:
    """Mark on each node whether the server keeps its images, and on which board.

    An output is never taken from the server's cache: two items would share one image, which names only the first.
    Other nodes' images are kept out of the gallery, unless the graph says otherwise.
    """
    for name, node in api["nodes"].items():
        if name not in outputs:
            node.setdefault("is_intermediate", True)
            continue
        node["is_intermediate"] = intermediate
        node["use_cache"] = False
        if board_id is not None:
            node["board"] = {"board_id": board_id}


def _list_named(value: Any) -> Iterator[str]:
    """List the server's images that a field names by itself."""
    if isinstance(value, Mapping):
        name = value.get("image_name")
        if isinstance(name, str) and name:
            yield name
        value = list(value.values())
    for part in value if isinstance(value, list) else ():
        yield from _list_named(part)


@functools.lru_cache(maxsize=4)
def _read_schemas(document: bytes) -> NodeSchemas:
    """Read a server's node types; those of servers that answer alike, as all of a release do, are read once."""
    return read_openapi(mapping(parse(document)))
