"""References of an experiment to servers (gallery:, board:, library:): what they name is fetched and kept.

The experiment itself is loaded without a network, so images of a gallery or board and workflows of a library are
fetched into a folder before it is loaded. A run keeps that folder with its results: images are taken from there the
next time, and boards and workflows where no server has them any more.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeAlias

import anyio
import anyio.to_thread
from anyio.to_thread import run_sync

from sweep.engine.concurrency import report_wait
from sweep.engine.events import Listener
from sweep.errors import (
    ExperimentError,
    ServerError,
    ServerUnreachableError,
    TransientError,
    UnfetchedError,
    did_you_mean,
)
from sweep.experiment import Experiment, FetchedFiles, write_fetched
from sweep.record import INPUTS
from sweep.servers import Gallery, Server, keeps_images

MOST_BYTES: Final = 200_000_000  # of one image
Entries: TypeAlias = dict[str, dict[str, Any]]
Load: TypeAlias = Callable[[Path], Experiment]
"""Loads an experiment, given the folder of what was fetched."""


async def load_from_servers(
    load: str | Path | Load,
    servers: Sequence[Server],
    results: Path | str,
    folder: Path | str,
    listener: Listener = lambda _: None,
) -> Experiment:
    """Load an experiment that names images or workflows on servers.

    Example::

        experiment = await load_from_servers("board.yaml", [connect(url)], Path("results"), Path("fetched"))

    Args:
        load: The experiment file, or what loads an experiment, given `folder`; called once or twice.
        servers: Not opened yet; they are asked in this order, and closed.
        results: Where the results folders are: one of this experiment may keep what it names.
        folder: To fetch into; it has to stay while the experiment is used.
        listener: Is told what is waited for, where that takes seconds.

    Raises:
        ExperimentError: The experiment is wrong, or no server has what it names.
        ServerError: None of the servers answers.
    """
    results, folder = Path(results), Path(folder)
    if not callable(load):
        load = partial(Experiment.load, load, ())
    try:
        return await run_sync(load, folder)
    except UnfetchedError as error:
        kept = await run_sync(FetchedFiles, results / error.experiment / INPUTS)
        async with AsyncExitStack() as held:
            await held.enter_async_context(report_wait(listener, f"Fetching {', '.join(error.references)}."))
            lacking = [reference for reference in error.references if reference not in kept.entries]
            fetcher = _Fetcher(await _open_galleries(held, servers, lacking), kept, folder)
            entries: Entries = {}
            for reference in error.references:
                entries |= await fetcher.fetch(reference)
        await run_sync(write_fetched, folder, entries)
    return await run_sync(load, folder)


async def _open_galleries(
    held: AsyncExitStack, servers: Sequence[Server], references: Sequence[str]
) -> dict[str, Gallery]:
    """Open the servers and return their galleries by address. Raises ServerError where none has one, and it is needed:
    `references` are what nothing but a server has.
    """
    found: dict[str, Gallery] = {}
    problem: ServerError | None = None
    for server in servers:
        held.push_async_callback(server.aclose)
        try:
            await server.open()
            url = server.url
            if keeps_images(server):
                found[url] = server.gallery()
        except ServerError as error:
            problem = problem or error
    if problem is not None and references and not found:
        problem.message = f"{references[0]}: {problem.message}"
        raise problem
    return found


@dataclass(frozen=True, slots=True)
class _Fetcher:
    """Fetches what an experiment names on servers into `folder`, or takes it from what the results keep."""

    galleries: Mapping[str, Gallery]  # by address
    kept: FetchedFiles
    folder: Path

    async def fetch(self, reference: str) -> Entries:
        """Fetch one reference; a board with all its images.

        Raises ExperimentError where nobody has it, ServerError where a server cannot tell.
        """
        try:
            return await self._fetch(reference)
        except TransientError as error:
            raise ServerUnreachableError(f"{reference}: {error.message}") from error

    async def _fetch(self, reference: str) -> Entries:
        kind, _, name = reference.partition(":")
        if kind == "gallery":
            return await self._fetch_image(name)
        known: list[str] = []
        for url, gallery in self.galleries.items():
            if kind == "board":
                boards = await gallery.boards()
                known += boards
                if name in boards:
                    images = await gallery.list_images(boards[name])
                    return await replace(self, galleries={url: gallery})._fetch_board(name, images)
            else:
                workflows = await gallery.workflows()
                known += [title for _, title in workflows]
                if ids := [key for key, title in workflows if name in (key, title)]:
                    return {reference: await self._fetch_workflow(name, ids, url)}
        if kind == "board" and (kept := self.kept.list_images(reference)) is not None:
            return await self._fetch_board(name, [image.partition(":")[2] for image in kept])
        if kind == "library" and (taken := await run_sync(self._take_kept, reference)):
            return taken
        what = f'no board "{name}"' if kind == "board" else f'no workflow "{name}" in the library'
        raise self._make_error(f"{what}.{did_you_mean(name, known)}")

    def _make_error(self, what: str) -> ExperimentError:
        urls = list(self.galleries)
        if not urls:
            hint = "Give it with --server URL."
            return ExperimentError(f"No server was asked, and the results keep {what}", hint=hint)
        return ExperimentError(f"{urls[0]} has {what}" if len(urls) == 1 else f"None of {', '.join(urls)} has {what}")

    async def _fetch_image(self, name: str) -> Entries:
        """Fetch an image, or take it from the results: an image of a name never changes."""
        reference = f"gallery:{name}"
        if taken := await run_sync(self._take_kept, reference):
            return taken
        for url, gallery in self.galleries.items():
            content = await gallery.fetch_image(name, MOST_BYTES)
            if content is not None:
                return {reference: await self._write(name, Path(name).suffix, content, url)}
        raise self._make_error(f'no image "{name}" in the gallery.')

    def _take_kept(self, reference: str) -> Entries:
        """Copy what the results keep for a reference into the folder; nothing where they keep none."""
        path = self.kept.find_file(reference)
        if path is None:
            return {}
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, self.folder / path.name)
        return {reference: {**self.kept.entries[reference], "file": path.name}}

    async def _fetch_board(self, name: str, images: Sequence[str]) -> Entries:
        entries: Entries = {f"board:{name}": {"images": list(images)}}
        for image in images:
            entries |= await self._fetch_image(image)
        return entries

    async def _fetch_workflow(self, name: str, ids: Sequence[str], url: str) -> dict[str, Any]:
        if len(ids) > 1 and name not in ids:
            raise ExperimentError(
                f'{url} has {len(ids)} workflows called "{name}".', hint=f"Name one by its id: library:{ids[0]}."
            )
        document = await self.galleries[url].fetch_workflow(ids[0])
        return await self._write(name, ".json", json.dumps(document).encode(), url)

    async def _write(self, name: str, ending: str, content: bytes, url: str) -> dict[str, Any]:
        """Write a file that a server calls `name`: untrusted, so only letters and digits of it stay."""
        stem = re.sub(r"[^A-Za-z0-9]+", "-", name.removesuffix(ending)).strip("-")[:40]
        plain = ending if re.fullmatch(r"\.[A-Za-z0-9]{1,5}", ending) else ""
        file = f"{stem}_{sha256(name.encode()).hexdigest()[:8]}{plain}"
        await anyio.Path(self.folder).mkdir(parents=True, exist_ok=True)
        await anyio.Path(self.folder / file).write_bytes(content)
        return {"server": url, "file": file}


async def fetch_workflow(reference: str, server: Server, folder: Path) -> Path:
    """Fetch a workflow of a server's library, named as in library:NAME; return its file in `folder`.

    Raises ExperimentError where the library has none of that name, ServerError where the server cannot be asked.
    """
    async with AsyncExitStack() as held:
        galleries = await _open_galleries(held, [server], [reference])
        entries = await _Fetcher(galleries, FetchedFiles(None), folder).fetch(reference)
    return folder / str(entries[reference]["file"])


def keep_fetched(experiment: Experiment, copies: Mapping[str, str], inputs: Path) -> None:
    """Keep what the experiment names on servers for the next run, in the folder of the results that holds `inputs`.

    `copies` are files of that folder, by the SHA-256 of their images.
    """
    if not experiment.fetched:
        return
    inputs.mkdir(exist_ok=True)
    by_path = {image.path: copies[sha] for sha, image in experiment.images().items() if sha in copies}
    entries: Entries = {}
    for reference, entry in experiment.fetched.items():
        entries[reference] = {**entry}
        if "file" in entry:
            source = Path(entry["file"])
            file = by_path.get(source)
            if file is None or (inputs / file).read_bytes() != source.read_bytes():
                file = source.name
                if source.parent != inputs.absolute():
                    shutil.copyfile(source, inputs / file)
            entries[reference]["file"] = file
    write_fetched(inputs, entries)
