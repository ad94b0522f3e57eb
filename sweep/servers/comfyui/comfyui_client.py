"""A ComfyUI as a Server: prompts, queue, history, files and events.

Every connection has a client id of its own: with one that was used before, the server forgets the newer connection when
it notices the end of the older. Prompts that were sent under an earlier id tell nothing on a new connection, so they
are polled.

A ComfyUI forgets its queue and its history when it dies. What it has rendered stays on its disk, and as each item's
files are named after its batch id, an item that was done is found there and not rendered again.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlencode

import aiohttp

from sweep.errors import (
    AttemptError,
    ItemLostError,
    ServerUnsupportedError,
    TransientError,
    VariationError,
    WorkflowError,
    did_you_mean,
)
from sweep.servers.base import (
    Gallery,
    ItemEnded,
    MissingModelError,
    Rendered,
    ServerImage,
    ServerInfo,
    Submission,
    Ticket,
)
from sweep.servers.credentials import ServerAddress
from sweep.servers.http import LARGEST_SCHEMA, ConnectOptions, Http, Request, list_problems
from sweep.servers.tracker import (
    EventConnection,
    ItemState,
    ItemTracker,
    TrackedItem,
    TrackedServer,
    make_cancellation_error,
)
from sweep.servers.untrusted_json import as_integer, mapping, number, parse, plain_name, sequence, shorten, text
from sweep.workflow import (
    Graph,
    ImageRef,
    Json,
    Model,
    ModelRef,
    NodeSchemas,
    Ref,
    fill_defaults,
    list_model_files,
    read_object_info,
    write_prompt,
)

SERVER_FOLDER: Final = "sweep"  # below the server's output and input folders
PREFIX_FIELD: Final = "filename_prefix"
_PLACES: Final = frozenset({"output", "temp", "input"})
_IMAGE_GONE: Final = "ImageGone"


def make_file_prefix(batch_id: str, output: str) -> str:
    """Return the prefix of the files of an item's output node: folders of 256 keep each short, as saving lists them.

    It is made from the node's id, not from its place: who asks later may want some of the outputs alone.
    """
    return f"{SERVER_FOLDER}/{batch_id[:2]}/{batch_id}-{hashlib.blake2b(output.encode(), digest_size=4).hexdigest()}"


def make_image_name(file: Mapping[str, Any]) -> str | None:
    """Return the name of a saved file as sweep keeps it: place, folder and file name; None for something else."""
    name, place = text(file.get("filename")), file.get("type")
    folder = file.get("subfolder") or ""
    return f"{place}/{folder}/{name}" if name and place in _PLACES and isinstance(folder, str) else None


def make_image_query(name: str) -> dict[str, str]:
    """Return the query that asks for a file. Raises VariationError for a name that this server cannot have given."""
    place, _, rest = name.partition("/")
    folder, _, file = rest.rpartition("/")
    if place not in _PLACES or not file or ".." in name.split("/") or not name.isprintable():
        raise VariationError("the server named an image in a way that cannot be a name", kind="BadName")
    return {"filename": file, "subfolder": folder, "type": place}


def read_refusal(answer: Mapping[str, Any], graph: Graph) -> AttemptError | None:
    """Return the error of a refused prompt; None where it lacks only the file names that a check leaves out.

    A model of the graph that is not installed may be elsewhere, and an input image that is gone is uploaded anew.
    """
    problems = list(_iterate_problems(answer))
    for node, kind, field, sentence in problems:
        ref = graph.nodes[node].fields.get(field) if node in graph.nodes else None
        if kind == "value_not_in_list" and isinstance(ref, ModelRef):
            return MissingModelError(sentence, ref=ref)
        if kind == "custom_validation_failed" and isinstance(ref, ImageRef):
            return TransientError(sentence, kind=_IMAGE_GONE, most_attempts=2)
    if problems:
        return VariationError(list_problems(dict.fromkeys(sentence for *_, sentence in problems)), kind="Refused")
    if mapping(answer.get("node_errors")):
        return None
    error = mapping(answer.get("error"))
    said = [text(error.get("message")), text(error.get("details"))]
    return VariationError(shorten(": ".join(filter(None, said)) or "the server refused it"), kind="Refused")


def _iterate_problems(answer: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield (node, kind, input, sentence) of each problem but file names that were left out."""
    for node, about in mapping(answer.get("node_errors")).items():
        for error in map(mapping, sequence(mapping(about).get("errors"))):
            info = mapping(error.get("extra_info"))
            kind, field = str(error.get("type")), str(info.get("input_name") or "")
            if kind == "required_input_missing" and field == PREFIX_FIELD:
                continue
            place = f"{node}.{field}" if field else str(node)
            said = ": ".join(filter(None, (text(error.get("message")), text(error.get("details")))))
            yield str(node), kind, field, f"{place}: {shorten(said)}"


def list_saved_files(entry: Mapping[str, Any], outputs: Sequence[str]) -> tuple[ServerImage, ...]:
    """Return the images of the outputs in a history entry, in the order of the outputs; of all nodes without any."""
    told = mapping(entry.get("outputs"))
    found: list[ServerImage] = []
    for node in outputs or told:
        files = [make_image_name(mapping(file)) for file in sequence(mapping(told.get(node)).get("images"))]
        names = [name for name in files if name is not None]
        found += [ServerImage(name=name, node=node, iteration=n) for n, name in enumerate(names)]
    return tuple(found)


def read_history_status(entry: Mapping[str, Any]) -> Literal["completed", "failed", "canceled"]:
    """Return the final status of a prompt. Only the messages of an interrupted one tell it from a failed one."""
    status = mapping(entry.get("status"))
    if status.get("status_str") == "success":
        return "completed"
    return "canceled" if "execution_interrupted" in dict(_read_messages(entry)) else "failed"


def _read_messages(entry: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for message in sequence(mapping(entry.get("status")).get("messages")):
        if isinstance(message, list) and len(message) == 2:
            yield str(message[0]), mapping(message[1])


def end_by_history(entry: Mapping[str, Any], outputs: Sequence[str], asked: bool) -> ItemEnded:
    """Read the end of a prompt from its history entry; `asked` says that we requested its cancellation."""
    status, messages = read_history_status(entry), dict(_read_messages(entry))
    failure = messages.get("execution_error", {})
    error: AttemptError | None = None
    if status == "failed":
        error = _make_failure(failure)
    elif status == "canceled":
        error = make_cancellation_error(asked)
    ends = ("execution_success", "execution_error", "execution_interrupted")
    ended = next((messages[key] for key in ends if key in messages), {})
    queued = mapping(next(iter(sequence(entry.get("prompt"))[3:4]), None))
    told = (queued.get("create_time"), messages.get("execution_start", {}).get("timestamp"), ended.get("timestamp"))
    queued_at, started_at, finished_at = map(_read_milliseconds, told)
    return ItemEnded(
        status=status,
        images=list_saved_files(entry, outputs),
        error=error,
        failed_node=text(failure.get("node_id")) if status == "failed" else None,
        queued_at=queued_at,
        started_at=started_at,
        finished_at=finished_at,
    )


def _make_failure(message: Mapping[str, Any]) -> AttemptError:
    kind = shorten((text(message.get("exception_type")) or "Error").rpartition(".")[2])
    sentence = shorten(text(message.get("exception_message")) or "") or "the node failed without a message"
    if kind == "OutOfMemoryError":
        return TransientError(sentence, kind=kind, most_attempts=2)
    return VariationError(sentence, kind=kind)


def _read_milliseconds(milliseconds: Any) -> datetime | None:
    if not isinstance(milliseconds, int | float) or isinstance(milliseconds, bool):
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


LARGEST_MESSAGE: Final = 16 * 1024 * 1024  # bytes; previews come along
HEARTBEAT: Final = 20.0  # seconds between pings
RECORDING: Final = 0.05  # seconds after which an end stands in the history
_ERRORS: Final = (aiohttp.ClientError, OSError, TimeoutError, ValueError)


class PromptEvents(EventConnection):
    """The websocket on which a ComfyUI tells of prompts; its events go to the tracker."""

    def __init__(self, http: Http, tracker: ItemTracker) -> None:
        super().__init__(http)
        self._tracker = tracker

    async def connect_once(self) -> bool:
        client_id, was_up = uuid.uuid4().hex, False
        url = f"{self._http.address.url}/ws?{urlencode({'clientId': client_id})}"
        try:
            async with self._http.session.ws_connect(
                url, headers=self._http.headers(), max_msg_size=LARGEST_MESSAGE, heartbeat=HEARTBEAT
            ) as socket:
                was_up = True
                self._tracker.note_connection(is_up=True, channel=client_id)
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        self._handle(message.data)
        except _ERRORS:
            pass
        finally:
            if was_up:
                self._tracker.note_connection(is_up=False, channel=None)
        return was_up

    def _handle(self, line: str) -> None:
        if '"progress' in line[:24] and ('"progress"' not in line[:24] or not self._tracker.wants_step()):
            return
        message = mapping(parse(line))
        kind, data = message.get("type"), mapping(message.get("data"))
        item = self._tracker.find(text(data.get("prompt_id")) or "")
        if item is None:
            return
        if kind == "execution_start":
            self._tracker.note_state(item, ItemState(status="in_progress", batch_id=item.batch_id))
        elif kind == "progress" and (steps := as_integer(data.get("max"))):
            item.send_step(text(data.get("node")) or "", number(data.get("value")) / steps)
        elif kind == "executed":
            self._note_image(item, data)
        elif kind == "executing" and data.get("node") is None:  # comes after the history entry; success comes before
            self._tracker.request_states()
        elif kind in ("execution_interrupted", "execution_error", "execution_success"):  # history has it a moment later
            asyncio.get_running_loop().call_later(RECORDING, self._tracker.request_states)

    def _note_image(self, item: TrackedItem, data: dict[str, Any]) -> None:
        node = str(data.get("node"))
        files = [make_image_name(mapping(file)) for file in sequence(mapping(data.get("output")).get("images"))]
        if node in item.single_outputs and len(files) == 1 and files[0] is not None:
            item.send(Rendered(image=ServerImage(name=files[0], node=node)))


SETTLING: Final = 0.3  # seconds after which what moved from pending to running meanwhile is cancelled again
COUNTS_KEPT: Final = 1.0  # seconds; reading a long queue costs the server some 40 ms
MOST_FILES: Final = 64  # images of one output that are looked for on the server's disk
_PREVIEW, _SAVE = "PreviewImage", "SaveImage"


class ComfyUI(TrackedServer):
    """A `Server` that is a ComfyUI."""

    def __init__(self, url: str, options: ConnectOptions | None = None) -> None:
        self._options = options or ConnectOptions()
        super().__init__(Http(ServerAddress.parse(url), self._options, has_login=False))
        self._schemas: NodeSchemas | None = None
        self._models: dict[ModelRef, Model] = {}
        self._reading = asyncio.Lock()
        self._loaded: tuple[str | None, frozenset[str]] = (None, frozenset())  # the connection, and models there
        self._queue: tuple[float, list[tuple[str, str]]] = (-COUNTS_KEPT, [])

    async def open(self) -> ServerInfo:
        info = await self._http.introduce(self._introduce)
        self.start_tracking(PromptEvents(self._http, self._tracker), self._read_states)
        return info

    async def _introduce(self) -> ServerInfo:
        version = await comfyui_version(self._http)
        if version is None:
            raise ServerUnsupportedError(f"{self.url} answers, but is no ComfyUI (it has no /system_stats).")
        queue = f"{self.url} is a ComfyUI, which has only one queue. --queue has no effect there."
        notes, name = (queue,) if self._options.queue_id != "default" else (), self._http.address.name
        return ServerInfo(name=name, url=self.url, version=version, api="comfyui", family="ComfyUI", notes=notes)

    def gallery(self) -> Gallery:
        raise ServerUnsupportedError(f"{self.url} is a ComfyUI, which has no boards, no gallery and no library.")

    async def find_leftovers(self, items: Mapping[str, str], uploads: Collection[str]) -> list[str]:  # noqa: ARG002
        raise ServerUnsupportedError(
            "its API cannot delete files: what the run left is in its input folder (uploads, in the subfolder "
            f"{SERVER_FOLDER}) and its output and temp folders"
        )

    async def delete_images(self, names: Sequence[str]) -> int:  # noqa: ARG002
        return 0

    async def schemas(self) -> NodeSchemas:
        return self._schemas or await self._read_nodes()

    async def models(self) -> tuple[Model, ...]:
        """See `Server.models`: the files that loaders offer. A ComfyUI gives no hashes of their contents."""
        await self._read_nodes()
        return tuple(self._models.values())

    async def _read_nodes(self) -> NodeSchemas:
        async with self._reading:
            answer = await self._http.get("/object_info", "reading its node types", limit=LARGEST_SCHEMA)
            document = mapping(answer.body)
            try:
                self._schemas = await asyncio.to_thread(read_object_info, document)
            except WorkflowError as error:
                raise ServerUnsupportedError(f"{self.url}: {error.message}") from None
            self._models = {
                ModelRef(name, "any", kind): Model(key=name, hash="", name=name, base="any", type=kind)
                for kind, names in list_model_files(document).items()
                for name in filter(plain_name, names)
            }
            return self._schemas

    async def validate(self, graph: Graph, images: Mapping[str, Path]) -> None:
        """See `TrackedServer.validate`.

        A prompt whose outputs lack a file name is validated in full and never queued. One that has an output without
        such an input would run, so it is not sent.
        """
        schemas = await self.schemas()
        prompt = await self._write(graph, images, schemas.dialect.find_outputs(graph, schemas), None)
        known = [(node, schema) for node in prompt.values() if (schema := schemas.get(node["class_type"]))]
        ends = [(node, schema) for node, schema in known if schema.output_class == "output"]
        if ends and all(PREFIX_FIELD in schema.fields for _, schema in ends):
            for node, _ in ends:
                node["inputs"].pop(PREFIX_FIELD, None)
            await self._post(graph, {"prompt": prompt}, "checking a graph", is_check=True)

    async def submit(self, submission: Submission) -> Ticket:
        """See `Server.submit`.

        `number` is never sent: two pending prompts of one id and one number end the server's worker for good.
        """
        batch_id, outputs = submission.batch_id, submission.outputs
        prompt = await self._write(submission.graph, submission.images, outputs, batch_id)
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
        with self._tracker.expect(batch_id, frozenset(outputs), tells_steps=submission.tells_steps) as item:
            answer = await self._post(submission.graph, body, "submitting an item")
            if mapping(answer.get("node_errors")):  # it was queued without the outputs that are wrong
                await self._cancel([batch_id])
                error = self._read_refusal(answer, submission.graph)
                raise error or VariationError("the server drops an output of this graph", kind="Refused")
        refs = submission.graph.references()
        mains = frozenset(ref.name for ref in refs if isinstance(ref, ModelRef) and ref.type == "main")
        self._loaded = (self._tracker.channel, mains)
        self._queue = (-COUNTS_KEPT, [])
        item.item_id = batch_id
        return Ticket(batch_id=batch_id, item_id=batch_id, outputs=outputs)

    async def _post(
        self, graph: Graph, body: Mapping[str, Any], what: str, *, is_check: bool = False
    ) -> dict[str, Any]:
        """Post a prompt; return the answer. Raises VariationError or MissingModelError where it is refused.

        A check, which queues nothing, is sent again where the connection broke.
        """
        answer = await self._http.send(Request("POST", "/prompt", what, body=body, also=(400,), can_repeat=is_check))
        told = mapping(answer.body)
        if answer.status == 400 and (error := self._read_refusal(told, graph)) is not None:
            raise error
        return told

    def _read_refusal(self, answer: Mapping[str, Any], graph: Graph) -> AttemptError | None:
        error = read_refusal(answer, graph)
        if error is not None and error.kind == _IMAGE_GONE:
            for ref in graph.references():
                if isinstance(ref, ImageRef):
                    self.forget_upload(ref.sha256)
        return error

    async def _write(
        self, graph: Graph, images: Mapping[str, Path], outputs: Sequence[str], batch_id: str | None
    ) -> dict[str, dict[str, Any]]:
        """Return the prompt of a graph for this server: names for references, defaults, and where images are saved."""
        if not graph.nodes:
            raise VariationError("the graph has no nodes", kind="Refused")
        refs = graph.references()
        names: dict[Ref, Json] = {ref: await self._find_model_file(ref) for ref in refs if isinstance(ref, ModelRef)}
        for ref in sorted(ref for ref in refs if isinstance(ref, ImageRef)):
            names[ref] = await self.upload(ref.sha256, images.get(ref.sha256))
        prompt = write_prompt(graph, lambda ref: names.get(ref, ""))
        for output in outputs:
            node = prompt[output]
            node["class_type"] = _SAVE if node["class_type"] == _PREVIEW else node["class_type"]
            if batch_id is not None:
                node["inputs"][PREFIX_FIELD] = make_file_prefix(batch_id, output)
        fill_defaults(prompt, await self.schemas())
        return prompt

    async def _find_model_file(self, ref: ModelRef) -> str:
        if ref not in self._models:
            await self._read_nodes()
        if ref not in self._models:
            alike = [known.name for known in self._models if known.type == ref.type]
            raise MissingModelError(
                f"{self.url} has no {ref.type} model {ref.name!r}.{did_you_mean(ref.name, alike)}", ref=ref
            )
        return ref.name

    async def has_image(self, name: str) -> bool:
        try:
            query = make_image_query(f"input/{name}")
        except VariationError:
            return False
        return await self._http.exists("/view", "looking for an input image", query)

    async def send_image(self, file: str, content: bytes) -> str | None:
        """See `TrackedServer.send_image`: equal content has an equal name, so nothing is kept twice."""

        def form() -> aiohttp.FormData:
            made = aiohttp.FormData({"subfolder": SERVER_FOLDER, "type": "input", "overwrite": "true"})
            made.add_field("image", content, filename=file)
            return made

        request = Request("POST", "/upload/image", "uploading an input image", form=form, size=len(content))
        told = mapping((await self._http.send(request)).body)
        name, folder = text(told.get("name")), text(told.get("subfolder"))
        return f"{folder}/{name}" if folder and name else name

    async def follow(self, ticket: Ticket, item: TrackedItem) -> None:
        if ticket.item_id != ticket.batch_id:
            raise ItemLostError(f"{self.url} does not know item {ticket.item_id}.")
        item.outputs = ticket.outputs or item.outputs

    async def read_end(self, ticket: Ticket, item: TrackedItem, state: ItemState) -> ItemEnded:  # noqa: ARG002
        entry = await self._fetch_history(ticket.batch_id)
        if entry is not None:
            return end_by_history(entry, ticket.outputs, item.is_cancel_requested)
        images = await self._find_files(ticket.batch_id, ticket.outputs)
        if images:
            return ItemEnded(status="completed", images=images)
        return ItemEnded(status="canceled", error=make_cancellation_error(item.is_cancel_requested))

    async def _read_states(self, items: Sequence[TrackedItem]) -> Mapping[str, ItemState]:
        """Return the states of items: the queue is asked first, as an item moves from there to the history."""
        queued = {
            item_id: "in_progress" if is_running else "pending" for item_id, is_running in await self._list_queued()
        }
        found: dict[str, ItemState] = {}
        for item in items:
            status: str | None = queued.get(item.batch_id)
            if status is None:
                entry = await self._fetch_history(item.batch_id)
                status = read_history_status(entry) if entry is not None else None
            if status is None and await self._find_files(item.batch_id, item.outputs or tuple(item.single_outputs)[:1]):
                status = "completed"
            if status is None and item.is_cancel_requested:
                status = "canceled"
            if status is not None:
                found[item.batch_id] = ItemState(status=status, batch_id=item.batch_id)
        return found

    async def _list_queued(self) -> list[tuple[str, bool]]:
        """Return the ids of all prompts in the queue, and whether they are running."""
        whole = await self._http.get("/queue", "reading its queue", limit=LARGEST_SCHEMA)  # with everybody's workflows
        answer = mapping(whole.body)
        running, pending = sequence(answer.get("queue_running")), sequence(answer.get("queue_pending"))
        entries = [(entry, True) for entry in running] + [(entry, False) for entry in pending]
        known = [(entry, is_running) for entry, is_running in entries if isinstance(entry, list) and len(entry) > 3]
        marks = [(str(entry[1]), mapping(mapping(entry[3]).get("sweep"))) for entry, _ in known]
        self._queue = (time.monotonic(), [(item_id, str(mark.get("destination") or "")) for item_id, mark in marks])
        return [(str(entry[1]), is_running) for entry, is_running in known]

    async def _fetch_history(self, batch_id: str) -> dict[str, Any] | None:
        answer = await self._http.get(f"/history/{batch_id}", "reading an item")
        return mapping(mapping(answer.body).get(batch_id)) or None

    async def _find_files(self, batch_id: str, outputs: Sequence[str]) -> tuple[ServerImage, ...]:
        """Return the images of an item that lie on the server's disk; none unless every output has one."""
        found: list[ServerImage] = []
        for node in outputs:
            folder, _, stem = make_file_prefix(batch_id, node).rpartition("/")
            for place in range(MOST_FILES):
                file = {"filename": f"{stem}_{place + 1:05}_.png", "subfolder": folder, "type": "output"}
                if not await self._http.exists("/view", "looking for an image", file):
                    break
                found.append(ServerImage(name=str(make_image_name(file)), node=node, iteration=place))
            if not any(image.node == node for image in found):
                return ()
        return tuple(found)

    async def find(self, batch_id: str, outputs: tuple[str, ...] = ()) -> Ticket | None:
        """See `Server.find`: in the queue, the history, and on the disk."""
        item = self._tracker.find(batch_id)
        is_cancelled = item is not None and item.item_id is not None and item.is_cancel_requested  # leaves no trace
        is_there = is_cancelled or batch_id in dict(await self._list_queued())
        if is_there or await self._fetch_history(batch_id) or await self._find_files(batch_id, outputs):
            return Ticket(batch_id=batch_id, item_id=batch_id, outputs=outputs)
        return None

    async def fetch(self, image: ServerImage, limit: int) -> bytes:
        data = await self._http.download("/view", "downloading an image", limit, make_image_query(image.name))
        if data is None:
            raise TransientError(f"{self.url} does not have the image any more.", kind=_IMAGE_GONE, most_attempts=2)
        return data

    async def cancel(self, batch_ids: Sequence[str]) -> None:
        """See `Server.cancel`. An interruption always names its prompt: without a name it stops other people's."""
        if not batch_ids:
            return
        self._tracker.note_cancel_requests(batch_ids)
        await self._cancel(batch_ids)
        await asyncio.sleep(SETTLING)
        left = dict(await self._list_queued())
        if moved := [batch_id for batch_id in batch_ids if batch_id in left]:
            await self._cancel(moved)
        self._tracker.request_states()

    async def _cancel(self, batch_ids: Sequence[str]) -> None:
        what = "cancelling"
        await self._http.send(Request("POST", "/queue", what, body={"delete": list(batch_ids)}, can_repeat=True))
        running = {batch_id for batch_id, is_running in await self._list_queued() if is_running}
        for batch_id in running.intersection(batch_ids):
            await self._http.send(Request("POST", "/interrupt", what, body={"prompt_id": batch_id}, can_repeat=True))

    async def list_loaded(self) -> frozenset[str]:
        """See `Server.list_loaded`: the main models of the last item of ours; after a new connection, which may be to
        another process, none.
        """
        channel, names = self._loaded
        return names if channel == self._tracker.channel else frozenset()

    async def count_others_waiting(self, ours: str) -> int:
        if time.monotonic() - self._queue[0] >= COUNTS_KEPT:
            await self._list_queued()
        return sum(1 for _, destination in self._queue[1] if destination != ours)


async def comfyui_version(http: Http) -> str | None:
    """Ask whether a ComfyUI answers; return its version, or None for something else."""
    try:
        answer = await http.get("/system_stats", "asking who answers", also=(400, 401, 403, 404, 405, 422))
    except TransientError as error:
        if error.kind == "BadAnswer":  # an InvokeAI answers every path it does not know with its page
            return None
        raise
    told = mapping(mapping(answer.body).get("system")) if answer.status == 200 else {}
    return shorten(text(told.get("comfyui_version")) or "") or None
