"""The sessions API of InvokeAI 3.0 and 3.1, and of servers of the portable document: its calls and its events.

A session is a graph that was posted; its id is the server's choice. Ours, the batch id, goes along as the graph's id,
by which a session whose answer was lost is found again. (Releases 3.2 and 3.3 have these routes, too, but also a queue,
and only the queue still runs there.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from sweep.errors import ItemLostError, TransientError
from sweep.servers.base import ItemEnded, ServerImage, ServerInfo, Submission, Ticket
from sweep.servers.http import Http, Request
from sweep.servers.invokeai.installed_models import InstalledModels
from sweep.servers.invokeai.queue_api import list_session_images, note_image, read_end
from sweep.servers.invokeai.socketio import SocketIOConnection
from sweep.servers.tracker import ENDED_STATES, ItemState, ItemTracker, TrackedItem
from sweep.servers.untrusted_json import mapping, number, sendable, sequence, text

PATH = "/api/v1/sessions/"
PAGE = 50
MOST_PAGES = 40  # the newest session may be on the last; a longer history is not searched to its end
_ABSENT = (400, 404, 405, 422)
STATE_EVENTS = {
    "invocation_started": "in_progress",
    "invocation_error": "failed",
    "graph_execution_state_complete": "completed",
}


class SessionsApi(SocketIOConnection):
    """The sessions of one server, with the methods of `QueueApi`.

    `portable` is the shape: the graph wrapped, images listed.
    """

    def __init__(self, http: Http, tracker: ItemTracker, models: InstalledModels) -> None:
        super().__init__(http, tracker, models)
        self.portable = False

    async def introduce(self, version: str) -> ServerInfo:
        body = {"graph": {"id": "sweep", "nodes": {}, "edges": []}}  # never started
        answer = await self._http.send(Request("POST", PATH, "asking which sessions it has", body=body, also=(422,)))
        self.portable = "is_complete" in mapping(answer.body)  # only this shape says that it is not complete
        return ServerInfo(
            name=self._http.address.name,
            url=self._url,
            version=version or "unknown",
            api="sessions",
            family="InvokeAI",
        )

    def subscriptions(self) -> Iterable[tuple[str, dict[str, str]]]:
        return [("subscribe", {"session": item.item_id}) for item in self._tracker.list_heard_items() if item.item_id]

    def is_wanted(self, event: str, text: str) -> bool:  # noqa: ARG002  (the name tells enough)
        return event != "invocation_progress"

    def handle_event(self, event: str, data: Any) -> None:
        session_id = text(mapping(data).get("graph_execution_state_id")) or ""
        item = self._tracker.find_by_item_id(session_id)
        if item is not None and event == "invocation_complete":
            note_image(item, data)
        elif item is not None and event in STATE_EVENTS:
            self._tracker.note_state(item, ItemState(status=STATE_EVENTS[event], batch_id=item.batch_id))

    async def submit(self, submission: Submission, graph: dict[str, Any]) -> str | None:
        """See `QueueApi.submit`. This API knows neither `destination` nor `priority`."""
        session_id = await self.create({**graph, "id": submission.batch_id})
        if (item := self._tracker.find(submission.batch_id)) is not None:
            item.item_id = session_id  # its events come before its start is answered
        await self.emit("subscribe", {"session": session_id})
        await self.start(session_id)
        return session_id

    async def follow(self, ticket: Ticket) -> None:
        await self.emit("subscribe", {"session": ticket.item_id})

    async def find(self, batch_id: str) -> str | None:
        """See `QueueApi.find`. A session that was posted but never started is started now."""
        session = await self._find(batch_id)
        if session is None:
            return None
        session_id = str(session["id"])
        if not is_started(session):
            await self.start(session_id)
        return session_id

    async def cancel(self, batch_ids: Sequence[str]) -> None:
        for batch_id in batch_ids:
            session = await self._find(batch_id)
            if session is None or read_session_status(session) in ENDED_STATES:
                continue
            self._tracker.note_cancel_requests([batch_id])
            path = f"{_path(str(session['id']))}/invoke"
            await self._http.send(Request("DELETE", path, "cancelling", also=(400, 404), can_repeat=True))
            item = self._tracker.find(batch_id, session["id"])
            if item is not None:
                self._tracker.note_state(item, ItemState(status="canceled", batch_id=batch_id))

    async def validate(self, graph: Mapping[str, Any]) -> None:
        """See `QueueApi.validate`: posted as a session that is never started. Nothing here can be deleted."""
        await self.create(graph, "checking a graph")

    async def count_others_waiting(self, ours: str) -> int:  # noqa: ARG002  (part of the contract)
        """See `QueueApi.count_others_waiting`. This API does not tell: 0."""
        return 0

    async def read_session(self, item_id: str, batch_id: str) -> Mapping[str, Any]:  # noqa: ARG002  (it has the item's)
        return await self.read(item_id)

    async def read_end(self, ticket: Ticket, asked: bool) -> ItemEnded | None:
        session = await self.read(ticket.item_id)
        status = read_session_status(session)
        if status not in ENDED_STATES and not asked:
            return None
        images = await self.images(ticket.item_id, session, ticket.outputs)
        ended = read_end({"status": status, "session": {"results": {}, **session}}, ticket.outputs, asked)
        return replace(ended, images=tuple(images))

    async def _find(self, batch_id: str) -> dict[str, Any] | None:
        item = self._tracker.find(batch_id)
        if item is None or item.item_id is None:
            return await self.search(batch_id)
        try:
            return {**await self.read(item.item_id), "id": item.item_id}
        except ItemLostError:
            return None

    async def create(self, graph: Mapping[str, Any], what: str = "submitting an item") -> str:
        """Create a session for the graph without starting it; return its id. Raises VariationError with the reasons."""
        answer = await self._http.send(Request("POST", PATH, what, body={"graph": graph} if self.portable else graph))
        session_id = sendable(mapping(answer.body).get("id"))
        if session_id is None:
            raise TransientError(f"{self._url} gave no id for a session.", kind="BadAnswer")
        return session_id

    async def start(self, session_id: str) -> None:
        """Run a session to its end; one that ended already is left alone."""
        params = {} if self.portable else {"all": "true"}
        path = f"{_path(session_id)}/invoke"
        await self._http.send(Request("PUT", path, "starting an item", params=params, also=(400,)))

    async def read(self, session_id: str) -> dict[str, Any]:
        """Return the session. Raises ItemLostError where the server has none of that id."""
        answer = await self._http.get(_path(session_id), "reading an item", also=(404, 422))
        if answer.status != 200:
            raise ItemLostError(f"{self._url} does not know session {session_id}.")
        return mapping(answer.body)

    async def read_states(self, items: Sequence[TrackedItem]) -> dict[str, ItemState]:
        found: dict[str, ItemState] = {}
        for item in items:
            try:
                session = await self.read(item.item_id or "")
            except ItemLostError:
                continue
            found[item.item_id or ""] = ItemState(status=read_session_status(session), batch_id=find_graph_id(session))
        return found

    async def search(self, batch_id: str) -> dict[str, Any] | None:
        """Return the session whose graph bears this id; None without one, or where the server lists no sessions."""
        for page in range(MOST_PAGES):
            params = {"page": str(page), "per_page": str(PAGE), "query": batch_id}
            answer = await self._http.get(PATH, "looking for an item", params=params, also=_ABSENT)
            listed = mapping(answer.body)
            sessions = [mapping(entry) for entry in sequence(listed.get("items"))]
            for session in sessions:
                if find_graph_id(session) == batch_id and sendable(session.get("id")):
                    return session
            if len(sessions) < PAGE:
                break
        return None

    async def images(self, session_id: str, session: Mapping[str, Any], outputs: Sequence[str]) -> list[ServerImage]:
        """Return every image of the outputs: by the session's results, or by the list where it tells no results."""
        told = list(list_session_images(session, outputs))
        if told or not self.portable:
            return told
        answer = await self._http.get(f"{_path(session_id)}/images", "listing images", also=_ABSENT)
        source = mapping(session.get("prepared_source_mapping"))
        return select_listed_images(sequence(answer.body), source, outputs)


def _path(session_id: str) -> str:
    return f"{PATH}{quote(session_id, safe='')}"


def find_graph_id(session: Mapping[str, Any]) -> str | None:
    return text(mapping(session.get("graph")).get("id"))


def is_started(session: Mapping[str, Any]) -> bool:
    """Return whether it was ever started, as far as it tells: preparing the first node is part of that."""
    prepared = session.get("execution_graph")
    return not isinstance(prepared, dict) or bool(mapping(prepared.get("nodes")))


def read_session_status(session: Mapping[str, Any]) -> str:
    """Return pending, in_progress, completed, failed or canceled.

    InvokeAI 3 does not tell that a session was cancelled: it stays as it was for ever. Only who cancelled it knows.
    """
    if mapping(session.get("errors")):
        return "failed"
    wanted = mapping(mapping(session.get("graph")).get("nodes"))
    executed = session.get("executed")
    done = isinstance(executed, list) and bool(wanted) and set(wanted) <= {str(node) for node in executed}
    complete = session.get("is_complete")
    if done and complete is not False:
        return "completed"
    if complete is True:
        return "canceled" if isinstance(executed, list) and wanted else "completed"
    return "in_progress" if is_started(session) else "pending"


def select_listed_images(
    entries: Sequence[Any], source: Mapping[str, Any], outputs: Sequence[str]
) -> list[ServerImage]:
    """Return images of a list by the node each names; those that name none belong to the only output there is."""
    found: list[ServerImage] = []
    count: dict[str, int] = {}
    for entry in map(mapping, entries):
        name, told = text(entry.get("image_name")), text(entry.get("node_id"))
        node = str(source.get(told or "", told)) if told else (outputs[0] if len(outputs) == 1 else None)
        if name is None or node is None or (outputs and node not in outputs):
            continue
        width, height = number(entry.get("width")) or None, number(entry.get("height")) or None
        iteration = count[node] = count.get(node, -1) + 1
        found.append(ServerImage(name=name, node=node, iteration=iteration, width=width, height=height))
    order = {node: n for n, node in enumerate(outputs)}
    return sorted(found, key=lambda image: (order.get(image.node, 0), image.iteration))
