"""Input pictures on one server: each uploaded once, however many tasks ask for it at the same time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from sweep.errors import TransientError, VariationError
from sweep.servers import reading
from sweep.servers.address import path_part
from sweep.servers.http import Http

KINDS = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif", ".bmp": "image/bmp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePaths:
    """Where a server has its pictures."""

    upload: str = "/api/v1/images/upload"
    one: str = "/api/v1/images/i/"

    def file(self, name: str) -> str:
        """The picture's file. Raises VariationError for a name that cannot be one."""
        return f"{self.one}{path_part(name)}/full"


BEFORE_3_1 = ImagePaths(upload="/api/v1/images/", one="/api/v1/images/")


class Uploads:
    """`remembered` maps a picture's SHA-256 to its name on this server; what earlier processes left in it is checked
    against the server before it is used (somebody may have deleted the picture there).
    """

    def __init__(self, http: Http, remembered: MutableMapping[str, str]) -> None:
        self.paths = ImagePaths()
        self._http = http
        self._remembered = remembered
        self._sure: dict[str, str] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def name(self, sha256: str, path: Path | None) -> str:
        """The server's name for the picture. Raises VariationError where the file is missing, is not what it was when
        the sweep was planned, or is refused as a picture.
        """
        async with self._locks.setdefault(sha256, asyncio.Lock()):
            if sha256 not in self._sure:
                known = self._remembered.get(sha256)
                if known is None or not await self._exists(known):
                    known = await self._upload(sha256, path)
                self._sure[sha256] = self._remembered[sha256] = known
            return self._sure[sha256]

    def forget(self, hashes: Iterable[str]) -> None:
        """The server says that these are gone: the next to ask uploads them anew."""
        for sha256 in hashes:
            self._sure.pop(sha256, None)
            self._remembered.pop(sha256, None)

    async def _exists(self, name: str) -> bool:
        try:
            part = path_part(name)
        except VariationError:
            return False
        answer = await self._http.call("GET", f"{self.paths.one}{part}", "looking for an input picture", also=(404,))
        return answer.status == 200

    async def _upload(self, sha256: str, path: Path | None) -> str:
        if path is None:
            raise VariationError(f"no file is known for the input picture {sha256[:12]}", kind="MissingFile")
        try:
            content = await asyncio.to_thread(path.read_bytes)
        except OSError as fault:
            raise VariationError(
                f"{path.name}: the input picture cannot be read ({fault.strerror})", kind="MissingFile"
            ) from None
        if hashlib.sha256(content).hexdigest() != sha256:
            raise VariationError(
                f"{path.name}: the input picture was changed after the plan was made", kind="ChangedFile"
            )
        ending = path.suffix.lower()

        def form() -> aiohttp.FormData:
            made = aiohttp.FormData()
            kind = KINDS.get(ending, "image/png")
            made.add_field("file", content, filename=f"{sha256[:16]}{ending}", content_type=kind)
            return made

        answer = await self._http.post_form(
            self.paths.upload,
            "uploading an input picture",
            form,
            {"image_category": "user", "is_intermediate": "false"},
        )
        name = reading.text(reading.mapping(answer.body).get("image_name"))
        if name is None:
            raise TransientError(f"{self._http.address.url} gave no name for an uploaded picture.", kind="BadAnswer")
        return name
