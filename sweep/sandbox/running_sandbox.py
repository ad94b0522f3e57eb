"""The sandbox: its parts put together, started and stopped, with counters that tests and benchmarks read."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sweep.sandbox.graph_checks import builtin_types
from sweep.sandbox.http_requests import Accounts
from sweep.sandbox.image_library import ImageLibrary, make_plain_image
from sweep.sandbox.item_queue import SandboxQueue, Store
from sweep.sandbox.item_workers import Workers
from sweep.sandbox.model_catalogue import catalogue
from sweep.sandbox.nodes import NodeContext
from sweep.sandbox.sandbox_options import FaultDice, FaultInjection, SandboxOptions
from sweep.sandbox.socket_events import EventEmitter


class Sandbox:
    """A running sandbox at `url`; its counters show how often a client asked, and how often an image was rendered."""

    def __init__(self, options: SandboxOptions, events: type[EventEmitter] = EventEmitter) -> None:
        self.options = options
        self.url = ""
        self.version = "6.14.2" if options.api == "queue" else "3.1.1"  # of the InvokeAI that it imitates
        self.requests: Counter[str] = Counter()  # how often each route was asked for, such as "GET /api/v1/…/{name}"
        self.sessions: dict[str, Any] = {}  # of the sessions API, by id
        self.workflows: dict[str, dict[str, Any]] = {}  # the workflow library, by id
        self.accounts = Accounts(options.users)
        self.dice = FaultDice(options.faults, options.seed)
        self.queue = SandboxQueue(options.queue_limit)
        self.events = events(self.dice, self.accounts)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Load the queue and the images under the root, and start the workers."""
        options = self.options
        self.models = {model.key: model for model in catalogue(options.models)}
        root = await asyncio.to_thread(self._make_root)
        self.types = await asyncio.to_thread(builtin_types)
        self.store = Store(root / "sandbox.sqlite" if options.root else None)
        plain = None if options.paint else await asyncio.to_thread(make_plain_image, options.plain_side)
        self.images = ImageLibrary(root / "images", self.store, plain)
        self.renders = self.images.renders  # by `sweep_key` of the metadata, or a hash
        self._threads = ThreadPoolExecutor(options.workers, thread_name_prefix="sandbox-painter")
        self.context = NodeContext(
            schemas=self.types.schemas, models=self.models, images=self.images, dice=self.dice, threads=self._threads
        )
        self.workers = Workers(options, self.queue, self.types, self.store, self.context, self.events)
        await self.store.load_queue(self.queue)
        await self.images.load()
        self._tasks = [asyncio.create_task(self.workers.work(n)) for n in range(options.workers)]

    def _make_root(self) -> Path:
        if self.options.root is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="sweep-sandbox-", ignore_cleanup_errors=True)
            return Path(self._temporary.name)
        self.options.root.mkdir(parents=True, exist_ok=True)
        return self.options.root

    async def stop(self) -> None:
        """Stop the workers, and delete the temporary folder if there is one."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.store.aclose()
        await asyncio.to_thread(self._threads.shutdown)
        if self._temporary:
            await asyncio.to_thread(self._temporary.cleanup)

    @property
    def faults(self) -> FaultInjection:
        """Get the faults that are injected; assign to change them while it runs."""
        return self.dice.faults

    @faults.setter
    def faults(self, faults: FaultInjection) -> None:
        self.dice.inject(faults)
