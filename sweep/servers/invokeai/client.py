"""InvokeAI clients (queue API, sessions API)."""

from __future__ import annotations

import asyncio
import time
import uuid
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

from sweep.errors import (
    ItemLostError,
    OverloadedError,
    ServerUnsupportedError,
    SweepError,
    TransientError,
    VariationError,
)
from sweep.servers.base import ItemEnded, ItemEvent, MissingModelError, ServerImage, ServerInfo, Submission, Ticket
from sweep.servers.invokeai import resources as graphs
from sweep.servers.invokeai import responses as faults
from sweep.servers.invokeai import responses as reading
from sweep.servers.invokeai.http import Credentials, Http, ServerAddress, Timings
from sweep.servers.invokeai.queue_api import QueueApi, unsupported
from sweep.servers.invokeai.resources import BEFORE_3_1, Materials
from sweep.servers.invokeai.sessions_api import Sessions, session_status, started
from sweep.servers.invokeai.socketio import EventSubscription, useful
from sweep.servers.invokeai.tracker import Over, Watch
from sweep.workflow import Graph, Model, NodeSchemas

GRACE = 1.5  # seconds to end by oneself, before being cancelled


class Background:
    """Starts tasks, and ends them: those that were told to stop by themselves, the others by cancellation."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, *work: Coroutine[Any, Any, None]) -> None:
        """Begin this work now."""
        self._tasks += [asyncio.create_task(one) for one in work]

    async def end(self) -> None:
        """Wait for all a little, then cancel what is left. Never raises what they raised; safe to call twice."""
        if not self._tasks:
            return
        try:
            _, late = await asyncio.wait(self._tasks, timeout=GRACE)
        finally:
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        self._tasks.clear()


CHECKS_AT_ONCE: Final = 4


class ClientOptions(TypedDict, total=False):
    """How a client speaks to its server. `uploads` remembers images across processes (hash → name there)."""

    credentials: Credentials | None
    ca_file: Path | None
    timings: Timings | None
    uploads: MutableMapping[str, str] | None
    clock: Callable[[], float]


class Client(ABC):
    """Half of a `Server`: a subclass sets `_watch` and `_events`, says how it introduces itself and checks a graph,
    and submits, hears, finds and cancels.
    """

    _watch: Watch
    _events: EventSubscription

    def __init__(self, url: str, **options: Unpack[ClientOptions]) -> None:
        self._timings = options.get("timings") or Timings()
        self._clock = options.get("clock", time.monotonic)
        self._http = Http(
            ServerAddress.parse(url),
            credentials=options.get("credentials"),
            ca_file=options.get("ca_file"),
            timings=self._timings,
        )
        uploads = options.get("uploads")
        self._materials = Materials(self._http, {} if uploads is None else uploads)
        self._checks = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._background = Background()

    @property
    def url(self) -> str:
        """The address as given, without credentials."""
        return self._http.address.url

    async def open(self) -> ServerInfo:
        """Find out who answers, log in, start to listen. See `Server.open`."""
        info = await self._http.introduced(self._introduce)
        self._background.start(self._events.run(), self._watch.run())
        return info

    async def aclose(self) -> None:
        """Let go of everything; never raises. See `Server.aclose`."""
        self._events.stop()
        self._watch.stop()
        await self._background.end()
        await self._http.aclose()

    async def schemas(self) -> NodeSchemas:
        """See `Server.schemas`."""
        return await self._materials.schemas()

    async def models(self) -> tuple[Model, ...]:
        """See `Server.models`."""
        return await self._materials.models.all()

    async def fetch(self, image: ServerImage, limit: int) -> bytes:
        """See `Server.fetch`."""
        return await self._materials.fetch(image, limit)

    async def loaded(self) -> frozenset[str]:
        """See `Server.loaded`: the models loaded last, as far as events told and submissions named them."""
        return self._materials.loaded()

    async def check(self, graphs: Sequence[Graph], images: Mapping[str, Path]) -> list[str | None]:
        """See `Server.check`."""
        return list(await asyncio.gather(*(self._checked(graph, images) for graph in graphs)))

    async def _checked(self, graph: Graph, images: Mapping[str, Path]) -> str | None:
        async with self._checks:
            try:
                await self._validate(await self._materials.resolve(graph, images))
            except (VariationError, MissingModelError) as fault:
                return str(fault)
        return None

    @abstractmethod
    async def _introduce(self) -> ServerInfo:
        """Ask who answers; log in where that is wanted. Raises ServerError."""

    @abstractmethod
    async def _validate(self, api: Mapping[str, Any]) -> None:
        """Have the server check a graph without rendering it. Raises VariationError where it refuses."""

    def _line_changed(self, up: bool) -> None:
        if not up:
            self._materials.nothing_loaded()
        self._watch.line_changed(up)


class InvokeAI(Client):
    """A server that speaks InvokeAI's queue API. `queue_id` is a queue of one's own, run by the same worker as
    everybody's.
    """

    def __init__(self, url: str, *, queue_id: str = "default", **options: Unpack[ClientOptions]) -> None:
        super().__init__(url, **options)
        self._queue = QueueApi(self._http, queue_id)
        self._watch = Watch(self.url, self._queue.states, self._timings, self._clock)
        subscription = ("subscribe_queue", {"queue_id": queue_id})
        self._events = EventSubscription(
            self._http, self._timings, lambda: [subscription], self._heard, self._line_changed, self._of_use
        )

    async def submit(self, submission: Submission) -> Ticket:
        """See `Server.submit`."""
        api = await self._materials.prepare(submission)
        batch_id, outputs = submission.batch_id, submission.outputs
        batch = {"batch_id": batch_id, "graph": api, "destination": submission.destination}
        watched = self._watch.expect(batch_id, graphs.run_once(submission.graph, outputs))
        try:
            item_id = await self._queue.submit(batch, prepend=submission.priority > 0)
        except VariationError:
            self._watch.drop(batch_id)
            raise
        try:
            await self._materials.taken(submission)
            item_id = item_id or await self._queue.find(batch_id)
        except OverloadedError as fault:  # it has the item all the same: to be asked about, not sent elsewhere
            raise TransientError(fault.message) from None
        if item_id is None:
            raise TransientError(f"{self.url} took the item but does not know it.", kind="BadAnswer")
        watched.item_id = item_id
        return Ticket(batch_id=batch_id, item_id=item_id, outputs=outputs)

    async def hear(self, ticket: Ticket) -> AsyncIterator[ItemEvent]:
        """See `Server.hear`."""
        async with self._watch.listening(ticket) as (item, signals):
            while True:
                signal = await signals.get()
                if isinstance(signal, SweepError):
                    raise signal
                if isinstance(signal, Over):
                    told = item.told_in_full(signal, ticket.outputs)
                    yield told or replace(await self._ended(ticket, asked=item.asked), overhead=item.overhead)
                    return
                yield signal

    async def find(self, batch_id: str, outputs: tuple[str, ...] = ()) -> Ticket | None:
        """See `Server.find`."""
        item_id = await self._queue.find(batch_id)
        return None if item_id is None else Ticket(batch_id=batch_id, item_id=item_id, outputs=outputs)

    async def cancel(self, batch_ids: Sequence[str]) -> None:
        """See `Server.cancel`."""
        if batch_ids:
            self._watch.asked(batch_ids)
            await self._queue.cancel(batch_ids)
            self._watch.look()

    async def others_waiting(self, ours: str) -> int:
        """See `Server.others_waiting`. Counts the queue that is used."""
        _, whole = await self._queue.counts()
        own = await self._queue.counts_of_destination(ours)
        mine = self._watch.in_flight() if own is None else _unfinished(own)
        return max(_unfinished(whole) - mine, 0)

    async def _introduce(self) -> ServerInfo:
        answer = await self._http.call("GET", "/api/v1/app/version", "asking for its version", also=(404,))
        about = reading.mapping(answer.body)
        version = reading.text(about.get("version"))
        if version is None:
            raise ServerUnsupportedError(f"{self.url} answers, but is no InvokeAI (it has no version).")
        unfit = unsupported(self.url, version)
        if unfit is not None:
            raise unfit
        await self._authenticate()
        status, _ = await self._queue.counts(also=(404,))
        if status == 404:
            raise ServerUnsupportedError(f"{self.url} is InvokeAI {version} but has no queue.")
        config = await self._ask("/api/v1/app/runtime_config")
        settings = reading.mapping(reading.mapping(config).get("config"))
        return ServerInfo(
            name=self._http.address.name,
            url=self.url,
            version=version,
            api="queue",
            sandbox=about.get("sandbox") is True or "sandbox" in version,
            capacity=_capacity(settings, await self._ask("/api/v1/app/generation_device_options")),
            max_pending=reading.number(settings.get("max_queue_size")) or None,
        )

    async def _authenticate(self) -> None:
        status = reading.mapping(await self._ask("/api/v1/auth/status"))
        if status.get("multiuser_enabled") is True and self._http.token is None:
            await self._http.log_in()

    async def _ask(self, path: str) -> Any:
        """The answer to a question that older servers, or ours without an administrator's rights, do not answer."""
        answer = await self._http.call("GET", path, "asking what it can do", also=(401, 403, 404, 405))
        return answer.body if answer.status == 200 else None

    async def _validate(self, api: Mapping[str, Any]) -> None:
        """Posted as a batch of no items, which the server validates in full."""
        await self._queue.validate(f"check-{uuid.uuid4()}", api)

    async def _ended(self, ticket: Ticket, *, asked: bool) -> ItemEnded:
        """Read what became of an item that is over, however long the server takes to answer (to a point)."""
        begun = self._clock()
        until = begun + self._timings.patience
        while True:
            try:
                item = await self._queue.item(ticket.item_id)
                if item.get("status") in reading.ENDED_STATES:
                    break
                fault: TransientError = TransientError(f"{self.url} does not end item {ticket.item_id}.")
            except ItemLostError:
                raise
            except TransientError as passing:
                fault = passing
                if faults.is_refusal(passing):
                    until = min(until, begun + self._timings.gone)
            if self._clock() >= until:
                raise fault
            await asyncio.sleep(self._timings.poll_deaf)
        return self._materials.over(ticket.batch_id, reading.ended(item, ticket.outputs, asked))

    def _heard(self, event: str, data: Any) -> None:
        if event in ("model_load_complete", "model_load_completed"):
            about = reading.mapping(data)
            key = reading.text(reading.mapping(about.get("config") or about.get("model_config")).get("key"))
            if key:
                self._materials.hold(key)
        else:
            self._watch.heard(event, data)

    def _of_use(self, event: str, text: str) -> bool:
        """Of all the nodes that start, the first of an item tells how long the server took to come to it."""
        return self._watch.awaits_first_node if event == "invocation_started" else useful(event, text)


def _unfinished(counts: Mapping[str, Any]) -> int:
    return sum(reading.number(counts.get(name)) for name in ("pending", "in_progress", "waiting"))


def _capacity(settings: Mapping[str, Any], devices: Any) -> int:
    """One worker a generation device: those listed, or all there are unless one is pinned."""
    chosen = settings.get("generation_devices")
    if isinstance(chosen, list):
        return max(len(chosen), 1)
    if settings.get("device") not in (None, "auto"):
        return 1
    return max(len(reading.sequence(devices)), 1)


SESSIONS_REMEMBERED = 20_000
EVENTS = {
    "invocation_started": "in_progress",
    "invocation_error": "failed",
    "graph_execution_state_complete": "completed",
}


class InvokeAISessions(Client):
    """A server that speaks the sessions API."""

    def __init__(self, url: str, **options: Unpack[ClientOptions]) -> None:
        super().__init__(url, **options)
        self._sessions = Sessions(self._http)
        self._watch = Watch(self.url, self._sessions.states, self._timings, self._clock)
        self._events = EventSubscription(
            self._http, self._timings, self._subscriptions, self._heard, self._line_changed
        )
        self._batches: OrderedDict[str, str] = OrderedDict()  # session → batch, of all that were seen
        self._listening: dict[str, int] = {}  # session → how many hear it

    async def submit(self, submission: Submission) -> Ticket:
        """See `Server.submit`. Neither `destination` nor `priority` is known to this API."""
        api = await self._materials.prepare(submission)
        session_id = await self._sessions.create({**api, "id": submission.batch_id})
        self._note(session_id, submission.batch_id)
        watched = self._watch.expect(submission.batch_id, graphs.run_once(submission.graph, submission.outputs))
        watched.item_id = session_id
        await self._events.emit("subscribe", {"session": session_id})
        await self._sessions.start(session_id)
        await self._materials.taken(submission)
        return Ticket(batch_id=submission.batch_id, item_id=session_id, outputs=submission.outputs)

    async def hear(self, ticket: Ticket) -> AsyncIterator[ItemEvent]:
        """See `Server.hear`."""
        self._note(ticket.item_id, ticket.batch_id)
        self._listening[ticket.item_id] = self._listening.get(ticket.item_id, 0) + 1
        try:
            async with self._watch.listening(ticket) as (item, signals):
                await self._events.emit("subscribe", {"session": ticket.item_id})
                while True:
                    signal = await signals.get()
                    if isinstance(signal, SweepError):
                        raise signal
                    if isinstance(signal, Over):
                        yield await self._ended(ticket, asked=item.asked)
                        return
                    yield signal
        finally:
            self._listening[ticket.item_id] -= 1
            if not self._listening[ticket.item_id]:
                del self._listening[ticket.item_id]

    async def find(self, batch_id: str, outputs: tuple[str, ...] = ()) -> Ticket | None:
        """See `Server.find`. A session that was posted but never started is started now."""
        session = await self._find(batch_id)
        if session is None:
            return None
        session_id = str(session["id"])
        if not started(session):
            await self._sessions.start(session_id)
        return Ticket(batch_id=batch_id, item_id=session_id, outputs=outputs)

    async def cancel(self, batch_ids: Sequence[str]) -> None:
        """See `Server.cancel`."""
        for batch_id in batch_ids:
            session = await self._find(batch_id)
            if session is None or session_status(session) in reading.ENDED_STATES:
                continue
            self._watch.asked([batch_id])
            await self._sessions.cancel(str(session["id"]))
            self._tell(batch_id, str(session["id"]), "canceled")

    async def others_waiting(self, ours: str) -> int:  # noqa: ARG002  (part of the contract)
        """See `Server.others_waiting`. This API does not tell: 0."""
        return 0

    async def _introduce(self) -> ServerInfo:
        answer = await self._http.call("GET", "/api/v1/app/version", "asking for its version", also=(404, 405))
        about = reading.mapping(answer.body)
        version = reading.text(about.get("version")) or "unknown"
        if version.startswith("3.0"):
            self._materials.uploads.paths = BEFORE_3_1
        await self._sessions.find_shape()
        return ServerInfo(
            name=self._http.address.name,
            url=self.url,
            version=version,
            api="sessions",
            sandbox=about.get("sandbox") is True,
        )

    async def _find(self, batch_id: str) -> dict[str, Any] | None:
        known = next((session for session, batch in reversed(self._batches.items()) if batch == batch_id), None)
        if known is None:
            session = await self._sessions.find(batch_id)
        else:
            try:
                session = {**await self._sessions.read(known), "id": known}
            except ItemLostError:
                return None
        if session is not None:
            self._note(str(session["id"]), batch_id)
        return session

    async def _validate(self, api: Mapping[str, Any]) -> None:
        """Posted as a session that is never started: nothing here can be deleted."""
        await self._sessions.create(api, "checking a graph")

    async def _ended(self, ticket: Ticket, *, asked: bool) -> ItemEnded:
        """Read what became of a session that is over, however long the server takes to answer (to a point)."""
        until = self._clock() + self._timings.patience
        while True:
            try:
                session = await self._sessions.read(ticket.item_id)
                found = session_status(session)
                if found in reading.ENDED_STATES or asked:
                    images = await self._sessions.images(ticket.item_id, session, ticket.outputs)
                    break
                fault: TransientError = TransientError(f"{self.url} does not end session {ticket.item_id}.")
            except ItemLostError:
                raise
            except TransientError as passing:
                fault = passing
            if self._clock() >= until:
                raise fault
            await asyncio.sleep(self._timings.poll_deaf)
        ended = reading.ended({"status": found, "session": session}, ticket.outputs, asked)
        return self._materials.over(ticket.batch_id, _with_images(ended, images))

    def _note(self, session_id: str, batch_id: str) -> None:
        self._batches[session_id] = batch_id
        while len(self._batches) > SESSIONS_REMEMBERED:
            self._batches.popitem(last=False)

    def _subscriptions(self) -> list[tuple[str, dict[str, str]]]:
        return [("subscribe", {"session": session_id}) for session_id in self._listening]

    def _heard(self, event: str, data: Any) -> None:
        told = reading.mapping(data)
        session_id = reading.text(told.get("graph_execution_state_id")) or ""
        batch_id = self._batches.get(session_id)
        if batch_id is None:
            return
        if event == "invocation_complete":
            self._watch.heard(event, {**told, "batch_id": batch_id, "item_id": session_id})
        elif event in EVENTS:
            self._tell(batch_id, session_id, EVENTS[event])

    def _tell(self, batch_id: str, session_id: str, found: str) -> None:
        about = {"batch_id": batch_id, "item_id": session_id, "status": found}
        self._watch.heard("queue_item_status_changed", about)


def _with_images(ended: ItemEnded, images: Sequence[ServerImage]) -> ItemEnded:
    return ItemEnded(status=ended.status, images=tuple(images), error=ended.error, failed_node=ended.failed_node)
