"""Workers: each takes an item, runs its nodes in order, and sends the events of its progress."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter, OrderedDict
from typing import Any

from pydantic import ValidationError

from sweep.sandbox.batches import NodeTypes
from sweep.sandbox.database import Store
from sweep.sandbox.events import EventEmitter
from sweep.sandbox.graph_execution import Execution, Prepared
from sweep.sandbox.image_nodes import _IMAGES, DECODERS, Studio, image_graph_key
from sweep.sandbox.nodes import NODES, VALUES, ImageAccess, NodeError, NodeFields
from sweep.sandbox.options import FaultDice, ModelRecord, SandboxOptions, share
from sweep.sandbox.queue import QueueItem, SandboxQueue

_SAMPLERS = {"denoise_latents": "steps", "flux_denoise": "num_steps"}


class NodeCache:
    """Outputs of nodes by everything that went in, the least recently used forgotten first."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.enabled = size > 0
        self.hits = self.misses = 0
        self._outputs: OrderedDict[str, NodeFields] = OrderedDict()

    def get(self, key: str) -> NodeFields | None:
        """Return the output remembered for a key."""
        output = self._outputs.get(key)
        self.hits, self.misses = self.hits + (output is not None), self.misses + (output is None)
        if output is not None:
            self._outputs.move_to_end(key)
        return output

    def put(self, key: str, output: NodeFields) -> None:
        """Remember an output."""
        self._outputs[key] = output
        if len(self._outputs) > self.size:
            self._outputs.popitem(last=False)

    def forget(self, text: str) -> None:
        """Drop the outputs that mention `text` (the name of a deleted image)."""
        for key in [key for key, output in self._outputs.items() if text in json.dumps(output)]:
            del self._outputs[key]

    def clear(self) -> None:
        """Drop all."""
        self._outputs.clear()

    def status(self) -> dict[str, Any]:
        """Return the answer of app/invocation_cache/status."""
        counts = {"size": len(self._outputs), "hits": self.hits, "misses": self.misses}
        return {**counts, "enabled": self.enabled, "max_size": self.size}


class Processor:
    """All workers of one sandbox. `wake` tells them that something changed."""

    def __init__(
        self,
        options: SandboxOptions,
        queue: SandboxQueue,
        types: NodeTypes,
        store: Store,
        desk: ImageAccess,
        studio: Studio,
        events: EventEmitter,
        dice: FaultDice,
    ) -> None:
        self.paused = False
        self.stalled = asyncio.Event()  # set while the server answers
        self.stalled.set()
        self.model_loads: Counter[str] = Counter()
        self.cache = NodeCache(options.node_cache_size)
        self.busy = 0
        self._options, self._queue, self._types, self._store = options, queue, types, store
        self._desk, self._studio, self._events, self._dice = desk, studio, events, dice
        self._changed = asyncio.Event()
        self._cancels: dict[int, asyncio.Event] = {}
        self._loaded: list[str] = [""] * options.workers  # the main model each worker has

    def wake(self) -> None:
        """Have idle workers look at the queue again."""
        self._changed.set()

    def cancel(self, item: QueueItem) -> None:
        """Stop working on an item, if anybody does."""
        if item.item_id in self._cancels:
            self._cancels[item.item_id].set()

    def device(self, worker: int) -> str:
        """Name a worker's device."""
        return "cpu" if self._options.workers == 1 else f"cuda:{worker}"

    async def work(self, worker: int) -> None:
        """Be one worker, until cancelled."""
        while True:
            self._changed.clear()
            item = None if self.paused else self._queue.take(self._preference(worker))
            if item is None:
                await self._changed.wait()
                continue
            self.busy += 1
            try:
                await self._process(item, worker)
            finally:
                self.busy -= 1
                self._cancels.pop(item.item_id, None)
            await asyncio.sleep(0)  # at zero latency nothing else may let the others have a turn

    def _preference(self, worker: int) -> Any:
        loaded = self._loaded[worker]
        if not self._options.affinity or not loaded:
            return None
        return lambda item: any(
            isinstance(value, dict) and value.get("key") == loaded
            for node in item.graph.nodes.values()
            for value in node.values()
        )

    async def _process(self, item: QueueItem, worker: int) -> None:
        stopped = self._cancels[item.item_id] = asyncio.Event()
        self._queue.move(item, "in_progress")
        item.device = self.device(worker)
        await self._store.save([item])
        await self._events.status_changed(item)
        execution = Execution(item.session_id, item.bound(self._types))
        await self._stall(self._options.gc_pause)
        await self._rest(self._options.latency, stopped, item)
        failed = await self._run(item, worker, execution, stopped)
        item.keep_session(execution.to_api())
        if item.status == "in_progress":
            item.error = (failed[1].kind, failed[1].message, _traceback(failed[1])) if failed else None
            self._queue.move(item, "failed" if failed else "completed")
        await self._store.save([item] if item.item_id in self._queue.items else [])
        if item.status != "canceled":
            await self._events.status_changed(item)
        if failed and item.error:
            details = dict(zip(("error_type", "error_message", "error_traceback"), item.error, strict=True))
            await self._events.invocation("error", item, failed[0], **details)

    async def _run(
        self, item: QueueItem, worker: int, execution: Execution, stopped: asyncio.Event
    ) -> tuple[Prepared, NodeError] | None:
        """Run all nodes; the one that failed and how, if any did."""
        graph = json.dumps(execution.graph.to_api())
        while not stopped.is_set() and (prepared := execution.next()) is not None:
            await self._events.invocation("started", item, prepared)
            try:
                output = await self._node(item, worker, prepared, graph, stopped)
            except Exception as error:  # noqa: BLE001 -- whatever a node raises fails its item, as on the real server
                failure = error if isinstance(error, NodeError) else NodeError(type(error).__name__, str(error))
                execution.fail(prepared, failure.kind, failure.message)
                return prepared, failure
            if output is None:
                return None
            execution.complete(prepared, output)
            await self._events.invocation("complete", item, prepared, result={"output_meta": None, **output})
        return None

    async def _node(
        self, item: QueueItem, worker: int, prepared: Prepared, graph: str, stopped: asyncio.Event
    ) -> NodeFields | None:
        """Return a node's output, cached or made now; None where the item was cancelled meanwhile."""
        node = self._checked(prepared)
        key = None
        if node["use_cache"] and self.cache.enabled:
            facts = {name: value for name, value in node.items() if name != "id"}
            key = json.dumps(facts, sort_keys=True)
            cached = self.cache.get(key)
            if cached is not None:
                return cached
        if node["type"] in _SAMPLERS and not await self._sample(item, worker, prepared, stopped):
            return None
        output = await self._make(item, node, graph)
        if key is not None:
            self.cache.put(key, output)
        return output

    def _checked(self, prepared: Prepared) -> NodeFields:
        """Check a node's inputs; refuse as InvokeAI does what is missing or does not fit."""
        schema = self._types.schemas[prepared.node["type"]]
        try:
            node = self._types.accept(prepared.node)
        except ValidationError as error:
            raise NodeError(
                "NodeInputError", f"Node {prepared.node['type']} has invalid incoming input: {error}"
            ) from None
        node["id"] = prepared.id
        prepared.node = node
        for name, field in schema.fields.items():
            if field.required and field.default is None and node[name] is None and field.input != "direct":
                if field.input == "connection":
                    message = f"Node {node['type']} missing connections for field {name}"
                    raise NodeError("RequiredConnectionException", message)
                message = f"Node {node['type']} missing value or connection for field {name}"
                raise NodeError("MissingInputException", message)
        return node

    async def _make(self, item: QueueItem, node: NodeFields, graph: str) -> NodeFields:
        if node["type"] in VALUES:
            return VALUES[node["type"]](node)
        if node["type"] in _IMAGES or node["type"] in DECODERS:
            return await self._studio.make(node, self._desk, item, graph)
        run = NODES.get(node["type"])
        if run is None:
            message = f"The sandbox paints without a {node['type']} node: run this workflow on a real InvokeAI."
            raise NodeError("SandboxUnsupportedNode", message)
        return run(node, self._desk)

    async def _sample(self, item: QueueItem, worker: int, prepared: Prepared, stopped: asyncio.Event) -> bool:
        """Load the model, go through the steps, perhaps fail; False where the item was cancelled meanwhile."""
        node = prepared.node
        holder = node["unet"]["unet"] if "unet" in node else node["transformer"]["transformer"]
        await self._load(self._desk.model(holder, node["type"]), worker, item, prepared)
        if self._dice.happens("fail_rate", image_graph_key(dict(item.bound(self._types).nodes))):
            raise NodeError("OutOfMemoryError", "CUDA out of memory (the sandbox's --fail-rate).")
        whole = node[_SAMPLERS[node["type"]]]
        steps = math.ceil(whole * max(0.0, node["denoising_end"] - node["denoising_start"]) - 1e-9)
        for step in range(steps + 1):
            if stopped.is_set():
                return False
            if self._events.heard:
                done = {"message": "Denoising", "percentage": step / steps if steps else 1.0}
                await self._events.invocation("progress", item, prepared, **done, image=None, device=None)
            if step < steps:
                await self._rest(self._options.step_latency, stopped, item)
        return not stopped.is_set()

    async def _load(self, model: ModelRecord, worker: int, item: QueueItem, prepared: Prepared) -> None:
        if self._loaded[worker] == model["key"]:
            return
        self._loaded[worker] = model["key"]
        self.model_loads[model["name"]] += 1
        part = "transformer" if model["base"] == "flux" else "unet"
        await self._events.model_load("started", model, part)
        said = {"message": f"Loading model {model['name']} ({part})", "percentage": None}
        await self._events.invocation("progress", item, prepared, **said, image=None, device=None)
        await self._events.model_load("complete", model, part)

    async def _rest(self, seconds: float, stopped: asyncio.Event, item: QueueItem) -> None:
        if seconds:
            swing = 2 * share(self._options.seed, "jitter", item.item_id) - 1
            await _wait(stopped, seconds * (1 + self._options.jitter * swing))

    async def _stall(self, seconds: float) -> None:
        """Imitate InvokeAI's garbage collection: nobody is answered meanwhile."""
        if seconds:
            self.stalled.clear()
            try:
                await asyncio.sleep(seconds)
            finally:
                self.stalled.set()

    @property
    def loaded(self) -> frozenset[str]:
        """Keys of the models in memory."""
        return frozenset(key for key in self._loaded if key)


async def _wait(stopped: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopped.wait(), seconds)
    except TimeoutError:
        return


def _traceback(error: NodeError) -> str:
    return (
        "Traceback (most recent call last):\n"
        '  File "sandbox", in run_node\n'
        "    output = invocation.invoke_internal(context=context, services=self._services)\n"
        f"{error.kind}: {error.message}\n"
    )
