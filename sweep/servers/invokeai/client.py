"""The client of an InvokeAI: one class for every release, with an API strategy for its queue or its sessions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict, Unpack
from urllib.parse import quote

from sweep.errors import (
    AttemptError,
    ItemLostError,
    OverloadedError,
    ServerUnsupportedError,
    SweepError,
    TransientError,
    VariationError,
)
from sweep.servers.base import (
    Gallery,
    ItemEnded,
    ItemEvent,
    MissingModelError,
    ServerImage,
    ServerInfo,
    Submission,
    Ticket,
)
from sweep.servers.http import CHECKS_AT_ONCE, BackgroundTasks, Credentials, Http, ServerAddress, Timings
from sweep.servers.invokeai.items import intermediate_images
from sweep.servers.invokeai.queue_api import QueueApi
from sweep.servers.invokeai.resources import RefusedImageError, ServerResources, run_once
from sweep.servers.invokeai.sessions_api import SessionsApi
from sweep.servers.invokeai.socketio import SocketIOConnection
from sweep.servers.responses import is_refusal, mapping
from sweep.servers.tracker import ItemState, ItemTracker, Over, TrackedItem
from sweep.workflow import Graph, Model, NodeSchemas


class ClientOptions(TypedDict, total=False):
    """How a client speaks to its server. `uploads` remembers images across processes (hash → name there)."""

    credentials: Credentials | None
    ca_file: Path | None
    timings: Timings | None
    uploads: MutableMapping[str, str] | None
    clock: Callable[[], float]
    queue_id: str  # a queue of one's own, run by the same worker as everybody's
    api: Literal["queue", "sessions"] | None  # None: found out by asking


class ServerApi(Protocol):
    """What differs between the queue API (InvokeAI 3.2 to 6) and the sessions API (3.0 and 3.1)."""

    @property
    def events(self) -> SocketIOConnection:
        """The connection on which the server tells events."""
        ...

    async def introduce(self) -> ServerInfo:
        """Ask who answers; log in where that is wanted. Raises ServerError."""
        ...

    async def submit(self, submission: Submission, graph: dict[str, Any]) -> str | None:
        """Submit one item: its id, or None where the server does not say it."""
        ...

    async def follow(self, ticket: Ticket) -> None:
        """Ask for the events of an item."""
        ...

    async def find(self, batch_id: str) -> str | None:
        """Return the item of a batch; None where there never was one."""
        ...

    async def read_states(self, items: Sequence[TrackedItem]) -> Mapping[str, ItemState]:
        """Return the states of items by item id; unknown ones are missing."""
        ...

    async def read_end(self, ticket: Ticket, asked: bool) -> ItemEnded | None:
        """Read how an item ended; None where it did not. `asked` says that we requested its cancellation."""
        ...

    async def cancel(self, batch_ids: Sequence[str]) -> None:
        """Cancel these batches; unknown ones are ignored."""
        ...

    async def validate(self, graph: Mapping[str, Any]) -> None:
        """Have the server check a graph without rendering it. Raises VariationError where it refuses."""
        ...

    async def others_waiting(self, ours: str) -> int:
        """Return how many items of others are pending or running."""
        ...

    async def read_session(self, item_id: str, batch_id: str) -> Mapping[str, Any]:
        """Return the session of an item; nothing where the server has no such item, or another's under this id."""
        ...


class InvokeAI:
    """A `Server` that is an InvokeAI of any release from 3.0 to 6."""

    def __init__(self, url: str, **options: Unpack[ClientOptions]) -> None:
        self._timings = options.get("timings") or Timings()
        self._clock = options.get("clock", time.monotonic)
        self._queue_id = options.get("queue_id", "default")
        self._api_name = options.get("api")
        self._http = Http(
            ServerAddress.parse(url),
            credentials=options.get("credentials"),
            ca_file=options.get("ca_file"),
            timings=self._timings,
        )
        uploads = options.get("uploads")
        self._resources = ServerResources(self._http, {} if uploads is None else uploads)
        self._tracker = ItemTracker(self.url, self._timings, self._clock)
        self._checks = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._background = BackgroundTasks()
        self._found: ServerApi | None = None

    @property
    def url(self) -> str:
        """See `Server.url`."""
        return self._http.address.url

    @property
    def uploads(self) -> MutableMapping[str, str]:
        """See `RemembersUploads.uploads`."""
        return self._resources.uploads.remembered

    def gallery(self) -> Gallery:
        """See `HasGallery.gallery`."""
        return self._resources.gallery

    @property
    def _api(self) -> ServerApi:
        if self._found is None:
            raise RuntimeError("open() comes first")
        return self._found

    async def open(self) -> ServerInfo:
        """See `Server.open`."""
        info = await self._http.introduce(self._introduce)
        self._background.start(self._api.events.run, self._tracker.report_failure)
        self._background.start(lambda: self._tracker.run(self._api.read_states), self._tracker.report_failure)
        return info

    async def _introduce(self) -> ServerInfo:
        name = self._api_name or await find_api(self._http, self._queue_id)
        if name == "queue":
            self._found = QueueApi(self._http, self._tracker, self._resources, self._queue_id)
        else:
            self._found = SessionsApi(self._http, self._tracker, self._resources)
        return await self._found.introduce()

    async def aclose(self) -> None:
        """See `Server.aclose`."""
        if self._found is not None:
            self._found.events.stop()
        self._tracker.stop()
        await self._background.end()
        await self._http.aclose()

    async def schemas(self) -> NodeSchemas:
        """See `Server.schemas`."""
        return await self._resources.schemas()

    async def models(self) -> tuple[Model, ...]:
        """See `Server.models`."""
        return await self._resources.models.read()

    async def fetch(self, image: ServerImage, limit: int) -> bytes:
        """See `Server.fetch`."""
        return await self._resources.fetch(image, limit)

    async def loaded(self) -> frozenset[str]:
        """See `Server.loaded`: the models loaded last, as far as events and submissions name them."""
        return self._resources.loaded()

    async def check(self, graphs: Sequence[Graph], images: Mapping[str, Path]) -> list[str | None]:
        """See `Server.check`."""
        return list(await asyncio.gather(*(self._check(graph, images) for graph in graphs)))

    async def _check(self, graph: Graph, images: Mapping[str, Path]) -> str | None:
        async with self._checks:
            try:
                resolved = await self._resources.resolve(graph, images)
                await self._resources.check_images(graph)
                await self._api.validate(resolved)
            except RefusedImageError:  # the points that use it fail, each by itself
                return None
            except (VariationError, MissingModelError) as error:
                return str(error)
        return None

    async def submit(self, submission: Submission) -> Ticket:
        """See `Server.submit`."""
        graph = await self._resources.prepare(submission)
        batch_id, outputs = submission.batch_id, submission.outputs
        item = self._tracker.expect(batch_id, run_once(submission.graph, outputs), tells_steps=submission.tells_steps)
        try:
            item_id = await self._api.submit(submission, graph)
        except VariationError:
            self._tracker.forget(batch_id)
            raise
        self._resources.note_submitted(batch_id)
        try:
            item_id = item_id or await self._api.find(batch_id)
        except OverloadedError as error:  # it has the item all the same: to be asked about, not sent elsewhere
            raise TransientError(error.message) from None
        if item_id is None:
            raise TransientError(f"{self.url} took the item but does not know it.", kind="BadAnswer")
        item.item_id = item_id
        return Ticket(batch_id=batch_id, item_id=item_id, outputs=outputs)

    async def hear(self, ticket: Ticket) -> AsyncIterator[ItemEvent]:
        """See `Server.hear`."""
        async with self._tracker.listen(ticket) as (item, signals):
            await self._api.follow(ticket)
            while True:
                signal = await signals.get()
                if isinstance(signal, SweepError):
                    raise signal
                if isinstance(signal, Over):
                    told = item.completed_by_events(signal.state, ticket.outputs)
                    yield told or replace(await self._read_end(ticket, item), overhead=item.overhead)
                    return
                yield signal

    async def _read_end(self, ticket: Ticket, item: TrackedItem) -> ItemEnded:
        """Read how an item that is over ended, however long the server takes to answer (within `patience`)."""
        begun = self._clock()
        until = begun + self._timings.patience
        while True:
            try:
                ended = await self._api.read_end(ticket, item.is_cancel_requested)
                if ended is not None:
                    return self._resources.note_ended(ticket.batch_id, ended)
                error = TransientError(f"{self.url} does not end item {ticket.item_id}.")
            except ItemLostError:
                raise
            except AttemptError as passing:  # a refusal of the question, too, says nothing about the item
                error = TransientError(passing.message, kind=passing.kind)
                if is_refusal(passing):
                    until = min(until, begun + self._timings.gone)
            if self._clock() >= until:
                raise error
            await asyncio.sleep(self._timings.poll_deaf)

    async def find(self, batch_id: str, outputs: tuple[str, ...] = ()) -> Ticket | None:
        """See `Server.find`."""
        item_id = await self._api.find(batch_id)
        return None if item_id is None else Ticket(batch_id=batch_id, item_id=item_id, outputs=outputs)

    async def cancel(self, batch_ids: Sequence[str]) -> None:
        """See `Server.cancel`."""
        if batch_ids:
            await self._api.cancel(batch_ids)

    async def others_waiting(self, ours: str) -> int:
        """See `Server.others_waiting`. The queue API counts the queue that is used; the sessions API does not tell."""
        return await self._api.others_waiting(ours)

    async def find_leftovers(self, items: Mapping[str, str], uploads: Collection[str]) -> list[str]:
        """See `DeletesImages.find_leftovers`."""
        found = [name for name in dict.fromkeys(uploads) if await self._resources.is_unused(name)]
        for item_id, batch_id in items.items():
            session = await self._api.read_session(item_id, batch_id)
            own, names = str(session.get("id")), intermediate_images(session)
            found += [name for name in names if await self._resources.is_unused(name, made_by=own)]
        return list(dict.fromkeys(found))

    async def delete_images(self, names: Sequence[str]) -> int:
        """See `DeletesImages.delete_images`."""
        return sum([await self._resources.delete_image(name) for name in names])


async def find_api(http: Http, queue_id: str) -> Literal["queue", "sessions"]:
    """Ask which API the server speaks. A refusal is an answer, too: there is something.

    Raises ServerUnsupportedError where it speaks neither.
    """
    what, also = "asking which API it speaks", (400, 401, 403, 404, 405, 422)
    queue = await http.call("GET", f"/api/v1/queue/{quote(queue_id, safe='')}/status", what, also=also)
    if queue.status in (401, 403) or "queue" in mapping(queue.body):
        return "queue"
    sessions = await http.call("GET", "/api/v1/sessions/", what, also=also)
    if sessions.status == 404:
        url = http.address.url
        raise ServerUnsupportedError(f"{url} answers, but speaks no API of InvokeAI's.")
    return "sessions"
