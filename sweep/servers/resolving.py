"""One server's own identifiers: a model's five keys by its name, a board's id by its name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from sweep.errors import TransientError, did_you_mean
from sweep.servers import reading
from sweep.servers.base import MissingModelError
from sweep.servers.http import Http
from sweep.workflow.graph import Json, ModelRef
from sweep.workflow.schemas import Model


class Models:
    """The installed models. They are read again where one is asked for that was not there before."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._known: dict[ModelRef, Model] = {}
        self._lock = asyncio.Lock()
        self._keyed = True

    async def all(self) -> tuple[Model, ...]:
        """As they are now."""
        answer = await self._http.call("GET", "/api/v2/models/", "reading its models", also=(404,))
        self._keyed = answer.status != 404
        if not self._keyed:
            answer = await self._http.call("GET", "/api/v1/models/", "reading its models")
        found = reading.models(answer.body)
        self._known = {ModelRef(m.name, m.base, m.type): m for m in sorted(found, key=lambda m: m.key, reverse=True)}
        return found

    async def identify(self, refs: Iterable[ModelRef]) -> dict[ModelRef, Model]:
        """Raises MissingModelError for the first that is not installed here. Of models that share name, base and type
        the one with the smallest key is meant, always.
        """
        wanted = set(refs)
        async with self._lock:
            if wanted - self._known.keys():
                await self.all()
            for ref in sorted(wanted - self._known.keys()):
                raise self._missing(ref)
            return {ref: self._known[ref] for ref in wanted}

    def named(self, model: Model) -> Json:
        """A model as a graph for this server names it: five keys, or before release 4 three names."""
        if self._keyed:
            return {"key": model.key, "hash": model.hash, "name": model.name, "base": model.base, "type": model.type}
        return {"model_name": model.name, "base_model": model.base, "model_type": model.type}

    def _missing(self, ref: ModelRef) -> MissingModelError:
        same_kind = [known.name for known in self._known if known.type == ref.type]
        near = did_you_mean(ref.name, (name for name in same_kind if name != ref.name))
        return MissingModelError(
            f"{self._http.address.url} has no {ref.type} model {ref.name!r} of base {ref.base!r}.{near}", ref=ref
        )


class Boards:
    """Boards by name, each made once where it is missing."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._known: dict[str, str] = {}
        self._lock = asyncio.Lock()

    async def identify(self, name: str) -> str:
        """The board's id on this server."""
        async with self._lock:
            if name not in self._known:
                self._known[name] = await self._find(name) or await self._make(name)
            return self._known[name]

    async def _find(self, name: str) -> str | None:
        answer = await self._http.call("GET", "/api/v1/boards/", "reading its boards", params={"all": "true"})
        for board in map(reading.mapping, reading.sequence(answer.body)):
            if board.get("board_name") == name:
                return reading.text(board.get("board_id"))
        return None

    async def _make(self, name: str) -> str:
        answer = await self._http.call("POST", "/api/v1/boards/", "making a board", params={"board_name": name})
        board_id = reading.text(reading.mapping(answer.body).get("board_id"))
        if board_id is None:
            raise TransientError(f"{self._http.address.url} gave no id for a new board.", kind="BadAnswer")
        return board_id
