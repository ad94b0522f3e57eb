"""The client of a ComfyUI: items are prompts under ids that we choose, and files under names that we choose.

A ComfyUI forgets its queue and its history when it dies. What it has rendered stays on its disk, and as each item's
files are named after its batch id, an item that was done is found there and not rendered again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp

from sweep.errors import (
    AttemptError,
    ItemLostError,
    ServerUnsupportedError,
    SweepError,
    TransientError,
    VariationError,
    WorkflowError,
    did_you_mean,
)
from sweep.servers.base import ItemEnded, ItemEvent, MissingModelError, ServerImage, ServerInfo, Submission, Ticket
from sweep.servers.comfyui.events import PromptEvents
from sweep.servers.comfyui.prompts import (
    PREFIX_FIELD,
    SERVER_FOLDER,
    ended_by_history,
    file_prefix,
    history_status,
    image_name,
    image_query,
    read_refusal,
)
from sweep.servers.http import (
    CHECKS_AT_ONCE,
    LARGEST_SCHEMA,
    BackgroundTasks,
    Credentials,
    Http,
    ServerAddress,
    Timings,
    read_input_image,
)
from sweep.servers.responses import mapping, sequence, text
from sweep.servers.tracker import ItemState, ItemTracker, Over, TrackedItem, cancellation_error
from sweep.workflow import (
    Graph,
    ImageRef,
    Json,
    Model,
    ModelRef,
    NodeSchemas,
    Ref,
    fill_defaults,
    model_files,
    read_object_info,
    write_prompt,
)

SETTLING: Final = 0.3  # seconds after which what moved from pending to running meanwhile is cancelled again
COUNTS_KEPT: Final = 1.0  # seconds; reading a long queue costs the server some 40 ms
MOST_FILES: Final = 64  # images of one output that are looked for on the server's disk
_FAMILY: Final = "ComfyUI"
_PREVIEW, _SAVE = "PreviewImage", "SaveImage"


class ComfyUI:
    """A `Server` that is a ComfyUI."""

    def __init__(
        self,
        url: str,
        *,
        credentials: Credentials | None = None,
        ca_file: Path | None = None,
        timings: Timings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timings = timings or Timings()
        self._clock = clock
        self._http = Http(
            ServerAddress.parse(url),
            credentials=credentials,
            ca_file=ca_file,
            timings=self._timings,
            has_login=False,
        )
        self._tracker = ItemTracker(self.url, self._timings, clock)
        self._events = PromptEvents(self._http, self._tracker, self._forget_loaded)
        self._background = BackgroundTasks()
        self._checks = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._schemas: NodeSchemas | None = None
        self._models: dict[ModelRef, Model] = {}
        self._reading = asyncio.Lock()
        self._uploads: dict[str, str] = {}
        self._upload_locks: dict[str, asyncio.Lock] = {}
        self._loaded: frozenset[str] = frozenset()
        self._queue: tuple[float, list[tuple[str, str]]] = (-COUNTS_KEPT, [])

    @property
    def url(self) -> str:
        """See `Server.url`."""
        return self._http.address.url

    async def open(self) -> ServerInfo:
        """See `Server.open`."""
        info = await self._http.introduce(self._introduce)
        self._background.start(self._events.run, self._tracker.report_failure)
        self._background.start(lambda: self._tracker.run(self._read_states), self._tracker.report_failure)
        return info

    async def _introduce(self) -> ServerInfo:
        version = await comfyui_version(self._http)
        if version is None:
            raise ServerUnsupportedError(f"{self.url} answers, but is no ComfyUI (it has no /system_stats).")
        return ServerInfo(name=self._http.address.name, url=self.url, version=version, api="comfyui", family=_FAMILY)

    async def aclose(self) -> None:
        """See `Server.aclose`."""
        self._events.stop()
        self._tracker.stop()
        await self._background.end()
        await self._http.aclose()

    async def schemas(self) -> NodeSchemas:
        """See `Server.schemas`."""
        if self._schemas is None:
            await self._read_nodes()
        assert self._schemas is not None
        return self._schemas

    async def models(self) -> tuple[Model, ...]:
        """See `Server.models`: the files that loaders offer. Contents are not told apart here: hashes are empty."""
        await self._read_nodes()
        return tuple(self._models.values())

    async def _read_nodes(self) -> None:
        async with self._reading:
            answer = await self._http.call("GET", "/object_info", "reading its node types", limit=LARGEST_SCHEMA)
            document = mapping(answer.body)
            try:
                self._schemas = await asyncio.to_thread(read_object_info, document)
            except WorkflowError as error:
                raise ServerUnsupportedError(f"{self.url}: {error.message}") from None
            found = [(kind, name) for kind, names in model_files(document).items() for name in names]
            self._models = {
                ModelRef(name, "any", kind): Model(key=name, hash="", name=name, base="any", type=kind)
                for kind, name in found
            }

    async def check(self, graphs: Sequence[Graph], images: Mapping[str, Path]) -> list[str | None]:
        """See `Server.check`.

        A prompt whose outputs lack a file name is validated in full and never queued. One that has an output without
        such an input would run, so it is not sent.
        """
        return list(await asyncio.gather(*(self._check(graph, images) for graph in graphs)))

    async def _check(self, graph: Graph, images: Mapping[str, Path]) -> str | None:
        async with self._checks:
            try:
                schemas = await self.schemas()
                prompt = await self._write(graph, images, schemas.dialect.find_outputs(graph, schemas), None)
                ends = [node for node in prompt.values() if _is_end(node, schemas)]
                if not ends or any(PREFIX_FIELD not in schemas[node["class_type"]].fields for node in ends):
                    return None
                for node in ends:
                    node["inputs"].pop(PREFIX_FIELD, None)
                await self._post(graph, {"prompt": prompt}, "checking a graph")
            except (VariationError, MissingModelError) as error:
                return str(error)
        return None

    async def submit(self, submission: Submission) -> Ticket:
        """See `Server.submit`.

        `number` is never sent: two pending prompts of one id and one number end the server's worker for good.
        """
        batch_id, outputs = submission.batch_id, submission.outputs
        prompt = await self._write(submission.graph, submission.images, outputs, batch_id)
        item = self._tracker.expect(batch_id, frozenset(outputs))
        marks = {"destination": submission.destination}
        body: dict[str, Any] = {
            "prompt": prompt,
            "prompt_id": batch_id,
            "extra_data": {"sweep": marks, "extra_pnginfo": {"sweep": {**marks, **submission.metadata}}},
        }
        if self._tracker.channel is not None:
            body["client_id"] = self._tracker.channel
        if submission.priority > 0:
            body["front"] = True
        try:
            answer = await self._post(submission.graph, body, "submitting an item")
        except VariationError:
            self._tracker.forget(batch_id)
            raise
        if mapping(answer.get("node_errors")):  # it was queued without the outputs that are wrong
            await self._cancel([batch_id])
            self._tracker.forget(batch_id)
            error = read_refusal(answer, {})
            raise error or VariationError("the server drops an output of this graph", kind="Refused")
        self._loaded = _mains(submission.graph)
        self._queue = (-COUNTS_KEPT, [])
        item.item_id = batch_id
        return Ticket(batch_id=batch_id, item_id=batch_id, outputs=outputs)

    async def _post(self, graph: Graph, body: Mapping[str, Any], what: str) -> dict[str, Any]:
        """Post a prompt; return the answer. Raises VariationError or MissingModelError where it is refused."""
        answer = await self._http.call("POST", "/prompt", what, body=body, also=(400,))
        told = mapping(answer.body)
        if answer.status == 400:
            error = read_refusal(told, _models(graph))
            if error is not None and "custom_validation_failed" in str(told):
                self._uploads.clear()  # an input image may be gone: it is uploaded anew next time
            if error is not None:
                raise error
        return told

    async def _write(
        self, graph: Graph, images: Mapping[str, Path], outputs: Sequence[str], batch_id: str | None
    ) -> dict[str, dict[str, Any]]:
        """Return the prompt of a graph for this server: names for references, defaults, and where images are saved."""
        if not graph.nodes:
            raise VariationError("the graph has no nodes", kind="Refused")
        refs = graph.references()
        names: dict[Ref, Json] = {ref: await self._model(ref) for ref in refs if isinstance(ref, ModelRef)}
        for ref in sorted(ref for ref in refs if isinstance(ref, ImageRef)):
            names[ref] = await self._upload(ref.sha256, images.get(ref.sha256))
        prompt = write_prompt(graph, lambda ref: names.get(ref, ""))
        for number, output in enumerate(outputs):
            node = prompt[output]
            node["class_type"] = _SAVE if node["class_type"] == _PREVIEW else node["class_type"]
            if batch_id is not None:
                node["inputs"][PREFIX_FIELD] = file_prefix(batch_id, number)
        fill_defaults(prompt, await self.schemas())
        return prompt

    async def _model(self, ref: ModelRef) -> str:
        if ref not in self._models:
            await self._read_nodes()
        if ref not in self._models:
            alike = [known.name for known in self._models if known.type == ref.type]
            raise MissingModelError(
                f"{self.url} has no {ref.type} model {ref.name!r}.{did_you_mean(ref.name, alike)}", ref=ref
            )
        return ref.name

    async def _upload(self, sha256: str, path: Path | None) -> str:
        """Return the server's name for an input image: equal content has an equal name, so nothing is kept twice."""
        async with self._upload_locks.setdefault(sha256, asyncio.Lock()):
            if sha256 not in self._uploads:
                content, ending = await read_input_image(sha256, path)

                def form() -> aiohttp.FormData:
                    made = aiohttp.FormData({"subfolder": SERVER_FOLDER, "type": "input", "overwrite": "true"})
                    made.add_field("image", content, filename=f"{sha256}{ending}")
                    return made

                answer = await self._http.post_form("/upload/image", "uploading an input image", form, {})
                told = mapping(answer.body)
                name = text(told.get("name"))
                if name is None:
                    raise TransientError(f"{self.url} gave no name for an uploaded image.", kind="BadAnswer")
                folder = text(told.get("subfolder"))
                self._uploads[sha256] = f"{folder}/{name}" if folder else name
            return self._uploads[sha256]

    async def hear(self, ticket: Ticket) -> AsyncIterator[ItemEvent]:
        """See `Server.hear`."""
        if ticket.item_id != ticket.batch_id:
            raise ItemLostError(f"{self.url} does not know item {ticket.item_id}.")
        async with self._tracker.listen(ticket) as (item, signals):
            item.outputs = ticket.outputs or item.outputs
            while True:
                signal = await signals.get()
                if isinstance(signal, SweepError):
                    raise signal
                if isinstance(signal, Over):
                    yield await self._read_end(ticket, item)
                    return
                yield signal

    async def _read_end(self, ticket: Ticket, item: TrackedItem) -> ItemEnded:
        until = self._clock() + self._timings.patience
        while True:
            try:
                entry = await self._history(ticket.batch_id)
                if entry is not None:
                    return ended_by_history(entry, ticket.outputs, item.is_cancel_requested)
                images = await self._files(ticket.batch_id, ticket.outputs)
                if images:
                    return ItemEnded(status="completed", images=images)
                error: AttemptError = cancellation_error(item.is_cancel_requested)
                return ItemEnded(status="canceled", error=error)
            except TransientError:
                if self._clock() >= until:
                    raise
            await asyncio.sleep(self._timings.poll_deaf)

    async def _read_states(self, items: Sequence[TrackedItem]) -> Mapping[str, ItemState]:
        """Return how far items are: the queue is asked first, as an item moves from there to the history."""
        queued = {item_id: "in_progress" if is_running else "pending" for item_id, is_running in await self._queued()}
        found: dict[str, ItemState] = {}
        for item in items:
            status: str | None = queued.get(item.batch_id)
            if status is None:
                entry = await self._history(item.batch_id)
                status = history_status(entry) if entry is not None else None
            if status is None and await self._files(item.batch_id, item.outputs or tuple(item.single_outputs)[:1]):
                status = "completed"
            if status is None and item.is_cancel_requested:
                status = "canceled"
            if status is not None:
                found[item.batch_id] = ItemState(status=status, batch_id=item.batch_id)
        return found

    async def _queued(self) -> list[tuple[str, bool]]:
        """Return the ids of all prompts in the queue, and whether they are running."""
        answer = mapping((await self._http.call("GET", "/queue", "reading its queue")).body)
        running, pending = sequence(answer.get("queue_running")), sequence(answer.get("queue_pending"))
        entries = [(entry, True) for entry in running] + [(entry, False) for entry in pending]
        known = [(entry, is_running) for entry, is_running in entries if isinstance(entry, list) and len(entry) > 3]
        self._queue = (self._clock(), [(str(entry[1]), _destination(entry)) for entry, _ in known])
        return [(str(entry[1]), is_running) for entry, is_running in known]

    async def _history(self, batch_id: str) -> dict[str, Any] | None:
        answer = await self._http.call("GET", f"/history/{batch_id}", "reading an item")
        return mapping(mapping(answer.body).get(batch_id)) or None

    async def _files(self, batch_id: str, outputs: Sequence[str]) -> tuple[ServerImage, ...]:
        """Return the images of an item that lie on the server's disk; none unless every output has one."""
        found: list[ServerImage] = []
        for number, node in enumerate(outputs):
            folder, _, stem = file_prefix(batch_id, number).rpartition("/")
            for place in range(MOST_FILES):
                file = {"filename": f"{stem}_{place + 1:05}_.png", "subfolder": folder, "type": "output"}
                if not await self._http.exists("/view", "looking for an image", file):
                    break
                found.append(ServerImage(name=str(image_name(file)), node=node, iteration=place))
            else:
                continue
            if not any(image.node == node for image in found):
                return ()
        return tuple(found)

    async def find(self, batch_id: str, outputs: tuple[str, ...] = ()) -> Ticket | None:
        """See `Server.find`: in the queue, the history, and on the disk."""
        ticket = Ticket(batch_id=batch_id, item_id=batch_id, outputs=outputs)
        if batch_id in dict(await self._queued()) or await self._history(batch_id) is not None:
            return ticket
        return ticket if await self._files(batch_id, outputs or ("",)) else None

    async def fetch(self, image: ServerImage, limit: int) -> bytes:
        """See `Server.fetch`."""
        data = await self._http.download("/view", "downloading an image", limit, image_query(image.name))
        if data is None:
            raise TransientError(f"{self.url} does not have the image any more.", kind="ImageGone")
        return data

    async def cancel(self, batch_ids: Sequence[str]) -> None:
        """See `Server.cancel`. An interruption always names its prompt: without a name it stops other people's."""
        if not batch_ids:
            return
        self._tracker.note_cancel_requests(batch_ids)
        await self._cancel(batch_ids)
        await asyncio.sleep(SETTLING)
        left = dict(await self._queued())
        if moved := [batch_id for batch_id in batch_ids if batch_id in left]:
            await self._cancel(moved)
        self._tracker.request_states()

    async def _cancel(self, batch_ids: Sequence[str]) -> None:
        what = "cancelling"
        await self._http.call("POST", "/queue", what, body={"delete": list(batch_ids)}, repeat=True)
        running = {batch_id for batch_id, is_running in await self._queued() if is_running}
        for batch_id in running.intersection(batch_ids):
            await self._http.call("POST", "/interrupt", what, body={"prompt_id": batch_id}, repeat=True)

    async def loaded(self) -> frozenset[str]:
        """See `Server.loaded`: the main models of the last item of ours."""
        return self._loaded

    def _forget_loaded(self) -> None:
        self._loaded = frozenset()

    async def others_waiting(self, ours: str) -> int:
        """See `Server.others_waiting`."""
        if self._clock() - self._queue[0] >= COUNTS_KEPT:
            await self._queued()
        return sum(1 for _, destination in self._queue[1] if destination != ours)


async def comfyui_version(http: Http) -> str | None:
    """Ask whether a ComfyUI answers; return its version, or None for something else."""
    try:
        answer = await http.call("GET", "/system_stats", "asking who answers", also=(400, 401, 403, 404, 405, 422))
    except TransientError as error:
        if error.kind == "BadAnswer":  # an InvokeAI answers every path it does not know with its page
            return None
        raise
    return text(mapping(mapping(answer.body).get("system")).get("comfyui_version")) if answer.status == 200 else None


def _models(graph: Graph) -> dict[tuple[str, str], ModelRef]:
    fields = [(node.id, name, value) for node in graph.nodes.values() for name, value in node.fields.items()]
    return {(node, name): value for node, name, value in fields if isinstance(value, ModelRef)}


def _destination(entry: Sequence[Any]) -> str:
    return str(mapping(mapping(entry[3]).get("sweep")).get("destination") or "")


def _mains(graph: Graph) -> frozenset[str]:
    return frozenset(r.name for r in graph.references() if isinstance(r, ModelRef) and r.type == "main")


def _is_end(node: Mapping[str, Any], schemas: NodeSchemas) -> bool:
    schema = schemas.get(node["class_type"])
    return schema is not None and schema.output_class == "output"
