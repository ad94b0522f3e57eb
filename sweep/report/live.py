"""The live page: a server on loopback, and a feed of what changed in a results folder.

The feed reads the journal instead of listening to the engine: so the same page serves a run in this process, a run
in another one, and a folder that is finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from aiohttp import web
from aiohttp.typedefs import Handler
from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from sweep.report import report as page
from sweep.report.data import (
    ImageLinks,
    JsonObject,
    LevelJson,
    ReportData,
    build_live_rows,
    build_payload,
    read_report_data,
    to_json_value,
)
from sweep.report.drawing import FOLDER, Thumbnails, make_thumb_id
from sweep.report.report import find_image_files
from sweep.report.text import describe_page

_PAUSE: Final = 1.0  # seconds between two looks at the journal; longer where a look takes long
_SETTLE: Final = 0.2  # seconds in which several events become one look


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A folder as read at one moment."""

    data: ReportData
    links: ImageLinks
    rows: Mapping[str, JsonObject]
    images: Mapping[str, Path]  # by thumbnail id, sources too
    files: frozenset[str]  # paths in the folder that may be served


def read_snapshot(folder: Path) -> Snapshot:
    """Read `folder` for a live page. Blocking."""
    data = read_report_data(folder)
    images, sources = find_image_files(data)
    images = {**images, **{identity: data.folder / name for name, identity in sources.items()}}
    links = ImageLinks(
        prefix="", thumbs=frozenset(images), embedded=False, thumb_prefix=f"{FOLDER}/", source_ids=sources
    )
    rows = {f"{row['key']}.{row['image']}": row for row in build_live_rows(data, links)}
    known = {row["path"] for row in rows.values() if row["path"] is not None}
    return Snapshot(data, links, rows, images, frozenset({*known, *sources}))


class Feed:
    """Follows a results folder. Call `wake` and await the rest on the event loop; reading is done in a thread."""

    def __init__(self, folder: Path, levels: Mapping[str, Sequence[LevelJson]] | None = None) -> None:
        self._folder = folder
        self._levels = levels or {}
        self._changed = asyncio.Condition()
        self._woken = asyncio.Event()
        self._since: dict[str, int] = {}
        self._progress: JsonObject = {}
        self.generation = 0
        self.snapshot: Snapshot | None = None

    def wake(self) -> None:
        """Look at the journal soon instead of at the next turn."""
        self._woken.set()

    async def refresh(self) -> None:
        """Read the folder and note what changed."""
        snapshot = await run_sync(read_snapshot, self._folder)
        before = self.snapshot.rows if self.snapshot is not None else {}
        changed = [name for name, row in snapshot.rows.items() if before.get(name) != row]
        progress = summarize_progress(snapshot.data)
        async with self._changed:
            self.snapshot = snapshot
            if changed or progress != self._progress:
                self.generation += 1
                self._since.update(dict.fromkeys(changed, self.generation))
                self._progress = progress
                self._changed.notify_all()

    async def follow(self) -> None:
        """Refresh for ever: after an event, and every second or so without one."""
        while True:
            started = time.monotonic()
            await self.refresh()
            pause = max(_PAUSE, 8 * (time.monotonic() - started))
            try:
                await asyncio.wait_for(self._woken.wait(), pause)
                await asyncio.sleep(_SETTLE)
            except TimeoutError:
                pass
            self._woken.clear()

    async def news(self, since: int, patience: float) -> JsonObject | None:
        """Wait up to `patience` seconds for changes after generation `since`; None where there are none."""
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: self.generation > since), patience)
            except TimeoutError:
                return None
            rows = self.snapshot.rows if self.snapshot is not None else {}
            fresh = [row for name, row in rows.items() if self._since.get(name, 0) > since]
            return {"generation": self.generation, "rows": fresh, **self._progress}

    def page_data(self) -> JsonObject:
        """Build the payload of a page that goes on listening."""
        if self.snapshot is None:
            raise RuntimeError("refresh() comes before page_data()")
        payload = build_payload(self.snapshot.data, self.snapshot.links)
        for axis in payload["axes"]:
            known = set(axis["levels"])
            more = [to_json_value(level) for level in self._levels.get(axis["name"], ())]
            _add_levels(axis, [level for level in more if level not in known])
        running = bool(self._progress.get("running"))
        return {**payload, "live": {"events": "events", "generation": self.generation, "running": running}}

    @property
    def data(self) -> ReportData | None:
        """The folder as last read."""
        return self.snapshot.data if self.snapshot is not None else None


def _add_levels(axis: dict[str, Any], more: Sequence[LevelJson]) -> None:
    """Add levels that no row has yet, in their place: the definition knows them before the journal does."""
    levels = [*axis["levels"], *more]
    numeric = all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels)
    wanted = sorted(levels) if numeric and more else levels
    place = [wanted.index(level) for level in axis["levels"]]
    axis["at"] = [place[at] for at in axis["at"]]
    axis["levels"] = wanted


def summarize_progress(data: ReportData) -> JsonObject:
    """Say how far the run is. `running` is as the journal says: a killed run counts as running until the next one."""
    counts = data.counts
    return {
        "done": counts.completed,
        "failed": counts.failed,
        "points": counts.points,
        "running": bool(data.runs) and data.runs[-1].ended_at is None,
    }


def find_thumb_image(snapshot: Snapshot | None, identity: str) -> Path | None:
    """Find the image that a thumbnail id stands for, None where no row has it."""
    return None if snapshot is None else snapshot.images.get(make_thumb_id(identity))


HOST: Final = "127.0.0.1"
_PATIENCE: Final = 15.0  # seconds after which a silent stream says that it is still there
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
OnOpened: TypeAlias = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class LiveView:
    """A live page. `url` holds the token without which the server answers nothing."""

    url: str
    feed: Feed

    def heard(self, event: object) -> None:  # noqa: ARG002  any event means that the journal may have news
        """Look at the journal soon. Pass it to the engine as a listener; call it on the event loop."""
        self.feed.wake()


async def serve_view(folder: Path, *, port: int = 0, opened: OnOpened | None = None) -> None:
    """Serve the results in `folder` until cancelled; call `opened` with the address once it answers.

    Raises OSError where the port is taken; 0 takes any free one.
    """
    async with open_view(folder, port=port) as view:
        if opened is not None:
            opened(view.url)
        await asyncio.Event().wait()


@asynccontextmanager
async def open_view(
    folder: Path, *, port: int = 0, levels: Mapping[str, Sequence[LevelJson]] | None = None
) -> AsyncIterator[LiveView]:
    """Serve a live page for as long as the block lasts.

    Args:
        levels: Levels by axis, where the definition is at hand: the page then shows every cell from the start.
    """
    feed = Feed(Path(folder), levels)
    await feed.refresh()
    server = _Server(feed, Path(folder), secrets.token_urlsafe(24))
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    following = asyncio.create_task(feed.follow())
    try:
        site = web.TCPSite(runner, HOST, port)
        await site.start()
        server.port = runner.addresses[0][1]
        yield LiveView(f"http://{HOST}:{server.port}/{server.token}/", feed)
    finally:
        server.stop()
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        await runner.cleanup()


class _Server:
    def __init__(self, feed: Feed, folder: Path, token: str) -> None:
        self.token = token
        self.port = 0
        self._feed = feed
        self._folder = folder
        self._thumbs = Thumbnails(folder)
        self._making = CapacityLimiter(2)
        self._streams: set[asyncio.Task[None]] = set()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/{token}/", self._page)
        app.router.add_get("/{token}/events", self._events)
        app.router.add_get("/{token}/thumbs/{head}/{name}.webp", self._thumb)
        app.router.add_get("/{token}/{path:(?:images|inputs)/.+}", self._file)
        return app

    def stop(self) -> None:
        """End the streams: browsers would keep them open for ever."""
        for stream in self._streams:
            stream.cancel()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Allow only pages from our own address, with our token: DNS rebinding sends another Host header."""
        if request.headers.get("Host", "") not in {f"{HOST}:{self.port}", f"localhost:{self.port}"}:
            raise web.HTTPForbidden(text="This page is served to its own address only.")
        token = request.match_info.get("token", "")
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            raise web.HTTPNotFound
        response = await handler(request)
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _page(self, _request: web.Request) -> web.Response:
        await self._feed.refresh()
        text = await run_sync(self._rendered)
        policy = f"{_build_live_policy()}; frame-ancestors 'none'"
        return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": policy})

    def _rendered(self) -> str:
        data = self._feed.data
        if data is None:
            raise RuntimeError("the folder has not been read")
        return "".join(page.render_page(self._feed.page_data(), describe_page(data), csp=_build_live_policy()))

    async def _thumb(self, request: web.Request) -> web.StreamResponse:
        identity = request.match_info["name"]
        image = find_thumb_image(self._feed.snapshot, identity)
        if image is None:
            raise web.HTTPNotFound
        made = await run_sync(self._thumbs.one, identity, image, limiter=self._making)
        if made is None:
            raise web.HTTPNotFound
        return web.FileResponse(made, headers={"Content-Type": "image/webp"})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        snapshot = self._feed.snapshot
        if snapshot is None or path not in snapshot.files:
            raise web.HTTPNotFound
        if not await run_sync((self._folder / path).is_file):
            raise web.HTTPNotFound
        return web.FileResponse(self._folder / path)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Send server-sent events: `rows` with what changed since the generation the page has."""
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream", **_HEADERS})
        await stream.prepare(request)
        task = asyncio.current_task()
        if task is not None:
            self._streams.add(task)
            task.add_done_callback(self._streams.discard)
        seen = _parse_number(request.headers.get("Last-Event-ID") or request.query.get("since", ""))
        with contextlib.suppress(ConnectionError):
            while True:
                news = await self._feed.news(seen, _PATIENCE)
                if news is None:
                    await stream.write(b": still here\n\n")
                    continue
                seen = news["generation"]
                text = json.dumps(news, allow_nan=False)
                await stream.write(f"id: {seen}\nevent: rows\ndata: {text}\n\n".encode())
        return stream


def _build_live_policy() -> str:
    return page.build_policy(connect="'self'", images="'self' data: blob:")


def _parse_number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
