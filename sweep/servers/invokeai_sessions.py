"""InvokeAI's family by its sessions API (InvokeAI 3.0 and 3.1, the portable document's servers, the sandbox).

What this API cannot tell: how many items of others wait, what others cancelled (InvokeAI 3), and by its clock when an
item was queued, begun and ended.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Unpack

from sweep.errors import ItemLostError, SweepError, TransientError
from sweep.servers import graphs, reading
from sweep.servers.base import Ended, ItemEvent, ServerImage, ServerInfo, Submission, Ticket
from sweep.servers.client import Client, ClientOptions
from sweep.servers.events import Events
from sweep.servers.sessions import Sessions, started, status
from sweep.servers.uploads import BEFORE_3_1
from sweep.servers.watching import Over, Watch

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
        self._events = Events(self._http, self._timings, self._subscriptions, self._heard, self._line_changed)
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
            if session is None or status(session) in reading.TERMINAL:
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

    async def _ended(self, ticket: Ticket, *, asked: bool) -> Ended:
        """Read what became of a session that is over, however long the server takes to answer (to a point)."""
        until = self._clock() + self._timings.patience
        while True:
            try:
                session = await self._sessions.read(ticket.item_id)
                found = status(session)
                if found in reading.TERMINAL or asked:
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


def _with_images(ended: Ended, images: Sequence[ServerImage]) -> Ended:
    return Ended(status=ended.status, images=tuple(images), error=ended.error, failed_node=ended.failed_node)
