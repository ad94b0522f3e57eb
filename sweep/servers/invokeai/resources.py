"""Resources of an InvokeAI: its models and the input images on it, and graphs with its own ids of these."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp

from sweep.errors import AttemptError, OverloadedError, TransientError, VariationError, did_you_mean
from sweep.servers.base import MissingModelError, Submission
from sweep.servers.http import LARGEST_SCHEMA, Http, Response, mapping, read_input_image, sequence, text
from sweep.servers.invokeai.gallery import InvokeAIGallery
from sweep.servers.invokeai.item_results import IMAGE_GONE
from sweep.workflow import DESCRIPTIVE_NODES, BoardRef, Graph, ImageRef, Json, Model, ModelRef, Ref, write_graph

PARTS = ("name", "base", "type")  # that tell a model
OLD_PARTS = ("model_name", "base_model", "model_type")  # before release 4


def read_models(answer: Any) -> tuple[Model, ...]:
    """Return the models of a list in either form, in its order, without those that lack a name, base or type.

    Before release 4 models had no keys: base, type and name make one.
    """
    found = []
    for entry in map(mapping, sequence(mapping(answer).get("models"))):
        name, base, kind = (
            text(entry.get(new)) or text(entry.get(old)) for new, old in zip(PARTS, OLD_PARTS, strict=True)
        )
        if name and base and kind:
            key = text(entry.get("key")) or f"{base}/{kind}/{name}"
            found.append(Model(key=key, hash=str(entry.get("hash") or ""), name=name, base=base, type=kind))
    return tuple(found)


class ServerModels:
    """The installed models by reference. They are read again where one is asked for that was not there before."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._known: dict[ModelRef, Model] = {}
        self._lock = asyncio.Lock()
        self._keyed = True

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

    def key(self, ref: Ref) -> str | None:
        """Return the server's key of a model; None of one that is not known to be here."""
        return self._known[ref].key if isinstance(ref, ModelRef) and ref in self._known else None

    def name(self, ref: ModelRef) -> Json:
        """Return a model as a graph for this server names it: by five keys, or before release 4 by three names.

        One that is not installed has no key: only metadata may name it.
        """
        model = self._known.get(ref, Model(key="", hash="", name=ref.name, base=ref.base, type=ref.type))
        return asdict(model) if self._keyed else dict(zip(OLD_PARTS, (model.name, model.base, model.type), strict=True))


KINDS = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif", ".bmp": "image/bmp"}


class Uploads:
    """Uploads input images, each once. `remembered` maps an image's SHA-256 to its name on this server.

    What earlier processes left in it is checked with the server: somebody may have deleted the image there.
    """

    def __init__(self, http: Http, gallery: InvokeAIGallery, remembered: MutableMapping[str, str]) -> None:
        self._http = http
        self._gallery = gallery
        self.remembered = remembered
        self._sure: dict[str, str] = {}
        self._named: dict[str, bool] = {}  # images that graphs name themselves
        self._locks: dict[str, asyncio.Lock] = {}

    async def name(self, sha256: str, path: Path | None) -> str:
        """Return the server's name for the image, which is uploaded where the server does not have it.

        Raises VariationError where the file is missing, was changed after the plan was made, or is refused.
        """
        async with self._locks.setdefault(sha256, asyncio.Lock()):
            if sha256 not in self._sure:
                known = self.remembered.get(sha256)
                if known is None or not await self._gallery.has(known):
                    known = await self._upload(sha256, path)
                self._sure[sha256] = self.remembered[sha256] = known
            return self._sure[sha256]

    def find_name(self, sha256: str) -> str | None:
        return self._sure.get(sha256)

    def forget(self, hashes: Iterable[str]) -> None:
        """Forget images that the server says are gone: the next to ask uploads them anew."""
        for sha256 in hashes:
            self._sure.pop(sha256, None)
            self.remembered.pop(sha256, None)

    async def has(self, name: str) -> bool:
        """Tell whether the server has an image of this name; it is asked once."""
        if name not in self._named:
            self._named[name] = await self._gallery.has(name)
        return self._named[name]

    async def _upload(self, sha256: str, path: Path | None) -> str:
        content, ending = await read_input_image(sha256, path)

        def form() -> aiohttp.FormData:
            made = aiohttp.FormData()
            kind = KINDS.get(ending, "image/png")
            made.add_field("file", content, filename=f"{sha256[:16]}{ending}", content_type=kind)
            return made

        answer = await self._post(form, path.name if path else sha256, len(content))
        name = text(mapping(answer.body).get("image_name"))
        if name is None:
            raise TransientError(f"{self._http.address.url} gave no name for an uploaded image.", kind="BadAnswer")
        return name

    async def _post(
        self, form: Callable[[], aiohttp.FormData], shown: str, size: int, *, is_last: bool = False
    ) -> Response:
        """Send an image. Raises RefusedImageError where the server takes others, but fails at this one twice."""
        path, category = self._gallery.upload_path, {"image_category": "user", "is_intermediate": "false"}
        try:
            return await self._http.post_form(path, "uploading an input image", form, category, size)
        except VariationError as error:
            raise RefusedImageError(f"{shown}: the server refuses the input image: {error}") from None
        except TransientError as error:
            if isinstance(error, OverloadedError) or not (error.kind or "").startswith("HTTP 5"):
                raise
            if is_last:
                raise RefusedImageError(f"{shown}: the server cannot take the input image: {error}") from None
        return await self._post(form, shown, size, is_last=True)


class RefusedImageError(VariationError):
    """The server does not take an input image: the points that use it fail, and no other."""


def mark_outputs(api: dict[str, Any], outputs: Iterable[str], *, board_id: str | None, intermediate: bool) -> None:
    """Mark on each node whether the server keeps its images, and on which board.

    An output is never taken from the server's cache: two items would share one image, which names only the first.
    Other nodes' images are kept out of the gallery, unless the graph says otherwise.
    """
    wanted = frozenset(outputs)
    for name, node in api["nodes"].items():
        if name not in wanted:
            node.setdefault("is_intermediate", True)
            continue
        node["is_intermediate"] = intermediate
        node["use_cache"] = False
        if board_id is not None:
            node["board"] = {"board_id": board_id}


MODELS_HELD = 8  # how many of the models loaded last are taken to be in memory still
ITEMS_REMEMBERED = 1000  # whose input images are known, should the server have lost them


def _list_named(value: Any) -> Iterator[str]:
    """List the server's images that a field names by itself."""
    if isinstance(value, Mapping):
        name = value.get("image_name")
        if isinstance(name, str) and name:
            yield name
        for part in value.values():
            yield from _list_named(part)
    elif isinstance(value, list):
        for part in value:
            yield from _list_named(part)


class ServerResources:
    """A server's models, boards and uploads, kept, and a graph's references resolved to its ids.

    `remembered` maps images' hashes to their names on this server, across processes.
    """

    def __init__(self, http: Http, remembered: MutableMapping[str, str]) -> None:
        self.gallery = InvokeAIGallery(http)
        self.uploads = Uploads(http, self.gallery, remembered)
        self.models = ServerModels(http)
        self._http = http
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._needs_of: OrderedDict[str, frozenset[Ref]] = OrderedDict()  # batch → what its graph needs

    async def resolve(self, graph: Graph, files: Mapping[str, Path]) -> tuple[dict[str, Any], frozenset[Ref]]:
        """Return the graph's JSON for this server, and what it needs there.

        Raises MissingModelError, or VariationError for an image's file.
        """
        if not graph.nodes:
            raise VariationError("the graph has no nodes", kind="Refused")
        refs = graph.references(without=DESCRIPTIVE_NODES)
        await self.models.require(ref for ref in refs if isinstance(ref, ModelRef))
        names: dict[Ref, Json] = {}
        for board in sorted(ref for ref in refs if isinstance(ref, BoardRef)):
            names[board] = {"board_id": await self.gallery.make_board(board.name)}
        images = sorted(ref for ref in refs if isinstance(ref, ImageRef))
        uploads = await asyncio.gather(*(self.uploads.name(ref.sha256, files.get(ref.sha256)) for ref in images))
        names |= {ref: {"image_name": name} for ref, name in zip(images, uploads, strict=True)}
        return write_graph(graph, lambda ref: names.get(ref) or self._describe(ref)), refs

    async def check_images(self, graph: Graph) -> None:
        """Ask once for each image that the graph itself names. Raises VariationError for one that is not here."""
        for node in graph.nodes.values():
            for name in _list_named(node.fields) if node.type not in DESCRIPTIVE_NODES else ():
                if not await self.uploads.has(name):
                    raise VariationError(
                        f"{node.id}: the image {name} is not on the server; set inputs.image to a file"
                    )

    def _describe(self, ref: Ref) -> Json:
        """Return a reference as this server names it; one that metadata alone names need not be here."""
        if isinstance(ref, ModelRef):
            return self.models.name(ref)
        return {"image_name": self.uploads.find_name(ref.sha256) or ""} if isinstance(ref, ImageRef) else None

    async def prepare(self, submission: Submission) -> dict[str, Any]:
        """Return the submission's graph as it is sent, with its outputs marked and its board made."""
        board = await self.gallery.make_board(submission.board) if submission.board else None
        api, self._needs_of[submission.batch_id] = await self.resolve(submission.graph, submission.images)
        mark_outputs(api, submission.outputs, board_id=board, intermediate=submission.intermediate)
        while len(self._needs_of) > ITEMS_REMEMBERED:
            self._needs_of.popitem(last=False)
        return api

    def note_submitted(self, batch_id: str) -> None:
        """Record that the server took the item, and so will have its models in memory."""
        for ref in self._needs_of.get(batch_id, ()):
            if key := self.models.key(ref):
                self._hold(key)

    def note_failed(self, batch_id: str, error: AttemptError) -> None:
        """Record that an item failed: where the server had lost an input image, the next to ask uploads it anew."""
        if error.kind in IMAGE_GONE:
            needs = self._needs_of.get(batch_id, frozenset())
            self.uploads.forget(ref.sha256 for ref in needs if isinstance(ref, ImageRef))

    def note_loaded(self, config: Any) -> None:
        key = config.get("key") if isinstance(config, dict) else None
        if isinstance(key, str) and key:
            self._hold(key)

    def loaded(self) -> frozenset[str]:
        return frozenset(self._loaded)

    def _hold(self, key: str) -> None:
        self._loaded[key] = None
        self._loaded.move_to_end(key)
        while len(self._loaded) > MODELS_HELD:
            self._loaded.popitem(last=False)

    def forget_loaded(self) -> None:
        self._loaded.clear()
