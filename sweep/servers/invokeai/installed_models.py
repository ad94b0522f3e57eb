"""The models that are installed on an InvokeAI, by reference and by its own keys, and those that it holds in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from sweep.errors import did_you_mean
from sweep.servers.base import MissingModelError
from sweep.servers.http import LARGEST_SCHEMA, Http
from sweep.servers.untrusted_json import mapping, plain_name, sequence, text
from sweep.workflow import Json, Model, ModelRef

PARTS: Final = ("name", "base", "type")  # that tell a model
OLD_PARTS: Final = ("model_name", "base_model", "model_type")  # before release 4
MODELS_HELD: Final = 8  # how many of the models loaded last are taken to be in memory still


def read_models(answer: Any) -> tuple[Model, ...]:
    """Return the models of a list in either form, in its order, without those that lack a plain name, base or type.

    Before release 4 models had no keys: base, type and name make one.
    """
    found = []
    for entry in map(mapping, sequence(mapping(answer).get("models"))):
        told = (entry.get(new) or entry.get(old) for new, old in zip(PARTS, OLD_PARTS, strict=True))
        name, base, kind = map(plain_name, told)
        if name and base and kind:
            key = text(entry.get("key")) or f"{base}/{kind}/{name}"
            found.append(Model(key=key, hash=str(entry.get("hash") or ""), name=name, base=base, type=kind))
    return tuple(found)


class InstalledModels:
    """The models by reference. They are read again where one is asked for that was not there before."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._known: dict[ModelRef, Model] = {}
        self._lock = asyncio.Lock()
        self._keyed = True
        self.loaded: deque[str] = deque(maxlen=MODELS_HELD)  # keys, the one loaded last at the end

    async def read(self) -> tuple[Model, ...]:
        """Return the models as they are now; of several with one reference that of the smallest key is used."""
        answer = await self._http.get("/api/v2/models/", "reading its models", also=(404,), limit=LARGEST_SCHEMA)
        self._keyed = answer.status != 404
        if not self._keyed:
            answer = await self._http.get("/api/v1/models/", "reading its models", limit=LARGEST_SCHEMA)
        found = read_models(answer.body)
        self._known = {ModelRef(m.name, m.base, m.type): m for m in sorted(found, key=lambda m: m.key, reverse=True)}
        return found

    async def require(self, refs: Iterable[ModelRef]) -> None:
        """Raise MissingModelError for the first of these models that is not installed here."""
        wanted = sorted(ref for ref in refs if ref not in self._known)
        if wanted:
            async with self._lock:
                if any(ref not in self._known for ref in wanted):
                    await self.read()
        for ref in (ref for ref in wanted if ref not in self._known):
            same_kind = [known.name for known in self._known if known.type == ref.type]
            near = did_you_mean(ref.name, (name for name in same_kind if name != ref.name))
            message = f"{self._http.address.url} has no {ref.type} model {ref.name!r} of base {ref.base!r}.{near}"
            raise MissingModelError(message, ref=ref)

    def name(self, ref: ModelRef) -> Json:
        """Return a model as a graph for this server names it: by five keys, or before release 4 by three names.

        One that is not installed has no key: only metadata may name it.
        """
        model = self._known.get(ref, Model(key="", hash="", name=ref.name, base=ref.base, type=ref.type))
        return asdict(model) if self._keyed else dict(zip(OLD_PARTS, (model.name, model.base, model.type), strict=True))

    def note_used(self, refs: Iterable[ModelRef]) -> None:
        """Record that the server took an item that needs these, and so will have them in memory."""
        for ref in refs:
            if ref in self._known:
                self.note_loaded(self._known[ref].key)

    def note_loaded(self, key: str) -> None:
        if key in self.loaded:
            self.loaded.remove(key)
        self.loaded.append(key)
