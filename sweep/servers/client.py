"""What the clients of both of InvokeAI's APIs have in common: the connection, and everything but the items' own way."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

from sweep.errors import VariationError
from sweep.servers.address import Address
from sweep.servers.background import Background
from sweep.servers.base import MissingModelError, ServerImage, ServerInfo
from sweep.servers.credentials import Credentials
from sweep.servers.events import Events
from sweep.servers.http import Http, Timings
from sweep.servers.materials import Materials
from sweep.servers.watching import Watch
from sweep.workflow.graph import Graph
from sweep.workflow.schemas import Model, NodeSchemas

CHECKS_AT_ONCE: Final = 4


class ClientOptions(TypedDict, total=False):
    """How a client speaks to its server. `uploads` remembers pictures across processes (hash → name there)."""

    credentials: Credentials | None
    ca_file: Path | None
    timings: Timings | None
    uploads: MutableMapping[str, str] | None
    clock: Callable[[], float]


class Client(ABC):
    """Half of a `Server`: a subclass sets `_watch` and `_events`, says how it introduces itself and checks a graph,
    and submits, hears, finds and cancels.
    """

    _watch: Watch
    _events: Events

    def __init__(self, url: str, **options: Unpack[ClientOptions]) -> None:
        self._timings = options.get("timings") or Timings()
        self._clock = options.get("clock", time.monotonic)
        self._http = Http(
            Address.parse(url),
            credentials=options.get("credentials"),
            ca_file=options.get("ca_file"),
            timings=self._timings,
        )
        uploads = options.get("uploads")
        self._materials = Materials(self._http, {} if uploads is None else uploads)
        self._checks = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._background = Background()

    @property
    def url(self) -> str:
        """The address as given, without credentials."""
        return self._http.address.url

    async def open(self) -> ServerInfo:
        """Find out who answers, log in, start to listen. See `Server.open`."""
        info = await self._http.introduced(self._introduce)
        self._background.start(self._events.run(), self._watch.run())
        return info

    async def aclose(self) -> None:
        """Let go of everything; never raises. See `Server.aclose`."""
        self._events.stop()
        self._watch.stop()
        await self._background.end()
        await self._http.aclose()

    async def schemas(self) -> NodeSchemas:
        """See `Server.schemas`."""
        return await self._materials.schemas()

    async def models(self) -> tuple[Model, ...]:
        """See `Server.models`."""
        return await self._materials.models.all()

    async def fetch(self, image: ServerImage, limit: int) -> bytes:
        """See `Server.fetch`."""
        return await self._materials.fetch(image, limit)

    async def loaded(self) -> frozenset[str]:
        """See `Server.loaded`: the models loaded last, as far as events told and submissions named them."""
        return self._materials.loaded()

    async def check(self, graphs: Sequence[Graph], images: Mapping[str, Path]) -> list[str | None]:
        """See `Server.check`."""
        return list(await asyncio.gather(*(self._checked(graph, images) for graph in graphs)))

    async def _checked(self, graph: Graph, images: Mapping[str, Path]) -> str | None:
        async with self._checks:
            try:
                await self._validate(await self._materials.resolve(graph, images))
            except (VariationError, MissingModelError) as fault:
                return str(fault)
        return None

    @abstractmethod
    async def _introduce(self) -> ServerInfo:
        """Ask who answers; log in where that is wanted. Raises ServerError."""

    @abstractmethod
    async def _validate(self, api: Mapping[str, Any]) -> None:
        """Have the server check a graph without rendering it. Raises VariationError where it refuses."""

    def _line_changed(self, up: bool) -> None:
        if not up:
            self._materials.nothing_loaded()
        self._watch.line_changed(up)
