"""Which API a server speaks is found out by asking it, when it is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from sweep.errors import ServerUnsupportedError
from sweep.servers.base import ItemEvent, Server, ServerImage, ServerInfo, Submission, Ticket
from sweep.servers.invokeai import responses as reading
from sweep.servers.invokeai.client import InvokeAI, InvokeAISessions
from sweep.servers.invokeai.http import Credentials, Http, ServerAddress, Timings
from sweep.workflow import Graph, Model, NodeSchemas


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """How to speak to a server. All but `credentials` and `uploads` is commonly the same for every server of a run."""

    credentials: Credentials | None = None
    ca_file: Path | None = None
    queue_id: str = "default"
    timings: Timings = field(default_factory=Timings)
    uploads: MutableMapping[str, str] | None = None  # SHA-256 → name on this server, kept by the caller


def connect(url: str, options: ConnectOptions | None = None) -> Server:
    """A client for whatever of InvokeAI's family answers at `url`; nothing is sent before `open`.

    Raises UsageError for an address that is none. `open` raises ServerError where nobody answers there, we are
    refused, or it speaks neither the queue API (InvokeAI 3.2 to 6) nor the sessions API (InvokeAI 3.0 and 3.1, and the
    portable document's servers).
    """
    return FamilyServer(url, options or ConnectOptions())


class FamilyServer:
    """A `Server` that becomes the client of the API it finds when it is opened."""

    def __init__(self, url: str, options: ConnectOptions) -> None:
        self._address = ServerAddress.parse(url)
        self._options = options
        self._found: Server | None = None

    @property
    def url(self) -> str:
        """See `Server.url`."""
        return self._address.url

    @property
    def _server(self) -> Server:
        if self._found is None:
            raise RuntimeError("open() comes first")
        return self._found

    async def open(self) -> ServerInfo:
        """See `Server.open`."""
        options = self._options
        http = Http(self._address, credentials=options.credentials, ca_file=options.ca_file, timings=options.timings)
        api = await http.introduced(lambda: _api(http, options.queue_id))
        await http.aclose()
        found = _client(api, self._address.url, options)
        info = await found.open()
        self._found = found
        return info

    async def aclose(self) -> None:
        """See `Server.aclose`."""
        if self._found is not None:
            await self._found.aclose()

    async def schemas(self) -> NodeSchemas:
        """See `Server.schemas`."""
        return await self._server.schemas()

    async def models(self) -> tuple[Model, ...]:
        """See `Server.models`."""
        return await self._server.models()

    async def check(self, graphs: Sequence[Graph], images: Mapping[str, Path]) -> list[str | None]:
        """See `Server.check`."""
        return await self._server.check(graphs, images)

    async def submit(self, submission: Submission) -> Ticket:
        """See `Server.submit`."""
        return await self._server.submit(submission)

    def hear(self, ticket: Ticket) -> AsyncIterator[ItemEvent]:
        """See `Server.hear`."""
        return self._server.hear(ticket)

    async def find(self, batch_id: str, outputs: tuple[str, ...] = ()) -> Ticket | None:
        """See `Server.find`."""
        return await self._server.find(batch_id, outputs)

    async def fetch(self, image: ServerImage, limit: int) -> bytes:
        """See `Server.fetch`."""
        return await self._server.fetch(image, limit)

    async def cancel(self, batch_ids: Sequence[str]) -> None:
        """See `Server.cancel`."""
        await self._server.cancel(batch_ids)

    async def loaded(self) -> frozenset[str]:
        """See `Server.loaded`."""
        return await self._server.loaded()

    async def others_waiting(self, ours: str) -> int:
        """See `Server.others_waiting`."""
        return await self._server.others_waiting(ours)


async def _api(http: Http, queue_id: str) -> str:
    """`queue` or `sessions` by what is there, empty for neither. A refusal is an answer, too: there is something."""
    also = (400, 401, 403, 404, 405, 422)
    queue = await http.call(
        "GET", f"/api/v1/queue/{quote(queue_id, safe='')}/status", "asking which API it speaks", also=also
    )
    if queue.status in (401, 403) or "queue" in reading.mapping(queue.body):
        return "queue"
    sessions = await http.call("GET", "/api/v1/sessions/", "asking which API it speaks", also=also)
    return "" if sessions.status == 404 else "sessions"


def _client(api: str, url: str, options: ConnectOptions) -> Server:
    if api == "queue":
        return InvokeAI(
            url,
            credentials=options.credentials,
            ca_file=options.ca_file,
            queue_id=options.queue_id,
            timings=options.timings,
            uploads=options.uploads,
        )
    if api == "sessions":
        return InvokeAISessions(
            url,
            credentials=options.credentials,
            ca_file=options.ca_file,
            timings=options.timings,
            uploads=options.uploads,
        )
    raise ServerUnsupportedError(f"{url} answers, but speaks no API of InvokeAI's.", hint="Is that an InvokeAI?")
