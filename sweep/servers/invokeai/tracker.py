"""What becomes of the items somebody waits for: told by events, and by the server's own state where events may lack."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeGuard

from sweep.errors import ItemLostError, ServerError, SweepError, TransientError
from sweep.servers.base import ItemEnded, ItemStarted, Rendered, ServerImage, Ticket
from sweep.servers.invokeai.http import Timings
from sweep.servers.invokeai.responses import (
    ENDED_STATES,
    ItemState,
    is_refusal,
    mapping,
    read_item_state,
    result_images,
    text,
)

MOST_REMEMBERED = 20_000  # items submitted whose end nobody has asked for


@dataclass(frozen=True, slots=True)
class Over:
    """The item has reached a terminal state; what it brought is asked for by whoever waits, unless it was told."""

    state: ItemState


Signal: TypeAlias = ItemStarted | Rendered | Over | SweepError


@dataclass(slots=True, eq=False)
class TrackedItem:
    """One item that is waited for, or was submitted and will be."""

    batch_id: str
    item_id: str | None = None
    early: frozenset[str] = frozenset()  # output nodes that run once, so that their first image is theirs
    covered: bool = False  # every event since its submission was heard
    asked: bool = False  # we asked for its cancellation
    taken_up: float | None = None  # by our clock, when the server's event said so
    overhead: float | None = None  # seconds from then until its first node began
    log: list[Signal] = field(default_factory=list)
    listeners: list[asyncio.Queue[Signal]] = field(default_factory=list)

    def tell(self, signal: Signal) -> None:
        """To all who listen, and to all who come later."""
        if self.over or (isinstance(signal, ItemStarted | Rendered) and signal in self.log):
            return
        if isinstance(signal, ItemStarted) and any(isinstance(known, ItemStarted) for known in self.log):
            return
        if not isinstance(signal, SweepError):
            self.log.append(signal)
        for listener in self.listeners:
            listener.put_nowait(signal)

    @property
    def over(self) -> bool:
        return any(isinstance(signal, Over) for signal in self.log)

    def told_in_full(self, over: Over, outputs: Sequence[str]) -> ItemEnded | None:
        """What became of a completed item, where events told its times and the one image of every output."""
        told, images_ = over.state, {signal.image.node: signal.image for signal in self.log if _is_image(signal)}
        if told.status != "completed" or not outputs or not self.early.issuperset(outputs):
            return None
        if None in (told.queued_at, told.started_at, told.finished_at) or not images_.keys() >= set(outputs):
            return None
        return ItemEnded(
            status="completed",
            images=tuple(images_[node] for node in outputs),
            queued_at=told.queued_at,
            started_at=told.started_at,
            finished_at=told.finished_at,
            overhead=self.overhead,
        )


class Watch:
    """The items of one server, by batch id (each batch of ours is one item).

    `states` asks the server for the states of items: those missing in its answer are unknown there.
    """

    def __init__(
        self,
        url: str,
        states: Callable[[Sequence[TrackedItem]], Awaitable[Mapping[str, ItemState]]],
        timings: Timings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._states = states
        self._timings = timings
        self._clock = clock
        self._items: OrderedDict[str, TrackedItem] = OrderedDict()
        self._wake = asyncio.Event()
        self._due = False  # the server is to be asked now, not at the next beat
        self._stopped = False
        self._silent_since: float | None = None
        self._listening_to_events = False
        self._taken_up: set[str] = set()  # batch ids of items whose first node has not begun

    def expect(self, batch_id: str, early: frozenset[str]) -> TrackedItem:
        """Before an item is submitted: from now on events about it are kept."""
        return self._remember(TrackedItem(batch_id, early=early, covered=self._listening_to_events))

    def _remember(self, item: TrackedItem) -> TrackedItem:
        self._items[item.batch_id] = item
        while len(self._items) > MOST_REMEMBERED:
            self._items.popitem(last=False)
        return item

    def drop(self, batch_id: str) -> None:
        """It was not submitted after all, or nobody will ask again."""
        self._items.pop(batch_id, None)
        self._taken_up.discard(batch_id)

    def asked(self, batch_ids: Sequence[str]) -> None:
        """These were cancelled by us."""
        for batch_id in batch_ids:
            item = self._items.get(batch_id) or self._remember(TrackedItem(batch_id))
            item.asked = True

    @property
    def awaits_first_node(self) -> bool:
        """Whether an item was taken up whose first node has not begun: the only start of a node that says something."""
        return bool(self._taken_up)

    def in_flight(self) -> int:
        """How many items of ours are waited for and not over."""
        return sum(1 for item in self._items.values() if item.listeners and not item.over)

    @asynccontextmanager
    async def listening(self, ticket: Ticket) -> AsyncIterator[tuple[TrackedItem, asyncio.Queue[Signal]]]:
        """The item and its signals, those from before included."""
        item = self._items.get(ticket.batch_id) or self._remember(TrackedItem(ticket.batch_id))
        item.item_id = item.item_id or ticket.item_id
        queue: asyncio.Queue[Signal] = asyncio.Queue()
        for signal in item.log:
            queue.put_nowait(signal)
        item.listeners.append(queue)
        self._due = self._due or not item.covered
        self._wake.set()  # with nobody listening before, the loop sleeps without an end
        try:
            yield item, queue
        finally:
            item.listeners.remove(queue)
            if item.over and not item.listeners:
                self.drop(ticket.batch_id)

    def line_changed(self, up: bool) -> None:
        """The socket came up or went down: what happened in between was not heard."""
        self._listening_to_events = up
        self._taken_up.clear()
        for item in self._items.values():
            item.covered = False
            item.taken_up = None  # the start of its first node may have been missed
        self.look()

    def look(self) -> None:
        """Something happened that events do not tell in full: ask the server."""
        self._due = True
        self._wake.set()

    def stop(self) -> None:
        """End `run` soon."""
        self._stopped = True
        self._wake.set()

    async def run(self) -> None:
        """Ask the server: at once where something was missed, else slowly. Until `stop`."""
        begun = self._clock()  # the beat is kept however often somebody new begins to listen
        while not self._stopped:
            pace = self._pace()
            try:
                async with asyncio.timeout(None if pace is None else begun + pace - self._clock()):
                    await self._wake.wait()
            except TimeoutError:
                self._due = True
            self._wake.clear()
            if pace is None:
                begun = self._clock()
            if self._due and not self._stopped:
                self._due = False
                await self._reconcile()
                begun = self._clock()

    def _pace(self) -> float | None:
        if not any(item.listeners for item in self._items.values()):
            return None
        well = self._listening_to_events and self._silent_since is None
        return self._timings.poll_listening if well else self._timings.poll_deaf

    async def _reconcile(self) -> None:
        waiting = [item for item in self._items.values() if item.listeners and item.item_id and not item.over]
        if not waiting:
            return
        asked = self._clock()
        try:
            states = await self._states(waiting)
        except (TransientError, ServerError) as fault:
            self._silent_since = asked if self._silent_since is None else self._silent_since
            self._not_answered(waiting, fault)
            return
        self._silent_since = None
        for item in waiting:
            found = states.get(item.item_id or "")
            if found is None or (found.batch_id or item.batch_id) != item.batch_id:
                item.tell(ItemLostError(f"{self._url} does not know item {item.item_id} any more."))
            else:
                item.covered = item.covered or self._listening_to_events
                _tell_state(item, found)

    def _not_answered(self, waiting: Sequence[TrackedItem], fault: SweepError) -> None:
        silent = self._clock() - (self._silent_since or 0.0)
        if isinstance(fault, ServerError):
            told: SweepError = fault
        elif silent >= (self._timings.gone if is_refusal(fault) else self._timings.patience):
            told = TransientError(f"{self._url} has not answered for {silent:.0f} s ({fault.message})", kind="NoAnswer")
        else:
            return
        self._silent_since = None
        for item in waiting:
            item.tell(told)

    def heard(self, event: str, data: Any) -> None:
        """One event of the socket, of any version of the queue API."""
        payload = mapping(data)
        if event in ("queue_items_canceled", "queue_cleared", "queue_items_retried"):
            self.look()
            return
        inner = mapping(payload.get("queue_item"))  # until 4.2 the item is an object of its own
        batch_id = text(payload.get("batch_id")) or text(payload.get("queue_batch_id")) or text(inner.get("batch_id"))
        item = self._items.get(batch_id or "")
        if item is None or not _same_item(item, payload, inner):
            return
        if event == "queue_item_status_changed":
            told = read_item_state(inner or payload)
            self._note_taken_up(item, told)
            _tell_state(item, told)
        elif event == "invocation_started":
            self._note_first_node(item)
        elif event == "invocation_complete":
            node = text(payload.get("invocation_source_id")) or text(payload.get("source_node_id"))
            found = list(result_images(payload.get("result")))
            if node in item.early and len(found) == 1:
                name, width, height = found[0]
                item.tell(Rendered(image=ServerImage(name=name, node=node or "", width=width, height=height)))

    def _note_taken_up(self, item: TrackedItem, found: ItemState) -> None:
        if found.status == "in_progress" and item.taken_up is None:
            item.taken_up = self._clock()
            self._taken_up.add(item.batch_id)
        elif found.status != "in_progress":
            self._taken_up.discard(item.batch_id)

    def _note_first_node(self, item: TrackedItem) -> None:
        self._taken_up.discard(item.batch_id)
        if item.overhead is None and item.taken_up is not None:
            item.overhead = self._clock() - item.taken_up


def _is_image(signal: Signal) -> TypeGuard[Rendered]:
    return isinstance(signal, Rendered)


def _same_item(item: TrackedItem, payload: Mapping[str, Any], inner: Mapping[str, Any]) -> bool:
    """False for a copy that somebody retried: it has our batch id, and is not ours."""
    told = payload.get("item_id", payload.get("queue_item_id", inner.get("item_id")))
    return item.item_id is None or told is None or str(told) == item.item_id


def _tell_state(item: TrackedItem, found: ItemState) -> None:
    if found.status == "in_progress":
        item.tell(ItemStarted(at=found.started_at))
    elif found.status in ENDED_STATES:
        item.tell(Over(found))
