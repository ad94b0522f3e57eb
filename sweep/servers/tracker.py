"""Tracks submitted items until they end: by events, and by asking the server where events may be missing.

Events are a hint and the server's own answer is the truth: an event that was lost costs a delay, never a result.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

from sweep.errors import AttemptError, ItemLostError, ServerError, SweepError, TransientError, VariationError
from sweep.servers.base import (
    ItemEnded,
    ItemEvent,
    ItemHeld,
    ItemStarted,
    MissingModelError,
    RefusedImageError,
    Rendered,
    StepDone,
    Ticket,
)
from sweep.servers.http import Http, Timings, is_refusal, read_input_image
from sweep.servers.untrusted_json import shorten
from sweep.workflow import Graph

MOST_REMEMBERED: Final = 20_000  # items submitted whose end nobody has asked for
STEP_EVERY: Final = 0.25  # seconds between two steps that listeners of a server hear of
ENDED_STATES: Final = frozenset({"completed", "failed", "canceled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemState:
    """An item's status and times, as a server's answer or event says."""

    status: str
    batch_id: str | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


Signal: TypeAlias = ItemStarted | ItemHeld | StepDone | Rendered | ItemState | SweepError
"""News of an item. Its final state is the last: the outcome is asked for unless the events had all of it."""


@dataclass(slots=True, eq=False)
class TrackedItem:
    """An item that was submitted, or that somebody waits for."""

    batch_id: str
    item_id: str | None = None
    single_outputs: frozenset[str] = frozenset()  # output nodes that run once: their first image is their only one
    is_covered: bool = False  # every event since its submission was heard
    is_cancel_requested: bool = False  # by us
    taken_up: float | None = None  # by our clock, when the server's event arrived
    overhead: float | None = None  # seconds from then until its first node began
    outputs: tuple[str, ...] = ()  # as whoever listens asks for them
    input_images: tuple[str, ...] = ()  # hashes of those that were uploaded for it
    channel: str | None = None  # the connection it was submitted on, where its events arrive on that one alone
    is_over: bool = False
    known_at: float = 0.0  # by our clock: when its state was last heard or asked for
    log: list[Signal] = field(default_factory=list)
    listeners: list[asyncio.Queue[Signal]] = field(default_factory=list)

    def send(self, signal: Signal) -> None:
        """Send a signal to all present and later listeners; each only once, and none after the end."""
        if self.is_over or (isinstance(signal, Rendered) and signal in self.log):
            return
        if isinstance(signal, ItemStarted) and any(isinstance(known, ItemStarted) for known in self.log):
            return
        if not isinstance(signal, SweepError | ItemHeld | StepDone):
            self.log.append(signal)
        self.is_over = isinstance(signal, ItemState)
        for listener in self.listeners:
            listener.put_nowait(signal)

    def send_step(self, node: str, share: float) -> None:
        """Send how far a node is: untrusted, so never beyond 0 or 1, or no number."""
        self.send(StepDone(node=node, share=min(max(0.0, share), 1.0)))

    def send_state(self, state: ItemState) -> None:
        if state.status == "in_progress":
            self.send(ItemStarted(at=state.started_at))
        elif state.status in ENDED_STATES:
            self.send(state)

    def end_by_events(self, state: ItemState, outputs: Sequence[str]) -> ItemEnded | None:
        """Return the end of a completed item where its events had its times and the one image of every output."""
        images = {signal.image.node: signal.image for signal in self.log if isinstance(signal, Rendered)}
        if state.status != "completed" or not outputs or not self.single_outputs.issuperset(outputs):
            return None
        if None in (state.queued_at, state.started_at, state.finished_at) or not images.keys() >= set(outputs):
            return None
        return ItemEnded(
            status="completed",
            images=tuple(images[node] for node in outputs),
            queued_at=state.queued_at,
            started_at=state.started_at,
            finished_at=state.finished_at,
            overhead=self.overhead,
        )


class ItemTracker:
    """The items of one server by batch id (each batch of ours is one item)."""

    def __init__(self, url: str, timings: Timings) -> None:
        self._url = url
        self._timings = timings
        self._items: OrderedDict[str, TrackedItem] = OrderedDict()
        self._wake = asyncio.Event()
        self._is_due = False  # the server is to be asked now, not at the next beat
        self._silent_since: float | None = None
        self._is_hearing_events = False
        self.channel: str | None = None  # the present connection, where events arrive on one alone
        self.taken_up: set[str] = set()  # batch ids of items whose first node has not begun
        self._next_step: float | None = None  # when a step is wanted again; None: nobody watches

    @contextmanager
    def expect(
        self, batch_id: str, single_outputs: frozenset[str], *, tells_steps: bool = False
    ) -> Iterator[TrackedItem]:
        """Keep events about an item that is submitted within the block, unless the server refuses it."""
        if tells_steps and self._next_step is None:
            self._next_step = time.monotonic()
        item = TrackedItem(batch_id, single_outputs=single_outputs)
        item.is_covered, item.channel = self._is_hearing_events, self.channel
        try:
            yield self._remember(item)
        except VariationError:
            self.forget(batch_id)
            raise

    def _remember(self, item: TrackedItem) -> TrackedItem:
        self._items[item.batch_id] = item
        while len(self._items) > MOST_REMEMBERED:
            self._items.popitem(last=False)
        return item

    def find(self, batch_id: str, item_id: object = None) -> TrackedItem | None:
        """Return the item of a batch; None for a copy that somebody retried, which has our batch id but is not ours."""
        item = self._items.get(batch_id)
        if item is None or item.item_id is None or item_id is None or str(item_id) == item.item_id:
            return item
        return None

    def find_by_item_id(self, item_id: str) -> TrackedItem | None:
        return next((item for item in self._items.values() if item.item_id == item_id), None)

    def forget(self, batch_id: str) -> None:
        self._items.pop(batch_id, None)
        self.taken_up.discard(batch_id)

    def note_cancel_requests(self, batch_ids: Sequence[str]) -> None:
        """Record that we requested the cancellation of these batches."""
        for batch_id in batch_ids:
            item = self._items.get(batch_id) or self._remember(TrackedItem(batch_id))
            item.is_cancel_requested = True
            item.is_covered = False  # who listens now asks at once: a server need not tell of each item it cancels

    def wants_step(self) -> bool:
        """Tell whether to pass on a step now: somebody watches, and the last one is `STEP_EVERY` seconds ago."""
        if self._next_step is None or time.monotonic() < self._next_step:
            return False
        self._next_step = time.monotonic() + STEP_EVERY
        return True

    def list_heard_items(self) -> Iterator[TrackedItem]:
        """Yield the items that somebody listens to and that are not over."""
        return (item for item in self._items.values() if item.listeners and not item.is_over)

    @asynccontextmanager
    async def listen(self, ticket: Ticket) -> AsyncIterator[tuple[TrackedItem, asyncio.Queue[Signal]]]:
        """Give the item and its signals, including those from before."""
        item = self._items.get(ticket.batch_id) or self._remember(TrackedItem(ticket.batch_id))
        item.item_id = item.item_id or ticket.item_id
        item.known_at = time.monotonic()
        queue: asyncio.Queue[Signal] = asyncio.Queue()
        for signal in item.log:
            queue.put_nowait(signal)
        item.listeners.append(queue)
        self._is_due = self._is_due or not item.is_covered
        self._wake.set()
        try:
            yield item, queue
        finally:
            item.listeners.remove(queue)
            if item.is_over and not item.listeners:
                self.forget(ticket.batch_id)

    def note_connection(self, is_up: bool, channel: str | None = None) -> None:
        """Record that the event connection came up or went down: events in between are lost."""
        self._is_hearing_events = is_up
        self.channel = channel
        self.taken_up.clear()
        for item in self._items.values():
            item.is_covered = False
            item.taken_up = None  # the start of its first node may have been missed
        self.request_states()

    def note_state(self, item: TrackedItem, state: ItemState) -> None:
        """Record the state of an item from an event."""
        item.known_at = time.monotonic()
        if state.status != "in_progress":
            self.taken_up.discard(item.batch_id)
        elif item.taken_up is None:
            item.taken_up = time.monotonic()
            self.taken_up.add(item.batch_id)
        item.send_state(state)

    def note_first_node(self, item: TrackedItem) -> None:
        self.taken_up.discard(item.batch_id)
        if item.overhead is None and item.taken_up is not None:
            item.overhead = time.monotonic() - item.taken_up

    def request_states(self) -> None:
        """Ask the server soon: something happened that events do not tell in full, also of items nobody hears yet."""
        for item in self._items.values():
            item.is_covered = False
        self._is_due = True
        self._wake.set()

    def report_failure(self, error: Exception) -> None:
        """Raise for all listeners that the server sent something that cannot be read; listening begins anew."""
        said = shorten(f"{type(error).__name__}: {error}")
        told = TransientError(f"{self._url} said what cannot be read ({said}).", kind="BadAnswer")
        for item in list(self.list_heard_items()):
            item.send(told)

    async def run(self, read_states: StateReader) -> None:
        """Ask the server for states as long as this runs: at once where something was missed, else after silence."""
        while True:
            wait = self._compute_question_delay()
            if wait is None or wait > 0:
                try:
                    async with asyncio.timeout(wait):
                        await self._wake.wait()
                except TimeoutError:
                    continue  # an event may have arrived meanwhile
            self._wake.clear()
            if self._is_due or (wait is not None and wait <= 0):
                self._is_due = False
                await self._reconcile(read_states)
                for item in self.list_heard_items():
                    item.known_at = time.monotonic()

    def _compute_question_delay(self) -> float | None:
        """Return the seconds after which nothing was heard of an item for so long that the server is to be asked."""
        heard = list(self.list_heard_items())
        if not heard:
            return None
        is_cancelling = any(item.is_cancel_requested for item in heard)
        is_well = self._is_hearing_events and self._silent_since is None and not is_cancelling
        is_well = is_well and all(item.channel == self.channel for item in heard)
        pace = self._timings.poll_listening if is_well else self._timings.poll_deaf
        return min(item.known_at for item in heard) + pace - time.monotonic()

    async def _reconcile(self, read_states: StateReader) -> None:
        waiting = [item for item in self.list_heard_items() if item.item_id]
        if not waiting:
            return
        begun = time.monotonic()
        try:
            states = await read_states(waiting)
        except SweepError as error:  # whatever its class: this loop is what everybody waits for
            self._silent_since = begun if self._silent_since is None else self._silent_since
            self._report_silence(waiting, error)
            return
        self._silent_since = None
        for item in waiting:
            state = states.get(item.item_id or "")
            if state is None or (state.batch_id or item.batch_id) != item.batch_id:
                item.send(ItemLostError(f"{self._url} does not know item {item.item_id} any more."))
            else:
                item.is_covered = item.is_covered or self._is_hearing_events
                item.send_state(state)

    def _report_silence(self, waiting: Sequence[TrackedItem], error: SweepError) -> None:
        silent = time.monotonic() - (self._silent_since or 0.0)
        if isinstance(error, ServerError):
            reported: SweepError = error
        elif silent >= (self._timings.gone if is_refusal(error) else self._timings.patience):
            message = f"{self._url} has not answered for {silent:.0f} s ({error.message.rstrip('.')})"
            reported = TransientError(message, kind="NoAnswer")
        else:
            return
        self._silent_since = None
        for item in waiting:
            item.send(reported)


StateReader: TypeAlias = Callable[[Sequence[TrackedItem]], Awaitable[Mapping[str, ItemState]]]
"""Asks the server for the states of items by item id: those missing in its answer are unknown there."""


RESTART: Final = 0.5  # seconds before work that failed begins anew
GRACE: Final = 1.5  # seconds for closing connections politely
CHECKS_AT_ONCE: Final = 4  # graphs that a server is asked to validate at a time


class EventConnection(ABC):
    """A connection on which a server tells events; it is opened anew, after growing pauses, whenever it ends."""

    def __init__(self, http: Http) -> None:
        self._http = http

    @abstractmethod
    async def connect_once(self) -> bool:
        """Hold one connection from handshake to its end; return whether there was one."""

    async def run(self) -> None:
        """Keep the connection up until this is cancelled; raises what an event that cannot be handled raised."""
        timings = self._http.timings
        pause = timings.reconnect
        while True:
            if await self.connect_once():
                pause = timings.reconnect
            await asyncio.sleep(pause)
            pause = min(pause * 2, timings.reconnect_most)


class TrackedServer(ABC):
    """Base class of the clients of all families: events and questions in the background, checks, hearing of items."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._timings = http.timings
        self._tracker = ItemTracker(self.url, self._timings)
        self._tasks: list[asyncio.Task[None]] = []
        self._checks = asyncio.Semaphore(CHECKS_AT_ONCE)
        self.uploads: dict[str, str] = {}  # names of input images on the server by SHA-256
        self._present: set[str] = set()  # hashes of those that are there: others of an earlier run may be deleted
        self._upload_locks: dict[str, asyncio.Lock] = {}

    @abstractmethod
    async def validate(self, graph: Graph, images: Mapping[str, Path]) -> None:
        """Have the server validate a graph. Raises VariationError or MissingModelError where it refuses it."""

    @abstractmethod
    async def has_image(self, name: str) -> bool:
        """Tell whether the server still has an input image of this name."""

    @abstractmethod
    async def send_image(self, file: str, content: bytes) -> str | None:
        """Upload an input image as `file`; return the server's name for it."""

    @abstractmethod
    async def follow(self, ticket: Ticket, item: TrackedItem) -> None:
        """Prepare to hear of an item, before its first signal is waited for."""

    @abstractmethod
    async def read_end(self, ticket: Ticket, item: TrackedItem, state: ItemState) -> ItemEnded:
        """Read the end of an item that is over. Raises AttemptError where the server does not tell."""

    @property
    def url(self) -> str:
        return self._http.address.url

    def start_tracking(self, events: EventConnection, read_states: StateReader) -> None:
        """Listen for events from now on, and ask the server where it tells too little."""
        works = (events.run, lambda: self._tracker.run(read_states))
        self._tasks = [asyncio.create_task(self._repeat(work)) for work in works]

    async def _repeat(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do work in the background, and anew whenever it fails: each failure is reported, none ends it unseen."""
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001  reported, whatever an untrusted server brought about
                self._tracker.report_failure(error)
            await asyncio.sleep(RESTART)

    async def aclose(self) -> None:
        tasks, self._tasks = self._tasks, []  # a second call may come in another event loop
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE)
        await self._http.aclose()

    async def upload(self, sha256: str, path: Path | None) -> str:
        """Return the server's name for an input image, which is sent where the server does not have it.

        Raises VariationError where the file is missing or was changed after the plan was made, RefusedImageError where
        the server does not take it.
        """
        async with self._upload_locks.setdefault(sha256, asyncio.Lock()):
            name = self.uploads.get(sha256)
            if name is None or not (sha256 in self._present or await self.has_image(name)):
                content, ending = await read_input_image(sha256, path)
                try:
                    name = await self.send_image(f"{sha256}{ending}", content)
                except AttemptError as error:
                    if isinstance(error, TransientError) and not error.kind.startswith("HTTP 5"):
                        raise
                    message = f"{path.name if path else sha256}: the server does not take the input image: {error}"
                    raise RefusedImageError(message) from None
            if name is None:
                raise TransientError(f"{self.url} gave no name for an uploaded image.", kind="BadAnswer")
            self._present.add(sha256)
            self.uploads[sha256] = name
            return name

    def forget_upload(self, sha256: str) -> None:
        """Forget an image that the server says is gone: the next to ask uploads it anew."""
        self._present.discard(sha256)
        self.uploads.pop(sha256, None)

    async def check(self, graphs: Sequence[Graph], images: Mapping[str, Path]) -> list[str | None]:
        return list(await asyncio.gather(*(self._check(graph, images) for graph in graphs)))

    async def _check(self, graph: Graph, images: Mapping[str, Path]) -> str | None:
        async with self._checks:
            try:
                await self.validate(graph, images)
            except RefusedImageError:
                return None  # the points that use it fail, each by itself
            except (VariationError, MissingModelError) as error:
                return str(error)
        return None

    async def hear(self, ticket: Ticket) -> AsyncIterator[ItemEvent]:
        async with self._tracker.listen(ticket) as (item, signals):
            await self.follow(ticket, item)
            while True:
                signal = await signals.get()
                if isinstance(signal, SweepError):
                    raise signal
                if isinstance(signal, ItemState):
                    yield await self._read_end(ticket, item, signal)
                    return
                yield signal

    async def _read_end(self, ticket: Ticket, item: TrackedItem, state: ItemState) -> ItemEnded:
        """Read the end of an item that is over, however long the server takes to answer (within `patience`)."""
        begun = time.monotonic()
        until = begun + self._timings.patience
        while True:
            try:
                return await self.read_end(ticket, item, state)
            except ItemLostError:
                raise
            except AttemptError as error:  # a refusal of the question, too, says nothing about the item
                if is_refusal(error):
                    until = min(until, begun + self._timings.gone)
                if time.monotonic() >= until:
                    raise TransientError(error.message, kind=error.kind) from None
            await asyncio.sleep(self._timings.poll_deaf)


def make_cancellation_error(asked: bool) -> AttemptError:
    """Return the error of a cancelled item: whether we asked for that, or somebody else did."""
    if asked:
        return TransientError("cancelled by sweep", kind="Cancelled")
    return ItemLostError("the server cancelled the item; nobody here asked for it (a restart does that)")
