"""InvokeAI by its session queue (releases 3.2 to 6.14, and the sandbox): the client that fulfils `Server`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

from sweep.errors import (
    ItemLostError,
    OverloadedError,
    ServerUnsupportedError,
    SweepError,
    TransientError,
    VariationError,
)
from sweep.servers import faults, graphs, reading
from sweep.servers.base import Ended, ItemEvent, ServerInfo, Submission, Ticket
from sweep.servers.client import Client, ClientOptions
from sweep.servers.events import Events, useful
from sweep.servers.queueing import Queue, unsupported
from sweep.servers.watching import Over, Watch


class InvokeAI(Client):
    """A server that speaks InvokeAI's queue API. `queue_id` is a queue of one's own, run by the same worker as
    everybody's.
    """

    def __init__(self, url: str, *, queue_id: str = "default", **options: Unpack[ClientOptions]) -> None:
        super().__init__(url, **options)
        self._queue = Queue(self._http, queue_id)
        self._watch = Watch(self.url, self._queue.states, self._timings, self._clock)
        subscription = ("subscribe_queue", {"queue_id": queue_id})
        self._events = Events(
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

    async def _ended(self, ticket: Ticket, *, asked: bool) -> Ended:
        """Read what became of an item that is over, however long the server takes to answer (to a point)."""
        begun = self._clock()
        until = begun + self._timings.patience
        while True:
            try:
                item = await self._queue.item(ticket.item_id)
                if item.get("status") in reading.TERMINAL:
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
