"""Uploads: input images are uploaded once to each server, and what a run leaves there can be found and deleted.

Uploads are remembered, so that a resumed run uploads none again: by the journal for its own folder, and by a file per
user across experiments, which may be lost without harm. Both are hints: a server is asked whether it still has an image
before the name is used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
from pydantic import TypeAdapter

from sweep.engine.server_pool import PooledServer
from sweep.errors import AttemptError, RecordError, ServerError
from sweep.experiment import Experiment
from sweep.record import Journal, SubmittedWork, replace_atomically
from sweep.servers import Server, keeps_images

MOST_UPLOADS = 2000  # uploads of one server in the user's file


def find_user_cache(environ: Mapping[str, str]) -> Path | None:
    """Return the user's file of uploads: in SWEEP_CACHE, else where the system keeps caches; None where neither is."""
    root = environ.get("SWEEP_CACHE") or environ.get("XDG_CACHE_HOME") or environ.get("LOCALAPPDATA")
    if not root:
        root = os.path.join(environ["HOME"], ".cache") if environ.get("HOME") else ""  # noqa: PTH118
    return Path(root) / "sweep" / "uploads.json" if root else None


class UploadMemory:
    """The uploads of one run's servers. `recall` before anything is uploaded, `keep` after each submission."""

    def __init__(self, journal: Journal, user_cache: Path | None, experiment: Experiment) -> None:
        self.journal = journal
        self._experiment = experiment
        self._user_cache = user_cache
        self._kept: dict[str, dict[str, str]] = {}

    async def recall(self, server: PooledServer) -> None:
        """Tell the server's client, once, what earlier runs uploaded there, and what is in its gallery."""
        if keeps_images(server.server) and server.url not in self._kept:
            known = await anyio.to_thread.run_sync(_read, self._find_cache(server))
            own = await self.journal.uploads(server.url)
            for sha256, name in {**known.get(server.url, {}), **own}.items():
                server.server.uploads.setdefault(sha256, name)
            for sha256, image in self._experiment.images().items():
                if image.server == server.url:  # in its gallery
                    server.server.uploads[sha256] = image.shown.partition(":")[2]
            self._kept.setdefault(server.url, dict(server.server.uploads))  # the journal keeps what this run uploads

    async def keep(self, server: PooledServer) -> None:
        """Note what is new. Raises RecordError where the journal cannot be written."""
        if not keeps_images(server.server):
            return
        kept = self._kept.setdefault(server.url, {})
        new = {sha: name for sha, name in server.server.uploads.items() if kept.get(sha) != name}
        if new:
            kept.update(new)
            await self.journal.keep_uploads(server.url, new)
            await anyio.to_thread.run_sync(_add, self._find_cache(server), server.url, new)

    def _find_cache(self, server: PooledServer) -> Path | None:
        return None if server.info.sandbox else self._user_cache  # a sandbox forgets its images


def _read(cache: Path | None) -> dict[str, dict[str, str]]:
    """Return what the file holds; nothing where it is missing or damaged."""
    with suppress(OSError, ValueError):
        return TypeAdapter(dict[str, dict[str, str]]).validate_json(cache.read_bytes()) if cache else {}
    return {}


def _add(cache: Path | None, url: str, names: Mapping[str, str]) -> None:
    if cache is None:
        return
    known = _read(cache)
    whole = {**known.get(url, {}), **names}
    known[url] = dict(list(whole.items())[-MOST_UPLOADS:])
    with suppress(RecordError), replace_atomically(cache, durable=False) as file:  # a hint that is lost costs an upload
        file.write(json.dumps(known).encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """Images of a run that are left on a server, by name; `reason` says why they cannot be deleted there."""

    url: str
    name: str
    images: tuple[str, ...] = ()
    reason: str = ""


async def find_leftovers(work: Mapping[str, SubmittedWork], servers: Sequence[Server]) -> list[Leftovers]:
    """Find the intermediate images and uploads of a run on its servers, which are opened and closed."""
    found: list[Leftovers] = []
    for server in servers:
        url, sent = server.url, work[server.url]
        images: Sequence[str] = ()
        reason = "its images cannot be deleted from here"
        async with aclosing(server):
            try:
                await server.open()
                if keeps_images(server):
                    images, reason = await server.find_leftovers(sent.items, sent.uploads), ""
            except (AttemptError, ServerError) as error:
                reason = error.message.rstrip(".")
        found.append(Leftovers(url=url, name=sent.name, images=tuple(images), reason=reason))
    return found


async def delete_leftovers(leftovers: Leftovers, server: Server) -> int:
    """Delete these images on a server, which is opened and closed; return how many the server deleted."""
    async with aclosing(server):
        await server.open()
        return await server.delete_images(leftovers.images) if keeps_images(server) else 0
