"""The queue API of InvokeAI 3.2 to 6: its calls with what differs between releases, its events, and what items say:
how far they are, what they rendered and why they failed.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

from sweep.errors import (
    AttemptError,
    ItemLostError,
    OverloadedError,
    ServerUnsupportedError,
    TransientError,
    VariationError,
)
from sweep.servers.base import ItemEnded, ItemHeld, Rendered, ServerImage, ServerInfo, Submission, Ticket
from sweep.servers.http import BAD_REQUEST, Http, Request, make_bad_answer
from sweep.servers.invokeai.installed_models import InstalledModels
from sweep.servers.invokeai.socketio import SocketIOConnection
from sweep.servers.tracker import ENDED_STATES, ItemState, ItemTracker, TrackedItem, make_cancellation_error
from sweep.servers.untrusted_json import as_integer, integers, mapping, number, sequence, shorten, text, timestamp

MOST_IDS = 1000  # a server answers 422 to more in one call
MOST_LIST_PAGES = 1000  # of items in one state; a list that never ends is not read on
ORIGIN = "sweep"
FIRST_RELEASE, FIRST_UNKNOWN_RELEASE = (3, 2), (7, 0)
NOT_FOUND = (404, 405)
SEARCH_ORDER = ("pending", "in_progress", "completed", "failed", "canceled", "pending", "in_progress", "completed")
STATUS_ORDER = ("completed", "in_progress", "pending", "waiting", "failed", "canceled")
PROBE: dict[str, Any] = {"id": "sweep", "nodes": {"n": {"id": "n", "type": "integer", "value": 0}}, "edges": []}


class QueueApi(SocketIOConnection):
    """Calls and events of one queue; `SessionsApi` has the same methods for releases without queues."""

    def __init__(self, http: Http, tracker: ItemTracker, models: InstalledModels, queue_id: str) -> None:
        super().__init__(http, tracker, models)
        self._queue_id = queue_id
        self._path = f"/api/v1/queue/{quote(queue_id, safe='')}"
        self._has_summaries = True

    async def introduce(self, version: str) -> ServerInfo:
        if not version:
            raise ServerUnsupportedError(f"{self._url} answers, but is not an InvokeAI (it reports no version).")
        refuse_unsupported(self._url, version)
        logins = mapping(await self._ask("/api/v1/auth/status"))
        if logins.get("multiuser_enabled") is True and self._http.token is None:
            await self._http.log_in()
        await self.counts()  # which may be refused
        config = await self._ask("/api/v1/app/runtime_config")
        settings = mapping(mapping(config).get("config"))
        return ServerInfo(
            name=self._http.address.name,
            url=self._url,
            version=version,
            api="queue",
            family="InvokeAI",
            capacity=_count_workers(settings, await self._ask("/api/v1/app/generation_device_options")),
            max_pending=number(settings.get("max_queue_size")) or None,
        )

    async def _ask(self, path: str) -> Any:
        """Return the answer to a question that older servers, or accounts without rights, do not get answered."""
        answer = await self._http.get(path, "asking what it can do", also=(401, 403, 404, 405))
        return answer.body if answer.status == 200 else None

    def subscriptions(self) -> Iterable[tuple[str, dict[str, str]]]:
        return [("subscribe_queue", {"queue_id": self._queue_id})]

    def is_wanted(self, event: str, text: str) -> bool:
        """See `SocketIOConnection.is_wanted`.

        Of all the nodes that start, the first of an item tells how long the server took to come to it.
        """
        if event == "invocation_started":
            return bool(self._tracker.taken_up)
        return event != "invocation_progress" or ('"percentage"' in text and self._tracker.wants_step())

    def handle_event(self, event: str, data: Any) -> None:
        """See `SocketIOConnection.handle_event`, for the events of any release of this API."""
        if not isinstance(data, dict):
            return
        if event in ("model_load_complete", "model_load_completed"):
            if key := text(mapping(data.get("config") or data.get("model_config")).get("key")):
                self._models.note_loaded(key)
        elif event in ("queue_items_canceled", "queue_cleared", "queue_items_retried"):
            self._tracker.request_states()
        else:
            if isinstance(inner := data.get("queue_item"), dict):  # until 4.2 the item is an object of its own
                data = {**inner, **data}
            batch_id = data.get("batch_id") or data.get("queue_batch_id")
            item_id = data.get("item_id", data.get("queue_item_id"))
            item = self._tracker.find(batch_id, item_id) if isinstance(batch_id, str) else None
            if item is not None:
                self._note_event(item, event, data)

    def _note_event(self, item: TrackedItem, event: str, data: dict[str, Any]) -> None:
        if event == "queue_item_status_changed":
            self._tracker.note_state(item, read_item_state(mapping(data.get("queue_item")) or data))
        elif event == "invocation_started":
            self._tracker.note_first_node(item)
        elif event == "invocation_complete":
            note_image(item, data)
        elif event == "invocation_progress" and isinstance(data.get("percentage"), int | float):
            item.send_step(str(data.get("invocation_source_id")), data["percentage"])

    async def follow(self, ticket: Ticket) -> None:
        """Ask for the events of an item; here the whole queue is subscribed to."""

    async def read_end(self, ticket: Ticket, asked: bool) -> ItemEnded | None:
        """Read an item's end; None where it has not ended. `asked` says that we requested its cancellation."""
        item = await self._read_item(ticket.item_id, ticket.batch_id)
        return read_end(item, ticket.outputs, asked) if text(item.get("status")) in ENDED_STATES else None

    async def count_others_waiting(self, ours: str) -> int:
        """See `Server.count_others_waiting`. Before 5.0 no destination is counted: ours are those waited for."""
        path, params = f"{self._path}/counts_by_destination", {"destination": ours}
        whole = await self.counts()
        own = await self._http.get(path, "counting our items", params=params, also=NOT_FOUND)
        heard = sum(1 for _ in self._tracker.list_heard_items())
        mine = _count_unfinished(mapping(own.body)) if own.status == 200 else heard
        return max(_count_unfinished(whole) - mine, 0)

    async def read_session(self, item_id: str, batch_id: str) -> Mapping[str, Any]:
        """Return the session of an item. Raises ItemLostError where the server has no such item, or another's."""
        return mapping((await self._read_item(item_id, batch_id)).get("session"))

    async def counts(self) -> dict[str, Any]:
        """Return the counts of the whole queue."""
        answer = await self._http.get(f"{self._path}/status", "reading its queue")
        return mapping(mapping(answer.body).get("queue"))

    async def enqueue(self, batch: Mapping[str, Any], *, prepend: bool) -> dict[str, Any]:
        """Post one batch, once. The caller has to look at how many were enqueued."""
        body = {"prepend": prepend, "batch": {"runs": 1, "origin": ORIGIN, **batch}}
        answer = await self._http.send(Request("POST", f"{self._path}/enqueue_batch", "submitting an item", body=body))
        return mapping(answer.body)

    async def submit(self, submission: Submission, graph: dict[str, Any]) -> str | None:
        """Submit one item; return its id, or None where the server does not say it (before 6.0).

        Raises OverloadedError where the queue is full: that is no error to the server, which answers 200 and drops
        what does not fit. Only a number below one says so; after any other answer the batch is looked up.
        """
        batch = {"batch_id": submission.batch_id, "graph": graph, "destination": submission.destination}
        answer = await self.enqueue(batch, prepend=submission.priority > 0)
        enqueued, ids = as_integer(answer.get("enqueued")), integers(answer.get("item_ids"))
        if enqueued is not None and enqueued < 1 and not ids:
            raise OverloadedError(f"{self._url} has no room in its queue.")
        return str(max(ids)) if enqueued and ids else None  # None: an answer that leaves it open

    async def validate(self, graph: Mapping[str, Any]) -> None:
        """Have the server check a graph: posted as a batch of no items, it is validated in full.

        Raises VariationError where it is refused.
        """
        batch_id = f"check-{uuid.uuid4()}"
        nodes = mapping(graph.get("nodes"))
        data = [[{"node_path": next(iter(nodes)), "field_name": "is_intermediate", "items": []}]]
        answer = await self.enqueue({"batch_id": batch_id, "graph": graph, "data": data}, prepend=False)
        if as_integer(answer.get("enqueued")) != 0:
            await self._cancel([batch_id])

    async def cancel(self, batch_ids: Sequence[str]) -> None:
        self._tracker.note_cancel_requests(batch_ids)
        await self._cancel(batch_ids)
        self._tracker.request_states()

    async def _cancel(self, batch_ids: Sequence[str]) -> None:
        path, body = f"{self._path}/cancel_by_batch_ids", {"batch_ids": list(batch_ids)}
        await self._http.send(Request("PUT", path, "cancelling", body=body, can_repeat=True))

    async def _count_batch(self, batch_id: str) -> dict[str, Any] | None:
        """Count the items of a batch by state; None where the batch never existed: all counts are zero then."""
        what = "asking for a batch"
        answer = await self._http.get(f"{self._path}/b/{quote(batch_id, safe='')}/status", what)
        counts = mapping(answer.body)
        total = as_integer(counts.get("total"))
        if total is None:
            raise make_bad_answer(self._url, what)
        return counts if total else None

    async def find(self, batch_id: str) -> str | None:
        """Return the newest item of a batch; None where there never was one.

        An enqueue of nothing under the same batch id lists the ids of all that is in that batch already (since 6.0).
        """
        if await self._count_batch(batch_id) is None:
            return None
        data = [[{"node_path": "n", "field_name": "value", "items": []}]]
        try:
            answer = await self.enqueue({"batch_id": batch_id, "graph": PROBE, "data": data}, prepend=False)
        except OverloadedError as error:  # which does not mean that it refused the item: it has it
            raise TransientError(error.message) from None
        ids = integers(answer.get("item_ids"))
        found = str(max(ids)) if ids else await self._search(batch_id)
        if found is None:
            raise TransientError(f"{self._url} has batch {batch_id} but does not say which item it is.")
        return found

    async def _search(self, batch_id: str) -> str | None:
        """Page through the queue (before 6.0), what is pending or running first. An item that moves on between two
        pages is found in a second round.
        """
        for status in SEARCH_ORDER:
            after: dict[str, str] = {}
            for _ in range(MOST_LIST_PAGES):
                items, more = await self._fetch_page({"limit": str(MOST_IDS), "status": status, **after})
                for item in items:
                    if item.get("batch_id") == batch_id and (found := as_integer(item.get("item_id"))) is not None:
                        return str(found)
                before = after
                if items:
                    last = items[-1]
                    after = {"cursor": str(last.get("item_id")), "priority": str(number(last.get("priority")))}
                if not more or after == before:
                    break
        return None

    async def _fetch_page(self, params: Mapping[str, str]) -> tuple[list[dict[str, Any]], bool]:
        what = "looking for an item"
        answer = await self._http.get(f"{self._path}/list", what, params=params, also=NOT_FOUND)
        page = mapping(answer.body)
        return [mapping(item) for item in sequence(page.get("items"))], page.get("has_more") is True

    async def _read_item(self, item_id: str, batch_id: str) -> dict[str, Any]:
        """Return the whole item. Raises ItemLostError where the server has none of that id, or of another batch."""
        answer = await self._http.get(f"{self._path}/i/{quote(item_id, safe='')}", "reading an item", also=(404, 500))
        if answer.status == 200:
            item = mapping(answer.body)
            if text(item.get("batch_id")) not in (None, batch_id):  # a server that begins anew counts from 1 again
                raise ItemLostError(f"{self._url} has another item under the number {item_id}.")
            return item
        said = str(mapping(answer.body).get("detail"))
        if answer.status == 404 or "404: Queue item" in said:  # an item of another queue is a 500 that quotes a 404
            raise ItemLostError(f"{self._url} does not know item {item_id}.")
        raise TransientError(f"{self._url} cannot read item {item_id} (500).", kind="HTTP 500")

    async def read_states(self, items: Sequence[TrackedItem]) -> dict[str, ItemState]:
        """Return the states of items by item id; unknown ones are missing."""
        if self._has_summaries:
            found = await self._fetch_summaries([item.item_id or "" for item in items])
            if found is not None:
                if all(state.status == "pending" for state in found.values()):
                    await self._report_pause(items)
                return found
        states = {}
        for item in items:  # before 6.14 a batch's counts tell its state: ours have one item
            if (counts := await self._count_batch(item.batch_id)) is not None:
                status = next((status for status in STATUS_ORDER if number(counts.get(status))), "pending")
                states[item.item_id or ""] = ItemState(status=status, batch_id=item.batch_id)
        return states

    async def _report_pause(self, items: Sequence[TrackedItem]) -> None:
        """Report to listeners that the queue is paused: nothing is rendered before somebody resumes it."""
        answer = await self._http.get(f"{self._path}/status", "reading its queue")
        if mapping(mapping(answer.body).get("processor")).get("is_started") is False:
            reason = f"the queue of {self._http.address.name} is paused (resume it in its Queue tab)"
            for item in items:
                item.send(ItemHeld(reason=reason))

    async def _fetch_summaries(self, ids: Sequence[str]) -> dict[str, ItemState] | None:
        path, what, also = f"{self._path}/item_summaries_by_ids", "asking how far items are", {*NOT_FOUND, *BAD_REQUEST}
        numbers = [int(item) for item in ids if item.isdecimal()]
        found: dict[str, ItemState] = {}
        for start in range(0, len(numbers), MOST_IDS):
            body = {"item_ids": numbers[start : start + MOST_IDS]}
            answer = await self._http.send(Request("POST", path, what, body=body, also=also, can_repeat=True))
            if answer.status != 200:
                self._has_summaries = answer.status not in NOT_FOUND
                return None
            if not isinstance(answer.body, list):
                raise make_bad_answer(self._url, what)
            for summary in map(mapping, answer.body):
                item_id = as_integer(summary.get("item_id"))
                if item_id is None or text(summary.get("status")) is None:
                    raise make_bad_answer(self._url, what)
                found[str(item_id)] = read_item_state(summary)
        return found


def refuse_unsupported(url: str, version: str) -> None:
    """Raise ServerUnsupportedError for a release whose queue API sweep does not speak."""
    found = re.match(r"v?(\d+)\.(\d+)(\.|$)", version.strip()[:40])
    if found is None:
        raise ServerUnsupportedError(f"{url} says it is version {version[:40]!r}, which sweep does not know.")
    major, minor = int(found[1]), int(found[2])
    if not FIRST_RELEASE <= (major, minor) < FIRST_UNKNOWN_RELEASE:
        raise ServerUnsupportedError(
            f"{url} is InvokeAI {version[:40]}; sweep speaks the queue API of 3.2 to 6.x.",
            hint="Update sweep." if major > 6 else "Update InvokeAI.",
        )


def note_image(item: TrackedItem, data: Mapping[str, Any]) -> None:
    """Send the one image that a node has made to the item's listeners."""
    node = data.get("invocation_source_id") or data.get("source_node_id")
    found = list(list_result_images(data.get("result")))
    if isinstance(node, str) and node in item.single_outputs and len(found) == 1:
        name, width, height = found[0]
        item.send(Rendered(image=ServerImage(name=name, node=node, width=width, height=height)))


def _count_unfinished(counts: Mapping[str, Any]) -> int:
    return sum(number(counts.get(name)) for name in ("pending", "in_progress", "waiting"))


def _count_workers(settings: Mapping[str, Any], devices: Any) -> int:
    """Count the workers, one a generation device: those listed, or all there are unless one is pinned."""
    chosen = settings.get("generation_devices")
    if isinstance(chosen, list):
        return max(len(chosen), 1)
    if settings.get("device") not in (None, "auto"):
        return 1
    return max(len(sequence(devices)), 1)


OUT_OF_MEMORY = frozenset({"OutOfMemoryError", "MemoryError"})
HINTS = tuple(
    (re.compile(pattern, re.IGNORECASE), hint)
    for pattern, hint in (
        (r"outofmemory|out of memory|MemoryError", "Render smaller images, or a smaller model."),
        (r"Image(Record|File)NotFound", "An input image is gone from the server: it is uploaded again."),
        (r"UnknownModel|model .*not found|ModelNotFound", "Install the model on this server, or name another one."),
        (r"\bnan\b|half precision|fp16|float16", "Set the VAE precision to fp32 on the server or in the workflow."),
    )
)
IMAGE_GONE = frozenset({"ImageRecordNotFoundException", "ImageFileNotFoundException"})


def read_item_state(summary: Mapping[str, Any]) -> ItemState:
    """Read the state from an item, an item's summary or a status event."""
    return ItemState(
        status=text(summary.get("status")) or "unknown",
        batch_id=text(summary.get("batch_id")),
        queued_at=timestamp(summary.get("created_at")),
        started_at=timestamp(summary.get("started_at")),
        finished_at=timestamp(summary.get("completed_at")),
    )


def list_result_images(result: Any) -> Iterator[tuple[str, int | None, int | None]]:
    """Yield name, width and height of every image in one node's output, a collection's too."""
    output = mapping(result)
    name = text(mapping(output.get("image")).get("image_name"))
    if name:
        yield name, number(output.get("width")) or None, number(output.get("height")) or None
    for entry in sequence(output.get("collection")):
        inner = text(mapping(entry).get("image_name"))
        if inner:
            yield inner, None, None


def list_session_images(session: Mapping[str, Any], outputs: Sequence[str]) -> tuple[ServerImage, ...]:
    """Return every image of the output nodes in a finished (or failed) session, by output node and iteration.

    Iterations are ordered by `prepared_iteration_paths`; servers that lack it gave results in the order of execution.
    A node that only passes on images (a collection) brings none that another output has already brought. Where
    `outputs` is empty, every node that is not intermediate counts.
    """
    results, source = mapping(session.get("results")), mapping(session.get("prepared_source_mapping"))
    paths = mapping(session.get("prepared_iteration_paths"))
    nodes = mapping(mapping(session.get("graph")).get("nodes"))
    wanted = outputs or [name for name, node in nodes.items() if not mapping(node).get("is_intermediate")]
    by_node: dict[str, list[str]] = {node: [] for node in wanted}
    for prepared in results:
        by_node.get(str(source.get(prepared)), []).append(prepared)
    images: list[ServerImage] = []
    passed_on: list[ServerImage] = []
    for node, prepared_ids in by_node.items():
        ordered = sorted(prepared_ids, key=lambda p: [number(part) for part in sequence(paths.get(p))])
        of_node = [(p, fields) for p in ordered for fields in list_result_images(results[p])]
        for iteration, (prepared, (name, width, height)) in enumerate(of_node):
            image = ServerImage(name=name, node=node, iteration=iteration, width=width, height=height)
            (images if "image" in mapping(results[prepared]) else passed_on).append(image)
    own = {image.name for image in images}
    images += [image for image in passed_on if image.name not in own]
    place = {node: n for n, node in enumerate(wanted)}
    return tuple(sorted(images, key=lambda image: (place[image.node], image.iteration)))


def list_intermediate_images(session: Mapping[str, Any]) -> Iterator[str]:
    results, source = mapping(session.get("results")), mapping(session.get("prepared_source_mapping"))
    nodes = mapping(mapping(session.get("graph")).get("nodes"))
    for prepared, output in results.items():
        node = mapping(nodes.get(str(source.get(prepared))))
        if node.get("is_intermediate"):
            yield from (name for name, _, _ in list_result_images(output))


def find_failed_node(session: Mapping[str, Any]) -> str | None:
    source = mapping(session.get("prepared_source_mapping"))
    for prepared in mapping(session.get("errors")):
        return str(source.get(prepared, prepared))
    return None


def read_end(item: Mapping[str, Any], outputs: Sequence[str], asked: bool) -> ItemEnded:
    """Read the end of a terminal item; `asked` says that we asked for its cancellation."""
    session = mapping(item.get("session"))
    if item.get("status") == "completed" and not isinstance(session.get("results"), dict):
        raise TransientError("the server does not say what the item rendered", kind="BadAnswer")
    status: Literal["completed", "failed", "canceled"] = "completed"
    error: AttemptError | None = None
    if item.get("status") == "failed":
        status, error = "failed", _make_failure(item, session)
    elif item.get("status") != "completed":
        status, error = "canceled", make_cancellation_error(asked)
    return ItemEnded(
        status=status,
        images=list_session_images(session, outputs),
        error=error,
        failed_node=find_failed_node(session) if status == "failed" else None,
        queued_at=timestamp(item.get("created_at")),
        started_at=timestamp(item.get("started_at")),
        finished_at=timestamp(item.get("completed_at")),
    )


def _make_failure(item: Mapping[str, Any], session: Mapping[str, Any]) -> AttemptError:
    kind, message = text(item.get("error_type")), text(item.get("error_message"))
    if kind is None and message is None:
        kind, message = _split_last_line(text(item.get("error")), mapping(session.get("errors")).values())
    kind = shorten(kind) if kind else None
    sentence = shorten(message or kind or "the server gave no reason")
    if hint := next((hint for pattern, hint in HINTS if pattern.search(f"{kind}: {sentence}")), ""):
        sentence = f"{sentence.rstrip('.')}. {hint}"
    if kind in OUT_OF_MEMORY:
        return TransientError(sentence, kind=kind, most_attempts=2)
    if kind in IMAGE_GONE:
        return TransientError(sentence, kind=kind)
    return VariationError(sentence, kind=kind)


def _split_last_line(traceback: str | None, errors: Collection[Any]) -> tuple[str | None, str | None]:
    """Split the last line of a traceback, `Type: message`: before 4.2.9 an item tells nothing else."""
    told = traceback or next((error for error in errors if isinstance(error, str)), "")
    kind, colon, message = (told.strip().splitlines() or [""])[-1].partition(": ")
    return (kind.rpartition(".")[2], message) if colon and " " not in kind else (None, told.strip() or None)
