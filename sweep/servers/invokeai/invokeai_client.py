"""The client of an InvokeAI: one class for every release, with an API strategy for its queue or its sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from sweep.errors import OverloadedError, ServerUnsupportedError, TransientError, WorkflowError
from sweep.servers.base import Gallery, ItemEnded, ServerImage, ServerInfo, Submission, Ticket
from sweep.servers.credentials import ServerAddress
from sweep.servers.http import LARGEST_SCHEMA, ConnectOptions, Http, mapping
from sweep.servers.invokeai.item_results import intermediate_images
from sweep.servers.invokeai.queue_api import QueueApi
from sweep.servers.invokeai.resources import RefusedImageError, ServerResources
from sweep.servers.invokeai.sessions_api import SessionsApi
from sweep.servers.tracker import ItemState, TrackedItem, TrackedServer
from sweep.workflow import Graph, Model, NodeSchemas, nodes_after, read_openapi


class InvokeAI(TrackedServer):
    """A `Server` that is an InvokeAI of any release from 3.0 to 6.

    `uploads` remembers images across processes (hash → name there); `queue_id` may name a queue of one's own, run by
    the same worker as everybody's; which `api` it has is found out by asking, where that is None.
    """

    def __init__(
        self, url: str, options: ConnectOptions | None = None, *, api: Literal["queue", "sessions"] | None = None
    ) -> None:
        given = options or ConnectOptions()
        super().__init__(Http(ServerAddress.parse(url), given))
        self._queue_id = given.queue_id
        self._api_name = api
        self._resources = ServerResources(self._http, {} if given.uploads is None else given.uploads)
        self._schemas: NodeSchemas | None = None
        self._reading = asyncio.Lock()
        self._found: QueueApi | SessionsApi | None = None

    @property
    def uploads(self) -> MutableMapping[str, str]:
        return self._resources.uploads.remembered

    def gallery(self) -> Gallery:
        return self._resources.gallery

    @property
    def _api(self) -> QueueApi | SessionsApi:
        if self._found is None:
            raise RuntimeError("open() comes first")
        return self._found

    async def open(self) -> ServerInfo:
        info = await self._http.introduce(self._introduce)
        self.start_tracking(self._api, self._api.read_states)
        return info

    async def _introduce(self) -> ServerInfo:
        name = self._api_name or await find_api(self._http, self._queue_id)
        if name == "queue":
            self._found = QueueApi(self._http, self._tracker, self._resources, self._queue_id)
        else:
            self._found = SessionsApi(self._http, self._tracker, self._resources)
        return await self._found.introduce()

    async def schemas(self) -> NodeSchemas:
        async with self._reading:
            if self._schemas is None:
                answer = await self._http.get("/openapi.json", "reading its node types", limit=LARGEST_SCHEMA)
                try:
                    self._schemas = await asyncio.to_thread(read_openapi, mapping(answer.body))
                except WorkflowError as error:
                    raise ServerUnsupportedError(f"{self.url}: {error.message}") from None
            return self._schemas

    async def models(self) -> tuple[Model, ...]:
        return await self._resources.models.read()

    async def fetch(self, image: ServerImage, limit: int) -> bytes:
        data = await self._resources.gallery.fetch_image(image.name, limit)
        if data is None:
            raise TransientError(f"{self.url} does not have the image any more.", kind="ImageGone", most_attempts=2)
        return data

    async def loaded(self) -> frozenset[str]:
        """See `Server.loaded`: the models loaded last, as far as events and submissions name them."""
        return self._resources.loaded()

    async def validate(self, graph: Graph, images: Mapping[str, Path]) -> None:
        with suppress(RefusedImageError):  # the points that use it fail, each by itself
            resolved, _ = await self._resources.resolve(graph, images)
            await self._resources.check_images(graph)
            await self._api.validate(resolved)

    async def submit(self, submission: Submission) -> Ticket:
        graph = await self._resources.prepare(submission)
        batch_id, outputs = submission.batch_id, submission.outputs
        iterators = [node.id for node in submission.graph.nodes.values() if node.type == "iterate"]
        single = frozenset(outputs) - nodes_after(submission.graph, iterators)  # their first image is their only one
        with self._tracker.expect(batch_id, single, tells_steps=submission.tells_steps) as item:
            item_id = await self._api.submit(submission, graph)
        self._resources.note_submitted(batch_id)
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
        if told := item.completed_by_events(state, ticket.outputs):
            return told
        ended = await self._api.read_end(ticket, item.is_cancel_requested)
        if ended is None:
            raise TransientError(f"{self.url} does not end item {ticket.item_id}.")
        if ended.error is not None:
            self._resources.note_failed(ticket.batch_id, ended.error)
        return replace(ended, overhead=item.overhead)

    async def find(self, batch_id: str, outputs: tuple[str, ...] = ()) -> Ticket | None:
        item_id = await self._api.find(batch_id)
        return None if item_id is None else Ticket(batch_id=batch_id, item_id=item_id, outputs=outputs)

    async def cancel(self, batch_ids: Sequence[str]) -> None:
        if batch_ids:
            await self._api.cancel(batch_ids)

    async def others_waiting(self, ours: str) -> int:
        """See `Server.others_waiting`. The queue API counts the queue that is used; the sessions API does not tell."""
        return await self._api.others_waiting(ours)

    async def find_leftovers(self, items: Mapping[str, str], uploads: Collection[str]) -> list[str]:
        found = [name for name in dict.fromkeys(uploads) if await self._resources.gallery.is_unused(name)]
        for item_id, batch_id in items.items():
            session = await self._api.read_session(item_id, batch_id)
            own, names = str(session.get("id")), intermediate_images(session)
            found += [name for name in names if await self._resources.gallery.is_unused(name, made_by=own)]
        return list(dict.fromkeys(found))

    async def delete_images(self, names: Sequence[str]) -> int:
        return sum([await self._resources.gallery.delete_image(name) for name in names])


async def find_api(http: Http, queue_id: str) -> Literal["queue", "sessions"]:
    """Ask which API the server speaks. A refusal is an answer, too: there is something.

    Raises ServerUnsupportedError where it speaks neither.
    """
    what, also = "asking which API it speaks", (400, 401, 403, 404, 405, 422)
    queue = await http.get(f"/api/v1/queue/{quote(queue_id, safe='')}/status", what, also=also)
    if queue.status in (401, 403) or "queue" in mapping(queue.body):
        return "queue"
    sessions = await http.get("/api/v1/sessions/", what, also=also)
    if sessions.status == 404:
        url = http.address.url
        raise ServerUnsupportedError(f"{url} answers, but speaks no API of InvokeAI's.")
    return "sessions"
