"""Workers: each takes an item from the queue, executes its graph node by node, and reports events and results."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from sweep.sandbox.graph_checks import NodeTypes
from sweep.sandbox.graph_expansion import ExpandedGraph, NodeCopy
from sweep.sandbox.http_requests import RefusedError
from sweep.sandbox.item_queue import QueueItem, SandboxQueue, Store
from sweep.sandbox.nodes import STEP_FIELDS, NodeContext, NodeError, NodeFields, run_node
from sweep.sandbox.sandbox_options import SandboxOptions, share
from sweep.sandbox.socket_events import EventEmitter
from sweep.workflow import Model


@dataclass(slots=True)
class Workers:
    """Runs the items of a sandbox's queue: each worker takes one item after the other."""

    options: SandboxOptions
    queue: SandboxQueue
    types: NodeTypes
    store: Store
    context: NodeContext
    events: EventEmitter
    paused: bool = False
    busy: int = 0
    garbage: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while it is collected: no request is answered
    model_loads: Counter[str] = field(default_factory=Counter)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _cancels: dict[int, asyncio.Event] = field(default_factory=dict)
    _loaded: dict[int, str] = field(default_factory=dict)  # worker → key of the main model it has

    def wake(self) -> None:
        """Have idle workers look at the queue again."""
        self._changed.set()

    async def cancel(self, items: Iterable[QueueItem]) -> list[QueueItem]:
        """Cancel the items that have not ended, and return these."""
        stopped = [item for item in items if not item.is_ended]
        for item in stopped:
            self.queue.move(item, "canceled")
            if item.item_id in self._cancels:
                self._cancels[item.item_id].set()
        await self.store.save_items(stopped)
        return stopped

    async def work(self, worker: int) -> None:
        """Render one item after the other, until cancelled."""
        while True:
            self._changed.clear()
            item = None if self.paused else self.queue.take()
            if item is None:
                await self._changed.wait()
                continue
            self.busy += 1
            try:
                await self._process(item, worker)
            except Exception as error:  # noqa: BLE001 -- it cannot be saved: the next one perhaps can
                if not item.is_ended:
                    item.error_type, item.error_message = type(error).__name__, str(error)
                    self.queue.move(item, "failed")
            finally:
                self.busy -= 1
                self._cancels.pop(item.item_id, None)
            await asyncio.sleep(0)  # without latency, nothing else lets other tasks run

    async def _process(self, item: QueueItem, worker: int) -> None:
        self._cancels[item.item_id] = asyncio.Event()
        self.queue.move(item, "in_progress")
        await self.store.save_items([item])
        await self.events.announce_status(item)
        if self.options.gc_pause:  # InvokeAI collects garbage and answers no request meanwhile
            async with self.garbage:
                await asyncio.sleep(self.options.gc_pause)
        await self._rest(self.options.latency, item)
        expanded = ExpandedGraph(item.session_id, item.graph)
        failed = await self._run(item, worker, expanded)
        item.keep_session(expanded.to_api())
        if not item.is_ended:
            self.queue.move(item, "failed" if failed else "completed")
        await self.store.save_items([item])
        if item.status != "canceled":
            await self.events.announce_status(item)
        if failed and item.status == "failed":
            error = {"error_type": item.error_type, "error_message": item.error_message}
            await self.events.invocation("error", item, failed.source, failed.node, **error)

    async def _run(self, item: QueueItem, worker: int, expanded: ExpandedGraph) -> NodeCopy | None:
        """Run all nodes, until one fails or the item is cancelled; return the node that failed, or None."""
        graph = json.dumps(item.graph)
        for copy in expanded.expand():
            if item.is_ended:
                return None
            await self.events.invocation("started", item, copy.source, copy.node)
            try:
                output = await self._node(item, worker, copy, graph)
            except Exception as error:  # noqa: BLE001 -- whatever a node raises fails its item, as on the real server
                failure = _describe_failure(error)
                expanded.errors[copy.id] = f"{failure.kind}: {failure.message}"
                if not item.is_ended:
                    item.error_type, item.error_message = failure.kind, failure.message
                return copy
            if output is None:
                return None
            copy.output = output
            await self.events.invocation("complete", item, copy.source, copy.node, result=output)
        return None

    async def _node(self, item: QueueItem, worker: int, copy: NodeCopy, graph: str) -> NodeFields | None:
        """Return a node's output, cached or made now; None where the item was cancelled meanwhile."""
        if copy.inputs:  # a node without edges was checked when it was posted
            copy.node = {**self.types.accept(copy.node), "id": copy.id}
        node, outputs = copy.node, self.context.outputs
        self.context.check_inputs(node)
        key = None
        if node["use_cache"]:
            key = json.dumps({name: value for name, value in node.items() if name != "id"}, sort_keys=True)
            if key in outputs:
                cached: NodeFields = outputs[key]
                return cached
        if node["type"] in STEP_FIELDS and not await self._sample(item, worker, copy):
            return None
        output = await self._make(item, node, graph)
        if key is not None:
            outputs[key] = output
        return output

    async def _make(self, item: QueueItem, node: NodeFields, graph: str) -> NodeFields:
        return await run_node(node, self.context, item, graph)

    async def _sample(self, item: QueueItem, worker: int, copy: NodeCopy) -> bool:
        """Load the model, go through the steps, perhaps fail; False where the item was cancelled meanwhile."""
        node = copy.node
        part = node["unet"] if "unet" in node else node["transformer"]
        await self._load(self.context.model(part["model"]), worker)
        if self.context.dice.faults.fail_rate:
            nodes = json.dumps(item.graph["nodes"], sort_keys=True).encode()
            if self.context.dice.happens("fail_rate", hashlib.blake2b(nodes, digest_size=16).hexdigest()):
                raise NodeError("OutOfMemoryError", "CUDA out of memory (the sandbox's --fail-rate).")
        whole = node[STEP_FIELDS[node["type"]]]
        steps = math.ceil(whole * max(0.0, node["denoising_end"] - node["denoising_start"]) - 1e-9)
        for step in range(steps + 1):
            if item.is_ended:
                return False
            told = {"message": "Denoising", "percentage": step / steps if steps else 1.0, "image": None}
            await self.events.invocation("progress", item, copy.source, node, **told)
            if step < steps:
                await self._rest(self.options.step_latency, item)
        return not item.is_ended

    async def _load(self, model: Model, worker: int) -> None:
        if self._loaded.get(worker) != model.key:
            self._loaded[worker] = model.key
            self.model_loads[model.name] += 1
            await self.events.send("model_load_complete", {"config": asdict(model)})

    async def _rest(self, seconds: float, item: QueueItem) -> None:
        """Wait for about as long, or until the item is cancelled."""
        if seconds:
            swing = 2 * share(self.options.seed, "jitter", item.item_id) - 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._cancels[item.item_id].wait(), seconds * (1 + self.options.jitter * swing))


def _describe_failure(error: Exception) -> NodeError:
    if isinstance(error, RefusedError):  # the image library has no such image
        return NodeError("ImageRecordNotFoundException", "Image record not found")
    return error if isinstance(error, NodeError) else NodeError(type(error).__name__, str(error))
