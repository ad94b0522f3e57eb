"""Workers: each takes an item from the queue, executes its graph node by node, and reports events and results."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from sweep.sandbox.graph_expansion import ExpandedGraph, NodeCopy
from sweep.sandbox.http_requests import RefusedError
from sweep.sandbox.item_queue import QueueItem, SandboxQueue, Store
from sweep.sandbox.model_catalogue import ModelRecord
from sweep.sandbox.nodes import STEP_FIELDS, NodeContext, NodeError, NodeFields, run_node
from sweep.sandbox.posted_batches import GraphTemplate, NodeTypes
from sweep.sandbox.sandbox_options import SandboxOptions, share
from sweep.sandbox.socket_events import EventEmitter

NODE_CACHE_SIZE = 512


class NodeCache:
    """Caches the outputs of nodes by all their inputs; the least recently used are dropped first."""

    def __init__(self) -> None:
        self._hits = self._misses = 0
        self._outputs: OrderedDict[str, NodeFields] = OrderedDict()

    def get(self, key: str) -> NodeFields | None:
        """Return the output of a key; None where there is none."""
        if key not in self._outputs:
            self._misses += 1
            return None
        self._hits += 1
        self._outputs.move_to_end(key)
        return self._outputs[key]

    def put(self, key: str, output: NodeFields) -> None:
        """Store an output."""
        self._outputs[key] = output
        if len(self._outputs) > NODE_CACHE_SIZE:
            self._outputs.popitem(last=False)

    def forget(self, text: str) -> None:
        """Drop the outputs that mention `text` (the name of a deleted image)."""
        for key in [key for key, output in self._outputs.items() if text in json.dumps(output)]:
            del self._outputs[key]

    def status(self) -> dict[str, Any]:
        """Return the answer of app/invocation_cache/status."""
        counts = {"size": len(self._outputs), "hits": self._hits, "misses": self._misses}
        return {**counts, "enabled": True, "max_size": NODE_CACHE_SIZE}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJob:
    """An item that a worker renders: the graph with its values, and an event that is set when it is cancelled."""

    item: QueueItem
    worker: int
    stopped: asyncio.Event
    graph: GraphTemplate


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
    answering: asyncio.Event = field(default_factory=asyncio.Event)  # cleared while garbage is collected
    model_loads: Counter[str] = field(default_factory=Counter)
    cache: NodeCache = field(default_factory=NodeCache)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _cancels: dict[int, asyncio.Event] = field(default_factory=dict)
    _loaded: dict[int, str] = field(default_factory=dict)  # worker → key of the main model it has

    def __post_init__(self) -> None:
        self.answering.set()

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
        await self.store.save(stopped)
        self.wake()
        return stopped

    def name_device(self, worker: int) -> str:
        """Name a worker's device."""
        return "cpu" if self.options.workers == 1 else f"cuda:{worker}"

    async def work(self, worker: int) -> None:
        """Render one item after the other, until cancelled."""
        while True:
            self._changed.clear()
            item = None if self.paused else self.queue.take(self._prefer_loaded(worker))
            if item is None:
                await self._changed.wait()
                continue
            self.busy += 1
            try:
                await self._process(item, worker)
            finally:
                self.busy -= 1
                self._cancels.pop(item.item_id, None)
            await asyncio.sleep(0)  # without latency, nothing else lets other tasks run

    def _prefer_loaded(self, worker: int) -> Callable[[QueueItem], bool] | None:
        """Build the test whether an item names the model that this worker has loaded: InvokeAI prefers such items."""
        loaded = self._loaded.get(worker)
        if loaded is None:
            return None
        return lambda item: any(
            isinstance(value, dict) and value.get("key") == loaded
            for node in item.graph.nodes.values()
            for value in node.values()
        )

    async def _process(self, item: QueueItem, worker: int) -> None:
        stopped = self._cancels[item.item_id] = asyncio.Event()
        self.queue.move(item, "in_progress")
        item.device = self.name_device(worker)
        await self.store.save([item])
        await self.events.status_changed(item)
        job = WorkerJob(item=item, worker=worker, stopped=stopped, graph=item.bind(self.types))
        if self.options.gc_pause:  # InvokeAI collects garbage and answers no request meanwhile
            self.answering.clear()
            try:
                await asyncio.sleep(self.options.gc_pause)
            finally:
                self.answering.set()
        await self._rest(self.options.latency, job)
        expanded = ExpandedGraph(item.session_id, job.graph)
        failed = await self._run(job, expanded)
        item.keep_session(expanded.to_api())
        if item.status == "in_progress":
            item.error = (failed[1].kind, failed[1].message, _write_traceback(failed[1])) if failed else None
            self.queue.move(item, "failed" if failed else "completed")
        await self.store.save([item] if item.item_id in self.queue.items else [])
        if item.status != "canceled":
            await self.events.status_changed(item)
        if failed and item.error:
            await self.events.invocation("error", item, failed[0].source, failed[0].node, **item.describe_error())

    async def _run(self, job: WorkerJob, expanded: ExpandedGraph) -> tuple[NodeCopy, NodeError] | None:
        """Run all nodes; return the one that failed and its failure, or None."""
        graph = json.dumps(job.graph.to_api())
        while not job.stopped.is_set() and (prepared := expanded.next()) is not None:
            await self.events.invocation("started", job.item, prepared.source, prepared.node)
            try:
                output = await self._node(job, prepared, graph)
            except Exception as error:  # noqa: BLE001 -- whatever a node raises fails its item, as on the real server
                failure = _describe_failure(error)
                expanded.errors[prepared.id] = f"{failure.kind}: {failure.message}"
                return prepared, failure
            if output is None:
                return None
            expanded.complete(prepared, output)
            result = {"output_meta": None, **output}
            await self.events.invocation("complete", job.item, prepared.source, prepared.node, result=result)
        return None

    async def _node(self, job: WorkerJob, prepared: NodeCopy, graph: str) -> NodeFields | None:
        """Return a node's output, cached or made now; None where the item was cancelled meanwhile."""
        node = self._check_inputs(prepared)
        key = None
        if node["use_cache"]:
            key = json.dumps({name: value for name, value in node.items() if name != "id"}, sort_keys=True)
            cached = self.cache.get(key)
            if cached is not None:
                return cached
        if node["type"] in STEP_FIELDS and not await self._sample(job, prepared):
            return None
        output = await self._make(job.item, node, graph)
        if key is not None:
            self.cache.put(key, output)
        return output

    def _check_inputs(self, prepared: NodeCopy) -> NodeFields:
        """Check a node's inputs. Raises NodeError, as InvokeAI does, for a missing or unfitting one."""
        kind = prepared.node["type"]
        if prepared.inputs:  # a node without edges was checked when it was posted
            try:
                prepared.node = {**self.types.accept(prepared.node), "id": prepared.id}
            except ValidationError as error:
                raise NodeError("NodeInputError", f"Node {kind} has invalid incoming input: {error}") from None
        node = prepared.node
        for name, field_ in self.types.schemas[kind].fields.items():
            if field_.input != "direct" and field_.required and field_.default is None and node[name] is None:
                only_edge = field_.input == "connection"
                missing = "RequiredConnectionException" if only_edge else "MissingInputException"
                lacking = "connections" if only_edge else "value or connection"
                raise NodeError(missing, f"Node {kind} missing {lacking} for field {name}")
        return node

    async def _make(self, item: QueueItem, node: NodeFields, graph: str) -> NodeFields:
        return await run_node(node, self.context, item, graph)

    async def _sample(self, job: WorkerJob, prepared: NodeCopy) -> bool:
        """Load the model, go through the steps, perhaps fail; False where the item was cancelled meanwhile."""
        node = prepared.node
        holder = node["unet"]["unet"] if "unet" in node else node["transformer"]["transformer"]
        await self._load(self.context.model(holder, node["type"]), job, prepared)
        if self.context.dice.faults.fail_rate:
            nodes = json.dumps(dict(job.graph.nodes), sort_keys=True).encode()
            if self.context.dice.happens("fail_rate", hashlib.blake2b(nodes, digest_size=16).hexdigest()):
                raise NodeError("OutOfMemoryError", "CUDA out of memory (the sandbox's --fail-rate).")
        whole = node[STEP_FIELDS[node["type"]]]
        steps = math.ceil(whole * max(0.0, node["denoising_end"] - node["denoising_start"]) - 1e-9)
        for step in range(steps + 1):
            if job.stopped.is_set():
                return False
            await self._report(job, prepared, "Denoising", step / steps if steps else 1.0)
            if step < steps:
                await self._rest(self.options.step_latency, job)
        return not job.stopped.is_set()

    async def _load(self, model: ModelRecord, job: WorkerJob, prepared: NodeCopy) -> None:
        if self._loaded.get(job.worker) == model["key"]:
            return
        self._loaded[job.worker] = model["key"]
        self.model_loads[model["name"]] += 1
        part = "transformer" if model["base"] == "flux" else "unet"
        await self.events.model_load("started", model, part)
        await self._report(job, prepared, f"Loading model {model['name']} ({part})", None)
        await self.events.model_load("complete", model, part)

    async def _report(self, job: WorkerJob, prepared: NodeCopy, message: str, share_done: float | None) -> None:
        told = {"message": message, "percentage": share_done, "image": None, "device": None}
        await self.events.invocation("progress", job.item, prepared.source, prepared.node, **told)

    async def _rest(self, seconds: float, job: WorkerJob) -> None:
        """Wait for about as long, or until the item is cancelled."""
        if seconds:
            swing = 2 * share(self.options.seed, "jitter", job.item.item_id) - 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(job.stopped.wait(), seconds * (1 + self.options.jitter * swing))


def _describe_failure(error: Exception) -> NodeError:
    if isinstance(error, RefusedError):  # the image library has no such image
        return NodeError("ImageRecordNotFoundException", "Image record not found")
    return error if isinstance(error, NodeError) else NodeError(type(error).__name__, str(error))


def _write_traceback(error: NodeError) -> str:
    return (
        "Traceback (most recent call last):\n"
        '  File "sandbox", in run_node\n'
        "    output = invocation.invoke_internal(context=context, services=self._services)\n"
        f"{error.kind}: {error.message}\n"
    )
