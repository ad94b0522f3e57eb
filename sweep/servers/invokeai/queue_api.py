"""The session queue API over HTTP: the few calls the client needs, with what differs between releases 3.2 and 6.14."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from sweep.errors import ItemLostError, OverloadedError, ServerError, ServerUnsupportedError, TransientError
from sweep.servers.invokeai import responses as reading
from sweep.servers.invokeai.http import Http
from sweep.servers.invokeai.responses import ItemState
from sweep.servers.invokeai.tracker import TrackedItem

MOST_IDS = 1000  # a server answers 422 to more in one call
FULL_ITEMS_AT_ONCE = 100  # where whole items come back: about 4 kB each
ORIGIN = "sweep"
FIRST_RELEASE, FIRST_UNKNOWN_RELEASE = (3, 2), (7, 0)
NOT_FOUND = (404, 405)
SEARCH_ORDER = ("pending", "in_progress", "completed", "failed", "canceled", "pending", "in_progress", "completed")
PROBE: dict[str, Any] = {"id": "sweep", "nodes": {"n": {"id": "n", "type": "integer", "value": 0}}, "edges": []}


class QueueApi:
    """One queue of one server."""

    def __init__(self, http: Http, queue_id: str) -> None:
        self._http = http
        self._path = f"/api/v1/queue/{quote(queue_id, safe='')}"
        self._has_summaries = True

    async def counts(self, also: Sequence[int] = ()) -> tuple[int, dict[str, Any]]:
        """HTTP status and counts of the whole queue."""
        answer = await self._http.call("GET", f"{self._path}/status", "reading its queue", also=also)
        return answer.status, reading.mapping(reading.mapping(answer.body).get("queue"))

    async def counts_of_destination(self, destination: str) -> dict[str, Any] | None:
        """None where the server is too old to tell (before 5.0)."""
        answer = await self._http.call(
            "GET",
            f"{self._path}/counts_by_destination",
            "counting our items",
            params={"destination": destination},
            also=NOT_FOUND,
        )
        return reading.mapping(answer.body) if answer.status == 200 else None

    async def enqueue(self, batch: Mapping[str, Any], *, prepend: bool) -> dict[str, Any]:
        """Post one batch, once; how many were enqueued is the caller's to look at."""
        body = {"prepend": prepend, "batch": {"runs": 1, "origin": ORIGIN, **batch}}
        answer = await self._http.call("POST", f"{self._path}/enqueue_batch", "submitting an item", body=body)
        return reading.mapping(answer.body)

    async def submit(self, batch: Mapping[str, Any], *, prepend: bool) -> str | None:
        """Enqueue exactly one item: its id, or None where the server does not say it (before 6.0).

        Raises OverloadedError where the queue is full: that is no error to the server, which answers 200 and drops
        what does not fit.
        """
        answer = await self.enqueue(batch, prepend=prepend)
        if reading.number(answer.get("enqueued")) < 1:
            raise OverloadedError(f"{self._http.address.url} has no room in its queue.")
        ids = [item for item in reading.sequence(answer.get("item_ids")) if isinstance(item, int)]
        return str(max(ids)) if ids else None

    async def validate(self, batch_id: str, graph: Mapping[str, Any]) -> None:
        """Have a graph validated and nothing enqueued. Raises VariationError with the server's reasons."""
        nodes = reading.mapping(graph.get("nodes"))
        data = [[{"node_path": next(iter(nodes)), "field_name": "is_intermediate", "items": []}]]
        answer = await self.enqueue({"batch_id": batch_id, "graph": graph, "data": data}, prepend=False)
        if reading.number(answer.get("enqueued")):
            await self.cancel([batch_id])

    async def cancel(self, batch_ids: Sequence[str]) -> None:
        """Cancel batches; unknown ones are ignored by the server."""
        await self._http.call(
            "PUT",
            f"{self._path}/cancel_by_batch_ids",
            "cancelling",
            body={"batch_ids": list(batch_ids)},
            repeat=True,
        )

    async def batch_counts(self, batch_id: str) -> dict[str, Any]:
        """How many items of a batch are in which state. An unknown batch has all zeros, and never existed."""
        answer = await self._http.call("GET", f"{self._path}/b/{quote(batch_id, safe='')}/status", "asking for a batch")
        return reading.mapping(answer.body)

    async def find(self, batch_id: str) -> str | None:
        """The newest item of a batch; None where there never was one.

        An enqueue of nothing under the same batch id lists the ids of all that is in that batch already (since 6.0).
        """
        if reading.number((await self.batch_counts(batch_id)).get("total")) == 0:
            return None
        data = [[{"node_path": "n", "field_name": "value", "items": []}]]
        answer = await self.enqueue({"batch_id": batch_id, "graph": PROBE, "data": data}, prepend=False)
        ids = [item for item in reading.sequence(answer.get("item_ids")) if isinstance(item, int)]
        found = str(max(ids)) if ids else await self._search(batch_id)
        if found is None:
            raise TransientError(f"{self._http.address.url} has batch {batch_id} but does not say which item it is.")
        return found

    async def _search(self, batch_id: str) -> str | None:
        """Page through the queue (before 6.0), what is pending or running first. An item that moves on between two
        pages is found in a second round.
        """
        for status in SEARCH_ORDER:
            after: dict[str, str] = {}
            while True:
                items, more = await self._page({"limit": str(MOST_IDS), "status": status, **after})
                for item in items:
                    if item.get("batch_id") == batch_id:
                        return str(item.get("item_id"))
                before = after
                if items:
                    last = items[-1]
                    after = {"cursor": str(last.get("item_id")), "priority": str(reading.number(last.get("priority")))}
                if not more or after == before:
                    break
        return None

    async def _page(self, params: Mapping[str, str]) -> tuple[list[dict[str, Any]], bool]:
        what = "looking for an item"
        answer = await self._http.call("GET", f"{self._path}/list", what, params=params, also=NOT_FOUND)
        page = reading.mapping(answer.body)
        return [reading.mapping(item) for item in reading.sequence(page.get("items"))], page.get("has_more") is True

    async def item(self, item_id: str) -> dict[str, Any]:
        """The whole item. Raises ItemLostError where the server has none of that id."""
        answer = await self._http.call(
            "GET", f"{self._path}/i/{quote(item_id, safe='')}", "reading an item", also=(404, 500)
        )
        if answer.status == 200:
            return reading.mapping(answer.body)
        said = str(reading.mapping(answer.body).get("detail"))
        if answer.status == 404 or "404" in said:  # an item of another queue is a 500 that quotes a 404
            raise ItemLostError(f"{self._http.address.url} does not know item {item_id}.")
        raise TransientError(f"{self._http.address.url} cannot read item {item_id} (500).", kind="HTTP 500")

    async def states(self, items: Sequence[TrackedItem]) -> dict[str, ItemState]:
        """How far these items are; unknown ones are missing in the answer."""
        if self._has_summaries:
            found = await self._summaries([item.item_id or "" for item in items])
            if found is not None:
                return found
            self._has_summaries = False
        states = {}
        for item in items:
            one = await self._by_batch(item)
            if one is not None:
                states[item.item_id or ""] = one
        return states

    async def _summaries(self, ids: Sequence[str]) -> dict[str, ItemState] | None:
        numbers = [int(item) for item in ids if item.isdecimal()]
        found: dict[str, ItemState] = {}
        for start in range(0, len(numbers), MOST_IDS):
            answer = await self._http.call(
                "POST",
                f"{self._path}/item_summaries_by_ids",
                "asking how far items are",
                body={"item_ids": numbers[start : start + MOST_IDS]},
                also=NOT_FOUND,
                repeat=True,
            )
            if answer.status != 200:
                return None
            for summary in map(reading.mapping, reading.sequence(answer.body)):
                found[str(summary.get("item_id"))] = reading.read_item_state(summary)
        return found

    async def _by_batch(self, item: TrackedItem) -> ItemState | None:
        """Before 6.14: a batch of ours is one item, so its counts tell the item's state."""
        counts = await self.batch_counts(item.batch_id)
        if reading.number(counts.get("total")) == 0:
            return None
        order: Iterable[str] = ("completed", "in_progress", "pending", "waiting", "failed", "canceled")
        status = next((name for name in order if reading.number(counts.get(name))), "pending")
        return ItemState(status=status, batch_id=item.batch_id)


def version_numbers(version: str) -> tuple[int, int] | None:
    """Major and minor of a release; None where it is not written like one."""
    parts = version.strip().removeprefix("v").split(".")
    if len(parts) < 2 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return None
    return int(parts[0]), int(parts[1])


def unsupported(url: str, version: str) -> ServerError | None:
    """Why this release cannot be spoken to by the queue API; None where it can."""
    numbers = version_numbers(version)
    if numbers is None:
        return ServerUnsupportedError(f"{url} says it is version {version[:40]!r}, which sweep does not know.")
    if not FIRST_RELEASE <= numbers < FIRST_UNKNOWN_RELEASE:
        return ServerUnsupportedError(
            f"{url} is InvokeAI {version[:40]}; sweep speaks the queue API of 3.2 to 6.x.",
            hint="Update sweep." if numbers[0] > 6 else "Update InvokeAI.",
        )
    return None
