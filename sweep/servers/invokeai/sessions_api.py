"""The sessions API over HTTP, in both shapes: InvokeAI 3.0 and 3.1, and the portable document's.

A session is a graph that was posted; its id is the server's choice. Ours, the batch id, goes along as the graph's id,
by which a session whose answer was lost is found again. (Releases 3.2 and 3.3 have these routes, too, but also a queue,
and only the queue still runs there.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from sweep.errors import ItemLostError, TransientError
from sweep.servers.base import ServerImage
from sweep.servers.invokeai import responses as reading
from sweep.servers.invokeai.http import Http
from sweep.servers.invokeai.responses import ItemState
from sweep.servers.invokeai.tracker import TrackedItem

PATH = "/api/v1/sessions/"
PAGE = 50
MOST_PAGES = 40  # the newest session may be on the last; a longer history is not searched to its end
_ABSENT = (400, 404, 405, 422)


class Sessions:
    """The sessions of one server. `portable` is the shape: the graph wrapped, `is_complete` told, images listed."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self.portable = False

    async def find_shape(self) -> None:
        """Post an empty graph, which is never started: only the portable shape says that it is not complete."""
        body = {"graph": {"id": "sweep", "nodes": {}, "edges": []}}
        answer = await self._http.call("POST", PATH, "asking which sessions it has", body=body, also=(422,))
        self.portable = "is_complete" in reading.mapping(answer.body)

    async def create(self, graph: Mapping[str, Any], what: str = "submitting an item") -> str:
        """A session for the graph, not started: its id. Raises VariationError with the server's reasons."""
        answer = await self._http.call("POST", PATH, what, body={"graph": graph} if self.portable else graph)
        session_id = reading.text(reading.mapping(answer.body).get("id"))
        if session_id is None:
            raise TransientError(f"{self._http.address.url} gave no id for a session.", kind="BadAnswer")
        return session_id

    async def start(self, session_id: str) -> None:
        """Have it run to its end; one that ended already is left alone."""
        params = {} if self.portable else {"all": "true"}
        path = f"{_path(session_id)}/invoke"
        await self._http.call("PUT", path, "starting an item", params=params, also=(400,))

    async def cancel(self, session_id: str) -> None:
        """An unknown one, or one that ended, is ignored by the server."""
        path = f"{_path(session_id)}/invoke"
        await self._http.call("DELETE", path, "cancelling", also=(400, 404), repeat=True)

    async def read(self, session_id: str) -> dict[str, Any]:
        """The session. Raises ItemLostError where the server has none of that id."""
        answer = await self._http.call("GET", _path(session_id), "reading an item", also=(404, 422))
        if answer.status != 200:
            raise ItemLostError(f"{self._http.address.url} does not know session {session_id}.")
        return reading.mapping(answer.body)

    async def states(self, items: Sequence[TrackedItem]) -> dict[str, ItemState]:
        """How far these are; unknown ones are missing in the answer."""
        found: dict[str, ItemState] = {}
        for item in items:
            try:
                session = await self.read(item.item_id or "")
            except ItemLostError:
                continue
            found[item.item_id or ""] = ItemState(status=session_status(session), batch_id=graph_id(session))
        return found

    async def find(self, batch_id: str) -> dict[str, Any] | None:
        """The session whose graph bears this id; None where there is none, or the server does not list sessions."""
        for page in range(MOST_PAGES):
            params = {"page": str(page), "per_page": str(PAGE), "query": batch_id}
            answer = await self._http.call("GET", PATH, "looking for an item", params=params, also=_ABSENT)
            listed = reading.mapping(answer.body)
            sessions = [reading.mapping(entry) for entry in reading.sequence(listed.get("items"))]
            for session in sessions:
                if graph_id(session) == batch_id and reading.text(session.get("id")):
                    return session
            if len(sessions) < PAGE:
                break
        return None

    async def images(self, session_id: str, session: Mapping[str, Any], outputs: Sequence[str]) -> list[ServerImage]:
        """Every image of the outputs: by the session's results, or by the list where it tells no results."""
        told = list(reading.session_images(session, outputs))
        if told or not self.portable:
            return told
        answer = await self._http.call("GET", f"{_path(session_id)}/images", "listing images", also=_ABSENT)
        source = reading.mapping(session.get("prepared_source_mapping"))
        return listed_images(reading.sequence(answer.body), source, outputs)


def _path(session_id: str) -> str:
    return f"{PATH}{quote(session_id, safe='')}"


def graph_id(session: Mapping[str, Any]) -> str | None:
    """The id its graph was posted under."""
    return reading.text(reading.mapping(session.get("graph")).get("id"))


def started(session: Mapping[str, Any]) -> bool:
    """Whether it was ever started, as far as it tells: preparing the first node is part of that."""
    prepared = session.get("execution_graph")
    return not isinstance(prepared, dict) or bool(reading.mapping(prepared.get("nodes")))


def session_status(session: Mapping[str, Any]) -> str:
    """pending, in_progress, completed, failed or canceled.

    InvokeAI 3 does not tell that a session was cancelled: it stays as it was for ever. Who cancels knows.
    """
    if reading.mapping(session.get("errors")):
        return "failed"
    wanted = reading.mapping(reading.mapping(session.get("graph")).get("nodes"))
    executed = session.get("executed")
    done = isinstance(executed, list) and bool(wanted) and set(wanted) <= {str(node) for node in executed}
    complete = session.get("is_complete")
    if done and complete is not False:
        return "completed"
    if complete is True:
        return "canceled" if isinstance(executed, list) and wanted else "completed"
    return "in_progress" if started(session) else "pending"


def listed_images(entries: Sequence[Any], source: Mapping[str, Any], outputs: Sequence[str]) -> list[ServerImage]:
    """Images of a list, by the node each names; those that name none belong to the only output there is."""
    found: list[ServerImage] = []
    count: dict[str, int] = {}
    for entry in map(reading.mapping, entries):
        name, told = reading.text(entry.get("image_name")), reading.text(entry.get("node_id"))
        node = str(source.get(told or "", told)) if told else (outputs[0] if len(outputs) == 1 else None)
        if name is None or node is None or (outputs and node not in outputs):
            continue
        width, height = reading.number(entry.get("width")) or None, reading.number(entry.get("height")) or None
        iteration = count[node] = count.get(node, -1) + 1
        found.append(ServerImage(name=name, node=node, iteration=iteration, width=width, height=height))
    order = {node: n for n, node in enumerate(outputs)}
    return sorted(found, key=lambda image: (order.get(image.node, 0), image.iteration))
