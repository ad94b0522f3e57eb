"""What people keep on a server and an experiment may name: boards, images of the gallery, workflows of the library."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from sweep.errors import ServerUnsupportedError, TransientError
from sweep.servers.http import LARGEST_SCHEMA, Http, path_part
from sweep.servers.responses import mapping, sequence, text
from sweep.workflow import Json

_BOARDS: Final = "/api/v1/boards/"
_WORKFLOWS: Final = "/api/v1/workflows/"
_PAGE: Final = 100  # images or workflows of one answer
_MOST: Final = 100  # pages: a server that never ends its list is not read on


class InvokeAIGallery:
    """See `Gallery`."""

    def __init__(self, http: Http, locate_file: Callable[[str], str]) -> None:
        self._http = http
        self._locate_file = locate_file  # the path of an image's file on the server, by its name
        self._boards: dict[str, str] = {}
        self._lock = asyncio.Lock()

    async def boards(self) -> dict[str, str]:
        """See `Gallery.boards`; of several with one name the first counts."""
        answer = await self._http.call("GET", _BOARDS, "reading its boards", params={"all": "true"})
        listed = [mapping(board) for board in reversed(sequence(answer.body))]
        found = [(text(board.get("board_name")), text(board.get("board_id"))) for board in listed]
        return {name: key for name, key in found if name and key}

    async def make_board(self, name: str) -> str:
        """Return the id of the board of this name, which is made once where it is missing."""
        async with self._lock:
            if name not in self._boards:
                self._boards[name] = (await self.boards()).get(name) or await self._make(name)
            return self._boards[name]

    async def _make(self, name: str) -> str:
        answer = await self._http.call("POST", _BOARDS, "making a board", params={"board_name": name})
        board_id = text(mapping(answer.body).get("board_id"))
        if board_id is None:
            raise TransientError(f"{self._http.address.url} gave no id for a new board.", kind="BadAnswer")
        return board_id

    async def list_images(self, board_id: str) -> list[str]:
        """See `Gallery.list_images`."""
        wanted = {"board_id": board_id, "is_intermediate": "false", "order_dir": "ASC", "starred_first": "false"}
        found: list[tuple[str, str]] = []
        for page in range(_MOST):
            params = {**wanted, "offset": str(page * _PAGE), "limit": str(_PAGE)}
            answer = await self._http.call("GET", "/api/v1/images/", "reading the images of a board", params=params)
            items = [mapping(item) for item in sequence(mapping(answer.body).get("items"))]
            found += [(text(item.get("created_at")) or "", text(item.get("image_name")) or "") for item in items]
            if len(items) < _PAGE:
                break
        return [name for _, name in sorted(found) if name]

    async def fetch_image(self, name: str, limit: int) -> bytes | None:
        """See `Gallery.fetch_image`."""
        return await self._http.download(self._locate_file(name), "downloading an image of its gallery", limit)

    async def workflows(self) -> list[tuple[str, str]]:
        """See `Gallery.workflows`."""
        found: list[tuple[str, str]] = []
        for page in range(_MOST):
            params = {"page": str(page), "per_page": str(_PAGE)}
            answer = await self._http.call(
                "GET", _WORKFLOWS, "reading its library of workflows", params=params, also=(404,), limit=LARGEST_SCHEMA
            )
            if answer.status == 404:
                raise ServerUnsupportedError(f"{self._http.address.url} has no library of workflows.")
            items = [mapping(item) for item in sequence(mapping(answer.body).get("items"))]
            found += [(text(item.get("workflow_id")) or "", text(item.get("name")) or "") for item in items]
            if len(items) < _PAGE:
                break
        return found

    async def fetch_workflow(self, workflow_id: str) -> Json:
        """See `Gallery.fetch_workflow`."""
        path = f"{_WORKFLOWS}i/{path_part(workflow_id)}"
        answer = await self._http.call("GET", path, "reading a workflow", limit=LARGEST_SCHEMA)
        workflow: Json = mapping(answer.body).get("workflow")
        return workflow
