"""What a graph needs on one server and what comes back: models, pictures, boards, node types, downloads.

The same for every API of the family; the clients differ in how they run a graph.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from sweep.errors import ServerUnsupportedError, TransientError, WorkflowError
from sweep.servers import graphs, reading
from sweep.servers.base import Ended, ServerImage, Submission
from sweep.servers.http import Http
from sweep.servers.resolving import Boards, Models
from sweep.servers.uploads import Uploads
from sweep.workflow.graph import Graph
from sweep.workflow.openapi import node_schemas
from sweep.workflow.schemas import NodeSchemas

MODELS_HELD = 8  # how many of the models loaded last are taken to be in memory still
ITEMS_REMEMBERED = 1000  # whose input pictures are known, should the server have lost them


class Materials:
    """`remembered` maps pictures' hashes to their names on this server, across processes."""

    def __init__(self, http: Http, remembered: MutableMapping[str, str]) -> None:
        self.uploads = Uploads(http, remembered)
        self.models = Models(http)
        self._boards = Boards(http)
        self._http = http
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._pictures_of: OrderedDict[str, tuple[str, ...]] = OrderedDict()  # batch → its input pictures
        self._schemas: NodeSchemas | None = None
        self._schemas_lock = asyncio.Lock()

    async def schemas(self) -> NodeSchemas:
        """The node types, read once. Raises ServerUnsupportedError where the server does not describe them."""
        async with self._schemas_lock:
            if self._schemas is None:
                answer = await self._http.call("GET", "/openapi.json", "reading its node types")
                try:
                    self._schemas = await asyncio.to_thread(node_schemas, reading.mapping(answer.body))
                except WorkflowError as fault:
                    raise ServerUnsupportedError(f"{self._http.address.url}: {fault.message}") from None
            return self._schemas

    async def resolve(self, graph: Graph, files: Mapping[str, Path]) -> dict[str, Any]:
        """The graph's JSON for this server. Raises MissingModelError, or VariationError for a picture's file."""
        refs = graphs.references(graph)
        models = await self.models.identify(graphs.models_of(refs))
        boards = {name: await self._boards.identify(name) for name in graphs.boards_of(refs)}
        hashes = graphs.images_of(refs)
        names = await asyncio.gather(*(self.uploads.name(sha256, files.get(sha256)) for sha256 in hashes))
        named = {ref: self.models.named(model) for ref, model in models.items()}
        return graphs.for_server(graph, named, dict(zip(hashes, names, strict=True)), boards)

    async def prepare(self, submission: Submission) -> dict[str, Any]:
        """The submission's graph as it is sent, its outputs marked and its board made."""
        board = await self._boards.identify(submission.board) if submission.board else None
        api = await self.resolve(submission.graph, submission.images)
        graphs.mark_outputs(api, submission.outputs, board_id=board, intermediate=submission.intermediate)
        self._pictures_of[submission.batch_id] = graphs.images_of(graphs.references(submission.graph))
        while len(self._pictures_of) > ITEMS_REMEMBERED:
            self._pictures_of.popitem(last=False)
        return api

    async def taken(self, submission: Submission) -> None:
        """The server took it, and will have its models in memory."""
        models = await self.models.identify(graphs.models_of(graphs.references(submission.graph)))
        for model in models.values():
            self.hold(model.key)

    def over(self, batch_id: str, ended: Ended) -> Ended:
        """An item ended: where the server had lost an input picture, the next to ask uploads it anew."""
        if ended.error is not None and ended.error.kind in reading.PICTURE_GONE:
            self.uploads.forget(self._pictures_of.get(batch_id, ()))
        return ended

    async def fetch(self, image: ServerImage, limit: int) -> bytes:
        """See `Server.fetch`."""
        data = await self._http.download(self.uploads.paths.file(image.name), "downloading a picture", limit)
        if data is None:
            raise TransientError(f"{self._http.address.url} does not have the picture any more.", kind="PictureGone")
        return data

    def loaded(self) -> frozenset[str]:
        """Keys of the models loaded last."""
        return frozenset(self._loaded)

    def hold(self, key: str) -> None:
        """This model was loaded, or will be."""
        self._loaded[key] = None
        self._loaded.move_to_end(key)
        while len(self._loaded) > MODELS_HELD:
            self._loaded.popitem(last=False)

    def nothing_loaded(self) -> None:
        """It may be another process that answers next."""
        self._loaded.clear()
