"""The gallery of an InvokeAI: images and uploads by name, the boards they lie on, and the library of workflows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from sweep.errors import ServerUnsupportedError, TransientError, VariationError
from sweep.servers.http import LARGEST_SCHEMA, Http, Request
from sweep.servers.untrusted_json import NAME_LENGTH, mapping, sequence, text
from sweep.workflow import Json

_BOARDS: Final = "/api/v1/boards/"
_IMAGES: Final = "/api/v1/images/"
_WORKFLOWS: Final = "/api/v1/workflows/"
_PAGE: Final = 100  # images or workflows of one answer
_MOST: Final = 100  # pages: a server that never ends its list is not read on
_NOT_HERE: Final = (400, 403, 404, 422)  # 403: it is another account's
_MEDIA_TYPES: Final = {".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".gif": "gif", ".bmp": "bmp"}


def quote_path_part(name: str) -> str:
    """Quote a name that a server gave, for use in a URL. Raises VariationError where it cannot be a name."""
    is_plain = name.isprintable() and "/" not in name and "\\" not in name
    if name in ("", ".", "..") or len(name) > NAME_LENGTH or not is_plain:
        raise VariationError("the server named an image in a way that cannot be a name", kind="BadName")
    return quote(name, safe="")


class InvokeAIGallery:
    """See `Gallery`. Input images are uploaded into it."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self.is_before_3_1 = False  # then the paths of images are shorter
        self._boards: dict[str, str] = {}
        self._lock = asyncio.Lock()

    def make_image_path(self, name: str) -> str:
        """Return the path of an image's record. Raises VariationError for a name that cannot be one."""
        return f"{_IMAGES if self.is_before_3_1 else f'{_IMAGES}i/'}{quote_path_part(name)}"

    async def boards(self) -> dict[str, str]:
        """See `Gallery.boards`; of several with one name the first counts."""
        answer = await self._http.get(_BOARDS, "reading its boards", params={"all": "true"})
        listed = [mapping(board) for board in reversed(sequence(answer.body))]
        found = [(text(board.get("board_name")), text(board.get("board_id"))) for board in listed]
        return {name: key for name, key in found if name and key}

    async def make_board(self, name: str) -> str:
        """Return the id of the board of this name, which is made once where it is missing."""
        async with self._lock:
            if name not in self._boards:
                self._boards[name] = (await self.boards()).get(name) or await self._create_board(name)
            return self._boards[name]

    async def _create_board(self, name: str) -> str:
        answer = await self._http.send(Request("POST", _BOARDS, "making a board", params={"board_name": name}))
        board_id = text(mapping(answer.body).get("board_id"))
        if board_id is None:
            raise TransientError(f"{self._http.address.url} gave no id for a new board.", kind="BadAnswer")
        return board_id

    async def list_images(self, board_id: str) -> list[str]:
        wanted = {"board_id": board_id, "is_intermediate": "false", "order_dir": "ASC", "starred_first": "false"}
        pages = ({**wanted, "offset": str(page * _PAGE), "limit": str(_PAGE)} for page in range(_MOST))
        images = await self._read_pages(_IMAGES, "reading the images of a board", pages, "boards")
        ordered = sorted(images, key=lambda image: text(image.get("created_at")) or "")  # of equal ones, as they came
        return [name for image in ordered if (name := text(image.get("image_name")))]

    async def fetch_image(self, name: str, limit: int) -> bytes | None:
        return await self._http.download(f"{self.make_image_path(name)}/full", "downloading an image", limit)

    async def has(self, name: str) -> bool:
        """Tell whether there is an image of this name."""
        try:
            path = self.make_image_path(name)
        except VariationError:
            return False
        answer = await self._http.get(path, "looking for an input image", also=_NOT_HERE)
        return answer.status == 200

    async def upload(self, file: str, content: bytes) -> str | None:
        """Send an image; return its name here."""

        def form() -> aiohttp.FormData:
            made = aiohttp.FormData()
            media_type = f"image/{_MEDIA_TYPES.get(Path(file).suffix, 'png')}"
            made.add_field("file", content, filename=file, content_type=media_type)
            return made

        path, what = _IMAGES if self.is_before_3_1 else f"{_IMAGES}upload", "uploading an input image"
        params = {"image_category": "user", "is_intermediate": "false"}
        request = Request("POST", path, what, params, form=form, size=len(content))
        return text(mapping((await self._http.send(request)).body).get("image_name"))

    async def is_unused(self, name: str, made_by: str | None = None) -> bool:
        """Tell whether the server has the image and nobody kept it: starred it or put it on a board.

        With `made_by`, a session's id: whether that made it and it is an intermediate still.
        """
        answer = await self._http.get(self.make_image_path(name), "looking for what a run left", also=_NOT_HERE)
        about = mapping(answer.body) if answer.status == 200 else {}
        if not about or about.get("starred") or about.get("board_id"):
            return False
        return made_by is None or (about.get("session_id") == made_by and about.get("is_intermediate") is True)

    async def delete_image(self, name: str) -> bool:
        """Delete an image; False where it was gone."""
        request = Request("DELETE", self.make_image_path(name), "deleting what a run left", also=(404,))
        return (await self._http.send(request)).status == 200

    async def workflows(self) -> list[tuple[str, str]]:
        pages = ({"page": str(page), "per_page": str(_PAGE)} for page in range(_MOST))
        found = await self._read_pages(_WORKFLOWS, "reading its library of workflows", pages, "library of workflows")
        return [(text(workflow.get("workflow_id")) or "", text(workflow.get("name")) or "") for workflow in found]

    async def fetch_workflow(self, workflow_id: str) -> Json:
        path = f"{_WORKFLOWS}i/{quote_path_part(workflow_id)}"
        answer = await self._http.get(path, "reading a workflow", limit=LARGEST_SCHEMA)
        workflow: Json = mapping(answer.body).get("workflow")
        return workflow

    async def _read_pages(
        self, path: str, what: str, pages: Iterable[Mapping[str, str]], lacks: str
    ) -> list[dict[str, Any]]:
        """Read a list page by page, by the query of each, until one is not full. `lacks`: what has no such list."""
        found: list[dict[str, Any]] = []
        for params in pages:
            answer = await self._http.get(path, what, params=params, also=(404,), limit=LARGEST_SCHEMA)
            if answer.status == 404:
                raise ServerUnsupportedError(f"{self._http.address.url} has no {lacks}.")
            items = [mapping(item) for item in sequence(mapping(answer.body).get("items"))]
            found += items
            if len(items) < _PAGE:
                break
        return found
