"""One sandbox: what its routes call, and the counters that tests and benchmarks read afterwards."""

from __future__ import annotations

import asyncio
import json
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sweep.errors import UsageError
from sweep.sandbox.batches import Batch, RefusedError, builtin_types, read_batch
from sweep.sandbox.database import SqliteStore, Store
from sweep.sandbox.events import EventEmitter
from sweep.sandbox.graph_execution import initial_session
from sweep.sandbox.image_nodes import Facts, Studio, plain_image
from sweep.sandbox.images import ImageLibrary
from sweep.sandbox.nodes import ImageAccess
from sweep.sandbox.options import Accounts, FaultDice, FaultInjection, SandboxOptions, records
from sweep.sandbox.processor import Processor
from sweep.sandbox.queue import TERMINAL_STATUSES, QueueItem, SandboxQueue


class Sandbox:
    """A running sandbox at `url`; its counters prove what a client did."""

    def __init__(self, options: SandboxOptions, events: type[EventEmitter] = EventEmitter) -> None:
        self.options = options
        self.url = ""
        self.version = "6.14.2" if options.api == "queue" else "3.1.1"  # of the InvokeAI whose protocol is spoken
        self.requests: Counter[str] = Counter()  # "GET /api/v1/…" with {names} in it → how many
        self.sessions: dict[str, Any] = {}  # the sessions API's own, by id
        self.workflows: dict[str, dict[str, Any]] = {}  # the library, by id
        self.accounts = Accounts(options.users)
        self._events = events
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Load what is kept under the root and set the workers going."""
        options = self.options
        self.models = records(options.models)
        root = await asyncio.to_thread(self._root)
        self.types = await asyncio.to_thread(builtin_types)
        self.dice = FaultDice(options.faults, options.seed)
        self.queue = SandboxQueue(options.queue_limit)
        self.store = SqliteStore(root / "sandbox.sqlite") if options.root else Store()
        plain = None if options.paint else await asyncio.to_thread(plain_image, options.plain_side)
        self.images = ImageLibrary(root / "images", self.store, plain)
        self.events = self._events(self.queue, self.dice, self.accounts)
        self._threads = ThreadPoolExecutor(options.workers, thread_name_prefix="sandbox-painter")
        self._studio = Studio(self.images, self._threads, self.dice, plain=not options.paint)
        desk = ImageAccess(models=self.models, images=Facts(self.images))
        self.processor = Processor(
            options, self.queue, self.types, self.store, desk, self._studio, self.events, self.dice
        )
        try:
            await self.store.load(self.queue)
        except UsageError:
            await self.store.aclose()
            raise
        await self.images.load()
        self._studio.renders.update(await self.store.renders())
        self._tasks = [asyncio.create_task(self.processor.work(n)) for n in range(options.workers)]

    def _root(self) -> Path:
        if self.options.root is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="sweep-sandbox-", ignore_cleanup_errors=True)
            return Path(self._temporary.name)
        self.options.root.mkdir(parents=True, exist_ok=True)
        return self.options.root

    async def stop(self) -> None:
        """Stop working; the temporary folder, if it was one, goes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.store.aclose()
        await asyncio.to_thread(self._threads.shutdown)
        if self._temporary:
            await asyncio.to_thread(self._temporary.cleanup)

    @property
    def renders(self) -> Counter[str]:
        """Count how often the latents of each key were decoded to an image, over all processes that used the root.

        The key is `sweep_key` of the image's metadata, else a hash of everything the image depends on.
        """
        return self._studio.renders

    @property
    def faults(self) -> FaultInjection:
        """Get the faults that are injected; assign to change them while it runs."""
        return self.dice.faults

    @faults.setter
    def faults(self, faults: FaultInjection) -> None:
        self.dice.faults = faults

    def stats(self) -> dict[str, Any]:
        """Return everything counted, as /sandbox/stats tells it."""
        return {
            "renders": sum(self.renders.values()),
            "doubles": sum(count - 1 for count in self.renders.values()),
            "max_pending": self.queue.max_pending,
            "model_loads": dict(self.processor.model_loads),
            "requests": dict(self.requests),
            "events": self.events.sent,
            "faults": dict(self.dice.committed),
        }

    async def enqueue(self, queue_id: str, body: Any) -> dict[str, Any]:
        """Enqueue a batch as enqueue_batch does, and return its answer. Raises RefusedError."""
        batch = read_batch(body, self.types)
        made = await self.enqueue_batch(queue_id, batch, prepend=bool(body.get("prepend", False)))
        of_batch = self.queue.of_batch(queue_id, batch.frame.batch_id)
        answer = {
            "queue_id": queue_id,
            "enqueued": len(made),
            "requested": batch.requested(),
            "batch": batch.to_api(),
            "priority": made[0].priority if made else 0,
            "item_ids": sorted((item.item_id for item in of_batch), reverse=True),
        }
        await self.events.batch_enqueued(queue_id, answer, batch.frame.origin)
        self.processor.wake()
        return answer

    async def enqueue_batch(self, queue_id: str, batch: Batch, *, prepend: bool) -> list[QueueItem]:
        """Put a batch's items into the queue; workers are not woken yet."""
        made = self.queue.enqueue(queue_id, batch, prepend=prepend)
        await self.store.save(made)
        return made

    def item(self, queue_id: str, item_id: int) -> QueueItem:
        """Get an item of this queue. Raises RefusedError with InvokeAI's 404 and 500."""
        item = self.queue.items.get(item_id)
        message = f"Queue item with id {item_id} not found in queue {queue_id}"
        if item is None:
            raise RefusedError(404, message)
        if item.queue_id != queue_id:
            raise RefusedError(500, f"Unexpected error while fetching queue item: 404: {message}")
        return item

    def full(self, item: QueueItem, doing: str = "fetching queue item") -> dict[str, Any]:
        """Return an item with its session. Raises RefusedError with 500 for a poisonous one, as InvokeAI does."""
        if item.values.poison:
            raise RefusedError(500, f"Unexpected error while {doing}: {item.values.poison}")
        if item.session is None:
            session = initial_session(item.session_id, item.bound(self.types))
        else:
            session = json.loads(zlib.decompress(item.session))
        return {**item.facts(), "session": session, "workflow": item.workflow}

    async def cancel(self, items: Iterable[QueueItem]) -> list[QueueItem]:
        """Cancel the items that have not ended; gives back those it was news to."""
        stopped = [item for item in items if item.status not in TERMINAL_STATUSES]
        for item in stopped:
            self.queue.move(item, "canceled")
            self.processor.cancel(item)
        await self.store.save(stopped)
        self.processor.wake()
        return stopped

    async def cancel_many(self, queue_id: str, items: Iterable[QueueItem]) -> int:
        """Cancel in bulk, with the one event InvokeAI sends for it."""
        stopped = await self.cancel(items)
        if stopped:
            await self.events.items("canceled", queue_id, [item.item_id for item in stopped])
        return len(stopped)

    async def remove(self, items: Iterable[QueueItem]) -> int:
        """Cancel and forget items."""
        gone = list(items)
        await self.cancel(gone)
        gone = [item for item in gone if item.item_id in self.queue.items]
        await self.store.delete(self.queue.remove(gone))
        return len(gone)

    async def retry(self, queue_id: str, items: Iterable[QueueItem]) -> list[int]:
        """Enqueue copies of failed and canceled items; gives back the ids of the originals."""
        pairs = self.queue.retry(items)
        await self.store.save([copy for _, copy in pairs])
        originals = [original.item_id for original, _ in pairs]
        if originals:
            await self.events.items("retried", queue_id, originals)
        self.processor.wake()
        return originals
